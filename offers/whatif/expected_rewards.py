"""Expected rewards of offers in logged decisions, by a model that has not learned from the same persons."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.learning.propensity.features import OFFER_PREFIX, Features
from offers.learning.propensity.rows import offer_values
from offers.learning.values import REQUEST_NAMES, features_for, request_values
from offers.model.hashing import key_of
from offers.v1.offer_pb2 import Offer
from offers.whatif.logged_outcomes import ShownDecision
from offers.whatif.off_policy import Floats, Integers
from offers.whatif.reward_model import cross_fit, folds_of
from offers.whatif.slates import NO_OFFER, SlateRewardModel

BITS = 18
MOST_NAMES, LEAST_SHARE = 64, 0.01
"""Most attributes of requests and persons that become features, and the least share of decisions that have them."""


class Moments:
    """The attributes of request and person in some decisions, and the persons as groups."""

    def __init__(self, shown: Sequence[ShownDecision], time_zone: str) -> None:
        """Read the attributes of decisions; `time_zone` is used for those that name none."""
        self.shown = shown
        self.values = [request_values(one.told, one.second, time_zone) for one in shown]
        """By decision, then by name."""

    @cached_property
    def person(self) -> Integers:
        """By decision, the number of its person; decisions of nobody have a number each."""
        names: dict[object, int] = {}
        return np.array([names.setdefault(self._name(place), place) for place in range(len(self.shown))], np.int64)

    def _name(self, number: int) -> object:
        one = self.shown[number]
        return one.told.draw or one.person or -1 - number

    def expected(
        self, reward: str, listed: Sequence[Sequence[str]], offers: Mapping[str, Offer], sensitive: Collection[str]
    ) -> Floats:
        """Return the expected rewards, 0 to 1, of listed offers (decisions x longest list), those shown first.

        `sensitive` names attributes of persons that no model may use. Raises EvaluationError for too few persons.
        """
        ids = list(dict.fromkeys(offer for of_one in listed for offer in of_one))
        told = {offer: offer_values(offers[offer]) for offer in ids if offer in offers}
        features = self._features({name for values in told.values() for name in values}, sensitive)
        request_names = features.attributes[: features.request_size]
        rows, rewards = self._columns(reward, listed, {offer: number for number, offer in enumerate(ids)})
        model = SlateRewardModel(
            features,
            np.array([[key_of(name, values.get(name)) for name in request_names] for values in self.values], np.uint64),
            _offer_keys(ids, told, features.attributes[features.request_size :]),
            rows,
            np.array([len(one.told.offer_ids) for one in self.shown], np.int64),
            rewards,
            np.array([one.second for one in self.shown], np.int64),
        )
        return cross_fit(model, folds_of(len(listed), 0, group=self.person))

    def _columns(
        self, reward: str, listed: Sequence[Sequence[str]], number: Mapping[str, int]
    ) -> tuple[NDArray[np.int32], Floats]:
        """Return the numbers of the listed offers (NO_OFFER after each list), and the rewards of those shown."""
        width = max(map(len, listed))
        rows = np.full((len(listed), width), NO_OFFER, np.int32)
        rewards = np.zeros((len(listed), width))
        for row, (of_one, shown) in enumerate(zip(listed, self.shown, strict=True)):
            rows[row, : len(of_one)] = [number[offer] for offer in of_one]
            rewards[row, : len(shown.told.offer_ids)] = shown.rewards[reward]
        return rows, rewards

    def _features(self, offer_names: Collection[str], sensitive: Collection[str]) -> Features:
        met = Counter(name for values in self.values for name in list(values)[len(REQUEST_NAMES) :])
        least = LEAST_SHARE * len(self.shown)
        barred = {f"profile.{name}" for name in sensitive}
        common = [name for name, count in met.most_common() if count >= least and name not in barred]
        others = sorted({*offer_names} - {"category", "brand"})
        # Only offers that were shown have a distance: having one would reveal them.
        return features_for(sorted(common[:MOST_NAMES]), others, BITS, distance=False)


def _offer_keys(
    ids: Sequence[str], told: Mapping[str, Mapping[str, object]], names: Sequence[str]
) -> NDArray[np.uint64]:
    """Return the keys of some attributes of offers (offers x names)."""
    bare = [name.removeprefix(OFFER_PREFIX) for name in names]
    keys: list[list[Any]] = []
    for offer in ids:
        values = {"id": offer, **told.get(offer, {})}
        keys.append([key_of(name, values.get(one)) for name, one in zip(names, bare, strict=True)])
    return np.array(keys, np.uint64).reshape(len(ids), len(names))
