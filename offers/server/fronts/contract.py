"""Contract of the fronts. One test suite runs over all of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from offers.server.offer_service import Tell

Unary = Callable[[bytes], bytes]
"""Answers an encoded request with an encoded response. Any error it raises ends the call with a status."""
Streamed = Callable[[Iterator[bytes]], bytes]
"""Answers a stream of encoded requests with an encoded response."""

Decide = Callable[[Sequence[bytes], Tell], None]
"""Answers encoded GetOffersRequests, and tells the result of each."""


class Methods(NamedTuple):
    """The methods of a service, by name."""

    service: str
    unary: Mapping[str, Unary]
    streams: Mapping[str, Streamed]


class Front(Protocol):
    """A gRPC server on one port."""

    name: str
    """The front as the setting `front` names it."""

    @property
    def finished(self) -> int:
        """A number that changes whenever calls are finished."""
        ...

    def listen(self, address: str) -> int:
        """Listen on an address, before `start`; return its port. Raises OffersError if it cannot be bound."""
        ...

    def start(self) -> None:
        """Begin to take calls."""
        ...

    def stop(self, grace_s: float | None) -> None:
        """Give calls under way some seconds (None: none) to end, then stop."""
        ...
