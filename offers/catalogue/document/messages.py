"""Builds a message from a tree of nodes as the schema says, and notes what does not fit it."""

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, time
from functools import cache, lru_cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from offers.catalogue.document.nodes import Mapping, Node, Path, Scalar, Sequence

_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*|(?=\.\d))(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_GEOJSON = frozenset({"areas"})
"""Fields of texts that may be written as maps."""
_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)", re.ASCII)
_INTEGER_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
}
_MOST_DIGITS = 400
"""Longer numbers are outside every range, and Python refuses to read the longest."""
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_TIMESTAMP_RANGE = range(-62_135_596_800, 253_402_300_800)
"""Seconds of the years 1 to 9999, which a Timestamp can hold."""
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_DURATION_RANGE = range(315_576_000_001)
"""Seconds that a Duration can hold, either way: 10,000 years."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the offset is applied by hand, so that the year 1 does not overflow
_SHOWN = 60
"""Characters of a bad value that a reason repeats."""


class Fault(NamedTuple):
    """What is wrong at a path."""

    path: Path
    line: int
    reason: str
    fix: str


class _UnfitError(Exception):
    """A value does not fit its field."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason, fix)
        self.reason, self.fix = reason, fix


@dataclass(slots=True)
class Built:
    """What was found out while a message was built."""

    faults: list[Fault] = field(default_factory=list)
    left_out: set[Path] = field(default_factory=set)
    """Where a value is written that the message does not have, because it could not be read."""


def build(root: Mapping, message: Message) -> Built:
    """Fill an empty message from a map. Never raises: faults are returned, all of them."""
    built = Built()
    _fill(message, root, (), built)
    return built


@dataclass(frozen=True, slots=True)
class _Field:
    """How values of a field are read."""

    name: str
    oneof: str
    """The oneof it is a member of, or ""."""
    repeated: bool
    keyed: bool
    """Whether it is a map from texts to texts."""
    convert: Callable[[Scalar], Any] | None
    """Reads a scalar, raising _UnfitError; None where a map is wanted."""
    kind: str
    """What a value, or an item, has to be: "a map", "a text", ..."""
    wanted: str
    """The same in full."""


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    """Give the fields of a message by each name they may be written under."""
    table: dict[str, _Field] = {}
    for described in descriptor.fields:
        oneof = described.containing_oneof
        read = _Field(
            name=described.name,
            oneof=oneof.name if oneof is not None and len(oneof.fields) > 1 else "",
            repeated=isinstance(described.default_value, list),
            keyed=_is_keyed(described),
            convert=_converter(described),
            kind=_wanted(described)[0],
            wanted="".join(_wanted(described)),
        )
        table[described.name] = table[described.json_name] = read
    return table


def _is_keyed(described: FieldDescriptor) -> bool:
    return described.message_type is not None and described.message_type.GetOptions().map_entry


def _fill(message: Message, node: Mapping, path: Path, built: Built) -> None:
    descriptor: Any = message.DESCRIPTOR
    fields = _fields(descriptor)
    lines: dict[str, int] = {}
    members: dict[str, str] = {}
    for key, value in node.pairs:
        found = fields.get(key.text)
        if found is None:
            _unknown_field(descriptor, key, path, built)
            continue
        here = (*path, found.name)
        if found.name in lines:
            reason = f"given twice, first on line {lines[found.name]}"
            built.faults.append(Fault(here, key.line, reason, "keep one of the two"))
            continue
        lines[found.name] = key.line
        if type(value) is Scalar and value.empty:
            continue
        if found.oneof:
            if found.oneof in members:
                reason = f"stands beside {members[found.oneof]}, and only one of them can be given"
                built.faults.append(Fault(here, key.line, reason, "keep one of the two"))
                continue
            members[found.oneof] = found.name
        if found.keyed:
            _fill_keyed(message, found, value, here, built)
        elif found.repeated:
            _fill_list(message, found, value, here, built)
        else:
            _fill_one(message, found, (key, value), here, built)


def _fill_one(message: Message, found: _Field, pair: tuple[Scalar, Node], path: Path, built: Built) -> None:
    line, value = pair[0].line, pair[1]
    if found.convert is None:
        if type(value) is Mapping:
            part = getattr(message, found.name)
            part.SetInParent()
            _fill(part, value, path, built)
        else:
            _unfit(found, value, path, built, line)
    elif type(value) is Scalar:
        try:
            converted = found.convert(value)
        except _UnfitError as error:
            built.faults.append(Fault(path, line, error.reason, error.fix))
            built.left_out.add(path)
        else:
            if isinstance(converted, Timestamp | Duration):
                getattr(message, found.name).CopyFrom(converted)
            else:
                setattr(message, found.name, converted)
    else:
        _unfit(found, value, path, built, line)


def _fill_list(message: Message, found: _Field, value: Node, path: Path, built: Built) -> None:
    """Fill a repeated field; an item that cannot be read leaves an empty one, so that the numbers of the rest hold."""
    if type(value) is not Sequence:
        reason = f"{_shown(value)} is not a list"
        built.faults.append(Fault(path, value.line, reason, f"write a list, each item {found.wanted}"))
        built.left_out.add(path)
        return
    values = getattr(message, found.name)
    for index, item in enumerate(value.items):
        here = (*path, index)
        if found.convert is None:
            part = values.add()
            if type(item) is Mapping:
                _fill(part, item, here, built)
                continue
        elif type(item) is Mapping and found.name in _GEOJSON:
            values.append(_geojson(item, here, built))
            continue
        elif type(item) is Scalar and not item.empty:
            try:
                values.append(found.convert(item))
            except _UnfitError as error:
                values.append("")
                built.faults.append(Fault(here, item.line, error.reason, error.fix))
                built.left_out.add(here)
            continue
        else:
            values.append("")
        _unfit(found, item, here, built, item.line)


def _fill_keyed(message: Message, found: _Field, value: Node, path: Path, built: Built) -> None:
    """Fill a map from texts to texts."""
    if type(value) is not Mapping:
        _unfit(found, value, path, built, value.line)
        return
    values = getattr(message, found.name)
    for key, item in _once(value, path, built):
        here = (*path, key.text[:_SHOWN])
        if type(item) is not Scalar or item.empty:
            reason = f"{_shown(item)} is not a text"
            built.faults.append(Fault(here, key.line, reason, "write a text, several values separated by semicolons"))
            built.left_out.add(here)
            continue
        try:
            values[_string(key)] = _string(item)
        except _UnfitError as error:
            built.faults.append(Fault(here, key.line, error.reason, error.fix))
            built.left_out.add(here)


def _once(node: Mapping, path: Path, built: Built) -> Iterator[tuple[Scalar, Node]]:
    """The pairs of a map, the first of each key; the others are faults."""
    lines: dict[str, int] = {}
    for key, value in node.pairs:
        if key.text in lines:
            reason = f"given twice, first on line {lines[key.text]}"
            built.faults.append(Fault((*path, key.text[:_SHOWN]), key.line, reason, "keep one of the two"))
            continue
        lines[key.text] = key.line
        yield key, value


def _geojson(node: Node, path: Path, built: Built) -> str:
    """Write a node as JSON text, its numbers as they are written, where that is how JSON writes them."""
    if type(node) is Scalar:
        text = node.text
        if node.quoted or not (_JSON_NUMBER.fullmatch(text) or text in {"true", "false", "null"}):
            return json.dumps(text) if node.quoted or not _NUMBER.fullmatch(text) else repr(float(text))
        return text
    if type(node) is Sequence:
        return f"[{','.join([_geojson(item, (*path, index), built) for index, item in enumerate(node.items)])}]"
    pairs = _once(node, path, built) if type(node) is Mapping else ()
    written = [f"{json.dumps(key.text)}:{_geojson(value, (*path, key.text), built)}" for key, value in pairs]
    return f"{{{','.join(written)}}}"


def _unfit(found: _Field, value: Node, path: Path, built: Built, line: int) -> None:
    built.faults.append(Fault(path, line, f"{_shown(value)} is not {found.kind}", f"write {found.wanted}"))
    built.left_out.add(path)


def _unknown_field(descriptor: Descriptor, key: Scalar, path: Path, built: Built) -> None:
    name = key.text[:_SHOWN]
    reason = f"{descriptor.name} has no field '{name}'"
    if name == "<<":
        fix = "merge keys are not supported: write the fields out, or give an alias for a whole value"
    else:
        fix = _nearest(name, descriptor)
    built.faults.append(Fault((*path, name), key.line, reason, fix))


@lru_cache(maxsize=4096)
def _nearest(name: str, descriptor: Descriptor) -> str:
    names = [described.name for described in descriptor.fields]
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"its fields are {', '.join(names)}"


def _shown(value: Node) -> str:
    if isinstance(value, Scalar):
        if value.empty:
            return "an empty value"
        return repr(value.text if len(value.text) <= _SHOWN else value.text[:_SHOWN] + "...")
    return "a list" if isinstance(value, Sequence) else "a map"


def _wanted(described: FieldDescriptor) -> tuple[str, str]:
    """Say what a value of a field, or an item of it, has to be, and more about it."""
    message = described.message_type
    if _is_keyed(described):
        return "a map", " of names to texts, such as {cuisine: ramen}"
    if message is not None:
        if message.full_name == "google.protobuf.Timestamp":
            return "an instant", " such as 2026-03-01T09:00:00Z"
        if message.full_name == "google.protobuf.Duration":
            return "a duration", " such as 900s"
        return "a map", " with the fields " + ", ".join(part.name for part in message.fields)
    if described.enum_type is not None:
        return "a name", " such as " + described.enum_type.values[-1].name
    return {
        FieldDescriptor.CPPTYPE_STRING: ("a text or a map of GeoJSON" if described.name in _GEOJSON else "a text", ""),
        FieldDescriptor.CPPTYPE_BOOL: ("true or false", ""),
        FieldDescriptor.CPPTYPE_DOUBLE: ("a number", " such as 12.5"),
    }.get(described.cpp_type, ("a whole number", ""))


def _converter(described: FieldDescriptor) -> Callable[[Scalar], Any] | None:
    if described.message_type is not None:
        return {"google.protobuf.Timestamp": _timestamp, "google.protobuf.Duration": _duration}.get(
            described.message_type.full_name
        )
    if described.enum_type is not None:
        return _enum(described.enum_type)
    if described.cpp_type in _INTEGER_RANGES:
        return _integer(*_INTEGER_RANGES[described.cpp_type])
    return {
        FieldDescriptor.CPPTYPE_STRING: _string,
        FieldDescriptor.CPPTYPE_BOOL: _bool,
        FieldDescriptor.CPPTYPE_DOUBLE: _double,
    }[described.cpp_type]


def _string(value: Scalar) -> str:
    text = value.text
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _UnfitError("has half of a surrogate pair", "write both halves, such as \\ud83c\\udf5c, or the character")
    return text


def _bool(value: Scalar) -> bool:
    if value.quoted or value.text not in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        raise _UnfitError(f"{_shown(value)} is not true or false", "write true or false, without quotes")
    return value.text[0] in "tT"


def _double(value: Scalar) -> float:
    if _NUMBER.fullmatch(value.text):
        number = float(value.text)
        if math.isfinite(number):
            return number
    elif value.text.lower().lstrip("+-.") not in _NOT_FINITE:
        raise _UnfitError(f"{_shown(value)} is not a number", "write a number such as 12.5, with a point and no unit")
    raise _UnfitError(f"{_shown(value)} is not a finite number", "write a number such as 12.5")


def _integer(least: int, most: int) -> Callable[[Scalar], int]:
    def convert(value: Scalar) -> int:
        text = value.text
        number: int | None = None
        if _INTEGER.fullmatch(text):
            number = int(text) if len(text) <= _MOST_DIGITS else most + 1
        elif _NUMBER.fullmatch(text):  # 5.0 and 1e3 are whole numbers, too, in the JSON mapping
            number = int(float(text)) if float(text).is_integer() else None
        if number is None:
            raise _UnfitError(f"{_shown(value)} is not a whole number", "write a whole number such as 10")
        if not least <= number <= most:
            raise _UnfitError(f"{_shown(value)} is out of range", f"write a whole number from {least} to {most}")
        return number

    return convert


def _enum(descriptor: EnumDescriptor) -> Callable[[Scalar], int]:
    names = [value.name for value in descriptor.values]
    numbers = {key: value.number for value in descriptor.values for key in (value.name, str(value.number))}
    prefix = names[0].removesuffix("UNSPECIFIED")

    def convert(value: Scalar) -> int:
        if value.text in numbers:
            return numbers[value.text]
        upper = value.text[:_SHOWN].upper()
        close = difflib.get_close_matches(upper.removeprefix(prefix), [name.removeprefix(prefix) for name in names], 1)
        fix = f"did you mean {prefix}{close[0]}?" if close else f"write one of {', '.join(names)}"
        raise _UnfitError(f"{_shown(value)} is not a {descriptor.name}", fix)

    return convert


def _timestamp(value: Scalar) -> Timestamp:
    match = _TIMESTAMP.fullmatch(value.text)
    if match is None:
        raise _UnfitError(f"{_shown(value)} is not an instant", _instant_fix(value.text))
    *parts, fraction, sign, offset_hours, offset_minutes = match.groups()
    try:
        since = datetime(*map(int, parts)) - _EPOCH  # type: ignore[arg-type] # noqa: DTZ001
        offset = time(int(offset_hours or 0), int(offset_minutes or 0))
    except ValueError as error:
        raise _UnfitError(f"{_shown(value)} is not an instant: {error}", "write a date and time that exist") from error
    seconds = since.days * 86_400 + since.seconds
    seconds -= (-1 if sign == "-" else 1) * (offset.hour * 3600 + offset.minute * 60)
    if seconds not in _TIMESTAMP_RANGE:
        raise _UnfitError(f"{_shown(value)} is out of range", "write a year from 0001 to 9999")
    return Timestamp(seconds=seconds, nanos=int((fraction or "0").ljust(9, "0")))


def _duration(value: Scalar) -> Duration:
    match = _DURATION.fullmatch(value.text)
    if match is None:
        raise _UnfitError(f"{_shown(value)} is not a duration", "write seconds with an s, such as 900s")
    sign, seconds, fraction = match.groups()
    if int(seconds) not in _DURATION_RANGE:
        raise _UnfitError(f"{_shown(value)} is out of range", "write seconds with an s, such as 900s")
    factor = -1 if sign else 1
    return Duration(seconds=factor * int(seconds), nanos=factor * int((fraction or "0").ljust(9, "0")))


def _instant_fix(text: str) -> str:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return f"write the time and the offset, too, such as {text}T00:00:00Z"
    if re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", text):
        return f"write 'T' before the time and the offset after it, such as {text[:10]}T{text[11:]}Z"
    return "write it as in 2026-03-01T09:00:00Z or 2026-03-01T09:00:00+01:00"
