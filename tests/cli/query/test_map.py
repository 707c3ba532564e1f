"""`offers query --map`: the map shows what the server decided, with every reason."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import shapely
from geopy.distance import geodesic
from shapely.geometry import shape

from offers.cli import main
from offers.cli.query.geojson import GREEN, GREY, OfferMap
from offers.decision.reference.explain import Why
from offers.model.query import Query, Surface
from offers.testing import Served, serving
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_service_pb2 import GetOffersResponse, OfferExplanation, Proposition
from offers.v1.venue_pb2 import Circle
from tests import explained

CATALOGUE = """
catalog_id: seen
time_zone: Europe/Paris
venues:
  - {venue_id: bar, title: The bar, point: {latitude: 48.8674, longitude: 2.3640}, radius_m: 800}
  - venue_id: shut
    point: {latitude: 48.8680, longitude: 2.3636}
    radius_m: 800
    opening_hours: "18:00-23:00"
  - venue_id: far
    point: {latitude: 48.8874, longitude: 2.3636}
    radius_m: 3000
    travel: {mode: TRAVEL_MODE_WALKING}
dayparts:
  - {daypart_id: dinner, opening_hours: "19:00-22:00"}
placements:
  - {placement_id: home, channel: app, max_per_brand: 1}
  - {placement_id: list, max_per_category: 1, max_per_venue: 1}
zones:
  - zone_id: hole
    areas: [{type: Polygon, coordinates: [[[2.36, 48.86], [2.37, 48.86], [2.37, 48.87], [2.36, 48.87], [2.36, 48.86]]]}]
  - zone_id: ring
    circles: [{center: {latitude: 48.8674, longitude: 2.3636}, radius_m: 4000}]
    excluded_zone_ids: [hole]
offers:
"""
HERE = {"circles": [{"center": {"latitude": 48.8674, "longitude": 2.3636}, "radius_m": 900}]}
THERE = {"latitude": 48.8674, "longitude": 2.3950}
OFFERS: dict[str, dict[str, Any]] = {
    "best": {"target": {"venue_ids": ["bar"]}, "value": 1, "brand": "x", "category": "y", "exclusion_group": "z"},
    "best-too": {"target": {"venue_ids": ["bar"]}, "value": 1},
    "same-brand": {"target": HERE, "brand": "x", "value": 0.1},
    "same-category": {"target": HERE, "category": "y", "value": 0.1},
    "same-venue": {"target": {"venue_ids": ["bar"]}, "value": 0.1},
    "same-group": {"target": HERE, "exclusion_group": "z", "value": 0.1},
    "two-places": {"target": {"circles": [*HERE["circles"], {"center": THERE, "radius_m": 5000}]}},
    "other-placement": {"target": HERE, "placement_ids": ["list"]},
    "french": {"target": HERE, "language_codes": ["fr"]},
    "dollars": {"target": HERE, "currency_codes": ["USD"]},
    "email": {"target": HERE, "channels": ["email"]},
    "elsewhere": {"target": {"circles": [{"center": THERE, "radius_m": 500}]}},
    "not-in-hole": {"target": {"everywhere": True, "excluded_zone_ids": ["hole"]}},
    "in-ring": {"target": {"zone_ids": ["ring"]}},
    "narrow": {"target": {"circles": [{"center": THERE | {"longitude": 2.3636}, "radius_m": 60}]}},
    "last-year": {"target": HERE, "availability": {"windows": [{"end_time": "2026-01-01T00:00:00+01:00"}]}},
    "next-year": {"target": HERE, "availability": {"windows": [{"start_time": "2027-01-01T00:00:00+01:00"}]}},
    "evening": {"target": HERE, "availability": {"opening_hours": "Tu 18:00-20:00"}},
    "never": {"target": HERE, "availability": {"opening_hours": "off"}},
    "dinner": {"target": HERE, "availability": {"daypart_ids": ["dinner"]}},
    "bar-shut": {"target": {"venue_ids": ["shut"]}, "availability": {"only_when_open": True}},
    "used-up": {
        "target": HERE,
        "redemption": {"window": {"end_time": "2026-02-01T00:00:00+01:00"}, "required_when_shown": True},
    },
    "used-later": {"target": HERE, "redemption": {"opening_hours": "Sa", "required_when_shown": True}},
    "too-late": {
        "target": {"venue_ids": ["far"]},
        "availability": {"opening_hours": "12:00-12:20", "reachable_before_end": "REACHABLE_BEFORE_END_DROP"},
    },
    "everywhere": {"target": {"everywhere": True}},
    "stopgap": {"target": {"everywhere": True}, "fallback": True},
}
PLACE = ("--lat", "48.8674", "--lng", "2.3636")
NOON = ("--at", "2026-11-24 12:15", "--time-zone", "Europe/Paris", "--max-offers", "100")


class Seen(NamedTuple):
    """The result of a query with a map."""

    response: Any
    features: list[dict[str, Any]]
    err: str

    def places(self, offer_id: str = "") -> list[dict[str, Any]]:
        """Return the properties of the places of one offer, or of all."""
        told = [one["properties"] for one in self.features if one["properties"]["kind"] == "place"]
        return [one for one in told if offer_id in {"", one["offer_id"]}]


See = Callable[..., Seen]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the catalogue."""
    path = tmp_path_factory.mktemp("catalogue") / "seen.yaml"
    offers = [{"offer_id": name, "title": name, "benefit": {"custom": "x"}, **told} for name, told in OFFERS.items()]
    path.write_text(f"{CATALOGUE}{''.join(f'  - {json.dumps(offer)}{chr(10)}' for offer in offers)}", "utf-8")
    return path


@pytest.fixture(scope="module")
def served(source: Path) -> Iterator[Served]:
    """Serve the catalogue."""
    with serving(source) as running:
        yield running


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def query(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], served: Served) -> Run:
    """Run `offers query` against the server."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["offers", "query", "--target", served.target, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def see(query: Run, source: Path, tmp_path: Path) -> See:
    """Ask at noon, and read the map."""

    def run(*arguments: str) -> Seen:
        file = tmp_path / "seen.geojson"
        status, out, err = query(*NOON, *arguments, "--json", "--map", file, "--catalog", source)
        assert 0 == status, err
        collection = json.loads(file.read_bytes())
        assert "FeatureCollection" == collection["type"]
        return Seen(json.loads(out), collection["features"], err)

    return run


HOME = (*PLACE, "--placement", "home")
CASES = [
    ("best", PLACE, "returned", "returned"),
    ("two-places", PLACE, "other place", "returned for another place, which is nearer or better"),
    (
        "other-placement",
        HOME,
        "placement",
        "asked for the placement home, and it is for list",
    ),
    ("french", (*PLACE, "--language", "en"), "language", "asked for the language en, and it is for fr"),
    ("dollars", (*PLACE, "--currency", "EUR"), "currency", "asked for the currency EUR, and it is for USD"),
    ("email", (*PLACE, "--channel", "app"), "channel", "asked for the channel app, and it is for email"),
    ("email", HOME, "channel", "asked for the channel app, and it is for email"),
    ("best", (), "no location", "there is no location, and it does not allow that"),
    ("elsewhere", PLACE, "outside", "1,804 m outside the circle"),
    ("not-in-hole", PLACE, "cut out", "in zone hole, which is cut out"),
    ("in-ring", PLACE, "cut out", "in zone hole, which is cut out"),
    ("narrow", (*PLACE, "--accuracy", "100"), "unlikely", "inside the circle with probability 0.34, 0.50 needed"),
    ("last-year", PLACE, "over", "over since Thu 1 Jan 00:00"),
    ("next-year", PLACE, "not begun", "begins in 37 d 11 h, at 1 Jan 2027 00:00"),
    ("evening", PLACE, "closed", "opens in 5 h 45 min, at 18:00"),
    ("never", PLACE, "closed", "never opens within 400 days"),
    ("dinner", PLACE, "daypart", "its daypart begins in 6 h 45 min, at 19:00"),
    ("bar-shut", PLACE, "venue closed", "the venue opens in 5 h 45 min, at 18:00"),
    ("used-up", PLACE, "not redeemable", "redemption over since Sun 1 Feb 00:00"),
    ("used-later", PLACE, "not redeemable", "redemption opens in 3 d 11 h, at Sat 28 Nov 00:00"),
    ("too-late", PLACE, "unreachable", "ends before one can be there"),
    ("stopgap", PLACE, "fallback", "a fallback, and other offers qualify"),
    ("same-group", PLACE, "exclusion group", "a better one of its exclusion group is in the answer"),
    ("same-brand", HOME, "layout", "the placement holds no more of its brand"),
    ("same-category", (*PLACE, "--placement", "list"), "layout", "the placement holds no more of its category"),
    ("same-venue", (*PLACE, "--placement", "list"), "layout", "the placement holds no more of its venue"),
    ("everywhere", (*PLACE, "--max-offers", "1"), "beyond", "1 better one is in the answer: score 0."),
    ("best-too", (*PLACE, "--max-offers", "1"), "tied", "the answer is full, and its last offer has the same score"),
]


@pytest.mark.parametrize(("offer_id", "arguments", "why", "words"), CASES)
def test_each_reason_is_told(see: See, offer_id: str, arguments: tuple[str, ...], why: str, words: str) -> None:
    """An offer made for one reason has it alone at one of its places, in words; what is returned is green."""
    seen = see(*arguments)
    answered = {one["offer_id"] for one in seen.response.get("offers", [])}

    (place,) = (one for one in seen.places(offer_id) if why in one["reasons"])
    assert [why] == place["reasons"]
    assert place["why"].startswith(words)
    assert (offer_id in answered) == (why in {"returned", "other place"})
    colors = {place.get("stroke", place.get("marker-color"))}
    assert {GREEN if why == "returned" else GREY} == colors


def test_every_reason_has_its_case() -> None:
    """Every reason has an offer made for it."""
    assert set(Why) == {why for _, _, why, _ in CASES}


PERSONAL = {
    "not in its segments", "in an excluded segment", "for another variant", "held out", "frequency cap reached",
    "contact policy reached", "quiet hours", "cooling down", "budget used up", "budget ahead of plan",
}  # fmt: skip
"""The reasons that concern the person, as the map names them."""


@pytest.mark.parametrize("user", ["", explained.HELD_OUT])
def test_the_map_knows_the_person_as_the_explainer_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], user: str
) -> None:
    """On the map each offer has the reasons of ExplainOffers: those of audiences, caps, policies and budgets too."""
    where = ("--lat", str(explained.LATITUDE), "--lng", str(explained.LONGITUDE), "--at", explained.NOON.isoformat())
    terms = ("--language", "fr", "--currency", "EUR", "--channel", "app", "--placement", "home", "--user", user)
    file, names = tmp_path / "seen.geojson", [f"--explain={name}" for name in explained.OFFERS]
    with explained.serving_the_day(tmp_path, default_consent=("contextual", "profiling")) as running:
        shown = ("--json", *names, "--map", str(file), "--catalog", str(tmp_path / "catalog.yaml"))
        monkeypatch.setattr(sys, "argv", ["offers", "query", "--target", running.target, *where, *terms, *shown])
        with pytest.raises(SystemExit) as ended:
            main()
    out, err = capsys.readouterr()
    assert not ended.value.code, err

    places = [one["properties"] for one in json.loads(file.read_bytes())["features"]]
    on_map = {one["offer_id"]: one for one in places if one["kind"] == "place"}
    for one in json.loads(out)["explanations"]:
        checks = [check["detail"] for check in one.get("failed_checks", [])] or ["returned"]
        assert sorted("; ".join(checks).split("; ")) == sorted(on_map[one["offer_id"]]["why"].split("; "))
        assert one.get("rank") == on_map[one["offer_id"]].get("rank")
    assert explained.OFFERS.keys() == on_map.keys()
    found = {reason for one in on_map.values() for reason in one["reasons"]}
    assert (PERSONAL <= found) == bool(user)


@pytest.mark.parametrize(
    "arguments",
    [
        PLACE,
        (*PLACE, "--accuracy", "300"),
        (*PLACE, "--accuracy", "30", "--observed-at", "12:13", "--moving", "driving"),
        (),
        (*PLACE, "--max-offers", "3"),
    ],
)
def test_what_is_returned_is_what_the_server_answered(see: See, arguments: tuple[str, ...]) -> None:
    """The same offers with the same ranks and scores, each at one place, and their factors make up the score."""
    seen = see(*arguments)
    returned = [one for one in seen.places() if one["verdict"] == "returned"]

    wanted = {one["offer_id"]: (one["rank"], one["score"]) for one in seen.response.get("offers", [])}
    assert wanted == {one["offer_id"]: (one["rank"], one["score"]) for one in returned}
    assert len(wanted) == len(returned)
    for one in returned:
        score = 1.0
        for factor in one["factors"].split(", "):
            _, value, _, weight = factor.split(" ")
            score *= float(value) ** float(weight)
        assert score == pytest.approx(one["score"], rel=2e-3)
    assert OFFERS.keys() == {one["offer_id"] for one in seen.places()}


def test_geometries_are_what_viewers_expect(see: See) -> None:
    """Each geometry is valid, outer rings go anticlockwise, and lines and points have colours."""
    features = see(*PLACE, "--accuracy", "100").features

    assert {"place", "venue", "accuracy", "location", "cut out"} == {one["properties"]["kind"] for one in features}
    for one in features:
        geometry = shape(one["geometry"])
        assert geometry.is_valid
        assert not geometry.is_empty
        wanted = {"marker-color"} if one["geometry"]["type"] == "Point" else {"stroke", "fill"}
        assert wanted <= one["properties"].keys()
        if one["geometry"]["type"] == "Polygon":
            assert geometry.exterior.is_ccw


def test_circles_are_drawn_on_the_ellipsoid(see: See) -> None:
    """The 64 corners of a circle lie on its edge."""
    features = see(*PLACE, "--accuracy", "250").features
    (circle,) = (one["geometry"] for one in features if one["properties"]["kind"] == "accuracy")
    (ring,) = circle["coordinates"]

    assert 65 == len(ring)
    assert ring[0] == ring[-1]
    for longitude, latitude in ring:
        assert geodesic((48.8674, 2.3636), (latitude, longitude)).m == pytest.approx(250, abs=0.01)


def test_only_places_near_are_shown(see: See) -> None:
    """Places farther away than --map-radius are not on the map, unless they are returned."""
    near = see(*PLACE, "--map-radius", "100")

    assert [] == near.places("elsewhere")
    assert 1 == len(see(*PLACE, "--map-radius", "2000").places("elsewhere"))
    assert {"returned"} == {one["verdict"] for one in near.places("everywhere")}


def test_a_map_without_a_location_has_all_places(see: See) -> None:
    """Without a location all places are on the map, and those everywhere have no geometry."""
    seen = see()

    assert {"place", "venue", "cut out"} == {one["properties"]["kind"] for one in seen.features}
    nowhere = {one["properties"]["offer_id"] for one in seen.features if one["geometry"] is None}
    assert {"everywhere", "stopgap", "not-in-hole"} == nowhere


def test_a_map_needs_the_document(query: Run, tmp_path: Path) -> None:
    """Without --catalog, or with a name that is not a map's, the command says what to give."""
    status, _, err = query(*NOON, *PLACE, "--map", tmp_path / "seen.geojson")
    assert 2 == status
    assert "--catalog" in err
    assert 2 == query(*NOON, *PLACE, "--map", tmp_path / "seen.png", "--catalog", "x.yaml")[0]
    status, _, err = query(*NOON, *PLACE, "--map", tmp_path / "seen.geojson", "--catalog", tmp_path / "none.yaml")
    assert 1 == status
    assert "none.yaml: cannot be read" in err
    assert [] == list(tmp_path.iterdir())


def test_another_document_is_refused(query: Run, source: Path, tmp_path: Path) -> None:
    """A document that the server does not answer from is refused, and no map is written."""
    edited = tmp_path / "edited.yaml"
    edited.write_text(source.read_text("utf-8").replace('"offer_id": "everywhere"', '"offer_id": "anywhere"'), "utf-8")
    status, _, err = query(*NOON, *PLACE, "--map", tmp_path / "seen.geojson", "--catalog", edited)

    assert 1 == status
    assert "about anywhere, everywhere: give --catalog the document that it serves" in " ".join(err.split())
    assert [edited] == list(tmp_path.iterdir())


def test_a_map_that_cannot_be_written(query: Run, source: Path, tmp_path: Path) -> None:
    """A missing folder is named as the reason."""
    status, _, err = query(*NOON, *PLACE, "--map", tmp_path / "no" / "seen.geojson", "--catalog", source)

    assert 1 == status
    assert "cannot write" in err


def test_the_instant_of_a_map_is_that_of_the_answer(query: Run, source: Path, tmp_path: Path) -> None:
    """Without --at the map shows the current instant."""
    status, _, err = query(*PLACE, "--map", tmp_path / "now.geojson", "--catalog", source)

    assert 0 == status, err
    assert "written to" in err


FIJI_AREA = {
    "type": "Polygon",
    "coordinates": [[[179, -18], [-179, -18], [-179, -16], [179, -16], [179, -18]]],
}


def drawn(target: dict[str, Any], latitude: float, longitude: float) -> list[Any]:
    """Draw an offer's places near a location, and return their shapes."""
    catalog = Catalog(catalog_id="edge", time_zone="UTC")
    offer = catalog.offers.add(offer_id="o", title="o")
    offer.benefit.custom = "x"
    for circle in target.get("circles", ()):
        offer.target.circles.append(Circle(**circle))
    offer.target.areas.extend(json.dumps(area) for area in target.get("areas", ()))
    response = GetOffersResponse(offers=[Proposition(offer_id="o", rank=1, score=0.5)])
    drawing = OfferMap(catalog, Query(Surface(), 0, latitude, longitude), response, 5_000)
    features = drawing.features({"o": OfferExplanation(offer_id="o", eligible=True, rank=1)})
    return [shape(one["geometry"]) for one in features if one["properties"]["kind"] == "place"]


def test_what_crosses_the_antimeridian_is_split() -> None:
    """Circles and areas across 180 degrees are MultiPolygons, each part on one side (RFC 7946)."""
    circle = {"center": {"latitude": -17, "longitude": 179.9}, "radius_m": 50_000}
    for geometry in drawn({"circles": [circle], "areas": [FIJI_AREA]}, -17.0, -179.95):
        assert "MultiPolygon" == geometry.geom_type
        assert geometry.is_valid
        west, east = sorted(geometry.geoms, key=lambda part: part.bounds[0])
        assert (-180, 180) == (west.bounds[0], east.bounds[2])
        assert west.bounds[2] < -178
        assert east.bounds[0] > 178
        assert geometry.contains(shapely.Point(-179.95, -17))
        assert not geometry.contains(shapely.Point(0, -17))


@pytest.mark.parametrize("pole", [90, -90])
def test_a_circle_around_a_pole_holds_it(pole: int) -> None:
    """A circle around a pole is drawn from -180 to 180, from its edge to the pole."""
    circle = {"center": {"latitude": pole * 0.99, "longitude": 170}, "radius_m": 300_000}
    (geometry,) = drawn({"circles": [circle]}, pole * 0.99, 170)

    assert geometry.is_valid
    assert (-180, 180) == (geometry.bounds[0], geometry.bounds[2])
    step = 1 if pole > 0 else -1
    for longitude in range(-179, 180, 17):
        for latitude in (pole - 0.001 * step, pole - 1 * step, pole - 2.5 * step, pole - 4 * step):
            away = geodesic((pole * 0.99, 170), (latitude, longitude)).m
            if abs(away - 300_000) > 2_000:
                assert (away < 300_000) == geometry.contains(shapely.Point(longitude, latitude))


def test_an_area_with_a_hole_keeps_it() -> None:
    """Holes, islands in holes and separate parts are kept."""

    def box(size: float) -> list[list[float]]:
        return [[-size, -size], [size, -size], [size, size], [-size, size], [-size, -size]]

    island = {"type": "MultiPolygon", "coordinates": [[box(3), box(2)], [box(1)]]}
    (geometry,) = drawn({"areas": [island]}, 0.5, 0.5)

    assert geometry.equals(shape(island))
