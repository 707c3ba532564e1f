"""Copies a SQLite file that is in use, as it was at one moment."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from offers.errors import StoreUnavailableError
from offers.state.sqlite.file import translated

_PAGES_AT_ONCE = 256
_LONGEST_PAUSE_S = 0.05


def back_up(source: Path, target: Path) -> None:
    """Copy a database durably into a new file. Raises StoreUnavailableError.

    Nobody waits for it: readers and writers go on, and what they commit meanwhile stays in the write-ahead log. Between
    two steps the copy pauses for as long as a step takes, to leave the disk to others.
    """
    with translated(source):
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as read,
            closing(sqlite3.connect(target)) as written,
        ):
            read.execute("BEGIN")  # else each commit of a writer would have the copy begin again
            read.execute("SELECT one FROM store").fetchone()
            written.execute("PRAGMA journal_mode = OFF")
            begun = time.monotonic()

            def pause(_status: int, left: int, _total: int) -> None:
                nonlocal begun
                if left:
                    _pause(time.monotonic() - begun)
                begun = time.monotonic()

            read.backup(written, pages=_PAGES_AT_ONCE, progress=pause)
            read.execute("ROLLBACK")
            (found,) = written.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreUnavailableError(f"{source} is damaged: {found}")
        flush(target)


def _pause(seconds: float) -> None:
    time.sleep(min(seconds, _LONGEST_PAUSE_S))


def flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
