"""Off-policy estimates are right where they must be, and say where they are not to be believed."""

from typing import Final

import numpy as np
import pytest

from offers.whatif.off_policy import EvaluationError, Floats, Integers, LoggedDecisions, evaluate
from offers.whatif.statistics import Estimate

CONTEXTS: Final = np.array([0.25, 0.75])
"""The probability of each of two contexts."""
LOGGED: Final = np.array([[0.5, 0.25, 0.25], [0.2, 0.6, 0.2]])
EVALUATED: Final = np.array([[0.1, 0.1, 0.8], [0.7, 0.2, 0.1]])
RATE: Final = np.array([[0.1, 0.4, 0.6], [0.5, 0.2, 0.3]])
"""The probability of a click, by context and action."""
TRUTH: Final = float(CONTEXTS @ (EVALUATED * RATE).sum(axis=1))
WRONG_RATE: Final = np.array([[0.3, 0.3, 0.3], [0.1, 0.9, 0.2]])
WRONG_LOGGED: Final = np.array([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2]])


def in_proportion() -> tuple[Integers, Integers, Floats]:
    """Contexts, actions and clicks of a log that holds every case exactly as often as it is likely."""
    cases = [
        (context, action, click)
        for context in range(2)
        for action in range(3)
        for click in (0, 1)
        for _ in range(round(800 * _likely(context, action, click)))
    ]
    context, action, click = np.array(cases).T
    return context, action, click.astype(np.float64)


def _likely(context: int, action: int, click: int) -> float:
    rate = RATE[context, action]
    return float(CONTEXTS[context] * LOGGED[context, action] * (rate if click else 1 - rate))


def drawn(random: np.random.Generator, rows: int) -> tuple[Integers, Integers, Floats]:
    """Contexts, actions and clicks as the logging policy would make them."""
    context = random.choice(2, rows, p=CONTEXTS)
    action = (random.random(rows)[:, None] > np.cumsum(LOGGED[context], axis=1)).sum(axis=1)
    return context, action, (random.random(rows) < RATE[context, action]).astype(np.float64)


def log_of(
    cases: tuple[Integers, Integers, Floats],
    logged: Floats = LOGGED,
    rate: Floats = RATE,
    group: Integers | None = None,
) -> LoggedDecisions:
    """The log of such cases, as the given probabilities and predictions have it."""
    context, action, click = cases
    return LoggedDecisions.of_actions(click, logged[context, action], action, EVALUATED[context], rate[context], group)


def even(reward: list[float], logged: list[float], evaluated: list[float]) -> LoggedDecisions:
    """A log of these columns."""
    return LoggedDecisions(np.array(reward), np.array(logged), np.array(evaluated))


def test_the_log_in_proportion_is_one() -> None:
    """Rounding has lost none of its cases, so that its means are expectations."""
    assert 800 == len(in_proportion()[0])


def test_right_probabilities_are_enough_for_all_but_the_direct_method() -> None:
    """In expectation, IPW, SNIPS and DR are the true value with a wrong reward model; DM is not."""
    found = evaluate(log_of(in_proportion(), rate=WRONG_RATE), resamples=10)

    assert found.dr is not None
    assert found.dm is not None
    assert [TRUTH] * 3 == pytest.approx([found.ipw.value, found.snips.value, found.dr.value], abs=1e-12)
    assert abs(found.dm.value - TRUTH) > 0.05
    assert pytest.approx(1, abs=1e-12) == found.mean_weight


def test_a_right_reward_model_is_enough_for_dm_and_dr() -> None:
    """In expectation, DM and DR are the true value with wrong logged probabilities; IPW and SNIPS are not."""
    found = evaluate(log_of(in_proportion(), logged=WRONG_LOGGED), resamples=10)

    assert found.dr is not None
    assert found.dm is not None
    assert [TRUTH] * 2 == pytest.approx([found.dm.value, found.dr.value], abs=1e-12)
    assert abs(found.ipw.value - TRUTH) > 0.05
    assert abs(found.snips.value - TRUTH) > 0.05


def test_doubly_robust_needs_one_of_the_two() -> None:
    """With a wrong reward model and wrong probabilities DR is off as well."""
    found = evaluate(log_of(in_proportion(), WRONG_LOGGED, WRONG_RATE), resamples=10)

    assert found.dr is not None
    assert abs(found.dr.value - TRUTH) > 0.05


def test_estimates_are_unbiased_and_intervals_cover_the_truth() -> None:
    """Over 400 logs of 300 rows the mean of IPW and DR is the true value, which 95 % of the intervals hold.

    Hardly any of these logs is suspected of wrong probabilities.
    """
    random = np.random.default_rng(1)
    found = [evaluate(log_of(drawn(random, 300), rate=WRONG_RATE), resamples=300, seed=seed) for seed in range(400)]

    for name in ("ipw", "dr"):
        estimates = [getattr(one, name) for one in found]
        values = np.array([one.value for one in estimates])
        assert abs(values.mean() - TRUTH) < 3 * values.std() / np.sqrt(len(values))
        assert 0.92 <= np.mean([one.low <= TRUTH <= one.high for one in estimates]) <= 0.98
    assert 0.92 <= np.mean([one.snips.low <= TRUTH <= one.snips.high for one in found]) <= 0.98
    assert np.mean(["mean of" in " ".join(one.warnings) for one in found]) <= 0.02


def test_a_good_model_narrows_the_interval() -> None:
    """With the right reward model DR's interval is narrower than IPW's."""
    found = evaluate(log_of(drawn(np.random.default_rng(2), 2_000)))

    assert found.dr is not None
    assert found.dr.high - found.dr.low < 0.9 * (found.ipw.high - found.ipw.low)


def test_the_logging_policy_has_the_mean_reward() -> None:
    """A policy evaluated on its own log has the mean reward, by IPW and SNIPS."""
    found = evaluate(even([1, 0, 0, 3], [0.2, 0.5, 0.1, 0.9], [0.2, 0.5, 0.1, 0.9]))

    assert (1, 1) == (found.ipw.value, found.snips.value)
    assert 4 == found.effective_rows
    assert 1 == found.largest_weight == found.mean_weight


def test_self_normalised_estimates_stay_within_the_rewards() -> None:
    """Under uneven weights IPW leaves the range of the rewards, SNIPS and its interval do not."""
    found = evaluate(even([1, 0, 1, 0], [0.01, 0.9, 0.02, 0.8], [0.9, 0.01, 0.9, 0.1]))

    assert found.ipw.value > 1
    assert 0 <= found.snips.low <= found.snips.value <= found.snips.high <= 1


def test_what_draws_none_of_the_policy_s_rows_is_left_out() -> None:
    """With one row of ten that the policy shows, a third of the resamples have none: SNIPS is that row's reward."""
    only = [0.5] + [0.0] * 9
    found = evaluate(even([3.0] + [1.0] * 9, [0.5] * 10, only))

    assert Estimate(3, 3, 3) == found.snips
    assert found.ipw.low == 0


def test_uneven_weights_are_warned_of() -> None:
    """One row with most of the weight counts as about one row, and the warning says what to do."""
    rows = 1_000
    logged = np.full(rows, 0.5)
    logged[0] = 1e-6
    found = evaluate(LoggedDecisions(np.ones(rows), logged, np.full(rows, 0.5)))

    assert 1 <= found.effective_rows < 1.01
    assert 5e5 == found.largest_weight
    assert any("too uneven: they say as much as 1.0 decisions" in warning for warning in found.warnings)


def test_few_rewards_are_warned_of() -> None:
    """Three clicks in 1,000 are too few for an interval, and none at all as well."""
    click, half = np.zeros(1_000), np.full(1_000, 0.5)
    none = evaluate(LoggedDecisions(click.copy(), half, half))
    click[:3] = 1
    three = evaluate(LoggedDecisions(click, half, half))

    assert none.effective_rewards == 0
    assert pytest.approx(3) == three.effective_rewards
    for found, number in ((none, "0.0"), (three, "3.0")):
        assert [f"rests on about {number} rewarded decisions"] == [
            warning[len("the value ") : warning.index(",")] for warning in found.warnings
        ]


def test_what_the_log_cannot_know_is_warned_of() -> None:
    """A policy that mostly shows what was never logged has weights whose mean is not 1; a logged one has none of it."""
    rows = 5_000
    action, click, logged = np.arange(rows) % 2, np.ones(rows), np.full(rows, 0.5)
    elsewhere = np.tile([0.1, 0.2, 0.7], (rows, 1))
    within = np.tile([0.4, 0.6, 0.0], (rows, 1))

    assert ["the weights have a mean of 0.300 where 1 is due"] == [
        warning.split(":")[0][:47]
        for warning in evaluate(LoggedDecisions.of_actions(click, logged, action, elsewhere)).warnings
    ]
    assert () == evaluate(LoggedDecisions.of_actions(click, logged, action, within)).warnings


def test_rows_of_one_group_are_drawn_together() -> None:
    """Every row said four times by the same person tells no more than once; taken for news it would seem to."""
    cases = drawn(np.random.default_rng(4), 500)
    once = evaluate(log_of(cases))
    repeated = tuple(np.repeat(column, 4) for column in cases)
    grouped = evaluate(log_of(repeated, group=np.repeat(np.arange(500), 4)))  # type: ignore[arg-type]
    ungrouped = evaluate(log_of(repeated))  # type: ignore[arg-type]

    for name in ("ipw", "snips", "dm", "dr"):
        assert getattr(once, name) == pytest.approx(getattr(grouped, name), abs=1e-12)
    assert ungrouped.ipw.high - ungrouped.ipw.low < 0.6 * (once.ipw.high - once.ipw.low)


def test_a_seed_repeats_the_interval() -> None:
    """The same seed gives the same evaluation, another one other intervals around the same values."""
    log = log_of(drawn(np.random.default_rng(5), 200))

    assert evaluate(log, seed=1) == evaluate(log, seed=1)
    assert evaluate(log, seed=1).ipw.value == evaluate(log, seed=2).ipw.value
    assert evaluate(log, seed=1).ipw.low != evaluate(log, seed=2).ipw.low


def test_without_predictions_there_is_no_dm_and_no_dr() -> None:
    """IPW and SNIPS need no reward model; what needs one is left out."""
    found = evaluate(even([1, 0], [0.5, 0.5], [0.5, 0.5]))

    assert (None, None) == (found.dm, found.dr)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([], [], []), "the log is empty"),
        (([1, 0], [0.5, 0.0], [0.5, 0.5]), "logged of row 1 is not over 0"),
        (([1, 0], [0.5, -0.1], [0.5, 0.5]), "logged of row 1 is not over 0"),
        (([1, 0], [np.nan, 0.5], [0.5, 0.5]), "logged of row 0 is not a finite number"),
        (([1, 0, 0], [1.5, 0.5, 2], [0.5, 0.5, 0.5]), r"logged of row 0 \(and in 1 more\) is over 1"),
        (([1, np.inf], [0.5, 0.5], [0.5, 0.5]), "reward of row 1 is not a finite number"),
        (([1, 0], [0.5, 0.5], [0.5, 1.5]), "evaluated of row 1 is not a probability"),
        (([1, 0], [0.5, 0.5, 0.5], [0.5, 0.5]), "logged has shape"),
        (([1, 0], [0.5, 0.5], [0, 0]), "shows nothing of what was logged"),
        (([1], [0.5], [0.5]), "at least two rows"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(columns: tuple[list[float], ...], message: str) -> None:
    """The error names the column, the row and what is wrong with it."""
    with pytest.raises(EvaluationError, match=message):
        even(*columns)


def test_one_group_alone_is_refused() -> None:
    """The rows of a single person have no interval."""
    with pytest.raises(EvaluationError, match="of two groups"):
        LoggedDecisions(np.ones(3), np.ones(3), np.ones(3), group=np.zeros(3, np.int64))


def test_half_of_the_predictions_is_refused() -> None:
    """DM and DR need the predictions of what was shown and of what would be."""
    with pytest.raises(EvaluationError, match="both"):
        LoggedDecisions(np.ones(3), np.ones(3), np.ones(3), predicted=np.ones(3))


@pytest.mark.parametrize(
    ("action", "probabilities", "predictions", "message"),
    [
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], None, "action of row 1 is no column"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.6]], None, "probabilities of row 1 does not sum to 1"),
        ([0, 1], [[1.5, -0.5], [0.5, 0.5]], None, "probabilities of row 0 has one that is not 0 or more"),
        ([0, 1], [[np.nan, 1], [0.5, 0.5]], None, "probabilities of row 0 has one that is not 0 or more"),
        ([0, 1], [[0.5, 0.5]], None, "give one row for each of 2"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.5]], [[0.5], [0.5]], "predictions have shape"),
    ],
)
def test_actions_that_cannot_be_evaluated_are_refused(
    action: list[int], probabilities: list[list[float]], predictions: list[list[float]] | None, message: str
) -> None:
    """Invalid probabilities, and tables of other shapes, are refused."""
    with pytest.raises(EvaluationError, match=message):
        LoggedDecisions.of_actions(
            np.ones(2),
            np.ones(2),
            np.array(action),
            np.array(probabilities),
            None if predictions is None else np.array(predictions),
        )


def test_decisions_of_several_offers_are_valued_as_wholes() -> None:
    """In expectation a decision's value is that of all it shows, however many were logged; SNIPS knows their number."""
    # One of two answers, each as likely: a alone, or b and c. Rewards are sure: 1, 2 and 4. Evaluated: a and c, always.
    reward, logged = np.array([1.0, 2.0, 4.0]), np.full(3, 0.5)
    evaluated, part, due = np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.5, 0.5]), np.array([2.0, 1.0, 1.0])
    predicted, value = np.array([1.0, 1.0, 1.0]), np.array([2.0, 1.0, 1.0])
    log = LoggedDecisions(reward, logged, evaluated, predicted, value, part=part, due=due)
    found = evaluate(log)

    assert found.dm is not None
    assert found.dr is not None
    assert (5.0, 5.0, 2.0, 5.0) == (found.ipw.value, found.snips.value, found.dm.value, found.dr.value)
    assert (1.0, 3.5, 1.5) == (found.mean_weight, found.earned.value, found.gain.value)
    short = evaluate(LoggedDecisions(reward, logged, np.array([1.0, 0, 0]), part=part, due=due))
    assert (1.0, 2.0, 0.5) == (short.ipw.value, short.snips.value, short.mean_weight)
    assert short.ipw.value - 3.5 == short.gain.value


def test_a_gain_is_told_closer_than_what_it_is_of() -> None:
    """Both values vary together between resamples: their difference has the narrower interval."""
    cases = drawn(np.random.default_rng(6), 2_000)
    context, action, _ = cases
    near = 0.9 * LOGGED + 0.1 * EVALUATED
    found = evaluate(LoggedDecisions.of_actions(cases[2], LOGGED[context, action], action, near[context]))

    assert found.ipw.value - found.earned.value == pytest.approx(found.gain.value, abs=1e-12)
    assert found.gain.high - found.gain.low < 0.5 * (found.ipw.high - found.ipw.low)
    truth = 0.1 * (TRUTH - float(CONTEXTS @ (LOGGED * RATE).sum(axis=1)))
    assert found.gain.low < truth < found.gain.high
