"""Compiled areas agree with shapely and with plain Python; distances and probabilities keep their bounds."""

import json
import math
from itertools import pairwise
from random import Random

import numpy as np
import pytest
import shapely
from geopy.distance import geodesic
from numba import njit
from numpy.typing import NDArray

from offers.catalogue.geo.areas import Area, contains
from offers.catalogue.geo.geojson import parse
from offers.catalogue.geo.geometry import earth_centred
from offers.decision.kernels.memory.records import Table
from offers.decision.kernels.places import areas
from tests.areas import polygon, record_of, star
from tests.paths import DATA

DISTRICTS = DATA / "geo" / "nyc_community_districts.geojson"
EDGE_M = 1.0
"""Closer to an edge, agreement with shapely is not asked for."""


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def inside_all(
    columns: Table,
    shape: int,
    latitudes: NDArray[np.float64],
    longitudes: NDArray[np.float64],
    found: NDArray[np.bool_],
) -> None:
    """Ask one shape for many positions."""
    for index in range(len(latitudes)):
        found[index] = areas.inside(columns, shape, latitudes[index], longitudes[index])


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def holders(columns: Table, shapes: int, latitude: float, longitude: float) -> int:
    """Return how many of the first shapes hold a position."""
    count = 0
    for shape in range(shapes):
        count += areas.inside(columns, shape, latitude, longitude)
    return count


def geometry_of(part: Area) -> shapely.Geometry:
    """Return a part as a shapely geometry, with unwrapped longitudes."""
    return shapely.build_area(shapely.MultiLineString(list(part.rings)))


def agree(parts: list[Area], count: int, seed: int) -> int:
    """Hold `count` positions in and around the parts against shapely. Returns how many were held."""
    random = np.random.default_rng(seed)
    record = record_of(parts)
    asked = 0
    for shape, part in enumerate(parts):
        geometry = geometry_of(part)
        shapely.prepare(geometry)
        west, south, east, north = geometry.bounds
        number = count // len(parts) + 1
        wide, high = 0.05 * (east - west), 0.05 * (north - south)
        x = random.uniform(west - wide, east + wide, number)
        y = np.clip(random.uniform(south - high, north + high, number), -90, 90)
        if east - west >= 360:
            x = west + (x - west) % 360
        wanted = shapely.contains_xy(geometry, x, y)
        found = np.zeros(len(x), np.bool_)
        inside_all(record.table, shape, y, (x + 180) % 360 - 180, found)
        apart = np.flatnonzero(wanted != found)
        degree_m = 111_000 * math.cos(math.radians(min(max(-south, north), 89)))
        assert all(shapely.dwithin(geometry.boundary, shapely.points(x[apart], y[apart]), EDGE_M / degree_m))
        asked += len(x)
    return asked


@pytest.mark.skipif(not DISTRICTS.exists(), reason="needs ../shared/data/geo beside the project")
def test_districts_agree_with_shapely() -> None:
    """A million positions in and around New York's districts are where shapely has them."""
    parts = parse(DISTRICTS.read_text(encoding="utf-8"))
    assert 71 == len(parts)
    assert agree(parts, 1_000_000, 1) > 900_000


def test_shapes_agree_with_shapely() -> None:
    """So do a million in shapes with holes, 5 m fences, 100,000 vertices, across 180 degrees, and at poles."""
    random = Random(2)
    texts = [
        star(
            random, random.uniform(-80, 80), random.uniform(-180, 180), 10 ** random.uniform(-3, 1), corners, hole=True
        )
        for corners in (4, 30, 200, 500, 5_000)
        for _ in range(4)
    ]
    texts += [star(random, 48.8, longitude, 2.5 / 111_000, 8) for longitude in (2.3, 179.99999, -180.0)]
    texts += [star(random, 60, 100, 12, 99_000, hole=True), star(random, -17, 179, 3, 400)]
    texts.append(
        polygon([[-180, -90], [180, -90], [180, -70], [90, -65], [0, -75], [-90, -65], [-180, -70], [-180, -90]])
    )
    squares = [[[[x, y], [x + 0.4, y], [x + 0.4, y + 0.4], [x, y]]] for x in range(170, 180) for y in range(20)]
    squares += [[[[x - 360.0, 5], [x - 359.6, 5], [x - 359.6, 5.4], [x - 360.0, 5]]] for x in range(180, 190)]
    texts.append(json.dumps({"type": "MultiPolygon", "coordinates": squares}))
    assert agree([part for text in texts for part in parse(text)], 1_000_000, 3) > 900_000


def neighbours(random: Random, west: float, south: float, size: float) -> list[Area]:
    """Return triangles that fill a square without gap or overlap, with shaken corners and a common middle."""
    steps = 6
    corners = {
        (row, column): [
            west + size * (column + (random.uniform(-0.3, 0.3) if 0 < column < steps else 0)) / steps,
            south + size * (row + (random.uniform(-0.3, 0.3) if 0 < row < steps else 0)) / steps,
        ]
        for row in range(steps + 1)
        for column in range(steps + 1)
    }
    parts = []
    for row in range(steps):
        for column in range(steps):
            around = [
                corners[place] for place in ((row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column))
            ]
            middle = [sum(axis) / 4 for axis in zip(*around, strict=True)]
            for one, other in zip(around, [*around[1:], around[0]], strict=True):
                ring = [[(x + 180) % 360 - 180, y] for x, y in (one, other, middle, one)]
                parts += parse(polygon(ring[:: random.choice([1, -1])]))
    return parts


@pytest.mark.parametrize(
    ("west", "south", "size"), [(2.3, 48.8, 0.1), (179.95, -17, 0.1), (-74, 40, 4e-5), (150, 80, 60)]
)
def test_neighbours_share_no_position(west: float, south: float, size: float) -> None:
    """Each position belongs to exactly one of areas side by side: on edges, corners, and a hair beside them, too."""
    random = Random(4)
    size = min(size, 89 - south)
    parts = neighbours(random, west, south, size)
    record = record_of(parts)
    spots: list[tuple[float, float]] = []
    for part in parts:
        (ring,) = part.rings
        for (x0, y0), (x1, y1) in zip(ring[:-1].tolist(), ring[1:].tolist(), strict=True):
            share = random.random()
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            spots += [(x0, y0), (x, y), ((x0 + x1) / 2, (y0 + y1) / 2), (x0, y), (x, y0)]
            spots += [(math.nextafter(x, 999 * way), math.nextafter(y, -999 * way)) for way in (-1, 1)]
            spots += [(math.nextafter(x0, 999 * way), y0) for way in (-1, 1)]
    asked = 0
    for x, y in spots:
        turned = (x + 180) % 360 - 180
        unturned = x if x >= west - 1 else x + 360
        if min(unturned - west, west + size - unturned, y - south, south + size - y) < 1e-9:  # on the outer border
            continue
        assert 1 == holders(record.table, len(parts), y, turned)
        asked += 1
    assert asked > 2_000


def test_plain_python_says_the_same() -> None:
    """The compiled test of a position equals the plain one everywhere: on vertices, edges, box sides, and at poles."""
    random = Random(5)
    for _ in range(60):
        latitude, longitude = random.choice([0, 50, -89, 89.5]), random.choice([0, 179.9, -180, 33])
        size = min(10 ** random.uniform(-4, 1), 89.9 - abs(latitude))
        (part,) = parse(star(random, latitude, longitude, size, random.choice([3, 20, 90])))
        record = record_of([part])
        ring = part.rings[0].tolist()
        spots = [*ring, *([x, other[1]] for (x, _), other in pairwise(ring)), [0, 90], [7, -90]]
        spots += [[(x + other[0]) / 2, (y + other[1]) / 2] for (x, y), other in pairwise(ring)]
        for x, y in spots:
            for turned in ((x + 180) % 360 - 180, 180.0, -180.0):
                assert contains(part, y, turned) == areas.inside(record.table, 0, y, turned)


@pytest.mark.parametrize("west", [-1.0, 179.0, -180.0])
def test_positions_on_edges(west: float) -> None:
    """A position on an edge belongs to the area to its east or, on an edge along a parallel, to its north."""
    parts = []
    for column in range(2):
        for row in range(2):
            x0, x1 = ((west + column + step + 180) % 360 - 180 for step in (0, 1))
            parts += parse(polygon([[x0, row], [x1, row], [x1, row + 1], [x0, row + 1], [x0, row]]))
    record = record_of(parts)
    owners = {
        (0.5, 0.5): [0], (0, 0): [0], (0, 0.5): [0], (0.5, 0): [0], (1, 0.5): [1], (1, 0): [1], (1.5, 0): [1],
        (0, 1): [2], (0, 1.5): [2], (0.5, 1): [2], (1, 1): [3], (1.5, 1): [3], (1, 1.5): [3],
        (2, 0.5): [], (0.5, 2): [], (1, 2): [], (2, 1): [],
    }  # fmt: skip
    for (y, x), wanted in owners.items():
        turned = (west + x + 180) % 360 - 180
        assert wanted == [shape for shape in range(4) if areas.inside(record.table, shape, y, turned)]


def test_no_position_is_nowhere() -> None:
    """Without a position, nothing is inside."""
    (part,) = parse(star(Random(6), 48, 2, 1, 20))
    record = record_of([part])
    assert not areas.inside(record.table, 0, math.nan, math.nan)


def to_edge_m(part: Area, latitude: float, longitude: float) -> float:
    """Return metres along the ground to the nearest edge, by ever denser points on each edge."""
    here = np.array(earth_centred(np.array(latitude), np.array(longitude)))
    best = math.inf
    for ring in part.rings:
        start, way = ring[:-1], np.diff(ring, axis=0)
        corners = np.sqrt(((np.array(earth_centred(ring[:, 1], ring[:, 0])) - here[:, None]) ** 2).sum(0))
        longest = 112_000 * np.abs(way).sum(axis=1)
        near = np.minimum(corners[:-1], corners[1:]) <= corners.min() + longest
        start, way = start[near], way[near]
        low, high = np.zeros(len(way)), np.ones(len(way))
        for _ in range(5):
            shares = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 41)
            x, y = start[:, :1] + way[:, :1] * shares, start[:, 1:] + way[:, 1:] * shares
            squared = ((np.array(earth_centred(y, x)) - here[:, None, None]) ** 2).sum(0)
            nearest = squared.argmin(1)
            middle, reach = shares[np.arange(len(way)), nearest], (high - low) / 40
            low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach, 1)
        edge = squared.min(1).argmin()
        there = float(y[edge, nearest[edge]]), (float(x[edge, nearest[edge]]) + 180) % 360 - 180
        best = min(best, geodesic((latitude, longitude), there).meters)
    return best


def test_distance_to_the_edge() -> None:
    """The distance is never more than the geodesic one, anywhere on the earth, and hardly less for near edges."""
    random = Random(7)
    close = 0
    for _ in range(150):
        latitude = random.choice([0, 48.8, -33, 65, 80, 88, random.uniform(-89, 89)])
        longitude = random.choice([2.3, 179.99, -179.9, random.uniform(-180, 180)])
        size = min(10 ** random.uniform(-4.5, 1), 89.9 - abs(latitude))
        (part,) = parse(star(random, latitude, longitude, size, random.choice([4, 40, 300]), hole=True))
        record = record_of([part])
        stretch = 1 / max(math.cos(math.radians(latitude)), 0.05)
        for _ in range(4):
            share = random.choice([0.05, 0.3, 1, 1.1, 2])
            y = min(max(latitude + size * share * random.uniform(-1, 1), -90.0), 90.0)
            x = (longitude + size * share * stretch * random.uniform(-1, 1) + 180) % 360 - 180
            truth = to_edge_m(part, y, x)
            for cap in (1e6, 1.5 * truth, 0.9 * truth, 0.0):
                clearance = areas.clearance(record.table, 0, y, x, cap)
                assert 0 <= clearance <= min(truth, cap) * (1 + 1e-9)
                if truth < 10_000 and abs(y) < 70:
                    assert clearance >= 0.99 * min(truth, cap) - 1e-5
                    close += 1
    assert close > 400


def test_distance_at_a_pole() -> None:
    """Around a pole and the antimeridian the distance is a number, and no more than the true one."""
    ring = [[-180, -90], [180, -90], [180, -70], [90, -65], [0, -75], [-90, -65], [-180, -70], [-180, -90]]
    (part,) = parse(polygon(ring))
    record = record_of([part])
    for latitude, longitude in (
        (-90.0, 0.0),
        (-90.0, 180.0),
        (90.0, 0.0),
        (-89.999, 180.0),
        (-70.0, -180.0),
        (-60.0, 10.0),
    ):
        clearance = areas.clearance(record.table, 0, latitude, longitude, 1e6)
        assert 0 <= clearance <= to_edge_m(part, latitude, longitude)


def test_country_distance_is_bounded() -> None:
    """In a shape of 100,000 vertices, the distance is no more than the true one, and still useful."""
    random = Random(8)
    (part,) = parse(star(random, 47, 8, 5, 99_000))
    record = record_of([part])
    for _ in range(5):
        latitude, longitude = 47 + random.uniform(-4, 4), 8 + random.uniform(-5, 5)
        truth = to_edge_m(part, latitude, longitude)
        clearance = areas.clearance(record.table, 0, latitude, longitude, 1e6)
        assert 0.3 * truth - 2_000 <= clearance <= truth
