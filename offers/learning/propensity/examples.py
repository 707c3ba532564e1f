"""Makes examples of settled outcomes as the log comes in, for models that learn online."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from offers.learning.pending import OfferState, PendingDecision
from offers.learning.propensity.features import Examples, Features
from offers.learning.settling import Lookups, OutcomeTracker

JUDGED_EVERY = 8
"""One decision in this many is foreseen when it is made, to judge models by its outcome."""
_REFUSED, _DONE = int(OfferState.REFUSED), int(OfferState.DONE)


class ExampleConsumer(Protocol):
    """One that learns from examples. Rewards are named by their number in REWARDS."""

    def learn(self, number: int, examples: Examples) -> NDArray[np.float64]:
        """Learn from examples, and return for each the probability that was foreseen just before it."""
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

    def _judge(self, pending: PendingDecision) -> None:
        if self.counts.decisions % JUDGED_EVERY == 1:
            self.flush()  # so that what is foreseen does not depend on how the log is cut into pages
            rows = self._rows.keys(pending.request, pending.catalog, pending.offers, pending.metres)
            pending.judged = self.consumer.foresee(*rows)

    def _note(self, number: int, pending: PendingDecision, index: int, reward: float) -> None:
        if pending.judged >= 0:
            self.consumer.settle(number, pending.judged + index, reward)

    def _flush(self, number: int) -> None:
        rows = self._waiting[number][:]
        if not rows:
            return
        self._waiting[number].clear()
        foreseen = self.consumer.learn(number, self._rows.examples(rows)).tolist()
        for (decision, index, reward, _), chance in zip(rows, foreseen, strict=True):
            if not reward and (states := decision.states[number])[index] != _DONE:
                states[index] = _REFUSED
                decision.foreseen[number][index] = chance
