"""Instants and wall clock times read from text, by RFC 3339 (https://www.rfc-editor.org/rfc/rfc3339#section-5.6).

- Instants are read exactly by the grammar: 2026-11-24T12:15:00Z, 2026-11-24t12:15:00.25+01:00.
- Decimals of a second may have any number of digits; those after the ninth are cut off.
- Offsets are from -23:59 to +23:59.
- A leap second, 23:59:60 UTC on the last day of a month, is the first second of the next day, as in Unix time.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from datetime import time as clock_time
from typing import NamedTuple

EXAMPLE = "2026-11-24T12:15:00Z"
"""An instant, for errors."""
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d+))?"
_CLOCK_IN_MINUTES = r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?"
_OFFSET = r"(?:[Zz]|(?P<sign>[+-])(?P<offset_hours>\d\d):(?P<offset_minutes>\d\d))"
_DATE = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
_INSTANT = re.compile(rf"{_DATE}[Tt]{_CLOCK}(?P<offset>{_OFFSET})", re.ASCII)
_WALL_TIME = re.compile(rf"{_DATE}(?:[Tt ]{_CLOCK_IN_MINUTES}(?P<offset>{_OFFSET})?)?", re.ASCII)
_TIME_OF_DAY = re.compile(rf"{_CLOCK_IN_MINUTES}(?P<offset>{_OFFSET})?", re.ASCII)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - offsets are applied separately, so that the year 1 does not overflow
_SECONDS = range(-62_135_596_800, 253_402_300_800)
"""The seconds that a Timestamp can hold: years 1 to 9999."""
_LEAP_SECOND = 60
_MOST_HOURS, _MOST_MINUTES = 23, 59


class NotAnInstantError(ValueError):
    """A text is not an instant. The message is the reason where the text has the right form, and else empty."""


class YearOutOfRangeError(NotAnInstantError):
    """An instant is outside the years 0001 to 9999."""


class WallTime(NamedTuple):
    """A time as it is written: what a clock shows and, where the text has one, the clock's offset."""

    local: datetime
    """The date and time without an offset, in whole seconds."""
    nanos: int
    """Billionths of a second to add, from 0 to 999,999,999."""
    offset: timezone | None

    def moment(self) -> datetime:
        """Return the time to the microsecond, with its offset if it has one."""
        return self.local.replace(microsecond=self.nanos // 1000, tzinfo=self.offset)


def seconds_of(text: str) -> tuple[int, int]:
    """Return the seconds since 1970 and the nanoseconds of an instant by RFC 3339. Raises NotAnInstantError."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise NotAnInstantError
    local, nanos, offset = _wall_time(match)
    since = local - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    seconds -= 0 if offset is None else int(offset.utcoffset(None).total_seconds())
    if seconds not in _SECONDS:
        message = "its year is not from 0001 to 9999"
        raise YearOutOfRangeError(message)
    return seconds, nanos


def wall_time(text: str) -> WallTime:
    """Return a time as people write it. Raises NotAnInstantError.

    Beside the grammar of RFC 3339: a date alone, a space for the T, no seconds, no offset.
    """
    match = _WALL_TIME.fullmatch(text)
    if match is None:
        raise NotAnInstantError
    return _wall_time(match)


def time_of_day(text: str) -> clock_time | None:
    """Return a time of a day such as 12:15 or 12:15:30.5+01:00; None for a text of another form.

    Raises NotAnInstantError for a time that no clock shows.
    """
    match = _TIME_OF_DAY.fullmatch(text)
    if match is None:
        return None
    try:
        micros = int((match["fraction"] or "").ljust(6, "0")[:6])
        return clock_time(int(match["hour"]), int(match["minute"]), int(match["second"] or 0), micros, _offset(match))
    except ValueError as error:
        raise NotAnInstantError(str(error)) from None


def _wall_time(match: re.Match[str]) -> WallTime:
    second = int(match["second"] or 0)
    is_leap = second == _LEAP_SECOND
    try:
        day = datetime(int(match["year"]), int(match["month"]), int(match["day"]))  # noqa: DTZ001 - a wall clock
        clock = clock_time(int(match["hour"] or 0), int(match["minute"] or 0), second - is_leap)
        offset = _offset(match)
    except ValueError as error:
        raise NotAnInstantError(str(error)) from None
    local = datetime.combine(day, clock)
    if is_leap:
        local = _after_leap_second(local, offset)
    return WallTime(local, int((match["fraction"] or "").ljust(9, "0")[:9]), offset)


def _after_leap_second(local: datetime, offset: timezone | None) -> datetime:
    """Return the second after a leap second, for the second before it. Raises NotAnInstantError."""
    try:
        after = local + timedelta(seconds=1)
        in_utc = after - (timedelta() if offset is None else offset.utcoffset(None))
    except OverflowError:
        in_utc = _EPOCH.replace(day=2)
    if offset is None or in_utc != in_utc.replace(day=1, hour=0, minute=0, second=0):
        message = "second 60 is only in 23:59:60 UTC, on the last day of a month"
        raise NotAnInstantError(message)
    return after


def _offset(match: re.Match[str]) -> timezone | None:
    """Return the offset; None where the text has none. Raises ValueError beyond 23:59."""
    if not match["offset"]:
        return None
    if not match["sign"]:
        return UTC
    hours, minutes = int(match["offset_hours"]), int(match["offset_minutes"])
    if hours > _MOST_HOURS or minutes > _MOST_MINUTES:
        message = "its offset is beyond 23:59"
        raise ValueError(message)
    minutes += hours * 60
    return timezone(timedelta(minutes=-minutes if match["sign"] == "-" else minutes))
