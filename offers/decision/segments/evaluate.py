"""Evaluation of segments: the expressions that a decision needs, evaluated together.

Two things make it fast:

- Values such as `profile.order_count` are CEL variables of that whole name. CEL looks them up instead of walking
  through messages.
- The segments of a block are one program, a list, because most of the cost of a call is fixed. Guards skip the segments
  that a decision does not need.

One failing expression would fail the list. Values that expressions may fail without are therefore looked up first:
where one is absent, its segments are false, or evaluated one by one.
"""

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
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
from offers.catalogue.functions import extensions
from offers.catalogue.hours.schedules import NEVER
from offers.decision.segments.changes import turn_of
from offers.decision.segments.linear import Scope
from offers.decision.segments.predicates import Rules, rules_of
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.profile_pb2 import Profile

BLOCK = 32
"""Segments in a program. One call evaluates a block, and skips the segments that are not needed."""
MOST_NEEDS = 4096
"""The most sets of needed segments that are cached; decisions in one city need some hundreds."""
MOST_HELD = 200_000
"""The most segments in all cached sets together, at some 200 bytes each. The limit is needed because the segments left
to evaluate differ from person to person, and so the number of sets is not bounded by the catalogue."""

Path = tuple[str, ...]
Names = frozenset[Path]
Read = Callable[["Facts"], Any]

_ABSENT = object()
_NOTHING: Names = frozenset()
_GUARDS = "_"
"""The variable that holds, for each segment of a program, whether to evaluate it."""
_TYPES = {bool: cel.Type.BOOL, int: cel.Type.INT, float: cel.Type.DOUBLE, str: cel.Type.STRING,
          Timestamp: cel.Type.TIMESTAMP}  # fmt: skip


class Facts(NamedTuple):
    """The values that segments read. What is not known is an empty message."""

    user: User
    session: Session
    context: Context
    profile: Profile
    now: int
    """The instant of the decision, in seconds since 1970."""
    turns: Mapping[str, int] = MappingProxyType({})
    """The second at which a derived part of the profile may change next by time alone: see state/person/view.py."""

    def instant(self) -> Timestamp:
        """Return `now` as expressions read it."""
        return Timestamp(seconds=self.now)


class _Segment(NamedTuple):
    """An expression, and the values it reads."""

    expression: str
    program: cel.Expression
    reads: tuple[str, ...]
    """The variables it reads."""
    keyed: Names
    """Paths without which it may fail."""
    required: Names
    """Paths without which it cannot be true."""


class _NeededBlock(NamedTuple):
    """The needed segments of one block."""

    program: cel.Expression | None
    """The list of all segments of the block. None: only one is needed, or CEL refuses the list as too long."""
    guards: list[bool]
    """For each segment of the block, whether it is needed."""
    members: list[tuple[int, int, _Segment]]
    """Index in the block, number and segment of each needed one."""


class _EvaluationPlan:
    """The values to read and the programs to evaluate for a set of needed segments."""

    __slots__ = ("keyed", "named", "parts", "reads")

    def __init__(self, parts: list[_NeededBlock], reader: Callable[[str], Read]) -> None:
        self.parts = parts
        segments = [segment for part in parts for *_, segment in part.members]
        self.reads = [(name, reader(name)) for name in dict.fromkeys(name for one in segments for name in one.reads)]
        variables = dict(self.reads)
        keyed = sorted({path for one in segments for path in one.keyed})
        self.named = [(path, name) for path in keyed if (name := ".".join(path)) in variables]
        """Paths that may be absent and are variables, with their names."""
        self.keyed = [(path, _finder(path)) for path in keyed if ".".join(path) not in variables]
        """Other paths that may be absent, each with a function that looks it up."""


class Segments:
    """The segments of a catalogue. Safe to share between threads."""

    def __init__(self, expressions: Sequence[str]) -> None:
        """Compile expressions that were checked. The number of a segment is its index."""
        nodes = [tree(compiled(expression)) for expression in expressions]
        self.rules = rules_of(nodes)
        self.values = len(self.rules.arrays[Rules.path.name])
        """Segments compiled to steps of the loops. They are evaluated here only for explanations."""
        found = [list(mentions(node)) for node in nodes]
        self.paths = frozenset(mention.path for of_one in found for mention in of_one)
        """Every path that any segment reads, such as ("profile", "affinities", "categories", "sushi")."""
        self.worked_out = frozenset(path[1] for path in self.paths if path[0] == "profile" and len(path) > 1)
        """The fields of the profile that any segment reads."""
        if ("profile",) in self.paths:
            self.worked_out = frozenset(Profile.DESCRIPTOR.fields_by_name)
        turns = {number: turn_of(node) for number, node in enumerate(nodes)}
        self._turns = {number: turn for number, turn in turns.items() if turn is not None}
        self.timed = frozenset(self._turns)
        """Segments that may change with time alone."""
        self.placed = _those(found, {("context",), ("context", "location")})
        """Segments that may change with the location."""
        # has(name) tests the field itself, so a name that is tested cannot be a variable.
        asked = {mention.path for of_one in found for mention in of_one if mention.asked}
        variables = dict(filter(None, (_variable(mention, asked) for of_one in found for mention in of_one)))
        guards = cel.Type.List(cel.Type.BOOL)
        self._env = cel.NewEnv(
            variables={**TYPES, **variables, _GUARDS: guards}, container=CONTAINER, extensions=extensions()
        )
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
        self._needs: dict[tuple[int, ...], _EvaluationPlan] = {}
        self._held = 0
        """Number of segments in all sets of `_needs` together."""

    def evaluate(self, needed: Iterable[int], facts: Facts, holds: NDArray[np.uint8]) -> None:
        """Write 1 or 0 to `holds` for each segment needed; a failed evaluation is 0.

        `needed` are numbers in a fixed order, so that equal sets share a cache entry.
        """
        numbers = tuple(needed)
        need = self._needs.get(numbers) or self._needed(numbers)
        values = {name: value for name, read in need.reads if (value := read(facts)) is not _ABSENT}
        absent = {path for path, name in need.named if name not in values}
        absent.update(path for path, find in need.keyed if not find(facts))
        for part in need.parts:
            self._evaluate(part, values, absent, holds)

    def until(self, numbers: Iterable[int], facts: Facts) -> int:
        """Return the second before which time alone does not change whether the person is in some segments."""
        scope, turns = Scope(facts, {}), self._turns
        return min((turns[number](scope) for number in numbers if number in turns), default=NEVER)

    def _evaluate(
        self, part: _NeededBlock, values: dict[str, Any], absent: set[Path], holds: NDArray[np.uint8]
    ) -> None:
        guards, doubtful = part.guards, part.members
        if part.program is not None:
            doubtful = [one for one in part.members if not absent.isdisjoint(one[2].keyed)] if absent else []
            if doubtful:
                guards = guards.copy()
                for index, *_ in doubtful:
                    guards[index] = False
            values[_GUARDS] = guards
            found = None
            with contextlib.suppress(RuntimeError):  # CEL stops at a list that is too long
                found = part.program.eval(data=values).plain_value()
            if isinstance(found, list):
                for index, number, _ in part.members:
                    holds[number] = found[index] is True
            else:  # a segment failed, and with it the list
                doubtful = part.members
        if doubtful:
            activation = self._env.Activation(values)
            for _, number, segment in doubtful:
                holds[number] = absent.isdisjoint(segment.required) and _is_true(segment.program, activation)

    def _needed(self, numbers: tuple[int, ...]) -> _EvaluationPlan:
        """Work out and cache what a set of segments needs."""
        if len(self._needs) >= MOST_NEEDS or self._held + len(numbers) > MOST_HELD:
            self._needs.clear()
            self._held = 0
        self._held += len(numbers)
        parts = []
        for block, program in enumerate(self._programs):
            members = [
                (number % BLOCK, number, self._segments[number]) for number in numbers if number // BLOCK == block
            ]
            indices = {index for index, *_ in members}
            if members:
                guards = [index in indices for index in range(BLOCK)]
                parts.append(_NeededBlock(program if len(members) > 1 else None, guards, members))
        need = self._needs[numbers] = _EvaluationPlan(parts, self._reader)
        return need

    def _program(self, segments: Sequence[_Segment]) -> cel.Expression | None:
        """Compile expressions into one list, each on lines of its own, as one may end in a comment."""
        texts = (f"{_GUARDS}[{index}] && (\n{one.expression}\n)" for index, one in enumerate(segments))
        try:
            return self._env.compile(f"[{','.join(texts)}]")
        except RuntimeError:  # longer or deeper than CEL takes
            return None


def _is_true(program: cel.Expression, activation: cel.Activation) -> bool:
    try:
        return program.eval(activation).value() is True
    except RuntimeError:  # CEL stops at a list that is too long
        return False


def _those(found: list[list[Mention]], paths: set[Path]) -> frozenset[int]:
    """Return the numbers of the segments that read any of `paths`, or anything below them."""
    return frozenset(
        number for number, of_one in enumerate(found) if any(mention.path[:2] in paths for mention in of_one)
    )


def _variable(mention: Mention, asked: set[Path]) -> tuple[str, cel.Type] | None:
    """Return the variable that stands for a value, with its type; None where the whole message is needed."""
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
    """Yield the variables that an expression reads for a value, else the root of its path."""
    path = mention.path
    own = [name for size in range(2, len(path) + 1) if (name := ".".join(path[:size])) in variables]
    yield from own
    if not own or mention.asked or not mention.dotted:
        yield path[0]


def _value(path: Path) -> Any:  # noqa: ANN401 - of any type
    """Return the default value at a path of messages."""
    return attrgetter(".".join(path[1:]))(ROOTS[path[0]]())


def _is_struct(path: Path) -> bool:
    return isinstance(_value(path), Struct)


def _reader(path: Path) -> Read:
    """Return a function that reads the value at a path; _ABSENT where there is none."""
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
    """Return a function that tells whether there is a value at a path that ends in a key."""
    depth = field_of(path)[1]
    if len(path) > depth + 1:
        read = _reader(path)
        return lambda facts: read(facts) is not _ABSENT
    whole, key = attrgetter(".".join((*path[:depth], "fields") if _is_struct(path[:depth]) else path[:depth])), path[-1]
    return lambda facts: key in whole(facts)


def _plain(value: Value) -> Any:  # noqa: ANN401
    """Return the value of an attribute in the types CEL takes."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_plain(one) for one in value.list_value.values]
    if kind == "struct_value":
        return {name: _plain(one) for name, one in value.struct_value.fields.items()}
    return None if kind == "null_value" or kind is None else getattr(value, kind)


def _keyed(node: Node) -> Iterator[Path]:
    """Yield the paths with keys, which may be absent, that an expression reads."""
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
    """Return the paths without which an expression cannot be true."""
    if node.kind == "call" and node.name in {AND, OR}:
        left, right = map(_never, node.parts)
        return left | right if node.name == AND else left & right
    if node.kind == "call" and node.name == IF:
        return _errs(node.parts[0]) | (_never(node.parts[1]) & _never(node.parts[2]))
    return _errs(node)


def _errs(node: Node) -> Names:
    """Return the paths without which an expression fails, whatever the other values are."""
    path = path_of(node)
    if path:
        return frozenset({path}) if node.kind != "has" and is_keyed(path) else _NOTHING
    if node.kind == "call" and node.name in {AND, OR}:
        return _errs(node.parts[0]) & _errs(node.parts[1])
    if node.kind == "call" and node.name == IF:
        return _errs(node.parts[0]) | (_errs(node.parts[1]) & _errs(node.parts[2]))
    if node.kind == "macro":  # the body may run for no element, so only the list itself counts
        return _errs(node.parts[0])
    return frozenset().union(*map(_errs, node.parts))
