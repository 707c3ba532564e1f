"""The one tree of errors. It knows no gRPC: the server maps each class to a canonical code in server/statuses.py."""

from collections.abc import Sequence
from dataclasses import dataclass


class OffersError(Exception):
    """Anything this package refuses or fails at, with a message that says what to do."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that cannot be used."""

    field: str
    """Path from the request's top, such as "context.location.point.latitude"."""
    reason: str
    """What is wrong and what to send instead."""


class InvalidRequestError(OffersError):
    """A request cannot be answered as it stands."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        super().__init__("; ".join(f"{violation.field}: {violation.reason}" for violation in violations))
        self.violations = tuple(violations)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a catalogue document or an import."""

    file: str
    line: int | None
    """Line in the file from 1; None in binary documents and where nothing can be pointed at."""
    field: str
    """Path in the document, such as "offers[3].target.radius_m"; empty for the document as a whole."""
    reason: str
    """What is wrong."""
    fix: str
    """What to write instead."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        field = f" {self.field}:" if self.field else ""
        return f"{place}:{field} {self.reason}; {self.fix}"


class CatalogError(OffersError):
    """A catalogue document cannot be used; `problems` holds every reason found."""

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
    """A store cannot be reached, or not in time: try again."""


class NotFoundError(OffersError):
    """What was asked for is not there."""


class ConflictError(OffersError):
    """What was asked for cannot be done as things stand."""


class BusyError(OffersError):
    """There is no room for it now."""
