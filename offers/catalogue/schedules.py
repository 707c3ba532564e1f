"""Opening hours: what the grammar refuses, which rules repeat weekly, and what a wall clock reads in a time zone.

The grammar and the holidays are opening-hours-py's; it only ever sees wall-clock times. Turning those into instants is
ours, by one rule: an instant is open when the wall clock of the place reads an open time. So an hour that a clock
change skips is never open, and an hour that it repeats is open both times.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

import opening_hours
from opening_hours import OpeningHours

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
    "sunrise": "sun-based times are not supported: write clock times such as 07:30",
    "sunset": "sun-based times are not supported: write clock times such as 19:30",
    "dawn": "sun-based times are not supported: write clock times such as 07:00",
    "dusk": "sun-based times are not supported: write clock times such as 20:00",
    "sh": "school holidays are not known: write their dates, such as 'Jul 05-Aug 31'",
    "unknown": "an offer is shown or it is not: write the open times, or 'off'",
}


def refusal(expression: str, country_code: str) -> tuple[str, str] | None:
    """Why opening hours cannot be used and what to write instead, or None.

    `country_code` is the ISO 3166-1 country whose public holidays `PH` means, or "".
    """
    if not expression.strip():
        return "the hours are empty", "leave the field out for no limit, or write hours such as 'Mo-Fr 11:30-14:30'"
    bare = _COMMENT.sub(lambda comment: " " * len(comment.group()), expression)
    words = set(_WORD.findall(bare))
    for found in _WORD.finditer(bare):
        if fix := _REFUSED_WORDS.get(found.group().lower()):
            return f"'{found.group()}' at position {found.start() + 1} cannot be used", fix
    try:
        _parse(expression, "")
    except opening_hours.ParserError as error:  # type: ignore[attr-defined] # its stubs lack it
        return _syntax(expression, str(error))
    if left_open := re.search(r"\d\+", bare):
        position = left_open.end()
        return f"the end left open at position {position} cannot be used", "write the end, such as 18:00-24:00"
    if "PH" in words:
        if not country_code:
            return "PH (public holidays) needs a country", "set country_code on the catalogue, the venue or the hours"
        try:
            _parse(expression, country_code)
        except opening_hours.UnknownCountryError:  # type: ignore[attr-defined]
            return (
                f"no public holidays are known for country '{country_code}'",
                "leave PH out, or correct the country_code",
            )
    return None


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


@dataclass(frozen=True, slots=True, order=True)
class Schedule:
    """Opening hours in a place: open when every expression is."""

    expressions: tuple[str, ...]
    time_zone: str
    """IANA name; "" for the time zone of the person who asks."""
    country_code: str
    """Whose public holidays PH means; "" where no expression says PH."""

    def weekly(self) -> list[tuple[int, int]] | None:
        """The open spans of every week as minutes from Monday 00:00, merged, or None if weeks differ."""
        if not all(_repeats_weekly(expression) for expression in self.expressions):
            return None
        spans = [(0, WEEK_MINUTES)]
        for expression in self.expressions:
            spans = list(_intersection(spans, _week_of(expression)))
        return spans

    def wall_clock(self, local: int) -> tuple[bool, int]:
        """Whether it is open at a wall-clock time, and a time until which that stays so at least.

        Both times are seconds since 1970 as the wall clock reads them. While open, the second is the exact end;
        `NEVER` stands for no end.
        """
        moment = _EPOCH + timedelta(seconds=local)
        until_open = NEVER
        until_closed: int | None = None
        for expression in self.expressions:
            is_open, until = _until_change(_parse(expression, self.country_code), moment)
            if is_open:
                until_open = min(until_open, until)
            else:
                until_closed = until if until_closed is None else max(until_closed, until)
        return (True, until_open) if until_closed is None else (False, until_closed)

    def at(self, second: int, clock: "ZoneClock") -> tuple[bool, int]:
        """Whether it is open at an instant, and an instant until which that stays so at least.

        Seconds since 1970 UTC. While open, the second is the exact end; `NEVER` stands for no end.
        """
        is_open, at = None, second
        while True:
            offset, segment_end = clock.at(at)
            now_open, until = self.wall_clock(at + offset)
            if is_open is not None and now_open != is_open:
                return is_open, at
            is_open = now_open
            if until == NEVER:
                return is_open, NEVER
            if until - offset < segment_end or segment_end >= LAST_SECOND:
                return is_open, min(until - offset, NEVER)
            at = segment_end


def _until_change(hours: OpeningHours, moment: datetime) -> tuple[bool, int]:
    """Whether hours are open at a wall-clock time, and the wall-clock second from which that is no longer so."""
    is_open: bool | None = None
    for start, _, state, _ in hours.intervals(moment, moment + timedelta(days=HORIZON_DAYS)):
        if is_open is None:
            is_open = state == opening_hours.State.OPEN
        elif is_open != (state == opening_hours.State.OPEN):  # spans may differ in their comment alone
            return is_open, int((start - _EPOCH).total_seconds())
    return bool(is_open), NEVER


def _repeats_weekly(expression: str) -> bool:
    bare = _CLOCK.sub("", _COMMENT.sub("", expression))
    return _WEEKLY_WORDS.issuperset(_WORD.findall(bare)) and not re.search(r"\d|\[", bare)


@lru_cache(maxsize=65_536)
def _week_of(expression: str) -> tuple[tuple[int, int], ...]:
    """Open spans of one week, in minutes from Monday 00:00; touching spans are merged."""
    spans: list[tuple[int, int]] = []
    hours = _parse(expression, "")
    for start, end, state, _ in hours.intervals(_MONDAY, _MONDAY + timedelta(days=7)):
        if state != opening_hours.State.OPEN:
            continue
        first = max(0, int((start - _MONDAY).total_seconds()) // 60)
        last = WEEK_MINUTES if end is None else min(WEEK_MINUTES, int((end - _MONDAY).total_seconds()) // 60)
        if spans and spans[-1][1] == first:
            spans[-1] = (spans[-1][0], last)
        elif first < last:
            spans.append((first, last))
    return tuple(spans)


def _intersection(ours: list[tuple[int, int]], theirs: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    for start, end in ours:
        for other_start, other_end in theirs:
            if max(start, other_start) < min(end, other_end):
                yield max(start, other_start), min(end, other_end)


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
