"""The client side of a measurement: a worker process, calls to it in slices, and the cost of each slice."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import numpy as np

from benchmarks.raw import RawClient
from benchmarks.worker import NOOP_SERVICE
from offers.server.process.worker import EVENT_SERVICE, SERVICE

OUTSTANDING = 8
"""Calls in flight: enough that the worker never waits for the client."""
WORKER_CORE, CLIENT_CORE = (sorted(os.sched_getaffinity(0)) * 2)[:2]
"""Cores of the worker and of the client: the same where there is only one."""
ROOT = Path(__file__).parents[1]
"""Folder from which the processes started here import `benchmarks`."""
_STOP_S = 20.0
_CALL_S = 60.0

Call = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Slice:
    """The cost of some consecutive calls."""

    calls: int
    cpu_us: float
    """CPU time of the worker process per call, in microseconds: all its threads, and the kernel's work for it."""
    per_second: float
    """Calls per second, with OUTSTANDING of them in flight."""
    p50_us: float
    p99_us: float
    """Latency seen by the client, in microseconds."""


class Process:
    """A process that prints the port on which it serves, and ends with its input."""

    def __init__(self, command: Sequence[str], files: Sequence[int] = ()) -> None:
        """Start a command that inherits some files."""
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=files
        )
        self._port = 0
        self.pid = self._process.pid

    def port(self) -> int:
        """Wait until it listens, and return its port. Raises RuntimeError if it does not come up."""
        assert self._process.stdout is not None
        if not self._port:
            line = self._process.stdout.readline()
            if not line:
                message = f"the server ended with status {self._process.wait()}"
                raise RuntimeError(message)
            self._port = int(line)
        return self._port

    def slice(self, run: Callable[[], Sequence[float]]) -> Slice:
        """Measure calls, of which `run` makes some and returns the seconds of each."""
        begin_cpu, begin = self._cpu_s(), time.perf_counter()
        latencies = run()
        spent_cpu, spent, calls = self._cpu_s() - begin_cpu, time.perf_counter() - begin, len(latencies)
        p50, p99 = np.percentile(latencies, (50, 99)) * 1e6
        return Slice(calls, spent_cpu / calls * 1e6, calls / spent, float(p50), float(p99))

    def raw_slices(self, path: str) -> "RawSlices":
        """Return what measures a method with the client of raw.py."""
        return RawSlices(self, RawClient(self.port(), path))

    def end(self) -> None:
        """End it."""
        try:
            self._process.communicate(timeout=_STOP_S)  # ends its input
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _cpu_s(self) -> float:
        return time.clock_gettime(~self.pid << 3 | 2)  # Linux's clock of another process, to the nanosecond


class RawSlices:
    """Measures one method on one connection."""

    def __init__(self, process: Process, client: RawClient) -> None:
        self._process, self._client = process, client

    def slice(self, payloads: Iterator[bytes], calls: int, outstanding: int) -> Slice:
        """Make a number of calls, so many at a time. Raises FailedCallError."""
        return self._process.slice(lambda: self._client.call(payloads, calls, outstanding))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Target:
    """A worker process over a snapshot, and one connection to it."""

    def __init__(
        self,
        snapshot: Path,
        core: int,
        noop_bytes: int,
        data: str = "",
        front: str = "grpcio",
        memory: int | None = None,
    ) -> None:
        """Start a worker process; `data`, `front` and `memory`: see worker.py."""
        arguments = [snapshot, core, noop_bytes, data, front, *([] if memory is None else [memory])]
        self._process = Process(
            [sys.executable, "-m", "benchmarks.worker", *map(str, arguments)], () if memory is None else (memory,)
        )
        self._channel: grpc.Channel | None = None
        self.pid = self._process.pid

    def connect(self) -> None:
        """Wait until the worker listens, and connect. Raises RuntimeError if it does not come up."""
        self.port = self._process.port()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.noop = self._method(NOOP_SERVICE, "Answer")
        self.get_offers = self._method(SERVICE, "GetOffers")
        self.batch_get_offers = self._method(SERVICE, "BatchGetOffers")
        self.report_events = self._method(EVENT_SERVICE, "ReportEvents")

    def _method(self, service: str, name: str) -> Call:
        assert self._channel is not None
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(f"/{service}/{name}")
        return lambda data: method(data, timeout=_CALL_S)

    def slice(self, call: Call, payloads: Iterator[bytes], calls: int) -> Slice:
        """Make a number of calls with the next payloads. Raises grpc.RpcError if any fails."""
        return self._process.slice(lambda: _run(call, payloads, calls))

    def raw_slices(self, path: str) -> "RawSlices":
        """Return what measures a method with the client of raw.py."""
        return self._process.raw_slices(path)

    def memory(self) -> tuple[int, int]:
        """Return the bytes of the worker's memory that are private, and that are shared with other processes."""
        own = shared = 0
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            name, _, size = line.partition(":")
            if name.startswith("Private_"):
                own += int(size.split()[0]) * 1024
            elif name.startswith("Shared_"):
                shared += int(size.split()[0]) * 1024
        return own, shared

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the worker."""
        if self._channel is not None:
            self._channel.close()
        self._process.end()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this thread, and those it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _run(call: Call, payloads: Iterator[bytes], calls: int) -> Sequence[float]:
    """Return the seconds of each call, OUTSTANDING at a time. Raises the first error of any."""
    waiting = [next(payloads) for _ in range(calls)]
    latencies: list[float] = []
    errors: list[Exception] = []

    def keep_calling() -> None:
        try:
            while True:
                payload = waiting.pop()
                begin = time.perf_counter()
                call(payload)
                latencies.append(time.perf_counter() - begin)
        except IndexError:  # none is left
            return
        except grpc.RpcError as error:
            waiting.clear()
            errors.append(error)

    callers = [threading.Thread(target=keep_calling) for _ in range(OUTSTANDING)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    if errors:
        raise errors[0]
    return latencies
