"""Processes that are killed: nothing that was acknowledged is lost or doubled. `make kills` does it longer."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

import grpc

from offers.settings import Settings
from offers.state.opening import open_stores
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from tests.faults.clients import client_of, order, used_units, write_catalog
from tests.faults.persistent import PERSONS, Clients
from tests.paths import ROOT
from tests.server.running import Server, started, wait_for

ROUNDS = int(os.environ.get("ROUNDS") or 1)
STRIDE = 1 if "ROUNDS" in os.environ else 31
"""One of so many writes is tried."""
DISK = ROOT / "tests" / "faults" / "disk"
KINDS = ("worker", "all", "learner", "workers")
"""Who is killed: "all" is supervisor, workers and learner at once."""
UNITS = 10_000
REPORTERS, REDEEMERS = 2, 4


class Killed:
    """A server whose processes are killed; after its supervisor another one starts with the same data."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._catalog = write_catalog(folder, UNITS)
        self.start()

    def start(self) -> None:
        """Start a server."""
        settings = {"workers": 2, "catalogs": (self._catalog,), "learner": True, "sqlite_flush": True}
        self.server = self._stack.enter_context(started(self._folder, **settings))
        self._target = self.server.target

    def target(self) -> str:
        """Return where the server listens; of one that is starting, where the one before did."""
        return self._target

    def kill(self, kind: str, choose: Random) -> None:
        """Kill processes of a kind, and wait until a worker answers again."""
        server, pids = self.server, set[int]()
        if kind == "all":
            pids = {server.process.pid} | server.workers() | server.learners()
        elif kind == "learner":
            pids = server.learners()
        elif workers := sorted(server.workers()):
            pids = set(workers) if kind == "workers" else {choose.choice(workers)}
        for pid in sorted(pids, key=lambda pid: pid != server.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kind == "all":
            server.process.wait()
            self.start()
        wait_for(self.server.health, "a worker answers again")


def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    """Clients report and redeem while processes are killed: what was acknowledged counts, each once.

    What was not acknowledged was repeated until it was, so the counts are equal, not only large enough.
    """
    choose = Random(7)
    with ExitStack() as stack:
        killed = Killed(tmp_path, stack)
        clients = Clients(killed.target)
        for number in range(ROUNDS):
            with clients.running(REPORTERS, REDEEMERS):
                for kind in (KINDS * ROUNDS)[2 * number : 2 * number + 2]:
                    time.sleep(choose.uniform(0.1, 0.8))
                    killed.kill(kind, choose)
            with client_of(killed.target()) as client:
                persons = [f"person-{number}" for number in range(PERSONS)]
                assert dict(clients.orders) == {person: client.orders_of(person) for person in persons}
            assert len(clients.confirmed) == len(set(clients.confirmed)) == used_units(data_dir=tmp_path / "data")
        assert clients.confirmed
        assert 0 == killed.server.stop()


def test_what_a_killed_worker_left_is_recovered(tmp_path: Path) -> None:
    """Events that a worker logged, in another file than the state's, before it was killed have their effect without
    being sent again.
    """  # noqa: D205
    events_url = str(tmp_path / "data" / "events.db")
    catalogs = (write_catalog(tmp_path),)
    with started(tmp_path, workers=1, catalogs=catalogs, events_url=events_url) as running:
        stores = open_stores(Settings(data_dir=tmp_path / "data", events_url=events_url))
        try:
            for attempt in range(1, 11):  # until a kill has come between a batch's first and last effect
                batch = orders(1000, f"left-{attempt}")
                sender = threading.Thread(target=once, args=(running, batch))
                sender.start()
                wait_for(lambda: stores.events.known([f"left-{attempt}-0"]), "the batch is logged")  # noqa: B023
                (worker,) = running.workers()
                os.kill(worker, signal.SIGKILL)
                sender.join()
                wait_for(lambda: running.health() and not stores.events.unapplied(1), "all had their effect", 30)
                with client_of(running.target) as client:
                    found = [client.orders_of(f"person-{number}") for number in range(PERSONS)]
                assert [attempt * len(range(person, 1000, PERSONS)) for person in range(PERSONS)] == found
                if running.lines("events_recovered"):
                    break
            assert running.lines("events_recovered")
        finally:
            stores.close()


def test_kills_at_any_write_leave_what_repeating_completes(tmp_path: Path) -> None:
    """A process is killed in one of its writes, half done: what was acknowledged is there, the rest can be repeated.

    The end is the same as without a kill, after a kill in each of the writes that are tried.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(DISK), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "DISK_FAULT": str(tmp_path / "fault"),
    }
    command = [sys.executable, "-m", "tests.faults.disk.steps", str(tmp_path / "steps"), str(STRIDE)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    assert 3 <= int(done.stdout)


def orders(count: int, name: str) -> list[Event]:
    """Return orders of several persons, each with its id."""
    return [order(f"{name}-{number}", f"person-{number % PERSONS}") for number in range(count)]


def once(running: Server, events: Sequence[Event]) -> None:
    """Report events, and care for no answer."""
    with grpc.insecure_channel(running.target) as channel, suppress(grpc.RpcError):
        EventServiceStub(channel).ReportEvents(ReportEventsRequest(events=events), timeout=20)
