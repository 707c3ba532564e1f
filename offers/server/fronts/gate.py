"""Admission on grpcio's server: threads with a bounded queue, and a gate before it.

grpcio takes every call from its core as soon as it comes and queues it without limit, which costs a quarter of a
decision's time before anything can be refused. Its core can hold calls back, and end those beyond a number, for a third
of that. So the core is asked for the next call of a method only while calls may wait here, and for some hundreds a
second beyond that, to be told in full why they are refused.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Container
from concurrent.futures import Future
from typing import Any, Final

import grpc
import structlog

from offers.errors import OffersError
from offers.server.admission import Admission, Pace
from offers.server.fronts.threads import CallThreads, Result, Run, Timed

TOLD_PER_S: Final = 500
"""Calls refused in a second, over longer times, that are told why and when to try again."""
TOLD_AT_ONCE: Final = 100
"""The same, of a burst."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class AdmittedThreads(CallThreads):
    """Threads for calls that admission may refuse: their queue is bounded, and may turn around.

    A call for which there is no room is refused on the thread that submits it, which is grpcio's only one. Its handler
    must therefore call `admit` before it waits for anything.
    """

    def __init__(self, count: int, admission: Admission) -> None:
        self._admission = admission
        self._turn = _Turn()
        self._told = _Allowance(TOLD_PER_S, TOLD_AT_ONCE)
        self._gate: Gate | None = None
        super().__init__(count)

    def guard(self, server: grpc.Server, methods: Container[str]) -> None:
        """Put a gate before some methods of a server that has not started: "/package.Service/Method"."""
        try:
            state = server._state  # type: ignore[attr-defined] # noqa: SLF001 - there is no public way
            self._gate = state.server = Gate(state.server, methods, self._may_come)
        except AttributeError:  # another release of grpcio: calls are refused all the same, but at a higher price
            log.warning("gate_missing", grpcio=grpc.__version__)

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:  # noqa: ANN401
        """Run a call on a thread; or refuse it here and now, where too many wait."""
        if not self._admission.is_full(len(self._calls)):
            return super().submit(fn, *args, **kwargs)
        done: Future[Result] = Future()
        self._turn.error = self._admission.refuse_number()
        try:
            done.set_result(fn(*args, **kwargs))
        finally:
            self._turn.error = None
        return done

    def answers_within(self, seconds: float) -> bool:
        """Return whether a thread has taken something from the queue within some seconds."""
        try:
            super().submit(int).result(seconds)
        except TimeoutError:
            return False
        return True

    def admit(self, call: Timed, pace: Pace) -> None:
        """Check a call at the beginning of its turn, before any work. Raises the error to end it with."""
        turn = self._turn
        if turn.error is not None:
            raise turn.error
        waited_s, left_s = time.monotonic() - turn.arrived, call.time_remaining()
        # A caller ends its call at its own deadline, which the server counts from the arrival and so a little later.
        if self._admission.is_crowded(waited_s) and not call.is_active():
            left_s = 0.0
        self._admission.check(waited_s, left_s, pace)

    def _next(self) -> Run:
        calls = self._calls
        oldest_s = time.monotonic() - calls[0][0]
        self._turn.arrived, run = calls.pop() if self._admission.is_newest_first(oldest_s) else calls.popleft()
        self._looked()
        return run

    def _looked(self) -> None:
        if self._gate is not None:
            self._gate.let_in()

    def _may_come(self) -> bool:
        """Return whether a call may come, to wait here or to be told why not."""
        return not self._admission.is_full(len(self._calls)) or self._told.take()


class _Turn(threading.local):
    """The call of a thread."""

    arrived = 0.0
    error: OffersError | None = None
    """The error to end it with."""


class _Allowance:
    """A number of things that are allowed in a second."""

    def __init__(self, per_second: float, at_once: float) -> None:
        self._per_second, self._at_once = per_second, at_once
        self._left, self._since = at_once, time.monotonic()

    def take(self) -> bool:
        """Take one, if one is left. Two threads may take the same one."""
        now = time.monotonic()
        self._left = min(self._at_once, self._left + (now - self._since) * self._per_second)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Gate:
    """The server of grpcio's core, which is asked for calls of some methods only while they may come.

    grpcio asks for one call of each method at a time, and for the next when it has one.
    """

    def __init__(self, server: Any, methods: Container[str], may_come: Callable[[], bool]) -> None:  # noqa: ANN401
        self._server, self._methods, self._may_come = server, methods, may_come
        self._held: deque[tuple[Any, ...]] = deque()
        """Arguments of what is not asked for yet."""
        self._lock = threading.Lock()
        """Held while the core is asked, which must not be after it was shut down."""
        self._is_open = False
        """Whether everything is asked for, as the server shuts down only when nothing is left to be."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._server, name)

    def request_registered_call(self, queue: Any, other: Any, method: str, tag: Any) -> None:  # noqa: ANN401
        """Ask for a call of a method, now or later."""
        with self._lock:
            if method in self._methods and not self._is_open and (self._held or not self._may_come()):
                self._held.append((queue, other, method, tag))
            else:
                self._server.request_registered_call(queue, other, method, tag)

    def let_in(self) -> None:
        """Ask for what was held back, as far as calls may come."""
        while self._held:
            with self._lock:
                if not self._held or not (self._is_open or self._may_come()):
                    return
                self._server.request_registered_call(*self._held.popleft())

    def shutdown(self, queue: Any, tag: Any) -> None:  # noqa: ANN401
        """Shut down, after all has been asked for."""
        with self._lock:
            self._is_open = True
        self.let_in()
        self._server.shutdown(queue, tag)
