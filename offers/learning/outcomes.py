"""Outcomes of offers that were shown: which events count as one, within which time, and what each is worth.

Learning, what-if and experiment reports read outcomes in the log's events here and nowhere else. Their questions
differ, and each difference is a named field of OutcomeRules:

| rules      | question                                  | an outcome belongs to | without consent to learning   |
|------------|-------------------------------------------|-----------------------|-------------------------------|
| LEARNING   | Does this person take up such an offer?   | the offer shown       | the offer is no example       |
| EARNED     | What did the offers of a decision bring?  | the offer shown       | the whole decision is left out|
| EXPERIMENT | What did the persons of a variant do?     | the person            | it counts: nothing is learned |
"""

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from offers.learning.log_reading import EventEntry
from offers.learning.values import NO_SUM, Sum, order_value, sum_of
from offers.model.events import CLICK_WINDOW_S, IMPRESSION_WINDOW_S
from offers.model.proposition_ids import parse_proposition_id
from offers.v1.event_pb2 import (
    EVENT_KIND_CLICK,
    EVENT_KIND_DISMISSAL,
    EVENT_KIND_IMPRESSION,
    EVENT_KIND_ORDER,
    EVENT_KIND_REDEMPTION,
    Event,
    RedemptionEvent,
)


class Reaction(IntEnum):
    """The reaction to an offer that an event reports.

    Checkpoints keep these numbers. Those over 0 are numbers of EventKind.
    """

    REVERSAL = -2
    """A redemption was reversed: it counts as not confirmed."""
    GIFT = -1
    """An order for somebody else, which says nothing about what this person likes."""
    WITHHELD = 0
    """Something that may not be learned from."""
    IMPRESSION = EVENT_KIND_IMPRESSION
    DISMISSAL = EVENT_KIND_DISMISSAL
    CLICK = EVENT_KIND_CLICK
    REDEMPTION = EVENT_KIND_REDEMPTION
    """One that is confirmed: a reserved or released one is no outcome."""
    ORDER = EVENT_KIND_ORDER


class Attribution(IntEnum):
    """To whom an outcome belongs."""

    PROPOSITION = 0
    """To the offer that the event names, or that the server has attributed it to."""
    PERSON = 1
    """To the person, whichever offer it is about."""


class Unconsented(IntEnum):
    """How an event is treated whose person has not agreed to learning."""

    COUNTS = 0
    WITHHOLDS_OFFER = 1
    """The offer becomes WITHHELD: neither a reward nor a refusal."""
    WITHHOLDS_DECISION = 2
    """An outcome becomes WITHHELD, and its whole decision is to be left out."""


class Gifts(IntEnum):
    """How an order for somebody else is treated."""

    COUNT = 0
    """As any order: it is earned all the same."""
    SAY_NOTHING = 1
    """As GIFT: whether the person likes the offer remains unknown."""


class EventClock(IntEnum):
    """Which of an event's two instants its time window is measured by."""

    HAPPENED = 0
    RECEIVED = 1


class OutcomeRules(NamedTuple):
    """How a reader of the log counts outcomes."""

    attribution: Attribution
    unconsented: Unconsented
    gifts: Gifts
    exposures: bool
    """Whether impressions and dismissals are read beside rewards."""
    clock: EventClock
    may_precede: bool
    """Whether an outcome counts that is earlier than its decision, as clocks of apps may differ."""
    reward_of: Mapping[Reaction, str]
    """The name of the reward that a reaction is."""
    order_value: str | None
    """The name of the reward that an order's total is, as a share of a scale; None: totals are not measured."""
    window_s: Mapping[str, int]
    """By name of a reward, the seconds after the showing within which it counts.

    What-if checks each of them. Learning holds a decision for the longest: see settling.HELD_S.
    """

    def is_in_time(self, reward: str, since: int, second: int) -> bool:
        """Return whether a reward at a second counts for something that was shown at another."""
        return second <= since + self.window_s[reward] and (self.may_precede or since <= second)


_DELAYED_S = IMPRESSION_WINDOW_S + CLICK_WINDOW_S
"""Seconds from a decision to the last outcome the server attributes: a click within a day, an order within seven days
of the click."""

LEARNING = OutcomeRules(
    attribution=Attribution.PROPOSITION,
    unconsented=Unconsented.WITHHOLDS_OFFER,
    gifts=Gifts.SAY_NOTHING,
    exposures=True,
    clock=EventClock.RECEIVED,  # the order in which the log is learned
    may_precede=True,
    # An order and a redemption are two ways to take up the same offer.
    reward_of={Reaction.CLICK: "click", Reaction.REDEMPTION: "redemption", Reaction.ORDER: "redemption"},
    order_value="order_value",
    # A late click is a reward as well: a decision is held for the slowest reward in any case.
    window_s={"click": _DELAYED_S, "redemption": _DELAYED_S, "order_value": _DELAYED_S},
)
EARNED = OutcomeRules(
    attribution=Attribution.PROPOSITION,
    unconsented=Unconsented.WITHHOLDS_DECISION,  # a decision that is known in part would bias its value
    gifts=Gifts.COUNT,
    exposures=False,
    clock=EventClock.HAPPENED,
    may_precede=True,
    reward_of={Reaction.CLICK: "click", Reaction.REDEMPTION: "redemption", Reaction.ORDER: "order"},
    order_value="order_value",
    window_s={
        "click": IMPRESSION_WINDOW_S,
        "redemption": _DELAYED_S,
        "order": _DELAYED_S,
        "order_value": _DELAYED_S,
    },
)
EXPERIMENT = OutcomeRules(
    attribution=Attribution.PERSON,
    unconsented=Unconsented.COUNTS,
    gifts=Gifts.COUNT,
    exposures=False,
    clock=EventClock.HAPPENED,
    may_precede=False,  # what was done before the exposure cannot have come of it
    reward_of={Reaction.CLICK: "clicked", Reaction.REDEMPTION: "redeemed", Reaction.ORDER: "ordered"},
    order_value=None,  # totals are summed in their own currencies
    window_s={},
)


def experiment_rules(window_s: int) -> OutcomeRules:
    """Return EXPERIMENT with one window, in seconds, for all its rewards."""
    return EXPERIMENT._replace(window_s=dict.fromkeys(EXPERIMENT.reward_of.values(), window_s))


class OfferOutcome(NamedTuple):
    """One event, as an outcome of something that was shown."""

    reaction: Reaction
    second: int
    """Since 1970, by the clock of the rules. For a reversal by the time at which things happen, that of its
    redemption."""
    decision_id: str
    """The decision that showed the offer; "" where outcomes belong to persons."""
    offer_index: int
    """The offer's index in its decision; not checked against how many there are."""
    amount: Sum
    """The total of an order, or what a redemption took from budgets."""

    def rewards(self, rules: OutcomeRules, scale: Sum | None) -> list[tuple[str, float]]:
        """Return the rewards it is, by name, each from 0 to 1; NaN: there was one, and how much is not known.

        A reversal is the reward of its redemption, taken back: 0. `scale` is what the catalogue measures orders by;
        None: nothing.
        """
        is_gift = self.reaction == Reaction.GIFT
        if self.reaction == Reaction.REVERSAL:
            return [(rules.reward_of[Reaction.REDEMPTION], 0.0)]
        reward = rules.reward_of.get(Reaction.ORDER if is_gift else self.reaction)
        if reward is None:
            return []
        found = [(reward, math.nan if is_gift else 1.0)]
        if scale and rules.order_value and (is_gift or self.reaction == Reaction.ORDER):
            found.append((rules.order_value, math.nan if is_gift else order_value(self.amount, scale)))
        return found


_REACTIONS = {int(one): one for one in Reaction if one > 0}
# Members as globals: looking them up in their enums would cost as much as the rest of outcome_of.
_REDEMPTION, _ORDER, _REVERSAL = Reaction.REDEMPTION, Reaction.ORDER, Reaction.REVERSAL
_COUNTS, _PROPOSITION, _HAPPENED = Unconsented.COUNTS, Attribution.PROPOSITION, EventClock.HAPPENED


def outcome_of(event: EventEntry, rules: OutcomeRules) -> OfferOutcome | None:
    """Read an event as an outcome. Returns None where it is none, or belongs to nothing that was shown."""
    reaction = _REACTIONS.get(event.kind)
    if reaction is None:
        return None
    is_withheld = not event.learn and rules.unconsented is not _COUNTS
    if not (is_withheld or rules.exposures or reaction in rules.reward_of):
        return None
    told = Event.FromString(event.body)
    if reaction is _REDEMPTION and (reaction := _redemption_of(told.redemption)) is None:
        return None
    decision_id, index = "", 0
    if rules.attribution is _PROPOSITION:
        proposition = parse_proposition_id(told.proposition_id or told.attributed_proposition_id)
        if proposition is None:
            return None
        decision_id, rank = proposition
        index = rank - 1
    amount = NO_SUM
    if reaction is _ORDER:
        amount = sum_of(told.order.total)
        if told.order.gift and rules.gifts is Gifts.SAY_NOTHING:
            reaction = Reaction.GIFT
    elif event.kind == _REDEMPTION:
        amount = sum_of(told.redemption.amount)
    second = _second_of(event, told, reaction) if rules.clock is _HAPPENED else event.received
    if is_withheld:
        reaction = Reaction.WITHHELD
    # The constructor of a NamedTuple is a Python function, four times as slow.
    return tuple.__new__(OfferOutcome, (reaction, second, decision_id, index, amount))


def _second_of(event: EventEntry, told: Event, reaction: Reaction) -> int:
    """Return when an outcome happened; for a reversal when what it reverses did."""
    return told.redemption.confirm_time.seconds if reaction is _REVERSAL else event.second


def _redemption_of(redemption: RedemptionEvent) -> Reaction | None:
    if redemption.phase == RedemptionEvent.PHASE_CONFIRM:
        return _REDEMPTION
    is_reversal = redemption.phase == RedemptionEvent.PHASE_REVERSE and redemption.HasField("confirm_time")
    return _REVERSAL if is_reversal else None
