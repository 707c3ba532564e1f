"""Which segments a person is in: the expressions that a decision needs, evaluated together.

Two things make that quick. Values such as `profile.order_count` are given to CEL as variables of that whole name, which
it looks up instead of going through messages. And all that one decision needs is one program, a list, as most of a
call's cost is its own. What could make that list fail is looked at first: where an attribute is not there, its segments
are false or evaluated by themselves.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import count, repeat
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
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.profile_pb2 import Profile

PROVEN = 8
"""Decisions that need the same segments before these become one program, as making it takes as long as many of them."""
MOST_PLANS = 256

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


class _Plan:
    """How segments that are needed together are evaluated."""

    __slots__ = ("guarded", "keyed", "named", "numbers", "programs", "reads", "segments", "uses")

    def __init__(self, numbers: tuple[int, ...], segments: list[_Segment], reader: Callable[[str], Read]) -> None:
        self.numbers = numbers
        self.segments = segments
        self.reads = [(name, reader(name)) for name in dict.fromkeys(name for one in segments for name in one.reads)]
        variables = dict(self.reads)
        keyed = sorted({path for one in segments for path in one.keyed})
        self.named = [(path, name) for path in keyed if (name := ".".join(path)) in variables]
        """What may be absent and is a variable."""
        self.keyed = [(path, _finder(path)) for path in keyed if ".".join(path) not in variables]
        """What else may be absent."""
        self.guarded = [one.keyed for one in segments if one.keyed]
        self.programs: list[cel.Expression | None] = [None, None]
        """One for when all is there, and one that asks what is."""
        self.uses = [0, 0]


class Segments:
    """The segments of a catalogue. Safe to share between threads."""

    def __init__(self, expressions: Sequence[str]) -> None:
        """Compile expressions that were checked; a segment's number is its place."""
        nodes = [tree(compiled(expression)) for expression in expressions]
        found = [list(mentions(node)) for node in nodes]
        self.paths = frozenset(mention.path for of_one in found for mention in of_one)
        """All that any of them reads, such as ("profile", "affinities", "categories", "sushi")."""
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
                compiled(expression, self._env),
                tuple(dict.fromkeys(name for mention in of_one for name in _names(mention, variables))),
                frozenset(_keyed(node)),
                _never(node),
            )
            for expression, node, of_one in zip(expressions, nodes, found, strict=True)
        ]
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def evaluate(self, needed: Iterable[int], facts: Facts, holds: NDArray[np.uint8]) -> None:
        """Write 1 or 0 for each segment needed. An error of evaluation is 0."""
        numbers = tuple(needed)
        plan = self._plans.get(numbers) or self._planned(numbers)
        values: dict[str, Any] = {}
        for name, read in plan.reads:
            value = read(facts)
            if value is not _ABSENT:
                values[name] = value
        absent = {path for path, name in plan.named if name not in values}
        for path, find in plan.keyed:
            if not find(facts):
                absent.add(path)
        if absent:
            values[_GUARDS] = [absent.isdisjoint(keyed) for keyed in plan.guarded]
        activation = self._env.Activation(values)
        together = self._together(plan, activation, guarded=bool(absent))
        if together is not None and not absent:
            for number, held in zip(numbers, together, strict=True):
                holds[number] = held is True
            return
        for number, segment, held in zip(numbers, plan.segments, together or repeat(None), strict=False):
            true = held
            if held is None or not absent.isdisjoint(segment.keyed):
                true = absent.isdisjoint(segment.required) and segment.program.eval(activation).value()
            holds[number] = true is True

    def _planned(self, numbers: tuple[int, ...]) -> _Plan:
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        plan = _Plan(numbers, [self._segments[number] for number in numbers], self._reader)
        self._plans[numbers] = plan
        return plan

    def _together(self, plan: _Plan, activation: cel.Activation, *, guarded: bool) -> list[Any] | None:
        """What all of a plan come to; None where one errs, or they are no program yet."""
        program = plan.programs[guarded]
        if program is None:
            plan.uses[guarded] += 1
            if plan.uses[guarded] == PROVEN:
                plan.programs[guarded] = self._program(plan, guarded=guarded)
            return None
        found = program.eval(activation).plain_value()
        return found if isinstance(found, list) else None

    def _program(self, plan: _Plan, *, guarded: bool) -> cel.Expression | None:
        """One list of all expressions; lines of their own, as one may end in a comment."""
        guard = count()
        opened = [f"{_GUARDS}[{next(guard)}] && (" if guarded and one.keyed else "(" for one in plan.segments]
        texts = (f"{begun}\n{one.expression}\n)" for begun, one in zip(opened, plan.segments, strict=True))
        try:
            return self._env.compile(f"[{','.join(texts)}]")
        except RuntimeError:  # longer or deeper than CEL takes
            return None


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
