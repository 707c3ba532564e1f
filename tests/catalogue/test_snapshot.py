"""Snapshots are complete or absent: damage is noticed, failed writes leave nothing, and racing writers agree."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offers.catalogue import publish as publishing
from offers.catalogue import snapshot
from offers.catalogue.check import check
from offers.catalogue.compile.compiler import compile_snapshot
from offers.catalogue.document import write_document
from offers.catalogue.hours.public_holidays import data_version
from offers.catalogue.publish import ATTEMPTS, Published, fingerprint, publish
from offers.catalogue.published import KEPT_S, prune
from offers.catalogue.snapshot import COLUMNS, map_snapshot, open_snapshot, verify_snapshot
from offers.errors import CatalogError, SnapshotError
from offers.files import new_memory
from tests.strategies import Maker

PUBLISH = """
import resource, sys
from pathlib import Path
from offers.catalogue.hours.public_holidays import data_version
from offers.catalogue.publish import publish
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
publish(Path(sys.argv[1]), Path(sys.argv[2]))
"""
"""Publishes with a limit on the size of files."""
RACE = """
import json, os, sys
from pathlib import Path
from offers.catalogue.hours.public_holidays import data_version
from offers.catalogue.publish import publish
read, write = os.pipe()
for _ in range(4):
    if not os.fork():
        os.close(write)
        os.read(read, 1)
        published = publish(Path(sys.argv[1]), Path(sys.argv[2]))
        print(json.dumps([str(published.path), published.version]), flush=True)
        os._exit(0)
os.close(write)
sys.exit(max(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(4)))
"""
"""Publishes in four processes at once: they start when every writing end of a pipe is closed."""


def write_catalog(folder: Path, size: int = 20, name: str = "catalog.binpb") -> Path:
    """Write a catalogue of so many offers."""
    path = folder / name
    write_document(path, Maker(7).catalog(size))
    return path


def content(path: Path) -> dict[str, bytes]:
    """Return the content of all files of a folder."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def names_in(folder: Path) -> list[str]:
    """Return the names of everything in a folder, including hidden files."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """A published catalogue."""
    return publish(write_catalog(tmp_path), tmp_path / "data")


def test_same_document_gives_the_same_bytes(tmp_path: Path, published: Published) -> None:
    """Compiled again elsewhere, a document has the same version and every array the same bytes."""
    again = publish(write_catalog(tmp_path), tmp_path / "elsewhere")
    assert (published.version, True) == (again.version, again.compiled)
    assert content(published.path) == content(again.path)


def test_unchanged_document_is_not_compiled_again(tmp_path: Path, published: Published) -> None:
    """A snapshot that exists is found and not touched."""
    before = content(published.path)
    again = publish(tmp_path / "catalog.binpb", tmp_path / "data")
    assert published._replace(compiled=False) == again
    assert before == content(again.path)


def test_any_edit_gives_another_version(tmp_path: Path, published: Published) -> None:
    """Another content or another file name of a folder makes another version; the old one stays."""
    other = publish(write_catalog(tmp_path, 21), tmp_path / "data")
    assert published.version != other.version
    assert sorted([published.version, other.version]) == names_in(tmp_path / "data" / "snapshots")
    folder = tmp_path / "folder"
    folder.mkdir()
    versions = []
    for name in ("a.binpb", "b.binpb"):
        versions.append(publish(write_catalog(folder, name=name), tmp_path / "data").version)
        (folder / name).unlink()
    assert 2 == len(set(versions))


def test_snapshot_is_read_only(published: Published) -> None:
    """No array of an open snapshot can be written to."""
    for array in open_snapshot(published.path).columns.values():
        assert not array.flags.writeable


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "longer", "emptied"])
@pytest.mark.parametrize("name", ["manifest.json", "wire.npy", "strategies.npy", f"{next(iter(COLUMNS))}.npy"])
def test_damage_is_noticed_and_mended(tmp_path: Path, published: Published, name: str, damage: str) -> None:
    """A damaged file makes the snapshot unusable, with a reason; publishing again puts a good one in its place."""
    good, file = content(published.path), published.path / name
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        flipped = bytearray(data)
        flipped[len(data) * 2 // 3] ^= 4
        changed = {"truncated": data[:-1], "flipped": bytes(flipped), "longer": data + b"\0", "emptied": b""}
        file.write_bytes(changed[damage])
    with pytest.raises(SnapshotError) as caught:
        open_snapshot(published.path)
    assert str(published.path) in str(caught.value)
    assert published == publish(tmp_path / "catalog.binpb", tmp_path / "data")
    assert good == content(published.path)
    assert [published.version] == names_in(tmp_path / "data" / "snapshots")


def test_every_array_is_guarded(published: Published) -> None:
    """A flipped bit in the last byte of any array is noticed."""
    for name in COLUMNS:
        file = published.path / f"{name}.npy"
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(SnapshotError, match=name):
            open_snapshot(published.path)
        file.write_bytes(data)
    open_snapshot(published.path)


def test_messages_are_guarded(tmp_path: Path, published: Published) -> None:
    """Damage to the messages is noticed when the document is published again, which mends them."""
    file = published.path / "messages.sqlite"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(SnapshotError, match=r"messages\.sqlite is damaged"):
        verify_snapshot(published.path)
    publish(tmp_path / "catalog.binpb", tmp_path / "data")
    verify_snapshot(published.path)


def test_open_snapshot_survives_its_files(published: Published) -> None:
    """Files that are cut short under an open snapshot change nothing of it."""
    found = open_snapshot(published.path)
    before = {name: array.tobytes() for name, array in found.columns.items()}
    for file in published.path.iterdir():
        os.truncate(file, 0)
    assert before == {name: array.tobytes() for name, array in found.columns.items()}
    with pytest.raises(SnapshotError):
        open_snapshot(published.path)


def test_shared_memory_is_sealed(published: Published) -> None:
    """Memory that several processes map can be neither written nor cut short, by whatever process has it."""
    memory = new_memory()
    assert memory is not None
    found = open_snapshot(published.path, memory)
    for attempt in (lambda: os.ftruncate(memory, 0), lambda: os.pwrite(memory, b"x", 0)):
        with pytest.raises(PermissionError):
            attempt()
    mapped = map_snapshot(published.path, memory)
    os.close(memory)
    assert (found.version, found.meta, found.size) == (mapped.version, mapped.meta, mapped.size)
    for name, array in open_snapshot(published.path).columns.items():
        assert array.tobytes() == found.columns[name].tobytes() == mapped.columns[name].tobytes()
        assert not mapped.columns[name].flags.writeable
    with pytest.raises(SnapshotError, match="cannot be read"):
        map_snapshot(published.path, os.open(os.devnull, os.O_RDONLY))


@pytest.mark.parametrize("name", ["manifest.json", "gate.npy", "messages.sqlite"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to nothing"])
def test_what_is_no_file_in_a_snapshot_is_refused(tmp_path: Path, published: Published, name: str, kind: str) -> None:
    """Nothing waits for a pipe or reads a device for ever; publishing again puts a good file in its place."""
    file = published.path / name
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "device" else "/nowhere")
    with pytest.raises(SnapshotError):
        verify_snapshot(published.path)
    assert published == publish(tmp_path / "catalog.binpb", tmp_path / "data")
    verify_snapshot(published.path)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_in_place_of_a_snapshot_is_replaced(tmp_path: Path, published: Published, kind: str) -> None:
    """A file, or a link to nowhere, in place of a snapshot's folder does not keep it from being published."""
    shutil.rmtree(published.path)
    if kind == "file":
        published.path.write_bytes(b"in the way")
    else:
        published.path.symlink_to("/nowhere")
    publish(tmp_path / "catalog.binpb", tmp_path / "data")
    verify_snapshot(published.path)
    assert not published.path.is_symlink()


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_file_in_place_of_a_document_is_refused(tmp_path: Path, kind: str) -> None:
    """A pipe, a device or a socket is a problem of the document: reading it may never end."""
    document = tmp_path / "document.yaml"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "pipe":
            os.mkfifo(document)
        elif kind == "device":
            document.symlink_to("/dev/zero")
        else:
            listening.bind(str(document))
        for use in (check, fingerprint, lambda source: publish(source, tmp_path / "data")):
            with pytest.raises(CatalogError, match="it is neither a file nor a folder"):
                use(document)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"null", b"\xff\xfe", b"{", b"{}", json.dumps({"format": snapshot.FORMAT}).encode(), b'{"format": 0}'],
)
def test_strange_manifests_are_refused(published: Published, manifest: bytes) -> None:
    """Anything else in place of a manifest is a SnapshotError."""
    (published.path / "manifest.json").write_bytes(manifest)
    with pytest.raises(SnapshotError):
        open_snapshot(published.path)


def test_places_without_a_snapshot_are_refused(tmp_path: Path) -> None:
    """A path that is missing, or a file, holds no snapshot."""
    for path in (tmp_path / "none", write_catalog(tmp_path)):
        with pytest.raises(SnapshotError):
            open_snapshot(path)


def run(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run one of the programs above to its end."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("limit", [0, 200, 4_000])
def test_failed_write_leaves_nothing(tmp_path: Path, published: Published, limit: int) -> None:
    """When the disk takes no more, at the first file or later, publishing fails whole: nothing of it is left, and what
    was there before is as it was."""  # noqa: D205, D209
    before = content(published.path)
    assert max(map(len, before.values())) > 4_000
    ended = run(PUBLISH, write_catalog(tmp_path, 300), tmp_path / "data", limit)
    assert 1 == ended.returncode
    assert re.search(r"OSError: .*(File too large|requested and \d+ written|disk I/O error|disk is full)", ended.stderr)
    assert [published.version] == names_in(tmp_path / "data" / "snapshots")
    assert before == content(published.path)
    open_snapshot(published.path)


@pytest.mark.parametrize("damaged", [False, True], ids=["fresh", "over a damaged one"])
def test_racing_writers_give_one_good_snapshot(tmp_path: Path, *, damaged: bool) -> None:
    """Four processes that publish one document at once all succeed, and one good snapshot is there."""
    source, data = write_catalog(tmp_path, 40), tmp_path / "data"
    if damaged:
        (publish(source, data).path / "wire.npy").unlink()
    ended = run(RACE, source, data)
    assert 0 == ended.returncode, ended.stderr
    results = ended.stdout.splitlines()
    assert 4 == len(results)
    ((path, version),) = (json.loads(one) for one in set(results))
    assert [version] == names_in(data / "snapshots")
    open_snapshot(Path(path))


def test_bad_document_leaves_what_was_published(tmp_path: Path, published: Published) -> None:
    """A document with problems is not published, and nothing else is touched."""
    before = content(published.path)
    (tmp_path / "catalog.binpb").write_bytes(b"\xff\xff")
    with pytest.raises(CatalogError):
        publish(tmp_path / "catalog.binpb", tmp_path / "data")
    assert [published.version] == names_in(tmp_path / "data" / "snapshots")
    assert before == content(published.path)


def test_document_that_keeps_changing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that changes each time it is read is refused with a reason after some attempts."""
    source, sizes = write_catalog(tmp_path, 1), iter(range(2, 100))

    def compile_and_edit(*arguments: object) -> object:
        checked = compile_snapshot(*arguments)  # type: ignore[arg-type]
        write_catalog(tmp_path, next(sizes))
        return checked

    monkeypatch.setattr("offers.catalogue.publish.compile_snapshot", compile_and_edit)
    with pytest.raises(CatalogError, match="changes while it is read"):
        publish(source, tmp_path / "data")
    assert ATTEMPTS == next(sizes) - 2


@pytest.mark.parametrize("ahead_s", [0, 365 * 86_400])
def test_outdated_snapshots_are_removed_unless_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """Snapshots and drafts unused for a week are removed; those that are served or recent stay, also where the
    machine's clock is ahead of the file system's.
    """  # noqa: D205
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + ahead_s)
    long_ago = tmp_path.stat().st_mtime - KEPT_S - 60
    for name in ("outdated", ".draft-x", "served", "recent"):
        (tmp_path / "snapshots" / name).mkdir(parents=True)
        if name != "recent":
            os.utime(tmp_path / "snapshots" / name, (long_ago, long_ago))

    prune(tmp_path, [tmp_path / "snapshots" / "served"])

    assert {"served", "recent"} == {path.name for path in (tmp_path / "snapshots").iterdir()}
    assert (tmp_path / "snapshots" / "served").stat().st_mtime > long_ago + KEPT_S


HOLIDAYS = """
catalog_id: feast
country_code: DE
offers:
- {offer_id: one, title: One, benefit: {percent_off: 5}, target: {everywhere: true},
   availability: {opening_hours: "HOURS"}}
"""


def test_snapshots_name_the_version_of_their_holidays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of other holidays is refused, its catalogue version is another, and it is compiled again."""
    feast, plain = tmp_path / "feast.yaml", tmp_path / "plain.yaml"
    feast.write_text(HOLIDAYS.replace("HOURS", "Mo-Su 09:00-18:00; PH off"))
    plain.write_text(HOLIDAYS.replace("HOURS", "Mo-Su 09:00-18:00"))
    with_holidays, without = (publish(document, tmp_path / "data") for document in (feast, plain))
    assert data_version() == open_snapshot(with_holidays.path).meta["holidays"]
    assert not open_snapshot(without.path).meta["holidays"]

    monkeypatch.setattr(snapshot, "data_version", lambda: "99.0")
    with pytest.raises(SnapshotError, match=r"compiled with holidays [0-9.]+, and 99\.0 is installed: compile"):
        open_snapshot(with_holidays.path)
    open_snapshot(without.path)

    monkeypatch.undo()
    versions = {"holidays": "99.0"}
    monkeypatch.setattr(publishing, "version_of", lambda package: versions.get(package, "1"))
    publishing._zone_data.cache_clear()  # noqa: SLF001 - the installed versions do not change else
    assert publishing.fingerprint(feast) != with_holidays.version
    changed = publishing.fingerprint(feast)
    versions["holidays"] = "99.1"
    publishing._zone_data.cache_clear()  # noqa: SLF001
    assert publishing.fingerprint(feast) != changed
    monkeypatch.undo()
    publishing._zone_data.cache_clear()  # noqa: SLF001
