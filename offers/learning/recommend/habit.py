"""Weighs the visits in a person's history by what they say about the present moment."""

import math
from typing import NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.learning.recommend.slots import LOOP
from offers.model.visits import NOTHING

# Questions asked of a visit; Parameters.weights has the weight of each.
AGE, TIME_OF_DAY, SAME_HOUR, SAME_KIND_OF_DAY, AFTER_THE_SAME, JUST_BEEN, SAME_PLACE = range(7)
QUESTIONS = 7
BINS = 145
"""Bins for differences of times of day, of ten minutes each."""
DAYS = 731
"""Bins for ages in days; older visits count as two years old."""
_MONTH = 30.0
_JUST_H = 3.0
"""Hours after which JUST_BEEN has lost 63 % of its weight."""
_INSTANT_H = 0.1
_TAU = 2 * math.pi


def hours_apart(place: int) -> float:
    """Return the difference of two times of day that a bin stands for, in hours (0 to 12)."""
    return min(place, BINS - 1 - place) / 6.0


OPPOSITE = np.array([1.0 - math.cos(hours_apart(place) * _TAU / 24.0) for place in range(BINS)])
"""By bin, the distance of two times of day, from 0 (the same) to 2 (twelve hours)."""
CLOSE = np.array([math.exp(-hours_apart(place)) for place in range(BINS)])
"""By bin, the closeness of two times of day: 1 for the same, 0.37 an hour apart."""


class Parameters(NamedTuple):
    """The learned weights of the questions asked of a visit, the same for all people."""

    weights: NDArray[np.float64]
    """By question: a visit counts the exponential of the sum of weight x answer."""
    unknown: NDArray[np.float64]
    """One number: the weight of all that a person has not done yet. No visit counts for more."""
    by_bin: NDArray[np.float64]
    """Factor of TIME_OF_DAY and SAME_HOUR, by difference of time of day."""
    by_day: NDArray[np.float64]
    """Factor of AGE, by age in days."""

    @classmethod
    def neutral(cls) -> Self:
        """Return parameters by which all visits count the same."""
        return cls(np.zeros(QUESTIONS), np.full(1, 5.0), np.ones(BINS), np.ones(DAYS))


@njit(error_model="numpy")
def tabulate(parameters: Parameters) -> None:
    """Compute the tables from the weights."""
    weights = parameters.weights
    for place in range(BINS):
        parameters.by_bin[place] = math.exp(weights[TIME_OF_DAY] * OPPOSITE[place] + weights[SAME_HOUR] * CLOSE[place])
    for days in range(DAYS):
        parameters.by_day[days] = math.exp(weights[AGE] * days / _MONTH)


@njit(error_model="numpy")
def _weekend(second: int) -> bool:
    return (second // 86_400 + 3) % 7 >= 5


class Now(NamedTuple):
    """The moment that visits of the past are compared with."""

    second: int
    """Seconds since 1970, by the wall clock of the place."""
    place: int
    """The place's short key: see `short`."""
    known: int
    """Number of the person's visits up to that second."""
    last_item: int
    """The item the person visited last; NOTHING: none."""
    gap_h: float
    """Hours since that visit."""


@njit(**LOOP)
def now_of(history: NDArray[np.void], second: int, place: int) -> Now:
    """Return the moment as seen from a person's history, without visits after it."""
    until = history.size
    while until > 0 and history[until - 1].second > second:
        until -= 1
    if until == 0:
        return Now(second, place, 0, NOTHING, 0.0)
    last = history[until - 1]
    return Now(second, place, until, last.item, (second - last.second) / 3_600.0)


@njit(error_model="numpy", forceinline=True)
def alike(one_h: float, other_h: float) -> float:
    """Return how alike two times since the previous visit are, 0 to 1: the shorter as a share of the longer."""
    one_h, other_h = one_h + _INSTANT_H, other_h + _INSTANT_H
    return min(one_h, other_h) / max(one_h, other_h)


@njit(**LOOP)
def answers(history: NDArray[np.void], at: int, now: Now, into: NDArray[np.float64]) -> None:
    """Write the answers to questions about a visit, 0 (no) to 1 (yes); AGE is in months, TIME_OF_DAY as OPPOSITE."""
    visit = history[at]
    ago = now.second - visit.second
    place = (ago % 86_400 + 300) // 600
    into[AGE] = min(ago // 86_400, DAYS - 1) / _MONTH
    into[TIME_OF_DAY] = OPPOSITE[place]
    into[SAME_HOUR] = CLOSE[place]
    into[SAME_KIND_OF_DAY] = 1.0 if _weekend(visit.second) == _weekend(now.second) else 0.0
    into[AFTER_THE_SAME] = 0.0
    if at > 0 and history[at - 1].item == now.last_item:
        into[AFTER_THE_SAME] = alike((visit.second - history[at - 1].second) / 3_600.0, now.gap_h)
    into[JUST_BEEN] = math.exp(-now.gap_h / _JUST_H) if visit.item == now.last_item else 0.0
    into[SAME_PLACE] = 1.0 if visit.place == now.place and now.place != 0 else 0.0


@njit(**LOOP)
def weigh(history: NDArray[np.void], now: Now, parameters: Parameters, into: NDArray[np.float64]) -> float:
    """Write how much each visit up to now counts, and return the sum."""
    weights, most = parameters.weights, parameters.unknown[0]
    by_bin, by_day = parameters.by_bin, parameters.by_day
    same_kind = math.exp(weights[SAME_KIND_OF_DAY])
    same_place = math.exp(weights[SAME_PLACE])
    just_been = math.exp(weights[JUST_BEEN] * math.exp(-now.gap_h / _JUST_H))
    weekend = _weekend(now.second)
    total = 0.0
    before_item, before_second = NOTHING, np.uint32(0)
    for at in range(now.known):
        visit = history[at]
        ago = now.second - visit.second
        worth = by_bin[(ago % 86_400 + 300) // 600] * by_day[min(ago // 86_400, DAYS - 1)] * (visit.weight / 255.0)
        if _weekend(visit.second) == weekend:
            worth *= same_kind
        if at > 0 and before_item == now.last_item:
            worth *= math.exp(weights[AFTER_THE_SAME] * alike((visit.second - before_second) / 3_600.0, now.gap_h))
        if visit.item == now.last_item:
            worth *= just_been
        if visit.place == now.place and now.place != 0:
            worth *= same_place
        into[at] = min(worth, most)
        total += into[at]
        before_item, before_second = visit.item, visit.second
    return total
