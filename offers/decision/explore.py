"""Explore: vary propensities, so that what may turn out better is shown now and then, and say how probable that was.

What is varied hangs on one number of the decision. It picks one of DRAWS ways in which the propensities might be drawn;
how many of these bring an offer into the answer tells how probable it was that it is there.
"""

import math
from statistics import NormalDist

import numpy as np

from offers.catalogue.snapshot import PROPENSITY
from offers.compiled import apart, inlined, inner
from offers.decision.records import Explore, Table, Terms, entries_of, f8, i8, offers_of, strategies_of
from offers.decision.scratch import RIVALS, Outcome, PersonFact, Scratch, candidates_of, chosen_of, rivals_of
from offers.model.hashing import mixed
from offers.v1.catalog_pb2 import Exploration

DRAWS = 64
HOUR_S = 3_600
"""One person's answers stay the same for so long."""
FAR = 3.0
"""Standard deviations beyond which a draw is not reckoned with."""
_THOMPSON = int(Exploration.METHOD_THOMPSON)
_STEPS = 1_024
_NORMAL = np.array([NormalDist().inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS)])
"""As many values of a standard normal distribution, one as probable as another."""
_OF_DRAW, _OF_NEW, _OF_EPSILON, _OF_OFFER = (np.uint64(0x9E3779B97F4A7C15 * number % 2**64) for number in range(1, 5))


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
def _own_of(chance: int, key: int) -> np.uint64:
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
    if explore[Explore.method] == _THOMPSON:
        moved = _NORMAL[np.int64(bits & np.uint64(_STEPS - 1))] * abs(deviation)
    elif DRAWS - draw <= tried:
        moved = (2.0 * _evenly(bits) - 1.0) * limit
    else:
        moved = 0.0
    return min(max(moved, -limit), high)


@inner
def explored(scratch: Table, terms: Table, weight: float, deviation: float, most: float, key: int) -> float:
    """What the decision's draw adds to the logarithm of an offer's propensity: see `varied`."""
    chance, explore = i8(scratch, Scratch.person)[PersonFact.chance], f8(terms, Terms.explore)
    new, tried = _shares(explore, chance)
    return varied(explore, weight, _draw_of(chance), new, tried, _own_of(chance, key), deviation, most)


@inner
def _shares(explore: np.ndarray, chance: int) -> tuple[int, int]:
    """How many of the draws are for new offers, and in how many epsilon-greedy tries."""
    new = _draws_for(explore[Explore.new_share], chance, _OF_NEW)
    return new, _draws_for(explore[Explore.epsilon], chance, _OF_EPSILON)


@inlined
def _draw_of(chance: int) -> int:
    return np.int64(mixed(np.uint64(chance) ^ _OF_DRAW) & np.uint64(DRAWS - 1))


@apart
def tell_selection(columns: Table, scratch: Table, terms: Table, strategy_number: int, kept: int, count: int) -> None:
    """Write how probable it was that each offer is in the answer: of the draws, those that bring it there.

    Reckoned among the chosen and the RIVALS that may come nearest to them, and without the placement's layout.
    """
    rivals, chosen, leading = rivals_of(scratch), chosen_of(scratch), f8(scratch, Scratch.leading)
    weight, explore = strategies_of(columns)[strategy_number].weights[PROPENSITY], f8(terms, Terms.explore)
    for place in range(count):
        chosen[place].selection = 0.0
    if f8(scratch, Scratch.outcome)[Outcome.explored] == 0:
        return
    size = _find_rivals(columns, scratch, terms, weight, kept, count)
    new, tried = _shares(explore, i8(scratch, Scratch.person)[PersonFact.chance])
    for draw in range(DRAWS):
        for place in range(size):
            one = rivals[place]
            added = varied(explore, weight, draw, new, tried, one.own, one.deviation, one.most)
            one.drawn = one.log_score + weight * added
        least = _least_leading(rivals, leading, size, count)
        for place in range(count):
            if rivals[place].drawn >= least:
                chosen[place].selection += 1.0 / DRAWS
    for place in range(count):
        chosen[place].selection = max(chosen[place].selection, 1.0 / DRAWS)


@inner
def _least_leading(rivals: np.ndarray, leading: np.ndarray, size: int, count: int) -> float:
    """The least of the best `count` scores that were drawn."""
    filled = 0
    for place in range(size):
        score = rivals[place].drawn
        if filled == count:
            if score <= leading[count - 1]:
                continue
            filled -= 1
        at = filled
        while at > 0 and leading[at - 1] < score:
            leading[at] = leading[at - 1]
            at -= 1
        leading[at] = score
        filled += 1
    return leading[filled - 1] if filled == count else -math.inf


@inner
def _find_rivals(columns: Table, scratch: Table, terms: Table, weight: float, kept: int, count: int) -> int:
    """List the chosen, and after them the others that may score best; how many there are."""
    rivals, chosen, candidates = rivals_of(scratch), chosen_of(scratch), candidates_of(scratch)
    for place in range(count):
        _list(columns, scratch, weight, chosen[place].index, place)
    size, most = count, count + RIVALS
    for index in range(kept):
        one = candidates[index]
        best = _best_of(terms, one, weight)
        if (size == most and best <= rivals[size - 1].drawn) or _is_chosen(chosen, count, index):
            continue
        at = size if size < most else size - 1
        while at > count and rivals[at - 1].drawn < best:
            rivals[at] = rivals[at - 1]
            at -= 1
        _list(columns, scratch, weight, index, at)
        rivals[at].drawn = best
        size = min(size + 1, most)
    return size


@inner
def _best_of(terms: Table, candidate: np.void, weight: float) -> float:
    """The best score that a candidate may be drawn to."""
    explore = f8(terms, Terms.explore)
    limit = explore[Explore.limit]
    if explore[Explore.method] == _THOMPSON and not (candidate.deviation < 0.0 and explore[Explore.new_share] > 0):
        limit = min(limit, FAR * weight * abs(candidate.deviation))
    return candidate.log_score - weight * candidate.varied + limit


@inner
def _is_chosen(chosen: np.ndarray, count: int, index: int) -> bool:
    found = False
    for place in range(count):
        found |= chosen[place].index == index
    return found


@inner
def _list(columns: Table, scratch: Table, weight: float, index: int, place: int) -> None:
    one, rival = candidates_of(scratch)[index], rivals_of(scratch)[place]
    rival.log_score = one.log_score - weight * one.varied
    rival.deviation, rival.most = one.deviation, one.varied - one.log_propensity
    key = offers_of(columns)[entries_of(columns)[one.entry].offer].key
    rival.own = _own_of(i8(scratch, Scratch.person)[PersonFact.chance], key)
