"""Bounds of what evaluating an expression may take: steps, and the size of values, for the largest inputs there may be.

CEL itself ends an evaluation after ITERATIONS elements, and matches patterns in linear time (RE2). It does not bound
values that grow, as by nested `map(x, x + x)`. The bound of a loop over a list counts one element as large as the whole
list and all others as empty, which is the worst case: nearly every cost here is a convex function of the sizes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from offers.catalogue.expressions import EQUAL, IF, IN, INDEX, UNEQUAL, ConstantError, Node, field_of, is_keyed, path_of
from offers.model.attributes import MAX_ATTRIBUTE_BYTES, MAX_LISTED

ITERATIONS: Final = 10_000
"""Elements that all loops of an evaluation go through together, after which CEL ends it: the default of cel-cpp."""
MAX_STEPS: Final = 2_000_000
"""Steps of an evaluation; one takes up to some 0.1 µs. Comparing two lists of attributes with each other fits."""
MAX_SIZE: Final = 1 << 20
"""Characters and elements of a value that is made on the way."""
MAX_NESTED: Final = 4
"""Loops within one another."""
_TEXT = 256
"""Characters of a field of text: the longest are ids of persons."""
_WHOLE = 256 << 10
"""Characters and elements of a repeated field, such as the ids of a person."""
_CHARACTERS_A_STEP = 64
_SLOWLY_A_STEP = 4
"""Characters, of functions that go through them one by one."""
_OPERATOR = ("", "_", "!", "@")
"""First characters of the names of operators, and of what makes a list or a map."""
_UNKNOWN_TEXT = 4_000
"""Characters of a constant that is not decoded: an expression has no more."""
_MADE = 32
"""Characters of a number, an instant or a duration as text."""
_TRIED = 4
"""Instructions of a pattern that are tried in a step, for each character."""
_COPIED_A_STEP = 2
"""Elements of a list. CEL makes the list of a `map` or `filter` anew for each element that it adds, some 24 bytes each,
and frees none of them before the evaluation ends."""
_BUILT, _BUILT_WIDE, _BUILT_CLASS = 5, 30, 12_000
"""Steps to compile an instruction of a pattern: one of ASCII, one of more characters, and a class of Unicode, which has
hundreds of ranges. CEL compiles a pattern for each evaluation of `matches`."""
_SMALL = frozenset(
    {
        "_&&_", "_||_", "!_", "@not_strictly_false", EQUAL, UNEQUAL, "_<_", "_<=_", "_>_", "_>=_", IN, "size", "int",
        "uint", "double", "bool", "contains", "startsWith", "endsWith", "matches", "indexOf", "lastIndexOf", "type",
        "duration", "timestamp", "date", "semver_compare", "days_between", "years_between", "is_anniversary",
        "start_of_day", "-_", "_-_", "_*_", "_/_", "_%_",
    }
)  # fmt: skip
"""Functions whose results have a fixed size."""
_ATOM = re.compile(
    r"\\[pPx]\{[^}]*\}|\\[pP]?.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]])*\]|[^()|{]|\{(?!\d+(?:,\d*)?\})", re.DOTALL
)
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_WIDE = re.compile(r"[^\x00-\x7f]|\\x\{|\\[DSW]|^\.$|^\[\^")
_CLASS = re.compile(r"\\[pP]")


class Extent(NamedTuple):
    """Bounds of a value."""

    size: int
    """Characters and elements in it, at any depth."""
    length: int = 0
    """Elements of a list, or entries of a map."""


class Cost(NamedTuple):
    """Bounds of an evaluation."""

    own: int = 0
    """Steps outside of loops."""
    loops: int = 0
    """Steps within loops."""
    peak: int = 0
    """Most steps within a loop for one element, without those of loops within it."""
    largest: int = 0
    """Size of the largest value."""

    def plus(self, other: "Cost") -> "Cost":
        """Return the cost of this and another."""
        most = max(self.peak, other.peak), max(self.largest, other.largest)
        return Cost(self.own + other.own, self.loops + other.loops, *most)

    @property
    def steps(self) -> int:
        """The steps of the evaluation, with as many elements as CEL lets it have."""
        return self.own + min(self.loops, ITERATIONS * self.peak)


_Variables = Mapping[str, Extent]
_EMPTY = Extent(0)


def check_cost(node: Node) -> None:
    """Check the bounds of an expression. Raises ConstantError, whose message ends with ": " and the remedy."""
    _, cost = _bound(node, {}, 0)
    if cost.largest > MAX_SIZE:
        told = f"may make a value of {_shown(cost.largest)} characters or elements, and at most {MAX_SIZE:,} are"
        message = f"{told} allowed: let values not grow from loop to loop"
        raise ConstantError(message)
    if cost.steps > MAX_STEPS:
        told = f"may take {_shown(cost.steps)} steps, and at most {MAX_STEPS:,} are allowed"
        message = f"{told}: nest fewer loops, do less within them, give split a limit, or write a shorter pattern"
        raise ConstantError(message)


def _shown(number: int) -> str:
    return f"{number:,}" if number < 10**15 else "over 10^15"


def _bound(node: Node, variables: _Variables, depth: int) -> tuple[Extent, Cost]:
    """Return the bounds of a value and of its evaluation, within `depth` loops."""
    if node.kind == "macro":
        return _loop(node, variables, depth)
    if node.kind == "constant":
        size = len(node.value) if isinstance(node.value, str) else _UNKNOWN_TEXT if node.value is None else 1
        return Extent(size), Cost(largest=size)
    if node.kind == "name" and node.name in variables:
        return variables[node.name], Cost()
    path = path_of(node)
    if node.kind == "name" or path:
        return (Extent(1) if node.kind == "has" else _read(path)), Cost(1)
    parts, cost = [], Cost()
    for part in node.parts:
        extent, own = _bound(part, variables, depth)
        parts.append(extent)
        cost = cost.plus(own)
    extent = _made(node, parts)
    steps = _worked(node, parts) + extent.size // _CHARACTERS_A_STEP
    return extent, cost.plus(Cost(steps, largest=extent.size))


def _loop(node: Node, variables: _Variables, depth: int) -> tuple[Extent, Cost]:
    """Return the bounds of a loop over a list or a map: its parts are those of a Comprehension."""
    if depth >= MAX_NESTED:
        message = f"nests loops deeper than {MAX_NESTED}: nest fewer of them"
        raise ConstantError(message)
    over, init, condition, step, result = node.parts
    (elements, cost), (start, began) = _bound(over, variables, depth), _bound(init, variables, depth)
    accumulator = next((name for name in _names(result) if name.startswith("@")), "@result")
    count = min(elements.length, ITERATIONS)
    grown, spent = Extent(0), Cost()
    for times, one in ((max(count - 1, 0), _EMPTY), (min(count, 1), Extent(elements.size, elements.size))):
        inside = {**variables, accumulator: _EMPTY, **dict.fromkeys(filter(None, node.binds), one)}
        _, tested = _bound(condition, inside, depth + 1)
        made, worked = _bound(step, inside, depth + 1)
        body = tested.plus(worked).plus(Cost(1))
        grown = Extent(grown.size + times * made.size, grown.length + times * made.length)
        spent = spent.plus(Cost(0, times * (body.own + body.loops), max(body.own, body.peak), body.largest))
    copied = grown.length // 2 // _COPIED_A_STEP  # for an element, on average
    spent = spent.plus(Cost(0, grown.length * copied, spent.peak + copied))
    extent = Extent(start.size + grown.size, start.length + grown.length)
    told, ended = _bound(result, {**variables, accumulator: extent}, depth)
    return told, cost.plus(began).plus(spent).plus(ended).plus(Cost(1, largest=extent.size))


def _names(node: Node) -> list[str]:
    return [node.name] if node.kind == "name" else [name for part in node.parts for name in _names(part)]


def _read(path: Sequence[str]) -> Extent:
    """Return the bounds of a value that is read."""
    if len(path) < 2:
        return Extent(_WHOLE if path and path[0] != "now" else 1, 0)
    field, depth = field_of(tuple(path))
    if field is None or (field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct"):
        return Extent(MAX_ATTRIBUTE_BYTES, MAX_LISTED)
    if is_keyed(tuple(path)):
        return Extent(_TEXT)
    if field.is_repeated or (field.message_type is not None and depth == len(path)):
        return Extent(_WHOLE, MAX_LISTED)
    return Extent(_TEXT if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else 1)


def _made(node: Node, parts: Sequence[Extent]) -> Extent:
    """Return the bounds of the result of a call, given those of its arguments."""
    if node.kind == "has" or node.name in _SMALL or node.name.startswith("get"):
        return Extent(1)
    if node.kind == "select" or node.name == INDEX:
        path = path_of(node.parts[0])
        inner = _read((*path, "")) if path and is_keyed((*path, "")) else parts[0]
        return Extent(inner.size, inner.size)
    if node.name == IF:
        return Extent(max(parts[1].size, parts[2].size), max(parts[1].length, parts[2].length))
    if node.name in _GROWN:
        return _GROWN[node.name](node, parts)
    whole = sum(part.size for part in parts)
    if not node.name:  # a list, a map or a message
        return Extent(whole + len(parts), len(parts))
    return Extent(whole + _MADE, sum(part.length for part in parts))


def _replaced(_: Node, parts: Sequence[Extent]) -> Extent:
    text, by = parts[0].size, parts[2].size
    return Extent(text + (text + 1) * by)


def _split(node: Node, parts: Sequence[Extent]) -> Extent:
    limit = node.parts[2].value if len(parts) > 2 else None
    most = limit if isinstance(limit, int) and limit >= 0 else parts[0].size + 1
    return Extent(2 * parts[0].size + 1, min(most, parts[0].size + 1))


def _joined(_: Node, parts: Sequence[Extent]) -> Extent:
    between = parts[1].size if len(parts) > 1 else 0
    return Extent(parts[0].size + max(parts[0].length, 1) * between)


def _formatted(node: Node, parts: Sequence[Extent]) -> Extent:
    """A clause writes an argument, or a number with as many digits as its precision says: at most 1,000."""
    pattern = node.parts[0].value
    clauses = pattern.count("%") if isinstance(pattern, str) else parts[0].size
    return Extent(parts[0].size + parts[1].size + clauses * 1_400)


def _quoted(_: Node, parts: Sequence[Extent]) -> Extent:
    return Extent(2 * parts[0].size + 2)


def _added(_: Node, parts: Sequence[Extent]) -> Extent:
    return Extent(sum(part.size for part in parts), sum(part.length for part in parts))


_GROWN: dict[str, Callable[[Node, Sequence[Extent]], Extent]] = {
    "replace": _replaced,
    "split": _split,
    "join": _joined,
    "format": _formatted,
    "strings.quote": _quoted,
    "_+_": _added,
}
"""Functions that make values larger than their arguments."""


def _worked(node: Node, parts: Sequence[Extent]) -> int:
    """Return the steps a call takes besides those for its arguments and for making its result."""
    if node.name == "matches":
        pattern = node.parts[-1].value
        if not isinstance(pattern, str):
            message = "matches a pattern that is not a constant, so that its cost is unknown: write it as a text"
            raise ConstantError(message)
        return (parts[0].size + 2 * _TRIED) * instructions(pattern) // _TRIED + instructions(pattern, _built)
    if node.name == IN:
        return parts[1].length
    if node.name in {EQUAL, UNEQUAL}:
        if any(part.kind == "constant" for part in node.parts):
            return 1
        return min(part.length for part in parts) + min(part.size for part in parts) // _CHARACTERS_A_STEP
    if node.kind != "call" or node.name[:1] in _OPERATOR:
        return 0
    whole = sum(part.size for part in parts)
    return 1 + whole // (_CHARACTERS_A_STEP if node.name in _SMALL or node.name in _GROWN else _SLOWLY_A_STEP)


def instructions(pattern: str, weight: Callable[[str], int] = lambda _: 1) -> int:
    """Return about how many instructions a pattern has, with its repetitions written out.

    `weight` returns what an instruction counts, such as "a", "[a-z]" or "(".
    """
    sizes, last, at = [0], 0, 0
    opened: list[int] = []
    while at < len(pattern):
        if found := _REPEAT.match(pattern, at):
            times = max(int(found[2] or found[1]), 1)
            sizes[-1] += last * (times - 1)
            last *= times
        elif pattern[at] == "(":
            opened.append(len(sizes))
            sizes.append(weight("("))
        elif pattern[at] == ")" and opened:
            opened.pop()
            last = sizes.pop()
            sizes[-1] += last
        elif found := _ATOM.match(pattern, at):
            one = weight(found[0])
            last = 0 if found[0] in "*+?" else one
            sizes[-1] += one
        at = found.end() if found else at + 1
    return sum(sizes) + 1


def _built(atom: str) -> int:
    """Return the steps to compile an instruction of a pattern."""
    return _BUILT + _BUILT_WIDE * len(_WIDE.findall(atom)) + _BUILT_CLASS * len(_CLASS.findall(atom))
