"""A person's history in packed form: what they took up, where and when.

A visit is what a person did with one item within half an hour by the clock: of several events the one of most weight
counts, whatever their order and however often they come. So a history is a set; the union of two is the history of
one person who was taken for two.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

import offers.compiled  # noqa: F401 - says where its loops are kept
from offers.model.hashing import key_of, mixed, mixed_in_python, signed

NOTHING = 0
"""The key of no thing."""
TRAITS = ("category", "cuisine", "brand", "price_band")
"""Kinds of what items have in common."""
VISIT = np.dtype(
    [
        ("item", "<i8"),
        ("second", "<u4"),  # since 1970, by the wall clock of the place
        ("place", "<u2"),  # these five as `short` makes them; 0: unknown
        ("category", "<u2"),
        ("cuisine", "<u2"),
        ("brand", "<u2"),
        ("price_band", "<u2"),
        ("weight", "u1"),  # of 255: how much the strongest event weighs
        ("unused", "u1"),
    ]
)
"""24 bytes. A history is an array of them, the oldest first, then by item."""
MAX_VISITS = 256
VISIT_S = 1_800
PLACE_DIGITS = 5
"""Characters of geohashes by which places are told apart."""

_PACK = struct.Struct("<qI5HBx")
_SIZE = _PACK.size
_SECOND = struct.Struct("<8xI")
_AT_SECOND = 1
_ALL = 2**64 - 1

_Visit = tuple[int, ...]
"""The fields of VISIT but the last."""


def visit(item: int, second: int, weight: float, *, place: int = NOTHING, traits: Sequence[int] = ()) -> bytes:
    """The history of somebody who has done one thing.

    `second` is by the wall clock of the place; `weight` above 0, to 1: what was done (an order 1, a view less); place
    and traits (category, cuisine, brand, price band) are keys, NOTHING if unknown. ValueError: no item, or no weight.
    """
    if item == NOTHING or not 0.0 < weight <= 1.0:
        raise ValueError(f"a visit needs an item (not {item}) and a weight above 0, to 1 (not {weight})")
    named = [*map(short_in_python, traits), *[0] * (len(TRAITS) - len(traits))]
    return packed(item, second, short_in_python(place), named, byte_of(weight))


def byte_of(weight: float) -> int:
    """A weight as it is kept: 1 to 255."""
    return max(round(255 * weight), 1)


def packed(item: int, second: int, place: int, traits: Sequence[int], weight: int) -> bytes:
    """As `visit`, of a place and of all kinds of traits as `short` makes them, and of a weight as it is kept."""
    return _PACK.pack(item, second, place, *traits, weight)


def short_in_python(key: int) -> int:
    """As `short`, without a compiled call."""
    return 0 if key == NOTHING else 1 + mixed_in_python(key & _ALL) % 0xFFFF


@njit(error_model="numpy")
def short(key: int) -> int:
    """16 bits of a key that tell it from the others of one person; 0 for NOTHING only."""
    return 0 if key == NOTHING else 1 + np.int64(mixed(key) % np.uint64(0xFFFF))


def trait_of(kind: str, name: str) -> int:
    """The key of a name of one of TRAITS; NOTHING for none."""
    return signed(key_of(f"trait.{kind}", name))


def place_of(geohash: str) -> int:
    """The key of a place, as far as its geohash tells it to some 5 km (5 characters); NOTHING for none."""
    return signed(key_of("place", geohash[:PLACE_DIGITS]))


@njit(error_model="numpy")
def _beats(one: np.void, other: np.void) -> bool:
    """Whether one of two records of a visit is to be kept rather than the other: an order of all that differ."""
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
    """Add a visit to the first `count` of a history, in whatever order they come and however often; the new count.

    A full history forgets its oldest half hour's item of the lowest key.
    """
    half_hour = visit.second // VISIT_S
    at = count - 1
    while at >= 0 and history[at].second // VISIT_S >= half_hour:
        if history[at].item == visit.item and history[at].second // VISIT_S == half_hour:
            if not _beats(visit, history[at]):
                return count
            count = _remove(history, count, at)
            break
        at -= 1
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
    at = count
    while at > 0 and (
        history[at - 1].second > visit.second
        or (history[at - 1].second == visit.second and history[at - 1].item > visit.item)
    ):
        history[at] = history[at - 1]
        at -= 1
    history[at] = visit
    return count + 1


@njit(error_model="numpy")
def _remove(history: NDArray[np.void], count: int, at: int) -> int:
    for other in range(at, count - 1):
        history[other] = history[other + 1]
    return count - 1


class Visit(NamedTuple):
    """A visit, unpacked."""

    item: int
    second: int
    """Since 1970, by the wall clock of the place."""
    weight: float
    """Above 0, to 1."""
    place: int
    """As `short` makes it, as the traits, in the order of TRAITS."""
    traits: tuple[int, ...]


def visits_in(history: bytes) -> list[Visit]:
    """The visits of a history, the oldest first, then by item."""
    return [
        Visit(item, second, weight / 255, place, tuple(traits))
        for item, second, place, *traits, weight in _PACK.iter_unpack(history)
    ]


def merged(one: bytes, other: bytes) -> bytes:
    """The history of a person who was taken for two, either way round and however often; or of one with new visits.

    The same as `add` makes, without a compiled call. What comes last, as most does, takes some microseconds.
    """
    if not other:
        return one
    new = list(_PACK.iter_unpack(other))
    first = min([visit[_AT_SECOND] for visit in new]) // VISIT_S
    begin = len(one)  # of what may change
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
    """What is left of too long a history: the oldest half hour's item of the lowest key goes first."""
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
    """As `_beats` orders them."""
    _, second, *names, weight = visit
    return weight, -second, *names
