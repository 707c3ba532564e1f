"""The loop of the native front: takes calls in batches, answers decisions at once, and hands the rest to threads."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from offers.errors import BusyError
from offers.server import statuses
from offers.server.fronts.contract import Decide, Unary
from offers.server.limits import MAX_MESSAGE_BYTES
from offers.server.offer_service import Result
from offers.server.process.threads import MOST_SPARE, STUCK_S, CallThreads
from offers.telemetry.logs import log_failure

DECIDED_AT_ONCE = 64
TAKEN_AT_ONCE = 256
"""Calls that are taken over from the transport at once."""
LOOK_S = 0.05
"""Seconds between looks at whether the loop is stuck."""
STATUS_KEY = "grpc-status-details-bin"

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _Call(NamedTuple):
    """A call that was taken, and not answered yet."""

    number: int
    data: bytes
    deadline: float
    """By time.monotonic(); infinite: it has none."""


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
        self._leader = 0
        self._leads = 0
        """Threads that run, the leader and those that are stuck."""
        self._busy_since = 0.0
        """When the leader took calls that it has not answered yet; 0: it waits for some."""
        self._ends = threading.Event()
        self._looker = threading.Thread(target=self._look, name="front_looker", daemon=True)

    @property
    def under_way(self) -> int:
        """The number of calls that were taken and not answered yet."""
        return len(self._open)

    def start(self) -> None:
        """Begin to take calls."""
        self._begin()
        self._looker.start()

    def end(self) -> None:
        """Stop looking for a stuck thread. The loop ends when its front is closed."""
        self._ends.set()

    def _begin(self) -> None:
        """Let another thread lead."""
        self._leader += 1
        self._leads += 1
        self._busy_since = 0.0
        threading.Thread(target=self._lead, args=(self._leader,), name=f"front_{self._leader}", daemon=True).start()

    def _look(self) -> None:
        while not self._ends.wait(LOOK_S):
            since = self._busy_since
            if since and time.monotonic() - since >= STUCK_S and self._leads <= MOST_SPARE:
                try:
                    self._begin()
                except RuntimeError:  # a limit on processes or memory
                    self._leads -= 1

    def _lead(self, number: int) -> None:
        """Take calls and answer them, until the front is closed or another thread leads."""
        while number == self._leader and not self._ends.is_set():
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
            if number == self._leader and not self._waiting:
                self._busy_since = 0.0
        self._leads -= 1

    def _take(self, events: Sequence[Any], now: float) -> None:
        """Sort events: decisions wait for this thread, other calls for another one; those that were left are closed."""
        for kind, number, method, data, _, details in events:
            if kind != EVENT_CALL or data is None:  # its client has left it, or its deadline has passed
                self._open.discard(number)
                continue
            self._open.add(number)
            if len(data) > MAX_MESSAGE_BYTES:
                reason = f"the message has {len(data):,} bytes: at most {MAX_MESSAGE_BYTES:,} are read"
                self._tell(number, BusyError(reason))
                continue
            left = details[2] if details else None
            call = _Call(number, data, now + left if left is not None else float("inf"))
            if method == 0:
                self._waiting.append(call)
            else:
                self._threads.submit(self._run, self._others[method - 1], call)

    def _answer(self, now: float) -> None:
        """Answer the decisions that have waited longest."""
        calls: list[_Call] = []
        while self._waiting and len(calls) < DECIDED_AT_ONCE:
            call = self._waiting.popleft()
            if call.number in self._open and call.deadline > now:
                calls.append(call)
            else:  # the front itself has ended it
                self._open.discard(call.number)
        try:
            self._decide([call.data for call in calls], lambda index, result: self._tell(calls[index].number, result))
        except Exception as error:
            for call in calls:
                if call.number in self._open:
                    self._tell(call.number, error)
            raise

    def _run(self, method: Unary, call: _Call) -> None:
        """Answer a call on a thread of its own, unless its client has left it meanwhile."""
        if call.number not in self._open or call.deadline <= time.monotonic():
            self._open.discard(call.number)  # the front itself has ended it
            return
        try:
            result: Result = method(call.data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            result = error
        self._tell(call.number, result)

    def _tell(self, number: int, result: Result) -> None:
        """End a call with a response or with the status of an error."""
        self._open.discard(number)
        self.finished += 1
        if isinstance(result, bytes):
            self._front.respond(number, result)
            return
        status = statuses.status_for(result)
        self._front.fail(number, status.code, status.message, [(STATUS_KEY, status.SerializeToString())])
