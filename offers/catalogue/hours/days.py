"""Days on which a rule of hours holds, as bits of an integer.

Weekdays are found by arithmetic, public holidays by their dates, and everything else (dates, months, weeks, years) by
the opening-hours library.
"""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import opening_hours
from opening_hours import OpeningHours

from offers.catalogue.hours.public_holidays import holidays_of

_NAMES = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_WEEKDAY = f"(?:{'|'.join(_NAMES)})"
_HOLIDAY = r"PH(?: [+-]\d+ days?)?"
_SELECTOR = rf"(?:{_HOLIDAY}|{_WEEKDAY}(?:-{_WEEKDAY})?(?:\[[^]]*\])?(?: [+-]\d+ days?)?)"
_DAYS = re.compile(rf"(?<![^ ]){_SELECTOR}(?:,{_SELECTOR})*$")
"""The weekdays and holidays of a rule, as the library prints it."""
_PARTS = re.compile(r"[^,[]+(?:\[[^]]*\][^,]*)?")
_WEEKDAYS = re.compile(rf"{_WEEKDAY}(?:-{_WEEKDAY})?(?:,{_WEEKDAY}(?:-{_WEEKDAY})?)*").fullmatch
_WEEK = (1 << 7) - 1
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EASTER = r"easter(?: [+-]\d+ days?)?"
_DATE = rf"(?:{'|'.join(_MONTHS)}) \d{{1,2}}"
_TO_OR_FROM_EASTER = re.compile(rf"(?<!\d )(?:{_EASTER}-{_DATE}(?! [+-]?\d)|{_DATE}-{_EASTER})")
"""A range of dates, without years, of which one end moves with easter."""
_EASTERS = (date(2008, 3, 22), date(2038, 4, 25))
"""The earliest and the latest date of easter, in some year."""
_EMPTY = "@"
_EPOCH_DAY = date(1970, 1, 1).toordinal()
EPOCH_WEEKDAY = date(1970, 1, 1).weekday()
"""The weekday of 1 January 1970; Monday is 0."""


class Selector(NamedTuple):
    """The days of a rule: those that `wide` selects and that are a weekday or a holiday of the rule.

    Without any, every day.
    """

    wide: str = ""
    """Dates, months, weeks and years; "": all."""
    weekdays: str = ""
    holidays: tuple[int, ...] = ()
    """For each PH, the number of days after a public holiday."""

    @property
    def repeats_weekly(self) -> bool:
        """Whether all weeks have the same days."""
        return not (self.wide or self.holidays) and bool(not self.weekdays or _WEEKDAYS(self.weekdays))


def selector_of(text: str) -> Selector:
    """Parse the days of a rule, as the library prints them."""
    found = _DAYS.search(text)
    if found is None:
        return Selector(text)
    kept: list[str] = []
    holidays: list[int] = []
    for part in _PARTS.findall(found.group()):
        if part.startswith("PH"):
            holidays.append(int(part.split()[1]) if " " in part else 0)
        else:
            kept.append(part)
    if "[" in found.group() and not holidays:  # the nth weekday of a month may depend on the months around it
        return Selector(text)
    return Selector(text[: found.start()].rstrip(), ",".join(kept), tuple(holidays))


def days_of(selector: Selector, country_code: str, first: int, count: int) -> int:
    """Return the days of a rule among `count` days from `first` on: bit n stands for the nth after it.

    `first` is in days since 1970.
    """
    if selector.weekdays or selector.holidays:
        found = _selected(selector.weekdays, first, count) if selector.weekdays else 0
        for days_on in selector.holidays:
            found |= _holidays(country_code, first - days_on, count)
        return found & _selected(selector.wide, first, count) if selector.wide else found
    return _selected(selector.wide, first, count) if selector.wide else (1 << count) - 1


def _selected(text: str, first: int, count: int) -> int:
    if _WEEKDAYS(text):
        week, away = _week_of(text), (first + EPOCH_WEEKDAY) % 7
        week = (week >> away | week << 7 - away) & _WEEK
        return week * _repeated(count // 7 + 1) & ((1 << count) - 1)
    return _by_year(lambda year: _year_of(text, year), first, count)


@lru_cache(maxsize=4_096)
def _repeated(weeks: int) -> int:
    """Return the number with which the bits of a week are multiplied to repeat them."""
    return ((1 << 7 * weeks) - 1) // _WEEK


@lru_cache(maxsize=4_096)
def _week_of(text: str) -> int:
    """Return weekdays as bits; Monday is bit 0."""
    found = 0
    for part in text.split(","):
        begin, _, last = part.partition("-")
        low, high = _NAMES.index(begin), _NAMES.index(last or begin)
        for number in range(low, high + 1 if high >= low else high + 8):
            found |= 1 << number % 7
    return found


def _holidays(country_code: str, first: int, count: int) -> int:
    return _by_year(lambda year: _holidays_of(country_code, year), first, count)


@lru_cache(maxsize=16_384)
def _holidays_of(country_code: str, year: int) -> int:
    begin = date(year, 1, 1).toordinal()
    return sum(1 << day.toordinal() - begin for day in holidays_of(country_code, year))


def _by_year(bits_of: Callable[[int], int], first: int, count: int) -> int:
    """Return the bits of some days, given those of whole years."""
    found = 0
    low, high = (date.fromordinal(day + _EPOCH_DAY).year for day in (first, first + count - 1))
    for year in range(low, high + 1):
        away = date(year, 1, 1).toordinal() - _EPOCH_DAY - first
        bits = bits_of(year)
        found |= bits << away if away >= 0 else bits >> -away
    return found & ((1 << count) - 1)


@lru_cache(maxsize=32_768)
def _year_of(text: str, year: int) -> int:
    """Return the days of a year that the library selects; bit 0 is 1 January."""
    begin, end = datetime(year, 1, 1), datetime(year + 1, 1, 1)  # noqa: DTZ001 - the library reads wall clocks
    found = 0
    text = _TO_OR_FROM_EASTER.sub(lambda dates: _dated(dates.group(), year), text)
    text = re.sub(f"{_EMPTY},|,{_EMPTY}", "", text)
    if _EMPTY in text:
        return 0
    for since, until, state, _ in OpeningHours(f"{text} 00:00-24:00").intervals(begin, end):
        if state == opening_hours.State.OPEN:
            low, high = ((moment - begin) // timedelta(days=1) for moment in (since, until))
            found |= (1 << high) - (1 << low)
    return found


def _dated(dates: str, year: int) -> str:
    """Return a range to or from easter with the date of easter in a year.

    The library lets `easter-Apr 20` last until April of the next year where easter is later. It is empty then. Only a
    range that is reversed at any easter, such as `Dec 25-easter`, lasts into the next year.
    """
    begin, end = re.split("-(?=[A-Ze])", dates)
    since, until = (_date(text, easter_of(year)) for text in (begin, end))
    if since > until and not all(_date(begin, moved) > _date(end, moved) for moved in _EASTERS):
        return _EMPTY
    return "-".join(f"{_MONTHS[month - 1]} {day}" for month, day in (since, until))


def _date(text: str, easter: date) -> tuple[int, int]:
    """Return the month and day of a date, or of a number of days after easter."""
    if not text.startswith("easter"):
        month, day = text.split()
        return _MONTHS.index(month) + 1, int(day)
    moved = easter + timedelta(days=int(text.split()[1]) if " " in text else 0)
    return moved.month, moved.day


def easter_of(year: int) -> date:
    """Return the Sunday of easter in a year."""
    return date(year, 1, 1) + timedelta(days=_year_of("easter", year).bit_length() - 1)
