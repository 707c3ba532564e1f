"""What events do to the state of the person whose they are."""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from offers.model.acts import NO_TRAITS, visits_of
from offers.model.events import KINDS, items_of
from offers.model.facts import OfferFacts
from offers.model.visits import NOTHING, merged
from offers.state.person.basket import settle, take_steps
from offers.state.person.counters import Counters, find_aligned, hour_of
from offers.state.person.leanings import Leanings, leans_of
from offers.v1.event_pb2 import Event, RedemptionEvent
from offers.v1.state_pb2 import RecentEvent, UserState

MAX_RECENT = 50
MAX_APPLIED = 256
"""Events of a person whose ids are remembered: as many may come between a fault and its repair."""
_HASH_BYTES = 8
_MONEY_DIGITS = 6
"""Sums are rounded to millionths, so that they do not depend on the order of what is summed."""


class Happened(NamedTuple):
    """An event, and the offer it is about."""

    event: Event
    """With its `event_time`."""
    facts: OfferFacts | None
    """None: it is about none that is known."""
    geohash: str = ""
    """Where it happened; "": that is not kept."""
    time_zone: str = "UTC"
    """Whose clock tells when it happened: that of its catalogue."""


def apply(record: bytes, happened: Sequence[Happened], erased: int = -1) -> bytes | None:
    """A person's record after some events, in whatever order they come, each at most once; None: it stays as it is.

    What happened up to the second `erased` changes nothing. Exact, but for what is kept of the last or strongest alone
    (counters, recent events, steps of the basket, names): there, as long as what is forgotten does not come again.
    """
    state = UserState.FromString(record)
    counters: Counters | None = None
    leanings: Leanings | None = None
    applied = state.applied
    before = state.profile.last_seen_time.seconds
    visits = b""
    changed = False
    for event, facts, geohash, time_zone in happened:
        seconds = event.event_time.seconds
        digest = hash_of(event.event_id)
        if seconds <= erased or find_aligned(applied, digest, _HASH_BYTES) >= 0:
            continue
        changed = True
        applied += digest
        kind = event.WhichOneof("kind") or ""
        _see(state, event.event_time)
        if kind == "redemption" and event.redemption.phase != RedemptionEvent.PHASE_CONFIRM:
            continue
        _remember(state, recent_of(event, facts))
        _buy(state, kind, event)
        if facts is not None:
            number = KINDS[kind]
            for spec in facts.counters:
                if spec.kind == number:
                    counters = counters or Counters(state.counters, state.times)
                    counters.add(spec, seconds)
        if leans := leans_of(kind, event, facts):
            leanings = leanings or Leanings(state)
            leanings.add(leans, seconds)
        item, traits = (facts.item, facts.traits) if facts is not None else (NOTHING, NO_TRAITS)
        visits += visits_of(event, kind, geohash, time_zone, item, traits)
    if not changed:
        return None
    if visits:
        state.visits = merged(state.visits, visits)
    _pack(state, counters, before)
    state.applied = applied[-MAX_APPLIED * _HASH_BYTES :]
    return state.SerializeToString()


def _pack(state: UserState, counters: Counters | None, before: int) -> None:
    """Keep counters that have changed, or of which some may be over in the hour the person was last seen."""
    last = state.profile.last_seen_time.seconds
    if counters is None and hour_of(last) > before:
        counters = Counters(state.counters, state.times)
    if counters is not None:
        state.counters, state.times = counters.packed(last, before)


def hash_of(event_id: str) -> bytes:
    """By which an event that has taken effect is known."""
    return blake2b(event_id.encode(), digest_size=_HASH_BYTES).digest()


def recent_of(event: Event, facts: OfferFacts | None) -> RecentEvent:
    """What is kept of an event among the recent ones."""
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


def _see(state: UserState, time: Timestamp) -> None:
    profile = state.profile
    first, last = profile.first_seen_time, profile.last_seen_time
    at = time.seconds, time.nanos
    if not profile.HasField("first_seen_time"):
        first.CopyFrom(time)
        last.CopyFrom(time)
    elif at < (first.seconds, first.nanos):
        first.CopyFrom(time)
    elif at > (last.seconds, last.nanos):
        last.CopyFrom(time)


def _remember(state: UserState, recent: RecentEvent) -> None:
    events = state.recent
    if not events or _time(events[-1]) < _time(recent):
        events.append(recent)
    else:
        events.insert(bisect_right(events, recent_order(recent), key=recent_order), recent)
    if len(events) > MAX_RECENT:
        del events[0]


def recent_order(recent: RecentEvent) -> tuple[object, ...]:
    """By time; of the same instant, by all else."""
    return *_time(recent), recent.SerializeToString()


def _time(recent: RecentEvent) -> tuple[int, int]:
    time = recent.event_time
    return time.seconds, time.nanos


def _buy(state: UserState, kind: str, event: Event) -> None:
    time = event.event_time
    if kind == "add_to_cart":
        take_steps(state, event.add_to_cart.items, 1, time.seconds, time.nanos)
    elif kind == "remove_from_cart":
        take_steps(state, event.remove_from_cart.items, -1, time.seconds, time.nanos)
    elif kind == "order":
        profile, last = state.profile, state.profile.last_order_time
        profile.order_count += 1
        if event.order.HasField("total"):
            total = event.order.total
            before = profile.spent[total.currency_code]
            profile.spent[total.currency_code] = round(before + total.units + total.nanos / 1e9, _MONEY_DIGITS)
        if not profile.HasField("last_order_time") or (time.seconds, time.nanos) > (last.seconds, last.nanos):
            last.CopyFrom(time)
            settle(state)
