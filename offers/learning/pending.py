"""Decisions whose outcomes may still come, and how a checkpoint keeps them."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
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


@dataclass(slots=True, eq=False)
class PendingDecision:
    """A decision whose outcomes may still come. Lists by offer are in the order in which the offers were shown."""

    decision_id: str
    catalog: str
    surface: str
    """Catalogue, channel and placement."""
    second: int
    request: bytes
    """The row of the request: see Rows."""
    offers: tuple[str, ...]
    metres: tuple[int, ...]
    """By offer, the distance as in DecisionRecord.distances_m; 0: unknown."""
    seen: bytearray
    """By offer, bits: it was shown, as an impression or any other reaction tells, and it was dismissed."""
    states: tuple[bytearray, ...]
    """By reward and offer, an OfferState."""
    rewards: tuple[list[float], ...]
    """By reward and offer, the reward so far; NaN: it is unknown, and stays so."""
    examples: tuple[list[int], ...]
    """By reward and offer, the number of the example; NO_EXAMPLE where there is none, or it is not known any more."""
    judged: int = -1
    """The number of its first offer among those that models are judged by; -1: it is not judged."""

    def label(self, reward: int, index: int) -> Label:
        """Return the outcome of an offer so far, for a reward by its number."""
        found = self.rewards[reward][index]
        if found:
            return UNKNOWN if math.isnan(found) else Label(found, 1.0)
        return _DISMISSAL if self.seen[index] & DISMISSED_BIT else REFUSAL


NO_EXAMPLE = -1
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
        "metres": np.array([metres for one in pending for metres in one.metres], np.uint32),
        "seen": np.frombuffer(b"".join(one.seen for one in pending), np.uint8),
    }
    for reward, queue in enumerate(due):
        arrays[f"state.{reward}"] = np.frombuffer(b"".join(one.states[reward] for one in pending), np.uint8)
        arrays[f"reward.{reward}"] = np.array([found for one in pending for found in one.rewards[reward]], np.float64)
        arrays[f"example.{reward}"] = np.array([name for one in pending for name in one.examples[reward]], np.int64)
        open_ = [(at, number[id(one)], index) for at, one, index in queue if id(one) in number]
        arrays[f"due.{reward}"] = np.array(open_, np.int64).reshape(-1, 3)
    return arrays, [[one.decision_id, one.catalog, one.surface, one.offers] for one in pending]


def from_arrays(
    arrays: Mapping[str, NDArray[Any]], told: Sequence[Sequence[Any]], rewards: int
) -> tuple[list[PendingDecision], tuple[DueQueue, ...]]:
    """Return the decisions that `to_arrays` was given, and by reward what is due of them."""
    first, pending, each = 0, [], range(rewards)
    metres = arrays["metres"].tolist()
    for number, (name, catalog, surface, offers) in enumerate(told):
        some = slice(first, first + len(offers))
        pending.append(
            PendingDecision(
                name,
                catalog,
                surface,
                int(arrays["second"][number]),
                arrays["request"][number].tobytes(),
                tuple(offers),
                tuple(metres[some]),
                bytearray(arrays["seen"][some].tobytes()),
                tuple(bytearray(arrays[f"state.{reward}"][some].tobytes()) for reward in each),
                tuple(arrays[f"reward.{reward}"][some].tolist() for reward in each),
                tuple(arrays[f"example.{reward}"][some].tolist() for reward in each),
                int(arrays["judged"][number]),
            )
        )
        first = some.stop
    return pending, tuple(
        deque((at, pending[which], index) for at, which, index in arrays[f"due.{reward}"].tolist()) for reward in each
    )
