"""Budgets: their plans, worked out in whole numbers."""

from bisect import bisect_left
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.decision.budgets import plan_allows
from offers.v1.limits_pb2 import Pacing

EVEN, FRONT_LOADED = Pacing.PACING_EVEN, Pacing.PACING_FRONT_LOADED
DAY = 86_400


def planned(pacing: int, limit: int, begin: int, end: int, second: int) -> int:
    """Return what a plan allows by a second, times the square of its span, which makes it a whole number."""
    gone, span = second - begin, end - begin
    return limit * (gone * span if pacing == EVEN else span * span - (span - gone) * (span - gone))


@given(
    st.sampled_from([EVEN, FRONT_LOADED]),
    st.integers(1, 10**13).flatmap(lambda limit: st.tuples(st.integers(0, limit - 1), st.just(limit))),
    st.integers(0, 2**32),
    st.integers(1, 400 * DAY),
)
def test_a_plan_allows_for_what_is_used_from_the_first_second_it_covers_it(
    pacing: int, amounts: tuple[int, int], begin: int, span: int
) -> None:
    """The result is the first second whose plan is at least what is used, for units and for millionths of money."""
    used, limit = amounts
    seconds, covers = range(begin, begin + span), partial(planned, pacing, limit, begin, begin + span)

    first = bisect_left(seconds, used * span * span, key=covers) + begin

    assert first == plan_allows(pacing, used, limit, begin, begin + span)


@pytest.mark.parametrize(
    ("pacing", "used", "first"),
    [
        (EVEN, 0, 0),
        (EVEN, 1, DAY // 24),
        (EVEN, 13, 13 * DAY // 24),
        (EVEN, 24, DAY),
        (FRONT_LOADED, 0, 0),
        (FRONT_LOADED, 18, DAY // 2),
        (FRONT_LOADED, 24, DAY),
    ],
)
def test_plans_of_a_day(pacing: int, used: int, first: int) -> None:
    """Of 24 units a day, an even plan allows one an hour, a front-loaded one three quarters by noon."""
    assert first == plan_allows(pacing, used, 24, 0, DAY)
