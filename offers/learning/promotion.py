"""Whether a model may take the place of another: by what both foresaw of the same examples before they learned them."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offers.learning.propensity.regression import calibration_error

RECENT = 4_000
"""A model is judged by so many offers that were shown."""
LEAST_RECENT = 100
MARGIN_ERRORS, MARGIN_CALIBRATION = 2.0, 0.02
"""How far the log loss may be above the incumbent's, in its standard errors; and the calibration error, beside as many
standard errors of the share of rewards."""
_TINY = 1e-12

Foreseen = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rewards of examples, and how likely they were foreseen."""


def _nothing() -> NDArray[np.float64]:
    return np.full(RECENT, np.nan)


@dataclass(slots=True)
class Recent:
    """What was foreseen of the last offers that were shown, at the moment of their decision: of some of them, RECENT at
    most. Then, what came of an offer shown beside it is not known yet to the one and not to the other.
    """  # noqa: D205

    reward: NDArray[np.float64] = field(default_factory=_nothing)
    """NaN where it is not known yet what came of it, or never will be."""
    candidate: NDArray[np.float64] = field(default_factory=_nothing)
    """By the model that goes on learning."""
    incumbent: NDArray[np.float64] = field(default_factory=_nothing)
    """By the model that was published last; NaN where there was none."""
    judged: int = 0
    """How many there were in all; each has its number from 0."""
    examples: int = 0
    """That were learned."""
    rewards: int = 0
    """How many of them are rewards: over 0."""

    def foreseen(self, candidate: NDArray[np.float64], incumbent: NDArray[np.float64] | None) -> None:
        """Take in what was foreseen of some offers: they have the next numbers."""
        slots = (self.judged + np.arange(len(candidate))) % RECENT
        self.reward[slots], self.candidate[slots] = np.nan, candidate
        self.incumbent[slots] = np.nan if incumbent is None else incumbent
        self.judged += len(candidate)

    def settle(self, number: int, reward: float) -> None:
        """Say what came of an offer, by its number; said again, the last word counts. NaN: it may not be known."""
        if number >= self.judged - RECENT:
            self.reward[number % RECENT] = reward

    def of_candidate(self) -> Foreseen:
        """What the model that goes on learning foresaw."""
        return self.reward, self.candidate

    def of_both(self) -> tuple[Foreseen, Foreseen]:
        """What candidate and incumbent foresaw of the same examples."""
        both = ~np.isnan(self.incumbent)
        return (self.reward[both], self.candidate[both]), (self.reward[both], self.incumbent[both])

    def figures(self) -> dict[str, float]:
        """How many examples and rewards were learned, and how good what was foreseen of the last offers shown is."""
        return {"examples": self.examples, "rewards": self.rewards, **figures_of(self.of_candidate())}


def figures_of(foreseen: Foreseen) -> dict[str, float]:
    """How many examples there are but for those that are NaN, and if there are any, how good what was foreseen is."""
    reward, chance = _known(*foreseen)
    if not len(reward):
        return {"judged": 0}
    return {
        "judged": len(reward),
        "log_loss": float(_losses(reward, chance).mean()),
        "calibration_error": calibration_error(reward, chance),
    }


def worse(candidate: Foreseen, incumbent: Foreseen) -> str:
    """Why a candidate is worse than an incumbent, in words; "": it is not, or there are too few examples to tell.

    What is NaN is left out. Best of the same examples: then the difference is told much more exactly.
    """
    (reward, chance), (other_reward, other_chance) = (_known(*one) for one in (candidate, incumbent))
    if min(len(reward), len(other_reward)) < LEAST_RECENT:
        return ""
    own, other = _losses(reward, chance), _losses(other_reward, other_chance)
    excess = float(own.mean() - other.mean())
    if np.array_equal(reward, other_reward):
        error = float((own - other).std()) / math.sqrt(len(own))
    else:
        error = math.sqrt(own.var() / len(own) + other.var() / len(other))
    if excess > MARGIN_ERRORS * error:
        return (
            f"its log loss on the last {len(own):,} offers shown is {own.mean():.4f},"
            f" the incumbent's {other.mean():.4f} (more by {excess:.4f} ± {error:.4f})"
        )
    gap, other_gap = calibration_error(reward, chance), calibration_error(other_reward, other_chance)
    margin = MARGIN_CALIBRATION + MARGIN_ERRORS * math.sqrt(reward.var() / len(reward))
    if gap > other_gap + margin:
        return (
            f"its calibration error on the last {len(own):,} offers shown is {gap:.3f}, the incumbent's {other_gap:.3f}"
            f" (more by over {margin:.3f})"
        )
    return ""


def _known(reward: NDArray[np.float64], chance: NDArray[np.float64]) -> Foreseen:
    known = ~np.isnan(reward + chance)
    return reward[known], chance[known]


def _losses(reward: NDArray[np.float64], foreseen: NDArray[np.float64]) -> NDArray[np.float64]:
    chance = np.clip(foreseen, _TINY, 1 - _TINY)
    return np.asarray(-(reward * np.log(chance) + (1 - reward) * np.log1p(-chance)))
