"""How late rewards come, and how much an example without a reward tells until then."""

import math

import numpy as np
from numpy.typing import NDArray

STEPS_PER_DOUBLING, STEPS = 2, 34
"""Delays are counted in steps: step 0 ends at the settle time, and STEPS_PER_DOUBLING further ones at its double."""
EXPECTED_SOON = 30
"""Rewards that count as having come in time, at each step, so that a few late ones do not make all seem to be late."""


def step_of(delay_s: float, settle_s: int) -> int:
    """Return the step in which a reward came so many seconds after the offer was shown."""
    return min(max(math.ceil(STEPS_PER_DOUBLING * math.log2(max(delay_s, 1.0) / settle_s)), 0), STEPS - 1)


def shares_of(step: NDArray[np.uint8], age_s: NDArray[np.float64], settle_s: int) -> NDArray[np.float64]:
    """Return by step the share of rewards that have come at its end, from the steps of some and their examples' ages.

    Of a young example only early rewards are known. So each step is compared with those before it among the examples
    that are old enough for it. Source: Lagakos, Barraj and De Gruttola, "Nonparametric analysis of truncated survival
    data, with application to AIDS" (Biometrika 75, 1988).
    """
    oldest = np.minimum(np.floor(_steps(age_s, settle_s) + 1e-9), STEPS - 1).astype(np.int64)
    is_over = step <= oldest  # in the step that an example is in, only early rewards are known as well
    counts = np.bincount((oldest * STEPS + step)[is_over], minlength=STEPS * STEPS).reshape(STEPS, STEPS)
    by_then = counts[::-1].cumsum(axis=0)[::-1].cumsum(axis=1).astype(np.float64)
    """By step: examples that are at least so old, of which the reward came in this step or before."""
    known, earlier = np.diagonal(by_then)[1:], np.diagonal(by_then, -1)
    earlier_shares = (earlier + EXPECTED_SOON) / (known + EXPECTED_SOON)
    return np.append(earlier_shares[::-1].cumprod()[::-1], 1.0)


def counted(
    reward: NDArray[np.float64], importance: NDArray[np.float64], come: NDArray[np.float64], seen: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how much each example counts, of its importance, where a share of the rewards has come by its age.

    Of an example without a reward, one may still come. With the share F and the probability p of a reward, it has none
    by now with the likelihood 1 - pF, whose logit has the slope of a refusal of importance F (1 - p) / (1 - pF). For p
    stands the rate of rewards, also of those `seen` before. Source: Chapelle, "Modeling delayed feedback in display
    advertising" (KDD 2014); here the delays are counted, and are the same for all.
    """
    rewards, found = float(seen[0] + (reward * importance).sum()), importance
    for _ in range(3 if come.min(initial=1.0) < 1 else 0):  # the rate depends on what counts
        rate = rewards / max(float(seen[0] + seen[1] + found.sum()), rewards, 1e-9)
        found = np.where(reward > 0, importance, importance * come * (1 - rate) / np.maximum(1 - rate * come, 1e-9))
    return found


def come_by(shares: NDArray[np.float64], age_s: NDArray[np.float64], settle_s: int) -> NDArray[np.float64]:
    """Return for each age the share of rewards that have come, by `shares_of`."""
    return np.interp(_steps(age_s, settle_s), np.arange(STEPS), shares)


def _steps(age_s: NDArray[np.float64], settle_s: int) -> NDArray[np.float64]:
    return np.asarray(STEPS_PER_DOUBLING * np.log2(np.maximum(age_s, settle_s) / settle_s))
