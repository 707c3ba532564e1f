"""Addresses of servers. They may hold passwords, so no message repeats more of them than host, port and database."""

from typing import NamedTuple
from urllib.parse import urlsplit

from offers.errors import SettingsError

_FORMS = {"redis": "redis://:password@host:port/db", "postgresql": "postgresql://user:password@host:port/db"}
_PORTS = {"redis": 6379, "postgresql": 5432}


class Address(NamedTuple):
    """The public part of a server's URL."""

    host: str
    port: int
    database: str

    def place(self, scheme: str) -> str:
        """Return the address as a URL without a password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/{self.database}"


def address_in(setting: str, scheme: str, url: str) -> Address:
    """Return the public part of a URL. Raises SettingsError for a malformed one.

    Characters of a password that are not percent-encoded move its end into the host, the port or the path, from where
    it would get into messages. A URL that may be one of these is refused.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[scheme]
    except ValueError:
        raise malformed(setting, scheme) from None
    if "@" in parts.path + parts.fragment or parts.fragment or parts.netloc.count("@") > 1:
        raise malformed(setting, scheme)
    return Address(parts.hostname or "localhost", port, parts.path.strip("/"))


def malformed(setting: str, scheme: str) -> SettingsError:
    """Return the error for a URL that cannot be read, of which nothing is repeated."""
    return SettingsError(
        f"{setting}: this is no address: give {_FORMS[scheme]}, with %40 for @, %2F for /, %23 for #, %3F for ? and"
        " %25 for % in a password"
    )


def causes(error: BaseException) -> list[BaseException]:
    """Return an error and those that it was raised from or during."""
    found: list[BaseException] = []
    left: BaseException | None = error
    while left is not None and left not in found:
        found.append(left)
        left = left.__cause__ or left.__context__
    return found
