"""Uncertain locations: their points are spread as a normal distribution, and areas hold the right share of them."""

import math
from random import Random

import numpy as np
import pytest
from geopy.distance import geodesic

from offers.catalogue.geo.areas import contains
from offers.catalogue.geo.geojson import parse
from offers.catalogue.geo.geometry import earth_centred
from offers.decision.kernels.memory.scratch import POINTS
from offers.decision.kernels.places.location import SIGMA, point_around
from offers.server.offer_service import OfferService
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.offer_service_pb2 import FACTOR_NAME_LOCATION, VIEW_FULL, GetOffersRequest, GetOffersResponse
from tests.areas import polygon, star
from tests.decision.kernels.test_kernels_equal_reference import service_of

LEAST = 0.01
"""Offers are shown from this probability on, the least that can be asked for."""


def points_around(latitude: float, longitude: float, sigma: float) -> list[tuple[float, float]]:
    """Return all points that stand for an uncertain location."""
    return [point_around(latitude, longitude, sigma, number) for number in range(POINTS)]


def test_points_around() -> None:
    """The points are normally distributed, 68 % of them within 1.51 standard deviations, anywhere on the earth."""
    for latitude, longitude in (
        (48.8, 2.3),
        (0.0, 180.0),
        (-65.0, -179.9999),
        (89.9999, 0.0),
        (90.0, 0.0),
        (-90.0, 77.0),
    ):
        for sigma in (3.0, 500.0, 20_000.0):
            points = points_around(latitude, longitude, sigma)
            assert POINTS == len(points)
            away = sorted(geodesic((latitude, longitude), point).meters for point in points)
            assert 1.51 * sigma == pytest.approx(away[round(0.68 * len(away))], rel=0.05)
            assert 1.18 * sigma == pytest.approx(away[len(away) // 2], rel=0.07)
            assert away[-1] <= 2.64 * sigma
            assert all(-90 <= y <= 90 and -180 <= x <= 180 for y, x in points)
            x, y, z = earth_centred(*(np.array(axis) for axis in zip(*points, strict=True)))
            here = earth_centred(np.array(latitude), np.array(longitude))
            assert math.dist((x.mean(), y.mean(), z.mean()), here) <= 0.01 * sigma + 2 * sigma**2 / 6_371_000


def test_points_far_around() -> None:
    """With the widest uncertainty the points are still positions."""
    for latitude in (-90.0, 0.0, 51.0, 90.0):
        for y, x in points_around(latitude, -180.0, 700_000.0):
            assert -90 <= y <= 90
            assert -180 <= x <= 180


def catalog_of(areas: list[str]) -> Catalog:
    """Return a catalogue with an offer per area, shown even where the person is hardly ever inside."""
    catalog = Catalog(catalog_id="areas")
    for number, area in enumerate(areas):
        target = Target(areas=[area], min_inside_probability=LEAST)
        catalog.offers.append(Offer(offer_id=str(number), title="a", benefit=Benefit(custom="a"), target=target))
    return catalog


def probability(service: OfferService, number: int, latitude: float, longitude: float, sigma: float) -> float:
    """Return the probability of being in an area, from the answer; 0 if its offer is not shown."""
    request = GetOffersRequest(view=VIEW_FULL, max_offers=100)
    location = request.context.location
    location.point.latitude, location.point.longitude, location.accuracy_m = latitude, longitude, sigma / SIGMA
    answer = GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))
    for offer in answer.offers:
        if offer.offer_id == str(number):
            return next(factor.value for factor in offer.factors if factor.name == FACTOR_NAME_LOCATION)
    return 0.0


def test_probability_is_the_share_of_points() -> None:
    """The probability is the share of the points inside, whether they are looked at or known at once."""
    random = Random(9)
    partly = 0
    stars = []
    for _ in range(60):
        latitude = random.choice([0, 48.8, -65, 88.5, 89.99])
        longitude = random.choice([2.3, 180.0, -179.999, random.uniform(-180, 180)])
        size = 10 ** random.uniform(-4, 0)
        corners = random.choice([5, 50])
        text = star(random, latitude, longitude, min(size, 89.9995 - latitude), corners, hole=True)
        stars.append((latitude, longitude, size, text))
    with service_of(catalog_of([text for *_, text in stars])) as service:
        for number, (latitude, longitude, size, text) in enumerate(stars):
            (part,) = parse(text)
            for share in (0.0, 0.02, 0.3, 2.0):
                sigma = share * size * 111_000
                y = min(latitude + random.uniform(-1, 1) * size, 90.0)
                wanted = sum(contains(part, *point) for point in points_around(y, longitude, sigma)) / POINTS
                found = probability(service, number, y, longitude, sigma)
                assert (wanted if wanted >= LEAST else 0.0) == pytest.approx(found, abs=1e-12)
                partly += 0 < found < 1
    assert partly > 40


def test_probability_of_an_exact_position() -> None:
    """An exact position is inside or not; on a straight edge of something large, an uncertain one is half inside."""
    box = polygon([[2, 40], [3, 40], [3, 50], [2, 50], [2, 40]])
    with service_of(catalog_of([box])) as service:
        assert [1.0, 0.0] == [probability(service, 0, 45.0, x, 0.0) for x in (2.5, 1.5)]
        assert 0.5 == pytest.approx(probability(service, 0, 45.0, 2.0, 100.0), abs=0.04)
        assert 0.84 == pytest.approx(probability(service, 0, 45.0, 2.0 + 100 / 78_850, 100.0), abs=0.04)


def test_areas_side_by_side_are_one() -> None:
    """However a target names areas that meet, a person near their border is certainly in one of them."""
    squares = [
        polygon([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1), (x, y)]) for x in (-1.0, 0.0) for y in (-1.0, 0.0)
    ]
    together = f'{{"type": "GeometryCollection", "geometries": [{", ".join(squares)}]}}'
    catalog = Catalog(catalog_id="side-by-side")
    for number, square in enumerate(squares):
        catalog.zones.add(zone_id=f"z{number}", areas=[square], time_zone="UTC")
        catalog.zones.add(zone_id=f"clock{number}", areas=[square], time_zone="UTC" if number else "Asia/Tokyo")
    names = [f"z{number}" for number in range(4)]
    catalog.zones.add(zone_id="whole", zone_ids=names)
    catalog.zones.add(zone_id="cut", areas=[polygon([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])])
    clocks = [f"clock{number}" for number in range(4)]
    wanted = {}
    for name, target, likely in (
        ("areas", Target(areas=squares), 1.0),
        ("collection", Target(areas=[together]), 1.0),
        ("zones", Target(zone_ids=names), 1.0),
        ("zone of zones", Target(zone_ids=["whole"]), 1.0),
        ("three of them", Target(zone_ids=names[:3]), 0.75),
        ("cut", Target(zone_ids=names, excluded_zone_ids=["cut"]), 0.75),
        ("another clock", Target(zone_ids=clocks), 0.75),
        ("alone", Target(areas=squares[:1]), 0.25),
    ):
        target.min_inside_probability = LEAST
        catalog.offers.add(offer_id=name.replace(" ", "-"), title=name, benefit=Benefit(custom="a"), target=target)
        wanted[catalog.offers[-1].offer_id] = pytest.approx(likely, abs=0.04)  # so coarse are 256 points
    request = GetOffersRequest(view=VIEW_FULL, max_offers=100)
    request.context.location.point.latitude = request.context.location.point.longitude = 1e-6
    for accuracy_m in (10.0, 1000.0):
        request.context.location.accuracy_m = accuracy_m
        with service_of(catalog) as service:
            answer = GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))
        got = {
            one.offer_id: factor.value
            for one in answer.offers
            for factor in one.factors
            if factor.name == FACTOR_NAME_LOCATION
        }
        assert wanted == got
