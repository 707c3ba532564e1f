"""Locks, deaths and clients that stand still in PostgreSQL: few connections are used up, and none for long."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import psycopg
import pytest

from offers.errors import StoreUnavailableError
from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from offers.testing import serving
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.paths import environment
from tests.server.running import wait_for
from tests.state.contract import backends
from tests.state.contract.test_events import event

MOST, CALLERS = 3, 40
LONG_S = 120.0
STANDS_STILL = """
import os, signal, sys
from offers.settings import Settings
from offers.state.opening import open_stores

class Still(list):
    def __iter__(self):
        os.kill(os.getpid(), signal.SIGSTOP)
        return super().__iter__()

open_stores(Settings.model_validate_json(sys.argv[1])).events.append(Still([()]))
"""
"""A client that stands still within the transaction of all writers."""


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    """Settings with few connections, and four seconds to answer."""
    backends.empty_postgres(postgres_url)
    return Settings(data_dir=tmp_path, events_url=postgres_url, store_timeout_ms=200, postgres_connections=MOST)


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    """Open stores whose tables are made."""
    opened = open_stores(settings)
    wait_for(lambda: works(opened), "PostgreSQL answers", LONG_S)
    yield opened
    opened.close()


def works(stores: Stores) -> bool:
    """Whether an event can be appended."""
    try:
        stores.events.append([event("e1")])
    except StoreUnavailableError:
        return False
    return True


def sessions(connection: "psycopg.Connection[tuple[int]]") -> list[int]:
    """Return the processes of the sessions that the server has with stores."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'offers'"
    return [pid for (pid,) in connection.execute(query)]


@contextmanager
def locked(url: str) -> Iterator["psycopg.Connection[tuple[int]]"]:
    """Hold a lock on the table of events, as a migration would; yields another connection."""
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as other:
        holder.execute("LOCK TABLE offers_event IN ACCESS EXCLUSIVE MODE")
        yield other


def test_a_lock_uses_up_few_connections_and_no_call_waits_for_it(stores: Stores, postgres_url: str) -> None:
    """Forty callers meet a locked table: all fail while it is locked, over few connections, and then succeed."""
    most, ends = list[int](), threading.Event()

    def call(number: int) -> bool:
        try:
            stores.events.append([event(f"e{number}")]) if number % 2 else stores.events.known(["e1"])
        except StoreUnavailableError:
            return False
        return True

    with ThreadPoolExecutor(CALLERS + 1) as pool:
        with locked(postgres_url) as other:

            def count() -> None:
                while not ends.wait(0.01):
                    most.append(len(sessions(other)))

            counting = pool.submit(count)
            assert not any(pool.map(call, range(2 * CALLERS)))  # ends before the lock does
            ends.set()
            counting.result(LONG_S)
        assert 0 < max(most) <= 2 * MOST  # on a busy machine, a session may be given up before the server ends it
        wait_for(lambda: all(pool.map(call, range(CALLERS))), "all succeed", LONG_S)


def test_a_server_answers_while_a_table_is_locked(settings: Settings, postgres_url: str) -> None:
    """Decisions are made, and events are UNAVAILABLE, with the reason; afterwards they are taken."""
    with serving(
        **settings.model_dump(include={"data_dir", "events_url", "postgres_connections", "store_timeout_ms"})
    ) as served:
        told = Event(event_id="told")
        told.custom.name = "opened"
        events, request = EventServiceStub(served.channel), ReportEventsRequest(events=[told])

        def takes() -> bool:
            try:
                return bool(events.ReportEvents(request, timeout=LONG_S).results)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - it may come or not
                return False

        wait_for(takes, "PostgreSQL answers", LONG_S)
        with locked(postgres_url):
            for _ in range(4):
                assert not takes()
                assert OfferServiceStub(served.channel).GetOffers(GetOffersRequest(), timeout=LONG_S).offers
        wait_for(takes, "events are taken again", LONG_S)


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_client_holds_up_no_others(
    stores: Stores, settings: Settings, postgres_url: str, stop: signal.Signals
) -> None:
    """A client stands still, or is killed, while it has the lock of all writers: the server ends its transaction."""
    brief = settings.model_copy(update={"store_timeout_ms": 50})
    command = [sys.executable, "-P", "-c", STANDS_STILL, brief.model_dump_json()]
    with ExitStack() as stack:
        client = stack.enter_context(subprocess.Popen(command, env=environment()))
        stack.callback(client.kill)
        wait_for(lambda: is_stopped(client.pid), "it has the lock", LONG_S)
        client.send_signal(stop)
        wait_for(lambda: works(stores), "others write", LONG_S)
        with psycopg.connect(postgres_url, autocommit=True) as other:
            wait_for(lambda: len(sessions(other)) == 1, "its session has ended", LONG_S)


def is_stopped(pid: int) -> bool:
    """Whether a process stands still."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "T"


def test_a_server_that_crashes_is_found_again(stores: Stores, postgres_url: str) -> None:
    """A session is killed, and PostgreSQL ends all others and recovers: calls fail, then succeed."""
    with ThreadPoolExecutor(MOST) as pool:
        list(pool.map(lambda number: stores.events.known([f"e{number}"]), range(20)))
    with psycopg.connect(postgres_url, autocommit=True) as other:
        before = sessions(other)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before), "all sessions have ended", LONG_S)
    wait_for(lambda: works(stores), "PostgreSQL has recovered", LONG_S)
    assert {"e1"} == stores.events.known(["e1"])


def test_a_server_that_stands_still_is_given_up(stores: Stores, postgres_url: str) -> None:
    """All of PostgreSQL's processes are stopped: calls fail, at last without waiting; then it is found again."""
    with psycopg.connect(postgres_url, autocommit=True) as other:
        session = sessions(other)[0]
        server = int(Path(f"/proc/{session}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    children = Path(f"/proc/{server}/task/{server}/children").read_text("utf-8")
    processes = [server, *map(int, children.split())]
    try:
        tell(processes, signal.SIGSTOP)
        with ThreadPoolExecutor(CALLERS) as pool:
            assert not any(pool.map(lambda _: works(stores), range(CALLERS)))
        begin = time.monotonic()
        assert not any(works(stores) for _ in range(200))
        assert time.monotonic() - begin < LONG_S  # 200 connections that are not answered would take 400 s
    finally:
        tell(processes, signal.SIGCONT)
    wait_for(lambda: works(stores), "PostgreSQL is found", LONG_S)
    gc.collect()  # closes connections that were given up half-way; a server that stops would wait for them


def tell(processes: list[int], what: signal.Signals) -> None:
    """Send a signal to processes, some of which may have ended."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, what)
