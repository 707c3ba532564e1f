"""What SQLite has acknowledged is on the disk: it survives a power cut."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.errors import StoreUnavailableError
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.testing import serving
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from tests.state.contract.test_events import event


class Disk:
    """The files as they were at the last flush: all that a power cut leaves."""

    def __init__(self, path: Path, survived: Path) -> None:
        self.path, self.survived = path, survived
        self.flushes = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._flush = os.fdatasync

    def fdatasync(self, descriptor: int) -> None:
        """Flush a file, and keep what is on the disk from now on."""
        self.may_go_on.wait(30)
        self._flush(descriptor)
        self.flushes += 1
        shutil.rmtree(self.survived, ignore_errors=True)
        shutil.copytree(self.path.parent, self.survived)

    def events(self) -> set[str]:
        """The events that are in the log after a power cut."""
        database = Database(self.survived / self.path.name, is_flushed=False)
        found = {one.event.event_id for one in SqliteEvents(database).read(0, 1_000)}
        database.close()
        return found


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that loses all that was not flushed."""
    (tmp_path / "data").mkdir()
    made = Disk(tmp_path / "data" / "state.db", tmp_path / "survived")
    monkeypatch.setattr(os, "fdatasync", made.fdatasync)
    return made


@pytest.fixture
def database(disk: Disk) -> Iterator[Database]:
    """The database on it."""
    opened = Database(disk.path)
    yield opened
    opened.close()


def test_an_acknowledged_event_survives_a_power_cut(disk: Disk, database: Database) -> None:
    """After each append, the files on the disk have all events."""
    events = SqliteEvents(database)
    sent: set[str] = set()
    for number in range(20):
        events.append([event(f"e{number}")])
        sent.add(f"e{number}")
        assert disk.events() == sent


def test_transactions_that_wait_share_a_flush(disk: Disk, database: Database) -> None:
    """While one flush is under way, eight threads commit: one more flush is enough for them all."""
    events = SqliteEvents(database)
    events.append([event("first")])
    before = disk.flushes
    disk.may_go_on.clear()
    threads = [threading.Thread(target=events.append, args=([event(f"e{number}")],)) for number in range(8)]
    for thread in threads:
        thread.start()
    reader = SqliteEvents(database)
    while len(reader.read(0, 100)) < 9:  # all have committed, and wait
        time.sleep(0.01)
    disk.may_go_on.set()
    for thread in threads:
        thread.join()
    assert disk.flushes - before <= 3
    assert disk.events() == {"first", *(f"e{number}" for number in range(8))}


def test_a_log_made_anew_is_flushed_as_well(disk: Disk) -> None:
    """SQLite removes its log when all connections are closed; the next one is another file."""
    for number in range(3):
        database = Database(disk.path)
        SqliteEvents(database).append([event(f"e{number}")])
        assert f"e{number}" in disk.events()
        database.close()


def test_an_event_that_did_not_reach_the_disk_is_not_acknowledged(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that fails makes the store unavailable; the next one acknowledges again."""

    def fails(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    events = SqliteEvents(database)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fails)
        with pytest.raises(StoreUnavailableError, match="Input/output error"):
            events.append([event("e1")])
    assert [False] == events.append([event("e1")])  # it was committed, and is a duplicate now


def test_all_who_wait_while_a_flush_fails_are_told(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system reports a failed flush once: those who have committed meanwhile are not acknowledged either."""
    database = Database(disk.path)
    events, begun, may_fail = SqliteEvents(database), threading.Event(), threading.Event()
    told: list[bool] = []

    def fails_once(_descriptor: int) -> None:
        if not begun.is_set():
            begun.set()
            may_fail.wait(30)
            raise OSError(5, "Input/output error")

    def append(name: str) -> None:
        try:
            events.append([event(name)])
            told.append(True)
        except StoreUnavailableError:
            told.append(False)

    monkeypatch.setattr(os, "fdatasync", fails_once)
    threads = [threading.Thread(target=append, args=(f"e{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    while not begun.is_set() or len(SqliteEvents(database).read(0, 100)) < 4:  # all have committed, and wait
        time.sleep(0.01)
    time.sleep(0.1)
    may_fail.set()
    for thread in threads:
        thread.join()
    assert [False] * 4 == told
    database.close()


def test_flushing_can_be_left_out(disk: Disk) -> None:
    """With the setting off, nothing waits for the disk."""
    database = Database(disk.path, is_flushed=False)
    SqliteEvents(database).append([event("e1")])
    assert disk.flushes == 0
    database.close()


@pytest.mark.parametrize("is_flushed", [True, False])
def test_the_server_answers_after_the_flush(monkeypatch: pytest.MonkeyPatch, *, is_flushed: bool) -> None:
    """ReportEvents of a server with the default setting returns once its events are on the disk."""
    flushed: list[int] = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    with serving(sqlite_flush=is_flushed) as served:
        flushed.clear()
        told = Event(event_id="e1", user=User(user_id="ada"), catalog="paris")
        told.custom.name = "opened"
        answer = EventServiceStub(served.channel).ReportEvents(ReportEventsRequest(events=[told]), timeout=10)
        assert not answer.results[0].HasField("status")
        assert is_flushed == bool(flushed)
