"""The gate before publishing: compares two models by what they foresaw of the same examples before learning them."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offers.learning.propensity.regression import calibration_error

RECENT = 4_000
"""Number of offers shown by which a model is judged: the last ones."""
LEAST_RECENT = 100
MARGIN_ERRORS, MARGIN_CALIBRATION = 2.0, 0.02
"""Margins above the incumbent: of the log loss, in standard errors of the difference; of the calibration error, plus
as many standard errors of the reward rate."""
_TINY = 1e-12

Foreseen = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rewards of examples, and their foreseen probabilities."""


def _no_values() -> NDArray[np.float64]:
    return np.full(RECENT, np.nan)


@dataclass(slots=True)
class Recent:
    """A ring buffer of the last RECENT judged offers: probabilities foreseen at their decision, and their outcomes.

    Foreseeing at the decision keeps models comparable: neither knows the outcome of an offer that was shown beside it.
    """

    reward: NDArray[np.float64] = field(default_factory=_no_values)
    """NaN where the outcome is not known, or not yet."""
    candidate: NDArray[np.float64] = field(default_factory=_no_values)
    """Probabilities by the model that goes on learning."""
    incumbent: NDArray[np.float64] = field(default_factory=_no_values)
    """Probabilities by the model published last; NaN where there was none."""
    judged: int = 0
    """Number of offers judged so far; each has a number, from 0."""
    examples: int = 0
    """Number of examples learned so far."""
    rewards: int = 0
    """Number of examples with a reward over 0."""

    def foreseen(self, candidate: NDArray[np.float64], incumbent: NDArray[np.float64] | None) -> None:
        """Add the probabilities foreseen for some offers, which get the next numbers."""
        slots = (self.judged + np.arange(len(candidate))) % RECENT
        self.reward[slots], self.candidate[slots] = np.nan, candidate
        self.incumbent[slots] = np.nan if incumbent is None else incumbent
        self.judged += len(candidate)

    def settle(self, number: int, reward: float) -> None:
        """Set the outcome of an offer, by its number; NaN: unknown. Later calls overwrite earlier ones."""
        if number >= self.judged - RECENT:
            self.reward[number % RECENT] = reward

    def of_candidate(self) -> Foreseen:
        """Return rewards with the probabilities of the model that goes on learning."""
        return self.reward, self.candidate

    def of_both(self) -> tuple[Foreseen, Foreseen]:
        """Return rewards with the probabilities of candidate and incumbent, for the same examples."""
        both = ~np.isnan(self.incumbent)
        return (self.reward[both], self.candidate[both]), (self.reward[both], self.incumbent[both])

    def figures(self) -> dict[str, float]:
        """Return the numbers of examples and rewards, and the quality of the last probabilities."""
        return {"examples": self.examples, "rewards": self.rewards, **figures_of(self.of_candidate())}


def figures_of(foreseen: Foreseen) -> dict[str, float]:
    """Return the number of examples without NaN and, if there are any, log loss and calibration error."""
    reward, chance = _without_nan(*foreseen)
    if not len(reward):
        return {"judged": 0}
    return {
        "judged": len(reward),
        "log_loss": float(_losses(reward, chance).mean()),
        "calibration_error": calibration_error(reward, chance),
    }


def worse(candidate: Foreseen, incumbent: Foreseen) -> str:
    """Return why a candidate is worse than an incumbent; "" if it is not, or there are too few examples to tell.

    Examples with NaN are left out. On the same examples, the difference is measured much more precisely.
    """
    (reward, chance), (other_reward, other_chance) = (_without_nan(*one) for one in (candidate, incumbent))
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


def _without_nan(reward: NDArray[np.float64], chance: NDArray[np.float64]) -> Foreseen:
    known = ~np.isnan(reward + chance)
    return reward[known], chance[known]


def _losses(reward: NDArray[np.float64], foreseen: NDArray[np.float64]) -> NDArray[np.float64]:
    chance = np.clip(foreseen, _TINY, 1 - _TINY)
    return np.asarray(-(reward * np.log(chance) + (1 - reward) * np.log1p(-chance)))
