"""OfferService: usual requests in one or two compiled calls, all others step by step: convert, decide, convert."""

import threading
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from offers.catalogue.document import varint
from offers.decision.engine import Engine
from offers.decision.records import Outcome, Record, Scratchpad
from offers.errors import InvalidRequestError
from offers.model.query import Surface
from offers.server import convert
from offers.server.answer import ID_WANTED, LONG_WAY, PERSON_WANTED, KnownSurfaces, answer, finish
from offers.server.batch import requests_of
from offers.server.limits import MAX_BATCH_RESPONSE_BYTES, MAX_REQUEST_BYTES
from offers.server.live import Live
from offers.server.people import BLIND, Met, People
from offers.server.recorder import Decided, Recorder
from offers.server.scan import Fact, scan_record
from offers.server.wire import Output, write_response
from offers.v1.context_pb2 import ConsentPurpose, User
from offers.v1.offer_service_pb2 import Exposure, GetOffersRequest, GetOffersResponse

_RESPONSE_TAG, _STATUS_TAG = b"\x0a", b"\x12"
_RESULT_TAG = b"\x0a"
_ROOM = 1 << 16
"""Bytes a thread has for a response at first; grown to need."""
WHAT_IF_S = 300
"""A decision for an instant farther from the clock than clocks differ asks what if: nobody was exposed to anything."""
_PURPOSES = tuple(purpose for purpose in ConsentPurpose.values() if purpose)


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

    def __init__(
        self,
        live: Live,
        clock: Callable[[], float],
        people: People | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Without `people`, nothing is known of anybody; without a recorder, no decision is kept."""
        self._live = live
        self._clock = clock
        self._people = people or People(None, frozenset())
        self._recorder = recorder
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
        tail = b""
        if length == PERSON_WANTED:
            length, tail = self._finish(data, now, known, room, high, low)
        if length == LONG_WAY:
            return self._answer_step_by_step(data, now, known, room)
        return room.bytes[:length].tobytes() + tail

    def _finish(
        self, data: bytes, now: int, known: KnownSurfaces, room: _Room, high: int, low: int
    ) -> tuple[int, bytes]:
        """Bring in the person of a usual request: the length of the response, and what is to stand behind it."""
        facts = room.scan.arrays["facts"].tolist()
        engine, standing, surface, usual = known.met(facts[Fact.surface])
        second = facts[Fact.time] if facts[Fact.time] >= 0 else now
        met = self._people.meet(_user(data, facts), engine, data, second)
        strategy, exposures = engine.meet(surface, second, room.pad, met.person)
        if strategy != usual:
            standing = known.standing(facts[Fact.surface], strategy, second)
        tables = known.table, room.scan.table, room.pad.table, room.output.table
        length = finish(*tables, now, high, low, standing.table, strategy)
        if length < 0:
            return length, b""
        if abs(second - now) <= WHAT_IF_S:
            self._keep(high, low, met, now, engine, surface, tuple(exposures), room.pad)
        return length, _tail(tuple(exposures), blind=met.person.blind)

    def _answer_step_by_step(self, data: bytes, now: int, known: KnownSurfaces, room: _Room) -> bytes:
        request = convert.parse(GetOffersRequest, data, MAX_REQUEST_BYTES)
        query = convert.query_of(request, now)
        engine = self._live.engine(query.surface.catalog)
        key_size = int(room.scan.arrays["facts"][Fact.key_size])
        met = self._people.meet(request.context.user, engine, request, query.time)
        decision = engine.decide(query, room.pad, met.person)
        if key_size >= 0:
            self._live.remember(known, room.scan.arrays["key"][:key_size], query, engine)
        if query.request_id:
            high, low = convert.decision_id_of(query.request_id, engine.catalog_id)
        else:
            high, low = convert.new_decision_id()
        if decision.personal and abs(query.time - now) <= WHAT_IF_S:
            self._keep(high, low, met, now, engine, query.surface, decision.exposures, room.pad)
        while True:
            length = write_response(
                engine.columns.table, room.pad.table, room.output.table, high, low, engine.version, decision.count,
                decision.strategy, query.time, query.surface.full, decision.refresh_after, decision.refresh_distance_m,
                decision.eligible,
            )  # fmt: skip
            if length >= 0:
                tail = _tail(decision.exposures, blind=decision.personal and met.person.blind)
                return room.bytes[:length].tobytes() + tail
            room.grow(-length)

    def _keep(
        self, high: int, low: int, met: Met, now: int, engine: Engine, surface: Surface,
        exposures: tuple[tuple[str, str], ...], pad: Scratchpad,
    ) -> None:  # fmt: skip
        """Hand a decision to the recorder."""
        if self._recorder is not None:
            chosen = pad.arrays["chosen"][: int(pad.arrays["outcome"][Outcome.chosen])]
            entries = chosen["entry"].tobytes(), chosen["log_score"].tobytes()
            new = not met.known.issuperset(exposures)
            self._recorder.keep(Decided(high, low, met.name, now, engine, surface, exposures, new, *entries))


def _user(data: bytes, facts: list[int]) -> User:
    """The person of a usual request."""
    field = facts[Fact.person_field]
    if field == 0:
        return User()
    name = data[facts[Fact.person_begin] : facts[Fact.person_end]].decode()
    user = User(user_id=name) if field == User.USER_ID_FIELD_NUMBER else User(anonymous_id=name)
    if facts[Fact.consent] >= 0:
        user.consent.SetInParent()
        user.consent.purposes.extend(purpose for purpose in _PURPOSES if facts[Fact.consent] >> purpose & 1)
    return user


@lru_cache(4096)
def _tail(exposures: tuple[tuple[str, str], ...], *, blind: bool) -> bytes:
    """The fields of a response that few have; fields may stand in any order."""
    tail = BLIND if blind else b""
    if exposures:
        told = [Exposure(experiment_id=experiment, variant_id=variant) for experiment, variant in exposures]
        tail += GetOffersResponse(exposures=told).SerializeToString()
    return tail
