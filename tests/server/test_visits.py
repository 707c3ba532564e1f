"""Visits are stored, exported, merged and erased with the rest of the state, over a real server and SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.learning.recommend.visit_training import VisitTraining
from offers.learning.values import CatalogueFacts
from offers.model.events import KINDS
from offers.model.keys import key_of
from offers.model.visits import place_of, short, trait_of
from offers.server.events.live_offers import LiveOffers
from offers.state.stores import LoggedEvent
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, ConsentGrants, User
from offers.v1.event_pb2 import Event
from offers.v1.profile_pb2 import Consent, Profile
from offers.v1.profile_service_pb2 import (
    DeleteProfileRequest,
    ExportProfileRequest,
    KeptVisit,
    LinkIdentitiesRequest,
    UpdateProfileRequest,
)
from tests.server.persons import AGREED, NOW, Server, event, known, server

ALICE = User(user_id="alice")
PARIS_S = 3_600
"""Offset of the local time of Paris."""
LUNCH = key_of("offer", "corner", "lunch") % 2**64
BAR = key_of("venue", "corner", "bar") % 2**64


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Server]:
    """A server with empty stores."""
    with server(tmp_path) as running:
        yield running


def click(event_id: str = "e1", second: int = NOW - 7_200, user: str = "alice") -> Event:
    """Return a click on lunch, in Paris."""
    made = event(event_id, user, second, offer_id="lunch", click={})
    made.location.latitude, made.location.longitude = 48.8674, 2.3636
    return made


def order(event_id: str = "e2", second: int = NOW, user: str = "alice") -> Event:
    """Return an order at the bar, somewhere."""
    return event(event_id, user, second, order={"items": [{"venue_id": "bar", "category": "ramen"}]})


def visits(at: Server, user: User = ALICE) -> list[KeptVisit]:
    """Return the visits of an export."""
    return list(at.profiles.ExportProfile(ExportProfileRequest(user=user), timeout=10).visits)


def test_an_export_tells_what_was_visited(at: Server) -> None:
    """A click is a visit of its offer, an order one of its venue, at local time, in the only catalogue."""
    at.report(order(), click())
    clicked, ordered = visits(at)
    assert (LUNCH, NOW - 7_200 + PARIS_S, short(place_of("u09wj")), short(trait_of("category", "food"))) == (
        clicked.item, clicked.local_time.seconds, clicked.place, clicked.category,
    )  # fmt: skip
    assert (76 / 255, short(trait_of("brand", "Bento & Co"))) == (clicked.weight, clicked.brand)
    expected = KeptVisit(item=BAR, weight=1.0, category=int(short(trait_of("category", "ramen"))))
    expected.local_time.seconds = NOW + PARIS_S
    assert expected == ordered
    assert "corner" == at.profiles.ExportProfile(ExportProfileRequest(user=ALICE), timeout=10).events[1].catalog


def test_repeated_events_are_one_visit(at: Server) -> None:
    """A repeated event, and a weaker one of the same half hour, add nothing."""
    at.report(click(), click())
    at.report(click(), event("e3", at=NOW - 7_199, offer_id="lunch", view={"item": {"product_id": "p"}}))
    assert [LUNCH] == [visit.item for visit in visits(at)]


def test_a_visitor_and_a_user_become_one(at: Server) -> None:
    """A link merges the visits of both; linking again changes nothing."""
    visitor = click()
    visitor.user.CopyFrom(User(anonymous_id="v1", consent=AGREED))
    at.report(visitor, order())
    for _ in range(2):
        at.profiles.LinkIdentities(
            LinkIdentitiesRequest(user_id="alice", anonymous_ids=["v1"], consent=AGREED), timeout=10
        )
        assert [LUNCH, BAR] == [visit.item for visit in visits(at)]


def test_visits_are_kept_with_consent_alone(at: Server) -> None:
    """Without consent to profiling there are no visits; withdrawal and erasure remove them."""
    refused = click()
    refused.user.CopyFrom(User(user_id="bob", consent=ConsentGrants()))
    at.report(refused, click("e2"), click("e3", user="carol"))
    assert [b"", 24] == [at.state("u:bob").visits, len(at.state("u:alice").visits)]
    withdrawn = Consent(purpose=CONSENT_PURPOSE_PROFILING, granted=False)
    at.profiles.UpdateProfile(
        UpdateProfileRequest(user=known("alice"), profile=Profile(consents=[withdrawn])), timeout=10
    )
    at.profiles.DeleteProfile(DeleteProfileRequest(user=User(user_id="carol")), timeout=10)
    assert [b"", b""] == [at.state(person).visits for person in ("u:alice", "u:carol")]


def test_recovered_events_add_visits(at: Server) -> None:
    """A recovered event adds its visit with the original place and time."""
    at.report(click("e0", NOW - 4_000, "bob"))
    sent = click(second=NOW - 4_000)
    sent.ClearField("location")
    sent.ClearField("user")
    sent.catalog = "corner"
    logged = LoggedEvent(
        "e1", "u:alice", NOW - 4_000, NOW - 100, KINDS["click"], "corner", "lunch", "u09wjb", learn=True,
        body=sent.SerializeToString(),
    )  # fmt: skip
    at.served.stores.events.append([logged])
    assert 1 == at.served.worker.intake.recover()
    assert at.state("u:bob").visits == at.state("u:alice").visits


def test_the_learner_sees_what_is_kept(at: Server) -> None:
    """The history learned from the server's log equals the one in the person's state."""
    at.report(click(), order(), event("e3", at=NOW - 90, offer_id="ride", view={"item": {"cuisine": "thai"}}))
    live = LiveOffers(at.served.worker.live)

    def item(catalog: str, offer: str) -> tuple[int, tuple[int, ...]]:
        facts = live.facts(catalog, offer, "")
        assert facts is not None
        return facts.item, facts.traits

    learned = VisitTraining()
    for _, logged in at.served.stores.events.read(0, 100):
        learned.add_event(
            logged, CatalogueFacts((), lambda _catalog, _offer: {}, {"corner": "Europe/Paris"}, item=item)
        )
    learned.flush()
    people = learned.people
    (count,) = people.counts[people.keys != 0]
    assert at.state("u:alice").visits == people.histories[people.keys != 0][0][:count].tobytes()
    assert 3 == count
