"""Arrange: choose the best candidates that the placement's layout allows, and write all that an answer says of them."""

import math

import numpy as np

from offers.catalogue.snapshot import NO_AUDIENCE, NO_NAME, NO_SCHEDULE
from offers.compiled import apart, inlined, inner
from offers.decision.kernels.admit import is_in_segments, may_be_shown
from offers.decision.kernels.concern import has_variant, note_content
from offers.decision.kernels.layout import fits
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import (
    LINE_BYTES,
    OPEN,
    UNKNOWN,
    Column,
    HoursArray,
    Layout,
    StandingArray,
    Table,
    TermsArray,
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
    DecisionFact,
    ScratchArray,
    candidates_of,
    chosen_of,
)
from offers.decision.kernels.need import Need
from offers.decision.kernels.order import is_better, rise, sink
from offers.decision.kernels.person.behave import log_behaviour
from offers.decision.kernels.score import (
    Factor,
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
"""A bound and a score that differ by no more may be in either order."""


@apart
def arrange(frame: Frame, listed: int) -> int:
    """Choose the best candidates and write all that an answer says of them. Returns NOTHING or ROOM of Need.

    The first `listed` of the heap are the shortlist; the other candidates are called up if these are not enough.
    Offers shown everywhere become candidates one by one, as long as the next may be better than the best of the others.
    Those that the person may not be shown are skipped.

    Schedules of unknown state are listed, DecisionFact.unknown of them: if there are any, the answer is not complete.
    """
    scratch, standing = frame.scratch, frame.standing
    candidates, heap, chosen = candidates_of(scratch), i4(scratch, ScratchArray.heap), chosen_of(scratch)
    layout, facts = i4(frame.terms, TermsArray.layout), i8(scratch, ScratchArray.decision)
    coming, last, kept = facts[DecisionFact.standing_begin], facts[DecisionFact.standing_end], facts[DecisionFact.kept]
    personal, held = facts[DecisionFact.personal] != 0, facts[DecisionFact.held]
    own, last_listed = kept, heap[listed - 1]
    count, size, left = 0, listed, listed
    while count < layout[Layout.most]:
        if left == 0 and listed < own:
            size = _call_up_others(frame, last_listed, own, size)
            left = listed = own
        while coming < last and (size == 0 or _may_lead(frame, coming, heap[0])):
            if personal and not may_be_shown(frame, i4(standing, StandingArray.entry)[coming]):
                coming += 1
                continue
            if kept == len(candidates):
                facts[DecisionFact.found] = kept
                return Need.ROOM
            call_up(standing, scratch, coming, kept)
            score_one(frame, kept)
            if held:
                lift_one(frame, kept, held)
            heap[size] = kept
            rise(frame, size)
            kept, size, coming = kept + 1, size + 1, coming + 1
        if size == 0:
            break
        index = heap[0]
        left -= index < own
        size -= 1
        heap[0] = heap[size]
        sink(frame, 0, size)
        entry = candidates[index].entry
        if fits(frame.columns, scratch, count, entry, layout):
            chosen[count].index, chosen[count].entry = index, entry
            i8(scratch, ScratchArray.taken)[count] = entry
            count += 1
    unknowns = 0
    for slot in range(count):
        unknowns = _write_chosen(frame, slot, unknowns)
        _write_audience(frame.columns, scratch, frame.terms, slot)
        log, applies = log_behaviour(frame, chosen[slot].entry, held) if held else (0.0, False)
        if applies:
            chosen[slot].flags |= LIFTED
        if layout[Layout.full]:
            _write_factors(frame, slot)
            chosen[slot].logs[Factor.behaviour] = log
            candidate, is_learned = candidates[chosen[slot].index], facts[DecisionFact.learned] != 0
            chosen[slot].logs[Factor.propensity] = candidate.log_propensity if is_learned else 0.0
            chosen[slot].logs[Factor.recommendation] = candidate.log_recommendation if is_learned else 0.0
    facts[DecisionFact.unknown], facts[DecisionFact.chosen] = unknowns, count
    return Need.NOTHING


@inner
def _call_up_others(frame: Frame, last_listed: int, own: int, size: int) -> int:
    """Add those of the first `own` candidates to the heap that are not on the shortlist. Returns the heap's size."""
    heap = i4(frame.scratch, ScratchArray.heap)
    for index in range(own):
        if is_better(frame, last_listed, index):
            heap[size] = index
            size += 1
    for slot in range(size // 2 - 1, -1, -1):
        sink(frame, slot, size)
    return size


@inlined
def _may_lead(frame: Frame, coming: int, best: int) -> bool:
    """Return whether an offer shown everywhere may come before the best candidate."""
    standing, candidate = frame.standing, candidates_of(frame.scratch)[best]
    bound, score = f8(standing, StandingArray.bound)[coming], candidate.log_score
    if abs(bound - score) > ROUNDING:
        return bound > score
    entries = entries_of(frame.columns)
    ours = entries[i4(standing, StandingArray.entry)[coming]].order
    return frame.seeded != 0 or bound != score or ours < entries[candidate.entry].order


@inlined
def _write_chosen(frame: Frame, slot: int, unknowns: int) -> int:
    """Write what an answer says of the chosen offer at an index. Returns how many unknown schedules are listed."""
    columns, scratch, time = frame.columns, frame.scratch, frame.time
    state, unknown = u1(frame.hours, HoursArray.state), i4(scratch, ScratchArray.unknown)
    one = chosen_of(scratch)[slot]
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
    one.selection = 0.0
    return unknowns


@inner
def _write_audience(columns: Table, scratch: Table, terms: Table, index: int) -> None:
    """Write whether a chosen offer is for the person's segments, and which creative variant is shown."""
    one = chosen_of(scratch)[index]
    number = entries_of(columns)[one.entry].offer
    offer, one.creative = offers_of(columns)[number], NO_NAME
    if offer.audience != NO_AUDIENCE:
        audience = audiences_of(columns)[offer.audience]
        is_for_some = audience.any_first < audience.none_first
        if not is_for_some and audience.campaign != NO_NAME:
            other = campaigns_of(columns)[audience.campaign].audience
            if other != NO_AUDIENCE:
                is_for_some = audiences_of(columns)[other].any_first < audiences_of(columns)[other].none_first
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
        whose = np.int64(creatives[low].audience)
        if u1(terms, TermsArray.creative)[creatives[low].terms] and is_in_segments(columns, scratch, whose):
            if whose != NO_AUDIENCE:
                note_content(columns, scratch, whose)
            if has_variant(columns, scratch, whose):
                one.creative = low
                return
        low += 1


@inner
def _write_factors(frame: Frame, index: int) -> None:
    """Write the logarithms of those factors of a chosen offer that need neither behaviour rules nor a model."""
    strategy, one = strategies_of(frame.columns)[frame.strategy], chosen_of(frame.scratch)[index]
    candidate, worth, logs = candidates_of(frame.scratch)[one.index], worths_of(frame.columns)[one.entry], one.logs
    logs[Factor.nearness] = log_nearness(strategy, candidate.squared)
    logs[Factor.timeliness] = log_timeliness(strategy, candidate.until, candidate.flags, frame.time)
    logs[Factor.value], logs[Factor.lever] = worth.log_value, worth.log_lever
    logs[Factor.location] = log_location(strategy, candidate.chance, candidate.flags)
    logs[Factor.reachability] = log_reachability(strategy, candidate.flags)
