"""Applies events to a person's state."""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from offers.model.acts import NO_TRAITS, visits_of
from offers.model.events import KINDS, items_of
from offers.model.facts import OfferFacts
from offers.model.instants import instant_of
from offers.model.money import units_of
from offers.model.visits import NOTHING, merged
from offers.state.person.basket import settle, take_steps
from offers.state.person.counters import Counters, find_aligned, hour_of
from offers.state.person.leanings import Leanings, leans_of
from offers.v1.event_pb2 import Event, EventKind, RedemptionEvent
from offers.v1.state_pb2 import RecentEvent, UserState

MAX_RECENT = 50
MAX_APPLIED = 256
"""Ids of applied events kept for each person: the most events that may come between a fault and its recovery."""
HASH_BYTES = 8
"""Size of the hash of an event id in UserState.applied."""
MONEY_DIGITS = 6
"""Decimals of sums of money: rounding to micros makes a sum independent of the order of its terms."""


class Happened(NamedTuple):
    """An event to apply, with the offer it is about."""

    event: Event
    """With its `event_time`."""
    facts: OfferFacts | None
    """None: the event is about no known offer."""
    geohash: str = ""
    """Cell of the event's location; "" where it is not kept."""
    time_zone: str = "UTC"
    """IANA zone of the event's catalogue."""


def apply(record: bytes, happened: Sequence[Happened], erased: int = -1) -> bytes | None:
    """Return a person's record with some events applied; None where nothing changes.

    Events may come in any order, and each has its effect once. Events up to the second `erased` are ignored. The result
    is exact with one exception: counters, recent events, basket steps and names are bounded, and an entry that was
    dropped from them counts as new when its event is applied again.
    """
    state = UserState.FromString(record)
    last_seen = state.profile.last_seen_time.seconds
    batch = _Batch(state)
    for one in happened:
        digest = hash_of(one.event.event_id)
        if one.event.event_time.seconds > erased and find_aligned(batch.applied, digest, HASH_BYTES) < 0:
            batch.applied += digest
            batch.apply(one)
    if batch.applied == state.applied:
        return None
    batch.finish(last_seen)
    return state.SerializeToString()


class _Batch:
    """The events that one call of `apply` applies to a state, and the parts of it unpacked for them."""

    def __init__(self, state: UserState) -> None:
        self._state = state
        self._counters: Counters | None = None
        self._leanings: Leanings | None = None
        self._visits = b""
        self.applied = state.applied

    def apply(self, happened: Happened) -> None:
        """Apply an event."""
        event, facts, geohash, time_zone = happened
        kind = event.WhichOneof("kind") or ""
        if kind == "redemption" and event.redemption.phase == RedemptionEvent.PHASE_REVERSE:
            self._reverse(event, facts)
            return
        _see(self._state, event.event_time)
        if kind == "redemption" and event.redemption.phase != RedemptionEvent.PHASE_CONFIRM:
            return
        second = event.event_time.seconds
        _remember(self._state, recent_of(event, facts))
        _buy(self._state, kind, event)
        for spec in facts.counters if facts else ():
            if spec.kind == KINDS[kind]:
                self._counters = self._counters or Counters(self._state.counters, self._state.times)
                self._counters.add(spec, second)
        if leans := leans_of(kind, event, facts):
            self._leanings = self._leanings or Leanings(self._state)
            self._leanings.add(leans, second)
        item, traits = (facts.item, facts.traits) if facts else (NOTHING, NO_TRAITS)
        self._visits += visits_of(event, kind, geohash, time_zone, item, traits)

    def _reverse(self, event: Event, facts: OfferFacts | None) -> None:
        """Take a confirmed redemption back out of the counters and the recent events.

        What the person likes stays. A confirmation that was not applied yet, because of a fault, never will be.
        """
        reversed_, state = event.redemption, self._state
        if not reversed_.HasField("confirm_time"):
            return
        digest = hash_of(reversed_.confirm_event_id)
        if find_aligned(self.applied, digest, HASH_BYTES) < 0:
            self.applied += digest
        for spec in facts.counters if facts else ():
            if spec.kind == EventKind.EVENT_KIND_REDEMPTION:
                self._counters = self._counters or Counters(state.counters, state.times)
                self._counters.remove(spec, reversed_.confirm_time.seconds)
        for index, recent in enumerate(state.recent):
            if (
                recent.kind == EventKind.EVENT_KIND_REDEMPTION
                and recent.offer_id == event.offer_id
                and recent.event_time == reversed_.confirm_time
            ):
                del state.recent[index]
                break

    def finish(self, before: int) -> None:
        """Write the unpacked parts back; the person was last seen at the second `before`.

        Counters are also packed when a new hour has begun, since some may have expired.
        """
        state = self._state
        if self._visits:
            state.visits = merged(state.visits, self._visits)
        last_seen = state.profile.last_seen_time.seconds
        if self._counters is None and hour_of(last_seen) > before:
            self._counters = Counters(state.counters, state.times)
        if self._counters is not None:
            state.counters, state.times = self._counters.packed(last_seen, before)
        state.applied = self.applied[-MAX_APPLIED * HASH_BYTES :]


def hash_of(event_id: str) -> bytes:
    """Return the hash by which an applied event is recognised."""
    return blake2b(event_id.encode(), digest_size=HASH_BYTES).digest()


def recent_of(event: Event, facts: OfferFacts | None) -> RecentEvent:
    """Return the entry of an event among a person's recent events."""
    kind = event.WhichOneof("kind") or ""
    items = items_of(event, kind)
    recent = RecentEvent(
        kind=KINDS[kind],
        event_time=event.event_time,
        offer_id=event.offer_id,
        proposition_id=event.proposition_id or event.attributed_proposition_id,
        session_id=event.session_id,
    )
    if facts is not None:
        recent.category = facts.category
    elif items:
        recent.category = items[0].category
    if items:
        recent.venue_id = items[0].venue_id
    return recent


def recent_order(recent: RecentEvent) -> tuple[object, ...]:
    """Return the sort key of recent events: by time, then by content, so that any two differ."""
    return *instant_of(recent.event_time), recent.SerializeToString()


def _see(state: UserState, time: Timestamp) -> None:
    profile = state.profile
    first, last = profile.first_seen_time, profile.last_seen_time
    if not profile.HasField("first_seen_time"):
        first.CopyFrom(time)
        last.CopyFrom(time)
    elif instant_of(time) < instant_of(first):
        first.CopyFrom(time)
    elif instant_of(time) > instant_of(last):
        last.CopyFrom(time)


def _remember(state: UserState, recent: RecentEvent) -> None:
    events = state.recent
    if not events or instant_of(events[-1].event_time) < instant_of(recent.event_time):
        events.append(recent)
    else:
        events.insert(bisect_right(events, recent_order(recent), key=recent_order), recent)
    if len(events) > MAX_RECENT:
        del events[0]


def _buy(state: UserState, kind: str, event: Event) -> None:
    instant = instant_of(event.event_time)
    if kind == "add_to_cart":
        take_steps(state, event.add_to_cart.items, 1, instant)
    elif kind == "remove_from_cart":
        take_steps(state, event.remove_from_cart.items, -1, instant)
    elif kind == "order":
        profile, last = state.profile, state.profile.last_order_time
        profile.order_count += 1
        if event.order.HasField("total"):
            total = event.order.total
            before = profile.spent[total.currency_code]
            profile.spent[total.currency_code] = round(before + units_of(total), MONEY_DIGITS)
        if not profile.HasField("last_order_time") or instant > instant_of(last):
            last.CopyFrom(event.event_time)
            settle(state)
