"""AsyncOffersClient: the client for asyncio."""

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from offers.client.channel import (
    DEFAULT_TIMEOUT_S,
    ERASE_TIMEOUT_S,
    EXPLAIN_TIMEOUT_S,
    POLL_S,
    SERVICE,
    STORE_TIMEOUT_S,
    Connection,
    Metadata,
    Options,
)
from offers.client.failures import code_of, not_serving, raising_call_errors
from offers.client.requests import all_identified, identified
from offers.v1.event_service_pb2 import (
    ReportEventsRequest,
    ReportEventsResponse,
    StreamEventsRequest,
    StreamEventsResponse,
)
from offers.v1.offer_service_pb2 import (
    BatchGetOffersRequest,
    BatchGetOffersResponse,
    ExplainOffersRequest,
    ExplainOffersResponse,
    GetOffersRequest,
    GetOffersResponse,
)
from offers.v1.profile_service_pb2 import (
    DeleteProfileRequest,
    DeleteProfileResponse,
    ExportProfileRequest,
    ExportProfileResponse,
    GetProfileRequest,
    GetProfileResponse,
    LinkIdentitiesRequest,
    LinkIdentitiesResponse,
    StreamExportProfileRequest,
    UpdateProfileRequest,
    UpdateProfileResponse,
)


class AsyncOffersClient(Connection):
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
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        response: GetOffersResponse = await self._call(self._offers.GetOffers, identified(request), timeout_s, metadata)
        return response

    async def batch_get_offers(
        self, request: BatchGetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> BatchGetOffersResponse:
        """Decide for 1 to 1,000 contexts, as OffersClient does."""
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        response: BatchGetOffersResponse = await self._call(
            self._offers.BatchGetOffers, all_identified(request), timeout_s, metadata
        )
        return response

    async def explain(
        self, request: ExplainOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ExplainOffersResponse:
        """Explain why offers are or are not in an answer, as OffersClient does."""
        timeout_s = EXPLAIN_TIMEOUT_S if timeout_s is None else timeout_s
        response: ExplainOffersResponse = await self._call(self._offers.ExplainOffers, request, timeout_s, metadata)
        return response

    async def report_events(
        self, request: ReportEventsRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ReportEventsResponse:
        """Report 1 to 1,000 events, as OffersClient does."""
        timeout_s = STORE_TIMEOUT_S if timeout_s is None else timeout_s
        response: ReportEventsResponse = await self._call(self._events.ReportEvents, request, timeout_s, metadata)
        return response

    async def stream_events(
        self,
        requests: AsyncIterable[StreamEventsRequest] | Iterable[StreamEventsRequest],
        *,
        timeout_s: float,
        metadata: Metadata = (),
    ) -> StreamEventsResponse:
        """Report events as they happen, as OffersClient does."""
        response: StreamEventsResponse = await self._call(self._events.StreamEvents, requests, timeout_s, metadata)
        return response

    async def get_profile(
        self, request: GetProfileRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> GetProfileResponse:
        """Return the profile of a person, as OffersClient does."""
        timeout_s = STORE_TIMEOUT_S if timeout_s is None else timeout_s
        response: GetProfileResponse = await self._call(self._profiles.GetProfile, request, timeout_s, metadata)
        return response

    async def update_profile(
        self, request: UpdateProfileRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> UpdateProfileResponse:
        """Change attributes and consents of a person, as OffersClient does."""
        timeout_s = STORE_TIMEOUT_S if timeout_s is None else timeout_s
        response: UpdateProfileResponse = await self._call(self._profiles.UpdateProfile, request, timeout_s, metadata)
        return response

    async def delete_profile(
        self, request: DeleteProfileRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> DeleteProfileResponse:
        """Erase a person, as OffersClient does."""
        timeout_s = ERASE_TIMEOUT_S if timeout_s is None else timeout_s
        response: DeleteProfileResponse = await self._call(self._profiles.DeleteProfile, request, timeout_s, metadata)
        return response

    async def export_profile(
        self, request: ExportProfileRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ExportProfileResponse:
        """Return everything that is stored about a person, as OffersClient does."""
        timeout_s = ERASE_TIMEOUT_S if timeout_s is None else timeout_s
        asked, whole = StreamExportProfileRequest(), ExportProfileResponse()
        if request.HasField("user"):
            asked.user.CopyFrom(request.user)
        with raising_call_errors():
            async for one in self._profiles.StreamExportProfile(asked, timeout=timeout_s, metadata=metadata):
                whole.MergeFrom(one.part)
        return whole

    async def link_identities(
        self, request: LinkIdentitiesRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> LinkIdentitiesResponse:
        """Link visitors to a known person, as OffersClient does."""
        timeout_s = STORE_TIMEOUT_S if timeout_s is None else timeout_s
        response: LinkIdentitiesResponse = await self._call(self._profiles.LinkIdentities, request, timeout_s, metadata)
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
                if code_of(error) is not grpc.StatusCode.UNAVAILABLE or left <= 0:
                    raise not_serving(self._target, timeout_s, error) from error
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

    async def _call(
        self,
        method: Callable[..., Any],
        request: Message | Iterable[Message] | AsyncIterable[Message],
        timeout_s: float,
        metadata: Metadata,
    ) -> Any:  # noqa: ANN401 - of stubs
        """Return the response of a call. Raises OffersCallError."""
        with raising_call_errors():
            return await method(request, timeout=timeout_s, metadata=metadata)
