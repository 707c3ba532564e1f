"""Arrange: the best candidates that the placement's layout allows, in order, with all an answer says of them."""

import math

import numpy as np
from numba import njit

from offers.catalogue.snapshot import AROUND_POINT, NO_AUDIENCE, NO_NAME, NO_SCHEDULE, NO_VENUE
from offers.decision.admit import is_in, may_meet
from offers.decision.records import (
    IN_AUDIENCE,
    LINE_BYTES,
    OPEN,
    UNKNOWN,
    Column,
    Hours,
    Layout,
    Outcome,
    Scratch,
    Standing,
    Table,
    Terms,
    audiences_of,
    campaigns_of,
    chosen_of,
    creatives_of,
    entries_of,
    f8,
    fetch_ahead,
    i4,
    i8,
    offers_of,
    strategies_of,
    u1,
)
from offers.decision.score import (
    ground_distance,
    log_location,
    log_nearness,
    log_reachability,
    log_timeliness,
    score_one,
)

NO_ROOM = -2
"""In place of a count: more candidates than the scratch has room for."""
ROUNDING = 1e-9
"""A bound and a score that differ by less may be in either order."""


@njit(error_model="numpy")
def arrange(
    columns: Table, hours: Table, budgets: Table, standing: Table, scratch: Table, terms: Table, strategy_number: int,
    seed: int, seeded: int, kept: int, time: int,
) -> int:  # fmt: skip
    """Choose the best candidates and write all an answer says of them. Returns how many, or NO_ROOM.

    Those shown everywhere become candidates one by one, as long as they may be better than the best of the others; whom
    this person may not be shown is passed over.
    Schedules of unknown state are listed: look them up and begin again.
    """
    candidate, heap, chosen = i4(scratch, Scratch.candidate), i4(scratch, Scratch.heap), chosen_of(scratch)
    entries, layout, outcome = entries_of(columns), i4(terms, Terms.layout), f8(scratch, Scratch.outcome)
    coming, last = int(outcome[Outcome.standing_begin]), int(outcome[Outcome.standing_end])
    personal = outcome[Outcome.personal] != 0
    for index in range(kept):
        heap[index] = index
    for place in range(kept // 2 - 1, -1, -1):
        _sink(columns, scratch, seed, seeded, place, kept)
    count, size = 0, kept
    while count < layout[Layout.most]:
        while coming < last and (size == 0 or _may_lead(columns, standing, scratch, coming, heap[0], seeded)):
            if personal and not may_meet(
                columns, hours, budgets, scratch, terms, i4(standing, Standing.entry)[coming], time
            ):
                coming += 1
                continue
            if kept == len(candidate):
                outcome[Outcome.found] = kept
                return NO_ROOM
            _call_up(standing, scratch, coming, kept)
            score_one(columns, scratch, strategy_number, kept, time)
            heap[size] = kept
            _rise(columns, scratch, seed, seeded, size)
            kept, size, coming = kept + 1, size + 1, coming + 1
        if size == 0:
            break
        index = heap[0]
        size -= 1
        heap[0] = heap[size]
        _sink(columns, scratch, seed, seeded, 0, size)
        entry = entries[candidate[index]]
        if _fits(columns, chosen, count, entry.venue, offers_of(columns)[entry.offer], layout):
            chosen[count].index, chosen[count].entry = index, candidate[index]
            count += 1
    unknowns = 0
    for place in range(count):
        unknowns = _tell(columns, hours, scratch, place, time, unknowns)
        _tell_audience(columns, scratch, terms, place)
        if layout[Layout.full]:
            _tell_factors(columns, scratch, strategy_number, place, time)
    outcome[Outcome.unknown] = unknowns
    return count


@njit(error_model="numpy")
def _may_lead(columns: Table, standing: Table, scratch: Table, coming: int, best: int, seeded: int) -> bool:
    """Whether an offer shown everywhere may come before the best candidate."""
    bound, score = f8(standing, Standing.bound)[coming], f8(scratch, Scratch.log_score)[best]
    if abs(bound - score) > ROUNDING:
        return bound > score
    entries = entries_of(columns)
    ours = entries[i4(standing, Standing.entry)[coming]].order
    return seeded != 0 or bound != score or ours < entries[i4(scratch, Scratch.candidate)[best]].order


@njit(error_model="numpy")
def _call_up(standing: Table, scratch: Table, coming: int, index: int) -> None:
    """Make an offer shown everywhere a candidate."""
    i4(scratch, Scratch.candidate)[index] = i4(standing, Standing.entry)[coming]
    f8(scratch, Scratch.straight)[index] = math.inf
    i8(scratch, Scratch.until)[index] = i8(standing, Standing.until)[coming]
    f8(scratch, Scratch.chance)[index] = 1.0
    u1(scratch, Scratch.flags)[index] = u1(standing, Standing.flags)[coming]


@njit(error_model="numpy")
def _rise(columns: Table, scratch: Table, seed: int, seeded: int, place: int) -> None:
    """Let the candidate at a place of the heap rise until none above it is worse."""
    heap = i4(scratch, Scratch.heap)
    rising = heap[place]
    while place > 0 and _is_better(columns, scratch, seed, seeded, rising, heap[(place - 1) // 2]):
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = rising


@njit(error_model="numpy")
def _sink(columns: Table, scratch: Table, seed: int, seeded: int, place: int, size: int) -> None:
    """Let the candidate at a place of the heap sink until none below it is better."""
    heap = i4(scratch, Scratch.heap)
    sinking = heap[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _is_better(columns, scratch, seed, seeded, heap[child + 1], heap[child]):
            child += 1
        if not _is_better(columns, scratch, seed, seeded, heap[child], sinking):
            break
        heap[place] = heap[child]
        place = child
    if size > 0:
        heap[place] = sinking


@njit(error_model="numpy")
def _is_better(columns: Table, scratch: Table, seed: int, seeded: int, one: int, other: int) -> bool:
    log_score = f8(scratch, Scratch.log_score)
    if log_score[one] != log_score[other]:
        return log_score[one] > log_score[other]
    entries, candidate = entries_of(columns), i4(scratch, Scratch.candidate)
    ours, theirs = np.uint64(entries[candidate[one]].order), np.uint64(entries[candidate[other]].order)
    return shuffled(seed, ours) < shuffled(seed, theirs) if seeded else ours < theirs


@njit
def shuffled(seed: int, order: int) -> int:
    """A hash of a seed and an offer's order (splitmix64), so that offers of equal score take turns with the seed."""
    mixed = np.uint64(seed) + np.uint64(order + 1) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@njit(error_model="numpy")
def _fits(columns: Table, chosen: np.ndarray, count: int, venue: int, offer: np.void, layout: np.ndarray) -> bool:
    """Whether an offer may stand beside those chosen: exclusion groups, and the placement's limits."""
    limited = layout[Layout.per_venue] + layout[Layout.per_brand] + layout[Layout.per_category] > 0
    if offer.group == NO_NAME and not limited:
        return True
    venues = brands = categories = 0
    for place in range(count):
        entry = entries_of(columns)[chosen[place].entry]
        other = offers_of(columns)[entry.offer]
        if offer.group != NO_NAME and other.group == offer.group:
            return False
        venues += venue != NO_VENUE and entry.venue == venue
        brands += offer.brand != NO_NAME and other.brand == offer.brand
        categories += offer.category != NO_NAME and other.category == offer.category
    return (
        (layout[Layout.per_venue] == 0 or venues < layout[Layout.per_venue])
        and (layout[Layout.per_brand] == 0 or brands < layout[Layout.per_brand])
        and (layout[Layout.per_category] == 0 or categories < layout[Layout.per_category])
    )


@njit(error_model="numpy")
def _tell(columns: Table, hours: Table, scratch: Table, place: int, time: int, unknowns: int) -> int:
    """Write what an answer says of a chosen offer. Returns how many schedules of unknown state are listed."""
    state, unknown = u1(hours, Hours.state), i4(scratch, Scratch.unknown)
    one = chosen_of(scratch)[place]
    index = one.index
    straight, until = f8(scratch, Scratch.straight)[index], i8(scratch, Scratch.until)[index]
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
    one.log_score = f8(scratch, Scratch.log_score)[index]
    one.distance_m = ground_distance(straight) if entry.kind == AROUND_POINT and straight < math.inf else -1.0
    one.until, one.flags, one.redeemable = until, u1(scratch, Scratch.flags)[index], redeemable
    return unknowns


@njit(error_model="numpy")
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


@njit(error_model="numpy")
def _tell_factors(columns: Table, scratch: Table, strategy_number: int, place: int, time: int) -> None:
    """Write the logarithms of a chosen offer's factors."""
    strategy, one = strategies_of(columns)[strategy_number], chosen_of(scratch)[place]
    index, entry, logs = one.index, entries_of(columns)[one.entry], one.logs
    straight, until = f8(scratch, Scratch.straight)[index], i8(scratch, Scratch.until)[index]
    chance, flags = f8(scratch, Scratch.chance)[index], u1(scratch, Scratch.flags)[index]
    logs[0] = log_nearness(strategy, entry.kind, straight)
    logs[1] = log_timeliness(strategy, until, flags, time)
    logs[2], logs[3] = entry.log_value, entry.log_lever
    logs[4], logs[5] = log_location(strategy, chance, flags), log_reachability(strategy, flags)
