"""The models on their way through the log.

The same entries in the same order give the same models, wherever training pauses and goes on.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from offers.learning import log_reading
from offers.learning.log_reading import BEGIN, END, LearningLog, LogPosition, MergedLog
from offers.learning.model import Model
from offers.learning.promotion import Recent
from offers.learning.propensity.examples import Collector
from offers.learning.propensity.features import Examples, Features
from offers.learning.propensity.regression import Propensity
from offers.learning.recommend.visit_training import VisitTraining
from offers.learning.settling import Lookups
from offers.learning.values import ORDER_VALUE, REWARDS, Sum

FIRST_REVIEW, REVIEW_GROWTH = 100, 1.25
"""Decisions after which the attributes are reviewed for the first time, and the factor to the next review."""
_PREFIX = "collector."


class Training:
    """Models of one set of features, one for each reward, and the recommendation model, trained from the log."""

    def __init__(self, log: LearningLog, lookups: Lookups, features: Features, position: LogPosition = BEGIN) -> None:
        self.features = features
        self.models = {name: Propensity.untaught(features) for name in REWARDS}
        self.recent = {name: Recent() for name in REWARDS}
        self.visits = VisitTraining()
        self.collector = Collector(features, lookups, self)
        self.review = FIRST_REVIEW
        """Number of decisions at which the attributes are to be reviewed."""
        self._merged = MergedLog(log, position)
        self._incumbents: dict[str, Propensity] = {}
        self._since, self._is_compared = END, False

    @property
    def learned(self) -> int:
        """Examples and visits so far."""
        return self.visits.learned + sum(recent.examples for recent in self.recent.values())

    @property
    def scales(self) -> Mapping[str, Sum]:
        """By catalogue, the scale of order values."""
        return self.collector.scales

    @property
    def taught(self) -> dict[str, Propensity]:
        """The models that have learned from any example, by reward."""
        return {name: model for name, model in self.models.items() if self.recent[name].examples}

    @property
    def position(self) -> LogPosition:
        """How far the log was learned."""
        return self._merged.position

    def compare_with(self, incumbents: dict[str, Propensity], since: LogPosition) -> None:
        """Have other models of the same features foresee decisions as well, from their own position on."""
        self._incumbents, self._since, self._is_compared = incumbents, since, False
        for recent in self.recent.values():
            recent.incumbent[:] = np.nan

    def step(self, horizon: float, until: LogPosition = END) -> int:
        """Learn the next page of the log, and return how many events and decisions it had.

        A page ends at a second of the log's clock (`horizon`), at a position in it, or where `review` is reached.
        """
        count, collector, merged, since = 0, self.collector, self._merged, self._since
        for second, event, decision in islice(merged.read(horizon, until), log_reading.PAGE):
            count += 1
            if not self._is_compared and (merged.event > since.event or merged.decision > since.decision):
                collector.flush()
                self._is_compared = True
            if event is not None:
                collector.add_event(second, event)
                self.visits.add_event(event, collector.lookups.catalogues)
            elif decision is not None:
                collector.add_decision(second, decision)
                if collector.counts.decisions == self.review:
                    break
        collector.flush()
        self.visits.flush()
        return count

    def learn(self, number: int, examples: Examples) -> NDArray[np.float64]:
        """Train the model of a reward: see ExampleConsumer."""
        recent = self.recent[REWARDS[number]]
        recent.examples += len(examples.reward)
        recent.rewards += int(np.count_nonzero(examples.reward))
        return self.models[REWARDS[number]].update(examples)

    def foresee(self, request: NDArray[np.uint64], offers: NDArray[np.uint64]) -> int:
        """Foresee the outcome of a decision by all models: see ExampleConsumer."""
        first = 0
        for number, (name, recent) in enumerate(self.recent.items()):
            if number == ORDER_VALUE and not self.scales:
                continue  # there are no outcomes of it
            first, incumbent = recent.judged, self._incumbents.get(name) if self._is_compared else None
            recent.foreseen(
                self.models[name].predict(request, offers).probability(),
                incumbent.predict(request, offers).probability() if incumbent else None,
            )
        return first

    def settle(self, number: int, offer: int, reward: float) -> None:
        """Note the outcome of an offer that was foreseen: see ExampleConsumer."""
        self.recent[REWARDS[number]].settle(offer, reward)

    def to_save(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return all that `restored` needs: arrays, and what JSON can hold."""
        arrays, saved = self.collector.to_save()
        arrays = {_PREFIX + name: array for name, array in arrays.items()} | self.visits.to_save()
        for name, model in self.taught.items():
            arrays |= {f"{name}.{part}": array for part, array in model.arrays().items()}
        for name, recent in self.recent.items():
            arrays[f"{name}.recent"] = np.stack((recent.reward, recent.candidate))
        return arrays, {
            "features": self.features.as_json(),
            "position": list(self.position),
            "review": self.review,
            "visits": self.visits.learned,
            "counts": {name: [one.judged, one.examples, one.rewards] for name, one in self.recent.items()},
            "collector": saved,
        }

    @classmethod
    def restored(cls, log: LearningLog, lookups: Lookups, checkpoint: Model) -> Self:
        """Return the training as it was when `to_save` gave the contents of a checkpoint."""
        meta, arrays = checkpoint.meta, checkpoint.arrays
        own = cls(log, lookups, Features.of_json(meta["features"]), LogPosition(*meta["position"]))
        own.review = meta["review"]
        own.visits = VisitTraining.restored(arrays, meta["visits"])
        for name, recent in own.recent.items():
            recent.reward[:], recent.candidate[:] = arrays[f"{name}.recent"]
            recent.judged, recent.examples, recent.rewards = meta["counts"][name]
        for name, model in own.taught.items():
            for part, array in model.arrays().items():
                array[:] = arrays[f"{name}.{part}"]
        pending = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
        own.collector.restore(pending, meta["collector"])
        return own
