"""Connections to Redis: the options in a URL, and whether a failure says that the URL is wrong."""

import socket
import ssl
from collections.abc import Mapping
from typing import Any

from redis import Connection
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, BusyLoadingError, InvalidResponse, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from offers.errors import SettingsError
from offers.state.addresses import causes, malformed

SCHEME = "redis"
_PASSING = ("LOADING", "MISCONF", "OOM", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "max number of clients")
"""Beginnings of refusals that end by themselves, or with what is wrong with the server."""


def options_in(setting: str, url: str, timeout_s: float) -> Mapping[str, Any]:
    """Return the options of connections to a URL: `connection_class` and its arguments. Raises SettingsError."""
    path = url.partition("://")[2].partition("?")[0].partition("/")[2].strip("/")
    if path and not path.isdecimal():  # redis-py would take database 0
        raise SettingsError(f"{setting}: the path of a redis:// address is the number of a database, as in /0")
    try:
        options = dict(parse_url(url))
    except ValueError:
        raise malformed(setting, SCHEME) from None
    # Waiting for a second attempt would hold up decisions, so no call is retried.
    options |= {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
    made = options.pop("connection_class", Connection)
    try:
        made(**options)
    except (TypeError, RedisError) as error:
        fault = str(error).rpartition("() got an ")[2] or str(error)
        raise SettingsError(f"{setting}: a parameter behind the ? of the address is not understood: {fault}") from None
    return {"connection_class": made, **options}


def fault_of(error: Exception) -> str:
    """Return why an address can be no usable Redis; "" if it may be one that is not available at the moment."""
    of = causes(error)
    if any(isinstance(one, socket.gaierror) for one in of):
        return f"its name does not resolve: {error}"
    if any(isinstance(one, ssl.SSLError) for one in of):
        return f"no TLS connection can be made: {error}"
    if isinstance(error, InvalidResponse):
        return "another protocol is spoken there: this is no Redis"
    if isinstance(error, BusyLoadingError | RedisTimeoutError) or any(word in str(error) for word in _PASSING):
        return ""
    if "client already authenticated" in str(error) or "Authentication required" in str(error):
        return "it wants a password"
    if isinstance(error, AuthenticationError | ResponseError):
        return str(error)
    if "closed by server" in str(error) or any(isinstance(one, ConnectionResetError) for one in of):
        return "it closes connections without an answer: this is no Redis, or one that wants TLS (rediss://)"
    return ""
