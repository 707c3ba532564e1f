"""Explanations agree with the decision for any catalogue, query and person, and give a reason for every place."""

import math
from itertools import islice

import pytest
from geopy.distance import geodesic
from google.type.latlng_pb2 import LatLng
from hypothesis import given, settings

from offers.catalogue.geo.areas import Area, contains
from offers.catalogue.geo.geojson import parse
from offers.decision.kernels.memory.scratch import POINTS
from offers.decision.kernels.places.location import point_around
from offers.decision.reference import decide as reference
from offers.decision.reference.explain import Why, explain, gap_m
from offers.decision.reference.people import NOBODY, KnownPerson
from offers.decision.reference.places import OfferPlace, Piece, chance_inside, distance_m, places_of
from offers.decision.reference.words import Words
from offers.model.query import Query, Surface
from offers.server.convert import query_of
from offers.v1.catalog_pb2 import Catalog
from offers.v1.venue_pb2 import Zone
from tests import people, strategies


@settings(max_examples=30)
@given(strategies.makers, strategies.sizes)
def test_explanation_agrees_with_the_decision(maker: strategies.Maker, size: int) -> None:
    """The offers returned, their order and their scores are the reference's; every other place has a reason."""
    catalog = maker.catalog(size)
    for _ in range(5):
        query = query_of(maker.request(catalog), 0)
        check_explanation(catalog, query, NOBODY)


@settings(max_examples=30)
@given(people.people_makers, strategies.sizes)
def test_explanation_agrees_with_the_decision_for_every_person(maker: people.PeopleMaker, size: int) -> None:
    """The same holds for persons with segments, variants, limits and budgets."""
    catalog = maker.catalog(size)
    for _ in range(5):
        query = query_of(maker.request(catalog), 0)
        check_explanation(catalog, query, maker.known(catalog, query.time))


def check_explanation(catalog: Catalog, query: Query, known: KnownPerson) -> None:
    """Hold the verdicts on all offers against the decision of the reference."""
    best, eligible = reference.decide(catalog, query, known)
    verdicts = explain(catalog, query, known)

    assert list(catalog.offers) == [one.placed.offer for one in verdicts]
    assert [len(list(places_of(catalog, offer))) for offer in catalog.offers] == [
        len(one.placed.places) for one in verdicts
    ]
    returned = sorted((one for one in verdicts if one.rank), key=lambda one: one.rank)
    assert best == [one.ranked for one in returned]
    assert list(range(1, len(best) + 1)) == [one.rank for one in returned]
    assert eligible == sum(one.is_eligible for one in verdicts)
    words = Words(catalog, query)
    for one in verdicts:
        placed = one.placed
        against = (*placed.reasons, *one.failed, *one.withheld)
        assert bool(one.rank) != bool(against)
        assert bool(one.withheld) == (not one.rank and not (*placed.reasons, *one.failed))
        assert one.is_eligible == (bool(one.rank) or (bool(one.withheld) and Why.FALLBACK != one.withheld[0].why))
        assert len(against) == len(words.checks(one))
        for verdict in placed.places:
            assert bool(verdict.reasons) != bool(verdict.found)
            assert (verdict.gap_m is None) == (math.isnan(query.latitude) or verdict.place.piece is None)


def plainly(place: OfferPlace, query: Query) -> float | None:
    """Return the probability of being inside a place, worked out area by area and point by point."""
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
    """The probability of being inside a place is the share of points inside, each tested alone."""
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
    """The distance to an area is that to its nearest edge, also across the antimeridian; 0 inside."""
    (part,) = parse(area)

    assert geodesic(here, nearest).m == pytest.approx(gap_m(part, *here), rel=0.01, abs=0.01)


def test_a_zone_of_several_areas_is_named() -> None:
    """An offer outside a zone of areas with different numbers of corners is told so by the zone's id."""
    triangle = '{"type": "Polygon", "coordinates": [[[4, 48], [5, 48], [5, 49], [4, 48]]]}'
    catalog = Catalog(catalog_id="c", zones=[Zone(zone_id="z", areas=[SQUARE, triangle])])
    catalog.offers.add(offer_id="o").target.zone_ids.append("z")
    query = Query(Surface(), 0, 48.5, 5.1)
    (verdict,) = explain(catalog, query)

    (check,) = Words(catalog, query).checks(verdict)
    assert check.detail.endswith(" outside zone z")
    assert check.missing_m == pytest.approx(geodesic((48.5, 5.1), (48.5, 5.0)).m, rel=0.01)


@pytest.mark.parametrize(
    ("value", "seed", "wanted"),
    [
        (0.5, -1, "the answer is full, and its last offer has the same score: the id decides"),
        (0.5, 7, "the answer is full, and its last offer has the same score: the seed decides"),
        (0.4, -1, "1 better one is in the answer: score 0.025, the last of them has 0.0312"),
    ],
)
def test_no_offer_is_outranked_by_an_equal_score(value: float, seed: int, wanted: str) -> None:
    """Of two offers for one place, the one left out is tied if both score the same, and outranked if not."""
    catalog = Catalog(catalog_id="c")
    for name, worth in (("a", 0.5), ("b", value)):
        offer = catalog.offers.add(offer_id=name, value=worth)
        offer.target.everywhere = True
    verdicts = explain(catalog, Query(Surface(max_offers=1), 0, seed=seed))
    (left_out,) = [one for one in verdicts if not one.rank]
    checks = Words(catalog, Query(Surface(), 0, seed=seed)).checks(left_out)
    assert [wanted] == [check.detail for check in checks]
    assert [Why.TIED if value == 0.5 else Why.BEYOND] == [reason.why for reason in left_out.withheld]
