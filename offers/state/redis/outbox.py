"""The outbox in a Redis stream."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from offers.errors import SettingsError, StoreUnavailableError

FIELD = "event"
"""The one field of an entry: the line."""


class RedisOutbox:
    """An Outbox in a Redis stream. All lines of a batch come into it, or none."""

    def __init__(self, url: str, stream: str, timeout_s: float) -> None:
        """Raises SettingsError for a URL that redis-py does not take."""
        self._stream = stream
        try:
            parts = urlsplit(url)
            self._name = f"outbox in Redis at {parts.hostname}:{parts.port or 6379}"
            # Waiting for it holds up the upkeep, so it is not asked again within a call.
            self._client = Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
            )
        except ValueError as error:
            raise SettingsError(f"outbox_url: {error}") from None

    def append(self, lines: Sequence[bytes]) -> None:
        """See Outbox."""
        try:
            with self._client.pipeline(transaction=True) as pipeline:
                for line in lines:
                    pipeline.xadd(self._stream, {FIELD: line})
                pipeline.execute()
        except RedisError as error:
            raise StoreUnavailableError(f"{self._name}: {error}") from error

    def close(self) -> None:
        """See Outbox."""
        self._client.close()
