"""Segments compiled to steps: they give the results of CEL for the same person and request, or are left to CEL."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.catalogue.expressions import compiled, environment, tree
from offers.catalogue.functions import is_version, lower
from offers.decision.kernels.memory.scratch import Capacity, PersonFact, Scratchpad
from offers.decision.kernels.person.judge import LEFT_TO_CEL, judge
from offers.decision.segments.evaluate import Facts
from offers.decision.segments.predicates import ERROR, TRUE, Rules, rules_of
from offers.v1.context_pb2 import Context
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.profile_pb2 import Profile
from offers.v1.state_pb2 import UserState
from tests.decision.segments.test_segments import facts

COMPARED = (
    "profile.attributes.city", "profile.attributes['age']", "profile.attributes.vip", "profile.spent.EUR",
    "profile.order_count", "context.channel", "context.attributes.weather", "context.attributes.party",
    "context.location.point.latitude", "context.location.accuracy_m", "session.entry_channel", "user.user_id",
    "context.session.entry_channel", "context.user.user_id", "session.entry_campaign", "size(session.searches)",
    "session.basket.items.size()", "size(session.viewed_categories)", "session.basket.value.units",
    "size(profile.spent)",
)  # fmt: skip
VERSIONED = ("profile.attributes.app", "profile.attributes.city", "context.attributes.app", "session.entry_campaign")
VERSIONS = (
    "0", "1", "1.0", "1.0.0", "1.0.1", "1.1.0", "2.0.0", "10.0.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
    "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0+build.5", "1.0.0-rc.1+sha.5", "1-0", "1.0.0--",
    "99999999999999999999.0.0", "99999999999999999998.0.0", "1.0.0-99999999999999999999", "0.0.0-0", "1.0.0-0a.00a",
)  # fmt: skip
"""Versions of every form, the example of semver.org among them."""
BROKEN = (
    "", ".", "1.", "1..0", "01.0.0", "1.0.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0-a.", "1.0.0+", "v1.0.0",
    "1.0.0-é", "1.0.0 ", "a", "-1", "1.0.0-a_b", "1.0.0+a+b",
)  # fmt: skip
CONSTANTS = ("'Lyon'", "'Lyo'", "''", "'é'", "'app'", "'push'", "2", "2.0", "20.0", "-1", "2u", "true",
             "false", "'lyon'", "'éclair'", "'i'")  # fmt: skip
ASKED = (
    "has(profile.attributes.city)", "'city' in profile.attributes", "'eco' in profile.attributes.values",
    "'street' in profile.attributes.address", "profile.attributes.vip", "context.attributes.party",
    "profile.attributes.city in ['Lyon', 'Paris']", "context.attributes.party in [2.0, 3.0]", "'EUR' in profile.spent",
    "has(profile.spent.EUR)", "'EUR' in profile.spent && 'USD' in profile.attributes", "has(context.location)",
    "has(session.basket)", "has(profile.last_order_time)", "'sushi' in session.viewed_categories",
    "has(session.micro_conversions.help_opened)", "true", "false", "lower(context.channel) in ['app', 'éclair']",
    "profile.attributes.city.lowerAscii() != 'lyon'", "semver_compare(profile.attributes.app, '2.1.0-rc.1') >= 0",
)  # fmt: skip
LEFT = (
    "now > timestamp('2026-01-01T00:00:00Z')", "profile.affinities.categories.sushi > 0.2",
    "profile.life_cycle == LifeCycle.LIFE_CYCLE_NEW", "profile.attributes.address.city == 'Lyon'",
    "profile.attributes.city == context.channel", "profile.attributes.size() > 2",
    "profile.attributes.city.startsWith('L')", "profile.attributes.age + 1.0 > 3.0",
    "'Lyon' == profile.attributes.city",
    "profile.attributes.city in []", "has(session.searches)", "profile.order_count > 9007199254740993",
    "profile.user.user_id == 'u'", "profile.attributes.values[0] == 'eco'", "size(context.user.consent.purposes) > 0",
    "session.viewed_categories.sushi == now",
    "semver_compare('2.1.0', profile.attributes.app) < 0", "lower(profile.attributes.city) == context.channel",
    "semver_compare(profile.attributes.app, context.channel) == 0", "lower(profile.attributes.city + 'x') == 'lyonx'",
    "days_between(profile.last_order_time, now) > 30", "is_anniversary(profile.attributes.born, now, 'Asia/Tokyo')",
    "start_of_day(now, context.time_zone) > profile.last_order_time", "profile.attributes.city.upperAscii() == 'LYON'",
    "size(context.channel) > 2", "session.basket == session.basket",
)  # fmt: skip


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Draw comparisons, joined in any way; CEL refuses some of them."""
    orders = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    terms = st.one_of(
        st.sampled_from(ASKED),
        st.builds(
            "semver_compare({}, '{}') {} {}".format,
            st.sampled_from(VERSIONED),
            st.sampled_from(VERSIONS),
            orders,
            st.sampled_from(["0", "-1", "1", "2"]),
        ),
        st.builds(
            "lower({}) {} {}".format,
            st.sampled_from(COMPARED),
            orders,
            st.sampled_from(CONSTANTS),
        ),
        st.builds(
            "{}.lowerAscii() {} {}".format,
            st.sampled_from(COMPARED),
            orders,
            st.sampled_from(CONSTANTS),
        ),
        st.builds(
            "{} {} {}".format,
            st.sampled_from(COMPARED),
            orders,
            st.sampled_from(CONSTANTS),
        ),
    )
    return draw(
        st.recursive(
            terms, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner)
            | st.builds("!({})".format, inner), max_leaves=6,
        )
    )  # fmt: skip


def by_steps(expression: str, known: Facts, *, hidden: bool = False) -> int:
    """Return the result of an expression in the compiled loop, with the session and the location hidden or not."""
    record, request = UserState(profile=known.profile), GetOffersRequest(context=known.context)
    pad, rules = Scratchpad(), rules_of([tree(compiled(expression))])
    pad.fit(Capacity(values=len(rules.arrays[Rules.path.name])))
    encoded = record.SerializeToString(), request.SerializeToString()
    where = pad.arrays["person"]
    where[PersonFact.number], where[PersonFact.hidden] = 1, hidden
    where[PersonFact.profile_begin : PersonFact.context_end + 1] = -1
    for name, message, inner in (("profile", encoded[0], known.profile), ("context", encoded[1], known.context)):
        size = len(inner.SerializeToString())
        where[PersonFact[f"{name}_begin"]], where[PersonFact[f"{name}_end"]] = len(message) - size, len(message)
    return int(judge(rules.table, pad.table, 0, *encoded))


@settings(deadline=None, max_examples=500)
@given(facts(), expressions())
def test_steps_come_to_what_cel_comes_to(known: Facts, expression: str) -> None:
    """For values present, missing or of another type, the result is that of CEL: true, false or an error."""
    try:
        program = compiled(expression)
    except ValueError:
        return
    activation = environment().Activation({**known._asdict(), "now": known.instant()})
    try:
        told = program.eval(activation).value()
    except RuntimeError:
        told = None
    wanted = int(told) if isinstance(told, bool) else ERROR
    assert by_steps(expression, known) in {wanted, LEFT_TO_CEL}


def told(expression: str, known: Facts) -> int:
    """Return the result of an expression in CEL."""
    value = compiled(expression).eval(environment().Activation({**known._asdict(), "now": known.instant()})).value()
    return int(value) if isinstance(value, bool) else ERROR


def of_text(text: str) -> Facts:
    """Return facts of a person and a request with a text among their attributes."""
    context, profile = Context(channel=text), Profile()
    profile.attributes["text"] = text
    return Facts(context.user, context.session, context, profile, 0)


letters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
"""Every character but NUL, at which cel-expr-python cuts texts."""
cased = st.sampled_from("aA\u0130\u0131Ss\u1e9eß\u03a3\u03c3\u03c2\u01c5éÉ")


@settings(deadline=None, max_examples=300)
@given(st.text(letters | cased, max_size=8), st.text(letters, max_size=8), st.booleans())
def test_small_letters_are_those_of_cel(text: str, other: str, is_same: bool) -> None:  # noqa: FBT001 - drawn
    """Any text, compared in small letters with its own small letters or another text, comes to what CEL says."""
    known = of_text(text)
    for function, small in (("lower({})", lower(text)), ("{}.lowerAscii()", text)):
        constant = json.dumps(small if is_same else other, ensure_ascii=False)
        for path in ("profile.attributes.text", "context.channel"):
            for order in ("==", "<", ">="):
                expression = f"{function.format(path)} {order} {constant}"
                assert told(expression, known) == by_steps(expression, known), expression


@pytest.mark.parametrize("version", [*VERSIONS, *BROKEN])
def test_versions_are_ordered_as_by_cel(version: str) -> None:
    """Each version against each other, and texts that are none: the loop agrees with the function of CEL."""
    known = of_text(version)
    for other in VERSIONS:
        for order in ("==", "<", ">="):
            expression = f"semver_compare(profile.attributes.text, '{other}') {order} 0"
            assert told(expression, known) == by_steps(expression, known), expression


versions = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,2}){0,3}(-[0-9a-zA-Z.-]{0,6})?(\+[0-9a-z.]{0,4})?", fullmatch=True)


@settings(deadline=None, max_examples=300)
@given(versions, versions.filter(is_version))
def test_any_version_is_ordered_as_by_cel(version: str, other: str) -> None:
    """Random versions, and texts that nearly are some."""
    expression = f"semver_compare(profile.attributes.text, '{other}') < 0"
    assert told(expression, of_text(version)) == by_steps(expression, of_text(version))


@pytest.mark.parametrize(
    "expression",
    ["session.entry_channel == ''", "!(session.entry_channel > '')", "context.location.point.latitude == 0.0"],
)
def test_what_is_hidden_reads_as_if_it_was_not_said(expression: str) -> None:
    """A text of a hidden session is empty; no other bytes of the request are read instead."""
    context = Context(channel="app")
    context.session.entry_channel, context.location.point.latitude = "push", 48.0
    known = Facts(context.user, context.session, context, Profile(), 0)
    assert TRUE != by_steps(expression, known)
    assert TRUE == by_steps(expression, known, hidden=True)


@pytest.mark.parametrize("expression", [*ASKED, *(f"{path} != 'Lyon'" for path in COMPARED[:3])])
def test_plain_expressions_are_steps(expression: str) -> None:
    """Comparisons of attributes and fields with constants are not left to CEL."""
    assert len(rules_of([tree(compiled(expression))]).arrays[Rules.step.name]) > 0


@pytest.mark.parametrize("expression", LEFT)
def test_all_else_is_left_to_cel(expression: str) -> None:
    """Derived values, computations and other comparisons have no steps."""
    assert np.array_equal([0, 0], rules_of([tree(compiled(expression))]).arrays[Rules.step_first.name])
    assert by_steps(expression, Facts(Context().user, Context().session, Context(), Profile(), 0)) == LEFT_TO_CEL
