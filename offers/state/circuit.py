"""A circuit breaker: calls to a server that does not answer fail at once instead of waiting."""

import threading
import time

from offers.errors import StoreUnavailableError

_FAILURES = 3
RETRY_S = 0.5
"""Seconds after which an open circuit lets a call try again."""


class Circuit:
    """A circuit breaker shared by the threads of a process.

    It opens after three failures in a row. While it is open, all calls fail at once, except for one in half a second,
    which tries whether the server is back.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._failures = 0
        self._next = 0.0

    def enter(self) -> None:
        """Permit a call. Raises StoreUnavailableError while the circuit is open."""
        if self._failures < _FAILURES:
            return
        with self._lock:
            now = time.monotonic()
            if self._failures >= _FAILURES:
                if now < self._next:
                    raise StoreUnavailableError(
                        f"{self._name} did not answer {self._failures} times in a row: try again"
                    )
                self._next = now + RETRY_S

    def failed(self) -> None:
        """Count a failure."""
        with self._lock:
            self._failures += 1
            if self._failures == _FAILURES:
                self._next = time.monotonic() + RETRY_S

    def succeeded(self) -> None:
        """Close the circuit."""
        if self._failures:
            with self._lock:
                self._failures = 0
