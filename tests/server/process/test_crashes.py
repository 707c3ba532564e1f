"""Workers that are killed while they take events in: every event has exactly one effect in the end."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import grpc
import pytest

from offers.client import CHANNEL_OPTIONS
from offers.settings import Settings
from offers.state.opening import open_stores
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest, ReportEventsResponse
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.profile_service_pb2 import GetProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from tests.server.persons import CATALOG, event
from tests.server.running import Server, started, wait_for

PERSONS, KILLS = 7, 6


def orders(count: int, name: str) -> list[Event]:
    """Orders of several persons, each with its id."""
    return [event(f"{name}-{number}", f"person-{number % PERSONS}", at=None, order={}) for number in range(count)]


def sent(running: Server, events: Sequence[Event]) -> ReportEventsResponse:
    """Report events, again and again until a worker has lived to say that they are taken in."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with grpc.insecure_channel(running.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                response: ReportEventsResponse = EventServiceStub(channel).ReportEvents(
                    ReportEventsRequest(events=events), timeout=5
                )
            except grpc.RpcError:
                time.sleep(0.05)
            else:
                return response
    raise AssertionError("no worker has answered")


def once(running: Server, batch: ReportEventsRequest) -> None:
    """Report events, and care for no answer."""
    with grpc.insecure_channel(running.target) as channel, suppress(grpc.RpcError):
        EventServiceStub(channel).ReportEvents(batch, timeout=20)


def counts(running: Server) -> list[int]:
    """The orders that are counted of each person."""
    with grpc.insecure_channel(running.target, options=CHANNEL_OPTIONS) as channel:
        stub = ProfileServiceStub(channel)
        users = [User(user_id=f"person-{number}") for number in range(PERSONS)]
        requests = [GetProfileRequest(user=user) for user in users]
        return [stub.GetProfile(request, timeout=10).profile.order_count for request in requests]


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """The catalogue's file."""
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG)
    return path


def test_events_have_one_effect_though_workers_are_killed(tmp_path: Path, catalog: Path) -> None:
    """Batches are sent until they are answered, while workers are killed at random: each order counts once."""
    with started(tmp_path, workers=2, catalogs=(catalog,)) as running:
        running.wait_until_ready()
        random = Random(7)
        ended = threading.Event()

        def kill() -> None:
            for _ in range(KILLS):
                workers = wait_for(running.workers, "a worker is there", 30)
                os.kill(random.choice(sorted(workers)), signal.SIGKILL)
                time.sleep(random.uniform(0.3, 1.2))
            ended.set()

        killer = threading.Thread(target=kill)
        batches: list[list[Event]] = []
        killer.start()
        while not ended.is_set() or not batches:
            batches.append(orders(100, f"batch-{len(batches)}"))
            sent(running, batches[-1])
        killer.join()
        again = [sent(running, batch) for batch in batches]
        assert {True} == {result.duplicate for response in again for result in response.results}
        assert [len(batches) * len(range(person, 100, PERSONS)) for person in range(PERSONS)] == counts(running)
        assert running.lines("worker_died")


def test_what_a_killed_worker_left_is_recovered(tmp_path: Path, catalog: Path) -> None:
    """Events that a worker logged, in another file than the state's, before it was killed have their effect without
    being sent again.
    """  # noqa: D205
    events_url = str(tmp_path / "data" / "events.db")
    with started(tmp_path, workers=1, catalogs=(catalog,), events_url=events_url) as running:
        running.wait_until_ready()
        stores = open_stores(Settings(data_dir=tmp_path / "data", events_url=events_url))
        try:
            for attempt in range(1, 11):  # until a kill has come between a batch's first and last effect
                batch = ReportEventsRequest(events=orders(1000, f"left-{attempt}"))
                sender = threading.Thread(target=once, args=(running, batch))
                sender.start()
                wait_for(lambda: stores.events.known([f"left-{attempt}-0"]), "the batch is logged")  # noqa: B023
                (worker,) = running.workers()
                os.kill(worker, signal.SIGKILL)
                sender.join()
                wait_for(lambda: running.health() and not stores.events.unapplied(1), "all had their effect", 30)
                assert [attempt * len(range(person, 1000, PERSONS)) for person in range(PERSONS)] == counts(running)
                if running.lines("events_recovered"):
                    break
            assert running.lines("events_recovered")
        finally:
            stores.close()
