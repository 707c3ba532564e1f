"""Which triggers a person is to be looked at for, and from when on: worked out of what is kept of the person alone."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from google.type.money_pb2 import Money

from offers.state.basket import fill_in
from offers.state.consent import Purposes, agreed
from offers.state.stores import NEVER
from offers.v1.context_pb2 import CONSENT_PURPOSE_MESSAGING, CONSENT_PURPOSE_PROFILING, User
from offers.v1.profile_pb2 import Basket
from offers.v1.state_pb2 import TriggerMark, UserState
from offers.v1.trigger_pb2 import Lapsing, Trigger

IDLE_S = 1_800
WITHIN_S = COOL_DOWN_S = 86_400
"""What triggers leave out."""
RETRY_S = 3_600
"""When somebody is looked at again, at the latest, for whom there was nothing."""
AHEAD_S = 300
"""By how much clocks differ."""
_NEEDED = frozenset({CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_MESSAGING})


class Watched(NamedTuple):
    """A trigger that is in force."""

    catalog: str
    trigger: Trigger


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
    state = UserState.FromString(record)
    if not may_be_addressed(state, default):
        return NEVER
    return min((one.due for one in occasions(state, watched, now)), default=NEVER)


def may_be_addressed(state: UserState, default: Purposes) -> bool:
    """Whether a person has agreed to be addressed without having asked, and to what is known for that being used."""
    return agreed(User(), state.profile.consents, default) >= _NEEDED


def occasions(state: UserState, watched: Sequence[Watched], now: int) -> list[Occasion]:
    """What triggers have to say to a person at a second, or will have, in their order.

    What an offer was sent for is none any more, nor what is over, or will be before it may be looked at. What was kept
    by a clock that was ahead counts for nothing, but that an offer was sent.
    """
    basket = Basket()
    if state.basket_steps and any(one.trigger.HasField("abandoned_basket") for one in watched):
        fill_in(basket, state.basket_steps)
    marks = {(mark.catalog, mark.trigger_id): mark for mark in state.triggers}
    found = (_occasion(one, marks.get((one.catalog, one.trigger.trigger_id)), state, basket, now) for one in watched)
    return [one for one in found if one is not None]


def mark(state: UserState, occasion: Occasion, *, sent: int = 0, retry: int = 0) -> None:
    """Keep that a person was looked at: an offer was sent at a second, or another look is to be had then."""
    catalog, trigger = occasion.watched
    found = _mark_of(state, catalog, trigger.trigger_id)
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
    watched: Watched, before: TriggerMark | None, state: UserState, basket: Basket, now: int
) -> Occasion | None:
    trigger = watched.trigger
    begin = _begin(trigger, state, basket)
    if not begin:
        return None
    true = due = begin + _delay_s(trigger)
    if before is not None:
        if before.sent and begin <= before.begin:
            return None
        if 0 < before.last_sent <= now + AHEAD_S:
            due = max(due, before.last_sent + _seconds(trigger, "cool_down", COOL_DOWN_S))
        if begin == before.begin and before.retry <= now + RETRY_S + AHEAD_S:
            due = max(due, before.retry)
    is_over = max(due, now) > true + _seconds(trigger, "within", WITHIN_S)
    return None if is_over else Occasion(watched, begin, true, due)


def _begin(trigger: Trigger, state: UserState, basket: Basket) -> int:
    """The second since which a condition counts; 0: it cannot become true as things are."""
    if trigger.HasField("abandoned_basket"):
        wanted = trigger.abandoned_basket
        is_worth_it = not wanted.HasField("minimum_value") or _is_worth(basket.value, wanted.minimum_value)
        return basket.update_time.seconds if basket.items and is_worth_it else 0
    if trigger.lapsing.since == Lapsing.SINCE_LAST_ORDER:
        return state.profile.last_order_time.seconds
    return state.profile.last_seen_time.seconds


def _delay_s(trigger: Trigger) -> int:
    if trigger.HasField("lapsing"):
        return trigger.lapsing.after.seconds
    basket = trigger.abandoned_basket
    return basket.idle.seconds if basket.HasField("idle") else IDLE_S


def _seconds(trigger: Trigger, name: str, default: int) -> int:
    """What a trigger says of a span of time."""
    return int(getattr(trigger, name).seconds) if trigger.HasField(name) else default  # type: ignore[arg-type]


def _is_worth(value: Money, least: Money) -> bool:
    return value.currency_code == least.currency_code and (value.units, value.nanos) >= (least.units, least.nanos)
