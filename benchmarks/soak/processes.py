"""What the processes of a server use, sampled from /proc, and whether it grows."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

GROWTH = 0.02
"""Greatest share by which the memory of a process may grow once it has warmed up."""
DESCRIPTORS = 8
"""Most descriptors by which a process may have more: clients connect to either worker, and spare threads open files."""
ROLES = ("worker", "learner", "publish")
_WINDOWS = 5
"""The first and the last of so many parts of the time after the warm-up are compared, by their medians."""


class Usage(NamedTuple):
    """What a process uses at a moment."""

    at_s: float
    """Seconds since the start of the soak."""
    own: int
    """Bytes of anonymous memory: what the process itself has allocated."""
    mapped: int
    """Bytes of files in memory: state.db, snapshots, models and libraries. The kernel takes them back when it needs to,
    and they grow with the files."""
    descriptors: int
    threads: int


class Growth(NamedTuple):
    """A process's usage at the beginning and at the end of the time after the warm-up, as medians."""

    first: Usage
    last: Usage
    peak: int
    """Greatest anonymous memory, in bytes."""

    @property
    def of_memory(self) -> float:
        """The share by which the anonymous memory grew."""
        return self.last.own / self.first.own - 1

    @property
    def of_descriptors(self) -> int:
        """The number of descriptors that were added."""
        return self.last.descriptors - self.first.descriptors

    @property
    def is_flat(self) -> bool:
        """Whether neither memory nor descriptors grew beyond their limits."""
        return self.of_memory <= GROWTH and self.of_descriptors <= DESCRIPTORS


@dataclass(slots=True)
class Sampler:
    """Samples the processes of one server: the supervisor and its children."""

    supervisor: int
    usages: dict[str, list[Usage]] = field(default_factory=dict)
    """By name of a long-lived process, such as "worker 1", its samples."""
    compilations: int = 0
    """Samples in which a compiler ran."""
    largest_compiler: int = 0
    """Greatest anonymous memory of a compiler, in bytes."""
    _names: dict[int, str] = field(default_factory=dict)

    def sample(self, at_s: float) -> None:
        """Add a sample of each process."""
        for pid in (self.supervisor, *_children(self.supervisor)):
            name = self._names.get(pid) or self._name(pid)
            usage = usage_of(pid, at_s)
            if usage is None or not name:
                continue
            if name == "publish":
                self.compilations += 1
                self.largest_compiler = max(self.largest_compiler, usage.own)
            else:
                self._names[pid] = name
                self.usages.setdefault(name, []).append(usage)

    def is_at_work(self) -> bool:
        """Return whether workers and a learner were sampled."""
        return {"worker", "learner"} <= {name.partition(" ")[0] for name in self.usages}

    def pids(self) -> dict[str, int]:
        """Return the process ids, by name."""
        return {name: pid for pid, name in self._names.items()}

    def _name(self, pid: int) -> str:
        if pid == self.supervisor:
            return "supervisor"
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return ""
        role = next((one for one in ROLES if one.encode() in words), "")
        if role != "worker":
            return role if role not in self._names.values() else f"{role} {pid}"
        return f"worker {1 + sum(name.startswith('worker') for name in self._names.values())}"


def growth(usages: Sequence[Usage], warm_s: float) -> Growth | None:
    """Return how usage grew after a warm-up of some seconds; None where there are too few samples to tell."""
    warm = [one for one in usages if one.at_s >= warm_s]
    if len(warm) < 2:
        return None
    span = (warm[-1].at_s - warm[0].at_s) / _WINDOWS
    first = [one for one in warm if one.at_s <= warm[0].at_s + span]
    last = [one for one in warm if one.at_s >= warm[-1].at_s - span]
    return Growth(_median(first), _median(last), max(one.own for one in usages))


def _median(usages: Sequence[Usage]) -> Usage:
    return Usage._make(
        int(statistics.median(column)) if number else statistics.median(column)
        for number, column in enumerate(zip(*usages, strict=True))
    )


def usage_of(pid: int, at_s: float) -> Usage | None:
    """Return what a process uses; None once it has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        lines = (folder / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        descriptors, threads = (sum(1 for _ in (folder / name).iterdir()) for name in ("fd", "task"))
    except (OSError, IndexError):
        return None
    if "Rss" not in sizes:
        return None
    return Usage(at_s, sizes["Anonymous"], sizes["Rss"] - sizes["Anonymous"], descriptors, threads)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text(encoding="ascii").split())
        except OSError:
            continue
    return found
