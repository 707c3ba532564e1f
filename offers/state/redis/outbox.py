"""The outbox in a Redis stream."""

from collections.abc import Sequence

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from offers.errors import SettingsError, StoreUnavailableError
from offers.state.circuit import server_name

FIELD = "event"
"""The only field of an entry: the line."""


class RedisOutbox:
    """An Outbox in a Redis stream. A batch is appended as a whole or not at all."""

    def __init__(self, url: str, stream: str, timeout_s: float) -> None:
        """Make a client; raises SettingsError for a URL that redis-py does not accept."""
        self._stream = stream
        try:
            self._name = server_name("outbox in Redis", url, 6379)
            # Waiting would hold up the upkeep, so a call is not retried.
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
