"""Spares callers the wait for a server that does not answer."""

import threading
import time

from offers.errors import StoreUnavailableError

_FAILURES = 3
_RETRY_S = 0.5


class Circuit:
    """Opens after three failures in a row. While it is open, one call in half a second is let through to see whether
    the server is back; all others fail at once. Shared by the threads of a process.
    """  # noqa: D205

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._failures = 0
        self._next = 0.0

    def enter(self) -> None:
        """Go ahead. Raises StoreUnavailableError where the circuit is open."""
        if self._failures < _FAILURES:
            return
        with self._lock:
            now = time.monotonic()
            if self._failures >= _FAILURES:
                if now < self._next:
                    raise StoreUnavailableError(
                        f"{self._name} did not answer {self._failures} times in a row: try again"
                    )
                self._next = now + _RETRY_S

    def failed(self) -> None:
        """Count a failure."""
        with self._lock:
            self._failures += 1
            if self._failures == _FAILURES:
                self._next = time.monotonic() + _RETRY_S

    def succeeded(self) -> None:
        """Close the circuit."""
        if self._failures:
            with self._lock:
                self._failures = 0
