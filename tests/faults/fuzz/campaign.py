"""Runs cases against a server, many at once, and collects how they end."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from offers.v1 import offer_service_pb2 as pb
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.faults.fuzz import frames
from tests.faults.fuzz.methods import Method, methods_of
from tests.faults.fuzz.mutations import Case, case_of
from tests.faults.process import memory_of

FORBIDDEN = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
"""Statuses with which no case may end, unless its client has chosen so."""
OF_CLIENTS = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
UNDER_WAY, CHANNELS, STREAM_THREADS = 96, 4, 4
PATIENCE_S = 60.0
"""Deadline of a case: a call that takes longer hangs."""
HURRY_S = 0.000_5
CONNECT_S = 0.03
"""Seconds between connections of mutated frames."""
ANSWERS = 3
"""Messages read of a stream before its client leaves."""
WARM = 0.2
"""Share of a run after which memory is measured for the first time."""
CONNECTION = "connections of mutated frames"
ANEW = "max_age"
"""In the details of a call that was begun when the server asked its client to connect anew."""
SIGNS = ("Traceback", "call_failed", "worker_died", "worker_hangs", "decisions_lost", "upkeep_failed")
"""Texts that must not be in the server's log."""


@dataclass(slots=True)
class Outcome:
    """How the cases of a run ended."""

    endings: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Cases by method and name of the status."""
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    """The longest that an ordinary call beside the cases took."""
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    """Bytes of all workers, first when they were warm."""

    @property
    def cases(self) -> int:
        """Return the number of calls."""
        return sum(count for (method, _), count in self.endings.items() if method != CONNECTION)


class Fuzzed(Protocol):
    """A server that has started."""

    @property
    def target(self) -> str:
        """Return where it listens."""
        ...

    @property
    def text(self) -> str:
        """Return its log."""
        ...

    def workers(self) -> set[int]:
        """Return the process ids of its workers."""
        ...


class Campaign:
    """Cases from a seed, against a server."""

    def __init__(self, server: Fuzzed, seed: int, first: int = 0) -> None:
        self.outcome = Outcome()
        self._server, self._seed, self._first = server, seed, first
        self._workers = server.workers()
        self._free = threading.Semaphore(UNDER_WAY)
        self._lock = threading.Lock()
        self._ends = threading.Event()

    def run(self, cases: int, seconds: float) -> Outcome:
        """Make calls until there were so many cases, or for so many seconds."""
        begin = time.monotonic()
        with ExitStack() as stack:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
            channels = [
                stack.enter_context(grpc.insecure_channel(self._server.target, options=options))
                for _ in range(CHANNELS)
            ]
            methods = methods_of(channels[0])
            pool = stack.enter_context(ThreadPoolExecutor(STREAM_THREADS))
            beside = [threading.Thread(target=self._ask), threading.Thread(target=self._connect)]
            for thread in beside:
                thread.start()
            try:
                for number, done in self._numbers(cases, seconds):
                    if not self.outcome.memory and done >= WARM:
                        self.outcome.memory.append(memory_of(self._workers))
                    case = case_of(self._seed, number, methods)
                    self._free.acquire()
                    call = self._stream if case.method.answers_many else self._unary
                    if case.method.answers_many:
                        pool.submit(call, case, channels[number % CHANNELS])
                    else:
                        call(case, channels[number % CHANNELS])
            finally:
                for _ in range(UNDER_WAY):
                    self._free.acquire()
                self._ends.set()
                for thread in beside:
                    thread.join()
        self.outcome.seconds = time.monotonic() - begin
        self._look_at_server(methods)
        return self.outcome

    def _numbers(self, cases: int, seconds: float) -> Iterator[tuple[int, float]]:
        """Yield the numbers of cases, each with the share of the run that is over."""
        begin = time.monotonic()
        for done in range(cases):
            share = (time.monotonic() - begin) / seconds
            if share >= 1:
                return
            yield self._first + done, max(share, done / cases)

    def _unary(self, case: Case, channel: grpc.Channel) -> None:
        make = channel.stream_unary if case.method.sends_many else channel.unary_unary
        call: Any = make(case.method.path)
        messages = iter(case.messages) if case.method.sends_many else case.messages[0]
        future = call.future(messages, **_options(case))
        if case.cancelled:
            future.cancel()
        future.add_done_callback(lambda ended: self._settle(case, ended))

    def _stream(self, case: Case, channel: grpc.Channel) -> None:
        make: Any = channel.stream_stream if case.method.sends_many else channel.unary_stream
        messages = iter(case.messages) if case.method.sends_many else case.messages[0]
        call: Any = make(case.method.path)(messages, **_options(case))
        count = 0
        with suppress(grpc.RpcError):
            for _ in call:
                count += 1
                if count == (1 if not case.method.sends_many else ANSWERS):
                    break
        left = call.cancel()
        self._settle(case._replace(cancelled=bool(left)), call, is_answered=count > 0)

    def _settle(self, case: Case, call: Any, *, is_answered: bool = False) -> None:  # noqa: ANN401 - a grpc.Call
        self._free.release()
        code = call.code()
        expected = OF_CLIENTS if case.cancelled or case.hurried else set()
        ending = "OK" if is_answered and code is grpc.StatusCode.CANCELLED else code.name
        with self._lock:
            self.outcome.endings[case.method.path, ending] += 1
            if code in FORBIDDEN - expected and ANEW not in call.details():
                sent = b"|".join(case.messages)[:200]
                self._fault(f"case {case.number}: {case.method.path} ends with {code}: {call.details()}; sent {sent!r}")

    def _ask(self) -> None:
        """Ask as an ordinary client, again and again, to see whether it is answered meanwhile."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        while not self._ends.is_set():
            begin = time.monotonic()
            with grpc.insecure_channel(self._server.target, options=options) as channel:
                try:
                    OfferServiceStub(channel).GetOffers(pb.GetOffersRequest(), timeout=PATIENCE_S)
                except grpc.RpcError as error:
                    self._fault(f"an ordinary call beside the cases ends with {error}")
            self.outcome.slowest_s = max(self.outcome.slowest_s, time.monotonic() - begin)
            self._ends.wait(0.5)

    def _connect(self) -> None:
        """Send connections of mutated frames, one after the other."""
        number = self._first
        while not self._ends.wait(CONNECT_S):
            data = frames.connection_of(self._seed, number)
            number += 1
            try:
                ending = "answered" if frames.send(self._server.target, data) else "closed or silent"
            except OSError as error:
                self._fault(f"connection {number} fails: {error}")
            else:
                with self._lock:
                    self.outcome.endings[CONNECTION, ending] += 1

    def _look_at_server(self, methods: Sequence[Method]) -> None:
        """Collect what the server did: deaths, errors in its log, memory, and methods that never answered."""
        if self._workers != self._server.workers():
            self._fault(f"workers {self._workers} have become {self._server.workers()}")
        self.outcome.memory.append(memory_of(self._workers))
        for sign in SIGNS:
            if sign in self._server.text:
                lines = [line for line in self._server.text.splitlines() if sign in line]
                self._fault(f"the log has {len(lines)} times {sign!r}, first: {lines[0][:2_000]}")
        if self.outcome.cases > 500 * len(methods):
            for method in methods:
                if not self.outcome.endings[method.path, "OK"]:
                    self._fault(f"no request of {method.path} was right: add one to tests/faults/fuzz/samples.py")

    def _fault(self, text: str) -> None:
        self.outcome.faults.append(text)


def _options(case: Case) -> dict[str, Any]:
    return {
        "timeout": HURRY_S if case.hurried else PATIENCE_S,
        "metadata": case.metadata or None,
        "compression": grpc.Compression.Gzip if case.compressed else None,
    }


Report = Callable[[str], None]


def tell(outcome: Outcome, report: Report) -> None:
    """Report the numbers of a run, and its first faults."""
    statuses = sorted({status for _, status in outcome.endings})
    for method in sorted({method for method, _ in outcome.endings}):
        counts = [f"{status} {count:,}" for status in statuses if (count := outcome.endings[method, status])]
        report(f"{method}: {', '.join(counts)}")
    memory = " -> ".join(f"{size >> 20} MiB" for size in outcome.memory)
    report(
        f"{outcome.cases:,} cases in {outcome.seconds:.0f} s; an ordinary call beside them took"
        f" {outcome.slowest_s:.2f} s at most; memory of the workers {memory}"
    )
    for fault in outcome.faults[:20]:
        report(f"FAULT: {fault}")
    if len(outcome.faults) > 20:
        report(f"and {len(outcome.faults) - 20:,} more faults")
