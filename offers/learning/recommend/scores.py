"""What a person takes up next, here and now: one number per item, out of their habits and of what others do.

P(item) = (own + unknown x background) / (all own + unknown)

own         what the person's visits of this item count for, now (habit.weigh); `all own`, what all of them do
unknown     how much stands for what the person has not done yet (learned): newcomers have nothing else
background  share in what is taken up at this place (from everywhere, where little is known)
            x how many times as much that is at this hour
            x how many times as often it is taken by those who took what this person took of late (a mean)
            x how many times as often this person takes its category, cuisine, brand, price band as others do (a mean)

Each "times" is shrunk to 1 by as much as is not known. `offers.learning.recommend.reference` says it in plain Python.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.learning.recommend.cooccurrence import Cooccurrence, partners
from offers.learning.recommend.habit import Parameters, now_of, weigh
from offers.learning.recommend.popularity import Here, Popularity, here, popularity
from offers.learning.recommend.slots import LOOP
from offers.model.hashing import mixed
from offers.model.visits import MAX_VISITS, NOTHING, TRAITS, short

SOURCES = 10
"""Items a person took last that speak for others."""
CONTENT = 5.0
"""How much less than by its visits a person is known by the kinds of things they visit: a multiple of `unknown`."""
RAREST = 1e-3
"""A trait is taken to be no rarer than this: else one visit of something rare would outweigh all."""
LEAST = 1e-9
"""No item is less probable: the logarithm of a factor has to exist."""

_OWN, _PARTNER = 0, 1


class Model(NamedTuple):
    """All that is known of people in general, as arrays."""

    popularity: Popularity
    cooccurrence: Cooccurrence
    habit: Parameters

    @classmethod
    def empty(cls, *, items: int, places: int, pairs: int, partners: int) -> Self:
        """Nothing is known. Room: see Popularity and Cooccurrence."""
        return cls(
            Popularity.empty(items=items, places=places, pairs=pairs),
            Cooccurrence.empty(items=items, partners=partners),
            Parameters.neutral(),
        )

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The model of such arrays as `arrays` gives, in memory or mapped."""
        parts = ((Popularity, "popularity"), (Cooccurrence, "cooccurrence"), (Parameters, "habit"))
        return cls(*(part(**{field: arrays[f"{name}.{field}"] for field in part._fields}) for part, name in parts))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name; not copied."""
        return {
            f"{name}.{field}": array for name, part in self._asdict().items() for field, array in part._asdict().items()
        }


class Scratch(NamedTuple):
    """What one thread works in. It is clean between questions."""

    keys: NDArray[np.int64]
    """Items that something is known of, at the place their bits tell or behind."""
    sums: NDArray[np.float64]
    """Of each: what own visits count for, and how much more often it is taken with the sources."""
    used: NDArray[np.int32]
    """The places taken."""
    traits: NDArray[np.float64]
    """What own visits count for, by kind of trait and value; the first: of all values."""
    per_kind: NDArray[np.float64]
    """By kind of trait: one over all people's weight, and over the own with its prior."""
    counts: NDArray[np.float64]
    """What each visit counts for."""

    @classmethod
    def empty(cls, *, partners: int) -> Self:
        """Room for a full history and the partners of all sources, at most half full."""
        room = 1 << (2 * (MAX_VISITS + SOURCES * partners) - 1).bit_length()
        return cls(
            np.zeros(room, np.int64),
            np.zeros((room, 2)),
            np.zeros(room, np.int32),
            np.zeros((len(TRAITS), 1 << 16)),
            np.zeros((len(TRAITS), 2)),
            np.zeros(MAX_VISITS),
        )


class Gathered(NamedTuple):
    """What is the same for all items of one question."""

    here: Here
    place: int
    known: int
    """Visits that count."""
    own: float
    """What they all count for."""
    used: int
    """Places taken in the scratch."""
    sources: int
    """Items that speak for others; 0: none."""
    rest: float
    """What they say of items that are not among their partners, together."""


@njit(forceinline=True, **LOOP)
def _place_of(keys: NDArray[np.int64], key: int) -> int:
    at = np.int64(mixed(key)) & (keys.size - 1)
    while keys[at] != NOTHING and keys[at] != key:
        at = (at + 1) & (keys.size - 1)
    return at


@njit(**LOOP)
def gather(model: Model, history: NDArray[np.void], place: int, second: int, scratch: Scratch) -> Gathered:
    """Weigh the person's visits, and put down in the scratch what they and their partners say of items."""
    now = now_of(history, second, short(place))
    own = weigh(history, now, model.habit, scratch.counts)
    keys, sums, used_places = scratch.keys, scratch.sums, scratch.used
    own_traits, worth = scratch.traits, scratch.counts
    partner_keys, partner_weights = model.cooccurrence.partner_keys, model.cooccurrence.partner_weights
    used, sources, rest = 0, 0, 0.0
    for index in range(now.known - 1, -1, -1):
        visit = history[index]
        counts = worth[index]
        for kind, value in enumerate((visit.category, visit.cuisine, visit.brand, visit.price_band)):
            if value != 0:
                own_traits[kind, 0] += counts
                own_traits[kind, value] += counts
        at = _place_of(keys, visit.item)
        is_new = keys[at] == NOTHING
        if is_new:
            keys[at] = visit.item
            used_places[used] = at
            used += 1
        elif sums[at, _OWN] == 0.0 and sources < SOURCES:
            is_new = True  # so far only a partner of a later one
        sums[at, _OWN] += counts
        if is_new and sources < SOURCES:
            sources += 1
            row, scale, left = partners(model.cooccurrence, visit.item, second)
            rest += left
            if row >= 0:
                for column in range(partner_keys.shape[1]):
                    key = partner_keys[row, column]
                    if key != NOTHING:
                        at = _place_of(keys, key)
                        if keys[at] == NOTHING:
                            keys[at] = key
                            used_places[used] = at
                            used += 1
                        sums[at, _PARTNER] += partner_weights[row, column] * scale
    return Gathered(here(model.popularity, place, second), place, now.known, own, used, sources, rest)


@njit(**LOOP)
def clean(history: NDArray[np.void], gathered: Gathered, scratch: Scratch) -> None:
    """Take away what `gather` has put down."""
    keys, sums, used, traits = scratch.keys, scratch.sums, scratch.used, scratch.traits
    for index in range(gathered.used):
        at = used[index]
        keys[at] = NOTHING
        sums[at, _OWN] = 0.0
        sums[at, _PARTNER] = 0.0
    for index in range(gathered.known):
        visit = history[index]
        for kind, value in enumerate((visit.category, visit.cuisine, visit.brand, visit.price_band)):
            traits[kind, value] = 0.0
            traits[kind, 0] = 0.0


@njit(**LOOP)
def judge(
    model: Model, gathered: Gathered, items: NDArray[np.int64], traits: NDArray[np.uint16], scratch: Scratch,
    own: NDArray[np.float64], background: NDArray[np.float64],
) -> None:  # fmt: skip
    """What own visits of each item count for, and its share in the background."""
    known = model.popularity  # arrays are taken out of tuples once: it costs more than what is done with them
    item_keys, item_weights, item_hours = known.item_keys, known.item_weights, known.item_hours
    pair_keys, pair_weights, trait_weights = known.pair_keys, known.pair_weights, known.trait_weights
    keys, sums, own_traits, per_kind = scratch.keys, scratch.sums, scratch.traits, scratch.per_kind
    around_here, place = gathered.here, gathered.place
    prior = CONTENT * model.habit.unknown[0]
    for kind in range(traits.shape[1]):
        per_kind[kind, 0] = 1.0 / max(trait_weights[kind, 0], LEAST)
        per_kind[kind, 1] = 1.0 / (own_traits[kind, 0] + prior)
    for index in range(items.size):
        share, lift = popularity(
            item_keys, item_weights, item_hours, pair_keys, pair_weights, around_here, items[index], place
        )
        found = share * lift
        at = _place_of(keys, items[index])
        own[index] = sums[at, _OWN]
        if gathered.sources > 0:
            found *= (sums[at, _PARTNER] / share + gathered.rest) / gathered.sources
        if gathered.own > 0.0:
            lifts, named = 0.0, 0
            for kind in range(traits.shape[1]):
                value = traits[index, kind]
                if value != 0:
                    usual = max(trait_weights[kind, value] * per_kind[kind, 0], RAREST)
                    lifts += (own_traits[kind, value] / usual + prior) * per_kind[kind, 1]
                    named += 1
            if named > 0:
                found *= lifts / named
        background[index] = found


@njit(cache=True, error_model="numpy")
def recommend(
    model: Model, history: NDArray[np.void], place: int, second: int, items: NDArray[np.int64],
    traits: NDArray[np.uint16], scratch: Scratch, into: NDArray[np.float64],
) -> None:  # fmt: skip
    """How probable each item is to be what the person takes up next, LEAST to 1.

    `second` is by the wall clock of the place; `place` a key, NOTHING if unknown; `traits` has a row per item, a
    column per kind of trait, as `short` makes them, 0 if unknown. Items share a key if they are one to a person.
    """
    gathered = gather(model, history, place, second, scratch)
    own = np.empty(items.size)
    judge(model, gathered, items, traits, scratch, own, into)
    unknown = model.habit.unknown[0]
    for index in range(items.size):
        found = (own[index] + unknown * into[index]) / (gathered.own + unknown)
        into[index] = min(max(found, LEAST), 1.0)
    clean(history, gathered, scratch)
