"""What a person leans to: decayed sums of what was done, and the shares they make."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from offers.model.events import WEIGHTS
from offers.model.facts import OfferFacts
from offers.v1.event_pb2 import Event, Item
from offers.v1.profile_pb2 import Affinities
from offers.v1.state_pb2 import Leaning, UserState

HALF_LIFE_S = 30 * 86_400
PRIOR = 3.0
"""Weight of nothing in particular, that of three orders: one event has a share of 1 in 4 at most."""
MAX_NAMES = 32
"""Names of a dimension that are shown: the strongest."""
MAX_KEPT = 48
"""Names of a dimension that are kept, so that one that is met now and then can become one of the strongest."""
_WEIGHTS = {**WEIGHTS, "dismissal": -0.3}

_CATEGORY = Leaning.DIMENSION_CATEGORY
_BRAND = Leaning.DIMENSION_BRAND
_FIELDS = {
    _CATEGORY: "category",
    Leaning.DIMENSION_VENUE: "venue_id",
    Leaning.DIMENSION_CUISINE: "cuisine",
    Leaning.DIMENSION_PRICE_BAND: "price_band",
    _BRAND: "brand",
}
"""The fields of Item that name what is leaned to."""
_SHARES = {
    _CATEGORY: "categories",
    Leaning.DIMENSION_VENUE: "venues",
    Leaning.DIMENSION_CUISINE: "cuisines",
    Leaning.DIMENSION_PRICE_BAND: "price_bands",
    _BRAND: "brands",
}
"""The fields of Affinities."""

Lean = tuple[Leaning.Dimension.ValueType, str, float]
"""A dimension, a name and a weight."""


def leans_of(kind: str, event: Event, facts: OfferFacts | None) -> list[Lean]:
    """What an event says of what the person likes. Its weight is shared by its items, so that many weigh as one."""
    weight = _WEIGHTS.get(kind)
    if weight is None:
        return []
    if kind == "view":
        return list(_of_items([event.view.item], weight))
    if kind == "add_to_cart":
        return list(_of_items(event.add_to_cart.items, weight))
    if kind == "order":
        return [] if event.order.gift else list(_of_items(event.order.items, weight))
    if facts is None:
        return []
    named = ((_CATEGORY, facts.category), (_BRAND, facts.brand))
    return [(dimension, name, weight) for dimension, name in named if name]


def _of_items(items: Iterable[Item], weight: float) -> Iterator[Lean]:
    for dimension, field in _FIELDS.items():
        names = [name for item in items if (name := getattr(item, field))]
        if len(names) == 1:
            yield dimension, names[0], weight
        elif names:
            for name, count in Counter(names).items():
                yield dimension, name, weight * count / len(names)


class Leanings:
    """The leanings of a person's state, by dimension and name; changes them there."""

    def __init__(self, state: UserState) -> None:
        self._state = state
        self._known = {(leaning.dimension, leaning.name): leaning for leaning in state.leanings}

    def add(self, leans: Iterable[Lean], second: int) -> None:
        """Let an event count, in whatever order they come.

        Exact up to 48 names ever met in a dimension; from then on, a new one takes the place of the weakest.
        """
        for dimension, name, weight in leans:
            if weight > 0.0:
                self._count(dimension, "", weight, second)
            self._count(dimension, name, weight, second)

    def merge(self, other: UserState) -> None:
        """Let what another person leans to count as this one's."""
        for leaning in other.leanings:
            self._count(leaning.dimension, leaning.name, leaning.weight, leaning.second)

    def _count(self, dimension: Leaning.Dimension.ValueType, name: str, weight: float, second: int) -> None:
        known = self._known.get((dimension, name))
        if known is None:
            added = self._state.leanings.add(dimension=dimension, name=name, weight=weight, second=second)
            self._known[dimension, name] = added
            if name:
                self._forget(dimension, name)
        elif second > known.second:
            known.weight = known.weight * _left(second - known.second) + weight
            known.second = second
        else:
            known.weight += weight * _left(known.second - second)

    def _forget(self, dimension: Leaning.Dimension.ValueType, new: str) -> None:
        others = [leaning for (of, name), leaning in self._known.items() if of == dimension and name not in {"", new}]
        if len(others) >= MAX_KEPT:
            weakest = min(others, key=_strength)
            del self._known[dimension, weakest.name]
            self._state.leanings.remove(weakest)


def affinities(leanings: Iterable[Leaning], now: int, into: Affinities) -> None:
    """Fill in the share of each name a person leans to, at an instant."""
    weights: dict[int, list[tuple[float, str]]] = {}
    totals: dict[int, float] = {}
    for leaning in leanings:
        weight = leaning.weight * _left(now - leaning.second)
        if not leaning.name:
            totals[leaning.dimension] = weight
        elif weight > 0.0:
            weights.setdefault(leaning.dimension, []).append((weight, leaning.name))
    for dimension, field in _SHARES.items():
        if dimension in weights:
            whole = totals[dimension] + PRIOR
            strongest = sorted(weights[dimension], reverse=True)[:MAX_NAMES]
            getattr(into, field).update({name: weight / whole for weight, name in strongest})


def _left(seconds: int) -> float:
    """What is left of a weight after some time; of one ahead of a clock, all."""
    return 2.0 ** -(seconds / HALF_LIFE_S) if seconds > 0 else 1.0


def _strength(leaning: Leaning) -> tuple[float, str]:
    """Orders leanings by what is left of them at any one instant."""
    weight = abs(leaning.weight)
    return (math.log2(weight) + leaning.second / HALF_LIFE_S if weight else -math.inf), leaning.name
