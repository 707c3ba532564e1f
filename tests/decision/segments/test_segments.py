"""Segments evaluated together give the results of each evaluated alone."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.catalogue.expressions import ExpressionError, compiled, environment
from offers.decision.segments.evaluate import MOST_NEEDS, Facts, Segments
from offers.decision.segments.membership import membership, terms_of
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.profile_pb2 import LifeCycle, Profile

NOON = 1_781_524_800
"""2026-06-15T12:00Z."""
EXPRESSIONS = (
    "context.channel == 'app'",
    "profile.attributes.city == 'Lyon'",
    "profile.attributes['city'] != 'Lyon' // a comment at the end",
    "profile.attributes.age >= 18.0 && profile.attributes.age < 30.0",
    "profile.attributes.age > 18.0 || profile.order_count > 1",
    "has(profile.attributes.city) && !has(profile.attributes.address.street)",
    "has(profile.attributes.address) ? profile.attributes.address.city == 'Lyon' : profile.attributes.vip",
    "profile.attributes.address['city'] == profile.attributes.city",
    "!(profile.attributes.city == 'Lyon')",
    "'eco' in profile.attributes.values",
    "'city' in profile.attributes || context.channel == 'web'",
    "profile.attributes.values.exists(value, value == 'eco')",
    "profile.attributes.values[1] == 'bio'",
    "profile.attributes.vip",
    "profile.attributes.city",
    "profile.attributes.size() > 2",
    "profile.spent['EUR'] > 10.0",
    "profile.spent.EUR > 10.0 || profile.spent.USD > 10.0",
    "profile.spent.all(currency, profile.spent[currency] > 1.0)",
    "profile.affinities.categories.sushi > 0.2 && profile.affinities.categories['pizza'] < 0.1",
    "profile.life_cycle == LifeCycle.LIFE_CYCLE_LAPSING",
    "profile.order_count / profile.affinities.venues.size() > 1",
    "now - profile.last_order_time > duration('336h')",
    "now.getHours('Europe/Paris') == 14",
    "has(profile.last_order_time) && profile.last_order_time < now",
    "has(context.location) && context.location.point.latitude > 45.0",
    "context.location.accuracy_m < 100.0",
    "session.entry_channel == 'push' && user.user_id != ''",
    "context.user == user",
    "profile.consents.exists(one, one.granted)",
    "profile.anonymous_ids.size() > 0",
    "context.attributes.weather == 'rain' && context.attributes.party > 2.0",
    "context.attributes.party == 2",
    "true",
    "'sushi' in session.viewed_categories",
    "now - session.viewed_categories.sushi < duration('600s')",
    "now - session.viewed_categories['pizza'] < duration('600s') || has(session.basket)",
    "size(session.searches) > 1 && session.basket.value.units > 2",
    "session.basket.items.exists(item, item.category == 'sushi')",
    "session.searches.exists(one, one.query.contains('pizza')) && session.entry_campaign == 'a'",
    "semver_compare(profile.attributes.app, '2.0.0') < 0 || lower(profile.attributes.city) == 'lyon'",
    "profile.attributes.city.lowerAscii() in ['lyon', 'Éclair'] && days_between(profile.last_order_time, now) > 2",
    "has(profile.last_order_time) && days_between(profile.last_order_time, now, context.time_zone) >= 1",
    "is_anniversary(profile.attributes.born, now, 'Europe/Paris')",
    "profile.last_order_time < start_of_day(now, 'Europe/Paris')",
)

values = st.sampled_from(
    [
        None,
        True,
        False,
        2.0,
        20.0,
        "Lyon",
        "LYON",
        "ÉCLAIR",
        "1.2.0",
        "2.0.0-rc.1",
        "eco",
        "",
        ["eco", "bio"],
        ["eco"],
        [],
    ]
)
attributes = st.dictionaries(st.sampled_from(["city", "age", "app", "vip", "values", "weather", "party"]), values)
addresses = st.none() | st.dictionaries(st.sampled_from(["city", "street"]), st.sampled_from(["Lyon", "Paris"]))
shares = st.dictionaries(st.sampled_from(["sushi", "pizza", "EUR", "USD"]), st.sampled_from([0.0, 0.3, 20.0]))


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Draw what may be known of a visit."""
    session = Session(
        entry_channel=draw(st.sampled_from(["", "push"])), entry_campaign=draw(st.sampled_from(["", "a"]))
    )
    for name in draw(st.sets(st.sampled_from(["sushi", "pizza"]))):
        session.viewed_categories[name].seconds = NOON - draw(st.sampled_from([0, 599, 600]))
    if draw(st.booleans()):
        session.micro_conversions["help_opened"].seconds = NOON
    for words in draw(st.lists(st.sampled_from(["sushi", "pizza"]), max_size=3)):
        session.searches.add(query=words)
    if draw(st.booleans()):
        session.basket.items.add(category=draw(st.sampled_from(["", "sushi"])))
        if draw(st.booleans()):
            session.basket.value.units = draw(st.sampled_from([1, 2, 20]))
    return session


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    """Draw what may be known of a person at an instant; values may be missing, or of another type than intended."""
    context, profile = Context(channel=draw(st.sampled_from(["", "app", "web"]))), Profile()
    if draw(st.booleans()):
        context.location.point.latitude = draw(st.sampled_from([0.0, 48.0]))
    if draw(st.booleans()):
        context.user.user_id = "somebody"
        profile.consents.add(granted=draw(st.booleans()))
    context.session.CopyFrom(draw(sessions()))
    context.attributes.update(draw(attributes))
    profile.attributes.update(draw(attributes))
    address = draw(addresses | st.just("Lyon"))
    if address is not None:
        profile.attributes.update({"address": address})
    profile.spent.update(draw(shares))
    profile.affinities.categories.update(draw(shares))
    profile.order_count = draw(st.integers(0, 3))
    profile.life_cycle = draw(st.sampled_from(LifeCycle.values()))
    if draw(st.booleans()):
        profile.last_order_time.seconds = NOON - draw(st.sampled_from([-1, 0, 14 * 86_400, 14 * 86_400 + 1]))
    return Facts(context.user, context.session, context, profile, NOON)


program_of = functools.cache(compiled)


def alone(expression: str, known: Facts) -> bool:
    """Evaluate one expression over the messages themselves."""
    activation = environment().Activation({**known._asdict(), "now": known.instant()})
    return program_of(expression).eval(activation).value() is True


def evaluated(segments: Segments, needed: Sequence[int], known: Facts) -> list[int]:
    """Return what segments write; 7 where they write nothing."""
    holds = np.full(len(EXPRESSIONS), 7, np.uint8)
    segments.evaluate(needed, known, holds)
    return holds.tolist()


SEGMENTS = Segments(EXPRESSIONS)


@settings(deadline=None, max_examples=300)
@given(facts(), st.lists(st.integers(0, len(EXPRESSIONS) - 1), unique=True))
def test_together_they_come_to_what_each_does_alone(known: Facts, needed: list[int]) -> None:
    """Needed segments give the results of CEL one by one, first and as one program; others are not written."""
    needed = sorted(needed)
    wanted = [int(alone(EXPRESSIONS[n], known)) if n in needed else 7 for n in range(len(EXPRESSIONS))]
    got = [evaluated(SEGMENTS, needed, known) for _ in range(2)]
    assert [wanted] * (2) == got


@settings(deadline=None, max_examples=300)
@given(facts(), st.permutations(range(len(EXPRESSIONS))), st.integers(1, 6))
def test_programs_that_stay_come_to_the_same(known: Facts, order: list[int], size: int) -> None:
    """The same few programs run over changing facts: no evaluation leaves anything to the next."""
    for needed in (sorted(order[:size]), list(range(len(EXPRESSIONS)))):
        wanted = [int(alone(EXPRESSIONS[n], known)) if n in needed else 7 for n in range(len(EXPRESSIONS))]
        assert wanted == evaluated(SEGMENTS, needed, known)


def test_an_error_of_one_is_none_of_the_others() -> None:
    """A division by zero makes its own segment false, and leaves the others of the program as they are."""
    segments = Segments(["true", "1 / profile.order_count == 1", "context.channel == ''"])
    holds = np.zeros(3, np.uint8)
    known = Facts(Context().user, Context().session, Context(), Profile(), NOON)
    for _ in range(2):
        segments.evaluate([0, 1, 2], known, holds)
        assert [1, 0, 1] == holds.tolist()
    known.profile.order_count = 1
    segments.evaluate([0, 1, 2], known, holds)
    assert [1, 1, 1] == holds.tolist()


def test_what_together_is_too_long_for_a_program() -> None:
    """Segments are evaluated one by one if CEL refuses their list."""
    long = [f"context.channel != '{'x' * 3_900}{number}'" for number in range(40)]
    with pytest.raises(RuntimeError):
        environment().compile(f"[{','.join(long)}]")
    segments, holds = Segments(long), np.zeros(40, np.uint8)
    for _ in range(2):
        segments.evaluate(range(40), Facts(Context().user, Context().session, Context(), Profile(), NOON), holds)
    assert [1] * 40 == holds.tolist()


def test_sets_that_are_remembered_are_bounded() -> None:
    """The number of cached sets of segments is limited."""
    segments = Segments(["true"] * 13)
    holds = np.zeros(13, np.uint8)
    known = Facts(Context().user, Context().session, Context(), Profile(), NOON)
    for mask in range(1, MOST_NEEDS + 10):
        segments.evaluate([n for n in range(13) if mask >> n & 1], known, holds)
    assert len(segments._needs) <= MOST_NEEDS  # noqa: SLF001 - nothing else shows it


def test_large_sets_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of segments in all cached sets is limited, so that large sets do not take more memory."""
    monkeypatch.setattr("offers.decision.segments.evaluate.MOST_HELD", 100)
    segments, holds = Segments(["true"] * 13), np.zeros(13, np.uint8)
    known = Facts(User(), Session(), Context(), Profile(), NOON)
    for mask in range(1, 200):
        segments.evaluate([n for n in range(13) if mask >> n & 1], known, holds)
    assert sum(map(len, segments._needs)) <= 100  # noqa: SLF001 - nothing else shows it


@pytest.mark.parametrize(
    ("expression", "timed", "placed"),
    [
        ("context.channel == 'app'", False, False),
        ("now > timestamp('2026-01-01T00:00:00Z')", True, False),
        ("context.time.getHours() > 3", True, False),
        ("profile.life_cycle == LifeCycle.LIFE_CYCLE_NEW", True, False),
        ("profile.journey_phase == JourneyPhase.JOURNEY_PHASE_CHECKOUT", True, False),
        ("profile.affinities.categories.sushi > 0.1", True, False),
        ("profile.attributes.city == 'Lyon' && profile.order_count > 3", False, False),
        ("context.location.point.latitude > 0.0", False, True),
        ("has(context.location)", False, True),
        ("context == context", True, True),
        ("[profile].exists(one, one.order_count > 1)", True, False),
    ],
)
def test_what_may_change_without_an_event_is_known(expression: str, *, timed: bool, placed: bool) -> None:
    """The expression of a segment shows whether it depends on time or the location."""
    segments = Segments(["true", expression])
    assert ({1} if timed else set()) == segments.timed
    assert ({1} if placed else set()) == segments.placed


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("a && b", ["a", "b"]),
        ("(a && (b && c)) && d", ["a", "b", "c", "d"]),
        ("(a) && (b)", ["a", "b"]),
        ("(a && b)", ["a", "b"]),
        ("a && b || c", ["a && b || c"]),
        ("(a || b) && c", ["a || b", "c"]),
        ("a && b ? c : d", ["a && b ? c : d"]),
        ("f(a && b) && [c && d][0]", ["f(a && b)", "[c && d][0]"]),
        ("a == ' && ' && b == \"'\\\" && \"", ["a == ' && '", 'b == "\'\\" && "']),
        ("a == '''it's && ''' && b", ["a == '''it's && '''", "b"]),
        ("a // && (\n && b", ["a // && (", "b"]),
        ("!(a && b)", ["!(a && b)"]),
    ],
)
def test_terms_are_what_and_joins(expression: str, wanted: list[str]) -> None:
    """An expression is split into the terms that must all be true, and nowhere else."""
    assert wanted == terms_of(expression)


@settings(deadline=None, max_examples=200)
@given(facts(), st.lists(st.sampled_from(EXPRESSIONS[2:3] + EXPRESSIONS[:2] + EXPRESSIONS[3:]), min_size=1, max_size=4))
def test_terms_decide_as_the_whole_does(known: Facts, chosen: list[str]) -> None:
    """A person is in a segment if and only if every term of its expression is true."""
    expression = " && ".join(f"({one}\n)" for one in chosen)
    try:
        program_of(expression)
    except ExpressionError:  # terms that are no truth values alone
        return
    found = membership(expression, known)
    assert alone(expression, known) == found.held
    assert found.held == all(term.held for term in found.terms)


def test_a_term_tells_what_it_saw() -> None:
    """Values are listed by name, enum values by theirs, and absent values are marked."""
    context, profile = Context(channel="web"), Profile(life_cycle=LifeCycle.LIFE_CYCLE_NEW)
    profile.attributes.update({"age": 17})
    expression = (
        "context.channel == 'app' && profile.life_cycle == LifeCycle.LIFE_CYCLE_ACTIVE "
        "&& profile.attributes.age > 10.0 && profile.attributes['home town'] == 'Lyon' && profile.attributes.age > 'a'"
    )
    found = membership(expression, Facts(context.user, context.session, context, profile, NOON))
    seen: list[tuple[bool, Any]] = [(term.held, [tuple(value) for value in term.values]) for term in found.terms]
    assert [
        (False, [("context.channel", "'web'")]),
        (False, [("profile.life_cycle", "LIFE_CYCLE_NEW")]),
        (True, [("profile.attributes.age", "17.0")]),
        (False, [("profile.attributes['home town']", "not there")]),
        (False, [("profile.attributes.age", "17.0")]),
    ] == seen
    assert "No matching overloads" in found.terms[-1].error


def test_lists_that_are_too_long_are_errors_like_others() -> None:
    """A person whose list is too long for CEL is not in the segment that goes through it; others are unaffected."""
    long = "context.attributes.tags.exists(tag, tag == 'x')"
    segments, holds = Segments([long, "context.channel == 'app'", f"!({long})"]), np.full(3, 7, np.uint8)
    context = Context(channel="app")
    context.attributes.update({"tags": ["a"] * 100_000})
    known = Facts(User(), Session(), context, Profile(), NOON)
    segments.evaluate([0, 1, 2], known, holds)
    assert [0, 1, 0] == holds.tolist()
    found = membership(long, known)
    assert (False, 1) == (found.held, len(found.terms))
    assert "budget" in found.terms[0].error
