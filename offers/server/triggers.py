"""Sends offers to persons when a trigger is due: decides, and appends to the outbox.

Writes happen in this order: the log of decisions, the outbox, the person's record. After a crash in between, the writes
are repeated with the same id; the log and the readers of the outbox keep each id once, so nothing is lost or doubled.
Nothing reaches the outbox while the log is unavailable.
"""

import contextlib
import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import structlog
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from offers.catalogue.rules.creative import is_language_tag
from offers.catalogue.rules.values import time_zones
from offers.decision.engine import Engine
from offers.errors import InvalidRequestError, StoreUnavailableError
from offers.model.proposition_ids import decision_id_of, written_decision_id
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import PersonReader, assign
from offers.server.recorder import Decided
from offers.state.cloudevents import triggered
from offers.state.outbox import Outbox
from offers.state.person.consent import Purposes
from offers.state.person.ids import user_of
from offers.state.person.triggering import (
    RETRY_S,
    Occasion,
    Watched,
    due_second,
    forget_others,
    mark,
    may_be_addressed,
    occasions,
    watched_of,
)
from offers.state.stores import Change, Due, EventLog, LoggedDecision, Person, StateStore
from offers.v1.context_pb2 import Context
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.state_pb2 import DecisionRecord, UserState
from offers.v1.trigger_pb2 import OfferTriggered, Trigger

AT_ONCE = 100
"""Persons in one batch; a batch is short enough for calls to wait for it."""
LEASE_S = 15
"""Lease on the persons of a batch, in seconds: longer than a batch takes."""
SOON_S = 300
"""Least seconds until a person without a suitable offer is due again."""
AGAIN_S = 300
"""Seconds between two passes over all persons after a change of triggers: longer than all workers take to load it.
Until the second pass, workers that are behind may still have written due times by the old triggers."""
_NOTE, _DONE = "triggers", "-"
"""The store's note of the triggers that due times are indexed for, and of the progress of indexing."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _InForce(NamedTuple):
    """The triggers of the served catalogues."""

    engines: tuple[Engine, ...]
    watched: tuple[Watched, ...]
    version: str
    """A hash of the triggers."""


class _Chosen(NamedTuple):
    """An offer to send."""

    occasion: Occasion
    event_id: str
    message: OfferTriggered
    decided: Decided


class _Looked(NamedTuple):
    """The result of checking a person's triggers."""

    person: Person
    chosen: _Chosen | None
    retries: list[tuple[Occasion, int]]
    """Occasions to check again, with the second of that."""


class _Last:
    """Buffers the last decision, which is logged only if an offer is sent."""

    def __init__(self) -> None:
        self.decided: Decided | None = None

    def keep(self, decided: Decided) -> None:
        """See Keeper."""
        self.decided = decided


class Triggers:
    """Runs the triggers. `due` may be called from any thread, `scan` from one."""

    def __init__(
        self,
        live: Live,
        state: StateStore,
        outbox: Outbox,
        people: PersonReader,
        events: EventLog,
        clock: Callable[[], float],
        default_consent: Purposes,
    ) -> None:
        self._live, self._state, self._outbox, self._people = live, state, outbox, people
        self._clock, self._default = clock, default_consent
        # The log itself: a recorder would queue what it cannot write, and every retry would push out other decisions.
        self._log = events
        self._last = _Last()
        self._offers = OfferService(live, clock, people, self._last)
        self._holder = secrets.token_hex(8)
        self._known = _InForce((), (), "")
        self._indexed = ""
        """Version of the triggers that the store has due times for."""

    def due(self, record: bytes) -> int | None:
        """See DueSecond. Returns None without triggers."""
        watched = self._in_force().watched
        return due_second(record, watched, self._default, int(self._clock())) if watched else None

    def scan(self) -> None:
        """Look at some of those who are due, unless another worker is at it.

        Raises StoreUnavailableError; what was not kept by then is done again.
        """
        _, watched, version = self._in_force()
        if not watched:
            self._let_go(version)
            return
        now = int(self._clock())
        if self._indexed == version and not self._state.due(now, 1):
            return
        if not self._state.lease(self._holder, LEASE_S):
            return
        if self._indexed != version:
            self._index(version, now)
        if due := self._state.due(now, AT_ONCE):
            self._send([self._look(one, watched, now) for one in due], watched, now)

    def close(self) -> None:
        """Let another worker go on at once, and let go of the outbox."""
        if self._known.watched:
            with contextlib.suppress(StoreUnavailableError):  # then the lease ends by itself
                self._state.release(self._holder)
        self._outbox.close()

    def _in_force(self) -> _InForce:
        engines, known = tuple(self._live.engines()), self._known
        if engines != known.engines:
            watched = tuple(
                watched_of(engine.catalog_id, ParseDict(one, Trigger()))
                for engine in engines
                for one in engine.snapshot.meta["triggers"]
            )
            told = [(one.catalog, one.trigger.SerializeToString(deterministic=True)) for one in watched]
            version = blake2b(repr((told, sorted(self._default))).encode(), digest_size=8).hexdigest()
            known = self._known = _InForce(engines, watched, version)
        return known

    def _let_go(self, version: str) -> None:
        """Clear the note, because due times are not kept while there are no triggers."""
        if self._indexed != version:
            if self._state.noted(_NOTE):
                self._state.note(_NOTE, "")
            self._indexed = version

    def _index(self, version: str, now: int) -> None:
        """Index the due times of some more persons, until all are indexed for these triggers.

        The note has the version, the position to continue from, and, after the first pass, the second of the next one.
        """
        noted, place, again = [*self._state.noted(_NOTE).split(" "), "", ""][:3]
        if noted != version:
            place = again = ""
        if place != _DONE:
            if again and now < int(again) <= now + AGAIN_S:
                return
            place = self._state.rewatch(place)
            if not place:
                place, again = (_DONE, "") if again else ("", str(now + AGAIN_S))
            self._state.note(_NOTE, f"{version} {place} {again}")
        if place == _DONE:
            self._indexed = version

    def _look(self, due: Due, watched: Sequence[Watched], now: int) -> _Looked:
        """Decide about a person: the first due occasion with a suitable offer is chosen."""
        looked = _Looked(due.ids[0], None, [])
        state = UserState.FromString(due.state)
        if not may_be_addressed(state, self._default):
            return looked
        for occasion in occasions(state, watched, now):
            if occasion.due > now:
                continue
            found: _Chosen | int = now + RETRY_S
            if looked.chosen is None:
                try:
                    found = self._decide(occasion, due, state, now)
                except InvalidRequestError:
                    pass  # the catalogue has changed meanwhile
                except StoreUnavailableError:
                    raise
                except Exception as error:  # noqa: BLE001 - a fault with one person must not keep all others waiting
                    # Without its message, which may contain personal data.
                    log.error("trigger_failed", error=type(error).__qualname__)  # noqa: TRY400 - see above
            if isinstance(found, _Chosen):
                looked = looked._replace(chosen=found)
            else:
                looked.retries.append((occasion, found))
        return looked

    def _decide(self, occasion: Occasion, due: Due, state: UserState, now: int) -> _Chosen | int:
        """Return the offer to send, or the second to check again if there is none now."""
        catalog, trigger = occasion.watched.catalog, occasion.watched.trigger
        named = f"{trigger.trigger_id}\0{due.ids[0]}\0{occasion.begin}"
        request = GetOffersRequest(
            context=_context(state, due.ids[0], now),
            placement=trigger.placement_id,
            max_offers=1,
            request_id=blake2b(named.encode(), digest_size=16).hexdigest(),
            catalog=catalog,
        )
        if trigger.segment_id and not self._is_in(trigger.segment_id, request, now):
            return now + RETRY_S
        self._last.decided = None
        response = GetOffersResponse.FromString(self._offers.get_offers(request.SerializeToString()))
        if not response.offers or response.degraded:
            return min(max(response.refresh_after.seconds, now + SOON_S), now + RETRY_S)
        message = OfferTriggered(
            trigger_id=trigger.trigger_id,
            user=user_of(due.ids[0]),
            anonymous_ids=[user_of(one).anonymous_id for one in due.ids[1:]],
            catalog=catalog,
            decision_id=response.decision_id,
            placement=trigger.placement_id,
            proposition=response.offers[0],
            time=Timestamp(seconds=now),
            condition_time=Timestamp(seconds=occasion.true),
        )
        decided = self._last.decided or _decided(request, response, due.ids[0], now)
        return _Chosen(occasion, response.decision_id, message, decided)

    def _is_in(self, segment_id: str, request: GetOffersRequest, now: int) -> bool:
        engine = self._live.engine(request.catalog)
        met, _ = self._people.meet(engine, request, now)
        return bool(engine.meeting.segments_of((segment_id,), self._people.facts(engine, met, request, now)))

    def _send(self, looked: Sequence[_Looked], watched: Sequence[Watched], now: int) -> None:
        """Send the chosen offers that are still due, and store the result for each person."""
        records = self._state.look([one.person for one in looked])
        sent = {
            one.person: one.chosen
            for one, (record, _) in zip(looked, records, strict=True)
            if one.chosen and self._is_still(one.chosen.occasion, record, watched, now)
        }
        if sent:
            sent = self._logged(sent)
        if sent:
            self._outbox.append([triggered(one.event_id, one.message) for one in sent.values()])
        changes = [(one.person, self._kept(one, sent.get(one.person), watched, now)) for one in looked]
        self._state.change(changes, is_heard=False)
        if sent:
            log.info("offers_triggered", count=len(sent))

    def _logged(self, chosen: dict[Person, _Chosen]) -> dict[Person, _Chosen]:
        """Write decisions to the log. Returns those whose persons have not been erased since."""
        decided = [one.decided for one in chosen.values()]
        self._log.record(
            [LoggedDecision(written_decision_id(*one.ids), one.person, one.second, one.record) for one in decided]
        )
        # An erasure may have reached the log before these decisions did.
        left = dict(chosen)
        for (person, one), erased in zip(chosen.items(), self._state.erasures(list(chosen)), strict=True):
            if one.decided.second <= erased:
                self._log.erase([person], erased)
                del left[person]
        return left

    def _is_still(self, occasion: Occasion, record: bytes, watched: Sequence[Watched], now: int) -> bool:
        """Return whether the person exists, agrees to messages, and the occasion still holds."""
        state = UserState.FromString(record)
        return may_be_addressed(state, self._default) and occasion in occasions(state, watched, now)

    def _kept(self, looked: _Looked, sent: _Chosen | None, watched: Sequence[Watched], now: int) -> Change:
        """Return the change of the record after a check. It always writes, so that the next due time is set."""
        catalogs = {engine.catalog_id for engine in self._known.engines}

        def change(record: bytes, erased: int) -> bytes | None:
            if not record:  # erased since
                return None
            state = UserState.FromString(record)
            if sent:
                mark(state, sent.occasion, sent=now)
                if sent.decided.new and sent.decided.second > erased:
                    assign(state, looked.person, DecisionRecord.FromString(sent.decided.record), sent.decided.second)
            for occasion, retry in looked.retries:
                mark(state, occasion, retry=retry)
            forget_others(state, catalogs, watched)
            return state.SerializeToString()

        return change


def _context(state: UserState, person: Person, now: int) -> Context:
    """Return the context of a decision without a request: the time, and the profile's zone and language."""
    fields = state.profile.attributes.fields
    zone, language = (fields[name].string_value if name in fields else "" for name in ("time_zone", "language_code"))
    return Context(
        user=user_of(person),
        time=Timestamp(seconds=now),
        time_zone=zone if zone in time_zones() else "",
        language_code=language if is_language_tag(language) else "",
    )


def _decided(request: GetOffersRequest, response: GetOffersResponse, person: Person, now: int) -> Decided:
    """Return the logged form of a decision that did not depend on the person."""
    record = DecisionRecord(
        catalog=request.catalog,
        catalog_version=response.catalog_version,
        placement=request.placement,
        offer_ids=[one.offer_id for one in response.offers],
        time=now,
    )
    ids = decision_id_of(request.request_id, request.catalog)
    return Decided(ids, person, now, record.SerializeToString(), new=False)
