"""The effect of events on a state does not depend on their order, repetition or batches."""

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from offers.model.facts import CounterSpec
from offers.model.visits import visits_in
from offers.state.person.apply import MAX_APPLIED, MAX_RECENT, Happened, apply
from offers.state.person.counters import Counters
from offers.state.person.leanings import PRIOR
from offers.state.person.merge import merge
from offers.state.person.view import profile_of
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING
from offers.v1.event_pb2 import Event, EventKind, Item, Order, RedemptionEvent
from offers.v1.profile_pb2 import (
    JOURNEY_PHASE_BROWSING,
    JOURNEY_PHASE_CHECKOUT,
    JOURNEY_PHASE_CHOOSING,
    JOURNEY_PHASE_ORDERED,
    JOURNEY_PHASE_UNSPECIFIED,
    LIFE_CYCLE_ACTIVE,
    LIFE_CYCLE_INACTIVE,
    LIFE_CYCLE_LAPSING,
    LIFE_CYCLE_NEW,
    LIFE_CYCLE_UNSPECIFIED,
    Consent,
    Profile,
)
from offers.v1.profile_service_pb2 import VariantAssignment
from offers.v1.state_pb2 import UserState
from tests.state.happenings import CAP, DAY, EVER, NOON, OFFERS, assert_alike, happenings


def after(record: bytes, happened: list[Happened]) -> bytes:
    """Return the record after some events, changed or not."""
    changed = apply(record, happened)
    return record if changed is None else changed


def one(event_id: str, second: int = NOON, **fields: object) -> Happened:
    """Return an event of the offer "lunch" at a second."""
    event = Event(event_id=event_id, offer_id="lunch", **fields)  # type: ignore[arg-type]
    event.event_time.seconds = second
    return Happened(event, OFFERS["lunch"])


@given(happenings(), st.randoms(use_true_random=False), st.integers(1, 7))
def test_order_repetition_and_batches_do_not_matter(happened: list[Happened], random: object, size: int) -> None:
    """Events in any order, repeated, in batches of any size, leave the same state."""
    expected = after(b"", happened)
    shuffled = happened + happened[::2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    record = b""
    for first in range(0, len(shuffled), size):
        record = after(record, shuffled[first : first + size])
    assert_alike(expected, record)


@given(happenings(), st.integers(0, 2**40), st.integers(0, 40))
def test_events_before_or_after_a_link_are_the_same(happened: list[Happened], mine: int, at: int) -> None:
    """Events of a visitor and a user make the same state, whether they come before or after the link."""
    before, later = happened[:at], happened[at:]
    user = after(b"", [what for place, what in enumerate(before) if mine >> place & 1])
    visitor = after(b"", [what for place, what in enumerate(before) if not mine >> place & 1])
    assert_alike(after(b"", happened), after(merge(user, visitor), later))


@given(happenings(), st.integers(0, 40))
def test_merging_goes_either_way_and_twice(happened: list[Happened], at: int) -> None:
    """Merging is symmetric, and merging again, or with itself, changes nothing."""
    one, other = after(b"", happened[:at]), after(b"", happened[at:])
    merged = merge(one, other)
    assert_alike(merged, merge(other, one))
    assert_alike(merged, merge(merged, other))
    assert_alike(merged, merge(merged, merged))


@given(happenings(), happenings(max_size=1), st.integers(0, 400 * DAY))
def test_an_event_makes_no_share_over_a_quarter(happened: list[Happened], last: list[Happened], later: int) -> None:
    """No share grows by more than a quarter by one event of any size; all stay between 0 and 1."""
    now = NOON + 30 * DAY
    for what in last:
        what.event.event_id = "last"
    before = shares(after(b"", happened), now)
    record = after(after(b"", happened), last)
    for name, share in shares(record, now).items():
        assert 0.0 <= share <= 1.0
        assert share <= before.get(name, 0.0) + 0.25 + 1e-12
    assert all(share <= 0.25 + 1e-12 for share in shares(after(b"", last), now + later).values())


def shares(record: bytes, now: int) -> dict[tuple[str, str], float]:
    """Return all shares of a person."""
    liked = profile_of(UserState.FromString(record), now).affinities
    return {(field.name, name): share for field, names in liked.ListFields() for name, share in names.items()}


def order(items: list[Item], *, gift: bool = False) -> Order:
    """Return an order of some items."""
    return Order(items=items, gift=gift)


def test_a_huge_gift_changes_nothing() -> None:
    """A gift of a thousand items leaves every share; the same order for oneself has a share of a quarter."""
    items = [Item(category="flowers", quantity=1_000)] * 100
    usual = apply(b"", [one("o1", order=order([Item(category="ramen")]))]) or b""
    gift = apply(usual, [one("o2", order=order(items, gift=True))]) or b""
    assert shares(usual, NOON) == shares(gift, NOON)
    assert {("categories", "flowers"): 0.25} == shares(apply(b"", [one("o3", order=order(items))]) or b"", NOON)


def test_leanings_halve_in_thirty_days() -> None:
    """A view, a click and a dismissal have their weights, and half of them 30 days later."""
    record = after(b"", [one("v", view={"item": {"category": "food"}}), one("c", click={}), one("d", dismissal={})])
    total = 0.2 + 0.3
    expected = {("categories", "food"): (total - 0.3) / (total + PRIOR), ("brands", "Bento & Co"): 0.0}
    now = shares(record, NOON)
    assert abs(expected["categories", "food"] - now["categories", "food"]) < 1e-12
    assert ("brands", "Bento & Co") not in now
    later = shares(record, NOON + 30 * DAY)["categories", "food"]
    assert abs((total - 0.3) / 2 / (total / 2 + PRIOR) - later) < 1e-12


def test_the_strongest_names_are_kept() -> None:
    """Of 60 categories, the 32 heaviest are shown, with their shares of the total."""
    views = [
        one(f"{name}-{time}", view={"item": {"category": f"c{name:02}"}})
        for name in range(60)
        for time in range(name + 1)
    ]
    liked = shares(after(b"", views), NOON)
    assert {f"c{name:02}" for name in range(28, 60)} == {name for _, name in liked}
    weight = 0.2 * sum(range(1, 61))
    assert abs(0.2 * 60 / (weight + PRIOR) - liked["categories", "c59"]) < 1e-9


def test_caps_count_the_last_events_of_their_kind() -> None:
    """A counter keeps as many instants as its cap needs, only within its window, and only of its kind."""
    happened = [one(f"i{second}", NOON + second, impression={}) for second in (50, 10, 40, 20, 30)]
    old = one("old", NOON - 8 * DAY, impression={})
    click = one("c", NOON + 5, click={})
    state = UserState.FromString(after(b"", [old, *happened, click]))
    expected = [
        (EVER.key, EventKind.EVENT_KIND_CLICK, [NOON + 5]),
        (CAP.key, EventKind.EVENT_KIND_IMPRESSION, [NOON + 30, NOON + 40, NOON + 50]),
    ]
    assert expected == list(Counters(state.counters, state.times))


def test_counters_out_of_reach_are_forgotten() -> None:
    """A counter that no window reaches is dropped with the next event of any kind.

    That holds for any order of events; a counter without a window stays.
    """
    first = [one("i", impression={}), one("c", click={})]
    for later in (
        Happened(one("r", NOON + 30 * DAY, click={}).event, OFFERS["ride"]),
        one("o", NOON + 30 * DAY, order={}),
    ):
        for arrived in ([*first, later], [later, *first], [first[0], later, first[1]]):
            record = b""
            for what in arrived:
                record = after(record, [what])
            state = UserState.FromString(record)
            assert [(EVER.key, EventKind.EVENT_KIND_CLICK)] == [
                (key, kind) for key, kind, _ in Counters(state.counters, state.times)
            ]


def test_rings_are_bounded() -> None:
    """Of 300 events, the last 50 by time and the last 256 ids are kept."""
    happened = [one(f"e{number}", NOON - number, click={}) for number in range(300)]
    state = UserState.FromString(after(b"", happened))
    assert [NOON - number for number in reversed(range(MAX_RECENT))] == [
        recent.event_time.seconds for recent in state.recent
    ]
    assert MAX_APPLIED * 8 == len(state.applied)


def test_events_before_an_erasure_change_nothing() -> None:
    """Events up to the erasure are dropped, later ones are applied."""
    assert apply(b"", [one("e", NOON, click={})], erased=NOON) is None
    assert apply(b"", [one("e", NOON + 1, click={})], erased=NOON) is not None


def test_a_redemption_counts_when_it_is_confirmed() -> None:
    """Reserving and releasing only record that the person was seen."""
    phases = [RedemptionEvent.PHASE_RESERVE, RedemptionEvent.PHASE_RELEASE]
    steps = [one(f"r{phase}", redemption={"phase": phase, "redemption_id": "r"}) for phase in phases]
    state = UserState.FromString(after(b"", steps))
    assert (0, 0, NOON) == (len(state.recent), len(state.leanings), state.profile.last_seen_time.seconds)
    used = one("u", redemption={"phase": RedemptionEvent.PHASE_CONFIRM, "redemption_id": "r"})
    assert ("brands", "Bento & Co") in shares(after(b"", [used]), NOON)


def redemption(event_id: str, second: int, of: str = "") -> Happened:
    """Return a confirmation or, with the event and second of one, its reversal. It counts for a cap."""
    phase = RedemptionEvent.PHASE_REVERSE if of else RedemptionEvent.PHASE_CONFIRM
    told = {"confirm_event_id": of, "confirm_time": {"seconds": NOON}} if of else {}
    made = one(event_id, second, redemption={"phase": phase, "redemption_id": "r", **told})
    assert made.facts is not None
    counters = (CounterSpec(5, EventKind.EVENT_KIND_REDEMPTION, keep=3, span_s=0),)
    return made._replace(facts=made.facts._replace(counters=counters))


def test_a_reversal_takes_the_redemption_back() -> None:
    """Counters and recent events are as if nothing was redeemed; what the person likes, and when they came, stays."""
    confirm, other = redemption("c", NOON), redemption("other", NOON + 5)
    record = after(b"", [confirm, other])
    reversed_ = after(record, [redemption("r", NOON + DAY, of="c")])
    state = UserState.FromString(reversed_)
    assert [(5, EventKind.EVENT_KIND_REDEMPTION, [NOON + 5])] == list(Counters(state.counters, state.times))
    assert [NOON + 5] == [recent.event_time.seconds for recent in state.recent]
    assert NOON + 5 == state.profile.last_seen_time.seconds
    assert shares(record, NOON) == shares(reversed_, NOON)
    assert list(visits_in(UserState.FromString(record).visits)) == list(visits_in(state.visits))
    assert apply(reversed_, [redemption("r", NOON + DAY, of="c"), confirm]) is None


def test_a_confirmation_that_comes_after_its_reversal_has_no_effect() -> None:
    """After a fault a logged confirmation may be applied late; what was reversed stays so."""
    late = after(after(b"", [redemption("r", NOON + DAY, of="c")]), [redemption("c", NOON)])
    state = UserState.FromString(late)
    assert ([], []) == (list(Counters(state.counters, state.times)), list(state.recent))


def test_a_reversal_of_something_unknown_changes_nothing() -> None:
    """Without a time of the confirmation there is nothing to take back."""
    made = one("r", redemption={"phase": RedemptionEvent.PHASE_REVERSE, "redemption_id": "r"})
    record = after(b"", [redemption("c", NOON)])
    before, state = UserState.FromString(record), UserState.FromString(after(record, [made]))
    assert (before.counters, before.times, before.recent) == (state.counters, state.times, state.recent)


def test_the_basket_is_what_was_put_in_since_the_last_order() -> None:
    """The basket is the additions less the removals since the last order, never negative, with its value."""
    soup = {"product_id": "soup", "price": {"currency_code": "EUR", "units": 4, "nanos": 500_000_000}}
    happened = [
        one("a", NOON, add_to_cart={"items": [{"product_id": "tea"}]}),
        one("o", NOON + 1, order={}),
        one("b", NOON + 2, add_to_cart={"items": [{**soup, "quantity": 3}]}),
        one("r", NOON + 3, remove_from_cart={"items": [soup]}),
        one("x", NOON + 4, remove_from_cart={"items": [{"product_id": "tea"}]}),
    ]
    for arrived in (happened, happened[::-1]):
        basket = profile_of(UserState.FromString(after(b"", arrived)), NOON).basket
        assert [("soup", 2)] == [(item.product_id, item.quantity) for item in basket.items]
        assert ("EUR", 9, 0) == (basket.value.currency_code, basket.value.units, basket.value.nanos)


def test_life_cycle() -> None:
    """A person is new until 30 days or two orders, then active; lapsing after 30 days unseen, inactive after 90."""
    record = after(b"", [one("a", click={})])
    expected = [LIFE_CYCLE_NEW, LIFE_CYCLE_LAPSING, LIFE_CYCLE_LAPSING, LIFE_CYCLE_INACTIVE]
    days = [29, 30, 90, 91]
    assert expected == [profile_of(UserState.FromString(record), NOON + day * DAY).life_cycle for day in days]
    twice = after(record, [one("o1", order={}), one("o2", order={})])
    assert LIFE_CYCLE_ACTIVE == profile_of(UserState.FromString(twice), NOON).life_cycle
    assert LIFE_CYCLE_UNSPECIFIED == profile_of(UserState(), NOON).life_cycle


def test_journey_phase() -> None:
    """The journey phase follows the newest decisive event of the last 30 minutes."""
    steps = [
        (one("v", NOON, view={"item": {"category": "food"}}), JOURNEY_PHASE_BROWSING),
        (one("a", NOON + 60, add_to_cart={"items": [{"product_id": "soup"}]}), JOURNEY_PHASE_CHOOSING),
        (one("c", NOON + 120, checkout_started={}), JOURNEY_PHASE_CHECKOUT),
        (one("o", NOON + 180, order={}), JOURNEY_PHASE_ORDERED),
        (one("w", NOON + 240, view={"item": {"category": "food"}}), JOURNEY_PHASE_ORDERED),
        (one("b", NOON + 300, add_to_cart={"items": [{"product_id": "tea"}]}), JOURNEY_PHASE_CHOOSING),
    ]
    record = b""
    for step, phase in steps:
        record = after(record, [step])
        assert phase == profile_of(UserState.FromString(record), step.event.event_time.seconds).journey_phase
    assert JOURNEY_PHASE_UNSPECIFIED == profile_of(UserState.FromString(record), NOON + 300 + 1800).journey_phase


def test_merging_keeps_the_earliest_variant_and_the_last_consent() -> None:
    """The earlier variant and the later consent decision are kept, and the user's attributes."""
    times = [Timestamp(seconds=NOON), Timestamp(seconds=NOON + 1)]
    states = [
        UserState(
            assignments=[VariantAssignment(experiment_id="x", variant_id=variant, exposure_time=time)],
            profile=Profile(consents=[Consent(purpose=CONSENT_PURPOSE_PROFILING, granted=granted, decision_time=time)]),
        )
        for variant, granted, time in zip("ab", (True, False), times, strict=True)
    ]
    for state, city in zip(states, ("Lyon", "Paris"), strict=True):
        state.profile.attributes["city"] = city
    states[1].profile.attributes["age"] = 40
    one, other = (state.SerializeToString() for state in states)
    for user, visitor, city in ((one, other, "Lyon"), (other, one, "Paris")):
        merged = UserState.FromString(merge(user, visitor))
        assert ["a"] == [assignment.variant_id for assignment in merged.assignments]
        assert [False] == [consent.granted for consent in merged.profile.consents]
        assert {"city": city, "age": 40.0} == dict(merged.profile.attributes)
