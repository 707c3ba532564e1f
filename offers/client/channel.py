"""The connection of a client: its channel arguments, its stubs and the default deadlines of its calls."""

import json
from collections.abc import Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc

from offers.v1 import event_service_pb2, offer_service_pb2, profile_service_pb2
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub

SERVICE: Final = offer_service_pb2.DESCRIPTOR.services_by_name["OfferService"].full_name
DEFAULT_TIMEOUT_S: Final = 1.0
"""Far longer than a decision takes, and no longer than a screen waits for its offers."""
EXPLAIN_TIMEOUT_S: Final = 10.0
STORE_TIMEOUT_S: Final = 10.0
"""Deadline of calls that report events, and read or change profiles: stores may be slow, and no screen waits."""
ERASE_TIMEOUT_S: Final = 60.0
"""Deadline of calls that read or erase everything that is stored about a person."""
POLL_S: Final = 0.05
"""Pause between health checks of a server that is up but not yet serving."""

SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [
                {"service": service.full_name}
                for file in (offer_service_pb2, event_service_pb2, profile_service_pb2)
                for service in file.DESCRIPTOR.services_by_name.values()
            ],
            # UNAVAILABLE: the call did not reach a worker, or the worker stopped. CANCELLED, from a server: it stopped
            # before it took the call, or is flooded. A retry may reach another worker; all other errors would repeat.
            # Every call of these services may be sent again. A call that the client itself cancels is not.
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    # When more than about one call in ten fails, stop retrying, so that retries do not overload the server.
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
CHANNEL_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # Detects a dead connection within 40 s, also while idle; servers permit a ping every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A server that is back is reached within a second; gRPC's default back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Answers to 1,000 contexts may exceed gRPC's default of 4 MiB, and come from a trusted server.
    ("grpc.max_receive_message_length", -1),
)

Options = Sequence[tuple[str, Any]]
Metadata = Sequence[tuple[str, str | bytes]]


class Connection:
    """The channel and the stubs that both clients have."""

    def __init__(
        self,
        grpc_module: Any,  # noqa: ANN401 - grpc or grpc.aio, which make channels alike
        target: str,
        credentials: grpc.ChannelCredentials | None,
        timeout_s: float,
        options: Options,
    ) -> None:
        arguments = list({**dict(CHANNEL_OPTIONS), **dict(options)}.items())
        self._channel = (
            grpc_module.insecure_channel(target, options=arguments)
            if credentials is None
            else grpc_module.secure_channel(target, credentials, options=arguments)
        )
        self._target = target
        self._timeout_s = timeout_s
        self._offers = OfferServiceStub(self._channel)
        self._events = EventServiceStub(self._channel)
        self._profiles = ProfileServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
