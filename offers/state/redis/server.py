"""A connection to a Redis server: atomic scripts in one round trip, with a timeout and a circuit breaker."""

import secrets
from collections.abc import Sequence
from hashlib import blake2b, sha1
from typing import Any, Final

from redis import Connection
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from offers.errors import SettingsError, StoreUnavailableError
from offers.state.circuit import Circuit, server_name
from offers.state.per_thread import PerThread

Argument = bytes | str | int
_SECRET = "offers:secret"  # noqa: S105 - the name of its key
_SECRET_BYTES = 32


class Script:
    """A Lua program that Redis runs atomically, with all its input in ARGV."""

    def __init__(self, source: str) -> None:
        self.source: Final = source
        self.name: Final = sha1(source.encode(), usedforsecurity=False).hexdigest()


class RedisServer:
    """A Redis server, with one connection for each thread.

    Connections are used directly: the layers of redis-py's client above them triple the time of a call. All methods
    raise StoreUnavailableError: after the timeout, or at once while the circuit is open.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        try:
            self.name = server_name("Redis", url, 6379)
            options = dict(parse_url(url))
        except ValueError as error:
            raise SettingsError(f"state_url: {error}") from None
        self._connection_class = options.pop("connection_class", Connection)
        self._options = {
            **options, "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": Retry(NoBackoff(), 0),
        }  # fmt: skip
        self._circuit = Circuit(self.name)
        self._own = PerThread[Connection](Connection.disconnect)
        self._secret = b""

    def hash(self, text: str) -> bytes:
        """Return a one-way hash of 16 bytes, keyed with a secret of the server."""
        if not self._secret:
            self.ask([("PING",)])
        return blake2b(text.encode(), key=self._secret, digest_size=16).digest()

    def run(self, script: Script, *arguments: Argument) -> Any:  # noqa: ANN401 - the script's reply
        """Run a script and return its reply."""
        return self.run_each(script, [arguments])[0]

    def run_each(self, script: Script, calls: Sequence[Sequence[Argument]]) -> list[Any]:
        """Run a script for each list of arguments, in one round trip; return the replies."""
        try:
            return self.ask([("EVALSHA", script.name, 0, *arguments) for arguments in calls])
        except NoScriptError:  # the server has been restarted, and does not have it
            return self.ask([("EVAL", script.source, 0, *arguments) for arguments in calls])

    def ask(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands in one round trip; return the replies. Also raises NoScriptError."""
        self._circuit.enter()
        try:
            replies = self._exchange(commands)
        except NoScriptError:
            self._circuit.succeeded()
            raise
        except (RedisError, OSError) as error:
            self._circuit.failed()
            raise StoreUnavailableError(f"{self.name}: {error}") from error
        self._circuit.succeeded()
        return replies

    def close(self) -> None:
        """Close all threads' connections."""
        self._own.close()

    def _exchange(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands, and send them again on a new connection if the server has closed the old one.

        The server may therefore run commands twice.
        """
        connection = self._own.get()
        if connection is not None and connection.is_connected:
            try:
                return _exchange(connection, commands)
            except RedisTimeoutError:
                raise
            except RedisConnectionError:
                pass
        if connection is None:
            connection = self._connection_class(**self._options)
            self._own.keep(connection)
        connection.connect()
        self._agree(connection)
        return _exchange(connection, commands)

    def _agree(self, connection: Connection) -> None:
        """Read the server's secret, or set one; a server that has lost its data gets back the secret it had."""
        proposed = self._secret or secrets.token_bytes(_SECRET_BYTES)
        _, secret = _exchange(connection, [("SETNX", _SECRET, proposed), ("GET", _SECRET)])
        known, self._secret = self._secret, secret
        if known not in {b"", secret}:
            raise RedisConnectionError("it was emptied, and filled by others: try again")


def _exchange(connection: Connection, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies: list[Any] = []
    refused: ResponseError | None = None
    for _ in commands:
        try:
            replies.append(connection.read_response(disable_decoding=True))
        except ResponseError as error:  # the remaining replies must still be read
            refused = refused or error
    if refused:
        raise refused
    return replies
