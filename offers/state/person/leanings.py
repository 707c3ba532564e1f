"""A person's tastes: decayed sums of event weights by name, and the shares they make up."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from offers.model.events import WEIGHTS
from offers.model.facts import OfferFacts
from offers.model.instants import DAY_S
from offers.v1.event_pb2 import Event, Item
from offers.v1.profile_pb2 import Affinities
from offers.v1.state_pb2 import Leaning, UserState

HALF_LIFE_S = 30 * DAY_S
PRIOR = 3.0
"""Weight added to the total, that of three orders, so that one event has a share of at most 1/4."""
MAX_NAMES = 32
"""Names shown in each dimension: the strongest."""
MAX_KEPT = 48
"""Names kept in each dimension: more than are shown, so that rare names can rise."""
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
"""The field of Item that names each dimension."""
_SHARES = {
    _CATEGORY: "categories",
    Leaning.DIMENSION_VENUE: "venues",
    Leaning.DIMENSION_CUISINE: "cuisines",
    Leaning.DIMENSION_PRICE_BAND: "price_bands",
    _BRAND: "brands",
}
"""The field of Affinities for each dimension."""

Lean = tuple[Leaning.Dimension.ValueType, str, float]
"""A dimension, a name and a weight."""


def leans_of(kind: str, event: Event, facts: OfferFacts | None) -> list[Lean]:
    """Return the leanings an event is evidence of; its items share its weight, so that many weigh as much as one."""
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
    """The leanings in a person's state, by dimension and name; updates the state itself."""

    def __init__(self, state: UserState) -> None:
        self._state = state
        self._known = {(leaning.dimension, leaning.name): leaning for leaning in state.leanings}

    def add(self, leans: Iterable[Lean], second: int) -> None:
        """Add an event; the result does not depend on the order of events.

        Exact for up to MAX_KEPT names in a dimension; beyond that, a new name replaces the weakest.
        """
        for dimension, name, weight in leans:
            if weight > 0.0:
                self._count(dimension, "", weight, second)
            self._count(dimension, name, weight, second)

    def merge(self, other: UserState) -> None:
        """Add another person's leanings to this one's."""
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
        others = [known for (kind, name), known in self._known.items() if kind == dimension and name not in {"", new}]
        if len(others) >= MAX_KEPT:
            weakest = min(others, key=_strength)
            del self._known[dimension, weakest.name]
            self._state.leanings.remove(weakest)


def affinities(leanings: Iterable[Leaning], now: int, into: Affinities) -> None:
    """Fill in the share of each name at the second `now`."""
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
    """Return the share of a weight left after some seconds; 1 for an event that is ahead of the clock."""
    return 2.0 ** -(seconds / HALF_LIFE_S) if seconds > 0 else 1.0


def _strength(leaning: Leaning) -> tuple[float, str]:
    """Return the sort key that orders leanings by their decayed weight, at whatever instant."""
    weight = abs(leaning.weight)
    return (math.log2(weight) + leaning.second / HALF_LIFE_S if weight else -math.inf), leaning.name
