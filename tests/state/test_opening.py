"""SQLite files that cannot be used, that are exchanged, and that vanish while they are open."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from offers.cli import app
from offers.errors import OtherStoreError, StoreUnavailableError, UnusableStoreError
from offers.settings import Settings
from offers.state import identity
from offers.state.checking import check_stores
from offers.state.opening import FILE, Stores, open_stores
from tests.paths import ROOT
from tests.server.running import wait_for
from tests.state.contract.test_events import event

NOBODY = 65_534
CUTS_SHORT = """
import os, sys
from pathlib import Path
from offers.errors import StoreUnavailableError
from offers.settings import Settings
from offers.state.opening import FILE, open_stores

folder = Path(sys.argv[1])
events = open_stores(Settings(data_dir=folder)).events
(first,) = events.read(0, 1)
assert events.append([first.event._replace(event_id="in the log")]) == [True]
assert [first] == events.read(0, 1)
os.truncate(folder / FILE, 4096)
try:
    events.read(200, 1)
except StoreUnavailableError as error:
    print(error)
"""
"""Has a file in use, which is then truncated, and reads pages of it that are not there any more."""


def settings_in(folder: Path, **fields: object) -> Settings:
    """Settings of a server with its data in a folder."""
    return Settings.model_validate({"data_dir": folder, "sqlite_flush": False, **fields})


def worked(folder: Path) -> Path:
    """Have a server work in a folder; return its file."""
    check_stores(settings_in(folder))
    with closing(open_stores(settings_in(folder), is_server=True)) as stores:
        stores.events.append([event("e1")])
    return folder / FILE


def names_in(stores: Stores) -> list[str]:
    """Return the ids of all events."""
    return [one.event.event_id for one in stores.events.read(0, 100)]


def is_read(stores: Stores) -> bool:
    """Return whether the store can be read."""
    with suppress(StoreUnavailableError):
        return bool(names_in(stores) or stores.state.read("u:1") == b"")
    return False


def _sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def _foreign(path: Path) -> None:
    path.unlink(missing_ok=True)
    _sql(path, "CREATE TABLE bookmark (url TEXT)", "PRAGMA user_version = 4")


def _text(path: Path) -> None:
    path.write_text("notes " * 1_000, "utf-8")


def _newer(path: Path) -> None:
    if not path.exists():
        open_stores(settings_in(path.parent)).close()
    _sql(path, "PRAGMA user_version = 99")


def _truncated(path: Path) -> None:
    if not path.exists():
        open_stores(settings_in(path.parent)).close()
    os.truncate(path, path.stat().st_size // 2)


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "foreign": (_foreign, "is the database of another program"),
    "text": (_text, "file is not a database"),
    "newer": (_newer, "has format 99, and this version reads up to 4"),
    "truncated": (_truncated, "database disk image is malformed"),
    "folder": (_folder, "is a folder: name a file"),
    "pipe": (_pipe, "is a pipe: name a file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_never_worked_ends_the_start(tmp_path: Path, fault: str) -> None:
    """The reason is told, and the file stays as it is: another program's keeps its journal mode and its tables."""
    make, reason = FAULTS[fault]
    path = tmp_path / FILE
    make(path)
    before = path.read_bytes() if path.is_file() else b""

    with pytest.raises(UnusableStoreError, match=f"^state_url: .*{reason}"):
        check_stores(settings_in(tmp_path))
    assert before == (path.read_bytes() if path.is_file() else b"")
    assert not (tmp_path / identity.FILE).exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_whose_file_worked_starts_without_it(tmp_path: Path, fault: str) -> None:
    """It says so, refuses every call, and goes on with the file once that is back."""
    make, reason = FAULTS[fault]
    path = worked(tmp_path)
    shutil.copy(path, tmp_path / "kept")
    make(path)

    with capture_logs() as logs:
        check_stores(settings_in(tmp_path))
        stores = open_stores(settings_in(tmp_path), is_server=True)
    assert ["store_unusable", "store_lost"] == [line["event"] for line in logs]
    assert all(reason in line["reason"] for line in logs)
    calls = (
        lambda: stores.events.append([event("e2")]),
        lambda: stores.state.read("u:1"),
        lambda: stores.state.change([("u:1", lambda _record, _erased: b"new")]),
        stores.ledger.usage,
    )
    for call in calls:
        with pytest.raises(UnusableStoreError, match=reason):
            call()
    path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "kept").rename(path)
    wait_for(lambda: is_read(stores), "the file is used")
    assert ["e1"] == names_in(stores)
    assert [False, True] == stores.events.append([event("e1"), event("e2")])
    stores.close()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that this process may read and not write, for which root becomes another user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        worked(folder)
        for path in (folder / FILE, folder / identity.FILE):
            path.chmod(0o444)
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_file_that_cannot_be_written_is_not_used(unprivileged: Path) -> None:
    """A server that worked with a read-only file starts without it; one that never did does not start."""
    with capture_logs() as logs:
        check_stores(settings_in(unprivileged, outbox_url=f"file://{tempfile.gettempdir()}/outbox.jsonl"))
    assert ["store_unusable"] == [line["event"] for line in logs]
    with tempfile.TemporaryDirectory() as other, pytest.raises(UnusableStoreError, match=r"readonly|unable to open"):
        check_stores(settings_in(Path(other), state_url=str(unprivileged / FILE)))


@pytest.mark.parametrize("left", ["nothing", "empty", "another"])
def test_a_lost_file_is_not_replaced(tmp_path: Path, left: str) -> None:
    """No new store takes the place of one that is gone, nor does another, until the operator says so."""
    path = worked(tmp_path / "data")
    path.unlink()
    if left == "empty":
        path.touch()
    if left == "another":
        shutil.copy(worked(tmp_path / "other"), path)
    settings = settings_in(path.parent)

    reason = "was exchanged for another store" if left == "another" else "is gone or empty"
    for start in (lambda: check_stores(settings), lambda: open_stores(settings, is_server=True).state.read("u:1")):
        with pytest.raises(OtherStoreError, match=f"{reason}.*offers stores forget state events --data-dir"):
            start()
    assert path.exists() == (left != "nothing")
    told = CliRunner().invoke(app, ["stores", "forget", "state", "events", "--data-dir", str(path.parent)])
    assert f"forgotten: {path}\n" == told.output
    check_stores(settings)
    shown = CliRunner().invoke(app, ["stores", "show", "--data-dir", str(path.parent)])
    assert [["state", str(path)], ["events", str(path)]] == [line.split()[:2] for line in shown.output.splitlines()]


def test_a_store_may_move_and_another_place_is_refused(tmp_path: Path) -> None:
    """The same file is accepted under another path; a new one beside the old one is not created."""
    path = worked(tmp_path)
    with pytest.raises(OtherStoreError, match=r"beside\.db is new.*set state_url to that again"):
        check_stores(settings_in(tmp_path, state_url=str(tmp_path / "beside.db")))
    assert not (tmp_path / "beside.db").exists()
    moved = path.rename(tmp_path / "moved.db")
    fields = {"state_url": str(moved), "events_url": f"sqlite://{moved}"}
    check_stores(settings_in(tmp_path, **fields))

    with closing(open_stores(settings_in(tmp_path, **fields), is_server=True)) as stores:
        assert ["e1"] == names_in(stores)
    assert {str(moved)} == {known.place for known in identity.read(tmp_path).values()}


def test_files_of_a_folder_without_a_record_are_taken_over(tmp_path: Path) -> None:
    """So are those of a version that kept none."""
    path = worked(tmp_path)
    (tmp_path / identity.FILE).unlink()

    check_stores(settings_in(tmp_path))
    assert str(path) == identity.read(tmp_path)["state"].place


def test_a_damaged_record_ends_the_start(tmp_path: Path) -> None:
    """It is not taken for that of a folder that never worked."""
    worked(tmp_path)
    (tmp_path / identity.FILE).write_text("{", "utf-8")
    with pytest.raises(UnusableStoreError, match=r"stores\.json cannot be read \(damaged\)"):
        check_stores(settings_in(tmp_path))


def test_a_file_behind_a_link_is_flushed(tmp_path: Path) -> None:
    """SQLite keeps its log beside the file, not beside the link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / FILE).symlink_to(tmp_path / "disk" / FILE)
    with closing(open_stores(Settings(data_dir=tmp_path), is_server=True)) as stores:
        assert [True] == stores.events.append([event("e1")])
    assert (tmp_path / "disk" / FILE).exists()


def test_nothing_is_acknowledged_into_a_removed_file(tmp_path: Path) -> None:
    """The first write after the removal fails, and all calls soon after; no file is created. The file may come back."""
    path = worked(tmp_path)
    with capture_logs() as logs, closing(open_stores(settings_in(tmp_path), is_server=True)) as stores:
        assert [True] == stores.events.append([event("e2")])
        path.rename(tmp_path / "aside")
        with pytest.raises(UnusableStoreError, match="was removed while it was in use"):
            stores.events.append([event("e3")])
        for call in (lambda: names_in(stores), lambda: stores.state.read("u:1")):
            with pytest.raises(UnusableStoreError, match="was removed while it was in use"):
                call()
        assert not path.exists()
        (tmp_path / "aside").rename(path)
        wait_for(lambda: is_read(stores), "the file is used")
        assert [True] == stores.events.append([event("e4")])
    assert ["store_lost", "store_is_back"] == [line["event"] for line in logs]


def test_reads_notice_a_removed_file(tmp_path: Path) -> None:
    """Without any write, calls fail soon after the removal."""
    path = worked(tmp_path)
    with closing(open_stores(settings_in(tmp_path), is_server=True)) as stores:
        assert is_read(stores)
        path.unlink()
        wait_for(lambda: not is_read(stores), "the removal is noticed")


def test_a_backup_in_place_of_a_removed_file_is_used(tmp_path: Path) -> None:
    """It is opened as it is, and has the same names; another store in that place is not."""
    path = worked(tmp_path / "data")
    shutil.copy(path, tmp_path / "backup")
    other = worked(tmp_path / "other")
    with closing(open_stores(settings_in(path.parent), is_server=True)) as stores:
        stores.events.append([event("e2")])
        for one in path.parent.glob(f"{FILE}*"):
            one.unlink()
        wait_for(lambda: not is_read(stores), "the removal is noticed")
        shutil.copy(other, path)
        with capture_logs() as logs:
            wait_for(lambda: not is_read(stores) and logs, "the other is noticed")
        assert "was replaced by another store" in logs[0]["reason"]
        (tmp_path / "backup").replace(path)
        wait_for(lambda: is_read(stores), "the backup is used")
        assert ["e1"] == names_in(stores)
        assert [False, True] == stores.events.append([event("e1"), event("e2")])


def test_a_backup_beside_the_log_of_the_removed_file_is_not_opened(tmp_path: Path) -> None:
    """SQLite would write the old log into it."""
    path = worked(tmp_path / "data")
    shutil.copy(path, tmp_path / "backup")
    before = path.read_bytes()
    with closing(open_stores(settings_in(path.parent), is_server=True)) as stores:
        stores.events.append([event("e2")])
        (tmp_path / "backup").replace(path)
        with capture_logs() as logs:
            wait_for(lambda: not is_read(stores) and logs, "the backup is noticed")
        assert "was replaced while it was in use" in logs[0]["reason"]
        assert before == path.read_bytes()


def test_a_file_that_is_cut_short_ends_no_process(tmp_path: Path) -> None:
    """A read of pages that are not there any more fails. Were the file mapped into memory, SIGBUS would end it."""
    file = worked(tmp_path)
    with closing(open_stores(settings_in(tmp_path))) as stores:
        stores.events.append([event(f"long {number}")._replace(body=bytes(5_000)) for number in range(300)])
    command = [sys.executable, "-P", "-c", CUTS_SHORT, str(tmp_path)]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert (0, f"{file}: database disk image is malformed\n") == (ended.returncode, ended.stdout.decode())
