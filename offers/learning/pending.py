"""Decisions whose outcomes may still come, and how a checkpoint keeps them."""

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class OfferState(IntEnum):
    """How far one reward of an offer that was shown is settled."""

    OPEN = 0
    """Nothing was learned of it."""
    LEARNING = 1
    """A refusal is among the rows that wait to be learned."""
    REFUSED = 2
    """It was learned as a refusal. PendingDecision.foreseen has the probability that was foreseen then."""
    DONE = 3
    """Nothing more will be learned of it."""


@dataclass(slots=True)
class LogCounts:
    """What was made of the log so far."""

    decisions: int = 0
    """Decisions that may be learned from."""
    late: int = 0
    """Rewards that came after their refusal was learned."""
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
    """By offer, bits: an impression was reported, and a dismissal."""
    states: tuple[bytearray, ...]
    """By reward and offer, an OfferState."""
    foreseen: tuple["array[float]", ...]
    """By reward and offer, the probability foreseen when the refusal was learned."""
    judged: int = -1
    """The number of its first offer among those that models are judged by; -1: it is not judged."""

    def refused(self, reward: int, index: int, foreseen: float) -> None:
        """Note that an offer was learned as refused, and which probability of a reward was foreseen."""
        self.states[reward][index] = OfferState.REFUSED
        self.foreseen[reward][index] = foreseen


class SettledOffer(NamedTuple):
    """An offer whose outcome is settled for one reward: an example to be."""

    decision: PendingDecision
    offer_index: int
    """Of the offer in the decision."""
    reward: float
    importance: float


DueQueue = deque[tuple[int, PendingDecision, int]]
"""When offers of decisions are settled, the next first: the second, the decision and the offer's index."""

_CODES: dict[int, float] = {OfferState.OPEN: -1.0, OfferState.LEARNING: -2.0, OfferState.DONE: 2.0}
"""States as checkpoints hold them, beside probabilities from 0 to 1, which stand for REFUSED."""
_STATES = {code: state for state, code in _CODES.items()}


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
        flat = [
            _CODES.get(state, foreseen)
            for one in pending
            for state, foreseen in zip(one.states[reward], one.foreseen[reward], strict=True)
        ]
        arrays[f"state.{reward}"] = np.array(flat, np.float64)
        open_ = [(at, number[id(one)], index) for at, one, index in queue if id(one) in number]
        arrays[f"due.{reward}"] = np.array(open_, np.int64).reshape(-1, 3)
    return arrays, [[one.decision_id, one.catalog, one.surface, one.offers] for one in pending]


def from_arrays(
    arrays: Mapping[str, NDArray[Any]], told: Sequence[Sequence[Any]], rewards: int
) -> tuple[list[PendingDecision], tuple[DueQueue, ...]]:
    """Return the decisions that `to_arrays` was given, and by reward what is due of them."""
    first, pending = 0, []
    metres = arrays["metres"].tolist()
    for number, (name, catalog, surface, offers) in enumerate(told):
        last = first + len(offers)
        codes = [arrays[f"state.{reward}"][first:last].tolist() for reward in range(rewards)]
        pending.append(
            PendingDecision(
                name,
                catalog,
                surface,
                int(arrays["second"][number]),
                arrays["request"][number].tobytes(),
                tuple(offers),
                tuple(metres[first:last]),
                bytearray(arrays["seen"][first:last].tobytes()),
                tuple(bytearray(_STATES.get(code, OfferState.REFUSED) for code in some) for some in codes),
                tuple(array("d", [0.0 if code in _STATES else code for code in some]) for some in codes),
                int(arrays["judged"][number]),
            )
        )
        first = last
    return pending, tuple(
        deque((at, pending[which], index) for at, which, index in arrays[f"due.{reward}"].tolist())
        for reward in range(rewards)
    )
