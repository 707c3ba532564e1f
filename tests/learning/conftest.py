"""Fixtures of tests of learning."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEvents]:
    """An empty log."""
    events = SqliteEvents(Database(tmp_path / "state.db"))
    yield events
    events.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the learner's folder."""
    return tmp_path / "learning"
