"""From the log to examples: each offer that was shown becomes a row to learn from once its outcome is settled."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from offers.learning.held import Held
from offers.learning.outcomes import DONE, Asked, Outcomes
from offers.learning.propensity.features import Examples, Features

JUDGED_EVERY = 8
"""Of every which decision it is foreseen what will come of it, to judge models by."""


class Pupil(Protocol):
    """Who learns from examples, of each reward by its number in REWARDS."""

    def learn(self, number: int, examples: Examples) -> NDArray[np.float64]:
        """Learn, and give what was foreseen of each example just before."""
        ...

    def foresee(self, request: NDArray[np.uint64], offers: NDArray[np.uint64]) -> int:
        """Foresee what will come of a decision, for each of its offers; give the number of the first of them."""
        ...

    def settle(self, number: int, offer: int, reward: float) -> None:
        """Be told what came of an offer that was foreseen, by its number; NaN: may not be said. The last word holds."""
        ...


class Collector(Outcomes):
    """Makes examples of what came of decisions, as it comes, for one who learns from them."""

    def __init__(self, features: Features, asked: Asked, pupil: Pupil) -> None:
        super().__init__(features, asked)
        self.pupil = pupil

    def _foresee(self, held: Held) -> None:
        if self.counts.decisions % JUDGED_EVERY == 1:
            self.flush()  # what is foreseen does not depend on how the log is cut into pages
            held.judged = self.pupil.foresee(*self._rows.keys(held.request, held.catalog, held.offers, held.metres))

    def _tell(self, number: int, held: Held, place: int, reward: float) -> None:
        if held.judged >= 0:
            self.pupil.settle(number, held.judged + place, reward)

    def _flush(self, number: int) -> None:
        waiting = self._waiting[number]
        if not waiting:
            return
        held, places, rewards, importances = zip(*waiting, strict=True)
        waiting.clear()
        examples = self._rows.examples(
            [one.request for one in held],
            [(one.catalog, one.offers[place]) for one, place in zip(held, places, strict=True)],
            [one.metres[place] for one, place in zip(held, places, strict=True)],
            np.array(rewards),
            np.array(importances),
            np.array([one.second for one in held], np.int64),
        )
        foreseen = self.pupil.learn(number, examples).tolist()
        for one, place, reward, chance in zip(held, places, rewards, foreseen, strict=True):
            if not reward and (states := one.states[number])[place] != DONE:
                states[place] = chance
