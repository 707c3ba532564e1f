"""A person's visit history in packed form: which items, where and when.

A visit is one person's use of one item within a half hour by the clock. Of several events in it, the heaviest counts,
whatever their order and however often they arrive. A history is therefore a set, and the union of two histories is that
of one person who was known under two ids.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

import offers.compiled  # noqa: F401 - sets the cache folder of compiled loops
from offers.model.hashing import key_of, mixed, mixed_in_python, signed

NOTHING = 0
"""The key of no item, place or trait."""
TRAITS = ("category", "cuisine", "brand", "price_band")
"""Attributes that items share."""
VISIT = np.dtype(
    [
        ("item", "<i8"),
        ("second", "<u4"),  # since 1970, by the local clock
        ("place", "<u2"),  # this and the next four are keys shortened by `short`; 0: unknown
        ("category", "<u2"),
        ("cuisine", "<u2"),
        ("brand", "<u2"),
        ("price_band", "<u2"),
        ("weight", "u1"),  # of the heaviest event, in 255ths
        ("unused", "u1"),
    ]
)
"""One visit, 24 bytes. A history is an array of visits, ordered by second, then by item."""
MAX_VISITS = 256
VISIT_S = 1_800
PLACE_DIGITS = 5
"""Characters of a geohash that identify a place: cells of about 5 km."""

_PACK = struct.Struct("<qI5HBx")
_SIZE = _PACK.size
_SECOND = struct.Struct("<8xI")
_AT_SECOND = 1
_ALL = 2**64 - 1

_Visit = tuple[int, ...]
"""The fields of VISIT without `unused`."""


def visit(item: int, second: int, weight: float, *, place: int = NOTHING, traits: Sequence[int] = ()) -> bytes:
    """Return a history of one visit.

    `second` is by the local clock. `weight` is above 0, to 1: an order has 1, a view less. `place` and `traits`
    (category, cuisine, brand, price band) are keys, NOTHING where unknown. Raises ValueError without item or weight.
    """
    if item == NOTHING or not 0.0 < weight <= 1.0:
        raise ValueError(f"a visit needs an item (not {item}) and a weight above 0, to 1 (not {weight})")
    named = [*map(short_in_python, traits), *[0] * (len(TRAITS) - len(traits))]
    return packed(item, second, short_in_python(place), named, byte_of(weight))


def byte_of(weight: float) -> int:
    """Return a weight in 255ths: 1 to 255."""
    return max(round(255 * weight), 1)


def packed(item: int, second: int, place: int, traits: Sequence[int], weight: int) -> bytes:
    """Return `visit` of a place and all traits as shortened keys, and of a weight in 255ths."""
    return _PACK.pack(item, second, place, *traits, weight)


def short_in_python(key: int) -> int:
    """Return 16 bits of a key, which tell it from other keys of one person; 0 for NOTHING only."""
    return 0 if key == NOTHING else 1 + mixed_in_python(key & _ALL) % 0xFFFF


@njit(error_model="numpy")
def short(key: int) -> int:
    """Return `short_in_python` of a key."""
    return 0 if key == NOTHING else 1 + np.int64(mixed(key) % np.uint64(0xFFFF))


def trait_of(kind: str, name: str) -> int:
    """Return the key of a trait's name; `kind` is one of TRAITS. NOTHING for ""."""
    return signed(key_of(f"trait.{kind}", name))


def place_of(geohash: str) -> int:
    """Return the key of the PLACE_DIGITS cell (about 5 km) of a geohash; NOTHING for ""."""
    return signed(key_of("place", geohash[:PLACE_DIGITS]))


@njit(error_model="numpy")
def _beats(one: np.void, other: np.void) -> bool:
    """Return whether the first of two records of a visit is kept: a total order of records that differ."""
    if one.weight != other.weight:
        return one.weight > other.weight
    if one.second != other.second:
        return one.second < other.second
    if one.place != other.place:
        return one.place > other.place
    if one.category != other.category:
        return one.category > other.category
    if one.cuisine != other.cuisine:
        return one.cuisine > other.cuisine
    if one.brand != other.brand:
        return one.brand > other.brand
    return one.price_band > other.price_band


@njit(error_model="numpy")
def add(history: NDArray[np.void], count: int, visit: np.void) -> int:
    """Add a visit to the first `count` of a history; return the new count.

    The result does not depend on the order of visits, nor on repetitions. A full history drops, of its oldest half
    hour, the item with the lowest key.
    """
    half_hour = visit.second // VISIT_S
    index = count - 1
    while index >= 0 and history[index].second // VISIT_S >= half_hour:
        if history[index].item == visit.item and history[index].second // VISIT_S == half_hour:
            if not _beats(visit, history[index]):
                return count
            count = _remove(history, count, index)
            break
        index -= 1
    if count == history.size:
        oldest = 0
        first = history[0].second // VISIT_S
        for other in range(count):
            if history[other].second // VISIT_S != first:
                break
            if history[other].item < history[oldest].item:
                oldest = other
        if half_hour < first or (half_hour == first and visit.item < history[oldest].item):
            return count
        count = _remove(history, count, oldest)
    index = count
    while index > 0 and (
        history[index - 1].second > visit.second
        or (history[index - 1].second == visit.second and history[index - 1].item > visit.item)
    ):
        history[index] = history[index - 1]
        index -= 1
    history[index] = visit
    return count + 1


@njit(error_model="numpy")
def _remove(history: NDArray[np.void], count: int, index: int) -> int:
    for other in range(index, count - 1):
        history[other] = history[other + 1]
    return count - 1


class Visit(NamedTuple):
    """A visit, unpacked."""

    item: int
    second: int
    """Since 1970, by the local clock."""
    weight: float
    """Above 0, to 1."""
    place: int
    """A key shortened by `short`."""
    traits: tuple[int, ...]
    """Keys shortened by `short`, in the order of TRAITS."""


def visits_in(history: bytes) -> list[Visit]:
    """Return the visits of a history, ordered by second, then by item."""
    return [
        Visit(item, second, weight / 255, place, tuple(traits))
        for item, second, place, *traits, weight in _PACK.iter_unpack(history)
    ]


def merged(one: bytes, other: bytes) -> bytes:
    """Return the union of two histories.

    The result is that of `add`, is symmetric, and does not change when it is repeated. Appending new visits at the end,
    the usual case, takes some microseconds.
    """
    if not other:
        return one
    new = list(_PACK.iter_unpack(other))
    first = min([visit[_AT_SECOND] for visit in new]) // VISIT_S
    begin = len(one)  # offset of the part that may change
    while begin and _SECOND.unpack_from(one, begin - _SIZE)[0] // VISIT_S >= first:
        begin -= _SIZE
    if begin == len(one) and len(new) == 1:
        history = one + other
    else:
        history = one[:begin] + _united([*_PACK.iter_unpack(one[begin:]), *new])
    return _latest(history) if len(history) > MAX_VISITS * _SIZE else history


def _united(visits: Iterable[_Visit]) -> bytes:
    strongest: dict[tuple[int, int], _Visit] = {}
    for visit in visits:
        known = strongest.setdefault(_half_hour(visit), visit)
        if known is not visit and _rank(visit) > _rank(known):
            strongest[_half_hour(visit)] = visit
    return b"".join([_PACK.pack(*visit) for visit in sorted(strongest.values(), key=_order)])


def _latest(history: bytes) -> bytes:
    """Return a history cut to MAX_VISITS: of the oldest half hour, items with the lowest keys are dropped first."""
    excess = len(history) // _SIZE - MAX_VISITS
    oldest: list[_Visit] = []
    for at in range(0, len(history), _SIZE):
        visit = _PACK.unpack_from(history, at)
        if len(oldest) >= excess and _half_hour(visit)[0] != _half_hour(oldest[-1])[0]:
            break
        oldest.append(visit)
    kept = sorted(sorted(oldest, key=_half_hour)[excess:], key=_order)
    return b"".join([_PACK.pack(*visit) for visit in kept]) + history[len(oldest) * _SIZE :]


def _half_hour(visit: _Visit) -> tuple[int, int]:
    return visit[_AT_SECOND] // VISIT_S, visit[0]


def _order(visit: _Visit) -> tuple[int, int]:
    return visit[_AT_SECOND], visit[0]


def _rank(visit: _Visit) -> tuple[int, ...]:
    """Return the sort key that orders visits as `_beats` does."""
    _, second, *names, weight = visit
    return weight, -second, *names
