"""Opening hours: what the grammar refuses, which rules repeat weekly, and what a wall clock reads in a time zone.

The grammar and the holidays are opening-hours-py's; it only ever sees wall-clock times. Turning those into instants is
ours, by one rule: an instant is open when the wall clock of the place reads an open time. So an hour that a clock
change skips is never open, and an hour that it repeats is open both times. The sun is ours, too (see sun.py).
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

from offers.catalogue.sun import NAMED, Sunlit, take_apart

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
_COMMENT = re.compile(r'"[^"]*"')
_CLOCK = re.compile(r"\d{1,2}:\d{2}|24/7")
_WORD = re.compile(r"[A-Za-z]+")
_WEEKLY_WORDS = frozenset({"Mo", "Tu", "We", "Th", "Fr", "Sa", "Su", "off", "closed", "open"})
_REFUSED_WORDS = {
    "sh": "school holidays are not known: write their dates, such as 'Jul 05-Aug 31'",
    "unknown": "an offer is shown or it is not: write the open times, or 'off'",
}
_REFUSED_FORMS = (
    (
        re.compile(r"(?:\d|\))\+|(?:sunrise|sunset|dawn|dusk)\+(?!\d)", re.IGNORECASE),
        "the end left open",
        "write the end, such as 18:00-24:00",
    ),
    (
        re.compile(r"\|\|"),
        "'||' (what holds otherwise)",
        "write what holds when, such as 'Mo-Fr 08:00-11:00; Sa 10:00-12:00'",
    ),
    (
        re.compile(r"(?<=:\d\d)/|(?<=[a-z)])/(?=\d)", re.IGNORECASE),
        "'/' (points in time)",
        "write spans, such as 10:00-10:30,11:30-12:00",
    ),
    (
        re.compile(r'(?:^|[;,])\s*"'),
        "a comment without times",
        "write the open times before it, or leave it out",
    ),
)
"""What the library reads, but not as the grammar says: at its end, what it is called and what to write instead."""
Spans = list[tuple[int, int]]


def refusal(expression: str, country_code: str, *, placed: bool = True) -> tuple[str, str] | None:
    """Why opening hours cannot be used and what to write instead, or None.

    `country_code` is the ISO 3166-1 country whose public holidays `PH` means, or ""; `placed` says whether the hours
    are those of a place, where the sun rises and sets.
    """
    if not expression.strip():
        return "the hours are empty", "leave the field out for no limit, or write hours such as 'Mo-Fr 11:30-14:30'"
    bare = _bare(expression)
    for found in _WORD.finditer(bare):
        if fix := _REFUSED_WORDS.get(found.group().lower()):
            return f"'{found.group()}' at position {found.start() + 1} cannot be used", fix
    try:
        _parse(expression, "")
    except opening_hours.ParserError as error:  # type: ignore[attr-defined] # its stubs lack it
        return _syntax(expression, str(error))
    for form, name, fix in _REFUSED_FORMS:
        if unusable := form.search(bare):
            return f"{name} at position {unusable.end()} cannot be used", fix
    if "PH" in _WORD.findall(bare):
        if not country_code:
            return "PH (public holidays) needs a country", "set country_code on the catalogue, the venue or the hours"
        try:
            _parse(expression, country_code)
        except opening_hours.UnknownCountryError:  # type: ignore[attr-defined]
            return (
                f"no public holidays are known for country '{country_code}'",
                "leave PH out, or correct the country_code",
            )
    return _sun_refusal(expression, bare, placed=placed)


def _sun_refusal(expression: str, bare: str, *, placed: bool) -> tuple[str, str] | None:
    found = NAMED.search(bare)
    if found is None:
        return None
    word, position = found.group(), found.start() + 1
    if not placed:
        reason = f"'{word}' at position {position} is of no place, as the offer is shown everywhere"
        return reason, "write times of day such as 07:30, or where the offer is shown"
    if take_apart(expression, "", HORIZON_DAYS) is None:
        reason = f"'{word}' at position {position} stands beside an 'off' for part of a day, or hundreds of spans"
        return reason, "write the times that are open; 'off' for whole days may stay"
    return None


def names_sun(expression: str) -> bool:
    """Whether hours depend on where they are: whether they say sunrise, sunset, dawn or dusk."""
    return NAMED.search(_bare(expression)) is not None


def names_holidays(expression: str) -> bool:
    """Whether hours depend on a country: whether they say PH."""
    return "PH" in expression and "PH" in _WORD.findall(_bare(expression))


def _bare(expression: str) -> str:
    """The same without the comments' words, every character in its position."""
    return _COMMENT.sub(lambda comment: '"' + " " * (len(comment.group()) - 2) + '"', expression)


def _syntax(expression: str, message: str) -> tuple[str, str]:
    """Turn the parser's message ("--> 1:7 ... = expected ...") into a reason with the position."""
    place = re.search(r"--> \d+:(\d+)", message)
    position = int(place.group(1)) if place else 1
    wanted = re.search(r"= expected (.*)", message)
    found = expression[position - 1 : position + 11] or "the end"
    hint = f" (expected {wanted.group(1).replace('_', ' ')})" if wanted else ""
    return (
        f"not in the opening_hours grammar at position {position}, near '{found}'{hint}",
        "write hours such as 'Mo-Fr 11:30-14:30; PH off'",
    )


@lru_cache(maxsize=65_536)
def _parse(expression: str, country_code: str) -> OpeningHours:
    return OpeningHours(expression, country=country_code or None, max_interval_days=HORIZON_DAYS)


@lru_cache(maxsize=65_536)
def _take_apart(expression: str, country_code: str) -> Sunlit | None:
    return take_apart(expression, country_code, HORIZON_DAYS)


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Opening hours by one clock: open when any of the expressions is."""

    expressions: tuple[str, ...]
    time_zone: str = ""
    """IANA name; "" for the time zone of the person who asks."""
    country_code: str = ""
    """Whose public holidays PH means; "" where no expression says PH."""
    position: tuple[float, ...] = ()
    """Latitude and longitude in degrees of where the sun rises and sets; () where no expression names it."""
    closing_margin: int = 0
    """Seconds: it counts as closed for so long before each of its closings."""

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
        sunlit = _take_apart(expression, self.country_code) if self.position and names_sun(expression) else None
        if sunlit is not None:
            yield from sunlit.open_spans(begin, end, self.position, lambda second: clock.at(second)[0])
            return
        hours = _parse(expression, self.country_code)
        first, last = _EPOCH + timedelta(seconds=begin), _EPOCH + timedelta(seconds=end)
        for start, until, state, _ in hours.intervals(first, last):
            if state == opening_hours.State.OPEN:
                yield _seconds(start), _seconds(until)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something may be: open when every part is."""

    parts: tuple[Part, ...]

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
    hours = _parse(expression, "")
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

    def offset_at(second: int) -> int:
        offset = datetime.fromtimestamp(second, zone).utcoffset()
        return round(offset.total_seconds()) if offset is not None else 0

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
    return ZoneClock(tuple(starts), tuple(offsets))
