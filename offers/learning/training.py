"""The models on their way through the log.

The same entries in the same order give the same models, wherever training pauses and goes on.
"""

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any, Self

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from offers.errors import StoreUnavailableError
from offers.learning import log_reading
from offers.learning.log_reading import (
    BEGIN,
    END,
    STEP_S,
    DecisionEntry,
    LearningLog,
    LogPosition,
    MergedLog,
    VisitEntry,
)
from offers.learning.model import Model
from offers.learning.pending import Label
from offers.learning.promotion import Recent
from offers.learning.propensity.examples import Collector
from offers.learning.propensity.features import DECISION, Examples, Features
from offers.learning.propensity.regression import Propensity
from offers.learning.propensity.rehearsal import RehearsedModel
from offers.learning.recommend.visit_training import VisitTraining
from offers.learning.settling import SETTLE_S, Lookups
from offers.learning.values import ORDER_VALUE, REWARDS, Sum

FIRST_REVIEW, REVIEW_GROWTH = 100, 1.25
"""Decisions after which the attributes are reviewed for the first time, and the factor to the next review."""
_PREFIX = "collector."


class Training:
    """Models of one set of features, one for each reward, and the recommendation model, trained from the log."""

    def __init__(self, log: LearningLog, lookups: Lookups, features: Features, position: LogPosition = BEGIN) -> None:
        self.features = features
        self.rehearsed = {
            name: RehearsedModel(features, settle) for name, settle in zip(REWARDS, SETTLE_S, strict=True)
        }
        self.recent = {name: Recent() for name in REWARDS}
        self.visits = VisitTraining()
        self.collector = Collector(features, lookups, self)
        self.review = FIRST_REVIEW
        """Number of decisions at which the attributes are to be reviewed."""
        self._merged = MergedLog(log, position)
        self._incumbents: dict[str, Propensity] = {}
        self._since, self._is_compared = END, False
        self._ahead_s = 0
        """Seconds by which the log's clock is ahead of the server's, since that was set back."""

    @property
    def learned(self) -> int:
        """Examples, their revisions, and visits so far."""
        examples = sum(self.recent[name].examples + one.revised for name, one in self.rehearsed.items())
        return self.visits.learned + examples

    @property
    def models(self) -> dict[str, Propensity]:
        """The models, by reward."""
        return {name: one.model for name, one in self.rehearsed.items()}

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
        self._follow_clock(horizon)
        for second, event, decision in islice(merged.read(horizon, until), log_reading.PAGE):
            count += 1
            if not self._is_compared and (merged.event > since.event or merged.decision > since.decision):
                collector.flush()
                self._is_compared = True
            try:
                self._take(int(min(second, horizon)) + self._ahead_s, event, decision)
            except StoreUnavailableError:  # before anything was done with the entry
                merged.give_back()
                raise
            except (DecodeError, ValueError, OverflowError):
                collector.counts.unreadable += 1
            if decision is not None and collector.counts.decisions == self.review:
                break
        else:
            if count < log_reading.PAGE:
                self.pass_time(horizon + self._ahead_s)
        collector.flush()
        self.visits.flush()
        return count

    def _take(self, second: int, event: VisitEntry | None, decision: DecisionEntry | None) -> None:
        """Learn an entry of the log at a second of its clock."""
        if event is not None:
            self.collector.add_event(second, event)
            self.visits.add_event(event, self.collector.lookups.catalogues)
        elif decision is not None:
            self.collector.add_decision(second, decision)

    def _follow_clock(self, horizon: float) -> None:
        """Let the log's clock go on from where it is when the server's was set back.

        Otherwise nothing would become due until the server's clock has come to where it was.
        """
        if horizon == math.inf:
            return
        late = self.collector.clock - int(horizon)
        if late - self._ahead_s > STEP_S or (self._ahead_s and self._ahead_s - late > STEP_S):
            self._ahead_s = max(0, late)

    def pass_time(self, second: float) -> None:
        """Learn what is settled by a second, where the log has nothing more until then; infinite: nothing."""
        if second < math.inf:
            self.collector.pass_time(int(second))
            self.collector.flush()

    def learn(self, number: int, examples: Examples) -> int:
        """Train the model of a reward: see ExampleConsumer."""
        recent = self.recent[REWARDS[number]]
        recent.examples += len(examples.reward)
        recent.rewards += int(np.count_nonzero(examples.reward))
        return self.rehearsed[REWARDS[number]].learn(examples)

    def revise(self, number: int, which: int, labels: tuple[Label, Label], example: Examples, second: int) -> None:
        """Exchange the label of an example: see ExampleConsumer."""
        before, after = labels
        self.recent[REWARDS[number]].rewards += int(after.reward > 0) - int(before.reward > 0)
        self.rehearsed[REWARDS[number]].revise(which, labels, example, second)

    def rest(self, number: int, second: int) -> None:
        """Have a model rest: see ExampleConsumer."""
        self.rehearsed[REWARDS[number]].rest(second)

    def decisions(self) -> set[str]:
        """Return the ids of the decisions of which examples are kept: see ExampleConsumer."""
        ids = [one.kept.decision for one in self.rehearsed.values()]
        return {name.decode() for name in np.unique(np.concatenate(ids)).tolist() if name}

    def forget(self, lost: set[str], second: int) -> None:
        """Remove the examples of decisions: see ExampleConsumer."""
        names = np.array([name.encode() for name in lost], DECISION)
        for one in self.rehearsed.values():
            one.forget(names, second)

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
        for name in self.taught:
            arrays |= {f"{name}.{part}": array for part, array in self.rehearsed[name].arrays().items()}
        for name, recent in self.recent.items():
            arrays[f"{name}.recent"] = np.stack((recent.reward, recent.candidate))
        return arrays, {
            "features": self.features.as_json(),
            "position": list(self.position),
            "review": self.review,
            "ahead_s": self._ahead_s,
            "visits": self.visits.learned,
            "counts": {name: [one.judged, one.examples, one.rewards] for name, one in self.recent.items()},
            "collector": saved,
        }

    @classmethod
    def restored(cls, log: LearningLog, lookups: Lookups, checkpoint: Model) -> Self:
        """Return the training as it was when `to_save` gave the contents of a checkpoint."""
        meta, arrays = checkpoint.meta, checkpoint.arrays
        own = cls(log, lookups, Features.of_json(meta["features"]), LogPosition(*meta["position"]))
        own.review, own._ahead_s = meta["review"], meta.get("ahead_s", 0)
        own.visits = VisitTraining.restored(arrays, meta["visits"])
        for name, recent in own.recent.items():
            recent.reward[:], recent.candidate[:] = arrays[f"{name}.recent"]
            recent.judged, recent.examples, recent.rewards = meta["counts"][name]
        for name in own.taught:
            its = {
                part.removeprefix(f"{name}."): array for part, array in arrays.items() if part.startswith(f"{name}.")
            }
            own.rehearsed[name] = RehearsedModel.restored(own.features, SETTLE_S[REWARDS.index(name)], its)
        pending = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
        own.collector.restore(pending, meta["collector"])
        return own
