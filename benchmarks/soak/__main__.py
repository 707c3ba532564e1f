"""Uses a server for a long time, and shows whether the memory or descriptors of its processes grow.

`python -m benchmarks.soak`: MINUTES=30, RATE=150 visits a second, KEEP=folder to keep the server's files and go on from
them the next time, in the environment. The server has two workers and a learner. Its log begins with as many decisions
as the learner holds, which are learned before the soak begins. Persons come, react and are erased, connections are made
anew, catalogues and models change.

Exit status 1: after the warm-up a process grew, or was replaced, or calls failed.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.soak import world
from benchmarks.soak.processes import DESCRIPTORS, GROWTH, Sampler, growth
from benchmarks.soak.visits import Editor, Visitors
from offers.learning.learner import FOLDER, current_model
from offers.learning.settling import MOST_HELD

SAMPLE_S = 10.0
WARM_S = 300.0
"""Seconds in which processes may grow; at most a third of a soak."""
WORKERS = 2
FAILED = 0.001
"""Greatest share of calls that may fail."""
_WIDTH = 120
_START_S, _LEARN_S = 600.0, 1_800.0


class Plan(NamedTuple):
    """A soak to be made."""

    minutes: float
    rate: float
    """Visits a second."""
    folder: Path
    history: int = MOST_HELD
    """Decisions in the log before the start."""

    @property
    def warm_s(self) -> float:
        """Seconds of the warm-up."""
        return min(WARM_S, self.minutes * 20)


class Server:
    """A server that was started, and its log."""

    def __init__(self, folder: Path, catalogue: Path) -> None:
        self._log, self._models = folder / "server.log", folder / "data" / FOLDER
        command = [
            sys.executable, "-m", "offers", "serve", "--catalog", str(catalogue), "--data-dir", str(folder / "data"),
            "--port", "0", "--workers", str(WORKERS), "--drain-s", "0", "--metrics-port", "0",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)

    def lines(self, event: str) -> list[dict[str, object]]:
        """Return the lines of the log about an event."""
        text = self._log.read_bytes()
        lines = [orjson.loads(line) for line in text.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
        return [line for line in lines if line["event"] == event]

    def has_traceback(self) -> bool:
        """Return whether a process has failed where it should not."""
        return b"Traceback" in self._log.read_bytes()

    def wait_until_ready(self) -> str:
        """Return the address, once all workers serve. Raises RuntimeError if they do not."""
        deadline = time.monotonic() + _START_S
        while len(self.lines("worker_serving")) < WORKERS or not self.lines("learner_working"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                message = f"the server did not start:\n{self._log.read_text(encoding='utf-8')[-2000:]}"
                raise RuntimeError(message)
            time.sleep(0.2)
        return f"127.0.0.1:{self.lines('server_starting')[0]['port']}"

    def wait_until_learned(self, decisions: int) -> None:
        """Wait until the published model has learned so many decisions. Raises RuntimeError if it takes too long."""
        deadline = time.monotonic() + _LEARN_S
        while not (model := current_model(self._models)) or model.meta["position"]["decision"] < decisions:
            if self.process.poll() is not None or time.monotonic() > deadline:
                message = "the log was not learned"
                raise RuntimeError(message)
            time.sleep(1)


@contextlib.contextmanager
def _serving(folder: Path, catalogue: Path) -> Iterator[Server]:
    server = Server(folder, catalogue)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(60)


def run(plan: Plan, console: Console) -> bool:
    """Make a soak, print what was seen, and return whether all is well."""
    catalogue = world.write_catalogue(plan.folder)
    if not (plan.folder / "data").exists():
        console.print(f"Writing a log of {plan.history:,} decisions", style="dim")
        world.write_history(plan.folder / "data", plan.history)
    with _serving(plan.folder, catalogue) as server:
        target = server.wait_until_ready()
        console.print("Waiting until they are learned", style="dim")
        server.wait_until_learned(plan.history)
        sampler = Sampler(server.process.pid)
        visitors, editor = Visitors(target, plan.rate), Editor(catalogue)
        console.print(f"{plan.rate:g} visits a second to {target} for {plan.minutes:g} minutes", style="dim")
        try:
            _sample(plan, sampler, server, console)
        finally:
            editor.stop()
            visitors.stop()
        faults = [*_print_processes(console, plan, sampler), *_print_work(console, plan, server, visitors, editor)]
    for fault in faults:
        console.print(f"not well: {fault}", style="bold")
    return not faults


def _sample(plan: Plan, sampler: Sampler, server: Server, console: Console) -> None:
    begin, told = time.monotonic(), 0.0
    while (at := time.monotonic() - begin) < plan.minutes * 60 and server.process.poll() is None:
        sampler.sample(at)
        if at - told >= 60:
            told = at
            own = ", ".join(f"{name} {one[-1].own / 1e6:.1f}" for name, one in sampler.usages.items())
            console.print(f"minute {at / 60:.0f}: MB of {own}", style="dim")
        time.sleep(min(SAMPLE_S, max(0.1, plan.minutes * 60 / 30)))


def _print_processes(console: Console, plan: Plan, sampler: Sampler) -> list[str]:
    table = Table(title=f"Processes, from minute {plan.warm_s / 60:g} to {plan.minutes:g} (medians of a fifth of it)")
    table.add_column("process")
    for name in ("own MB", "at the end", "growth", "peak", "file MB", "descriptors", "threads"):
        table.add_column(name, justify="right")
    faults = []
    for name, usages in sampler.usages.items():
        found = growth(usages, plan.warm_s)
        if found is None or usages[-1].at_s < plan.minutes * 60 - 3 * SAMPLE_S:
            faults.append(f"the {name} did not last")
            continue
        first, last = found.first, found.last
        table.add_row(
            name,
            f"{first.own / 1e6:.1f}",
            f"{last.own / 1e6:.1f}",
            f"{found.of_memory:+.1%}",
            f"{found.peak / 1e6:.1f}",
            f"{first.mapped / 1e6:.0f} → {last.mapped / 1e6:.0f}",
            f"{first.descriptors} → {last.descriptors}",
            f"{first.threads} → {last.threads}",
        )
        if found.of_memory > GROWTH:
            faults.append(f"the memory of the {name} grew by {found.of_memory:.1%}; at most {GROWTH:.0%} is flat")
        if found.of_descriptors > DESCRIPTORS:
            faults.append(f"the {name} has {found.of_descriptors} descriptors more; at most {DESCRIPTORS} are chance")
    console.print(table)
    return faults


def _print_work(console: Console, plan: Plan, server: Server, visitors: Visitors, editor: Editor) -> list[str]:
    answered, failed = visitors.calls.total(), visitors.errors.total()
    size = sum(path.stat().st_size for path in (plan.folder / "data").glob("state.db*"))
    console.print(
        f"{answered:,} calls, {failed:,} failed; latest visit {visitors.late_s:.1f} s late; {editor.edits} edits,"
        f" {len(server.lines('snapshots_served'))} swaps of snapshots, {len(server.lines('model_used'))} of models;"
        f" state.db {size / 1e6:,.0f} MB"
    )
    console.print(", ".join(f"{name} {count:,}" for name, count in visitors.calls.most_common()))
    for name, count in visitors.errors.most_common(5):
        console.print(f"{count:,} x {name}")
    faults = [f"{event}: {len(found)}" for event in ("worker_died", "learner_died") if (found := server.lines(event))]
    if server.has_traceback():
        faults.append("the server's log has a traceback")
    if failed > FAILED * answered:
        faults.append(f"{failed:,} calls failed")
    return faults


def main() -> int:
    """Make the soak that the environment asks for, and return the exit status."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    minutes, rate = float(os.environ.get("MINUTES") or 30), float(os.environ.get("RATE") or 150)
    with contextlib.ExitStack() as stack:
        kept = os.environ.get("KEEP", "")
        folder = Path(kept or stack.enter_context(tempfile.TemporaryDirectory(prefix="offers-soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        return 0 if run(Plan(minutes, rate, folder), console) else 1


if __name__ == "__main__":
    sys.exit(main())
