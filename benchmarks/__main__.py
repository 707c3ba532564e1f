"""Measures the service next to a no-op of the same server, prints the figures and writes build/bench.json.

`python -m benchmarks` takes some minutes; with QUICK=1 in the environment under 50 seconds, and then the largest size
only if an earlier run has compiled its catalogue.
"""

import math
import os
import platform
import statistics
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks import catalogues, decisions, go_noop, holding, measure, personal
from benchmarks import fronts as native
from benchmarks.catalogues import Compiled
from benchmarks.load import OUTSTANDING, ROOT, Slice
from benchmarks.measure import BATCH, Plan, Series

OUTPUT = ROOT / "build" / "bench.json"
SMALLEST, LARGEST = 1_000, 1_000_000
SIZES = (SMALLEST, 100_000, LARGEST)
PERSONS_OFFERS = 10_000
ROUNDS = 40
QUICK_PERSON_ROUNDS = 5
QUICK_S = 18.0
"""Seconds into a quick run after which it begins no more rounds; the rest takes 15 to 25."""
MEMORY_CALLS, QUICK_MEMORY_CALLS = 4_000, 1_000
_WIDTH = 120
"""Width of the tables where the output is no terminal."""


def run(sizes: tuple[int, ...], *, quick: bool, console: Console, persons: int = 0) -> dict[str, Any]:
    """Measure catalogues of these sizes, print tables, and return the contents of bench.json.

    `persons` is the number of offers for which decisions about persons are measured; 0: none are.
    """
    begin, load_average = time.monotonic(), os.getloadavg()[0]
    console.print(f"Writing and compiling synthetic catalogues of {_listed(sizes)} offers", style="dim")
    made = {size: catalogues.compiled(size, fresh=not quick) for size in sizes}
    seconds_to_open = {size: catalogues.seconds_to_open(one.path) for size, one in made.items()}
    plans = {size: measure.plan(size, one.path) for size, one in made.items()}
    console.print(f"Calling a no-op and the methods in turn, {OUTSTANDING} calls under way", style="dim")
    series = measure.calls(plans, ROUNDS, begin + QUICK_S if quick else math.inf)
    console.print("Timing decisions alone", style="dim")
    alone = {f"{size:,}": decisions.of_synthetic(size, one.path) for size, one in made.items()}
    alone["the demo's"] = decisions.of_demo()
    console.print("Asking how long answers hold", style="dim")
    held = {"the demo's": holding.of_demo()}
    if not quick or max(sizes) < LARGEST or catalogues.is_cached(max(sizes), timed=True):
        held[f"{max(sizes):,}"] = holding.of_synthetic(max(sizes))
    console.print("Reading the memory of two workers", style="dim")
    count = QUICK_MEMORY_CALLS if quick else MEMORY_CALLS
    memory = {size: measure.memory(plans[size], count) for size in sizes if size in (SMALLEST, LARGEST)}
    stores = personal.by_store(persons, QUICK_PERSON_ROUNDS if quick else personal.ROUNDS) if persons else {}
    console.print("Calling both fronts in turn", style="dim")
    fronts = _fronts({max(sizes): plans[max(sizes)]} if quick else plans, persons, begin, quick=quick)
    _print_calls(console, plans, series)
    decisions.print_figures(console, alone)
    holding.print_figures(console, held)
    _print_catalogues(console, made, seconds_to_open, memory)
    if stores:
        personal.print_figures(console, stores)
    native.print_figures(console, "Fronts", {f"{size:,} offers": one for size, one in fronts[0].items()} | fronts[1])
    return {
        **_summary(series, made, seconds_to_open, memory),
        **({"persons": {name: asdict(one) for name, one in stores.items()}} if stores else {}),
        "native": native.summary(*fronts),
        "quick": quick,
        "rounds": len(series[SMALLEST].noop),
        "calls": {str(size): _figures(one) for size, one in series.items()},
        "catalogues": {
            str(size): {
                "snapshot_bytes": one.size,
                "compile_seconds": one.seconds,
                "open_seconds": seconds_to_open[size],
                "response_bytes": plans[size].response_bytes,
                "eligible_offers": plans[size].eligible,
            }
            for size, one in made.items()
        },
        "decisions": {name.replace(",", ""): asdict(one) for name, one in alone.items()},
        "holding": {name.replace(",", ""): asdict(one) for name, one in held.items()},
        "memory": {
            str(size): [{"own_bytes": own, "shared_bytes": shared} for own, shared in workers]
            for size, workers in memory.items()
        },
        "machine": _machine(load_average),
        "seconds": round(time.monotonic() - begin, 1),
    }


def _fronts(
    plans: dict[int, Plan], persons: int, begin: float, *, quick: bool
) -> tuple[dict[int, native.Figures], dict[str, native.Figures]]:
    """Measure both fronts, by size, and by the store of persons."""
    if not quick:
        go_noop.program()
    rounds, deadline = native.ROUNDS, begin + QUICK_S if quick else math.inf
    by_size = native.run(plans, rounds, deadline)
    return by_size, {} if quick or not persons else native.by_store(persons, rounds)


def _summary(
    series: dict[int, Series],
    made: dict[int, Compiled],
    seconds_to_open: dict[int, float],
    memory: dict[int, list[tuple[int, int]]],
) -> dict[str, Any]:
    """Return the figures that have a limit."""
    largest = max(series)
    summary: dict[str, Any] = {
        "cpu_ratio": {str(size): one.ratio(one.get_offers, _cpu) for size, one in series.items()},
        "p99_ratio": {str(size): one.ratio(one.get_offers, _p99) for size, one in series.items()},
        "batch_cpu_ratio": series[largest].ratio(series[largest].batch, _cpu) / BATCH,
        "bytes_per_offer": made[largest].size / largest,
    }
    if LARGEST in made:
        summary["open_seconds"] = seconds_to_open[LARGEST]
        if made[LARGEST].seconds is not None:
            summary["compile_seconds"] = made[LARGEST].seconds
        own = {size: statistics.mean(own for own, _ in workers) for size, workers in memory.items()}
        if SMALLEST in own:
            summary["private_growth_ratio"] = (own[LARGEST] - own[SMALLEST]) / made[LARGEST].size
    return summary


def _cpu(one: Slice) -> float:
    return one.cpu_us


def _p99(one: Slice) -> float:
    return one.p99_us


def _figures(series: Series) -> dict[str, dict[str, float]]:
    return {name: _medians(slices) for name, slices in _methods(series)}


def _methods(series: Series) -> list[tuple[str, list[Slice]]]:
    return [("no-op", series.noop), ("GetOffers", series.get_offers), (f"BatchGetOffers of {BATCH}", series.batch)]


def _medians(slices: list[Slice]) -> dict[str, float]:
    names = ("cpu_us", "per_second", "p50_us", "p99_us")
    return {name: statistics.median(getattr(one, name) for one in slices) for name in names}


def _print_calls(console: Console, plans: dict[int, Plan], series: dict[int, Series]) -> None:
    table = Table(title="Calls (medians of slices; ratios: of the no-op next to it)")
    table.add_column("offers", justify="right")
    table.add_column("method")
    for name in ("CPU µs", "CPU ratio", "calls/s", "p50 ms", "p99 ms", "p99 ratio", "eligible", "bytes"):
        table.add_column(name, justify="right")
    for size, one in series.items():
        for name, slices in _methods(one):
            median = _medians(slices)
            each = BATCH if slices is one.batch else 1
            table.add_row(
                f"{size:,}",
                name,
                f"{median['cpu_us']:.0f}",
                f"{one.ratio(slices, _cpu) / each:.2f}" + (" each" if each > 1 else ""),
                f"{median['per_second']:,.0f}",
                f"{median['p50_us'] / 1000:.2f}",
                f"{median['p99_us'] / 1000:.2f}",
                f"{one.ratio(slices, _p99):.2f}" if each == 1 else "",
                f"{plans[size].eligible:.0f}" if slices is one.get_offers else "",
                f"{plans[size].response_bytes:,}" if each == 1 else "",
            )
        table.add_section()
    console.print(table)


def _print_catalogues(
    console: Console,
    made: dict[int, Compiled],
    seconds_to_open: dict[int, float],
    memory: dict[int, list[tuple[int, int]]],
) -> None:
    table = Table(title="Catalogues, and the memory of two workers")
    for name in ("offers", "compile s", "open s", "bytes/offer", "snapshot MB", "own MB", "shared MB"):
        table.add_column(name, justify="right")
    for size, one in made.items():
        workers = memory.get(size, [])
        table.add_row(
            f"{size:,}",
            f"{one.seconds:.1f}" if one.seconds is not None else "earlier",
            f"{seconds_to_open[size]:.2f}",
            f"{one.size / size:,.0f}",
            f"{one.size / 1e6:.1f}",
            " + ".join(f"{own / 1e6:.1f}" for own, _ in workers),
            " + ".join(f"{shared / 1e6:.1f}" for _, shared in workers),
        )
    console.print(table)


def _machine(load_average: float) -> dict[str, Any]:
    """What the figures depend on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("grpcio", "protobuf", "numba", "numpy")},
        "load_average_at_start": load_average,
    }


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(f"{size:,}" for size in sizes)


def main() -> None:
    """Measure as the environment says."""
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    sizes = tuple(size for size in SIZES if not quick or size < LARGEST or catalogues.is_cached(size))
    result = run(sizes, quick=quick, console=console, persons=PERSONS_OFFERS)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    if LARGEST not in sizes:
        console.print(f"QUICK leaves out {LARGEST:,} offers until a run without it has compiled them.", style="yellow")
    console.print(f"{result['seconds']:.0f} s; figures in {OUTPUT.parent.name}/{OUTPUT.name}")


if __name__ == "__main__":
    main()
