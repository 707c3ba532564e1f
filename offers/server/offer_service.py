"""OfferService: convert, decide, convert."""

import threading
from collections.abc import Callable

import numpy as np

from offers.catalogue.document import varint
from offers.decision.records import Record
from offers.errors import InvalidRequestError
from offers.model.query import Query
from offers.server import convert
from offers.server.limits import MAX_BATCH_RESPONSE_BYTES
from offers.server.live import Live
from offers.server.reader import Reader, requests_of
from offers.server.wire import Output, write_response

_RESPONSE_TAG, _STATUS_TAG = b"\x0a", b"\x12"
_RESULT_TAG = b"\x0a"
_ROOM = 1 << 16
"""Bytes a thread has for a response at first; grown to need."""


class _Room(threading.local):
    """Each thread's room for a response."""

    def __init__(self) -> None:
        self.grow(_ROOM)

    def grow(self, size: int) -> None:
        self.output = Record(Output, {"bytes": np.empty(size, np.uint8)})
        self.bytes = self.output.arrays["bytes"]


class OfferService:
    """Answers with bytes: a response is copied together from parts that are already encoded."""

    def __init__(self, live: Live, clock: Callable[[], float]) -> None:
        self._live = live
        self._clock = clock
        self._reader = Reader()
        self._room = _Room()

    def get_offers(self, data: bytes) -> bytes:
        """GetOffers: a GetOffersRequest to a GetOffersResponse, both encoded. Raises InvalidRequestError."""
        return self._answer(self._reader.query_of(data, int(self._clock())))

    def batch_get_offers(self, data: bytes) -> bytes:
        """BatchGetOffers, both sides encoded; one clock reading for all. Raises InvalidRequestError."""
        requests = requests_of(data)
        now = int(self._clock())
        parts: list[bytes] = []
        room = MAX_BATCH_RESPONSE_BYTES
        for request in requests:
            try:
                tag, answer = _RESPONSE_TAG, self._answer(self._reader.query_of(request, now))
                room -= len(answer)
                if room < 0:
                    tag, answer = _STATUS_TAG, convert.BATCH_FULL.SerializeToString()
            except InvalidRequestError as error:
                tag, answer = _STATUS_TAG, convert.status_of(error).SerializeToString()
            result = tag + varint(len(answer))
            parts += (_RESULT_TAG, varint(len(result) + len(answer)), result, answer)
        return b"".join(parts)

    def _answer(self, query: Query) -> bytes:
        engine = self._live.engine(query.surface.catalog)
        decision, pad = engine.decide(query)
        count, eligible, refresh_after, refresh_distance_m, strategy = decision
        high, low = convert.decision_id_of(query.request_id, engine.catalog_id)
        room = self._room
        while True:
            length = write_response(
                engine.columns.table, pad.table, room.output.table, high, low, engine.version, count, strategy,
                query.time, query.surface.full, refresh_after, refresh_distance_m, eligible,
            )  # fmt: skip
            if length >= 0:
                return room.bytes[:length].tobytes()
            room.grow(-length)
