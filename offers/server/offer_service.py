"""OfferService: usual requests in one compiled call, all others step by step: convert, decide, convert."""

import threading
from collections.abc import Callable

import numpy as np

from offers.catalogue.document import varint
from offers.decision.records import Record, Scratchpad
from offers.errors import InvalidRequestError
from offers.server import convert
from offers.server.answer import ID_WANTED, LONG_WAY, KnownSurfaces, answer
from offers.server.batch import requests_of
from offers.server.limits import MAX_BATCH_RESPONSE_BYTES, MAX_REQUEST_BYTES
from offers.server.live import Live
from offers.server.scan import Fact, scan_record
from offers.server.wire import Output, write_response
from offers.v1.offer_service_pb2 import GetOffersRequest

_RESPONSE_TAG, _STATUS_TAG = b"\x0a", b"\x12"
_RESULT_TAG = b"\x0a"
_ROOM = 1 << 16
"""Bytes a thread has for a response at first; grown to need."""


class _Room(threading.local):
    """Each thread's memory for an answer."""

    def __init__(self) -> None:
        self.scan = scan_record()
        self.pad = Scratchpad()
        self.grow(_ROOM)

    def grow(self, size: int) -> None:
        self.output = Record(Output, {"bytes": np.empty(size, np.uint8)})
        self.bytes = self.output.arrays["bytes"].data


class OfferService:
    """Answers with bytes: a response is copied together from parts that are already encoded."""

    def __init__(self, live: Live, clock: Callable[[], float]) -> None:
        self._live = live
        self._clock = clock
        self._room = _Room()

    def get_offers(self, data: bytes) -> bytes:
        """GetOffers: a GetOffersRequest to a GetOffersResponse, both encoded. Raises InvalidRequestError."""
        return self._answer(data, int(self._clock()))

    def batch_get_offers(self, data: bytes) -> bytes:
        """BatchGetOffers, both sides encoded; one clock reading for all. Raises InvalidRequestError."""
        requests = requests_of(data)
        now = int(self._clock())
        parts: list[bytes] = []
        room = MAX_BATCH_RESPONSE_BYTES
        for request in requests:
            try:
                tag, one = _RESPONSE_TAG, self._answer(request, now)
                room -= len(one)
                if room < 0:
                    tag, one = _STATUS_TAG, convert.BATCH_FULL.SerializeToString()
            except InvalidRequestError as error:
                tag, one = _STATUS_TAG, convert.status_of(error).SerializeToString()
            result = tag + varint(len(one))
            parts += (_RESULT_TAG, varint(len(result) + len(one)), result, one)
        return b"".join(parts)

    def _answer(self, data: bytes, now: int) -> bytes:
        room, known = self._room, self._live.known
        tables = known.table, room.scan.table, room.pad.table, room.output.table
        high, low = convert.new_decision_id()
        length = answer(data, *tables, now, high, low, has_id=False)
        if length == ID_WANTED:
            facts = room.scan.arrays["facts"]
            request_id = data[facts[Fact.id_begin] : facts[Fact.id_end]].decode()
            high, low = convert.decision_id_of(request_id, known.catalog_id(int(facts[Fact.surface])))
            length = answer(data, *tables, now, high, low, has_id=True)
        if length == LONG_WAY:
            return self._answer_step_by_step(data, now, known, room)
        return room.bytes[:length].tobytes()

    def _answer_step_by_step(self, data: bytes, now: int, known: KnownSurfaces, room: _Room) -> bytes:
        query = convert.query_of(convert.parse(GetOffersRequest, data, MAX_REQUEST_BYTES), now)
        engine = self._live.engine(query.surface.catalog)
        decision = engine.decide(query, room.pad)
        key_size = int(room.scan.arrays["facts"][Fact.key_size])
        if key_size >= 0:
            self._live.remember(known, room.scan.arrays["key"][:key_size], query, engine)
        if query.request_id:
            high, low = convert.decision_id_of(query.request_id, engine.catalog_id)
        else:
            high, low = convert.new_decision_id()
        while True:
            length = write_response(
                engine.columns.table, room.pad.table, room.output.table, high, low, engine.version, decision.count,
                decision.strategy, query.time, query.surface.full, decision.refresh_after, decision.refresh_distance_m,
                decision.eligible,
            )  # fmt: skip
            if length >= 0:
                return room.bytes[:length].tobytes()
            room.grow(-length)
