"""Numbers of attributes, which are 64-bit floating point."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value

MOST_EXACT: Final = 2**53
"""Whole numbers of this size and more are not exact in 64-bit floating point: neighbours become equal."""


def is_exact(number: float) -> bool:
    """Return whether a number is told from its neighbours in 64-bit floating point, if it is a whole one."""
    return not abs(number) >= MOST_EXACT


def inexact_of(attributes: Struct) -> Iterator[str]:
    """Yield the names of attributes that have a number that is not exact, anywhere inside."""
    return (name for name, value in attributes.fields.items() if not all(map(is_exact, _numbers(value))))


def _numbers(value: Value) -> Iterable[float]:
    """Return the numbers inside a value."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return chain.from_iterable(map(_numbers, value.list_value.values))
    if kind == "struct_value":
        return chain.from_iterable(map(_numbers, value.struct_value.fields.values()))
    return (value.number_value,) if kind == "number_value" else ()
