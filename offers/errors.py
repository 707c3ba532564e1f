"""All errors of the package, independent of gRPC: server/statuses.py maps each class to a canonical code."""

from collections.abc import Sequence
from dataclasses import dataclass


class OffersError(Exception):
    """The base of all errors. The message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of a request that cannot be used."""

    field: str
    """Path from the request, such as "context.location.point.latitude"."""
    reason: str
    """The fault and what to send instead."""


class InvalidRequestError(OffersError):
    """A request has fields that cannot be used."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        super().__init__("; ".join(f"{violation.field}: {violation.reason}" for violation in violations))
        self.violations = tuple(violations)


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of a catalogue document or an import."""

    file: str
    line: int | None
    """Line in the file, from 1; None in binary documents and for faults without a place."""
    field: str
    """Path in the document, such as "offers[3].target.radius_m"; empty for the document as a whole."""
    reason: str
    """The fault."""
    fix: str
    """The text to write instead."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        field = f" {self.field}:" if self.field else ""
        return f"{place}:{field} {self.reason}; {self.fix}"


class CatalogError(OffersError):
    """A catalogue document cannot be used; `problems` holds every fault found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        shown = "\n".join(str(problem) for problem in problems[:20])
        more = f"\nand {len(problems) - 20} more" if len(problems) > 20 else ""
        super().__init__(f"{len(problems)} problem{'s' if len(problems) != 1 else ''}:\n{shown}{more}")
        self.problems = tuple(problems)


class SnapshotError(OffersError):
    """A compiled snapshot is missing, damaged or of another format."""


class SettingsError(OffersError):
    """A setting cannot be used."""


class StoreUnavailableError(OffersError):
    """A store cannot be reached, or does not answer in time. The call may be retried."""


class UnusableStoreError(StoreUnavailableError):
    """A store cannot be used as it is: a file of another program, a refused password, a name that does not resolve."""


class OtherStoreError(UnusableStoreError):
    """A store is not the one that the data folder has worked with."""


class NotFoundError(OffersError):
    """The element asked for does not exist."""


class ConflictError(OffersError):
    """The current state does not allow the operation."""


class BusyError(OffersError):
    """A capacity or budget is exhausted at the moment."""


class OverloadedError(BusyError):
    """More calls arrive than can be answered in time. This one was refused before any work, and may be repeated."""


class ExpiredError(OffersError):
    """The deadline of a call passed before anything was done for it."""
