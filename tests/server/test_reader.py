"""What the scan reads of a request is what convert reads of its message, or nothing."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.errors import InvalidRequestError
from offers.model.query import Query
from offers.server import convert
from offers.server.limits import MAX_REQUEST_BYTES
from offers.server.reader import Reader, requests_of
from offers.server.scan import scan, scan_record
from offers.v1.offer_service_pb2 import BatchGetOffersRequest, GetOffersRequest

NOW = 1_795_311_000
READER = Reader()
"""Shared by all examples, so that they meet surfaces remembered from others."""

texts = st.sampled_from(["", "app", "fr-FR", "EUR", "Europe/Paris", "home", "é", "x" * 64, "x" * 65, "x" * 300])
degrees = st.sampled_from([0.0, -0.0, 48.8674, 2.3636, 90.0, -90.0, 180.0, -180.0, 90.1, 200.0, math.nan, math.inf])
seconds = st.sampled_from([0, 1, NOW, 4_102_444_799, 4_102_444_800, -1, 2**62])


@st.composite
def requests(draw: st.DrawFn) -> bytes:  # noqa: C901, PLR0912 - a choice per field
    """An encoded request, usual or not."""
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
    if draw(st.integers(0, 4)) == 0:
        context.attributes.update({"weather": "rain"})
    return request.SerializeToString()


def by_message(data: bytes) -> Query | None:
    """Read a request the long way; None if it is refused."""
    try:
        return convert.query_of(convert.parse(GetOffersRequest, data, MAX_REQUEST_BYTES), NOW)
    except InvalidRequestError:
        return None


def by_reader(data: bytes) -> Query | None:
    """Read a request as the service does; None if it is refused."""
    try:
        return READER.query_of(data, NOW)
    except InvalidRequestError:
        return None


@given(requests())
def test_requests_are_read_alike(data: bytes) -> None:
    """A request gives the same query, or is refused, whichever way it is read and how often."""
    expected = repr(by_message(data))  # the representation, since NaN differs from itself

    assert expected == repr(by_reader(data))
    assert expected == repr(by_reader(data))


@given(st.lists(requests(), min_size=2, max_size=3), st.integers(0, 2**32))
def test_damaged_requests_are_read_alike(parts: list[bytes], seed: int) -> None:
    """Cut, joined, repeated and altered bytes are never taken for more than they are."""
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

    assert repr(by_message(damaged)) == repr(by_reader(damaged))


def test_the_usual_request_is_scanned() -> None:
    """An app's request is read without its message: place, instant, person, session and ids are no part of the key."""
    request = GetOffersRequest(placement="home_feed", request_id="r-1", max_offers=5, seed=7)
    context = request.context
    context.location.point.latitude, context.location.point.longitude = 48.8674, 2.3636
    context.location.accuracy_m = 12.5
    context.time.seconds = NOW
    context.user.user_id = "u-1"
    context.session.session_id = "s-1"
    context.channel, context.language_code, context.currency_code = "app", "fr-FR", "EUR"
    record = scan_record()
    first = scan(request.SerializeToString(), record.table)
    key = record.arrays["key"][:first].tobytes()
    context.location.point.latitude, context.time.seconds, request.request_id = 1.0, NOW + 9, "r-2"
    context.user.anonymous_id, request.seed = "a-1", 2**64 - 1

    assert first > 0
    assert first == scan(request.SerializeToString(), record.table)
    assert key == record.arrays["key"][:first].tobytes()
    assert [1.0, 2.3636] == record.arrays["numbers"].tolist()


def test_a_batch_gives_its_requests_encoded() -> None:
    """Each request of a batch is read by itself, so that one that cannot be decoded fails alone."""
    good = GetOffersRequest(placement="p")
    batch = BatchGetOffersRequest(requests=[good]).SerializeToString() + b"\x0a\x02\x12\xff"

    assert [good.SerializeToString(), b"\x12\xff"] == requests_of(batch)
    with pytest.raises(InvalidRequestError, match="0 requests: send 1 to 1,000"):
        requests_of(b"")
