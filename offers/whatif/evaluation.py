"""Estimates what a strategy would have earned in logged decisions, beside what was earned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offers.errors import InvalidRequestError
from offers.learning.values import Sum
from offers.state.stores import EventLog
from offers.whatif.expected_rewards import Moments
from offers.whatif.logged_outcomes import DecisionFilter, EvaluationLog, ShownDecision, read_log
from offers.whatif.off_policy import Evaluation, EvaluationError, Floats, LoggedDecisions, evaluate
from offers.whatif.replay import Replay

UNDECIDED = "of placements that the catalogue does not have"
"""Why decisions are left out, beside the reasons of logged_outcomes."""
UNEXPLORED = (
    "nothing was explored: what was shown had to be shown, so IPW and SNIPS know nothing of what the strategy shows"
    " beside it, and DM and DR guess it; let the placement explore"
)


@dataclass(frozen=True, slots=True)
class StrategyReport:
    """The result of an evaluation. Values are per decision."""

    strategy: str
    reward: str
    scale: Sum | None
    """The scale of order values; None for other rewards."""
    decisions: int
    """Decisions that could be used."""
    shown: int
    """Number of offers they showed."""
    left_out: dict[str, int]
    """By reason, the number of decisions that were left out."""
    explored: int
    """Number of offers shown with a probability below 1."""
    open: int
    """Decisions for which more rewards may come."""
    offers: float
    """Number of offers the strategy shows in a decision, on average."""
    unsupported: float
    """The share of these, 0 to 1, that the log has no example of."""
    evaluation: Evaluation
    warnings: tuple[str, ...]
    """Reasons not to trust it, in words."""


def report(events: EventLog, replay: Replay, wanted: DecisionFilter, strategy: str, reward: str) -> StrategyReport:
    """Estimate what the strategy of a replay would have earned.

    Each offer counts by itself, whatever its rank and what else is shown. Raises EvaluationError where the log is not
    sufficient, and StoreUnavailableError.
    """
    wanted = measured(wanted, reward, replay)
    log = read_log(events, wanted)
    answers = decided_again(log, replay)
    if not log.shown:
        raise EvaluationError(nothing(log))
    moments = Moments(log.shown, replay.checked.catalog.time_zone or "UTC")
    listed = [listing(one, answer) for one, answer in zip(log.shown, answers, strict=True)]
    offers = replay.offers(offer for of_one in listed for offer in of_one)
    expected = moments.expected(reward, listed, offers, replay.checked.catalog.sensitive_attributes)
    columns = _columns(log.shown, answers, listed, expected, reward, moments.person)
    found = evaluate(columns)
    explored = int(np.count_nonzero(columns.logged < 1))
    return StrategyReport(
        strategy,
        reward,
        wanted.scale,
        len(log.shown),
        len(columns.reward),
        dict(log.left_out),
        explored,
        log.open_windows(reward),
        sum(map(len, answers)) / len(answers),
        max(0.0, 1 - found.mean_weight),
        found,
        (*_model_warnings(log, replay, strategy), *(() if explored else (UNEXPLORED,)), *found.warnings),
    )


def measured(wanted: DecisionFilter, reward: str, replay: Replay) -> DecisionFilter:
    """Set the scale of order values where they are asked for. Raises EvaluationError where the catalogue has none."""
    if reward != "order_value":
        return wanted
    if replay.scale is None:
        raise EvaluationError(
            "the catalogue has no order_value_scale to measure orders by: write one, or ask for another reward"
        )
    return wanted._replace(scale=replay.scale)


def decided_again(log: EvaluationLog, replay: Replay) -> list[list[str]]:
    """Return the offers that a replay shows in each decision. Those it cannot decide are removed from the log."""
    kept, answers = [], []
    for one in log.shown:
        try:
            answers.append(replay.answer(one.told, one.second))
        except InvalidRequestError:
            log.left_out[UNDECIDED] += 1
        else:
            kept.append(one)
    log.shown = kept
    return answers


def listing(one: ShownDecision, *answers: Sequence[str]) -> list[str]:
    """Return the offers that a decision showed, then those that only other answers have."""
    return list(dict.fromkeys([*one.told.offer_ids, *(offer for answer in answers for offer in answer)]))


def nothing(log: EvaluationLog) -> str:
    """Return why there is nothing to evaluate, in words."""
    why = ", ".join(f"{count:,} {why}" for why, count in log.left_out.items())
    return f"the log has no decisions that can be used{f' ({why})' if why else ''}: nothing can be said"


def _model_warnings(log: EvaluationLog, replay: Replay, strategy: str) -> list[str]:
    """Return warnings about the model that a strategy uses."""
    weights, model = replay.checked.ranking_strategies[strategy].weights, replay.model
    if not (weights.propensity or weights.recommendation):
        return []
    if model is None:
        return ["no model has been published: what the strategy has of models counts for nothing"]
    learned = sum(one.number <= model.meta["position"]["decision"] for one in log.shown)
    if not learned:
        return []
    told = f"the model {model.version} has learned from {learned:,} of these decisions"
    return [f"{told}: what it would have earned there is flattered; evaluate it by later ones (--since)"]


def _columns(
    shown: Sequence[ShownDecision],
    answers: Sequence[Sequence[str]],
    listed: Sequence[Sequence[str]],
    expected: Floats,
    reward: str,
    person: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> LoggedDecisions:
    """Return a row for each offer that was shown."""
    rows: list[tuple[float, ...]] = []
    for number, (one, answer, of_one) in enumerate(zip(shown, answers, listed, strict=True)):
        count = len(one.told.offer_ids)
        own = set(answer)
        value = sum(chance for offer, chance in zip(of_one, expected[number].tolist(), strict=False) if offer in own)
        logged = one.told.selection_probabilities or [1.0] * count
        for index, offer in enumerate(one.told.offer_ids):
            row = (
                one.rewards[reward][index], logged[index], float(offer in own), expected[number, index], value / count,
                1 / count, len(answer) / count, person[number],
            )  # fmt: skip
            rows.append(row)
    rewards, logged, evaluated, predicted, values, part, due, group = np.array(rows).T
    return LoggedDecisions(rewards, logged, evaluated, predicted, values, group.astype(np.int64), part, due)
