"""Connections to PostgreSQL: few, shared by all threads of a process, and none of them kept waiting for long.

psycopg_pool is not used because it connects in threads of its own: a call would fail without the reason, such as a
wrong password, and after an outage the back-off of those threads would decide when calls succeed again.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from offers.errors import StoreUnavailableError

_CONNECT_S = 2
"""The least that libpq accepts."""
_FREE, _ANSWER = 1 / 4, 3 / 4
"""Parts of a call's time: waiting for a connection that is free, and for the answers to all its statements."""
_LOCK, _STATEMENT, _IDLE = 1 / 4, 1 / 2, 2
"""The server's limits as parts of a call's time: for one lock, one statement, and a client that stands still within a
transaction. The first two are shorter than the client's limit: a session shall end its wait before it is given up."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up on a server that does not answer in time."""

    deadline = float("inf")
    """When the call that uses it has to be answered, in seconds of the monotonic clock."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """See psycopg.Connection."""
        left = max(0.001, self.deadline - time.monotonic())
        try:
            return super().wait(gen, interval, timeout or min(left, threading.TIMEOUT_MAX))
        except psycopg.OperationalError:
            # A late answer would be taken for that of the next query.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()
            raise


class Connections:
    """The connections of a process."""

    def __init__(
        self, url: str, name: str, *, timeout_s: float, most: int, prepare: Callable[[Connection], None]
    ) -> None:
        """`prepare` is called with each new connection. Raises psycopg.ProgrammingError for a malformed URL."""
        self._url, self._name, self._timeout_s, self._most = url, name, timeout_s, most
        self._prepare = prepare
        limits = {
            "lock_timeout": _LOCK,
            "statement_timeout": _STATEMENT,
            "idle_in_transaction_session_timeout": _IDLE,
        }
        own = [f"-c {one}={max(1, round(part * timeout_s * 1000))}" for one, part in limits.items()]
        given = conninfo_to_dict(url).get("options") or ""
        self._options = " ".join([*own, str(given)])  # of two values of a setting, the last is in force
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._is_closed = False

    @contextmanager
    def borrowed(self) -> Iterator[Connection]:
        """Lend a connection for one call. Raises StoreUnavailableError where none becomes free, and psycopg.Error."""
        if not self._free.acquire(timeout=_FREE * self._timeout_s):
            raise StoreUnavailableError(
                f"{self._name}: all {self._most} connections of this process are busy: try again"
            )
        try:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self._connect()
            connection.deadline = time.monotonic() + _ANSWER * self._timeout_s
            try:
                yield connection
            finally:
                self._take_back(connection)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close all connections; those that are lent, when they are back."""
        with self._lock:
            self._is_closed = True
        self._close_idle()

    def _take_back(self, connection: Connection) -> None:
        """Keep a connection for the next call. If it is lost, so are the others: the server may have restarted."""
        if connection.closed or connection.broken:
            connection.close()
            self._close_idle()
        elif connection.info.transaction_status != TransactionStatus.IDLE or self._is_closed:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)

    def _close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with suppress(psycopg.Error):
                connection.close()

    def _connect(self) -> Connection:
        made = Connection.connect(
            self._url,
            autocommit=True,
            connect_timeout=_CONNECT_S,
            client_encoding="UTF8",
            fallback_application_name="offers",
            options=self._options,
        )
        try:
            self._prepare(made)
        except BaseException:
            made.close()
            raise
        return made
