"""The propensity model: what it learns, how sure it is of it, what it forgets, and how persons are pooled."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from offers.learning.propensity.features import (
    CATEGORY,
    NO_WEIGHT,
    PERSON,
    Examples,
    Features,
    Interaction,
    default_features,
)
from offers.learning.propensity.regression import DAY_S, Propensity, calibration_error

NAMES = ("context.weather", "profile.age", "offer.brand", CATEGORY, PERSON)
FEATURES = default_features(NAMES, bits=12)
ONE = Features((Interaction((CATEGORY,), 0.5),), 8)
NOTHING = (np.empty(0, np.uint64), np.zeros((1, 1), np.uint64))
"""A request and an offer of which ONE knows nothing."""


def examples_of(
    features: Features,
    values: Sequence[Mapping[str, object]],
    rewards: Sequence[float],
    times: Sequence[int] | None = None,
    importance: Sequence[float] | None = None,
) -> Examples:
    """Examples with these values by name."""
    return Examples(
        np.array([features.keys(one) for one in values]),
        np.array([features.numbers(one) for one in values]),
        np.array(rewards, np.float64),
        np.ones(len(values)) if importance is None else np.array(importance, np.float64),
        np.zeros(len(values), np.int64) if times is None else np.array(times, np.int64),
    )


def rows(examples: Examples, which: slice) -> Examples:
    """Some of the examples."""
    keys, numbers, reward, importance, time, _ = examples
    return Examples(keys[which], numbers[which], reward[which], importance[which], time[which])


def drawn(seed: int, count: int) -> Examples:
    """Examples at random, over some ten days and now and then a day late, a few values missing."""
    random = np.random.default_rng(seed)
    values = [{name: random.choice(["", "a", "b", "c", "d"]) for name in NAMES} for _ in range(count)]
    times = np.cumsum(random.integers(-DAY_S, 2 * DAY_S, count)) + 100 * DAY_S
    rewards = random.choice([0, 1, 0.25], count)
    return examples_of(FEATURES, values, list(rewards), list(times), list(random.uniform(0.1, 3, count)))


class Plainly:
    """The model in plain Python: every weight a normal distribution, found by the interaction and its values."""

    def __init__(self, features: Features, half_life_days: float) -> None:
        """Know nothing yet."""
        self.features, self.half_life_days, self.day = features, half_life_days, 0
        self.rewards = self.refusals = 0.5
        self.weights: dict[int, tuple[float, float]] = {}
        """Mean and variance, by place."""

    def logit(self, keys: NDArray[np.uint64]) -> tuple[float, float, list[tuple[int, float]]]:
        """Mean, variance, and the weights with their prior variances."""
        places = self.features.weight_indexes([int(key) for key in keys])
        found = [
            (place, one.variance)
            for place, (one, _) in zip(places, self.features.ordered, strict=True)
            if place != NO_WEIGHT
        ]
        known = [self.weights.get(place, (0.0, prior)) for place, prior in found]
        mean = math.log(self.rewards / self.refusals) + sum(mean for mean, _ in known)
        return mean, 1 / self.rewards + 1 / self.refusals + sum(variance for _, variance in known), found

    def update(self, examples: Examples) -> list[float]:
        """Learn, and give what was foreseen."""
        foreseen = []
        priors: dict[int, float] = {}
        for keys, _, reward, importance, time in zip(*examples[:5], strict=True):
            if (day := int(time) // DAY_S) > self.day:
                kept = 0.5 ** ((day - self.day) / self.half_life_days)
                for place, (mean, variance) in self.weights.items():
                    evidence = 1 / variance - 1 / priors[place]
                    faded = 1 / (1 / priors[place] + kept * evidence)
                    self.weights[place] = (kept * mean / variance * faded, faded)
                self.rewards = 0.5 + kept * (self.rewards - 0.5)
                self.refusals = 0.5 + kept * (self.refusals - 0.5)
                self.day = day
            mean, variance, found = self.logit(keys)
            chance = 1 / (1 + math.exp(-mean / math.sqrt(1 + math.pi / 8 * variance)))
            foreseen.append(chance)
            self.rewards += importance * reward
            self.refusals += importance * (1 - reward)
            bend = importance * chance * (1 - chance)
            for place, prior in found:
                priors[place] = prior
                its_mean, its_variance = self.weights.get(place, (0.0, prior))
                self.weights[place] = (
                    its_mean + its_variance * importance * (reward - chance) / (1 + variance * bend),
                    its_variance - its_variance**2 * bend / (1 + variance * bend),
                )
        return foreseen


@pytest.mark.parametrize("seed", range(5))
def test_learning_is_as_in_plain_python(seed: int) -> None:
    """The compiled loop foresees, learns and forgets what the same arithmetic does on a dictionary of distributions."""
    examples = drawn(seed, 400)
    model, plainly = Propensity.untaught(FEATURES, 5), Plainly(FEATURES, 5)
    np.testing.assert_allclose(plainly.update(examples), model.update(examples), rtol=1e-4)
    for keys in examples.keys[:50]:
        mean, variance, _ = plainly.logit(keys)
        prediction = model.predict(keys[: FEATURES.request_size], keys[None, FEATURES.request_size :])
        np.testing.assert_allclose([[mean], [variance]], prediction[:2], rtol=1e-3, atol=1e-5)


@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(1, 200))
def test_offers_are_foreseen_together_as_each_alone(seed: int, count: int, kinds: int) -> None:
    """Sums that offers share are remembered, and nothing else comes out than for each offer by itself."""
    random = np.random.default_rng(seed)
    model = Propensity.untaught(FEATURES)
    model.weight["mean"] = random.normal(size=len(model.weight))
    model.weight["evidence"] = random.exponential(size=len(model.weight))
    request = random.integers(0, 2**63, FEATURES.request_size).astype(np.uint64)
    shelf = random.integers(0, 2**63, (kinds, 2)).astype(np.uint64)
    shelf[random.random(shelf.shape) < 0.1] = 0
    offers = np.stack([random.choice(shelf[:, 0], count), random.choice(shelf[:, 1], count)], 1)
    together = model.predict(request, offers)
    alone = [model.predict(request, offers[place : place + 1]) for place in range(count)]
    np.testing.assert_array_equal([one.mean[0] for one in alone], together.mean)
    np.testing.assert_array_equal([one.variance[0] for one in alone], together.variance)
    assert {together.shared_variance} >= {one.shared_variance for one in alone}


def test_shared_variance_is_that_of_the_request() -> None:
    """An untaught model is as unsure of the request as the priors of all that does not ask for the offer."""
    keys = FEATURES.keys(dict.fromkeys(NAMES, "a"))
    size = FEATURES.request_size
    of_request = [one for one in FEATURES.interactions if not any("offer." in name for name in one.attributes)]
    prediction = Propensity.untaught(FEATURES).predict(keys[:size], keys[None, size:])
    in_general = 1 / 0.5 + 1 / 0.5
    assert in_general + sum(one.variance for one in of_request) == pytest.approx(prediction.shared_variance)
    assert in_general + sum(one.variance for one in FEATURES.interactions) == pytest.approx(prediction.variance[0])


@pytest.mark.parametrize(("taken", "shown"), [(2, 40), (9, 30), (60, 90), (10, 3_000), (300, 3_000)])
def test_rewards_in_general_are_counted(taken: int, shown: int) -> None:
    """With unknown values the foreseen probability is nearly the reward rate, however rare rewards are."""
    rewards = np.zeros(shown)
    rewards[:taken] = 1
    model = Propensity.untaught(ONE)
    model.update(examples_of(ONE, [{}] * shown, list(rewards)))
    found = model.predict(*NOTHING)
    share = (taken + 0.5) / (shown + 1)
    assert share == pytest.approx(found.probability()[0], rel=0.35, abs=0.01)
    assert math.log(share / (1 - share)) == pytest.approx(found.mean[0])
    assert 1 / (taken + 0.5) + 1 / (shown - taken + 0.5) == pytest.approx(found.variance[0])


def test_posterior_of_a_weight_is_nearly_the_exact_one() -> None:
    """With all else certain, a weight's mean and deviation are close to those of Bayes' rule on a fine grid."""
    model = Propensity.untaught(ONE)
    model.seen[:2] = 1e9
    rewards = np.random.default_rng(1).permutation(np.repeat([0.0, 1.0], [60, 20]))
    model.update(examples_of(ONE, [{CATEGORY: "sushi"}] * 80, list(rewards)))
    found = model.predict(np.empty(0, np.uint64), ONE.keys({CATEGORY: "sushi"})[None])
    logit = np.linspace(-8, 8, 20_001)
    log_density = 20 * logit - 80 * np.log1p(np.exp(logit)) - logit**2 / (2 * 0.5)
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    mean = density @ logit
    deviation = math.sqrt(density @ (logit - mean) ** 2)
    assert mean == pytest.approx(found.mean[0], abs=deviation / 3)
    assert deviation == pytest.approx(math.sqrt(found.variance[0]), rel=0.1)


def test_truth_is_found_and_calibrated() -> None:
    """The model learns the probabilities of a known rule from rewards drawn by it."""
    random = np.random.default_rng(7)
    effects = {name: dict(zip("abcd", random.normal(0, 0.8, 4), strict=True)) for name in NAMES[:4]}
    values = [{name: str(random.choice(list("abcd"))) for name in NAMES[:4]} for _ in range(20_000)]
    logits = np.array([sum(effects[name][value] for name, value in one.items()) for one in values])
    truth = 1 / (1 + np.exp(-logits))
    rewards = (random.random(len(values)) < truth).astype(np.float64)
    foreseen = Propensity.untaught(FEATURES).update(examples_of(FEATURES, values, list(rewards)))
    late = slice(10_000, None)
    assert np.abs(foreseen - truth)[late].mean() < 0.03
    assert calibration_error(rewards[late], foreseen[late]) < 0.02
    assert calibration_error(rewards[late], np.full(10_000, 0.7)) > 0.1


def test_example_counts_half_after_a_half_life() -> None:
    """Evidence halves with each half-life, and what is left of it is weighed against the prior."""
    model = Propensity.untaught(ONE, half_life_days=30)
    model.update(examples_of(ONE, [{CATEGORY: "sushi"}] * 50, [1.0] * 50, [DAY_S] * 50))
    place = model.weight["evidence"] > 0
    mean, evidence = model.weight[place][0]
    model.update(examples_of(ONE, [{}], [1.0], [31 * DAY_S]))
    faded_mean, faded_evidence = model.weight[place][0]
    assert evidence / 2 == pytest.approx(faded_evidence, rel=1e-4)
    assert mean * (1 + evidence) / 2 == pytest.approx(faded_mean * (1 + evidence / 2), rel=1e-4)
    assert [50 / 2 + 1, 0, 31] == pytest.approx(list(model.seen))


def test_late_examples_count_as_of_the_last_day() -> None:
    """An example that comes days late is learned from, and nothing is forgotten or remembered for it."""
    on_time, late = Propensity.untaught(ONE), Propensity.untaught(ONE)
    values = [{CATEGORY: "sushi"}] * 2
    on_time.update(examples_of(ONE, values, [1, 0], [20 * DAY_S, 20 * DAY_S]))
    late.update(examples_of(ONE, values, [1, 0], [20 * DAY_S, 3 * DAY_S]))
    assert on_time.weight.tobytes() == late.weight.tobytes()
    assert 20 == late.seen[2]


def test_rare_rewards_are_foreseen_as_rare() -> None:
    """If one in two hundred takes an offer up, that is foreseen on average, early and late."""
    random = np.random.default_rng(5)
    values = [{name: str(random.choice(list("abcd"))) for name in NAMES[:4]} for _ in range(20_000)]
    truth = np.array([0.01 if one[CATEGORY] == "a" else 0.003 for one in values])
    rewards = (random.random(len(values)) < truth).astype(np.float64)
    foreseen = Propensity.untaught(FEATURES).update(examples_of(FEATURES, values, list(rewards)))
    for part in (slice(1_000, 5_000), slice(10_000, None)):
        assert rewards[part].mean() == pytest.approx(foreseen[part].mean(), rel=0.4)
    late = slice(10_000, None)
    assert foreseen[late][truth[late] == 0.01].mean() > 2 * foreseen[late][truth[late] == 0.003].mean()


def test_persons_are_pooled() -> None:
    """A person's own answers move what is foreseen for them most, for newcomers little, and fewer answers move less."""

    def chance(model: Propensity, person: str | None) -> float:
        keys = FEATURES.keys({PERSON: person, CATEGORY: "sushi"})
        size = FEATURES.request_size
        return float(model.predict(keys[:size], keys[None, size:]).probability()[0])

    model = Propensity.untaught(FEATURES)
    crowd = [{PERSON: f"u-{number % 100}", CATEGORY: "sushi"} for number in range(2_000)]
    model.update(examples_of(FEATURES, crowd, [float((number + number // 100) % 2) for number in range(2_000)]))
    before = chance(model, None)
    once, often = model.copy(), model.copy()
    for learner, count in ((once, 1), (often, 12)):
        learner.update(examples_of(FEATURES, [{PERSON: "picky", CATEGORY: "sushi"}] * count, [0.0] * count))
    assert 0.5 == pytest.approx(before, abs=0.03)
    assert before == pytest.approx(chance(often, "newcomer"), abs=0.03)
    assert before == pytest.approx(chance(often, "u-1"), abs=0.1)
    assert chance(often, "picky") < 0.3 < chance(once, "picky") < before - 0.03


def test_replay_gives_the_same_bytes() -> None:
    """However a log is cut into batches, and wherever learning went on from what was kept, the model is the same."""
    examples = drawn(3, 300)
    whole, pieces = Propensity.untaught(FEATURES), Propensity.untaught(FEATURES)
    foreseen = whole.update(examples)
    first = pieces.update(rows(examples, slice(101)))
    resumed = Propensity.of_arrays(FEATURES, pieces.arrays(), pieces.half_life_days).copy()
    second = resumed.update(rows(examples, slice(101, None)))
    assert foreseen.tobytes() == np.concatenate([first, second]).tobytes()
    assert {name: array.tobytes() for name, array in whole.arrays().items()} == {
        name: array.tobytes() for name, array in resumed.arrays().items()
    }


def test_copy_learns_apart() -> None:
    """A copy learns without changing its original."""
    model = Propensity.untaught(FEATURES)
    model.copy().update(drawn(1, 50))
    assert not model.weight["evidence"].any()
    assert not model.seen.any()


def test_parts_add_up_to_the_logit() -> None:
    """The explanation is the arithmetic: the parts of a prediction are its mean."""
    model = Propensity.untaught(FEATURES)
    examples = drawn(9, 500)
    model.update(examples)
    keys, size = examples.keys[-1], FEATURES.request_size
    parts = model.parts(keys)
    sizes = [abs(part) for _, part in parts]
    assert sorted(sizes, reverse=True) == sizes
    assert sum(part for _, part in parts) == pytest.approx(model.predict(keys[:size], keys[None, size:]).mean[0])


def test_calibration_error_by_hand() -> None:
    """Bins of equally many: in the lower one .2 is foreseen of nothing, in the upper one .6 of all."""
    rewards, foreseen = np.array([1.0, 0, 1, 0]), np.array([0.6, 0.2, 0.6, 0.2])
    assert (0.2 + 0.4) / 2 == pytest.approx(calibration_error(rewards, foreseen, bins=2))
    assert 0.1 == pytest.approx(calibration_error(rewards, foreseen, bins=1))
