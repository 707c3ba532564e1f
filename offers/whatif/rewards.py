"""What is to be expected of offers in logged decisions, by a model that has not learned from the same persons."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import numpy as np

from offers.learning.propensity.features import OFFER_PREFIX, Features
from offers.learning.propensity.rows import offer_values
from offers.learning.values import REQUEST_NAMES, features_for, request_values
from offers.model.hashing import key_of
from offers.v1.offer_pb2 import Offer
from offers.whatif.log import Shown
from offers.whatif.off_policy import Floats, Integers
from offers.whatif.reward_model import cross_fit, folds_of
from offers.whatif.slates import NO_OFFER, SlateRewardModel

BITS = 18
MOST_NAMES, LEAST_SHARE = 64, 0.01
"""Attributes of requests and persons that are features, and in what share of decisions they are at least."""


class Moments:
    """What some decisions tell of the moment and the person, and what else goes for all of them."""

    def __init__(self, shown: Sequence[Shown], time_zone: str) -> None:
        """`time_zone` is that of decisions that name none."""
        self.shown = shown
        self.values = [request_values(one.told, one.second, time_zone) for one in shown]
        """By decision, by name."""

    @cached_property
    def person(self) -> Integers:
        """Of each decision the number of its person; those of nobody are alone."""
        names: dict[object, int] = {}
        return np.array([names.setdefault(self._name(place), place) for place in range(len(self.shown))], np.int64)

    def _name(self, place: int) -> object:
        one = self.shown[place]
        return one.told.draw or one.person or -1 - place

    def expected(
        self, reward: str, listed: Sequence[Sequence[str]], offers: Mapping[str, Offer], sensitive: Collection[str]
    ) -> Floats:
        """The expected reward of listed offers (decisions x most listed), 0 to 1; those shown are listed first.

        `sensitive` names attributes of persons that no model may use. Raises EvaluationError for too few persons.
        """
        ids = list(dict.fromkeys(offer for of_one in listed for offer in of_one))
        number = {offer: place for place, offer in enumerate(ids)}
        told = {offer: offer_values(offers[offer]) for offer in ids if offer in offers}
        features = self._features({name for values in told.values() for name in values}, sensitive)
        size, width = features.request_size, max(map(len, listed))
        rows = np.full((len(listed), width), NO_OFFER, np.int32)
        rewards = np.zeros((len(listed), width))
        for row, (of_one, shown) in enumerate(zip(listed, self.shown, strict=True)):
            rows[row, : len(of_one)] = [number[offer] for offer in of_one]
            rewards[row, : len(shown.told.offer_ids)] = shown.rewards[reward]
        offer_names = features.attributes[size:]
        offer_keys = [
            [
                key_of(name, {"id": offer, **told.get(offer, {})}.get(name.removeprefix(OFFER_PREFIX)))
                for name in offer_names
            ]
            for offer in ids
        ]
        request_keys = [
            [key_of(name, values.get(name)) for name in features.attributes[:size]] for values in self.values
        ]
        model = SlateRewardModel(
            features,
            np.array(request_keys, np.uint64),
            np.array(offer_keys, np.uint64).reshape(len(ids), len(offer_names)),
            rows,
            np.array([len(one.told.offer_ids) for one in self.shown], np.int64),
            rewards,
            np.array([one.second for one in self.shown], np.int64),
        )
        return cross_fit(model, folds_of(len(listed), 0, group=self.person))

    def _features(self, offer_names: Collection[str], sensitive: Collection[str]) -> Features:
        met = Counter(name for values in self.values for name in list(values)[len(REQUEST_NAMES) :])
        least = LEAST_SHARE * len(self.shown)
        barred = {f"profile.{name}" for name in sensitive}
        common = [name for name, count in met.most_common() if count >= least and name not in barred]
        others = sorted({*offer_names} - {"category", "brand"})
        # An offer that was not shown has no distance: those that were would be told by having one.
        return features_for(sorted(common[:MOST_NAMES]), others, BITS, distance=False)
