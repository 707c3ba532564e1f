"""What a strategy would have earned in decisions that were logged, beside what was earned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offers.errors import InvalidRequestError
from offers.learning.values import Sum
from offers.state.stores import EventLog
from offers.whatif.log import Log, Shown, Wanted, read_log
from offers.whatif.off_policy import Evaluation, EvaluationError, Floats, LoggedDecisions, evaluate
from offers.whatif.replay import Replay
from offers.whatif.rewards import Moments

UNDECIDED = "of placements that the catalogue does not have"
"""Why decisions are left out, beside those of log.py."""
UNEXPLORED = (
    "nothing was explored: what was shown had to be shown, so IPW and SNIPS know nothing of what the strategy shows"
    " beside it, and DM and DR guess it; let the placement explore"
)


@dataclass(frozen=True, slots=True)
class StrategyReport:
    """What the log says about a strategy. Values are per decision."""

    strategy: str
    reward: str
    scale: Sum | None
    """What an order value of 1 is; None: it is about another reward."""
    decisions: int
    """That could be used."""
    shown: int
    """Offers they showed."""
    left_out: dict[str, int]
    """Decisions, by why."""
    explored: int
    """Offers shown that might as well not have been."""
    open: int
    """Decisions of which more may yet come."""
    offers: float
    """That the strategy shows in a decision, on average."""
    unsupported: float
    """The share of these, 0 to 1, of which the log has no example."""
    evaluation: Evaluation
    warnings: tuple[str, ...]
    """Why not to believe it, in words."""


def report(events: EventLog, replay: Replay, wanted: Wanted, strategy: str, reward: str) -> StrategyReport:
    """Estimate what the strategy that a replay decides by would have earned.

    Each offer counts by itself, whatever its rank and what else is shown. Raises EvaluationError where the log cannot
    tell, and StoreUnavailableError.
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
        (*_of_model(log, replay, strategy), *(() if explored else (UNEXPLORED,)), *found.warnings),
    )


def measured(wanted: Wanted, reward: str, replay: Replay) -> Wanted:
    """Have orders measured where their value is asked for. Raises EvaluationError where a catalogue has no scale."""
    if reward != "order_value":
        return wanted
    if replay.scale is None:
        raise EvaluationError(
            "the catalogue has no order_value_scale to measure orders by: write one, or ask for another reward"
        )
    return wanted._replace(scale=replay.scale)


def decided_again(log: Log, replay: Replay) -> list[list[str]]:
    """What a replay shows in each decision of a log. Those it cannot decide are left out of the log."""
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


def listing(one: Shown, *answers: Sequence[str]) -> list[str]:
    """The offers that a decision showed, then what other answers have beside them."""
    return list(dict.fromkeys([*one.told.offer_ids, *(offer for answer in answers for offer in answer)]))


def nothing(log: Log) -> str:
    """Why there is nothing to look at, in words."""
    why = ", ".join(f"{count:,} {why}" for why, count in log.left_out.items())
    return f"the log has no decisions that can be used{f' ({why})' if why else ''}: nothing can be said"


def _of_model(log: Log, replay: Replay, strategy: str) -> list[str]:
    """What to beware of a strategy's models."""
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
    shown: Sequence[Shown],
    answers: Sequence[Sequence[str]],
    listed: Sequence[Sequence[str]],
    expected: Floats,
    reward: str,
    person: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> LoggedDecisions:
    """A row for each offer that was shown."""
    rows: list[tuple[float, ...]] = []
    for number, (one, answer, of_one) in enumerate(zip(shown, answers, listed, strict=True)):
        count = len(one.told.offer_ids)
        own = set(answer)
        value = sum(chance for offer, chance in zip(of_one, expected[number].tolist(), strict=False) if offer in own)
        logged = one.told.selection_probabilities or [1.0] * count
        for place, offer in enumerate(one.told.offer_ids):
            row = (
                one.rewards[reward][place], logged[place], float(offer in own), expected[number, place], value / count,
                1 / count, len(answer) / count, person[number],
            )  # fmt: skip
            rows.append(row)
    rewards, logged, evaluated, predicted, values, part, due, group = np.array(rows).T
    return LoggedDecisions(rewards, logged, evaluated, predicted, values, group.astype(np.int64), part, due)
