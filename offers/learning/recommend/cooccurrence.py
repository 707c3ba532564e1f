"""Items that are taken by the same people: decayed weights of pairs, the strongest partners of each item."""

from typing import NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.learning.recommend.slots import KNOWN, LOOP, REBASED, claim, find, keys_for

HALF_LIFE_S = 30 * 86_400.0
"""Half-life of old observations, and of two visits of one person by the time between them."""
ALONE = 100.0
"""Prior weight, in people, of an item saying nothing about others."""


class Cooccurrence(NamedTuple):
    """The partners of each item. All weights are decayed to `epoch`."""

    source_keys: NDArray[np.int64]
    source_weights: NDArray[np.float64]
    """The weight of all partners that an item ever had, with those that were dropped."""
    partner_keys: NDArray[np.int64]
    """A row for each item."""
    partner_weights: NDArray[np.float32]
    epoch: NDArray[np.int64]
    """Seconds since 1970, by the wall clock."""

    @classmethod
    def empty(cls, *, items: int, partners: int) -> Self:
        """Return empty tables for at least so many items with so many partners each, at 12 bytes a partner."""
        source_keys = keys_for(items)
        return cls(
            source_keys=source_keys,
            source_weights=np.zeros(source_keys.size),
            partner_keys=np.zeros((source_keys.size, partners), np.int64),
            partner_weights=np.zeros((source_keys.size, partners), np.float32),
            epoch=np.zeros(1, np.int64),
        )


@njit(error_model="numpy")
def join(known: Cooccurrence, one: int, other: int, second: int, weight: float) -> None:
    """Count a person who took two items, at a second of the wall clock, for each as the other's partner."""
    if known.epoch[0] == 0:
        known.epoch[0] = second
    lives = (second - known.epoch[0]) / HALF_LIFE_S
    if lives > REBASED:
        left = 2.0**-lives
        known.source_weights[:] *= left
        known.partner_weights[:] *= np.float32(left)
        known.epoch[0] = second
        lives = 0.0
    worth = weight * 2.0**lives
    _count(known, one, other, worth)
    _count(known, other, one, worth)


@njit(error_model="numpy")
def _count(known: Cooccurrence, source: int, partner: int, worth: float) -> None:
    at, stood = claim(known.source_keys, known.source_weights, source)
    keys, weights = known.partner_keys[at], known.partner_weights[at]
    if stood != KNOWN:
        keys[:] = 0
        weights[:] = 0.0
    known.source_weights[at] += worth
    lightest = 0
    for column in range(keys.size):
        if keys[column] == partner:
            weights[column] += worth
            return
        if weights[column] < weights[lightest]:
            lightest = column
    keys[lightest] = partner
    weights[lightest] = worth


@njit(**LOOP)
def partners(known: Cooccurrence, source: int, second: int) -> tuple[int, float, float]:
    """Return the row of an item (-1: none), the factor of its weights, and the constant beside them.

    Those who took the source take an item this many times as often as usual: weight in the row x factor / the item's
    usual share + constant. Partners that were dropped count as any item.
    """
    at = find(known.source_keys, source)
    if at < 0:
        return -1, 0.0, 1.0
    scale = 2.0 ** ((known.epoch[0] - second) / HALF_LIFE_S)
    remembered = 0.0
    for column in range(known.partner_weights.shape[1]):
        remembered += known.partner_weights[at, column]
    forgotten = max(known.source_weights[at] - remembered, 0.0) * scale
    whole = known.source_weights[at] * scale + ALONE
    return at, scale / whole, (forgotten + ALONE) / whole
