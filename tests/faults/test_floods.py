"""Floods of values that are all different: memory and metrics stay bounded."""

import urllib.request
from collections.abc import Callable, Iterator

import pytest

from benchmarks.peers.servers import free_port
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.offer_service_pb2 import BatchGetOffersRequest, GetOffersRequest
from tests.faults.clients import PATIENCE_S, Client, client_of, order, write_catalog
from tests.faults.process import memory_of
from tests.server.running import Server, started

WARM, BATCHES, SIZE = 10, 12, 500
"""Batches until caches are full, those after them, and requests of each."""
MOST_GROWTH = 48 << 20
"""Bytes by which memory may grow after that: 6,000 requests that left 8 kB each would be above."""


METRICS_PORT = free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one worker, with metrics."""
    folder = tmp_path_factory.mktemp("floods")
    with started(folder, catalogs=(write_catalog(folder),), workers=1, metrics_port=METRICS_PORT) as running:
        yield running


def series() -> set[str]:
    """Return the names and labels of all metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def request(kind: str, number: int) -> GetOffersRequest:
    """Return a request one of whose values is new."""
    name = f"{kind}-{number}"
    language = "".join(chr(ord("a") + number // 26**place % 26) for place in range(5))
    match kind:
        case "placement":
            return GetOffersRequest(placement=name)
        case "surface":
            return GetOffersRequest(context=Context(channel=name, language_code=f"fr-{language}"))
        case "user":
            return GetOffersRequest(context=Context(user=User(user_id=name)))
        case "session":
            return GetOffersRequest(context=Context(session=Session(session_id=name, entry_campaign=name)))
        case _:
            return GetOffersRequest(request_id=name, catalog=name if number % 2 else "")


@pytest.mark.parametrize("kind", ["placement", "surface", "user", "session", "request_id"])
def test_values_that_differ_in_every_request_fill_no_memory(server: Server, kind: str) -> None:
    """Placements, channels, languages, persons, sessions and ids may each be new, without a trace that stays."""

    def ask(client: Client, batch: int) -> None:
        requests = [request(kind, batch * SIZE + number) for number in range(SIZE)]
        client.offers.BatchGetOffers(BatchGetOffersRequest(requests=requests), timeout=PATIENCE_S)

    check(server, ask)


def check(server: Server, send: Callable[[Client, int], None]) -> None:
    """Send batches until caches are full and many more; memory does not grow with these, nor does any metric appear."""
    (pid,) = server.workers()
    before = series()
    with client_of(server.target) as client:
        for batch in range(WARM):
            send(client, batch)
        warm = memory_of([pid])
        for batch in range(WARM, WARM + BATCHES):
            send(client, batch)
        assert memory_of([pid]) < warm + MOST_GROWTH
        assert client.ask().offers
    assert before == series()
    assert {pid} == server.workers()


def test_events_that_all_differ_fill_no_memory(server: Server) -> None:
    """Persons and ids of events, too."""

    def report(client: Client, batch: int) -> None:
        events: list[Event] = [order(f"{batch}-{number}", f"{batch}-{number}") for number in range(SIZE)]
        client.events.ReportEvents(ReportEventsRequest(events=events), timeout=PATIENCE_S)

    check(server, report)
