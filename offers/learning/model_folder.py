"""Folders that keep several models of which the latest counts: finding it, and removing the others."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from offers.errors import ConflictError, SnapshotError
from offers.learning.model import Model, open_model

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait for the lock of a folder and hold it: `prune` would remove what another process is writing."""
    descriptor = os.open(folder.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def latest(folder: Path) -> Model | None:
    """Return the last good model of a folder, by `sequence` of its meta; None where there is none."""
    best: Model | None = None
    for path in folder.glob("[0-9a-f]*"):
        try:
            model = open_model(path)
        except SnapshotError as error:
            log.warning("model_unusable", error=str(error))
        else:
            best = max(best or model, model, key=lambda one: int(one.meta["sequence"]))
    return best


def prune(folder: Path, kept: set[str]) -> None:
    """Remove all models but those of the given names, and what a crash left of others."""
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def locked(path: Path) -> int:
    """Return a descriptor that holds a learner's lock until it is closed. Raises ConflictError where another has it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConflictError(f"another learner is at work in {path.parent}: stop it first") from None
    return descriptor
