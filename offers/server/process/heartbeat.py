"""The sign of life of a worker: it tells its supervisor that calls are answered, or calls itself where there are none.

A process can live and answer nobody, for instance because its serving thread waits for a lock. Its own call of health
takes the way of every call as far as the serving thread; then the threads of the other calls have to show that they run
something. A worker with more calls than it can answer in time does answer some, and is not replaced.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

BEAT_S = 1.0
"""Seconds between signs of life."""
ANSWER_S = 5.0
"""Seconds within which a worker is to answer itself."""
STDOUT = 1


def own_address() -> str:
    """Return an address at which only this process listens: an abstract Unix socket, or a port of the loopback."""
    return f"unix-abstract:offers-worker-{os.getpid()}" if sys.platform == "linux" else "127.0.0.1:0"


class Heartbeat:
    """A thread that writes a byte to stdout while calls are answered; the supervisor reads them.

    `finished` returns a number that changes whenever calls are finished, and `answers_within` whether the threads that
    run calls come to something else within some seconds.
    """

    def __init__(self, target: str, finished: Callable[[], int], answers_within: Callable[[float], bool]) -> None:
        self._target = target
        self._finished = finished
        self._answers_within = answers_within
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        os.set_blocking(STDOUT, False)  # a supervisor that does not read must not hold this thread
        self._thread.start()

    def stop(self) -> None:
        """Stop beating."""
        self._ends.set()

    def _beat(self) -> None:
        with grpc.insecure_channel(self._target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            before = self._finished()
            while not self._ends.wait(BEAT_S):
                with contextlib.suppress(grpc.RpcError, BlockingIOError, BrokenPipeError):
                    is_alive = self._finished() != before
                    if not is_alive:
                        check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
                        is_alive = self._answers_within(ANSWER_S)
                    before = self._finished()
                    if is_alive:
                        os.write(STDOUT, b".")
