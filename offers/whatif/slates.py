"""The propensity model as a reward model for decisions that show several offers."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offers.learning.propensity.features import Examples, Features
from offers.learning.propensity.regression import Propensity
from offers.whatif.off_policy import Floats, Integers

NO_OFFER = -1


@dataclass(slots=True)
class SlateRewardModel:
    """A RewardModel that learns from the offers that decisions showed, and predicts the rewards of listed offers.

    Rows are decisions in the order in which they were made. Their actions are the offers listed for them; those that
    were shown come first.
    """

    features: Features
    request: NDArray[np.uint64]
    """Keys (decisions x attributes of the request)."""
    offer: NDArray[np.uint64]
    """Keys of all listed offers (offers x attributes of the offer)."""
    listed: NDArray[np.int32]
    """Rows of `offer` (decisions x actions); NO_OFFER at the end of shorter lists."""
    shown: Integers
    """Number of listed offers that were shown (decisions)."""
    reward: Floats
    """Rewards of the offers shown, 0 to 1 (decisions x actions)."""
    second: Integers
    """Seconds since 1970 (decisions)."""
    _model: Propensity = field(init=False)

    def __post_init__(self) -> None:
        self._model = Propensity.untaught(self.features)

    def fit(self, rows: Integers) -> None:
        """Forget everything and learn from these rows alone."""
        self._model = Propensity.untaught(self.features)
        row, place = np.nonzero(np.arange(self.listed.shape[1]) < self.shown[rows, None])
        row = rows[row]
        keys = np.concatenate((self.request[row], self.offer[self.listed[row, place]]), axis=1)
        nothing = np.broadcast_to(np.nan, keys.shape)
        examples = Examples(keys, nothing, self.reward[row, place], np.ones(len(row)), self.second[row])
        self._model.update(examples)

    def predict(self, rows: Integers) -> Floats:
        """Return the expected reward of each listed offer (rows x actions); 0 where there is none."""
        predicted = np.zeros((len(rows), self.listed.shape[1]))
        for place, row in enumerate(rows.tolist()):
            listed = self.listed[row][self.listed[row] != NO_OFFER]
            predicted[place, : len(listed)] = self._model.predict(self.request[row], self.offer[listed]).probability()
        return predicted
