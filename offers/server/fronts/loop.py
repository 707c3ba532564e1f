"""The loop of the native front: takes calls in batches, answers decisions at once, and hands the rest to threads."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from offers.errors import BusyError, OffersError
from offers.server import statuses
from offers.server.admission import Admission, Pace
from offers.server.fronts.contract import Decide
from offers.server.limits import MAX_MESSAGE_BYTES
from offers.server.offer_service import Result
from offers.server.process.handlers import Unary
from offers.server.process.threads import MOST_SPARE, STUCK_S, CallThreads
from offers.telemetry.logs import log_failure

DECIDED_AT_ONCE: Final = 64
TAKEN_AT_ONCE: Final = 256
"""Calls that are taken over from the transport at once."""
MOST_WAITING: Final = 2048
"""Decisions of a worker that may wait for their turn: a burst is answered, some 60 ms of it."""
OLDEST_S: Final = 1.0
"""Seconds for which a decision may wait: callers give up then."""
CROWDED_OLDEST_S: Final = 0.02
"""The same, once some have waited at any time for CROWDED_S: more arrive than can be made."""
CROWDED_S: Final = 0.1
LOOK_S: Final = 0.05
"""Seconds between looks at whether the loop is stuck."""
_STATUS_KEY: Final = "grpc-status-details-bin"

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _Call(NamedTuple):
    """A call that was taken, and not answered yet."""

    number: int
    data: bytes
    taken: float
    """When it was taken, by time.monotonic()."""
    deadline: float
    """By the same clock; infinite: it has none."""

    def time_remaining(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - time.monotonic()


class Loop:
    """Runs the calls of a NativeGrpcFront: decisions on one thread, all other methods on those of CallThreads.

    Where the thread is stuck, as with a store whose disk stalls, another one takes over, MOST_SPARE at most. The one
    that was stuck ends after the calls it has.
    """

    def __init__(self, front: NativeGrpcFront, decide: Decide, others: Sequence[Unary], threads: CallThreads) -> None:
        """The front's first method makes decisions; the next ones are `others`, in this order."""
        self.finished = 0
        """A number that changes whenever calls are finished."""
        self._front, self._decide, self._others, self._threads = front, decide, others, threads
        self._open: set[int] = set()
        self._waiting: deque[_Call] = deque()
        """Decisions, those that have waited longest first."""
        self._calm, self._crowded = Admission(MOST_WAITING, OLDEST_S), Admission(MOST_WAITING, CROWDED_OLDEST_S)
        self.admissions = self._calm, self._crowded
        """The rules for decisions, with the numbers of those refused."""
        self._none_waited = time.monotonic()
        """When no decision waited last."""
        self._pace, self._paces = Pace(), [Pace() for _ in others]
        self._leader = 0
        self._leads: set[int] = set()
        """Threads that run, by number: the leader and those that are stuck."""
        self._busy_since = 0.0
        """When the leader took calls that it has not answered yet; 0: it waits for some."""
        self._ends = threading.Event()
        self._looker = threading.Thread(target=self._look, name="front_looker", daemon=True)

    @property
    def under_way(self) -> int:
        """The number of calls that were taken and not answered yet."""
        return len(self._open)

    def answers_within(self, seconds: float) -> bool:
        """Return whether the loop waits for calls, or ends one, within some seconds."""
        end, finished = time.monotonic() + seconds, self.finished
        while self._busy_since and self.finished == finished:
            if time.monotonic() >= end:
                return False
            time.sleep(LOOK_S)
        return True

    def start(self) -> None:
        """Begin to take calls."""
        self._begin()
        self._looker.start()

    def end(self) -> None:
        """Stop looking for a stuck thread. The loop ends when its front is closed."""
        self._ends.set()

    def _begin(self) -> None:
        """Let another thread lead."""
        thread = threading.Thread(target=self._lead, args=(self._leader + 1,), name="front", daemon=True)
        self._leader += 1
        self._busy_since = 0.0
        self._leads.add(self._leader)
        thread.start()

    def _look(self) -> None:
        while not self._ends.wait(LOOK_S):
            since = self._busy_since
            if since and time.monotonic() - since >= STUCK_S and len(self._leads) <= MOST_SPARE:
                try:
                    self._begin()
                except RuntimeError as error:  # a limit on processes or memory
                    self._leads.discard(self._leader)
                    log_failure(log, "front_lacks_threads", error)

    def _lead(self, number: int) -> None:
        """Take calls and answer them, until the front is closed or another thread leads."""
        while number == self._leader:
            events = self._front.recv_batch_details(TAKEN_AT_ONCE, 0 if self._waiting else None)
            if events is None:
                break
            now = time.monotonic()
            if number == self._leader:
                self._busy_since = now
            try:
                self._take(events, now)
                self._answer(now)
            except Exception as error:  # noqa: BLE001 - the next calls must be answered
                log_failure(log, "front_failed", error)
            if number == self._leader:
                self._busy_since = 0.0
        self._leads.discard(number)

    def _take(self, events: Sequence[Any], now: float) -> None:
        """Sort events: decisions wait for this thread, other calls for another one; those that were left are over."""
        if not self._waiting:
            self._none_waited = now
        for kind, number, method, data, _, details in events:
            if kind != EVENT_CALL:  # its client has left it, or the front has ended it at its deadline
                self._open.discard(number)
                continue
            self._open.add(number)
            left = details[2]
            call = _Call(number, data, now, float("inf") if left is None else now + left)
            if len(data) > MAX_MESSAGE_BYTES:
                reason = f"the message has {len(data):,} bytes: at most {MAX_MESSAGE_BYTES:,} are read"
                self._tell(call, BusyError(reason))
            elif method == 0:
                self._waiting.append(call)
                if self._calm.is_full(len(self._waiting) - 1):
                    self._tell(self._waiting.popleft(), self._calm.refuse_number())
            else:  # or, where too many wait, to be refused here and now
                self._threads.submit(self._run, method - 1, call)

    def _next(self, now: float) -> list[_Call]:
        """Return the decisions to make: those that have waited longest, without those that are too old."""
        calls: list[_Call] = []
        admission = self._calm if now - self._none_waited < CROWDED_S else self._crowded
        while len(calls) < DECIDED_AT_ONCE:
            try:
                call = self._waiting.popleft()
            except IndexError:
                break
            if call.number not in self._open:
                continue
            try:
                admission.check(now - call.taken, call.deadline - now, self._pace)
            except OffersError as error:
                self._tell(call, error)
            else:
                calls.append(call)
        return calls

    def _answer(self, now: float) -> None:
        """Answer the decisions whose turn it is."""
        calls = self._next(now)
        try:
            self._decide([call.data for call in calls], lambda index, result: self._tell(calls[index], result))
        except Exception as error:
            for call in calls:
                if call.number in self._open:
                    self._tell(call, error)
            raise
        if calls:
            self._pace.note((end := time.monotonic()) - now, end)

    def _run(self, method: int, call: _Call) -> None:
        """Answer a call on a thread of its own."""
        if call.number not in self._open:
            return
        begin = time.monotonic()
        try:
            self._threads.admit(call, self._paces[method])
            result: Result = self._others[method](call.data)
            self._paces[method].note((now := time.monotonic()) - begin, now)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            result = error
        self._tell(call, result)

    def _tell(self, call: _Call, result: Result) -> None:
        """End a call with a response or with the status of an error."""
        self._open.discard(call.number)
        self.finished += 1
        if isinstance(result, bytes):
            self._front.respond(call.number, result)
            return
        status = statuses.status_for(result)
        self._front.fail(call.number, status.code, status.message, [(_STATUS_KEY, status.SerializeToString())])
