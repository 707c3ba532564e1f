"""Tables of exposure by any attribute of decisions, and of who gains or loses by a change of policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.whatif.off_policy import EvaluationError, Floats, Integers


@dataclass(frozen=True, slots=True)
class Exposures:
    """The offers that a policy shows in some decisions, a row for each. Raises EvaluationError for invalid rows."""

    decision: Integers
    """Number of the decision, from 0."""
    offer: Sequence[str]
    """The offer shown, or any attribute of it such as its category or brand."""
    weight: Floats
    """0 or more: the probability that it is shown, or how visible its position is."""
    reward: Floats
    """The expected reward if it is shown, in any unit."""

    def __post_init__(self) -> None:
        if not len(self.decision) == len(self.offer) == len(self.weight) == len(self.reward):
            raise EvaluationError("give as many decisions, offers, weights and rewards")
        if not (np.all(self.weight >= 0) and np.all(np.isfinite(self.weight)) and np.all(np.isfinite(self.reward))):
            raise EvaluationError("weights must be finite and 0 or more, rewards finite")


class GroupExposure(NamedTuple):
    """The offers shown in decisions with one value of an attribute."""

    group: str
    decisions: int
    decision_share: float
    """Share of all decisions, 0 to 1."""
    exposure_share: float
    """Share of all exposure, 0 to 1: less than `decision_share` means that this group is shown less than others."""
    expected_reward: float
    """Per decision: the sum of weight x reward."""
    offers: dict[str, float]
    """Each offer's share of the group's exposure, 0 to 1, largest first."""


class Gain(NamedTuple):
    """The expected reward per decision before and after a change, for decisions with one value of an attribute."""

    group: str
    decisions: int
    before: float
    after: float

    @property
    def gain(self) -> float:
        """The increase of the expected reward; below 0 the group loses."""
        return self.after - self.before


def exposure_table(exposures: Exposures, groups: Sequence[str]) -> list[GroupExposure]:
    """Return a row for each group, by name; `groups` has the attribute's value for each decision, shown offers or not.

    Raises EvaluationError where an exposure belongs to no decision.
    """
    names, group_of, decisions, rewards = _rewards(exposures, groups)
    labels, offer_of = np.unique(np.array(exposures.offer, np.str_), return_inverse=True)
    shown = np.zeros((len(names), len(labels)))
    np.add.at(shown, (group_of[exposures.decision], offer_of), exposures.weight)
    total, table = shown.sum(), []
    for index, name in enumerate(names):
        own = shown[index].sum()
        shares = {
            str(labels[at]): float(shown[index, at] / own)
            for at in np.argsort(-shown[index], kind="stable")
            if shown[index, at] > 0
        }
        exposure = float(own / total) if total else 0.0
        count = int(decisions[index])
        table.append(GroupExposure(name, count, count / len(groups), exposure, float(rewards[index]), shares))
    return table


def gains(before: Exposures, after: Exposures, groups: Sequence[str]) -> list[Gain]:
    """Return a row for each group, those who lose most first; both exposures are of the same decisions.

    Raises EvaluationError where an exposure belongs to no decision.
    """
    names, _, decisions, old = _rewards(before, groups)
    _, _, _, new = _rewards(after, groups)
    rows = zip(names, decisions, old, new, strict=True)
    return sorted((Gain(name, int(n), float(a), float(b)) for name, n, a, b in rows), key=lambda row: row.gain)


def _rewards(exposures: Exposures, groups: Sequence[str]) -> tuple[list[str], Integers, Integers, Floats]:
    """Return group names, each decision's group, and by group the decisions and expected rewards per decision."""
    names, group_of = np.unique(np.array(groups, np.str_), return_inverse=True)
    decision: NDArray[np.int64] = exposures.decision
    if np.any((decision < 0) | (decision >= len(groups))):
        raise EvaluationError(f"an exposure is of a decision that is none of the {len(groups)} with a group")
    decisions = np.bincount(group_of, minlength=len(names))
    rewards = np.bincount(group_of[decision], weights=exposures.weight * exposures.reward, minlength=len(names))
    return names.tolist(), group_of, decisions, rewards / decisions
