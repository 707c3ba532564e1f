"""A bad request is refused with an INVALID_ARGUMENT that names each field, over a real connection."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.protobuf import struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from offers.errors import ConflictError, FieldViolation, InvalidRequestError, OffersError
from offers.server.statuses import status_of
from offers.testing import Served, serving
from offers.v1 import offer_service_pb2 as pb
from offers.v1.offer_service_pb2_grpc import OfferServiceStub

GET, BATCH = "/offers.v1.OfferService/GetOffers", "/offers.v1.OfferService/BatchGetOffers"
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Start a server of the demo catalogue."""
    with serving() as server:
        yield server


def send(served: Served, request: bytes, method: str = GET) -> bytes:
    """Send bytes unchanged and return the bytes of the answer."""
    call: Any = served.channel.unary_unary(method)
    answer: bytes = call(request, timeout=10)
    return answer


def refusal(served: Served, request: bytes, method: str = GET) -> tuple[grpc.StatusCode, list[str], status_pb2.Status]:
    """Return the code, the fields named, and the whole status of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        send(served, request, method)
    call: Any = caught.value
    status = rpc_status.from_call(call)
    assert status is not None
    return call.code(), fields_of(status), status


def fields_of(status: status_pb2.Status) -> list[str]:
    """Return the fields that a status names, and check that its details are those of a refusal."""
    bad, info = error_details_pb2.BadRequest(), error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(bad)
    assert status.details[1].Unpack(info)
    assert ("INVALID_REQUEST", "offers") == (info.reason, info.domain)
    assert all(violation.description for violation in bad.field_violations)
    return [violation.field for violation in bad.field_violations]


def point(latitude: float, longitude: float) -> pb.GetOffersRequest:
    """Return a request at a position."""
    request = pb.GetOffersRequest()
    request.context.location.point.latitude, request.context.location.point.longitude = latitude, longitude
    return request


def with_context(**parts: Any) -> pb.GetOffersRequest:  # noqa: ANN401 - parts of a Context
    """Return a request with some fields of a context."""
    return pb.GetOffersRequest(context=parts)  # type: ignore[arg-type]


LATITUDE, LONGITUDE = "context.location.point.latitude", "context.location.point.longitude"
BAD: list[tuple[pb.GetOffersRequest, list[str]]] = [
    (point(90.000001, 0), [LATITUDE]),
    (point(-91, 0), [LATITUDE]),
    (point(NAN, 0), [LATITUDE]),
    (point(0, NAN), [LONGITUDE]),
    (point(INFINITY, -INFINITY), [LATITUDE, LONGITUDE]),
    (point(0, 180.000001), [LONGITUDE]),
    (point(1e308, -1e308), [LATITUDE, LONGITUDE]),
    (with_context(location={}), ["context.location.point"]),
    (with_context(location={"point": {}, "accuracy_m": -1}), ["context.location.accuracy_m"]),
    (with_context(location={"point": {}, "accuracy_m": NAN}), ["context.location.accuracy_m"]),
    (with_context(location={"point": {}, "accuracy_m": 1e7}), ["context.location.accuracy_m"]),
    (with_context(location={"point": {}, "observed_time": {"seconds": -1}}), ["context.location.observed_time"]),
    (with_context(time={"seconds": -1}), ["context.time"]),
    (with_context(time={"seconds": 4_102_444_800}), ["context.time"]),
    (with_context(time={"seconds": 2**63 - 1}), ["context.time"]),
    (with_context(time={"nanos": -1}), ["context.time"]),
    (with_context(time={"nanos": 1_000_000_000}), ["context.time"]),
    (with_context(time_zone="Europe/Atlantis"), ["context.time_zone"]),
    (with_context(time_zone="../../etc/passwd"), ["context.time_zone"]),
    (with_context(time_zone="europe/paris\0"), ["context.time_zone"]),
    (with_context(channel="x" * 65), ["context.channel"]),
    (with_context(language_code="français"), ["context.language_code"]),
    (with_context(language_code="fr_FR"), ["context.language_code"]),
    (with_context(currency_code="eur"), ["context.currency_code"]),
    (with_context(currency_code="€€€"), ["context.currency_code"]),
    (with_context(user={}), ["context.user.user_id"]),
    (with_context(user={"user_id": ""}), ["context.user.user_id"]),
    (with_context(user={"user_id": "a\0b"}), ["context.user.user_id"]),
    (with_context(user={"anonymous_id": "x" * 257}), ["context.user.anonymous_id"]),
    (with_context(session={"session_id": "x" * 257}), ["context.session.session_id"]),
    (with_context(session={"entry_channel": "x" * 65}), ["context.session.entry_channel"]),
    (with_context(session={"start_time": {"seconds": -(2**62)}}), ["context.session.start_time"]),
    (with_context(session={"entry_campaign": "x" * 129}), ["context.session.entry_campaign"]),
    (
        with_context(session={"viewed_categories": {str(number): {} for number in range(51)}}),
        ["context.session.viewed_categories"],
    ),
    (with_context(session={"viewed_products": {"": {}, "x": {}}}), ["context.session.viewed_products"]),
    (
        with_context(session={"micro_conversions": {"x" * 65: {}, "y": {"seconds": -1}}}),
        ["context.session.micro_conversions"],
    ),
    (
        with_context(session={"micro_conversions": {"x": {"seconds": -1}, "y": {"seconds": -1}}}),
        ["context.session.micro_conversions[x]"],
    ),
    (with_context(session={"searches": [{"query": "x"}] * 21}), ["context.session.searches"]),
    (
        with_context(session={"searches": [{"query": "x"}, {"search_time": {"nanos": -1}}, {}]}),
        ["context.session.searches[1].query", "context.session.searches[1].search_time"],
    ),
    (with_context(session={"basket": {}}), ["context.session.basket.items"]),
    (with_context(session={"basket": {"items": [{}] * 101}}), ["context.session.basket.items"]),
    (
        with_context(session={"basket": {"items": [{}, {"category": "x" * 129, "quantity": 0}]}}),
        ["context.session.basket.items[1].category", "context.session.basket.items[1].quantity"],
    ),
    (
        with_context(session={"basket": {"items": [{}], "value": {"units": -1}, "update_time": {"seconds": -1}}}),
        [
            "context.session.basket.value.currency_code",
            "context.session.basket.value.units",
            "context.session.basket.update_time",
        ],
    ),
    (
        with_context(attributes={"fields": {str(number): struct_pb2.Value(bool_value=True) for number in range(101)}}),
        ["context.attributes"],
    ),
    (pb.GetOffersRequest(max_offers=0), ["max_offers"]),
    (pb.GetOffersRequest(max_offers=-1), ["max_offers"]),
    (pb.GetOffersRequest(max_offers=10**9), ["max_offers"]),
    (pb.GetOffersRequest(max_offers=101), ["max_offers"]),
    (pb.GetOffersRequest(view=3), ["view"]),  # type: ignore[arg-type]
    (pb.GetOffersRequest(view=-(2**31)), ["view"]),  # type: ignore[arg-type]
    (pb.GetOffersRequest(placement="nowhere"), ["placement"]),
    (pb.GetOffersRequest(placement="x" * 129), ["placement"]),
    (pb.GetOffersRequest(placement="💥" * 128), ["placement"]),
    (pb.GetOffersRequest(request_id="x" * 129), ["request_id"]),
    (pb.GetOffersRequest(catalog="nowhere"), ["catalog"]),
    (pb.GetOffersRequest(catalog="x" * 1_000_000), ["catalog"]),
    (pb.GetOffersRequest(catalog="💥" * 200_000), ["catalog"]),
]


@pytest.mark.parametrize(
    ("request_", "fields"), BAD, ids=lambda value: ",".join(value) if isinstance(value, list) else ""
)
def test_bad_field_is_named(served: Served, request_: pb.GetOffersRequest, fields: list[str]) -> None:
    """Each field that cannot be used gets the call refused, and is named exactly, and no other is."""
    code, named, status = refusal(served, request_.SerializeToString())
    assert (grpc.StatusCode.INVALID_ARGUMENT, fields) == (code, named)
    assert all(field in status.message for field in fields)


def worst() -> pb.GetOffersRequest:
    """Return a request in which every field is wrong, and every value repeated in a refusal is very long."""
    request = point(-1.2345678901234567e-300 - 91, 1.2345678901234567e300)
    context = request.context
    context.location.accuracy_m = -1.2345678901234567e-300
    context.location.observed_time.seconds = context.time.seconds = context.session.start_time.seconds = -(2**63)
    context.time_zone = context.channel = context.language_code = context.currency_code = "💥" * 10_000
    context.user.user_id = context.session.session_id = context.session.entry_channel = "💥" * 10_000
    for number in range(101):
        context.attributes.fields[str(number)].bool_value = True
    request.max_offers, request.view = -(2**31), -(2**31)  # type: ignore[assignment]
    request.placement = request.request_id = "💥" * 10_000
    return request


def test_all_bad_fields_are_named_at_once(served: Served) -> None:
    """A request in which every field is wrong gets one answer that names each, and that fits a client's limits."""
    code, named, _ = refusal(served, worst().SerializeToString())
    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert [
        LATITUDE,
        LONGITUDE,
        "context.location.accuracy_m",
        "context.location.observed_time",
        "context.time",
        "context.time_zone",
        "context.channel",
        "context.language_code",
        "context.currency_code",
        "context.user.user_id",
        "context.session.session_id",
        "context.session.entry_channel",
        "context.session.start_time",
        "context.attributes",
        "max_offers",
        "view",
        "placement",
        "request_id",
    ] == named


def test_batch_item_fails_alone(served: Served) -> None:
    """A bad item of a batch gets the status that a single call would get; its neighbours get their answers."""
    requests = [
        pb.GetOffersRequest(request_id="a"),
        *(bad for bad, _ in BAD[:40]),
        worst(),
        pb.GetOffersRequest(request_id="z"),
    ]
    response = OfferServiceStub(served.channel).BatchGetOffers(pb.BatchGetOffersRequest(requests=requests), timeout=10)
    kinds = [result.WhichOneof("result") for result in response.results]
    assert ["response", *["status"] * 41, "response"] == kinds
    for (bad, fields), result in zip(BAD[:40], response.results[1:], strict=False):
        assert (code_pb2.INVALID_ARGUMENT, fields) == (result.status.code, fields_of(result.status))
        assert refusal(served, bad.SerializeToString())[2] == result.status
    assert all(result.response.decision_id for result in (response.results[0], response.results[-1]))


@pytest.mark.parametrize("count", [0, 1_001])
def test_batch_of_a_wrong_size_is_refused(served: Served, count: int) -> None:
    """A batch of none or of more than 1,000 is refused whole."""
    batch = pb.BatchGetOffersRequest(requests=[pb.GetOffersRequest()] * count)
    code, named, _ = refusal(served, batch.SerializeToString(), BATCH)
    assert (grpc.StatusCode.INVALID_ARGUMENT, ["requests"]) == (code, named)


def test_batch_of_a_thousand_is_answered(served: Served) -> None:
    """A batch of just 1,000 gets 1,000 answers."""
    batch = pb.BatchGetOffersRequest(requests=[pb.GetOffersRequest(max_offers=1)] * 1_000)
    response = OfferServiceStub(served.channel).BatchGetOffers(batch, timeout=30)
    assert {"response": 1_000} == {"response": sum(result.HasField("response") for result in response.results)}


@pytest.mark.parametrize(("method", "limit"), [(GET, 1 << 20), (BATCH, 4 << 20)])
def test_oversized_message_is_refused(served: Served, method: str, limit: int) -> None:
    """A message one byte above its limit is refused as too large; one far above it ends the call as gRPC does."""
    code, named, status = refusal(served, b"\x3a" + b"x" * limit, method)
    assert (grpc.StatusCode.INVALID_ARGUMENT, ["request"]) == (code, named)
    assert f"{limit + 1:,} bytes" in status.message
    with pytest.raises(grpc.RpcError) as caught:
        send(served, b"x" * (9 << 20), method)
    call: Any = caught.value
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == call.code()


def test_largest_message_is_answered(served: Served) -> None:
    """A request of just 1 MiB, most of it offers that were seen, is answered."""
    request = pb.GetOffersRequest(request_id="large")
    times = [Timestamp(seconds=1_795_000_000)] * 400
    while (1 << 20) - request.ByteSize() > 4_000:
        request.seen.add(offer_id=f"o{len(request.seen)}", times=times)
    while (1 << 20) - request.ByteSize() > 60:
        request.seen.add(offer_id="last", times=times[:3])
    while request.ByteSize() < 1 << 20:
        request.request_id += "x"
    assert (1 << 20) == request.ByteSize()
    assert OfferServiceStub(served.channel).GetOffers(request, timeout=10).offers


def deep(levels: int) -> bytes:
    """Return a request whose attributes hold nested lists."""
    value = struct_pb2.Value(bool_value=True)
    for _ in range(levels):
        outer = struct_pb2.Value()
        outer.list_value.values.append(value)
        value = outer
    request = pb.GetOffersRequest()
    request.context.attributes.fields["deep"].CopyFrom(value)
    return request.SerializeToString()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff",
        b"\x0a\xff\xff\xff\xff\x0f",  # a length beyond the end
        b"\x12\x02\xc3\x28",  # placement that is not UTF-8
        b"\x0b",  # a group that does not end
        b"\x00\x01",  # field number 0
        b"\x07",  # wire type 7
        b"\x18" + b"\xff" * 11,  # a varint of eleven bytes
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(range(256)) * 16,
    ],
    ids=lambda garbage: garbage[:8].hex(),
)
def test_garbage_is_refused(served: Served, garbage: bytes) -> None:
    """Bytes that are no message are refused by both methods."""
    for method in (GET, BATCH):
        code, named, _ = refusal(served, garbage, method)
        unknown_to_batch = method == BATCH and garbage[:1] == b"\x12"
        assert (grpc.StatusCode.INVALID_ARGUMENT, ["requests" if unknown_to_batch else "request"]) == (code, named)


def test_nesting_has_an_end(served: Served) -> None:
    """Attributes have 8 levels at most; a message deeper than protobuf reads is refused as a whole."""
    assert send(served, deep(7))
    for levels in (8, 40):
        _, named, _ = refusal(served, deep(levels))
        assert [f"context.attributes.deep{'[0]' * 7}"] == named
    inner = b"\x32\x04\x0a\x02\x20\x01"
    for _ in range(300):
        inner = b"\x32" + _length(b"\x0a" + _length(inner))
    attributes = b"\x0a" + _length(b"\x0a\x01a\x12" + _length(inner))
    too_deep = b"\x0a" + _length(b"\x2a" + _length(attributes))
    code, named, _ = refusal(served, too_deep)
    assert (grpc.StatusCode.INVALID_ARGUMENT, ["request"]) == (code, named)


def _length(data: bytes) -> bytes:
    number, head = len(data), bytearray()
    while number > 127:
        head.append(number & 127 | 128)
        number >>= 7
    return bytes([*head, number]) + data


@pytest.mark.parametrize("unknown", [b"", b"\xa0\x06\x01", b"\xa2\x06\x05hello"])
def test_empty_and_newer_requests_work(served: Served, unknown: bytes) -> None:
    """An empty request means now and anywhere; fields of a newer schema are ignored."""
    response = pb.GetOffersResponse.FromString(send(served, unknown))
    assert response.decision_id
    assert response.catalog_version


def test_unknown_method_is_unimplemented(served: Served) -> None:
    """An unknown method gets UNIMPLEMENTED."""
    with pytest.raises(grpc.RpcError) as caught:
        send(served, b"", "/offers.v1.OfferService/Nothing")
    error: Any = caught.value
    assert grpc.StatusCode.UNIMPLEMENTED == error.code()


def test_batch_of_too_large_answers_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers beyond the limit of a batch are refused one by one, and those before them are sent."""
    monkeypatch.setattr("offers.server.offer_service.MAX_BATCH_RESPONSE_BYTES", 3_000)
    document = tmp_path / "small.yaml"
    body = "b" * 1_000
    document.write_text(
        f"catalog_id: c\noffers: [{{offer_id: a, title: t, benefit: {{percent_off: 1}}, creative: {{body: {body}}},"
        " target: {everywhere: true}}]"
    )
    with serving(document) as small:
        batch = pb.BatchGetOffersRequest(requests=[pb.GetOffersRequest()] * 4)
        results = pb.BatchGetOffersResponse.FromString(send(small, batch.SerializeToString(), BATCH)).results
    assert ["response", "response", "status", "status"] == [one.WhichOneof("result") for one in results]
    assert code_pb2.RESOURCE_EXHAUSTED == results[2].status.code


def test_a_message_is_too_large_also_where_its_surface_is_known(served: Served) -> None:
    """The size limit does not depend on earlier requests."""
    session = pb.GetOffersRequest()
    session.context.session.session_id = "s" * 200
    usual = session.SerializeToString()
    send(served, usual)
    padded = pb.GetOffersRequest()
    padded.context.session.SetInParent()
    inner = (b"\x0a\xc8\x01" + b"s" * 200) * 6_000
    code, fields, _ = refusal(served, b"\x0a" + _length(b"\x32" + _length(inner)))
    assert (grpc.StatusCode.INVALID_ARGUMENT, ["request"]) == (code, fields)


def test_however_much_is_wrong_the_answer_fits_into_headers(served: Served) -> None:
    """Of a thousand faults, as many are named as headers hold, and how many more there are."""
    request = pb.ExplainOffersRequest(request=pb.GetOffersRequest(), offer_ids=[""] * 1_000)
    code, fields, status = refusal(served, request.SerializeToString(), "/offers.v1.OfferService/ExplainOffers")
    info = error_details_pb2.ErrorInfo()
    status.details[1].Unpack(info)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "offer_ids[0]" in fields
    assert str(1_000 - len(fields)) == info.metadata["violations_left_out"]
    assert status.message.endswith("more")


@pytest.mark.parametrize("letter", ["x", "%", "é", "店", "😀"])
@pytest.mark.parametrize("kind", [ConflictError, lambda text: InvalidRequestError([FieldViolation(text, text)] * 9)])
def test_long_texts_are_cut_to_what_headers_hold(letter: str, kind: Callable[[str], OffersError]) -> None:
    """In headers a message is ASCII and percent-encoded, and the details are in Base64: together under 8 kB."""
    status = status_of(kind(letter * 10_000))
    encoded = quote(status.message, safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~")
    assert len(encoded) + status.ByteSize() * 4 / 3 < 8_000
    assert "..." in status.message
