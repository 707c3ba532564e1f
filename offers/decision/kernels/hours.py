"""Hours: compute the state of every schedule at an instant. The specification is catalogue/hours/schedules.py."""

from enum import IntEnum

import numpy as np
from numba import njit

from offers.catalogue.hours.schedules import LAST_SECOND, NEVER, WEEK_MINUTES
from offers.compiled import inner
from offers.decision.kernels.memory.records import CLOSED, OPEN, UNKNOWN, Column, HoursArray, Table, i4, i8, u1, u4

_DAY_S = 86_400
_WEEK_S = WEEK_MINUTES * 60
_EPOCH_WEEKDAY_S = 3 * _DAY_S
"""1970-01-01 was a Thursday."""
_NEVER, _LAST_SECOND = NEVER, LAST_SECOND


class HorizonArray(IntEnum):
    """Indices of the arrays of a horizon: the coming weeks of schedules that are not weekly."""

    known = 0
    """u1 per schedule: 1 if it is in the horizon."""
    first = 1
    """i8: CSR over change."""
    change = 2
    """u4: seconds at which it opens, closes, opens and so on; the last may lie beyond the horizon."""


@njit(cache=True)
def work_out(
    columns: Table, ahead: Table, begin: int, end: int, hours: Table, second: int, starts: np.ndarray,
    offsets: np.ndarray,
) -> None:  # fmt: skip
    """Write the state of every schedule at the instant `second`, and until when it holds.

    The state of a schedule that is neither weekly nor in the horizon is UNKNOWN. `ahead` is the horizon's table,
    `begin` and `end` its span. `starts` and `offsets` are the clock of the person's time zone: see schedules.ZoneClock.
    """
    weekly, part_first = u1(columns, Column.schedule_weekly), i4(columns, Column.schedule_part_first)
    zones, margins = i4(columns, Column.part_zone), i4(columns, Column.part_margin)
    zone_first = i4(columns, Column.zone_first)
    zone_start, zone_offset = i8(columns, Column.zone_start), i4(columns, Column.zone_offset)
    state, until = u1(hours, HoursArray.state), i8(hours, HoursArray.until)
    known, first, change = u1(ahead, HorizonArray.known), i8(ahead, HorizonArray.first), u4(ahead, HorizonArray.change)
    within = begin <= second < end
    for schedule in range(len(weekly)):
        if not weekly[schedule]:
            state[schedule], until[schedule] = UNKNOWN, second
            if within and known[schedule]:
                low, high = first[schedule], first[schedule + 1]
                index = low + np.searchsorted(change[low:high], second, side="right")
                state[schedule] = OPEN if (index - low) % 2 else CLOSED
                until[schedule] = np.int64(change[index]) if index < high else end
            continue
        closed_until, open_until = -1, _NEVER
        for part in range(part_first[schedule], part_first[schedule + 1]):
            if zones[part] == 0:
                now, change_at = _week_at(columns, part, second, starts, offsets)
            else:
                low, high = zone_first[zones[part]], zone_first[zones[part] + 1]
                now, change_at = _week_at(columns, part, second, zone_start[low:high], zone_offset[low:high])
            if now == OPEN and change_at < _NEVER:
                if change_at - margins[part] > second:
                    change_at -= margins[part]
                else:
                    now = CLOSED
            if now == OPEN:
                open_until = min(open_until, change_at)
            else:
                closed_until = max(closed_until, change_at)
        state[schedule] = OPEN if closed_until < 0 else CLOSED
        until[schedule] = open_until if closed_until < 0 else closed_until


@inner
def _week_at(columns: Table, part: int, second: int, starts: np.ndarray, offsets: np.ndarray) -> tuple[int, int]:
    """Return whether a part is open at an instant, and when that changes, by the clock but without its margin."""
    week_first = i4(columns, Column.part_week_first)
    low, high = week_first[part], week_first[part + 1]
    opens, closes = i4(columns, Column.week_start), i4(columns, Column.week_end)
    span = np.searchsorted(starts, second, side="right") - 1
    at, first_state = second, -1
    if low == high or (high - low == 1 and opens[low] == 0 and closes[low] == WEEK_MINUTES):
        return (CLOSED if low == high else OPEN), _NEVER
    while True:
        in_week = (at + offsets[span] + _EPOCH_WEEKDAY_S) % _WEEK_S
        # The first span that ends after this time of the week, perhaps that of next week.
        index = low
        while index < high and closes[index] * 60 <= in_week:
            index += 1
        if index == high:
            now, change = CLOSED, opens[low] * 60 + _WEEK_S
        elif in_week < opens[index] * 60:
            now, change = CLOSED, opens[index] * 60
        else:
            now, change = OPEN, closes[index] * 60
            if change == _WEEK_S and opens[low] == 0:
                change += closes[low] * 60  # open past Sunday midnight
        if first_state >= 0 and now != first_state:
            return first_state, at
        first_state = now
        end = starts[span + 1] if span + 1 < len(starts) else _LAST_SECOND + _WEEK_S
        if at + change - in_week < end or span + 1 == len(starts):
            return now, at + change - in_week
        at = end
        span += 1
