"""Decisions whose outcomes may still come, and how a checkpoint keeps them."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

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
    """Counts over the log so far."""

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
    foreseen: tuple[list[float], ...]
    """By reward and offer, the probability foreseen when the refusal was learned."""
    judged: int = -1
    """The number of its first offer among those that models are judged by; -1: it is not judged."""

    def refused(self, reward: int, index: int, foreseen: float) -> None:
        """Note that an offer was learned as refused, and which probability of a reward was foreseen."""
        self.states[reward][index] = OfferState.REFUSED
        self.foreseen[reward][index] = foreseen


SettledOffer = tuple[PendingDecision, int, float, float]
"""An example to be: a decision, the index of an offer in it, the reward and the importance. Plain tuples, as many are
made for each decision."""
DueQueue = deque[tuple[int, PendingDecision, int]]
"""When offers of decisions are settled, the next first: the second, the decision and the offer's index."""

_CODES = np.array([-1.0, -2.0, np.nan, 2.0])
"""By OfferState, the number that stands for it in checkpoints; REFUSED is the probability foreseen, from 0 to 1."""


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
        states = np.frombuffer(b"".join(one.states[reward] for one in pending), np.uint8)
        foreseen = np.array([chance for one in pending for chance in one.foreseen[reward]], np.float64)
        arrays[f"state.{reward}"] = np.where(states == OfferState.REFUSED, foreseen, _CODES[states])
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
        codes = [arrays[f"state.{reward}"][first:last] for reward in range(rewards)]
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
                tuple(bytearray(_states_of(some)) for some in codes),
                tuple(np.where((some >= 0) & (some <= 1), some, 0.0).tolist() for some in codes),
                int(arrays["judged"][number]),
            )
        )
        first = last
    return pending, tuple(
        deque((at, pending[which], index) for at, which, index in arrays[f"due.{reward}"].tolist())
        for reward in range(rewards)
    )


def _states_of(codes: NDArray[np.float64]) -> bytes:
    """Return the OfferState of each number of a checkpoint."""
    states = np.full(len(codes), OfferState.REFUSED, np.uint8)
    for state, code in enumerate(_CODES):
        states[codes == code] = state
    return states.tobytes()
