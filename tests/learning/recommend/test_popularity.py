"""Popularity: decay, places, hours, and eviction from full tables."""

import numpy as np
import pytest

from offers.learning.recommend.popularity import (
    ANY_HOUR,
    EVERYWHERE,
    UNIFORM,
    Popularity,
    count,
    here,
    hour_of,
    popularity,
)
from offers.model.visits import visit
from tests.learning.visits import DAY, HOUR, MONDAY, unpacked


def _count(known: Popularity, item: int, place: int, second: int, times: int = 1) -> None:
    for _ in range(times):
        count(known, unpacked(visit(item, second, 1.0, place=place))[0], place, 1.0)


def _share(known: Popularity, item: int, place: int, second: int) -> float:
    return _found(known, item, place, second)[0]


def _found(known: Popularity, item: int, place: int, second: int) -> tuple[float, float]:
    share, lift = popularity(
        known.item_keys,
        known.item_weights,
        known.item_hours,
        known.pair_keys,
        known.pair_weights,
        here(known, place, second),
        item,
        place,
    )
    return float(share), float(lift)


def test_shares_are_those_of_people_shrunk_to_those_of_everywhere() -> None:
    """An item's share is its people of all, with so many people's worth of trust in what is less particular."""
    known = Popularity.empty(items=8, places=8, pairs=8)
    _count(known, 1, 5, MONDAY, 30)
    _count(known, 2, 6, MONDAY, 10)
    everywhere = (30 + UNIFORM / 2) / (40 + UNIFORM)
    assert everywhere == pytest.approx(_share(known, 1, 0, MONDAY))
    assert everywhere == pytest.approx(_share(known, 1, 99, MONDAY))
    assert (30 + EVERYWHERE * everywhere) / (30 + EVERYWHERE) == pytest.approx(_share(known, 1, 5, MONDAY))
    assert EVERYWHERE * everywhere / (10 + EVERYWHERE) == pytest.approx(_share(known, 1, 6, MONDAY))


def test_people_of_a_month_ago_count_half() -> None:
    """A weight halves in thirty days."""
    known = Popularity.empty(items=8, places=8, pairs=8)
    _count(known, 1, 0, MONDAY, 40)
    _count(known, 2, 0, MONDAY + 30 * DAY, 20)
    shares = [_share(known, item, 0, MONDAY + 30 * DAY) for item in (1, 2)]
    assert shares[0] == pytest.approx(shares[1])


def test_years_of_events_do_not_overflow() -> None:
    """Weights are written anew now and then: after ten years, what is new counts as it would have at first."""
    known = Popularity.empty(items=8, places=8, pairs=8)
    for week in range(520):
        _count(known, 1 + week % 3, 5, MONDAY + week * 7 * DAY)
    fresh = Popularity.empty(items=8, places=8, pairs=8)
    for week in range(300, 520):
        _count(fresh, 1 + week % 3, 5, MONDAY + week * 7 * DAY)
    now = MONDAY + 520 * 7 * DAY
    for item in (1, 2, 3):
        assert _found(fresh, item, 5, now) == pytest.approx(_found(known, item, 5, now), rel=1e-3)
    assert known.epoch[0] > MONDAY
    assert np.isfinite(known.place_hours).all()


def test_late_events_count_as_if_they_had_been_in_time() -> None:
    """The order of events changes no share."""
    one, other = (Popularity.empty(items=8, places=8, pairs=8) for _ in range(2))
    events = [(1 + day % 3, 5 + day % 2, MONDAY + day * DAY) for day in range(60)]
    for event in events:
        _count(one, *event)
    for event in reversed(events):
        _count(other, *event)
    now = MONDAY + 61 * DAY
    assert all(
        _share(one, item, place, now) == pytest.approx(_share(other, item, place, now), rel=1e-6)
        for item in (1, 2, 3)
        for place in (0, 5, 6)
    )


def test_an_hour_lifts_what_is_taken_in_it() -> None:
    """An item taken at noon only is likelier at noon, by its share of people at that hour over the usual."""
    known = Popularity.empty(items=8, places=8, pairs=8)
    _count(known, 1, 0, MONDAY + 12 * HOUR, 30)
    _count(known, 2, 0, MONDAY + 20 * HOUR, 30)
    noon = MONDAY + 12 * HOUR
    _, lift = _found(known, 1, 0, noon)
    usual = (15 + 1 / 48) / (60 + 1)
    assert (15 / usual + ANY_HOUR) / (30 + ANY_HOUR) == pytest.approx(lift, rel=0.01)  # hours of decay
    _, other = _found(known, 2, 0, noon)
    assert ANY_HOUR / (30 + ANY_HOUR) == pytest.approx(other, rel=0.01)


@pytest.mark.parametrize(
    ("second", "expected"),
    [(MONDAY, 0), (MONDAY + 4 * DAY + 23 * HOUR, 23), (MONDAY + 5 * DAY, 24), (MONDAY + 7 * DAY - 1, 47)],
)
def test_the_weekend_has_hours_of_its_own(second: int, expected: int) -> None:
    """Hours 0 to 23 are of Monday to Friday, 24 to 47 of Saturday and Sunday."""
    assert expected == hour_of(second)


def test_the_least_popular_makes_room() -> None:
    """In a full table a new item replaces the lightest one, and popular ones stay."""
    known = Popularity.empty(items=8, places=8, pairs=8)
    for item in range(1, 9):
        _count(known, item, 0, MONDAY, 10 + item)
    _count(known, 99, 0, MONDAY)
    assert {2, 3, 4, 5, 6, 7, 8, 99} == set(known.item_keys)
    assert 8 == known.epoch[1]
    assert 1 == known.item_hours[list(known.item_keys).index(99)].sum()
