"""Hours that name the sun: the times of sunrise and sunset at a place, and the spans of rules that use them.

The opening-hours library reads such hours only roughly. It uses the sun of another day where a clock is far from its
meridian, mistakes polar night for polar day in the south, and reads `17:00-sunset` as nearly a whole day once the sun
sets before 17:00. It is therefore used only to find the days on which a rule holds. The begin and end of the spans of
those days are computed here.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from heapq import heappop, heappush

import opening_hours
from opening_hours import OpeningHours

EVENTS = ("dawn", "sunrise", "sunset", "dusk")
"""Events in the order of the day. Dawn and dusk are those of civil twilight: the sun is 6 degrees below the horizon."""
MOST_SPANS = 500
"""Most spans of time in hours that name the sun."""

_ALTITUDES = {"dawn": -6.0, "sunrise": -0.833, "sunset": -0.833, "dusk": -6.0}
"""Altitude of the sun in degrees. 0.833 is half of the sun's disc plus the refraction of the air."""
_DAY_MINUTES = 1_440
_DAY_S = 86_400
_NOON = 720
_EARLY = 180
"""Minute of the day before which a span that begins in the morning ends at night: `sunrise-02:00` ends on the next day,
`sunrise-06:00` on the same morning."""
_J2000_S = 946_728_000
"""The astronomical epoch J2000, 2000-01-01T12:00:00Z."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock time, on purpose without a zone
COMMENT = re.compile(r'"[^"]*"')
_DAYS_AFTER = re.compile(r"\bPH (?=\d+ days)")
"""The library's own output for `PH +1 day`, which it cannot parse."""
_TIME = r"(?:\d{1,2}:\d{2}|(?:dawn|sunrise|sunset|dusk)|\((?:dawn|sunrise|sunset|dusk)[+-]\d{1,2}:\d{2}\))"
_SPAN = re.compile(rf"({_TIME})-({_TIME})")
_NAMED = re.compile(rf"\b(?:{'|'.join(EVENTS)})\b", re.IGNORECASE)

Clock = Callable[[int], int]
"""Returns the offset of the wall clock in seconds at an instant in seconds UTC."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The begin or end of a span."""

    event: str
    """"" for a time of day."""
    minute: int
    """Minute of the day or, with an event, minutes after the event."""

    @property
    def evening(self) -> bool:
        """Whether it is in the second half of the day."""
        return self.event in EVENTS[2:] if self.event else self.minute >= _NOON


@dataclass(frozen=True, slots=True)
class Sunlit:
    """Hours that name the sun, separated into days and spans."""

    days: OpeningHours
    """The same rules with minute n of the day in place of span n, so that the library tells on which days each span
    holds."""
    spans: tuple[tuple[Moment, Moment, bool], ...]
    """Begin, end, and whether the end is on the next day, of each span."""
    nights: Mapping[int, OpeningHours]
    """For each span that continues after midnight, hours that are open in the first minute of the days on which it
    still does so. It does not continue into a day that belongs to another rule."""

    def open_spans(self, begin: int, end: int, place: tuple[float, ...], clock: Clock) -> Iterator[tuple[int, int]]:
        """Yield open spans between two wall-clock times (seconds since 1970), sorted by begin.

        `place` is a latitude and a longitude in degrees.
        """
        first, last = begin // _DAY_S - 1, end // _DAY_S + 2
        held = self._held(first, last)
        waiting: list[tuple[int, int]] = []
        found, numbers = next(held, (last, range(0)))
        for day in range(first, last):
            for number, night in self.nights.items():
                if night.is_open(_EPOCH + timedelta(days=day)):
                    start, stop = self._span(number, day - 1, place, clock)
                    heappush(waiting, (max(start, day * _DAY_S), stop))
            while found == day:
                for number in numbers:
                    start, stop = self._span(number, day, place, clock)
                    heappush(waiting, (start, min(stop, (day + 1) * _DAY_S) if number in self.nights else stop))
                found, numbers = next(held, (last, range(0)))
            while waiting and waiting[0][0] < day * _DAY_S:  # no later span begins before these
                yield from _cut(heappop(waiting), begin, end)
        while waiting:
            yield from _cut(heappop(waiting), begin, end)

    def _held(self, first: int, last: int) -> Iterator[tuple[int, range]]:
        """Yield the numbers of the spans that hold on each day; the number after the last is that of the whole day."""
        for since, until, state, _ in self.days.intervals(*(_EPOCH + timedelta(days=day) for day in (first, last))):
            if state != opening_hours.State.OPEN:
                continue
            day, low = (since - _EPOCH).days, 60 * since.hour + since.minute
            high = low + (until - since) // timedelta(minutes=1)
            while high >= _DAY_MINUTES:
                yield day, range(len(self.spans), len(self.spans) + 1)
                day, low, high = day + 1, 0, high - _DAY_MINUTES
            if low < high:
                yield day, range(low, high)

    def _span(self, number: int, day: int, place: tuple[float, ...], clock: Clock) -> tuple[int, int]:
        """Return the begin and end of a span on a day; if the end is before the begin, there is no span."""
        if number == len(self.spans):
            return day * _DAY_S, (day + 1) * _DAY_S
        begins, ends, overnight = self.spans[number]
        start, stop = _second(begins, day, place, clock), _second(ends, day + overnight, place, clock)
        return start, stop


def _cut(span: tuple[int, int], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the part of a span between two times, if there is any."""
    start, stop = max(span[0], begin), min(span[1], end)
    if start < stop:
        yield start, stop


def names_sun(expression: str) -> "re.Match[str] | None":
    """Return the first match of an event of the sun in hours, or None."""
    return _NAMED.search(COMMENT.sub(lambda comment: " " * len(comment.group()), expression))


def without_comments(expression: str) -> str:
    """Return hours in the library's normal form, without comments.

    Raises the library's ParserError for hours it cannot parse.
    """
    return _DAYS_AFTER.sub("PH +", re.sub(r" *" + COMMENT.pattern, "", str(OpeningHours(expression))))


def take_apart(expression: str, country_code: str, max_interval_days: int) -> Sunlit | None:
    """Separate hours that name the sun into days and spans, or return None if that is not possible.

    It is not possible with more than MOST_SPANS spans, and with `off` for part of a day, whose effect would depend on
    the order of spans. The arguments and errors are those of OpeningHours.
    """
    text = without_comments(expression)
    found = list(_SPAN.finditer(text))
    if len(found) > MOST_SPANS or any("closed" in rule and _SPAN.search(rule) for rule in text.split(";")):
        return None
    spans = tuple(_ends(_moment(span.group(1)), _moment(span.group(2))) for span in found)

    def with_spans(written: Sequence[str]) -> OpeningHours:
        texts = iter(written)
        return OpeningHours(
            _SPAN.sub(lambda _: next(texts), text), country=country_code or None, max_interval_days=max_interval_days
        )

    numbers = range(len(spans))
    nights = {
        number: with_spans(["23:59-24:01" if other == number else "12:00-12:01" for other in numbers])
        for number, (_, ends, overnight) in enumerate(spans)
        if overnight or ends.minute > _DAY_MINUTES
    }
    return Sunlit(with_spans([f"{_clock(number)}-{_clock(number + 1)}" for number in numbers]), spans, nights)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _moment(text: str) -> Moment:
    """Parse a time of day, an event, or an event with an offset such as (sunrise+00:30)."""
    event = _NAMED.search(text)
    sign = -1 if event and "-" in text else 1
    hours, _, minutes = text.strip("(+-)").removeprefix(event.group() if event else "").strip("+-").partition(":")
    return Moment(event.group() if event else "", sign * (60 * int(hours or 0) + int(minutes or 0)))


def _ends(begins: Moment, ends: Moment) -> tuple[Moment, Moment, bool]:
    """Return a span, and whether it ends on the day after its begin."""
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


def _second(moment: Moment, day: int, place: tuple[float, ...], clock: Clock) -> int:
    """Return the wall-clock time, in seconds since 1970, of a moment of a day."""
    minute = _event(moment.event, day, place, clock) if moment.event else 0
    return day * _DAY_S + 60 * (minute + moment.minute)


def _event(event: str, day: int, place: tuple[float, ...], clock: Clock) -> int:
    """Return the wall-clock minute of an event of the sun on a day, counted from midnight.

    The day is the one around the noon of that date by the place's wall clock. If the sun does not rise, sunrise and
    sunset are at noon; if it does not set, at the midnights before and after. The accuracy between the polar circles is
    a minute or two (the sunrise equation, with the sun's declination at noon).
    """
    latitude, longitude = place
    evening, middle = event in EVENTS[2:], day * _DAY_S + _DAY_S // 2
    mean_noon = middle - round(240 * longitude)  # mean solar noon of that date by UTC
    mean_noon += _DAY_S * round((middle - mean_noon - clock(mean_noon)) / _DAY_S)
    noon, declination = _solar_noon(mean_noon)
    phi = math.radians(min(max(latitude, -89.999), 89.999))
    wanted = math.sin(math.radians(_ALTITUDES[event])) - math.sin(phi) * math.sin(declination)
    cosine = wanted / (math.cos(phi) * math.cos(declination))
    if cosine <= -1:
        other, _ = _solar_noon(mean_noon + (_DAY_S if evening else -_DAY_S))
        instant = math.floor((noon + other) / 2)
    else:
        half_day = math.acos(min(cosine, 1.0)) / math.tau * _DAY_S
        instant = math.floor(noon + half_day if evening else noon - half_day)
    return (instant + clock(instant) - day * _DAY_S) // 60


@lru_cache(maxsize=65_536)
def _solar_noon(mean_noon: int) -> tuple[float, float]:
    """Return the instant (seconds UTC) of solar noon, near a mean solar noon, and the sun's declination in radians."""
    days = (mean_noon - _J2000_S) / _DAY_S
    anomaly = math.radians(357.5291 + 0.98560028 * days)
    centre = 1.9148 * math.sin(anomaly) + 0.02 * math.sin(2 * anomaly) + 0.0003 * math.sin(3 * anomaly)
    longitude = anomaly + math.radians(centre + 180 + 102.9372)
    noon = mean_noon + _DAY_S * (0.0053 * math.sin(anomaly) - 0.0069 * math.sin(2 * longitude))
    return noon, math.asin(math.sin(longitude) * math.sin(math.radians(23.4397)))
