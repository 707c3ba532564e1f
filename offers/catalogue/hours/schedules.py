"""Schedules of opening hours, and the clocks of time zones.

Hours are read in rules.py, by wall-clock times only. This module converts them to instants by one rule: an instant is
open if the wall clock of the place reads an open time. An hour that a clock change skips is therefore never open, and
an hour that it repeats is open both times.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from heapq import merge
from zoneinfo import ZoneInfo

from offers.catalogue.hours.public_holidays import load
from offers.catalogue.hours.rules import hours_of

FIRST_SECOND = 0
"""1970-01-01T00:00:00Z, the first instant that a catalogue or a request may name, in seconds."""
LAST_SECOND = 4_102_444_800
"""2100-01-01T00:00:00Z, the first instant after those, in seconds."""
NEVER = 2**32 - 1
"""No end: the largest instant in unsigned 32-bit seconds (2106-02-07)."""
WEEK_MINUTES = 7 * 24 * 60

HORIZON_DAYS = 400
"""Days ahead in which the next change is searched. Hours that do not change for longer count as never changing."""

_DAY = 86_400
SAMPLE_S = 6 * _DAY
"""Sampling interval of a zone's offsets: the shortest-lived offset of the IANA database since 1970 held for 6.96
days."""
Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, order=True)
class SchedulePart:
    """Opening hours by one clock: open if any of the expressions is open."""

    expressions: tuple[str, ...]
    time_zone: str = ""
    """IANA name; "": the time zone of the person."""
    country_code: str = ""
    """The country or region whose public holidays PH means; "" if no expression says PH."""
    position: tuple[float, ...] = ()
    """Latitude and longitude, in degrees, for the times of the sun; () if no expression names the sun."""
    closing_margin: int = 0
    """Seconds before each closing during which it already counts as closed."""

    def __post_init__(self) -> None:
        """Load the holidays now, so that no decision waits for them."""
        if self.country_code and any("PH" in expression for expression in self.expressions):
            load(self.country_code)

    def weekly(self) -> Spans | None:
        """Return the merged open spans of every week in minutes from Monday 00:00, or None if weeks differ.

        The closing margin, which applies to instants, is not subtracted.
        """
        if not all(hours_of(expression).repeats_weekly for expression in self.expressions):
            return None
        return list(_joined(merge(*map(_week_of, self.expressions))))

    def wall_clock(self, local: int, clock: "ZoneClock") -> tuple[bool, int]:
        """Return whether it is open at a wall-clock time, and a time until which that does not change.

        Both times are seconds since 1970 as the wall clock reads them. If open, the returned time is the exact end;
        NEVER stands for no end. The closing margin is not subtracted.
        """
        limit = local + HORIZON_DAYS * _DAY
        spans = self._wall_spans(local, limit, clock)
        start, reach = next(spans, (NEVER, NEVER))
        if start > local:
            return False, start
        for start, end in spans:
            if start > reach:
                break
            reach = max(reach, end)
        return True, reach if reach < limit else NEVER

    def at(self, second: int, clock: "ZoneClock") -> tuple[bool, int]:
        """Return whether it is open at an instant, and an instant until which that does not change.

        Both are seconds since 1970 UTC. If open, the returned instant is the exact end; NEVER stands for no end.
        """
        is_open, until = self._raw_at(second, clock)
        if not is_open or until == NEVER:
            return is_open, until
        return (True, until - self.closing_margin) if second < until - self.closing_margin else (False, until)

    def spans(self, begin: int, end: int, clock: "ZoneClock") -> Spans:
        """Return all open spans between two instants; the end of the last span is exact, even if it is later."""
        found: Spans = []
        at = begin
        while at < end:
            offset, change = clock.at(at)
            stop = min(change, end)
            local = self._wall_spans(at + offset, stop + offset, clock)
            found += [(start - offset, until - offset) for start, until in local]
            at = stop
        found = list(_joined(found))
        if found and found[-1][1] == end:
            found[-1] = (found[-1][0], self._raw_at(end - 1, clock)[1])
        margin = self.closing_margin
        return [(start, until - margin * (until != NEVER)) for start, until in found if start < until - margin]

    def _raw_at(self, second: int, clock: "ZoneClock") -> tuple[bool, int]:
        """Return what `at` returns, without the closing margin."""
        is_open, at = None, second
        while True:
            offset, change = clock.at(at)
            now_open, until = self.wall_clock(at + offset, clock)
            if is_open is not None and now_open != is_open:
                return is_open, at
            is_open = now_open
            if until == NEVER:
                return is_open, NEVER
            if until - offset < change or change >= LAST_SECOND:
                return is_open, min(until - offset, NEVER)
            at = change

    def _wall_spans(self, begin: int, end: int, clock: "ZoneClock") -> Iterator[tuple[int, int]]:
        """Return open spans between two wall-clock times, sorted by begin; they may touch and overlap."""
        if len(self.expressions) == 1:
            return self._wall_spans_of(self.expressions[0], begin, end, clock)
        return merge(*(self._wall_spans_of(expression, begin, end, clock) for expression in self.expressions))

    def _wall_spans_of(self, expression: str, begin: int, end: int, clock: "ZoneClock") -> Iterator[tuple[int, int]]:
        hours = hours_of(expression)
        return hours.open_spans(begin, end, self.country_code, self.position, lambda second: clock.at(second)[0])


@dataclass(frozen=True, slots=True)
class Schedule:
    """A combination of opening hours: open if every part is open."""

    parts: tuple[SchedulePart, ...]

    @property
    def personal(self) -> bool:
        """Whether it depends on the time zone of the person."""
        return any(not part.time_zone for part in self.parts)

    def weekly(self) -> list[tuple[str, int, Spans]] | None:
        """Return the parts that must all be open, or None if weeks differ.

        Each part is a time zone ("": the person's), a closing margin in seconds, and the merged open spans of a week in
        minutes from Monday 00:00, from which the margin is not subtracted.
        """
        merged: dict[str, Spans] = {}
        with_margin: list[tuple[str, int, Spans]] = []
        for part in self.parts:
            week = part.weekly()
            if week is None:
                return None
            if part.closing_margin:
                with_margin.append((part.time_zone, part.closing_margin, week))
            else:
                merged[part.time_zone] = intersection(merged.get(part.time_zone, [(0, WEEK_MINUTES)]), week)
        return [(zone, 0, week) for zone, week in merged.items()] + with_margin

    def at(self, second: int, clock_of: "ClockOf") -> tuple[bool, int]:
        """Return whether it is open at an instant, and an instant until which that does not change.

        Both are seconds since 1970 UTC. If open, the returned instant is the exact end; NEVER stands for no end.
        `clock_of` returns the clock of a time zone, and the person's clock for "".
        """
        until_open, until_closed = NEVER, -1
        for part in self.parts:
            is_open, until = part.at(second, clock_of(part.time_zone))
            if is_open:
                until_open = min(until_open, until)
            else:
                until_closed = max(until_closed, until)
        return (True, until_open) if until_closed < 0 else (False, until_closed)

    def spans(self, begin: int, end: int, clock_of: "ClockOf") -> Spans:
        """Return all open spans between two instants; the end of the last span is exact, even if it is later."""
        spans = [(begin, NEVER)]
        for part in self.parts:
            spans = intersection(spans, part.spans(begin, end, clock_of(part.time_zone)))
        return spans


@lru_cache(maxsize=65_536)
def _week_of(expression: str) -> tuple[tuple[int, int], ...]:
    """Return the open spans of a week in minutes from Monday 00:00."""
    return tuple(hours_of(expression).week())


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Merge sorted spans that touch or overlap."""
    begin, reach = 0, -1
    for start, end in spans:
        if reach < 0:
            begin, reach = start, end
        elif start <= reach:
            reach = max(reach, end)
        else:
            yield begin, reach
            begin, reach = start, end
    if reach >= 0:
        yield begin, reach


def intersection(ours: Spans, theirs: Spans) -> Spans:
    """Return the intersection of two sorted lists of spans."""
    common: Spans = []
    one = other = 0
    while one < len(ours) and other < len(theirs):
        start, end = max(ours[one][0], theirs[other][0]), min(ours[one][1], theirs[other][1])
        if start < end:
            common.append((start, end))
        if ours[one][1] == end:
            one += 1
        else:
            other += 1
    return common


@dataclass(frozen=True, slots=True)
class ZoneClock:
    """The offsets of a time zone from 1970 to 2100."""

    starts: tuple[int, ...]
    """The first second, UTC, of each period of constant offset; the first period begins before 1970."""
    offsets: tuple[int, ...]
    """Seconds to add to UTC in each period."""

    def at(self, second: int) -> tuple[int, int]:
        """Return the offset in seconds at an instant, and the instant (UTC seconds) at which it next changes."""
        span = bisect_right(self.starts, second) - 1
        end = self.starts[span + 1] if span + 1 < len(self.starts) else NEVER
        return self.offsets[span], end


ClockOf = Callable[[str], ZoneClock]


@cache
def zone_clock(time_zone: str) -> ZoneClock:
    """Return the clock of an IANA time zone.

    Offsets are sampled every SAMPLE_S, and each change is then located to the second by bisection.
    Raises zoneinfo.ZoneInfoNotFoundError or ValueError for an unknown name.
    """
    zone = ZoneInfo(time_zone)

    def offset_at(second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, zone).utcoffset()

    starts, offsets = [FIRST_SECOND - SAMPLE_S], [offset_at(FIRST_SECOND - SAMPLE_S)]
    for second in range(FIRST_SECOND, LAST_SECOND + 8 * _DAY, SAMPLE_S):
        offset = offset_at(second)
        if offset != offsets[-1]:
            low, high = second - SAMPLE_S, second
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset_at(middle) == offsets[-1] else (low, middle)
            starts.append(high)
            offsets.append(offset)
    return ZoneClock(tuple(starts), tuple(round(offset.total_seconds()) if offset else 0 for offset in offsets))
