"""Bounded hash tables by 64-bit keys: finding a key's slot, and replacing the key of least weight."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.model.hashing import mixed

WAYS = 8
"""Slots of a bucket: all that a key may take, beside each other in one cache line."""
NOTHING = 0
"""The key of an empty slot: it is never stored and never found."""
LOOP = {"error_model": "numpy", "_nrt": False}
"""Options for loops that allocate nothing: no reference counts of arrays, which would take most of the time."""
KNOWN, ADDED, REPLACED = 0, 1, 2
REBASED = 64.0
"""Half-lives after which decayed weights are rescaled, before they grow too large for 32-bit floats."""


@njit(error_model="numpy", forceinline=True)
def paired(one: int, other: int) -> int:
    """Return one key for two keys in this order."""
    return np.int64(mixed(one) + np.uint64(other))


@njit(forceinline=True, **LOOP)
def find(keys: NDArray[np.int64], key: int) -> int:
    """Return the slot of a key, or -1 if it has none."""
    first = (mixed(key) & np.uint64(keys.size // WAYS - 1)) * np.uint64(WAYS)
    found = -1
    for way in range(WAYS):  # all of them: cheaper than a branch that stops earlier
        if keys[first + np.uint64(way)] == key:
            found = np.int64(first) + way
    return found if key != NOTHING else -1


@njit(error_model="numpy", forceinline=True)
def claim(keys: NDArray[np.int64], weights: NDArray[np.float64], key: int) -> tuple[int, int]:
    """Return a key's slot, and whether it was its own (KNOWN), an empty one (ADDED) or the lightest key's (REPLACED).

    The weight of a new key is 0. The caller clears what else belongs to the slot.
    """
    first = np.int64(mixed(key) & np.uint64(keys.size // WAYS - 1)) * WAYS
    free = first
    for slot in range(first, first + WAYS):
        if keys[slot] == key:
            return slot, KNOWN
        if keys[free] != NOTHING and (keys[slot] == NOTHING or weights[slot] < weights[free]):
            free = slot
    before = keys[free]
    keys[free] = key
    weights[free] = 0.0
    return free, ADDED if before == NOTHING else REPLACED


def keys_for(at_least: int) -> NDArray[np.int64]:
    """Return an empty table for at least this many keys: a power of two, at least `WAYS`."""
    return np.zeros(max(WAYS, 1 << (at_least - 1).bit_length()), np.int64)


def wider(keys: NDArray[np.int64], *rows: NDArray[Any]) -> list[NDArray[Any]]:
    """Return a table of twice the size: its keys, then the rows of each; rows beyond those of keys stay the last."""
    spread, places = _spread(keys)
    old = np.flatnonzero(keys)
    found: list[NDArray[Any]] = [spread]
    for array in rows:
        room = np.zeros((array.shape[0] + keys.size, *array.shape[1:]), array.dtype)
        room[places[old]] = array[old]
        room[spread.size :] = array[keys.size :]
        found.append(room)
    return found


@njit(cache=True, error_model="numpy")
def _spread(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the keys in a table of twice the size, and the new slot of each old one."""
    spread, places = np.zeros(2 * keys.size, np.int64), np.zeros(keys.size, np.int64)
    for at in range(keys.size):
        if keys[at] != NOTHING:
            to = np.int64(mixed(keys[at]) & np.uint64(spread.size // WAYS - 1)) * WAYS
            while spread[to] != NOTHING:
                to += 1
            spread[to] = keys[at]
            places[at] = to
    return spread, places
