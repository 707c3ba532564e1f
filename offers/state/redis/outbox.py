"""The outbox in a Redis stream."""

from collections.abc import Sequence

from redis import ConnectionPool, Redis
from redis.exceptions import RedisError

from offers.errors import StoreUnavailableError, UnusableStoreError
from offers.state.addresses import address_in
from offers.state.redis.connecting import SCHEME, fault_of, options_in

SETTING = "outbox_url"
FIELD = "event"
"""The only field of an entry: the line."""


class RedisOutbox:
    """An Outbox in a Redis stream. A batch is appended as a whole or not at all."""

    def __init__(self, url: str, stream: str, timeout_s: float) -> None:
        """Make a client, without I/O. Raises SettingsError for a URL that cannot be used."""
        self._stream = stream
        address = address_in(SETTING, SCHEME, url)
        self._name = f"outbox in Redis at {address.host}:{address.port}"
        self._client = Redis(connection_pool=ConnectionPool(**options_in(SETTING, url, timeout_s)))

    def append(self, lines: Sequence[bytes]) -> None:
        """See Outbox."""
        try:
            with self._client.pipeline(transaction=True) as pipeline:
                for line in lines:
                    pipeline.xadd(self._stream, {FIELD: line})
                pipeline.execute()
        except RedisError as error:
            raise StoreUnavailableError(f"{self._name}: {error}") from error

    def check(self) -> None:
        """See Outbox."""
        try:
            kind = self._client.type(self._stream)
        except RedisError as error:
            if fault := fault_of(error):
                raise UnusableStoreError(f"{self._name}: {fault}") from error
            raise StoreUnavailableError(f"{self._name}: {error}") from error
        if kind not in {b"none", b"stream"}:
            raise UnusableStoreError(f"{self._name}: '{self._stream}' is there, and is no stream: name another")

    def close(self) -> None:
        """See Outbox."""
        self._client.close()
