"""EventService: reports of events, in batches and in streams."""

import threading
from collections.abc import Iterator

from offers.errors import BusyError, FieldViolation, InvalidRequestError
from offers.server.convert import parse
from offers.server.events.intake import Intake
from offers.server.limits import MAX_BATCH, MAX_BATCH_BYTES
from offers.v1.event_service_pb2 import (
    ReportEventsRequest,
    StreamEventsRequest,
    StreamEventsResponse,
)

REFUSED_TOLD = 1_000
MOST_STREAMS = 32
"""Streams of a worker at once."""


class EventService:
    """EventService with requests and responses as encoded messages."""

    def __init__(self, intake: Intake, max_streams: int = MOST_STREAMS) -> None:
        self._intake = intake
        self._free = threading.Semaphore(max_streams)

    def report_events(self, data: bytes) -> bytes:
        """Take in the events of an encoded ReportEventsRequest; return the encoded response.

        Raises InvalidRequestError, StoreUnavailableError.
        """
        request = parse(ReportEventsRequest, data, MAX_BATCH_BYTES)
        _check_size(len(request.events))
        return self._intake.take(request.events).SerializeToString()

    def stream_events(self, messages: Iterator[bytes]) -> bytes:
        """Take in the events of encoded StreamEventsRequests; return the encoded response.

        The events of a message are durable before the next message is read. Raises InvalidRequestError,
        StoreUnavailableError, and BusyError when too many streams are open.
        """
        if not self._free.acquire(blocking=False):
            message = "as many event streams are open as this server takes: report in batches, or try again later"
            raise BusyError(message)
        try:
            return self._streamed(messages).SerializeToString()
        finally:
            self._free.release()

    def _streamed(self, messages: Iterator[bytes]) -> StreamEventsResponse:
        response = StreamEventsResponse()
        index = 0
        for data in messages:
            request = parse(StreamEventsRequest, data, MAX_BATCH_BYTES)
            _check_size(len(request.events))
            for event, result in zip(request.events, self._intake.take(request.events).results, strict=True):
                if result.HasField("status"):
                    response.refused_count += 1
                    if len(response.refused) < REFUSED_TOLD:
                        response.refused.add(index=index, event_id=event.event_id, status=result.status)
                elif result.duplicate:
                    response.duplicate_count += 1
                else:
                    response.accepted_count += 1
                index += 1
        return response


def _check_size(count: int) -> None:
    if not 1 <= count <= MAX_BATCH:
        raise InvalidRequestError([FieldViolation("events", f"{count:,} events: send 1 to {MAX_BATCH:,}")])
