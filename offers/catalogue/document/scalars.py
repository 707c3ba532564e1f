"""Conversion of single values of a document to the types of the schema: texts, numbers, enum values, instants."""

import difflib
import math
import re
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from offers.catalogue.document.nodes import Node, Scalar, Sequence
from offers.model import rfc3339

NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*|(?=\.\d))(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
"""A number of YAML or JSON, also with a plus sign, or without digits on one side of the point."""
_TRUTHS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)", re.ASCII)
_INTEGER_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
}
_MOST_DIGITS = 400
"""Longer numbers are outside every range, and Python refuses to convert the longest."""
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_DURATION_RANGE = range(315_576_000_001)
"""The seconds that a Duration can hold, positive or negative: 10,000 years."""
SHOWN = 60
"""Characters of a bad value that are shown in a reason."""


class UnfitError(Exception):
    """A value does not fit its field; `reason` and `fix` are for the report."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason, fix)
        self.reason, self.fix = reason, fix


def cut(text: str) -> str:
    """Return a text, cut if it is long."""
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def shown(value: Node) -> str:
    """Return a value as it is shown in a reason, cut if it is long."""
    if isinstance(value, Scalar):
        if value.empty:
            return "an empty value"
        return repr(cut(value.text))
    return "a list" if isinstance(value, Sequence) else "a map"


def converter(described: FieldDescriptor) -> Callable[[Scalar], Any] | None:
    """Return the function that reads the values of a field and raises UnfitError; None if a map is expected."""
    if described.message_type is not None:
        return {"google.protobuf.Timestamp": _timestamp, "google.protobuf.Duration": _duration}.get(
            described.message_type.full_name
        )
    if described.enum_type is not None:
        return _enum(described.enum_type)
    if described.cpp_type in _INTEGER_RANGES:
        return _integer(*_INTEGER_RANGES[described.cpp_type])
    return {
        FieldDescriptor.CPPTYPE_STRING: string,
        FieldDescriptor.CPPTYPE_BOOL: _bool,
        FieldDescriptor.CPPTYPE_DOUBLE: _double,
    }[described.cpp_type]


def string(value: Scalar) -> str:
    """Read a text. Raises UnfitError."""
    text = value.text
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UnfitError("has half of a surrogate pair", "write both halves, such as \\ud83c\\udf5c, or the character")
    return text


def simple(value: Scalar) -> str | float | bool:
    """Read a text, a number or a boolean; a quoted value is a text. Raises UnfitError."""
    if not value.quoted and value.text in _TRUTHS:
        return value.text[0] in "tT"
    return float(value.text) if not value.quoted and NUMBER.fullmatch(value.text) else string(value)


def _bool(value: Scalar) -> bool:
    if value.quoted or value.text not in _TRUTHS:
        raise UnfitError(f"{shown(value)} is not true or false", "write true or false, without quotes")
    return value.text[0] in "tT"


def _double(value: Scalar) -> float:
    if NUMBER.fullmatch(value.text):
        number = float(value.text)
        if math.isfinite(number):
            return number
    elif value.text.lower().lstrip("+-.") not in _NOT_FINITE:
        raise UnfitError(f"{shown(value)} is not a number", "write a number such as 12.5, with a point and no unit")
    raise UnfitError(f"{shown(value)} is not a finite number", "write a number such as 12.5")


def _integer(least: int, most: int) -> Callable[[Scalar], int]:
    def convert(value: Scalar) -> int:
        text = value.text
        number: int | None = None
        if _INTEGER.fullmatch(text):
            number = int(text) if len(text) <= _MOST_DIGITS else most + 1
        elif NUMBER.fullmatch(text):  # in the JSON mapping, 5.0 and 1e3 are whole numbers, too
            number = int(float(text)) if float(text).is_integer() else None
        if number is None:
            raise UnfitError(f"{shown(value)} is not a whole number", "write a whole number such as 10")
        if not least <= number <= most:
            raise UnfitError(f"{shown(value)} is out of range", f"write a whole number from {least} to {most}")
        return number

    return convert


def _enum(descriptor: EnumDescriptor) -> Callable[[Scalar], int]:
    names = [value.name for value in descriptor.values]
    numbers = {key: value.number for value in descriptor.values for key in (value.name, str(value.number))}
    prefix = names[0].removesuffix("UNSPECIFIED")

    def convert(value: Scalar) -> int:
        if value.text in numbers:
            return numbers[value.text]
        upper = value.text[:SHOWN].upper()
        close = difflib.get_close_matches(upper.removeprefix(prefix), [name.removeprefix(prefix) for name in names], 1)
        fix = f"did you mean {prefix}{close[0]}?" if close else f"write one of {', '.join(names)}"
        raise UnfitError(f"{shown(value)} is not a {descriptor.name}", fix)

    return convert


def _timestamp(value: Scalar) -> Timestamp:
    try:
        seconds, nanos = rfc3339.seconds_of(value.text)
    except rfc3339.YearOutOfRangeError:
        raise UnfitError(f"{shown(value)} is out of range", "write a year from 0001 to 9999") from None
    except rfc3339.NotAnInstantError as error:
        if str(error):
            raise UnfitError(f"{shown(value)} is not an instant: {error}", "write a date and time that exist") from None
        raise UnfitError(f"{shown(value)} is not an instant", _instant_fix(value.text)) from None
    return Timestamp(seconds=seconds, nanos=nanos)


def _duration(value: Scalar) -> Duration:
    match = _DURATION.fullmatch(value.text)
    if match is None:
        raise UnfitError(f"{shown(value)} is not a duration", "write seconds with an s, such as 900s")
    sign, seconds, fraction = match.groups()
    if int(seconds) not in _DURATION_RANGE:
        raise UnfitError(f"{shown(value)} is out of range", "write seconds with an s, such as 900s")
    factor = -1 if sign else 1
    return Duration(seconds=factor * int(seconds), nanos=factor * int((fraction or "0").ljust(9, "0")))


def _instant_fix(text: str) -> str:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return f"write the time and the offset, too, such as {text}T00:00:00Z"
    if re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", text):
        return f"write 'T' before the time and the offset after it, such as {text[:10]}T{text[11:]}Z"
    return "write it as in 2026-03-01T09:00:00Z or 2026-03-01T09:00:00+01:00"
