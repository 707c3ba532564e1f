"""Screen: which of the entries within reach may be shown.

On the way it finds out for how long, and how far from the location, the set of offers that qualify stays as it is.
"""

import math

import numpy as np
from numba import njit

from offers.catalogue.schedules import NEVER
from offers.catalogue.snapshot import (
    AROUND_POINT,
    EVERYWHERE,
    NO_CHAIN,
    NO_SCHEDULE,
    OFFER,
)
from offers.decision.records import (
    CLOSED,
    IN_DAYPART,
    OPEN,
    OUTSIDE_DAYPART,
    PENALISED,
    POINTS,
    UNKNOWN,
    UNPLACED,
    UNREACHABLE,
    Column,
    Hours,
    Outcome,
    Scratch,
    Table,
    centres_of,
    entries_of,
    extras_of,
    f8,
    fetch_ahead,
    i4,
    i8,
    u1,
)
from offers.decision.region import NOWHERE, in_circle, located
from offers.decision.score import ground_distance
from offers.decision.showing import may_ever, showing
from offers.v1.offer_pb2 import MissingLocation, ReachableBeforeEnd

REFRESH_S = 86_400
"""The longest a decision is said to hold: catalogues are edited daily."""
STRAIGHT = 0.9999
"""By a metre moved, a way told by the earth's mean radius changes by up to 1.00003, 1,000 km from its end."""
OFFER_BYTES = OFFER.itemsize
_NEVER = NEVER  # numba reads globals of this module only once, as constants
_DENY, _PENALTY = (
    int(MissingLocation.MISSING_LOCATION_DENY),
    int(MissingLocation.MISSING_LOCATION_ALLOW_WITH_PENALTY),
)
_DROP, _RANK_DOWN = (
    int(ReachableBeforeEnd.REACHABLE_BEFORE_END_DROP),
    int(ReachableBeforeEnd.REACHABLE_BEFORE_END_RANK_DOWN),
)


@njit(error_model="numpy")
def screen(
    columns: Table, hours: Table, scratch: Table, terms: Table, found: int,
    latitude: float, longitude: float, sigma: float, growth: float, time: int,
) -> int:  # fmt: skip
    """Keep the candidates that may be shown: their terms, windows, place, opening hours and reach.

    Writes when each ends and until when, and how far, the set stays as it is; of an offer with several entries the
    nearest is kept, of equally near ones the one that ends last, then the likeliest, then one inside its preferred
    dayparts, then the one its target names first.
    Returns how many are kept. Schedules of unknown state are listed: look them up and begin again.
    """
    candidate, sites, flags = i4(scratch, Scratch.candidate), i4(scratch, Scratch.site), u1(scratch, Scratch.flags)
    straight, until, chance = f8(scratch, Scratch.straight), i8(scratch, Scratch.until), f8(scratch, Scratch.chance)
    entries, extras, centres = entries_of(columns), extras_of(columns), centres_of(columns)
    chain_best = i4(scratch, Scratch.chain_best)
    state = u1(hours, Hours.state)
    unknown, outcome = i4(scratch, Scratch.unknown), f8(scratch, Scratch.outcome)
    is_placed, is_exact = latitude == latitude, sigma == 0.0 and growth == 0.0  # noqa: PLR0124 - not NaN
    kept = unknowns = proper = 0
    outcome[Outcome.laid_from] = POINTS
    fringe = f8(columns, Column.widest_fringe)[0]
    margin, refresh = _hold(math.inf, float(time + REFRESH_S), outcome[Outcome.refresh_distance], fringe * growth, time)
    for index in range(found):
        number, site = candidate[index], sites[index]
        entry = entries[number]
        if not may_ever(entry, terms, time):
            continue
        extra = extras[entry.extra]
        likely, told = 1.0, 0
        if is_placed:
            if is_exact and entry.extra == 0:
                if site != NOWHERE:
                    reach = centres[site].reach
                    inner = reach - margin
                    if inner < 0.0 or straight[index] > inner * inner:
                        margin = max(reach - math.sqrt(straight[index]), 0.0)
            elif site != NOWHERE or extra.excluded_first < extra.excluded_last:
                if entry.extra == 0:
                    reach = centres[site].reach
                    likely, slack, loss = in_circle(extra, reach - math.sqrt(straight[index]), reach, sigma, growth)
                else:
                    likely, slack, loss = located(
                        columns, scratch, entry.extra, site, latitude, longitude, sigma, growth, margin
                    )
                margin, refresh = _hold(margin, refresh, slack, loss, time)
                if likely < extra.min_inside:
                    continue
        elif entry.kind != EVERYWHERE or extra.excluded_first < extra.excluded_last:
            if extra.missing <= _DENY:
                continue
            told = UNPLACED | (PENALISED if extra.missing == _PENALTY else 0)
        now, ends = showing(columns, hours, entry, time)
        if now == UNKNOWN:
            if unknowns < len(unknown):  # some may be listed twice; what does not fit is listed the next time
                unknown[unknowns] = entry.schedule
                unknowns += 1
            continue
        refresh = min(refresh, float(ends))
        if now == CLOSED:
            continue
        if entry.extra != 0:
            if extra.reachable >= _RANK_DOWN and is_placed and ends != _NEVER:
                # One is there in time from within so many metres, which grow less as time goes by.
                radius = (ends - time - extra.delay) * extra.speed
                way = ground_distance(straight[index])
                if way >= radius:
                    told |= UNREACHABLE
                if extra.reachable == _DROP:
                    margin, refresh = _hold(
                        margin, refresh, abs(radius - way) * STRAIGHT, extra.speed if way < radius else 0.0, time
                    )
                    if way >= radius:
                        continue
            daypart = extra.daypart_schedule
            if daypart != NO_SCHEDULE:
                if state[daypart] == UNKNOWN and unknowns < len(unknown):
                    unknown[unknowns] = daypart
                    unknowns += 1
                told |= IN_DAYPART if state[daypart] == OPEN else OUTSIDE_DAYPART
        away = straight[index] if entry.kind == AROUND_POINT else math.inf
        place = kept
        if entry.chain != NO_CHAIN:
            rival = chain_best[entry.chain]
            if rival >= 0:
                if away > straight[rival] or (
                    away == straight[rival]
                    and not _is_preferred(
                        ends,
                        likely,
                        told,
                        entry.turn,
                        until[rival],
                        chance[rival],
                        flags[rival],
                        entries[candidate[rival]].turn,
                    )
                ):
                    continue
                place = rival
            else:
                chain_best[entry.chain] = kept
        candidate[place], straight[place], until[place] = number, away, ends
        chance[place], flags[place] = likely, told
        if place == kept:
            kept += 1
            proper += entry.fallback == 0
            fetch_ahead(columns, Column.offer, np.int64(entry.offer) * OFFER_BYTES)
    for index in range(kept):
        chain = entries[candidate[index]].chain
        if chain != NO_CHAIN:
            chain_best[chain] = -1
    outcome[Outcome.refresh_after], outcome[Outcome.refresh_distance] = refresh, margin
    outcome[Outcome.unknown], outcome[Outcome.proper] = unknowns, proper
    return kept


@njit(error_model="numpy")
def _hold(margin: float, refresh: float, slack: float, loss: float, time: int) -> tuple[float, float]:
    """The lesser promise in metres and seconds, where something holds for `slack` metres, `loss` fewer each second.

    Of metres that grow less, half are promised, and the time in which the other half is gone.
    """
    slack = max(slack, 0.0)
    if loss <= 0.0:
        return min(margin, slack), refresh
    return min(margin, slack / 2), min(refresh, time + max(1.0, math.floor(slack / 2 / loss)))


@njit(error_model="numpy")
def _is_preferred(
    ends: int, likely: float, told: int, turn: int,
    other_ends: int, other_likely: float, other_told: int, other_turn: int,
) -> bool:  # fmt: skip
    """Whether an offer is better shown at a place than at another that is as near."""
    if ends != other_ends:
        return ends > other_ends
    if likely != other_likely:
        return likely > other_likely
    if (told & OUTSIDE_DAYPART) != (other_told & OUTSIDE_DAYPART):
        return (told & OUTSIDE_DAYPART) == 0
    return turn < other_turn
