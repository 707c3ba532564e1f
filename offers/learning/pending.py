"""Decisions whose outcomes may still come, and how a checkpoint keeps them."""

import math
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from sys import intern
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DISMISSED = 3.0
"""The importance of a dismissal: it counts as this many refusals."""
SHOWN_BIT, DISMISSED_BIT = 1, 2
"""Bits of PendingDecision.seen."""


class OfferState(IntEnum):
    """How far one reward of an offer that was shown is settled."""

    OPEN = 0
    """Its outcome is awaited."""
    SETTLED = 1
    """It is an example. If its outcome changes, the example is revised."""
    DONE = 2
    """Nothing is learned of it any more."""


class Label(NamedTuple):
    """The outcome of an example."""

    reward: float
    """From 0 (refused) to 1 (taken up)."""
    importance: float
    """The number of examples it counts as; 0: it is unknown whether the offer was taken up."""


NO_EXAMPLE = -1
NO_REWARDS: Mapping[int, float] = MappingProxyType({})
UNKNOWN, REFUSAL = Label(0.0, 0.0), Label(0.0, 1.0)
_DISMISSAL = Label(0.0, DISMISSED)


@dataclass(slots=True)
class LogCounts:
    """Counts over the log so far."""

    decisions: int = 0
    """Decisions that may be learned from."""
    late: int = 0
    """Outcomes that changed after they had been learned."""
    early: int = 0
    """Decisions that were settled early, for want of memory."""
    lost: int = 0
    """Outcomes whose decision never came."""
    unreadable: int = 0
    """Entries of the log that were passed over, as they cannot be read."""


@dataclass(slots=True, eq=False)
class PendingDecision:
    """A decision whose outcomes may still come. Lists by offer are in the order in which the offers were shown.

    A learner holds 100,000 of them, so each consists of few objects: 1 kB for five offers, where lists of numbers by
    reward took 4. None but the decision itself is a container that the garbage collector would search.
    """

    decision_id: str
    catalog: str
    surface: str
    """Catalogue, channel and placement; interned, as are the ids of catalogue and offers."""
    second: int
    request: bytes
    """The row of the request: see Rows."""
    offers: tuple[str, ...]
    metres: "array[int]"
    """By offer, the distance as in DecisionRecord.distances_m; 0: unknown."""
    seen: bytearray
    """By offer, bits: it was shown, as an impression or any other reaction tells, and it was dismissed."""
    states: bytearray
    """At `at`, an OfferState."""
    examples: "array[int]"
    """At `at`, the number of the example; NO_EXAMPLE where there is none, or it is not known any more."""
    rewards: Mapping[int, float] = field(default_factory=lambda: NO_REWARDS)
    """By `at`, the rewards so far that are not 0; NaN: it is unknown, and stays so."""
    judged: int = -1
    """The number of its first offer among those that models are judged by; -1: it is not judged."""

    def at(self, reward: int, index: int) -> int:
        """Return the index of a reward, by its number, and an offer: offers of the first reward come first."""
        return reward * len(self.offers) + index

    def all_of(self, reward: int) -> slice:
        """Return the indexes of a reward and all offers."""
        return slice(reward * len(self.offers), (reward + 1) * len(self.offers))

    def reward(self, reward: int, index: int) -> float:
        """Return a reward of an offer so far."""
        return self.rewards.get(self.at(reward, index), 0.0)

    def set_reward(self, reward: int, index: int, found: float) -> None:
        """Set a reward of an offer."""
        others = {at: one for at, one in self.rewards.items() if at != self.at(reward, index)}
        self.rewards = others | {self.at(reward, index): found} if found else others or NO_REWARDS

    def label(self, reward: int, index: int) -> Label:
        """Return the outcome of an offer so far, for a reward by its number."""
        found = self.reward(reward, index)
        if found:
            return UNKNOWN if math.isnan(found) else Label(found, 1.0)
        return _DISMISSAL if self.seen[index] & DISMISSED_BIT else REFUSAL


SettledOffer = tuple[PendingDecision, int, float, float]
"""An example to be: a decision, the index of an offer in it, the reward and the importance. Plain tuples, as many are
made for each decision."""
DueQueue = deque[tuple[int, PendingDecision, int]]
"""When offers of decisions are settled, the next first: the second, the decision and the offer's index."""


def to_arrays(
    pending: Sequence[PendingDecision], due: Sequence[DueQueue], request_size: int
) -> tuple[dict[str, NDArray[Any]], list[list[Any]]]:
    """Return decisions, and by reward what is due of them, for `from_arrays`: arrays, and what JSON can hold."""
    number = {id(one): place for place, one in enumerate(pending)}
    requests = np.frombuffer(b"".join(one.request for one in pending), np.uint64)
    arrays: dict[str, NDArray[Any]] = {
        "request": requests.reshape(len(pending), request_size),
        "second": np.array([one.second for one in pending], np.int64),
        "judged": np.array([one.judged for one in pending], np.int64),
        "metres": np.frombuffer(b"".join(one.metres.tobytes() for one in pending), np.uint32),
        "seen": np.frombuffer(b"".join(one.seen for one in pending), np.uint8),
    }
    for reward, queue in enumerate(due):
        every = [(one, one.all_of(reward)) for one in pending]
        found = [one.reward(reward, index) for one in pending for index in range(len(one.offers))]
        arrays[f"state.{reward}"] = np.frombuffer(b"".join(one.states[its] for one, its in every), np.uint8)
        arrays[f"reward.{reward}"] = np.array(found, np.float64)
        arrays[f"example.{reward}"] = np.frombuffer(
            b"".join(one.examples[its].tobytes() for one, its in every), np.int64
        )
        open_ = [(at, number[id(one)], index) for at, one, index in queue if id(one) in number]
        arrays[f"due.{reward}"] = np.array(open_, np.int64).reshape(-1, 3)
    return arrays, [[one.decision_id, one.catalog, one.surface, one.offers] for one in pending]


def from_arrays(
    arrays: Mapping[str, NDArray[Any]], told: Sequence[Sequence[Any]], rewards: int
) -> tuple[list[PendingDecision], tuple[DueQueue, ...]]:
    """Return the decisions that `to_arrays` was given, and by reward what is due of them."""
    first, pending, each = 0, [], range(rewards)
    for number, (name, catalog, surface, offers) in enumerate(told):
        some = slice(first, first + len(offers))
        own = PendingDecision(
            name,
            intern(catalog),
            intern(surface),
            int(arrays["second"][number]),
            arrays["request"][number].tobytes(),
            tuple(map(intern, offers)),
            array("I", arrays["metres"][some].tobytes()),
            bytearray(arrays["seen"][some].tobytes()),
            bytearray().join(arrays[f"state.{reward}"][some].tobytes() for reward in each),
            array("q", b"".join(arrays[f"example.{reward}"][some].tobytes() for reward in each)),
            judged=int(arrays["judged"][number]),
        )
        found = np.concatenate([arrays[f"reward.{reward}"][some] for reward in each])
        if found.any():
            own.rewards = {at: found.item(at) for at in np.flatnonzero(found).tolist()}
        pending.append(own)
        first = some.stop
    return pending, tuple(
        deque((at, pending[which], index) for at, which, index in arrays[f"due.{reward}"].tolist()) for reward in each
    )
