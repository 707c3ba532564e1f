"""Stores of a server that are killed, paused or slow: decisions are answered, events wait or are refused."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import grpc
import psycopg
import pytest

from tests.faults.clients import Client, client_of, order, pass_over, write_catalog
from tests.server.running import Server, started, wait_for
from tests.state.contract import backends
from tests.state.contract.backends import RedisProcess

SOON_S = 10.0
"""Longer than a decision takes without its stores, on a busy machine."""
LOST_S = 0.5


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A Redis to harm."""
    with backends.redis(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL to harm."""
    with backends.postgres() as url:
        yield url


@pytest.fixture(scope="module")
def server(mortal: RedisProcess, postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one worker over both stores, with their default timeouts."""
    folder = tmp_path_factory.mktemp("stores")
    urls = {"state_url": mortal.url, "events_url": postgres_url}
    with started(folder, catalogs=(write_catalog(folder),), workers=1, **urls) as running:
        yield running
        assert "Traceback" not in running.text
        assert not running.lines("worker_died")


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client of that server, whose events are taken before and after each test."""
    with client_of(server.target) as connected:
        wait_for(lambda: takes(connected), "events are taken")
        yield connected
        wait_for(lambda: takes(connected), "events are taken again")
        wait_for(lambda: not connected.ask().degraded, "decisions lack nothing")


numbers = iter(range(1_000_000))


def takes(client: Client) -> bool:
    """Return whether an event is taken."""
    try:
        return not client.report(order(f"e-{next(numbers)}", "ada"))[0].status.code
    except grpc.RpcError as error:
        pass_over(error, {grpc.StatusCode.UNAVAILABLE})
        return False


@contextmanager
def killed(mortal: RedisProcess) -> Iterator[None]:
    """Kill Redis, and start it again afterwards."""
    mortal.kill()
    yield
    mortal.start()


@contextmanager
def paused(mortal: RedisProcess) -> Iterator[None]:
    """Let Redis stand still."""
    mortal.pause()
    yield
    mortal.resume()


@contextmanager
def slow(mortal: RedisProcess) -> Iterator[None]:
    """Let Redis keep its clients waiting for longer than the server's timeout."""
    with mortal.client() as client:
        client.client_pause(int(LOST_S * 1000))
    yield


@pytest.mark.parametrize("harm", [killed, paused, slow])
def test_a_redis_that_does_not_answer_costs_no_decision(
    client: Client, mortal: RedisProcess, harm: Callable[[RedisProcess], AbstractContextManager[None]]
) -> None:
    """Decisions say what they lack, events of persons are UNAVAILABLE, and both recover by themselves."""
    with harm(mortal):
        begin = time.monotonic()
        answer = client.ask("ada")
        assert answer.offers
        assert {"state"} <= {one.dependency for one in answer.degraded}
        assert not takes(client)
        assert time.monotonic() - begin < SOON_S


def test_a_postgresql_that_stands_still_costs_no_decision(client: Client, postgres_url: str) -> None:
    """Decisions lack nothing, events are UNAVAILABLE after the timeout, and are taken once it goes on."""
    with psycopg.connect(postgres_url, autocommit=True) as other:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        pids = [pid for (pid,) in other.execute(query).fetchall()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            reports = [threading.Thread(target=takes, args=(client,)) for _ in range(8)]
            for report in reports:
                report.start()
            answer = client.ask("ada")
            assert answer.offers
            assert not answer.degraded
            for report in reports:
                report.join()
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
