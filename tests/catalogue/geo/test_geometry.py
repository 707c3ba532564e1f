"""Distances on the ellipsoid, and the grid that finds what is within them."""

from random import Random

import numpy as np
import pytest
from geopy.distance import geodesic
from google.type.latlng_pb2 import LatLng

from offers.catalogue.geo import geometry
from offers.decision.reference.places import distance_m
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.venue_pb2 import Circle
from tests.decision.kernels.test_kernels_equal_reference import service_of
from tests.strategies import beyond

RELATIVE, ABSOLUTE_M = 0.0005, 1.0
"""Accuracy of distances up to 200 km: 0.05 %, or 1 m."""


def somewhere(random: Random) -> LatLng:
    """Any position, often a pole, the equator, or the antimeridian, or just beside them."""
    latitude = random.choice([90, -90, 89.9999, -89.99, 0, random.uniform(-90, 90), random.uniform(-90, 90)])
    longitude = random.choice([180, -180, 179.9999, -179.9999, 0, random.uniform(-180, 180), random.uniform(-180, 180)])
    return LatLng(latitude=latitude, longitude=longitude)


def test_distances_agree_with_the_geodesic() -> None:
    """Up to 200 km the distance is right within 0.05 % or 1 m, anywhere; up to 1,000 km within 0.2 %."""
    random = Random(4)
    for _ in range(3_000):
        here, metres = somewhere(random), 10 ** random.uniform(-1, 6)
        there = beyond(here, random.uniform(0, 360), metres)
        truth = geodesic((here.latitude, here.longitude), (there.latitude, there.longitude)).meters
        allowed = max(RELATIVE * truth, ABSOLUTE_M) if truth <= 200_000 else 0.002 * truth
        assert truth == pytest.approx(distance_m(here, there), abs=allowed)


def test_answers_carry_that_distance() -> None:
    """The distance of an answer is the same, also across the antimeridian and a pole."""
    random = Random(5)
    places = [somewhere(random) for _ in range(60)]
    everything = [
        Offer(
            offer_id=str(number),
            title="a",
            benefit=Benefit(custom="a"),
            target=Target(circles=[Circle(center=place, radius_m=1e6)]),
        )
        for number, place in enumerate(places)
    ]
    with service_of(Catalog(catalog_id="a", offers=everything)) as service:
        for _ in range(60):
            here = beyond(random.choice(places), random.uniform(0, 360), random.uniform(0, 200_000))
            for got in ask(service, here).offers:
                assert distance_m(here, places[int(got.offer_id)]) == pytest.approx(got.distance_m, rel=1e-9, abs=1e-6)


def ask(service: object, here: LatLng) -> GetOffersResponse:
    """Ask for up to 100 offers at a position."""
    request = GetOffersRequest(max_offers=100)
    request.context.location.point.CopyFrom(here)
    return GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))  # type: ignore[attr-defined]


def borders(random: Random, radius_m: float) -> LatLng:
    """Return a position on, or very near, the border of a cell of the level for circles of a radius."""
    size = float(geometry.SMALLEST_CELL_M * 2.0 ** geometry.level_of(np.array([radius_m]))[0])
    rows = geometry.rows_of(size)
    row = random.choice([0, 1, rows // 2, rows - 2, rows - 1, random.randrange(rows)])
    latitude = min(max(np.degrees(row * size / geometry.LEAST_RADIUS_M) - 90, -90.0), 90.0)
    columns = int(geometry.columns_of_rows(size)[max(0, min(row, rows - 1))])
    longitude = 360.0 * random.choice([0, 1, columns - 1, random.randrange(columns)]) / columns - 180
    hair = random.choice([0.0, 1e-12, -1e-12, 1e-6])
    return LatLng(latitude=min(max(latitude + hair, -90), 90), longitude=min(max(longitude + hair, -180), 180))


def test_grid_misses_nothing() -> None:
    """The grid finds what a scan of all 6,000 circles finds: on borders of cells, at the poles, on the antimeridian."""
    random = Random(6)
    radii = (1.0, 100.0, 247.0, 248.0, 1_000.0, 60_000.0, 500_000.0, 1_000_000.0)
    circles = []
    for number in range(6_000):
        radius = radii[number % len(radii)]
        center = borders(random, radius) if random.random() < 0.5 else somewhere(random)
        circles.append(Circle(center=center, radius_m=radius))
    everything = [
        Offer(offer_id=str(number), title="a", benefit=Benefit(custom="a"), target=Target(circles=[circle]))
        for number, circle in enumerate(circles)
    ]
    centres = np.array([(one.center.latitude, one.center.longitude) for one in circles])
    x, y, z = geometry.earth_centred(centres[:, 0], centres[:, 1])
    reach = geometry.straight_line(np.array([one.radius_m for one in circles]))
    asked = 0
    with service_of(Catalog(catalog_id="a", offers=everything)) as service:
        for _ in range(1_500):
            near = random.choice(circles)
            share = random.choice([0.0, 0.5, 0.999, 1.001])
            here = beyond(near.center, random.uniform(0, 360), share * near.radius_m)
            if random.random() < 0.3:
                here = borders(random, near.radius_m)
            mine = geometry.earth_centred(np.array(here.latitude), np.array(here.longitude))
            away = np.sqrt((x - mine[0]) ** 2 + (y - mine[1]) ** 2 + (z - mine[2]) ** 2)
            if np.abs(away - reach).min() < 1e-6:
                continue
            assert int((away <= reach).sum()) == ask(service, here).eligible_count
            asked += 1
    assert asked > 1_000


def test_rows_and_columns_cover_the_earth() -> None:
    """Every position has a row and a column of its level, the poles and both ends of the longitudes included."""
    for level in range(13):
        size = geometry.SMALLEST_CELL_M * 2.0**level
        columns = geometry.columns_of_rows(size)
        assert geometry.rows_of(size) == len(columns)
        assert columns.min() >= 1
        rows = geometry.row_of(np.array([-90.0, 0.0, 90.0]), size)
        assert [0, len(columns) - 1] == [rows[0], rows[2]]
        for longitude in (-180.0, 180.0, np.nextafter(180.0, 0)):
            column = geometry.column_of(np.array([longitude]), columns[rows[1:2]])
            assert 0 <= column[0] < columns[rows[1]]
        ends = [geometry.column_of(np.array([end]), columns[rows[1:2]])[0] for end in (-180.0, 180.0)]
        assert ends[0] == ends[1]
