"""Which triggers a person is to be looked at for, and from when on: worked out of what is kept of the person alone."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from offers.state.person.basket import fill_in, is_empty
from offers.state.person.consent import Purposes, agreed
from offers.state.stores import NEVER
from offers.v1.context_pb2 import CONSENT_PURPOSE_MESSAGING, CONSENT_PURPOSE_PROFILING, User
from offers.v1.profile_pb2 import Basket
from offers.v1.state_pb2 import TriggerMark, UserState, UserStateDue
from offers.v1.trigger_pb2 import AbandonedBasket, Lapsing, Trigger

IDLE_S = 1_800
WITHIN_S = COOL_DOWN_S = 86_400
"""What triggers leave out."""
RETRY_S = 3_600
"""When somebody is looked at again, at the latest, for whom there was nothing."""
AHEAD_S = 300
"""By how much clocks differ."""
_NOBODY = User()
_NEEDED = frozenset({CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_MESSAGING})


class Watched(NamedTuple):
    """A trigger that is in force, with what it leaves out. Spans are seconds."""

    catalog: str
    trigger: Trigger
    delay_s: int
    """How long its condition must last."""
    within_s: int
    cool_down_s: int
    counts_from: str
    """Since what its condition counts: "basket", or a field of Profile."""


def watched_of(catalog: str, trigger: Trigger) -> Watched:
    """A trigger of a catalogue."""
    basket, lapsing = trigger.abandoned_basket, trigger.lapsing
    delay_s, counts_from = basket.idle.seconds if basket.HasField("idle") else IDLE_S, "basket"
    if trigger.HasField("lapsing"):
        delay_s, counts_from = lapsing.after.seconds, "last_seen_time"
        if lapsing.since == Lapsing.SINCE_LAST_ORDER:
            counts_from = "last_order_time"
    within_s = trigger.within.seconds if trigger.HasField("within") else WITHIN_S
    cool_down_s = trigger.cool_down.seconds if trigger.HasField("cool_down") else COOL_DOWN_S
    return Watched(catalog, trigger, delay_s, within_s, cool_down_s, counts_from)


class Occasion(NamedTuple):
    """What a trigger speaks of once, such as one basket that was left behind."""

    watched: Watched
    begin: int
    """The second since which the condition counts, such as the basket's last change."""
    true: int
    """The second at which the condition becomes true."""
    due: int
    """The second from which on the person is to be looked at for it."""


def due_second(record: bytes, watched: Sequence[Watched], default: Purposes, now: int) -> int:
    """The first second at which a person (an encoded UserState) is to be looked at; NEVER: nothing is to be waited for.

    `now` is the second it is asked at, `default` are the purposes of those who have said nothing.
    """
    state = UserStateDue.FromString(record)
    if not may_be_addressed(state, default):
        return NEVER
    return min((one.due for one in occasions(state, watched, now)), default=NEVER)


def may_be_addressed(state: UserState | UserStateDue, default: Purposes) -> bool:
    """Whether a person has agreed to be addressed without having asked, and to what is known for that being used."""
    return agreed(_NOBODY, state.profile.consents, default) >= _NEEDED


def occasions(state: UserState | UserStateDue, watched: Sequence[Watched], now: int) -> list[Occasion]:
    """What triggers have to say to a person at a second, or will have, in their order.

    What an offer was sent for is none any more, nor what is over, or will be before it may be looked at. What was kept
    by a clock that was ahead counts for nothing, but that an offer was sent.
    """
    marks = {(mark.catalog, mark.trigger_id): mark for mark in state.triggers}
    found = []
    for one in watched:
        before = marks.get((one.catalog, one.trigger.trigger_id)) if marks else None
        if occasion := _occasion(one, before, state, now):
            found.append(occasion)
    return found


def mark(state: UserState, occasion: Occasion, *, sent: int = 0, retry: int = 0) -> None:
    """Keep that a person was looked at: an offer was sent at a second, or another look is to be had then."""
    found = _mark_of(state, occasion.watched.catalog, occasion.watched.trigger.trigger_id)
    found.begin, found.sent, found.retry = occasion.begin, sent > 0, retry
    found.last_sent = sent or found.last_sent


def forget_others(state: UserState, catalogs: Collection[str], watched: Sequence[Watched]) -> None:
    """Forget what became of triggers that some catalogues do not have any more."""
    known = {(one.catalog, one.trigger.trigger_id) for one in watched}
    kept = [one for one in state.triggers if one.catalog not in catalogs or (one.catalog, one.trigger_id) in known]
    if len(kept) < len(state.triggers):
        copies = UserState(triggers=kept)
        state.ClearField("triggers")
        state.triggers.extend(copies.triggers)


def merge_marks(ours: UserState, theirs: UserState) -> None:
    """Let what became of triggers for another person count for this one as well: the later look, and the last offer."""
    for other in theirs.triggers:
        found = _mark_of(ours, other.catalog, other.trigger_id)
        last_sent = max(found.last_sent, other.last_sent)
        if _rank(other) > _rank(found):
            found.CopyFrom(other)
        found.last_sent = last_sent
    ours.triggers.sort(key=lambda one: (one.catalog, one.trigger_id))


def _rank(of: TriggerMark) -> tuple[int, bool, int]:
    return of.begin, of.sent, of.retry


def _mark_of(state: UserState, catalog: str, trigger_id: str) -> TriggerMark:
    found = (one for one in state.triggers if one.catalog == catalog and one.trigger_id == trigger_id)
    return next(found, None) or state.triggers.add(catalog=catalog, trigger_id=trigger_id)


def _occasion(
    watched: Watched, before: TriggerMark | None, state: UserState | UserStateDue, now: int
) -> Occasion | None:
    if watched.counts_from != "basket":
        begin: int = getattr(state.profile, watched.counts_from).seconds
    elif is_empty(state.basket_steps) or not _is_worth_it(watched.trigger.abandoned_basket, state):
        return None
    else:
        begin = state.basket_steps[-1].event_time.seconds
    if not begin:
        return None
    true = due = begin + watched.delay_s
    if before is not None:
        if before.sent and begin <= before.begin:
            return None
        if 0 < before.last_sent <= now + AHEAD_S:
            due = max(due, before.last_sent + watched.cool_down_s)
        if begin == before.begin and before.retry <= now + RETRY_S + AHEAD_S:
            due = max(due, before.retry)
    return None if max(due, now) > true + watched.within_s else Occasion(watched, begin, true, due)


def _is_worth_it(wanted: AbandonedBasket, state: UserState | UserStateDue) -> bool:
    if not wanted.HasField("minimum_value"):
        return True
    basket, least = Basket(), wanted.minimum_value
    fill_in(basket, state.basket_steps)
    value = basket.value
    return value.currency_code == least.currency_code and (value.units, value.nanos) >= (least.units, least.nanos)
