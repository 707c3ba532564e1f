"""Intervals and tests give the values that are published for them."""

import math

import pytest

from offers.whatif.statistics import (
    Estimate,
    Mean,
    chi_square_tail,
    difference,
    mean,
    mean_difference,
    mismatch,
    share,
    student,
)


@pytest.mark.parametrize(
    ("successes", "persons", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_shares_have_the_intervals_of_newcombe_s_table(successes: int, persons: int, low: float, high: float) -> None:
    """The four examples of Newcombe's comparison of methods for one proportion, table I, method 3."""
    found = share(successes, persons)

    assert successes / persons == found.value
    assert (low, high) == pytest.approx((found.low, found.high), abs=5e-5)


@pytest.mark.parametrize(
    ("one", "base", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_differences_have_the_intervals_of_newcombe_s_table(
    one: tuple[int, int], base: tuple[int, int], low: float, high: float
) -> None:
    """The eight examples of Newcombe's comparison of methods for two proportions, table II, method 10."""
    found = difference(share(*one), share(*base))

    assert one[0] / one[1] - base[0] / base[1] == found.value
    assert (low, high) == pytest.approx((found.low, found.high), abs=5e-5)


def test_the_interval_of_all_or_nothing_ends_there() -> None:
    """Nobody and everybody are the ends of their intervals, exactly, however many there are."""
    assert {0.0} == {share(0, persons).low for persons in range(1, 500)}
    assert {1.0} == {share(persons, persons).high for persons in range(1, 500)}


@pytest.mark.parametrize(
    ("statistic", "degrees", "tail"),
    [
        (3.841, 1, 0.05),
        (10.828, 1, 0.001),
        (5.991, 2, 0.05),
        (7.815, 3, 0.05),
        (9.488, 4, 0.05),
        (16.266, 3, 0.001),
        (18.307, 10, 0.05),
        (30.144, 19, 0.05),
        (43.820, 19, 0.001),
        (0.004, 1, 0.95),
        (10.117, 19, 0.95),
    ],
)
def test_the_chi_square_distribution_is_that_of_the_tables(statistic: float, degrees: int, tail: float) -> None:
    """Upper critical values of the NIST/SEMATECH e-Handbook, 1.3.6.7.4, which have three decimals."""
    assert tail == pytest.approx(chi_square_tail(statistic, degrees), rel=1.5e-3)


@pytest.mark.parametrize("degrees", [1, 2, 3, 19])
def test_the_chi_square_distribution_has_its_ends(degrees: int) -> None:
    """Nothing off is certain to be exceeded; what is far off is as good as impossible."""
    assert 1.0 == chi_square_tail(0.0, degrees)
    assert 0.0 <= chi_square_tail(100_000.0, degrees) < 1e-300


def test_counts_are_held_against_their_weights() -> None:
    """Mendel's peas: 315, 101, 108 and 32 of 9:3:3:1 have a statistic of 0.470, of which 92.5 % are above by chance."""
    assert 0.925 == pytest.approx(mismatch([315, 101, 108, 32], [9, 3, 3, 1]), abs=5e-4)


def test_few_counts_tell_nothing_of_their_weights() -> None:
    """A probability needs at least 5 expected persons in each variant."""
    assert mismatch([9, 0], [1, 1]) is None
    assert mismatch([0, 0], [1, 1]) is None
    assert 0.0016 == pytest.approx(mismatch([10, 0], [1, 1]), abs=5e-5)


def interval(values: list[float], persons: int) -> Estimate:
    """Return the mean of values with its interval."""
    found = mean(values, persons)
    assert found is not None
    return found.estimate()


def test_a_mean_counts_those_without_a_value() -> None:
    """For 10, 20 and two of nothing the mean is 7.5, the variance 275 / 3, and the error its root over 2."""
    half = 3.182446 * 4.787136
    assert (7.5, 7.5 - half, 7.5 + half) == pytest.approx(interval([10.0, 20.0], 4))


def test_one_person_has_no_mean() -> None:
    """An interval needs two: of 10 and 20 the error is 5, with one degree of freedom."""
    assert mean([10.0], 1) is None
    assert (15.0, 15.0 - 63.53102, 15.0 + 63.53102) == pytest.approx(interval([10.0, 20.0], 2))


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423), (31, 2.0395), (120, 1.9799)],
)
def test_quantiles_of_student(degrees: int, quantile: float) -> None:
    """Few persons have wide intervals. Source: NIST/SEMATECH e-Handbook, 1.3.6.7.2."""
    assert quantile == pytest.approx(student(degrees), abs=5e-5)
    assert student(degrees) > student(degrees + 0.5) > 1.95996


def test_difference_of_means() -> None:
    """Welch's degrees of freedom lie between those of the smaller sample and those of both."""
    one, base = mean([1.0, 2.0, 3.0, 6.0], 4), mean([1.0, 1.0], 3)
    assert one is not None
    assert base is not None
    value, low, high = mean_difference(one, base)
    parts = [14 / 3 / 4, (1 / 3) / 3]  # variances of both samples, each by its size
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    assert 3.5 < degrees < 3.6
    assert (3 - 2 / 3, 2 * student(degrees) * math.sqrt(sum(parts))) == pytest.approx((value, high - low))
    assert (0.0, 0.0, 0.0) == mean_difference(Mean(2.0, 0.0, 3), Mean(2.0, 0.0, 4))
