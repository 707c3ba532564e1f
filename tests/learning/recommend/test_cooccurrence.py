"""Co-occurrence: shares, decay, and eviction from full tables."""

import pytest

from offers.learning.recommend.cooccurrence import ALONE, Cooccurrence, join, partners
from tests.learning.visits import DAY, MONDAY


def _told(known: Cooccurrence, source: int, second: int) -> dict[int, float]:
    row, scale, _ = partners(known, source, second)
    keys, weights = known.partner_keys[row], known.partner_weights[row]
    return {int(key): float(weight) * scale for key, weight in zip(keys, weights, strict=True) if key}


def test_both_count_for_each_other() -> None:
    """A pair counts both ways, as a share of all pairs of each item and of trust in neither."""
    known = Cooccurrence.empty(items=8, partners=4)
    for _ in range(3):
        join(known, 1, 2, MONDAY, 1.0)
    join(known, 1, 3, MONDAY, 0.5)
    assert {2: 3 / (3.5 + ALONE), 3: 0.5 / (3.5 + ALONE)} == pytest.approx(_told(known, 1, MONDAY))
    assert {1: 3 / (3 + ALONE)} == pytest.approx(_told(known, 2, MONDAY))


def test_an_unknown_item_says_nothing() -> None:
    """After an item that was never taken with others, other items are as likely as usual."""
    assert (-1, 0.0, 1.0) == partners(Cooccurrence.empty(items=8, partners=4), 1, MONDAY)


def test_pairs_of_a_month_ago_count_half() -> None:
    """A weight halves in thirty days; and over ten years, no weight grows out of bounds."""
    known = Cooccurrence.empty(items=8, partners=4)
    for month in range(120):
        join(known, 1, 2, MONDAY + month * 30 * DAY, 1.0)
    told = _told(known, 1, MONDAY + 119 * 30 * DAY)
    assert {2: 2 / (2 + ALONE)} == pytest.approx(told, rel=1e-5)
    assert known.epoch[0] > MONDAY


def test_the_rarest_partner_makes_room() -> None:
    """A full row keeps the partners of most weight."""
    known = Cooccurrence.empty(items=64, partners=4)
    for partner in range(2, 7):
        for _ in range(10 - partner):
            join(known, 1, partner, MONDAY, 1.0)
    assert {2, 3, 4, 6} == set(_told(known, 1, MONDAY))
    assert (5 + ALONE) / (30 + ALONE) == pytest.approx(partners(known, 1, MONDAY)[2])  # the 5 forgotten are any item


def test_a_new_item_in_place_of_another_has_no_partners_of_it() -> None:
    """An item that takes the place of a forgotten one begins anew."""
    known = Cooccurrence.empty(items=8, partners=4)
    for item in range(1, 9):
        join(known, item, item, MONDAY, float(item))
    join(known, 99, 98, MONDAY, 20.0)
    assert {98} == set(_told(known, 99, MONDAY))
    assert {99} == set(_told(known, 98, MONDAY))
