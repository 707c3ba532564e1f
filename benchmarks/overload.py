"""Measures a worker under more load than it can answer: `python -m benchmarks.overload`, a minute.

One worker is pinned to one core, and a client that calls at a given rate to another. First its peak is measured: calls
answered in a second, with some always under way. Then it is called at multiples of that. Calls that are not answered
within their deadline, counted from the instant they were due, count as nothing. On a busy machine the figures are low:
`core` is the part of its core that the worker had.
"""

import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from google.type.latlng_pb2 import LatLng
from rich.console import Console
from rich.table import Table

from benchmarks.load import CLIENT_CORE, WORKER_CORE, Target, on_core
from benchmarks.open_loop import LOST, Connection, Outcome, as_fast_as_answered, at_rate, message_of
from offers.catalogue.publish import publish
from offers.demo import catalogue as demo_catalogue
from offers.server.fronts.health import SERVICE as HEALTH_SERVICE
from offers.server.process.worker import SERVICE
from offers.v1.context_pb2 import Context, Location
from offers.v1.offer_service_pb2 import BatchGetOffersRequest, GetOffersRequest

CONNECTIONS, EACH = 8, 4
"""Connections of the client, and calls that are under way on each of them at the peak."""
FACTORS = (1.0, 2.0, 10.0)
DEADLINE_S, LONG_DEADLINE_S = 0.1, 10.0
BATCH = 100
AFTER = 0.5
"""Load after the last overload, of the peak: how soon are all calls answered again?"""
RESOURCE_EXHAUSTED, CANCELLED = 8, 1


@dataclass(frozen=True, slots=True)
class Row:
    """A load, and what came of it."""

    name: str
    outcome: Outcome
    health: Outcome
    core: float
    """CPU time of the worker in a second."""
    memory: int
    """Bytes that the worker has of its own, at the end."""


class Overload:
    """Loads of one method on one worker."""

    def __init__(self, target: Target, method: str, messages: Sequence[bytes], seconds: float) -> None:
        self._target, self._messages = target, itertools.cycle(messages)
        self._path = f"/{SERVICE}/{method}"
        self._peak(1.0)  # the first calls are slow
        self.peak = self._peak(max(seconds, 1.0))

    def _connections(self, deadline_s: float) -> list[Connection]:
        return [Connection(self._target.port, self._path, deadline_s, Outcome()) for _ in range(CONNECTIONS)]

    def _peak(self, seconds: float) -> float:
        connections = self._connections(LONG_DEADLINE_S)
        outcome = as_fast_as_answered(connections, self._messages, EACH, seconds)
        for one in connections:
            one.close()
        return outcome.answered_per_second

    def at(self, factor: float, seconds: float, deadline_s: float) -> Row:
        """Call at a multiple of the peak."""
        connections = self._connections(deadline_s)
        health = Connection(self._target.port, f"/{HEALTH_SERVICE}/Check", LONG_DEADLINE_S, Outcome(seconds))
        begin, begin_cpu = time.monotonic(), self._cpu_s()
        outcome = at_rate(connections, self._messages, factor * self.peak, seconds, health)
        core = (self._cpu_s() - begin_cpu) / (time.monotonic() - begin)
        for one in (*connections, health):
            one.close()
        outcome.last_failure -= begin
        name = f"{factor:g}x, {deadline_s:g} s"
        return Row(name, outcome, health.outcome, core, self._target.memory()[0])

    def _cpu_s(self) -> float:
        return time.clock_gettime(~self._target.pid << 3 | 2)


def run(seconds: float, console: Console) -> dict[str, dict[str, float]]:
    """Measure two methods, print tables, and return the goodput of each load by method, as parts of the peak."""
    requests = [
        GetOffersRequest(
            context=Context(location=Location(point=LatLng(latitude=48.83 + 0.0007 * n, longitude=2.29 + 0.001 * n)))
        )
        for n in range(BATCH)
    ]
    single = [message_of(request.SerializeToString()) for request in requests]
    batch = [message_of(BatchGetOffersRequest(requests=requests).SerializeToString())]
    found = {}
    with TemporaryDirectory(prefix="offers-overload-") as folder, on_core(CLIENT_CORE):
        snapshot = publish(demo_catalogue(), Path(folder)).path
        for title, method, messages in (
            ("GetOffers", "GetOffers", single),
            (f"BatchGetOffers of {BATCH}", "BatchGetOffers", batch),
        ):
            with Target(snapshot, WORKER_CORE, 1) as target:
                target.connect()
                before = target.memory()[0]
                load = Overload(target, method, messages, seconds)
                rows = [load.at(factor, seconds, DEADLINE_S) for factor in FACTORS]
                after = load.at(AFTER, seconds, DEADLINE_S)
                rows += [after, load.at(2.0, seconds, LONG_DEADLINE_S)]
                _print(console, title, load.peak, rows)
                console.print(
                    f"Memory at first {before / 1e6:.0f} MB. After the last overload of {DEADLINE_S:g} s deadlines, "
                    f"the last call that was not answered was due after {max(after.outcome.last_failure, 0):.2f} s."
                )
                found[title] = {row.name: row.outcome.answered_per_second / load.peak for row in rows}
    return found


def _print(console: Console, title: str, peak: float, rows: Sequence[Row]) -> None:
    table = Table(title=f"{title}: peak {peak:,.0f}/s")
    table.add_column("load, deadline")
    for name in ("called/s", "answered/s", "of peak", "told to retry", "cancelled", "late", "p99 ms"):
        table.add_column(name, justify="right")
    for name in ("health p99 ms", "health lost", "core", "MB"):
        table.add_column(name, justify="right")
    for row in rows:
        statuses, seconds = row.outcome.statuses, row.outcome.seconds
        known = (0, RESOURCE_EXHAUSTED, CANCELLED)
        table.add_row(
            row.name,
            f"{row.outcome.sent / seconds:,.0f}",
            f"{row.outcome.answered_per_second:,.0f}",
            f"{row.outcome.answered_per_second / peak:.2f}",
            f"{statuses.get(RESOURCE_EXHAUSTED, 0) / seconds:,.0f}",
            f"{statuses.get(CANCELLED, 0) / seconds:,.0f}",
            f"{sum(count for status, count in statuses.items() if status not in known) / seconds:,.0f}",
            _p99_ms(row.outcome),
            _p99_ms(row.health),
            str(row.health.statuses.get(LOST, 0) + row.health.statuses.get(CANCELLED, 0)),
            f"{row.core:.2f}",
            f"{row.memory / 1e6:.0f}",
        )
    console.print(table)


def _p99_ms(outcome: Outcome) -> str:
    return f"{np.percentile(outcome.latencies, 99) * 1000:.1f}" if outcome.latencies else ""


def main() -> None:
    """Measure as the environment says."""
    console = Console()
    run(
        1.0 if os.environ.get("QUICK", "") not in {"", "0"} else 4.0,
        console if console.is_terminal else Console(width=130),
    )


if __name__ == "__main__":
    main()
