"""Explore: vary propensities, so that what may turn out better is shown now and then.

What is varied hangs on one number of the decision. It picks one of DRAWS ways in which the propensities might be drawn.
"""

from statistics import NormalDist

import numpy as np

from offers.compiled import inlined, inner
from offers.decision.kernels.memory.records import Explore, Table, Terms, f8, i8
from offers.decision.kernels.memory.scratch import PersonFact, Scratch
from offers.model.hashing import SPLITMIX_STEP, mixed
from offers.v1.catalog_pb2 import Exploration

DRAWS = 64
HOUR_S = 3_600
"""One person's answers stay the same for so long."""
THOMPSON = int(Exploration.METHOD_THOMPSON)
_STEPS = 1_024
_NORMAL = np.array([NormalDist().inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS)])
"""As many values of a standard normal distribution, one as probable as another."""
_HIGHEST = float(_NORMAL[-1])
_OF_DRAW, _OF_NEW, _OF_EPSILON, _OF_OFFER = (np.uint64(SPLITMIX_STEP * number % 2**64) for number in range(1, 5))


@inner
def chance_of(draw: int, time: int, seed: int, seeded: int, otherwise: int) -> int:
    """The number that exploration hangs on: the request's seed, else the person and the hour, else any."""
    if seeded:
        return np.int64(mixed(seed))
    if draw != 0:
        return np.int64(mixed(np.uint64(draw) ^ mixed(time // HOUR_S)))
    return np.int64(mixed(otherwise))


@inlined
def _evenly(bits: np.uint64) -> float:
    """A number from 0 to 1 (exclusive) of 64 random bits."""
    return np.float64(bits >> np.uint64(11)) * 2.0**-53


@inlined
def _draws_for(share: float, chance: int, salt: np.uint64) -> int:
    """How many of the draws are a share of them: on the whole as many as it says."""
    return np.int64(share * DRAWS + _evenly(mixed(np.uint64(chance) ^ salt)))


@inlined
def own_of(chance: int, key: int) -> np.uint64:
    """What draws go by for an offer of a key."""
    return mixed(np.uint64(chance) ^ np.uint64(key))


@inner
def varied(
    explore: np.ndarray, weight: float, draw: int, new: int, tried: int, own: np.uint64, deviation: float, most: float
) -> float:  # fmt: skip
    """What a draw adds to the logarithm of an offer's propensity, `most` at most.

    `explore` is Terms.explore, `weight` that of the factor; the first `new` draws are for new offers, in the last
    `tried` epsilon-greedy tries. `deviation` is the standard deviation of that logarithm, below 0 for a new offer.
    """
    limit = explore[Explore.limit] / weight
    high = min(limit, most)
    if draw < new and deviation < 0.0:
        return high
    bits = mixed(own + np.uint64(draw + 1) * _OF_OFFER)
    if explore[Explore.method] == THOMPSON:
        moved = _NORMAL[np.int64(bits & np.uint64(_STEPS - 1))] * abs(deviation)
    elif DRAWS - draw <= tried:
        moved = (2.0 * _evenly(bits) - 1.0) * limit
    else:
        moved = 0.0
    return min(max(moved, -limit), high)


@inner
def highest_of(explore: np.ndarray, weight: float, deviation: float, most: float) -> float:
    """The most that any draw adds: see `varied`."""
    high = min(explore[Explore.limit] / weight, most)
    if explore[Explore.method] != THOMPSON or (deviation < 0.0 and explore[Explore.new_share] > 0):
        return high
    return min(_HIGHEST * abs(deviation), high)


@inner
def lowest_of(explore: np.ndarray, weight: float, deviation: float) -> float:
    """The least that any draw adds: see `varied`."""
    low = -explore[Explore.limit] / weight
    return max(-_HIGHEST * abs(deviation), low) if explore[Explore.method] == THOMPSON else low


@inner
def explored(scratch: Table, terms: Table, weight: float, deviation: float, most: float, key: int) -> float:
    """What the decision's draw adds to the logarithm of an offer's propensity: see `varied`."""
    chance, explore = i8(scratch, Scratch.person)[PersonFact.chance], f8(terms, Terms.explore)
    new, tried = shares_of(explore, chance)
    return varied(explore, weight, _draw_of(chance), new, tried, own_of(chance, key), deviation, most)


@inner
def shares_of(explore: np.ndarray, chance: int) -> tuple[int, int]:
    """How many of the draws are for new offers, and in how many epsilon-greedy tries."""
    new = _draws_for(explore[Explore.new_share], chance, _OF_NEW)
    return new, _draws_for(explore[Explore.epsilon], chance, _OF_EPSILON)


@inlined
def _draw_of(chance: int) -> int:
    return np.int64(mixed(np.uint64(chance) ^ _OF_DRAW) & np.uint64(DRAWS - 1))
