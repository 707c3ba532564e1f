"""The measures: AUC, ranks of what was taken, and the revenue of sending a promotion."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]

RESAMPLES = 1_000
GAIN, COST = 10.0, 0.15
"""Value of a purchase and cost of a promotion, by the definition of the data set."""


def auc(reward: Floats, score: Floats) -> float:
    """Return the AUC, 0 to 1: how often a yes (1) has a higher score than a no (0), ties counting half."""
    yes, no = score[reward == 1], np.sort(score[reward == 0])
    ahead = np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")
    return float(ahead.mean() / 2 / len(no))


def rank_of(wanted: str, shown: Sequence[str]) -> float:
    """Return the rank of what was taken up among what was shown, from 1; infinite if it was not shown."""
    return shown.index(wanted) + 1 if wanted in shown else np.inf


def rank_in(score: Floats, wanted: int) -> int:
    """Return the rank of one by descending score, from 1; equal scores keep their order."""
    return 1 + int((score > score[wanted]).sum()) + int((score[:wanted] == score[wanted]).sum())


def hit_rate(ranks: Floats, most: int) -> float:
    """Return the share of ranks of at most `most`."""
    return float((ranks <= most).mean())


def mean_reciprocal_rank(ranks: Floats) -> float:
    """Return the mean of 1 / rank; infinite ranks count as 0."""
    return float((1 / ranks).mean())


class Sent(NamedTuple):
    """The result of sending a promotion to chosen persons, from those who got it, or not, by chance."""

    nir: float
    """Net incremental revenue: that of the chosen with the promotion, minus its cost and their revenue without it."""
    irr: float
    """Incremental response rate: the difference between the shares that bought."""


def sent(chosen: Truths, treated: Truths, bought: Floats) -> Sent:
    """Return the result for the chosen; IRR is 0 where there are none with, or none without the promotion."""
    with_it, without = bought[chosen & treated], bought[chosen & ~treated]
    nir = GAIN * with_it.sum() - COST * len(with_it) - GAIN * without.sum()
    return Sent(float(nir), float(with_it.mean() - without.mean()) if len(with_it) and len(without) else 0.0)


def interval(
    count: int, figure: Callable[[NDArray[np.int64]], Sequence[float]], seed: int = 1
) -> list[tuple[float, float]]:
    """Return 95 % bootstrap intervals of figures; `figure` gets the numbers of the rows drawn."""
    random = np.random.default_rng(seed)
    drawn = np.array([figure(random.integers(0, count, count)) for _ in range(RESAMPLES)])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def listed(figures: Sequence[float]) -> str:
    """Return shares in the form of a table: .395 / .668."""
    return " / ".join(f"{one:.3f}".removeprefix("0") for one in figures)
