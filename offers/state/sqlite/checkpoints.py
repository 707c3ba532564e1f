"""Empties the write-ahead log of a database, so that erased data leaves the files."""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import structlog

_FIRST_S, _LONGEST_S = 0.01, 0.5
"""Seconds between attempts: the first pause, which doubles, and the longest."""
_APART_S = 1.0
"""Seconds from one emptying of the log to the next, so that many erasures share one."""
_GIVEN_UP_S = 2.0
"""Seconds after which `empty` gives up."""
_SAID_AFTER_S, _SAID_AGAIN_S = 10.0, 60.0
"""Seconds of waiting for readers after which the process log says so, and says so again."""
_REWRITE_WAIT_MS = 10_000

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Checkpointer:
    """Empties the log when asked, in a thread that lives for as long as there is something to do.

    The log can be emptied only while nobody reads from it, and SQLite waits for readers with the writers' lock held.
    Therefore an attempt never waits: it copies what it can while others write, and takes the writers' lock only for the
    few pages that are left, and not at all while an older reader is in the way.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection], turn: threading.RLock) -> None:
        """`connect` returns a connection that does not wait for locks; `turn` is the lock of this process's writers."""
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._connect, self._turn = connect, turn
        self._lock = threading.Lock()
        self._asked = 0
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.has_old_log = self._log_size() > 0
        """Whether there was a log before this process opened the database."""

    def ask(self) -> None:
        """Have the log emptied of all that is in it by now. Returns at once."""
        with self._lock:
            self._asked += 1
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="checkpointer", daemon=True)
                self._thread.start()

    def empty(self) -> None:
        """Empty the log now. Raises OSError if readers do not let it, and sqlite3.Error if the disk does not."""
        end, pause = time.monotonic() + _GIVEN_UP_S, _FIRST_S
        with closing(self._connect()) as connection:
            while not self._attempt(connection, is_last := time.monotonic() > end):
                if is_last:
                    message = "a flush failed, and the log cannot be emptied while a reader is open: try again"
                    raise OSError(message)
                time.sleep(pause)
                pause *= 2

    def close(self) -> None:
        """Stop; what is left to do is done when the file is opened again."""
        self._closing.set()
        if (thread := self._thread) is not None:
            thread.join()

    def _run(self) -> None:
        is_done = False
        while not is_done:
            asked, pause = self._asked, _APART_S
            try:
                with closing(self._connect()) as connection:
                    self._work(connection)
            except Exception as error:  # noqa: BLE001 - the thread must not end with work to do
                log.warning("erased_data_stays", file=self._path.name, error=str(error))
                asked, pause = -1, _SAID_AFTER_S
            with self._lock:
                is_done = asked == self._asked or self._closing.is_set()
                if is_done:
                    self._thread = None
            if not is_done:
                self._closing.wait(pause)

    def _work(self, connection: sqlite3.Connection) -> None:
        """Try until the log is empty or the database is closed."""
        self._rewrite(connection)
        begun, pause = time.monotonic(), _FIRST_S
        said = begun - _SAID_AGAIN_S + _SAID_AFTER_S
        while not self._attempt(connection) and not self._closing.wait(pause):
            pause = min(2 * pause, _LONGEST_S)
            if (now := time.monotonic()) - said > _SAID_AGAIN_S:
                said = now
                log.warning(
                    "erased_data_waits",
                    file=self._path.name,
                    seconds=round(now - begun),
                    log_bytes=self._log_size(),
                    reason="a reader of the file, such as a backup, has been open for all this time",
                )

    def _attempt(self, connection: sqlite3.Connection, is_strict: bool = False) -> bool:  # noqa: FBT001, FBT002 - private
        """Return whether the log could be emptied. Raises sqlite3.Error only if `is_strict`."""
        try:
            _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if copied < frames:  # an older reader
                return False
            with self._turn:
                (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError:
            if is_strict:
                raise
            return False
        return not busy

    def _rewrite(self, connection: sqlite3.Connection) -> None:
        """Write the whole file anew, if rows with personal data were moved. Writers wait for it."""
        if connection.execute("SELECT rewrite FROM store").fetchone() == (1,):
            with self._turn:
                connection.execute(f"PRAGMA busy_timeout = {_REWRITE_WAIT_MS}")
                connection.execute("VACUUM")
                connection.execute("UPDATE store SET rewrite = 0")
                connection.execute("PRAGMA busy_timeout = 0")

    def _log_size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0
