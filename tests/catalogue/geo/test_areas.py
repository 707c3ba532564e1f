"""GeoJSON becomes areas: mended where only the form is at fault, refused with the place where the shape is."""

import json
import math
from random import Random
from typing import Any

import orjson
import pytest
import shapely

from offers.catalogue.geo import geojson
from offers.catalogue.geo.areas import GRAIN, contains
from offers.catalogue.geo.geojson import AreaError, parse
from offers.catalogue.geo.geometry import earth_centred
from offers.catalogue.geo.shapes import cover
from tests.areas import polygon, star

SQUARE: list[list[float]] = [[2, 48], [3, 48], [3, 49], [2, 49], [2, 48]]
HOLE: list[list[float]] = [[2.25, 48.25], [2.75, 48.25], [2.75, 48.75], [2.25, 48.75], [2.25, 48.25]]


def faults_of(value: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - JSON
    """Return the paths and reasons for which a GeoJSON value is refused."""
    with pytest.raises(AreaError) as raised:
        parse(value if isinstance(value, str) else json.dumps(value))
    assert all(fault.fix for fault in raised.value.faults)
    return [(".".join(map(str, fault.path)), fault.reason) for fault in raised.value.faults]


@pytest.mark.parametrize("outer", [SQUARE, SQUARE[::-1]])
@pytest.mark.parametrize("hole", [HOLE, HOLE[::-1]])
def test_winding_is_no_matter(outer: list[list[float]], hole: list[list[float]]) -> None:
    """Whichever way rings wind, holes are outside and the rest inside."""
    (part,) = parse(polygon(outer, hole))
    assert contains(part, 48.1, 2.1)
    assert not contains(part, 48.5, 2.5)
    assert not contains(part, 48.5, 3.5)


def test_every_kind_of_area() -> None:
    """Features and collections give their polygons and multipolygons, one part each; heights are passed over."""
    one = {"type": "Polygon", "coordinates": [[[*position, 35.5] for position in SQUARE]]}
    two = {"type": "MultiPolygon", "coordinates": [[SQUARE], [[[12, 48], [13, 48], [13, 49], [12, 48]]]]}
    null: dict[str, Any] = {"crs": None}
    assert 1 == len(parse(json.dumps({"type": "Feature", "geometry": one | null, **null})))
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    features = [{"type": "Feature", "geometry": one}, {"type": "Feature", "geometry": two}]
    assert [1] == [len(part.rings) for part in parse(json.dumps(features[0]))]
    collections = [
        {"type": "FeatureCollection", "crs": crs, "features": features},
        {"type": "GeometryCollection", "geometries": [one, two]},
        {"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection", "geometries": [one]}, two]},
    ]
    for collection in collections:
        assert [1, 2] == [len(part.rings) for part in parse(json.dumps(collection))]


def test_a_position_inside() -> None:
    """The position that decides the time zone of an area is inside it, even if its middle is not."""
    horseshoe = [[0, 0], [9, 0], [9, 9], [8, 9], [8, 1], [1, 1], [1, 9], [0, 9], [0, 0]]
    around = [[170, -20], [-170, -20], [-170, -10], [170, -10], [170, -20]]
    for rings in ([horseshoe], [SQUARE, HOLE], [around]):
        (part,) = parse(polygon(*rings))
        assert contains(part, part.latitude, part.longitude)
        assert -180 <= part.longitude <= 180


def test_positions_on_edges() -> None:
    """A position on an edge belongs to the area to its east, or to its north along a parallel."""
    (part,) = parse(polygon(SQUARE))
    inside = {(48, 2): True, (48, 2.5): True, (48.5, 2): True, (49, 2.5): False, (48.5, 3): False, (49, 3): False}
    assert inside == {position: contains(part, *position) for position in inside}


@pytest.mark.parametrize("west", [177.0, 179.999, 180.0])
def test_across_the_antimeridian(west: float) -> None:
    """An edge over more than 180 degrees goes the other way; halves split at 180 are one area, without a seam."""
    east = west + 4 - 360
    whole = polygon([[west, -18], [east, -18], [east, -16], [west, -16], [west, -18]])
    written = [whole]
    if west < 180:
        halves = [
            [[[west, -18], [180, -18], [180, -16], [west, -16], [west, -18]]],
            [[[-180, -18], [east, -18], [east, -17], [east, -16], [-180, -16], [-180, -18]]],
        ]
        written += [json.dumps({"type": "MultiPolygon", "coordinates": order}) for order in (halves, halves[::-1])]
    for text in written:
        (part,) = parse(text)
        (ring,) = part.rings
        longitudes = ring[:, 0].tolist()
        assert 4 == pytest.approx(max(longitudes) - min(longitudes), abs=1e-9)
        assert all(longitude in {min(longitudes), max(longitudes)} or abs(y) in {16, 18} for longitude, y in ring)
        inside = [(west + 0.5e-3, -17), (180.0, -17), (-180.0, -17), (east - 1e-3, -16.5)]
        assert all(contains(part, y, x) for x, y in inside[:1] + inside[1:])
        assert not any(contains(part, -17, x) for x in (west - 1e-3, east + 1e-3, 0.0))


def test_islands_in_one_frame() -> None:
    """Polygons of one part are brought near each other, so that a country on both sides of 180 stays small."""
    islands = [[[[x, 0], [x + 1, 0], [x + 1, 1], [x, 0]]] for x in (-170, 20, 175, -179, 178)]
    (part,) = parse(json.dumps({"type": "MultiPolygon", "coordinates": islands}))
    longitudes = [x for ring in part.rings for x in ring[:, 0].tolist()]
    assert (20, 191) == (min(longitudes), max(longitudes))
    around = [[[[x, 0], [x + 40, 0], [x + 40, 1], [x, 0]]] for x in range(-180, 120, 50)]
    (part,) = parse(
        json.dumps({"type": "MultiPolygon", "coordinates": [*around, [[[170, 50], [-130, 50], [-130, 51], [170, 50]]]]})
    )
    assert contains(part, 50.1, -140)
    assert contains(part, 0.1, 105)


@pytest.mark.parametrize("pole", [90, -90])
def test_around_a_pole(pole: int) -> None:
    """A ring led along the antimeridian and the pole holds the pole; so does a band along the parallels."""
    y = pole * 7 / 9
    cap = polygon([[-180, pole], [180, pole], [180, y], [60, y], [-60, y], [-180, y], [-180, pole]])
    band = polygon([[-180, y], [180, y], [180, pole], [-180, pole], [-180, y]])
    for text in (cap, band):
        (part,) = parse(text)
        for x in (-180.0, -179.9, -60.0, 0.0, 60.0, 179.9, 180.0):
            assert contains(part, pole, x)
            assert contains(part, (y + pole) / 2, x)
            assert not contains(part, y * 0.99, x)


BANDS: list[list[list[float]]] = [
    [[-180, -10], [180, -10], [180, 10], [-180, 10], [-180, -10]],
    [[-180, -10], [0, -10], [180, -10], [180, 10], [-180, 10], [-180, -10]],
    [[-180, -10], [180, -10], [180, 10], [0, 10], [-180, 10], [-180, -10]],
    [[180, 10], [180, -10], [60, -10], [-60, -10], [-180, -10], [-180, 0], [-180, 10], [180, 10]],
]


@pytest.mark.parametrize("ring", [*BANDS, *(ring[::-1] for ring in BANDS)])
def test_bands_around_the_earth(ring: list[list[float]]) -> None:
    """A band drawn along both -180 and 180 goes around the earth, in one step on a side or in several."""
    (part,) = parse(polygon(ring))
    for x in (-180.0, -179.9, -60.0, 0.0, 90.0, 179.9, 180.0):
        assert contains(part, 0, x)
        assert contains(part, -10, x)
        assert not contains(part, 10, x)
        assert not contains(part, -10.1, x)


@pytest.mark.parametrize("corners", [0, 1, 3])
def test_the_whole_earth(corners: int) -> None:
    """A ring along -180, 180 and the poles holds every position, whether its sides are in one step or in several."""
    along = [[-180 + 360 * step / (corners + 1), -90] for step in range(corners + 2)]
    world: list[list[float]] = [*along, [180, 90], [-180, 90], [-180, -90]]
    (part,) = parse(polygon(world))
    for x in (-180.0, -90.0, 0.0, 179.9, 180.0):
        assert all(contains(part, y, x) for y in (-90, -45, 0, 89.9, 90))


def test_a_long_step_across_no_latitude_is_none() -> None:
    """From -180 to 180 is no step for a ring that is not drawn along both: it may be beside 180, or a line."""
    (part,) = parse(polygon([[-170, 0], [-180, 0], [180, 0], [170, 0], [170, 5], [-170, 5], [-170, 0]]))
    assert (True, False) == (contains(part, 2, 179), contains(part, 2, 0))
    ((where, why),) = faults_of(json.loads(polygon([[-180, -10], [180, 0], [-180, 10], [-180, -10]])))
    assert ("coordinates.0", True) == (where, "all of it is on one line" in why)


def test_a_ring_without_a_side() -> None:
    """A ring that goes around a pole but does not touch it is refused with what to add, and so is a closed parallel."""
    for ring in (
        [[-170, 70], [-60, 72], [60, 70], [170, 72], [-170, 70]],
        [[-180, 70], [-90, 72], [0, 70], [90, 72], [180, 70], [-180, 70]],
    ):
        with pytest.raises(AreaError) as raised:
            parse(polygon(ring))
        (fault,) = raised.value.faults
        assert "goes around the pole" in fault.reason
        assert "[180, 90], [-180, 90]" in fault.fix


@pytest.mark.parametrize(
    ("rings", "where", "reason"),
    [
        ([[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]], "coordinates.0", "crosses itself at [1, 1]"),
        ([[[179, 0], [-179, 2], [-179, 0], [179, 2], [179, 0]]], "coordinates.0", "crosses itself at [180, 1]"),
        ([[[0, 0], [4, 0], [2, 2], [4, 4], [0, 4], [2, 2], [0, 0]]], "coordinates.0", "touches itself at [2, 2]"),
        ([SQUARE, HOLE, [[1, 48], [4, 48.5], [4, 48.6], [1, 48]]], "coordinates", "crosses itself at"),
        ([SQUARE, [[5, 48], [6, 48], [6, 49], [5, 48]]], "coordinates", "has a hole outside of its outer ring"),
        (
            [SQUARE, HOLE, [[2.4, 48.4], [2.6, 48.4], [2.6, 48.6], [2.4, 48.4]]],
            "coordinates",
            "has a hole within a hole",
        ),
        (
            [SQUARE, [[2, 48.5], [2.5, 48], [3, 48.5], [2.5, 49], [2, 48.5]]],
            "coordinates",
            "falls into pieces that only",
        ),
        ([[[0, 0], [1, 1], [2, 2], [0, 0]]], "coordinates.0", "has no area: all of it is on one line"),
        ([[[1, 1], [1, 1], [1, 1], [1, 1]]], "coordinates.0", "has no area"),
        ([[[0, 0], [1, 0], [0, 0]]], "coordinates.0", "has 3 positions, and a ring needs 4 at least"),
        ([[[0, 0], [1, 0], [1, 1], [0, 1]]], "coordinates.0", "begins at [0, 0] and ends at [0, 1]: it is not closed"),
        ([[[0, 0], [1, 0], [1, 90.5], [0, 0]]], "coordinates.0.2", "[1, 90.5] is no position on the earth"),
        ([[[0, 0], [1, 0], [-180.5, 1], [0, 0]]], "coordinates.0.2", "[-180.5, 1] is no position on the earth"),
        ([[[0, 0], [1, 0], [1], [0, 0]]], "coordinates.0.2", "[1] is not a position"),
        ([[[0, 0], [1, 0], [True, 1], [0, 0]]], "coordinates.0.2", "[true,1] is not a position"),
        ([[[0, 0], [1, 0], [None, 1], [0, 0]]], "coordinates.0.2", "[null,1] is not a position"),
        ([[[0, 0], [1, 0], "1, 1", [0, 0]]], "coordinates.0.2", '"1, 1" is not a position'),
        ([{}], "coordinates.0", "a map is not a list of positions"),
        (
            [[[0, 0], [170, 0], [-20, 0], [150, 0], [150, 1], [-20, 1], [170, 1], [0, 1], [0, 0]]],
            "coordinates.0",
            "goes around the earth",
        ),
    ],
)
def test_refused_rings(rings: list[Any], where: str, reason: str) -> None:
    """A polygon that cannot be used is refused with the ring or position, and the reason."""
    ((found, why),) = faults_of(polygon(*rings))
    assert where == found
    assert reason in why


@pytest.mark.parametrize(
    ("value", "where", "reason"),
    [
        ("", "", "is not JSON"),
        ('{"type": "Polygon", "coordinates": [[[NaN, 0]]]}', "", "is not JSON"),
        ("[" * 2000, "", "is not JSON"),
        ([], "", "[] is not a GeoJSON object"),
        (5, "", "5 is not a GeoJSON object"),
        ({}, "", "has no `type` that GeoJSON knows"),
        ({"type": ["Polygon"]}, "", "has no `type` that GeoJSON knows"),
        ({"type": "LineString", "coordinates": []}, "", "is a LineString, which has no area"),
        ({"type": "Feature", "geometry": None}, "geometry", "an empty value is not a GeoJSON object"),
        ({"type": "Polygon"}, "coordinates", "an empty value is not a list of rings"),
        ({"type": "Polygon", "coordinates": []}, "coordinates", "[] is not a list of rings"),
        ({"type": "MultiPolygon", "coordinates": 7}, "coordinates", "7 is not a list"),
        ({"type": "MultiPolygon", "coordinates": []}, "", "holds no area"),
        ({"type": "FeatureCollection"}, "features", "an empty value is not a list"),
        ({"type": "FeatureCollection", "features": []}, "", "holds no area"),
        ({"type": "Polygon", "crs": "EPSG:3857"}, "crs", "is in another coordinate system than WGS 84"),
        ({"type": "Polygon", "crs": "EPSG:43260"}, "crs", "is in another coordinate system than WGS 84"),
    ],
)
def test_refused_texts(value: Any, where: str, reason: str) -> None:  # noqa: ANN401 - JSON
    """A value that is no area is refused with its type."""
    ((found, why),) = faults_of(value)
    assert where == found
    assert reason in why


def test_collections_within_collections() -> None:
    """Collections may be nested, but not without end."""
    value: dict[str, Any] = {"type": "Polygon", "coordinates": [SQUARE]}
    for _ in range(8):
        value = {"type": "GeometryCollection", "geometries": [value]}
    assert 1 == len(parse(json.dumps(value)))
    ((_, why),) = faults_of({"type": "GeometryCollection", "geometries": [value]})
    assert "is nested deeper than 8 levels" == why


def test_overlapping_polygons() -> None:
    """Polygons of one part that overlap are refused, also around the earth; those that share an edge are melted."""
    lower, upper = [[[0, 0], [2, 0], [2, 2], [0, 0]]], [[[1, 0], [3, 0], [3, 2], [1, 0]]]
    ((where, why),) = faults_of({"type": "MultiPolygon", "coordinates": [lower, upper]})
    assert ("coordinates.1", True) == (where, why.startswith("overlaps coordinates[0] around [1."))
    belt = [[[x, 0], [x + 60, 0], [x + 60, 9], [x, 9], [x, 0]] for x in range(-180, 180, 60)]
    (part,) = parse(json.dumps({"type": "MultiPolygon", "coordinates": [[ring] for ring in belt]}))
    assert contains(part, 5, 180)
    across = [[[170, 5], [-170, 5], [-170, 6], [170, 5]]]
    found = faults_of({"type": "MultiPolygon", "coordinates": [*([ring] for ring in belt), across]})
    assert ["coordinates.6"] == [where for where, _ in found]
    halves = [[[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]], [[[1, 0], [2, 0], [2, 1], [1, 1], [1, 0]]]]
    (part,) = parse(json.dumps({"type": "MultiPolygon", "coordinates": halves}))
    assert 1 == len(part.rings)
    assert contains(part, 0.5, 1)


@pytest.mark.parametrize(("count", "told"), [(50, 49), (100, 99), (2_000, 100)])
def test_many_polygons_that_overlap(count: int, told: int) -> None:
    """However many polygons overlap, a hundred are told at most, and the last says that there may be more."""
    squares = [[[[x + n / 1_000, y] for x, y in SQUARE]] for n in range(count)]
    found = faults_of({"type": "MultiPolygon", "coordinates": squares})
    assert [f"coordinates.{number}" for number in range(1, told + 1)] == [where for where, _ in found]
    assert all(why.startswith("overlaps coordinates[0] around") for _, why in found)
    assert ("more of the 2,000 polygons may overlap" in found[-1][1]) == (count > told + 1)


def test_all_faults_at_once() -> None:
    """Every ring at fault is told, not only the first."""
    bad = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}
    value = {"type": "GeometryCollection", "geometries": [bad, {"type": "Polygon", "coordinates": [SQUARE]}, bad]}
    assert ["geometries.0.coordinates.0", "geometries.2.coordinates.0"] == [where for where, _ in faults_of(value)]


def test_positions_are_rounded_to_nanometres() -> None:
    """Positions keep 12 nanometres, and repeated ones are left out."""
    ring: list[list[float]] = [[math.pi, math.e], [math.pi, math.e], [4, math.e], [4, 5], [math.pi, math.e]]
    (part,) = parse(polygon(ring))
    (kept,) = part.rings
    assert 4 == len(kept)
    assert abs(kept[0, 0] - math.pi) <= GRAIN / 2
    assert all((float(number) / GRAIN).is_integer() for number in kept.flat)


def test_circles_that_cover() -> None:
    """No position of an area is outside its covering circle, even if edges bow, and the circle is not much larger."""
    random = Random(3)
    for _ in range(300):
        latitude = random.choice([0.0, 45.0, -70.0, 88.0, random.uniform(-89, 89)])
        size = min(10 ** random.uniform(-5, 1.3), 89.9 - abs(latitude))
        longitude = random.choice([0.0, 179.99, random.uniform(-180, 180)])
        (part,) = parse(star(random, latitude, longitude, size, random.choice([3, 5, 60])))
        circle = cover(part)
        x, y, z = earth_centred(circle.latitude, circle.longitude)
        shape = shapely.Polygon(part.rings[0])
        farthest = 0.0
        for _ in range(60):
            spot = shape.exterior.interpolate(random.random(), normalized=True)
            if random.random() < 0.2:
                spot = shape.representative_point()
            there = earth_centred(spot.y, spot.x)
            farthest = max(farthest, math.dist((x, y, z), there))
        corners = [math.dist((x, y, z), earth_centred(one[1], one[0])) for one in part.rings[0]]
        farthest = max(farthest, *corners)
        assert farthest <= circle.reach_m
        assert circle.reach_m <= 1.02 * farthest + 3


def test_a_circle_around_the_earth() -> None:
    """The circle of an area that holds most of the earth is the earth; the circle of a polar cap is a cap."""
    world: list[list[float]] = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    for rings in ([world], [world, SQUARE]):
        (part,) = parse(polygon(*rings))
        assert cover(part).reach_m >= 12_756_000
    (part,) = parse(polygon([[-180, -90], [180, -90], [180, -80], [-180, -80], [-180, -90]]))
    assert cover(part).reach_m == pytest.approx(1_117_000, rel=0.01)
    assert cover(part).latitude == pytest.approx(-90, abs=0.1)


@pytest.mark.parametrize(
    ("limit", "told"), [("MAX_CORNERS", "has 10 corners, and may have 9"), ("MAX_CHARACTERS", "characters, and may")]
)
def test_areas_have_a_limit(limit: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The corners of all rings of a text count together, and its characters; the fix names a way to simplify it."""
    text = orjson.dumps({"type": "GeometryCollection", "geometries": [orjson.loads(polygon(SQUARE))] * 2}).decode()
    assert 2 == len(parse(text))
    monkeypatch.setattr(geojson, limit, 9)
    with pytest.raises(AreaError) as caught:
        parse(text)
    (fault,) = caught.value.faults
    assert told in fault.reason
    assert "shapely.simplify" in fault.fix
