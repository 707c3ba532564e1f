"""Opening hours: which rules repeat weekly, when something is open, and what a wall clock reads in a time zone.

The grammar (see grammar.py) and the holidays of most countries are opening-hours-py's; it only ever sees wall-clock
times. Turning those into instants is ours, by one rule: an instant is open when the wall clock of the place reads an
open time. So an hour that a clock change skips is never open, and an hour that it repeats is open both times. When the
sun rises and sets is ours, too (see sun.py), and so are the dates of regional holidays (see public_holidays.py).
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from heapq import merge
from zoneinfo import ZoneInfo

import opening_hours
from opening_hours import OpeningHours

from offers.catalogue.hours.public_holidays import are_known, dated, in_library
from offers.catalogue.hours.sun import Sunlit, names_sun, take_apart

FIRST_SECOND = 0
"""1970-01-01T00:00:00Z: the first instant a catalogue or a request may name, in seconds."""
LAST_SECOND = 4_102_444_800
"""2100-01-01T00:00:00Z: the first instant that neither may name."""
NEVER = 2**32 - 1
"""Stands for "no end" wherever instants are kept as unsigned 32-bit seconds (2106-02-07)."""
WEEK_MINUTES = 7 * 24 * 60

HORIZON_DAYS = 400
"""How far a change is looked for: hours that stay as they are for longer count as never changing. Without a limit the
library searches thousands of years, which takes seconds."""

_MONDAY = datetime(2024, 1, 1)  # noqa: DTZ001 - wall-clock time, on purpose without a zone
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_DAY = 86_400
SAMPLE_S = 6 * _DAY
"""The shortest-lived offset of the IANA database since 1970 held for 6.96 days."""
_SOME_DAYS_S = 4 * _DAY
"""Hours at a moment follow from the days around it, of which no more matter than these."""
_COMMENT = re.compile(r'"[^"]*"')
_CLOCK = re.compile(r"\d{1,2}:\d{2}|24/7")
_WORD = re.compile(r"[A-Za-z]+")
_WEEKLY_WORDS = frozenset({"Mo", "Tu", "We", "Th", "Fr", "Sa", "Su", "off", "closed", "open"})
Spans = list[tuple[int, int]]


@lru_cache(maxsize=65_536)
def parse(expression: str, country_code: str) -> OpeningHours:
    """Hours as the library reads them. Raises its errors for what it cannot read and for countries it does not know."""
    return OpeningHours(expression, country=country_code or None, max_interval_days=HORIZON_DAYS)


@lru_cache(maxsize=65_536)
def _take_apart(expression: str, country_code: str) -> Sunlit | None:
    return take_apart(expression, country_code, HORIZON_DAYS)


@lru_cache(maxsize=1_024)
def _with_dates(  # a year of dates takes some kilobytes
    expression: str,
    country_code: str,
    first_year: int,
    last_year: int,
    is_sunny: bool,  # noqa: FBT001
) -> OpeningHours | Sunlit:
    text = dated(expression, country_code, first_year, last_year)
    return (take_apart(text, "", HORIZON_DAYS) if is_sunny else None) or parse.__wrapped__(text, "")


@dataclass(frozen=True, slots=True, order=True)
class SchedulePart:
    """Opening hours by one clock: open when any of the expressions is."""

    expressions: tuple[str, ...]
    time_zone: str = ""
    """IANA name; "" for the time zone of the person who asks."""
    country_code: str = ""
    """Whose public holidays PH means, a country's or a region's; "" where no expression says PH."""
    position: tuple[float, ...] = ()
    """Latitude and longitude in degrees of where the sun rises and sets; () where no expression names it."""
    closing_margin: int = 0
    """Seconds: it counts as closed for so long before each of its closings."""

    def __post_init__(self) -> None:
        """Load what the holidays of regions take, so that no decision has to wait for it."""
        if self.country_code:
            are_known(self.country_code)

    def weekly(self) -> Spans | None:
        """The open spans of every week as minutes from Monday 00:00, merged, or None if weeks differ.

        Without the closing margin, which is of instants.
        """
        if not all(map(_repeats_weekly, self.expressions)):
            return None
        return list(_joined(merge(*map(_week_of, self.expressions))))

    def wall_clock(self, local: int, clock: "ZoneClock") -> tuple[bool, int]:
        """Whether it is open at a wall-clock time, and a time until which that stays so at least.

        Both times are seconds since 1970 as the wall clock reads them. While open, the second is the exact end;
        `NEVER` stands for no end. Without the closing margin.
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
        """Whether it is open at an instant, and an instant until which that stays so at least.

        Seconds since 1970 UTC. While open, the second is the exact end; `NEVER` stands for no end.
        """
        is_open, until = self._raw_at(second, clock)
        if not is_open or until == NEVER:
            return is_open, until
        return (True, until - self.closing_margin) if second < until - self.closing_margin else (False, until)

    def spans(self, begin: int, end: int, clock: "ZoneClock") -> Spans:
        """All open spans between two instants; the last one's end is exact, also where it lies beyond."""
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
        """As `at`, without the closing margin."""
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
        """Open spans between two wall-clock times, sorted by their begin; they may touch and overlap."""
        if len(self.expressions) == 1:
            return self._wall_spans_of(self.expressions[0], begin, end, clock)
        return merge(*(self._wall_spans_of(expression, begin, end, clock) for expression in self.expressions))

    def _wall_spans_of(self, expression: str, begin: int, end: int, clock: "ZoneClock") -> Iterator[tuple[int, int]]:
        hours = self._read(expression, begin, end)
        if isinstance(hours, Sunlit):
            yield from hours.open_spans(begin, end, self.position, lambda second: clock.at(second)[0])
            return
        first, last = _EPOCH + timedelta(seconds=begin), _EPOCH + timedelta(seconds=end)
        for start, until, state, _ in hours.intervals(first, last):
            if state == opening_hours.State.OPEN:
                yield _seconds(start), _seconds(until)

    def _read(self, expression: str, begin: int, end: int) -> OpeningHours | Sunlit:
        """What an expression says between two wall-clock times, at least."""
        country, is_sunny = self.country_code, bool(self.position and names_sun(expression))
        if country and not in_library(country):
            if "PH" in expression:
                years = _year(begin - _SOME_DAYS_S), _year(end + _SOME_DAYS_S)
                return _with_dates(expression, country, *years, is_sunny)
            country = ""
        return (_take_apart(expression, country) if is_sunny else None) or parse(expression, country)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something may be: open when every part is."""

    parts: tuple[SchedulePart, ...]

    @property
    def personal(self) -> bool:
        """Whether it depends on the time zone of the person who asks."""
        return any(not part.time_zone for part in self.parts)

    def weekly(self) -> list[tuple[str, int, Spans]] | None:
        """What repeats weekly, as parts that must all be open, or None if weeks differ.

        Each is a time zone ("" for the person's), a closing margin in seconds, and the open spans of a week without
        the margin in minutes from Monday 00:00, merged.
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
        """Whether it is open at an instant, and an instant until which that stays so at least.

        Seconds since 1970 UTC. While open, the second is the exact end; `NEVER` stands for no end. `clock_of` gives
        the clock of a time zone, for "" that of the person who asks.
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
        """All open spans that begin between two instants or before; the last one's end is exact, also beyond."""
        spans = [(begin, NEVER)]
        for part in self.parts:
            spans = intersection(spans, part.spans(begin, end, clock_of(part.time_zone)))
        return spans


def _year(second: int) -> int:
    return (_EPOCH + timedelta(seconds=second)).year


def _seconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return since.days * _DAY + since.seconds


def _repeats_weekly(expression: str) -> bool:
    bare = _CLOCK.sub("", _COMMENT.sub("", expression))
    return _WEEKLY_WORDS.issuperset(_WORD.findall(bare)) and not re.search(r"\d|\[", bare)


@lru_cache(maxsize=65_536)
def _week_of(expression: str) -> tuple[tuple[int, int], ...]:
    """Open spans of one week, in minutes from Monday 00:00."""
    spans: Spans = []
    hours = parse(expression, "")
    for start, end, state, _ in hours.intervals(_MONDAY, _MONDAY + timedelta(days=7)):
        if state == opening_hours.State.OPEN:
            first, last = ((moment - _MONDAY) // timedelta(minutes=1) for moment in (start, end))
            spans.append((max(first, 0), min(last, WEEK_MINUTES)))
    return tuple(spans)


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Sorted spans, those that touch or overlap as one."""
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
    """What two sorted lists of spans have in common."""
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
    """What the clocks of a time zone read from 1970 to 2100."""

    starts: tuple[int, ...]
    """First second (UTC) of each span of equal offset; the first is before 1970."""
    offsets: tuple[int, ...]
    """Seconds to add to UTC in each span."""

    def at(self, second: int) -> tuple[int, int]:
        """The offset in seconds at an instant, and the instant (UTC seconds) at which it changes next."""
        span = bisect_right(self.starts, second) - 1
        end = self.starts[span + 1] if span + 1 < len(self.starts) else NEVER
        return self.offsets[span], end


ClockOf = Callable[[str], ZoneClock]


@cache
def zone_clock(time_zone: str) -> ZoneClock:
    """The clock of an IANA time zone.

    Sampled every SAMPLE_S, and each change then found to the second: no offset since 1970 lasted less than that.
    Raises zoneinfo.ZoneInfoNotFoundError or ValueError for a name that is not one.
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
