"""Explanations: for any catalogue and query they agree with the decision, and leave no place without a reason."""

import math
from itertools import islice

import pytest
from geopy.distance import geodesic
from google.type.latlng_pb2 import LatLng
from hypothesis import given, settings

from offers.catalogue.compile.areas import Area, contains
from offers.catalogue.compile.geojson import parse
from offers.decision.kernels.memory.scratch import POINTS
from offers.decision.kernels.places.location import point_around
from offers.decision.reference import decide as reference
from offers.decision.reference.explain import Why, explain, gap_m
from offers.decision.reference.places import Piece, Place, chance_inside, distance_m, places_of
from offers.model.query import Query
from offers.server.convert import query_of
from tests import strategies

QUALIFIES = {Why.RETURNED, Why.OTHER_PLACE, Why.FALLBACK, Why.EXCLUSION_GROUP, Why.LAYOUT, Why.BEYOND}


@settings(max_examples=30)
@given(strategies.makers, strategies.sizes)
def test_explanation_agrees_with_the_decision(maker: strategies.Maker, size: int) -> None:
    """What is returned, in which order and by what, is what the reference decides; all else has a reason."""
    catalog = maker.catalog(size)
    for _ in range(5):
        query = query_of(maker.request(catalog), 0)
        best, eligible = reference.decide(catalog, query)
        verdicts = explain(catalog, query)

        assert sum(len(list(places_of(catalog, offer))) for offer in catalog.offers) == len(verdicts)
        returned = sorted((one for one in verdicts if one.is_returned), key=lambda one: one.rank or 0)
        assert best == [one.ranked for one in returned]
        assert list(range(1, len(best) + 1)) == [one.rank for one in returned]
        good = {one.offer.offer_id for one in verdicts if {reason.why for reason in one.reasons} <= QUALIFIES}
        held_back = {one.offer.offer_id for one in verdicts if Why.FALLBACK in {reason.why for reason in one.reasons}}
        assert eligible == len(good - held_back)
        assert all(one.reasons for one in verdicts)
        assert all(math.isnan(query.latitude) == (one.gap_m is None) for one in verdicts if one.place.piece)


def plainly(place: Place, query: Query) -> float | None:
    """How likely one is inside a place, area by area and point by point."""
    pieces = (place.piece, *place.cuts)
    if query.sigma_m == 0 or math.isnan(query.latitude) or not any(isinstance(piece, Area) for piece in pieces):
        return chance_inside(place, query)

    def holds(piece: Piece | None, latitude: float, longitude: float) -> bool:
        if isinstance(piece, Area):
            return contains(piece, latitude, longitude)
        here = LatLng(latitude=latitude, longitude=longitude)
        return piece is None or distance_m(here, piece.center) <= piece.radius_m

    points = [point_around(query.latitude, query.longitude, query.sigma_m, number) for number in range(POINTS)]
    inside = [
        any(holds(piece, *point) for piece in (place.piece, *place.joined))
        and not any(holds(cut, *point) for cut in place.cuts)
        for point in points
    ]
    return sum(inside) / POINTS


@settings(max_examples=30)
@given(strategies.makers, strategies.sizes)
def test_chances_are_those_of_the_reference(maker: strategies.Maker, size: int) -> None:
    """How likely one is inside a place is the share of points that are, each asked about by itself."""
    catalog = maker.catalog(size)
    query = query_of(maker.request(catalog), 0)
    for sigma in (0.0, query.sigma_m, 300.0, 50_000.0):
        asked = query._replace(sigma_m=sigma)
        for offer in catalog.offers:
            for place in islice(places_of(catalog, offer), 5):
                assert plainly(place, asked) == chance_inside(place, asked)


SQUARE = '{"type": "Polygon", "coordinates": [[[2, 48], [3, 48], [3, 49], [2, 49], [2, 48]]]}'
FIJI = '{"type": "Polygon", "coordinates": [[[179, -18], [-179, -18], [-179, -16], [179, -16], [179, -18]]]}'


@pytest.mark.parametrize(
    ("area", "here", "nearest"),
    [
        (SQUARE, (48.5, 2.5), (48.5, 2.5)),
        (SQUARE, (48.5, 1.9), (48.5, 2.0)),
        (SQUARE, (49.2, 3.2), (49.0, 3.0)),
        (FIJI, (-17.0, -178.9), (-17.0, -179.0)),
        (FIJI, (-17.0, 178.9), (-17.0, 179.0)),
    ],
)
def test_gap_to_an_area(area: str, here: tuple[float, float], nearest: tuple[float, float]) -> None:
    """The way to an area is that to its nearest edge, also across the antimeridian; 0 inside."""
    (part,) = parse(area)

    assert geodesic(here, nearest).m == pytest.approx(gap_m(part, *here), rel=0.01, abs=0.01)
