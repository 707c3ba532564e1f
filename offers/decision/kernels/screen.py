"""Screen: keep the entries within reach that may be shown here and now.

On the way, screening computes for how long, and how far from the location, the set of qualifying offers stays the same.
"""

import math
from typing import NamedTuple

import numpy as np

from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import AROUND_POINT, EVERYWHERE, NO_CHAIN, NO_SCHEDULE, ODD, WORTH
from offers.compiled import apart, inlined, inner
from offers.decision.kernels.memory.frame import Frame, Location
from offers.decision.kernels.memory.records import (
    CLOSED,
    OPEN,
    UNKNOWN,
    Column,
    HoursArray,
    Table,
    TermsArray,
    centres_of,
    entries_of,
    extras_of,
    f8,
    fetch_ahead,
    gates_of,
    i4,
    i8,
    u1,
    u4,
)
from offers.decision.kernels.memory.scratch import (
    IN_DAYPART,
    OUTSIDE_DAYPART,
    PENALISED,
    POINTS,
    UNPLACED,
    UNREACHABLE,
    DecisionFact,
    ScratchArray,
    candidates_of,
    reached_of,
)
from offers.decision.kernels.need import Need
from offers.decision.kernels.places.region import NOWHERE, in_circle, located
from offers.decision.kernels.score import ground_distance
from offers.decision.kernels.showing import may_ever, showing
from offers.v1.offer_pb2 import MissingLocation, ReachableBeforeEnd

REFRESH_S = 86_400
"""The longest that a decision says it holds, in seconds: catalogues are edited daily."""
STRAIGHT = 0.9999
"""Share of a slack that is promised. By a metre moved, a distance computed with the earth's mean radius changes by up
to 1.00003 metres, 1,000 km away."""
WORTH_BYTES = WORTH.itemsize
NOTHING = np.zeros(1, np.int64)
_NEVER = NEVER  # numba reads globals of this module only once, as constants
_DENY, _PENALTY = (
    int(MissingLocation.MISSING_LOCATION_DENY),
    int(MissingLocation.MISSING_LOCATION_ALLOW_WITH_PENALTY),
)
_DROP, _RANK_DOWN = (
    int(ReachableBeforeEnd.REACHABLE_BEFORE_END_DROP),
    int(ReachableBeforeEnd.REACHABLE_BEFORE_END_RANK_DOWN),
)


class Screening(NamedTuple):
    """Counts and promises of a screening so far."""

    kept: int
    """Candidates."""
    fallbacks: int
    """Candidates that are fallbacks."""
    unknowns: int
    """Schedules listed in ScratchArray.unknown."""
    margin: float
    """Metres within which the set of qualifying offers stays the same."""
    refresh: float
    """Second until which it does."""


@apart
def screen(frame: Frame, location: Location) -> int:
    """Keep as candidates the entries within reach that their terms, windows, places, hours and reach allow.

    Of an offer with several entries the nearest is kept; of equally near ones the one that ends last, then the one most
    probably around the person, then one inside its preferred dayparts, then the one its target names first.

    Returns NOTHING or ROOM of Need. Schedules of unknown state are listed, DecisionFact.unknown of them: if there are
    any, the candidates are not complete.
    """
    columns, hours, scratch, terms, time = frame.columns, frame.hours, frame.scratch, frame.terms, frame.time
    sigma, growth = location.sigma, location.growth
    candidates, gates, reached = candidates_of(scratch), gates_of(columns), reached_of(scratch)
    least = extras_of(columns)[0].min_inside
    facts = i8(scratch, ScratchArray.decision)
    kept = unknowns = fallbacks = 0
    soonest = np.int64(_NEVER)
    admits, state, turn = u1(terms, TermsArray.admits), u1(hours, HoursArray.state), i8(hours, HoursArray.until)
    if len(state) == 0:  # something to read without a branch, where there are no schedules; what is read is not used
        state, turn = admits, NOTHING
    facts[DecisionFact.laid_from] = POINTS
    fringe, distance = f8(columns, Column.widest_fringe)[0], f8(scratch, ScratchArray.refresh_distance)
    margin, refresh = _hold(math.inf, float(time + REFRESH_S), distance[0], fringe * growth, time)
    for index in range(facts[DecisionFact.found]):
        place = reached[index]
        site, squared, first, last = place.site, place.squared, np.int64(place.first), np.int64(place.last)
        if kept + last - first > len(candidates):
            facts[DecisionFact.found] = kept + last - first
            return Need.ROOM
        likely, slack, loss, is_any = 1.0, math.inf, 0.0, False
        if site != NOWHERE:  # all plain entries of a site are in the same circle
            likely, slack, loss = _in_own_circle(columns, site, squared, sigma, growth)
        fetch_ahead(columns, Column.worth, first * WORTH_BYTES)
        fetch_ahead(columns, Column.worth, last * WORTH_BYTES - 1)
        for number in range(first, last):
            gate = gates[np.uint64(number)]
            if gate.terms >= ODD:
                if may_ever(gate, terms, time):
                    so_far = Screening(kept, fallbacks, unknowns, margin, refresh)
                    so_far = _screen_odd(frame, location, number, site, squared, so_far)
                    kept, fallbacks, unknowns, margin, refresh = so_far
                continue
            # The same as showing.py, without a branch: the processor cannot predict whether an entry is shown now.
            begins, ends = np.int64(gate.window_start), np.int64(gate.window_end)
            looked_up = np.uint64(max(gate.schedule, 0))
            always = np.int64(gate.schedule) >> 63  # all bits, or none
            now, turns = (np.int64(state[looked_up]) & ~always) | (always & OPEN), turn[looked_up] | (always & _NEVER)
            has_begun, is_open = begins <= time, now == OPEN
            ends_at = min(ends, turns)
            changes = ends_at if has_begun & is_open else (begins if is_open else max(begins, turns))
            may = (admits[gate.terms] != 0) & (ends > time)
            is_any |= may
            may &= likely >= least
            if may & (now == UNKNOWN):
                unknowns = _list_unknown(scratch, gate.schedule, unknowns)
                continue
            soonest = min(soonest, changes if may else _NEVER)
            one = candidates[np.uint64(kept)]
            one.squared, one.chance, one.until, one.entry, one.flags = squared, likely, ends_at, number, 0
            one.site = site
            kept += may & has_begun & is_open
        if is_any:
            margin, refresh = _hold(margin, refresh, slack, loss, time)
    distance[0] = margin
    facts[DecisionFact.refresh_after] = min(np.int64(refresh), soonest)
    facts[DecisionFact.unknown], facts[DecisionFact.kept] = unknowns, kept
    facts[DecisionFact.proper] = kept - fallbacks
    return Need.NOTHING


@apart
def _screen_odd(
    frame: Frame, location: Location, number: int, site: int, squared: float, so_far: Screening
) -> Screening:
    """Keep an ODD entry as a candidate if it may be shown. Returns the screening brought up to date."""
    columns, hours, scratch, time = frame.columns, frame.hours, frame.scratch, frame.time
    kept, fallbacks, unknowns, margin, refresh = so_far
    latitude, sigma, growth = location.latitude, location.sigma, location.growth
    candidates, chain_best = candidates_of(scratch), u4(scratch, ScratchArray.chain_best)
    entries, gate, state = entries_of(columns), gates_of(columns)[number], u1(hours, HoursArray.state)
    is_placed, entry = latitude == latitude, entries[number]  # noqa: PLR0124 - not NaN
    extra = extras_of(columns)[entry.extra]
    likely, told = 1.0, 0
    if is_placed:
        if site != NOWHERE or extra.excluded_first < extra.excluded_last:
            if entry.extra == 0:
                likely, slack, loss = _in_own_circle(columns, site, squared, sigma, growth)
            else:
                likely, slack, loss = located(columns, scratch, location, entry.extra, site, margin)
            margin, refresh = _hold(margin, refresh, slack, loss, time)
            if likely < extra.min_inside:
                return Screening(kept, fallbacks, unknowns, margin, refresh)
    elif entry.kind != EVERYWHERE or extra.excluded_first < extra.excluded_last:
        if extra.missing <= _DENY:
            return Screening(kept, fallbacks, unknowns, margin, refresh)
        told = UNPLACED | (PENALISED if extra.missing == _PENALTY else 0)
    now, ends = showing(columns, hours, number, time)
    if now == UNKNOWN:
        return Screening(kept, fallbacks, _list_unknown(scratch, gate.schedule, unknowns), margin, refresh)
    refresh = min(refresh, float(ends))
    if now == CLOSED:
        return Screening(kept, fallbacks, unknowns, margin, refresh)
    if extra.reachable >= _RANK_DOWN and is_placed and ends != _NEVER:
        # The person can be there in time from within this radius, which shrinks as time goes by.
        radius = (ends - time - extra.delay) * extra.speed
        way = ground_distance(squared)
        if way >= radius:
            told |= UNREACHABLE
        if extra.reachable == _DROP:
            margin, refresh = _hold(
                margin, refresh, abs(radius - way) * STRAIGHT, extra.speed if way < radius else 0.0, time
            )
            if way >= radius:
                return Screening(kept, fallbacks, unknowns, margin, refresh)
    daypart = extra.daypart_schedule
    if daypart != NO_SCHEDULE:
        if state[daypart] == UNKNOWN:
            unknowns = _list_unknown(scratch, daypart, unknowns)
        told |= IN_DAYPART if state[daypart] == OPEN else OUTSIDE_DAYPART
    away = squared if entry.kind == AROUND_POINT else math.inf
    index = kept
    if entry.chain != NO_CHAIN:
        rival = chain_best[entry.chain]  # left over from an earlier decision, unless it is of the same chain
        other = candidates[rival]
        if rival < kept and entries[other.entry].chain == entry.chain:
            if away > other.squared or (
                away == other.squared
                and not _is_preferred(ends, likely, told, entry.turn, other, entries[other.entry].turn)
            ):
                return Screening(kept, fallbacks, unknowns, margin, refresh)
            index = np.int64(rival)
        else:
            chain_best[entry.chain] = kept
    one = candidates[index]
    one.squared, one.chance, one.until, one.entry, one.flags = away, likely, ends, number, told
    one.site = site
    if index < kept:
        return Screening(kept, fallbacks, unknowns, margin, refresh)
    return Screening(kept + 1, fallbacks + (entry.fallback != 0), unknowns, margin, refresh)


@inlined
def _in_own_circle(
    columns: Table, site: int, squared: float, sigma: float, growth: float
) -> tuple[float, float, float]:  # fmt: skip
    """Return what region.located does, for the circle of a site with nothing cut out."""
    reach = centres_of(columns)[site].reach
    depth = reach - math.sqrt(squared)
    if sigma == 0.0 and growth == 0.0:
        return 1.0, depth, 0.0
    return in_circle(extras_of(columns)[0], depth, reach, sigma, growth)


@inner
def _list_unknown(scratch: Table, schedule: int, unknowns: int) -> int:
    """List a schedule to be looked up. Returns the length of the list.

    A schedule may be listed twice. What does not fit is listed in the next round.
    """
    unknown = i4(scratch, ScratchArray.unknown)
    if unknowns < len(unknown):
        unknown[unknowns] = schedule
        return unknowns + 1
    return unknowns


@inlined
def _hold(margin: float, refresh: float, slack: float, loss: float, time: int) -> tuple[float, float]:
    """Return the lesser of two promises, in metres and seconds: the one so far, and one that shrinks with time.

    The new one holds for `slack` metres, `loss` fewer each second. If it shrinks, half of it is promised, until the
    second at which the other half is gone.
    """
    slack = max(slack, 0.0)
    if loss <= 0.0:
        return min(margin, slack), refresh
    return min(margin, slack / 2), min(refresh, time + max(1.0, math.floor(slack / 2 / loss)))


@inner
def _is_preferred(ends: int, likely: float, told: int, turn: int, other: np.void, other_turn: int) -> bool:
    """Return whether an offer is better shown at one place than as another candidate, which is as near."""
    if ends != np.int64(other.until):
        return ends > np.int64(other.until)
    if likely != other.chance:
        return likely > other.chance
    if (told & OUTSIDE_DAYPART) != (np.int64(other.flags) & OUTSIDE_DAYPART):
        return (told & OUTSIDE_DAYPART) == 0
    return turn < other_turn
