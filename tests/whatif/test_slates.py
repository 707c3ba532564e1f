"""The reward model of decisions with several offers: it learns what was shown, and predicts what is listed."""

import numpy as np
import pytest

from offers.learning.propensity.features import Features, Interaction
from offers.model.hashing import key_of
from offers.whatif.reward_model import cross_fit, folds_of
from offers.whatif.slates import NO_OFFER, SlateRewardModel

ROWS = 3_000
FEATURES = Features(tuple(Interaction(of, 1.0) for of in (("wet",), ("offer.id",), ("wet", "offer.id"))), 12)
CHANCE = np.array([[0.1, 0.5, 0.2], [0.4, 0.1, 0.2]])
"""Probability of a reward, by whether it rains and by offer."""


def model(seed: int = 1) -> tuple[SlateRewardModel, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Decisions that list three offers, or two of them, and showed the first two; and whether it rained."""
    random = np.random.default_rng(seed)
    wet = random.integers(0, 2, ROWS)
    listed = np.array([random.permutation(3) for _ in range(ROWS)], np.int32)
    listed[::2, 2] = NO_OFFER
    reward = (random.random((ROWS, 3)) < CHANCE[wet[:, None], listed]).astype(np.float64)
    reward[:, 2] = np.nan
    request = np.array([[key_of("wet", bool(one))] for one in wet], np.uint64)
    offer = np.array([[key_of("offer.id", str(one))] for one in range(3)], np.uint64)
    return SlateRewardModel(FEATURES, request, offer, listed, np.full(ROWS, 2), reward, np.arange(ROWS)), wet


def test_what_is_listed_is_foreseen_by_what_was_shown() -> None:
    """Offers shown teach how often each is taken, also where it is only listed; empty slots have 0."""
    known, wet = model()

    found = cross_fit(known, folds_of(ROWS, 0))

    assert np.all(found[::2, 2] == 0)
    for rain in range(2):
        for offer in range(3):
            at = (wet[:, None] == rain) & (known.listed == offer)
            was = known.reward[:, :2][at[:, :2]].mean()
            assert was == pytest.approx(found[at].mean(), abs=0.04)
            assert was == pytest.approx(CHANCE[rain, offer], abs=0.06)
            assert found[at].std() < 0.04


def test_nothing_is_foreseen_by_its_own_reward() -> None:
    """Turning a row's rewards about changes what is foreseen of others, and not of it."""
    known, _ = model()
    other, _ = model()
    other.reward[7, :2] = 1 - other.reward[7, :2]
    fold = folds_of(ROWS, 0)

    first, second = cross_fit(known, fold), cross_fit(other, fold)

    assert first[7].tolist() == second[7].tolist()
    assert np.all((first[fold != fold[7]] != second[fold != fold[7]]).any(axis=1))
