"""Showing: decide by terms, windows and hours whether an offer may be shown at a time."""

import numpy as np

from offers.catalogue.snapshot import NO_SCHEDULE, NO_WINDOWS, ODD
from offers.compiled import inlined, inner
from offers.decision.kernels.memory.records import (
    CLOSED,
    OPEN,
    UNKNOWN,
    Column,
    HoursArray,
    Table,
    TermsArray,
    entries_of,
    gates_of,
    i8,
    u1,
    u4,
)

WHICH_TERMS = ODD - 1


@inlined
def may_ever(gate: np.void, terms: Table, time: int) -> bool:
    """Return whether an entry's offer could be shown at a time or later."""
    return u1(terms, TermsArray.admits)[gate.terms & WHICH_TERMS] != 0 and gate.window_end > time


@inner
def showing(columns: Table, hours: Table, number: int, time: int) -> tuple[int, int]:
    """Return whether windows and hours allow an entry at a time, given that `may_ever` is true for it.

    That is OPEN and the second at which it ends; or CLOSED and the first second at which that may change; or UNKNOWN,
    if the state of its schedule is.
    """
    gate = gates_of(columns)[number]
    begins, ends = np.int64(gate.window_start), np.int64(gate.window_end)
    if (
        gate.terms >= ODD and entries_of(columns)[number].windows != NO_WINDOWS
    ):  # the window around or after this instant
        window_start, window_end = u4(columns, Column.window_start), u4(columns, Column.window_end)
        window = entries_of(columns)[number].windows
        while np.int64(window_end[window]) <= time:
            window += 1
        begins, ends = np.int64(window_start[window]), np.int64(window_end[window])
    if gate.schedule != NO_SCHEDULE:
        state, until = u1(hours, HoursArray.state)[gate.schedule], i8(hours, HoursArray.until)[gate.schedule]
        if state == UNKNOWN:
            return UNKNOWN, np.int64(time)
        if state == CLOSED:
            return CLOSED, max(begins, until)
        if begins <= time:
            ends = min(ends, until)
    if begins > time:
        return CLOSED, begins
    return OPEN, ends
