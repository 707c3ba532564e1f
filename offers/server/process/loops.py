"""Brings the compiled loops into the cache before a worker serves, so that no request waits for a compilation."""

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from offers.catalogue.snapshot import Snapshot
from offers.compiled.cache import FOLDERS, LoopCache
from offers.compiled.shares import compiling
from offers.server.process.worker import warm

MOST_COMPILERS = 8
"""A container may see more cores than it has; each process takes some 300 MB, and more of them gain little."""


class Prepared(NamedTuple):
    """An account of the loops that a server needs."""

    folder: str
    """The folder that newly compiled loops are written to."""
    compiled: int
    """Loops that were compiled now."""
    read: int
    """Loops that a cache had already."""
    seconds: float


def prepare_loops(publish: Callable[[], Snapshot]) -> Prepared:
    """Compile the loops that the caches lack, on all cores, while `publish` makes a snapshot; then try them on it."""
    begun = time.monotonic()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with compiling(min(cores, MOST_COMPILERS)) if _is_writable(FOLDERS[0]) else nullcontext(0) as shared:
        snapshot = publish()
    warm(snapshot)
    compiled, read = shared + LoopCache.written, LoopCache.read - shared
    return Prepared(str(FOLDERS[0]), compiled, read, round(time.monotonic() - begun, 1))


def _is_writable(folder: Path) -> bool:
    """Return whether loops can be written to a folder; an image may have a complete one that is read-only."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
