"""Events of one person, for property tests."""

import pytest
from hypothesis import strategies as st

from offers.model.facts import CounterSpec, OfferFacts
from offers.state.person.apply import Happened
from offers.state.person.counters import Counters
from offers.v1.event_pb2 import Event, EventKind, Item, RedemptionEvent
from offers.v1.state_pb2 import UserState

NOON = 1_795_000_000
DAY = 86_400
CAP = CounterSpec(7, EventKind.EVENT_KIND_IMPRESSION, keep=3, span_s=7 * DAY)
EVER = CounterSpec(-9, EventKind.EVENT_KIND_CLICK, keep=100, span_s=0)
OFFERS = {
    "lunch": OfferFacts("lunch", "food", "Bento & Co", (CAP, EVER), 21, (5, 0, 6, 0)),
    "ride": OfferFacts("ride", "transport", "", (EVER,), 22, (7, 0, 0, 0)),
    "gone": None,
}
NAMES = st.sampled_from(["", "ramen", "soup", "pizza"])


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Draw an event of any kind within about 60 days, some at the same instant; its id is left empty."""
    event = Event(offer_id=draw(st.sampled_from(list(OFFERS))), catalog="corner")
    event.event_time.seconds = NOON + draw(st.one_of(st.integers(0, 10), st.integers(-30 * DAY, 30 * DAY)))
    event.event_time.nanos = draw(st.sampled_from([0, 500_000_000]))
    kind = draw(st.sampled_from([field.name for field in Event.DESCRIPTOR.oneofs_by_name["kind"].fields]))
    getattr(event, kind).SetInParent()
    if kind == "view":
        fill(draw, event.view.item)
    elif kind in {"add_to_cart", "remove_from_cart", "order"}:
        for _ in range(draw(st.integers(1, 3))):
            fill(draw, getattr(event, kind).items.add())
    if kind == "order":
        event.order.gift = draw(st.booleans())
        event.order.total.currency_code = draw(st.sampled_from(["EUR", "GBP"]))
        event.order.total.units, event.order.total.nanos = draw(st.integers(0, 10**6)), draw(st.integers(0, 99)) * 10**7
    elif kind == "redemption":
        event.redemption.phase = draw(st.sampled_from(RedemptionEvent.Phase.values()))
    elif kind == "custom":
        event.custom.name = "survey"
    return event


def fill(draw: st.DrawFn, item: Item) -> None:
    """Fill in some fields of an item."""
    item.product_id = draw(NAMES)
    item.category = draw(NAMES)
    item.venue_id = draw(NAMES)
    item.cuisine = draw(NAMES)
    if draw(st.booleans()):
        item.quantity = draw(st.integers(1, 5))
        item.price.currency_code, item.price.units = "EUR", draw(st.integers(0, 20))


@st.composite
def happenings(draw: st.DrawFn, max_size: int = 40) -> list[Happened]:
    """Draw different events, each with its offer."""
    drawn = draw(st.lists(events(), max_size=max_size))
    for number, event in enumerate(drawn):
        event.event_id = f"e{number}"
    places = st.sampled_from(["", "u09tun", "u09tvz"])
    return [Happened(event, OFFERS[event.offer_id], draw(places), "Europe/Paris") for event in drawn]


def assert_alike(expected: bytes, actual: bytes) -> None:
    """Assert that two records are equal: weights up to rounding, counters as far as caps need them."""
    one, other = UserState.FromString(expected), UserState.FromString(actual)
    assert _hashes(one) == _hashes(other)
    assert _leanings(one) == pytest.approx(_leanings(other), abs=1e-9)
    assert _counters(one) == _counters(other)
    for state in (one, other):
        for field in ("applied", "leanings", "counters", "times"):
            state.ClearField(field)
    assert one == other


def _hashes(state: UserState) -> set[bytes]:
    return {state.applied[at : at + 8] for at in range(0, len(state.applied), 8)}


def _leanings(state: UserState) -> dict[tuple[int, str, str], float]:
    told: dict[tuple[int, str, str], float] = {}
    for leaning in state.leanings:
        told[leaning.dimension, leaning.name, "second"] = leaning.second
        told[leaning.dimension, leaning.name, "weight"] = leaning.weight
    return told


def _counters(state: UserState) -> dict[tuple[int, int], list[int]]:
    keep = {spec.key: spec.keep for spec in (CAP, EVER)}
    return {(key, kind): times[-keep[key] :] for key, kind, times in Counters(state.counters, state.times)}
