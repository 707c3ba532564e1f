"""`offers backup`: a copy, made while a real server takes events, from which another one starts."""

import json
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from offers.state.sqlite import backup
from offers.testing import Served, serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.profile_service_pb2 import DeleteProfileRequest, ExportProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from tests.cli.running import Run

ADA = User(user_id="ada")
BEFORE, MEANWHILE = 100, 500


def report(served: Served, name: str) -> None:
    """Report an event that names its person, and wait until it is acknowledged."""
    event = Event(event_id=name, user=ADA)
    event.custom.name = "x" * 60
    event.user.consent.purposes.append(CONSENT_PURPOSE_PROFILING)
    answer = EventServiceStub(served.channel).ReportEvents(ReportEventsRequest(events=[event]), timeout=60)
    assert not answer.results[0].HasField("status")


def exported(served: Served) -> set[str]:
    """The ids of all events of the person."""
    export = ProfileServiceStub(served.channel).ExportProfile(ExportProfileRequest(user=ADA), timeout=60)
    return {event.event_id for event in export.events}


def test_a_server_starts_from_a_backup_with_all_that_was_acknowledged(
    offers: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events and erasures go on while the backup is made; a server over it has those of before, and takes new ones."""
    data, dest, ends, done_meanwhile = tmp_path / "data", tmp_path / "backup", threading.Event(), list[int]()

    def wait_for_a_commit(_seconds: float) -> None:
        before = len(done_meanwhile)
        while len(done_meanwhile) == before and writer.is_alive():
            time.sleep(0.001)

    monkeypatch.setattr(backup, "_PAGES_AT_ONCE", 16)
    monkeypatch.setattr(backup, "_pause", wait_for_a_commit)
    with serving(data_dir=data, sqlite_flush=True) as served:
        for number in range(BEFORE):
            report(served, f"before-{number}")
        (data / "learning" / "models" / "m1").mkdir(parents=True)
        (data / "learning" / "models" / "m1" / "manifest.json").write_text("{}", "utf-8")
        (data / "learning" / "lock").touch()
        (data / "outbox.jsonl").write_text('{"offer": "o1"}\n', "utf-8")

        def go_on() -> None:
            for number in range(MEANWHILE):
                if ends.is_set():
                    return
                report(served, f"after-{number}")
                gone = DeleteProfileRequest(user=User(user_id=f"gone-{number}"))
                ProfileServiceStub(served.channel).DeleteProfile(gone, timeout=60)
                done_meanwhile.append(number)

        writer = threading.Thread(target=go_on)
        writer.start()
        done = offers("backup", dest, "--data-dir", data)
        assert writer.is_alive()
        ends.set()
        writer.join()
    assert 0 == done.status, done.err
    assert ["backup.json", "learning", "outbox.jsonl", "state.db"] == sorted(one.name for one in dest.iterdir())
    assert ["models"] == [one.name for one in (dest / "learning").iterdir()]
    assert 0o700 == dest.stat().st_mode & 0o777
    with serving(data_dir=dest) as served:
        assert {f"before-{number}" for number in range(BEFORE)} <= exported(served)
        report(served, "new")
        assert "new" in exported(served)


def test_a_backup_is_replaced_only_when_told_and_nothing_else_ever(offers: Run, tmp_path: Path) -> None:
    """An existing place is refused; --force replaces a backup, and no other folder. No draft is left behind."""
    data, dest, other = tmp_path / "data", tmp_path / "backup", tmp_path / "other"
    other.mkdir()
    with serving(data_dir=data):
        assert 0 == offers("backup", dest, "--data-dir", data).status
        refused = offers("backup", dest, "--data-dir", data)
        (dest / "mine").touch()
        assert 0 == offers("backup", dest, "--data-dir", data, "--force").status
        assert not (dest / "mine").exists()
        for place in (other, data):
            foreign = offers("backup", place, "--data-dir", data, "--force")
            assert (1, True) == (foreign.status, "is not a backup, and is not replaced" in foreign.err)
    assert (1, f"offers: {dest} exists: name another folder, or replace it with --force\n") == refused[::2]
    assert ["backup", "data", "other"] == sorted(one.name for one in tmp_path.iterdir())


def test_a_damaged_file_makes_no_backup(offers: Run, tmp_path: Path) -> None:
    """A database that is not whole is not copied in silence, and an earlier backup stays."""
    data, dest = tmp_path / "data", tmp_path / "backup"
    with serving(data_dir=data) as served:
        for number in range(BEFORE):
            report(served, f"e{number}")
    with sqlite3.connect(data / "state.db") as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event'").fetchone()
    connection.close()
    content = bytearray((data / "state.db").read_bytes())
    content[(page - 1) * 4096 : page * 4096] = bytes(4096)
    dest.mkdir()
    (dest / "backup.json").touch()
    (data / "state.db").write_bytes(content)
    failed = offers("backup", dest, "--data-dir", data, "--force")
    assert (1, True) == (failed.status, "damaged" in failed.err or "malformed" in failed.err)
    assert ["backup", "data"] == sorted(one.name for one in tmp_path.iterdir())
    assert [dest / "backup.json"] == list(dest.iterdir())


def test_a_place_without_a_database_is_said(offers: Run, tmp_path: Path) -> None:
    """No database is made where the server's data is not."""
    failed = offers("backup", tmp_path / "backup", "--data-dir", tmp_path / "data")
    assert (1, f"offers: there is no {tmp_path}/data/state.db: name the server's") == (
        failed.status,
        failed.err.partition(" --")[0],
    )
    assert [] == list(tmp_path.iterdir())


def test_stores_elsewhere_are_copied_or_named(offers: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log in a file of its own is copied beside the state; servers' tools are named, without passwords."""
    data, log = tmp_path / "data", tmp_path / "log"
    with serving(data_dir=data, events_url=str(log)) as served:
        report(served, "e1")
        two = offers("backup", tmp_path / "two", "--data-dir", data, "--events-url", log)
    assert (0, "start a copy of it with --events-url COPY/events.db\n") == two[::2]
    with serving(data_dir=tmp_path / "two", events_url=str(tmp_path / "two" / "events.db")) as served:
        assert {"e1"} == exported(served)
    monkeypatch.setenv("OFFERS_STATE_URL", "redis://:secret@cache:6379/0")
    monkeypatch.setenv("OFFERS_EVENTS_URL", "postgresql://me:secret@db/offers")
    none = offers("backup", tmp_path / "none", "--data-dir", data)
    assert 0 == none.status
    assert "redis-cli --rdb" in none.err
    assert "pg_dump" in none.err
    assert "secret" not in none.out + none.err
    assert ["events_url", "state_url"] == json.loads((tmp_path / "none" / "backup.json").read_bytes())["elsewhere"]
