"""Build a message from a tree of nodes by the schema, and report the values that do not fit."""

import difflib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from offers.catalogue.document.nodes import Mapping, Node, Path, Scalar, Sequence
from offers.catalogue.document.scalars import NUMBER, SHOWN, UnfitError, converter, shown, simple, string

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_GEOJSON = frozenset({"areas"})
"""Text fields that may be written as maps of GeoJSON."""


class DocumentFault(NamedTuple):
    """A fault of a document, with its line."""

    path: Path
    line: int
    reason: str
    fix: str


@dataclass(slots=True)
class Built:
    """The findings of building a message."""

    faults: list[DocumentFault] = field(default_factory=list)
    left_out: set[Path] = field(default_factory=set)
    """Paths of the values that the message lacks, because they could not be read."""


def build(root: Mapping, message: Message) -> Built:
    """Fill an empty message from a map. Raises nothing: all faults are returned."""
    built = Built()
    _fill(message, root, (), built)
    return built


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of the schema and how its values are read."""

    name: str
    oneof: str
    """The oneof of the field, or ""."""
    repeated: bool
    keyed: bool
    """Whether the field is a map from texts to texts."""
    convert: Callable[[Scalar], Any] | None
    """Reads a scalar and raises UnfitError; None if a map is expected."""
    kind: str
    """The expected form of a value, or of an item: "a map", "a text", ..."""
    wanted: str
    """The expected form with an example."""


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    """Return the fields of a message by each of their names: the name in the proto and the JSON name."""
    table: dict[str, _Field] = {}
    for described in descriptor.fields:
        oneof = described.containing_oneof
        read = _Field(
            name=described.name,
            oneof=oneof.name if oneof is not None and len(oneof.fields) > 1 else "",
            repeated=isinstance(described.default_value, list),
            keyed=_is_keyed(described),
            convert=converter(described),
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
            built.faults.append(DocumentFault(here, key.line, reason, "keep one of the two"))
            continue
        lines[found.name] = key.line
        if type(value) is Scalar and value.empty:
            continue
        if found.oneof:
            if found.oneof in members:
                reason = f"stands beside {members[found.oneof]}, and only one of them can be given"
                built.faults.append(DocumentFault(here, key.line, reason, "keep one of the two"))
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
            if isinstance(part, Struct):
                wanted = "no text, number, true or false", "write one of these, or leave it out"
                _fill_map(part, value, path, built, simple, wanted)
            else:
                _fill(part, value, path, built)
        else:
            _unfit(found, value, path, built, line)
    elif type(value) is Scalar:
        try:
            converted = found.convert(value)
        except UnfitError as error:
            built.faults.append(DocumentFault(path, line, error.reason, error.fix))
            built.left_out.add(path)
        else:
            if isinstance(converted, Timestamp | Duration):
                getattr(message, found.name).CopyFrom(converted)
            else:
                setattr(message, found.name, converted)
    else:
        _unfit(found, value, path, built, line)


def _fill_list(message: Message, found: _Field, value: Node, path: Path, built: Built) -> None:
    """Fill a repeated field. An item that cannot be read is left empty, so that the indices of the others stay."""
    if type(value) is not Sequence:
        reason = f"{shown(value)} is not a list"
        built.faults.append(DocumentFault(path, value.line, reason, f"write a list, each item {found.wanted}"))
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
            except UnfitError as error:
                values.append("")
                built.faults.append(DocumentFault(here, item.line, error.reason, error.fix))
                built.left_out.add(here)
            continue
        else:
            values.append("")
        _unfit(found, item, here, built, item.line)


def _fill_keyed(message: Message, found: _Field, value: Node, path: Path, built: Built) -> None:
    """Fill a map from texts to texts."""
    if type(value) is Mapping:
        wanted = "not a text", "write a text, several values separated by semicolons"
        _fill_map(getattr(message, found.name), value, path, built, string, wanted)
    else:
        _unfit(found, value, path, built, value.line)


def _fill_map(
    values: Any,  # noqa: ANN401 - a map field or a Struct
    node: Mapping, path: Path, built: Built, read: Callable[[Scalar], object], wanted: tuple[str, str],
) -> None:  # fmt: skip
    """Fill a map from texts to the results of `read`; `wanted` is the reason and the fix for other nodes."""
    for key, item in _once(node, path, built):
        here = (*path, key.text[:SHOWN])
        if type(item) is not Scalar or item.empty:
            built.faults.append(DocumentFault(here, key.line, f"{shown(item)} is {wanted[0]}", wanted[1]))
            built.left_out.add(here)
            continue
        try:
            values[string(key)] = read(item)
        except UnfitError as error:
            built.faults.append(DocumentFault(here, key.line, error.reason, error.fix))
            built.left_out.add(here)


def _once(node: Mapping, path: Path, built: Built) -> Iterator[tuple[Scalar, Node]]:
    """Yield the first pair of each key of a map, and report repeated keys."""
    lines: dict[str, int] = {}
    for key, value in node.pairs:
        if key.text in lines:
            reason = f"given twice, first on line {lines[key.text]}"
            built.faults.append(DocumentFault((*path, key.text[:SHOWN]), key.line, reason, "keep one of the two"))
            continue
        lines[key.text] = key.line
        yield key, value


def _geojson(node: Node, path: Path, built: Built) -> str:
    """Return a node as JSON text. Numbers keep their spelling if it is valid JSON."""
    if type(node) is Scalar:
        text = node.text
        if node.quoted or not (_JSON_NUMBER.fullmatch(text) or text in {"true", "false", "null"}):
            return json.dumps(text) if node.quoted or not NUMBER.fullmatch(text) else repr(float(text))
        return text
    if type(node) is Sequence:
        return f"[{','.join([_geojson(item, (*path, index), built) for index, item in enumerate(node.items)])}]"
    pairs = _once(node, path, built) if type(node) is Mapping else ()
    written = [f"{json.dumps(key.text)}:{_geojson(value, (*path, key.text), built)}" for key, value in pairs]
    return f"{{{','.join(written)}}}"


def _unfit(found: _Field, value: Node, path: Path, built: Built, line: int) -> None:
    built.faults.append(DocumentFault(path, line, f"{shown(value)} is not {found.kind}", f"write {found.wanted}"))
    built.left_out.add(path)


def _unknown_field(descriptor: Descriptor, key: Scalar, path: Path, built: Built) -> None:
    name = key.text[:SHOWN]
    reason = f"{descriptor.name} has no field '{name}'"
    if name == "<<":
        fix = "merge keys are not supported: write the fields out, or give an alias for a whole value"
    else:
        fix = _nearest(name, descriptor)
    built.faults.append(DocumentFault((*path, name), key.line, reason, fix))


@lru_cache(maxsize=4096)
def _nearest(name: str, descriptor: Descriptor) -> str:
    names = [described.name for described in descriptor.fields]
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"its fields are {', '.join(names)}"


def _wanted(described: FieldDescriptor) -> tuple[str, str]:
    """Return the expected form of a value of a field, or of an item, and an example or details."""
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
