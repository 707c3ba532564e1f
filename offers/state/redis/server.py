"""A connection to a Redis server: atomic scripts in one round trip, with a timeout and a circuit breaker."""

import secrets
from collections.abc import Sequence
from hashlib import blake2b, sha1
from typing import Any, Final

import structlog
from redis import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from offers.errors import OtherStoreError, StoreUnavailableError, UnusableStoreError
from offers.state.addresses import address_in
from offers.state.circuit import Circuit
from offers.state.identity import Identity
from offers.state.per_thread import PerThread
from offers.state.redis.connecting import SCHEME, fault_of, options_in

Argument = bytes | str | int
_SECRET = "offers:secret"  # noqa: S105 - the name of its key
_SECRET_BYTES = 32
_OTHER = "OFFERSOTHER"
_GUARD = f"""
if redis.call('GET', '{_SECRET}') ~= table.remove(ARGV) then
  return redis.error_reply('{_OTHER} the secret is not the one that the names were made with')
end
"""
"""Begins every script. The last argument is the secret with which the names among the others were made: under another
secret, records would be written that nobody finds again."""
_CHECK_S = 2.0
"""The least timeout of `check`, which no decision waits for."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _LostSecretError(Exception):
    """Redis does not have the secret any more: it was emptied."""


class Script:
    """A Lua program that Redis runs atomically, with all its input in ARGV."""

    def __init__(self, source: str) -> None:
        self.source: Final = _GUARD + source
        self.name: Final = sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class RedisServer:
    """A Redis server, with one connection for each thread.

    Connections are used directly: the layers of redis-py's client above them triple the time of a call. All methods
    raise StoreUnavailableError: after the timeout, or at once while the circuit is open. `identity` says which store it
    must be; the constructor does no I/O.
    """

    def __init__(self, url: str, timeout_s: float, identity: Identity) -> None:
        address = address_in("state_url", SCHEME, url)
        self.name = f"Redis at {address.host}:{address.port}"
        self._options = dict(options_in("state_url", url, timeout_s))
        self._connection_class: type[Connection] = self._options.pop("connection_class")
        self._identity = identity
        self._circuit = Circuit(self.name)
        self._own = PerThread[Connection](Connection.disconnect)
        self._secret = b""

    def hash(self, text: str) -> bytes:
        """Return a one-way hash of 16 bytes, keyed with a secret of the server."""
        return blake2b(text.encode(), key=self._known_secret(), digest_size=16).digest()

    def run(self, script: Script, *arguments: Argument) -> Any:  # noqa: ANN401 - the script's reply
        """Run a script and return its reply."""
        return self.run_each(script, [arguments])[0]

    def run_each(self, script: Script, calls: Sequence[Sequence[Argument]]) -> list[Any]:
        """Run a script for each list of arguments, in one round trip; return the replies."""
        secret = self._known_secret()
        whole = [(*arguments, secret) for arguments in calls]
        try:
            return self._run(script, whole)
        except _LostSecretError:  # the next call agrees anew, and puts the secret back
            if (connection := self._own.get()) is not None:
                connection.disconnect()
        try:
            return self._run(script, whole)
        except _LostSecretError as error:
            raise StoreUnavailableError(f"{self.name}: it is being emptied: try again") from error

    def _run(self, script: Script, calls: Sequence[Sequence[Argument]]) -> list[Any]:
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
        except OtherStoreError:
            self._circuit.succeeded()  # it answers
            raise
        except (RedisError, OSError) as error:
            if isinstance(error, ResponseError) and str(error).startswith(_OTHER):
                self._circuit.succeeded()
                raise _LostSecretError from error
            self._circuit.failed()
            raise StoreUnavailableError(f"{self.name}: {error}") from error
        self._circuit.succeeded()
        return replies

    def check(self) -> list[str]:
        """Use the server once; return what is wrong with its settings.

        Raises UnusableStoreError if it answers and cannot be used, else StoreUnavailableError.
        """
        patience = max(_CHECK_S, self._options["socket_timeout"])
        options = {**self._options, "socket_timeout": patience, "socket_connect_timeout": patience}
        connection = self._connection_class(**options)
        try:
            connection.connect()
            self._agree(connection)
            return _advice(_exchange(connection, [("INFO",)])[0])
        except (RedisError, OSError) as error:
            if fault := fault_of(error):
                raise UnusableStoreError(f"{self.name}: {fault}") from error
            raise StoreUnavailableError(f"{self.name}: {error}") from error
        finally:
            connection.disconnect()

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
        try:
            self._agree(connection)
        except BaseException:
            connection.disconnect()  # the next call must agree first
            raise
        return _exchange(connection, commands)

    def _known_secret(self) -> bytes:
        if not self._secret:
            self.ask([("PING",)])
        return self._secret

    def _agree(self, connection: Connection) -> None:
        """Read the server's secret, or set one. A server that was emptied gets back the secret that it had.

        Raises OtherStoreError if it has another secret than it had.
        """
        known = self._secret or self._identity.secret()
        if not known:
            (found,) = _exchange(connection, [("GET", _SECRET)])
            self._identity.expect(found or b"")
        proposed = known or secrets.token_bytes(_SECRET_BYTES)
        is_new, secret = _exchange(connection, [("SETNX", _SECRET, proposed), ("GET", _SECRET)])
        if is_new and known:
            log.error("store_emptied", store=self.name, lost="persons, budgets and consent: Redis must keep its data")
        if known and secret != known:
            raise OtherStoreError(
                f"{self.name} now has the data of another store: it was exchanged, or emptied and filled by a server"
                " with another data folder"
            )
        self._identity.record(secret, with_secret=True)
        self._secret = secret


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


def _advice(info: bytes) -> list[str]:
    """Return what is wrong with the settings of a server, by its INFO."""
    figures = dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
    advice = []
    policy = figures.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        advice.append(f"maxmemory-policy is {policy}, which throws away budgets and persons: set noeviction")
    if figures.get("aof_enabled") == "0":
        advice.append("appendonly is no, so a restart loses the last budgets and persons: set yes")
    return advice
