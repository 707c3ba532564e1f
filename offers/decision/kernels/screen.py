"""Screen: which of the entries within reach may be shown.

On the way it finds out for how long, and how far from the location, the set of offers that qualify stays as it is.
"""

import math

import numpy as np

from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import AROUND_POINT, EVERYWHERE, NO_CHAIN, NO_SCHEDULE, ODD, WORTH
from offers.compiled import apart, inlined, inner
from offers.decision.kernels.memory.records import (
    CLOSED,
    OPEN,
    UNKNOWN,
    Column,
    Hours,
    Table,
    Terms,
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
    NO_ROOM,
    OUTSIDE_DAYPART,
    PENALISED,
    POINTS,
    UNPLACED,
    UNREACHABLE,
    Outcome,
    Scratch,
    candidates_of,
    reached_of,
)
from offers.decision.kernels.places.region import NOWHERE, in_circle, located
from offers.decision.kernels.score import ground_distance
from offers.decision.kernels.showing import may_ever, showing
from offers.v1.offer_pb2 import MissingLocation, ReachableBeforeEnd

REFRESH_S = 86_400
"""The longest a decision is said to hold: catalogues are edited daily."""
STRAIGHT = 0.9999
"""By a metre moved, a way told by the earth's mean radius changes by up to 1.00003, 1,000 km from its end."""
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


@apart
def screen(
    columns: Table, hours: Table, scratch: Table, terms: Table, found: int,
    latitude: float, longitude: float, sigma: float, growth: float, time: int,
) -> int:  # fmt: skip
    """Keep as candidates the entries that may be shown: their terms, windows, place, opening hours and reach.

    Writes when each ends and until when, and how far, the set stays as it is; of an offer with several entries the
    nearest is kept, of equally near ones the one that ends last, then the likeliest, then one inside its preferred
    dayparts, then the one its target names first.
    Returns how many are kept, or NO_ROOM. Schedules of unknown state are listed: look them up and begin again.
    """
    candidates, gates, reached = candidates_of(scratch), gates_of(columns), reached_of(scratch)
    least = extras_of(columns)[0].min_inside
    outcome = f8(scratch, Scratch.outcome)
    kept = unknowns = fallbacks = 0
    soonest = np.int64(_NEVER)
    admits, state, turn = u1(terms, Terms.admits), u1(hours, Hours.state), i8(hours, Hours.until)
    if len(state) == 0:  # so that there is something to look up, and to leave aside
        state, turn = admits, NOTHING
    outcome[Outcome.laid_from] = POINTS
    fringe = f8(columns, Column.widest_fringe)[0]
    margin, refresh = _hold(math.inf, float(time + REFRESH_S), outcome[Outcome.refresh_distance], fringe * growth, time)
    for index in range(found):
        place = reached[index]
        site, squared, first, last = place.site, place.squared, np.int64(place.first), np.int64(place.last)
        if kept + last - first > len(candidates):
            outcome[Outcome.found] = kept + last - first
            return NO_ROOM
        likely, slack, loss, is_any = 1.0, math.inf, 0.0, False
        if site != NOWHERE:  # all plain entries of a site are in the same circle
            likely, slack, loss = _in_own_circle(columns, site, squared, sigma, growth)
        fetch_ahead(columns, Column.worth, first * WORTH_BYTES)
        fetch_ahead(columns, Column.worth, last * WORTH_BYTES - 1)
        for number in range(first, last):
            gate = gates[np.uint64(number)]
            if gate.terms >= ODD:
                if may_ever(gate, terms, time):
                    kept, odd, unknowns, margin, refresh = _screen_odd(
                        columns, hours, scratch, number, site, squared, latitude, longitude, sigma, growth, time,
                        kept, unknowns, margin, refresh,
                    )  # fmt: skip
                    fallbacks += odd
                continue
            # What showing.py says, without a branch: whether one is shown now cannot be foretold.
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
    refresh, proper = min(refresh, float(soonest)), kept - fallbacks
    outcome[Outcome.refresh_after], outcome[Outcome.refresh_distance] = refresh, margin
    outcome[Outcome.unknown], outcome[Outcome.proper] = unknowns, proper
    return kept


@apart
def _screen_odd(
    columns: Table, hours: Table, scratch: Table, number: int, site: int, squared: float,
    latitude: float, longitude: float, sigma: float, growth: float, time: int,
    kept: int, unknowns: int, margin: float, refresh: float,
) -> tuple[int, int, int, float, float]:  # fmt: skip
    """Keep an ODD entry as a candidate if it may be shown.

    Returns how many are kept then, how many fallbacks more that is, and the others brought up to date.
    """
    candidates, chain_best = candidates_of(scratch), u4(scratch, Scratch.chain_best)
    entries, gate, state = entries_of(columns), gates_of(columns)[number], u1(hours, Hours.state)
    is_placed, entry = latitude == latitude, entries[number]  # noqa: PLR0124 - not NaN
    extra = extras_of(columns)[entry.extra]
    likely, told = 1.0, 0
    if is_placed:
        if site != NOWHERE or extra.excluded_first < extra.excluded_last:
            if entry.extra == 0:
                likely, slack, loss = _in_own_circle(columns, site, squared, sigma, growth)
            else:
                likely, slack, loss = located(
                    columns, scratch, entry.extra, site, latitude, longitude, sigma, growth, margin
                )
            margin, refresh = _hold(margin, refresh, slack, loss, time)
            if likely < extra.min_inside:
                return kept, 0, unknowns, margin, refresh
    elif entry.kind != EVERYWHERE or extra.excluded_first < extra.excluded_last:
        if extra.missing <= _DENY:
            return kept, 0, unknowns, margin, refresh
        told = UNPLACED | (PENALISED if extra.missing == _PENALTY else 0)
    now, ends = showing(columns, hours, number, time)
    if now == UNKNOWN:
        return kept, 0, _list_unknown(scratch, gate.schedule, unknowns), margin, refresh
    refresh = min(refresh, float(ends))
    if now == CLOSED:
        return kept, 0, unknowns, margin, refresh
    if extra.reachable >= _RANK_DOWN and is_placed and ends != _NEVER:
        # One is there in time from within so many metres, which grow less as time goes by.
        radius = (ends - time - extra.delay) * extra.speed
        way = ground_distance(squared)
        if way >= radius:
            told |= UNREACHABLE
        if extra.reachable == _DROP:
            margin, refresh = _hold(
                margin, refresh, abs(radius - way) * STRAIGHT, extra.speed if way < radius else 0.0, time
            )
            if way >= radius:
                return kept, 0, unknowns, margin, refresh
    daypart = extra.daypart_schedule
    if daypart != NO_SCHEDULE:
        if state[daypart] == UNKNOWN:
            unknowns = _list_unknown(scratch, daypart, unknowns)
        told |= IN_DAYPART if state[daypart] == OPEN else OUTSIDE_DAYPART
    away = squared if entry.kind == AROUND_POINT else math.inf
    place = kept
    if entry.chain != NO_CHAIN:
        rival = chain_best[entry.chain]  # of an earlier decision, perhaps
        other = candidates[rival]
        if rival < kept and entries[other.entry].chain == entry.chain:
            if away > other.squared or (
                away == other.squared
                and not _is_preferred(
                    ends, likely, told, entry.turn,
                    other.until, other.chance, other.flags, entries[other.entry].turn,
                )
            ):  # fmt: skip
                return kept, 0, unknowns, margin, refresh
            place = np.int64(rival)
        else:
            chain_best[entry.chain] = kept
    one = candidates[place]
    one.squared, one.chance, one.until, one.entry, one.flags = away, likely, ends, number, told
    one.site = site
    if place < kept:
        return kept, 0, unknowns, margin, refresh
    return kept + 1, int(entry.fallback != 0), unknowns, margin, refresh


@inlined
def _in_own_circle(
    columns: Table, site: int, squared: float, sigma: float, growth: float
) -> tuple[float, float, float]:  # fmt: skip
    """As region.located, for the circle of a site, with nothing cut out."""
    reach = centres_of(columns)[site].reach
    depth = reach - math.sqrt(squared)
    if sigma == 0.0 and growth == 0.0:
        return 1.0, depth, 0.0
    return in_circle(extras_of(columns)[0], depth, reach, sigma, growth)


@inner
def _list_unknown(scratch: Table, schedule: int, unknowns: int) -> int:
    """List a schedule to be looked up: some twice, perhaps; what does not fit is listed the next time."""
    unknown = i4(scratch, Scratch.unknown)
    if unknowns < len(unknown):
        unknown[unknowns] = schedule
        return unknowns + 1
    return unknowns


@inlined
def _hold(margin: float, refresh: float, slack: float, loss: float, time: int) -> tuple[float, float]:
    """The lesser promise in metres and seconds, where something holds for `slack` metres, `loss` fewer each second.

    Of metres that grow less, half are promised, and the time in which the other half is gone.
    """
    slack = max(slack, 0.0)
    if loss <= 0.0:
        return min(margin, slack), refresh
    return min(margin, slack / 2), min(refresh, time + max(1.0, math.floor(slack / 2 / loss)))


@inner
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
