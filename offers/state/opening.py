"""Opens the stores that the settings name."""

from pathlib import Path
from typing import NamedTuple

from offers.errors import SettingsError
from offers.settings import Settings
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.state.sqlite.ledger import SqliteLedger
from offers.state.sqlite.state import SqliteState
from offers.state.stores import EventLog, Ledger, StateStore

FILE = "state.db"
"""Name of the file in the data folder, where no other place is set."""
_POSTGRES_PATIENCE = 20
"""By how much more time PostgreSQL has than Redis: no decision waits for it."""


class Stores(NamedTuple):
    """All that a process needs of persons, events and budgets. To be opened once per process."""

    state: StateStore
    events: EventLog
    ledger: Ledger

    def close(self) -> None:
        """Let go of files and connections."""
        for store in self:
            store.close()


def open_stores(settings: Settings) -> Stores:
    """Open the stores. Raises SettingsError for a URL that names none, and StoreUnavailableError for a file that cannot
    be used. A server that does not answer is no error yet: the stores say so when they are used.
    """  # noqa: D205
    timeout_s = settings.store_timeout_ms / 1000
    databases: dict[Path, Database] = {}

    def database(setting: str, url: str) -> Database:
        path = _path_of(setting, url, settings.data_dir)
        if path not in databases:
            databases[path] = Database(path)
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
        events = _postgres(settings.events_url, timeout_s * _POSTGRES_PATIENCE)
    else:
        events = SqliteEvents(database("events_url", settings.events_url))
    return Stores(state, events, ledger)


def _redis(url: str, timeout_s: float) -> tuple[StateStore, Ledger]:
    try:
        from offers.state.redis.ledger import RedisLedger
        from offers.state.redis.server import RedisServer
        from offers.state.redis.state import RedisState
    except ImportError as error:
        raise SettingsError(f"state_url: {error}: pip install 'offers[redis]'") from error
    server = RedisServer(url, timeout_s)
    return RedisState(server), RedisLedger(server)


def _postgres(url: str, timeout_s: float) -> EventLog:
    try:
        from offers.state.postgres.events import PostgresEvents
    except ImportError as error:
        raise SettingsError(f"events_url: {error}: pip install 'offers[postgres]'") from error
    return PostgresEvents(url, timeout_s)


def _scheme_of(url: str) -> str:
    return url.partition("://")[0] if "://" in url else ""


def _path_of(setting: str, url: str, folder: Path) -> Path:
    """The SQLite file that a setting names; that of the data folder for none."""
    if _scheme_of(url) not in {"", "sqlite"}:
        places = "a path, sqlite:///path, " + {"state_url": "redis://...", "events_url": "postgresql://..."}[setting]
        raise SettingsError(f"{setting}: '{_scheme_of(url)}://' is not understood: give {places}")
    path = url.removeprefix("sqlite://")
    return Path(path).expanduser() if path else folder / FILE
