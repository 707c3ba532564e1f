"""Functions of expressions beyond the standard ones of CEL: versions, texts and dates.

A function that raises ValueError makes the evaluation fail, as CEL's own functions do. The loops have `semver_compare`,
`lower` and `lowerAscii` too: see decision/segments/predicates.py.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from cel_expr_python import cel
from cel_expr_python.ext.ext_strings import ExtStrings

VERSIONS, LOWER, LOWER_ASCII = "semver_compare", "lower", "lowerAscii"
"""Names of functions that the loops have."""
DATE, DAYS_BETWEEN, OF_DAYS = "date", "days_between", ("years_between", "is_anniversary", "start_of_day")
"""Names of functions of time; the last three follow the days of a zone's clock."""
_NUMBER = r"(?:0|[1-9][0-9]*)"
_LABEL = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"(?P<core>{_NUMBER}(?:\.{_NUMBER}){{0,2}})(?:-(?P<labels>{_LABEL}(?:\.{_LABEL})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_OFFSET = re.compile(r"([+-])([01]\d|2[0-3]):([0-5]\d)")
_LAST_CASED = 0x20000
"""No code point from here on has a small letter."""
_MINUTE = timedelta(minutes=1)
_DOTTED_I = "\u0130"
"""The one capital whose small letter takes two characters in full; its simple small letter is i."""


def semver_compare(one: str, other: str) -> int:
    """Return -1, 0 or 1 as a version comes before another, is as new, or comes after, by the precedence of semver.org.

    Missing minor and patch numbers are 0. Raises ValueError for a text that is no version.
    """
    first, second = _version(one), _version(other)
    return (first > second) - (first < second)


@lru_cache(4096)
def _version(text: str) -> tuple[object, ...]:
    """Return what a version is ordered by: its numbers, whether it is released, and the labels before a release."""
    found = _VERSION.fullmatch(text)
    if found is None:
        message = f"'{text}' is no version: write one such as 2.3.0 or 2.3.0-beta.1"
        raise ValueError(message)
    core = [*found["core"].split("."), "0", "0"][:3]
    labels = found["labels"].split(".") if found["labels"] else []
    # Numbers have no leading zeros, so that the one with more digits is greater, at any length.
    told = ((0, len(label), label) if label.isdigit() else (1, 0, label) for label in labels)
    return (*((len(number), number) for number in core), not labels, *told)


def is_version(text: str) -> bool:
    """Return whether a text is a version that `semver_compare` takes."""
    return _VERSION.fullmatch(text) is not None


def lower(text: str) -> str:
    """Return a text in small letters, one for one: the simple case mapping of Unicode, of no language."""
    return "".join(map(_lower, text)) if not text.isascii() else text.lower()


def _lower(letter: str) -> str:
    small = letter.lower()
    return small if len(small) == 1 else "i" if letter == _DOTTED_I else letter


@cache
def small_letters() -> tuple[list[int], list[int]]:
    """Return the code points that `lower` changes, in ascending order, and those that it changes them to."""
    pairs = [(code, ord(_lower(chr(code)))) for code in range(_LAST_CASED)]
    changed = [(code, small) for code, small in pairs if code != small]
    return [code for code, _ in changed], [small for _, small in changed]


def days_between(begin: datetime, end: datetime) -> int:
    """Return the whole days of 24 hours from one instant to another; negative if the other comes first."""
    return (end - begin) // timedelta(days=1)


def dates_between(begin: datetime, end: datetime, zone: str) -> int:
    """Return how often midnight passes from one instant to another by the clock of a zone."""
    clock = zone_of(zone)
    return _local(end, clock).toordinal() - _local(begin, clock).toordinal()


def years_between(begin: date | str, end: datetime, zone: str) -> int:
    """Return the whole years from a day to an instant, by the clock of a zone: an age, from the day of birth.

    Born on 29 February, one is a year older on 1 March in years without that day.
    """
    clock = zone_of(zone)
    first, last = _day_of(begin, clock), _local(end, clock)
    return last.year - first.year - ((last.month, last.day) < (first.month, first.day))


def is_anniversary(day: date | str, at: datetime, zone: str) -> bool:
    """Return whether an instant is on the day and month of a day, in a later year, by the clock of a zone.

    29 February has its anniversary on 1 March in years without that day.
    """
    clock = zone_of(zone)
    first, today = _day_of(day, clock), _local(at, clock)
    if today.year <= first.year:
        return False
    try:
        return today == first.replace(year=today.year)
    except ValueError:
        return (today.month, today.day) == (3, 1)


def start_of_day(at: datetime, zone: str) -> datetime:
    """Return the first instant of the day of an instant, by the clock of a zone."""
    clock = zone_of(zone)
    day = _local(at, clock)
    begin = datetime(day.year, day.month, day.day, tzinfo=clock).astimezone(UTC)
    while _local(begin - _MINUTE, clock) == day:  # a clock change skips midnight, and minutes before it
        begin -= _MINUTE
    return begin


def day_of(text: str) -> datetime:
    """Return the first instant in UTC of a day that is written as 2026-11-24."""
    day = _day(text)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@lru_cache(512)
def zone_of(name: str) -> tzinfo:
    """Return the zone of an IANA name or of an offset such as +02:00; "" is UTC, as in CEL's own functions."""
    if not name:
        return UTC
    if offset := _OFFSET.fullmatch(name):
        minutes = int(offset[2]) * 60 + int(offset[3])
        return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        message = f"'{name}' is no time zone: write an IANA name such as Europe/Paris, or an offset such as +02:00"
        raise ValueError(message) from None


def _local(at: datetime, clock: tzinfo) -> date:
    try:
        return at.astimezone(clock).date()
    except OverflowError:
        message = f"{at} is beyond the calendar of the zone"
        raise ValueError(message) from None


def _day_of(day: date | str, clock: tzinfo) -> date:
    """Return a day that is written, or that of an instant by a clock."""
    return _day(day) if isinstance(day, str) else _local(day, clock) if isinstance(day, datetime) else day


def _day(text: str) -> date:
    if not _DATE.fullmatch(text):
        message = f"'{text}' is no day: write one such as 2026-11-24"
        raise ValueError(message)
    try:
        return date.fromisoformat(text)
    except ValueError:
        message = f"'{text}' is no day: there is none in the calendar"
        raise ValueError(message) from None


def _declared(name: str, *overloads: tuple[Sequence[cel.Type], cel.Type, Callable[..., Any]]) -> cel.FunctionDecl:
    """Return the declaration of a function; each overload is the types it takes, the type of its result, and it."""
    made = [
        cel.Overload(
            "_".join((name, *(kind.name().lower() for kind in taken))), result, taken, is_member=False, impl=impl
        )
        for taken, result, impl in overloads
    ]
    return cel.FunctionDecl(name, made)


@cache
def extensions() -> tuple[Any, ...]:
    """Return the extensions of the environment in which expressions are compiled."""
    text, instant, whole, truth = cel.Type.STRING, cel.Type.TIMESTAMP, cel.Type.INT, cel.Type.BOOL
    own = [
        _declared(VERSIONS, ([text, text], whole, semver_compare)),
        _declared(LOWER, ([text], text, lower)),
        _declared(
            DAYS_BETWEEN,
            ([instant, instant], whole, days_between),
            ([instant, instant, text], whole, dates_between),
        ),
        _declared(
            "years_between",
            ([text, instant, text], whole, years_between),
            ([instant, instant, text], whole, years_between),
        ),
        _declared(
            "is_anniversary",
            ([text, instant, text], truth, is_anniversary),
            ([instant, instant, text], truth, is_anniversary),
        ),
        _declared("start_of_day", ([instant, text], instant, start_of_day)),
        _declared(DATE, ([text], instant, day_of)),
    ]
    return cel.CelExtension("offers", own), ExtStrings()


_ZONED = frozenset({DAYS_BETWEEN, *OF_DAYS})
"""The functions whose last argument, if it is a text, is a time zone."""
_DATED = frozenset({DATE, "years_between", "is_anniversary"})
"""The functions whose first argument, if it is a text, is a day."""


def check_constants(name: str, constants: Sequence[object]) -> None:
    """Check the arguments of a call that are texts written in the expression; None stands for all others.

    Raises ValueError where the call would fail whatever the other values are.
    """
    for index, value in enumerate(constants):
        if not isinstance(value, str):
            continue
        if name == VERSIONS:
            _version(value)
        elif name in _DATED and index == 0:
            _day(value)
        elif name in _ZONED and index == len(constants) - 1:
            zone_of(value)
