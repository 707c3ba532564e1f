"""What segments' expressions may say: compiled by the Common Expression Language, and what they mention of a person."""

import re
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from cel_expr_python import cel
from google.protobuf.message import Message

from offers.v1.context_pb2 import Context, Session, User
from offers.v1.profile_pb2 import Profile

ROOTS: dict[str, type[Message]] = {"user": User, "session": Session, "context": Context, "profile": Profile}
"""What expressions are over, beside `now`."""
CONTAINER = "offers.v1"
"""Names of this package, such as LifeCycle, need not be written whole."""
TYPES = {**{name: cel.Type(kind.DESCRIPTOR.full_name) for name, kind in ROOTS.items()}, "now": cel.Type.TIMESTAMP}
MAX_CHARACTERS = 4_000
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_ERROR = re.compile(r"ERROR: [^:]*:(?P<line>\d+):(?P<column>\d+): (?P<what>.*)")
_NOISE = re.compile(r" \(in container '[^']*'\)| expecting \{.*\}")
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")

AND, OR, NOT, IF, INDEX, IN = "_&&_", "_||_", "!_", "_?_:_", "_[_]", "@in"
EQUAL, UNEQUAL, ORDERS = "_==_", "_!=_", ("_<_", "_<=_", "_>_", "_>=_")
"""Names of operators in the compiled form."""


class ExpressionError(ValueError):
    """An expression cannot be used; the message says why, and where where that is known."""


class Node(NamedTuple):
    """A piece of a compiled expression."""

    kind: str
    """"constant", "name", "select", "has", "call", or "macro", whose first part is what it goes through."""
    name: str
    """The name, field, function or text; "" for constants that are no texts."""
    parts: tuple["Node", ...] = ()
    binds: tuple[str, ...] = ()
    """The names that a macro gives to what it goes through."""
    value: str | float | bool | None = None
    """Of a constant that is a text, a number or a truth."""


class Mention(NamedTuple):
    """A value an expression reads."""

    path: tuple[str, ...]
    """Such as ("profile", "attributes", "city")."""
    asked: bool
    """Whether only its presence is asked for."""
    dotted: bool
    """Whether it is written with dots alone."""


@cache
def environment() -> cel.Env:
    """Where segments' expressions are compiled."""
    return cel.NewEnv(variables=TYPES, container=CONTAINER)


def compiled(expression: str) -> cel.Expression:
    """Compile an expression that is true or false. Raises ExpressionError."""
    try:
        program = environment().compile(expression)
    except RuntimeError as error:
        raise ExpressionError(_told(expression, str(error))) from None
    if (kind := program.return_type()) != cel.Type.BOOL and kind != cel.Type.DYN:
        message = f"is of type {kind.name().lower()}, and a segment must be true or false"
        raise ExpressionError(message)
    if hidden := _hidden(tree(program)):
        message = f"gives the name '{hidden}', which is taken, to what a macro goes through"
        raise ExpressionError(message)
    return program


def _hidden(node: Node) -> str:
    """The name of a variable that a macro gives to something else, or ""."""
    own = next((name for name in node.binds if name in TYPES), "")
    return own or next(filter(None, map(_hidden, node.parts)), "")


def _told(expression: str, message: str) -> str:
    """The first of CEL's errors, with where it is."""
    found = _ERROR.search(message)
    if found is None:
        return _STATUS.sub("", message.splitlines()[0])
    line = f"line {found['line']}, " if "\n" in expression.strip() else ""
    what = _STATUS.sub("", _NOISE.sub("", found["what"]))
    return f"{what} at {line}column {found['column']}"


def tree(program: cel.Expression) -> Node:
    """What an expression was compiled to."""
    wrapped = dict(_fields(program.serialize()))  # an Any of a CheckedExpr
    return _node(_bytes(dict(_fields(_bytes(wrapped[2])))[4]))


def mentions(node: Node) -> Iterator[Mention]:
    """What an expression reads: each value as far as the expression goes into it by constant names."""
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
    """The attributes of the profile that an expression uses; None: any, as it does not name them."""
    used = set()
    for path, asked, _ in mentions(node):
        if path[0] != "profile" or (len(path) > 1 and path[1] != "attributes"):
            continue
        if len(path) > 2:
            used.add(path[2])
        elif not (asked and len(path) == 2):  # that there are attributes at all tells nothing of any
            return None
    return used


def field_of(path: tuple[str, ...]) -> tuple[Any, int]:
    """The descriptor of the last field that a path names (None: it names none), and how many names lead to it."""
    message = ROOTS[path[0]]() if path[0] in ROOTS else None
    found, depth = None, 1
    while message is not None and depth < len(path) and path[depth] in message.DESCRIPTOR.fields_by_name:
        found = message.DESCRIPTOR.fields_by_name[path[depth]]
        inner = getattr(message, path[depth])
        message = inner if isinstance(inner, Message) and not is_well_known(inner.DESCRIPTOR) else None
        depth += 1
    return found, depth


def is_well_known(message: Any) -> bool:  # noqa: ANN401 - descriptors have several types
    """Whether CEL has a type of its own for a message."""
    return bool(message.full_name.startswith("google.protobuf."))


def is_keyed(path: tuple[str, ...]) -> bool:
    """Whether a path leads to something by a key that need not be there: into attributes or a map."""
    field, depth = field_of(path)
    if field is None or depth == len(path) or field.message_type is None:
        return False
    kind = field.message_type
    return bool(kind.full_name == "google.protobuf.Struct" or kind.GetOptions().map_entry)


def written(path: tuple[str, ...]) -> str:
    """A path as an expression says it."""
    return path[0] + "".join(f".{name}" if _WORD(name) else f"[{name!r}]" for name in path[1:])


def path_of(node: Node) -> tuple[str, ...]:
    """The names that lead to what a node reads; () where it is no such thing."""
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
    """Read a cel.expr.Expr; the numbers are those of its fields."""
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
    """The value of a cel.expr.Constant; None where it is of no simple type."""
    if 6 in parts:
        return _text(parts[6])
    if 2 in parts:
        return bool(parts[2])
    if isinstance(number := parts.get(3), int):
        return number - 2**64 if number >= 2**63 else number
    if isinstance(bits := parts.get(5), bytes):
        return float(struct.unpack("<d", bits)[0])
    return None


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)  # noqa: S101 - a message, by its number
    return value


def _text(value: int | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else ""


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of an encoded message, by their numbers."""
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
