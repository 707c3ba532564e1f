"""Decayed counts of what people take up, everywhere, by place and by hour, in bounded memory.

A person counts once for an item, by the most they ever did with it, however often they return: the visits of regulars
are habit, and say little about what somebody new will take up.
"""

from typing import NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.learning.recommend.slots import ADDED, KNOWN, LOOP, REBASED, claim, find, keys_for, paired
from offers.model.visits import NOTHING, TRAITS

HALF_LIFE_S = 30 * 86_400.0
HOURS = 48
"""Hours of a working day, then those of a day of the weekend."""
UNIFORM = 50.0
"""Prior weight, in people, of all items being alike, against counts from everywhere."""
EVERYWHERE = 20.0
"""Prior weight, in people, of the share everywhere, against counts at a place."""
ANY_HOUR = 50.0
"""Prior weight, in people, of an item being taken up at the same hours as others."""
_LEAST = 1e-4
"""Least share of an hour in all that is taken up."""


class Popularity(NamedTuple):
    """Weights by item, by place, and by both. All are decayed to `epoch`."""

    item_keys: NDArray[np.int64]
    item_weights: NDArray[np.float64]
    item_hours: NDArray[np.float32]
    """By item and hour."""
    place_keys: NDArray[np.int64]
    place_weights: NDArray[np.float64]
    """The last is the sum over all places."""
    place_hours: NDArray[np.float32]
    """By place and hour; the last row is the sum over all places."""
    pair_keys: NDArray[np.int64]
    """Keys of pairs of a place and an item."""
    pair_weights: NDArray[np.float64]
    trait_weights: NDArray[np.float64]
    """By kind of trait (see TRAITS) and short key of its value; the first is the sum over all values."""
    epoch: NDArray[np.int64]
    """Seconds since 1970 by the wall clock, and the number of known items."""

    @classmethod
    def empty(cls, *, items: int, places: int, pairs: int) -> Self:
        """Return empty tables for at least so many of each, at 216 bytes per item and place and 16 per pair."""
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


class PopularityContext(NamedTuple):
    """The terms of popularity that all items of one request share."""

    scale: float
    """The factor from weights at the epoch to weights now."""
    total: float
    """The weight of all items, everywhere."""
    place_total: float
    """The weight of all items at this place."""
    hour: int
    before: int
    """The hour before it, on the same kind of day."""
    after: int
    usual: float
    """The share of this hour in all that is taken up at this place."""
    uniform: float
    """The prior weight of an item that nobody has taken up yet."""


@njit(error_model="numpy", forceinline=True)
def hour_of(second: int) -> int:
    """Return the hour of a second by the wall clock, 0 to 47: hours of the weekend from 24 on."""
    return (second % 86_400) // 3_600 + (24 if (second // 86_400 + 3) % 7 >= 5 else 0)


@njit(forceinline=True, **LOOP)
def around(hours: NDArray[np.float32], row: int, hour: int, before: int, after: int) -> float:
    """Return the smoothed weight of an hour: half its own, a quarter of each neighbour's on the same kind of day."""
    return 0.5 * hours[row, hour] + 0.25 * (hours[row, before] + hours[row, after])


@njit(error_model="numpy")
def count(known: Popularity, visit: np.void, place: int, weight: float) -> None:
    """Count a person for the item of a visit, at a place (NOTHING: unknown)."""
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
def here(known: Popularity, place: int, second: int) -> PopularityContext:
    """Return the shared terms at a place (NOTHING: unknown) and a second of the wall clock."""
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
    return PopularityContext(scale, total, place_total, hour, before, after, max(usual, _LEAST), uniform)


@njit(forceinline=True, **LOOP)
def popularity(
    item_keys: NDArray[np.int64], item_weights: NDArray[np.float64], item_hours: NDArray[np.float32],
    pair_keys: NDArray[np.int64], pair_weights: NDArray[np.float64],
    around_here: PopularityContext, item: int, place: int,
) -> tuple[float, float]:  # fmt: skip
    """Return the share of an item in all that is taken up at a place, and the factor of this hour.

    The arrays of Popularity are given one by one: taking them out of the tuple is not free, so loops do it once.
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
    return min(share, 1.0), lift  # the weight of pairs may exceed that of a place that was dropped and came back
