"""A typed client of the offer service, blocking and asyncio: deadlines, retries and errors that name the fields."""

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import grpc
import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from offers.errors import FieldViolation, OffersError
from offers.v1.context_pb2 import Context, Location
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
"""Far above what a decision takes, and no longer than a screen would wait for its offers."""
EXPLAIN_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.05
"""Between two looks at a server that is up but not yet serving."""

SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            # Only UNAVAILABLE: the call did not reach a worker, or the worker went away. Another try may reach a live
            # one; everything else would end the same way.
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # When more than about one call in ten fails, stop retrying: retries must not bury a server that struggles.
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
CHANNEL_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # A connection that died silently is noticed within 40 s, also while idle; servers permit a ping every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A worker is back within seconds: do not wait out gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # The answers to 1,000 contexts may well exceed gRPC's 4 MiB, and come from our own server.
    ("grpc.max_receive_message_length", -1),
)

Options = Sequence[tuple[str, Any]]
Metadata = Sequence[tuple[str, str | bytes]]


class OffersCallError(OffersError):
    """A call that ended with another status than OK."""

    def __init__(self, code: grpc.StatusCode, message: str, violations: Sequence[FieldViolation] = ()) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.violations = tuple(violations)
        """The fields that cannot be used, where the code is INVALID_ARGUMENT."""


def context(  # noqa: PLR0913 - what is known of a moment, each by name
    *,
    lat: float | None = None,
    lng: float | None = None,
    accuracy_m: float | None = None,
    observed_at: datetime | None = None,
    movement: "TravelMode.ValueType" = TravelMode.TRAVEL_MODE_UNSPECIFIED,
    at: datetime | None = None,
    time_zone: str = "",
    user_id: str = "",
    anonymous_id: str = "",
    language: str = "",
    currency: str = "",
    channel: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> Context:
    """Make a Context of what is known: degrees, instants with their UTC offset, the rest as in its proto.

    `observed_at` is when `lat` and `lng` were measured, `movement` how the person moves since then.

    Raises ValueError for one coordinate without the other, what is said of a position without one, two identities, or
    an instant without an offset.
    """
    if (lat is None) != (lng is None):
        message = "lat and lng go together: give both or neither"
        raise ValueError(message)
    if lat is None and (accuracy_m is not None or observed_at is not None or movement):
        message = "accuracy_m, observed_at and movement say how well lat and lng are known: give them too"
        raise ValueError(message)
    if user_id and anonymous_id:
        message = "a person is known by user_id or by anonymous_id: give one"
        raise ValueError(message)
    made = Context(
        time=_timestamp(at), time_zone=time_zone, language_code=language, currency_code=currency, channel=channel
    )
    if lat is not None and lng is not None:
        observed = _timestamp(observed_at)
        made.location.CopyFrom(Location(accuracy_m=accuracy_m, observed_time=observed, movement=movement))
        made.location.point.latitude, made.location.point.longitude = lat, lng
    if user_id:
        made.user.user_id = user_id
    elif anonymous_id:
        made.user.anonymous_id = anonymous_id
    if attributes is not None:
        made.attributes.update(attributes)
    return made


def _timestamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    if instant.tzinfo is None:
        message = f"{instant} could be any instant: give it a time zone"
        raise ValueError(message)
    return Timestamp(seconds=math.floor(instant.timestamp()))


class OffersClient:
    """Calls the offer service at `target`, such as "localhost:50051"; safe to share between threads.

    Without `credentials` the connection is plain text. `timeout_s` is the deadline of calls that name none, retries
    included; `options` are gRPC channel arguments that go before our own.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        options: Options = (),
    ) -> None:
        """Make a channel; it connects with the first call."""
        arguments = _options(options)
        self._channel = (
            grpc.insecure_channel(target, options=arguments)
            if credentials is None
            else grpc.secure_channel(target, credentials, options=arguments)
        )
        self._target = target
        self._timeout_s = timeout_s
        self._offers = OfferServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def get_offers(
        self, request: GetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> GetOffersResponse:
        """Decide for one context. Raises OffersCallError.

        A request without a `request_id` is sent with a new one, so that all tries of this call give the same ids and
        are counted once. A try decides anew: without a `time` in the context, for the instant it arrives.
        """
        try:
            response: GetOffersResponse = self._offers.GetOffers(
                _identified(request), timeout=self._timeout(timeout_s), metadata=metadata
            )
        except grpc.RpcError as error:
            raise _call_error(error) from error
        return response

    def batch_get_offers(
        self, request: BatchGetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> BatchGetOffersResponse:
        """Decide for 1 to 1,000 contexts; each result is a response or a status. Raises OffersCallError.

        Requests without a `request_id` get one each, as in `get_offers`.
        """
        try:
            response: BatchGetOffersResponse = self._offers.BatchGetOffers(
                _all_identified(request), timeout=self._timeout(timeout_s), metadata=metadata
            )
        except grpc.RpcError as error:
            raise _call_error(error) from error
        return response

    def explain(
        self, request: ExplainOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ExplainOffersResponse:
        """Tell why offers are in an answer, or why not. Raises OffersCallError.

        Takes milliseconds for each offer: the deadline is EXPLAIN_TIMEOUT_S where none is given.
        """
        try:
            response: ExplainOffersResponse = self._offers.ExplainOffers(
                request, timeout=EXPLAIN_TIMEOUT_S if timeout_s is None else timeout_s, metadata=metadata
            )
        except grpc.RpcError as error:
            raise _call_error(error) from error
        return response

    def wait_until_serving(self, timeout_s: float) -> None:
        """Wait until the server's health says SERVING. Raises OffersCallError when it does not within `timeout_s`."""
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

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s


class AsyncOffersClient:
    """OffersClient for asyncio: the same arguments, calls and errors. Make and use it within one event loop."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        options: Options = (),
    ) -> None:
        """Make a channel; it connects with the first call."""
        arguments = _options(options)
        self._channel = (
            grpc.aio.insecure_channel(target, options=arguments)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=arguments)
        )
        self._target = target
        self._timeout_s = timeout_s
        self._offers = OfferServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def get_offers(
        self, request: GetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> GetOffersResponse:
        """Decide for one context, as OffersClient does."""
        try:
            response: GetOffersResponse = await self._offers.GetOffers(
                _identified(request), timeout=self._timeout(timeout_s), metadata=metadata
            )
        except grpc.RpcError as error:
            raise _call_error(error) from error
        return response

    async def batch_get_offers(
        self, request: BatchGetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> BatchGetOffersResponse:
        """Decide for 1 to 1,000 contexts, as OffersClient does."""
        try:
            response: BatchGetOffersResponse = await self._offers.BatchGetOffers(
                _all_identified(request), timeout=self._timeout(timeout_s), metadata=metadata
            )
        except grpc.RpcError as error:
            raise _call_error(error) from error
        return response

    async def explain(
        self, request: ExplainOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ExplainOffersResponse:
        """Tell why offers are in an answer, or why not. Raises OffersCallError.

        Takes milliseconds for each offer: the deadline is EXPLAIN_TIMEOUT_S where none is given.
        """
        try:
            response: ExplainOffersResponse = await self._offers.ExplainOffers(
                request, timeout=EXPLAIN_TIMEOUT_S if timeout_s is None else timeout_s, metadata=metadata
            )
        except grpc.RpcError as error:
            raise _call_error(error) from error
        return response

    async def wait_until_serving(self, timeout_s: float) -> None:
        """Wait until the server's health says SERVING. Raises OffersCallError when it does not within `timeout_s`."""
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

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s


def _options(given: Options) -> list[tuple[str, Any]]:
    return list({**dict(CHANNEL_OPTIONS), **dict(given)}.items())


def _identified(request: GetOffersRequest) -> GetOffersRequest:
    """The request with an id. A copy where it had none: the caller's next call with it is another decision."""
    if request.request_id:
        return request
    copy = GetOffersRequest()
    copy.CopyFrom(request)
    copy.request_id = uuid4().hex
    return copy


def _all_identified(request: BatchGetOffersRequest) -> BatchGetOffersRequest:
    return BatchGetOffersRequest(requests=map(_identified, request.requests))


def _code_of(error: grpc.RpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()  # both clients raise errors that are calls too
    return code


def _call_error(error: grpc.RpcError) -> OffersCallError:
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # a proxy changed the code or message, and left the details behind
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
