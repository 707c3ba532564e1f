"""Scores items for a person, here and now: the probability of each to be taken up next.

P(item) = (own + unknown x background) / (all own + unknown)

own         weight of the person's visits of this item, now (habit.weigh); `all own`: weight of all their visits
unknown     weight of all that the person has not done yet (learned); newcomers have nothing else
background  share in all that is taken up at this place (from everywhere, where little is known)
            x factor of this hour
            x factor of being taken by those who took what this person took lately (a mean)
            x factor of this person taking its category, cuisine, brand, price band, compared with others (a mean)

Each factor is shrunk to 1 where little is known. `offers.learning.recommend.reference` is the specification.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.learning.recommend.cooccurrence import Cooccurrence, partners
from offers.learning.recommend.habit import Parameters, now_of, weigh
from offers.learning.recommend.popularity import Popularity, PopularityContext, here, popularity
from offers.learning.recommend.slots import LOOP
from offers.model.hashing import mixed
from offers.model.visits import MAX_VISITS, NOTHING, TRAITS, short

SOURCES = 10
"""Number of a person's last items whose partners are considered."""
CONTENT = 5.0
"""Prior weight of a person's taste by traits: a multiple of `unknown`."""
RAREST = 1e-3
"""Least share of a trait: else one visit of something rare would outweigh all."""
LEAST = 1e-9
"""Least probability of an item: the logarithm of a factor has to exist."""

_OWN, _PARTNER = 0, 1


class RecommendationModel(NamedTuple):
    """Knowledge about people in general, as arrays."""

    popularity: Popularity
    cooccurrence: Cooccurrence
    habit: Parameters

    @classmethod
    def empty(cls, *, items: int, places: int, pairs: int, partners: int) -> Self:
        """Return a model that knows nothing. Sizes: see Popularity and Cooccurrence."""
        return cls(
            Popularity.empty(items=items, places=places, pairs=pairs),
            Cooccurrence.empty(items=items, partners=partners),
            Parameters.neutral(),
        )

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the model of such arrays as `arrays` returns, in memory or mapped."""
        parts = ((Popularity, "popularity"), (Cooccurrence, "cooccurrence"), (Parameters, "habit"))
        return cls(*(part(**{field: arrays[f"{name}.{field}"] for field in part._fields}) for part, name in parts))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, without copying them."""
        return {
            f"{name}.{field}": array for name, part in self._asdict().items() for field, array in part._asdict().items()
        }


class ScoreScratch(NamedTuple):
    """Working arrays of one thread. They are clean between requests."""

    keys: NDArray[np.int64]
    """Items with sums: a hash table with linear probing."""
    sums: NDArray[np.float64]
    """By slot: the weight of own visits, and the weight as a partner of the person's last items."""
    used: NDArray[np.int32]
    """The slots in use."""
    traits: NDArray[np.float64]
    """Weight of own visits by kind of trait and value; the first is the sum over all values."""
    per_kind: NDArray[np.float64]
    """By kind of trait: the reciprocals of all people's weight, and of the person's own with its prior."""
    counts: NDArray[np.float64]
    """Weight of each visit."""

    @classmethod
    def empty(cls, *, partners: int) -> Self:
        """TableSizes for a full history and the partners of all sources, at most half full."""
        room = 1 << (2 * (MAX_VISITS + SOURCES * partners) - 1).bit_length()
        return cls(
            np.zeros(room, np.int64),
            np.zeros((room, 2)),
            np.zeros(room, np.int32),
            np.zeros((len(TRAITS), 1 << 16)),
            np.zeros((len(TRAITS), 2)),
            np.zeros(MAX_VISITS),
        )


class HistorySummary(NamedTuple):
    """A summary of a person's history, for all items of one request."""

    here: PopularityContext
    place: int
    known: int
    """Number of visits that count."""
    own: float
    """Weight of all of them."""
    used: int
    """Slots in use in the scratch."""
    sources: int
    """Number of items whose partners are considered."""
    rest: float
    """Sum of their factors for items that are not among their partners."""


@njit(forceinline=True, **LOOP)
def _slot_of(keys: NDArray[np.int64], key: int) -> int:
    at = np.int64(mixed(key)) & (keys.size - 1)
    while keys[at] != NOTHING and keys[at] != key:
        at = (at + 1) & (keys.size - 1)
    return at


@njit(**LOOP)
def gather(
    model: RecommendationModel, history: NDArray[np.void], place: int, second: int, scratch: ScoreScratch
) -> HistorySummary:
    """Weigh the person's visits, and write the weights of items and their partners to the scratch."""
    now = now_of(history, second, short(place))
    own = weigh(history, now, model.habit, scratch.counts)
    keys, sums, used_slots = scratch.keys, scratch.sums, scratch.used
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
        at = _slot_of(keys, visit.item)
        is_new = keys[at] == NOTHING
        if is_new:
            keys[at] = visit.item
            used_slots[used] = at
            used += 1
        elif sums[at, _OWN] == 0.0 and sources < SOURCES:
            is_new = True  # known so far only as a partner of a later visit
        sums[at, _OWN] += counts
        if is_new and sources < SOURCES:
            sources += 1
            row, scale, left = partners(model.cooccurrence, visit.item, second)
            rest += left
            if row >= 0:
                for column in range(partner_keys.shape[1]):
                    key = partner_keys[row, column]
                    if key != NOTHING:
                        at = _slot_of(keys, key)
                        if keys[at] == NOTHING:
                            keys[at] = key
                            used_slots[used] = at
                            used += 1
                        sums[at, _PARTNER] += partner_weights[row, column] * scale
    return HistorySummary(here(model.popularity, place, second), place, now.known, own, used, sources, rest)


@njit(**LOOP)
def clean(history: NDArray[np.void], gathered: HistorySummary, scratch: ScoreScratch) -> None:
    """Clear what `gather` has written."""
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
    model: RecommendationModel, gathered: HistorySummary, items: NDArray[np.int64], traits: NDArray[np.uint16],
    scratch: ScoreScratch, own: NDArray[np.float64], background: NDArray[np.float64],
) -> None:  # fmt: skip
    """Write the weight of own visits of each item, and its share in the background."""
    known = model.popularity  # taking arrays out of tuples costs more than the work on them: do it once
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
        at = _slot_of(keys, items[index])
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
    model: RecommendationModel, history: NDArray[np.void], place: int, second: int, items: NDArray[np.int64],
    traits: NDArray[np.uint16], scratch: ScoreScratch, into: NDArray[np.float64],
) -> None:  # fmt: skip
    """Write the probability of each item to be what the person takes up next, LEAST to 1.

    `second` is by the wall clock of the place; `place` is a key, NOTHING if unknown; `traits` has a row per item and a
    column per kind of trait, with short keys, 0 if unknown. Items that are the same to a person share a key.
    """
    gathered = gather(model, history, place, second, scratch)
    own = np.empty(items.size)
    judge(model, gathered, items, traits, scratch, own, into)
    unknown = model.habit.unknown[0]
    for index in range(items.size):
        found = (own[index] + unknown * into[index]) / (gathered.own + unknown)
        into[index] = min(max(found, LEAST), 1.0)
    clean(history, gathered, scratch)
