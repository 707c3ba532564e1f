"""Predicates: segments compiled to steps that a loop runs over the encoded person and request.

Most segments compare fields with constants: `profile.attributes.city == 'Lyon' && profile.order_count > 3`. With CEL, a
dozen of them take longer than the rest of a decision. All other segments, and those that read values derived from the
record, are left to CEL. Tests check that the steps, which kernels/person/judge.py runs, give the results of CEL, errors
included.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from offers.catalogue.expressions import AND, EQUAL, IN, NOT, OR, ORDERS, UNEQUAL, Node, field_of, is_keyed, path_of
from offers.catalogue.functions import LOWER, LOWER_ASCII, VERSIONS, small_letters
from offers.decision.kernels.memory.encoded import BYTES, FIXED64, VARINT
from offers.decision.kernels.memory.records import Record, array_of
from offers.decision.kernels.memory.scratch import MOST_DEPTH
from offers.model.numbers import is_exact
from offers.v1.context_pb2 import Context
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.profile_pb2 import Profile
from offers.v1.state_pb2 import UserState

FALSE, TRUE, ERROR = 0, 1, 2
COMPARES, IS_TRUE, IS_THERE, CONTAINS, NEGATES, JOINS, PARTS, SAYS, VERSES = range(9)
"""Operations of steps, in this order: compare a value with a constant; take a value that is true or false; test whether
there is a value; test whether a value contains a constant; not, and, or of the results before; give a constant; compare
the order of a version beside a constant with a number."""
AS_IT_IS, SMALL_ASCII, SMALL = range(3)
"""Letters of a text that is compared: as they are, or in small letters as `lowerAscii` and `lower` make them."""
_LETTERS = {LOWER_ASCII: SMALL_ASCII, LOWER: SMALL}
_COMPARISONS = (EQUAL, UNEQUAL, *ORDERS)
ABSENT, NULL, TRUTH, NUMBER, TEXT, LIST, STRUCT = range(7)
"""Kinds of values."""
OF_INTEGER, OF_TRUTH, OF_DOUBLE, OF_TEXT, OF_COUNT, OF_MESSAGE, OF_STRUCT, OF_DOUBLES, OF_TEXTS, OF_MESSAGES = range(10)
"""How a value is encoded: as a scalar field (integer, truth, double, text), as the number of times a field occurs, as a
message whose presence counts, or by a key of a google.protobuf.Struct or of a map to doubles, texts or messages."""
_HIDDEN = "session", "location"
"""The fields of a context that need consent."""

STEP = np.dtype(
    [
        ("does", "u1"),
        ("compare", "u1"),
        ("kind", "u1"),  # of the constant
        ("letters", "u1"),
        ("path", "i4"),
        ("first", "i4"),  # a text, in Rules.text
        ("last", "i4"),
        ("number", "f8"),
    ],
    align=True,
)
PATH = np.dtype(
    [
        ("of_profile", "u1"),  # else of the context
        ("hidden", "u1"),
        ("encoding", "u1"),
        ("first", "i4"),  # the tags that lead to it, in Rules.tag
        ("last", "i4"),
        ("key_first", "i4"),  # in Rules.text
        ("key_last", "i4"),
    ],
    align=True,
)


class Rules(IntEnum):
    """The arrays that hold the steps of all segments of a catalogue."""

    step_first = 0
    """i4, one per segment and one more: index of its first step. A segment without steps is left to CEL."""
    step = 1
    """STEP."""
    path = 2
    """PATH."""
    tag = 3
    """i4."""
    text = 4
    """u1."""
    letter = 5
    """i4: the code points that `lower` changes, in ascending order; empty if no segment uses it."""
    small = 6
    """i4, for each of these: the code point of its small letter."""


steps_of = array_of(Rules.step, STEP)
paths_of = array_of(Rules.path, PATH)

PROFILE = UserState.PROFILE_FIELD_NUMBER << 3 | BYTES
CONTEXT = GetOffersRequest.CONTEXT_FIELD_NUMBER << 3 | BYTES
_OF_CONTEXT = {"context": (), "session": ("session",), "user": ("user",)}
_STORED = {
    field.name
    for field in Profile.DESCRIPTOR.fields
    if field.name not in {"user", "anonymous_ids", "affinities", "basket", "life_cycle", "journey_phase"}
}
"""The fields of a profile that a record stores as segments read them."""
_INTEGERS = FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_ENUM
_SCALARS = {
    **dict.fromkeys(_INTEGERS, (OF_INTEGER, VARINT)),
    FieldDescriptor.CPPTYPE_BOOL: (OF_TRUTH, VARINT),
    FieldDescriptor.CPPTYPE_DOUBLE: (OF_DOUBLE, FIXED64),
    FieldDescriptor.CPPTYPE_STRING: (OF_TEXT, BYTES),
}


_IN_BYTES = FieldDescriptor.CPPTYPE_MESSAGE, FieldDescriptor.CPPTYPE_STRING
"""Types that are never packed: each value is a field of its own."""
_SIZE = "size"


class _LeftToCelError(Exception):
    """An expression cannot be compiled to steps."""


class _Path(NamedTuple):
    """How a value is found in the encoded messages: a row of PATH."""

    of_profile: bool
    hidden: bool
    encoding: int
    tags: tuple[int, ...]
    key: str


class _Step(NamedTuple):
    """One operation: a row of STEP."""

    does: int
    compare: int = 0
    path: _Path | None = None
    constant: str | float | bool | None = None
    letters: int = AS_IT_IS
    number: float = 0.0
    """The number that an order of versions is compared with."""


def rules_of(nodes: Sequence[Node]) -> Record:
    """Return the record of the steps of segments, in the order of their expressions."""
    steps: list[_Step] = []
    firsts = [0]
    for node in nodes:
        try:
            found = list(_steps(node))
        except _LeftToCelError:
            found = []
        steps += found if _depth(found) <= MOST_DEPTH else []
        firsts.append(len(steps))
    paths = list(dict.fromkeys(step.path for step in steps if step.path is not None))
    numbers = {path: number for number, path in enumerate(paths)}
    text, tags = bytearray(), list[int]()

    def written(constant: str) -> tuple[int, int]:
        first = len(text)
        text.extend(constant.encode())
        return first, len(text)

    rows, places = np.zeros(len(steps), STEP), np.zeros(len(paths), PATH)
    for row, one in zip(rows, steps, strict=True):
        row["does"], row["compare"], row["letters"], row["number"] = one.does, one.compare, one.letters, one.number
        row["path"] = -1 if one.path is None else numbers[one.path]
        if isinstance(one.constant, str):
            row["kind"], (row["first"], row["last"]) = TEXT, written(one.constant)
        elif one.constant is not None:
            row["kind"] = TRUTH if isinstance(one.constant, bool) else NUMBER
            row["number"] = float(one.constant)
    for row, path in zip(places, paths, strict=True):
        row["of_profile"], row["hidden"], row["encoding"] = path.of_profile, path.hidden, path.encoding
        row["first"], row["last"] = len(tags), len(tags) + len(path.tags)
        row["key_first"], row["key_last"] = written(path.key)
        tags += path.tags
    letters, small = small_letters() if any(step.letters == SMALL for step in steps) else ([], [])
    return Record(
        Rules,
        {
            "step_first": np.array(firsts, np.int32),
            "step": rows,
            "path": places,
            "tag": np.array(tags, np.int32),
            "text": np.frombuffer(bytes(text), np.uint8),
            "letter": np.array(letters, np.int32),
            "small": np.array(small, np.int32),
        },
    )


def _depth(steps: Sequence[_Step]) -> int:
    """Return the stack depth that steps need."""
    depth = most = 0
    for step in steps:
        depth += 0 if step.does == NEGATES else -1 if step.does in {JOINS, PARTS} else 1
        most = max(most, depth)
    return most


def _steps(node: Node) -> Iterator[_Step]:
    """Yield the steps of an expression, operands first. Raises _LeftToCelError."""
    if node.kind == "call" and node.name in {AND, OR}:
        yield from _steps(node.parts[0])
        yield from _steps(node.parts[1])
        yield _Step(JOINS if node.name == AND else PARTS)
    elif node.kind == "call" and node.name == NOT:
        yield from _steps(node.parts[0])
        yield _Step(NEGATES)
    elif node.kind == "call" and node.name in _COMPARISONS:
        yield _comparison(node.name, *node.parts)
    elif node.kind == "call" and node.name == IN:
        yield from _membership(*node.parts)
    elif node.kind == "has":
        path = _path(path_of(node))
        if path.encoding < OF_MESSAGE:
            raise _LeftToCelError
        yield _Step(IS_THERE, path=path)
    elif node.kind == "constant" and isinstance(node.value, bool):
        yield _Step(SAYS, constant=node.value)
    else:
        yield _Step(IS_TRUE, path=_compared(node))


def _comparison(name: str, left: Node, right: Node) -> _Step:
    """Return the step of a comparison of a value with a constant. Raises _LeftToCelError."""
    compare, constant = _COMPARISONS.index(name), _constant(right, is_equal=name in {EQUAL, UNEQUAL})
    if left.kind != "call" or path_of(left):
        return _Step(COMPARES, compare, _compared(left), constant)
    if left.name == _SIZE:
        return _Step(COMPARES, compare, _count(left.parts[0]), constant)
    if left.name in _LETTERS and isinstance(constant, str):
        return _Step(COMPARES, compare, _compared(left.parts[0]), constant, _LETTERS[left.name])
    if left.name == VERSIONS and isinstance(constant, int):
        return _Step(VERSES, compare, _compared(left.parts[0]), _text(left.parts[1]), number=constant)
    raise _LeftToCelError


def _membership(one: Node, whole: Node) -> Iterator[_Step]:
    """Yield the steps of `one in whole`. Raises _LeftToCelError."""
    if one.kind == "constant":
        path, name = path_of(whole), _text(one)
        if path and is_keyed((*path, name)) and not is_keyed(path):
            yield _Step(IS_THERE, path=_path((*path, name)))
        else:
            yield _Step(CONTAINS, path=_compared(whole), constant=name)
        return
    if whole.kind != "call" or whole.name or not whole.parts:  # not a list of constants
        raise _LeftToCelError
    for number, part in enumerate(whole.parts):
        yield _comparison(EQUAL, one, part)
        if number:
            yield _Step(PARTS)


def _constant(node: Node, *, is_equal: bool) -> str | float | bool:
    """Return the constant of a comparison; truth values only for equality. Raises _LeftToCelError."""
    value = node.value
    if isinstance(value, bool):
        if is_equal:
            return value
    elif isinstance(value, str) or (isinstance(value, int | float) and is_exact(value)):
        return value
    raise _LeftToCelError


def _text(node: Node) -> str:
    """Return the text of a constant. Raises _LeftToCelError."""
    if not isinstance(node.value, str):
        raise _LeftToCelError
    return node.value


def _compared(node: Node) -> _Path:
    """Return the path of a value to compare. Raises _LeftToCelError."""
    path = _path(path_of(node))
    if path.encoding in {OF_COUNT, OF_MESSAGE, OF_MESSAGES}:
        raise _LeftToCelError
    return path


def _count(node: Node) -> _Path:
    """Return the path of a field whose occurrences are counted. Raises _LeftToCelError."""
    path = path_of(node)
    field, depth = field_of(path) if path else (None, 0)
    if field is None or depth < len(path) or not field.is_repeated or field.cpp_type not in _IN_BYTES:
        raise _LeftToCelError
    return _path(path)


def _path(path: tuple[str, ...]) -> _Path:
    """Return how a value is found in the encoded messages. Raises _LeftToCelError if it is not stored as it is read."""
    of_profile = path[:1] == ("profile",)
    if len(path) < 2 or path[0] == "now" or (of_profile and path[1] not in _STORED):
        raise _LeftToCelError
    depth = field_of(path)[1]
    names = path[1:depth] if of_profile else (*_OF_CONTEXT[path[0]], *path[1:depth])
    message: Descriptor | None = Profile.DESCRIPTOR if of_profile else Context.DESCRIPTOR
    tags = list[int]()
    field: FieldDescriptor | None = None
    for name in names:
        assert message is not None  # noqa: S101 - all but the last are messages
        field = message.fields_by_name[name]
        message = field.message_type
        tags.append(field.number << 3 | BYTES)
    if field is None:
        raise _LeftToCelError
    hidden = not of_profile and names[0] in _HIDDEN
    keys = path[depth:]
    if field.is_repeated and not keys and field.cpp_type in _IN_BYTES:
        encoding = OF_COUNT
    elif message is None:
        if keys or field.is_repeated or field.cpp_type not in _SCALARS:
            raise _LeftToCelError
        encoding, kind = _SCALARS[field.cpp_type]
        tags[-1] = field.number << 3 | kind
    elif not keys:
        encoding = OF_MESSAGE
    else:
        encoding = _keyed_encoding(message)
        if len(keys) != 1:
            raise _LeftToCelError
    return _Path(of_profile, hidden, encoding, tuple(tags), keys[0] if keys else "")


def _keyed_encoding(message: object) -> int:
    """Return how the values of a map or Struct are encoded. Raises _LeftToCelError."""
    full_name = getattr(message, "full_name", "")
    if full_name == "google.protobuf.Struct":
        return OF_STRUCT
    fields = getattr(message, "fields_by_name", {})
    if set(fields) == {"key", "value"}:
        if fields["value"].cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
            return OF_DOUBLES
        if fields["value"].cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return OF_TEXTS
        if fields["value"].message_type is not None:
            return OF_MESSAGES
    raise _LeftToCelError
