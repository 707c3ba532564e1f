"""A typed client of the offer service, blocking and asyncio: deadlines, retries and errors that name the fields."""

import asyncio
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack
from uuid import uuid4

import grpc
import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from offers.errors import FieldViolation, OffersError
from offers.v1.context_pb2 import Context, Location, User
from offers.v1.offer_service_pb2 import (
    DESCRIPTOR,
    BatchGetOffersRequest,
    BatchGetOffersResponse,
    ExplainOffersRequest,
    ExplainOffersResponse,
    GetOffersRequest,
    GetOffersResponse,
)
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.venue_pb2 import TravelMode

SERVICE: Final = DESCRIPTOR.services_by_name["OfferService"].full_name
DEFAULT_TIMEOUT_S: Final = 1.0
"""Far longer than a decision takes, and no longer than a screen waits for its offers."""
EXPLAIN_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.05
"""Pause between health checks of a server that is up but not yet serving."""

SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            # Only UNAVAILABLE: the call did not reach a worker, or the worker stopped. A retry may reach another one;
            # all other errors would repeat.
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # When more than about one call in ten fails, stop retrying, so that retries do not overload the server.
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
CHANNEL_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # Detects a dead connection within 40 s, also while idle; servers permit a ping every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A worker restarts within seconds; gRPC's default back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Answers to 1,000 contexts may exceed gRPC's default of 4 MiB, and come from a trusted server.
    ("grpc.max_receive_message_length", -1),
)

Options = Sequence[tuple[str, Any]]
Metadata = Sequence[tuple[str, str | bytes]]


class OffersCallError(OffersError):
    """A call that ended with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, message: str, violations: Sequence[FieldViolation] = ()) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.violations = tuple(violations)
        """The invalid fields, where the code is INVALID_ARGUMENT."""


class ContextFields(TypedDict, total=False):
    """The arguments of `context`, all of them optional."""

    lat: float | None
    """Latitude in degrees; goes with `lng`."""
    lng: float | None
    """Longitude in degrees."""
    accuracy_m: float | None
    """Radius in metres that the person is within with a probability of 68 %."""
    observed_at: datetime | None
    """When `lat` and `lng` were measured, with its UTC offset."""
    movement: "TravelMode.ValueType"
    """How the person has moved since `observed_at`."""
    at: datetime | None
    """The instant to decide for, with its UTC offset; by default the instant the request arrives."""
    time_zone: str
    """IANA name."""
    user_id: str
    anonymous_id: str
    """The id of a visitor who has not signed in; excludes `user_id`."""
    language: str
    """BCP 47 tag."""
    currency: str
    """Code of ISO 4217."""
    channel: str
    attributes: Mapping[str, Any] | None


def context(**fields: Unpack[ContextFields]) -> Context:
    """Return a Context with the given fields; see ContextFields.

    Raises ValueError for one coordinate without the other, for accuracy, observation or movement without a position,
    for two identities, and for an instant without an offset. Raises TypeError for an unknown argument.
    """
    if unknown := fields.keys() - ContextFields.__annotations__.keys():
        raise TypeError(f"context() has no argument '{min(unknown)}'")
    made = Context(
        time=_timestamp(fields.get("at")),
        time_zone=fields.get("time_zone", ""),
        language_code=fields.get("language", ""),
        currency_code=fields.get("currency", ""),
        channel=fields.get("channel", ""),
        location=_location(fields),
        user=_user(fields),
    )
    if (attributes := fields.get("attributes")) is not None:
        made.attributes.update(attributes)
    return made


def _location(fields: ContextFields) -> Location | None:
    lat, lng = fields.get("lat"), fields.get("lng")
    accuracy_m, observed_at = fields.get("accuracy_m"), fields.get("observed_at")
    movement = fields.get("movement", TravelMode.TRAVEL_MODE_UNSPECIFIED)
    if (lat is None) != (lng is None):
        message = "lat and lng go together: give both or neither"
        raise ValueError(message)
    if lat is None or lng is None:
        if accuracy_m is not None or observed_at is not None or movement:
            message = "accuracy_m, observed_at and movement say how well lat and lng are known: give them too"
            raise ValueError(message)
        return None
    location = Location(accuracy_m=accuracy_m, observed_time=_timestamp(observed_at), movement=movement)
    location.point.latitude, location.point.longitude = lat, lng
    return location


def _user(fields: ContextFields) -> User | None:
    user_id, anonymous_id = fields.get("user_id", ""), fields.get("anonymous_id", "")
    if user_id and anonymous_id:
        message = "a person is known by user_id or by anonymous_id: give one"
        raise ValueError(message)
    if user_id:
        return User(user_id=user_id)
    return User(anonymous_id=anonymous_id) if anonymous_id else None


def _timestamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    if instant.tzinfo is None:
        message = f"{instant} could be any instant: give it a time zone"
        raise ValueError(message)
    return Timestamp(seconds=math.floor(instant.timestamp()))


class _Client:
    """The parts that both clients share."""

    def __init__(
        self,
        grpc_module: Any,  # noqa: ANN401 - grpc or grpc.aio, which make channels alike
        target: str,
        credentials: grpc.ChannelCredentials | None,
        timeout_s: float,
        options: Options,
    ) -> None:
        arguments = list({**dict(CHANNEL_OPTIONS), **dict(options)}.items())
        self._channel = (
            grpc_module.insecure_channel(target, options=arguments)
            if credentials is None
            else grpc_module.secure_channel(target, credentials, options=arguments)
        )
        self._target = target
        self._timeout_s = timeout_s
        self._offers = OfferServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s


class OffersClient(_Client):
    """A blocking client of the service at `target`, such as "localhost:50051"; safe to share between threads.

    Without `credentials` the connection is plain text. `timeout_s` is the default deadline of calls, retries included.
    `options` are gRPC channel arguments that override CHANNEL_OPTIONS.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        options: Options = (),
    ) -> None:
        """Create a channel; it connects with the first call."""
        super().__init__(grpc, target, credentials, timeout_s, options)

    def get_offers(
        self, request: GetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> GetOffersResponse:
        """Decide for one context. Raises OffersCallError.

        A request without a `request_id` is sent with a new one, so that retries return the same ids and are counted
        once. Each try is decided anew; without a `time` in the context, for the instant it arrives.
        """
        with _raising_call_errors():
            response: GetOffersResponse = self._offers.GetOffers(
                _identified(request), timeout=self._timeout(timeout_s), metadata=metadata
            )
        return response

    def batch_get_offers(
        self, request: BatchGetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> BatchGetOffersResponse:
        """Decide for 1 to 1,000 contexts; each result is a response or a status. Raises OffersCallError.

        Requests without a `request_id` get one each, as in `get_offers`.
        """
        with _raising_call_errors():
            response: BatchGetOffersResponse = self._offers.BatchGetOffers(
                _all_identified(request), timeout=self._timeout(timeout_s), metadata=metadata
            )
        return response

    def explain(
        self, request: ExplainOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ExplainOffersResponse:
        """Explain why offers are or are not in an answer. Raises OffersCallError.

        Takes milliseconds for each offer; the default deadline is EXPLAIN_TIMEOUT_S.
        """
        with _raising_call_errors():
            response: ExplainOffersResponse = self._offers.ExplainOffers(
                request, timeout=EXPLAIN_TIMEOUT_S if timeout_s is None else timeout_s, metadata=metadata
            )
        return response

    def wait_until_serving(self, timeout_s: float) -> None:
        """Wait until the server reports SERVING. Raises OffersCallError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        while True:
            left = deadline - time.monotonic()
            try:
                health = self._health.Check(request, timeout=max(left, 0), wait_for_ready=True)
            except grpc.RpcError as error:
                if _code_of(error) is not grpc.StatusCode.UNAVAILABLE or left <= 0:
                    raise _not_serving(self._target, timeout_s, error) from error
            else:
                if health.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            time.sleep(POLL_S)

    def close(self) -> None:
        """End the calls under way and the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncOffersClient(_Client):
    """OffersClient for asyncio, with the same arguments, calls and errors. Create and use it in one event loop."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        options: Options = (),
    ) -> None:
        """Create a channel; it connects with the first call."""
        super().__init__(grpc.aio, target, credentials, timeout_s, options)

    async def get_offers(
        self, request: GetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> GetOffersResponse:
        """Decide for one context, as OffersClient does."""
        with _raising_call_errors():
            response: GetOffersResponse = await self._offers.GetOffers(
                _identified(request), timeout=self._timeout(timeout_s), metadata=metadata
            )
        return response

    async def batch_get_offers(
        self, request: BatchGetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> BatchGetOffersResponse:
        """Decide for 1 to 1,000 contexts, as OffersClient does."""
        with _raising_call_errors():
            response: BatchGetOffersResponse = await self._offers.BatchGetOffers(
                _all_identified(request), timeout=self._timeout(timeout_s), metadata=metadata
            )
        return response

    async def explain(
        self, request: ExplainOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ExplainOffersResponse:
        """Explain why offers are or are not in an answer. Raises OffersCallError.

        Takes milliseconds for each offer; the default deadline is EXPLAIN_TIMEOUT_S.
        """
        with _raising_call_errors():
            response: ExplainOffersResponse = await self._offers.ExplainOffers(
                request, timeout=EXPLAIN_TIMEOUT_S if timeout_s is None else timeout_s, metadata=metadata
            )
        return response

    async def wait_until_serving(self, timeout_s: float) -> None:
        """Wait until the server reports SERVING. Raises OffersCallError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        while True:
            left = deadline - time.monotonic()
            try:
                health = await self._health.Check(request, timeout=max(left, 0), wait_for_ready=True)
            except grpc.RpcError as error:
                if _code_of(error) is not grpc.StatusCode.UNAVAILABLE or left <= 0:
                    raise _not_serving(self._target, timeout_s, error) from error
            else:
                if health.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """End the calls under way and the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


@contextmanager
def _raising_call_errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise _call_error(error) from error


def _identified(request: GetOffersRequest) -> GetOffersRequest:
    """Return the request with an id; a copy if it had none, as the caller's next call with it is another decision."""
    if request.request_id:
        return request
    copy = GetOffersRequest()
    copy.CopyFrom(request)
    copy.request_id = uuid4().hex
    return copy


def _all_identified(request: BatchGetOffersRequest) -> BatchGetOffersRequest:
    return BatchGetOffersRequest(requests=map(_identified, request.requests))


def _code_of(error: grpc.RpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()  # errors of both clients are calls, too
    return code


def _call_error(error: grpc.RpcError) -> OffersCallError:
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # a proxy changed the code or message, but not the details
        status = None
    violations = []
    for detail in status.details if status is not None else ():
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            violations += [FieldViolation(field.field, field.description) for field in bad.field_violations]
    return OffersCallError(_code_of(error), error.details() or "", violations)


def _not_serving(target: str, timeout_s: float, error: grpc.RpcError) -> OffersCallError:
    if _code_of(error) in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}:
        message = f"{target} is not serving after {timeout_s:g} s"
        return OffersCallError(grpc.StatusCode.UNAVAILABLE, message)
    return _call_error(error)
