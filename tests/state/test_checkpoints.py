"""Erased data leaves a SQLite file and its log, and nobody waits for that, nor it for long."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from offers.errors import StoreUnavailableError
from offers.state.sqlite import checkpoints
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.testing import serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, Context, User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_service_pb2 import DeleteProfileRequest, GetProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from tests.server.running import wait_for
from tests.state.contract.backends import raw
from tests.state.contract.test_events import event

SECRET = b"u:somebody-to-be-erased"


class Reader:
    """A reader in the middle of its work, as a backup."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT count(*) FROM event").fetchone()

    def end(self) -> None:
        """Close the file."""
        self._connection.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database."""
    (tmp_path / "data").mkdir()
    opened = Database(tmp_path / "data" / "state.db")
    yield opened
    opened.close()


def is_clean(folder: Path) -> bool:
    """Whether no file has a trace of the erased."""
    return SECRET not in raw(folder)


def test_an_erasure_waits_for_no_reader_and_its_bytes_go_when_the_reader_ends(database: Database) -> None:
    """With a reader open an erasure is done at once, for all who read from then on; others write meanwhile."""
    events, folder = SqliteEvents(database), database.path.parent
    events.append([event("e1", person=SECRET.decode()), event("e2")])
    with capture_logs() as logs, pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints, "_SAID_AFTER_S", 0.1)
        reader = Reader(database.path)
        assert 1 == events.erase([SECRET.decode()])
        assert [] == events.of_person([SECRET.decode()])
        assert [True] == events.append([event("e3")])
        line = wait_for(lambda: logs and logs[0], "the process log says that it waits")
        assert ("erased_data_waits", "state.db") == (line["event"], line["file"])
        assert not is_clean(folder)
        reader.end()
        wait_for(lambda: is_clean(folder), "the erased are in no file")
    assert ["e2", "e3"] == [one.event.event_id for one in events.read(0, 9)]


def test_a_file_of_a_killed_process_is_cleaned_when_it_is_opened(database: Database, tmp_path: Path) -> None:
    """A process was killed after an erasure and before it could empty the log: the next one does."""
    events = SqliteEvents(database)
    events.append([event("e1", person=SECRET.decode())])
    reader = Reader(database.path)
    events.erase([SECRET.decode()])
    shutil.copytree(database.path.parent, tmp_path / "killed", ignore=shutil.ignore_patterns("*-shm"))
    reader.end()
    assert not is_clean(tmp_path / "killed")
    opened = Database(tmp_path / "killed" / "state.db")
    wait_for(lambda: is_clean(tmp_path / "killed"), "the erased are in no file")
    opened.close()


def test_closing_does_not_wait_for_readers(database: Database) -> None:
    """A server that stops while a backup is under way stops."""
    events, reader = SqliteEvents(database), Reader(database.path)
    events.append([event("e1", person=SECRET.decode())])
    events.erase([SECRET.decode()])
    database.close()
    reader.end()


def test_nothing_is_acknowledged_behind_a_lost_flush_while_a_reader_keeps_the_log(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed flush, writes fail until the log can be brought into the file."""

    def fails(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoints, "_GIVEN_UP_S", 0.1)
    events, reader = SqliteEvents(database), Reader(database.path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fails)
        with pytest.raises(StoreUnavailableError, match="Input/output error"):
            events.append([event("e1")])
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="cannot be emptied while a reader is open"):
            events.append([event("e1")])
    reader.end()
    assert [False] == events.append([event("e1")])
    assert not list(database.path.parent.glob("*-unflushed"))


def test_a_server_answers_all_calls_beside_a_reader_and_erasures(tmp_path: Path) -> None:
    """While a backup reads the file and persons are erased, events, decisions and profiles are answered."""
    with serving(data_dir=tmp_path, sqlite_flush=True) as served:
        events, profiles = EventServiceStub(served.channel), ProfileServiceStub(served.channel)
        reader = Reader(tmp_path / "state.db")
        for number in range(5):
            user = User(user_id=f"user-{number}")
            told = Event(event_id=f"e{number}", user=user)
            told.custom.name = "opened"
            told.user.consent.purposes.append(CONSENT_PURPOSE_PROFILING)
            events.ReportEvents(ReportEventsRequest(events=[told]), timeout=60)
            assert profiles.GetProfile(GetProfileRequest(user=user), timeout=60).HasField("profile")
            asked = GetOffersRequest(context=Context(user=user))
            assert OfferServiceStub(served.channel).GetOffers(asked, timeout=60).offers
            assert 1 == profiles.DeleteProfile(DeleteProfileRequest(user=user), timeout=60).event_count
        reader.end()
        wait_for(lambda: b"user-" not in raw(tmp_path), "the erased are in no file")
