"""Estimates with intervals for comparisons: shares, differences, means, and the test for a wrong split."""

import math
from collections.abc import Sequence
from typing import NamedTuple

_Z = 1.959963984540054
"""The normal distribution's quantile for an interval of 95 %."""
MIN_EXPECTED = 5
"""Expected counts below this are too few for the chi-square distribution: Cochran, "Some methods for strengthening the
common chi-square tests", Biometrics 10 (1954)."""


class Estimate(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def share(successes: int, persons: int) -> Estimate:
    """Return the share of successes, 0 to 1, with Wilson's score interval; `persons` must be over 0.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927); method 3 of
    Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), 857-872.
    """
    p, z2 = successes / persons, _Z * _Z
    centre = (successes + z2 / 2) / (persons + z2)
    half = _Z * math.sqrt(persons * p * (1 - p) + z2 / 4) / (persons + z2)
    high = 1.0 if successes == persons else centre + half  # rounding would miss it
    return Estimate(p, centre - half, high)


def difference(one: Estimate, base: Estimate) -> Estimate:
    """Return the difference of two shares, -1 to 1, with Newcombe's interval.

    Source: method 10 of Newcombe, "Interval estimation for the difference between independent proportions: comparison
    of eleven methods", Statistics in Medicine 17 (1998), 873-890.
    """
    value = one.value - base.value
    low = value - math.hypot(one.value - one.low, base.high - base.value)
    high = value + math.hypot(one.high - one.value, base.value - base.low)
    return Estimate(value, low, high)


def mean(values: Sequence[float], persons: int) -> Estimate | None:
    """Return the mean over persons, with its normal interval; persons without a value have 0.

    None for fewer than 2 persons.

    Source: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2, with the normal quantile in place of Student's.
    """
    if persons < 2:
        return None
    average = math.fsum(values) / persons
    squares = math.fsum((value - average) ** 2 for value in values) + (persons - len(values)) * average**2
    half = _Z * math.sqrt(squares / (persons - 1) / persons)
    return Estimate(average, average - half, average + half)


def mean_difference(one: Estimate, base: Estimate) -> Estimate:
    """Return the difference of two means of different persons, with its normal interval.

    Source: Welch, "The generalization of Student's problem when several different population variances are involved",
    Biometrika 34 (1947), with the normal quantile in place of Student's.
    """
    value = one.value - base.value
    half = math.hypot(one.high - one.value, base.high - base.value)
    return Estimate(value, value - half, value + half)


def mismatch(counts: Sequence[int], weights: Sequence[float]) -> float | None:
    """Return the probability of counts at least as far from their weights (each over 0), by Pearson's chi-square test.

    None where there are too few. Source: Fabijan et al., "Diagnosing sample ratio mismatch in online controlled
    experiments", KDD 2019.
    """
    expected = [sum(counts) * weight / math.fsum(weights) for weight in weights]
    if min(expected) < MIN_EXPECTED:
        return None
    statistic = math.fsum((count - meant) ** 2 / meant for count, meant in zip(counts, expected, strict=True))
    return chi_square_tail(statistic, len(counts) - 1)


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the probability of a value of at least `statistic` (0 or more) in the chi-square distribution.

    `degrees` of freedom are 1 or more. Source: NIST Digital Library of Mathematical Functions, 8.4.6 for one degree and
    8.8.6 for each two more; the recurrence ends because degrees are whole.
    """
    half = statistic / 2
    if half == 0:
        return 1.0
    order, tail = (0.5, math.erfc(math.sqrt(half))) if degrees % 2 else (0.0, 0.0)
    while order < degrees / 2:
        tail += math.exp(order * math.log(half) - half - math.lgamma(order + 1))
        order += 1
    return tail
