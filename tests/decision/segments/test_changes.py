"""Segments stay as they are until the second that is promised, and that second is not absurdly early."""

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.catalogue.hours.schedules import NEVER
from offers.decision.segments.evaluate import Facts, Segments
from offers.model.instants import DAY_S, HOUR_S
from offers.state.person.view import profile_of, turns_of
from offers.v1.context_pb2 import Context
from offers.v1.event_pb2 import EventKind
from offers.v1.profile_pb2 import LifeCycle, Profile
from offers.v1.state_pb2 import Leaning, UserState

NOW = 1_795_345_200
"""2026-11-22T11:00:00Z, a Sunday; noon in Paris."""
KINDS = [
    EventKind.Value(f"EVENT_KIND_{name}") for name in ("CLICK", "VIEW", "ADD_TO_CART", "CHECKOUT_STARTED", "ORDER")
]


def facts_of(state: UserState, context: Context, second: int) -> Facts:
    """Return what segments read at an instant."""
    copy = UserState()
    copy.CopyFrom(state)
    profile = profile_of(copy, second)
    return Facts(context.user, context.session, context, profile, second, turns_of(profile, copy, second))


def until(expression: str, facts: Facts) -> int | None:
    """Return the seconds for which a segment stays as it is; None: for ever."""
    found = Segments([expression]).until([0], facts)
    return None if found == NEVER else found - facts.now


SOMEBODY = UserState(
    profile=Profile(
        first_seen_time=Timestamp(seconds=NOW - 60),
        last_seen_time=Timestamp(seconds=NOW - 60),
        last_order_time=Timestamp(seconds=NOW - 60, nanos=500_000_000),
        order_count=1,
    )
)
SOMEBODY.profile.attributes.update({"until": "2026-11-22T12:30:00Z", "zone": "Europe/Paris", "since": NOW + 5.0})
SOMEBODY.leanings.add(dimension=Leaning.DIMENSION_CATEGORY, name="", weight=1.0, second=NOW)
SOMEBODY.leanings.add(dimension=Leaning.DIMENSION_CATEGORY, name="sushi", weight=1.0, second=NOW)
VISIT = Context()
VISIT.session.viewed_categories["sushi"].seconds = NOW - 600
VISIT.session.start_time.seconds = NOW - 90
VISIT.session.searches.add(search_time=Timestamp(seconds=NOW - 100))


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("profile.life_cycle == LifeCycle.LIFE_CYCLE_LAPSING", 30 * DAY_S - 60),
        ("profile.life_cycle in [LifeCycle.LIFE_CYCLE_LAPSING] || has(profile.basket)", 30 * DAY_S - 60),
        ("profile.journey_phase == JourneyPhase.JOURNEY_PHASE_ORDERED", None),
        ("now - profile.last_order_time > duration('336h')", 336 * HOUR_S - 60),
        ("duration('5m') + profile.last_seen_time >= now", 240),
        ("now - profile.last_order_time < duration('30s')", None),
        ("now < timestamp('2026-11-22T11:00:30Z') && profile.order_count > 0", 30),
        ("timestamp('2026-11-22T11:00:00Z') < now", 1),
        ("timestamp('2026-01-01T00:00:00Z') < now", None),
        ("now > timestamp(profile.attributes.until)", 5_400),
        ("now > timestamp(profile.attributes.nothing)", None),
        ("int(now) > profile.attributes.since", 5),
        ("int(now) - int(profile.last_order_time) > 3600", HOUR_S - 60 + 0),
        ("(int(now) - int(profile.last_order_time)) / 86400 >= 7", DAY_S - 60),
        ("now.getHours('Europe/Paris') >= 18", HOUR_S),
        ("now.getHours(context.time_zone) >= 18", HOUR_S),
        ("now.getHours('+05:45') >= 18", HOUR_S // 4),
        ("now.getHours('') >= 18", HOUR_S),
        ("now.getHours('Europe/Nowhere') >= 18", 1),
        ("now.getDayOfWeek('Europe/Paris') in [0, 6]", 12 * HOUR_S),
        ("(now + duration('30m')).getDayOfMonth() == 1", 12 * HOUR_S + HOUR_S // 2),
        ("now.getHours() * 60 + now.getMinutes() >= 690", 60),
        ("(now - session.start_time).getMinutes() > 5", 30),
        ("days_between(profile.last_order_time, now) > 2", DAY_S - 60),
        ("days_between(now, profile.last_order_time) < -2", DAY_S - 60),
        ("days_between(profile.last_order_time, now, 'Europe/Paris') > 2", 12 * HOUR_S),
        ("days_between(profile.last_order_time, now, '') > 2", 13 * HOUR_S),
        ("days_between(profile.last_order_time, profile.last_seen_time) > 2", None),
        ("is_anniversary('1990-11-23', now, profile.attributes.zone)", 12 * HOUR_S),
        ("years_between(profile.first_seen_time, now + duration('30m'), '') > 3", 12 * HOUR_S + HOUR_S // 2),
        ("start_of_day(now, 'Europe/Paris') > profile.last_order_time", 12 * HOUR_S),
        ("start_of_day(now, profile.attributes.until) > now", 1),
        ("now > date('2026-11-23')", 13 * HOUR_S),
        ("now > date(profile.attributes.zone)", None),
        ("now - session.viewed_categories.sushi < duration('1h')", 3_000),
        ("now - session.viewed_categories['pizza'] < duration('1h')", None),
        ("session.viewed_categories.exists(one, now - session.viewed_categories[one] < duration('1h'))", 3_000),
        ("session.searches.exists(one, now - one.search_time < duration('5m'))", 200),
        ("session.searches[0].search_time < now", None),
        ("profile.affinities.categories.pizza > 0.2", None),
        ("'sushi' in profile.affinities.categories && profile.affinities.categories.size() > 3", None),
        ("context.time > timestamp('2030-01-01T00:00:00Z')", None),
        ("has(context.time)", None),
        ("profile.order_count > 0", None),
        ("string(now) == 'noon'", 1),
    ],
)
def test_segment_stays_until(expression: str, wanted: int | None) -> None:
    """The promise follows from the expression, the person and the request."""
    assert wanted == until(expression, facts_of(SOMEBODY, VISIT, NOW))


def test_share_passes_a_limit_late() -> None:
    """A share of 0.25 takes days to fall to 0.2, and never falls to 0."""
    somebody = facts_of(SOMEBODY, VISIT, NOW)
    assert 9 * DAY_S < (until("profile.affinities.categories.sushi > 0.2", somebody) or 0) < 10 * DAY_S
    assert until("profile.affinities.categories.sushi > 0.0", somebody) is None


@pytest.mark.parametrize(
    "expression",
    [
        "profile.life_cycle == LifeCycle.LIFE_CYCLE_LAPSING",
        "profile.journey_phase == JourneyPhase.JOURNEY_PHASE_BROWSING",
        "profile.affinities.categories.sushi > 0.2",
        "[profile].exists(one, one.order_count > 1)",
    ],
)
def test_nothing_changes_for_nobody(expression: str) -> None:
    """For a person without a record time alone changes nothing that is derived from events."""
    assert until(expression, Facts(Context().user, Context().session, Context(), Profile(), NOW)) is None


def test_the_instant_asked_for_runs_where_it_is_given() -> None:
    """`context.time` moves with the instant that is asked for, and is none without it."""
    asked = Context(time=Timestamp(seconds=NOW, nanos=200_000_000))
    assert until("context.time > timestamp('2026-11-22T11:01:00Z')", facts_of(SOMEBODY, asked, NOW)) == 59


instants = st.sampled_from(
    [
        ("now", "timestamp('{at}')"),
        ("profile.last_order_time + duration('{length}')", "now"),
        ("now - profile.last_seen_time", "duration('{length}')"),
        ("duration('{length}')", "now - session.start_time"),
        ("int(now) - int(profile.first_seen_time)", "{seconds}"),
        ("(int(now) - int(profile.last_seen_time)) / 3600", "{hours}"),
        ("now.getHours('{zone}')", "{hour}"),
        ("now.getDayOfWeek('{zone}')", "{day}"),
        ("days_between(profile.last_order_time, now)", "{day}"),
        ("days_between(profile.last_seen_time, now, '{zone}')", "{day}"),
        ("years_between(profile.first_seen_time, now, '{zone}')", "{day}"),
        ("(now - profile.last_order_time).getHours()", "{hours}"),
        ("profile.life_cycle", "LifeCycle.{stage}"),
        ("profile.journey_phase", "JourneyPhase.{phase}"),
        ("profile.affinities.categories.sushi", "{share}"),
        ("now - session.viewed_categories.sushi", "duration('{length}')"),
    ]
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """Draw two values to compare, of which at least one changes with time."""
    left, right = draw(instants)
    names = {
        "at": draw(st.sampled_from(["2026-11-22T11:00:00Z", "2026-11-22T23:59:59.5Z", "2026-11-21T00:00:00Z"])),
        "length": draw(st.sampled_from(["0s", "59s", "90m", "12h", "720h", "1.5s"])),
        "seconds": draw(st.sampled_from([0, 60, 86_400])),
        "hours": draw(st.integers(0, 30)),
        "zone": draw(st.sampled_from(["UTC", "Europe/Paris", "Asia/Kathmandu", "-03:30", "Australia/Lord_Howe", ""])),
        "hour": draw(st.integers(0, 23)),
        "day": draw(st.integers(0, 6)),
        "stage": draw(st.sampled_from(LifeCycle.keys())),
        "phase": draw(
            st.sampled_from(["JOURNEY_PHASE_UNSPECIFIED", "JOURNEY_PHASE_BROWSING", "JOURNEY_PHASE_ORDERED"])
        ),
        "share": draw(st.sampled_from([0.0, 0.01, 0.1, 0.2, 0.25])),
    }
    return left.format(**names), right.format(**names)


ORDERS = ("==", "!=", "<", "<=", ">", ">=")


@st.composite
def terms(draw: st.DrawFn) -> str:
    """Draw a comparison, or its negation."""
    (left, right), order = draw(pairs()), draw(st.sampled_from(ORDERS))
    return f"{draw(st.sampled_from(['', '!']))}({left} {order} {right})"


expressions = st.lists(terms(), min_size=1, max_size=3).flatmap(
    lambda found: st.sampled_from([" && ", " || "]).map(lambda word: word.join(found))
)
ages = st.sampled_from([-60, 0, 1, 59, 1_799, 1_800, 5_400, DAY_S, 30 * DAY_S, 30 * DAY_S + 30, 90 * DAY_S, 91 * DAY_S])


@st.composite
def states(draw: st.DrawFn) -> UserState:
    """Draw the record of a person, or of nobody."""
    state = UserState()
    if draw(st.booleans()):
        seen = draw(ages)
        state.profile.last_seen_time.seconds = NOW - seen
        state.profile.first_seen_time.seconds = NOW - max(seen, draw(ages))
        state.profile.order_count = draw(st.integers(0, 2))
    if draw(st.booleans()):
        state.profile.last_order_time.seconds = NOW - draw(ages)
        state.profile.last_order_time.nanos = draw(st.sampled_from([0, 500_000_000]))
    for age in sorted(draw(st.lists(st.integers(0, 2_000), max_size=5)), reverse=True):
        state.recent.add(kind=draw(st.sampled_from(KINDS)), event_time=Timestamp(seconds=NOW - age))
    if draw(st.booleans()):
        state.basket_steps.add(product_id="p", quantity=1, event_time=Timestamp(seconds=NOW - 100))
    if draw(st.booleans()):
        second = NOW - draw(ages)
        for name in ("", "sushi"):
            state.leanings.add(dimension=Leaning.DIMENSION_CATEGORY, name=name, weight=1.0, second=second)
    return state


def holds(expression: str, state: UserState, context: Context, second: int) -> bool:
    """Return whether a person is in a segment at an instant."""
    found = np.zeros(1, np.uint8)
    Segments([expression]).evaluate([0], facts_of(state, context, second), found)
    return bool(found[0])


@settings(max_examples=300)
@given(expressions, states(), st.sampled_from([0, -3_600, 1, DAY_S, -400 * DAY_S]), st.data())
def test_a_segment_does_not_change_before_the_second_promised(
    expression: str, state: UserState, ahead: int, data: st.DataObject
) -> None:
    """At sampled instants before it, for any person, instant and expression, the verdict is the same."""
    now, context = NOW + ahead, Context()
    if data.draw(st.booleans()):
        context.session.start_time.seconds = NOW - data.draw(ages)
        context.session.viewed_categories["sushi"].seconds = NOW - data.draw(ages)
    end = min(Segments([expression]).until([0], facts_of(state, context, now)), now + 400 * DAY_S)
    verdict = holds(expression, state, context, now)
    for second in {end - 1, now + 1, now + (end - now) // 2, data.draw(st.integers(now, end - 1))}:
        if second < end:
            assert verdict == holds(expression, state, context, second)


@settings(max_examples=200)
@given(pairs(), states())
def test_the_second_promised_is_about_when_something_changes(pair: tuple[str, str], state: UserState) -> None:
    """A promise ends where two values meet, a threshold is crossed, or a part of the clock changes."""
    left, right = pair
    context = Context()
    context.session.start_time.seconds = NOW - 90
    context.session.viewed_categories["sushi"].seconds = NOW - 600
    expressions = [f"{left} {order} {right}" for order in ORDERS]
    (end,) = {until(one, facts_of(state, context, NOW)) for one in expressions}
    if end is None:
        return
    if "profile.affinities" in left:
        assert end > HOUR_S or right == "0.25"  # a share has 0.25 at most, and at first
    elif "between" in left:
        assert end <= DAY_S  # days follow each other, whatever they are compared with
    elif "get" in left or "/" in left:
        assert end >= 60 or _seconds_past_an_hour(state) & {(step - end) % HOUR_S for step in (-1, 0, 1)}
    elif "profile.life_cycle" in left or "profile.journey_phase" in left:
        before, after = (facts_of(state, context, NOW + second).profile for second in (end - 1, end))
        assert (before.life_cycle, before.journey_phase) != (after.life_cycle, after.journey_phase)
    else:
        now, then = ([holds(one, state, context, NOW + second) for one in expressions] for second in (0, end + 1))
        assert now != then


def _seconds_past_an_hour(state: UserState) -> set[int]:
    """Return the seconds past the last whole hour since instants of the profile."""
    profile = state.profile
    return {(NOW - one.seconds) % HOUR_S for one in (profile.last_seen_time, profile.last_order_time)}
