"""Whether an offer may be shown at a time, by its terms, windows and hours."""

import numpy as np
from numba import njit

from offers.catalogue.snapshot import NO_SCHEDULE, NO_WINDOWS
from offers.decision.records import CLOSED, OPEN, UNKNOWN, Column, Hours, Table, Terms, i8, u1, u4


@njit(error_model="numpy")
def may_ever(entry: np.void, terms: Table, time: int) -> bool:
    """Whether an entry's offer could be shown at a time or later."""
    return u1(terms, Terms.admits)[entry.terms] != 0 and entry.window_end > time


@njit(error_model="numpy")
def showing(columns: Table, hours: Table, entry: np.void, time: int) -> tuple[int, int]:
    """Whether the windows and hours of an entry that may ever be shown allow it at a time.

    OPEN and the second at which that ends; CLOSED and the first second at which that may change; or UNKNOWN, if the
    state of its schedule is.
    """
    begins, ends = np.int64(entry.window_start), np.int64(entry.window_end)
    if entry.windows != NO_WINDOWS:  # the one around or after this instant
        window_start, window_end = u4(columns, Column.window_start), u4(columns, Column.window_end)
        window = entry.windows
        while np.int64(window_end[window]) <= time:
            window += 1
        begins, ends = np.int64(window_start[window]), np.int64(window_end[window])
    if entry.schedule != NO_SCHEDULE:
        state, until = u1(hours, Hours.state)[entry.schedule], i8(hours, Hours.until)[entry.schedule]
        if state == UNKNOWN:
            return UNKNOWN, np.int64(time)
        if state == CLOSED:
            return CLOSED, max(begins, until)
        if begins <= time:
            ends = min(ends, until)
    if begins > time:
        return CLOSED, begins
    return OPEN, ends
