"""Trees that LightGBM grew answer as LightGBM itself, in a compiled loop that knows nothing of it."""

import math
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from offers.errors import SettingsError
from offers.learning.propensity.features import CATEGORY, PERSON, Examples, default_features
from offers.learning.propensity.trees import PARAMETERS, Trees, train

NAMES = ("context.weather", "context.temperature", "profile.age", "offer.price", CATEGORY, PERSON)
FEATURES = default_features(NAMES)
SIZE = FEATURES.request_size
ROUNDS = 30


@pytest.fixture(scope="module")
def lightgbm() -> Any:  # noqa: ANN401 - it has no types
    """The library, which is an extra."""
    return pytest.importorskip("lightgbm", reason="needs LightGBM: pip install 'offers[gbdt]'")


def drawn(seed: int, count: int, lacking: float) -> tuple[list[dict[str, object]], Examples]:
    """Values and examples at random, some of them missing, and a rule that is not linear."""
    random = np.random.default_rng(seed)
    values: list[dict[str, object]] = []
    rewards = []
    for _ in range(count):
        one: dict[str, object] = {
            "context.weather": str(random.choice(["sun", "rain", "snow", "fog"], p=[0.5, 0.3, 0.15, 0.05])),
            "context.temperature": float(random.normal(0, 10)),
            "profile.age": int(random.integers(18, 80)),
            "offer.price": float(random.gamma(2, 8)),
            CATEGORY: f"c{random.integers(0, 12)}",
            PERSON: f"u{random.integers(0, 50)}",
        }
        liked = (one["context.weather"] == "rain") == (one[CATEGORY] in {"c1", "c2", "c3"})
        rewards.append(float(random.random() < (0.8 if liked else 0.3)))
        values.append({name: value for name, value in one.items() if random.random() >= lacking})
    columns = [(FEATURES.keys(one), FEATURES.numbers(one)) for one in values]
    keys, numbers = (np.array(column) for column in zip(*columns, strict=True))
    importance = random.uniform(0.5, 2, count)
    return values, Examples(keys, numbers, np.array(rewards), importance, np.zeros(count, np.int64))


def asked(values: list[dict[str, object]], trained_on: list[dict[str, object]]) -> NDArray[np.float64]:
    """Return the number that trees test, in plain Python."""
    met = {name: Counter(one.get(name) for one in trained_on) for name in FEATURES.attributes}

    def number(name: str, value: object) -> float:
        if value is None:
            return math.nan
        if isinstance(value, str):
            return 0.0 if name == PERSON else float(met[name][value])
        assert isinstance(value, (int, float))
        return float(value)

    return np.array([[number(name, one.get(name)) for name in FEATURES.attributes] for one in values])


def answers(trees: Trees, examples: Examples) -> list[float]:
    """The trees' logits, one request with one offer at a time."""
    return [
        trees.predict((keys[:SIZE], numbers[:SIZE]), (keys[None, SIZE:], numbers[None, SIZE:]))[0]
        for keys, numbers in zip(examples.keys, examples.numbers, strict=True)
    ]


def test_shares_are_foreseen(lightgbm: Any) -> None:  # noqa: ANN401
    """For rewards between 0 and 1, trees give the logits of expected shares, as LightGBM itself does."""
    values, examples = drawn(6, 3_000, 0)
    liked = np.array([(one["context.weather"] == "rain") == (one[CATEGORY] in {"c1", "c2", "c3"}) for one in values])
    share = np.where(liked, np.random.default_rng(7).uniform(0.2, 0.8, 3_000), 0.0)
    examples = examples._replace(reward=share, importance=np.ones(3_000))
    found = 1 / (1 + np.exp(-np.array(answers(train(FEATURES, examples), examples))))
    data = lightgbm.Dataset(asked(values, values), share)
    booster = lightgbm.train(dict(PARAMETERS), data, 200)
    assert list(booster.predict(asked(values, values))) == pytest.approx(found.tolist(), rel=1e-9)
    assert 0.5 == pytest.approx(found[liked].mean(), abs=0.03)
    assert share.mean() == pytest.approx(found.mean(), abs=0.01)


@pytest.mark.parametrize(("lacking", "lacking_later"), [(0, 0), (0.2, 0.2), (0, 0.3), (0.2, 0)])
def test_answers_are_those_of_lightgbm(lightgbm: Any, lacking: float, lacking_later: float) -> None:  # noqa: ANN401
    """To the last bit, for values met, never met, missing, and on the edge, whether or not any were missing before."""
    values, examples = drawn(1, 1_500, lacking)
    later, asked_later = drawn(2, 300, lacking_later)
    trees = train(FEATURES, examples, ROUNDS)
    later[0]["context.weather"] = "hail"
    column = FEATURES.attributes.index("offer.price")
    prices = trees.tables.test["threshold"][trees.tables.test_first[column] : trees.tables.test_first[column + 1]]
    for row, price in enumerate(prices[:100], 1):
        later[row]["offer.price"] = float(price)
    for row in range(101):
        asked_later.keys[row], asked_later.numbers[row] = FEATURES.keys(later[row]), FEATURES.numbers(later[row])
    data = lightgbm.Dataset(asked(values, values), examples.reward, weight=examples.importance)
    booster = lightgbm.train(dict(PARAMETERS), data, ROUNDS)
    expected = booster.predict(asked(later, values), raw_score=True)
    assert len(set(expected)) > 200
    assert list(expected) == answers(trees, asked_later)


@pytest.mark.usefixtures("lightgbm")
def test_offers_together_are_answered_as_each_alone() -> None:
    """One request with many offers gets the logits that each offer would get by itself."""
    _, examples = drawn(3, 800, 0.1)
    trees = train(FEATURES, examples, ROUNDS)
    request = (examples.keys[0, :SIZE], examples.numbers[0, :SIZE])
    offers = (examples.keys[:, SIZE:], examples.numbers[:, SIZE:])
    together = trees.predict(request, offers)
    alone = [
        trees.predict(request, (offers[0][place : place + 1], offers[1][place : place + 1]))[0] for place in range(800)
    ]
    assert alone == list(together)


@pytest.mark.usefixtures("lightgbm")
def test_rule_that_is_not_linear_is_learned() -> None:
    """Offers of some categories are liked only in rain, and the trees know it of days they have not seen."""
    _, examples = drawn(4, 4_000, 0)
    trees = train(FEATURES, examples)
    later, examples = drawn(5, 500, 0)
    liked = np.array([(one["context.weather"] == "rain") == (one[CATEGORY] in {"c1", "c2", "c3"}) for one in later])
    chance = 1 / (1 + np.exp(-np.array(answers(trees, examples))))
    assert 0.8 == pytest.approx(chance[liked].mean(), abs=0.1)
    assert 0.3 == pytest.approx(chance[~liked].mean(), abs=0.1)


@pytest.mark.usefixtures("lightgbm")
def test_nobody_is_known_by_name() -> None:
    """Trees answer the same to every person: they do not test the id."""
    values, examples = drawn(6, 800, 0)
    trees = train(FEATURES, examples, ROUNDS)
    strangers = np.array([FEATURES.keys({**one, PERSON: "somebody"}) for one in values])
    assert answers(trees, examples) == answers(trees, examples._replace(keys=strangers))


@pytest.mark.usefixtures("lightgbm")
@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_no_choice_is_no_tree(reward: float) -> None:
    """If all rewards are equal, every offer gets the same probability, on that side of one half."""
    _, examples = drawn(7, 200, 0)
    trees = train(FEATURES, examples._replace(reward=np.full(200, reward)), ROUNDS)
    (logit,) = set(answers(trees, examples))
    assert math.copysign(1, reward - 0.5) == math.copysign(1, logit)


def test_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LightGBM there is a sentence about how to get it."""
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    _, examples = drawn(8, 50, 0)
    with pytest.raises(SettingsError, match=r"pip install 'offers\[gbdt\]'"):
        train(FEATURES, examples)
