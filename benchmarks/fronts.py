"""Measures the native front beside the grpcio front: `python -m benchmarks.fronts`, and a part of `make bench`.

Every round has a slice of each: a no-op behind grpcio, a no-op behind the native front, one in Go where it has been
built, and GetOffers behind both fronts, with 8 and with 64 calls under way on one connection. The client is the one of
raw.py. All servers stand on one core, where only one has work at a time.
"""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import catalogues, go_noop, measure, noop, personal, persons
from benchmarks.load import CLIENT_CORE, WORKER_CORE, Process, RawSlices, Slice, Target, on_core
from benchmarks.measure import LEAST_ROUNDS, Plan
from benchmarks.worker import NOOP_SERVICE
from offers.server.process.worker import SERVICE, warm_engine

FRONTS = ("grpcio", "native")
AT_ONCE = (8, 64)
"""Calls under way."""
ROUNDS, CALLS, WARM_CALLS = 15, 800, 1_500
PERSON_WARM_CALLS = 4_096
NOOP, GET_OFFERS = f"/{NOOP_SERVICE}/Answer", f"/{SERVICE}/GetOffers"
GRPCIO_NOOP, NATIVE_NOOP, GO_NOOP = "grpcio no-op", "native no-op", "Go no-op"
Slices = dict[tuple[str, int], list[Slice]]
"""By the name of what is called, and the calls under way."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The medians of one method with some calls under way."""

    cpu_us: float
    """CPU of the server per call."""
    cpu_ratio: float
    """That divided by that of the grpcio no-op of the same round."""
    per_second: float
    p99_us: float


Figures = dict[str, dict[int, Figure]]


def run(plans: dict[int, Plan], rounds: int, deadline: float) -> dict[int, Figures]:
    """Measure both fronts at every size. Past the deadline, no more than LEAST_ROUNDS are made."""
    measured = {}
    for size, plan in plans.items():
        with ExitStack() as stack:
            targets = {
                front: stack.enter_context(Target(plan.snapshot, WORKER_CORE, plan.response_bytes, front=front))
                for front in FRONTS
            }
            measured[size] = _measure(stack, targets, plan.response_bytes, cycle(plan.requests), (rounds, deadline))
    return measured


def by_store(offers: int, rounds: int) -> dict[str, Figures]:
    """Measure decisions about persons with each available store of persons, as personal.py does."""
    return personal.with_each_store(lambda url, learned: _for_persons(offers, rounds, url, learned=learned))


def _for_persons(offers: int, rounds: int, url: str, *, learned: bool) -> Figures:
    made = catalogues.compiled_for_some(offers, learned=learned)
    engine = warm_engine(made.path)
    offer_ids = [engine.directory.offer_id(number) for number in range(0, offers, max(1, offers // 5_000))]
    with ExitStack() as stack:
        targets = {}
        for front in FRONTS:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="offers-benchmark-"))
            persons.fill(url or folder, engine, offer_ids)
            if learned:
                persons.teach(folder, made.path, offers)
            targets[front] = stack.enter_context(Target(made.path, WORKER_CORE, 3_000, url or folder, front))
        requests = cycle(persons.requests(offers, PERSON_WARM_CALLS))
        return _measure(stack, targets, 3_000, requests, (rounds, math.inf), PERSON_WARM_CALLS)


def _measure(
    stack: ExitStack,
    targets: dict[str, Target],
    answer_bytes: int,
    requests: Iterator[bytes],
    until: tuple[int, float],
    warm_calls: int = WARM_CALLS,
) -> Figures:
    """Measure in rounds; `until` has their number, and the instant after which fewer are made."""
    processes = {NATIVE_NOOP: Process([sys.executable, "-m", "benchmarks.noop", str(WORKER_CORE), str(answer_bytes)])}
    if (program := go_noop.built()) is not None:
        processes[GO_NOOP] = Process(go_noop.command(program, WORKER_CORE, answer_bytes))
    for process in processes.values():
        stack.callback(process.end)
    stack.enter_context(on_core(CLIENT_CORE))
    for target in targets.values():
        target.connect()
    called: dict[str, RawSlices] = {
        GRPCIO_NOOP: targets["grpcio"].raw_slices(NOOP),
        **{name: process.raw_slices(noop.PATH) for name, process in processes.items()},
        **{f"{front} GetOffers": target.raw_slices(GET_OFFERS) for front, target in targets.items()},
    }
    for one in called.values():
        stack.callback(one.close)
        one.slice(requests, warm_calls, AT_ONCE[0])
        one.slice(requests, warm_calls, AT_ONCE[-1])
    slices: Slices = {}
    rounds, deadline = until
    for number in range(rounds):
        if number >= LEAST_ROUNDS and time.monotonic() > deadline:
            break
        for name, one in list(called.items())[:: 1 if number % 2 else -1]:
            for outstanding in AT_ONCE:
                slices.setdefault((name, outstanding), []).append(one.slice(requests, CALLS, outstanding))
    return _figures(slices)


def _figures(slices: Slices) -> Figures:
    figures: Figures = {}
    for (name, outstanding), some in slices.items():
        pairs = list(zip(some, slices[GRPCIO_NOOP, outstanding], strict=True))
        figures.setdefault(name, {})[outstanding] = Figure(
            _median(some, lambda one: one.cpu_us),
            statistics.median(one.cpu_us / beside.cpu_us for one, beside in pairs),
            _median(some, lambda one: one.per_second),
            _median(some, lambda one: one.p99_us),
        )
    return figures


def _median(slices: list[Slice], figure: Callable[[Slice], float]) -> float:
    return statistics.median(map(figure, slices))


def summary(sizes: dict[int, Figures], stores: dict[str, Figures]) -> dict[str, Any]:
    """Return the part `native` of bench.json: with 64 calls under way, unless a name says otherwise."""
    native, most = "native GetOffers", AT_ONCE[-1]
    told: dict[str, Any] = {
        "cpu_ratio": {str(size): one[native][most].cpu_ratio for size, one in sizes.items()},
        "cpu_ratio_8": {str(size): one[native][AT_ONCE[0]].cpu_ratio for size, one in sizes.items()},
        "calls_per_second": {str(size): one[native][most].per_second for size, one in sizes.items()},
        "personal_cpu_ratio": {name: one[native][most].cpu_ratio for name, one in stores.items()},
        "personal_cpu_ratio_8": {name: one[native][AT_ONCE[0]].cpu_ratio for name, one in stores.items()},
    }
    largest = sizes[max(sizes)]
    if GO_NOOP in largest:
        told["go_ratio"] = largest[native][most].cpu_us / largest[GO_NOOP][most].cpu_us
    told["calls"] = {
        name: {method: {str(count): asdict(one) for count, one in counts.items()} for method, counts in figures.items()}
        for name, figures in {**{str(size): one for size, one in sizes.items()}, **stores}.items()
    }
    return told


def print_figures(console: Console, title: str, measured: dict[str, Figures]) -> None:
    """Print a row for each method and number of calls under way."""
    table = Table(title=title)
    table.add_column("", justify="right")
    table.add_column("method")
    for name in ("under way", "CPU µs", "CPU ratio", "calls/s", "p99 ms"):
        table.add_column(name, justify="right")
    for label, figures in measured.items():
        for name, counts in figures.items():
            for outstanding, one in counts.items():
                row = (
                    f"{one.cpu_us:.0f}",
                    f"{one.cpu_ratio:.2f}",
                    f"{one.per_second:,.0f}",
                    f"{one.p99_us / 1000:.2f}",
                )
                table.add_row(label, name, str(outstanding), *row)
        table.add_section()
    console.print(table)


def _main(sizes: list[int]) -> None:
    plans = {size: measure.plan(size, catalogues.compiled(size, fresh=False).path) for size in sizes}
    found = run(plans, ROUNDS, math.inf)
    print_figures(Console(width=120), "Fronts", {f"{size:,}": one for size, one in found.items()})


if __name__ == "__main__":
    _main([int(argument) for argument in sys.argv[1:]] or [100_000])
