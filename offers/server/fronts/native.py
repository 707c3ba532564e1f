"""The native front: HTTP/2 and gRPC in Rust, outside Python's lock, by pygrpc-native.

It takes the unary methods of the service itself. All others go through it to a grpcio front on a Unix socket.
"""

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pygrpc_native import NativeGrpcFront

from offers.errors import OffersError
from offers.server.admission import Admission
from offers.server.fronts.contract import Decide
from offers.server.fronts.grpcio import GrpcioFront, cannot_listen
from offers.server.fronts.loop import Loop
from offers.server.process.gate import AdmittedThreads
from offers.server.process.handlers import Unary

IO_THREADS = 1
"""Threads of Rust. A worker has one core."""
IDLE_S = 0.02
"""Seconds without a call under way after which a stopping front closes: its last responses are on their way then."""

GAP_S = 0.5
"""Seconds for which a front whose time is over waits for an instant without calls."""


class NativeFront:
    """A Front that runs pygrpc-native before a grpcio front."""

    name = "native"

    def __init__(
        self,
        behind: GrpcioFront,
        threads: AdmittedThreads,
        decide: tuple[str, Decide],
        methods: Mapping[str, Unary],
        options: Mapping[str, int],
    ) -> None:
        """`decide` is the path of the method that decides, and what does it; `methods` are others, by their paths.

        `options` are those of transport.py. Those that are not read here are the other front's.
        """
        self._behind, self._threads, self._options = behind, threads, options
        self._paths = [decide[0], *methods]
        self._decide, self._methods = decide[1], tuple(methods.values())
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._running: tuple[NativeGrpcFront, Loop] | None = None

    @property
    def admissions(self) -> Sequence[Admission]:
        """See Front."""
        return self._running[1].admissions if self._running else ()

    @property
    def finished(self) -> int:
        """See Front."""
        return self._behind.finished + (self._running[1].finished if self._running else 0)

    def answers_within(self, seconds: float) -> bool:
        """See Front."""
        is_alive = self._running is None or self._running[1].answers_within(seconds)
        return is_alive and self._behind.answers_within(seconds)

    def listen(self, address: str) -> int:
        """See Front. Called once."""
        try:
            front = NativeGrpcFront(
                address,
                [(path, False) for path in self._paths],
                io_threads=IO_THREADS,
                call_details=True,
                metrics=True,
                keepalive_time_ms=self._options["grpc.keepalive_time_ms"],
                keepalive_timeout_ms=self._options["grpc.keepalive_timeout_ms"],
                keepalive_permit_without_calls=bool(self._options["grpc.keepalive_permit_without_calls"]),
                max_concurrent_streams=self._options["grpc.max_concurrent_streams"],
                max_metadata_size=self._options["grpc.absolute_max_metadata_size"],
                reuse_port=bool(self._options["grpc.so_reuseport"]),
            )
        except OSError:
            raise OffersError(cannot_listen(address)) from None
        own = f"offers-front-{os.getpid()}-{secrets.token_hex(8)}"
        if sys.platform == "linux":  # an abstract socket leaves no file behind
            self._behind.listen(f"unix-abstract:{own}")
            front.set_fallback(f"\0{own}")
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="offers-front-")
            path = Path(self._folder.name, "grpcio")
            self._behind.listen(f"unix:{path}")
            front.set_fallback(str(path))
        self._running = front, Loop(front, self._decide, self._methods, self._threads)
        return front.bound_port

    def start(self) -> None:
        """See Front."""
        self._behind.start()
        if self._running is not None:
            front, loop = self._running
            loop.start()
            front.start()

    def stop(self, grace_s: float | None) -> None:
        """See Front. Calls that come while others are under way are answered too: the front cannot refuse them."""
        end = time.monotonic() + (grace_s or 0.0)
        self._behind.stop(grace_s)
        if self._running is not None:
            front, loop = self._running
            if grace_s:
                _wait_until_idle(lambda: loop.under_way or _unsent(front), end)
            front.close()
            loop.end()
        if self._folder is not None:
            self._folder.cleanup()


def _wait_until_idle(under_way: Callable[[], int], end: float) -> None:
    """Wait until no call has been under way for IDLE_S, or until an instant by time.monotonic(); then for a gap."""
    idle_since = 0.0
    while (now := time.monotonic()) < end + GAP_S:
        if under_way():
            idle_since = 0.0
        elif not idle_since:
            idle_since = now
        if idle_since and (now - idle_since >= IDLE_S or now >= end):
            return
        time.sleep(0.001)


def _unsent(front: NativeGrpcFront) -> int:
    """Return the number of calls whose status is not on its way, including those whose message has not arrived."""
    methods = (front.metrics() or {"methods": {}})["methods"]
    return sum(one["started"] - sum(status["count"] for status in one["status"].values()) for one in methods.values())
