"""Opens the stores that the settings name."""

from pathlib import Path
from typing import NamedTuple

from offers.errors import SettingsError
from offers.settings import Settings
from offers.state.sqlite import Database
from offers.state.sqlite_events import SqliteEvents
from offers.state.sqlite_ledger import SqliteLedger
from offers.state.sqlite_state import SqliteState
from offers.state.stores import EventLog, Ledger, StateStore

FILE = "state.db"
"""Name of the file in the data folder, where no other place is set."""


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
    state, events = (_file_of(url, settings.data_dir) for url in (settings.state_url, settings.events_url))
    databases = {path: Database(path) for path in {state, events}}
    return Stores(SqliteState(databases[state]), SqliteEvents(databases[events]), SqliteLedger(databases[state]))


def _file_of(url: str, folder: Path) -> Path:
    """The SQLite file a setting names: "sqlite:///var/lib/offers.db", a path, or "" for that of the data folder."""
    scheme, _, rest = url.rpartition("://")
    if scheme not in {"", "sqlite"}:
        raise SettingsError(f"'{scheme}://' is no store: give a path, sqlite:///path")
    return Path(rest).expanduser() if rest else folder / FILE
