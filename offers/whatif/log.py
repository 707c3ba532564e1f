"""What a server has logged: decisions that may be learned from, and what came of each offer they showed."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from offers.learning.values import Sum, order_value, sum_of
from offers.model.proposition_ids import parse_proposition_id
from offers.state.person.attribution import CLICK_WINDOW_S, IMPRESSION_WINDOW_S
from offers.state.stores import EventLog, LoggedDecision, LoggedEvent
from offers.v1.event_pb2 import (
    EVENT_KIND_CLICK,
    EVENT_KIND_DISMISSAL,
    EVENT_KIND_IMPRESSION,
    EVENT_KIND_ORDER,
    EVENT_KIND_REDEMPTION,
    Event,
    EventKind,
    RedemptionEvent,
)
from offers.v1.state_pb2 import DecisionRecord

WINDOW_S = {
    "click": IMPRESSION_WINDOW_S,
    "redemption": IMPRESSION_WINDOW_S + CLICK_WINDOW_S,
    "order": IMPRESSION_WINDOW_S + CLICK_WINDOW_S,
    "order_value": IMPRESSION_WINDOW_S + CLICK_WINDOW_S,
}
"""Of each reward, the seconds after a decision within which it counts: as long as outcomes are attributed."""
REWARD_OF: dict[EventKind.ValueType, str] = {
    EVENT_KIND_CLICK: "click", EVENT_KIND_REDEMPTION: "redemption", EVENT_KIND_ORDER: "order",
}  # fmt: skip
UNTAUGHT, WITHDRAWN, EMPTY, UNMEASURED = (
    "without consent to learning",
    "with an outcome that is not to be learned",
    "showed nothing",
    "with an order that has no total, or one of another currency",
)
"""Why decisions are left out."""
PAGE = 5_000
_KINDS = {*REWARD_OF, EVENT_KIND_IMPRESSION, EVENT_KIND_DISMISSAL}
Logged = TypeVar("Logged", LoggedDecision, LoggedEvent)


class Wanted(NamedTuple):
    """Which decisions are wanted."""

    catalog: str
    placement: str | None = None
    """None: any; "": those that named none."""
    since: float = 0.0
    """Those made from this second on."""
    empty: bool = False
    """Also those that showed nothing."""
    scale: Sum | None = None
    """What orders are measured by; None: what they are worth is not asked for, and 0 throughout."""


@dataclass(slots=True)
class Shown:
    """A decision, and what came of the offers it showed."""

    number: int
    """Its place in the log."""
    second: int
    person: str
    told: DecisionRecord
    rewards: dict[str, list[float]]
    """By reward, 1 for each offer that it came of, else 0; of order values, a share of the scale."""
    paid: list[tuple[str, str, float]] = field(default_factory=list)
    """Of each redemption the offer, and what it took from budgets: a currency and units of it."""


@dataclass(slots=True)
class Log:
    """What is wanted of a log."""

    shown: list[Shown] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """How many decisions are left out, by why."""
    latest: int = 0
    """The latest second at which something was made or taken in."""

    def open_windows(self, reward: str) -> int:
        """Decisions of which more rewards of a kind may yet come."""
        return sum(one.second + WINDOW_S[reward] > self.latest for one in self.shown)


def read_log(events: EventLog, wanted: Wanted) -> Log:
    """Read the decisions that are wanted, and what came of them. Raises StoreUnavailableError."""
    log = Log()
    found: dict[str, Shown] = {}
    for number, decision in _paged(events.decisions_after):
        log.latest = max(log.latest, decision.second)
        if decision.second >= wanted.since and (one := _shown(number, decision, wanted, log.left_out)):
            found[decision.decision_id] = one
    gone = set()
    for _, event in _paged(events.read):
        log.latest = max(log.latest, event.received)
        if event.kind not in _KINDS or (event.learn and event.kind not in REWARD_OF):
            continue
        told = Event.FromString(event.body)
        proposition = parse_proposition_id(told.proposition_id or told.attributed_proposition_id)
        of = found.get(proposition.decision_id) if proposition else None
        if of is None or proposition is None or proposition.rank > len(of.told.offer_ids):
            continue
        if event.learn:
            _reward(of, proposition.rank - 1, event, told, wanted.scale)
        else:
            gone.add(proposition.decision_id)
    if gone:
        log.left_out[WITHDRAWN] = len(gone)
    kept = [one for decision_id, one in found.items() if decision_id not in gone]
    log.shown = [one for one in kept if not any(map(math.isnan, one.rewards["order_value"]))]
    if len(log.shown) < len(kept):
        log.left_out[UNMEASURED] = len(kept) - len(log.shown)
    return log


def _shown(number: int, decision: LoggedDecision, wanted: Wanted, left_out: Counter[str]) -> Shown | None:
    """A decision as it is wanted, without outcomes yet; None: it is not, or must be left out."""
    told = decision.told()
    if told.catalog != wanted.catalog or (wanted.placement is not None and told.placement != wanted.placement):
        return None
    why = UNTAUGHT if not told.learn else EMPTY if not (told.offer_ids or wanted.empty) else ""
    if why:
        left_out[why] += 1
        return None
    rewards = {name: [0.0] * len(told.offer_ids) for name in WINDOW_S}
    return Shown(number, decision.second, decision.person, told, rewards)


def _reward(of: Shown, place: int, event: LoggedEvent, told: Event, scale: Sum | None) -> None:
    """Note a reward that came in time; NaN for what an order is worth that cannot be measured."""
    name = REWARD_OF[event.kind]
    if event.second > of.second + WINDOW_S[name]:
        return
    if name == "redemption":
        if told.redemption.phase != RedemptionEvent.PHASE_CONFIRM:
            return
        of.paid.append((of.told.offer_ids[place], *sum_of(told.redemption.amount)))
    of.rewards[name][place] = 1.0
    if name == "order" and scale and not of.rewards["order_value"][place]:  # the first over 0 counts, as in learning
        of.rewards["order_value"][place] = order_value(sum_of(told.order.total), scale)


def _paged(read: Callable[[int, int], Sequence[tuple[int, Logged]]]) -> Iterator[tuple[int, Logged]]:
    """All of a log, a page at a time."""
    after = 0
    while page := read(after, PAGE):
        yield from page
        after = page[-1][0]
