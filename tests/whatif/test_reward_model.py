"""The reward model finds what it should, and never predicts what it has learned from."""

import numpy as np
import pytest

from offers.whatif.off_policy import EvaluationError, LoggedDecisions, evaluate
from offers.whatif.reward_model import LogisticRewardModel, cross_fit, folds_of, logistic_regression

ROWS = 6_000


def model(seed: int, rows: int = ROWS) -> LogisticRewardModel:
    """A log of 4 actions at 2 positions, uniformly random, whose clicks come of known coefficients."""
    random = np.random.default_rng(seed)
    context = random.normal(size=(rows, 2))
    action, position = random.integers(0, 4, rows), random.integers(0, 2, rows)
    features = np.eye(4)[:, 1:]
    score = -1 + context @ [0.8, -0.5] + features[action] @ [1.0, -1.0, 0.5] - position
    click = (random.random(rows) < 1 / (1 + np.exp(-score))).astype(np.float64)
    return LogisticRewardModel(context, action, features, click, position)


def test_the_regression_finds_the_coefficients() -> None:
    """On 6,000 rows they are those the rewards were drawn by, within 5 standard errors, at each position."""
    known = model(1)
    for position, intercept in ((0, -1), (1, -2)):
        rows = known.position == position
        features = np.column_stack((known.context, known.action_features[known.action]))[rows]
        found = logistic_regression(features, known.reward[rows])
        mean = 1 / (1 + np.exp(-(found[0] + features @ found[1:])))
        design = np.column_stack((np.ones(len(features)), features))
        errors = np.sqrt(np.diag(np.linalg.inv((design.T * (mean * (1 - mean))) @ design)))
        assert np.all(np.abs(found - [intercept, 0.8, -0.5, 1.0, -1.0, 0.5]) < 5 * errors)


def test_the_regression_is_at_the_minimum() -> None:
    """There the penalised log loss has no slope; without features the mean of the target is predicted."""
    random = np.random.default_rng(2)
    features, target = random.normal(size=(200, 3)), (random.random(200) < 0.1).astype(np.float64)
    found = logistic_regression(features, target)
    error = 1 / (1 + np.exp(-(found[0] + features @ found[1:]))) - target

    assert [0.0] * 4 == pytest.approx([error.sum(), *(features.T @ error + found[1:])], abs=1e-9)
    intercept = logistic_regression(np.empty((200, 0)), target)[0]
    assert target.mean() == pytest.approx(1 / (1 + np.exp(-intercept)), abs=1e-9)


@pytest.mark.parametrize("seed", [4, 15, 22, 45])
def test_features_of_heavy_tails_have_a_minimum_as_well(seed: int) -> None:
    """If full steps of Newton's method diverge, as with amounts of money, halved ones reach the minimum."""
    random = np.random.default_rng(seed)
    features = 100 * random.standard_cauchy((200, 5))
    target = (features[:, 0] + random.normal(size=200) > 0).astype(np.float64)
    found = logistic_regression(features, target)
    error = (1 + np.tanh((found[0] + features @ found[1:]) / 2)) / 2 - target

    assert [0.0] * 6 == pytest.approx([error.sum(), *(features.T @ error + found[1:])], abs=1e-6)


@pytest.mark.parametrize("clicked", [0.0, 1.0])
def test_a_reward_that_never_differs_is_learned(clicked: float) -> None:
    """If there was no click at all, or one each time, the regression converges to that."""
    features = np.random.default_rng(3).normal(size=(100, 2))
    found = logistic_regression(features, np.full(100, clicked))
    assert np.full(100, clicked) == pytest.approx(1 / (1 + np.exp(-(found[0] + features @ found[1:]))), abs=1e-9)


def test_no_row_s_own_fold_is_learned_from() -> None:
    """Other rewards in a fold change the predictions of all other folds, but none of its own."""
    first, second = model(4, 900), model(4, 900)
    fold = folds_of(900, 1)
    own = fold == 1
    second.reward[own] = 1 - second.reward[own]
    before, after = cross_fit(first, fold), cross_fit(second, fold)

    assert np.array_equal(before[own], after[own])
    assert np.all(before[~own] != after[~own])


def test_predictions_are_of_the_rows_asked_for() -> None:
    """Rows in any order get what each gets alone, at its own position."""
    known = model(5)
    known.fit(np.arange(ROWS))
    rows = np.array([17, 3, 4_000])

    assert 2 == len(np.unique(known.position[rows]))
    alone = np.concatenate([known.predict(rows[index : index + 1]) for index in range(3)])
    assert np.allclose(alone, known.predict(rows), rtol=1e-12)
    assert (3, 4) == alone.shape


def test_folds_are_even_and_keep_groups_together() -> None:
    """Folds differ by one row at most; a person's rows are all in one."""
    assert [334, 333, 333] == np.bincount(folds_of(1_000, 1)).tolist()
    group = np.random.default_rng(6).integers(100, 200, 1_000)
    fold = folds_of(1_000, 1, group=group)
    assert all(1 == len(np.unique(fold[group == one])) for one in np.unique(group))
    assert 3 == len(np.unique(fold))


def test_doubly_robust_by_a_cross_fitted_model_finds_the_value() -> None:
    """On 6,000 rows of a known world, DM and DR by this model are within 4 standard errors of the true value."""
    known = model(7)
    probabilities = np.tile([0.1, 0.6, 0.1, 0.2], (ROWS, 1))
    score = -1 + known.context @ [0.8, -0.5] - known.position
    rate = 1 / (1 + np.exp(-(score[:, None] + known.action_features @ [1.0, -1.0, 0.5])))
    truth = float((probabilities * rate).sum(axis=1).mean())
    found = evaluate(
        LoggedDecisions.of_actions(
            known.reward, np.full(ROWS, 0.25), known.action, probabilities, cross_fit(known, folds_of(ROWS, 1))
        )
    )

    assert found.dm is not None
    assert found.dr is not None
    error = (found.dr.high - found.dr.low) / 4
    assert abs(found.dr.value - truth) < 4 * error
    assert abs(found.dm.value - truth) < 4 * error


def test_what_cannot_be_learned_is_refused() -> None:
    """Rewards beyond 0 to 1, a position without rows and a single fold have errors that say so."""
    known = model(8, 100)
    with pytest.raises(EvaluationError, match="from 0 to 1"):
        LogisticRewardModel(known.context, known.action, known.action_features, known.reward * 9, known.position)
    with pytest.raises(EvaluationError, match="nothing to learn from at position 1"):
        known.fit(np.flatnonzero(known.position == 0))
    with pytest.raises(EvaluationError, match="at least two folds"):
        cross_fit(known, np.zeros(100, np.int64))


def test_a_regression_that_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than predict by coefficients that are no minimum, it is an error."""
    monkeypatch.setattr("offers.whatif.reward_model.MAX_STEPS", 2)
    with pytest.raises(EvaluationError, match="has not converged in 2 steps"):
        logistic_regression(np.random.default_rng(9).normal(size=(50, 2)), np.arange(50) / 50)
