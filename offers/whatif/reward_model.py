"""Reward models for DM and DR: their interface, cross-fitting, and a logistic regression."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from offers.whatif.off_policy import EvaluationError, Floats, Integers

FOLDS = 3
MAX_STEPS = 100
_PENALTY = 1.0
_CONVERGED = 1e-12


class RewardModel(Protocol):
    """A model of the expected rewards of logged decisions. It holds the decisions; rows are their numbers."""

    def fit(self, rows: Integers) -> None:
        """Forget everything and learn from these rows alone."""
        ...

    def predict(self, rows: Integers) -> Floats:
        """Return the expected reward of each action (rows x actions), at each row's position."""
        ...


def folds_of(rows: int, seed: int, *, group: Integers | None = None) -> Integers:
    """Return a fold from 0 to FOLDS - 1 for each row: of equal sizes, in random order, and the same within a group."""
    members, index = (rows, np.arange(rows)) if group is None else _numbered(group)
    fold = np.arange(members) % FOLDS
    np.random.default_rng(seed).shuffle(fold)
    return fold[index]


def cross_fit(model: RewardModel, fold: Integers) -> Floats:
    """Predict each row's rewards (rows x actions) with the model learned from the other folds.

    Source: Chernozhukov and others, "Double/debiased machine learning", Econometrics Journal 21 (2018). Raises
    EvaluationError where there is only one fold.
    """
    parts = [np.flatnonzero(fold == one) for one in np.unique(fold)]
    if len(parts) < 2:
        raise EvaluationError("give rows of at least two folds: a model must not predict what it learned from")
    predicted = []
    for part in parts:
        model.fit(np.setdiff1d(np.arange(len(fold)), part))
        predicted.append(model.predict(part))
    return np.concatenate(predicted)[np.argsort(np.concatenate(parts))]


@dataclass(slots=True)
class LogisticRewardModel:
    """A logistic regression for each position on the features of context and action, with a ridge penalty of 1.

    It minimises the sum of the log losses plus half the squared coefficients, without the intercept. Rewards are from 0
    to 1. Raises EvaluationError for others, and where a position has no rows to learn from.
    """

    context: Floats
    """Features of the decision (rows x features)."""
    action: Integers
    """Number of the action shown, from 0 (rows)."""
    action_features: Floats
    """Features of the action (actions x features)."""
    reward: Floats
    """Rewards from 0 to 1 (rows)."""
    position: Integers
    """Position at which it was shown (rows). Each position has a model of its own."""
    _coefficients: dict[int, Floats] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not np.all((self.reward >= 0) & (self.reward <= 1)):
            raise EvaluationError("a logistic regression needs rewards from 0 to 1: scale them, or use another model")

    def fit(self, rows: Integers) -> None:
        """Learn from these rows alone."""
        self._coefficients = {}
        for position in np.unique(self.position):
            seen = rows[self.position[rows] == position]
            if len(seen) == 0:
                raise EvaluationError(f"nothing to learn from at position {position}: leave it out, or log more")
            features = np.column_stack((self.context[seen], self.action_features[self.action[seen]]))
            self._coefficients[int(position)] = logistic_regression(features, self.reward[seen])

    def predict(self, rows: Integers) -> Floats:
        """Return the expected reward of each action, 0 to 1 (rows x actions), at each row's position."""
        width = self.context.shape[1] + 1
        predicted = np.empty((len(rows), len(self.action_features)))
        for position, coefficients in self._coefficients.items():
            at = self.position[rows] == position
            context = coefficients[0] + self.context[rows[at]] @ coefficients[1:width]
            predicted[at] = _logistic(context[:, None] + self.action_features @ coefficients[width:])
        return predicted


def logistic_regression(features: Floats, target: Floats) -> Floats:
    """Return the intercept and a coefficient per feature, by Newton's method with step halving; `target` is 0 to 1.

    The result is that of scikit-learn's LogisticRegression with C=1 when it has converged. Raises EvaluationError if it
    does not converge in MAX_STEPS, as with features of very different scales.
    """
    design = np.column_stack((np.ones(len(features)), features))
    penalty = np.full(design.shape[1], _PENALTY)
    penalty[0] = 0

    def loss(coefficients: Floats) -> float:
        score = design @ coefficients
        return float((np.logaddexp(0, score) - target * score).sum() + (penalty * coefficients**2).sum() / 2)

    coefficients = np.zeros(design.shape[1])
    now = loss(coefficients)
    for _ in range(MAX_STEPS):
        mean = _logistic(design @ coefficients)
        gradient = design.T @ (mean - target) + penalty * coefficients
        curvature = (design.T * (mean * (1 - mean))) @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        if gradient @ step <= _CONVERGED * (1 + now):
            return coefficients - step
        while (then := loss(coefficients - step)) > now and np.any(step):
            step /= 2
        coefficients, now = coefficients - step, then
    raise EvaluationError(f"the regression has not converged in {MAX_STEPS} steps: scale the features alike")


def _logistic(score: Floats) -> Floats:
    return (1 + np.tanh(score / 2)) / 2  # cannot overflow


def _numbered(group: Integers) -> tuple[int, Integers]:
    """Return the number of groups, and each row's number among them."""
    names, index = np.unique(group, return_inverse=True)
    return len(names), index
