"""The places of the stores that the settings name, and what holds the store at each."""

from pathlib import Path
from typing import TYPE_CHECKING

from offers.errors import SettingsError
from offers.settings import Settings
from offers.state.addresses import address_in
from offers.state.identity import EVENTS, STATE, Identity
from offers.state.sqlite.file import Database

if TYPE_CHECKING:
    from offers.state.postgres.events import PostgresEvents
    from offers.state.redis.server import RedisServer

FILE = "state.db"
"""Name of the default file in the data folder."""
_POSTGRES_PATIENCE = 20
"""Factor of PostgreSQL's timeout over Redis's: no decision waits for PostgreSQL."""
_SERVERS = {
    STATE: {"redis": "redis", "rediss": "redis"},
    EVENTS: dict.fromkeys(("postgresql", "postgres"), "postgresql"),
}
"""Schemes of servers by role, and the scheme that stands for each."""


class Places:
    """Opens what holds the store of each role; a file that holds both is opened once.

    `is_server`: the data folder knows its stores again, and refuses others. `waits`: a file that cannot be used is
    opened later, when it can be.
    """

    def __init__(self, settings: Settings, *, is_server: bool, waits: bool = False) -> None:
        self._settings, self._is_server, self._waits = settings, is_server, waits
        self._urls = {STATE: settings.state_url, EVENTS: settings.events_url}
        self._databases: dict[Path, Database] = {}
        self._timeout_s = settings.store_timeout_ms / 1000

    def identity(self, role: str) -> Identity:
        """Return the identity that a role's store must have. Raises SettingsError for a URL of no store."""
        url, folder = self._urls[role], self._settings.data_dir
        if scheme := _SERVERS[role].get(_scheme_of(url)):
            return Identity(folder, [role], address_in(f"{role}_url", scheme, url).place(scheme), kept=self._is_server)
        path = _path_of(f"{role}_url", url, folder)
        return Identity(folder, [one for one in _SERVERS if self.file(one) == path], str(path), kept=self._is_server)

    def file(self, role: str) -> Path | None:
        """Return the SQLite file of a role; None where a server has it. Raises SettingsError for a URL of no store."""
        url = self._urls[role]
        return None if _scheme_of(url) in _SERVERS[role] else _path_of(f"{role}_url", url, self._settings.data_dir)

    def open(self, role: str) -> "Database | RedisServer | PostgresEvents":
        """Open what holds a role's store.

        Raises SettingsError for a URL of no store, and StoreUnavailableError for a file that cannot be used. An
        unreachable server is no error yet: calls to its stores will raise.
        """
        identity, url = self.identity(role), self._urls[role]
        if (path := self.file(role)) is not None:
            if path not in self._databases:
                flush = self._settings.sqlite_flush
                self._databases[path] = Database(path, is_flushed=flush, identity=identity, waits=self._waits)
            return self._databases[path]
        try:
            if role == STATE:
                from offers.state.redis.server import RedisServer

                return RedisServer(url, self._timeout_s, identity)
            from offers.state.postgres.events import PostgresEvents

            most = self._settings.postgres_connections
            return PostgresEvents(url, self._timeout_s * _POSTGRES_PATIENCE, most, identity)
        except ImportError as error:
            extra = _SERVERS[role][_scheme_of(url)].removesuffix("ql")
            raise SettingsError(f"{role}_url: {error}: pip install 'offers[{extra}]'") from error


def _scheme_of(url: str) -> str:
    return url.partition("://")[0] if "://" in url else ""


def _path_of(setting: str, url: str, folder: Path) -> Path:
    """Return the SQLite file that a setting names; by default the one in the data folder."""
    if _scheme_of(url) not in {"", "sqlite"}:
        places = "a path, sqlite:///path, " + {"state_url": "redis://...", "events_url": "postgresql://..."}[setting]
        raise SettingsError(f"{setting}: '{_scheme_of(url)}://' is not understood: give {places}")
    path = url.removeprefix("sqlite://")
    if "@" in path or ":" in path:  # a file would be named after a password
        raise SettingsError(
            f"{setting}: an address needs its scheme, as redis:// or postgresql://, and a file has no @ or :"
        )
    # SQLite keeps the log beside the file that a link leads to.
    return (Path(path).expanduser() if path else folder / FILE).resolve()
