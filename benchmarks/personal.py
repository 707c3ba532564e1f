"""Measures decisions about persons with their state, and the intake of events: `python -m benchmarks.personal`."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import cycle
from typing import TypeVar

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rich.console import Console
from rich.table import Table

from benchmarks import catalogues, persons
from benchmarks.load import CLIENT_CORE, WORKER_CORE, Slice, Target, on_core
from benchmarks.peers.ranking import MissingError
from benchmarks.peers.servers import HOST, START_S, redis
from offers.server.process.worker import warm_engine

ROUNDS, SLICE_CALLS, REPORTS, WARM_CALLS, REQUESTS = 15, 400, 20, 4_096, 4_096
_NOOP_BYTES = 3_000

Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True)
class Personal:
    """The figures for one catalogue: medians over the rounds."""

    noop_us: float
    """CPU of the worker per call."""
    decision_us: float
    cpu_ratio: float
    """CPU of GetOffers divided by that of the no-op next to it."""
    p99_ratio: float
    event_us: float
    """CPU of the worker per event, in reports of 100."""
    events_per_second: float
    """Latency seen by the client."""


def run(offers: int, *, rounds: int = ROUNDS, url: str = "", learned: bool = False) -> Personal:
    """Measure the catalogue of so many offers, with state in SQLite, or in the Redis at a URL, which is filled.

    `learned`: with a model of what persons did on these offers, and exploration.
    """
    made = catalogues.compiled_for_some(offers, learned=learned)
    engine = warm_engine(made.path)
    offer_ids = [engine.directory.offer_id(number) for number in range(0, offers, max(1, offers // 5_000))]
    with tempfile.TemporaryDirectory(prefix="offers-benchmark-") as folder, ExitStack() as stack:
        persons.fill(url or folder, engine, offer_ids)
        if learned:
            persons.teach(folder, made.path, offers)
        target = stack.enter_context(Target(made.path, WORKER_CORE, _NOOP_BYTES, url or folder))
        stack.enter_context(on_core(CLIENT_CORE))
        target.connect()
        requests, reports = cycle(persons.requests(offers, REQUESTS)), persons.reports(offer_ids)
        for call in (target.noop, target.get_offers):
            target.slice(call, requests, WARM_CALLS)
        noops: list[Slice] = []
        decisions: list[Slice] = []
        events: list[Slice] = []
        for number in range(rounds):
            pair = [(target.noop, noops), (target.get_offers, decisions)]
            for call, slices in pair if number % 2 else reversed(pair):
                slices.append(target.slice(call, requests, SLICE_CALLS))
            events.append(target.slice(target.report_events, reports, REPORTS))
    pairs = list(zip(decisions, noops, strict=True))
    return Personal(
        statistics.median(one.cpu_us for one in noops),
        statistics.median(one.cpu_us for one in decisions),
        statistics.median(one.cpu_us / noop.cpu_us for one, noop in pairs),
        statistics.median(one.p99_us / noop.p99_us for one, noop in pairs),
        statistics.median(one.cpu_us for one in events) / persons.EVENTS,
        statistics.median(one.per_second for one in events) * persons.EVENTS,
    )


def by_store(offers: int, rounds: int) -> dict[str, Personal]:
    """Measure with each available store of persons: SQLite, and Redis if it is installed."""
    return with_each_store(lambda url, learned: run(offers, rounds=rounds, url=url, learned=learned))


def with_each_store(measure: Callable[[str, bool], Measured]) -> dict[str, Measured]:
    """Call `measure` for SQLite, with and without a model, and for a Redis at a URL if it is installed."""
    measured = {"SQLite": measure("", False), "SQLite, with a model and exploration": measure("", True)}  # noqa: FBT003
    with suppress(MissingError), redis(CLIENT_CORE) as server:
        url = f"redis://:{server.password}@{HOST}:{server.port}/0"
        _wait_for(url)
        measured["Redis"] = measure(url, False)  # noqa: FBT003
    return measured


def _wait_for(url: str) -> None:
    """Wait until a Redis that was just started answers. Raises ConnectionError if it does not."""
    end = time.monotonic() + START_S
    with Redis.from_url(url) as client:
        while time.monotonic() < end:
            with suppress(RedisConnectionError):
                client.ping()
                return
            time.sleep(0.05)
    message = "Redis did not come up"
    raise ConnectionError(message)


def print_figures(console: Console, figures: dict[str, Personal]) -> None:
    """Print a table with a row for each store."""
    table = Table(title=f"Persons: {persons.COUNTERS} counters and more, {persons.SEGMENTS} segments, one experiment")
    table.add_column("state in")
    for name in ("no-op µs", "GetOffers µs", "CPU ratio", "p99 ratio", "µs/event", "events/s"):
        table.add_column(name, justify="right")
    for name, one in figures.items():
        table.add_row(
            name,
            f"{one.noop_us:.0f}",
            f"{one.decision_us:.0f}",
            f"{one.cpu_ratio:.2f}",
            f"{one.p99_ratio:.2f}",
            f"{one.event_us:.0f}",
            f"{one.events_per_second:,.0f}",
        )
    console.print(table)


if __name__ == "__main__":
    print_figures(Console(width=120), by_store(int(sys.argv[1]) if sys.argv[1:] else 10_000, ROUNDS))
