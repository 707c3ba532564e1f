"""Takes in events: each is checked, logged, and applied to its person's state exactly once."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from offers.errors import FieldViolation, InvalidRequestError
from offers.model.events import KINDS
from offers.model.facts import OfferFacts, ProposedOffer
from offers.model.geohash import geohash
from offers.model.instants import CLOCK_SKEW_S, set_instant
from offers.model.proposition_ids import Proposed, PropositionId, parse_proposition_id, proposed_in
from offers.server.events.event_rules import check_event
from offers.server.events.redeeming import Redeemer, RedemptionLimits, RedemptionStep, clear_output
from offers.server.statuses import status_of
from offers.state.ahead import set_back_erasures
from offers.state.ledger import KeptRedemption
from offers.state.opening import Stores
from offers.state.person.apply import MAX_APPLIED, Happened, apply, recent_of
from offers.state.person.attribution import attributed, causes_among, wants_attribution
from offers.state.person.consent import Purposes, agrees
from offers.state.person.ids import NOBODY, person_of
from offers.state.stores import Change, LoggedEvent, Person
from offers.v1.context_pb2 import CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_PROFILING, User
from offers.v1.event_pb2 import Event, RedemptionEvent
from offers.v1.event_service_pb2 import EventResult, EventWarning, ReportEventsResponse
from offers.v1.profile_pb2 import Consent
from offers.v1.state_pb2 import RecentEvent, UserState, UserStateHead

ROUND = MAX_APPLIED // 2
"""Events of a person applied between confirmations: few enough for their ids to be remembered until then."""
RECOVER_BATCH = 1_000
GRACE_S = 10
"""Seconds for which an event is left to the call that reported it, before recovery takes it up."""

_OF_AN_OFFER = frozenset({"impression", "click", "dismissal", "redemption"})
_OF_ITEMS = frozenset({"view", "add_to_cart", "order"})


class OfferLookup(RedemptionLimits, Protocol):
    """Looks up offers in the catalogues that are served."""

    def catalog(self, name: str) -> str:
        """Return the id of a catalogue; "" names the only one. Raises InvalidRequestError for an unknown name."""
        ...

    def facts(self, catalog: str, offer_id: str, placement: str) -> OfferFacts | None:
        """Return an offer with its counters in a placement; None where the catalogue has no such offer."""
        ...

    def proposed(self, proposed: Proposed) -> ProposedOffer | None:
        """Return the offer that a proposition id names; None where no catalogue has it."""
        ...

    def time_zone(self, catalog: str) -> str:
        """Return the time zone of a catalogue. Raises InvalidRequestError for an unknown one."""
        ...


@dataclass(slots=True)
class _Incoming:
    """An event on its way in."""

    event: Event
    kind: str
    result: EventResult
    number: int = 0
    """Its index in the request."""
    reported_person: Person = NOBODY
    person: Person = NOBODY
    """The person it is stored for: NOBODY without consent."""
    facts: OfferFacts | None = None
    catalog: str = ""
    geohash: str = ""
    time_zone: str = "UTC"
    learn: bool = True
    consent: Purposes | None = None
    """The consent of a person who was filled in and has decided nothing since; None: the server's default."""


class _PriorState:
    """A person's record and erasure before the batch; parts of the record are decoded when they are needed."""

    def __init__(self, record: bytes, erased: int) -> None:
        self._record, self.erased = record, erased

    @cached_property
    def consents(self) -> Sequence[Consent]:
        """Return the stored consent decisions, without decoding the history."""
        return UserStateHead.FromString(self._record).profile.consents

    @cached_property
    def recent(self) -> Sequence[RecentEvent]:
        """Return the recent events."""
        return UserState.FromString(self._record).recent


class Intake:
    """Takes events into the log, the state of persons, and the ledger. Safe to share between threads."""

    def __init__(
        self,
        stores: Stores,
        offers: OfferLookup,
        *,
        clock: Callable[[], float],
        default_consent: Purposes,
        geohash_length: int,
    ) -> None:
        self._state, self._log, _ = stores
        self._offers, self._redeemer = offers, Redeemer(stores, offers)
        self._clock, self._default, self._length = clock, default_consent, geohash_length

    def take(self, events: Sequence[Event]) -> ReportEventsResponse:
        """Take events in and return the result of each, once all is durable.

        Changes the events. Raises StoreUnavailableError.
        """
        now = self._clock()
        response = ReportEventsResponse()
        results = [response.results.add() for _ in events]
        first: dict[str, _Incoming] = {}
        again: list[tuple[EventResult, _Incoming]] = []
        for number, (event, result) in enumerate(zip(events, results, strict=True)):
            item = _Incoming(event, event.WhichOneof("kind") or "", result, number, person_of(event.user))
            if violations := check_event(event):
                _refuse(item, violations)
            elif first.setdefault(event.event_id, item) is not item:
                again.append((result, first[event.event_id]))
            else:
                event.DiscardUnknownFields()  # they would be kept and exported
                _set_time(item, now)
                clear_output(event)
        self._resolve(first.values())
        usable = [item for item in first.values() if self._find_offer(item)]
        if usable:
            self._find_persons(usable)
            with self._log.together(self._state) as is_whole:
                prior = self._look(usable, now)
                usable = [item for item in usable if self._settle_person(item, prior)]
                usable, reversals = self._redeem(usable, int(now))
                self._attribute(usable, prior)
                self._tell_reversals(usable, reversals)
                self._store(usable, int(now), is_whole=is_whole)
        for result, item in again:
            result.CopyFrom(item.result)
            result.duplicate = not result.HasField("status")
        return response

    def recover(self, grace_s: int = GRACE_S) -> int:
        """Apply events that were logged before a crash and not applied; return how many.

        Raises StoreUnavailableError.
        """
        count = 0
        while True:
            events = self._log.unapplied(RECOVER_BATCH)
            due = [event for event in events if event.received <= self._clock() - grace_s]
            self._apply([self._recovered(event) for event in due])
            count += len(due)
            if len(due) < RECOVER_BATCH:
                return count

    def _recovered(self, logged: LoggedEvent) -> _Incoming:
        """Return a logged event as it was when it was about to be applied."""
        event = Event.FromString(logged.body)
        item = _Incoming(
            event, event.WhichOneof("kind") or "", EventResult(), person=logged.person, catalog=logged.catalog
        )
        item.geohash = logged.geohash
        if event.offer_id:
            item.facts = self._facts(item)
        if item.catalog:
            with suppress(InvalidRequestError):  # the catalogue is no longer served
                item.time_zone = self._offers.time_zone(item.catalog)
        return item

    def _resolve(self, items: Iterable[_Incoming]) -> None:
        """Fill in the offers of events that name only a proposition: from its id, else from its decision in the log."""
        wanting: list[tuple[Event, PropositionId]] = []
        for event in (item.event for item in items if not item.event.offer_id):
            told = proposed_in(event.proposition_id)
            offer = self._offers.proposed(told) if told else None
            if offer is not None:
                event.offer_id = offer.offer_id
                event.catalog = event.catalog or offer.catalog
                event.placement = event.placement or offer.placement
                event.channel = event.channel or offer.channel
            elif proposition := parse_proposition_id(event.proposition_id):
                wanting.append((event, proposition))
        if not wanting:
            return
        ids = {proposition.decision_id for _, proposition in wanting}
        decisions = {decision.decision_id: decision.told() for decision in self._log.decisions(list(ids))}
        for event, proposition in wanting:
            decision = decisions.get(proposition.decision_id)
            if decision and proposition.rank <= len(decision.offer_ids):
                event.offer_id = decision.offer_ids[proposition.rank - 1]
                event.catalog = event.catalog or decision.catalog
                event.placement = event.placement or decision.placement
                event.channel = event.channel or decision.channel

    def _find_offer(self, item: _Incoming) -> bool:
        """Look up the event's catalogue and offer; refuse the event and return False for an unknown catalogue."""
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
            reason = "no offer and no decision is known for this proposition: send the offer_id; it counts for nothing"
            _warn(item, EventWarning.CODE_UNKNOWN_OFFER, reason)
        return True

    def _facts(self, item: _Incoming) -> OfferFacts | None:
        try:
            return self._offers.facts(item.catalog, item.event.offer_id, item.event.placement)
        except InvalidRequestError:  # the catalogue is no longer served
            return None

    def _look(self, items: Iterable[_Incoming], now: float) -> dict[Person, _PriorState]:
        """Read the records and erasures of the events' persons."""
        persons = list({item.reported_person for item in items if item.reported_person})
        if not persons:
            return {}
        looked = self._state.look(persons)
        if set_back_erasures(self._state, persons, [erased for _, erased in looked], now):
            looked = self._state.look(persons)
        return {person: _PriorState(record, erased) for person, (record, erased) in zip(persons, looked, strict=True)}

    def _settle_person(self, item: _Incoming, prior: dict[Person, _PriorState]) -> bool:
        """Apply consent, and reduce the location to a geohash; return False where the event must not be stored.

        Sets whether the event is stored with its person, and whether models may learn from it.
        """
        event, person = item.event, item.reported_person
        if event.HasField("location"):
            item.geohash = geohash(event.location.latitude, event.location.longitude, self._length)
            event.ClearField("location")
        if person:
            if event.event_time.seconds <= prior[person].erased:
                _warn(item, EventWarning.CODE_ERASED, "the person was erased after it happened: it was dropped")
                return False
            stored = () if event.user.HasField("consent") else prior[person].consents
            default = self._default if item.consent is None else item.consent
            item.learn = agrees(CONSENT_PURPOSE_LEARNING, event.user, stored, default)
            if agrees(CONSENT_PURPOSE_PROFILING, event.user, stored, default):
                item.person = person
            else:
                event.session_id = event.proposition_id = ""  # they would lead to the person's other records
                _warn(item, EventWarning.CODE_NO_CONSENT, "no consent to profiling: it was kept without the person")
        event.ClearField("user")
        return True

    def _find_persons(self, items: Iterable[_Incoming]) -> None:
        """Fill in the persons of steps of redemptions that name none: those of the steps before."""
        named: dict[str, User] = {}
        for item in items:
            if item.kind == "redemption":
                step = _step_of(item)
                if item.reported_person:
                    named[step.name] = item.event.user
                elif item.event.redemption.phase != RedemptionEvent.PHASE_RESERVE:
                    who = named.get(step.name)
                    if who is None and (found := self._redeemer.find_person(step)):
                        who, item.consent = found
                    if who is not None:
                        item.event.user.CopyFrom(who)
                        item.reported_person = person_of(who)

    def _redeem(
        self, items: list[_Incoming], now: int
    ) -> tuple[list[_Incoming], list[tuple[_Incoming, KeptRedemption]]]:
        """Do the steps of redemptions in the ledger.

        Returns the events without those whose step was refused, or done before; and the reversals, with what they
        reverse.
        """
        steps = [item for item in items if item.kind == "redemption" and self._redeemer.matters(_step_of(item))]
        if not steps:
            return items, []
        before = self._log.known([item.event.event_id for item in steps])
        dropped, reversals = set(), []
        for item in steps:
            event, step = item.event, _step_of(item)
            if event.event_id in before:
                continue
            try:
                outcome = self._redeemer.do(step, now)
            except InvalidRequestError as error:
                _refuse(item, error.violations)
                dropped.add(event.event_id)
                continue
            if not outcome.done:
                item.result.status.CopyFrom(self._redeemer.status(step, outcome))
            item.result.duplicate = outcome.repeated
            if outcome.repeated or not outcome.done:
                dropped.add(event.event_id)
                continue
            self._redeemer.tell_amounts(event, outcome.kept)
            if event.redemption.phase == RedemptionEvent.PHASE_REVERSE:
                reversals.append((item, outcome.kept))
        return [item for item in items if item.event.event_id not in dropped], reversals

    def _tell_reversals(
        self, items: Iterable[_Incoming], reversals: Iterable[tuple[_Incoming, KeptRedemption]]
    ) -> None:
        """Write into reversals what they reverse, for the state and for learning."""
        for reversal, kept in reversals:
            confirms = (item.event for item in items if item.event.event_id == kept.confirm_event_id)
            self._redeemer.tell_of_confirmation(reversal.event, next(confirms, None), kept)
            if not reversal.person:
                reversal.event.ClearField("attributed_proposition_id")  # it would lead to the person's other records

    def _attribute(self, items: Sequence[_Incoming], prior: dict[Person, _PriorState]) -> None:
        """Attribute orders and redemptions to earlier events of their persons, those of this batch included."""
        wanting = [item for item in items if item.person and wants_attribution(item.event)]
        causes = {item.person: causes_among(prior[item.person].recent) for item in wanting}
        for item in items if wanting else ():
            if item.person in causes and item.event.proposition_id:
                causes[item.person] += causes_among([recent_of(item.event, item.facts)])
        for item in wanting:
            item.event.attributed_proposition_id = attributed(item.event, causes[item.person])

    def _store(self, items: Sequence[_Incoming], now: int, *, is_whole: bool) -> None:
        """Log events, and apply those that are new, or logged before without having been applied.

        `is_whole` says that log and state are in one transaction, so that every logged event is applied.
        """
        if not items:
            return
        old = []
        appended = self._log.append([_logged(item, now) for item in items], applied=is_whole)
        for item, is_new in zip(items, appended, strict=True):
            if not is_new:
                item.result.duplicate = True
                old.append(item.event.event_id)
        waiting = self._log.pending(old) if old else set()
        self._apply([item for item in items if not item.result.duplicate], is_confirmed=is_whole)
        self._apply([item for item in items if item.event.event_id in waiting])

    def _apply(self, items: Sequence[_Incoming], *, is_confirmed: bool = False) -> None:
        """Apply logged events to the state, and confirm them in the log unless that is done."""
        by_person: dict[Person, list[_Incoming]] = {}
        for item in items:
            by_person.setdefault(item.person, []).append(item)
        if not by_person:
            return
        erased: dict[Person, int] = {}
        nobodys = [item.event.event_id for item in by_person.pop(NOBODY, ())]
        if nobodys and not by_person and not is_confirmed:
            self._log.applied(nobodys)
        for first in range(0, max(map(len, by_person.values()), default=0), ROUND):
            parts = {
                person: theirs[first : first + ROUND] for person, theirs in by_person.items() if len(theirs) > first
            }
            self._state.change([(person, _change(person, part, erased)) for person, part in parts.items()])
            if not is_confirmed:
                self._log.applied(nobodys + [item.event.event_id for part in parts.values() for item in part])
                nobodys = []
        for person, second in erased.items():  # erased since the look: their logged events must go, too
            self._log.erase([person], second)


def _logged(item: _Incoming, now: int) -> LoggedEvent:
    return LoggedEvent(
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


def _change(person: Person, items: Sequence[_Incoming], erased: dict[Person, int]) -> Change:
    """Return the change that applies events; it notes in `erased` an erasure after the oldest of them."""
    happened = [Happened(item.event, item.facts, item.geohash, item.time_zone) for item in items]
    oldest = min(item.event.event_time.seconds for item in items)

    def change(record: bytes, second: int) -> bytes | None:
        if oldest <= second:
            erased[person] = second
        return apply(record, happened, second)

    return change


def _set_time(item: _Incoming, now: float) -> None:
    time = item.event.event_time
    if not item.event.HasField("event_time") or time.seconds > now + CLOCK_SKEW_S:
        if item.event.HasField("event_time"):
            _warn(item, EventWarning.CODE_FUTURE_TIME, "ahead of the server's clock by over 5 minutes: taken as now")
        set_instant(time, now)


def _warn(item: _Incoming, code: EventWarning.Code.ValueType, message: str) -> None:
    item.result.warnings.add(code=code, message=message)


def _refuse(item: _Incoming, violations: Iterable[FieldViolation]) -> None:
    whole = f"events[{item.number}]"
    named = [FieldViolation(f"{whole}.{one.field}" if one.field else whole, one.reason) for one in violations]
    item.result.status.CopyFrom(status_of(InvalidRequestError(named)))


def _step_of(item: _Incoming) -> RedemptionStep:
    return RedemptionStep(item.event, item.catalog, item.reported_person, item.facts is not None)
