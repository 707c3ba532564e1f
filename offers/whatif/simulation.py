"""Compares what another catalogue or strategy would show in logged decisions: offers, rewards, budgets, segments."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from offers.decision.budgets import Budget
from offers.learning.values import NO_SUM, Sum, sum_of
from offers.model.money import MICROS
from offers.state.stores import EventLog
from offers.v1.offer_pb2 import Offer
from offers.whatif.evaluation import decided_again, listing, measured, nothing
from offers.whatif.expected_rewards import Moments
from offers.whatif.fairness import Exposures, exposure_table, gains
from offers.whatif.logged_outcomes import DecisionFilter, EvaluationLog, read_log
from offers.whatif.off_policy import EvaluationError, Floats
from offers.whatif.replay import Replay

UNSAID = "(not said)"
"""The segment of decisions without the attribute."""
PRIVATE = "person"


class OfferChange(NamedTuple):
    """The number of decisions in which an offer is shown."""

    offer: str
    before: int
    after: int


class BudgetUse(NamedTuple):
    """The expected use of a budget by redemptions, over all decisions."""

    budget: str
    """ "offer:" or "campaign:" and the id."""
    limit: str
    """In words, with its period where it has one."""
    redemptions_before: float
    redemptions_after: float
    currency: str
    """Currency of the amounts; "": the budget has none."""
    amount_before: float
    amount_after: float


class SegmentChange(NamedTuple):
    """The comparison for the decisions with one value of an attribute."""

    segment: str
    decisions: int
    decision_share: float
    """Share of all decisions, 0 to 1."""
    exposure_before: float
    """Share of all offers shown, 0 to 1."""
    exposure_after: float
    reward_before: float
    """Expected, per decision."""
    reward_after: float
    top_offer_before: str
    """The offer that the segment is shown most often."""
    top_offer_after: str


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result of a simulation."""

    reward: str
    scale: Sum | None
    """The scale of order values; None for other rewards."""
    decisions: int
    left_out: dict[str, int]
    """By reason, the number of decisions that were left out."""
    unchanged: int
    """Decisions with the same offers in the same order."""
    reward_before: float
    """Expected, per decision."""
    reward_after: float
    offers: tuple[OfferChange, ...]
    """The largest changes first."""
    unmet: tuple[str, ...]
    """Offers that the log never showed: their expected rewards rest on the attributes they share with others."""
    budgets: tuple[BudgetUse, ...]
    segments: dict[str, tuple[SegmentChange, ...]]
    """By attribute; segments that lose most come first."""


def simulate(
    events: EventLog,
    wanted: DecisionFilter,
    after: Replay,
    before: Replay | None,
    reward: str,
    attributes: Sequence[str],
) -> Simulation:
    """Compare what a replay shows with what was logged or, if given, with what another replay shows.

    Raises EvaluationError where there is nothing to compare and for attributes that no decision has, and
    StoreUnavailableError.
    """
    wanted = measured(wanted, reward, after)
    log = read_log(events, wanted)
    old, new = _answers(log, after, before)
    if not log.shown:
        raise EvaluationError(nothing(log))
    moments = Moments(log.shown, after.checked.catalog.time_zone or "UTC")
    groups = {name: _groups(moments, name) for name in attributes}
    listed = [listing(*three) for three in zip(log.shown, old, new, strict=True)]
    ids = {offer for of_one in listed for offer in of_one}
    offers = (before.offers(ids) if before else {}) | after.offers(ids)
    sensitive = {name for one in (before or after, after) for name in one.checked.catalog.sensitive_attributes}
    expected = {name: moments.expected(name, listed, offers, sensitive) for name in {reward, "redemption"}}
    side_before, side_after = (_exposures(answers, listed, expected[reward]) for answers in (old, new))
    shown_before, shown_after = Counter(side_before.offer), Counter(side_after.offer)
    redemptions = [_by_offer(_exposures(answers, listed, expected["redemption"])) for answers in (old, new)]
    changes = [OfferChange(offer, shown_before[offer], shown_after[offer]) for offer in shown_before | shown_after]
    met = {offer for one in log.shown for offer in one.told.offer_ids}
    return Simulation(
        reward=reward,
        scale=wanted.scale,
        decisions=len(log.shown),
        left_out=dict(log.left_out),
        unchanged=sum(a == b for a, b in zip(old, new, strict=True)),
        reward_before=float(side_before.reward.sum()) / len(log.shown),
        reward_after=float(side_after.reward.sum()) / len(log.shown),
        offers=tuple(sorted(changes, key=lambda one: (-abs(one.after - one.before), one.offer))),
        unmet=tuple(sorted(shown_after.keys() - met)),
        budgets=_budgets(before or after, after, redemptions, _costs(log), offers),
        segments={name: _segments(side_before, side_after, groups[name]) for name in attributes},
    )


def _answers(log: EvaluationLog, after: Replay, before: Replay | None) -> tuple[list[list[str]], list[list[str]]]:
    """Return the offers shown before and after in each decision. Those that cannot be decided leave the log."""
    new = decided_again(log, after)
    if not before:
        return [list(one.told.offer_ids) for one in log.shown], new
    known = {one.number: answer for one, answer in zip(log.shown, new, strict=True)}
    old = decided_again(log, before)
    return old, [known[one.number] for one in log.shown]


def _groups(moments: Moments, name: str) -> list[str]:
    """Return the value of an attribute in each decision, as text."""
    told = [values.get(name, "") for values in moments.values]
    if name == PRIVATE or not any(value != "" for value in told):
        known = sorted({name for values in moments.values for name in values} - {PRIVATE})
        raise EvaluationError(f"no decision tells '{name}': there are {', '.join(known)}")
    return [UNSAID if value == "" else f"{value:g}" if isinstance(value, float) else str(value) for value in told]


def _exposures(answers: Sequence[Sequence[str]], listed: Sequence[Sequence[str]], expected: Floats) -> Exposures:
    """Return each offer of each answer with its expected reward."""
    places = [{offer: place for place, offer in enumerate(of_one)} for of_one in listed]
    rows = [(number, offer) for number, answer in enumerate(answers) for offer in answer]
    rewards = [expected[number, places[number][offer]] for number, offer in rows]
    decision = np.array([number for number, _ in rows], np.int64)
    return Exposures(decision, [offer for _, offer in rows], np.ones(len(rows)), np.array(rewards, np.float64))


def _by_offer(side: Exposures) -> Mapping[str, float]:
    """Return the expected rewards of all that is shown, summed by offer."""
    sums: dict[str, float] = defaultdict(float)
    for offer, value in zip(side.offer, side.reward.tolist(), strict=True):
        sums[offer] += value
    return sums


def _segments(before: Exposures, after: Exposures, groups: Sequence[str]) -> tuple[SegmentChange, ...]:
    old, new = ({row.group: row for row in exposure_table(side, groups)} for side in (before, after))
    return tuple(
        SegmentChange(
            one.group,
            one.decisions,
            old[one.group].decision_share,
            old[one.group].exposure_share,
            new[one.group].exposure_share,
            one.before,
            one.after,
            next(iter(old[one.group].offers), ""),
            next(iter(new[one.group].offers), ""),
        )
        for one in gains(before, after, groups)
    )


def _costs(log: EvaluationLog) -> dict[tuple[str, str], float]:
    """Return what a redemption took from budgets on average, by offer and currency."""
    paid: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in log.shown:
        for offer, amount in one.paid:
            paid[offer, amount.currency].append(amount.units)
    return {key: sum(amounts) / len(amounts) for key, amounts in paid.items()}


def _budgets(
    before: Replay,
    after: Replay,
    redemptions: Sequence[Mapping[str, float]],
    costs: Mapping[tuple[str, str], float],
    offers: Mapping[str, Offer],
) -> tuple[BudgetUse, ...]:
    """Return the use of each budget of the new catalogue, at the mean cost of redemptions so far or the amount off."""
    counts, amounts = ([defaultdict[str, float](float) for _ in redemptions] for _ in range(2))
    for number, replay in enumerate((before, after)):
        for offer, count in redemptions[number].items():
            for place in replay.engine.directory.budgets(offer):
                budget = replay.engine.budgets.budgets[place]
                cost = costs.get((offer, budget.currency), _amount_off(offers.get(offer), budget.currency))
                counts[number][budget.key] += count
                amounts[number][budget.key] += count * cost
    return tuple(
        BudgetUse(
            one.key,
            _limit(one),
            counts[0][one.key],
            counts[1][one.key],
            one.currency,
            amounts[0][one.key],
            amounts[1][one.key],
        )
        for one in after.engine.budgets.budgets
    )


def _amount_off(offer: Offer | None, currency: str) -> float:
    """Return the amount an offer takes off in a currency; 0 where it has none."""
    money = sum_of(offer.benefit.amount_off) if offer else NO_SUM
    return money.units if money.currency == currency else 0.0


def _limit(budget: Budget) -> str:
    """Return the limits of a budget in words."""
    period = ("", " a day", " a week", " a month")[budget.period]
    limits = [
        f"{budget.units:,} redemptions" * (budget.units >= 0),
        f"{budget.micros / MICROS:,.2f} {budget.currency}" * (budget.micros >= 0),
        f"{budget.period_units:,} redemptions{period}" * (budget.period_units >= 0),
        f"{budget.period_micros / MICROS:,.2f} {budget.currency}{period}" * (budget.period_micros >= 0),
    ]
    return ", ".join(filter(None, limits))
