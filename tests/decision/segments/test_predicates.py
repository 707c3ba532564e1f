"""Segments compiled to steps: they give the results of CEL for the same person and request, or are left to CEL."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.catalogue.expressions import compiled, environment, tree
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
CONSTANTS = ("'Lyon'", "'Lyo'", "''", "'é'", "'app'", "'push'", "2", "2.0", "20.0", "-1", "true", "false")
ASKED = (
    "has(profile.attributes.city)", "'city' in profile.attributes", "'eco' in profile.attributes.values",
    "'street' in profile.attributes.address", "profile.attributes.vip", "context.attributes.party",
    "profile.attributes.city in ['Lyon', 'Paris']", "context.attributes.party in [2.0, 3.0]", "'EUR' in profile.spent",
    "has(profile.spent.EUR)", "'EUR' in profile.spent && 'USD' in profile.attributes", "has(context.location)",
    "has(session.basket)", "has(profile.last_order_time)", "'sushi' in session.viewed_categories",
    "has(session.micro_conversions.help_opened)", "true", "false",
)  # fmt: skip
LEFT = (
    "now > timestamp('2026-01-01T00:00:00Z')", "profile.affinities.categories.sushi > 0.2",
    "profile.life_cycle == LifeCycle.LIFE_CYCLE_NEW", "profile.attributes.address.city == 'Lyon'",
    "profile.attributes.city == context.channel", "profile.attributes.size() > 2",
    "profile.attributes.city.startsWith('L')", "profile.attributes.age + 1.0 > 3.0",
    "'Lyon' == profile.attributes.city",
    "profile.attributes.city in []", "has(session.searches)", "profile.order_count > 9007199254740993",
    "profile.user.user_id == 'u'", "profile.attributes.values[0] == 'eco'", "size(context.user.consent.purposes) > 0",
    "session.viewed_categories.sushi == now", "size(context.channel) > 2", "session.basket == session.basket",
)  # fmt: skip


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Draw comparisons, joined in any way; CEL refuses some of them."""
    terms = st.one_of(
        st.sampled_from(ASKED),
        st.builds(
            "{} {} {}".format,
            st.sampled_from(COMPARED),
            st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
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
