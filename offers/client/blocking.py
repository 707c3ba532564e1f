"""OffersClient: the blocking client."""

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import grpc
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


class OffersClient(Connection):
    """A blocking client of the service at `target`, such as "localhost:50051"; safe to share between threads.

    Without `credentials` the connection is plain text. `timeout_s` is the default deadline of the calls that answer
    screens, retries included; other calls say theirs. `options` are gRPC channel arguments that override
    CHANNEL_OPTIONS. Every call may be given a `timeout_s` of its own in seconds and `metadata`, and raises
    OffersCallError where it fails.
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
        """Decide for one context.

        A request without a `request_id` is sent with a new one, so that retries return the same ids and are counted
        once. Each try is decided anew; without a `time` in the context, for the instant it arrives.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        response: GetOffersResponse = self._call(self._offers.GetOffers, identified(request), timeout_s, metadata)
        return response

    def batch_get_offers(
        self, request: BatchGetOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> BatchGetOffersResponse:
        """Decide for 1 to 1,000 contexts; each result is a response or a status, which `error_of` decodes.

        Requests without a `request_id` get one each, as in `get_offers`.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        response: BatchGetOffersResponse = self._call(
            self._offers.BatchGetOffers, all_identified(request), timeout_s, metadata
        )
        return response

    def explain(
        self, request: ExplainOffersRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ExplainOffersResponse:
        """Explain why offers are or are not in an answer.

        Takes milliseconds for each offer; the default deadline is EXPLAIN_TIMEOUT_S.
        """
        timeout_s = EXPLAIN_TIMEOUT_S if timeout_s is None else timeout_s
        response: ExplainOffersResponse = self._call(self._offers.ExplainOffers, request, timeout_s, metadata)
        return response

    def report_events(
        self, request: ReportEventsRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ReportEventsResponse:
        """Report 1 to 1,000 events; each result has a status where the event was refused, which `error_of` decodes.

        Events that are sent again, as by a retry, count once. The default deadline is STORE_TIMEOUT_S.
        """
        timeout_s = STORE_TIMEOUT_S if timeout_s is None else timeout_s
        response: ReportEventsResponse = self._call(self._events.ReportEvents, request, timeout_s, metadata)
        return response

    def stream_events(
        self, requests: Iterable[StreamEventsRequest], *, timeout_s: float, metadata: Metadata = ()
    ) -> StreamEventsResponse:
        """Report events as they happen, and return the outcome when `requests` ends, within `timeout_s`."""
        response: StreamEventsResponse = self._call(self._events.StreamEvents, iter(requests), timeout_s, metadata)
        return response

    def get_profile(
        self, request: GetProfileRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> GetProfileResponse:
        """Return the profile of a person. The error is NOT_FOUND where nothing is known.

        The default deadline is STORE_TIMEOUT_S.
        """
        timeout_s = STORE_TIMEOUT_S if timeout_s is None else timeout_s
        response: GetProfileResponse = self._call(self._profiles.GetProfile, request, timeout_s, metadata)
        return response

    def update_profile(
        self, request: UpdateProfileRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> UpdateProfileResponse:
        """Change attributes and consents of a person. The error is FAILED_PRECONDITION without consent to profiling.

        The default deadline is STORE_TIMEOUT_S.
        """
        timeout_s = STORE_TIMEOUT_S if timeout_s is None else timeout_s
        response: UpdateProfileResponse = self._call(self._profiles.UpdateProfile, request, timeout_s, metadata)
        return response

    def delete_profile(
        self, request: DeleteProfileRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> DeleteProfileResponse:
        """Erase a person: profile, ids, events and inputs of learning are gone when it returns.

        The default deadline is ERASE_TIMEOUT_S.
        """
        timeout_s = ERASE_TIMEOUT_S if timeout_s is None else timeout_s
        response: DeleteProfileResponse = self._call(self._profiles.DeleteProfile, request, timeout_s, metadata)
        return response

    def export_profile(
        self, request: ExportProfileRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> ExportProfileResponse:
        """Return everything that is stored about a person. The error is NOT_FOUND where nothing is.

        It arrives in parts, so that it may have any size. The default deadline is ERASE_TIMEOUT_S.
        """
        timeout_s = ERASE_TIMEOUT_S if timeout_s is None else timeout_s
        asked, whole = StreamExportProfileRequest(), ExportProfileResponse()
        if request.HasField("user"):
            asked.user.CopyFrom(request.user)
        with raising_call_errors():
            for one in self._profiles.StreamExportProfile(asked, timeout=timeout_s, metadata=metadata):
                whole.MergeFrom(one.part)
        return whole

    def link_identities(
        self, request: LinkIdentitiesRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> LinkIdentitiesResponse:
        """Link visitors to a known person, as at sign-in. The error is FAILED_PRECONDITION without profiling consent.

        The default deadline is STORE_TIMEOUT_S.
        """
        timeout_s = STORE_TIMEOUT_S if timeout_s is None else timeout_s
        response: LinkIdentitiesResponse = self._call(self._profiles.LinkIdentities, request, timeout_s, metadata)
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
                if code_of(error) is not grpc.StatusCode.UNAVAILABLE or left <= 0:
                    raise not_serving(self._target, timeout_s, error) from error
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

    def _call(
        self, method: Callable[..., Any], request: Message | Iterable[Message], timeout_s: float, metadata: Metadata
    ) -> Any:  # noqa: ANN401 - of stubs
        """Return the response of a call. Raises OffersCallError."""
        with raising_call_errors():
            return method(request, timeout=timeout_s, metadata=metadata)
