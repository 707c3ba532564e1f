"""States of schedules, computed once per minute: a calendar rule costs a decision one byte.

A compiled loop (kernels/hours.py) computes the states of all schedules per minute and person's time zone. All decisions
in that minute share them. It reads the spans of a week where all weeks are alike, and otherwise the horizon: the
changes of the coming weeks. States that neither gives (instants beyond the horizon, schedules by the person's clock)
are worked out from the rules when a decision needs them.
"""

import contextlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.caching import cached
from offers.catalogue.hours.schedules import Schedule, ZoneClock, zone_clock
from offers.decision.kernels.hours import HorizonArray, work_out
from offers.decision.kernels.memory.records import CLOSED, OPEN, HoursArray, Record
from offers.decision.pauses import Pauses

INSTANTS_KEPT = 128
"""Minutes kept, at most: the current one, and some of hypothetical requests."""
BYTES_KEPT = 32 << 20
"""Memory for those minutes. A catalogue with very many schedules keeps fewer of them, but at least eight."""
LAST_ODD_SECOND = 63_593_070
"""1972-01-07T00:44:30Z, when the last time zone dropped seconds from its offset (Africa/Monrovia). Since then all wall
clocks turn to a new minute at the same time."""
SLICE_S = 0.002
"""Seconds of work on the horizon at a time, during which requests may have to wait."""
_DAY_S = 86_400
HORIZON_S = 37 * _DAY_S
"""The horizon reaches from a day before the day it was begun on to at least 35 days after it."""
FIRST_HORIZON_S = 3 * _DAY_S
"""The first horizon is short, to be there soon."""
CHANGES_KEPT = 8_000_000
"""Changes, of four bytes, that a horizon holds: those of about 100,000 schedules. The rest is worked out when asked."""


SPANS_OF_ONE = 8
"""Spans of a schedule that are kept after a look-up, for other instants within them."""
SPANS_KEPT = 20_000
"""Schedules, by the time zones asked, of which such spans are kept: at most some 30 MB."""


class _Horizon(NamedTuple):
    """Changes of the schedules that are not weekly, between two instants."""

    record: Record
    """A record of HorizonArray."""
    begin: int
    """Second from which it holds."""
    end: int
    """Second until which it holds, exclusive."""


class _Draft:
    """A horizon that is being computed."""

    def __init__(self, begin: int, end: int, schedules: int) -> None:
        self.begin, self.end = begin, end
        self.number = 0
        """Index of the next schedule."""
        self._known = np.zeros(schedules, np.uint8)
        self._counts = np.zeros(schedules + 1, np.int64)
        self._changes: list[np.ndarray] = []
        self._room = CHANGES_KEPT

    def add(self, spans: list[tuple[int, int]]) -> None:
        """Add the open spans of the next schedule."""
        if 2 * len(spans) <= self._room:
            self._room -= 2 * len(spans)
            self._known[self.number] = 1
            self._counts[self.number + 1] = 2 * len(spans)
            self._changes.append(np.array(spans, np.uint32).reshape(-1))
        self.number += 1

    def finished(self) -> _Horizon:
        """Return the horizon of the schedules added."""
        change = np.concatenate([np.empty(0, np.uint32), *self._changes])
        arrays: dict[str, NDArray[Any]] = {"known": self._known, "first": np.cumsum(self._counts), "change": change}
        return _Horizon(Record(HorizonArray, arrays), self.begin, self.end)


class HoursAt(NamedTuple):
    """The states of all schedules over a span of time."""

    record: Record
    """A record of HoursArray."""
    begin: int
    """Second from which they hold."""
    end: int
    """Second until which they hold, exclusive."""
    time_zone: str
    """The person's time zone; "" if the states are the same for all persons."""


class HoursBook:
    """The states of a snapshot's schedules at any instant from 1970 to 2100."""

    def __init__(
        self, columns: Record, schedules: Sequence[Schedule], time_zones: Sequence[str], default_zone: str
    ) -> None:
        """Take the snapshot's columns and schedules, and the names of its time zones in their order."""
        self._columns = columns
        self.clock = cached(self._find_clock)
        """Return the clock of a time zone; "" is the catalogue's."""
        self._zones = {name: number for number, name in enumerate(time_zones) if name}
        self._schedules = schedules
        self._default_zone = default_zone
        self._personal = any(schedule.personal for schedule in schedules)
        margins = {part.closing_margin for schedule in schedules for part in schedule.parts}
        self._turns = sorted({0} | {-margin % 60 for margin in margins})
        self._most = max(8, min(INSTANTS_KEPT, BYTES_KEPT // (9 * max(len(schedules), 1))))
        self._lately: dict[tuple[int, str], tuple[tuple[int, int, bool], ...]] = {}
        """Spans of schedules that were looked up, the last first: begin, end, and whether it is open."""
        self._instants: OrderedDict[tuple[int, str], Record] = OrderedDict()
        weekly = columns.arrays["schedule_weekly"].tolist()
        self._ahead = [not week and not one.personal for one, week in zip(schedules, weekly, strict=True)]
        self._horizon = _Draft(0, 0, len(schedules)).finished()
        self._draft: _Draft | None = None

    def at(self, second: int, time_zone: str) -> HoursAt:
        """Return the states at an instant for a person in a time zone ("": the catalogue's)."""
        instant, end = self._span(second)
        time_zone = time_zone if self._personal else ""
        hours = self._instants.get((instant, time_zone))
        if hours is None:
            hours = self._instants[instant, time_zone] = self._work_out(instant, time_zone)
        with contextlib.suppress(KeyError):  # another thread may have evicted it
            self._instants.move_to_end((instant, time_zone))
            while len(self._instants) > self._most:
                self._instants.popitem(last=False)
        return HoursAt(hours, instant, end, time_zone)

    def look_up(self, hours: Record, numbers: Sequence[int], second: int, time_zone: str) -> None:
        """Look up the states of some schedules that are UNKNOWN, and write them into the record `hours`."""
        instant, _ = self._span(second)
        pauses = Pauses()
        for number in set(numbers):
            is_open, until = self._state_of(number, instant, time_zone)
            hours.arrays["until"][number] = until  # before the state, as other threads read both
            hours.arrays["state"][number] = OPEN if is_open else CLOSED
            pauses()

    def _state_of(self, number: int, instant: int, time_zone: str) -> tuple[bool, int]:
        """Return what a schedule's `at` returns, from its spans found lately if one of them holds the instant."""
        key = number, time_zone if self._schedules[number].personal else ""
        lately = self._lately.get(key, ())
        for begin, until, is_open in lately:
            if begin <= instant < until:
                return is_open, until
        is_open, until = self._schedules[number].at(instant, lambda zone: self.clock(zone or time_zone))
        if len(self._lately) >= SPANS_KEPT:
            self._lately.clear()
        self._lately[key] = ((instant, until, is_open), *lately[: SPANS_OF_ONE - 1])
        return is_open, until

    def roll(self, now: int, seconds: float = SLICE_S) -> bool:
        """Bring the horizon up to date by about `seconds` of work. Returns whether nothing is left to do.

        `now` is in seconds since 1970. One thread at a time calls this, every now and then.
        """
        if not any(self._ahead):
            return True
        today = now - now % _DAY_S
        soon = not self._horizon.begin <= now < self._horizon.end
        if not soon and today + HORIZON_S - _DAY_S <= self._horizon.end:
            return True
        if self._draft is None or not self._draft.begin <= now < self._draft.end:
            begin = max(today - _DAY_S, 0)
            self._draft = _Draft(begin, begin + (FIRST_HORIZON_S if soon else HORIZON_S), len(self._schedules))
        draft, stop = self._draft, perf_counter() + seconds
        while draft.number < len(self._schedules):
            if self._ahead[draft.number]:
                draft.add(self._schedules[draft.number].spans(draft.begin, draft.end, self.clock))
                if perf_counter() >= stop:
                    return False
            else:
                draft.number += 1
        self._horizon, self._draft = draft.finished(), None
        return not soon

    def _find_clock(self, time_zone: str) -> ZoneClock:
        """Find the clock of a time zone: the snapshot's, if it has one."""
        number = self._zones.get(time_zone or self._default_zone)
        if number is None:
            return zone_clock(time_zone or self._default_zone)
        arrays = self._columns.arrays
        span = slice(*arrays["zone_first"][number : number + 2].tolist())
        return ZoneClock(tuple(arrays["zone_start"][span].tolist()), tuple(arrays["zone_offset"][span].tolist()))

    def _work_out(self, instant: int, time_zone: str) -> Record:
        """Compute the states at an instant."""
        clock = self.clock(time_zone)
        hours = Record(
            HoursArray,
            {
                "state": np.empty(len(self._schedules), np.uint8),
                "until": np.empty(len(self._schedules), np.int64),
            },
        )
        starts, offsets = np.array(clock.starts, np.int64), np.array(clock.offsets, np.int32)
        ahead, begin, end = self._horizon
        work_out(self._columns.table, ahead.table, begin, end, hours.table, instant, starts, offsets)
        return hours

    def _span(self, second: int) -> tuple[int, int]:
        """Return the span around an instant in which no schedule changes: its first second, and the one after its last.

        That is a minute, or less if a closing margin is not of whole minutes.
        """
        minute = second - second % 60
        if minute < LAST_ODD_SECOND:
            return second, second + 1
        index = bisect_right(self._turns, second - minute)
        return minute + self._turns[index - 1], minute + (self._turns[index] if index < len(self._turns) else 60)
