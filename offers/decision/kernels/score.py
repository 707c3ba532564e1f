"""Score: how good a candidate is, as the sum of the weighted logarithms of its factors, and which are the best."""

import math

import numpy as np

from offers.catalogue.compile.geometry import MEAN_RADIUS_M
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import ENTRY, OFFER, PROPENSITY, RECOMMENDATION
from offers.compiled import apart, inlined, inner
from offers.decision.kernels.memory.records import (
    Column,
    Table,
    entries_of,
    f8,
    fetch_ahead,
    i4,
    strategies_of,
    worths_of,
)
from offers.decision.kernels.memory.scratch import (
    OUTSIDE_DAYPART,
    PENALISED,
    UNREACHABLE,
    Outcome,
    Scratch,
    candidates_of,
)
from offers.decision.kernels.order import is_better
from offers.decision.kernels.person.behave import log_behaviour
from offers.v1.ranking_pb2 import Decay

GAUSS, LINEAR = int(Decay.SHAPE_GAUSS), int(Decay.SHAPE_LINEAR)
SHORTLIST = 16
"""Candidates that are put in order at first: most placements show fewer, and have few limits."""
ENTRY_BYTES, OFFER_BYTES = ENTRY.itemsize, OFFER.itemsize
_NEVER = NEVER  # numba reads globals of this module only once, as constants


@inner
def ground_distance(squared: float) -> float:
    """Metres along the ground from straight-line metres squared; only for what is within reach (1,000 km).

    The arcsine by its series: to 0.1 mm there, and several times faster.
    """
    half = math.sqrt(squared) / (2 * MEAN_RADIUS_M)
    square = half * half
    return 2 * MEAN_RADIUS_M * half * (1 + square * (1 / 6 + square * (3 / 40 + square * (15 / 336))))


@inlined
def _log_decay(
    value: float, shape: int, origin: float, offset: float, scale: float, decay: float, log_decay: float,
    log_minimum: float,
) -> float:  # fmt: skip
    """The logarithm of a decay: see offers.v1.Decay."""
    steps = max(abs(value - origin) - offset, 0.0) / scale
    if shape == LINEAR:
        left = 1 - (1 - decay) * steps
        return max(math.log(left), log_minimum) if left > 0 else log_minimum
    if shape == GAUSS:
        steps *= steps
    return max(steps * log_decay, log_minimum)


@inlined
def log_nearness(strategy: np.void, squared: float) -> float:
    """The logarithm of nearness, from straight-line metres squared; infinite: there is no distance."""
    if squared == math.inf:
        return strategy.log_without_distance
    return _log_decay(
        ground_distance(squared),
        strategy.nearness_shape,
        strategy.nearness_origin,
        strategy.nearness_offset,
        strategy.nearness_scale,
        strategy.nearness_decay,
        strategy.nearness_log_decay,
        strategy.nearness_log_minimum,
    )


@inlined
def log_timeliness(strategy: np.void, until: int, flags: int, time: int) -> float:
    """The logarithm of timeliness."""
    urgency = _log_decay(
        math.inf if until == _NEVER else float(until - time),
        strategy.timeliness_shape,
        strategy.timeliness_origin,
        strategy.timeliness_offset,
        strategy.timeliness_scale,
        strategy.timeliness_decay,
        strategy.timeliness_log_decay,
        strategy.timeliness_log_minimum,
    )
    return urgency + strategy.log_outside_daypart if flags & OUTSIDE_DAYPART else urgency


@inlined
def log_location(strategy: np.void, chance: float, flags: int) -> float:
    """The logarithm of how likely the person is inside, or of the penalty for a location that is missing."""
    if flags & PENALISED:
        return strategy.log_missing_location
    return math.log(chance) if chance < 1.0 else 0.0


@inlined
def log_reachability(strategy: np.void, flags: int) -> float:
    """The logarithm of whether one can be there in time."""
    return strategy.log_unreachable if flags & UNREACHABLE else 0.0


@apart
def score(
    columns: Table, terms: Table, scratch: Table, strategy_number: int, seed: int, seeded: int, kept: int, time: int
) -> int:  # fmt: skip
    """Write the logarithm of each candidate's score, and put the best SHORTLIST first in the heap, in order.

    Returns how many these are.
    """
    candidates, heap, entries = candidates_of(scratch), i4(scratch, Scratch.heap), entries_of(columns)
    for index in range(kept):  # by themselves, so that nothing has to be guessed between them
        score_one(columns, scratch, strategy_number, index, time)
    held = np.int64(f8(scratch, Scratch.outcome)[Outcome.held])
    if held:
        for index in range(kept):
            lift_one(columns, terms, scratch, strategy_number, index, held)
    if f8(scratch, Scratch.outcome)[Outcome.learned]:
        weights = strategies_of(columns)[strategy_number].weights
        for index in range(kept):
            one = candidates[index]
            one.log_score += weights[PROPENSITY] * one.log_propensity + weights[RECOMMENDATION] * one.log_recommendation
    listed, least = 0, -math.inf
    for index in range(kept):
        if listed == SHORTLIST:
            if candidates[index].log_score < least or not is_better(
                columns, scratch, seed, seeded, index, heap[listed - 1]
            ):
                continue
            listed -= 1
        place = listed
        while place > 0 and is_better(columns, scratch, seed, seeded, index, heap[place - 1]):
            heap[place] = heap[place - 1]
            place -= 1
        heap[place] = index
        listed += 1
        least = candidates[heap[listed - 1]].log_score
        fetch_ahead(columns, Column.entry, candidates[index].entry * ENTRY_BYTES)
    for place in range(listed):
        fetch_ahead(columns, Column.offer, np.int64(entries[candidates[heap[place]].entry].offer) * OFFER_BYTES)
    return listed


@inlined
def score_one(columns: Table, scratch: Table, strategy_number: int, index: int, time: int) -> None:
    """Write the logarithm of a candidate's score."""
    one = candidates_of(scratch)[index]
    strategy, worth = strategies_of(columns)[strategy_number], worths_of(columns)[one.entry]
    weights = strategy.weights
    one.log_score = (
        weights[0] * log_nearness(strategy, one.squared)
        + weights[1] * log_timeliness(strategy, one.until, one.flags, time)
        + weights[2] * worth.log_value
        + weights[3] * worth.log_lever
        + weights[4] * log_location(strategy, one.chance, one.flags)
        + weights[5] * log_reachability(strategy, one.flags)
    )


@inner
def lift_one(columns: Table, terms: Table, scratch: Table, strategy_number: int, index: int, held: int) -> None:
    """Add to the logarithm of a candidate's score what some behaviour rules make of it."""
    one = candidates_of(scratch)[index]
    log, _ = log_behaviour(columns, terms, scratch, one.entry, held)
    one.log_score += strategies_of(columns)[strategy_number].weights[6] * log
