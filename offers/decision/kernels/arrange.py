"""Arrange: the best candidates that the placement's layout allows, in order, with all an answer says of them."""

import math

import numpy as np

from offers.catalogue.snapshot import NO_AUDIENCE, NO_NAME, NO_SCHEDULE, PROPENSITY, RECOMMENDATION
from offers.compiled import apart, inner
from offers.decision.kernels.admit import is_in, may_meet
from offers.decision.kernels.layout import fits
from offers.decision.kernels.memory.records import (
    LINE_BYTES,
    OPEN,
    UNKNOWN,
    Column,
    Hours,
    Layout,
    Standing,
    Table,
    Terms,
    audiences_of,
    campaigns_of,
    creatives_of,
    entries_of,
    f8,
    fetch_ahead,
    i4,
    i8,
    offers_of,
    strategies_of,
    u1,
    worths_of,
)
from offers.decision.kernels.memory.scratch import (
    IN_AUDIENCE,
    LIFTED,
    NO_ROOM,
    Outcome,
    Scratch,
    candidates_of,
    chosen_of,
)
from offers.decision.kernels.order import is_better, rise, sink
from offers.decision.kernels.person.behave import log_behaviour
from offers.decision.kernels.score import (
    ground_distance,
    lift_one,
    log_location,
    log_nearness,
    log_reachability,
    log_timeliness,
    score_one,
)
from offers.decision.kernels.standing import call_up

ROUNDING = 1e-9
"""A bound and a score that differ by less may be in either order."""


@apart
def arrange(
    columns: Table, hours: Table, budgets: Table, standing: Table, scratch: Table, terms: Table, strategy_number: int,
    seed: int, seeded: int, listed: int, kept: int, time: int,
) -> int:  # fmt: skip
    """Choose the best candidates and write all an answer says of them. Returns how many, or NO_ROOM.

    The first `listed` of the heap are on the shortlist; the others are called up if these are not enough.
    Those shown everywhere become candidates one by one, as long as they may be better than the best of the others; whom
    this person may not be shown is passed over.
    Schedules of unknown state are listed: look them up and begin again.
    """
    candidates, heap, chosen = candidates_of(scratch), i4(scratch, Scratch.heap), chosen_of(scratch)
    layout, outcome = i4(terms, Terms.layout), f8(scratch, Scratch.outcome)
    coming, last = int(outcome[Outcome.standing_begin]), int(outcome[Outcome.standing_end])
    personal, held = outcome[Outcome.personal] != 0, np.int64(outcome[Outcome.held])
    own, last_listed = kept, heap[listed - 1]
    count, size, left = 0, listed, listed
    while count < layout[Layout.most]:
        if left == 0 and listed < own:
            size = _call_up_others(columns, scratch, seed, seeded, last_listed, own, size)
            left = listed = own
        while coming < last and (size == 0 or _may_lead(columns, standing, scratch, coming, heap[0], seeded)):
            if personal and not may_meet(
                columns, hours, budgets, scratch, terms, i4(standing, Standing.entry)[coming], time
            ):
                coming += 1
                continue
            if kept == len(candidates):
                outcome[Outcome.found] = kept
                return NO_ROOM
            call_up(standing, scratch, coming, kept)
            score_one(columns, scratch, strategy_number, kept, time)
            if held:
                lift_one(columns, terms, scratch, strategy_number, kept, held)
            heap[size] = kept
            rise(columns, scratch, seed, seeded, size)
            kept, size, coming = kept + 1, size + 1, coming + 1
        if size == 0:
            break
        index = heap[0]
        left -= index < own
        size -= 1
        heap[0] = heap[size]
        sink(columns, scratch, seed, seeded, 0, size)
        entry = candidates[index].entry
        if fits(columns, scratch, count, entry, layout):
            chosen[count].index, chosen[count].entry = index, entry
            i8(scratch, Scratch.taken)[count] = entry
            count += 1
    unknowns = 0
    for place in range(count):
        unknowns = _tell(columns, hours, scratch, place, time, unknowns)
        _tell_audience(columns, scratch, terms, place)
        log, applies = log_behaviour(columns, terms, scratch, chosen[place].entry, held) if held else (0.0, False)
        if applies:
            chosen[place].flags |= LIFTED
        if layout[Layout.full]:
            _tell_factors(columns, scratch, strategy_number, place, time)
            chosen[place].logs[6] = log
            candidate, is_learned = candidates[chosen[place].index], outcome[Outcome.learned] != 0
            chosen[place].logs[PROPENSITY] = candidate.log_propensity if is_learned else 0.0
            chosen[place].logs[RECOMMENDATION] = candidate.log_recommendation if is_learned else 0.0
    outcome[Outcome.unknown] = unknowns
    return count


@inner
def _call_up_others(
    columns: Table, scratch: Table, seed: int, seeded: int, last_listed: int, own: int, size: int
) -> int:  # fmt: skip
    """Add those of the first `own` candidates to the heap that are not on the shortlist. Returns its size then."""
    heap = i4(scratch, Scratch.heap)
    for index in range(own):
        if is_better(columns, scratch, seed, seeded, last_listed, index):
            heap[size] = index
            size += 1
    for place in range(size // 2 - 1, -1, -1):
        sink(columns, scratch, seed, seeded, place, size)
    return size


@inner
def _may_lead(columns: Table, standing: Table, scratch: Table, coming: int, best: int, seeded: int) -> bool:
    """Whether an offer shown everywhere may come before the best candidate."""
    bound, score = f8(standing, Standing.bound)[coming], candidates_of(scratch)[best].log_score
    if abs(bound - score) > ROUNDING:
        return bound > score
    entries = entries_of(columns)
    ours = entries[i4(standing, Standing.entry)[coming]].order
    return seeded != 0 or bound != score or ours < entries[candidates_of(scratch)[best].entry].order


@inner
def _tell(columns: Table, hours: Table, scratch: Table, place: int, time: int, unknowns: int) -> int:
    """Write what an answer says of a chosen offer. Returns how many schedules of unknown state are listed."""
    state, unknown = u1(hours, Hours.state), i4(scratch, Scratch.unknown)
    one = chosen_of(scratch)[place]
    index = one.index
    candidate = candidates_of(scratch)[index]
    entry = entries_of(columns)[one.entry]
    offer = offers_of(columns)[entry.offer]
    for line in range(np.int64(offer.wire_size) // LINE_BYTES + 1):  # to be copied soon
        fetch_ahead(columns, Column.wire, offer.wire_first + line * LINE_BYTES)
    redeemable = offer.redeem_start <= time < offer.redeem_end
    if entry.redeem_schedule != NO_SCHEDULE:
        now = state[entry.redeem_schedule]
        redeemable = redeemable and now == OPEN
        if now == UNKNOWN and unknowns < len(unknown):
            unknown[unknowns] = entry.redeem_schedule
            unknowns += 1
    one.log_score = candidate.log_score
    one.distance_m = ground_distance(candidate.squared) if candidate.squared < math.inf else -1.0
    one.until, one.flags, one.redeemable = candidate.until, candidate.flags, redeemable
    return unknowns


@inner
def _tell_audience(columns: Table, scratch: Table, terms: Table, place: int) -> None:
    """Write whether a chosen offer is for the person's segments, and which of its creative variants is shown."""
    one = chosen_of(scratch)[place]
    number = entries_of(columns)[one.entry].offer
    offer, one.creative = offers_of(columns)[number], NO_NAME
    if offer.audience != NO_AUDIENCE:
        audience = audiences_of(columns)[offer.audience]
        is_for_some = audience.any_first < audience.none_first
        if not is_for_some and audience.campaign != NO_NAME:
            whose = campaigns_of(columns)[audience.campaign].audience
            if whose != NO_AUDIENCE:
                is_for_some = audiences_of(columns)[whose].any_first < audiences_of(columns)[whose].none_first
        if is_for_some:
            one.flags |= IN_AUDIENCE
    creatives = creatives_of(columns)
    low, high = 0, len(creatives)
    while low < high:
        middle = (low + high) // 2
        if creatives[middle].offer < number:
            low = middle + 1
        else:
            high = middle
    while low < len(creatives) and creatives[low].offer == number:
        if u1(terms, Terms.creative)[creatives[low].terms] and is_in(columns, scratch, creatives[low].audience):
            one.creative = low
            return
        low += 1


@inner
def _tell_factors(columns: Table, scratch: Table, strategy_number: int, place: int, time: int) -> None:
    """Write the logarithms of a chosen offer's factors."""
    strategy, one = strategies_of(columns)[strategy_number], chosen_of(scratch)[place]
    candidate, worth, logs = candidates_of(scratch)[one.index], worths_of(columns)[one.entry], one.logs
    logs[0] = log_nearness(strategy, candidate.squared)
    logs[1] = log_timeliness(strategy, candidate.until, candidate.flags, time)
    logs[2], logs[3] = worth.log_value, worth.log_lever
    logs[4], logs[5] = (
        log_location(strategy, candidate.chance, candidate.flags),
        log_reachability(strategy, candidate.flags),
    )
