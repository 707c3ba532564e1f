"""Takes events in: each is checked, kept in the log, and then changes the state of its person, exactly once."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from google.rpc import code_pb2, status_pb2

from offers.errors import FieldViolation, InvalidRequestError
from offers.model.events import KINDS
from offers.model.facts import OfferFacts
from offers.model.geohash import geohash
from offers.server.events.event_rules import check_event
from offers.server.statuses import status_of
from offers.state.person.apply import MAX_APPLIED, Happened, apply, recent_of
from offers.state.person.attribution import attributed, causes_among, wants_attribution
from offers.state.person.consent import Purposes, agrees
from offers.state.person.ids import NOBODY, person_of
from offers.state.stores import Demand, EventLog, Ledger, LoggedEvent, Outcome, Person, StateStore
from offers.v1.context_pb2 import CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_PROFILING
from offers.v1.event_pb2 import Event, RedemptionEvent
from offers.v1.event_service_pb2 import EventResult, EventWarning, ReportEventsResponse
from offers.v1.profile_pb2 import Consent
from offers.v1.state_pb2 import RecentEvent, UserState, UserStateHead

AHEAD_S = 300
"""Clocks of callers may be ahead by so much."""
HOLD_S = 900
"""How long a reservation holds that does not say."""
ROUND = MAX_APPLIED // 2
"""Events of a person that take effect before that is confirmed: few enough for their ids to be remembered meanwhile."""
RECOVER_BATCH = 1_000
GRACE_S = 10
"""Events of the last seconds are left to the call that is at them."""

_OF_AN_OFFER = frozenset({"impression", "click", "dismissal", "redemption"})
_OF_ITEMS = frozenset({"view", "add_to_cart", "order"})
_REFUSED = {
    "released": "the redemption was released",
    "confirmed": "the redemption was confirmed",
    "expired": "the reservation has expired",
    "unknown": "there is no such reservation",
}


class Offers(Protocol):
    """What the catalogues that are served know of offers."""

    def catalog(self, name: str) -> str:
        """The id of a catalogue; "" names the only one. Raises InvalidRequestError where there is no such."""
        ...

    def facts(self, catalog: str, offer_id: str, placement: str) -> OfferFacts | None:
        """An offer, with all that counts its events in a placement; None: the catalogue has no such offer."""
        ...

    def time_zone(self, catalog: str) -> str:
        """The time zone of a catalogue. Raises InvalidRequestError where there is no such."""
        ...

    def demands(
        self, catalog: str, offer_id: str, units: int, micros: int, currency: str, now: int
    ) -> Sequence[Demand]:
        """What a redemption takes from budgets. Raises InvalidRequestError for another currency than a budget's, by the
        path "redemption.amount.currency_code".
        """  # noqa: D205
        ...


@dataclass(slots=True)
class _Item:
    """An event on its way in."""

    event: Event
    kind: str
    result: EventResult
    number: int = 0
    """Its place in the request."""
    whose: Person = NOBODY
    person: Person = NOBODY
    """Whose it is kept as."""
    facts: OfferFacts | None = None
    catalog: str = ""
    geohash: str = ""
    time_zone: str = "UTC"
    learn: bool = True


class _Known:
    """What is known of a person before the batch."""

    def __init__(self, record: bytes, erased: int) -> None:
        self._record, self.erased = record, erased

    @cached_property
    def consents(self) -> Sequence[Consent]:
        """Read where they are asked for alone, without the history."""
        return UserStateHead.FromString(self._record).profile.consents

    @cached_property
    def recent(self) -> Sequence[RecentEvent]:
        """Read where it is asked for alone."""
        return UserState.FromString(self._record).recent


class Intake:
    """Takes events into the log, the state of persons, and the ledger. Safe to use from several threads."""

    def __init__(
        self,
        state: StateStore,
        log: EventLog,
        ledger: Ledger,
        offers: Offers,
        *,
        clock: Callable[[], float],
        default_consent: Purposes,
        geohash_length: int,
    ) -> None:
        self._state, self._log, self._ledger, self._offers = state, log, ledger, offers
        self._clock, self._default, self._length = clock, default_consent, geohash_length

    def take(self, events: Sequence[Event]) -> ReportEventsResponse:
        """What came of each event, once all is durable. Changes the events. Raises StoreUnavailableError."""
        now = self._clock()
        response = ReportEventsResponse()
        results = [response.results.add() for _ in events]
        first: dict[str, _Item] = {}
        again: list[tuple[EventResult, _Item]] = []
        for number, (event, result) in enumerate(zip(events, results, strict=True)):
            item = _Item(event, event.WhichOneof("kind") or "", result, number, person_of(event.user))
            if violations := check_event(event):
                _refuse(item, violations)
            elif first.setdefault(event.event_id, item) is not item:
                again.append((result, first[event.event_id]))
            else:
                _set_time(item, now)
        self._resolve(first.values())
        usable = [item for item in first.values() if self._find_offer(item)]
        if usable:
            with self._log.together(self._state) as is_whole:
                known = self._look(usable)
                usable = [item for item in usable if self._settle_person(item, known)]
                usable = self._redeem(usable, int(now))
                self._attribute(usable, known)
                self._keep(usable, int(now), is_whole=is_whole)
        for result, item in again:
            result.CopyFrom(item.result)
            result.duplicate = not result.HasField("status")
        return response

    def recover(self, grace_s: int = GRACE_S) -> int:
        """Let events that a crash left without effect have it. Returns how many. Raises StoreUnavailableError."""
        count = 0
        while True:
            events = self._log.unapplied(RECOVER_BATCH)
            left = [event for event in events if event.received <= self._clock() - grace_s]
            items = []
            for logged in left:
                event = Event.FromString(logged.body)
                kind = event.WhichOneof("kind") or ""
                item = _Item(event, kind, EventResult(), person=logged.person, catalog=logged.catalog)
                item.geohash = logged.geohash
                if event.offer_id:
                    item.facts = self._facts(item)
                if item.catalog:
                    with suppress(InvalidRequestError):  # a catalogue that is not served any more
                        item.time_zone = self._offers.time_zone(item.catalog)
                items.append(item)
            self._apply(items)
            count += len(items)
            if len(left) < RECOVER_BATCH:
                return count

    def _resolve(self, items: Iterable[_Item]) -> None:
        """Let events that name a proposition alone name its offer as well."""
        wanting = [item.event for item in items if item.event.proposition_id and not item.event.offer_id]
        if not wanting:
            return
        ids = {event.proposition_id.rpartition("-")[0] for event in wanting} - {""}
        decisions = {decision.decision_id: decision.told() for decision in self._log.decisions(list(ids))}
        for event in wanting:
            decision_id, _, rank = event.proposition_id.rpartition("-")
            decision = decisions.get(decision_id)
            if decision and rank.isdecimal() and 1 <= int(rank) <= len(decision.offer_ids):
                event.offer_id = decision.offer_ids[int(rank) - 1]
                event.catalog = event.catalog or decision.catalog
                event.placement = event.placement or decision.placement
                event.channel = event.channel or decision.channel

    def _find_offer(self, item: _Item) -> bool:
        """Whether the event's catalogue is there; looks its offer up there."""
        event = item.event
        is_needed = bool(event.catalog or event.offer_id)
        if is_needed or item.kind in _OF_ITEMS:
            try:
                item.catalog = event.catalog = self._offers.catalog(event.catalog)
            except InvalidRequestError as error:
                if is_needed:
                    _refuse(item, error.violations)
                    return False
            else:
                item.time_zone = self._offers.time_zone(item.catalog)
        if event.offer_id:
            item.facts = self._facts(item)
            if item.facts is None:
                _warn(item, EventWarning.CODE_UNKNOWN_OFFER, "the catalogue has no such offer: it counts for nothing")
        elif item.kind in _OF_AN_OFFER:
            reason = "the decision of this proposition is not kept: send the offer_id; it counts for nothing"
            _warn(item, EventWarning.CODE_UNKNOWN_OFFER, reason)
        return True

    def _facts(self, item: _Item) -> OfferFacts | None:
        try:
            return self._offers.facts(item.catalog, item.event.offer_id, item.event.placement)
        except InvalidRequestError:  # a catalogue that is not served any more
            return None

    def _look(self, items: Iterable[_Item]) -> dict[Person, _Known]:
        """What is known of the persons of some events, and until when they were erased; changes nothing."""
        persons = list({item.whose for item in items if item.whose})
        if not persons:
            return {}
        looked = self._state.look(persons)
        return {person: _Known(record, erased) for person, (record, erased) in zip(persons, looked, strict=True)}

    def _settle_person(self, item: _Item, known: dict[Person, _Known]) -> bool:
        """Whether the event is to be kept; and whether with its person, to learn from it, and with which geohash."""
        event, person = item.event, item.whose
        if event.HasField("location"):
            item.geohash = geohash(event.location.latitude, event.location.longitude, self._length)
            event.ClearField("location")
        if person:
            if event.event_time.seconds <= known[person].erased:
                _warn(item, EventWarning.CODE_ERASED, "the person was erased after it happened: it was dropped")
                return False
            stored = () if event.user.HasField("consent") else known[person].consents
            item.learn = agrees(CONSENT_PURPOSE_LEARNING, event.user, stored, self._default)
            if agrees(CONSENT_PURPOSE_PROFILING, event.user, stored, self._default):
                item.person = person
            else:
                event.session_id = event.proposition_id = ""  # these would lead to the person's other records
                _warn(item, EventWarning.CODE_NO_CONSENT, "no consent to profiling: it was kept without the person")
        event.ClearField("user")
        return True

    def _redeem(self, items: list[_Item], now: int) -> list[_Item]:
        """Those events that are no redemptions, or whose step of a redemption was done, now or before."""
        steps = [item for item in items if item.kind == "redemption" and item.facts is not None]
        if not steps:
            return items
        before = self._log.known([item.event.event_id for item in steps])
        refused = set()
        for item in steps:
            if item.event.event_id in before:
                continue
            try:
                outcome = self._step(item, now)
            except InvalidRequestError as error:
                _refuse(item, error.violations)
                refused.add(item.event.event_id)
                continue
            if not outcome.done:
                item.result.status.CopyFrom(_status(outcome))
                refused.add(item.event.event_id)
        return [item for item in items if item.event.event_id not in refused]

    def _step(self, item: _Item, now: int) -> Outcome:
        redemption = item.event.redemption
        key = f"{item.catalog}/{redemption.redemption_id}"
        if redemption.phase == RedemptionEvent.PHASE_RELEASE:
            return self._ledger.release(key, now)
        amount = redemption.amount
        micros = amount.units * 1_000_000 - (-amount.nanos // 1_000)  # rounded up: a budget is never overspent
        units = redemption.units if redemption.HasField("units") else 1
        demands = self._offers.demands(item.catalog, item.event.offer_id, units, micros, amount.currency_code, now)
        if redemption.phase == RedemptionEvent.PHASE_CONFIRM:
            return self._ledger.confirm(key, demands, now)
        hold_s = redemption.hold.seconds if redemption.HasField("hold") else HOLD_S
        return self._ledger.reserve(key, demands, now, now + hold_s)

    def _attribute(self, items: Sequence[_Item], known: dict[Person, _Known]) -> None:
        """Put orders and redemptions down to what their persons did before, in this batch as well."""
        wanting = [item for item in items if item.person and wants_attribution(item.event)]
        causes = {item.person: causes_among(known[item.person].recent) for item in wanting}
        for item in items if wanting else ():
            if item.person in causes and item.event.proposition_id:
                causes[item.person] += causes_among([recent_of(item.event, item.facts)])
        for item in wanting:
            item.event.attributed_proposition_id = attributed(item.event, causes[item.person])

    def _keep(self, items: Sequence[_Item], now: int, *, is_whole: bool) -> None:
        """Bring events into the log, and those that are new, or have not had their effect, into the state; in a whole
        transaction, all have it that come into the log.
        """  # noqa: D205
        if not items:
            return
        logged = [
            LoggedEvent(
                item.event.event_id,
                item.person,
                item.event.event_time.seconds,
                now,
                KINDS[item.kind],
                item.catalog,
                item.event.offer_id,
                item.geohash,
                item.learn,
                item.event.SerializeToString(),
            )
            for item in items
        ]
        old = []
        for item, is_new in zip(items, self._log.append(logged, applied=is_whole), strict=True):
            if not is_new:
                item.result.duplicate = True
                old.append(item.event.event_id)
        waiting = self._log.pending(old) if old else set()
        self._apply([item for item in items if not item.result.duplicate], is_confirmed=is_whole)
        self._apply([item for item in items if item.event.event_id in waiting])

    def _apply(self, items: Sequence[_Item], *, is_confirmed: bool = False) -> None:
        """Let logged events have their effect on the state, and confirm it where it is not."""
        of: dict[Person, list[_Item]] = {}
        for item in items:
            of.setdefault(item.person, []).append(item)
        if not of:
            return
        erased: dict[Person, int] = {}
        nobodys = [item.event.event_id for item in of.pop(NOBODY, ())]
        if nobodys and not of and not is_confirmed:
            self._log.applied(nobodys)
        for first in range(0, max(map(len, of.values()), default=0), ROUND):
            parts = {person: theirs[first : first + ROUND] for person, theirs in of.items() if len(theirs) > first}
            self._state.change([(person, _change(person, part, erased)) for person, part in parts.items()])
            if not is_confirmed:
                self._log.applied(nobodys + [item.event.event_id for part in parts.values() for item in part])
                nobodys = []
        for person, second in erased.items():  # since the look at the person: what was logged of before goes, too
            self._log.erase([person], second)


def _change(person: Person, items: Sequence[_Item], erased: dict[Person, int]) -> Callable[[bytes, int], bytes | None]:
    happened = [Happened(item.event, item.facts, item.geohash, item.time_zone) for item in items]

    oldest = min(item.event.event_time.seconds for item in items)

    def change(record: bytes, second: int) -> bytes | None:
        if oldest <= second:
            erased[person] = second
        return apply(record, happened, second)

    return change


def _set_time(item: _Item, now: float) -> None:
    time = item.event.event_time
    if not item.event.HasField("event_time") or time.seconds > now + AHEAD_S:
        if item.event.HasField("event_time"):
            _warn(item, EventWarning.CODE_FUTURE_TIME, "ahead of the server's clock by over 5 minutes: taken as now")
        time.seconds, time.nanos = int(now), int(now % 1 * 1e9)


def _warn(item: _Item, code: EventWarning.Code.ValueType, message: str) -> None:
    item.result.warnings.add(code=code, message=message)


def _refuse(item: _Item, violations: Iterable[FieldViolation]) -> None:
    named = [FieldViolation(f"events[{item.number}].{violation.field}", violation.reason) for violation in violations]
    item.result.status.CopyFrom(status_of(InvalidRequestError(named)))


def _status(outcome: Outcome) -> status_pb2.Status:
    if outcome.reason == "exhausted":
        message = f"the budget '{outcome.budget}' has not enough left"
        return status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message=message)
    return status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message=_REFUSED.get(outcome.reason, outcome.reason))
