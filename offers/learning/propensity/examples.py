"""Makes examples of settled outcomes as the log comes in, for models that learn online."""

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from offers.learning.pending import Label, PendingDecision
from offers.learning.propensity.features import Examples, Features
from offers.learning.settling import Lookups, OutcomeTracker

JUDGED_EVERY = 8
"""One decision in this many is foreseen when it is made, to judge models by its outcome."""


class ExampleConsumer(Protocol):
    """One that learns from examples. Rewards are named by their number in REWARDS."""

    def learn(self, number: int, examples: Examples) -> int:
        """Learn from examples, and return the number of the first; the others have the next numbers."""
        ...

    def revise(self, number: int, which: int, labels: tuple[Label, Label], example: Examples, second: int) -> None:
        """Exchange the label of an example before for the one after, at a second. Its number may be NO_EXAMPLE."""
        ...

    def rest(self, number: int, second: int) -> None:
        """Do what is left to be done, as no examples came until a second."""
        ...

    def decisions(self) -> set[str]:
        """Return the ids of the decisions of which examples are kept."""
        ...

    def forget(self, lost: set[str], second: int) -> None:
        """Remove the examples of decisions that the log has lost by a second."""
        ...

    def foresee(self, request: NDArray[np.uint64], offers: NDArray[np.uint64]) -> int:
        """Foresee the outcome of each offer of a decision, by their keys, and return the number of the first."""
        ...

    def settle(self, number: int, offer: int, reward: float) -> None:
        """Take the outcome of an offer that was foreseen; NaN: unknown. Later calls overwrite earlier ones."""
        ...


class Collector(OutcomeTracker):
    """Gives examples to a consumer as soon as outcomes are settled."""

    def __init__(self, features: Features, lookups: Lookups, consumer: ExampleConsumer) -> None:
        super().__init__(features, lookups)
        self.consumer = consumer

    def forget_erased(self) -> int:
        """Remove decisions, held or learned, that the log does not have any more. Returns how many."""
        held = super().forget_erased()
        self.flush()
        kept = self.consumer.decisions()
        if lost := self.lost(kept):
            self.consumer.forget(lost, self.clock)
        return held + len(lost)

    def _judge(self, pending: PendingDecision) -> None:
        if self.counts.decisions % JUDGED_EVERY == 1:
            self.flush()  # so that what is foreseen does not depend on how the log is cut into pages
            rows = self._rows.keys(pending.request, pending.catalog, pending.offers, pending.metres)
            pending.judged = self.consumer.foresee(*rows)

    def _note(self, number: int, pending: PendingDecision, index: int) -> None:
        if pending.judged >= 0:
            reward, importance = pending.label(number, index)
            self.consumer.settle(number, pending.judged + index, reward if importance else math.nan)

    def _revise(self, number: int, pending: PendingDecision, index: int, before: Label) -> None:
        after = pending.label(number, index)
        example = self._rows.examples([(pending, index, *after)])
        self.consumer.revise(number, pending.examples[pending.at(number, index)], (before, after), example, self.clock)

    def _calm(self, number: int, second: int) -> None:
        self.consumer.rest(number, second)

    def _flush(self, number: int) -> None:
        rows = self._waiting[number][:]
        if not rows:
            return
        self._waiting[number].clear()
        first = self.consumer.learn(number, self._rows.examples(rows))
        for which, (pending, index, _, _) in enumerate(rows, first):
            pending.examples[pending.at(number, index)] = which
