"""What orders and redemptions are put down to, whose word on consent counts, and how coarse a geohash is."""

import pytest

from offers.model.events import CLICK_WINDOW_S, IMPRESSION_WINDOW_S
from offers.model.geohash import geohash
from offers.state.person.attribution import attributed, causes_among, wants_attribution
from offers.state.person.consent import agreed, latest
from offers.state.person.ids import person_of, user_of
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    User,
)
from offers.v1.event_pb2 import Event, EventKind, Item, Order, RedemptionEvent
from offers.v1.profile_pb2 import Consent
from offers.v1.state_pb2 import RecentEvent
from tests.state.happenings import NOON

CLICK, IMPRESSION = EventKind.EVENT_KIND_CLICK, EventKind.EVENT_KIND_IMPRESSION


def recent(
    kind: EventKind.ValueType,
    before_s: int,
    proposition_id: str,
    *,
    offer_id: str = "",
    category: str = "food",
    venue_id: str = "",
) -> RecentEvent:
    """Something done a while before noon, with an offer for food."""
    event = RecentEvent(
        kind=kind, proposition_id=proposition_id, offer_id=offer_id, category=category, venue_id=venue_id
    )
    event.event_time.seconds = NOON - before_s
    return event


def order(*items: Item) -> Event:
    """An order at noon."""
    event = Event(order=Order(items=items))
    event.event_time.seconds = NOON
    return event


FOOD = order(Item(category="food"))


@pytest.mark.parametrize(
    ("expected", "events"),
    [
        ("", []),
        ("c2", [recent(CLICK, 20, "c1"), recent(CLICK, 10, "c2"), recent(IMPRESSION, 5, "i")]),
        ("i", [recent(CLICK, CLICK_WINDOW_S + 1, "c"), recent(IMPRESSION, IMPRESSION_WINDOW_S, "i")]),
        ("c", [recent(CLICK, CLICK_WINDOW_S, "c"), recent(IMPRESSION, 1, "i")]),
        ("", [recent(IMPRESSION, IMPRESSION_WINDOW_S + 1, "i")]),
        ("", [recent(CLICK, -1, "after")]),
        ("", [recent(CLICK, 1, "")]),
        ("", [recent(CLICK, 1, "c", category="transport")]),
        ("", [recent(EventKind.EVENT_KIND_DISMISSAL, 1, "d")]),
    ],
)
def test_an_order_is_put_down_to_the_last_click_else_impression(expected: str, events: list[RecentEvent]) -> None:
    """The last click of 7 days, else the last impression of a day, before, on an offer of a category of the order."""
    assert expected == attributed(FOOD, causes_among(events))


def test_an_order_is_put_down_to_its_venue() -> None:
    """A venue of the order's is as good as a category; no category is no match of no category."""
    there = recent(CLICK, 1, "c", category="", venue_id="bar")
    assert "c" == attributed(order(Item(venue_id="bar")), [there])
    assert "" == attributed(order(Item(product_id="soup")), [there])


def test_a_redemption_is_put_down_to_its_offer() -> None:
    """A redemption goes to what was done with the same offer, not with another of its category."""
    event = Event(offer_id="lunch", redemption=RedemptionEvent(redemption_id="r"))
    event.event_time.seconds = NOON
    assert "b" == attributed(event, [recent(CLICK, 2, "b", offer_id="lunch"), recent(CLICK, 1, "c", offer_id="ride")])


def test_what_names_a_proposition_is_put_down_to_no_other() -> None:
    """Orders and redemptions without a proposition want one; those with one, and all else, do not."""
    assert wants_attribution(FOOD)
    assert not wants_attribution(Event(order=Order(), proposition_id="p"))
    assert not wants_attribution(Event(offer_id="lunch", click={}))  # type: ignore[arg-type]


def test_the_request_has_the_word_on_consent() -> None:
    """What the request says counts alone; else each stored decision, over the default."""
    default = frozenset({CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_LEARNING})
    stored = [
        Consent(purpose=CONSENT_PURPOSE_PROFILING, granted=True),
        Consent(purpose=CONSENT_PURPOSE_LEARNING, granted=False),
    ]
    said = User(user_id="u", consent=ConsentGrants(purposes=[CONSENT_PURPOSE_LEARNING]))
    assert {CONSENT_PURPOSE_LEARNING} == agreed(said, stored, default)
    assert {CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING} == agreed(User(user_id="u"), stored, default)
    assert default == agreed(User(user_id="u"), [], default)
    assert set() == agreed(User(consent=ConsentGrants()), stored, default)


def test_the_last_decision_counts() -> None:
    """Of the decisions on a purpose the last is kept, and of two at once the refusal, in whatever order they come."""
    agree, refuse = (Consent(purpose=CONSENT_PURPOSE_PROFILING, granted=granted) for granted in (True, False))
    later = Consent(purpose=CONSENT_PURPOSE_PROFILING, granted=True, source="later")
    later.decision_time.seconds = NOON
    assert [refuse] == latest([agree, refuse]) == latest([refuse, agree])
    assert [later] == latest([later, refuse, agree]) == latest([refuse, agree, later])


@pytest.mark.parametrize(
    ("expected", "latitude", "longitude", "length"),
    [
        ("u4pruydqqvj", 57.64911, 10.40744, 11),
        ("ezs42", 42.605, -5.603, 5),
        ("", 42.605, -5.603, 0),
        ("zzzzzz", 90.0, 180.0, 6),
        ("000000000000", -90.0, -180.0, 12),
    ],
)
def test_geohash(expected: str, latitude: float, longitude: float, length: int) -> None:
    """Positions known from the literature, and the corners of the world, have their geohashes."""
    assert expected == geohash(latitude, longitude, length)


def test_a_person_is_known_by_either_id() -> None:
    """Users and visitors of the same id are different persons, and nobody is none."""
    persons = [User(user_id="x"), User(anonymous_id="x"), User()]
    assert ["u:x", "a:x", ""] == [person_of(user) for user in persons]
    assert persons == [user_of(person) for person in ("u:x", "a:x", "")]
