"""Hypothetical requests for other times leave stored data, other requests and unloaded engines alone."""

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.timestamp_pb2 import Timestamp

from offers.decision.engine import Engine
from offers.server.limits import MAX_SEEN
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import PersonReader
from offers.state.stores import StateStore
from offers.testing import serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL, Context
from offers.v1.event_pb2 import EventKind
from offers.v1.offer_service_pb2 import (
    BatchGetOffersRequest,
    GetOffersRequest,
    GetOffersResponse,
    SeenOffer,
)
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_service_pb2 import DeleteProfileRequest
from tests.server.persons import NOW, Server, event, known, server
from tests.server.running import wait_for

NOON, NIGHT = 1_795_345_200, 1_795_345_200 - 9 * 3600
QUIET = {
    "catalog_id": "quiet",
    "time_zone": "Europe/Paris",
    "contact_policies": [{"contact_policy_id": "sleep", "categories": ["calm"], "quiet_hours": "00:00-07:00"}],
    "offers": [
        {
            "offer_id": "calm",
            "title": "calm",
            "category": "calm",
            "benefit": {"percent_off": 5},
            "target": {"everywhere": True},
            "frequency_caps": [{"max_count": 3}],
        }
    ],
}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with empty stores."""
    with server(tmp_path_factory.mktemp("times")) as running:
        yield running


def asked(at: Server, user: str, second: int) -> None:
    """Make a decision for a person at an instant, and wait until it is logged."""
    before = len(at.served.stores.events.decisions_after(0, 1000))
    request = GetOffersRequest(context=Context(user=known(user)))
    request.context.time.seconds = second
    OfferServiceStub(at.served.channel).GetOffers(request, timeout=20)
    wait_for(lambda: len(at.served.stores.events.decisions_after(0, 1000)) > before, "the decision is kept")


def test_a_question_about_before_an_erasure_erases_nothing(at: Server) -> None:
    """A request for an instant before an erasure removes nothing that happened since."""
    at.report(event("e1", offer_id="lunch", click={}))
    at.profiles.DeleteProfile(DeleteProfileRequest(user=known("alice")), timeout=20)
    at.clock[0] = NOW + 100.0
    at.report(event("e2", at=NOW + 50, offer_id="lunch", click={}))
    asked(at, "alice", NOW - 5)
    asked(at, "bob", NOW + 60)
    assert ["e2"] == [one.event_id for one in at.served.stores.events.of_person(["u:alice"])]


def test_a_decision_is_kept_from_when_it_was_made(at: Server) -> None:
    """A decision for a slightly different instant is swept with those made at the same time."""
    asked(at, "carl", NOW + 60)
    (_, decision) = at.served.stores.events.decisions_after(0, 1000)[-1]
    assert ("u:carl", int(at.clock[0])) == (decision.person, decision.second)


def test_seen_offers_are_checked(at: Server) -> None:
    """Impossible instants, too few and too many seen offers are refused by name, for each request of a batch."""
    fitting = SeenOffer(offer_id="lunch", times=[Timestamp(seconds=NOW)])
    batch = BatchGetOffersRequest(
        requests=[
            GetOffersRequest(seen=seen)
            for seen in (
                [SeenOffer(offer_id="lunch", times=[Timestamp(seconds=NOW), Timestamp(seconds=-5)])],
                [fitting, SeenOffer(offer_id="lunch", times=[Timestamp(seconds=2**33)])],
                [SeenOffer(offer_id="lunch")],
                [SeenOffer(offer_id="lunch", times=[Timestamp(seconds=NOW)] * (MAX_SEEN + 1))],
                [fitting] * (MAX_SEEN + 1),
                [fitting],
            )
        ]
    )
    response = OfferServiceStub(at.served.channel).BatchGetOffers(batch, timeout=20)
    fields = ["seen[0].times", "seen[1].times", "seen[0].times", "seen[0].times", "seen", ""]
    assert fields == [one.status.message.partition(":")[0] for one in response.results]


def test_more_may_be_seen_than_a_counter_holds(at: Server) -> None:
    """Of 100,000 impressions the last count."""
    times = [Timestamp(seconds=NOW - second) for second in range(1000)]
    kind = EventKind.EVENT_KIND_IMPRESSION
    request = GetOffersRequest(seen=[SeenOffer(offer_id="lunch", kind=kind, times=times)] * 100)
    response = OfferServiceStub(at.served.channel).GetOffers(request, timeout=20)
    assert ["ride"] == [offer.offer_id for offer in response.offers]


def test_engines_go_when_others_come(at: Server) -> None:
    """Events do not keep a replaced engine in memory."""
    before = weakref.ref(at.served.worker.live.engines()[0])
    at.report(event("e3", at=None, offer_id="lunch", click={}))
    first = before()
    assert first is not None
    at.served.worker.serve([Engine(first.snapshot)])
    del first

    def is_gone() -> bool:
        gc.collect()
        return before() is None

    wait_for(is_gone, "the engine is gone")


class _Slow:
    """A state store that runs something else during its first read."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.meanwhile: threading.Thread | None = None

    def read(self, person: str) -> bytes:
        """Run the other action, then read from the store."""
        other, self.meanwhile = self.meanwhile, None
        if other is not None:
            other.start()
            other.join()
        return self._store.read(person)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def test_a_question_about_the_night_leaves_those_about_noon_alone(tmp_path: Path) -> None:
    """A concurrent request for another time, between the two calls of a decision, does not change its hours."""
    source = tmp_path / "catalog.yaml"
    source.write_text(yaml.safe_dump(QUIET))
    with serving(source, clock=lambda: NOON, data_dir=tmp_path / "data") as served:
        slow: Any = _Slow(served.stores.state)
        engines = served.worker.live.engines()
        people = PersonReader(slow, frozenset())
        service = OfferService(Live(engines), lambda: NOON, people)
        request = GetOffersRequest(context=Context(user=known("alice")))
        request.context.user.consent.purposes.append(CONSENT_PURPOSE_CONTEXTUAL)  # else it goes the long way anyhow
        noon = request.SerializeToString()
        request.context.time.seconds = NIGHT
        night = request.SerializeToString()

        def shown(data: bytes) -> list[str]:
            return [offer.offer_id for offer in GetOffersResponse.FromString(service.get_offers(data)).offers]

        assert [["calm"], []] == [shown(noon), shown(night)]
        assert ["calm"] == shown(noon)
        slow.meanwhile = threading.Thread(target=service.get_offers, args=(night,))
        assert ["calm"] == shown(noon)
        assert slow.meanwhile is None
