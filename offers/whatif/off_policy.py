"""Off-policy estimators: what another policy would have earned, from decisions logged with their probabilities."""

from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from offers.errors import OffersError
from offers.whatif.statistics import Estimate

RESAMPLES = 2_000
MIN_EFFECTIVE_DECISIONS = 100
"""Below this a single decision may be more than a tenth of an estimate."""
MIN_EFFECTIVE_REWARDS = 10
"""Below this the interval is likely too narrow: rare events cannot be resampled."""
_TAIL = 2.5
"""Per cent on either side of a 95 % interval."""

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]


class EvaluationError(OffersError):
    """The log cannot be evaluated as it is."""


@dataclass(frozen=True, slots=True)
class LoggedDecisions:
    """A row for each offer shown. Raises EvaluationError where a column cannot be used.

    Predictions must come from a model that has not learned from the row's own reward: see reward_model.cross_fit.
    """

    reward: Floats
    """The reward in any unit: 1 for a click and 0 for none, or money."""
    logged: Floats
    """The probability with which it was shown, over 0 and at most 1."""
    evaluated: Floats
    """The probability with which the evaluated policy would have shown it there, 0 to 1."""
    predicted: Floats | None = None
    """The reward a model expects of it, in the reward's unit; DM and DR need this column and the next."""
    predicted_value: Floats | None = None
    """The reward the model expects of the evaluated policy: predictions weighted by the policy's probabilities."""
    group: Integers | None = None
    """Rows that belong together, such as one person's: they are resampled together for the intervals."""
    part: Floats | None = None
    """The part of a decision that a row is, over 0, where decisions show several: values are per decision. None: 1."""
    due: Floats | None = None
    """The sum of weights that is due if the log has all that the evaluated policy would show: the number of offers it
    shows in a decision, divided among the decision's rows. None: 1."""

    def __post_init__(self) -> None:
        rows = len(self.reward)
        if rows == 0:
            raise EvaluationError("the log is empty: there is nothing to evaluate")
        for name in ("reward", "logged", "evaluated", "predicted", "predicted_value", "group", "part", "due"):
            column = getattr(self, name)
            if column is None:
                continue
            if column.shape != (rows,):
                raise EvaluationError(f"{name} has shape {column.shape}: give one number for each of {rows} rows")
            _refuse(name, ~np.isfinite(column), "is not a finite number")
        _refuse(
            "logged", self.logged <= 0, "is not over 0: what had no chance cannot have been shown, so log the true one"
        )
        _refuse("logged", self.logged > 1, "is over 1: give a probability")
        _refuse("evaluated", (self.evaluated < 0) | (self.evaluated > 1), "is not a probability from 0 to 1")
        if (self.predicted is None) != (self.predicted_value is None):
            raise EvaluationError("give both predicted and predicted_value, or neither")
        if len(np.unique(self.group) if self.group is not None else self.reward) < 2:
            raise EvaluationError(
                "give at least two rows, of two groups: one cannot tell how much another would differ"
            )
        if not np.any(self.evaluated):
            raise EvaluationError(
                "the evaluated policy shows nothing of what was logged: the log says nothing about it"
            )

    @classmethod
    def of_actions(
        cls,
        reward: Floats,
        logged: Floats,
        action: Integers,
        probabilities: Floats,
        predictions: Floats | None = None,
        group: Integers | None = None,
    ) -> Self:
        """Return columns from one number per row and action, for decisions that show one action.

        `action` is the column that was shown; `probabilities` (rows x actions) are the evaluated policy's and sum to 1
        in every row, `predictions` of the same shape the reward model's. Columns need not mean the same offer in every
        row: pad with probability 0. Raises EvaluationError.
        """
        rows = np.arange(len(action))
        if probabilities.ndim != 2 or len(probabilities) != len(action):
            raise EvaluationError(
                f"probabilities have shape {probabilities.shape}: give one row for each of {len(rows)}"
            )
        _refuse("action", (action < 0) | (action >= probabilities.shape[1]), "is no column of probabilities")
        _refuse("probabilities", np.any(~(probabilities >= 0), axis=1), "has one that is not 0 or more")
        _refuse("probabilities", np.abs(probabilities.sum(axis=1) - 1) > 1e-6, "does not sum to 1")
        evaluated = probabilities[rows, action]
        if predictions is None:
            return cls(reward, logged, evaluated, group=group)
        if predictions.shape != probabilities.shape:
            raise EvaluationError(f"predictions have shape {predictions.shape}, probabilities {probabilities.shape}")
        value = np.einsum("ra,ra->r", probabilities, predictions)
        return cls(reward, logged, evaluated, predictions[rows, action], value, group)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Four estimates of a policy's mean reward per row, or per decision, and how far to trust them."""

    rows: int
    earned: Estimate
    """The mean reward of the logged policy."""
    gain: Estimate
    """The difference of the evaluated policy from it, by DR or, without predictions, by IPW."""
    ipw: Estimate
    """Rewards weighted by evaluated / logged probability: unbiased, and widest."""
    snips: Estimate
    """The same divided by the sum of weights: stays within the rewards seen, at a small bias."""
    dm: Estimate | None
    """The prediction of the reward model. Its interval is that of the rows, without the model's errors."""
    dr: Estimate | None
    """DM corrected by the weighted errors of the predictions: right if either these or the probabilities are."""
    effective_rows: float
    """The number of rows of equal weight that would be as informative; 1 to `rows`."""
    effective_rewards: float
    """The same for the rows' contributions to IPW; 0 without any reward."""
    largest_weight: float
    mean_weight: float
    """Divided by what is due: about 1 if the logged probabilities are right and the log has all that the evaluated
    policy would show."""
    warnings: tuple[str, ...]
    """Reasons not to trust the intervals, in words."""


def evaluate(log: LoggedDecisions, *, resamples: int = RESAMPLES, seed: int = 0) -> Evaluation:
    """Estimate a policy's value by IPW, SNIPS and, given predictions, DM and DR.

    Intervals are percentiles of the bootstrap: rows, or whole groups, are drawn with replacement `resamples` times, the
    same for all four. Sources: Horvitz and Thompson, JASA 47 (1952); Swaminathan and Joachims, "The
    self-normalized estimator for counterfactual learning", NeurIPS 2015; Dudik, Langford and Li, "Doubly robust policy
    evaluation and learning", ICML 2011; Kish, "Survey sampling" (1965), for the effective number of rows; Efron and
    Tibshirani, "An introduction to the bootstrap" (1993).
    """
    weight = log.evaluated / log.logged
    earned = weight * log.reward
    ones = np.ones_like(weight)
    part, due = (ones if column is None else column for column in (log.part, log.due))
    columns = [part, due, weight, log.reward, earned]
    if log.predicted is not None and log.predicted_value is not None:
        columns += [log.predicted_value, log.predicted_value + weight * (log.reward - log.predicted)]
    table = np.stack(columns)
    sums, drawn = table.sum(axis=1), _drawn(_by_group(table, log.group), resamples, seed)
    weighted = drawn[drawn[:, 2] > 0]  # a resample without any row that the policy shows has no mean
    dm, dr = (
        _estimate(sums[column] / sums[0], drawn[:, column] / drawn[:, 0]) if len(table) > column else None
        for column in (5, 6)
    )
    effective_rows, effective_rewards = _effective(weight), _effective(earned)
    mean, spread = sums[2] / sums[1], float(np.std(weighted[:, 2] / weighted[:, 1]))
    return Evaluation(
        rows=len(weight),
        earned=_estimate(sums[3] / sums[0], drawn[:, 3] / drawn[:, 0]),
        gain=_estimate((sums[-1] - sums[3]) / sums[0], (drawn[:, -1] - drawn[:, 3]) / drawn[:, 0]),
        ipw=_estimate(sums[4] / sums[0], drawn[:, 4] / drawn[:, 0]),
        snips=_estimate(_self_normalized(sums), _self_normalized(weighted.T)),
        dm=dm,
        dr=dr,
        effective_rows=effective_rows,
        effective_rewards=effective_rewards,
        largest_weight=float(weight.max()),
        mean_weight=float(mean),
        warnings=tuple(_warnings(effective_rows, effective_rewards, float(mean), spread)),
    )


def _by_group(table: Floats, group: Integers | None) -> Floats:
    """Sum the rows of each group, so that independent units are resampled."""
    if group is None:
        return table
    _, index = np.unique(group, return_inverse=True)
    return np.stack([np.bincount(index, weights=column) for column in table])


def _drawn(table: Floats, resamples: int, seed: int) -> Floats:
    """Return the sums of the columns over the groups of each resample."""
    random = np.random.default_rng(seed)
    groups = table.shape[1]
    drawn = np.empty((resamples, len(table)))
    for index in range(resamples):
        drawn[index] = table @ np.bincount(random.integers(0, groups, groups), minlength=groups)
    return drawn


def _self_normalized(sums: Floats) -> Any:  # noqa: ANN401 - a number, or one for each resample
    """Return the mean reward of an offer that the policy shows, times the number it shows in a decision."""
    part, due, weight, _, earned = sums[:5]
    return earned / weight * (due / part)


def _estimate(value: np.float64, drawn: Floats) -> Estimate:
    low, high = np.percentile(drawn, (_TAIL, 100 - _TAIL))
    return Estimate(float(value), float(low), float(high))


def _effective(parts: Floats) -> float:
    """Return Kish's effective size: the number of equal parts that would be as informative."""
    squares = float(np.square(parts).sum())
    return float(np.abs(parts).sum()) ** 2 / squares if squares else 0.0


def _warnings(rows: float, rewards: float, mean: float, spread: float) -> list[str]:
    warnings = []
    if rows < MIN_EFFECTIVE_DECISIONS:
        warnings.append(
            f"the weights are too uneven: they say as much as {rows:.1f} decisions would, of at least"
            f" {MIN_EFFECTIVE_DECISIONS} needed; log more exploration, or evaluate a policy closer to the logged one"
        )
    if rewards < MIN_EFFECTIVE_REWARDS:
        warnings.append(
            f"the value rests on about {rewards:.1f} rewarded decisions, of at least {MIN_EFFECTIVE_REWARDS} needed:"
            " the intervals are likely too narrow; log more decisions"
        )
    if abs(mean - 1) > 3 * spread + 1e-9:
        warnings.append(
            f"the weights have a mean of {mean:.3f} where 1 is due: the logged probabilities are wrong, or the"
            " evaluated policy shows what the log has no example of"
        )
    return warnings


def _refuse(name: str, wrong: NDArray[np.bool_], reason: str) -> None:
    """Raise EvaluationError for the first wrong row, if any."""
    at = np.flatnonzero(wrong)
    if len(at):
        more = f" (and in {len(at) - 1} more)" if len(at) > 1 else ""
        raise EvaluationError(f"{name} of row {at[0]}{more} {reason}")
