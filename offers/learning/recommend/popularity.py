"""What people take up, everywhere and by place, and at which hours: decayed, in bounded memory.

A person counts for an item by the most they ever did with it, once, however often they return: what regulars do is
habit, and says little about what somebody new will take up.
"""

from typing import NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.learning.recommend.slots import ADDED, KNOWN, LOOP, REBASED, claim, find, keys_for, paired
from offers.model.visits import NOTHING, TRAITS

HALF_LIFE_S = 30 * 86_400.0
HOURS = 48
"""Hours of a working day, then those of a day at the weekend."""
UNIFORM = 50.0
"""People's worth of trust in all items being as good, against what is taken up everywhere."""
EVERYWHERE = 20.0
"""People's worth of trust in what is taken up everywhere, against what is at this place."""
ANY_HOUR = 50.0
"""People's worth of trust in an item being taken up at the hours that others are."""
_LEAST = 1e-4
"""No hour is so unusual that this share of all would not be taken up in it."""


class Popularity(NamedTuple):
    """Weights by item, by place, and by both. All are as much as they would be worth at `epoch`."""

    item_keys: NDArray[np.int64]
    item_weights: NDArray[np.float64]
    item_hours: NDArray[np.float32]
    """Of each item, by hour."""
    place_keys: NDArray[np.int64]
    place_weights: NDArray[np.float64]
    """The last: of all places together."""
    place_hours: NDArray[np.float32]
    """Of each place, by hour; the last: of all together."""
    pair_keys: NDArray[np.int64]
    """Of a place and an item."""
    pair_weights: NDArray[np.float64]
    trait_weights: NDArray[np.float64]
    """By kind of trait (see TRAITS) and its value as `short` makes it; the first: of all values together."""
    epoch: NDArray[np.int64]
    """Seconds since 1970, by the wall clock; and how many items are known."""

    @classmethod
    def empty(cls, *, items: int, places: int, pairs: int) -> Self:
        """Room for about so many of each; 216 bytes per item and place, 16 per pair."""
        item_keys, place_keys, pair_keys = keys_for(items), keys_for(places), keys_for(pairs)
        return cls(
            item_keys=item_keys,
            item_weights=np.zeros(item_keys.size),
            item_hours=np.zeros((item_keys.size, HOURS), np.float32),
            place_keys=place_keys,
            place_weights=np.zeros(place_keys.size + 1),
            place_hours=np.zeros((place_keys.size + 1, HOURS), np.float32),
            pair_keys=pair_keys,
            pair_weights=np.zeros(pair_keys.size),
            trait_weights=np.zeros((len(TRAITS), 1 << 16)),
            epoch=np.zeros(2, np.int64),
        )


class Here(NamedTuple):
    """What is the same for all items of one question."""

    scale: float
    """What a weight at the epoch is worth now."""
    total: float
    """The weight of everything, everywhere."""
    place_total: float
    """The weight of everything at this place."""
    hour: int
    before: int
    """The hour before it, on the same kind of day."""
    after: int
    usual: float
    """The share of this hour in what is taken up at this place."""
    uniform: float
    """The weight of trust in an item before anybody has taken it up."""


@njit(error_model="numpy", forceinline=True)
def hour_of(second: int) -> int:
    """The hour of a second by the wall clock, 0 to 47: those of the weekend from 24 on."""
    return (second % 86_400) // 3_600 + (24 if (second // 86_400 + 3) % 7 >= 5 else 0)


@njit(forceinline=True, **LOOP)
def around(hours: NDArray[np.float32], row: int, hour: int, before: int, after: int) -> float:
    """The weight of an hour: one half its own, a quarter each of the hours beside it, on the same kind of day."""
    return 0.5 * hours[row, hour] + 0.25 * (hours[row, before] + hours[row, after])


@njit(error_model="numpy")
def count(known: Popularity, visit: np.void, place: int, weight: float) -> None:
    """Let somebody count for the item of a visit, at a place (NOTHING: unknown)."""
    item, second = visit.item, np.int64(visit.second)
    if known.epoch[0] == 0:
        known.epoch[0] = second
    lives = (second - known.epoch[0]) / HALF_LIFE_S
    if lives > REBASED:
        left = 2.0**-lives
        known.item_weights[:] *= left
        known.item_hours[:] *= np.float32(left)
        known.place_weights[:] *= left
        known.place_hours[:] *= np.float32(left)
        known.pair_weights[:] *= left
        known.trait_weights[:] *= left
        known.epoch[0] = second
        lives = 0.0
    worth = weight * 2.0**lives
    hour = hour_of(second)
    at, stood = claim(known.item_keys, known.item_weights, item)
    if stood != KNOWN:
        known.item_hours[at, :] = 0.0
    if stood == ADDED:
        known.epoch[1] += 1
    known.item_weights[at] += worth
    known.item_hours[at, hour] += worth
    known.place_weights[-1] += worth
    known.place_hours[-1, hour] += worth
    traits = known.trait_weights
    for kind, value in enumerate((visit.category, visit.cuisine, visit.brand, visit.price_band)):
        if value != 0:
            traits[kind, 0] += worth
            traits[kind, value] += worth
    if place == NOTHING:
        return
    at, stood = claim(known.place_keys, known.place_weights, place)
    if stood != KNOWN:
        known.place_hours[at, :] = 0.0
    known.place_weights[at] += worth
    known.place_hours[at, hour] += worth
    at, _ = claim(known.pair_keys, known.pair_weights, paired(place, item))
    known.pair_weights[at] += worth


@njit(**LOOP)
def here(known: Popularity, place: int, second: int) -> Here:
    """What is the same for all items, at a place (NOTHING: unknown) and a second of the wall clock."""
    scale = 2.0 ** ((known.epoch[0] - second) / HALF_LIFE_S)
    hour = hour_of(second)
    day = hour // 24 * 24
    before, after = day + (hour + 23) % 24, day + (hour + 1) % 24
    total = known.place_weights[-1] * scale
    usual = (around(known.place_hours, -1, hour, before, after) * scale + 1.0 / HOURS) / (total + 1.0)
    place_total = 0.0
    at = find(known.place_keys, place)
    if at >= 0:
        place_total = known.place_weights[at] * scale
        usual = (around(known.place_hours, at, hour, before, after) * scale + EVERYWHERE * usual) / (
            place_total + EVERYWHERE
        )
    uniform = UNIFORM / max(known.epoch[1], 1)
    return Here(scale, total, place_total, hour, before, after, max(usual, _LEAST), uniform)


@njit(forceinline=True, **LOOP)
def popularity(
    item_keys: NDArray[np.int64], item_weights: NDArray[np.float64], item_hours: NDArray[np.float32],
    pair_keys: NDArray[np.int64], pair_weights: NDArray[np.float64],
    around_here: Here, item: int, place: int,
) -> tuple[float, float]:  # fmt: skip
    """The share of an item in what is taken up at a place, and how many times as much that is at this hour.

    It takes arrays of Popularity one by one: loops take them out of the tuple once, which is not free.
    """
    scale = around_here.scale
    weight, lift = 0.0, 1.0
    at = find(item_keys, item)
    if at >= 0:
        weight = item_weights[at] * scale
        then = around(item_hours, at, around_here.hour, around_here.before, around_here.after) * scale
        lift = (then * (1.0 / around_here.usual) + ANY_HOUR) / (weight + ANY_HOUR)
    share = (weight + around_here.uniform) * (1.0 / (around_here.total + UNIFORM))
    if around_here.place_total > 0.0:
        at = find(pair_keys, paired(place, item))
        weight = pair_weights[at] * scale if at >= 0 else 0.0
        share = (weight + EVERYWHERE * share) * (1.0 / (around_here.place_total + EVERYWHERE))
    return min(share, 1.0), lift  # pairs may remember more than a place that was forgotten and came back
