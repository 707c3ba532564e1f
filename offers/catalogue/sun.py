"""Hours that name the sun: when it rises and sets at a place, and which spans a rule with `sunset` stands for.

The opening-hours library reads them only roughly: it takes the sun of another day where a clock is far from its
meridian, polar night for polar day in the south, and `17:00-sunset` for nearly a whole day once the sun sets before
17:00. So it is only asked on which days a rule holds; where the spans of those days begin and end is found here.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from heapq import heappop, heappush

import opening_hours
from opening_hours import OpeningHours

EVENTS = ("dawn", "sunrise", "sunset", "dusk")
"""In the order of the day. Dawn and dusk are those of civil twilight: the sun is 6 degrees below the horizon."""
MOST_SPANS = 500
"""Spans of time in hours that name the sun."""

_ALTITUDES = {"dawn": -6.0, "sunrise": -0.833, "sunset": -0.833, "dusk": -6.0}
"""Degrees; 0.833 are half of the sun's disc and what the air bends its light."""
_DAY_MINUTES = 1_440
_DAY_S = 86_400
_NOON = 720
_EARLY = 180
"""`sunrise-02:00` ends at night, `sunrise-06:00` on the morning it begins."""
_J2000_S = 946_728_000
"""2000-01-01T12:00:00Z, from which astronomers count."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock time, on purpose without a zone
_COMMENT = re.compile(r'"[^"]*"')
_TIME = r"(?:\d{1,2}:\d{2}|(?:dawn|sunrise|sunset|dusk)|\((?:dawn|sunrise|sunset|dusk)[+-]\d{1,2}:\d{2}\))"
_SPAN = re.compile(rf"({_TIME})-({_TIME})")
NAMED = re.compile(rf"\b(?:{'|'.join(EVENTS)})\b", re.IGNORECASE)
"""A word that names the sun."""

Clock = Callable[[int], int]
"""From an instant in seconds UTC to the seconds to add for what the wall clock reads."""


@dataclass(frozen=True, slots=True)
class Moment:
    """An end of a span."""

    event: str
    """"" for a time of day."""
    minute: int
    """Of the day; from the event."""

    @property
    def evening(self) -> bool:
        """Whether it is the end of the day rather than its beginning."""
        return self.event in EVENTS[2:] if self.event else self.minute >= _NOON


@dataclass(frozen=True, slots=True)
class Sunlit:
    """Hours that name the sun, taken apart."""

    days: OpeningHours
    """The same rules with the first minute of the day for the first span, the second for the second, and so on."""
    spans: tuple[tuple[Moment, Moment, bool], ...]
    """Begin, end, and whether the end is on the next day."""

    def open_spans(self, begin: int, end: int, place: tuple[float, ...], clock: Clock) -> Iterator[tuple[int, int]]:
        """Open spans between two times of the wall clock (seconds since 1970), sorted by their begin.

        `place` is a latitude and a longitude in degrees.
        """
        waiting: list[tuple[int, int]] = []
        first, last = (_EPOCH + timedelta(days=day) for day in (begin // _DAY_S - 2, end // _DAY_S + 2))
        for since, until, state, _ in self.days.intervals(first, last):
            if state != opening_hours.State.OPEN:
                continue
            day, low = since.toordinal() - _EPOCH.toordinal(), 60 * since.hour + since.minute
            while waiting and waiting[0][0] < (day - 1) * _DAY_S:  # none that is to come begins before these
                yield from _cut(heappop(waiting), begin, end)
            high = low + int((until - since).total_seconds()) // 60
            while high >= _DAY_MINUTES:  # days that are open as a whole
                heappush(waiting, (day * _DAY_S, (day + 1) * _DAY_S))
                day, low, high = day + 1, 0, high - _DAY_MINUTES
            for number in range(low, high):
                span = self._span(number, day, place, clock)
                if span is not None:
                    heappush(waiting, span)
        while waiting:
            yield from _cut(heappop(waiting), begin, end)

    def _span(self, number: int, day: int, place: tuple[float, ...], clock: Clock) -> tuple[int, int] | None:
        """When a span begins and ends that belongs to a day; None where it would end before it begins."""
        begins, ends, overnight = self.spans[number]
        start = _minute(begins, day, place, clock)
        stop = _minute(ends, day + overnight, place, clock) + overnight * _DAY_MINUTES
        return (day * _DAY_S + 60 * start, day * _DAY_S + 60 * stop) if start < stop else None


def _cut(span: tuple[int, int], begin: int, end: int) -> Iterator[tuple[int, int]]:
    if span[1] > begin and span[0] < end:
        yield max(span[0], begin), min(span[1], end)


def take_apart(expression: str, country_code: str, max_interval_days: int) -> Sunlit | None:
    """Hours that name the sun, or None if there is more in them than can be told apart.

    That is more than MOST_SPANS spans, and `off` for part of a day: what it takes away would depend on the order.
    The arguments are those of OpeningHours, and so are the errors.
    """
    text = _COMMENT.sub("", str(OpeningHours(expression)))
    found = list(_SPAN.finditer(text))
    if len(found) > MOST_SPANS or any("closed" in rule and _SPAN.search(rule) for rule in text.split(";")):
        return None
    parts: list[str] = []
    at = 0
    for number, span in enumerate(found):
        parts += text[at : span.start()], f"{_clock(number)}-{_clock(number + 1)}"
        at = span.end()
    days = OpeningHours("".join(parts) + text[at:], country=country_code or None, max_interval_days=max_interval_days)
    return Sunlit(days, tuple(_ends(_moment(span.group(1)), _moment(span.group(2))) for span in found))


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _moment(text: str) -> Moment:
    event = NAMED.search(text)
    sign = -1 if event and "-" in text else 1
    hours, _, minutes = text.strip("(+-)").removeprefix(event.group() if event else "").strip("+-").partition(":")
    return Moment(event.group() if event else "", sign * (60 * int(hours or 0) + int(minutes or 0)))


def _ends(begins: Moment, ends: Moment) -> tuple[Moment, Moment, bool]:
    """A span, and whether it ends on the day after that it begins on."""
    if begins.event and ends.event:
        order = EVENTS.index(ends.event) - EVENTS.index(begins.event)
        overnight = order < 0 or (order == 0 and ends.minute <= begins.minute)
    elif begins.event:
        overnight = ends.minute < (_NOON if begins.evening else _EARLY)
    elif ends.event:
        overnight = begins.evening and not ends.evening
    else:
        overnight = ends.minute <= begins.minute
    return begins, ends, overnight


def _minute(moment: Moment, day: int, place: tuple[float, ...], clock: Clock) -> int:
    """The minute by the wall clock, counted from the midnight that a day (since 1970) begins with."""
    if not moment.event:
        return moment.minute
    return _event(moment.event, day, place, clock) + moment.minute


def _event(event: str, day: int, place: tuple[float, ...], clock: Clock) -> int:
    """When the sun does something on a day: in the minute of the wall clock that is given, counted from midnight.

    The day is the one around the noon that the place's wall clock calls so. Where the sun does not rise, it rises and
    sets at noon; where it does not set, at the midnights before and after. To a minute or two, between the polar
    circles (U.S. Naval Observatory's approximation).
    """
    latitude, longitude = place
    middle = day * _DAY_S + _DAY_S // 2
    mean_noon = middle - 240 * longitude  # mean solar noon of that date by UTC
    mean_noon += _DAY_S * round((middle - (mean_noon + clock(round(mean_noon)))) / _DAY_S)
    noon, declination = _solar_noon(mean_noon)
    phi = math.radians(min(max(latitude, -89.999), 89.999))
    wanted = math.sin(math.radians(_ALTITUDES[event])) - math.sin(phi) * math.sin(declination)
    half_day = math.acos(min(max(wanted / (math.cos(phi) * math.cos(declination)), -1.0), 1.0)) / math.tau * _DAY_S
    instant = math.floor(noon + half_day if event in EVENTS[2:] else noon - half_day)
    return (instant + clock(instant) - day * _DAY_S) // 60


@lru_cache(maxsize=65_536)
def _solar_noon(mean_noon: float) -> tuple[float, float]:
    """The instant (seconds UTC) at which the sun is highest, near mean solar noon, and its declination in radians."""
    days = (mean_noon - _J2000_S) / _DAY_S
    anomaly = math.radians(357.5291 + 0.98560028 * days)
    centre = 1.9148 * math.sin(anomaly) + 0.02 * math.sin(2 * anomaly) + 0.0003 * math.sin(3 * anomaly)
    longitude = anomaly + math.radians(centre + 180 + 102.9372)
    noon = mean_noon + _DAY_S * (0.0053 * math.sin(anomaly) - 0.0069 * math.sin(2 * longitude))
    return noon, math.asin(math.sin(longitude) * math.sin(math.radians(23.4397)))
