"""A request gets the same answer in one compiled call as step by step, or none there."""

import math
import random
from collections.abc import Iterator

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from offers.decision.engine import Engine
from offers.errors import InvalidRequestError
from offers.model.query import Query
from offers.server import convert
from offers.server.batch import requests_of
from offers.server.fast.answer import KEPT
from offers.server.fast.buffers import ThreadBuffers
from offers.server.fast.scan import scan
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import Session
from offers.v1.offer_pb2 import Benefit, Offer
from offers.v1.offer_service_pb2 import BatchGetOffersRequest, GetOffersRequest, GetOffersResponse
from tests.decision.kernels.test_kernels_equal_reference import engine_of

NOW = 1_795_311_000

texts = st.sampled_from(["", "app", "fr-FR", "EUR", "Europe/Paris", "home", "é", "x" * 64, "x" * 65, "x" * 300])
degrees = st.sampled_from([0.0, -0.0, 48.8674, 2.3636, 90.0, -90.0, 180.0, -180.0, 90.1, 200.0, math.nan, math.inf])
seconds = st.sampled_from([0, 1, NOW, 4_102_444_799, 4_102_444_800, -1, 2**62])


@st.composite
def requests(draw: st.DrawFn) -> bytes:  # noqa: C901, PLR0912 - a choice per field
    """Draw an encoded request, usual or not."""
    request = GetOffersRequest(placement=draw(texts), request_id=draw(texts), catalog=draw(texts))
    if draw(st.booleans()):
        request.max_offers = draw(st.sampled_from([0, 1, 10, 100, 101, -1]))
    if draw(st.booleans()):
        request.view = draw(st.sampled_from([0, 1, 2, 3, -1]))  # type: ignore[assignment]
    if draw(st.booleans()):
        request.seed = draw(st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]))
    context = request.context
    for name in ("time_zone", "channel", "language_code", "currency_code"):
        if draw(st.booleans()):
            setattr(context, name, draw(texts))
    if draw(st.booleans()):
        context.location.SetInParent()
        if draw(st.booleans()):
            context.location.point.latitude, context.location.point.longitude = draw(degrees), draw(degrees)
        if draw(st.booleans()):
            context.location.accuracy_m = draw(degrees)
        if draw(st.integers(0, 4)) == 0:
            context.location.observed_time.seconds = draw(seconds)
    if draw(st.booleans()):
        context.time.seconds = draw(seconds)
        context.time.nanos = draw(st.sampled_from([0, 1, 999_999_999, 1_000_000_000, -1]))
    if draw(st.booleans()):
        setattr(context.user, draw(st.sampled_from(["user_id", "anonymous_id"])), draw(texts))
    if draw(st.booleans()):
        context.session.session_id, context.session.entry_channel = draw(texts), draw(texts)
        if draw(st.booleans()):
            context.session.MergeFrom(draw(sessions()))
    if draw(st.integers(0, 4)) == 0:
        context.attributes.update({"weather": "rain"})
    return request.SerializeToString()


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Draw a session, usual or not."""
    session = Session(entry_campaign=draw(texts))
    if draw(st.booleans()):
        session.start_time.seconds = draw(seconds)
    for name in ("viewed_categories", "viewed_products", "micro_conversions"):
        for key in draw(st.lists(st.sampled_from(["sushi", "b", "", "é", "x" * 65, "x" * 129]), max_size=3)):
            getattr(session, name)[key].seconds = draw(seconds)
    for words in draw(st.lists(texts, max_size=3)):
        session.searches.add(query=words, search_time=draw(st.sampled_from([None, Timestamp(seconds=NOW)])))
    if draw(st.booleans()):
        for _ in range(draw(st.integers(0, 3))):
            item = session.basket.items.add(product_id=draw(texts), category=draw(texts), venue_id=draw(texts))
            if draw(st.booleans()):
                item.quantity = draw(st.sampled_from([0, 1, 1_000_000, 1_000_001, -1]))
        if draw(st.booleans()):
            session.basket.value.currency_code = draw(st.sampled_from(["EUR", "eur", "", "EU"]))
            session.basket.value.units = draw(st.sampled_from([0, 20, -1, 2**40]))
            session.basket.value.nanos = draw(st.sampled_from([0, 1, -1, 1_000_000_000]))
        if draw(st.booleans()):
            session.basket.update_time.seconds = draw(seconds)
    return session


def catalog() -> Catalog:
    """Make a catalogue in which placement, channel, language, currency, zone and place make a difference."""
    catalog = Catalog(catalog_id="app", time_zone="Asia/Tokyo", country_code="JP")
    catalog.placements.add(placement_id="home", max_offers=3)
    venue = catalog.venues.add(venue_id="v", title="v", radius_m=1000)
    venue.point.latitude, venue.point.longitude = 48.8674, 2.3636
    for number in range(12):
        offer = Offer(offer_id=f"o{number}", title=str(number), benefit=Benefit(custom="b"))
        if number % 3:
            offer.target.everywhere = True
        else:
            offer.target.venue_ids.append("v")
        if number % 2:
            offer.availability.opening_hours = ["Mo-Su 08:00-20:00", "PH off; Mo-Su 10:00-24:00"][number % 4 // 2]
        match number % 5:
            case 1:
                offer.placement_ids.append("home")
            case 2:
                offer.channels.append("app")
            case 3:
                offer.language_codes.append("fr")
            case 4:
                offer.currency_codes.append("EUR")
        catalog.offers.append(offer)
    return catalog


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Make an engine over the catalogue."""
    with engine_of(catalog()) as engine:
        yield engine


@pytest.fixture(scope="module")
def live(engine: Engine) -> Live:
    """Share the engines among all examples: they meet surfaces remembered from others."""
    return Live([engine])


def outcome(live: Live, data: bytes) -> str:
    """Return the answer to a request without its random ids, or why it is refused."""
    try:
        answer = GetOffersResponse.FromString(OfferService(live, lambda: NOW).get_offers(data))
    except InvalidRequestError as error:
        return str(error.violations)
    if not GetOffersRequest.FromString(data).request_id:
        answer.ClearField("decision_id")
        for offer in answer.offers:
            offer.ClearField("proposition_id")
    return str(answer)


@given(data=requests())
def test_requests_are_answered_alike(live: Live, engine: Engine, data: bytes) -> None:
    """A request gets the same answer or refusal, whichever way it takes and however often."""
    expected = outcome(Live([engine]), data)  # knows no surfaces: step by step

    assert expected == outcome(live, data)
    assert expected == outcome(live, data)


@given(parts=st.lists(requests(), min_size=2, max_size=3), seed=st.integers(0, 2**32))
def test_damaged_requests_are_answered_alike(live: Live, engine: Engine, parts: list[bytes], seed: int) -> None:
    """Requests that are cut, joined, repeated or altered get the same answer or refusal on both ways."""
    damage = random.Random(seed)
    data = bytearray(parts[0])
    for _ in range(damage.randrange(1, 4)):
        at = damage.randrange(len(data) + 1)
        other = parts[damage.randrange(len(parts))]
        match damage.randrange(4):
            case 0:
                data[at:at] = other
            case 1:
                del data[at : at + damage.randrange(9)]
            case 2 if at < len(data):
                data[at] = damage.randrange(256)
            case _:
                data += other[damage.randrange(len(other) + 1) :]
    damaged = bytes(data)

    assert outcome(Live([engine]), damaged) == outcome(live, damaged)


def usual() -> GetOffersRequest:
    """Return an app's request, with all that an app sends."""
    request = GetOffersRequest(placement="home", request_id="r-1", max_offers=5, seed=7)
    context = request.context
    context.location.point.latitude, context.location.point.longitude = 48.8674, 2.3636
    context.location.accuracy_m = 12.5
    context.time.seconds = NOW
    context.user.user_id = "u-1"
    session = context.session
    session.session_id, session.entry_campaign = "s-1", "summer"
    for name in ("sushi", "pizza"):
        session.viewed_categories[name].seconds = session.viewed_products[name].seconds = NOW - 60
    session.micro_conversions["reviews_read"].seconds = session.start_time.seconds = NOW - 90
    session.searches.add(query="sushi box", search_time=Timestamp(seconds=NOW - 80))
    session.basket.items.add(product_id="p", category="sushi", quantity=2)
    session.basket.value.currency_code, session.basket.value.units = "EUR", 24
    session.basket.update_time.seconds = NOW - 30
    context.channel, context.language_code, context.currency_code = "app", "fr-FR", "EUR"
    return request


def test_the_usual_request_is_scanned() -> None:
    """Place, instant, person, session and ids are not part of the key."""
    request, buffers = usual(), ThreadBuffers()
    context = request.context
    first = scan(request.SerializeToString(), buffers.table)
    key = buffers.key[:first].tobytes()
    context.location.point.latitude, context.time.seconds, request.request_id = 1.0, NOW + 9, "r-2"
    context.user.anonymous_id, request.seed = "a-1", 2**64 - 1

    assert first > 0
    assert first == scan(request.SerializeToString(), buffers.table)
    assert key == buffers.key[:first].tobytes()
    assert [1.0, 2.3636, 12.5] == buffers.numbers[:3].tolist()


@pytest.mark.parametrize("request_id", ["", "r-1"])
def test_the_usual_request_takes_one_call(engine: Engine, monkeypatch: pytest.MonkeyPatch, request_id: str) -> None:
    """Only the first request of a surface, and of a minute, goes step by step."""
    times: list[int] = []
    query_of = convert.query_of

    def noted(request: GetOffersRequest, now: int) -> Query:
        times.append(request.context.time.seconds)
        return query_of(request, now)

    monkeypatch.setattr(convert, "query_of", noted)
    service, request = OfferService(Live([engine]), lambda: NOW), usual()
    request.request_id = request_id
    minute = NOW - NOW % 60
    for second in (minute, minute + 1, minute + 59, minute + 60, minute + 119):
        request.context.time.seconds = second
        request.context.user.user_id = f"u-{second}"
        service.get_offers(request.SerializeToString())

    assert [minute, minute + 60] == times


def test_surfaces_are_forgotten_when_there_are_too_many(live: Live, engine: Engine) -> None:
    """However many surfaces are asked for, memory is bounded and answers stay right."""
    service = OfferService(live, lambda: NOW)
    request = GetOffersRequest()
    before = live.known
    for number in range(KEPT + 3):
        request.context.channel = f"c{number}"
        service.get_offers(request.SerializeToString())
    data = request.SerializeToString()

    assert before is not live.known
    assert outcome(Live([engine]), data) == outcome(live, data)


def test_an_empty_request_id_is_none(live: Live) -> None:
    """A request id written as an empty field gives new ids, however often."""
    service = OfferService(live, lambda: NOW)
    ids = {GetOffersResponse.FromString(service.get_offers(b"\x32\x00")).decision_id for _ in range(5)}

    assert 5 == len(ids)


def test_lengths_written_too_long_are_refused_always(live: Live) -> None:
    """A length of six bytes is not valid protobuf, also where the surface is known."""
    service = OfferService(live, lambda: NOW)
    service.get_offers(b"")
    with pytest.raises(InvalidRequestError):
        service.get_offers(b"\x32\x83\x80\x80\x80\x80\x00abc")


def test_a_new_catalogue_answers_at_once(engine: Engine) -> None:
    """Surfaces of an engine are forgotten with it."""
    live = Live([engine])
    service = OfferService(live, lambda: NOW)
    other = catalog()
    del other.offers[2:]
    with engine_of(other) as smaller:
        for wanted, one in ((8, engine), (1, smaller)):
            live.swap([one])
            for _ in range(2):
                assert wanted == GetOffersResponse.FromString(service.get_offers(b"")).eligible_count


def test_a_batch_gives_its_requests_encoded() -> None:
    """Each request of a batch is read by itself, so that one that cannot be decoded fails alone."""
    good = GetOffersRequest(placement="p")
    batch = BatchGetOffersRequest(requests=[good]).SerializeToString() + b"\x0a\x02\x12\xff"

    assert [good.SerializeToString(), b"\x12\xff"] == requests_of(batch)
    with pytest.raises(InvalidRequestError, match="0 requests: send 1 to 1,000"):
        requests_of(b"")
