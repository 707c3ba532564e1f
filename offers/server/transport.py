"""Options of the transport that every worker sets. docs/guides/operations.md has them in a table."""

from offers.server.limits import MAX_MESSAGE_BYTES
from offers.settings import Settings

UNLIMITED = 2**31 - 1
"""The number by which gRPC means no limit."""
NATIVE_STREAMS = 1024
"""Calls under way on one connection of the native front, which keeps those that wait in memory."""

MOST_PENDING = 256
"""Calls of a method that gRPC's core holds before the gate; it ends others with CANCELLED. See process/gate.py."""


def transport_options(settings: Settings) -> tuple[tuple[str, int], ...]:
    """Return the gRPC options of a server. Defaults of gRPC are set, too, so that no release changes them."""
    return (
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 8 << 10),
        ("grpc.absolute_max_metadata_size", 16 << 10),
        ("grpc.max_concurrent_streams", UNLIMITED),
        ("grpc.server.max_pending_requests", MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", MOST_PENDING),
        ("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", 30_000),
        ("grpc.max_connection_idle_ms", UNLIMITED),
        ("grpc.keepalive_time_ms", 7_200_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A client that pings every 30 s, as offers.client does, is far from this; gRPC's default is five minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
    )


def native_options(settings: Settings) -> dict[str, int]:
    """Return the gRPC options of the native front. It has no use for some of them."""
    return {**dict(transport_options(settings)), "grpc.max_concurrent_streams": NATIVE_STREAMS}


def options_behind(settings: Settings) -> tuple[tuple[str, int], ...]:
    """Return the gRPC options of a server behind the native front, whose connections last as long as its clients'."""
    changed = {"grpc.max_connection_age_ms": UNLIMITED}
    return tuple({**dict(transport_options(settings)), **changed}.items())
