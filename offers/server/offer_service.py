"""OfferService: usual requests in one or two compiled calls, all others step by step: convert, decide, convert."""

import threading
from collections.abc import Callable

import numpy as np

from offers.catalogue.document import varint
from offers.decision.kernels.log import write_record
from offers.decision.kernels.memory.records import Record
from offers.decision.kernels.memory.scratch import PersonFact, Scratchpad
from offers.decision.kernels.person.meet import BLIND
from offers.errors import InvalidRequestError
from offers.model.proposition_ids import decision_id_of, new_decision_id
from offers.server import convert
from offers.server.batch import requests_of
from offers.server.fast.answer import (
    HELP_WANTED,
    ID_WANTED,
    LONG_WAY,
    PERSON_WANTED,
    SEGMENTS_WANTED,
    STANDING_WANTED,
    KnownSurfaces,
    answer,
    finish,
)
from offers.server.fast.scan import Fact, scan_record
from offers.server.fast.wire import Output, write_response
from offers.server.limits import MAX_BATCH_RESPONSE_BYTES, MAX_REQUEST_BYTES
from offers.server.live import Live
from offers.server.people import TOLD_BLIND, People
from offers.server.recorder import Decided, Keeper
from offers.state.person.ids import NOBODY
from offers.v1.context_pb2 import User
from offers.v1.offer_service_pb2 import Exposure, GetOffersRequest, GetOffersResponse

_RESPONSE_TAG, _STATUS_TAG = b"\x0a", b"\x12"
_RESULT_TAG = b"\x0a"
_ROOM = 1 << 16
"""Bytes a thread has for a response at first; grown to need."""
WHAT_IF_S = 300
"""A decision for an instant farther from the clock than clocks differ asks what if: nobody was exposed to anything."""


# Between two calls, caches go cold: what the path of requests needs of an enum is looked up once.
_SURFACE, _TIME, _CONSENT = int(Fact.surface), int(Fact.time), int(Fact.consent)
_PERSON_FIELD, _PERSON_BEGIN, _PERSON_END = int(Fact.person_field), int(Fact.person_begin), int(Fact.person_end)
_KNOWN, _NEW, _LOGGED = int(PersonFact.known), int(PersonFact.new), int(PersonFact.logged)
_USER_ID = int(User.USER_ID_FIELD_NUMBER)


class _Room:
    """A thread's memory for an answer."""

    def __init__(self) -> None:
        self.scan = scan_record()
        self.scanned = self.scan.table
        self.facts = self.scan.arrays["facts"]
        self.pad = Scratchpad()
        self.grow(_ROOM)

    def grow(self, size: int) -> None:
        self._output = Record(Output, {"bytes": np.empty(size, np.uint8)})
        self.output = self._output.table
        self.bytes = self._output.arrays["bytes"].data


class _Own(threading.local):
    """Each thread's own."""

    def __init__(self) -> None:
        self.room = _Room()


class OfferService:
    """Answers with bytes: a response is copied together from parts that are already encoded."""

    def __init__(
        self,
        live: Live,
        clock: Callable[[], float],
        people: People | None = None,
        recorder: Keeper | None = None,
        geohash_length: int = 0,
    ) -> None:
        """Without `people`, nothing is known of anybody; without a recorder, no decision is kept.

        Where the person agreed to learning, so many characters of the location's geohash are kept of it.
        """
        self._live = live
        self._clock = clock
        self._people = people or People(None, frozenset())
        self._recorder = recorder
        self._geohash_length = geohash_length
        self._own = _Own()

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
        room, known = self._own.room, self._live.known
        ids = new_decision_id()
        length = answer(data, known.table, room.scanned, room.pad.table, room.output, now, *ids, 0)
        if length == ID_WANTED:
            facts = room.facts
            request_id = data[facts[Fact.id_begin] : facts[Fact.id_end]].decode()
            ids = decision_id_of(request_id, known.engine(int(facts[_SURFACE])).catalog_id)
            length = answer(data, known.table, room.scanned, room.pad.table, room.output, now, *ids, 1)
        if length >= 0:
            return room.bytes[:length].tobytes()
        response = self._finish(data, now, known, room, ids) if length == PERSON_WANTED else None
        return self._answer_step_by_step(data, now, known, room) if response is None else response

    def _finish(self, data: bytes, now: int, known: KnownSurfaces, room: _Room, ids: tuple[int, int]) -> bytes | None:
        """The response to a usual request that the person matters to; None: the long way has to find it."""
        facts = room.facts.tolist()
        begin, end, field = facts[_PERSON_BEGIN], facts[_PERSON_END], facts[_PERSON_FIELD]
        # The person, as stores know them; without a field, where the id stands is of an earlier request.
        name = f"{'u' if field == _USER_ID else 'a'}:{data[begin:end].decode()}" if field else NOBODY
        met = self._people.read(name, facts[_CONSENT])
        _, draw, record, flags = met
        is_met, second = 0, facts[_TIME] if facts[_TIME] >= 0 else now
        while True:
            length = finish(
                data, known.table, room.scanned, room.pad.table, room.output, now, *ids, record, draw, flags,
                self._geohash_length, is_met,
            )  # fmt: skip
            if length >= LONG_WAY:
                break
            engine = known.engine(facts[_SURFACE])
            if length == SEGMENTS_WANTED:
                told = self._people.facts(engine, met, GetOffersRequest.FromString(data), second)
                engine.meeting.ask(room.pad, int(room.pad.arrays["person"][PersonFact.left]), told)
                is_met = 1
            elif length == STANDING_WANTED:
                strategy = int(room.pad.arrays["person"][PersonFact.strategy])
                if not self._live.stand(known, facts[_SURFACE], strategy, second):
                    return None
                is_met = 1
            else:
                engine.meeting.help(length - HELP_WANTED, room.pad, len(record), second)
        if length < 0:
            return None
        self._keep(ids, name, now, second, room.pad)
        response = room.bytes[:length].tobytes()
        return response + TOLD_BLIND if flags & BLIND else response

    def _answer_step_by_step(self, data: bytes, now: int, known: KnownSurfaces, room: _Room) -> bytes:
        request = convert.parse(GetOffersRequest, data, MAX_REQUEST_BYTES)
        query = convert.query_of(request, now)
        engine = self._live.engine(query.surface.catalog)
        key_size = int(room.facts[Fact.key_size])
        met, person = self._people.meet(engine, request, query.time)
        ids = new_decision_id()
        if query.request_id:
            ids = decision_id_of(query.request_id, engine.catalog_id)
        decision = engine.decide(query, room.pad, person, self._geohash_length, ids[1])
        if key_size >= 0:
            self._live.remember(known, room.scan.arrays["key"][:key_size], query, engine)
        tail = b""
        if decision.personal:
            terms = engine.resolve(query.surface).terms.table
            room.pad.arrays["person"][PersonFact.logged] = write_record(
                engine.columns.table, terms, engine.meeting.record.table, room.pad.table, person.record, person.request,
                query.latitude, query.longitude, self._geohash_length, query.time, decision.count,
            )  # fmt: skip
            self._keep(ids, met.name, now, query.time, room.pad)
            told = [Exposure(experiment_id=one, variant_id=variant) for one, variant in decision.exposures]
            tail = GetOffersResponse(exposures=told).SerializeToString()
            tail += TOLD_BLIND if met.flags & BLIND else b""
        while True:
            length = write_response(
                engine.columns.table, room.pad.table, room.output, *ids, engine.version, decision.count,
                decision.strategy, query.time, query.surface.full, decision.refresh_after, decision.refresh_distance_m,
                decision.eligible,
            )  # fmt: skip
            if length >= 0:
                return room.bytes[:length].tobytes() + tail
            room.grow(-length)

    def _keep(self, ids: tuple[int, int], name: str, now: int, second: int, pad: Scratchpad) -> None:
        """Hand a decision to the recorder."""
        if self._recorder is not None and abs(second - now) <= WHAT_IF_S:
            facts = pad.arrays["person"].tolist()
            record = pad.arrays["logged"][: facts[_LOGGED]].tobytes()
            self._recorder.keep(Decided(ids, name if facts[_KNOWN] else "", now, record, facts[_NEW] != 0))
