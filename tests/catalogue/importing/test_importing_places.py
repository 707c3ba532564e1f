"""Import of venues and zones, from CSV and from GeoJSON: what becomes of each feature, and what real data gives."""

import csv
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import shapely
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offers.catalogue.check import check
from offers.catalogue.document import write_document
from offers.catalogue.importing import ImportResult, import_table
from offers.errors import CatalogError, Problem
from tests.paths import DATA

GEO = DATA / "geo"
real = pytest.mark.skipif(not GEO.is_dir(), reason=f"the real places are not there: {GEO}")

VENUE = {"venue_id": "{name}", "point": {"$position": "{$geometry}"}, "radius_m": 500}
ZONE = {"zone_id": "{name}", "areas": ["{$geometry}"]}
OFFER = {"offer_id": "{name}", "title": "{name}", "benefit": {"custom": "a smile"}, "target": {"zone_ids": ["{name}"]}}
SQUARE = {"type": "Polygon", "coordinates": [[[2, 48], [3, 48], [3, 49], [2, 49], [2, 48]]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[2, 48], [3, 49], [3, 48], [2, 49], [2, 48]]]}
POINT = {"type": "Point", "coordinates": [2.25, 48.5]}
TEXTS = {"type": "Point", "coordinates": ["2", "48"]}
BEYOND = {"type": "Point", "coordinates": [2, 98]}
LINE = {"type": "LineString", "coordinates": [[2, 48], [3, 49]]}


def feature(name: Any, geometry: Any, **members: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Make a feature with a name."""
    return {"type": "Feature", "properties": {"name": name}, "geometry": geometry, **members}


def run_text(folder: Path, text: str, file: str = "table.geojson", **parts: Any) -> ImportResult:  # noqa: ANN401
    """Import a text with the parts of a mapping; every row must be accounted for, and what is imported be good."""
    (folder / "mapping.yaml").write_text(yaml.safe_dump({"catalog": {"catalog_id": "test"}, **parts}), "utf-8")
    (folder / file).write_text(text, "utf-8")
    result = import_table(folder / "mapping.yaml", folder / file)
    for kind in result.kinds:
        assert result.rows == len(getattr(result.catalog, f"{kind}s")) + len(result.rejects)
    return result


def run(folder: Path, *features: Any, **parts: Any) -> ImportResult:  # noqa: ANN401 - any JSON
    """Import features."""
    return run_text(folder, json.dumps({"type": "FeatureCollection", "features": features}, indent=1), **parts)


def problems(folder: Path, text: str) -> list[Problem]:
    """Return the problems that keep a GeoJSON text from being imported."""
    with pytest.raises(CatalogError) as caught:
        run_text(folder, text, zone=ZONE)
    return list(caught.value.problems)


def test_a_feature_becomes_a_zone(tmp_path: Path) -> None:
    """The geometry is an area, to the last digit; a document of it is good once there are offers."""
    x = 2.123456789012345
    ring = [[x, 48], [3, 48], [3, 49], [x, 48]]
    result = run(
        tmp_path, feature("a", {"type": "Polygon", "coordinates": [ring]}), feature("b", SQUARE), zone=ZONE, offer=OFFER
    )

    assert ["a", "b"] == [zone.zone_id for zone in result.catalog.zones]
    assert [ring] == json.loads(result.catalog.zones[0].areas[0])["coordinates"]
    write_document(tmp_path / "catalog.yaml", result.catalog)
    assert 2 == check(tmp_path / "catalog.yaml").offer_count


def test_zones_need_no_offers(tmp_path: Path) -> None:
    """An import may be one file of a folder whose offers are in another file."""
    result = run(tmp_path, feature("a", SQUARE), zone=ZONE)

    assert (("zone",), 1, 0) == (result.kinds, len(result.catalog.zones), len(result.catalog.offers))


def test_position_of_a_venue(tmp_path: Path) -> None:
    """$position makes a venue's point of a Point, or of a position inside a Polygon or MultiPolygon."""
    horseshoe = [[[0, 0], [9, 0], [9, 9], [8, 9], [8, 1], [1, 1], [1, 9], [0, 9], [0, 0]]]
    geometries = [
        POINT,
        {"type": "Polygon", "coordinates": horseshoe},
        {"type": "MultiPolygon", "coordinates": [horseshoe]},
    ]
    points = [
        venue.point
        for venue in run(tmp_path, *map(feature, "abc", geometries), venue=VENUE).catalog.venues
    ]  # fmt: skip

    assert (48.5, 2.25) == (points[0].latitude, points[0].longitude)
    for point in points[1:]:
        assert shapely.Polygon(horseshoe[0]).contains(shapely.Point(point.longitude, point.latitude))


def test_geojson_in_a_cell_of_a_csv_file(tmp_path: Path) -> None:
    """A cell may hold GeoJSON: areas and positions are read from it as from a feature."""
    table = f'name,shape\na,"{json.dumps(SQUARE).replace(chr(34), chr(34) * 2)}"\n'
    venue = {**VENUE, "point": {"$position": "{shape}"}}
    result = run_text(tmp_path, table, "table.csv", venue=venue, zone={**ZONE, "areas": ["{shape}"]})

    assert SQUARE == json.loads(result.catalog.zones[0].areas[0])
    assert 2 < result.catalog.venues[0].point.longitude < 3


def test_properties_are_cells(tmp_path: Path) -> None:
    """Texts lose blanks around them, numbers stay as written, null is no value, what is nested is JSON."""
    text = """{"features": [{"type": "Feature", "id": 7, "geometry": {"type": "Point", "coordinates": [2, 48]},
      "properties": {"name": " a ", "n": 1.50, "big": 12345678901234567890, "yes": true, "none": null, "na": "NA",
      "list": [1.0, {"x": "é"}]}}], "type": "FeatureCollection"}"""
    names = ("n", "big", "yes", "none", "na", "list", "$id")
    labels = {name.strip("$"): f"{{{name}}}" for name in names}
    result = run_text(tmp_path, text, venue={**VENUE, "labels": labels}, csv={"null_values": ["NA"]})

    (venue,) = result.catalog.venues
    assert "a" == venue.venue_id
    wanted = {"n": "1.50", "big": "12345678901234567890", "yes": "true", "list": '[1.0,{"x":"é"}]', "id": "7"}
    assert wanted == dict(venue.labels)


def test_columns_of_a_file_without_a_header(tmp_path: Path) -> None:
    """`csv.columns` names the columns, and then the first row is one like the others."""
    venue = {"venue_id": "{id}", "point": {"latitude": "{lat}", "longitude": "{lng}"}, "labels": {"city": "{city}"}}
    csv_options = {"columns": ["id", "city", "lat", "lng"]}
    result = run_text(tmp_path, "a,Paris,48,2\nb,,49,3\nc,1\n", "table.csv", venue=venue, csv=csv_options)

    assert [("a", {"city": "Paris"}), ("b", {})] == [(one.venue_id, dict(one.labels)) for one in result.catalog.venues]
    assert [(3, "the row has 2 cells, but csv.columns has 4")] == [(one.row, one.reason) for one in result.rejects]


@pytest.mark.parametrize(
    ("faulty", "parts", "reason", "columns"),
    [
        (POINT, {"zone": ZONE}, "is not a Feature", ()),
        ([], {"zone": ZONE}, "is not a Feature", ()),
        ({"type": "Feature", "properties": [], "geometry": None}, {"zone": ZONE}, "properties are not an object", ()),
        (feature("\ud800", SQUARE), {"zone": ZONE}, "half a surrogate pair", ()),
        (feature("b", None), {"zone": ZONE}, "zone: covers nothing", ("$geometry", "name")),
        (feature("b", POINT), {"zone": ZONE}, "areas[0]: is a Point, which has no area", ("$geometry",)),
        (feature("b", BOW_TIE), {"zone": ZONE}, "[2.5, 48.5]", ("$geometry",)),
        (feature("a", SQUARE), {"zone": ZONE}, "zone_id: 'a' is already the id of feature 1", ("name",)),
        (feature(None, SQUARE), {"zone": ZONE}, "zone_id: has no value but is required", ("name",)),
        (feature("b", LINE), {"venue": VENUE}, "point: is a LineString", ("$geometry",)),
        (feature("b", None), {"venue": VENUE}, "point: has no value but is required", ("$geometry",)),
        (feature("b", TEXTS), {"venue": VENUE}, "[longitude, latitude]", ("$geometry",)),
        (feature("b", BEYOND), {"venue": VENUE}, "point.latitude", ("$geometry",)),
        (
            feature("b", {"type": "GeometryCollection", "geometries": [SQUARE, SQUARE]}),
            {"venue": VENUE},
            "there are 2 areas",
            ("$geometry",),
        ),
    ],
)  # fmt: skip
def test_faulty_feature_is_a_reject(
    tmp_path: Path,
    faulty: Any,  # noqa: ANN401 - any JSON
    parts: dict[str, Any],
    reason: str,
    columns: tuple[str, ...],
) -> None:
    """A feature that cannot be imported is listed with its number, the reason and the columns at fault."""
    (reject,) = run(tmp_path, feature("a", SQUARE), faulty, **parts).rejects

    assert reason in reject.reason
    assert (2, columns) == (reject.row, reject.fields)


def test_name_written_twice_is_a_reject(tmp_path: Path) -> None:
    """Two members with the same name are reported."""
    twice = '{"type": "Feature", "properties": {"name": "a", "name": "b"}, "geometry": null}'
    (reject,) = run_text(tmp_path, f'{{"type": "FeatureCollection", "features": [{twice}]}}', zone=ZONE).rejects

    assert (1, "'name' is written twice in it") == (reject.row, reject.reason)


def test_a_row_becomes_all_or_nothing(tmp_path: Path) -> None:
    """A row that makes a zone and an offer is rejected if one of them has a fault, and the reason names it."""
    offer = {**OFFER, "value": "{value}"}
    bad = feature("a", SQUARE)
    bad["properties"]["value"] = 7
    result = run(tmp_path, bad, feature("b", SQUARE), zone=ZONE, offer=offer)

    assert ["offer.value: 7 is not over 0 and at most 1"] == [one.reason.split(";")[0] for one in result.rejects]
    assert (["b"], ["b"]) == (
        [one.zone_id for one in result.catalog.zones],
        [one.offer_id for one in result.catalog.offers],
    )


def test_a_row_that_refers_to_a_reject_is_one(tmp_path: Path) -> None:
    """When a row is rejected, those that refer to what it would have made are, too."""
    chain = {**ZONE, "zone_ids": ["{next}"]}
    shapes = {"a": SQUARE, "b": SQUARE, "c": BOW_TIE, "d": SQUARE}
    features = [feature(name, shape) for name, shape in shapes.items()]
    for one, other in zip(features, "bc", strict=False):
        one["properties"]["next"] = other
    result = run(tmp_path, *features, zone=chain)

    assert ["d"] == [zone.zone_id for zone in result.catalog.zones]
    assert [1, 2, 3] == [reject.row for reject in result.rejects]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ('{"type": "FeatureCollection", "features": [] x', "is not JSON"),
        ('{"type": "FeatureCollection", "features": []} {}', "is not JSON"),
        ('{"type": "FeatureCollection", "features": [NaN]}', "NaN is no number"),
        ("[" * 100_000, "is not JSON"),
        ('{"type": "FeatureCollection", "features": [' + "[" * 100_000, "is not JSON"),
        ('{"type": "FeatureCollection", "features": [], "features": []}', "is written twice"),
        ('{"type": "FeatureCollection", "features": {}}', "is not a FeatureCollection"),
        ('{"type": "Feature", "geometry": null}', "is not a FeatureCollection"),
        ('{"type": "FeatureCollection", "features": [], "crs": {"name": "EPSG:2263"}}', "coordinate system"),
    ],
)
def test_file_that_is_no_geojson_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """A file that cannot be read as features of longitudes and latitudes is one problem of that file."""
    found = [problem for problem in problems(tmp_path, text) if problem.file.endswith(".geojson")]

    assert [True] == [reason in problem.reason for problem in found]
    assert all(problem.fix for problem in found)


def test_geojson_and_mappings_in_another_encoding_name_the_byte(tmp_path: Path) -> None:
    """Both are UTF-8; the first byte outside it is named with its line."""
    mapping, table = tmp_path / "mapping.yaml", tmp_path / "table.geojson"
    mapping.write_text(yaml.safe_dump({"catalog": {"catalog_id": "c"}, "zone": ZONE}), "utf-8")
    table.write_bytes(b'{"type": "FeatureCollection",\n"features": [],\r\n"name": "caf\xe9"}')
    with pytest.raises(CatalogError) as of_table:
        import_table(mapping, table)
    mapping.write_bytes(b"catalog:\n  title: \xff\n")
    with pytest.raises(CatalogError) as of_mapping:
        import_table(mapping, table)

    reasons = [caught.value.problems[0].reason for caught in (of_table, of_mapping)]
    said = "is not text in the encoding UTF-8: byte 0x"
    assert [f"{said}E9 on line 3", f"{said}FF on line 2"] == reasons


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A missing file is a problem, and the mapping is checked all the same."""
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump({"zone": {**ZONE, "titel": "x"}}), "utf-8")
    with pytest.raises(CatalogError) as caught:
        import_table(tmp_path / "mapping.yaml", tmp_path / "none.geojson")

    assert {"", "zone.titel", "catalog"} == {problem.field for problem in caught.value.problems}


def test_unknown_property_is_a_problem_of_the_mapping(tmp_path: Path) -> None:
    """A name that no feature has is found before any feature is converted."""
    with pytest.raises(CatalogError) as caught:
        run(tmp_path, feature("a", SQUARE), zone={**ZONE, "title": "{nmae}"})

    (problem,) = caught.value.problems
    assert ("'nmae' is not a column of the GeoJSON file", "did you mean 'name'?") == (problem.reason, problem.fix)


def test_mapping_must_say_what_a_row_becomes(tmp_path: Path) -> None:
    """A mapping without an offer, a venue or a zone is refused."""
    with pytest.raises(CatalogError) as caught:
        run(tmp_path, feature("a", SQUARE))

    assert ["the mapping has no 'offer', 'venue' or 'zone'"] == [problem.reason for problem in caught.value.problems]


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    """Progress never falls and ends at all of the file."""
    run(tmp_path, *(feature(f"n{number}", POINT) for number in range(1_200)), venue=VENUE)
    seen: list[tuple[int, int]] = []
    import_table(tmp_path / "mapping.yaml", tmp_path / "table.geojson", progress=lambda *one: seen.append(one))

    assert sorted(seen) == seen
    assert 3 == len({done for done, _ in seen})
    assert seen[-1][0] == seen[-1][1] == (tmp_path / "table.geojson").stat().st_size


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS_OF_GEOMETRY = st.sampled_from(["Point", "Polygon", "MultiPolygon", "LineString", "GeometryCollection"])
GEOMETRIES = st.fixed_dictionaries({"type": KINDS_OF_GEOMETRY, "coordinates": JSON}) | JSON | st.just(SQUARE)


@given(st.lists(st.builds(feature, JSON, GEOMETRIES) | JSON, max_size=5))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_feature_breaks_the_import(tmp_path: Path, features: list[Any]) -> None:
    """Whatever JSON the features are, each becomes a zone and a venue or is a reject."""
    first = feature("first", SQUARE)
    result = run(tmp_path, first, *features, zone=ZONE, venue=VENUE)

    assert 1 + len(features) == result.rows


@real
def test_districts_of_new_york_become_zones(tmp_path: Path) -> None:
    """All 71 real districts are imported as they are in the file, and make a good catalogue."""
    file = GEO / "nyc_community_districts.geojson"
    mapping = {
        "catalog": {"catalog_id": "nyc"},
        "zone": {**ZONE, "zone_id": "{BoroCD}"},
        "offer": {**OFFER, "offer_id": "o-{BoroCD}", "title": "{BoroCD}", "target": {"zone_ids": ["{BoroCD}"]}},
    }
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(mapping), "utf-8")
    result = import_table(tmp_path / "mapping.yaml", file)

    features = orjson.loads(file.read_bytes())["features"]
    assert (71, 71, ()) == (len(features), result.rows, result.rejects)
    for one, zone in zip(features, result.catalog.zones, strict=True):
        assert (str(one["properties"]["BoroCD"]), one["geometry"]) == (zone.zone_id, orjson.loads(zone.areas[0]))
    write_document(tmp_path / "nyc.yaml", result.catalog)
    assert 71 == len(check(tmp_path / "nyc.yaml").zones)


@real
def test_airports_become_venues(tmp_path: Path) -> None:
    """All airports are imported with position and time zone, but for two: one without a code, one with another's."""
    columns = "id name city country iata icao lat lng altitude offset dst zone kind source".split()  # noqa: SIM905
    mapping = {
        "csv": {"columns": columns, "null_values": ["\\N"]},
        "catalog": {"catalog_id": "airports"},
        "venue": {
            "venue_id": "{icao}",
            "title": "{name}",
            "point": {"latitude": "{lat}", "longitude": "{lng}"},
            "time_zone": "{zone}",
            "labels": {"iata": "{iata}"},
        },
    }
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(mapping), "utf-8")
    result = import_table(tmp_path / "mapping.yaml", GEO / "airports.csv")

    with (GEO / "airports.csv").open(encoding="utf-8", newline="") as stream:
        rows = [["" if cell == "\\N" else cell for cell in row] for row in csv.reader(stream)]
    rejected = {5861: "venue_id: has no value", 7699: "venue_id: 'SPZO' is already the id of line 2672"}
    assert (7_699, sorted(rejected)) == (result.rows, [reject.row for reject in result.rejects])
    assert all(reject.reason.startswith(rejected[reject.row]) for reject in result.rejects)
    good = [row for number, row in enumerate(rows, start=1) if number not in rejected]
    for row, venue in zip(good, result.catalog.venues, strict=True):
        told = (venue.venue_id, venue.title, venue.point.latitude, venue.point.longitude, venue.time_zone)
        assert (row[5], row[1].strip(), float(row[6]), float(row[7]), row[11]) == told
        assert row[4] == venue.labels.get("iata", "")
