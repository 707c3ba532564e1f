"""A typed client of the service, blocking and asyncio: deadlines, retries and errors that name the fields."""

from offers.client.asynchronous import AsyncOffersClient
from offers.client.blocking import OffersClient
from offers.client.channel import (
    CHANNEL_OPTIONS,
    DEFAULT_TIMEOUT_S,
    ERASE_TIMEOUT_S,
    EXPLAIN_TIMEOUT_S,
    SERVICE,
    SERVICE_CONFIG,
    STORE_TIMEOUT_S,
    Metadata,
    Options,
)
from offers.client.failures import OffersCallError, error_of
from offers.client.requests import ContextFields, context, person

__all__ = [
    "CHANNEL_OPTIONS", "DEFAULT_TIMEOUT_S", "ERASE_TIMEOUT_S", "EXPLAIN_TIMEOUT_S", "SERVICE", "SERVICE_CONFIG",
    "STORE_TIMEOUT_S", "AsyncOffersClient", "ContextFields", "Metadata", "OffersCallError", "OffersClient", "Options",
    "context", "error_of", "person",
]  # fmt: skip
