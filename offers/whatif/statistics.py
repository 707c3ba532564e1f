"""Estimates with intervals for comparisons: shares, differences, means, and the test for a wrong split."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_Z = 1.959963984540054
"""The normal distribution's quantile for an interval of 95 %."""
_STEPS = 256
"""Steps of Simpson's rule."""
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


class Mean(NamedTuple):
    """The mean over persons."""

    value: float
    error: float
    """Its standard error."""
    degrees: int
    """Degrees of freedom of the error."""

    def estimate(self) -> Estimate:
        """Return the mean with Student's interval."""
        half = student(self.degrees) * self.error
        return Estimate(self.value, self.value - half, self.value + half)


def mean(values: Sequence[float], persons: int) -> Mean | None:
    """Return the mean over persons; persons without a value have 0. None for fewer than 2 persons.

    Source: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2.
    """
    if persons < 2:
        return None
    average = math.fsum(values) / persons
    squares = math.fsum((value - average) ** 2 for value in values) + (persons - len(values)) * average**2
    return Mean(average, math.sqrt(squares / (persons - 1) / persons), persons - 1)


def mean_difference(one: Mean, base: Mean) -> Estimate:
    """Return the difference of two means of different persons, with Welch's interval.

    Source: Welch, "The generalization of Student's problem when several different population variances are involved",
    Biometrika 34 (1947).
    """
    value, error = one.value - base.value, math.hypot(one.error, base.error)
    if error == 0:
        return Estimate(value, value, value)
    shares = [(mean.error / error) ** 4 / mean.degrees for mean in (one, base)]
    half = student(1 / math.fsum(shares)) * error
    return Estimate(value, value - half, value + half)


def student(degrees: float) -> float:
    """Return the quantile of Student's distribution for an interval of 95 %; `degrees` of freedom are 1 or more.

    Up to 30 degrees, the density is integrated over the angle whose tangent is the quantile by the root of the degrees;
    beyond, the expansion 26.7.5 of Abramowitz and Stegun, "Handbook of Mathematical Functions", is exact to 1e-6.
    """
    if degrees > 30:
        terms = (
            (_Z**3 + _Z) / 4,
            (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96,
            (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384,
        )
        return _Z + math.fsum(term / degrees**power for power, term in enumerate(terms, 1))
    wanted = 0.95 * math.sqrt(math.pi) / 2 * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2))
    low, high = 0.0, math.pi / 2
    while high - low > 1e-12:
        middle = (low + high) / 2
        steps = np.cos(np.linspace(0, middle, _STEPS + 1)) ** (degrees - 1)
        area = middle / _STEPS / 3 * (steps[0] + 4 * steps[1::2].sum() + 2 * steps[2:-1:2].sum() + steps[-1])
        low, high = (middle, high) if area < wanted else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


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
