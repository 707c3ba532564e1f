"""If only distance decides, the service learns that from its own answers and their clicks."""

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from offers.learning.learner import Learner, current_model
from offers.server.offer_values import offers_of
from offers.testing import Served, serving
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import FACTOR_NAME_PROPENSITY, VIEW_FULL, GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub

NOON = 1_795_000_000
CONSENT: Any = ("contextual", "profiling", "learning")
HEAD = """
catalog_id: corner
ranking_strategies: [{ranking_strategy_id: learned, weights: {propensity: 1}}]
placements: [{placement_id: home, ranking_strategy_id: learned}]
"""
TOWNS = (48.0, 52.0)
"""Latitudes of two towns: people ask in the first; in the second, all that is known before is how far things are."""
SHOPS = 8
FAR_M = 1_500.0
"""Offers farther than this are not clicked."""


class Shown(NamedTuple):
    """An offer of an answer."""

    proposition_id: str
    metres: float
    """From where the person is to its venue."""
    propensity: float


def document(path: Path) -> Path:
    """A catalogue of shops that are spread over two towns, with an offer each."""
    choose = Random(7)
    venues, offers = ["venues:"], ["offers:"]
    for number, latitude in enumerate(town for town in TOWNS for _ in range(SHOPS)):
        at = f"{{latitude: {latitude + choose.uniform(-0.03, 0.03)}, longitude: {choose.uniform(-0.04, 0.04)}}}"
        venues.append(f"  - {{venue_id: v{number}, title: V, point: {at}, radius_m: 20000}}")
        offers.append(
            f"  - {{offer_id: o{number}, title: O, benefit: {{percent_off: 5}}, target: {{venue_ids: [v{number}]}}}}"
        )
    path.write_text("\n".join([HEAD, *venues, *offers]))
    return path


def ask(served: Served, town: float, number: int, choose: Random) -> list[Shown]:
    """Return the offers shown to a person in a town: all of its shops."""
    request = GetOffersRequest(placement="home", view=VIEW_FULL, max_offers=SHOPS)
    request.context.user.user_id = f"person-{number}"
    point = request.context.location.point
    point.latitude, point.longitude = town + choose.uniform(-0.03, 0.03), choose.uniform(-0.04, 0.04)
    response = OfferServiceStub(served.channel).GetOffers(request, timeout=60)
    assert SHOPS == len(response.offers)
    return [
        Shown(
            offer.proposition_id,
            offer.distance_m,
            next(factor.value for factor in offer.factors if factor.name == FACTOR_NAME_PROPENSITY),
        )
        for offer in response.offers
    ]


def click(served: Served, number: int, shown: list[Shown]) -> None:
    """Click on what is near."""
    events = []
    for one in shown:
        if one.metres < FAR_M:
            event = Event(event_id=one.proposition_id, proposition_id=one.proposition_id)
            event.user.user_id = f"person-{number}"
            event.click.SetInParent()
            events.append(event)
    if events:
        EventServiceStub(served.channel).ReportEvents(ReportEventsRequest(events=events), timeout=10)


def pairs(shown: list[Shown]) -> Iterator[tuple[Shown, Shown]]:
    """One that is near with one that is far, each with each."""
    near = [one for one in shown if one.metres < FAR_M]
    return ((one, other) for one in near for other in shown if other.metres >= FAR_M)


def test_who_clicks_on_what_is_near_is_understood(tmp_path: Path) -> None:
    """In another town, with unknown offers and places, propensity ranks near offers first (an AUC of .95 or more, .5
    before learning), and falls with the distance.
    """  # noqa: D205
    clock, choose = [float(NOON)], Random(1)
    path = document(tmp_path / "catalog.yaml")
    with serving(path, clock=lambda: clock[0], data_dir=tmp_path / "data", default_consent=CONSENT) as served:
        assert {1.0} == {one.propensity for one in ask(served, TOWNS[1], 0, choose)}
        for number in range(300):
            clock[0] += 60.0
            click(served, number, ask(served, TOWNS[0], number, choose))
        clock[0] += 3_600.0
        ask(served, TOWNS[1], 0, choose)
        served.worker.recorder.flush()
        (engine,) = served.worker.live.engines()
        learner = Learner(served.stores.events, tmp_path / "learning", offers_of([engine.snapshot.path]), bits=14)
        learner.catch_up(lambda: False, lambda _: None, lambda: clock[0] + 3_600)
        learner.close()
        model = current_model(tmp_path / "learning")
        assert model is not None
        served.worker.live.use_model(model)
        shown = [one for number in range(40) for one in ask(served, TOWNS[1], number, choose)]
    right = [math.copysign(0.5, one.propensity - other.propensity) + 0.5 for one, other in pairs(shown)]
    assert len(right) > 1_000
    assert sum(right) / len(right) >= 0.95
    by_distance = []
    for low, high in ((0, 1_000), (1_000, 2_000), (2_000, 4_000)):
        some = [one.propensity for one in shown if low <= one.metres < high]
        by_distance.append(sum(some) / len(some))
    assert sorted(by_distance, reverse=True) == by_distance
    assert by_distance[0] > 3 * by_distance[2]
