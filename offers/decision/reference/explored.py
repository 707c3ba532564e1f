"""The part of the specification that concerns exploration: the probability that an offer was selected."""

from collections import Counter
from collections.abc import Callable, Iterable
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
    turns = [turn_of(query.seed, order[one.offer_id]) for one in ranked]
    scores = [_score(catalog, query, one, taught) for one in ranked]
    for draw in range(DRAWS):
        drawn = [score(draw) for score in scores]
        best_first = sorted(range(len(ranked)), key=lambda index: (-drawn[index], turns[index]))
        if near and any(0 < drawn[one] - drawn[other] < near for one, other in pairwise(best_first)):
            most.update(one.offer_id for one in ranked)
            continue
        shown = laid_out(catalog, query, [ranked[index] for index in best_first])
        answer = [one.offer_id for one, limits in shown if not limits]
        least.update(answer)
        most.update(answer)
    return {one.offer_id: (least[one.offer_id] / DRAWS, most[one.offer_id] / DRAWS) for one in ranked}


def _score(catalog: Catalog, query: Query, one: Ranked, taught: Taught) -> Callable[[int], float]:
    """Return a function from a draw to the logarithm of an offer's score, rounded so that equal ones compare equal."""
    _, weight = one.factors[PROPENSITY]
    varied = taught.variation(catalog, query, weight, one.offer_id, one.foreseen)
    return lambda draw: round(one.log_score + weight * (varied(draw) - one.drawn), _DIGITS)
