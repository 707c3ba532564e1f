"""How probable an answer was where it is explored what may turn out better, in plain Python: see reference.py."""

from collections.abc import Iterable

from offers.catalogue.snapshot import PROPENSITY
from offers.decision.explore import DRAWS
from offers.decision.reference import Ranked
from offers.decision.reference_learned import Taught, exploration_of
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog


def explores(catalog: Catalog, query: Query, ranked: Iterable[Ranked]) -> bool:
    """Whether propensities are varied, so that each offer has a probability of being in the answer."""
    return bool(exploration_of(catalog, query).method) and any(one.foreseen.is_asked for one in ranked)


def selection_probability(
    catalog: Catalog, query: Query, ranked: list[Ranked], own: Ranked, count: int, taught: Taught, slack: float = 0.0
) -> float:  # fmt: skip
    """How probable it was that an offer is among the `count` best: in how many of the draws it is, limits aside.

    It may be worse than the last of them by `slack`, in logarithms of scores.
    """
    among = 0
    for draw in range(DRAWS):
        others = [drawn_score(catalog, query, one, taught, draw) for one in ranked if one.offer_id != own.offer_id]
        score = drawn_score(catalog, query, own, taught, draw) + slack
        among += sum(other > score for other in others) < count
    return max(among, 1) / DRAWS


def drawn_score(catalog: Catalog, query: Query, one: Ranked, taught: Taught, draw: int) -> float:
    """The logarithm of an offer's score in one of the draws."""
    _, weight = one.factors[PROPENSITY]
    drawn = taught.varied(catalog, query, weight, one.offer_id, one.foreseen, draw)
    return one.log_score + weight * (drawn - one.drawn)
