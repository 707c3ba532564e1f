"""What tests of learning begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.state.sqlite import Database
from offers.state.sqlite_events import SqliteEvents


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEvents]:
    """An empty log."""
    events = SqliteEvents(Database(tmp_path / "state.db"))
    yield events
    events.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where models go."""
    return tmp_path / "learning"
