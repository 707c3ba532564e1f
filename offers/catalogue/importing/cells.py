"""Conversion of cells: numbers, instants, money, positions, enum values, and opening hours made of flags."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import groupby
from zoneinfo import ZoneInfo

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from offers.catalogue.document.nodes import dotted
from offers.catalogue.document.scalars import cut
from offers.catalogue.geo.geojson import AreaError, parse
from offers.model.rfc3339 import EXAMPLE, NotAnInstantError, wall_time

WEEKDAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?", re.ASCII)
_SPACES = " \u00a0\u202f'\u2019"
"""Spaces, also the narrow and unbreakable ones that French has, and the apostrophes that Swiss has."""
_GROUPS = {
    sign: re.compile(rf"[+-]?[1-9]\d{{0,2}}([{other}{_SPACES}])\d{{3}}(?:\1\d{{3}})*(?!\d)", re.ASCII)
    for sign, other in ((",", "."), (".", ","))
}
"""Digits in groups of three, by the decimal sign that may follow them."""
DECIMAL_SIGNS = tuple(_GROUPS)
"""The signs that may be before decimals."""
_NO_DIGIT = re.compile(r"[^\d+-]")
_HINT = 'where commas are before decimals, use $number or $money with decimal: ","'
_NANOS = Decimal(1_000_000_000)
_MONEY_LIMIT = 2**63
_INTEGER_BITS = {FieldDescriptor.TYPE_INT32: 31, FieldDescriptor.TYPE_INT64: 63}
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class CellError(ValueError):
    """A cell cannot be converted; the message names the text and the reason."""


def number(text: str, decimal_sign: str = "") -> Decimal:
    """Parse a decimal number exactly.

    With a decimal sign, "," or ".", the digits before it may be in groups of three, with the other of these, a space or
    an apostrophe between all groups; without one, they may not, and a point is before decimals. Raises CellError for
    anything but such digits with an optional sign and exponent.
    """
    plain = _plain(text, decimal_sign) if decimal_sign else text
    if not _NUMBER.fullmatch(plain):
        sign = "comma" if decimal_sign == "," else "point"
        hint = f"; {_HINT}" if not decimal_sign and "," in text and any(map(str.isdigit, text)) else ""
        raise CellError(f"{text!r} is not a number (digits, with a {sign} before decimals){hint}")
    return Decimal(plain)


def _plain(text: str, decimal_sign: str) -> str:
    """Return a number without its groups, with a point before decimals; another text for what is no number."""
    groups = _GROUPS[decimal_sign].match(text)
    digits = _NO_DIGIT.sub("", groups[0]) + text[groups.end() :] if groups else text
    if decimal_sign == ",":
        return digits.replace(".", "?").replace(",", ".")
    return digits


def instant(text: str, layout: str | None, zone: ZoneInfo | None, plus_days: int) -> Timestamp:
    """Return the instant at which a wall clock in `zone` reads `text`, moved by whole calendar days.

    `layout` is a strptime format, or None for RFC 3339, also without offset, seconds or time of day. Of a time that a
    clock change repeats, the first occurrence is meant. A time that it skips is read with the offset before the change.
    Raises CellError.
    """
    try:
        local, nanos = _wall_clock(text, layout)
        local += timedelta(days=plus_days)
        if local.tzinfo is None and zone is not None:
            local = local.replace(tzinfo=zone)
        since_epoch = None if local.tzinfo is None else local - _EPOCH
    except (ValueError, OverflowError) as error:
        reason = f": {error}" if isinstance(error, NotAnInstantError) and str(error) else ""
        written = f"the format {layout}" if layout else f"RFC 3339, as in {EXAMPLE}"
        raise CellError(f"{text!r} is not a time in {written}{reason}") from None
    if since_epoch is None:
        raise CellError(f"{text!r} has no UTC offset, and the mapping gives no time_zone")
    return Timestamp(seconds=since_epoch.days * 86_400 + since_epoch.seconds, nanos=nanos)


def _wall_clock(text: str, layout: str | None) -> tuple[datetime, int]:
    """Return a time in whole seconds, with its offset if the text has one, and nanoseconds. Raises ValueError."""
    if layout is None:
        local, nanos, offset = wall_time(text)
        return local.replace(tzinfo=offset), nanos
    read = datetime.strptime(text, layout)  # noqa: DTZ007 - the caller adds the zone
    return read.replace(microsecond=0), read.microsecond * 1000


def money(amount: Decimal, currency_code: str) -> Money:
    """Return a sum in units of a currency (yen, euros), to nine decimals. Raises CellError."""
    if abs(amount) >= _MONEY_LIMIT:
        raise CellError(f"{amount} is more money than can be written")
    nanos = int((amount % 1 * _NANOS).to_integral_value(ROUND_HALF_EVEN))
    units = int(amount)
    if abs(nanos) == _NANOS:
        units, nanos = units + (1 if nanos > 0 else -1), 0
    return Money(currency_code=currency_code, units=units, nanos=nanos)


def position(text: str) -> tuple[float, float]:
    """Return latitude and longitude in degrees of a GeoJSON Point, or of a position inside a Polygon or MultiPolygon.

    Raises CellError for any other text.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise CellError(f"{cut(text)!r} is not GeoJSON") from None
    if isinstance(value, dict) and value.get("type") == "Point":
        numbers = value.get("coordinates")
        if not (isinstance(numbers, list) and len(numbers) >= 2 and all(type(n) in (int, float) for n in numbers[:2])):
            raise CellError(f"the coordinates {cut(str(numbers))} are not [longitude, latitude]")
        return float(numbers[1]), float(numbers[0])
    try:
        parts = parse(text)
    except AreaError as error:
        fault = error.faults[0]
        raise CellError(f"{dotted(fault.path)} {fault.reason}; {fault.fix}".strip()) from None
    if len(parts) > 1:
        raise CellError(f"there are {len(parts)} areas; write one Point, Polygon or MultiPolygon")
    return parts[0].latitude, parts[0].longitude


def hours(flags: Sequence[tuple[str, bool]]) -> str:
    """Return opening hours for (selector, is open) rules, of which later ones override earlier ones.

    Adjacent weekdays are joined: "Mo,Tu; PH -1 day off; PH". Always closed is "off". Always open is "24/7": with the
    same hours written as weekdays, opening-hours-py takes seconds to find that they never change.
    """
    rules: list[tuple[str, bool]] = []
    for plain_days, run in groupby(flags, key=lambda flag: flag[0] in WEEKDAYS):
        if not plain_days:
            rules.extend(run)
            continue
        days = list(run)
        by_state = ((",".join(name for name, is_open in days if is_open == state), state) for state in (False, True))
        rules.extend(rule for rule in by_state if rule[0])
    while rules and not rules[0][1]:
        del rules[0]  # what no rule opens is closed
    if not rules:
        return "off"
    untimed = not any(":" in selector for selector, _ in rules)
    if untimed and set(WEEKDAYS) == set(rules[0][0].split(",")) and all(is_open for _, is_open in rules):
        return "24/7"
    return "; ".join(selector if is_open else f"{selector} off" for selector, is_open in rules)


def typed(field: FieldDescriptor, value: Decimal) -> object:
    """Convert a number to the type of a numeric field. Raises CellError if it does not fit."""
    bits = _INTEGER_BITS.get(field.type)
    if bits is None:
        return float(value)
    if value != value.to_integral_value():
        raise CellError(f"{value} is not a whole number")
    if not -(2**bits) <= value < 2**bits:
        raise CellError(f"{value} is too large")
    return int(value)


def is_numeric(field: FieldDescriptor) -> bool:
    """Return whether a field holds a number."""
    return field.type in _INTEGER_BITS or field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)


def converter(field: FieldDescriptor) -> Callable[[str], object]:
    """Return the function from a cell's text to a value of a field, a scalar or a Timestamp; it raises CellError."""
    if is_numeric(field):
        return lambda text: typed(field, number(text))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return lambda text: _word(text.lower(), {"true": True, "false": False})
    if field.type == FieldDescriptor.TYPE_ENUM and field.enum_type is not None:
        numbers = {value.name: value.number for value in field.enum_type.values}
        return lambda text: _word(text, numbers)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return lambda text: instant(text, None, None, 0)
    return str


def _word(text: str, words: dict[str, int] | dict[str, bool]) -> int:
    if text not in words:
        raise CellError(f"{text!r} is not one of {', '.join(words)}")
    return words[text]
