"""The measures: how well scores tell yes from no, how high up stands what was taken, and what sending brings."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]

RESAMPLES = 1_000
GAIN, COST = 10.0, 0.15
"""What a purchase brings, and a promotion costs, as the promotion's data set has it."""


def auc(reward: Floats, score: Floats) -> float:
    """How often a yes (1) has a higher score than a no (0), ties counting half: from 0 to 1."""
    yes, no = score[reward == 1], np.sort(score[reward == 0])
    ahead = np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")
    return float(ahead.mean() / 2 / len(no))


def rank_of(wanted: str, shown: Sequence[str]) -> float:
    """The place of what was taken up among what was shown, from 1; infinite where it is not there."""
    return shown.index(wanted) + 1 if wanted in shown else np.inf


def rank_in(score: Floats, wanted: int) -> int:
    """The place of one by descending score, from 1; of equal ones the first comes first."""
    return 1 + int((score > score[wanted]).sum()) + int((score[:wanted] == score[wanted]).sum())


def hit_rate(ranks: Floats, most: int) -> float:
    """The share of ranks that are `most` at most."""
    return float((ranks <= most).mean())


def mean_reciprocal_rank(ranks: Floats) -> float:
    """The mean of 1 / rank; what was not shown counts as 0."""
    return float((1 / ranks).mean())


class Sent(NamedTuple):
    """What came of sending a promotion to those chosen: told by whom chance has sent it to, and whom not."""

    nir: float
    """Net incremental revenue: what the chosen brought with it less its cost, less what they brought without it."""
    irr: float
    """Incremental response rate: the difference between the shares that bought."""


def sent(chosen: Truths, treated: Truths, bought: Floats) -> Sent:
    """What sending to the chosen brings; IRR is 0 where there are none with it, or none without it."""
    with_it, without = bought[chosen & treated], bought[chosen & ~treated]
    nir = GAIN * with_it.sum() - COST * len(with_it) - GAIN * without.sum()
    return Sent(float(nir), float(with_it.mean() - without.mean()) if len(with_it) and len(without) else 0.0)


def interval(
    count: int, figure: Callable[[NDArray[np.int64]], Sequence[float]], seed: int = 1
) -> list[tuple[float, float]]:
    """The 95 % bootstrap intervals of figures of so many rows; `figure` is given the numbers of those drawn."""
    random = np.random.default_rng(seed)
    drawn = np.array([figure(random.integers(0, count, count)) for _ in range(RESAMPLES)])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def listed(figures: Sequence[float]) -> str:
    """Shares as a table has them: .395 / .668."""
    return " / ".join(f"{one:.3f}".removeprefix("0") for one in figures)
