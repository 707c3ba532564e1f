"""Notices that an open database is removed or replaced, and that it is back.

A removed file can be read and written as long as it is open. All that is written then is lost when it is closed.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from offers.errors import StoreUnavailableError, UnusableStoreError

LOOK_S = 0.5
"""Seconds between looks whether the file is still at its path, and between attempts to open it."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Watch:
    """The files of a database: the file and its write-ahead log, as they were opened.

    `reopen` opens the file that is at the path; it raises StoreUnavailableError.
    """

    def __init__(self, path: Path, reopen: Callable[[], None]) -> None:
        self._path, self._log, self._reopen = path, path.with_name(f"{path.name}-wal"), reopen
        self._opened: tuple[os.stat_result, os.stat_result] | None = None
        self._fault: StoreUnavailableError | None = None
        self._next = 0.0
        self._turn = threading.Lock()

    def opened(self) -> None:
        """Take the files at the path for those that are open. Raises OSError."""
        self._opened = self._path.stat(), self._log.stat()
        self._next = time.monotonic() + LOOK_S

    def lose(self, fault: StoreUnavailableError) -> None:
        """Refuse all calls until a look finds the file."""
        if str(fault) != str(self._fault or ""):
            log.error("store_lost", store=str(self._path), reason=str(fault))
        self._fault = fault

    def check(self) -> None:
        """Look at the files now and then. Raises StoreUnavailableError while they are not those that are open."""
        if self._fault is None and time.monotonic() < self._next:
            return
        if self._turn.acquire(blocking=False):  # one thread looks, which may take a while
            try:
                if time.monotonic() >= self._next:
                    self._next = time.monotonic() + LOOK_S
                    self._look()
            finally:
                self._turn.release()
        if (fault := self._fault) is not None:
            raise type(fault)(str(fault))

    def check_now(self) -> None:
        """Look at the files. Raises StoreUnavailableError while they are not those that are open."""
        if reason := self._difference():
            self.lose(UnusableStoreError(reason))
            raise UnusableStoreError(reason)

    def _look(self) -> None:
        try:
            if self._opened is None or self._is_replaced():
                self._reopen()
            elif reason := self._difference():
                raise UnusableStoreError(reason)
        except StoreUnavailableError as error:
            self.lose(error)
            return
        if self._fault is not None:
            self._fault = None
            log.info("store_is_back", store=str(self._path))

    def _difference(self) -> str:
        """Return how the files at the path differ from those that are open; "" if they do not."""
        assert self._opened is not None  # noqa: S101 - for the type checker
        file, log_file = self._opened
        if not _is_at(self._path, file):
            return f"{self._path} was {'replaced' if self._path.exists() else 'removed'} while it was in use"
        if not _is_at(self._log, log_file):
            return f"{self._log} was removed while it was in use: stop the server, which saves what is in it"
        return ""

    def _is_replaced(self) -> bool:
        """Return whether a whole database has taken the place: another file, without the write-ahead log of the old."""
        assert self._opened is not None  # noqa: S101 - for the type checker
        file, log_file = self._opened
        return self._path.exists() and not _is_at(self._path, file) and not _is_at(self._log, log_file)


def _is_at(path: Path, opened: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), opened)
    except OSError:
        return False
