"""Score: sum the weighted logarithms of each candidate's factors, and list the best candidates."""

import math
from enum import IntEnum

import numpy as np

from offers.catalogue.geo.geometry import MEAN_RADIUS_M
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import ENTRY, FACTORS, OFFER
from offers.compiled import apart, inlined, inner
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import (
    Column,
    entries_of,
    fetch_ahead,
    i4,
    i8,
    strategies_of,
    worths_of,
)
from offers.decision.kernels.memory.scratch import (
    OUTSIDE_DAYPART,
    PENALISED,
    UNREACHABLE,
    DecisionFact,
    ScratchArray,
    candidates_of,
)
from offers.decision.kernels.order import is_better
from offers.decision.kernels.person.behave import log_behaviour
from offers.v1.ranking_pb2 import Decay

Factor = IntEnum("Factor", list(FACTORS), start=0)  # type: ignore[misc]
"""Indices of the factors among a strategy's weights and a chosen offer's logarithms."""
GAUSS, LINEAR = int(Decay.SHAPE_GAUSS), int(Decay.SHAPE_LINEAR)
SHORTLIST = 16
"""Candidates that are put in order at first: most placements show fewer and have few limits."""
ENTRY_BYTES, OFFER_BYTES = ENTRY.itemsize, OFFER.itemsize
_NEVER = NEVER  # numba reads globals of this module only once, as constants


@inner
def ground_distance(squared: float) -> float:
    """Return metres along the ground, given straight-line metres squared, up to the greatest reach (1,000 km).

    The series of the arcsine is exact to 0.1 mm there, and several times faster than the arcsine.
    """
    half = math.sqrt(squared) / (2 * MEAN_RADIUS_M)
    square = half * half
    return 2 * MEAN_RADIUS_M * half * (1 + square * (1 / 6 + square * (3 / 40 + square * (15 / 336))))


@inlined
def _log_decay(
    value: float, shape: int, origin: float, offset: float, scale: float, decay: float, log_decay: float,
    log_minimum: float,
) -> float:  # fmt: skip
    """Return the logarithm of a decay: see offers.v1.Decay."""
    steps = max(abs(value - origin) - offset, 0.0) / scale
    if shape == LINEAR:
        left = 1 - (1 - decay) * steps
        return max(math.log(left), log_minimum) if left > 0 else log_minimum
    if shape == GAUSS:
        steps *= steps
    return max(steps * log_decay, log_minimum)


@inlined
def log_nearness(strategy: np.void, squared: float) -> float:
    """Return the logarithm of nearness, given straight-line metres squared (infinite: there is no distance)."""
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
    """Return the logarithm of timeliness."""
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
    """Return the logarithm of the probability that the person is inside, or of the penalty without a location."""
    if flags & PENALISED:
        return strategy.log_missing_location
    return math.log(chance) if chance < 1.0 else 0.0


@inlined
def log_reachability(strategy: np.void, flags: int) -> float:
    """Return the logarithm of reachability: the person can be there in time, or not."""
    return strategy.log_unreachable if flags & UNREACHABLE else 0.0


@apart
def score(frame: Frame) -> int:
    """Write the logarithm of each candidate's score, and the best SHORTLIST of them into the heap, in order.

    Returns the number of candidates on the shortlist.
    """
    columns, scratch, strategy = frame.columns, frame.scratch, strategies_of(frame.columns)[frame.strategy]
    facts = i8(scratch, ScratchArray.decision)
    kept, held = facts[DecisionFact.kept], facts[DecisionFact.held]
    candidates, heap, entries = candidates_of(scratch), i4(scratch, ScratchArray.heap), entries_of(columns)
    for index in range(kept):  # a loop of its own: no branch in it depends on what was scored before
        score_one(frame, index)
    if held:
        for index in range(kept):
            lift_one(frame, index, held)
    if facts[DecisionFact.learned]:
        weights = strategy.weights
        for index in range(kept):
            one = candidates[index]
            one.log_score += weights[Factor.propensity] * one.log_propensity
            one.log_score += weights[Factor.recommendation] * one.log_recommendation
    listed, least = 0, -math.inf
    for index in range(kept):
        if listed == SHORTLIST:
            if candidates[index].log_score < least or not is_better(frame, index, heap[listed - 1]):
                continue
            listed -= 1
        slot = listed
        while slot > 0 and is_better(frame, index, heap[slot - 1]):
            heap[slot] = heap[slot - 1]
            slot -= 1
        heap[slot] = index
        listed += 1
        least = candidates[heap[listed - 1]].log_score
        fetch_ahead(columns, Column.entry, candidates[index].entry * ENTRY_BYTES)
    for slot in range(listed):
        fetch_ahead(columns, Column.offer, np.int64(entries[candidates[heap[slot]].entry].offer) * OFFER_BYTES)
    return listed


@inlined
def score_one(frame: Frame, index: int) -> None:
    """Write the logarithm of a candidate's score, by the factors that need neither behaviour rules nor a model."""
    one = candidates_of(frame.scratch)[index]
    strategy, worth = strategies_of(frame.columns)[frame.strategy], worths_of(frame.columns)[one.entry]
    weights = strategy.weights
    one.log_score = (
        weights[Factor.nearness] * log_nearness(strategy, one.squared)
        + weights[Factor.timeliness] * log_timeliness(strategy, one.until, one.flags, frame.time)
        + weights[Factor.value] * worth.log_value
        + weights[Factor.lever] * worth.log_lever
        + weights[Factor.location] * log_location(strategy, one.chance, one.flags)
        + weights[Factor.reachability] * log_reachability(strategy, one.flags)
    )


@inner
def lift_one(frame: Frame, index: int, held: int) -> None:
    """Add the behaviour factor to the logarithm of a candidate's score, by the `held` rules that hold."""
    one = candidates_of(frame.scratch)[index]
    log, _ = log_behaviour(frame, one.entry, held)
    one.log_score += strategies_of(frame.columns)[frame.strategy].weights[Factor.behaviour] * log
