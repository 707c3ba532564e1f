"""How late rewards come, and how much an example without a reward tells until then."""

import math

import numpy as np
from numpy.typing import NDArray

STEPS_PER_DOUBLING, STEPS = 2, 34
"""Delays are counted in steps: from the settle time on, STEPS_PER_DOUBLING for each doubling of it."""
REMEMBERED = 4_096
"""Rewards beyond which all counts are halved, so that what was long ago counts less."""


class RewardDelays:
    """Counts of the delays of rewards of one kind: in step 0 those up to the settle time."""

    def __init__(self, settle_s: int) -> None:
        self.counts = np.zeros(STEPS)
        self._settle_s = settle_s

    def add(self, delay_s: float, count: int = 1) -> None:
        """Count rewards that came so many seconds after the offer was shown."""
        self.counts[min(math.ceil(max(self._step(delay_s), 0.0)), STEPS - 1)] += count

    def fade(self) -> None:
        """Have earlier delays count less once there are many."""
        if self.counts.sum() > REMEMBERED:
            self.counts /= 2

    def come(self, age_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each age the share of the rewards that have come by then; 1 where none are known."""
        total = self.counts.sum()
        if not total:
            return np.ones(len(age_s))
        steps = STEPS_PER_DOUBLING * np.log2(np.maximum(age_s, self._settle_s) / self._settle_s)
        return np.interp(steps, np.arange(STEPS), self.counts.cumsum() / total)

    def importance(
        self, reward: NDArray[np.float64], importance: NDArray[np.float64], age_s: NDArray[np.float64],
        seen: NDArray[np.float64],
    ) -> NDArray[np.float64]:  # fmt: skip
        """Return how much each example counts, of its importance.

        Of an example without a reward, one may still come. With the share F of rewards that have come by its age and
        the probability p of a reward, it is refused with the likelihood 1 - pF, whose logit has the slope of a refusal
        of importance F (1 - p) / (1 - pF). Source: Chapelle, "Modeling delayed feedback in display advertising" (KDD
        2014), with counted delays; for p the rate of rewards is taken, also of those `seen` before.
        """
        come, found = self.come(age_s), importance
        rewards = float(seen[0] + (reward * importance).sum())
        for _ in range(3 if come.min(initial=1.0) < 1 else 0):
            rate = rewards / max(rewards, float(seen[0] + seen[1] + found.sum()), 1e-9)
            found = np.where(reward > 0, importance, importance * come * (1 - rate) / np.maximum(1 - rate * come, 1e-9))
        return found

    def _step(self, delay_s: float) -> float:
        return STEPS_PER_DOUBLING * math.log2(max(delay_s, 1e-9) / self._settle_s)
