"""Explore: vary propensities, which shows offers now and then that may turn out better.

One number of the decision, its chance, picks one of DRAWS draws of the propensities. The specification is
reference/explored.py.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from offers.compiled import inlined, inner
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import Explore, Table, TermsArray, f8, i8
from offers.decision.kernels.memory.scratch import PersonFact, ScratchArray
from offers.model.hashing import SPLITMIX_STEP, mixed
from offers.v1.catalog_pb2 import Exploration

DRAWS = 64
HOUR_S = 3_600
"""Seconds for which one person's answers stay the same."""
THOMPSON = int(Exploration.METHOD_THOMPSON)
_STEPS = 1_024
_NORMAL = np.array([NormalDist().inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS)])
"""_STEPS values of a standard normal distribution, each as probable as the others."""
_HIGHEST = float(_NORMAL[-1])
_OF_DRAW, _OF_NEW, _OF_EPSILON, _OF_OFFER = (np.uint64(SPLITMIX_STEP * number % 2**64) for number in range(1, 5))


@inner
def chance_of(frame: Frame, draw: int, otherwise: int) -> int:
    """Return the chance of a decision: from the request's seed, else the person and the hour, else `otherwise`."""
    if frame.seeded:
        return np.int64(mixed(frame.seed))
    if draw != 0:
        return np.int64(mixed(np.uint64(draw) ^ mixed(frame.time // HOUR_S)))
    return np.int64(mixed(otherwise))


@inlined
def _evenly(bits: np.uint64) -> float:
    """Return a number from 0 to 1 (exclusive) made of 64 random bits."""
    return np.float64(bits >> np.uint64(11)) * 2.0**-53


@inlined
def _draws_for(share: float, chance: int, salt: np.uint64) -> int:
    """Return a number of draws whose mean over all chances is a share of DRAWS."""
    return np.int64(share * DRAWS + _evenly(mixed(np.uint64(chance) ^ salt)))


@inlined
def own_of(chance: int, key: int) -> np.uint64:
    """Return the number by which an offer of a key is drawn."""
    return mixed(np.uint64(chance) ^ np.uint64(key))


class Draws(NamedTuple):
    """The parts of the draws that are set aside."""

    new: int
    """The first draws, in which new offers get as much as they may."""
    tried: int
    """The last draws, in which epsilon-greedy exploration tries offers."""


@inner
def varied(
    explore: np.ndarray, weight: float, draw: int, draws: Draws, own: np.uint64, deviation: float, most: float
) -> float:  # fmt: skip
    """Return what a draw adds to the logarithm of an offer's propensity, `most` at most.

    `explore` is TermsArray.explore, `weight` the weight of the factor, `own` from `own_of`. `deviation` is the standard
    deviation of that logarithm, negative for a new offer.
    """
    limit = explore[Explore.limit] / weight
    high = min(limit, most)
    if draw < draws.new and deviation < 0.0:
        return high
    bits = mixed(own + np.uint64(draw + 1) * _OF_OFFER)
    if explore[Explore.method] == THOMPSON:
        moved = _NORMAL[np.int64(bits & np.uint64(_STEPS - 1))] * abs(deviation)
    elif DRAWS - draw <= draws.tried:
        moved = (2.0 * _evenly(bits) - 1.0) * limit
    else:
        moved = 0.0
    return min(max(moved, -limit), high)


@inner
def highest_of(explore: np.ndarray, weight: float, deviation: float, most: float) -> float:
    """Return the most that any draw adds: see `varied`."""
    high = min(explore[Explore.limit] / weight, most)
    if explore[Explore.method] != THOMPSON or (deviation < 0.0 and explore[Explore.new_share] > 0):
        return high
    return min(_HIGHEST * abs(deviation), high)


@inner
def lowest_of(explore: np.ndarray, weight: float, deviation: float) -> float:
    """Return the least that any draw adds: see `varied`."""
    low = -explore[Explore.limit] / weight
    return max(-_HIGHEST * abs(deviation), low) if explore[Explore.method] == THOMPSON else low


@inner
def explored(scratch: Table, terms: Table, weight: float, deviation: float, most: float, key: int) -> float:
    """Return what the decision's draw adds to the logarithm of an offer's propensity: see `varied`."""
    chance, explore = i8(scratch, ScratchArray.person)[PersonFact.chance], f8(terms, TermsArray.explore)
    draws = draws_of(explore, chance)
    return varied(explore, weight, _draw_of(chance), draws, own_of(chance, key), deviation, most)


@inner
def draws_of(explore: np.ndarray, chance: int) -> Draws:
    """Return how many of the draws are for new offers, and for epsilon-greedy exploration."""
    new = _draws_for(explore[Explore.new_share], chance, _OF_NEW)
    return Draws(new, _draws_for(explore[Explore.epsilon], chance, _OF_EPSILON))


@inlined
def _draw_of(chance: int) -> int:
    """Return the draw of a decision."""
    return np.int64(mixed(np.uint64(chance) ^ _OF_DRAW) & np.uint64(DRAWS - 1))
