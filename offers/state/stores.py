"""Contracts of the stores of person state and events. One test suite runs over all implementations."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from offers.v1.event_pb2 import EventKind
from offers.v1.state_pb2 import DecisionRecord

Person = str
"""A person's id as stores use it: "u:" and the user id, or "a:" and the anonymous id; "" for nobody."""
Change = Callable[[bytes, int], bytes | None]
"""Maps a person's record and erasure to the new record, or to None to keep the record.

The record is an encoded UserState, b"" for none; the erasure is the second up to which the person was erased, or
NOT_ERASED. A change may be called again when another writer was faster."""
Merge = Callable[[bytes, bytes], bytes]
"""Maps the records of a user and of a visitor to one."""
DueSecond = Callable[[bytes], int | None]
"""Maps a record to the second from which on its person is due; NEVER: not at all; None: unchanged."""

PAGE = 256
"""Events or decisions of a person that are read at once, at most some 64 KiB each."""
EVER = 2**63 - 1
"""A second after all others."""
NEVER = EVER
"""The second at which a person is due who is not."""
NOT_ERASED = -1
"""The erasure of a person who was never erased: a second before all events."""


class Due(NamedTuple):
    """A person who is due."""

    ids: list[Person]
    """All ids, the user's first."""
    state: bytes
    """The record."""
    second: int
    """Since when."""


class StateStore(Protocol):
    """One record for each person; all ids of a person lead to it.

    Every method raises StoreUnavailableError when the store cannot be reached in time.
    """

    def read(self, person: Person) -> bytes:
        """Return the record of a person, by any id; b"" for none. One round trip."""
        ...

    def read_each(self, persons: Sequence[Person]) -> list[bytes]:
        """Return what `read` returns for each person, in one round trip."""
        ...

    def look(self, persons: Sequence[Person]) -> list[tuple[bytes, int]]:
        """Return the record and the erasure of each person, as a Change receives them. One round trip."""
        ...

    def erasures(self, persons: Sequence[Person]) -> list[int]:
        """Return for each person the second up to which they were erased, or NOT_ERASED. One round trip."""
        ...

    def change(self, changes: Sequence[tuple[Person, Change]], *, is_heard: bool = True) -> None:
        """Read, change and write records, each atomically, in their order.

        `is_heard` says that the persons were active; else `sweep` regards their records as unchanged.
        """
        ...

    def link(self, user: Person, visitor: Person, merge: Merge) -> None:
        """Make a visitor's id lead to a user's record, which becomes `merge(user's, visitor's)`, atomically.

        Linking again changes nothing. A visitor of another user is moved to this one, without merging.
        """
        ...

    def ids(self, person: Person) -> list[Person]:
        """Return all ids that lead to a person's record, the user's first; the id alone where there is no record."""
        ...

    def erase(self, person: Person, second: int, expires: int) -> list[Person]:
        """Remove a person's record and ids; return the ids. They leave the store's files soon afterwards.

        A tombstone for each id, under a one-way hash, keeps the erasure up to `second` until the second `expires`.
        """
        ...

    def mark_erased(self, person: Person, second: int, expires: int) -> list[Person]:
        """Keep an erasure up to a second for all ids of a person, as `erase` does, and the record; return the ids."""
        ...

    def set_back(self, persons: Sequence[Person], second: int) -> None:
        """Let erasures of some persons' ids that reach beyond a second reach up to it."""
        ...

    def sweep(self, now: int, idle_s: int) -> int:
        """Remove records unchanged for `idle_s` seconds, and expired tombstones; return the number of records."""
        ...

    def watch(self, due: DueSecond | None) -> None:
        """From now on, compute and store when a person is due, atomically with every write of the record."""
        ...

    def rewatch(self, after: str) -> str:
        """Recompute when persons are due, for a batch of records behind a cursor ("": from the start).

        Returns the next cursor; "" when all are done. Records written meanwhile may be included or not.
        """
        ...

    def due(self, until: int, limit: int) -> list[Due]:
        """Return persons due up to a second, those due longest first."""
        ...

    def lease(self, holder: str, seconds: int) -> bool:
        """Take or renew the lease for some seconds; return whether the holder has it.

        Of all who share the store, at most one has the lease, and with it the right to do what must not happen twice.
        """
        ...

    def release(self, holder: str) -> None:
        """Give up the lease, if this holder has it."""
        ...

    def noted(self, name: str) -> str:
        """Return a note about the store as a whole; "" for none."""
        ...

    def note(self, name: str, text: str) -> None:
        """Write a note."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


class LoggedEvent(NamedTuple):
    """An event as the log keeps it. Instants are seconds since 1970."""

    event_id: str
    person: Person
    """"" for nobody, and for persons who have not agreed to profiling."""
    second: int
    """When it happened."""
    received: int
    """When it was reported."""
    kind: EventKind.ValueType
    catalog: str
    offer_id: str
    geohash: str
    """The cell of its location; "" for none."""
    learn: bool
    """Whether models may learn from it."""
    body: bytes
    """The encoded Event, without its user and location."""


class NumberedEvent(NamedTuple):
    """An event with its number in the log."""

    number: int
    """Rises with every event appended; never used twice."""
    event: LoggedEvent


class LoggedDecision(NamedTuple):
    """A decision as the log keeps it."""

    decision_id: str
    person: Person
    second: int
    record: bytes
    """An encoded offers.v1.DecisionRecord."""

    def told(self) -> DecisionRecord:
        """Return the decoded record."""
        return DecisionRecord.FromString(self.record)


class EventLog(Protocol):
    """All events, each once, and all decisions.

    Every method raises StoreUnavailableError when the log cannot be reached in time.
    """

    def together(self, state: StateStore) -> AbstractContextManager[bool]:
        """Begin a transaction over the log and a state store that shares its file.

        The value is True then: all changes within take effect together or not at all, and no other writer intervenes;
        nothing may be erased or swept within. It is False where they share no file: every call stands for itself.
        """
        ...

    def append(self, events: Sequence[LoggedEvent], *, applied: bool = False) -> list[bool]:
        """Append events durably; return for each whether it is new. An event whose id is known stays as it was.

        `applied` says that their effect on the state is in the same transaction and needs no confirmation. Raises
        another OffersError where one of them can never be stored; then none is.
        """
        ...

    def known(self, event_ids: Sequence[str]) -> set[str]:
        """Return the ids that are in the log, whose events `append` would not add."""
        ...

    def find(self, event_id: str) -> LoggedEvent | None:
        """Return the event with an id; None where it is not in the log (any more)."""
        ...

    def unapplied(self, limit: int) -> list[LoggedEvent]:
        """Return events whose effect on the state has not been confirmed, the oldest first."""
        ...

    def pending(self, event_ids: Sequence[str]) -> set[str]:
        """Return the ids of events whose effect on the state has not been confirmed."""
        ...

    def applied(self, event_ids: Sequence[str]) -> None:
        """Confirm that the effect of events on the state is stored."""
        ...

    def read(self, after: int, limit: int) -> list[NumberedEvent]:
        """Return events behind a number, in the order of the log."""
        ...

    def of_person(self, persons: Sequence[Person]) -> list[LoggedEvent]:
        """Return the events of a person's ids, by time."""
        ...

    def pages_of(self, persons: Sequence[Person]) -> Iterator[list[LoggedEvent]]:
        """Yield the events of a person's ids, by time, PAGE at a time: those that are there when their page is read."""
        ...

    def erase(self, persons: Sequence[Person], until: int = EVER) -> int:
        """Remove the events and decisions of a person's ids up to a second; return the number of events.

        They leave the store's files soon afterwards.
        """
        ...

    def sweep(self, received_before: dict[EventKind.ValueType, int], decisions_before: int) -> int:
        """Remove events reported before a second, by kind, and old decisions; return the number of events."""
        ...

    def record(self, decisions: Sequence[LoggedDecision]) -> None:
        """Append decisions; those whose id is known stay as they were."""
        ...

    def decisions(self, decision_ids: Sequence[str]) -> list[LoggedDecision]:
        """Return the decisions with these ids that are in the log."""
        ...

    def decisions_after(self, number: int, limit: int) -> list[tuple[int, LoggedDecision]]:
        """Return decisions behind a number, with their numbers, in the order of the log."""
        ...

    def decisions_of(self, persons: Sequence[Person]) -> list[LoggedDecision]:
        """Return the decisions of a person's ids, by time."""
        ...

    def decision_pages_of(self, persons: Sequence[Person]) -> Iterator[list[LoggedDecision]]:
        """Yield the decisions of a person's ids, by time, as `pages_of` does events."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...
