"""A person's history: what order, repetition, room and excess do to it."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.learning.recommend.habit import (
    AFTER_THE_SAME,
    AGE,
    JUST_BEEN,
    SAME_HOUR,
    SAME_KIND_OF_DAY,
    SAME_PLACE,
    Parameters,
    now_of,
    tabulate,
    weigh,
)
from offers.model.visits import MAX_VISITS, VISIT, add, merged, short, visit
from tests.learning.visits import CLOSE_VISITS, DAY, HOUR, MONDAY, VISITS, unpacked


def _history(*visits: bytes) -> bytes:
    return merged(b"", b"".join(visits))


def _counts(history: bytes, second: int, place: int = 0, weights: dict[int, float] | None = None) -> list[float]:
    parameters = Parameters.neutral()
    for question, weight in (weights or {}).items():
        parameters.weights[question] = weight
    tabulate(parameters)
    visits = unpacked(history)
    into = np.zeros(visits.size)
    now = now_of(visits, second, short(place))
    total = weigh(visits, now, parameters, into)
    assert pytest.approx(total) == into.sum()
    return list(into[: now.known])


@given(st.lists(CLOSE_VISITS, max_size=12), st.randoms())
def test_order_and_repetition_change_nothing(visits: list[bytes], random: np.random.Generator) -> None:
    """A history is the same whatever the order of its events, and however often each comes."""
    shuffled = visits + visits[::2]
    random.shuffle(shuffled)
    assert _history(*visits) == _history(*shuffled)


@given(st.lists(VISITS | CLOSE_VISITS, max_size=8), st.lists(VISITS | CLOSE_VISITS, max_size=8))
def test_two_histories_become_one(ones: list[bytes], others: list[bytes]) -> None:
    """Two histories make the one of all their events, either way round, and also when they are merged again."""
    one, other = _history(*ones), _history(*others)
    whole = _history(*ones, *others)
    assert whole == merged(one, other)
    assert whole == merged(other, one)
    assert whole == merged(merged(one, other), other)


@given(st.lists(CLOSE_VISITS, max_size=12), st.randoms())
def test_what_a_full_history_forgets_does_not_depend_on_order(visits: list[bytes], random: np.random.Generator) -> None:
    """A history of three keeps the same three visits, in whatever order they come."""
    shuffled = list(visits)
    random.shuffle(shuffled)
    kept = []
    for order in (visits, shuffled):
        history, count = np.zeros(3, VISIT), 0
        for event in order:
            count = add(history, count, unpacked(event)[0])
        kept.append(history[:count].tobytes())
    assert kept[0] == kept[1]
    assert len(kept[0]) // VISIT.itemsize == min(3, unpacked(_history(*visits)).size)


@given(st.randoms())
def test_a_full_history_keeps_the_latest_in_any_order(random: np.random.Generator) -> None:
    """A full history keeps the latest visits, in whatever order they come."""
    visits = [visit(1 + number % 5, MONDAY + number * HOUR, 1.0) for number in range(MAX_VISITS + 40)]
    shuffled = list(visits)
    random.shuffle(shuffled)
    half = len(shuffled) // 2
    assert b"".join(visits[40:]) == _history(*shuffled)
    assert b"".join(visits[40:]) == merged(_history(*shuffled[:half]), _history(*shuffled[half:]))


@given(st.randoms())
def test_histories_are_the_same_without_a_compiled_call(random: Random) -> None:
    """Visits that are merged in parts, and those added one by one, make the same history, also where it is full."""
    visits = [
        visit(random.randint(1, 40), MONDAY + random.randint(0, 12 * HOUR), random.choice((0.2, 1.0)))
        for _ in range(random.choice((3, MAX_VISITS, 2 * MAX_VISITS)))
    ]
    history, count, other = np.zeros(MAX_VISITS, VISIT), 0, b""
    for first in range(0, len(visits), 7):
        some = visits[first : first + 7]
        for one in some:
            count = add(history, count, unpacked(one)[0])
        other = merged(other, b"".join(some))
        assert history[:count].tobytes() == other


def test_the_strongest_event_of_a_visit_counts_once() -> None:
    """A view, a click and an order within the half hour are one visit, with the weight and time of the order."""
    view, click, order = (visit(1, MONDAY + second, weight) for second, weight in ((0, 0.2), (60, 0.3), (120, 1.0)))
    assert order == _history(view, click, order, view)


def test_the_next_half_hour_is_another_visit() -> None:
    """The same item in two half hours counts twice."""
    assert 2 == unpacked(_history(visit(1, MONDAY + 1_799, 1.0), visit(1, MONDAY + 1_800, 1.0))).size


def test_no_single_visit_defines_a_person() -> None:
    """However much speaks for one visit, it counts for no more than all that is not known of the person."""
    gift = _history(visit(1, MONDAY, 1.0))
    assert [5.0] == _counts(gift, MONDAY + 7 * DAY, weights={SAME_HOUR: 6.0, SAME_KIND_OF_DAY: 6.0})


def test_lighter_events_count_less() -> None:
    """A visit counts in proportion to the weight of what was done."""
    history = _history(visit(1, MONDAY, 1.0), visit(2, MONDAY + DAY, 0.2))
    assert [1.0, pytest.approx(0.2)] == _counts(history, MONDAY + 2 * DAY)


def test_the_same_hour_counts_more() -> None:
    """A visit at this time of day counts by e to the weight; an hour off, less, also across midnight."""
    history = _history(visit(1, MONDAY, 1.0), visit(2, MONDAY + HOUR, 1.0), visit(3, MONDAY + 23 * HOUR, 1.0))
    e = np.e
    expected = [e, e ** (1 / e), e ** (1 / e)]
    assert pytest.approx(expected) == _counts(history, MONDAY + 3 * DAY, weights={SAME_HOUR: 1.0})


def test_the_same_kind_of_day_counts_more() -> None:
    """Weekends are like weekends and working days like working days."""
    history = _history(visit(1, MONDAY + 4 * DAY, 1.0), visit(2, MONDAY + 5 * DAY, 1.0))
    assert pytest.approx([1.0, np.e]) == _counts(history, MONDAY + 6 * DAY, weights={SAME_KIND_OF_DAY: 1.0})


def test_older_visits_count_less() -> None:
    """A weight of -1 makes a visit count for 1/e after thirty days."""
    history = _history(visit(1, MONDAY, 1.0), visit(2, MONDAY + 30 * DAY, 1.0))
    assert pytest.approx([1 / np.e, 1.0]) == _counts(history, MONDAY + 30 * DAY, weights={AGE: -1.0})


def test_what_followed_the_last_place_counts_more() -> None:
    """A visit that came as long after the same one as it is since now counts by e to the weight."""
    history = _history(visit(1, MONDAY, 1.0), visit(2, MONDAY + 2 * HOUR, 1.0), visit(1, MONDAY + 3 * DAY, 1.0))
    assert pytest.approx([1.0, np.e, 1.0]) == _counts(
        history, MONDAY + 3 * DAY + 2 * HOUR, weights={AFTER_THE_SAME: 1.0}
    )


def test_where_they_have_just_been_counts_less() -> None:
    """A weight of -1 makes visits of the last item count for 1/e just after it."""
    history = _history(visit(1, MONDAY, 1.0), visit(2, MONDAY + DAY, 1.0), visit(1, MONDAY + 2 * DAY, 1.0))
    assert pytest.approx([1 / np.e, 1.0, 1 / np.e]) == _counts(history, MONDAY + 2 * DAY, weights={JUST_BEEN: -1.0})


def test_visits_at_the_same_place_count_more() -> None:
    """A visit made from the place of now counts by e to the weight; where no place is known, none does."""
    history = _history(
        visit(1, MONDAY, 1.0, place=4), visit(2, MONDAY + DAY, 1.0, place=5), visit(3, MONDAY + DAY, 1.0)
    )
    assert pytest.approx([np.e, 1.0, 1.0]) == _counts(history, MONDAY + 2 * DAY, place=4, weights={SAME_PLACE: 1.0})
    assert [1.0, 1.0, 1.0] == _counts(history, MONDAY + 2 * DAY, weights={SAME_PLACE: 1.0})


def test_what_comes_later_is_not_known_yet() -> None:
    """A question about an earlier moment is answered without what came after it."""
    history = _history(visit(1, MONDAY, 1.0), visit(2, MONDAY + DAY, 1.0))
    assert 1 == len(_counts(history, MONDAY + DAY - 1))


@pytest.mark.parametrize(("item", "weight"), [(0, 1.0), (1, 0.0), (1, 1.1), (1, -0.3)])
def test_a_visit_needs_an_item_and_a_weight(item: int, weight: float) -> None:
    """Bytes that are no visits are refused."""
    with pytest.raises(ValueError, match="a visit needs an item"):
        visit(item, MONDAY, weight)
