"""Off-policy estimates on Open Bandit's small data beside what was published for them: random logged, BTS evaluated.

The example is Open Bandit Pipeline's, examples/quickstart/obd.ipynb: its features, its random draws (seed 12345), its
regressions taken to convergence. Some versions of it stop after 100 steps, and have .0034 for DM and .0046 for DR.
"""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from offers.whatif.off_policy import Evaluation, Floats, Integers, LoggedDecisions, evaluate
from offers.whatif.reward_model import FOLDS, LogisticRewardModel, cross_fit

DATA: Final = Path(__file__).parents[2] / "shared" / "data" / "open_bandit"
PUBLISHED: Final = {"ipw": 0.004553, "dm": 0.003545, "dr": 0.004727}
SEED: Final = 12345
DRAWS: Final = 100_000
_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class OpenBandit:
    """The log of one policy, by time; a row is an item shown at one of three positions."""

    item: Integers
    position: Integers
    """From 0."""
    click: Floats
    propensity: Floats
    context: Floats
    """Indicators of all values of the four user features except the first of each."""
    item_features: Floats
    """Features of items (items x 4): three categories, numbered by name, and one number."""

    @classmethod
    def read(cls, policy: str, folder: Path = DATA) -> "OpenBandit":
        """Read the log of "random" or "bts"."""
        with gzip.open(folder / policy / "all.csv.gz", "rt", encoding="utf-8", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["timestamp"])
        with (folder / policy / "item_context.csv").open(encoding="utf-8", newline="") as file:
            items = list(csv.DictReader(file))
        users = [_numbered([row[f"user_feature_{index}"] for row in rows]) for index in range(4)]
        categories = [_numbered([item[f"item_feature_{index}"] for item in items]) for index in (1, 2, 3)]
        return cls(
            item=np.array([int(row["item_id"]) for row in rows]),
            position=np.array([int(row["position"]) - 1 for row in rows]),
            click=np.array([float(row["click"]) for row in rows]),
            propensity=np.array([float(row["propensity_score"]) for row in rows]),
            context=np.column_stack([np.equal.outer(user, np.unique(user)[1:]) for user in users]).astype(np.float64),
            item_features=np.column_stack([*categories, [float(item["item_feature_0"]) for item in items]]),
        )

    def reward_model(self) -> LogisticRewardModel:
        """Return a logistic regression for each position, on the features of user and item."""
        return LogisticRewardModel(self.context, self.item, self.item_features, self.click, self.position)


def thompson_probabilities(folder: Path = DATA, seed: int = SEED) -> Floats:
    """Return how often Bernoulli Thompson sampling with production priors shows items at positions (items x 3)."""
    prior = yaml.safe_load((folder / "prior_bts.yaml").read_text(encoding="utf-8"))["all"]
    alpha, beta = np.array(prior["alpha"]), np.array(prior["beta"])
    random = np.random.RandomState(seed)  # the generator of the published figures
    shown = np.zeros((len(alpha), 3))
    for _ in range(DRAWS // _BATCH):
        best = np.argsort(random.beta(alpha, beta, (_BATCH, len(alpha))), axis=1)[:, :-4:-1]
        for position in range(3):
            shown[:, position] += np.bincount(best[:, position], minlength=len(alpha))
    return shown / DRAWS


def published_folds(rows: int, seed: int = SEED) -> Integers:
    """Return the folds of scikit-learn's shuffled KFold."""
    order = np.arange(rows)
    np.random.RandomState(seed).shuffle(order)
    fold = np.empty(rows, np.int64)
    for number, part in enumerate(np.array_split(order, FOLDS)):
        fold[part] = number
    return fold


def random_to_thompson(log: OpenBandit, probabilities: Floats, fold: Integers) -> Evaluation:
    """Evaluate a policy's probabilities (items x 3) on the log of a random policy."""
    predictions = cross_fit(log.reward_model(), fold)
    shown = probabilities.T[log.position]
    return evaluate(LoggedDecisions.of_actions(log.click, log.propensity, log.item, shown, predictions))


def _numbered(values: list[str]) -> Integers:
    return np.unique(values, return_inverse=True)[1]
