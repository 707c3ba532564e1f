"""Folders in which the latest of several models counts: which one that is, and removing the others."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from offers.errors import SnapshotError
from offers.learning.model import Model, open_model

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else is alone with a folder: `prune` would remove what others are writing."""
    descriptor = os.open(folder.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def latest(folder: Path) -> Model | None:
    """The last good model of a folder, by `sequence` of its meta; None: there is none."""
    found = []
    for path in folder.glob("[0-9a-f]*"):
        try:
            found.append(open_model(path))
        except SnapshotError as error:
            log.warning("model_unusable", error=str(error))
    return max(found, key=lambda one: int(one.meta["sequence"]), default=None)


def prune(folder: Path, kept: set[str]) -> None:
    """Remove models but some, and what a crash left of others."""
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
