"""Real coupons, imported and served: every set of eligible offers equals an independent reading of the CSV."""

import csv
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from geopy.distance import geodesic

from offers.catalogue.document import write_document
from offers.catalogue.importing import import_table
from offers.decision.kernels.memory.scratch import Scratchpad
from offers.model.query import Query, Surface
from offers.testing import Served, serving
from offers.v1.offer_service_pb2 import BatchGetOffersRequest, GetOffersRequest, Proposition
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.paths import DATA, ROOT

SET = DATA / "coupon_catalogue"
MAPPING = ROOT / "tests" / "catalogue" / "importing" / "coupons_mapping.yaml"
JAPAN = timezone(timedelta(hours=9))
INSTANTS = 500
RADIUS_KM = 40.0

pytestmark = pytest.mark.skipif(not SET.is_dir(), reason=f"needs the real coupons in {SET}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start a server with all coupons."""
    document = tmp_path_factory.mktemp("coupons") / "coupons.binpb"
    tables = {"prefectures": SET / "prefecture_locations.csv"}
    result = import_table(MAPPING, SET / "coupon_list_train.csv", tables=tables)
    assert (19_413, ()) == (result.rows, result.rejects)
    write_document(document, result.catalog)
    with serving(document) as running:
        yield running


def _rows(name: str) -> list[dict[str, str]]:
    with (SET / name).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=JAPAN).timestamp())


def test_eligible_sets_equal_the_csv(served: Served) -> None:
    """At 500 random instants and all 47 prefecture offices, just the coupons on display within 40 km are eligible."""
    offices = {row["PREF_NAME"]: (float(row["LATITUDE"]), float(row["LONGITUDE"])) for row in
               _rows("prefecture_locations.csv")}  # fmt: skip
    near = {
        here: {there for there, other in offices.items() if geodesic(point, other).km <= RADIUS_KM}
        for here, point in offices.items()
    }
    coupons = [
        (_second(row["DISPFROM"]), _second(row["DISPEND"]), row["ken_name"], row["COUPON_ID_hash"])
        for row in _rows("coupon_list_train.csv")
    ]
    stub = OfferServiceStub(served.channel)
    randomly = random.Random(20_260_101)
    edges = sorted({edge for coupon in coupons for edge in coupon[:2]})
    sets = members = 0
    for _ in range(INSTANTS):
        # Half of the instants lie at or beside an edge of some coupon's display.
        second = randomly.randrange(edges[0], edges[-1])
        if randomly.random() < 0.5:
            second = randomly.choice(edges) + randomly.choice((-1, 0, 1))
        displayed = [(area, name) for start, end, area, name in coupons if start <= second < end]
        batch = BatchGetOffersRequest()
        for latitude, longitude in offices.values():
            batch.requests.append(_request(second, latitude, longitude))
        results = stub.BatchGetOffers(batch, timeout=30).results
        for here, result in zip(offices, results, strict=True):
            expected = {name for area, name in displayed if area in near[here]}
            actual = [offer.offer_id for offer in result.response.offers]
            assert len(expected) == result.response.eligible_count
            if len(expected) > 100:  # more than an answer holds: the decision's own candidates
                assert expected == _eligible(served, second, *offices[here])
            else:
                assert expected == set(actual)
            assert len(set(actual)) == len(actual) == min(len(expected), 100)
            assert set(actual) <= expected
            sets, members = sets + 1, members + len(expected)
    assert INSTANTS * 47 == sets
    assert members > 100_000  # the comparison is not about empty sets


def _eligible(served: Served, second: int, latitude: float, longitude: float) -> set[str]:
    engine = served.worker.live.engine("")
    pad = Scratchpad()
    decision = engine.decide(Query(Surface(), second, latitude, longitude), pad)
    entries = engine.snapshot.columns["entry"][pad.arrays["candidate"]["entry"][: decision.eligible]]
    offers, wire = engine.snapshot.columns["offer"][entries["offer"]], engine.snapshot.columns["wire"]
    spans = zip(offers["wire_first"].tolist(), offers["wire_size"].tolist(), strict=True)
    return {Proposition.FromString(wire[first : first + size].tobytes()).offer_id for first, size in spans}


def _request(second: int, latitude: float, longitude: float) -> GetOffersRequest:
    request = GetOffersRequest(max_offers=100)
    request.context.time.seconds = second
    request.context.location.point.latitude = latitude
    request.context.location.point.longitude = longitude
    return request
