"""How probable an answer was where it is explored what may turn out better, in plain Python: see decide.py."""

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
    """Whether propensities are varied, so that each offer has a probability of being in the answer."""
    return bool(exploration_of(catalog, query).method) and any(one.foreseen.is_asked for one in ranked)


def selection_probabilities(
    catalog: Catalog, query: Query, ranked: list[Ranked], taught: Taught, near: float = 0.0
) -> dict[str, tuple[float, float]]:
    """How probable it was that offers are in the answer: in what share of the draws they are; by id, from and to.

    An answer tells 1 / DRAWS at least: whatever is in it came from some draw. A draw in which scores, in logarithms,
    differ by less than `near` may go either way.
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
    """The logarithm of an offer's score in one of the draws, as exactly as tells equals from others."""
    _, weight = one.factors[PROPENSITY]
    drawn = taught.varied(catalog, query, weight, one.offer_id, one.foreseen, draw)
    return round(one.log_score + weight * (drawn - one.drawn), _DIGITS)
