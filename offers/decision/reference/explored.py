"""The part of the specification that concerns exploration: the probability that an offer was selected."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from offers.catalogue.snapshot import PROPENSITY
from offers.decision.kernels.models.explore import DRAWS
from offers.decision.reference.decide import Ranked, laid_out, order_of, turn_of
from offers.decision.reference.models import Taught, exploration_of
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog

_DIGITS = 12


def explores(catalog: Catalog, query: Query, ranked: Iterable[Ranked]) -> bool:
    """Return whether propensities are varied, so that offers have a selection probability."""
    return bool(exploration_of(catalog, query).method) and any(one.foreseen.is_asked for one in ranked)


def selection_probabilities(
    catalog: Catalog, query: Query, ranked: list[Ranked], taught: Taught, near: float = 0.0
) -> dict[str, tuple[float, float]]:
    """Return the selection probability of each offer, by id: the share of draws that show it, as bounds from and to.

    The bounds differ by the draws in which two scores, in logarithms, are closer than `near`: rounding decides those.
    An answer states at least 1 / DRAWS, because an offer in it came from some draw.
    """
    order, least, most = order_of(catalog), Counter[str](), Counter[str]()
    for draw in range(DRAWS):
        scored = sorted(
            (
                (drawn_score(catalog, query, one, taught, draw), turn_of(query.seed, order[one.offer_id]), one)
                for one in ranked
            ),
            key=lambda each: (-each[0], each[1]),
        )
        if any(0 < one[0] - next_[0] < near for one, next_ in pairwise(scored)):
            most.update(one.offer_id for one in ranked)
            continue
        answer = [one.offer_id for one, limits in laid_out(catalog, query, [one for _, _, one in scored]) if not limits]
        least.update(answer)
        most.update(answer)
    return {one.offer_id: (least[one.offer_id] / DRAWS, most[one.offer_id] / DRAWS) for one in ranked}


def drawn_score(catalog: Catalog, query: Query, one: Ranked, taught: Taught, draw: int) -> float:
    """Return the logarithm of an offer's score in a draw, rounded so that equal scores compare equal."""
    _, weight = one.factors[PROPENSITY]
    drawn = taught.varied(catalog, query, weight, one.offer_id, one.foreseen, draw)
    return round(one.log_score + weight * (drawn - one.drawn), _DIGITS)
