"""Sizes over a real server: events, attributes, profiles and exports that are too large."""

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from offers.client import OffersClient
from offers.errors import BusyError
from offers.model.attributes import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES
from offers.server import exports, profile_service
from offers.server.limits import MAX_CONSENTS, MAX_EVENT_BYTES, MAX_PATHS
from offers.server.profile_service import MOST_EXPORTS, ProfileService
from offers.settings import Settings
from offers.state.person.merge import merge
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, User
from offers.v1.event_pb2 import CustomEvent, Event, Impression, Item, Order
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import Consent, Profile
from offers.v1.profile_service_pb2 import (
    ExportProfileRequest,
    ExportProfileResponse,
    LinkIdentitiesRequest,
    StreamExportProfileRequest,
    UpdateProfileRequest,
)
from offers.v1.state_pb2 import UserState
from tests.server.fronts.test_waiting_clients import raw
from tests.server.persons import NOW, Server, event, known, server
from tests.server.running import wait_for

EACH = 9
"""Text attributes of an event, together over 15,000 bytes."""


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with stores that the tests share, each with persons of its own."""
    with server(tmp_path_factory.mktemp("sizes")) as running:
        yield running


def custom(**attributes: Any) -> CustomEvent:  # noqa: ANN401 - JSON
    """Return the details of an event with attributes."""
    made = CustomEvent(name="survey")
    made.attributes.update(attributes)
    return made


def violations(error: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - a status or a failed call
    """Return the fields and the reasons of a refusal."""
    status = error if hasattr(error, "details") and not callable(error.details) else rpc_status.from_call(error)
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    return [(one.field, one.description) for one in bad.field_violations]


def refused(call: Callable[[Any], object], request: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - a message
    """Return the fields and the reasons for which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    code: Any = caught.value
    assert grpc.StatusCode.INVALID_ARGUMENT == code.code()
    return violations(caught.value)


def test_events_that_are_too_large_or_not_numbers_are_refused_alone(at: Server) -> None:
    """Each is named with its index, field, limit and value; the one beside them is taken in."""
    items = [Item(product_id="x" * 128, brand="é" * 128, category="y" * 128) for _ in range(100)]
    large = Order(items=items)
    for item in large.items:
        item.venue_id = "漢" * 128
    sent = [
        event("large", "sizes", order=large),
        event("nan", "sizes", custom=custom(a={"b": [math.nan]})),
        event("long", "sizes", custom=custom(a="x" * MAX_ATTRIBUTE_BYTES)),
        event("view", "sizes", offer_id="lunch", impression=Impression(in_view=Duration(seconds=86_401))),
        event("negative", "sizes", offer_id="lunch", impression=Impression(in_view=Duration(nanos=-1))),
        event("exact", "sizes", custom=custom(a=2.0**53)),
        event("fine", "sizes", offer_id="lunch", impression=Impression(in_view=Duration(seconds=86_400))),
    ]
    results = at.report(*sent)

    told = [violations(one.status)[0] for one in results[:-1]]
    assert [
        "events[0]", "events[1].custom.attributes.a.b[0]", "events[2].custom.attributes",
        "events[3].impression.in_view", "events[4].impression.in_view", "events[5].custom.attributes.a",
    ] == [field for field, _ in told]  # fmt: skip
    assert f"{sent[0].ByteSize():,} bytes: send at most {MAX_EVENT_BYTES:,}" == told[0][1]
    assert "send 0 to 86,400 seconds" in told[3][1]
    assert not results[-1].HasField("status")


def test_unknown_fields_are_not_kept(at: Server) -> None:
    """Fields that this server does not know would otherwise be stored and exported, unread."""
    sent = event("unknown", "unknown", offer_id="lunch", click={})
    strange = Event.FromString(sent.SerializeToString() + b"\xfa\x3f\x05hello")
    assert b"hello" in strange.SerializeToString()
    at.report(strange)
    consent = Consent(purpose=CONSENT_PURPOSE_PROFILING, granted=True)
    consent.MergeFromString(b"\xfa\x3f\x05hello")
    at.profiles.UpdateProfile(
        UpdateProfileRequest(user=known("unknown"), profile=Profile(consents=[consent])), timeout=10
    )
    export = at.profiles.ExportProfile(ExportProfileRequest(user=User(user_id="unknown")), timeout=10)

    assert ["unknown"] == [one.event_id for one in export.events]
    assert b"hello" not in export.SerializeToString()


def test_attributes_of_a_request_have_limits(at: Server) -> None:
    """GetOffers names the attribute whose value cannot be used."""
    request = GetOffersRequest()
    request.context.attributes.update({"weather": math.nan, "party": 2.0**53, "name": "x"})
    call = OfferServiceStub(at.served.channel).GetOffers

    assert ["context.attributes.party", "context.attributes.weather"] == [
        field for field, _ in refused(lambda one: call(one, timeout=10), request)
    ]
    request.context.attributes.Clear()
    request.context.attributes.update({"text": "x" * MAX_ATTRIBUTE_BYTES})
    ((field, reason),) = refused(lambda one: call(one, timeout=10), request)
    assert ("context.attributes", True) == (field, f"send at most {MAX_ATTRIBUTE_BYTES:,}" in reason)


def test_a_change_has_limits(at: Server) -> None:
    """Of paths and consents, beside those of attributes."""
    request = UpdateProfileRequest(user=known("changes"))
    request.update_mask.paths.extend(f"attributes.a{number}" for number in range(MAX_PATHS + 1))
    request.profile.consents.extend([Consent(purpose=CONSENT_PURPOSE_PROFILING)] * (MAX_CONSENTS + 1))
    request.profile.attributes.update({"deep": {"x": math.nan}})

    told = refused(lambda one: at.profiles.UpdateProfile(one, timeout=10), request)

    assert ["update_mask.paths", "profile.attributes.deep.x", "profile.consents"] == [field for field, _ in told]


def test_long_exports_come_in_parts(at: Server) -> None:
    """In one message an export of over 4 MiB is refused; the parts are bounded, and together they are all of it."""
    body = {f"text{number}": "x" * 1_700 for number in range(EACH)}
    sent = [event(f"long{number}", "long", NOW - number, custom=custom(**body)) for number in range(300)]
    for first in range(0, len(sent), 150):
        assert not any(one.HasField("status") for one in at.report(*sent[first : first + 150]))
    user = User(user_id="long")
    with pytest.raises(grpc.RpcError) as caught:
        at.profiles.ExportProfile(ExportProfileRequest(user=user), timeout=60)
    call: Any = caught.value
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, True) == (call.code(), "StreamExportProfile" in call.details())

    parts = [one.part for one in at.profiles.StreamExportProfile(StreamExportProfileRequest(user=user), timeout=60)]
    whole = ExportProfileResponse()
    for part in parts:
        whole.MergeFrom(part)

    assert len(parts) > 10
    assert all(part.ByteSize() <= exports.PART_BYTES + MAX_EVENT_BYTES for part in parts)
    assert [f"long{number}" for number in reversed(range(300))] == [one.event_id for one in whole.events]
    assert [""] * 300 == list(whole.geohashes)
    (kept,) = whole.kept_logs
    assert (300, NOW - 299, NOW) == (kept.count, kept.first_time.seconds, kept.last_time.seconds)
    assert "long" == whole.profile.user.user_id
    with OffersClient(at.served.target) as client:
        assert whole == client.export_profile(ExportProfileRequest(user=user))


def test_streamed_exports_are_refused_as_others(at: Server) -> None:
    """A person who is not known, and one without an id."""
    for user, code in (
        (User(user_id="nobody"), grpc.StatusCode.NOT_FOUND),
        (User(), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            list(at.profiles.StreamExportProfile(StreamExportProfileRequest(user=user), timeout=10))
        call: Any = caught.value
        assert code == call.code()


def service_of(at: Server) -> ProfileService:
    """Return a service of its own over the server's stores."""
    state, log, ledger = at.served.stores
    kept = Settings().retention_days
    return ProfileService(
        state, log, ledger, clock=lambda: NOW, default_consent=frozenset({CONSENT_PURPOSE_PROFILING}),
        retention_days=kept,
    )  # fmt: skip


def test_only_so_many_exports_are_under_way(at: Server) -> None:
    """One more is refused, until one of the others ends or is given up."""
    at.report(event("one", "many", offer_id="lunch", click={}))
    service = service_of(at)
    request = StreamExportProfileRequest(user=User(user_id="many")).SerializeToString()
    under_way = [service.stream_export_profile(request) for _ in range(MOST_EXPORTS)]
    assert all(next(one) for one in under_way)
    with pytest.raises(BusyError, match="try again later"):
        next(service.stream_export_profile(request))
    under_way.pop()
    assert next(service.stream_export_profile(request))


def test_clients_that_take_no_part_hold_nobody_up(at: Server) -> None:
    """Their exports wait, others are answered, and once they are gone there is room again."""
    at.report(event("slow", "slow", offer_id="lunch", click={}))
    asked = StreamExportProfileRequest(user=User(user_id="slow"))
    data = asked.SerializeToString()
    with raw(at.served, window=0) as connection:
        for _ in range(2 * MOST_EXPORTS):
            connection.call("/offers.v1.ProfileService/StreamExportProfile", struct.pack(">BI", 0, len(data)) + data)
        assert OfferServiceStub(at.served.channel).GetOffers(GetOffersRequest(), timeout=30).catalog_version
    wait_for(lambda: exports_of(at, asked) > 0, "an export")


def exports_of(at: Server, asked: StreamExportProfileRequest) -> int:
    """Return how many parts an export has; 0 while too many are under way."""
    try:
        return len(list(at.profiles.StreamExportProfile(asked, timeout=30)))
    except grpc.RpcError as error:
        failed: Any = error
        assert grpc.StatusCode.RESOURCE_EXHAUSTED == failed.code()
        return 0


def test_a_person_has_so_many_visitors(at: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linking those again is no further one."""
    monkeypatch.setattr(profile_service, "MAX_VISITORS", 2)
    call = at.profiles.LinkIdentities
    request = LinkIdentitiesRequest(user_id="social", anonymous_ids=["v1", "v2"], consent=known("social").consent)
    for _ in range(2):
        assert ["v1", "v2"] == list(call(request, timeout=10).profile.anonymous_ids)
    with pytest.raises(grpc.RpcError) as caught:
        call(LinkIdentitiesRequest(user_id="social", anonymous_ids=["v3"], consent=request.consent), timeout=10)
    told: Any = caught.value
    assert grpc.StatusCode.FAILED_PRECONDITION == told.code()
    assert "would have 3 visitors: link at most 2" in told.details()


@pytest.mark.parametrize(
    ("own", "theirs", "entries"),
    [
        ({f"a{number}": 1 for number in range(99)}, {"b": 1, "c": 1}, MAX_ATTRIBUTES),
        ({"a": "x" * 9_000}, {"b": "x" * 9_000, "c": 1}, 2),
    ],
)
def test_merged_attributes_keep_to_their_limits(own: dict[str, Any], theirs: dict[str, Any], entries: int) -> None:
    """Of a visitor's attributes, those that have no room are dropped."""
    records = []
    for attributes in (own, theirs):
        written = Struct()
        written.update(attributes)
        records.append(UserState(profile=Profile(attributes=written)).SerializeToString())
    merged = UserState.FromString(merge(*records)).profile.attributes

    assert entries == len(merged.fields)
    assert set(own) < set(merged.fields)
    assert merged.ByteSize() <= MAX_ATTRIBUTE_BYTES
