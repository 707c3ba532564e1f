"""Which segments a person is in: the expressions that a decision needs, evaluated together.

Two things make that quick. Values such as `profile.order_count` are given to CEL as variables of that whole name, which
it looks up instead of going through messages. And the segments of a block are one program, a list, as most of a call's
cost is its own; those that a decision does not need are passed over in it. What could make that list fail is looked at
first: where an attribute is not there, its segments are false or evaluated by themselves.
"""

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from cel_expr_python import cel
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from offers.catalogue.expressions import (
    AND,
    CONTAINER,
    IF,
    OR,
    ROOTS,
    TYPES,
    Mention,
    Node,
    compiled,
    field_of,
    is_keyed,
    mentions,
    path_of,
    tree,
)
from offers.decision.segments.predicates import Rules, rules_of
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.profile_pb2 import Profile

BLOCK = 32
"""Segments of a program: all of a block are evaluated by one call, those that are not needed being passed over."""
MOST_NEEDS = 4096
"""Sets of segments that are remembered; decisions of one city need some hundreds."""
MOST_HELD = 200_000
"""Segments that these sets may have together, at some 200 bytes each: persons decide which are not known, and so which
sets there are."""

Path = tuple[str, ...]
Names = frozenset[Path]
Read = Callable[["Facts"], Any]

_ABSENT = object()
_NOTHING: Names = frozenset()
_GUARDS = "_"
"""The variable that says of each segment of a program whether all it needs is there."""
_CHANGING = {("now",), ("context",), ("context", "time"), ("profile",)} | {
    ("profile", name) for name in ("life_cycle", "journey_phase", "affinities")
}
"""What is another a moment later, though nothing happened."""
_TYPES = {bool: cel.Type.BOOL, int: cel.Type.INT, float: cel.Type.DOUBLE, str: cel.Type.STRING,
          Timestamp: cel.Type.TIMESTAMP}  # fmt: skip


class Facts(NamedTuple):
    """What segments are asked about. What is not known is an empty message."""

    user: User
    session: Session
    context: Context
    profile: Profile
    now: int
    """The instant decided for, in seconds since 1970."""

    def instant(self) -> Timestamp:
        """`now` as expressions have it."""
        return Timestamp(seconds=self.now)


class _Segment(NamedTuple):
    """An expression, and what has to be known to evaluate it."""

    expression: str
    program: cel.Expression
    reads: tuple[str, ...]
    """The variables it needs."""
    keyed: Names
    """What it may fail without."""
    required: Names
    """What it cannot be true without."""


class _Part(NamedTuple):
    """Segments that are needed of one block."""

    program: cel.Expression | None
    """All of the block, in one list; None where that is longer or deeper than CEL takes."""
    guards: list[bool]
    """Of each segment of the block, whether it is needed."""
    members: list[tuple[int, int, _Segment]]
    """The places in the block, the numbers and the segments of those that are."""


class _Need:
    """What has to be read and evaluated for segments that are needed together."""

    __slots__ = ("keyed", "named", "parts", "reads")

    def __init__(self, parts: list[_Part], reader: Callable[[str], Read]) -> None:
        self.parts = parts
        segments = [segment for part in parts for *_, segment in part.members]
        self.reads = [(name, reader(name)) for name in dict.fromkeys(name for one in segments for name in one.reads)]
        variables = dict(self.reads)
        keyed = sorted({path for one in segments for path in one.keyed})
        self.named = [(path, name) for path in keyed if (name := ".".join(path)) in variables]
        """What may be absent and is a variable."""
        self.keyed = [(path, _finder(path)) for path in keyed if ".".join(path) not in variables]
        """What else may be absent."""


class Segments:
    """The segments of a catalogue. Safe to share between threads."""

    def __init__(self, expressions: Sequence[str]) -> None:
        """Compile expressions that were checked; a segment's number is its place."""
        nodes = [tree(compiled(expression)) for expression in expressions]
        self.rules = rules_of(nodes)
        self.values = len(self.rules.arrays[Rules.path.name])
        """Those that are steps of a compiled loop; these are evaluated here only where somebody asks why."""
        found = [list(mentions(node)) for node in nodes]
        self.paths = frozenset(mention.path for of_one in found for mention in of_one)
        """All that any of them reads, such as ("profile", "affinities", "categories", "sushi")."""
        self.worked_out = frozenset(path[1] for path in self.paths if path[0] == "profile" and len(path) > 1)
        """What any reads of the profile."""
        if ("profile",) in self.paths:
            self.worked_out = frozenset(Profile.DESCRIPTOR.fields_by_name)
        self.timed = _those(found, _CHANGING)
        """Those that may change with time alone."""
        self.placed = _those(found, {("context",), ("context", "location")})
        """Those that may change with the location."""
        # A variable would stand for has(its name) as well, which asks for something else.
        asked = {mention.path for of_one in found for mention in of_one if mention.asked}
        variables = dict(filter(None, (_variable(mention, asked) for of_one in found for mention in of_one)))
        guards = cel.Type.List(cel.Type.BOOL)
        self._env = cel.NewEnv(variables={**TYPES, **variables, _GUARDS: guards}, container=CONTAINER)
        self._reader = {name: _reader(tuple(name.split("."))) for name in (*variables, *TYPES)}.__getitem__
        self._segments = [
            _Segment(
                expression,
                self._env.compile(expression),
                tuple(dict.fromkeys(name for mention in of_one for name in _names(mention, variables))),
                frozenset(_keyed(node)),
                _never(node),
            )
            for expression, node, of_one in zip(expressions, nodes, found, strict=True)
        ]
        starts = range(0, len(self._segments), BLOCK)
        self._programs = [self._program(self._segments[start : start + BLOCK]) for start in starts]
        self._needs: dict[tuple[int, ...], _Need] = {}
        self._held = 0
        """Segments of all sets of `_needs` together."""

    def evaluate(self, needed: Iterable[int], facts: Facts, holds: NDArray[np.uint8]) -> None:
        """Write 1 or 0 for each segment needed; give them in a fixed order. An error of evaluation is 0."""
        numbers = tuple(needed)
        need = self._needs.get(numbers) or self._needed(numbers)
        values = {name: value for name, read in need.reads if (value := read(facts)) is not _ABSENT}
        absent = {path for path, name in need.named if name not in values}
        absent.update(path for path, find in need.keyed if not find(facts))
        for part in need.parts:
            self._evaluate(part, values, absent, holds)

    def _evaluate(self, part: _Part, values: dict[str, Any], absent: set[Path], holds: NDArray[np.uint8]) -> None:
        guards, doubtful = part.guards, part.members
        if part.program is not None:
            doubtful = [one for one in part.members if not absent.isdisjoint(one[2].keyed)] if absent else []
            if doubtful:
                guards = guards.copy()
                for place, *_ in doubtful:
                    guards[place] = False
            values[_GUARDS] = guards
            found = None
            with contextlib.suppress(RuntimeError):  # a list that is longer than CEL goes through
                found = part.program.eval(data=values).plain_value()
            if isinstance(found, list):
                for place, number, _ in part.members:
                    holds[number] = found[place] is True
            else:  # one of them has failed
                doubtful = part.members
        if doubtful:
            activation = self._env.Activation(values)
            for _, number, segment in doubtful:
                holds[number] = absent.isdisjoint(segment.required) and _is_true(segment.program, activation)

    def _needed(self, numbers: tuple[int, ...]) -> _Need:
        if len(self._needs) >= MOST_NEEDS or self._held + len(numbers) > MOST_HELD:
            self._needs.clear()
            self._held = 0
        self._held += len(numbers)
        parts = []
        for block, program in enumerate(self._programs):
            members = [
                (number % BLOCK, number, self._segments[number]) for number in numbers if number // BLOCK == block
            ]
            places = {place for place, *_ in members}
            if members:
                guards = [place in places for place in range(BLOCK)]
                parts.append(_Part(program if len(members) > 1 else None, guards, members))
        need = self._needs[numbers] = _Need(parts, self._reader)
        return need

    def _program(self, segments: Sequence[_Segment]) -> cel.Expression | None:
        """One list of all expressions; lines of their own, as one may end in a comment."""
        texts = (f"{_GUARDS}[{place}] && (\n{one.expression}\n)" for place, one in enumerate(segments))
        try:
            return self._env.compile(f"[{','.join(texts)}]")
        except RuntimeError:  # longer or deeper than CEL takes
            return None


def _is_true(program: cel.Expression, activation: cel.Activation) -> bool:
    try:
        return program.eval(activation).value() is True
    except RuntimeError:  # a list that is longer than CEL goes through
        return False


def _those(found: list[list[Mention]], paths: set[Path]) -> frozenset[int]:
    """The numbers of the segments that read any of some roots as a whole, or anything in some of their fields."""
    return frozenset(
        number for number, of_one in enumerate(found) if any(mention.path[:2] in paths for mention in of_one)
    )


def _variable(mention: Mention, asked: set[Path]) -> tuple[str, cel.Type] | None:
    """The variable that stands for a value, with its type; None where the whole message is needed."""
    path = mention.path
    if mention.asked or not mention.dotted or len(path) == 1 or any(path[:n] in asked for n in range(2, len(path) + 1)):
        return None
    field, depth = field_of(path)
    if field is None:
        return None
    if is_keyed(path):
        kind = cel.Type.DYN if _is_struct(path[:depth]) else _TYPES.get(type(_value(path[:depth])[""]))
        return None if kind is None else (".".join(path[: depth + 1]), kind)
    kind = _TYPES.get(type(_value(path)))
    return None if kind is None or depth < len(path) else (".".join(path), kind)


def _names(mention: Mention, variables: Container[str]) -> Iterator[str]:
    """The variables, of those there are, that an expression reads for a value."""
    path = mention.path
    own = [name for size in range(2, len(path) + 1) if (name := ".".join(path[:size])) in variables]
    yield from own
    if not own or mention.asked or not mention.dotted:
        yield path[0]


def _value(path: Path) -> Any:  # noqa: ANN401 - of any type
    """What a path of messages leads to where nothing is said."""
    return attrgetter(".".join(path[1:]))(ROOTS[path[0]]())


def _is_struct(path: Path) -> bool:
    return isinstance(_value(path), Struct)


def _reader(path: Path) -> Read:
    """Reads a value of facts; what is not there is _ABSENT."""
    if path == ("now",):
        return Facts.instant
    if not is_keyed(path):
        return attrgetter(".".join(path))
    depth = field_of(path)[1]
    whole, first, rest = attrgetter(".".join(path[:depth])), path[depth], path[depth + 1 :]
    if not _is_struct(path[:depth]):

        def of_map(facts: Facts) -> Any:  # noqa: ANN401
            found = whole(facts)
            return found.get(first, _ABSENT)

        return of_map

    def of_struct(facts: Facts) -> Any:  # noqa: ANN401
        fields = whole(facts).fields
        if first not in fields:
            return _ABSENT
        found = _plain(fields[first])
        for name in rest:
            if not isinstance(found, dict) or name not in found:
                return _ABSENT
            found = found[name]
        return found

    return of_struct


def _finder(path: Path) -> Callable[[Facts], bool]:
    """Tells whether something that is read by a key is there."""
    depth = field_of(path)[1]
    if len(path) > depth + 1:
        read = _reader(path)
        return lambda facts: read(facts) is not _ABSENT
    whole, key = attrgetter(".".join((*path[:depth], "fields") if _is_struct(path[:depth]) else path[:depth])), path[-1]
    return lambda facts: key in whole(facts)


def _plain(value: Value) -> Any:  # noqa: ANN401
    """A value of an attribute as CEL takes it."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_plain(one) for one in value.list_value.values]
    if kind == "struct_value":
        return {name: _plain(one) for name, one in value.struct_value.fields.items()}
    return None if kind == "null_value" or kind is None else getattr(value, kind)


def _keyed(node: Node) -> Iterator[Path]:
    """What an expression reads by keys that need not be there."""
    path = path_of(node)
    if path and node.kind == "has":
        path = path[:-1]
    if path:
        if is_keyed(path):
            yield path
        return
    for part in node.parts:
        yield from _keyed(part)


def _never(node: Node) -> Names:
    """What an expression cannot be true without."""
    if node.kind == "call" and node.name in {AND, OR}:
        left, right = map(_never, node.parts)
        return left | right if node.name == AND else left & right
    if node.kind == "call" and node.name == IF:
        return _errs(node.parts[0]) | (_never(node.parts[1]) & _never(node.parts[2]))
    return _errs(node)


def _errs(node: Node) -> Names:
    """What an expression fails without, whatever else is so."""
    path = path_of(node)
    if path:
        return frozenset({path}) if node.kind != "has" and is_keyed(path) else _NOTHING
    if node.kind == "call" and node.name in {AND, OR}:
        return _errs(node.parts[0]) & _errs(node.parts[1])
    if node.kind == "call" and node.name == IF:
        return _errs(node.parts[0]) | (_errs(node.parts[1]) & _errs(node.parts[2]))
    if node.kind == "macro":  # of what it does with what it goes through, nothing is for certain
        return _errs(node.parts[0])
    return frozenset().union(*map(_errs, node.parts))
