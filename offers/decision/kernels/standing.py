"""Standing: list the offers shown everywhere, once per surface and minute, by an upper bound of their scores.

arrange.py calls them up in that order: a decision reads only the best of them.
"""

import math

import numpy as np
from numba import njit

from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import NO_CAPS, NO_SCHEDULE
from offers.compiled import inner
from offers.decision.kernels.memory.records import (
    CLOSED,
    OPEN,
    UNKNOWN,
    Column,
    HoursArray,
    Record,
    StandingArray,
    StandingFact,
    Table,
    entries_of,
    extras_of,
    f8,
    gates_of,
    i4,
    i8,
    strategies_of,
    u1,
    worths_of,
)
from offers.decision.kernels.memory.scratch import IN_DAYPART, OUTSIDE_DAYPART, candidates_of
from offers.decision.kernels.score import Factor, log_timeliness
from offers.decision.kernels.showing import may_ever, showing

_NEVER = NEVER  # numba reads globals of this module only once, as constants


def standing_record(count: int) -> Record:
    """Return a record with room for a number of offers."""
    return Record(
        StandingArray,
        {
            "entry": np.empty(count, np.int32),
            "bound": np.empty(count, np.float64),
            "until": np.empty(count, np.int64),
            "flags": np.empty(count, np.uint8),
            "facts": np.zeros(len(StandingFact), np.int64),
            **{name: np.empty(0, np.int32) for name in ("audience", "proper", "fallback", "capped_entry")},
            "capped_key": np.empty(0, np.int64),
        },
    )


def sorted_record(columns: Record, filled: Record) -> Record:
    """Return a record of the offers found, the best first, and fallbacks after all others."""
    kept = slice(int(filled.arrays["facts"][StandingFact.found]))
    arrays = {name: filled.arrays[name][kept] for name in ("entry", "bound", "until", "flags")}
    entries = columns.arrays["entry"][arrays["entry"]]
    order = np.lexsort((entries["order"], -arrays["bound"], entries["fallback"]))
    facts, is_proper = filled.arrays["facts"], entries["fallback"] == 0
    facts[StandingFact.proper] = np.count_nonzero(is_proper)
    offers = columns.arrays["offer"][entries["offer"]]
    audience, whose = np.unique(offers["audience"], return_inverse=True)
    capped = np.flatnonzero(offers["caps"] != NO_CAPS)
    capped = capped[np.argsort(offers["key"][capped])]
    return Record(
        StandingArray,
        {
            **{name: values[order] for name, values in arrays.items()},
            "facts": facts,
            "audience": audience,
            "proper": np.bincount(whose[is_proper], minlength=len(audience)).astype(np.int32),
            "fallback": np.bincount(whose[~is_proper], minlength=len(audience)).astype(np.int32),
            "capped_key": offers["key"][capped],
            "capped_entry": arrays["entry"][capped],
        },
    )


@inner
def call_up(standing: Table, scratch: Table, coming: int, index: int) -> None:
    """Make an offer shown everywhere the candidate of an index. `coming` is its index in the standing record."""
    one = candidates_of(scratch)[index]
    one.squared, one.chance, one.entry = math.inf, 1.0, i4(standing, StandingArray.entry)[coming]
    one.until, one.flags = i8(standing, StandingArray.until)[coming], u1(standing, StandingArray.flags)[coming]


@njit(cache=True, error_model="numpy")
def stand(
    columns: Table, hours: Table, terms: Table, strategy_number: int, time: int, end: int, standing: Table,
    unknown: np.ndarray,
) -> int:  # fmt: skip
    """Write the offers for everywhere that may be shown from a time on, in any order, and when the first changes.

    Bounds hold until the second `end`. Returns how many schedules of unknown state are listed in `unknown`: if any,
    they have to be looked up, and this be called again.
    """
    gates, worths, entries, extras = gates_of(columns), worths_of(columns), entries_of(columns), extras_of(columns)
    state, strategy = u1(hours, HoursArray.state), strategies_of(columns)[strategy_number]
    kept, bounds = i4(standing, StandingArray.entry), f8(standing, StandingArray.bound)
    untils, flags, facts = (
        i8(standing, StandingArray.until),
        u1(standing, StandingArray.flags),
        i8(standing, StandingArray.facts),
    )
    found = unknowns = 0
    change = np.int64(_NEVER)
    for number in range(i4(columns, Column.standing_first)[0], len(entries)):
        gate, worth = gates[number], worths[number]
        if not may_ever(gate, terms, time):
            continue
        daypart = extras[entries[number].extra].daypart_schedule
        for schedule in (gate.schedule, daypart):
            if schedule != NO_SCHEDULE and state[schedule] == UNKNOWN and unknowns < len(unknown):
                unknown[unknowns] = schedule
                unknowns += 1
        now, ends = showing(columns, hours, number, time)
        if now == UNKNOWN:
            continue
        change = min(change, ends)
        if now == CLOSED:
            continue
        told = 0
        if daypart != NO_SCHEDULE:
            told = IN_DAYPART if state[daypart] == OPEN else OUTSIDE_DAYPART
        # The bound takes timeliness at its best: at that instant of the span which is nearest to the decay's origin.
        left = min(max(strategy.timeliness_origin, float(ends - end)), float(ends - time))
        bounds[found] = (
            strategy.weights[Factor.nearness] * strategy.log_without_distance
            + strategy.weights[Factor.timeliness] * log_timeliness(strategy, ends, told, ends - math.floor(left))
            + strategy.weights[Factor.value] * worth.log_value
            + strategy.weights[Factor.lever] * worth.log_lever
        )
        kept[found], untils[found], flags[found] = number, ends, told
        found += 1
    facts[StandingFact.found], facts[StandingFact.change] = found, change
    return unknowns
