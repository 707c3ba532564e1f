"""The specification of recommendation scores in plain Python, against which the compiled loops are tested.

Explanations use it as well: it names each factor.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.learning.recommend import cooccurrence, popularity
from offers.learning.recommend import scores as recommend
from offers.learning.recommend.habit import (
    AFTER_THE_SAME,
    AGE,
    JUST_BEEN,
    SAME_HOUR,
    SAME_KIND_OF_DAY,
    SAME_PLACE,
    TIME_OF_DAY,
)
from offers.learning.recommend.slots import paired
from offers.model.visits import TRAITS, VISIT, short

_DAY = 86_400
_Visit = dict[str, int]


class ReferenceScores:
    """The scores of a model, looked up in dictionaries."""

    def __init__(self, model: recommend.RecommendationModel) -> None:
        known, together, habit = model
        self._items: dict[int, float] = _by_key(known.item_keys, known.item_weights)
        self._hours = _by_key(known.item_keys, known.item_hours)
        self._places: dict[int, float] = _by_key(known.place_keys, known.place_weights[:-1])
        self._place_hours = _by_key(known.place_keys, known.place_hours[:-1])
        self._pairs: dict[int, float] = _by_key(known.pair_keys, known.pair_weights)
        self._all: float = known.place_weights[-1]
        self._all_hours = known.place_hours[-1]
        self._traits = known.trait_weights
        self._epoch = int(known.epoch[0])
        self._sources: dict[int, float] = _by_key(together.source_keys, together.source_weights)
        self._rows: dict[int, int] = _by_key(together.source_keys, np.arange(len(together.source_keys)))
        self._together = together
        self._met = int(np.count_nonzero(known.item_keys))
        self._together_epoch = int(together.epoch[0])
        self._weights = [float(weight) for weight in habit.weights]
        self._unknown = float(habit.unknown[0])

    def probability(self, history: bytes, place: int, second: int, item: int, traits: Sequence[int]) -> float:
        """Return the probability that an item is what the person takes up next, LEAST to 1."""
        visits = [_plain(visit) for visit in np.frombuffer(history, VISIT) if visit["second"] <= second]
        counts = [self._count(visits, at, place, second) for at in range(len(visits))]
        own = sum(count for visit, count in zip(visits, counts, strict=True) if visit["item"] == item)
        share = self._share(item, place, second)
        background = (
            share
            * self._at_this_hour(item, place, second)
            * self._with_what_they_took(visits, second, item, share)
            * self._of_their_kind(visits, counts, traits)
        )
        found = (own + self._unknown * background) / (sum(counts) + self._unknown)
        return min(max(found, recommend.LEAST), 1.0)

    def _count(self, visits: list[_Visit], at: int, place: int, second: int) -> float:
        visit, last = visits[at], visits[-1]
        ago = second - visit["second"]
        off = (ago % _DAY + 300) // 600 / 6.0
        apart = min(off, 24.0 - off)
        gap = (second - last["second"]) / 3_600
        said = [0.0] * 7
        said[AGE] = min(ago // _DAY, 730) / 30
        said[TIME_OF_DAY] = 1 - math.cos(2 * math.pi * apart / 24)
        said[SAME_HOUR] = math.exp(-apart)
        said[SAME_KIND_OF_DAY] = float(_is_weekend(visit["second"]) == _is_weekend(second))
        if at > 0 and visits[at - 1]["item"] == last["item"]:
            shorter, longer = sorted(((visit["second"] - visits[at - 1]["second"]) / 3_600 + 0.1, gap + 0.1))
            said[AFTER_THE_SAME] = shorter / longer
        if visit["item"] == last["item"]:
            said[JUST_BEEN] = math.exp(-gap / 3)
        said[SAME_PLACE] = float(place != 0 and visit["place"] == int(short(place)))
        total = sum(weight * answer for weight, answer in zip(self._weights, said, strict=True))
        return min(visit["weight"] / 255 * math.exp(total), self._unknown)

    def _share(self, item: int, place: int, second: int) -> float:
        now = _left(second - self._epoch)
        uniform = popularity.UNIFORM / max(self._met, 1)
        share = (self._items.get(item, 0.0) * now + uniform) / (self._all * now + popularity.UNIFORM)
        if place in self._places:
            here = self._pairs.get(int(paired(place, item)), 0.0) * now
            share = (here + popularity.EVERYWHERE * share) / (self._places[place] * now + popularity.EVERYWHERE)
        return min(share, 1.0)

    def _at_this_hour(self, item: int, place: int, second: int) -> float:
        if item not in self._items:
            return 1.0
        now, prior = _left(second - self._epoch), popularity.ANY_HOUR
        usual = (_around(self._all_hours, second) * now + 1 / 48) / (self._all * now + 1)
        if place in self._places:
            here = _around(self._place_hours[place], second) * now
            everywhere = popularity.EVERYWHERE
            usual = (here + everywhere * usual) / (self._places[place] * now + everywhere)
        then = _around(self._hours[item], second) * now
        return (then / max(usual, 1e-4) + prior) / (self._items[item] * now + prior)

    def _with_what_they_took(self, visits: list[_Visit], second: int, item: int, share: float) -> float:
        latest = list(dict.fromkeys(visit["item"] for visit in reversed(visits)))[: recommend.SOURCES]
        if not latest:
            return 1.0
        now, alone = _left(second - self._together_epoch), cooccurrence.ALONE
        times = []
        for source in latest:
            known = self._partners(source)
            whole = self._sources.get(source, 0.0)
            forgotten = max(whole - float(sum(known.values())), 0.0)
            times.append((known.get(item, 0.0) * now / share + forgotten * now + alone) / (whole * now + alone))
        return sum(times) / len(times)

    def _partners(self, source: int) -> dict[int, float]:
        if source not in self._rows:
            return {}
        row = self._rows[source]
        return _by_key(self._together.partner_keys[row], self._together.partner_weights[row])

    def _of_their_kind(self, visits: list[_Visit], counts: list[float], traits: Sequence[int]) -> float:
        prior = recommend.CONTENT * self._unknown
        times = []
        for kind, (name, value) in enumerate(zip(TRAITS, traits, strict=True)):
            everyone = self._traits[kind, 0]
            if value and visits:
                usual = max(self._traits[kind, value] / everyone if everyone else 0.0, recommend.RAREST)
                told = [(visit[name], count) for visit, count in zip(visits, counts, strict=True) if visit[name]]
                alike = sum(count for has, count in told if has == value)
                times.append((alike / usual + prior) / (sum(count for _, count in told) + prior))
        return sum(times) / len(times) if times else 1.0


def _by_key(keys: NDArray[np.int64], values: NDArray[Any]) -> dict[int, Any]:
    """Return values, or rows of values, by their keys."""
    known = np.flatnonzero(keys)
    found = values[known]
    return dict(zip(keys[known].tolist(), found.tolist() if found.ndim == 1 else found, strict=True))


def _plain(visit: np.void) -> _Visit:
    return {name: int(visit[name]) for name in VISIT.names or ()}


def _is_weekend(second: int) -> bool:
    return (second // _DAY + 3) % 7 >= 5


def _around(hours: NDArray[np.float32], second: int) -> float:
    day = hours[24:] if _is_weekend(second) else hours[:24]
    hour = second % _DAY // 3_600
    return float(day[hour]) / 2 + float(day[hour - 1]) / 4 + float(day[(hour + 1) % 24]) / 4


def _left(seconds: int) -> float:
    return math.exp2(-seconds / popularity.HALF_LIFE_S)
