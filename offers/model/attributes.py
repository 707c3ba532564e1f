"""Limits of attributes, the free-form values of requests, profiles and events, and the check of them."""

from collections.abc import Iterator
from typing import Final

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from offers.model.numbers import is_exact

MAX_ATTRIBUTES: Final = 100
"""Entries at the top level."""
MAX_ATTRIBUTE_BYTES: Final = 16 << 10
"""All attributes of an element, encoded. A profile is read for each decision about the person."""
MAX_ATTRIBUTE_NAME: Final = 128
"""Characters of a name, at any level."""
MAX_LISTED: Final = 1000
"""Values of a list, and entries of an object within an attribute: expressions go through them for each decision."""
MAX_LEVELS: Final = 8
"""Lists and objects within one another."""
_WHERE = 200
"""Characters of a path that a fault names."""


def attribute_faults(attributes: Struct) -> Iterator[tuple[str, str]]:
    """Yield the faults of attributes: the path of the value, "" for the whole, and the reason with the remedy."""
    entries = len(attributes.fields)
    if entries > MAX_ATTRIBUTES:
        yield "", f"{entries:,} entries: send at most {MAX_ATTRIBUTES}"
    elif (size := attributes.ByteSize()) > MAX_ATTRIBUTE_BYTES:
        yield "", f"{size:,} bytes: send at most {MAX_ATTRIBUTE_BYTES:,}"
    else:
        for path, reason in _faults(attributes, "", 1):
            yield path if len(path) <= _WHERE else f"{path[:_WHERE]}...", reason


def _faults(attributes: Struct, path: str, level: int) -> Iterator[tuple[str, str]]:
    """Yield the faults of the names and values of an object, which is `level` levels deep."""
    if level > MAX_LEVELS:
        yield path, f"nested deeper than {MAX_LEVELS} levels: write it flatter, or as a text"
        return
    if len(attributes.fields) > MAX_LISTED:
        yield path, f"{len(attributes.fields):,} entries: send at most {MAX_LISTED:,}"
        return
    for name, value in sorted(attributes.fields.items()):  # the order of a protobuf map is arbitrary
        inside = f"{path}.{name}" if path else name
        if not 1 <= len(name) <= MAX_ATTRIBUTE_NAME:
            yield path, f"a name of {len(name):,} characters: send 1 to {MAX_ATTRIBUTE_NAME}"
        else:
            yield from _faults_of(value, inside, level)


def _faults_of(value: Value, path: str, level: int) -> Iterator[tuple[str, str]]:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        if not is_exact(value.number_value):
            yield path, "a number from 2^53 on, where neighbours become equal: send it as a text"
        elif value.number_value != value.number_value:
            yield path, "not a number: leave it out, or send null"
    elif kind == "struct_value":
        yield from _faults(value.struct_value, path, level + 1)
    elif kind == "list_value":
        yield from _faults_of_list(value.list_value, path, level + 1)


def _faults_of_list(values: ListValue, path: str, level: int) -> Iterator[tuple[str, str]]:
    if level > MAX_LEVELS:
        yield path, f"nested deeper than {MAX_LEVELS} levels: write it flatter, or as a text"
    elif len(values.values) > MAX_LISTED:
        yield path, f"{len(values.values):,} values: send at most {MAX_LISTED:,}"
    else:
        for index, value in enumerate(values.values):
            yield from _faults_of(value, f"{path}[{index}]", level)
