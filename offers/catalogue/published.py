"""Changes of documents and use of snapshots on disk, without the imports that compiling a document needs."""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from offers.catalogue.document import files

KEPT_S = 7 * 86_400
"""Seconds for which an unused snapshot is kept: long enough to go back to yesterday's document at once."""


def prune(data_dir: Path, keep: Iterable[Path]) -> None:
    """Remove snapshots that nobody has published or kept for KEPT_S, and unfinished drafts.

    `keep` are the snapshots being served. They are kept, and marked as in use for other servers with the same folder.
    Ages are by the clock of the file system, which may be another than this machine's.
    """
    now = 0.0
    for path in keep:
        with contextlib.suppress(OSError):
            os.utime(path)
            now = max(now, path.stat().st_mtime)
    now = now or time.time()
    for path in (data_dir / "snapshots").glob("*"):
        with contextlib.suppress(OSError):
            if path.is_dir() and now - path.stat().st_mtime > KEPT_S:
                shutil.rmtree(path, ignore_errors=True)


def stamp_of_files(folder: Path) -> str:
    """Return a hash of the names, times, sizes and inodes of a snapshot's files; "" if there are none.

    Files that change without a change of these, on a disk with a fault, are noticed by their checksums only.
    """
    try:
        with os.scandir(folder) as files_in_it:
            found = [(one.name, one.stat(follow_symlinks=False)) for one in files_in_it]
    except OSError:
        return ""
    stamps = sorted((name, one.st_mtime_ns, one.st_size, one.st_ino) for name, one in found)
    return hashlib.sha256(repr(stamps).encode()).hexdigest()


def stamp(source: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return the names, times, sizes and inodes of a document's files, which change when it is edited."""
    found = []
    for path in files(source, []):
        try:
            status = path.stat()
        except OSError:
            continue  # deleted meanwhile: its absence shows the change
        found.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
