"""Values that grow evenly with time: instants, lengths of time and whole numbers in expressions of segments."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from cel_expr_python import cel
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from offers.catalogue.expressions import CONTAINER, INDEX, ROOTS, TYPES, Node, mentions, path_of
from offers.catalogue.functions import DATE, day_of

if TYPE_CHECKING:
    from offers.decision.segments.evaluate import Facts

NANOS = 1_000_000_000
TURNING = frozenset({"life_cycle", "journey_phase", "affinities"})
"""The fields of a profile that change with time."""
_EPOCH = datetime.fromtimestamp(0, UTC)


class Scope(NamedTuple):
    """The values that an expression reads, with the variables of macros."""

    facts: "Facts"
    bound: Mapping[str, Any]


Read = Callable[[Scope], Any]


class AlwaysFailsError(Exception):
    """An evaluation fails, at whatever instant."""


class UnknownError(Exception):
    """A value is of no kind that is followed over time."""


INSTANT, LENGTH, NUMBER = "instant", "length", "number"


class Linear(NamedTuple):
    """A value that grows evenly with time."""

    kind: str
    """INSTANT and LENGTH are in nanoseconds."""
    value: Fraction
    """The value at the instant decided for."""
    slope: Fraction
    """How much it grows in a second."""


def is_timed(node: Node) -> bool:
    """Return whether time alone may change the value of an expression."""
    return any(
        path in {("now",), ("profile",), ("context",)}
        or path[:2] == ("context", "time")
        or (path[0] == "profile" and path[1] in TURNING)
        for path, *_ in mentions(node)
    )


def linear_of(node: Node) -> Callable[[Scope], Linear] | None:
    """Return a function that reads a value that grows evenly with time; None: it is not known to."""
    if path_of(node) == ("now",):
        return lambda scope: Linear(INSTANT, Fraction(scope.facts.now * NANOS), Fraction(NANOS))
    if path_of(node) == ("context", "time"):
        return _time_asked_for
    if node.kind == "call" and node.name in _ARITHMETIC:
        parts = list(map(linear_of, node.parts))
        if len(parts) == 2 and parts[0] and parts[1]:
            one, other, join = parts[0], parts[1], _ARITHMETIC[node.name]
            return lambda scope: join(one(scope), other(scope))
        return None
    if node.kind == "call" and node.name in _CONVERSIONS and len(node.parts) == 1:
        return _converted_of(node.parts[0], _CONVERSIONS[node.name])
    read = None if is_timed(node) else reader_of(node)
    return None if read is None else lambda scope: _steady(read(scope))


def _converted_of(node: Node, convert: Callable[[Any], Linear]) -> Callable[[Scope], Linear] | None:
    """Return a function that converts a text, or a value that grows evenly."""
    read, inside = None if is_timed(node) else reader_of(node), linear_of(node)
    if read is not None:
        return lambda scope: convert(_text_or_steady(read(scope)))
    return None if inside is None else lambda scope: convert(inside(scope))


def _time_asked_for(scope: Scope) -> Linear:
    """Return the instant that a request names; without one it is that of 1970, at whatever time."""
    time = scope.facts.context.time
    slope = NANOS if scope.facts.context.HasField("time") else 0
    return Linear(INSTANT, Fraction(time.seconds * NANOS + time.nanos), Fraction(slope))


def _text_or_steady(value: Any) -> Any:  # noqa: ANN401 - a text, or Linear
    return value if isinstance(value, str) else _steady(value)


def _steady(value: Any) -> Linear:  # noqa: ANN401 - as read
    """Return a value that time does not change. Raises UnknownError for values that are not followed."""
    if isinstance(value, Timestamp):
        return Linear(INSTANT, Fraction(value.seconds * NANOS + value.nanos), Fraction(0))
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return Linear(NUMBER, Fraction(value), Fraction(0))
    raise UnknownError


def _sum(one: Linear, other: Linear) -> Linear:
    kinds = {one.kind, other.kind}
    if kinds == {INSTANT, LENGTH}:
        return Linear(INSTANT, one.value + other.value, one.slope + other.slope)
    if len(kinds) > 1 or one.kind == INSTANT:
        raise AlwaysFailsError
    return Linear(one.kind, one.value + other.value, one.slope + other.slope)


def _difference(one: Linear, other: Linear) -> Linear:
    kind = LENGTH if one.kind == INSTANT == other.kind else one.kind
    if one.kind != other.kind and (one.kind, other.kind) != (INSTANT, LENGTH):
        raise AlwaysFailsError
    return Linear(kind, one.value - other.value, one.slope - other.slope)


def _product(one: Linear, other: Linear) -> Linear:
    if one.kind != NUMBER or other.kind != NUMBER or (one.slope and other.slope):
        raise UnknownError
    return Linear(NUMBER, one.value * other.value, one.slope * other.value + one.value * other.slope)


_ARITHMETIC = {"_+_": _sum, "_-_": _difference, "_*_": _product}


def _to_instant(value: Any) -> Linear:  # noqa: ANN401 - a text, or Linear
    if isinstance(value, str):
        return Linear(INSTANT, Fraction(_converted("timestamp", value)), Fraction(0))
    if value.kind == NUMBER:
        return Linear(INSTANT, value.value * NANOS, value.slope * NANOS)
    if value.kind == INSTANT:
        return value  # type: ignore[no-any-return]
    raise AlwaysFailsError


def _to_length(value: Any) -> Linear:  # noqa: ANN401 - a text, or Linear
    if isinstance(value, str):
        return Linear(LENGTH, Fraction(_converted("duration", value)), Fraction(0))
    if value.kind == LENGTH:
        return value  # type: ignore[no-any-return]
    raise UnknownError


def _to_number(value: Any) -> Linear:  # noqa: ANN401 - a text, or Linear
    """Return int(value). Instants move by whole seconds, so that their seconds grow evenly."""
    if isinstance(value, str) or value.kind == LENGTH:
        raise UnknownError
    if value.kind == INSTANT:
        return Linear(NUMBER, Fraction(math.floor(value.value / NANOS)), value.slope / NANOS)
    if value.slope.denominator != 1:
        raise UnknownError
    return Linear(NUMBER, Fraction(math.trunc(value.value)), value.slope)


def _to_double(value: Any) -> Linear:  # noqa: ANN401 - a text, or Linear
    if isinstance(value, str) or value.kind != NUMBER:
        raise UnknownError
    return value  # type: ignore[no-any-return]


def _to_day(value: Any) -> Linear:  # noqa: ANN401 - a text, or Linear
    if not isinstance(value, str):
        raise AlwaysFailsError
    try:
        second = day_of(value).timestamp()
    except ValueError:
        raise AlwaysFailsError from None
    return Linear(INSTANT, Fraction(round(second)) * NANOS, Fraction(0))


_CONVERSIONS = {
    DATE: _to_day,
    "timestamp": _to_instant,
    "duration": _to_length,
    "int": _to_number,
    "double": _to_double,
}


@cache
def _converter(name: str) -> cel.Expression:
    """Return the program that converts a text as CEL does."""
    return cel.NewEnv(variables={"text": cel.Type.STRING}, container=CONTAINER).compile(f"{name}(text)")


def _converted(name: str, text: str) -> int:
    """Return an instant since 1970, or a length of time, that is written as a text, in nanoseconds."""
    value = _converter(name).eval(data={"text": text})
    if value.type() == cel.Type.ERROR:
        raise AlwaysFailsError
    found = value.plain_value()
    length = found - _EPOCH if isinstance(found, datetime) else found
    return int(length // timedelta(microseconds=1)) * 1000


def reader_of(node: Node) -> Read | None:
    """Return a function that reads a constant, a field, a key or an element; None: the node is none of them."""
    if node.kind == "constant" and node.value is not None:
        value = node.value
        return lambda _: value
    if node.kind == "name":
        name = node.name.removeprefix(".")
        if name in ROOTS:
            return attrgetter(f"facts.{name}")
        return None if name in TYPES or "." in name else lambda scope: _bound(scope, name)
    if node.kind == "select":
        message, key = reader_of(node.parts[0]), node.name
        return None if message is None else lambda scope: _part(message(scope), key)
    if node.kind == "call" and node.name == INDEX:
        whole, index = reader_of(node.parts[0]), reader_of(node.parts[1])
        return None if whole is None or index is None else lambda scope: _part(whole(scope), index(scope))
    return None


def _bound(scope: Scope, name: str) -> Any:  # noqa: ANN401 - of any type
    if name not in scope.bound:
        raise UnknownError
    return scope.bound[name]


def _part(whole: Any, key: Any) -> Any:  # noqa: ANN401 - of any type
    """Return a field of a message, the value under a key, or the element at an index."""
    if isinstance(whole, Struct):
        whole = whole.fields
    elif isinstance(whole, Message):
        if key not in whole.DESCRIPTOR.fields_by_name:
            raise UnknownError
        return getattr(whole, key)
    if isinstance(whole, Sequence) and not isinstance(whole, str) and isinstance(key, int):
        if not 0 <= key < len(whole):
            raise AlwaysFailsError
    elif not isinstance(whole, Mapping):
        raise UnknownError
    elif key not in whole:
        raise AlwaysFailsError
    found = whole[key]
    return _unwrapped(found) if isinstance(found, Value) else found


def _unwrapped(value: Value) -> Any:  # noqa: ANN401 - of any type
    """Return the value of an attribute."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_unwrapped(one) for one in value.list_value.values]
    return None if kind is None or kind == "null_value" else getattr(value, kind)
