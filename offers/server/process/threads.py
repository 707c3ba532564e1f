"""The threads that run calls, and the limit on how long a client may keep one waiting."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Protocol, TypeVar

LOOK_S = 0.01
"""Seconds between looks at threads that wait for clients."""
MOST_SPARE = 64
"""Spare threads that may exist at once."""
SPARE_IDLE_S = 10.0
"""Seconds without a call after which a spare thread ends."""
MESSAGE_S = 10.0
"""Seconds that a client has to send the message of a unary call, or to take a message of a stream."""
STREAM_S = 60.0
"""Seconds that a client has to send the next message of a stream."""
STUCK_S = 0.5
"""Seconds without the end of a call after which spare threads run those in the queue: the others wait for a store."""
PRESSED_S = 0.1
"""The same, in seconds, once no spare thread is left, or the system starts no more."""

Result = TypeVar("Result")


class Cancellable(Protocol):
    """A call that can be cancelled from another thread, as a grpc.ServicerContext."""

    def cancel(self) -> object:
        """Cancel the call; threads that wait for its client wake up."""


class CallThreads(Executor):
    """A few threads that run calls, and spare ones for as long as clients keep these waiting.

    grpcio's synchronous server gives a call to a thread before its message has arrived, and takes a message of a
    stream as sent once the client's flow control lets it through. A client that does neither would hold the thread.
    Therefore spare threads run the calls in the queue while others wait for clients, and a call whose client takes too
    long is cancelled. They also run them while no call ends, as when all threads wait for a locked database.
    """

    def __init__(self, count: int) -> None:
        self.finished = 0
        """A number that changes whenever calls are finished."""
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._spare = 0
        self._lock = threading.Lock()
        self._waiting: deque[_Wait] = deque()
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"call_{number}") for number in range(count)]
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

        self._calls.put(run)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """End the threads once they have run what was submitted. `cancel_futures` is not supported."""
        del cancel_futures
        self._ends.set()
        for _ in self._threads:
            self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def waiting(self, call: Cancellable, seconds: float = MESSAGE_S) -> "_Wait":
        """Return a block of `with` in which a client keeps a thread waiting; after too many seconds it is cancelled."""
        wait = _Wait(call, time.monotonic(), seconds)
        self._waiting.append(wait)
        return wait

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # it holds the request, which may be large
            self.finished += 1

    def _run_spare(self) -> None:
        try:
            while True:
                call = self._calls.get(timeout=SPARE_IDLE_S)
                if call is None:
                    self._calls.put(None)  # meant for one of the others
                    return
                call()
                del call
                self.finished += 1
        except queue.Empty:
            pass
        finally:
            with self._lock:
                self._spare -= 1

    def _look(self) -> None:
        most, lacks_threads = len(self._threads) + MOST_SPARE, False
        finished, since = self.finished, time.monotonic()
        while not self._ends.wait(LOOK_S):
            kept = self._kept()
            self._cancel_late(kept, PRESSED_S if lacks_threads or len(kept) >= most else None)
            lacks_threads = False
            if self._calls.empty() or self.finished != finished:
                finished, since = self.finished, time.monotonic()
            if not self._calls.empty():
                # Twice as many as are kept, because a crowd of such clients is first in the queue, too.
                wanted = 2 * len(kept)
                if time.monotonic() - since >= STUCK_S:
                    wanted, since = max(wanted, self._spare + len(self._threads)), time.monotonic()
                lacks_threads = not self._add_spare(min(wanted, MOST_SPARE) - self._spare)

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

    __slots__ = ("call", "is_over", "seconds", "since")

    def __init__(self, call: Cancellable, since: float, seconds: float) -> None:
        self.call, self.since, self.seconds, self.is_over = call, since, seconds, False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.is_over = True
