"""Brings committed transactions to the disk, one flush for all that wait for it.

In WAL mode with `synchronous = NORMAL`, SQLite flushes at checkpoints alone: a commit survives the end of the process,
but not a power cut. With FULL it flushes inside each commit, one after the other, while all writers wait. Here writers
commit as with NORMAL and then wait for a flush of the log that began after their commit, outside SQLite's lock.

A flush that fails is not tried again. The system reports a failure once and then takes the pages that it could not
write for clean, so that the next flush succeeds without them (https://lwn.net/Articles/752063/). The log behind
such a hole is lost with it. So nothing is acknowledged until a checkpoint has emptied the log: it writes the committed
pages anew, into the database, and flushes that (https://www.sqlite.org/wal.html#ckpt). Were SQLite to fail at this, it
would copy and flush the same pages again. A mark beside the log tells processes that did not see the failure.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Flusher:
    """Flushes the write-ahead log of a database."""

    def __init__(self, path: Path, empty_log: Callable[[], None]) -> None:
        """`empty_log` brings the log into the database; it raises OSError where it cannot."""
        self._log = path.with_name(f"{path.name}-wal")
        self._mark = path.with_name(f"{path.name}-unflushed")
        self._empty_log = empty_log
        self._has_hole = False
        self._file = -1
        self._turn = threading.Condition()
        self._begun = 0
        self._done = 0
        self._failed = 0
        self._is_flushing = False

    def wait(self) -> None:
        """Return once all that this process has committed is on the disk. Raises OSError if that fails."""
        with self._turn:
            wanted, failed = self._begun + 1, self._failed  # a flush under way may have begun before the commit
            while self._is_flushing and self._done < wanted:
                self._turn.wait()
            if self._failed != failed:
                message = "the last flush failed"
                raise OSError(message)
            if self._done >= wanted:
                return
            self._is_flushing, self._begun = True, self._begun + 1
        is_done = False
        try:
            self._flush()
            is_done = True
        finally:
            with self._turn:
                self._is_flushing = False
                if is_done:
                    self._done = self._begun
                else:
                    self._failed += 1
                self._turn.notify_all()

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._close()

    def _flush(self) -> None:
        if not self._has_hole:
            try:
                self._flush_log()
            except OSError:
                self._has_hole = True
                self._close()
                with suppress(OSError):
                    self._mark.touch()
                raise
        if self._has_hole or self._mark.exists():
            self._has_hole = True
            self._empty_log()
            self._mark.unlink(missing_ok=True)
            self._has_hole = False

    def _flush_log(self) -> None:
        # SQLite makes the log anew after the last connection of all processes was closed. Closing a descriptor of it
        # releases no lock: SQLite locks the database and the shared memory only.
        if self._file < 0 or not os.path.samestat(os.fstat(self._file), self._log.stat()):
            self._close()
            self._file = os.open(self._log, os.O_RDWR)
            _flush_folder(self._log.parent)
        os.fdatasync(self._file)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _flush_folder(folder: Path) -> None:
    """Bring the names of new files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
