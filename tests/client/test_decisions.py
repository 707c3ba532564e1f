"""The client against real servers: answers, ids, retries, deadlines, and errors that name the fields."""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import grpc
import pytest
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2

from offers.client import AsyncOffersClient, OffersCallError, OffersClient, context
from offers.errors import FieldViolation, OffersError
from offers.testing import Served, serving
from offers.v1.context_pb2 import Context
from offers.v1.offer_service_pb2 import BatchGetOffersRequest, GetOffersRequest, GetOffersResponse
from offers.v1.venue_pb2 import TravelMode
from tests.server.fronts.fronts import FRONTS

REPUBLIQUE = context(lat=48.8674, lng=2.3636, at=datetime(2026, 11, 24, 11, 15, tzinfo=UTC))
NOWHERE = context(lat=91.0, lng=181.0)
REFUSED = (
    FieldViolation("context.location.point.latitude", "91.0 is out of range: send degrees from -90 to 90"),
    FieldViolation("context.location.point.longitude", "181.0 is out of range: send degrees from -180 to 180"),
)

Answer = Callable[[bytes, grpc.ServicerContext], bytes]


@pytest.fixture(params=FRONTS, scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Serve the demo catalogue behind each front."""
    with serving(front=request.param) as running:
        yield running


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """Run a gRPC server whose GetOffers is `answer`, and yield its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    handler = grpc.method_handlers_generic_handler("offers.v1.OfferService", {"GetOffers": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_it_brings_back_the_ranked_offers(served: Served) -> None:
    """The answer of a running server is returned as a message, best offer first."""
    with OffersClient(served.target) as client:
        response = client.get_offers(GetOffersRequest(context=REPUBLIQUE, max_offers=3))

    assert [1, 2, 3] == [offer.rank for offer in response.offers]
    scores = [offer.score for offer in response.offers]
    assert sorted(scores, reverse=True) == scores
    assert 32 == len(response.decision_id)


def test_a_request_id_decides_the_ids_of_the_answer(served: Served) -> None:
    """The same request id gives the same decision and proposition ids."""
    request = GetOffersRequest(context=REPUBLIQUE, request_id="r-1")
    with OffersClient(served.target) as client:
        first, second = client.get_offers(request), client.get_offers(request)

    assert first == second


def test_calls_without_a_request_id_are_different_decisions(served: Served) -> None:
    """The client sets an id per call in a copy: the caller's message stays as it is, and ids do not repeat."""
    request = GetOffersRequest(context=REPUBLIQUE)
    batch = BatchGetOffersRequest(requests=[request, request])
    with OffersClient(served.target) as client:
        ids = {client.get_offers(request).decision_id, client.get_offers(request).decision_id}
        ids |= {result.response.decision_id for result in client.batch_get_offers(batch).results}

    assert 4 == len(ids)
    assert "" == request.request_id
    assert ["", ""] == [one.request_id for one in batch.requests]


def test_a_batch_answers_each_context_on_its_own(served: Served) -> None:
    """An invalid request of a batch gets a status, the others their offers."""
    batch = BatchGetOffersRequest(requests=[GetOffersRequest(context=NOWHERE), GetOffersRequest(context=REPUBLIQUE)])
    with OffersClient(served.target) as client:
        bad, good = client.batch_get_offers(batch).results

    assert code_pb2.INVALID_ARGUMENT == bad.status.code
    assert good.response.offers


def test_a_refused_request_names_the_fields(served: Served) -> None:
    """INVALID_ARGUMENT becomes an OffersError with code and field violations, chained from gRPC's own."""
    with OffersClient(served.target) as client, pytest.raises(OffersError) as caught:
        client.get_offers(GetOffersRequest(context=NOWHERE))

    error = caught.value
    assert isinstance(error, OffersCallError)
    assert grpc.StatusCode.INVALID_ARGUMENT == error.code
    assert REFUSED == error.violations
    assert isinstance(error.__cause__, grpc.RpcError)


def test_a_refused_batch_names_the_field(served: Served) -> None:
    """A batch without requests is refused as a whole."""
    with OffersClient(served.target) as client, pytest.raises(OffersCallError) as caught:
        client.batch_get_offers(BatchGetOffersRequest())

    assert ["requests"] == [violation.field for violation in caught.value.violations]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_an_unavailable_worker_is_tried_again_with_the_same_request_id(code: grpc.StatusCode) -> None:
    """A call that a stopping worker ends, or drops, is tried up to three times, so that no answer is lost."""
    seen: list[str] = []

    def answer(data: bytes, call: grpc.ServicerContext) -> bytes:
        seen.append(GetOffersRequest.FromString(data).request_id)
        if len(seen) < 3:
            call.abort(code, "the worker went away")
        return GetOffersResponse(decision_id="third").SerializeToString()

    with answering(answer) as target, OffersClient(target, timeout_s=5) as client:
        response = client.get_offers(GetOffersRequest())

    assert "third" == response.decision_id
    assert 3 == len(seen)
    assert 1 == len(set(seen))
    assert 32 == len(seen[0])


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_other_failures_are_not_tried_again(code: grpc.StatusCode) -> None:
    """Other errors are raised at once, without retries or field violations."""
    tries = itertools.count()

    def answer(_data: bytes, call: grpc.ServicerContext) -> bytes:
        next(tries)
        call.abort(code, "no")
        raise AssertionError

    with (
        answering(answer) as target,
        OffersClient(target, timeout_s=5) as client,
        pytest.raises(OffersCallError) as caught,
    ):
        client.get_offers(GetOffersRequest())

    assert 1 == next(tries)
    assert code == caught.value.code
    assert "no" == caught.value.message
    assert () == caught.value.violations


@pytest.mark.parametrize("per_call", [None, 0.2])
def test_every_call_has_a_deadline(per_call: float | None) -> None:
    """A server that does not answer is given up after the client's timeout, or the call's own."""

    def never(data: bytes, _call: grpc.ServicerContext) -> bytes:
        time.sleep(1)
        return data

    with (
        answering(never) as target,
        OffersClient(target, timeout_s=0.2 if per_call is None else 60) as client,
        pytest.raises(OffersCallError) as caught,
    ):
        client.get_offers(GetOffersRequest(), timeout_s=per_call)

    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code


def test_metadata_reaches_the_server() -> None:
    """Metadata of a call, such as a trace or tenant, reaches the server."""
    seen: dict[str, str | bytes] = {}

    def answer(_data: bytes, call: grpc.ServicerContext) -> bytes:
        seen.update({key: value for key, value in call.invocation_metadata()})  # noqa: C416 - pairs of a named tuple
        return b""

    with answering(answer) as target, OffersClient(target, timeout_s=5) as client:
        client.get_offers(GetOffersRequest(), metadata=[("x-tenant", "paris")])

    assert "paris" == seen["x-tenant"]


def test_it_waits_until_the_server_serves(served: Served) -> None:
    """The wait ends when the server reports SERVING, or with the timeout."""
    with OffersClient(served.target) as client:
        client.wait_until_serving(5)
    with OffersClient("127.0.0.1:1") as client, pytest.raises(OffersCallError) as caught:
        client.wait_until_serving(0.3)

    assert grpc.StatusCode.UNAVAILABLE == caught.value.code
    assert "127.0.0.1:1 is not serving after 0.3 s" == caught.value.message


def test_a_server_that_is_not_ready_is_waited_for() -> None:
    """NOT_SERVING prolongs the wait until the server reports SERVING."""
    with serving() as running, OffersClient(running.target) as client, ThreadPoolExecutor(1) as pool:
        running.worker.health.set("offers.v1.OfferService", health_pb2.HealthCheckResponse.NOT_SERVING)
        waiting = pool.submit(client.wait_until_serving, 10)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        running.worker.health.set("offers.v1.OfferService", health_pb2.HealthCheckResponse.SERVING)

        assert waiting.result(10) is None


def test_the_asyncio_client_answers_and_refuses_alike(served: Served) -> None:
    """AsyncOffersClient returns the same answers and raises the same errors as OffersClient."""
    request = GetOffersRequest(context=REPUBLIQUE, request_id="r-2")

    async def ask() -> tuple[GetOffersResponse, OffersCallError, OffersCallError]:
        async with AsyncOffersClient(served.target) as client:
            await client.wait_until_serving(5)
            response = await client.get_offers(request)
            batch = await client.batch_get_offers(BatchGetOffersRequest(requests=[request]))
            assert response == batch.results[0].response
            with pytest.raises(OffersCallError) as refused:
                await client.get_offers(GetOffersRequest(context=NOWHERE))
        async with AsyncOffersClient("127.0.0.1:1") as client:
            with pytest.raises(OffersCallError) as absent:
                await client.wait_until_serving(0.3)
        return response, refused.value, absent.value

    response, refused, absent = asyncio.run(ask())

    with OffersClient(served.target) as client:
        assert client.get_offers(request) == response
    assert grpc.StatusCode.INVALID_ARGUMENT == refused.code
    assert REFUSED == refused.violations
    assert "127.0.0.1:1 is not serving after 0.3 s" == absent.message


def test_context_says_what_is_known() -> None:
    """Every argument of `context` sets its field; omitted ones stay absent."""
    made = context(
        lat=1.5,
        lng=-2.5,
        accuracy_m=20.0,
        observed_at=datetime(2026, 11, 24, 12, 5, 30, tzinfo=UTC),
        movement=TravelMode.TRAVEL_MODE_CYCLING,
        at=datetime(2026, 11, 24, 12, 15, 30, 999_999, tzinfo=UTC),
        time_zone="Europe/Paris",
        user_id="u",
        language="fr",
        currency="EUR",
        channel="app",
        attributes={"weather": "rain"},
    )

    assert (1.5, -2.5, 20.0) == (made.location.point.latitude, made.location.point.longitude, made.location.accuracy_m)
    assert (1795521930, TravelMode.TRAVEL_MODE_CYCLING) == (made.location.observed_time.seconds, made.location.movement)
    assert (1795522530, 0) == (made.time.seconds, made.time.nanos)
    assert "u" == made.user.user_id
    assert ("Europe/Paris", "fr", "EUR") == (made.time_zone, made.language_code, made.currency_code)
    assert ("app", "rain") == (made.channel, made.attributes["weather"])
    assert "a" == context(anonymous_id="a").user.anonymous_id
    assert Context() == context()


@pytest.mark.parametrize(
    "known",
    [
        {"lat": 1.0},
        {"lng": 1.0},
        {"accuracy_m": 1.0},
        {"observed_at": datetime(2026, 11, 24, tzinfo=UTC)},
        {"movement": TravelMode.TRAVEL_MODE_WALKING},
        {"lat": 1.0, "lng": 1.0, "observed_at": datetime(2026, 11, 24)},  # noqa: DTZ001 - the fault
        {"user_id": "u", "anonymous_id": "a"},
        {"at": datetime(2026, 11, 24)},  # noqa: DTZ001 - the fault
    ],
)
def test_context_refuses_what_cannot_be_meant(known: dict[str, object]) -> None:
    """Half a position, two identities and an instant without a zone raise ValueError."""
    with pytest.raises(ValueError, match="give"):
        context(**known)  # type: ignore[arg-type]


def test_context_knows_its_arguments() -> None:
    """An unknown argument raises TypeError, as with any function."""
    with pytest.raises(TypeError, match="latitude"):
        context(latitude=48.0)  # type: ignore[call-arg]


def test_it_connects_again_within_a_second_of_the_server_s_return() -> None:
    """However long a server was away, the pauses between two attempts to connect stay below a second."""
    attempts: list[float] = []
    with socket.socket() as away:
        away.bind(("127.0.0.1", 0))
        away.listen()

        def refuse() -> None:
            with suppress(OSError):
                while len(attempts) < 10:
                    connection, _ = away.accept()
                    attempts.append(time.monotonic())
                    connection.close()

        refusing = threading.Thread(target=refuse)
        refusing.start()
        with OffersClient(f"127.0.0.1:{away.getsockname()[1]}") as client:
            while refusing.is_alive():
                with suppress(OffersCallError):
                    client.get_offers(GetOffersRequest(), timeout_s=0.5)
                time.sleep(0.02)
    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    # The shortest of the last, because a busy machine makes any of them longer. Pauses grow from 0.1 s, by 1.6.
    assert 0.2 < min(pauses[-3:]) < 0.75
