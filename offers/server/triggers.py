"""Sends offers to people who did not ask: looks at those who are due, decides, and hands over to the outbox.

What is written where, in this order: the log of decisions, the outbox, the person's record. A crash in between repeats
what was done, by the same id, and loses nothing: the log keeps each id once, as readers of the outbox do. While the log
is away nothing reaches the outbox, however often it is tried.
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
from offers.server.people import People, assign
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
"""Persons who are looked at in one go, as long as calls can wait for it."""
LEASE_S = 15
"""For how long the others stay away from those who are due: longer than one go takes."""
SOON_S = 300
"""When somebody is looked at again, at the earliest, for whom there was nothing."""
AGAIN_S = 300
"""How long after all persons were asked of they are once more: longer than workers take to follow one another to other
triggers. Until then, those who are behind keep when persons are due by the triggers of before."""
_NOTE, _DONE = "triggers", "-"
"""Where the store notes which triggers it knows persons to be due for, and how far it has come with that."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _InForce(NamedTuple):
    """The triggers of the catalogues that are served."""

    engines: tuple[Engine, ...]
    watched: tuple[Watched, ...]
    version: str
    """Another for other triggers."""


class _Chosen(NamedTuple):
    """An offer that is to be sent."""

    occasion: Occasion
    event_id: str
    message: OfferTriggered
    decided: Decided


class _Looked(NamedTuple):
    """What came of looking at a person."""

    person: Person
    chosen: _Chosen | None
    retries: list[tuple[Occasion, int]]
    """What is to be looked at again, and when."""


class _Last:
    """Holds the last decision back: it is kept if an offer is sent."""

    def __init__(self) -> None:
        self.decided: Decided | None = None

    def keep(self, decided: Decided) -> None:
        """See Keeper."""
        self.decided = decided


class Triggers:
    """What triggers do. `due` may be called from any thread, `scan` from one."""

    def __init__(
        self,
        live: Live,
        state: StateStore,
        outbox: Outbox,
        people: People,
        events: EventLog,
        clock: Callable[[], float],
        default_consent: Purposes,
    ) -> None:
        self._live, self._state, self._outbox, self._people = live, state, outbox, people
        self._clock, self._default = clock, default_consent
        # The log itself, no recorder: what that cannot write waits in it, and each further try would push out others.
        self._log = events
        self._last = _Last()
        self._offers = OfferService(live, clock, people, self._last)
        self._holder = secrets.token_hex(8)
        self._known = _InForce((), (), "")
        self._indexed = ""
        """The version of triggers of which the store is known to know who is due."""

    def due(self, record: bytes) -> int | None:
        """See DueSecond. Without triggers, all stays as it was."""
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
        """Note that without triggers nobody keeps when persons are due."""
        if self._indexed != version:
            if self._state.noted(_NOTE):
                self._state.note(_NOTE, "")
            self._indexed = version

    def _index(self, version: str, now: int) -> None:
        """Find out of some more persons when they are due by these triggers, if that is not yet known of all.

        The note tells the version, the place to go on from, and, once all were asked of, when they are to be once more.
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
        """Decide what to send to a person: of what there may be, the first that there is an offer for."""
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
                    # Without its message, which may tell of the person.
                    log.error("trigger_failed", error=type(error).__qualname__)  # noqa: TRY400 - see above
            if isinstance(found, _Chosen):
                looked = looked._replace(chosen=found)
            else:
                looked.retries.append((occasion, found))
        return looked

    def _decide(self, occasion: Occasion, due: Due, state: UserState, now: int) -> _Chosen | int:
        """What is to be sent; or the second at which to look again, as there is nothing now."""
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
        """Hand over what was chosen, unless it is out of place by now, and keep what came of each look."""
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
        """Write decisions to the log. Returns those whose persons were not erased by then."""
        decided = [one.decided for one in chosen.values()]
        self._log.record(
            [LoggedDecision(written_decision_id(*one.ids), one.person, one.second, one.record) for one in decided]
        )
        # As what was just written may be of after the log forgot them.
        left = dict(chosen)
        for (person, one), erased in zip(chosen.items(), self._state.erasures(list(chosen)), strict=True):
            if one.decided.second <= erased:
                self._log.erase([person], erased)
                del left[person]
        return left

    def _is_still(self, occasion: Occasion, record: bytes, watched: Sequence[Watched], now: int) -> bool:
        """Whether a person is there, and agrees, and what was decided for is still so."""
        state = UserState.FromString(record)
        return may_be_addressed(state, self._default) and occasion in occasions(state, watched, now)

    def _kept(self, looked: _Looked, sent: _Chosen | None, watched: Sequence[Watched], now: int) -> Change:
        """What a look leaves in the record. It is written in any case, so that it is due another time."""
        catalogs = {engine.catalog_id for engine in self._known.engines}

        def change(record: bytes, erased: int) -> bytes | None:
            if not record:  # erased since
                return None
            state = UserState.FromString(record)
            if sent:
                mark(state, sent.occasion, sent=now)
                if sent.decided.new and sent.decided.second > erased:
                    assign(state, DecisionRecord.FromString(sent.decided.record), sent.decided.second)
            for occasion, retry in looked.retries:
                mark(state, occasion, retry=retry)
            forget_others(state, catalogs, watched)
            return state.SerializeToString()

        return change


def _context(state: UserState, person: Person, now: int) -> Context:
    """What is known of the moment, without anybody asking: the clock and the language that the profile has."""
    fields = state.profile.attributes.fields
    zone, language = (fields[name].string_value if name in fields else "" for name in ("time_zone", "language_code"))
    return Context(
        user=user_of(person),
        time=Timestamp(seconds=now),
        time_zone=zone if zone in time_zones() else "",
        language_code=language if is_language_tag(language) else "",
    )


def _decided(request: GetOffersRequest, response: GetOffersResponse, person: Person, now: int) -> Decided:
    """A decision that nothing of the person mattered to, for the log."""
    record = DecisionRecord(
        catalog=request.catalog,
        catalog_version=response.catalog_version,
        placement=request.placement,
        offer_ids=[one.offer_id for one in response.offers],
        time=now,
    )
    ids = decision_id_of(request.request_id, request.catalog)
    return Decided(ids, person, now, record.SerializeToString(), new=False)
