"""The threads that run calls, and the limit on how long a client may keep one waiting."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from offers.server.admission import Pace

LOOK_S = 0.01
"""Seconds between looks at threads that wait for clients or for stores."""
CALM_LOOK_S = 0.05
"""Seconds between looks while calls end, and no thread waits: each look takes the interpreter lock from a call."""
MOST_SPARE = 64
"""Spare threads that may exist at once."""
SPARE_IDLE_S = 10.0
"""Seconds after which a spare thread ends, once fewer are needed or it has no call."""
MESSAGE_S = 10.0
"""Seconds that a client has to send the message of a unary call, or to take a message of a stream."""
STREAM_S = 60.0
"""Seconds that a client has to send the next message of a stream."""
STUCK_S = 0.5
"""Seconds without the end of a call after which spare threads run those in the queue: the others wait for a store."""
PRESSED_S = 0.1
"""The same, in seconds, once no spare thread is left, or the system starts no more."""

Result = TypeVar("Result")
Run = Callable[[], None]


class Cancellable(Protocol):
    """A call that can be cancelled from another thread, as a grpc.ServicerContext."""

    def cancel(self) -> object:
        """Cancel the call; threads that wait for its client wake up."""


class Timed(Protocol):
    """A call that knows how long its caller waits for the answer, as a grpc.ServicerContext."""

    def time_remaining(self) -> float:
        """Return the seconds until the deadline; a very large number where there is none."""

    def is_active(self) -> bool:
        """Return whether the caller still waits."""


class CallThreads(ThreadPoolExecutor):
    """A few threads that run calls, and spare ones for as long as clients keep these waiting.

    grpcio's synchronous server gives a call to a thread before its message has arrived, and takes a message of a
    stream as sent once the client's flow control lets it through. A client that does neither would hold the thread.
    Therefore spare threads run the calls in the queue while others wait for clients, and a call whose client takes too
    long is cancelled. They also run them while no call ends, as when all threads wait for a locked database.

    Nothing of the base class is used: grpcio lets a method have threads of its own only if they are of that class.
    """

    def __init__(self, count: int) -> None:
        self.finished = 0
        """A number that changes whenever calls are finished."""
        self.is_draining = False
        """Whether streams are to end."""
        self._calls: deque[tuple[float, Run]] = deque()
        """Calls in the queue, with the time of their arrival."""
        self._tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """One for each call in the queue: True. False ends a thread."""
        self._spare = 0
        self._wanted = 0
        """Spare threads that are needed."""
        self._needed_at = 0.0
        """When all spare threads were needed."""
        self._lock = threading.Lock()
        self._waiting: deque[_Wait] = deque()
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"call_{number}") for number in range(count)]  # type: ignore[assignment]
        self._looker = threading.Thread(target=self._look, name="call_looker")
        for thread in (*self._threads, self._looker):
            thread.daemon = True
            thread.start()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:  # noqa: ANN401
        """Run a function on a thread; its result, or its exception, is in the returned future."""
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever waits for the future is told
                future.set_exception(error)

        self._calls.append((time.monotonic(), run))
        self._tickets.put(True)  # noqa: FBT003
        return future

    def admit(self, call: Timed, pace: Pace) -> None:
        """Check a call at the beginning of its turn, before any work. Raises the error to end it with."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """End the threads once they have run what was submitted. `cancel_futures` is not supported."""
        del cancel_futures
        self._ends.set()
        for _ in self._threads:
            self._tickets.put(False)  # noqa: FBT003
        if wait:
            for thread in self._threads:
                thread.join()

    def waiting(
        self, call: Cancellable, seconds: float = MESSAGE_S, drain: Callable[[], None] | None = None
    ) -> "_Wait":
        """Return a block of `with` in which a client keeps a thread waiting; after too many seconds it is cancelled.

        `drain` ends the call when the server stops; without it, the call is one that will end by itself.
        """
        wait = _Wait(call, time.monotonic(), seconds, drain)
        self._waiting.append(wait)
        return wait

    def drain(self) -> None:
        """End the streams that wait for their clients, and from now on each that begins to."""
        self.is_draining = True
        for wait in list(self._waiting):
            if wait.drain is not None and not wait.is_over:
                wait.drain()

    def _next(self) -> Run:
        """Take the next call from the queue."""
        return self._calls.popleft()[1]

    def _looked(self) -> None:
        """Do what is due at every look."""

    def _run(self) -> None:
        while self._tickets.get():
            self._next()()
            self.finished += 1

    def _run_spare(self) -> None:
        try:
            while self._tickets.get(timeout=SPARE_IDLE_S):
                self._next()()
                self.finished += 1
                # Calls go to all threads in turn, so that with some calls a second none of them is ever idle.
                if self._spare > self._wanted and time.monotonic() - self._needed_at >= SPARE_IDLE_S:
                    break
            else:
                self._tickets.put(False)  # noqa: FBT003 - meant for one of the others
        except queue.Empty:
            pass
        finally:
            with self._lock:
                self._spare -= 1

    def _look(self) -> None:
        most, lacks_threads, pause = len(self._threads) + MOST_SPARE, False, CALM_LOOK_S
        finished, since = self.finished, time.monotonic()
        while not self._ends.wait(pause):
            self._looked()
            kept = self._kept()
            self._cancel_late(kept, PRESSED_S if lacks_threads or len(kept) >= most else None)
            lacks_threads, pause = False, CALM_LOOK_S
            if not self._calls or self.finished != finished:
                finished, since = self.finished, time.monotonic()
            else:
                pause = LOOK_S
            if kept:
                pause = LOOK_S
            # Twice as many as are kept, because a crowd of such clients is first in the queue, too.
            wanted = 2 * len(kept)
            if self._calls and time.monotonic() - since >= STUCK_S:
                wanted, since = max(wanted, self._spare + len(self._threads)), time.monotonic()
            self._wanted = min(wanted, MOST_SPARE)
            if self._spare <= self._wanted or self._is_late():
                self._needed_at = time.monotonic()
            if self._calls:
                lacks_threads = not self._add_spare(self._wanted - self._spare)

    def _is_late(self) -> bool:
        """Return whether a call has waited in the queue for longer than a moment."""
        try:
            return time.monotonic() - self._calls[0][0] > 2 * LOOK_S
        except IndexError:
            return False

    def _add_spare(self, count: int) -> bool:
        """Start spare threads. Returns whether the system has let all of them start."""
        for _ in range(count):
            with self._lock:
                self._spare += 1
            try:
                threading.Thread(target=self._run_spare, name="call_spare", daemon=True).start()
            except RuntimeError:  # a limit on processes or memory
                with self._lock:
                    self._spare -= 1
                return False
        return True

    def _kept(self) -> "list[_Wait]":
        """Return the threads that have waited for a client for longer than a moment."""
        kept, since = [], time.monotonic() - LOOK_S
        for _ in range(len(self._waiting)):
            wait = self._waiting.popleft()
            if not wait.is_over:
                self._waiting.append(wait)
                if wait.since <= since:
                    kept.append(wait)
        return kept

    def _cancel_late(self, kept: "list[_Wait]", most: float | None) -> None:
        """Cancel calls whose client took too long; `most` replaces a longer limit, in seconds."""
        now = time.monotonic()
        for wait in kept:
            limit = wait.seconds if most is None else min(most, wait.seconds)
            if now - wait.since >= limit and not wait.is_over:
                wait.call.cancel()


class _Wait:
    """A thread that waits for a client, until the block of `with` ends."""

    __slots__ = ("call", "drain", "is_over", "seconds", "since")

    def __init__(self, call: Cancellable, since: float, seconds: float, drain: Callable[[], None] | None) -> None:
        self.call, self.since, self.seconds, self.drain, self.is_over = call, since, seconds, drain, False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.is_over = True
