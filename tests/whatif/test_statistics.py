"""Intervals and tests give the values that are published for them."""

import math

import pytest

from offers.whatif.statistics import Estimate, chi_square_tail, difference, mean, mean_difference, mismatch, share


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


def test_a_mean_counts_those_without_a_value() -> None:
    """For 10, 20 and two of nothing the mean is 7.5, the variance 275 / 3, and the error its root over 2."""
    assert (7.5, 7.5 - 1.959964 * 4.787136, 7.5 + 1.959964 * 4.787136) == pytest.approx(mean([10.0, 20.0], 4))


def test_one_person_has_no_mean() -> None:
    """An interval needs two: of 10 and 20 the error is 5."""
    assert mean([10.0], 1) is None
    assert (15.0, 15.0 - 9.79982, 15.0 + 9.79982) == pytest.approx(mean([10.0, 20.0], 2))


def test_difference_of_means() -> None:
    """Two independent means of 5 and 3, known to within 1 and 0.75, differ by 2, known to within 1.25."""
    assert (2.0, 0.75, 3.25) == mean_difference(Estimate(5.0, 4.0, 6.0), Estimate(3.0, 2.25, 3.75))
    one, base = mean([1.0, 2.0, 3.0, 6.0], 4), mean([1.0, 1.0], 3)
    assert one is not None
    assert base is not None
    value, low, high = mean_difference(one, base)
    error = math.sqrt(14 / 3 / 4 + (1 / 3) / 3)  # variances of both samples, each by its size
    assert (3 - 2 / 3, 2 * 1.959964 * error) == pytest.approx((value, high - low), rel=1e-6)
