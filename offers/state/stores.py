"""What the stores of state, events and budgets must do. One contract suite runs over all that do it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from offers.v1.event_pb2 import EventKind
from offers.v1.state_pb2 import DecisionRecord

Person = str
"""A person's id as the stores know it: "u:" and the user id, or "a:" and the anonymous id; "" for nobody."""
Change = Callable[[bytes, int], bytes | None]
"""From a person's record (a UserState, encoded; b"" where there is none) and the second up to which the person was
erased (-1: never) to the new record, or None to leave it. May be called again when another writer came between."""

DueSecond = Callable[[bytes], int | None]
"""From a record to the second from which on its person is to be looked at; NEVER: not at all; None: as it was."""
EVER = 2**63 - 1
"""A second that nothing is after."""
NEVER = EVER
"""In place of the second at which a person is due."""


class Due(NamedTuple):
    """A person who is to be looked at."""

    ids: list[Person]
    """All ids, the user's first."""
    state: bytes
    """The record."""
    second: int
    """From when on."""


class StateStore(Protocol):
    """One record per person. Ids of one person lead to one record. Every method raises StoreUnavailableError when the
    store cannot be reached in time.
    """  # noqa: D205

    def read(self, person: Person) -> bytes:
        """The record of a person, by any id; b"" where there is none. One round trip."""
        ...

    def look(self, persons: Sequence[Person]) -> list[tuple[bytes, int]]:
        """Of each person the record, and the second up to which the person was erased (-1: never). One round trip."""
        ...

    def erasures(self, persons: Sequence[Person]) -> list[int]:
        """Of each person the second up to which they were erased (-1: never). One round trip."""
        ...

    def change(self, changes: Sequence[tuple[Person, Change]], *, is_heard: bool = True) -> None:
        """Read, change and write records, each atomically, in their order.

        `is_heard`: something was heard of the persons; else their records count as unchanged to `sweep`.
        """
        ...

    def link(self, user: Person, visitor: Person, merge: Callable[[bytes, bytes], bytes]) -> None:
        """Let a visitor's id lead to a user's record, which becomes `merge(user's, visitor's)`. Atomic; linking again
        changes nothing; a visitor who led to another user leads to this one, and nothing is merged.
        """  # noqa: D205
        ...

    def ids(self, person: Person) -> list[Person]:
        """All ids that lead to a person's record, the user's first; the id alone where there is none."""
        ...

    def erase(self, person: Person, second: int, expires: int) -> list[Person]:
        """Remove a person's record and ids from the store's files, and keep of each id a one-way hash that says so
        until the second `expires`. Returns the ids.
        """  # noqa: D205
        ...

    def sweep(self, now: int, idle_s: int) -> int:
        """Remove records unchanged for so many seconds, and expired tombstones. Returns how many records."""
        ...

    def watch(self, due: DueSecond | None) -> None:
        """Keep from now on of each record, whenever it is written and together with it, when it is due."""
        ...

    def rewatch(self, after: str) -> str:
        """Ask anew when records are due: of some of them, from a place on ("": the first). Returns the place to go on
        from; "" when all are done. Records that are written meanwhile may be asked of or not.
        """  # noqa: D205
        ...

    def due(self, until: int, limit: int) -> list[Due]:
        """Persons who are due up to a second, those who wait longest first."""
        ...

    def lease(self, holder: str, seconds: int) -> bool:
        """Let one holder at a time, of all who share the store, do what must not be done twice: true for who has the
        lease, or gets it now, for so many seconds from now on.
        """  # noqa: D205
        ...

    def release(self, holder: str) -> None:
        """Give up the lease, where it is this holder's."""
        ...

    def noted(self, name: str) -> str:
        """A note about the store as a whole; "" where there is none."""
        ...

    def note(self, name: str, text: str) -> None:
        """Keep a note."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class LoggedEvent(NamedTuple):
    """An event as the log keeps it."""

    event_id: str
    person: Person
    """"" where nobody's, or where the person has not agreed to profiling."""
    second: int
    """When it happened."""
    received: int
    """When it was taken in."""
    kind: EventKind.ValueType
    catalog: str
    offer_id: str
    geohash: str
    """Of its location; "" for none."""
    learn: bool
    """Whether it may be learned from."""
    body: bytes
    """The Event, encoded, without its user and location."""


class Position(NamedTuple):
    """An event with its place in the log."""

    number: int
    """Rises with every event taken in; never used twice."""
    event: LoggedEvent


class EventLog(Protocol):
    """All events, each once. Every method raises StoreUnavailableError when the log cannot be reached in time."""

    def together(self, state: StateStore) -> AbstractContextManager[bool]:
        """Where a state store shares a file with the log: True, and all that is done within is done wholly or not at
        all, with no other writer in between; nothing may be erased or swept within. Elsewhere False: nothing is tied.
        """  # noqa: D205
        ...

    def append(self, events: Sequence[LoggedEvent], *, applied: bool = False) -> list[bool]:
        """Keep events, durably. Of each whether it is new; one that is known by its id stays as it was. Raises another
        OffersError where one of them can never be kept: then none is.

        `applied`: their effect on the state belongs to the same transaction, and needs no confirmation.
        """  # noqa: D205
        ...

    def known(self, event_ids: Sequence[str]) -> set[str]:
        """Those of some events that `append` would not take in again."""
        ...

    def unapplied(self, limit: int) -> list[LoggedEvent]:
        """Events whose effect on the state has not been confirmed, the oldest first."""
        ...

    def pending(self, event_ids: Sequence[str]) -> set[str]:
        """Those of some events whose effect on the state has not been confirmed."""
        ...

    def applied(self, event_ids: Sequence[str]) -> None:
        """Confirm that events have had their effect on the state."""
        ...

    def read(self, after: int, limit: int) -> list[Position]:
        """Events behind a place in the log, in its order."""
        ...

    def of_person(self, persons: Sequence[Person]) -> list[LoggedEvent]:
        """The events of a person's ids, by time."""
        ...

    def erase(self, persons: Sequence[Person], until: int = EVER) -> int:
        """Remove the events that happened up to a second, and the decisions made up to it, of a person's ids from the
        store's files. Returns how many events.
        """  # noqa: D205
        ...

    def sweep(self, received_before: dict[EventKind.ValueType, int], decisions_before: int) -> int:
        """Remove events by kind that were taken in before a second, and old decisions. Returns how many events."""
        ...

    def record(self, decisions: Sequence["LoggedDecision"]) -> None:
        """Keep decisions."""
        ...

    def decisions(self, decision_ids: Sequence[str]) -> "list[LoggedDecision]":
        """Those of some decisions that are kept."""
        ...

    def decisions_after(self, number: int, limit: int) -> "list[tuple[int, LoggedDecision]]":
        """Decisions behind a place in their log, with their places."""
        ...

    def decisions_of(self, persons: Sequence[Person]) -> "list[LoggedDecision]":
        """The decisions of a person's ids, by time."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class LoggedDecision(NamedTuple):
    """A decision as the log keeps it."""

    decision_id: str
    person: Person
    second: int
    record: bytes
    """An offers.v1.DecisionRecord."""

    def told(self) -> DecisionRecord:
        """The record, read."""
        return DecisionRecord.FromString(self.record)


class Demand(NamedTuple):
    """What a redemption takes from one budget, and the most that budget may have used in all and in the period."""

    budget: str
    """The budget's key."""
    period: int
    """First second of the period around now; 0: the budget has none."""
    units: int
    micros: int
    """Money in millionths of the unit."""
    max_units: int
    """-1: no limit."""
    max_micros: int
    max_period_units: int
    max_period_micros: int


class Outcome(NamedTuple):
    """What came of a step of a redemption."""

    done: bool
    """Whether it is in the state the step asks for, now or already before."""
    reason: str
    """Why not: "exhausted", "released", "confirmed", "expired" or "unknown"."""
    budget: str
    """Which budget has not enough left."""


DONE = Outcome(done=True, reason="", budget="")
"""What the step asks for is so."""
KEPT_S = 400 * 86_400
"""Seconds for which a redemption is known after its last step, so that steps may be repeated."""
FORGET_EVERY_S = 3600
"""Seconds between looks for what is older than that: expiring is done several times a second."""
PERIOD_KEPT_S = 62 * 86_400
"""Seconds for which the use of a period is kept: longer than any period and reservation together."""


class Usage(NamedTuple):
    """What of a budget is used."""

    budget: str
    period: int
    """0: in all."""
    units: int
    """Confirmed or held."""
    micros: int


class Ledger(Protocol):
    """Budgets and what is taken from them. Nothing is ever oversold: steps are atomic, whoever else takes some or dies.
    Every method raises StoreUnavailableError when the ledger cannot be reached in time.
    """  # noqa: D205

    def reserve(self, redemption: str, demands: Sequence[Demand], now: int, until: int) -> Outcome:
        """Hold what a redemption needs of all its budgets, or of none, until a second. Again: no further effect."""
        ...

    def confirm(self, redemption: str, demands: Sequence[Demand], now: int) -> Outcome:
        """Take what was held; what was not held, or has expired, is taken if there is enough. Again: no effect."""
        ...

    def release(self, redemption: str, now: int) -> Outcome:
        """Give back what was held. Again: no further effect; what is confirmed stays."""
        ...

    def expire(self, now: int) -> int:
        """Give back what was held until now, and forget what is older than KEPT_S and PERIOD_KEPT_S. Returns how many
        reservations.
        """  # noqa: D205
        ...

    def usage(self) -> Iterable[Usage]:
        """What is used of every budget, in all and by period."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
