"""Events add visits to a person's history, which recommendation reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.model.acts import wall_clock
from offers.model.keys import key_of
from offers.model.visits import MAX_VISITS, VISIT, place_of, short, short_in_python, trait_of
from offers.state.person.apply import Happened, apply
from offers.state.person.merge import merge
from offers.v1.event_pb2 import Event, Item, RedemptionEvent
from offers.v1.state_pb2 import UserState
from tests.state.happenings import DAY, NOON, OFFERS

HERE = "u09tun"
TRAITS = (5, 0, 6, 0)
"""Item and traits of the offer "lunch"."""
Visit = dict[str, int]


def one(number: int, second: int = NOON, offer: str = "", **fields: object) -> Happened:
    """Return an event in Paris."""
    event = Event(event_id=f"e{number}", catalog="corner", offer_id=offer, **fields)  # type: ignore[arg-type]
    event.event_time.seconds = second
    return Happened(event, OFFERS[offer] if offer else None, HERE, "Europe/Paris")


def after(*happened: Happened) -> bytes:
    """Return the record of a person after some events."""
    return apply(b"", happened) or b""


def visits(record: bytes) -> list[Visit]:
    """Return the visits of a record."""
    history = np.frombuffer(UserState.FromString(record).visits, VISIT)
    return [{name: int(visit[name]) for name in VISIT.names or ()} for visit in history]


def venue(name: str) -> int:
    """Return the key of a venue."""
    return key_of("venue", "corner", name)


def trait(kind: str, name: str) -> int:
    """Return the shortened key of a name."""
    return int(short(trait_of(kind, name)))


def test_a_visit_says_what_where_and_when() -> None:
    """An order is a visit of its venue, with its item's traits, the place and the local time."""
    item = Item(venue_id="bar", category="ramen", cuisine="japanese", brand="Bento & Co", price_band="low")
    (visit,) = visits(after(one(1, order={"items": [item]})))
    expected = {
        "item": venue("bar"),
        "second": NOON + 3_600,
        "place": int(short(place_of("u09tu"))),
        "category": trait("category", "ramen"),
        "cuisine": trait("cuisine", "japanese"),
        "brand": trait("brand", "Bento & Co"),
        "price_band": trait("price_band", "low"),
        "weight": 255,
        "unused": 0,
    }
    assert expected == visit


def test_each_venue_of_an_event_is_visited_once() -> None:
    """A basket from two venues is two visits, however many items; the first name of a trait counts."""
    items = [
        Item(venue_id="bar", category="ramen"),
        Item(venue_id="baker"),
        Item(venue_id="bar", category="soup", cuisine="thai"),
        Item(category="bag"),
    ]
    found = {visit["item"]: visit for visit in visits(after(one(1, add_to_cart={"items": items})))}
    assert {venue("bar"), venue("baker")} == set(found)
    bar = found[venue("bar")]
    assert (trait("category", "ramen"), trait("cuisine", "thai"), 128) == (
        bar["category"], bar["cuisine"], bar["weight"],
    )  # fmt: skip
    assert 0 == found[venue("baker")]["category"]


@pytest.mark.parametrize(
    ("fields", "weight"),
    [
        ({"click": {}}, 76),
        ({"redemption": {"phase": RedemptionEvent.PHASE_CONFIRM}}, 255),
        ({"redemption": {"phase": RedemptionEvent.PHASE_RESERVE}}, None),
        ({"view": {"item": {"category": "ramen"}}}, 51),
        ({"impression": {}}, None),
        ({"dismissal": {}}, None),
        ({"remove_from_cart": {"items": [{"venue_id": "bar"}]}}, None),
        ({"order": {"gift": True, "items": [{"venue_id": "bar"}]}}, None),
    ],
)
def test_events_of_an_offer_are_visits_of_it(fields: dict[str, object], weight: int | None) -> None:
    """Clicks, confirmed redemptions, and views without a venue are weighted visits of their offer; others are none."""
    found = visits(after(one(1, offer="lunch", **fields)))  # type: ignore[arg-type]
    assert ([] if weight is None else [(21, weight, TRAITS[2])]) == [
        (visit["item"], visit["weight"], visit["brand"]) for visit in found
    ]


def test_values_of_items_precede_those_of_offers() -> None:
    """Traits of the item take precedence over those of the offer, and a venue over the offer's item."""
    view = one(1, offer="lunch", view={"item": {"venue_id": "bar", "category": "ramen"}})
    (visit,) = visits(after(view))
    assert (venue("bar"), trait("category", "ramen"), TRAITS[2]) == (
        visit["item"], visit["category"], visit["brand"],
    )  # fmt: skip


def test_items_of_no_catalogue_are_not_known() -> None:
    """Without a catalogue a venue has no key, and only the offer is visited."""
    event = one(1, view={"item": {"venue_id": "bar"}})
    event.event.catalog = ""
    assert [] == visits(after(event))


@pytest.mark.parametrize(
    ("second", "zone", "offset"),
    [
        (1_774_745_999, "Europe/Paris", 3_600),  # the last second of winter
        (1_774_746_000, "Europe/Paris", 7_200),
        (1_774_746_000, "Asia/Kathmandu", 20_700),
        (0, "UTC", 0),
    ],
)
def test_clocks_are_those_of_the_zone(second: int, zone: str, offset: int) -> None:
    """Local time follows its zone, to the second of a clock change."""
    assert second + offset == wall_clock(second, zone)


def test_there_is_no_wall_clock_before_1970() -> None:
    """Local times in 1969 count as the first second of 1970."""
    assert 0 == wall_clock(0, "America/New_York")


def test_the_latest_visits_are_kept() -> None:
    """A full history keeps the latest visits, in whatever order and batches they come."""
    happened = [one(number, NOON + number * 1_800, click={}, offer="lunch") for number in range(MAX_VISITS + 50)]
    record = b""
    for first in range(len(happened) - 50, -50, -50):
        record = apply(record, happened[max(first, 0) : first + 50]) or record
    assert [happened[at].event.event_time.seconds + 3_600 for at in range(50, len(happened))] == [
        visit["second"] for visit in visits(record)
    ]
    assert MAX_VISITS * VISIT.itemsize == len(UserState.FromString(record).visits)


def test_two_full_histories_become_one() -> None:
    """Merging two full histories keeps the latest visits of both, symmetrically and repeatably."""
    user = after(*[one(number, NOON + number * 3_600, click={}, offer="lunch") for number in range(MAX_VISITS)])
    visitor = after(
        *[one(1_000 + number, NOON + 1_800 + number * 3_600, click={}, offer="ride") for number in range(MAX_VISITS)]
    )
    merged = merge(user, visitor)
    seconds = [visit["second"] for visit in visits(merged)]
    assert [NOON + 3_600 + 1_800 * at for at in range(MAX_VISITS, 2 * MAX_VISITS)] == seconds
    assert visits(merged) == visits(merge(visitor, user))
    assert visits(merged) == visits(merge(merged, visitor))


def test_events_before_an_erasure_add_no_visit() -> None:
    """Events before an erasure add no visit."""
    assert apply(b"", [one(1, click={}, offer="lunch")], NOON + DAY) is None


@given(st.integers(-(2**63), 2**63 - 1))
def test_short_keys_are_the_same_in_python(key: int) -> None:
    """Keys are shortened alike in Python and in compiled loops."""
    assert short(key) == short_in_python(key)
