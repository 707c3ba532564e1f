"""Budgets: their plans, worked out in whole numbers."""

from bisect import bisect_left
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.catalogue.hours.schedules import NEVER
from offers.decision.budgets import NO_LIMIT, BudgetBook, plan_allows
from offers.decision.calendar import period_of
from offers.state.ledger import Usage
from offers.v1.limits_pb2 import CalendarPeriod, Pacing

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


NOW = 1_795_345_200
"""2026-11-22T11:00:00Z."""
NAMES = ("offer:a", "offer:b", "campaign:c")


def described(key: str = NAMES[0], **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - the fields of Budget
    """Return a budget as a snapshot describes it: by default of one unit a day in Paris."""
    usual = {"units": NO_LIMIT, "micros": NO_LIMIT, "currency": "", "period": CalendarPeriod.CALENDAR_PERIOD_DAY}
    period = {"period_units": 1, "period_micros": NO_LIMIT, "zone": "Europe/Paris"}
    plan = {"pacing": Pacing.PACING_AS_FAST_AS_POSSIBLE, "start": 0, "end": NEVER}
    return {"key": key, **usual, **period, **plan, **fields}


def verdict(book: BudgetBook, second: int) -> tuple[bool, int]:
    """Return whether the first budget has something left at an instant, and until when."""
    record = book.at(second)
    return bool(record.arrays["left"][0]), int(record.arrays["until"][0])


def test_other_instants_are_judged_by_their_own_periods() -> None:
    """A period to come is unused, one that is over is as it ended, and the total is that of now."""
    today, tomorrow = period_of(CalendarPeriod.CALENDAR_PERIOD_DAY, "Europe/Paris", NOW)
    yesterday, _ = period_of(CalendarPeriod.CALENDAR_PERIOD_DAY, "Europe/Paris", today - 1)
    book = BudgetBook("shop", [described(units=9)])
    used = [Usage("shop/offer:a", today, 1, 0), Usage("shop/offer:a", yesterday, 1, 0), Usage("shop/offer:a", 0, 8, 0)]
    book.update(used, NOW)

    assert (False, tomorrow) == verdict(book, NOW)
    assert (True, tomorrow + DAY) == verdict(book, tomorrow)
    assert (False, today) == verdict(book, yesterday + 5)
    assert (True, yesterday) == verdict(book, yesterday - 5)  # the ledger knows of no use then

    book.update([Usage("shop/offer:a", 0, 9, 0)], NOW)
    assert [(False, NEVER)] * 2 == [verdict(book, NOW), verdict(book, tomorrow)]


def test_plans_are_followed_at_the_instant_asked_for() -> None:
    """Of 24 units a day, of which 13 are used, an even plan allows none at noon, and one at two o'clock."""
    today, tomorrow = period_of(CalendarPeriod.CALENDAR_PERIOD_DAY, "Europe/Paris", NOW)
    book = BudgetBook("shop", [described(period_units=24, pacing=EVEN)])
    book.update([Usage("shop/offer:a", today, 13, 0)], NOW)
    assert (False, today + 13 * 3_600) == verdict(book, NOW)
    assert (True, tomorrow) == verdict(book, NOW + 2 * 3_600)
    assert (True, tomorrow + DAY) == verdict(book, tomorrow + 1)


def test_the_present_needs_no_other_record() -> None:
    """The record of the present serves as long as it holds; other instants have records of their own, kept for a while.

    Whether budgets could be read is told of all of them.
    """
    book = BudgetBook("shop", [described()])
    book.update([], NOW)
    later = book.at(NOW + 3 * DAY)
    assert book.record is book.at(NOW + 60)
    assert later is book.at(NOW + 3 * DAY + 60) is not book.record
    book.lose()
    assert [0, 0] == [int(one.arrays["known"][0]) for one in (book.at(NOW), book.at(NOW + 3 * DAY))]
    book.update([Usage("shop/offer:a", 0, 1, 0)], NOW)
    assert 1 == int(book.at(NOW).arrays["known"][0])
    assert later is not book.at(NOW + 3 * DAY)


budgets = st.builds(
    described,
    st.sampled_from(NAMES),
    units=st.sampled_from([NO_LIMIT, 2, 9]),
    period=st.sampled_from([0, *CalendarPeriod.values()[1:]]),
    period_units=st.sampled_from([1, 4]),
    zone=st.sampled_from(["UTC", "Europe/Paris", "America/New_York"]),
    pacing=st.sampled_from([EVEN, FRONT_LOADED, Pacing.PACING_AS_FAST_AS_POSSIBLE]),
    start=st.just(NOW - 5 * DAY),
    end=st.just(NOW + 5 * DAY),
)


@given(st.lists(budgets, min_size=1, max_size=3), st.data())
def test_a_record_is_right_for_as_long_as_it_says(described_ones: list[dict[str, Any]], data: st.DataObject) -> None:
    """At any instant between its first and last second, what is worked out anew for the instant is the same."""
    without_period = {"period_units": NO_LIMIT, "units": 9}
    ones = [one if one["period"] else {**one, **without_period} for one in described_ones]
    used = []
    for name in NAMES:
        for period, zone in ((0, ""), *((one["period"], one["zone"]) for one in ones if one["period"])):
            begin = period_of(period, zone, NOW)[0] if period else 0
            used.append(Usage(f"shop/{name}", begin, data.draw(st.integers(0, 5)), 0))
    second = NOW + data.draw(st.integers(-9 * DAY, 9 * DAY))
    first, other = BudgetBook("shop", ones), BudgetBook("shop", ones)
    first.update(used, NOW)
    record = first.at(second)
    begin, end = record.arrays["holds"].tolist()
    assert begin <= second < end
    for instant in (begin, min(end, 2**31) - 1, data.draw(st.integers(begin, min(end, 2**31) - 1))):
        other.update(used, instant)
        assert record.arrays["left"].tolist() == other.record.arrays["left"].tolist()
        assert all(instant < until for until in record.arrays["until"].tolist())
