"""Rules of opening hours: their days, their spans, and which of them is in force.

The opening-hours library parses hours and prints them in its normal form, from which rules are read here. They are
applied to days: a span belongs to the day on which it begins, so that a night lasts past midnight whatever is said of
the next day.

- A rule after ';' replaces the rules before it on its days; after ',' it adds to them; after '||' too, as it holds
  where they are closed.
- 'off' without times: no span begins on these days. 'off' with times: closed at these times, also where a span began
  the day before.
- A rule that is only a comment ("by appointment") is not open.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import heappop, heappush
from typing import NamedTuple

from opening_hours import OpeningHours

from offers.catalogue.hours.days import EPOCH_WEEKDAY, Selector, days_of, selector_of
from offers.catalogue.hours.sun import EVENTS, Clock, minute_of

DAY_S = 86_400
WEEK_DAYS = 7
_DAY_MINUTES = 1_440
_NOON = 720
_EARLY = 180
"""Minute of the day before which a span that begins in the morning ends at night: `sunrise-02:00` ends on the next day,
`sunrise-06:00` on the same morning."""
_REACH = 2
"""Days that a span can last beyond the day on which it begins: times go up to 48:00."""
_SHIFT = 2
"""Days by which spans of the sun can begin and end beside their day: offsets go up to a day, and the sun may set after
midnight."""

_EVENT = "|".join(EVENTS)
_TIME = rf"(?:\d{{1,2}}:\d{{2}}|(?:{_EVENT})|\((?:{_EVENT})[+-]\d{{1,2}}:\d{{2}}\))"
_SPAN = re.compile(rf"({_TIME})-({_TIME})")
_SPANS = re.compile(rf"(?:^| )({_SPAN.pattern}(?:,{_SPAN.pattern})*)$")
_EVENTS = re.compile(_EVENT)
_RULES = re.compile(r"(; |, | \|\| )")
_DAYS_AFTER = re.compile(r"\bPH (?=\d+ days)")
"""The library's own output for `PH +1 day`, which it cannot parse."""
COMMENT_BESIDE = re.compile(rf'(?:(\b(?:open|off|closed|24/7|{_EVENT})|:\d\d|\)) *)?"[^"]*"', re.IGNORECASE)
"""A comment, and the word or time before it that it only explains."""
_NOTE = '"-"'
"""A comment without times, in the normal form."""


class Moment(NamedTuple):
    """The begin or end of a span."""

    event: str
    """"" for a time of day."""
    minute: int
    """Minute of the day or, with an event, minutes after the event."""

    @property
    def is_evening(self) -> bool:
        """Whether it is in the second half of the day."""
        return self.event in EVENTS[2:] if self.event else self.minute >= _NOON

    def second(self, day: int, place: tuple[float, ...], clock: Clock) -> int:
        """Return the wall-clock time, in seconds since 1970, of the moment on a day."""
        minute = minute_of(self.event, day, place, clock) if self.event else 0
        return day * DAY_S + 60 * (minute + self.minute)


class Span(NamedTuple):
    """A span of times of a rule."""

    begin: Moment
    end: Moment
    is_overnight: bool
    """Whether the end is on the day after the begin; times of 24:00 and later need no such mark."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of hours."""

    join: str
    """";", "," or "||": how it goes with the rules before it."""
    days: Selector
    spans: tuple[Span, ...]
    """No spans: the whole day."""
    is_open: bool
    """False: 'off'."""
    is_note: bool = False
    """Whether it is only a comment."""

    @property
    def has_sun(self) -> bool:
        """Whether a span begins or ends with an event of the sun."""
        return any(span.begin.event or span.end.event for span in self.spans)

    def on(self, day: int, place: tuple[float, ...], clock: Clock) -> Iterator[tuple[int, int]]:
        """Yield the spans that begin on a day, in wall-clock seconds since 1970."""
        if not self.spans:
            yield day * DAY_S, (day + 1) * DAY_S
        for begin, end, is_overnight in self.spans:
            start, stop = begin.second(day, place, clock), end.second(day + is_overnight, place, clock)
            if start < stop:
                yield start, stop


class DayPlan(NamedTuple):
    """The rules in force on some days. Days are bits: see days.py."""

    open: list[tuple[int, Rule]]
    cuts: list[tuple[int, int, Rule]]
    """Times that are off: the number of rules of `open` from which they are taken away, the days, and the rule."""

    def close(self, days: int) -> None:
        """Let no span begin on some days."""
        self.open[:] = [(held & ~days, rule) for held, rule in self.open]

    def replace(self, days: int) -> None:
        """Put all rules out of force on some days."""
        self.close(days)
        self.cuts[:] = [(length, held & ~days, rule) for length, held, rule in self.cuts]


@dataclass(frozen=True)
class Hours:
    """Hours as rules."""

    rules: tuple[Rule, ...]

    @cached_property
    def has_sun(self) -> bool:
        """Whether a rule names the sun."""
        return any(rule.has_sun for rule in self.rules)

    @cached_property
    def repeats_weekly(self) -> bool:
        """Whether all weeks are alike."""
        return not self.has_sun and all(rule.days.repeats_weekly for rule in self.rules)

    def week(self) -> list[tuple[int, int]]:
        """Return the open spans of a week in minutes from Monday 00:00, sorted by begin. All weeks must be alike."""
        monday = WEEK_DAYS - EPOCH_WEEKDAY
        begin, end = monday * DAY_S, (monday + WEEK_DAYS) * DAY_S
        spans = self.open_spans(begin, end, "", (), lambda _: 0)
        return [((start - begin) // 60, (stop - begin) // 60) for start, stop in spans]

    def open_spans(
        self, begin: int, end: int, country_code: str, place: tuple[float, ...], clock: Clock
    ) -> Iterator[tuple[int, int]]:
        """Yield open spans between two wall-clock times (seconds since 1970), sorted by begin; they may overlap.

        `place` is a latitude and a longitude in degrees, for hours that name the sun.
        """
        shift = _SHIFT if self.has_sun else 0
        first, last = begin // DAY_S - _REACH - shift, (end - 1) // DAY_S + shift
        plan = self.plan(country_code, first - _REACH, last - first + 1 + 2 * _REACH)
        held = whole = 0
        for days, rule in plan.open:
            if rule.spans or plan.cuts:
                held |= days
            else:
                whole |= days
        waiting: list[tuple[int, int]] = []
        while held or whole:
            bit = (held | whole) & -(held | whole)
            day = first - _REACH + bit.bit_length() - 1
            while waiting and waiting[0][0] < (day - shift) * DAY_S:  # no later span begins before these
                yield heappop(waiting)
            found: list[tuple[int, int]] = []
            if whole & bit:
                days = _run(whole, bit)
                whole ^= days
                found.append((day * DAY_S, (day + days.bit_count()) * DAY_S))
            if held & bit:
                held ^= bit
                found += self._of_day(plan, bit, day, place, clock)
            for start, stop in found:
                if start < end and stop > begin:
                    heappush(waiting, (max(start, begin), min(stop, end)))
        while waiting:
            yield heappop(waiting)

    def plan(self, country_code: str, first: int, count: int) -> DayPlan:
        """Return the rules in force among `count` days from `first`, in days since 1970, on."""
        plan, noted = DayPlan([], []), 0
        for rule in self.rules:
            days = days_of(rule.days, country_code, first, count)
            if rule.join == "||" and not rule.is_note:
                days &= ~noted  # a comment is an answer, too
            if rule.join == ";" and (rule.is_open or rule.is_note):
                plan.replace(days)
                noted &= ~days
            if rule.is_note:
                noted |= days
            elif rule.is_open:
                plan.open.append((days, rule))
            elif rule.spans and rule.join != "||":
                plan.cuts.append((len(plan.open), days, rule))
            elif rule.join != "||":
                plan.close(days)
        return plan

    def _of_day(
        self, plan: DayPlan, bit: int, day: int, place: tuple[float, ...], clock: Clock
    ) -> Iterator[tuple[int, int]]:
        """Yield the spans that begin on a day, without the times that are off; whole days only if there are any."""
        for number, (days, rule) in enumerate(plan.open):
            if not days & bit or not (rule.spans or plan.cuts):
                continue
            for span in rule.on(day, place, clock):
                left = [span]
                for length, cut_days, cut in plan.cuts:
                    if number < length:
                        for away in range(-_REACH, _REACH + 1):
                            if cut_days & (bit << away if away >= 0 else bit >> -away):
                                for times in cut.on(day + away, place, clock):
                                    left = [part for one in left for part in _without(one, times)]
                yield from left


def _run(days: int, first: int) -> int:
    """Return consecutive days as bits, from the first one on."""
    later = days + first  # carries through the run
    return days & ~later


def _without(span: tuple[int, int], times: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a span outside of some times."""
    start, stop = span
    if start < min(stop, times[0]):
        yield start, min(stop, times[0])
    if max(start, times[1]) < stop:
        yield max(start, times[1]), stop


@lru_cache(maxsize=65_536)
def hours_of(expression: str) -> Hours:
    """Parse hours. Raises the library's ParserError, and ValueError for a rule that cannot be used."""
    parts = _RULES.split(normal_form(expression))
    return Hours(tuple(_rule(parts[number], (parts[number - 1] if number else ";").strip())
                       for number in range(0, len(parts), 2)))  # fmt: skip


def normal_form(expression: str) -> str:
    """Return hours as the library prints them, without comments; _NOTE stands for a comment without times.

    Raises the library's ParserError for hours it cannot parse.
    """
    # The library prints `00:00-24:00 "x"`, `open "x"` and `"x"` alike.
    bare = COMMENT_BESIDE.sub(lambda comment: comment.group(1) or _NOTE, expression)
    return _DAYS_AFTER.sub("PH +", str(OpeningHours(bare)))


@lru_cache(maxsize=65_536)
def _rule(text: str, join: str) -> Rule:
    """Parse a rule in the normal form. Many hours share their rules."""
    is_note = text.endswith(_NOTE)
    text = text.removesuffix(_NOTE).rstrip()
    is_open = not (is_note or text == "closed" or text.endswith(" closed"))
    text = text.removesuffix("closed").rstrip()
    found = _SPANS.search(text)
    spans = tuple(_span(*span.groups()) for span in _SPAN.finditer(found.group(1))) if found else ()
    days = text[: found.start()] if found else text.removesuffix("24/7").rstrip()
    if re.search(r"\d:\d", days):
        message = f"the times of '{text}' cannot be used"
        raise ValueError(message)
    return Rule(join, selector_of(days), spans, is_open, is_note)


def _span(begin: str, end: str) -> Span:
    """Parse the begin and the end of a span, and decide whether it ends on the day after its begin."""
    begins, ends = _moment(begin), _moment(end)
    if begins.event and ends.event:
        order = EVENTS.index(ends.event) - EVENTS.index(begins.event)
        is_overnight = order < 0 or (order == 0 and ends.minute <= begins.minute)
    elif begins.event:
        is_overnight = ends.minute < (_NOON if begins.is_evening else _EARLY)
    elif ends.event:
        is_overnight = begins.is_evening and not ends.is_evening
    else:
        is_overnight = ends.minute <= begins.minute
    return Span(begins, ends, is_overnight)


def _moment(text: str) -> Moment:
    """Parse a time of day, an event, or an event with an offset such as (sunrise+00:30)."""
    event = _EVENTS.search(text)
    sign = -1 if event and "-" in text else 1
    hours, _, minutes = text.strip("(+-)").removeprefix(event.group() if event else "").strip("+-").partition(":")
    return Moment(event.group() if event else "", sign * (60 * int(hours or 0) + int(minutes or 0)))
