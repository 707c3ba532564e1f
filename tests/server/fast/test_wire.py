"""The bytes of an answer equal the message they stand for, field by field."""

import math
import tempfile
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.latlng_pb2 import LatLng
from hypothesis import given, settings

from offers.catalogue.document import write_document
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import EVERYWHERE, IN_ZONE, NO_SCHEDULE, NO_VENUE, open_snapshot
from offers.decision.engine import Engine
from offers.decision.kernels.memory.scratch import IN_DAYPART, UNPLACED, UNREACHABLE, Scratchpad
from offers.model.hashing import key_of as attribute_key_of
from offers.model.hashing import mixed_in_python
from offers.model.keys import key_of
from offers.model.query import Query
from offers.server.convert import query_of
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.v1 import offer_service_pb2 as pb
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Benefit, Creative, Offer, Redemption, Target
from offers.v1.ranking_pb2 import FactorWeights
from offers.v1.venue_pb2 import Circle
from tests import strategies
from tests.decision.kernels.test_kernels_equal_reference import MEMORY, service_of
from tests.strategies import Maker

HERE = LatLng(latitude=48.8566, longitude=2.3522)
NOON = 1_781_524_800


def engine_of(catalog: Catalog, folder: Path) -> Engine:
    """Compile a catalogue in a folder and open it."""
    document = folder / "catalog.binpb"
    write_document(document, catalog)
    return Engine(open_snapshot(publish(document, folder).path))


def proposition_id(decision_id: str, rank: int, catalog_id: str, offer: Offer, query: Query) -> str:
    """Return the id of an offer in a decision, written digit by digit."""
    high, low = int(decision_id[:16], 16), int(decision_id[16:], 16)
    mask = mixed_in_python(mixed_in_python(high) ^ low ^ rank)
    key = key_of("offer", catalog_id, offer.offer_id) % 2**64
    placement, channel = (
        attribute_key_of(name, getattr(query.surface, name)) % 2**32 for name in ("placement", "channel")
    )
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_~"
    words = key ^ mask, (placement << 32 | channel) ^ mixed_in_python(mask)
    said = "".join(digits[word >> shift & 63] for word in words for shift in range(60, -1, -6))
    return f"{decision_id}-{rank}-{said}"


def built(  # noqa: C901, PLR0912 - as many questions as there are fields
    engine: Engine, catalog: Catalog, request: pb.GetOffersRequest, decision_id: str
) -> pb.GetOffersResponse:
    """Return the message of a decision, put together with the protobuf library."""
    query = query_of(request, 0)
    pad = Scratchpad()
    decision = engine.decide(query, pad)
    columns = engine.snapshot.columns
    strategy = columns["strategies"][decision.strategy]
    weights = strategy["weights"].tolist()
    by_order = sorted(catalog.offers, key=lambda offer: offer.offer_id)
    response = pb.GetOffersResponse(
        decision_id=decision_id,
        catalog_version=engine.snapshot.version,
        refresh_after=Timestamp(seconds=decision.refresh_after),
        eligible_count=decision.eligible,
    )
    if math.isfinite(decision.refresh_distance_m):
        response.refresh_distance_m = decision.refresh_distance_m
    for rank, chosen in enumerate(pad.arrays["chosen"][: decision.count], 1):
        entry = columns["entry"][chosen["entry"]]
        venue = int(entry["venue"])
        offer = by_order[entry["order"]]
        one = response.offers.add(
            rank=rank,
            offer_id=offer.offer_id,
            proposition_id=proposition_id(decision_id, rank, engine.catalog_id, offer, query),
            score=math.exp(chosen["log_score"]),
            title=offer.title,
            benefit=offer.benefit,
            category=offer.category,
            brand=offer.brand,
            redeemable_now=bool(chosen["redeemable"]),
        )
        for part in ("creative", "redemption"):
            if offer.HasField(part):
                getattr(one, part).CopyFrom(getattr(offer, part))
        if chosen["distance_m"] >= 0:
            one.distance_m = chosen["distance_m"]
        if venue != NO_VENUE:
            first, last = columns["venue_id_first"][venue : venue + 2]
            one.venue_id = columns["venue_id"][first:last].tobytes().decode()
        if chosen["until"] != NEVER:
            one.valid_until.seconds = int(chosen["until"])
        place = {EVERYWHERE: pb.REASON_CODE_EVERYWHERE, IN_ZONE: pb.REASON_CODE_IN_ZONE}
        one.reasons.append(place.get(int(entry["kind"]), pb.REASON_CODE_NEARBY))
        if columns["gate"]["schedule"][chosen["entry"]] != NO_SCHEDULE:
            one.reasons.append(pb.REASON_CODE_OPEN_NOW)
        if chosen["until"] - query.time <= 3600:
            one.reasons.append(pb.REASON_CODE_ENDS_SOON)
        if offer.fallback:
            one.reasons.append(pb.REASON_CODE_FALLBACK)
        if chosen["flags"] & UNPLACED:
            one.reasons[0] = pb.REASON_CODE_LOCATION_MISSING
        for flag, reason in (
            (IN_DAYPART, pb.REASON_CODE_PREFERRED_DAYPART),
            (UNREACHABLE, pb.REASON_CODE_UNREACHABLE),
        ):
            if chosen["flags"] & flag:
                one.reasons.append(reason)
        given = {2: offer.value if offer.HasField("value") else 0.5, 3: offer.lever if offer.HasField("lever") else 0.5}
        for factor, log in enumerate(chosen["logs"].tolist() if query.surface.full else ()):
            one.factors.add(
                name=pb.FactorName.values()[factor + 1],
                value=given.get(factor, math.exp(log)),
                weight=weights[factor],
                log_contribution=weights[factor] * log,
            )
    return response


@settings(max_examples=25)
@given(strategies.makers, strategies.sizes)
def test_bytes_are_those_of_the_message(maker: Maker, size: int) -> None:
    """Random answers, BASIC and FULL, parse to just the message built field by field from the decision."""
    catalog = maker.catalog(size)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        engine = engine_of(catalog, Path(folder))
        service = OfferService(Live([engine]), lambda: 0.0)
        for _ in range(20):
            request = maker.request(catalog)
            request.view = maker.random.choice(pb.View.values())
            got = pb.GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))
            assert built(engine, catalog, request, got.decision_id) == got
            assert 32 == len(got.decision_id) == len(bytes.fromhex(got.decision_id)) * 2
            for offer in got.offers:
                logs = math.fsum(factor.log_contribution for factor in offer.factors)
                assert not offer.factors or math.isclose(math.log(offer.score), logs, rel_tol=1e-9, abs_tol=1e-9)


def rich(number: int, body: str) -> Offer:
    """Return an offer with every field that an answer repeats, in many scripts."""
    offer = Offer(
        offer_id=f"o{number:03}", title=f"Déjeuner 🍜 昼食 {number}", category="spécialités", brand="Ünal & Söhne"
    )
    offer.target.CopyFrom(Target(venue_ids=["a:b.c_d-1"]))
    offer.benefit.CopyFrom(Benefit(custom="ein Lächeln ☺"))
    offer.creative.CopyFrom(
        Creative(body=body, call_to_action="Zugreifen!", link_uri="https://example.com/%F0%9F%8D%9C")
    )
    offer.redemption.CopyFrom(Redemption(opening_hours="Mo-Fr 11:00-15:00"))
    return offer


def rich_catalog(count: int, body: str = "Viel, und gut.") -> Catalog:
    """Return a catalogue of such offers around one venue."""
    catalog = Catalog(catalog_id="rich", offers=[rich(number, body) for number in range(count)])
    catalog.venues.add(venue_id="a:b.c_d-1", title="Café", point=HERE, radius_m=1000)
    return catalog


def request_of(**fields: object) -> pb.GetOffersRequest:
    """Return a request at the venue on a Monday noon."""
    request = pb.GetOffersRequest(**fields)  # type: ignore[arg-type]
    request.context.location.point.CopyFrom(HERE)
    request.context.time.seconds = NOON
    return request


def test_static_fields_come_through_in_any_script() -> None:
    """Title, benefit, creative, category, brand and redemption are the catalogue's, letter by letter."""
    catalog = rich_catalog(1)
    with service_of(catalog) as service:
        (got,) = pb.GetOffersResponse.FromString(service.get_offers(request_of().SerializeToString())).offers
    (offer,) = catalog.offers
    for part in ("title", "benefit", "creative", "category", "brand", "redemption"):
        assert getattr(offer, part) == getattr(got, part)
    assert ("a:b.c_d-1", True) == (got.venue_id, got.redeemable_now)


def test_room_for_the_answer_grows() -> None:
    """A hundred offers with bodies of 2,000 characters of four bytes each, 800 kB in all, arrive whole."""
    catalog = rich_catalog(100, "🍜" * 2_000)
    with service_of(catalog) as service:
        small = service.get_offers(request_of(max_offers=1).SerializeToString())
        large = pb.GetOffersResponse.FromString(service.get_offers(request_of(max_offers=100).SerializeToString()))
        again = service.get_offers(request_of(max_offers=1).SerializeToString())
    assert [offer.creative for offer in catalog.offers] == [offer.creative for offer in large.offers]
    assert len(small) == len(again)


def test_same_request_id_gives_the_same_bytes() -> None:
    """The same request gives the same answer byte by byte; another catalogue or request id gives other ids."""
    request = request_of(request_id="r-1", seed=7, view=pb.VIEW_FULL).SerializeToString()
    other = request_of(request_id="r-2", seed=7, view=pb.VIEW_FULL).SerializeToString()
    with service_of(rich_catalog(30)) as service, service_of(rich_catalog(30)) as restarted:
        wanted = service.get_offers(request)
        assert {wanted} == {service.get_offers(request) for _ in range(20)} | {restarted.get_offers(request)}
        ids = {pb.GetOffersResponse.FromString(service.get_offers(one)).decision_id for one in (request, other)}
    assert 2 == len(ids)


def test_without_request_id_only_the_ids_are_new() -> None:
    """Without a request id every answer has its own ids, and is the same in all else."""
    request = request_of(view=pb.VIEW_FULL).SerializeToString()
    with service_of(rich_catalog(12)) as service:
        answers = [pb.GetOffersResponse.FromString(service.get_offers(request)) for _ in range(50)]
    assert 50 == len({answer.decision_id for answer in answers})
    for answer in answers:
        names = [f"{answer.decision_id}-{rank}-" for rank in range(1, 11)]
        assert names == [offer.proposition_id[: len(name)] for name, offer in zip(names, answer.offers, strict=True)]
        answer.ClearField("decision_id")
        for offer in answer.offers:
            offer.ClearField("proposition_id")
    assert all(answers[0] == answer for answer in answers)


def test_batch_is_its_answers_one_after_the_other() -> None:
    """Each answer of a batch equals the answer to its request alone, at every length that needs another byte."""
    counts = [1, 2, 5, 10, 50, 100, 1]
    requests = [request_of(request_id=f"r{place}", max_offers=count) for place, count in enumerate(counts)]
    with service_of(rich_catalog(100, "x" * 900)) as service:
        alone = [service.get_offers(request.SerializeToString()) for request in requests]
        batch = pb.BatchGetOffersRequest(requests=requests)
        got = pb.BatchGetOffersResponse.FromString(service.batch_get_offers(batch.SerializeToString()))
    assert [pb.GetOffersResponse.FromString(one) for one in alone] == [result.response for result in got.results]


def test_no_score_is_zero() -> None:
    """However heavy the weights, a score is over 0, as the proto says."""
    catalog = Catalog(catalog_id="low", default_ranking_strategy_id="s")
    strategy = catalog.ranking_strategies.add(ranking_strategy_id="s", weights=FactorWeights(nearness=100))
    strategy.nearness.scale = 1
    circle = Circle(center=LatLng(latitude=48, longitude=2), radius_m=1e6)
    catalog.offers.add(offer_id="a", title="a", benefit=Benefit(custom="a"), target=Target(circles=[circle]))
    with service_of(catalog) as service:
        (got,) = pb.GetOffersResponse.FromString(service.get_offers(request_of().SerializeToString())).offers
    assert got.score > 0
