"""Disks that are full, read-only or broken under a server that runs: what is refused, answered and left."""

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.faults.clients import Client, client_of, code_of, order, write_catalog
from tests.paths import ROOT
from tests.server.running import Server, started, wait_for

DISK = ROOT / "tests" / "faults" / "disk"


@pytest.fixture(scope="module")
def fault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says what is wrong with the disk."""
    return tmp_path_factory.mktemp("fault") / "fault"


@pytest.fixture(scope="module")
def server(fault: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose disk can be broken."""
    folder = tmp_path_factory.mktemp("disk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(DISK), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("DISK_FAULT", str(fault))
        with started(folder, catalogs=(write_catalog(folder),), workers=1, sqlite_flush=True) as running:
            yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client of that server."""
    with client_of(server.target) as connected:
        yield connected


def refusal_of(client: Client, name: str) -> grpc.RpcError:
    """Report an order that must be refused, and return the error."""
    with pytest.raises(grpc.RpcError) as caught:
        client.report(order(name, "ada"))
    error: grpc.RpcError = caught.value
    return error


@pytest.mark.parametrize("kind", ["full", "read-only", "broken"])
def test_a_disk_that_fails_costs_events_and_no_decision(server: Server, client: Client, fault: Path, kind: str) -> None:
    """Events and profiles are UNAVAILABLE with the reason, decisions are answered, and all goes on afterwards.

    What was acknowledged counts, what was refused does not.
    """
    workers, before = server.workers(), client.orders_of("ada")
    client.report(order(f"{kind}-before", "ada"))
    told = len(server.lines("decisions_wait"))
    fault.write_text(kind)
    try:
        for number in range(3):
            error = refusal_of(client, f"{kind}-{number}")
            assert code_of(error) is grpc.StatusCode.UNAVAILABLE
            assert "disk" in str(error.details())
            assert client.ask("ada").offers
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            client.erase("bob")
        assert before + 1 == client.orders_of("ada")
        wait_for(lambda: len(server.lines("decisions_wait")) > told, "it is told that decisions wait")
    finally:
        fault.unlink()
    assert [False] * 3 == [client.report(order(f"{kind}-{number}", "ada"))[0].duplicate for number in range(3)]
    client.erase("bob")
    assert before + 4 == client.orders_of("ada")
    assert workers == server.workers()
    assert "Traceback" not in server.text


def test_files_that_may_not_grow_stop_nobody(tmp_path: Path) -> None:
    """A worker that may write nothing more, not even its log, answers decisions, and takes events once it may."""
    with started(tmp_path, catalogs=(write_catalog(tmp_path),), workers=1, sqlite_flush=True) as server:
        with client_of(server.target) as client:
            (pid,) = server.workers()
            client.report(order("before", "ada"))
            client.ask("ada")
            soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            for number in range(8):
                assert code_of(refusal_of(client, f"{number}")) is grpc.StatusCode.UNAVAILABLE
                decision_id = client.ask("ada").decision_id
                time.sleep(0.1)  # until those that write in the background have tried to
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
            wait_for(lambda: client.report(order("after", "ada")), "events are taken")
            assert 2 == client.orders_of("ada")
            wait_for(lambda: decision_id in client.decisions_of("ada"), "decisions are logged")
            assert {pid} == server.workers()
        assert 0 == server.stop()
