"""Recorder: log decisions, and keep the variants that persons were exposed to, off the request path."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from offers.errors import StoreUnavailableError
from offers.model.proposition_ids import written_decision_id
from offers.server.people import assign
from offers.state.ahead import set_back_erasures
from offers.state.stores import EVER, EventLog, LoggedDecision, StateStore
from offers.v1.state_pb2 import DecisionRecord, UserState

MOST_WAITING = 20_000
"""Decisions that may wait to be logged. Beyond that the oldest are dropped, and counted."""
AT_ONCE = 500
WAIT_S = 0.2

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Decided(NamedTuple):
    """A decision to be logged."""

    ids: tuple[int, int]
    """The decision's id: its upper and lower 64 bits, as signed numbers."""
    person: str
    """Name of the person in the stores; "" if nothing may be kept of them."""
    second: int
    """Second at which it was made; the instant it was made for may be years away."""
    record: bytes
    """An offers.v1.DecisionRecord."""
    new: bool
    """Whether something of it has to be kept in the person's record: an exposure, or what holdouts are drawn by."""


class Keeper(Protocol):
    """Takes decisions to be logged."""

    def keep(self, decided: Decided) -> None:
        """Hand a decision over."""
        ...


class Recorder:
    """Writes decisions to the event log in a thread of its own. A process that is killed loses those that wait."""

    def __init__(self, events: EventLog, state: StateStore, clock: Callable[[], float] = time.time) -> None:
        self._events, self._state, self._clock = events, state, clock
        self._waiting: deque[Decided] = deque(maxlen=MOST_WAITING)
        self._given_up = 0
        self._flushing = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def keep(self, decided: Decided) -> None:
        """Hand a decision over."""
        if len(self._waiting) == MOST_WAITING:
            self._given_up += 1
        self._waiting.append(decided)

    def close(self) -> None:
        """Write the decisions that wait, and stop."""
        self._stopping = True
        self._wake.set()
        self._thread.join(5)

    def flush(self) -> None:
        """Write the decisions that wait, and wait for those being written.

        Raises StoreUnavailableError; decisions that were not written stay in the queue.
        """
        with self._flushing:
            while self._waiting:
                self._write([self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))])

    def _write(self, batch: Sequence[Decided]) -> None:
        """Log a batch; if a store is unavailable, put it back into the queue and raise."""
        try:
            self._events.record([_logged(one) for one in batch])
            if new := [one for one in batch if one.new and one.person]:
                self._state.change([(one.person, _Assigning(one)) for one in new])
            self._forget(batch)
        except StoreUnavailableError:
            room = MOST_WAITING - len(self._waiting)
            self._given_up += max(0, len(batch) - room)
            self._waiting.extendleft(reversed(batch[:room]))
            raise

    def _run(self) -> None:
        """Write what waits, again and again, until the recorder is closed."""
        while not self._stopping:
            self._wake.wait(WAIT_S)
            try:
                self.flush()
            except StoreUnavailableError as error:
                log.warning("decisions_wait", waiting=len(self._waiting), error=str(error))
            except Exception as error:  # noqa: BLE001 - a fault in one batch must not end all recording
                # The error's message is left out: it may have data of a person.
                log.error("decisions_lost", error=type(error).__qualname__)  # noqa: TRY400 - see above
            if self._given_up:
                log.warning("decisions_given_up", count=self._given_up)
                self._given_up = 0

    def _forget(self, batch: Sequence[Decided]) -> None:
        """Erase what was just logged of persons who were erased while it waited.

        It is checked after logging: checked before, the erasure could come in between.
        """
        first: dict[str, int] = {}
        for one in batch:
            if one.person and one.second < first.get(one.person, EVER):
                first[one.person] = one.second
        persons = list(first)
        erasures = self._state.erasures(persons)
        if set_back_erasures(self._state, persons, erasures, self._clock()):
            erasures = self._state.erasures(persons)
        for person, erased in zip(persons, erasures, strict=True):
            if first[person] <= erased:
                self._events.erase([person], erased)


class _Assigning:
    """Keeps the variants of one decision in the state of its person."""

    def __init__(self, decided: Decided) -> None:
        self._decided = decided

    def __call__(self, record: bytes, erased: int) -> bytes | None:
        if self._decided.second <= erased:
            return None
        state, told = UserState.FromString(record), DecisionRecord.FromString(self._decided.record)
        is_new = assign(state, self._decided.person, told, self._decided.second)
        return state.SerializeToString() if is_new else None


def _logged(one: Decided) -> LoggedDecision:
    """Return a decision as the event log takes it."""
    ids, person, second, record, _ = one
    return LoggedDecision(written_decision_id(*ids), person, second, record)
