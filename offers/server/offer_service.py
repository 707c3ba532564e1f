"""OfferService: convert, decide, convert."""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from offers.errors import InvalidRequestError
from offers.model.query import Query
from offers.server import convert
from offers.server.live import Live
from offers.server.wire import write_response
from offers.v1 import offer_service_pb2 as pb

_RESPONSE_TAG, _STATUS_TAG = b"\x0a", b"\x12"
_RESULT_TAG = b"\x0a"
_ROOM = 1 << 16
"""Bytes a thread has for a response at first; grown to need."""


class _Output(threading.local):
    """Each thread's room for a response."""

    def __init__(self) -> None:
        self.bytes: NDArray[np.uint8] = np.empty(_ROOM, np.uint8)


class OfferService:
    """Answers with bytes: a response is copied together from parts that are already encoded."""

    def __init__(self, live: Live, clock: Callable[[], float]) -> None:
        self._live = live
        self._clock = clock
        self._output = _Output()

    def get_offers(self, data: bytes) -> bytes:
        """GetOffers: a GetOffersRequest to a GetOffersResponse, both encoded. Raises InvalidRequestError."""
        request = convert.parse(pb.GetOffersRequest, data, convert.MAX_REQUEST_BYTES)
        return self._answer(convert.query_of(request, int(self._clock())))

    def batch_get_offers(self, data: bytes) -> bytes:
        """BatchGetOffers, both sides encoded; one clock reading for all. Raises InvalidRequestError."""
        batch = convert.parse_batch(data)
        now = int(self._clock())
        parts: list[bytes] = []
        for request in batch.requests:
            try:
                tag, answer = _RESPONSE_TAG, self._answer(convert.query_of(request, now))
            except InvalidRequestError as error:
                tag, answer = _STATUS_TAG, convert.status_of(error).SerializeToString()
            result = tag + _varint(len(answer))
            parts += (_RESULT_TAG, _varint(len(result) + len(answer)), result, answer)
        return b"".join(parts)

    def _answer(self, query: Query) -> bytes:
        engine = self._live.engine(query.catalog)
        decision, room = engine.decide(query)
        output = self._output
        arguments = (
            convert.decision_id_of(query, engine.catalog_id),
            engine.version,
            decision.count,
            decision.strategy,
            query.time,
            query.full,
            decision.refresh_after,
            decision.refresh_distance_m,
            decision.eligible,
        )
        length = write_response(engine.columns.table, room.table, output.bytes, *arguments)
        if length < 0:
            output.bytes = np.empty(-length, np.uint8)
            length = write_response(engine.columns.table, room.table, output.bytes, *arguments)
        return output.bytes[:length].tobytes()


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
