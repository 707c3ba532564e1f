"""Exposure tables add up, and tell who gains and who loses."""

import numpy as np
import pytest

from offers.whatif.fairness import Exposures, exposure_table, gains
from offers.whatif.off_policy import EvaluationError

GROUPS = ("north", "south", "south", "north", "west")


def exposures(rows: list[tuple[int, str, float, float]]) -> Exposures:
    """Exposures of rows: decision, offer, weight, reward."""
    decision, offer, weight, reward = zip(*rows, strict=True)
    return Exposures(np.array(decision), offer, np.array(weight), np.array(reward))


BEFORE = exposures(
    [(0, "soup", 1.0, 0.2), (0, "cake", 0.5, 0.4), (1, "soup", 1.0, 0.1), (2, "cake", 1.0, 0.3), (3, "cake", 0.5, 0.4)]
)


def test_exposure_is_shared_out_by_group() -> None:
    """Each group has its share of decisions, of exposure, its reward per decision and its offers, largest first."""
    north, south, west = exposure_table(BEFORE, GROUPS)

    assert ("north", 2, 0.4, 0.5) == north[:4]
    assert 0.3 == pytest.approx(north.expected_reward)
    assert [("cake", 0.5), ("soup", 0.5)] == list(north.offers.items())
    assert ("south", 2, 0.4, 0.5) == south[:4]
    assert 0.2 == pytest.approx(south.expected_reward)
    assert ("west", 1, 0.2, 0.0, 0.0, {}) == west


def test_the_larger_share_comes_first() -> None:
    """Offers of a group stand in order of their exposure, and their shares add up to 1."""
    (row,) = exposure_table(exposures([(0, "a", 0.1, 1), (0, "b", 0.6, 1), (1, "c", 0.3, 1)]), ("all", "all"))

    assert ["b", "c", "a"] == list(row.offers)
    assert [0.6, 0.3, 0.1] == pytest.approx(list(row.offers.values()))


def test_losers_come_first() -> None:
    """A change of policy is a gain for one group and a loss for another, per decision; a third keeps what it had."""
    after = exposures([(0, "cake", 1.0, 0.4), (1, "cake", 1.0, 0.3), (2, "cake", 1.0, 0.3), (3, "soup", 0.5, 0.2)])
    changes = gains(BEFORE, after, GROUPS)

    assert ["north", "west", "south"] == [change.group for change in changes]
    assert [2, 1, 2] == [change.decisions for change in changes]
    assert [-0.05, 0, 0.1] == pytest.approx([change.gain for change in changes])


def test_nothing_shown_is_no_exposure() -> None:
    """Without any weight over 0, all shares are 0."""
    (row,) = exposure_table(exposures([(0, "a", 0.0, 1.0)]), ("all",))
    assert (0.0, 0.0, {}) == row[3:]


def test_bad_exposures_are_refused() -> None:
    """Weights below 0, rewards that are no numbers, columns of other lengths and unknown decisions are errors."""
    with pytest.raises(EvaluationError, match="weights must be finite"):
        exposures([(0, "a", -0.1, 1)])
    with pytest.raises(EvaluationError, match="rewards finite"):
        exposures([(0, "a", 0.1, np.nan)])
    with pytest.raises(EvaluationError, match="as many"):
        Exposures(np.array([0]), ["a", "b"], np.ones(1), np.ones(1))
    with pytest.raises(EvaluationError, match="none of the 1"):
        exposure_table(exposures([(1, "a", 0.1, 1)]), ("all",))
