"""What to expect of offers that are shown several at a time: the propensity model, as a reward model of a log."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offers.learning.propensity.features import Examples, Features
from offers.learning.propensity.regression import Propensity
from offers.whatif.off_policy import Floats, Integers

NO_OFFER = -1


@dataclass(slots=True)
class SlateRewardModel:
    """Learns from the offers that decisions showed, and predicts of each decision's listed offers; a RewardModel.

    Rows are decisions in the order they were made in; their actions are the offers that are listed for them, of which
    those that were shown come first.
    """

    features: Features
    request: NDArray[np.uint64]
    """(decisions x attributes of the request), the keys."""
    offer: NDArray[np.uint64]
    """(offers x attributes of the offer), the keys of all that are listed anywhere."""
    listed: NDArray[np.int32]
    """(decisions x actions), rows of `offer`; NO_OFFER at the end of shorter lists."""
    shown: Integers
    """(decisions), how many of the listed were shown."""
    reward: Floats
    """(decisions x actions), 0 to 1, of those that were shown."""
    second: Integers
    """(decisions), since 1970."""
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
        """The expected reward of each listed offer (rows x actions); 0 where there is none."""
        predicted = np.zeros((len(rows), self.listed.shape[1]))
        for place, row in enumerate(rows.tolist()):
            listed = self.listed[row][self.listed[row] != NO_OFFER]
            predicted[place, : len(listed)] = self._model.predict(self.request[row], self.offer[listed]).probability()
        return predicted
