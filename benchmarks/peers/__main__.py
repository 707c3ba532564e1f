"""Asks peers and the decision the same questions, checks that the answers agree, and measures the times.

`python -m benchmarks.peers` prints a table and writes build/peers.json for 1,000,000 offers; with QUICK=1 in the
environment, for 100,000. Peers that are not installed are listed, with the way to install them.
"""

import gc
import math
import os
import platform
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks import catalogues, synthetic
from benchmarks.decisions import Clocked
from benchmarks.load import CLIENT_CORE, ROOT, WORKER_CORE, Target, on_core
from benchmarks.peers import answers
from benchmarks.peers.indexes import shapely_strtree, sqlite_rtree
from benchmarks.peers.postgis import postgis
from benchmarks.peers.questions import Offering, Question, offering, questions
from benchmarks.peers.ranking import Asked, MissingError, Ranked
from benchmarks.peers.redis_geo import redis_geosearch
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.decision.kernels.memory.scratch import Scratchpad
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.v1.offer_service_pb2 import GetOffersResponse

OUTPUT = ROOT / "build" / "peers.json"
OFFERS, QUICK_OFFERS = 1_000_000, 100_000
QUESTIONS = 300
ROUNDS = 3
"""Rounds: in each, every peer is asked all questions in turn."""
KERNEL = "the compiled decision"
DECISION = "the decision from Python"
SERVICE = "GetOffers, bytes to bytes"
CALL = "GetOffers, a gRPC call"
NOOP = "a gRPC call that does nothing"
QUIET_CORES = 1.25
"""Most cores that may be busy. One question at a time keeps one core busy, or parts of two. Any other load lengthens
the times, above all those of servers, which need both cores."""
_WIDTH = 120


@dataclass(slots=True)
class Measured:
    """A system that is measured."""

    ask: Callable[[Question], object]
    version: str = ""
    seconds: list[float] = field(default_factory=list)
    """Seconds of each question, round after round."""
    own_clock: Callable[[], Iterable[float]] | None = None
    """Asks all questions and returns the seconds of each; None: they are measured around `ask`."""
    within_edge: int | None = None
    """Answers that agree with the decision's except for offers at the edge of their reach; None: it is the decision."""


def run(offers: int, snapshot: Path, count: int, console: Console) -> dict[str, Any]:
    """Ask questions about a catalogue of so many offers, print a table, and return the contents of peers.json.

    Raises RuntimeError if a peer's answer is not the decision's.
    """
    console.print(f"Reading the catalogue of {offers:,} offers", style="dim")
    offered = offering(offers)
    asked = questions(offered, offers, count)
    with ExitStack() as stack:
        expected = _answers(snapshot, asked)
        measured = _ours(snapshot, asked, stack)
        stack.enter_context(on_core(CLIENT_CORE))
        missing = _add_peers(measured, offered, stack, console)
        for name, one in measured.items():
            if one.within_edge is not None:
                one.within_edge = _check(name, one, offered, asked, expected)
        console.print(f"Asking {count} questions, {ROUNDS} times each in turn", style="dim")
        busy_cores = _take_times(measured, asked)
    _print(console, offers, measured, missing)
    if busy_cores > QUIET_CORES:
        warning = f"{busy_cores:.1f} cores were busy, {busy_cores - 1:.1f} with something else: measure again."
        console.print(warning, style="yellow")
    return {
        "offers": offers,
        "questions": count,
        "rounds": ROUNDS,
        "p50_us": {name: _microseconds(one, 50) for name, one in measured.items()},
        "p99_us": {name: _microseconds(one, 99) for name, one in measured.items()},
        "p50_ratio": {name: _ratio(measured, name, 50) for name in measured},
        "p99_ratio": {name: _ratio(measured, name, 99) for name in measured},
        "answers_differing_within_edge": {
            name: one.within_edge for name, one in measured.items() if one.within_edge is not None
        },
        "offers_per_answer": float(np.mean([len(one) for one in expected])),
        "versions": {name: one.version for name, one in measured.items() if one.version},
        "missing": missing,
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "busy_cores": busy_cores,
        },
    }


def _ours(snapshot: Path, asked: list[Question], stack: ExitStack) -> dict[str, Measured]:
    engine, pad = Engine(open_snapshot(snapshot)), Scratchpad()
    service = OfferService(Live([engine]), lambda: synthetic.NOW)
    worker = stack.enter_context(Target(snapshot, WORKER_CORE, len(service.get_offers(asked[0].request))))
    worker.connect()
    clocked = Clocked(engine, [question.query for question in asked])

    def decide(question: Question) -> object:
        return engine.decide(question.query, pad)

    return {
        KERNEL: Measured(decide, own_clock=clocked.seconds),
        DECISION: Measured(decide),
        SERVICE: Measured(lambda question: service.get_offers(question.request)),
        CALL: Measured(lambda question: worker.get_offers(question.request)),
        NOOP: Measured(lambda question: worker.noop(question.request)),
    }


def _answers(snapshot: Path, asked: list[Question]) -> list[Ranked]:
    """Measure the decision, and count the offers it chooses and those eligible."""
    engine, pad = Engine(open_snapshot(snapshot)), Scratchpad()
    service = OfferService(Live([engine]), lambda: synthetic.NOW)
    ranked = []
    for question in asked:
        response = GetOffersResponse.FromString(service.get_offers(question.request))
        decision = engine.decide(question.query, pad)
        assert (len(response.offers), response.eligible_count) == (decision.count, decision.eligible)
        ranked.append([(int(one.offer_id.removeprefix("offer-")), math.log(one.score)) for one in response.offers])
    return ranked


def _add_peers(measured: dict[str, Measured], offered: Offering, stack: ExitStack, console: Console) -> dict[str, str]:
    """Start the peers and load the catalogue into them. Returns the missing ones, with the way to install them."""
    missing = {}

    def add(name: str, start: Callable[[], dict[str, Asked]]) -> None:
        console.print(f"Loading {name}", style="dim")
        try:
            measured.update({way: Measured(*one, within_edge=0) for way, one in start().items()})
        except MissingError as error:
            missing[name] = str(error)

    enter = stack.enter_context
    add("shapely", lambda: {"shapely STRtree + numpy": enter(shapely_strtree(offered))})
    add("SQLite", lambda: {"SQLite R*Tree + numpy": enter(sqlite_rtree(offered))})
    add("Redis", lambda: {"Redis GEOSEARCH + numpy": enter(redis_geosearch(offered))})
    add("PostGIS", lambda: {f"PostGIS, {way}": one for way, one in enter(postgis(offered)).items()})
    return missing


def _check(name: str, one: Measured, offered: Offering, asked: list[Question], expected: list[Ranked]) -> int:
    """Count the answers of a peer that equal the decision's except for offers at an edge.

    Raises RuntimeError if an answer differs otherwise.
    """
    within = 0
    for question, ours in zip(asked, expected, strict=True):
        theirs: Any = one.ask(question)
        if not answers.same(ours, theirs):
            if not answers.same_but_for_edges(offered, question, ours, theirs):
                place = f"{question.latitude}, {question.longitude}"
                raise RuntimeError(f"{name} answers another question at {place}: {theirs}, in place of {ours}")
            within += 1
    return within


def _take_times(measured: dict[str, Measured], asked: list[Question]) -> float:
    """Ask all questions in every round. Returns the number of cores that were busy meanwhile."""
    for one in measured.values():  # warm
        for question in asked:
            one.ask(question)
    gc.collect()
    gc.freeze()  # so that no question pays for a collection of the loaded data
    begin, busy_before = time.perf_counter(), _busy_s()
    for _ in range(ROUNDS):
        for one in measured.values():
            if one.own_clock is not None:
                one.seconds.extend(one.own_clock())
                continue
            for question in asked:
                asked_at = time.perf_counter()
                one.ask(question)
                one.seconds.append(time.perf_counter() - asked_at)
    gc.unfreeze()
    return (_busy_s() - busy_before) / (time.perf_counter() - begin)


def _busy_s() -> float:
    """Return the busy seconds of all cores together."""
    user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:8]
    return sum(map(int, (user, nice, system, *interrupts))) / os.sysconf("SC_CLK_TCK")


def _microseconds(one: Measured, percentile: int) -> float:
    return float(np.percentile(one.seconds, percentile)) * 1e6


def _ratio(measured: dict[str, Measured], name: str, percentile: int) -> float:
    return _microseconds(measured[name], percentile) / _microseconds(measured[KERNEL], percentile)


def _print(console: Console, offers: int, measured: dict[str, Measured], missing: dict[str, str]) -> None:
    table = Table(title=f"The ten best offers here and now, of {offers:,}")
    table.add_column("asked")
    for name in ("p50 µs", "p99 µs", "p50 ratio", "p99 ratio"):
        table.add_column(name, justify="right")
    table.add_column("answers")
    table.add_column("version")
    for name, one in measured.items():
        table.add_row(
            name,
            f"{_microseconds(one, 50):,.1f}",
            f"{_microseconds(one, 99):,.1f}",
            f"{_ratio(measured, name, 50):,.1f}",
            f"{_ratio(measured, name, 99):,.1f}",
            _agreement(one),
            one.version,
            end_section=name == NOOP,
        )
    console.print(table)
    for name, remedy in missing.items():
        console.print(f"{name} is missing: {remedy}", style="yellow", markup=False)


def _agreement(one: Measured) -> str:
    if one.within_edge is None:
        return ""
    return "the same" if one.within_edge == 0 else f"the same but for {one.within_edge} at an edge"


def main() -> None:
    """Run the comparison, quick or in full as the environment says."""
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    offers = QUICK_OFFERS if quick else OFFERS
    snapshot = catalogues.compiled(offers, fresh=False).path
    result = run(offers, snapshot, QUESTIONS, console)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    console.print(f"Figures in {OUTPUT.parent.name}/{OUTPUT.name}")


if __name__ == "__main__":
    main()
