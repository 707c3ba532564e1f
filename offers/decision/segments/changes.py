"""Changes: until when time alone leaves the value of a segment's expression as it is.

An expression is compiled to a function that returns a second after the instant decided for, before which the value
stays the same for the same person and request:

- `profile.life_cycle`, `profile.journey_phase`: the next threshold that the person's events cross.
- A comparison of instants, lengths of time or whole numbers that run with the clock: the second of their crossing.
- Getters such as `now.getHours('Europe/Paris')`, and quotients: the next second at which the result is another.
- Functions of days, such as `days_between(profile.last_order_time, now)` and `is_anniversary`: the next day, or the
  next midnight by the clock of their zone.
- A share of `profile.affinities` compared with a number: shares decay no faster than by their half-life.
- A macro: the least of its elements.
- Any other function: the least of its arguments. `now` by itself changes every second.

Functions return early seconds where that is simpler, never late ones.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

from offers.catalogue.expressions import (
    EQUAL,
    IN,
    INDEX,
    ORDERS,
    UNEQUAL,
    Node,
    path_of,
)
from offers.catalogue.functions import DAYS_BETWEEN, OF_DAYS
from offers.catalogue.hours.schedules import NEVER, zone_clock
from offers.decision.segments.linear import (
    INSTANT,
    LENGTH,
    NANOS,
    NUMBER,
    TURNING,
    AlwaysFailsError,
    Linear,
    Read,
    Scope,
    UnknownError,
    is_timed,
    linear_of,
    reader_of,
)
from offers.model.instants import DAY_S, HOUR_S
from offers.state.person.leanings import HALF_LIFE_S

MOST_ELEMENTS = 100
"""Elements of a macro that are looked at; a longer list is taken to change every second."""
_OFFSET = re.compile(r"([+-]?)(\d\d):(\d\d)").fullmatch
_PARTS = {
    "getSeconds": 1, "getMinutes": 60, "getHours": HOUR_S,
    **dict.fromkeys(("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getMonth", "getFullYear"), DAY_S),
}  # fmt: skip
"""Getters of instants, with the seconds after which the part may change at the earliest."""
_LENGTHS = {"getSeconds": 1, "getMinutes": 60, "getHours": HOUR_S}
"""Getters of lengths of time, with the unit in seconds that they count."""


Turn = Callable[[Scope], int]
"""Returns the second before which a value stays the same; NEVER: time alone does not change it."""


def turn_of(node: Node) -> Turn | None:
    """Return the function for an expression; None: time alone never changes its value."""
    path = path_of(node)
    if path:
        return _turn_of_path(path, asked=node.kind == "has")
    if node.kind == "macro":
        return _turn_of_macro(node)
    usual = _least(map(turn_of, node.parts))
    special = _SPECIAL.get(node.name) if node.kind == "call" else None
    return usual if usual is None or special is None else special(node, usual)


def _least(turns: Iterable[Turn | None]) -> Turn | None:
    found = [turn for turn in turns if turn is not None]
    if len(found) < 2:
        return found[0] if found else None
    return lambda scope: min(turn(scope) for turn in found)


def _next_second(scope: Scope) -> int:
    return scope.facts.now + 1


def _turn_of_path(path: tuple[str, ...], *, asked: bool) -> Turn | None:
    """Return the function for the value at a path, or for whether it is `asked` for only."""
    if path[0] == "now":
        return _next_second
    if path[0] == "context":
        if asked or path[1:2] not in {(), ("time",)}:
            return None
        return lambda scope: scope.facts.now + 1 if scope.facts.context.HasField("time") else NEVER
    if path[0] != "profile":
        return None
    if len(path) == 1:
        return lambda scope: min(scope.facts.turns.values(), default=NEVER)
    name = path[1]
    if name not in TURNING or (asked and name == "affinities"):
        return None
    return lambda scope: scope.facts.turns.get(name, NEVER)


def _turn_of_names(node: Node, usual: Turn) -> Turn | None:
    """Return the function for a question about the names that have shares, if it is one: those stay the same."""
    return _least(map(turn_of, node.parts[:-1])) if _shares_of(node.parts[-1]) else usual


def _shares_of(node: Node) -> bool:
    """Return whether a node is all shares of one kind, by name."""
    path = path_of(node)
    return path[:2] == ("profile", "affinities") and len(path) == 3


def _turn_of_comparison(node: Node, usual: Turn) -> Turn:
    """Return the function for a comparison, of a share with a number or of two values that grow evenly."""
    left, right = node.parts
    share, bound = (left, right) if _is_share(left) else (right, left)
    if _is_share(share):
        read, limit = reader_of(share), linear_of(bound)
        if read is None or limit is None:
            return usual
        return _followed(lambda scope: _passed(scope, read(scope), limit(scope)), usual)
    one, other = linear_of(left), linear_of(right)
    if one is None or other is None:
        return usual
    return _followed(lambda scope: _crossed(scope, one(scope), other(scope)), usual)


def _is_share(node: Node) -> bool:
    if node.kind == "select" or (node.kind == "call" and node.name == INDEX):
        return _shares_of(node.parts[0])
    return False


def _followed(turn: Turn, usual: Turn) -> Turn:
    """Return a function that falls back to `usual` for values that cannot be followed."""

    def followed(scope: Scope) -> int:
        try:
            return turn(scope)
        except AlwaysFailsError:
            return NEVER
        except (UnknownError, ArithmeticError):
            return usual(scope)

    return followed


def _passed(scope: Scope, share: Any, limit: Linear) -> int:  # noqa: ANN401 - as read
    """Return the second before which a share cannot pass a limit."""
    if limit.kind != NUMBER or limit.slope or not isinstance(share, float):
        raise UnknownError
    if limit.value <= 0 or share <= 0.0:
        return NEVER
    seconds = HALF_LIFE_S * abs(math.log2(share / limit.value)) - 1
    return scope.facts.now + max(1, math.floor(min(seconds, NEVER)))


def _crossed(scope: Scope, one: Linear, other: Linear) -> int:
    """Return the second before which two values keep their order."""
    if one.kind != other.kind or one.slope == other.slope:
        return NEVER
    seconds = (other.value - one.value) / (one.slope - other.slope)
    return NEVER if seconds < 0 else _after(scope, seconds)


def _after(scope: Scope, seconds: Fraction) -> int:
    """Return the second some seconds from the instant, the next one at the earliest."""
    return min(scope.facts.now + max(1, math.floor(seconds)), NEVER)


def _turn_of_quotient(node: Node, usual: Turn) -> Turn:
    one, other = map(linear_of, node.parts)
    if one is None or other is None:
        return usual

    def turn(scope: Scope) -> int:
        number, divisor = one(scope), other(scope)
        if number.kind != NUMBER or divisor.slope:
            raise UnknownError
        if divisor.value == 0:
            raise AlwaysFailsError
        return _next_multiple(scope, number, abs(divisor.value))

    return _followed(turn, usual)


def _next_multiple(scope: Scope, one: Linear, unit: Fraction) -> int:
    """Return the second before which a value passes no multiple of a unit."""
    if one.slope == 0:
        return NEVER
    rest = one.value % unit
    return _after(scope, (unit - rest if one.slope > 0 else rest) / abs(one.slope))


def _turn_of_getter(node: Node, usual: Turn) -> Turn:
    target = linear_of(node.parts[0])
    zone: Read | None = (lambda _: "UTC") if len(node.parts) == 1 else reader_of(node.parts[1])
    if target is None or zone is None:
        return usual

    def turn(scope: Scope) -> int:
        one = target(scope)
        if one.kind == LENGTH and node.name in _LENGTHS:
            return _next_multiple(scope, one, Fraction(_LENGTHS[node.name] * NANOS))
        return _part_of(scope, one, zone(scope), _PARTS[node.name])

    return _followed(turn, usual)


def _turn_of_days(node: Node, usual: Turn) -> Turn:
    """Return the function for days between two instants, or for what follows the days of a zone's clock."""
    if node.name == DAYS_BETWEEN and len(node.parts) == 2:
        begin, end = map(linear_of, node.parts)
        if begin is None or end is None:
            return usual
        return _followed(lambda scope: _next_day(scope, begin(scope), end(scope)), usual)
    *days, zone = node.parts
    instants, read = [linear_of(one) for one in days if is_timed(one)], reader_of(zone)
    known = [one for one in instants if one is not None]
    if read is None or len(known) < len(instants):
        return usual
    return _followed(lambda scope: min(_part_of(scope, one(scope), read(scope), DAY_S) for one in known), usual)


def _next_day(scope: Scope, begin: Linear, end: Linear) -> int:
    """Return the second before which the whole days between two instants stay the same."""
    if not begin.kind == end.kind == INSTANT:
        raise UnknownError
    length = Linear(LENGTH, end.value - begin.value, end.slope - begin.slope)
    return _next_multiple(scope, length, Fraction(DAY_S * NANOS))


def _part_of(scope: Scope, one: Linear, time_zone: object, unit: int) -> int:
    """Return the second before which a part of an instant, of so many seconds, stays the same by a clock."""
    if one.kind != INSTANT or one.slope not in {0, NANOS}:
        raise UnknownError
    if one.slope == 0:
        return NEVER
    second = math.floor(one.value / NANOS)
    return scope.facts.now + _part_ends(time_zone, second, unit) - second


def _part_ends(time_zone: object, second: int, unit: int) -> int:
    """Return the second before which an instant's part of so many seconds stays the same by a clock."""
    starts, offsets = _clock(time_zone)
    index = next((number for number, start in enumerate(starts) if start > second), len(starts))
    ends = second + unit - (second + offsets[index - 1]) % unit
    return min([ends, *starts[index : index + 1]])


def _clock(time_zone: object) -> tuple[Sequence[int], Sequence[int]]:
    """Return the seconds from which a zone's offsets hold, and these. Raises UnknownError."""
    if not isinstance(time_zone, str):
        raise UnknownError
    if not time_zone:
        return (-NEVER,), (0,)
    if fixed := _OFFSET(time_zone):
        seconds = int(fixed[2]) * HOUR_S + int(fixed[3]) * 60
        return (-NEVER,), (-seconds if fixed[1] == "-" else seconds,)
    try:
        clock = zone_clock(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownError from None
    return clock.starts, clock.offsets


def _turn_of_macro(node: Node) -> Turn | None:
    whole, *rest = node.parts
    body = _least(map(turn_of, rest))
    outside = None if _shares_of(whole) else turn_of(whole)
    if body is None:
        return outside
    read = reader_of(whole)
    if read is None or node.binds[1]:
        return _next_second

    def turn(scope: Scope) -> int:
        elements = list(read(scope))
        if len(elements) > MOST_ELEMENTS:
            return _next_second(scope)
        bound = [Scope(scope.facts, {**scope.bound, node.binds[0]: one}) for one in elements]
        return min((body(one) for one in bound), default=NEVER)

    return _least([outside, _followed(turn, _next_second)])


_SPECIAL: dict[str, Callable[[Node, Turn], Turn | None]] = {
    **dict.fromkeys((EQUAL, UNEQUAL, *ORDERS), _turn_of_comparison),
    **dict.fromkeys(_PARTS, _turn_of_getter),
    **dict.fromkeys(("size", IN), _turn_of_names),
    **dict.fromkeys((DAYS_BETWEEN, *OF_DAYS), _turn_of_days),
    "_/_": _turn_of_quotient,
}
"""By the name of a call: the function that may promise more than the least of its arguments."""
