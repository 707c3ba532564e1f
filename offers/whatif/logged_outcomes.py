"""Reads the log for what-if: decisions that may be used, with the outcome of each offer they showed."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from offers.learning.outcomes import EARNED, OfferOutcome, Reaction, outcome_of
from offers.learning.values import Sum
from offers.state.stores import EventLog, LoggedDecision
from offers.v1.state_pb2 import DecisionRecord

REWARDS = tuple(EARNED.window_s)
"""Names of the rewards that can be asked for."""
UNTAUGHT, WITHDRAWN, EMPTY, UNMEASURED = (
    "without consent to learning",
    "with an outcome that is not to be learned",
    "showed nothing",
    "with an order that has no total, or one of another currency",
)
"""Why decisions are left out."""
PAGE = 5_000
Logged = TypeVar("Logged")


class DecisionFilter(NamedTuple):
    """Which decisions are wanted, and how orders are measured."""

    catalog: str
    placement: str | None = None
    """None: any; "": decisions that named none."""
    since: float = 0.0
    """Decisions made from this second on."""
    empty: bool = False
    """Also decisions that showed nothing."""
    scale: Sum | None = None
    """The scale of order values; None: they are not asked for, and are 0 throughout."""


@dataclass(slots=True)
class ShownDecision:
    """A decision, and the outcomes of the offers it showed."""

    number: int
    """Its number in the log."""
    second: int
    person: str
    told: DecisionRecord
    rewards: dict[str, list[float]]
    """By reward, for each offer 1 or 0; for order values a share of the scale."""
    paid: list[tuple[str, Sum]] = field(default_factory=list)
    """For each redemption the offer, and what it took from budgets."""


@dataclass(slots=True)
class EvaluationLog:
    """The decisions of a log that can be used."""

    shown: list[ShownDecision] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """By reason, the number of decisions that are left out."""
    latest: int = 0
    """The latest second at which a decision was made or an event received."""

    def open_windows(self, reward: str) -> int:
        """Return the number of decisions for which more rewards of a kind may come."""
        return sum(one.second + EARNED.window_s[reward] > self.latest for one in self.shown)


def read_log(events: EventLog, wanted: DecisionFilter) -> EvaluationLog:
    """Read the wanted decisions and their outcomes. Raises StoreUnavailableError."""
    log = EvaluationLog()
    found: dict[str, ShownDecision] = {}
    for number, decision in pages(events.decisions_after):
        log.latest = max(log.latest, decision.second)
        if decision.second >= wanted.since and (one := _shown(number, decision, wanted, log.left_out)):
            found[decision.decision_id] = one
    withdrawn = set()
    for _, event in pages(events.read):
        log.latest = max(log.latest, event.received)
        outcome = outcome_of(event, EARNED)
        shown = found.get(outcome.decision_id) if outcome else None
        if outcome is None or shown is None or not 0 <= outcome.offer_index < len(shown.told.offer_ids):
            continue
        if outcome.reaction == Reaction.WITHHELD:
            withdrawn.add(outcome.decision_id)
        else:
            _note(shown, outcome, wanted.scale)
    if withdrawn:
        log.left_out[WITHDRAWN] = len(withdrawn)
    kept = [one for decision_id, one in found.items() if decision_id not in withdrawn]
    log.shown = [one for one in kept if not any(map(math.isnan, one.rewards["order_value"]))]
    if len(log.shown) < len(kept):
        log.left_out[UNMEASURED] = len(kept) - len(log.shown)
    return log


def pages(read: Callable[[int, int], Sequence[tuple[int, Logged]]]) -> Iterator[tuple[int, Logged]]:
    """Yield all entries of a log with their numbers, reading a page at a time."""
    after = 0
    while page := read(after, PAGE):
        yield from page
        after = page[-1][0]


def _shown(
    number: int, decision: LoggedDecision, wanted: DecisionFilter, left_out: Counter[str]
) -> ShownDecision | None:
    """Return a decision without outcomes yet, or None where it is not wanted or must be left out."""
    told = decision.told()
    if told.catalog != wanted.catalog or (wanted.placement is not None and told.placement != wanted.placement):
        return None
    why = UNTAUGHT if not told.learn else EMPTY if not (told.offer_ids or wanted.empty) else ""
    if why:
        left_out[why] += 1
        return None
    rewards = {name: [0.0] * len(told.offer_ids) for name in REWARDS}
    return ShownDecision(number, decision.second, decision.person, told, rewards)


def _note(shown: ShownDecision, outcome: OfferOutcome, scale: Sum | None) -> None:
    """Note the rewards of an outcome that came in time; NaN for the value of an order that cannot be measured."""
    index = outcome.offer_index
    for reward, value in outcome.rewards(EARNED, scale):
        if not EARNED.is_in_time(reward, shown.second, outcome.second):
            continue
        paid = shown.told.offer_ids[index], outcome.amount
        if outcome.reaction == Reaction.REVERSAL:
            if paid in shown.paid:
                shown.paid.remove(paid)
            shown.rewards[reward][index] = float(any(offer_id == paid[0] for offer_id, _ in shown.paid))
            continue
        if not shown.rewards[reward][index]:  # the first over 0 counts, as in learning
            shown.rewards[reward][index] = value
        if outcome.reaction == Reaction.REDEMPTION:
            shown.paid.append(paid)
