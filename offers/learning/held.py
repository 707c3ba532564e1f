"""Decisions that something may still come of, and how they are kept and read again."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class LoggedEvent(Protocol):
    """An event as the log gives it: see state.stores."""

    @property
    def received(self) -> int: ...  # noqa: D102
    @property
    def kind(self) -> int: ...  # noqa: D102
    @property
    def learn(self) -> bool: ...  # noqa: D102
    @property
    def body(self) -> bytes: ...  # noqa: D102


class LoggedDecision(Protocol):
    """A decision as the log gives it: see state.stores."""

    @property
    def decision_id(self) -> str: ...  # noqa: D102
    @property
    def person(self) -> str: ...  # noqa: D102
    @property
    def second(self) -> int: ...  # noqa: D102
    @property
    def record(self) -> bytes: ...  # noqa: D102


@dataclass(slots=True)
class Counts:
    """What was made of the log."""

    decisions: int = 0
    """That may be learned from."""
    late: int = 0
    """Rewards that came after their refusal was learned."""
    early: int = 0
    """Decisions that were settled early, for want of room."""
    lost: int = 0
    """Outcomes whose decision never came."""


@dataclass(slots=True, eq=False)
class Held:
    """A decision that something may still come of."""

    decision_id: str
    catalog: str
    surface: str
    second: int
    request: bytes
    """Its row: see Rows."""
    offers: tuple[str, ...]
    metres: tuple[int, ...]
    """By place: how far the offer was, as in DecisionRecord.distances_m; 0: not known."""
    seen: bytearray
    """By place: whether an impression was reported, and a dismissal."""
    states: tuple[list[float], ...]
    """By reward and place."""
    judged: int = -1
    """The number of its first offer, of those that were foreseen; -1: they were not."""


Due = deque[tuple[int, Held, int]]
"""When places of decisions are settled, the next first."""


def written(
    held: Sequence[Held], due: Sequence[Due], request_size: int
) -> tuple[dict[str, NDArray[Any]], list[list[Any]]]:
    """Decisions, and by reward what is due of them, as `read_held` needs them: arrays, and what JSON can hold."""
    number = {id(one): place for place, one in enumerate(held)}
    arrays: dict[str, NDArray[Any]] = {
        "request": np.frombuffer(b"".join(one.request for one in held), np.uint64).reshape(len(held), request_size),
        "second": np.array([one.second for one in held], np.int64),
        "judged": np.array([one.judged for one in held], np.int64),
        "metres": np.array([metres for one in held for metres in one.metres], np.uint32),
        "seen": np.frombuffer(b"".join(one.seen for one in held), np.uint8),
    }
    for reward, queue in enumerate(due):
        flat = [state for one in held for state in one.states[reward]]
        arrays[f"state.{reward}"] = np.array(flat, np.float64)
        open_ = [(at, number[id(one)], place) for at, one, place in queue if id(one) in number]
        arrays[f"due.{reward}"] = np.array(open_, np.int64).reshape(-1, 3)
    return arrays, [[one.decision_id, one.catalog, one.surface, one.offers] for one in held]


def read_held(
    arrays: Mapping[str, NDArray[Any]], said: Sequence[Sequence[Any]], rewards: int
) -> tuple[list[Held], tuple[Due, ...]]:
    """The decisions that `written` wrote, and by reward what is due of them."""
    first, held = 0, []
    metres = arrays["metres"].tolist()
    for place, (name, catalog, surface, offers) in enumerate(said):
        last = first + len(offers)
        seen = bytearray(arrays["seen"][first:last].tobytes())
        states = tuple(arrays[f"state.{reward}"][first:last].tolist() for reward in range(rewards))
        request, second = arrays["request"][place].tobytes(), int(arrays["second"][place])
        judged = int(arrays["judged"][place])
        held.append(
            Held(
                name, catalog, surface, second, request, tuple(offers), tuple(metres[first:last]), seen, states, judged
            )
        )
        first = last
    return held, tuple(
        deque((at, held[which], place) for at, which, place in arrays[f"due.{reward}"].tolist())
        for reward in range(rewards)
    )
