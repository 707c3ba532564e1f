"""Contract of the fronts. One test suite runs over all of them."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import grpc

from offers.server.admission import Admission
from offers.server.offer_service import Tell
from offers.server.process.handlers import Handlers, Parted, Streamed, Unary

Decide = Callable[[Sequence[bytes], Tell], None]
"""Answers encoded GetOffersRequests, and tells the result of each."""

_NONE: Mapping[str, Any] = MappingProxyType({})


class Methods(NamedTuple):
    """The methods of a service, by name."""

    service: str
    unary: Mapping[str, Unary]
    streams: Mapping[str, Streamed] = _NONE
    parted: Mapping[str, Parted] = _NONE


class Offered(NamedTuple):
    """All that a server offers."""

    services: Sequence[Methods]
    others: Mapping[str, Handlers]
    """Services whose methods have handlers of their own, which are never refused: health, reflection."""
    extra: Sequence[grpc.GenericRpcHandler] = ()


class Front(Protocol):
    """A gRPC server on one port."""

    name: str
    """The front as the setting `front` names it."""

    @property
    def admissions(self) -> Sequence[Admission]:
        """The rules that it applies beside those of the worker's threads, with the numbers of calls refused."""
        ...

    @property
    def finished(self) -> int:
        """A number that changes whenever calls are finished."""
        ...

    def answers_within(self, seconds: float) -> bool:
        """Return whether calls are worked on within some seconds."""
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
