"""Opens the stores that the settings name."""

from pathlib import Path
from typing import NamedTuple

from offers.errors import SettingsError
from offers.settings import Settings
from offers.state.ledger import Ledger
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.state.sqlite.ledger import SqliteLedger
from offers.state.sqlite.state import SqliteState
from offers.state.stores import EventLog, StateStore

FILE = "state.db"
"""Name of the default file in the data folder."""
_POSTGRES_PATIENCE = 20
"""Factor of PostgreSQL's timeout over Redis's: no decision waits for PostgreSQL."""


class Stores(NamedTuple):
    """The stores of a process. Open them once per process."""

    state: StateStore
    events: EventLog
    ledger: Ledger

    def close(self) -> None:
        """Close files and connections."""
        for store in self:
            store.close()


def open_stores(settings: Settings) -> Stores:
    """Open the stores that the settings name.

    Raises SettingsError for a URL of no store, and StoreUnavailableError for a file that cannot be used. An unreachable
    server is no error yet: calls to its stores will raise.
    """
    timeout_s = settings.store_timeout_ms / 1000
    databases: dict[Path, Database] = {}

    def database(setting: str, url: str) -> Database:
        path = _path_of(setting, url, settings.data_dir)
        if path not in databases:
            databases[path] = Database(path, is_flushed=settings.sqlite_flush)
        return databases[path]

    state: StateStore
    ledger: Ledger
    events: EventLog
    if _scheme_of(settings.state_url) in {"redis", "rediss"}:
        state, ledger = _redis(settings.state_url, timeout_s)
    else:
        kept = database("state_url", settings.state_url)
        state, ledger = SqliteState(kept), SqliteLedger(kept)
    if _scheme_of(settings.events_url) in {"postgresql", "postgres"}:
        events = _postgres(settings.events_url, timeout_s * _POSTGRES_PATIENCE, settings.postgres_connections)
    else:
        events = SqliteEvents(database("events_url", settings.events_url))
    return Stores(state, events, ledger)


def sqlite_files(settings: Settings) -> dict[str, Path]:
    """Return the files of the stores that are in SQLite, by their settings. Raises SettingsError."""
    urls = {"events_url": settings.events_url, "state_url": settings.state_url}
    servers = {"redis", "rediss", "postgresql", "postgres"}
    return {
        setting: _path_of(setting, url, settings.data_dir)
        for setting, url in urls.items()
        if _scheme_of(url) not in servers
    }


def _redis(url: str, timeout_s: float) -> tuple[StateStore, Ledger]:
    try:
        from offers.state.redis.ledger import RedisLedger
        from offers.state.redis.server import RedisServer
        from offers.state.redis.state import RedisState
    except ImportError as error:
        raise SettingsError(f"state_url: {error}: pip install 'offers[redis]'") from error
    server = RedisServer(url, timeout_s)
    return RedisState(server), RedisLedger(server)


def _postgres(url: str, timeout_s: float, connections: int) -> EventLog:
    try:
        from offers.state.postgres.events import PostgresEvents
    except ImportError as error:
        raise SettingsError(f"events_url: {error}: pip install 'offers[postgres]'") from error
    return PostgresEvents(url, timeout_s, connections)


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
    return Path(path).expanduser() if path else folder / FILE
