"""How far the place is for which an offer is shown: what the log keeps of it, and what explanations tell."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from geopy.distance import geodesic
from google.type.latlng_pb2 import LatLng

from offers.catalogue.document import write_document
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.learning.propensity.features import DISTANCE, default_features
from offers.model.hashing import bucket
from offers.server.explain_service import ExplainService
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import PersonReader
from offers.server.recorder import Recorder
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.state.sqlite.state import SqliteState
from offers.v1.catalog_pb2 import Catalog, Placement
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    ConsentPurpose,
    Context,
    Location,
    User,
)
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.offer_service_pb2 import (
    FACTOR_NAME_PROPENSITY,
    VIEW_FULL,
    ExplainOffersRequest,
    ExplainOffersResponse,
    GetOffersRequest,
    GetOffersResponse,
)
from offers.v1.ranking_pb2 import FactorWeights, Propensity, RankingStrategy
from offers.v1.state_pb2 import DecisionRecord
from offers.v1.venue_pb2 import Circle, Venue, Zone
from tests.decision.made_models import model_of, online

NOW = 1_795_345_200
Position = tuple[float, float]
PARIS, POLE, DATE_LINE = (48.8566, 2.3522), (89.9, 20.0), (-16.5, 179.999)
FEATURES = default_features(("offer.id", DISTANCE), 12)
ALL = (CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_LEARNING)
Purposes = Sequence[ConsentPurpose.ValueType]
REACH_M = 40_000.0


def places() -> dict[str, Position]:
    """Places of the venues, and of the circles of targets."""
    found = {}
    for name, (latitude, longitude) in {"paris": PARIS, "pole": POLE, "line": DATE_LINE}.items():
        found[f"{name}-first"] = (latitude - 0.01, longitude)
        found[f"{name}-second"] = (latitude + 0.03, longitude)
        found[f"circle-{name}"] = (latitude, -179.99 if name == "line" else longitude - 0.02)
    return found


def catalog() -> Catalog:
    """Offers for venues, circles, zones, an area and everywhere."""
    found = places()
    square = '{"type": "Polygon", "coordinates": [[[2.3, 48.8], [2.4, 48.8], [2.4, 48.9], [2.3, 48.9], [2.3, 48.8]]]}'

    def circle(name: str) -> Circle:
        return Circle(center=point(found[name]), radius_m=REACH_M)

    targets = {"everywhere": Target(everywhere=True), "area": Target(areas=[square]), "zone": Target(zone_ids=["z"])}
    for name in ("paris", "pole", "line"):
        targets[f"one-{name}"] = Target(venue_ids=[f"{name}-first"])
        targets[f"two-{name}"] = Target(venue_ids=[f"{name}-second", f"{name}-first"])
        targets[f"circle-{name}"] = Target(circles=[circle(f"circle-{name}")])
    strategies = [
        RankingStrategy(ranking_strategy_id="s", weights=FactorWeights(propensity=1)),
        RankingStrategy(
            ranking_strategy_id="blind",
            weights=FactorWeights(propensity=1),
            propensity=Propensity(without_context=True),
        ),
    ]
    return Catalog(
        catalog_id="shop", time_zone="Europe/Paris", ranking_strategies=strategies,
        venues=[
            Venue(venue_id=name, title="T", point=point(at), radius_m=REACH_M)
            for name, at in found.items()
            if not name.startswith("circle")
        ],
        zones=[Zone(zone_id="z", title="Z", circles=[circle("paris-first")])],
        offers=[
            Offer(offer_id=name, title="T", benefit=Benefit(custom="b"), target=target)
            for name, target in targets.items()
        ],
        placements=[
            Placement(placement_id="home", ranking_strategy_id="s"),
            Placement(placement_id="blind", ranking_strategy_id="blind"),
        ],
    )  # fmt: skip


def point(at: Position) -> LatLng:
    """A position as messages have it."""
    return LatLng(latitude=at[0], longitude=at[1])


class Shop:
    """Services over the catalogue, with a model that knows offers by their id and distance."""

    def __init__(self, folder: Path, characters: int = 6) -> None:
        write_document(folder / "catalog.binpb", catalog())
        engine = Engine(open_snapshot(publish(folder / "catalog.binpb", folder).path))
        self.database = Database(folder / "state.db")
        state = SqliteState(self.database)
        self.events = SqliteEvents(self.database)
        self.recorder = Recorder(self.events, state)
        people, live = PersonReader(state, frozenset()), Live([engine])
        live.use_model(model_of({f"click.{name}": one for name, one in online(FEATURES, 3).items()}, FEATURES))
        self.offers = OfferService(live, lambda: NOW, people, self.recorder, characters)
        self.explaining = ExplainService(live, lambda: NOW, people, characters)

    def close(self) -> None:
        """End what was begun."""
        self.recorder.close()
        self.database.close()

    def ask(self, request: GetOffersRequest) -> tuple[GetOffersResponse, DecisionRecord]:
        """The answer, and what the log keeps of it."""
        answer = GetOffersResponse.FromString(self.offers.get_offers(request.SerializeToString()))
        self.recorder.flush()
        (logged,) = self.events.decisions([answer.decision_id])
        return answer, logged.told()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop that is open."""
    made = Shop(tmp_path)
    yield made
    made.close()


def request_of(at: Position | None, purposes: Purposes = ALL, placement: str = "home") -> GetOffersRequest:
    """Return a request from a place."""
    context = Context(user=User(user_id="ann", consent=ConsentGrants(purposes=purposes)))
    if at:
        context.location.CopyFrom(Location(point=point(at)))
    return GetOffersRequest(context=context, placement=placement, view=VIEW_FULL, max_offers=20)


def propensities(answer: GetOffersResponse) -> dict[str, float]:
    """By offer."""
    return {
        offer.offer_id: factor.value
        for offer in answer.offers
        for factor in offer.factors
        if factor.name == FACTOR_NAME_PROPENSITY
    }


def cell_middle(geohash: str) -> Position:
    """The middle of a geohash's cell, by halving the world, apart from how the service does it."""
    spans = [[-180.0, 180.0], [-90.0, 90.0]]
    bits = "".join(f"{'0123456789bcdefghjkmnpqrstuvwxyz'.index(digit):05b}" for digit in geohash)
    for number, bit in enumerate(bits):
        low, high = spans[number % 2]
        spans[number % 2] = [(low + high) / 2, high] if bit == "1" else [low, (low + high) / 2]
    (west, east), (south, north) = spans
    return (south + north) / 2, (west + east) / 2


@pytest.mark.parametrize("characters", [1, 4, 6, 12])
@pytest.mark.parametrize("name", ["paris", "pole", "line"])
def test_the_log_has_metres_from_the_cell_to_the_place_shown(name: str, characters: int, tmp_path: Path) -> None:
    """Distances to venues and circles are those of geodesics, and 0 for all else, also beside a pole, across the
    antimeridian, and from cells as wide as a continent.
    """  # noqa: D205
    latitude, longitude = {"paris": PARIS, "pole": POLE, "line": DATE_LINE}[name]
    shop = Shop(tmp_path, characters)
    try:
        answer, record = shop.ask(request_of((latitude + 0.001, longitude)))
    finally:
        shop.close()
    assert characters == len(record.geohash)
    middle, found = cell_middle(record.geohash), places()
    shown = {f"one-{name}": f"{name}-first", f"two-{name}": f"{name}-first", f"circle-{name}": f"circle-{name}"}
    elsewhere = {"everywhere", "area", "zone"} if name == "paris" else {"everywhere"}
    assert shown.keys() | elsewhere == set(record.offer_ids) == {offer.offer_id for offer in answer.offers}
    for offer, metres in zip(record.offer_ids, record.distances_m, strict=True):
        if offer in elsewhere:
            assert 0 == metres
        else:
            way = geodesic(middle, found[shown[offer]]).m
            assert metres == pytest.approx(way, abs=0.5, rel=2e-4 if way < 1e6 else 0.02)


def test_metres_are_the_same_wherever_one_stands_in_the_cell(shop: Shop) -> None:
    """The same place of an offer has the same distance in a cell: the log has no finer location than its geohash."""
    latitude, longitude = cell_middle("u09tvm")
    records, answers = [], []
    for north, east in ((0.0, 0.0), (0.0027, 0.005), (-0.0027, 0.005), (0.001, -0.0054)):
        answer, record = shop.ask(request_of((latitude + north, longitude + east)))
        assert "u09tvm" == record.geohash
        records.append(dict(zip(record.offer_ids, record.distances_m, strict=True)))
        answers.append(propensities(answer))
    assert [records[0]] * 4 == records
    assert [answers[0]] * 4 == answers
    assert {0 < metres for metres in records[0].values()} == {True, False}


def test_both_ways_log_the_same_metres(shop: Shop) -> None:
    """The record of a decision that was made step by step is that of the same decision in two compiled calls."""
    records = [shop.ask(request_of(PARIS))[1] for _ in range(3)]
    assert any(records[0].distances_m)
    assert [records[0]] * 3 == records


@pytest.mark.parametrize("purposes", [ALL[:2], ALL[:1], ALL[1:]])
def test_nothing_is_logged_of_distances_without_consent(shop: Shop, purposes: Purposes) -> None:
    """Without consent to learning, or to the use of the location, a record has no distances, and no geohash."""
    _, record = shop.ask(request_of(PARIS, purposes))
    assert record.offer_ids
    assert ([], "") == (list(record.distances_m), record.geohash)


def test_without_a_geohash_there_is_no_distance(tmp_path: Path) -> None:
    """Without a logged geohash or a location there are no distances, and none affects propensities."""
    for characters, at in ((0, PARIS), (6, None)):
        folder = tmp_path / str(characters)
        folder.mkdir()
        shop = Shop(folder, characters)
        answer, record = shop.ask(request_of(at))
        blind, _ = shop.ask(request_of(at, placement="blind"))
        shop.close()
        assert ([], "", True) == (list(record.distances_m), record.geohash, record.learn)
        assert propensities(blind) == propensities(answer)


def test_propensity_is_of_the_bucket_of_the_distance(shop: Shop) -> None:
    """An offer's propensity is the same at distances of one bucket, and another at others; where strategies take the
    moment as not known, it is the same anywhere.
    """  # noqa: D205
    told: dict[str, dict[int, set[float]]] = {"home": {}, "blind": {}}
    for placement, by_bucket in told.items():
        for step in range(30):
            answer, record = shop.ask(request_of((PARIS[0] + 0.006 * step, PARIS[1]), placement=placement))
            metres = dict(zip(record.offer_ids, record.distances_m, strict=True))["one-paris"]
            by_bucket.setdefault(bucket(metres), set()).add(propensities(answer)["one-paris"])
    assert {1} == {len(values) for by_bucket in told.values() for values in by_bucket.values()}
    distinct = {placement: len(set.union(*by_bucket.values())) for placement, by_bucket in told.items()}
    assert {"home": len(told["home"]), "blind": 1} == distinct
    assert 6 < len(told["home"])


@pytest.mark.parametrize("at", [PARIS, DATE_LINE, POLE, None])
def test_explanations_know_the_distance(shop: Shop, at: Position | None) -> None:
    """The propensity that is explained is that of the answer, of each offer of the answer."""
    for placement in ("home", "blind"):
        asked = ExplainOffersRequest(request=request_of(at, placement=placement))
        response = ExplainOffersResponse.FromString(shop.explaining.explain_offers(asked.SerializeToString()))
        answered = propensities(response.response)
        explained = {
            one.offer_id: math.exp(factor.log_contribution)
            for one in response.explanations
            for factor in one.factors
            if factor.name == FACTOR_NAME_PROPENSITY
        }
        assert answered == pytest.approx({name: explained[name] for name in answered}, rel=1e-9)
        assert len(set(answered.values())) == len(answered)
