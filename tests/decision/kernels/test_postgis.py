"""Distances, circles and areas are where PostGIS has them: its geography measures by a geodesic of its own."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
from geopy.distance import geodesic

from benchmarks.peers.postgis import database
from benchmarks.peers.ranking import MissingError
from offers.server.offer_service import OfferService
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.venue_pb2 import Circle
from tests.areas import polygon, star
from tests.decision.kernels.test_kernels_equal_reference import service_of
from tests.needs import lacking

Point = tuple[float, float]
"""Latitude and longitude in degrees."""
Pairs = dict[tuple[int, int], float]
"""By the numbers of a place and of a position asked for: metres, or 1."""

EDGE_M, EDGE_SHARE = 1.0, 0.0005
"""As far as the distances may differ, in metres and as a share, whichever is more: so near an edge either may be."""
FAR_M = 200_000.0
POLES: list[Point] = [(90.0, 0.0), (-90.0, 45.0), (89.9999, 10.0), (-89.99, -170.0), (89.0, 180.0)]
ANTIMERIDIAN: list[Point] = [(0.0, 180.0), (0.0, -180.0), (-17.0, 179.9999), (65.8, -179.9999), (-80.0, 179.0)]


@pytest.fixture(scope="module")
def postgis() -> Iterator[Any]:
    """A connection to a PostgreSQL server with PostGIS, started for this file."""
    try:
        with database() as connection:
            yield connection
    except MissingError as error:
        lacking(str(error))


def centres(random: Random, count: int) -> list[Point]:
    """Positions all over the earth, first those at poles and at the antimeridian."""
    anywhere = [(math.degrees(math.asin(random.uniform(-1, 1))), random.uniform(-180, 180)) for _ in range(count)]
    return (POLES + ANTIMERIDIAN + anywhere)[:count]


def away(random: Random, point: Point, metres: float) -> Point:
    """A position in some direction, so many metres away."""
    there = geodesic(meters=metres).destination(point, bearing=random.uniform(0, 360))
    return there.latitude, (there.longitude + 180) % 360 - 180


def service_catalog(targets: Iterable[Target]) -> Catalog:
    """An offer for each target, named by its number."""
    catalog = Catalog(catalog_id="places")
    for number, target in enumerate(targets):
        catalog.offers.append(Offer(offer_id=str(number), title="a", benefit=Benefit(custom="a"), target=target))
    return catalog


def circle(centre: Point, radius_m: float) -> Target:
    """A target around a position."""
    target = Target(circles=[Circle(radius_m=radius_m)])
    target.circles[0].center.latitude, target.circles[0].center.longitude = centre
    return target


def decided(service: OfferService, asked: Sequence[Point]) -> Pairs:
    """Every target that each position is in, with the distance that its decision tells."""
    found: Pairs = {}
    for number, (latitude, longitude) in enumerate(asked):
        request = GetOffersRequest(max_offers=100)
        request.context.location.point.latitude = latitude
        request.context.location.point.longitude = longitude
        answer = GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))
        assert answer.eligible_count == len(answer.offers)
        for offer in answer.offers:
            found[int(offer.offer_id), number] = offer.distance_m
    return found


def load(postgis: Any, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:  # noqa: ANN401
    """Make a table with a `number` and other columns; points are written as longitude and latitude."""
    postgis.execute(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (number int, {columns})")
    with postgis.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for number, row in enumerate(rows):
            copy.write_row((number, *row))


def load_asked(postgis: Any, asked: Sequence[Point]) -> None:  # noqa: ANN401
    """Make the table of positions asked for."""
    load(postgis, "asked", "point geography", ((f"POINT({x!r} {y!r})",) for y, x in asked))
    postgis.execute("CREATE INDEX ON asked USING gist (point); ANALYZE asked")


def pairs(postgis: Any, query: str, *arguments: float) -> Pairs:  # noqa: ANN401
    """What a query finds, as (place, asked, value)."""
    return {(place, number): value for place, number, value in postgis.execute(query, arguments)}


def test_distances_are_those_of_geography(postgis: Any) -> None:  # noqa: ANN401
    """The distance an answer tells is ST_Distance(geography) to 1 m or 0.05 %, up to 200 km, anywhere on the earth."""
    random = Random(31)
    middles = centres(random, 300)
    asked = [away(random, middle, 10 ** random.uniform(0, math.log10(FAR_M))) for middle in middles for _ in range(10)]
    asked += middles
    with service_of(service_catalog(circle(middle, FAR_M) for middle in middles)) as service:
        told = decided(service, asked)
    load(postgis, "places", "point geography", ((f"POINT({x!r} {y!r})",) for y, x in middles))
    load_asked(postgis, asked)
    measured = pairs(
        postgis,
        "SELECT places.number, asked.number, ST_Distance(places.point, asked.point) FROM places JOIN asked"
        " ON ST_DWithin(places.point, asked.point, %s)",
        FAR_M * (1 + EDGE_SHARE),
    )

    assert len(told) > 3_000
    assert {} == {pair: distance for pair, distance in told.items() if pair not in measured}
    wrong = {
        pair: (distance, measured[pair])
        for pair, distance in told.items()
        if abs(distance - measured[pair]) > max(EDGE_M, EDGE_SHARE * measured[pair])
    }
    assert {} == wrong
    special = range(len(POLES + ANTIMERIDIAN))
    assert all(any(place == one and told[place, number] > 10_000 for place, number in told) for one in special)
    assert sum(abs(middles[place][1] - asked[number][1]) > 300 for place, number in told) > 20


def test_circles_hold_what_st_dwithin_holds(postgis: Any) -> None:  # noqa: ANN401
    """From 5 m to 200 km, circles hold what ST_DWithin(geography) holds, but for 1 m or 0.05 % at their edges."""
    random = Random(32)
    middles = centres(random, 300)
    radii = [10 ** random.uniform(math.log10(5), math.log10(FAR_M)) for _ in middles]
    radii[0], radii[-1] = 5.0, FAR_M
    asked = []
    for middle, radius in zip(middles, radii, strict=True):
        edge = max(EDGE_M, EDGE_SHARE * radius)
        asked += [away(random, middle, radius * random.uniform(0, 1.5)) for _ in range(6)]
        asked += [away(random, middle, radius + side * edge) for side in (-2, -1.1, 1.1, 2)]
    with service_of(service_catalog(map(circle, middles, radii))) as service:
        inside = set(decided(service, asked))
    rows = ((f"POINT({x!r} {y!r})", radius) for (y, x), radius in zip(middles, radii, strict=True))
    load(postgis, "places", "point geography, radius_m float8", rows)
    load_asked(postgis, asked)
    within = (
        "SELECT places.number, asked.number, 1 FROM places JOIN asked ON"
        " ST_DWithin(places.point, asked.point, radius_m + %s * greatest(%s, %s * radius_m))"
    )
    certainly, possibly = (set(pairs(postgis, within, side, EDGE_M, EDGE_SHARE)) for side in (-1, 1))

    assert set() == certainly - inside
    assert set() == inside - possibly
    assert len(certainly) > 1_500
    assert sum((number // 10, number) not in possibly for number in range(len(asked))) > 1_000


def areas_about(random: Random) -> list[str]:
    """Areas of all sizes with holes, within the longitudes of a map: stars, a chain of islands, and a polar cap."""
    texts = [
        star(
            random,
            random.uniform(-80, 80),
            random.uniform(-150, 150),
            10 ** random.uniform(-4, 0.5),
            corners,
            hole=True,
        )
        for corners in (4, 12, 60, 400)
        for _ in range(30)
    ]
    texts += [star(random, latitude, 180.0, 0.5, 30, hole=True) for latitude in (-60.0, -17.0, 0.0, 66.0)]
    islands = [[[[x, y], [x + 0.4, y], [x + 0.4, y + 0.4], [x, y]]] for x in range(20, 30) for y in range(5)]
    cap = [[-180, -90], [180, -90], [180, -70], [90, -65], [0, -75], [-90, -65], [-180, -70], [-180, -90]]
    return [*texts, json.dumps({"type": "MultiPolygon", "coordinates": islands}), polygon(cap)]


def outer_corners(text: str) -> list[Sequence[float]]:
    """The corners of an area's outer rings."""
    content = json.loads(text)
    parts = content["coordinates"] if content["type"] == "MultiPolygon" else [content["coordinates"]]
    return [corner for part in parts for corner in part[0]]


def crosses(text: str) -> bool:
    """Whether an area (none here is half as wide as the earth, but for the one at a pole) crosses the antimeridian."""
    longitudes = [x for x, _ in outer_corners(text)]
    return max(longitudes) - min(longitudes) > 180 and -180 not in longitudes


def in_areas(random: Random, texts: Sequence[str], count: int) -> list[Point]:
    """Positions in the box of each area and a little around it, so many of each."""
    asked: list[Point] = []
    for text in texts:
        turned = crosses(text)
        longitudes, latitudes = zip(*((x % 360 if turned else x, y) for x, y in outer_corners(text)), strict=True)
        for _ in range(count):
            x, y = (
                random.uniform(low - 0.05 * (high - low), high + 0.05 * (high - low))
                for low, high in ((min(longitudes), max(longitudes)), (min(latitudes), max(latitudes)))
            )
            asked.append((min(max(y, -90.0), 90.0), (x + 180) % 360 - 180))
    return asked


def test_areas_hold_what_st_covers_holds_on_the_map(postgis: Any) -> None:  # noqa: ANN401
    """Edges being straight in longitude and latitude, areas of any size agree with ST_Covers(geometry), wholly."""
    random = Random(33)
    texts = areas_about(random)
    asked = in_areas(random, texts, 100)
    with service_of(service_catalog(Target(areas=[text]) for text in texts)) as service:
        inside = set(decided(service, asked))
    # What crosses the antimeridian is moved to where it does not, with its positions.
    load(postgis, "areas", "geojson text, turned bool", ((text, crosses(text)) for text in texts))
    load_asked(postgis, asked)
    postgis.execute(
        "CREATE TABLE shapes AS SELECT number, turned, CASE WHEN turned THEN ST_ShiftLongitude(shape) ELSE shape END"
        " AS shape FROM (SELECT number, turned, ST_GeomFromGeoJSON(geojson) AS shape FROM areas) AS given;"
        "CREATE INDEX ON shapes USING gist (shape)"
    )
    covered = set(
        pairs(
            postgis,
            "SELECT shapes.number, asked.number, 1 FROM asked JOIN shapes ON ST_Covers(shape, point::geometry)"
            " WHERE NOT turned UNION ALL SELECT shapes.number, asked.number, 1 FROM asked JOIN shapes"
            " ON ST_Covers(shape, ST_ShiftLongitude(point::geometry)) WHERE turned",
        )
    )

    assert set() == inside ^ covered
    assert len(texts) == len({place for place, _ in covered})
    assert len(covered) > 6_000


def test_small_areas_hold_what_st_covers_holds_on_the_earth(postgis: Any) -> None:  # noqa: ANN401
    """Areas with edges of up to some hundred metres agree with ST_Covers(geography) too, but for 1 m at their edges."""
    random = Random(34)
    places: list[Point] = [(0.0, 180.0), (-17.0, -179.9995), (66.0, 179.9995), (88.0, 30.0), (-85.0, 180.0)]
    places += [(random.uniform(-85, 85), random.uniform(-180, 180)) for _ in range(145)]
    texts = [
        star(random, *place, 10 ** random.uniform(-4.3, -2.6), random.choice([8, 20, 60]), hole=True)
        for place in places
    ]
    asked = in_areas(random, texts, 60)
    with service_of(service_catalog(Target(areas=[text]) for text in texts)) as service:
        inside = set(decided(service, asked))
    load(postgis, "areas", "geojson text", ((text,) for text in texts))
    load_asked(postgis, asked)
    postgis.execute(
        "CREATE TABLE fences AS SELECT number, ST_GeomFromGeoJSON(geojson)::geography AS shape,"
        " ST_Boundary(ST_GeomFromGeoJSON(geojson))::geography AS edge FROM areas;"
        "CREATE INDEX ON fences USING gist (shape); CREATE INDEX ON fences USING gist (edge)"
    )
    fences = "SELECT fences.number, asked.number, 1 FROM asked JOIN fences ON"
    covered = set(pairs(postgis, f"{fences} ST_Covers(shape, point)"))
    at_edge = set(pairs(postgis, f"{fences} ST_DWithin(edge, point, %s)", EDGE_M))

    assert set() == (inside ^ covered) - at_edge
    assert len(covered - at_edge) > 3_000
