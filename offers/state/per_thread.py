"""Connections to a store, one for each thread."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class PerThread(Generic[Connection]):
    """The connection of each thread, which is closed when its thread ends."""

    def __init__(self, close: Callable[[Connection], None]) -> None:
        self._close = close
        self._own = threading.local()
        self._all: dict[int, Connection] = {}
        self._lock = threading.Lock()

    def get(self) -> Connection | None:
        """Return this thread's connection; None if it has none."""
        held: _Held[Connection] | None = getattr(self._own, "held", None)
        return None if held is None else held.connection

    def keep(self, connection: Connection) -> None:
        """Make a connection this thread's, and close the one that it had."""
        with self._lock:
            self._all[id(connection)] = connection
        self._own.held = _Held(connection, self._forget)

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            every = list(self._all.values())
        for connection in every:
            self._forget(connection)
        self._own = threading.local()

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            known = self._all.pop(id(connection), None)
        if known is not None:
            self._close(known)


class _Held(Generic[Connection]):
    """A connection in the memory of a thread; Python deletes that memory when the thread ends."""

    __slots__ = ("_forget", "connection")

    def __init__(self, connection: Connection, forget: Callable[[Connection], None]) -> None:
        self.connection, self._forget = connection, forget

    def __del__(self) -> None:
        self._forget(self.connection)
