"""Brings committed transactions to the disk, one flush for all that wait for it.

In WAL mode with `synchronous = NORMAL`, SQLite flushes at checkpoints alone: a commit survives the end of the process,
but not a power cut. With FULL it flushes inside each commit, one after the other, while all writers wait. Here writers
commit as with NORMAL and then wait for a flush of the log that began after their commit, outside SQLite's lock.
"""

import os
import threading
from pathlib import Path


class Flusher:
    """Flushes the write-ahead log of a database."""

    def __init__(self, path: Path) -> None:
        self._log = path.with_name(f"{path.name}-wal")
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
            if self._failed != failed:  # the system reports a failure once, and drops what it could not write
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
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _flush(self) -> None:
        # SQLite makes the log anew after the last connection of all processes was closed. Closing a descriptor of it
        # releases no lock: SQLite locks the database and the shared memory only.
        if self._file < 0 or not os.path.samestat(os.fstat(self._file), self._log.stat()):
            self.close()
            self._file = os.open(self._log, os.O_RDWR)
            _flush_folder(self._log.parent)
        os.fdatasync(self._file)


def _flush_folder(folder: Path) -> None:
    """Bring the names of new files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
