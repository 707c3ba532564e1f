"""Which schedules are open, per minute: calendar rules cost a decision one byte each.

The state of all schedules is worked out once per minute and person's time zone and shared by all decisions in it.
Weekly schedules are worked out by a compiled loop; others by the opening-hours library, and only once one is asked for.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit

from offers.catalogue.schedules import LAST_SECOND, NEVER, WEEK_MINUTES, Schedule, ZoneClock, zone_clock
from offers.decision.records import CLOSED, OPEN, UNKNOWN, Column, Hours, Record, Table, i4, i8, u1

INSTANTS_KEPT = 128
"""Minutes kept at a time, at most: the current one, and some of those asked "what if"."""
BYTES_KEPT = 32 << 20
"""Memory for those minutes: a catalogue of very many schedules keeps fewer, but eight at least."""
LAST_ODD_SECOND = 63_593_070
"""1972-01-07T00:44:30Z, when the last time zone gave up seconds in its offset (Africa/Monrovia): from then on wall
clocks everywhere turn to a new minute at the same time."""
_WEEK_S = WEEK_MINUTES * 60
_EPOCH_WEEKDAY_S = 3 * 86_400
"""1970-01-01 was a Thursday."""
_NEVER, _LAST_SECOND = NEVER, LAST_SECOND


class HoursAt(NamedTuple):
    """The states of all schedules over a span of time."""

    record: Record
    """Of Hours."""
    begin: int
    """Seconds between which they hold."""
    end: int
    time_zone: str
    """Whose they are; "" where they are the same for all persons."""


class HoursBook:
    """The states of a snapshot's schedules at any instant from 1970 to 2100."""

    def __init__(
        self, columns: Record, schedules: Sequence[Schedule], time_zones: Sequence[str], default_zone: str
    ) -> None:
        """`time_zones` are the names of the snapshot's time zones, in their order."""
        self._columns = columns
        self._clock = cache(self._find_clock)
        self._zones = {name: number for number, name in enumerate(time_zones) if name}
        self._schedules = schedules
        self._default_zone = default_zone
        self._personal = any(not schedule.time_zone for schedule in schedules)
        self._most = max(8, min(INSTANTS_KEPT, BYTES_KEPT // (9 * max(len(schedules), 1))))
        self._instants: OrderedDict[tuple[int, str], Record] = OrderedDict()

    def at(self, second: int, time_zone: str) -> HoursAt:
        """The states at an instant for a person in a time zone ("": the catalogue's)."""
        instant, end = _span(second)
        time_zone = time_zone if self._personal else ""
        hours = self._instants.get((instant, time_zone))
        if hours is None:
            hours = self._instants[instant, time_zone] = self._work_out(instant, time_zone)
        with contextlib.suppress(KeyError):  # another thread may have let it go
            self._instants.move_to_end((instant, time_zone))
            while len(self._instants) > self._most:
                self._instants.popitem(last=False)
        return HoursAt(hours, instant, end, time_zone)

    def look_up(self, hours: Record, numbers: Sequence[int], second: int, time_zone: str) -> None:
        """Fill in the states of some schedules that are UNKNOWN."""
        instant, _ = _span(second)
        for number in set(numbers):
            schedule = self._schedules[number]
            is_open, until = schedule.at(instant, self._clock(schedule.time_zone or time_zone))
            hours.arrays["until"][number] = until  # before the state: other threads read both
            hours.arrays["state"][number] = OPEN if is_open else CLOSED

    def _find_clock(self, time_zone: str) -> ZoneClock:
        """The clock of a time zone: the snapshot's, where it has it."""
        number = self._zones.get(time_zone or self._default_zone)
        if number is None:
            return zone_clock(time_zone or self._default_zone)
        arrays = self._columns.arrays
        span = slice(*arrays["zone_first"][number : number + 2].tolist())
        return ZoneClock(tuple(arrays["zone_start"][span].tolist()), tuple(arrays["zone_offset"][span].tolist()))

    def _work_out(self, instant: int, time_zone: str) -> Record:
        clock = self._clock(time_zone)
        hours = Record(
            Hours,
            {
                "state": np.empty(len(self._schedules), np.uint8),
                "until": np.empty(len(self._schedules), np.int64),
            },
        )
        starts, offsets = np.array(clock.starts, np.int64), np.array(clock.offsets, np.int32)
        work_out(self._columns.table, hours.table, instant, starts, offsets)
        return hours


def _span(second: int) -> tuple[int, int]:
    """The start and end of a span of time in which no schedule changes but at its start."""
    minute = second - second % 60
    return (minute, minute + 60) if minute >= LAST_ODD_SECOND else (second, second + 1)


@njit(cache=True)
def work_out(columns: Table, hours: Table, second: int, starts: np.ndarray, offsets: np.ndarray) -> None:
    """Write the state of every weekly schedule at an instant; the others are UNKNOWN.

    `starts` and `offsets` are the clock of the person's time zone, as in schedules.ZoneClock.
    """
    weekly, zones = u1(columns, Column.schedule_weekly), i4(columns, Column.schedule_zone)
    zone_first = i4(columns, Column.zone_first)
    zone_start, zone_offset = i8(columns, Column.zone_start), i4(columns, Column.zone_offset)
    state, until = u1(hours, Hours.state), i8(hours, Hours.until)
    for schedule in range(len(weekly)):
        if not weekly[schedule]:
            state[schedule], until[schedule] = UNKNOWN, second
        elif zones[schedule] == 0:
            _week_at(columns, state, until, schedule, second, starts, offsets)
        else:
            low, high = zone_first[zones[schedule]], zone_first[zones[schedule] + 1]
            _week_at(columns, state, until, schedule, second, zone_start[low:high], zone_offset[low:high])


@njit
def _week_at(
    columns: Table,
    state: np.ndarray,
    until: np.ndarray,
    schedule: int,
    second: int,
    starts: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """Write whether a weekly schedule is open at an instant and when that changes, clock changes included."""
    week_first = i4(columns, Column.schedule_week_first)
    low, high = week_first[schedule], week_first[schedule + 1]
    opens, closes = i4(columns, Column.week_start), i4(columns, Column.week_end)
    span = np.searchsorted(starts, second, side="right") - 1
    at, first_state = second, -1
    if low == high or (high - low == 1 and opens[low] == 0 and closes[low] == WEEK_MINUTES):
        state[schedule], until[schedule] = CLOSED if low == high else OPEN, _NEVER
        return
    while True:
        in_week = (at + offsets[span] + _EPOCH_WEEKDAY_S) % _WEEK_S
        # The first span that ends after this time of the week, perhaps that of next week.
        place = low
        while place < high and closes[place] * 60 <= in_week:
            place += 1
        if place == high:
            now, change = CLOSED, opens[low] * 60 + _WEEK_S
        elif in_week < opens[place] * 60:
            now, change = CLOSED, opens[place] * 60
        else:
            now, change = OPEN, closes[place] * 60
            if change == _WEEK_S and opens[low] == 0:
                change += closes[low] * 60  # open past Sunday midnight
        if first_state >= 0 and now != first_state:
            state[schedule], until[schedule] = first_state, at
            return
        first_state = now
        end = starts[span + 1] if span + 1 < len(starts) else _LAST_SECOND + _WEEK_S
        if at + change - in_week < end or span + 1 == len(starts):
            state[schedule], until[schedule] = now, at + change - in_week
            return
        at = end
        span += 1
