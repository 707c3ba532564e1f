"""Computes from a person's record alone when which triggers are due."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from offers.model.instants import CLOCK_SKEW_S, DAY_S, HOUR_S
from offers.state.person.basket import fill_in, is_empty
from offers.state.person.consent import Purposes, agreed
from offers.state.stores import NEVER
from offers.v1.context_pb2 import CONSENT_PURPOSE_MESSAGING, CONSENT_PURPOSE_PROFILING, User
from offers.v1.profile_pb2 import Basket
from offers.v1.state_pb2 import TriggerMark, UserState, UserStateDue
from offers.v1.trigger_pb2 import AbandonedBasket, Lapsing, Trigger

IDLE_S = 1_800
WITHIN_S = COOL_DOWN_S = DAY_S
"""Defaults of the spans a trigger does not set."""
RETRY_S = HOUR_S
"""The longest wait before a person is checked again after no offer was found."""
_NOBODY = User()
_NEEDED = frozenset({CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_MESSAGING})


class Watched(NamedTuple):
    """An active trigger with its defaults filled in. Spans are in seconds."""

    catalog: str
    trigger: Trigger
    delay_s: int
    """How long its condition must hold."""
    within_s: int
    cool_down_s: int
    counts_from: str
    """What restarts its condition: "basket", or a field of Profile with an instant."""


def watched_of(catalog: str, trigger: Trigger) -> Watched:
    """Return a trigger of a catalogue with its defaults filled in."""
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
    """One cause that a trigger may send a message for once, such as one abandoned basket."""

    watched: Watched
    begin: int
    """The second from which the condition counts, such as the basket's last change."""
    true: int
    """The second at which the condition becomes true."""
    due: int
    """The second from which on the person is due."""


def due_second(record: bytes, watched: Sequence[Watched], default: Purposes, now: int) -> int:
    """Return the first second at which a person is due; NEVER without anything to wait for.

    `record` is an encoded UserState, `default` the consent of persons who have decided nothing.
    """
    state = UserStateDue.FromString(record)
    if not may_be_addressed(state, default):
        return NEVER
    return min((one.due for one in occasions(state, watched, now)), default=NEVER)


def may_be_addressed(state: UserState | UserStateDue, default: Purposes) -> bool:
    """Return whether a person has agreed to messages, and to profiling, which selects them."""
    return agreed(_NOBODY, state.profile.consents, default) >= _NEEDED


def occasions(state: UserState | UserStateDue, watched: Sequence[Watched], now: int) -> list[Occasion]:
    """Return the present and coming occasions of a person, in the order of the triggers.

    Left out are occasions for which an offer was sent, and those that have ended, or will before the person is due.
    Marks written by a clock that was ahead are ignored, except that an offer was sent.
    """
    marks = {(mark.catalog, mark.trigger_id): mark for mark in state.triggers}
    found = []
    for one in watched:
        before = marks.get((one.catalog, one.trigger.trigger_id)) if marks else None
        if occasion := _occasion(one, before, state, now):
            found.append(occasion)
    return found


def mark(state: UserState, occasion: Occasion, *, sent: int = 0, retry: int = 0) -> None:
    """Record a check of an occasion: an offer was sent at the second `sent`, or the next check is at `retry`."""
    found = _mark_of(state, occasion.watched.catalog, occasion.watched.trigger.trigger_id)
    found.begin, found.sent, found.retry = occasion.begin, sent > 0, retry
    found.last_sent = sent or found.last_sent


def forget_others(state: UserState, catalogs: Collection[str], watched: Sequence[Watched]) -> None:
    """Remove the marks of triggers that some catalogues no longer have."""
    known = {(one.catalog, one.trigger.trigger_id) for one in watched}
    kept = [one for one in state.triggers if one.catalog not in catalogs or (one.catalog, one.trigger_id) in known]
    if len(kept) < len(state.triggers):
        copies = UserState(triggers=kept)
        state.ClearField("triggers")
        state.triggers.extend(copies.triggers)


def merge_marks(ours: UserState, theirs: UserState) -> None:
    """Add another person's marks: of each trigger the later check, and the last offer."""
    for other in theirs.triggers:
        found = _mark_of(ours, other.catalog, other.trigger_id)
        last_sent = max(found.last_sent, other.last_sent)
        if _rank(other) > _rank(found):
            found.CopyFrom(other)
        found.last_sent = last_sent
    ours.triggers.sort(key=lambda one: (one.catalog, one.trigger_id))


def _rank(mark: TriggerMark) -> tuple[int, bool, int]:
    return mark.begin, mark.sent, mark.retry


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
        if 0 < before.last_sent <= now + CLOCK_SKEW_S:
            due = max(due, before.last_sent + watched.cool_down_s)
        if begin == before.begin and before.retry <= now + RETRY_S + CLOCK_SKEW_S:
            due = max(due, before.retry)
    return None if max(due, now) > true + watched.within_s else Occasion(watched, begin, true, due)


def _is_worth_it(wanted: AbandonedBasket, state: UserState | UserStateDue) -> bool:
    if not wanted.HasField("minimum_value"):
        return True
    basket, least = Basket(), wanted.minimum_value
    fill_in(basket, state.basket_steps)
    value = basket.value
    return value.currency_code == least.currency_code and (value.units, value.nanos) >= (least.units, least.nanos)
