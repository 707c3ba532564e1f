"""The client's calls about persons, against real servers: events, profiles and links, errors and deadlines."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from offers.client import (
    ERASE_TIMEOUT_S,
    STORE_TIMEOUT_S,
    AsyncOffersClient,
    OffersCallError,
    OffersClient,
    context,
    error_of,
    person,
)
from offers.errors import FieldViolation
from offers.testing import Served, serving
from offers.v1 import event_service_pb2, profile_service_pb2
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    Context,
    User,
)
from offers.v1.event_pb2 import CustomEvent, Event, Impression
from offers.v1.event_service_pb2 import (
    ReportEventsRequest,
    ReportEventsResponse,
    StreamEventsRequest,
)
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import (
    DeleteProfileRequest,
    ExportProfileRequest,
    GetProfileRequest,
    GetProfileResponse,
    LinkIdentitiesRequest,
    UpdateProfileRequest,
)
from tests.server.fronts.fronts import FRONTS

AGREED = (CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING)
ADA = person(user_id="ada", consent=AGREED)
SERVICES = {
    service.full_name: service
    for file in (event_service_pb2, profile_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
}
CALLS: list[tuple[str, Any, float]] = [
    ("report_events", ReportEventsRequest(), STORE_TIMEOUT_S),
    ("get_profile", GetProfileRequest(), STORE_TIMEOUT_S),
    ("update_profile", UpdateProfileRequest(), STORE_TIMEOUT_S),
    ("delete_profile", DeleteProfileRequest(), ERASE_TIMEOUT_S),
    ("export_profile", ExportProfileRequest(), ERASE_TIMEOUT_S),
    ("link_identities", LinkIdentitiesRequest(), STORE_TIMEOUT_S),
]
"""Each unary call with a request, and its default deadline in seconds."""


@pytest.fixture(params=FRONTS, scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Serve the demo catalogue behind each front."""
    with serving(front=request.param) as running:
        yield running


def custom(event_id: str, user: User = ADA) -> Event:
    """Return an event of a person, a second ago."""
    event = Event(event_id=event_id, user=user, custom=CustomEvent(name="looked"))
    event.event_time.seconds = int(time.time()) - 1
    return event


@contextmanager
def answering(answer: Callable[[bytes, grpc.ServicerContext], bytes]) -> Iterator[str]:
    """Run a gRPC server of which every unary method of both services is `answer`, and yield its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    for name, service in SERVICES.items():
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method.name: grpc.unary_unary_rpc_method_handler(answer)
            for method in service.methods
            if not method.client_streaming
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_a_person_is_reported_read_changed_linked_exported_and_erased(served: Served) -> None:
    """The calls do what the service does, from the first event to the erasure."""
    user = person(user_id="eve", consent=AGREED)
    profile = Profile()
    profile.attributes["city"] = "Lyon"
    with OffersClient(served.target) as client:
        reported = client.report_events(ReportEventsRequest(events=[custom("e-1", user), custom("e-1", user)]))
        changed = client.update_profile(UpdateProfileRequest(user=user, profile=profile))
        linked = client.link_identities(
            LinkIdentitiesRequest(user_id="eve", anonymous_ids=["phone"], consent=user.consent)
        )
        read = client.get_profile(GetProfileRequest(user=person(anonymous_id="phone")))
        exported = client.export_profile(ExportProfileRequest(user=user))
        erased = client.delete_profile(DeleteProfileRequest(user=user))
        with pytest.raises(OffersCallError) as unknown:
            client.get_profile(GetProfileRequest(user=user))

    assert [False, True] == [result.duplicate for result in reported.results]
    assert "Lyon" == changed.profile.attributes["city"]
    assert ["phone"] == list(linked.profile.anonymous_ids)
    assert linked.profile == read.profile
    assert ["e-1"] == [event.event_id for event in exported.events]
    assert 1 == erased.event_count
    assert grpc.StatusCode.NOT_FOUND == unknown.value.code


def test_the_asyncio_client_has_the_same_calls(served: Served) -> None:
    """AsyncOffersClient reports, streams, reads, changes, links, exports and erases alike."""
    user = person(user_id="bob", consent=AGREED)

    async def tell() -> tuple[Any, ...]:
        async def messages() -> AsyncIterator[StreamEventsRequest]:
            for number in range(3):
                yield StreamEventsRequest(events=[custom(f"b-{number}", user)])

        async with AsyncOffersClient(served.target) as client:
            reported = await client.report_events(ReportEventsRequest(events=[custom("b-0", user)]))
            streamed = await client.stream_events(messages(), timeout_s=10)
            changed = await client.update_profile(UpdateProfileRequest(user=user, profile=Profile()))
            linked = await client.link_identities(
                LinkIdentitiesRequest(user_id="bob", anonymous_ids=["laptop"], consent=user.consent)
            )
            read = await client.get_profile(GetProfileRequest(user=user))
            exported = await client.export_profile(ExportProfileRequest(user=user))
            erased = await client.delete_profile(DeleteProfileRequest(user=user))
            with pytest.raises(OffersCallError) as refused:
                await client.update_profile(UpdateProfileRequest())
        return reported, streamed, changed, linked, read, exported, erased, refused.value

    reported, streamed, changed, linked, read, exported, erased, refused = asyncio.run(tell())

    assert not reported.results[0].HasField("status")
    assert (2, 1) == (streamed.accepted_count, streamed.duplicate_count)
    assert "bob" == changed.profile.user.user_id
    assert linked.profile == read.profile
    assert 3 == len(exported.events)
    assert 3 == erased.event_count
    assert "user.user_id" in {violation.field for violation in refused.violations}


def test_a_stream_of_events_is_reported(served: Served) -> None:
    """The outcome counts the events of all messages, and names those that were refused."""
    messages: Iterable[StreamEventsRequest] = [
        StreamEventsRequest(events=[custom("s-1"), Event(event_id="s-2")]),
        StreamEventsRequest(events=[custom("s-1")]),
    ]
    with OffersClient(served.target) as client:
        told = client.stream_events(messages, timeout_s=10)

    assert (1, 1, 1) == (told.accepted_count, told.duplicate_count, told.refused_count)
    assert "s-2" == told.refused[0].event_id


def test_a_refused_event_is_decoded(served: Served) -> None:
    """`error_of` makes an OffersCallError with the invalid fields of the status of a result."""
    with OffersClient(served.target) as client:
        (result,) = client.report_events(ReportEventsRequest(events=[Event(event_id="r-1", user=ADA)])).results
    error = error_of(result.status)

    assert grpc.StatusCode.INVALID_ARGUMENT == error.code
    assert error.violations
    assert all(isinstance(violation, FieldViolation) for violation in error.violations)


def test_a_status_of_an_unknown_code_is_unknown() -> None:
    """A code that gRPC does not have becomes UNKNOWN, with the message."""
    error = error_of(Status(code=99, message="later code"))

    assert (grpc.StatusCode.UNKNOWN, "later code") == (error.code, error.message)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == error_of(Status(code=code_pb2.RESOURCE_EXHAUSTED)).code


def test_attributes_need_consent(served: Served) -> None:
    """FAILED_PRECONDITION becomes an OffersCallError without fields."""
    profile = Profile()
    profile.attributes["city"] = "Lyon"
    with OffersClient(served.target) as client, pytest.raises(OffersCallError) as caught:
        client.update_profile(UpdateProfileRequest(user=person(user_id="nobody", consent=()), profile=profile))

    assert grpc.StatusCode.FAILED_PRECONDITION == caught.value.code
    assert () == caught.value.violations


@pytest.mark.parametrize(("call", "request_", "default_s"), CALLS)
def test_every_call_has_a_deadline_retries_and_metadata(call: str, request_: Any, default_s: float) -> None:  # noqa: ANN401
    """A call has its default deadline unless it is given one, is retried while UNAVAILABLE, and carries metadata."""
    seen: list[tuple[float, str]] = []

    def answer(_data: bytes, served: grpc.ServicerContext) -> bytes:
        remaining: Any = served.time_remaining()
        seen.append((remaining, dict(served.invocation_metadata()).get("x-tenant", "")))  # type: ignore[arg-type]
        if len(seen) < 3:
            served.abort(grpc.StatusCode.UNAVAILABLE, "the worker went away")
        return b""

    with answering(answer) as target, OffersClient(target, timeout_s=0.01) as client:
        getattr(client, call)(request_, metadata=[("x-tenant", "paris")])
        getattr(client, call)(request_, timeout_s=3)

    assert ["paris", "paris", "paris", ""] == [tenant for _, tenant in seen]
    assert all(default_s - 5 < remaining < default_s + 1 for remaining, _ in seen[:3])
    assert 0 < seen[3][0] < 4


def test_a_slow_server_is_given_up() -> None:
    """DEADLINE_EXCEEDED is raised after the call's own timeout."""

    def never(_data: bytes, _served: grpc.ServicerContext) -> bytes:
        time.sleep(1)
        return GetProfileResponse().SerializeToString()

    with answering(never) as target, OffersClient(target) as client, pytest.raises(OffersCallError) as caught:
        client.get_profile(GetProfileRequest(user=ADA), timeout_s=0.2)

    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code


def test_a_person_has_one_identity_and_may_have_consent() -> None:
    """`person` and `context` say who it is and what was agreed to; consent of nobody raises ValueError."""
    assert User(anonymous_id="v") == person(anonymous_id="v")
    assert User(user_id="u", consent=ConsentGrants()) == person(user_id="u", consent=())
    assert Context(user=ADA) == context(user_id="ada", consent=AGREED)
    for user_id, anonymous_id in (("", ""), ("u", "v")):
        with pytest.raises(ValueError, match="give one"):
            person(user_id, anonymous_id)
    with pytest.raises(ValueError, match="give user_id or anonymous_id"):
        context(consent=AGREED)


def test_an_impression_of_an_answer_is_reported(served: Served) -> None:
    """The proposition of an answer can be reported with the client that got it."""
    event = Event(event_id="i-1", user=ADA, offer_id="fallback-browse", impression=Impression())
    event.event_time.seconds = int(time.time())
    with OffersClient(served.target) as client:
        told: ReportEventsResponse = client.report_events(ReportEventsRequest(events=[event]))

    assert not told.results[0].HasField("status")
