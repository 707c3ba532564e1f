"""Real answers to coupons: how well the models foresee them of people they have never met, and then get to know."""

import csv

import numpy as np
import pytest
from numpy.typing import NDArray

from offers.learning.propensity.features import CATEGORY, PERSON, Examples, Features, default_features
from offers.learning.propensity.regression import Propensity
from offers.learning.propensity.trees import train
from tests.paths import DATA

SET = DATA / "coupon" / "coupon.csv"
FOLDS = 5
OF_OFFER = {"coupon": CATEGORY, "expiration": "offer.expiration"}
OF_MOMENT = ("destination", "passanger", "weather", "temperature", "time", "toCoupon", "direction")

pytestmark = pytest.mark.skipif(not SET.is_file(), reason=f"needs the answers in {SET}")


@pytest.fixture(scope="module")
def answers() -> tuple[Features, Examples, NDArray[np.int64]]:
    """Features by default, an example for each answer, and the respondents."""
    with SET.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = [
        {_name(column): value for column, value in row.items() if column not in {"respondent", "Y"}}
        | {PERSON: row["respondent"]}
        for row in rows
    ]
    features = default_features(list(values[0]))
    examples = Examples(
        np.array([features.keys(one) for one in values]),
        np.array([features.numbers(one) for one in values]),
        np.array([float(row["Y"]) for row in rows]),
        np.ones(len(rows)),
        np.zeros(len(rows), np.int64),
    )
    return features, examples, np.array([int(row["respondent"]) for row in rows])


def _name(column: str) -> str:
    if column in OF_OFFER:
        return OF_OFFER[column]
    return f"context.{column}" if column.startswith(OF_MOMENT) else f"profile.{column}"


def _rows(examples: Examples, which: NDArray[np.bool_]) -> Examples:
    keys, numbers, reward, importance, time, _ = examples
    return Examples(keys[which], numbers[which], reward[which], importance[which], time[which])


def _auc(reward: NDArray[np.float64], foreseen: NDArray[np.float64]) -> float:
    """How often a yes was thought likelier than a no."""
    yes, no = foreseen[reward == 1], np.sort(foreseen[reward == 0])
    ahead = np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")
    return float(ahead.mean() / 2 / len(no))


def test_online_model_on_people_it_has_not_met(answers: tuple[Features, Examples, NDArray[np.int64]]) -> None:
    """One pass over four fifths of the people ranks the others' answers; asked one by one, it does much better soon."""
    features, examples, respondent = answers
    size = features.request_size
    cold, warm, late = np.empty((3, len(respondent)))
    for fold in range(FOLDS):
        asked = respondent % FOLDS == fold
        model = Propensity.untaught(features)
        model.update(_rows(examples, ~asked))
        for row in np.flatnonzero(asked):
            keys = examples.keys[row]
            cold[row] = model.predict(keys[:size], keys[None, size:]).probability()[0]
        for one in np.unique(respondent[asked]):
            its = respondent == one
            warm[its] = model.copy().update(_rows(examples, its))
            late[its] = np.arange(its.sum()) >= 10
    later = late == 1
    assert _auc(examples.reward, cold) >= 0.735
    assert _auc(examples.reward[later], warm[later]) >= 0.78
    assert _auc(examples.reward[later], warm[later]) > _auc(examples.reward[later], cold[later]) + 0.05


def test_trees_on_people_they_have_not_met(answers: tuple[Features, Examples, NDArray[np.int64]]) -> None:
    """Trees grown on four fifths of the people rank the others' answers better still."""
    pytest.importorskip("lightgbm", reason="needs LightGBM: pip install 'offers[gbdt]'")
    features, examples, respondent = answers
    size = features.request_size
    logits = np.empty(len(respondent))
    for fold in range(FOLDS):
        asked = respondent % FOLDS == fold
        trees = train(features, _rows(examples, ~asked))
        for row in np.flatnonzero(asked):
            keys, numbers = examples.keys[row], examples.numbers[row]
            (logits[row],) = trees.predict((keys[:size], numbers[:size]), (keys[None, size:], numbers[None, size:]))
    assert _auc(examples.reward, logits) >= 0.757
