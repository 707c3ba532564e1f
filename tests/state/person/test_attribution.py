"""Attribution of orders and redemptions, precedence of consent, geohashes and ids of persons."""

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
    """Return a recent event of a food offer, some time before noon."""
    event = RecentEvent(
        kind=kind, proposition_id=proposition_id, offer_id=offer_id, category=category, venue_id=venue_id
    )
    event.event_time.seconds = NOON - before_s
    return event


def order(*items: Item) -> Event:
    """Return an order at noon."""
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
    """An order goes to the last click of 7 days, else the last impression of a day, of its items' category."""
    assert expected == attributed(FOOD, causes_among(events))


def test_an_order_is_put_down_to_its_venue() -> None:
    """A shared venue matches as a category does; an empty category matches nothing."""
    there = recent(CLICK, 1, "c", category="", venue_id="bar")
    assert "c" == attributed(order(Item(venue_id="bar")), [there])
    assert "" == attributed(order(Item(product_id="soup")), [there])


def test_a_redemption_is_put_down_to_its_offer() -> None:
    """A redemption goes to events of the same offer, not of another one of its category."""
    event = Event(offer_id="lunch", redemption=RedemptionEvent(redemption_id="r"))
    event.event_time.seconds = NOON
    assert "b" == attributed(event, [recent(CLICK, 2, "b", offer_id="lunch"), recent(CLICK, 1, "c", offer_id="ride")])


def test_only_events_without_a_proposition_are_attributed() -> None:
    """Only orders and redemptions without a proposition want attribution."""
    assert wants_attribution(FOOD)
    assert not wants_attribution(Event(order=Order(), proposition_id="p"))
    assert not wants_attribution(Event(offer_id="lunch", click={}))  # type: ignore[arg-type]


def test_the_request_has_the_word_on_consent() -> None:
    """Consent in the request counts alone; else each stored decision overrides the default."""
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
    """The last decision on a purpose is kept, of two at once the refusal, in whatever order they come."""
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
    """Published positions, and the corners of the world, have their geohashes."""
    assert expected == geohash(latitude, longitude, length)


def test_a_person_is_known_by_either_id() -> None:
    """A user and a visitor with the same id are different persons; a User without ids is nobody."""
    persons = [User(user_id="x"), User(anonymous_id="x"), User()]
    assert ["u:x", "a:x", ""] == [person_of(user) for user in persons]
    assert persons == [user_of(person) for person in ("u:x", "a:x", "")]
