"""Replays what people took up, check-ins and orders alike: the server is asked for offers, then told what was taken.

The first part is only reported, as events by time. After that, each decision knows all that the person took up before;
models are published once a day.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from benchmarks.quality.figures import Floats, rank_of
from benchmarks.quality.mapping import DataSet, Row
from benchmarks.quality.result import PLACEMENTS, Added, Figure, Found
from benchmarks.quality.service import AT_ONCE, Service, event, parts, service
from offers.v1.context_pb2 import Context
from offers.v1.event_pb2 import Event
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse

DAY_S = 86_400
MAIN = ""
"""Placement of the catalogue's default strategy."""


@dataclass(frozen=True, slots=True)
class Taking:
    """An offer that a person took up."""

    person: str
    offer_id: str
    """Also the id of its venue."""
    second: int
    """Seconds since 1970, by the wall clock."""
    context: Context
    row: Row


@dataclass(slots=True)
class Ranks:
    """By placement, the ranks of what was taken up."""

    by_placement: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in (MAIN, *PLACEMENTS)})
    models: int = 0
    """That were taken up."""

    def of(self, placement: str) -> Floats:
        """Of one placement."""
        return np.array(self.by_placement[placement])


def replay(data: DataSet, rows: Sequence[Row], before: Sequence[Taking], after: Sequence[Taking], most: int) -> Ranks:
    """Replay `after` when `before` is learned, both by time; ranks beyond `most` are infinite."""
    ranks = Ranks()
    with service(data.catalog(rows), before[0].second) as one:
        events = [_taken(taking, f"before-{number}") for number, taking in enumerate(before)]
        for some in parts(events, AT_ONCE):
            one.second = some[-1].event_time.seconds
            one.report(some)
        one.learn()
        number = 0
        for _, today in groupby(after, key=lambda taking: taking.second // DAY_S):
            for taking in today:
                number += 1
                one.second = taking.second
                _happen(one, taking, number, most, ranks)
            one.learn()
        ranks.models = one.published
    return ranks


def found(figure: Figure, measures: Mapping[str, Callable[[Floats], float]], ranks: Ranks, counts: str) -> Found:
    """Return the results of a replay: a figure, and measures of ranks by placement; `counts` says how many rows."""
    added = [
        Added(figure.data, measure, {name: of(ranks.of(name)) for name in PLACEMENTS})
        for measure, of in measures.items()
    ]
    return Found([figure], added, [f"{figure.data}: {counts}, {ranks.models} models taken up"])


def _happen(one: Service, taking: Taking, number: int, most: int, ranks: Ranks) -> None:
    """Ask for offers by all strategies, show those of the main one, and report the offer taken."""
    requests = [
        GetOffersRequest(context=taking.context, placement=placement, max_offers=most) for placement in PLACEMENTS
    ]
    for placement, response in zip(PLACEMENTS, one.ask(requests), strict=True):
        ranks.by_placement[placement].append(rank_of(taking.offer_id, _ids(response)))
    (shown,) = one.get([GetOffersRequest(context=taking.context, max_offers=most)])
    ids = _ids(shown)
    ranks.by_placement[MAIN].append(rank_of(taking.offer_id, ids))
    taken = _taken(taking, f"{number}")
    if taking.offer_id in ids:
        taken.proposition_id = shown.offers[ids.index(taking.offer_id)].proposition_id
    one.report([*_seen(taking, number, shown), taken])


def _taken(taking: Taking, event_id: str) -> Event:
    """Return the offer taken up as an order at its venue."""
    made = event(event_id, taking.context)
    made.order.items.add(venue_id=taking.offer_id)
    if taking.context.HasField("location"):
        made.location.CopyFrom(taking.context.location.point)
    return made


def _seen(taking: Taking, number: int, shown: GetOffersResponse) -> Iterator[Event]:
    """Yield impressions of the first ten offers."""
    for offer in shown.offers[:10]:
        made = event(f"{number}-{offer.rank}", taking.context, offer)
        made.impression.SetInParent()
        yield made


def _ids(response: GetOffersResponse) -> list[str]:
    return [offer.offer_id for offer in response.offers]
