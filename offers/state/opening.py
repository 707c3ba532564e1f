"""Opens the stores that the settings name."""

from pathlib import Path
from typing import NamedTuple

from offers.settings import Settings
from offers.state import places
from offers.state.identity import EVENTS, STATE
from offers.state.ledger import Ledger
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.state.sqlite.ledger import SqliteLedger
from offers.state.sqlite.state import SqliteState
from offers.state.stores import EventLog, StateStore

FILE = places.FILE
"""Name of the default file in the data folder."""


class Stores(NamedTuple):
    """The stores of a process. Open them once per process."""

    state: StateStore
    events: EventLog
    ledger: Ledger

    def close(self) -> None:
        """Close files and connections."""
        for store in self:
            store.close()


def open_stores(settings: Settings, *, is_server: bool = False) -> Stores:
    """Open the stores that the settings name.

    Raises SettingsError for a URL of no store, and StoreUnavailableError for a file that cannot be used. An unreachable
    server is no error yet: calls to its stores will raise. Neither is an unusable file where the stores are for a
    server, which serves without them.
    """
    named = places.Places(settings, is_server=is_server, waits=is_server)
    state, ledger = _state(named)
    log = named.open(EVENTS)
    events: EventLog = SqliteEvents(log) if isinstance(log, Database) else log  # type: ignore[assignment]
    return Stores(state, events, ledger)


def _state(named: places.Places) -> tuple[StateStore, Ledger]:
    opened = named.open(STATE)
    if isinstance(opened, Database):
        return SqliteState(opened), SqliteLedger(opened)
    from offers.state.redis.ledger import RedisLedger
    from offers.state.redis.state import RedisState

    return RedisState(opened), RedisLedger(opened)  # type: ignore[arg-type]


def sqlite_files(settings: Settings) -> dict[str, Path]:
    """Return the files of the stores that are in SQLite, by their settings. Raises SettingsError."""
    named = places.Places(settings, is_server=False)
    files = {f"{role}_url": named.file(role) for role in (EVENTS, STATE)}
    return {setting: path for setting, path in files.items() if path is not None}
