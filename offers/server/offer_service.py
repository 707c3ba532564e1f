"""OfferService: answer usual requests in one or two compiled calls, all others step by step."""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from offers.catalogue.document import varint
from offers.decision.kernels.memory.scratch import PersonFact, Scratchpad
from offers.decision.kernels.need import Need
from offers.decision.kernels.person.meet import BLIND
from offers.errors import InvalidRequestError
from offers.model.proposition_ids import decision_id_of, new_decision_id
from offers.server import convert, statuses
from offers.server.batch import requests_of
from offers.server.fast.answer import KnownSurfaces, answer, finish
from offers.server.fast.buffers import UNUSUAL, RequestFact, ThreadBuffers
from offers.server.fast.wire import response_size, write_response
from offers.server.limits import MAX_BATCH_RESPONSE_BYTES, MAX_REQUEST_BYTES
from offers.server.live import Live
from offers.server.people import TOLD_BLIND, TOLD_UNREAD, Met, PersonReader
from offers.server.recorder import Decided, Keeper
from offers.state.person.ids import NOBODY
from offers.state.stores import Person
from offers.v1.context_pb2 import User
from offers.v1.offer_service_pb2 import Exposure, GetOffersRequest, GetOffersResponse, HoldoutExposure

_RESPONSE_TAG, _STATUS_TAG = b"\x0a", b"\x12"
_RESULT_TAG = b"\x0a"
HYPOTHETICAL_S = 300
"""Requests for an instant this far from the server's clock are hypothetical: nobody is exposed, nothing is logged."""
READ_AT_ONCE = 16
"""Persons that are read in one round trip. Each decision that waits for its person has buffers of 2 MB."""

Result = bytes | Exception
"""The encoded response to a request, or the error that its call ends with."""
Tell = Callable[[int, Result], None]
"""Takes the index of a request, and its result."""

# Between two calls, caches go cold: looking a member of an enum up costs more than the members used here are worth.
_SURFACE, _TIME, _CONSENT = int(RequestFact.surface), int(RequestFact.time), int(RequestFact.consent)
_PERSON_FIELD = int(RequestFact.person_field)
_PERSON_BEGIN, _PERSON_END = int(RequestFact.person_begin), int(RequestFact.person_end)
_KNOWN, _NEW, _LOGGED = int(PersonFact.known), int(PersonFact.new), int(PersonFact.logged)
_UNREAD = int(PersonFact.unread)
_PERSON, _REQUEST_ID, _STANDING = int(Need.PERSON), int(Need.REQUEST_ID), int(Need.STANDING)
_HELPED, _IS_MET = frozenset({Need.COUNTERS, Need.PERIODS, Need.SEGMENTS}), frozenset({Need.SEGMENTS, Need.STANDING})
_USER_ID = int(User.USER_ID_FIELD_NUMBER)


class _Own(threading.local):
    """Buffers of each thread: one for each decision that it has begun and not finished."""

    def __init__(self, geohash_length: int) -> None:
        self._geohash_length = geohash_length
        self._buffers: list[ThreadBuffers] = []

    def buffers(self, index: int) -> ThreadBuffers:
        """Return buffers by number; they are made in the order of their numbers."""
        if index == len(self._buffers):
            self._buffers.append(ThreadBuffers(self._geohash_length))
        return self._buffers[index]


class _Begun(NamedTuple):
    """A usual request whose decision waits for its person."""

    data: bytes
    known: KnownSurfaces
    buffers: ThreadBuffers
    """They hold the decision so far."""
    ids: tuple[int, int]
    person: Person
    grants: int
    """As PersonReader.read takes them."""


class OfferService:
    """GetOffers and BatchGetOffers over encoded messages: most bytes of a response are copied, already encoded."""

    def __init__(
        self,
        live: Live,
        clock: Callable[[], float],
        people: PersonReader | None = None,
        recorder: Keeper | None = None,
        geohash_length: int = 0,
    ) -> None:
        """Without `people`, nothing is known of anybody; without a recorder, no decision is logged.

        If the person agreed to learning, `geohash_length` characters of the location's geohash are logged.
        """
        self._live = live
        self._clock = clock
        self._people = people or PersonReader(None, frozenset())
        self._recorder = recorder
        self._geohash_length = geohash_length
        self._own = _Own(geohash_length)

    def get_offers(self, data: bytes) -> bytes:
        """Answer an encoded GetOffersRequest with an encoded GetOffersResponse. Raises InvalidRequestError."""
        return self.answer_at(data, int(self._clock()))

    def get_offers_each(self, requests: Sequence[bytes], tell: Tell) -> None:
        """Answer encoded GetOffersRequests, as `answer_each` does, by the server's clock."""
        self.answer_each(requests, int(self._clock()), tell)

    def batch_get_offers(self, data: bytes) -> bytes:
        """Answer an encoded BatchGetOffersRequest, with one clock reading for all. Raises InvalidRequestError."""
        requests = requests_of(data)
        now = int(self._clock())
        parts: list[bytes] = []
        room = MAX_BATCH_RESPONSE_BYTES
        for first in range(0, len(requests), READ_AT_ONCE):
            some = requests[first : first + READ_AT_ONCE]
            results: list[Result] = [b""] * len(some)
            self.answer_each(some, now, results.__setitem__)
            for answered in results:
                tag, one = _RESPONSE_TAG, answered
                if isinstance(one, InvalidRequestError):
                    tag, one = _STATUS_TAG, statuses.status_of(one).SerializeToString()
                elif isinstance(one, Exception):
                    raise one
                else:
                    room -= len(one)
                    if room < 0:
                        tag, one = _STATUS_TAG, statuses.BATCH_FULL.SerializeToString()
                result = tag + varint(len(one))
                parts += (_RESULT_TAG, varint(len(result) + len(one)), result, one)
        return b"".join(parts)

    def answer_each(self, requests: Sequence[bytes], now: int, tell: Tell) -> None:
        """Answer encoded requests, by the server's clock at a second, and tell each result as soon as it is known.

        Persons are read for READ_AT_ONCE requests at a time; those to which no person matters do not wait for that.
        """
        begun: list[tuple[int, _Begun]] = []
        for index, data in enumerate(requests):
            try:
                found = self._begin(data, now, self._own.buffers(len(begun)))
            except Exception as error:  # noqa: BLE001 - whoever called is told
                tell(index, error)
                continue
            if isinstance(found, bytes):
                tell(index, found)
                continue
            begun.append((index, found))
            if len(begun) == READ_AT_ONCE:
                self._end_each(begun, now, tell)
                begun = []
        self._end_each(begun, now, tell)

    def answer_at(self, data: bytes, now: int) -> bytes:
        """Return the response to an encoded request, by the server's clock at a second. Raises InvalidRequestError."""
        found = self._begin(data, now, self._own.buffers(0))
        if isinstance(found, bytes):
            return found
        return self._end(found, now, self._people.read(found.person, found.grants))

    def _begin(self, data: bytes, now: int, buffers: ThreadBuffers) -> bytes | _Begun:
        """Return the response to a request, or a usual request to which the person matters."""
        known = self._live.known
        ids = new_decision_id()
        need, length = answer(data, known.table, buffers.table, now, *ids, 0)
        if need == _REQUEST_ID:
            facts = buffers.facts
            request_id = data[facts[RequestFact.id_begin] : facts[RequestFact.id_end]].decode()
            ids = decision_id_of(request_id, known.engine(int(facts[_SURFACE])).catalog_id)
            need, length = answer(data, known.table, buffers.table, now, *ids, 1)
        if not need:
            return buffers.response[:length].tobytes()
        if need != _PERSON:
            return self._answer_step_by_step(data, now, known, buffers)
        told = buffers.facts.tolist()
        begin, end, field = told[_PERSON_BEGIN], told[_PERSON_END], told[_PERSON_FIELD]
        # Without a field, the offsets are those of an earlier request.
        name = f"{'u' if field == _USER_ID else 'a'}:{data[begin:end].decode()}" if field else NOBODY
        return _Begun(data, known, buffers, ids, name, told[_CONSENT])

    def _end_each(self, begun: Sequence[tuple[int, _Begun]], now: int, tell: Tell) -> None:
        """Read the persons of requests, and tell the results."""
        if not begun:
            return
        try:
            read = self._people.read_each([(one.person, one.grants) for _, one in begun])
        except Exception as error:  # noqa: BLE001 - whoever called is told
            for index, _ in begun:
                tell(index, error)
            return
        for (index, one), met in zip(begun, read, strict=True):
            try:
                result: Result = self._end(one, now, met)
            except Exception as error:  # noqa: BLE001 - whoever called is told
                result = error
            tell(index, result)

    def _end(self, begun: _Begun, now: int, met: Met) -> bytes:
        """Return the response to a request whose person was read."""
        response = self._finish(begun, now, met)
        if response is None:
            return self._answer_step_by_step(begun.data, now, begun.known, begun.buffers)
        return response

    def _finish(self, begun: _Begun, now: int, met: Met) -> bytes | None:
        """Return the response to a usual request that the person matters to; None if it has to go the long way."""
        data, known, buffers, ids, name, _ = begun
        pad = buffers.pad
        _, draw, record, flags = met
        surface, second = int(buffers.facts[_SURFACE]), int(buffers.facts[_TIME])
        need, length = finish(data, known.table, buffers.table, record, draw, flags, 0)
        while need:
            engine = known.engine(surface)
            if need in _HELPED:
                person = self._people.person_of(engine, met, data, second)
                engine.meeting.provide(need, pad, person, second)
            elif need == _STANDING:
                strategy = int(pad.arrays["person"][PersonFact.strategy])
                if not self._live.stand(known, surface, strategy, second):
                    return None
            else:
                return None
            need, length = finish(data, known.table, buffers.table, record, draw, flags, int(need in _IS_MET))
        told = pad.arrays["person"].tolist()
        self._keep(ids, name, now, second, pad, told)
        response = buffers.response[:length].tobytes()
        return response + _degraded(flags, told) if flags & BLIND or told[_UNREAD] else response

    def _answer_step_by_step(self, data: bytes, now: int, known: KnownSurfaces, buffers: ThreadBuffers) -> bytes:
        """Return the response to any request, and remember its surface for the next one, if it is a usual one."""
        request = convert.parse(GetOffersRequest, data, MAX_REQUEST_BYTES)
        query = convert.query_of(request, now)
        engine, pad = self._live.engine(query.surface.catalog), buffers.pad
        key_size = int(buffers.facts[RequestFact.key_size])
        met, person = self._people.meet(engine, request, query.time)
        ids = new_decision_id()
        if query.request_id:
            ids = decision_id_of(query.request_id, engine.catalog_id)
        decision = engine.decide(query, pad, person, self._geohash_length, ids[1])
        if key_size != UNUSUAL:
            self._live.remember(known, buffers.key[:key_size], query, engine)
        tail = b""
        if decision.personal:
            told = pad.arrays["person"].tolist()
            self._keep(ids, met.name, now, query.time, pad, told)
            exposures = [Exposure(experiment_id=one, variant_id=variant) for one, variant in decision.exposures]
            holdouts = [HoldoutExposure(campaign_id=one, held_out=held_out) for one, held_out in decision.holdouts]
            tail = GetOffersResponse(exposures=exposures, holdouts=holdouts).SerializeToString()
            tail += _degraded(met.flags, told)
        frame = engine.frame(query, pad, decision.strategy)
        size = response_size(frame)
        if size > buffers.size:
            buffers.grow(size)
        length = write_response(frame, buffers.table, *ids)
        return buffers.response[:length].tobytes() + tail

    def _keep(
        self, ids: tuple[int, int], name: str, now: int, second: int, pad: Scratchpad, facts: list[int]
    ) -> None:  # fmt: skip
        """Hand a decision to the recorder, unless it is hypothetical. `facts` are indexed by PersonFact."""
        if self._recorder is not None and abs(second - now) <= HYPOTHETICAL_S:
            record = pad.arrays["logged"][: facts[_LOGGED]].tobytes()
            self._recorder.keep(Decided(ids, name if facts[_KNOWN] else "", now, record, facts[_NEW] != 0))


def _degraded(flags: int, facts: list[int]) -> bytes:
    """Return the encoded notes of what a decision about a person had to do without."""
    return (TOLD_BLIND if flags & BLIND else b"") + (TOLD_UNREAD if facts[_UNREAD] else b"")
