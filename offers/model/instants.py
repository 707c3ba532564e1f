"""Instants of google.protobuf.Timestamp, and spans in seconds."""

from google.protobuf.timestamp_pb2 import Timestamp

HOUR_S = 3_600
DAY_S = 86_400
CLOCK_SKEW_S = 300
"""How far the clocks of callers and servers may differ."""


def instant_of(time: Timestamp) -> tuple[int, int]:
    """Return seconds and nanoseconds since 1970, which compare as the instants do."""
    return time.seconds, time.nanos


def set_instant(time: Timestamp, second: float) -> None:
    """Set a timestamp to a second since 1970, with its fraction."""
    time.seconds, time.nanos = int(second), int(second % 1 * 1e9)
