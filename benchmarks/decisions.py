"""Benchmark of decisions without a server: their own time, and how far and how long their answers hold.

`python -m benchmarks.decisions 1000000 10000000` measures catalogues of these numbers of offers, a dense one, one of
50,000 areas, and the demo. A catalogue that no earlier run has compiled is compiled first: ten million offers take ten
to thirty minutes, 14 GB of memory and 8 GB of disk.
"""

import ctypes
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from google.type.latlng_pb2 import LatLng
from numba import njit
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Printed

from benchmarks import catalogues, synthetic
from offers.catalogue.check import check
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.decision.kernels.decide import begin
from offers.decision.kernels.memory import frame
from offers.decision.kernels.memory.scratch import Scratchpad
from offers.demo import catalogue as demo_catalogue
from offers.model.query import Query
from offers.server.convert import query_of
from offers.v1.context_pb2 import Context, Location
from offers.v1.offer_service_pb2 import GetOffersRequest

QUERIES = 2_048
PASSES = 9
AREAS = 50_000
DENSE = 1_000_000, 20
"""Offers and cities. As many offers are within reach there as with ten million in all cities."""
_CLOCK = ctypes.CDLL(None).clock_gettime
_CLOCK.argtypes = (ctypes.c_int, ctypes.c_void_p)
_MONOTONIC = time.CLOCK_MONOTONIC
_GIGA = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of decisions over one catalogue, each for another request."""

    p50_us: float
    """Time of the compiled decision, from numbers to chosen offers: the median over passes of each pass's median."""
    p99_us: float
    eligible: float
    """Offers that qualify, in the median."""
    holds_m: float
    """Median of `refresh_distance_m`."""
    holds_s: float
    """Median of the seconds until `refresh_after`."""


@njit
def _take_times(
    frames: NDArray[np.int64], locations: NDArray[np.float64], clock: NDArray[np.int64], address: int,
    taken: NDArray[np.int64],
) -> None:  # fmt: skip
    """Write the nanoseconds of each decision. Rows: a Frame; a Location."""
    for row in range(len(taken)):
        columns, meeting, hours, budgets, standing, scratch, terms, strategy, now, seed, seeded = frames[row]
        latitude, longitude, sigma, growth = locations[row]
        _CLOCK(_MONOTONIC, address)
        before = clock[0] * _GIGA + clock[1]
        begin(
            frame.Frame(columns, meeting, hours, budgets, standing, scratch, terms, strategy, now, seed, seeded),
            frame.Location(latitude, longitude, sigma, growth),
        )
        _CLOCK(_MONOTONIC, address)
        taken[row] = clock[0] * _GIGA + clock[1] - before


class Clocked:
    """Decisions of queries for the same instant, timed one by one without Python around them."""

    def __init__(self, engine: Engine, queries: list[Query]) -> None:
        pad = Scratchpad()
        self.decisions = [engine.decide(query, pad) for query in queries]
        """Making them leaves the pad with room for all, and no schedule to be looked up."""
        records = [(engine.hours(query).record, engine.standing(query).record) for query in queries]
        self._alive = engine, pad, records
        self._frames = np.array(
            [
                engine.frame(query, pad)._replace(hours=hours.table, standing=standing.table)
                for query, (hours, standing) in zip(queries, records, strict=True)
            ]
        )
        self._locations = np.array([[one.latitude, one.longitude, one.sigma_m, one.growth_mps] for one in queries])
        self.seconds()  # compiles

    def seconds(self) -> list[float]:
        """Make all decisions once more. Returns the time of each."""
        clock, taken = np.zeros(2, np.int64), np.zeros(len(self._frames), np.int64)
        _take_times(self._frames, self._locations, clock, clock.ctypes.data, taken)
        return [nanoseconds / _GIGA for nanoseconds in taken.tolist()]


def measure(snapshot: Path, queries: list[Query]) -> Figures:
    """Measure the decisions of queries that ask for the same instant."""
    clocked = Clocked(Engine(open_snapshot(snapshot)), queries)
    p50, p99 = np.median([np.percentile(clocked.seconds(), [50, 99]) for _ in range(PASSES)], axis=0) * 1e6
    return Figures(
        float(p50),
        float(p99),
        float(np.median([one.eligible for one in clocked.decisions])),
        float(np.median([one.refresh_distance_m for one in clocked.decisions])),
        float(np.median([one.refresh_after - queries[0].time for one in clocked.decisions])),
    )


def of_synthetic(offers: int, snapshot: Path, cities: int = synthetic.CITIES) -> Figures:
    """Measure the synthetic catalogue of a number of offers and cities, with requests drawn like its offers."""
    requests = map(GetOffersRequest.FromString, synthetic.requests(offers, QUERIES, cities))
    return measure(snapshot, [query_of(request, synthetic.NOW) for request in requests])


def of_areas(offers: int, snapshot: Path, accuracy_m: float) -> Figures:
    """Measure the catalogue of a number of offers in areas, with locations known to `accuracy_m` metres."""
    queries = []
    for encoded in synthetic.requests(offers * synthetic.OFFERS_PER_VENUE, QUERIES):
        request = GetOffersRequest.FromString(encoded)
        request.context.location.accuracy_m = accuracy_m
        queries.append(query_of(request, synthetic.NOW))
    return measure(snapshot, queries)


def of_demo() -> Figures:
    """Measure the demo catalogue, with locations known to 15 m and up to 300 m either way from its venues."""
    random = np.random.default_rng(1)
    with TemporaryDirectory() as folder:
        snapshot = publish(demo_catalogue(), Path(folder)).path
        points = [venue.point for venue in check(demo_catalogue()).venues.values()]
        queries = []
        for number, (north, east) in enumerate(random.uniform(-0.0027, 0.0027, size=(QUERIES, 2)).tolist()):
            near = points[number % len(points)]
            point = LatLng(latitude=near.latitude + north, longitude=near.longitude + east)
            context = Context(location=Location(point=point, accuracy_m=15.0))
            queries.append(query_of(GetOffersRequest(context=context, max_offers=10), synthetic.NOW))
        return measure(snapshot, queries)


def print_figures(console: Console, figures: dict[str, Figures]) -> None:
    """Print a row for each catalogue."""
    table = Printed(title="Decisions (their own time; medians of how far and how long answers hold)")
    for name in ("offers", "p50 µs", "p99 µs", "eligible", "holds for m", "holds for s"):
        table.add_column(name, justify="right")
    for name, one in figures.items():
        row = (
            f"{one.p50_us:.1f}",
            f"{one.p99_us:.1f}",
            f"{one.eligible:.0f}",
            f"{one.holds_m:.1f}",
            f"{one.holds_s:,.0f}",
        )
        table.add_row(name, *row)
    console.print(table)


def _main(sizes: list[int]) -> None:
    figures = {"the demo's": of_demo()}
    for size in sizes:
        figures[f"{size:,}"] = of_synthetic(size, catalogues.compiled(size, fresh=False).path)
    offers, cities = DENSE
    dense = of_synthetic(offers, catalogues.compiled_dense(offers, cities).path, cities)
    figures[f"{offers:,} in {cities} cities"] = dense
    areas = catalogues.compiled_areas(AREAS).path
    for accuracy_m in (0.0, 15.0, 200.0):
        figures[f"{AREAS:,} areas, known to {accuracy_m:.0f} m"] = of_areas(AREAS, areas, accuracy_m)
    print_figures(Console(), figures)


if __name__ == "__main__":
    _main([int(argument) for argument in sys.argv[1:]])
