"""Expressions of segments and intents: compiled as CEL, with the values they read."""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from cel_expr_python import cel
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from offers.catalogue.functions import check_constants, extensions
from offers.model.numbers import is_exact
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.profile_pb2 import Profile

ROOTS: dict[str, type[Message]] = {"user": User, "session": Session, "context": Context, "profile": Profile}
"""The variables of expressions, apart from `now`."""
CONTAINER = "offers.v1"
"""The package whose names, such as LifeCycle, need no prefix."""
TYPES = {**{name: cel.Type(kind.DESCRIPTOR.full_name) for name, kind in ROOTS.items()}, "now": cel.Type.TIMESTAMP}
MAX_CHARACTERS = 4_000
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_ERROR = re.compile(r"ERROR: [^:]*:(?P<line>\d+):(?P<column>\d+): (?P<what>.*)")
_NOISE = re.compile(r" \(in container '[^']*'\)| expecting \{.*\}")
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")

_WHOLE = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_ENUM)

AND, OR, NOT, IF, INDEX, IN = "_&&_", "_||_", "!_", "_?_:_", "_[_]", "@in"
EQUAL, UNEQUAL, ORDERS = "_==_", "_!=_", ("_<_", "_<=_", "_>_", "_>=_")
"""Names of operators in the syntax tree."""


class ExpressionError(ValueError):
    """An expression cannot be used; the message names the reason and, if known, the position."""


class ConstantError(ExpressionError):
    """A text or a number in an expression cannot be meant; the message ends with ": " and the remedy."""


class Node(NamedTuple):
    """A node of the syntax tree of an expression."""

    kind: str
    """"constant", "name", "select", "has", "call", or "macro", whose first part is the range it iterates over."""
    name: str
    """The name, field, function or text; "" for constants of other types."""
    parts: tuple["Node", ...] = ()
    binds: tuple[str, ...] = ()
    """The iteration and result variables of a macro."""
    value: str | float | bool | None = None
    """The value of a constant that is a text, a number or a boolean."""


class Mention(NamedTuple):
    """A value that an expression reads."""

    path: tuple[str, ...]
    """The names that lead to it, such as ("profile", "attributes", "city")."""
    asked: bool
    """Whether only its presence is tested."""
    dotted: bool
    """Whether it is written with dots alone."""


@cache
def environment() -> cel.Env:
    """Return the environment in which expressions are compiled."""
    return cel.NewEnv(variables=TYPES, container=CONTAINER, extensions=extensions())


def compiled(expression: str) -> cel.Expression:
    """Compile a boolean expression. Raises ExpressionError."""
    try:
        program = environment().compile(expression)
    except RuntimeError as error:
        raise ExpressionError(_first_error(expression, str(error))) from None
    if (kind := program.return_type()) != cel.Type.BOOL and kind != cel.Type.DYN:
        message = f"is of type {kind.name().lower()}, and a segment must be true or false"
        raise ExpressionError(message)
    node = tree(program)
    if hidden := _hidden(node):
        message = f"gives the name '{hidden}', which is taken, to what a macro goes through"
        raise ExpressionError(message)
    _check(node)
    return program


def _check(node: Node) -> None:
    """Check the constants of an expression. Raises ConstantError for those that cannot be meant."""
    for part in node.parts:
        _check(part)
    if node.kind != "call":
        return
    try:
        check_constants(node.name, [part.value if part.kind == "constant" else None for part in node.parts])
    except ValueError as error:
        raise ConstantError(str(error)) from None
    if node.name.startswith("get") and len(node.parts) == 2 and not _is_checked_zone(node.parts[1]):
        message = f"gives {node.name} a zone that is not checked: write its name as a text, or context.time_zone"
        raise ConstantError(message)
    if node.name in {EQUAL, UNEQUAL, IN, *ORDERS}:
        for one, other in (node.parts, node.parts[::-1]):
            _check_numbers(one, other, is_equality=node.name not in ORDERS)


def _is_checked_zone(node: Node) -> bool:
    """Return whether a text is written in the expression or is a zone of a request, which are checked.

    CEL keeps every name of a zone that it was ever asked for, also of those that do not exist.
    """
    if node.name == IF:
        return all(map(_is_checked_zone, node.parts[1:]))
    return node.kind == "constant" or path_of(node) == ("context", "time_zone")


def _check_numbers(one: Node, other: Node, *, is_equality: bool) -> None:
    """Check a constant, or a list of them, that is compared with a value. Raises ConstantError.

    Numbers with a point or an exponent, such as 1e300, may be limits, but equal nothing for certain.
    """
    numbers = (int, float) if is_equality else int
    for part in (one, *(one.parts if one.kind == "call" and not one.name else ())):
        value = _number_of(part)
        if isinstance(value, numbers) and not is_exact(value) and not _is_whole(other):
            told = f"compares {value} with what may be a number of an attribute"
            message = f"{told}, and these are exact only below 2^53: write both as texts"
            raise ConstantError(message)


def _number_of(node: Node) -> float | bool | str | None:
    """Return the value of a constant, also of one that is converted to another type of number, or negated."""
    if node.kind == "call" and len(node.parts) == 1 and node.name in {"double", "int", "uint", "dyn", "-_"}:
        value = _number_of(node.parts[0])
        if not isinstance(value, str):
            return value
        with suppress(ValueError):
            return float(value) if node.name == "double" else int(value)
    return node.value


def _is_whole(node: Node) -> bool:
    """Return whether a value is a field of whole numbers, which are compared exactly, or a constant."""
    path = path_of(node)
    field, depth = field_of(path) if path else (None, 0)
    whole = field is not None and depth == len(path) and field.cpp_type in _WHOLE and not field.is_repeated
    return whole or (node.kind == "constant" and isinstance(node.value, int))


def _hidden(node: Node) -> str:
    """Return the name of a variable that a macro shadows, or ""."""
    own = next((name for name in node.binds if name in TYPES), "")
    return own or next(filter(None, map(_hidden, node.parts)), "")


def _first_error(expression: str, message: str) -> str:
    """Return the first of CEL's errors, with its position."""
    found = _ERROR.search(message)
    if found is None:
        return _STATUS.sub("", message.splitlines()[0])
    line = f"line {found['line']}, " if "\n" in expression.strip() else ""
    what = _STATUS.sub("", _NOISE.sub("", found["what"]))
    return f"{what} at {line}column {found['column']}"


def tree(program: cel.Expression) -> Node:
    """Return the syntax tree of a compiled expression."""
    wrapped = dict(_fields(program.serialize()))  # an Any of a CheckedExpr
    return _node(_bytes(dict(_fields(_bytes(wrapped[2])))[4]))


def mentions(node: Node) -> Iterator[Mention]:
    """Yield the values an expression reads, each as deep as constant names lead into it."""
    if node.kind == "call" and node.name == IN and node.parts[0].kind == "constant" and node.parts[0].name:
        whole = path_of(node.parts[1])
        if whole:
            yield Mention((*whole, node.parts[0].name), asked=True, dotted=False)
            return
    path = path_of(node)
    if path:
        yield Mention(path, asked=node.kind == "has", dotted=_is_dotted(node))
        return
    for part in node.parts:
        yield from mentions(part)


def attributes_of(node: Node) -> set[str] | None:
    """Return the attributes of the profile that an expression uses; None if it may use any, without naming them."""
    used = set()
    for path, asked, _ in mentions(node):
        if path[0] != "profile" or (len(path) > 1 and path[1] != "attributes"):
            continue
        if len(path) > 2:
            used.add(path[2])
        elif not (asked and len(path) == 2):  # has(profile.attributes) reveals no attribute
            return None
    return used


def field_of(path: tuple[str, ...]) -> tuple[Any, int]:
    """Return the descriptor of the last field on a path, or None, and the number of names that lead to it."""
    message = ROOTS[path[0]]() if path[0] in ROOTS else None
    found, depth = None, 1
    while message is not None and depth < len(path) and path[depth] in message.DESCRIPTOR.fields_by_name:
        found = message.DESCRIPTOR.fields_by_name[path[depth]]
        inner = getattr(message, path[depth])
        message = inner if isinstance(inner, Message) and not is_well_known(inner.DESCRIPTOR) else None
        depth += 1
    return found, depth


def is_well_known(message: Any) -> bool:  # noqa: ANN401 - descriptors have several types
    """Return whether CEL has a type of its own for a message."""
    return bool(message.full_name.startswith("google.protobuf."))


def is_keyed(path: tuple[str, ...]) -> bool:
    """Return whether a path leads into attributes or a map, whose keys need not exist."""
    field, depth = field_of(path)
    if field is None or depth == len(path) or field.message_type is None:
        return False
    kind = field.message_type
    return bool(kind.full_name == "google.protobuf.Struct" or kind.GetOptions().map_entry)


def written(path: tuple[str, ...]) -> str:
    """Return a path as it is written in an expression."""
    return path[0] + "".join(f".{name}" if _WORD(name) else f"[{name!r}]" for name in path[1:])


def path_of(node: Node) -> tuple[str, ...]:
    """Return the names that lead to the value a node reads; () if the node is not such a path."""
    if node.kind == "name":
        name = node.name.removeprefix(".")
        return (name,) if name in TYPES else ()
    if node.kind in {"select", "has"}:
        whole = path_of(node.parts[0])
        return (*whole, node.name) if whole else ()
    if node.kind == "call" and node.name == INDEX and node.parts[1].kind == "constant" and node.parts[1].name:
        whole = path_of(node.parts[0])
        return (*whole, node.parts[1].name) if whole else ()
    return ()


def _is_dotted(node: Node) -> bool:
    if node.kind == "name":
        return True
    return node.kind in {"select", "has"} and bool(_WORD(node.name)) and _is_dotted(node.parts[0])


def _node(data: bytes) -> Node:
    """Decode a cel.expr.Expr. The numbers are those of its fields."""
    (kind, body), *_ = [(number, value) for number, value in _fields(data) if number != 2] or [(0, b"")]
    fields = list(_fields(body)) if isinstance(body, bytes) else []
    parts = dict(fields)
    if kind == 3:
        return Node("constant", _text(parts.get(6)), value=_constant(parts))
    if kind == 4:
        return Node("name", _text(parts.get(1)))
    if kind == 5:
        return Node("has" if parts.get(3) else "select", _text(parts.get(2)), (_node(_bytes(parts[1])),))
    if kind == 6:
        inside = tuple(_node(_bytes(value)) for number, value in fields if number in {1, 3})
        return Node("call", _text(parts.get(2)), inside)
    if kind == 7:
        return Node("call", "", tuple(_node(_bytes(value)) for number, value in fields if number == 1))
    if kind == 8:
        entries = [dict(_fields(_bytes(value))) for number, value in fields if number == 2]
        return Node("call", "", tuple(_node(_bytes(entry[at])) for entry in entries for at in (3, 4) if at in entry))
    inside = tuple(_node(_bytes(parts[number])) for number in (2, 4, 5, 6, 7) if number in parts)
    return Node("macro", "", inside, (_text(parts.get(1)), _text(parts.get(8))))


def _constant(parts: dict[int, int | bytes]) -> str | float | bool | None:
    """Return the value of a cel.expr.Constant; None if it is of no simple type."""
    if 6 in parts:
        return _text(parts[6])
    if 2 in parts:
        return bool(parts[2])
    if isinstance(number := parts.get(3), int):
        return number - 2**64 if number >= 2**63 else number
    if isinstance(number := parts.get(4), int):
        return number
    if isinstance(bits := parts.get(5), bytes):
        return float(struct.unpack("<d", bits)[0])
    return None


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)  # noqa: S101 - a message, by its number
    return value


def _text(value: int | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else ""


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of an encoded message: number and value."""
    place = 0
    while place < len(data):
        tag, place = _number(data, place)
        kind = tag & 7
        if kind == 0:
            value, place = _number(data, place)
            yield tag >> 3, value
            continue
        size = 4 if kind == 5 else 8
        if kind == 2:
            size, place = _number(data, place)
        yield tag >> 3, data[place : place + size]
        place += size


def _number(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place
