"""A server goes on with the last good state of its catalogues, whatever happens to files and compilers.

One server for all tests: each leaves it serving a good document.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from offers.catalogue.snapshot import verify_snapshot
from offers.errors import SnapshotError
from tests.server.process.test_processes import title_of, write
from tests.server.running import LONG_S, Server, started, wait_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the server: its document, its data, and its folder of temporary files."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "scratch").mkdir()
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """A server of a small catalogue."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "scratch"))
        with started(folder, catalogs=(write(folder),), workers=1) as server:
            yield server


def snapshot_of(server: Server) -> Path:
    """The snapshot in service."""
    return Path(server.lines("catalogue_published")[-1]["path"])


def is_whole(snapshot: Path) -> bool:
    """Return whether all files of a snapshot are as they were written."""
    try:
        verify_snapshot(snapshot)
    except SnapshotError:
        return False
    return True


def await_successor(server: Server, pid: int) -> None:
    """Wait until another worker than that of a process id serves."""
    serving = health_pb2.HealthCheckResponse.SERVING
    wait_for(lambda: server.workers() - {pid} and server.health() == serving, "another worker serves", LONG_S)


def test_nothing_of_a_server_is_in_the_folder_of_temporary_files(server: Server, folder: Path) -> None:
    """A server works without the folder of temporary files."""
    assert [] == list((folder / "scratch").iterdir())
    (folder / "scratch").rmdir()
    assert title_of(server)


def test_damaged_files_of_a_snapshot_in_service(server: Server) -> None:
    """A worker and its successor serve a copy that no file can change; the files are made anew from the document."""
    snapshot, title, (pid,) = snapshot_of(server), title_of(server), server.workers()
    for file in snapshot.iterdir():
        os.truncate(file, 0)
    assert [title] * 5 == [title_of(server) for _ in range(5)]
    assert {pid} == server.workers()
    os.kill(pid, signal.SIGBUS)
    await_successor(server, pid)
    assert title == title_of(server)
    wait_for(lambda: is_whole(snapshot), "the files are whole again", LONG_S)


def test_neither_snapshot_nor_document_nor_compiler_is_any_good(server: Server, folder: Path) -> None:
    """A worker can begin all the same. Each fault is told, and the next good edit is served."""
    snapshot, title, (pid,) = snapshot_of(server), title_of(server), server.workers()
    wait_for(lambda: not server.compilers(), "nothing is compiled", LONG_S)
    before = len(server.lines("catalogue_refused"))

    def refused(count: int) -> dict[str, Any]:
        wait_for(lambda: len(server.lines("catalogue_refused")) >= before + count, "it is refused", LONG_S)
        return server.lines("catalogue_refused")[before + count - 1]

    (folder / "small.yaml").unlink()
    os.mkfifo(folder / "small.yaml")
    shutil.rmtree(snapshot)
    assert "it is neither a file nor a folder" in refused(1)["problems"][0]
    os.kill(pid, signal.SIGKILL)
    await_successor(server, pid)
    assert title == title_of(server)

    write(folder, title="its compiler is killed")
    (compiler,) = wait_for(server.compilers, "it is compiled", LONG_S)
    os.kill(compiler, signal.SIGKILL)
    assert "SIGKILL" in refused(2)["problems"][0]
    assert refused(2)["retry_s"] == 10
    assert title == title_of(server)

    write(folder, title="good again")
    wait_for(lambda: title_of(server) == "good again", "it is served", LONG_S)
