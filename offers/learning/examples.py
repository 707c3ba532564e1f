"""From the log to examples: each offer that was shown becomes a row to learn from, once it is settled what came of it.

Of an offer that was shown, a reward is learned at once, and a dismissal as well; nothing heard within SETTLE_S is a
refusal. A reward that comes after its refusal was learned is learned on top of it, with an importance of 1 / (1 - p)
where p was foreseen of the refusal: then what is foreseen in the long run is right.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from offers.learning.features import OFFER_PREFIX, Examples, Features
from offers.learning.values import REQUEST_NAMES, Offers, request_values
from offers.model.hashing import key_of
from offers.v1.event_pb2 import (
    EVENT_KIND_CLICK,
    EVENT_KIND_DISMISSAL,
    EVENT_KIND_IMPRESSION,
    EVENT_KIND_ORDER,
    EVENT_KIND_REDEMPTION,
    Event,
    RedemptionEvent,
)
from offers.v1.state_pb2 import DecisionRecord

REWARDS = ("click", "redemption")
"""What is learned of apart: clicks; and redemptions that are confirmed and orders, as far as they are put down to an
offer."""
SETTLE_S = (60, 300)
"""Of each reward, the seconds after which an offer that was shown counts as refused. Few, so that refusals and rewards
of the same moments are learned together: rewards that were waited for days would be learned alone at first."""
HELD_S = 8 * 86_400
"""Seconds for which a reward may follow: a click within a day, and an order within seven days of the click."""
MOST_HELD = 100_000
"""Decisions that are held for what may come of them. Beyond that the oldest are settled early."""
MOST_EARLY = 10_000
"""Outcomes that wait for a decision that is not in the log yet."""
DISMISSED = 3.0
"""As how many refusals a dismissal counts."""
JUDGED_EVERY = 8
"""Of every which decision it is foreseen what will come of it, to judge models by."""
MOST_IMPORTANCE = 10.0
"""Of a reward that comes late."""
MOST_NAMES, NAMES_MET = 64, 4_096
"""Attributes of requests and persons that become features, and that are counted."""
LEAST_MET, LEAST_SHARE = 100, 0.01
"""Decisions in which an attribute is met, and their share of all, for it to become a feature."""
_COUNTED = ("context.", "profile.")
_REPORTING = 4_096
_OFFERS = 100_000
_EARLY_EACH = 100

# What is known of an offer that was shown, for one reward; from 0 to 1: it was learned as refused, and how likely a
# reward was foreseen then.
_OPEN, _LEARNING, _DONE = -1.0, -2.0, 2.0
_ALL_PLACES = -1
_SEEN, _DISMISSED = 1, 2


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


class Asked(NamedTuple):
    """What is asked for beyond what is told."""

    offers: Offers
    token: Callable[[str], str]
    """From a person's id, as the log has it, to the text that stands for the person in models; "" for nobody."""
    decisions: Callable[[Sequence[str]], Sequence[LoggedDecision]]
    """Those of some decisions that the log still has."""


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


@dataclass(slots=True, eq=False)
class Held:
    """A decision that something may still come of."""

    decision_id: str
    catalog: str
    surface: str
    second: int
    request: bytes
    """Its keys."""
    offers: tuple[str, ...]
    seen: bytearray
    """By place: _SEEN, where an impression was reported, and _DISMISSED."""
    states: tuple[list[float], ...]
    """By reward and place."""
    judged: int = -1
    """The number of its first offer, of those that were foreseen; -1: they were not."""


_Row = tuple[Held, int, float, float]
"""An example to be: an offer by its place, the reward and the importance."""


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


@dataclass
class Collector:
    """Makes examples of decisions and events: the same ones, told in the same order, give the same examples.

    Events before their decision wait for it, and what happens again to an offer that was shown changes nothing.
    """

    features: Features
    asked: Asked
    pupil: Pupil
    clock: int = 0
    """The latest second of the log that was told."""
    counts: Counts = field(default_factory=Counts)
    met: Counter[str] = field(default_factory=Counter)
    """In how many decisions each attribute of requests and persons was met."""
    held: dict[str, Held] = field(default_factory=dict)
    due: tuple[deque[tuple[int, Held, int]], ...] = field(default_factory=lambda: tuple(deque() for _ in REWARDS))
    """By reward: when places of decisions are settled, the next first."""
    reporting: dict[str, None] = field(default_factory=dict)
    """Surfaces that report impressions: there, only what was seen was shown."""
    early: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By decision that is not known yet: kinds of events, and places."""
    dropped: int = -1
    """The latest second of decisions that were settled early."""

    def __post_init__(self) -> None:
        size = self.features.request_size
        self._request_names = self.features.attributes[:size]
        self._offer_names = [name.removeprefix(OFFER_PREFIX) for name in self.features.attributes[size:]]
        self._waiting: tuple[list[_Row], ...] = tuple([] for _ in REWARDS)
        self._offer_keys: dict[tuple[str, str], bytes] = {}

    def decided(self, second: int, decision: LoggedDecision) -> None:
        """Take a decision that was made at a second of the log's clock."""
        if second > self.clock:
            self._pass(second)
        if decision.decision_id in self.held:
            return
        told = DecisionRecord.FromString(decision.record)
        if not (told.learn and told.offer_ids):
            return
        self.counts.decisions += 1
        held = self._hold(decision, told, _OPEN)
        if self.counts.decisions % JUDGED_EVERY == 1:
            self.flush()  # what is foreseen does not depend on how the log is cut into pages
            request, offers = self._keys([(held, place) for place in range(len(held.offers))])
            held.judged = self.pupil.foresee(request[0], offers)
        for number, queue in enumerate(self.due):
            queue.append((self.clock + SETTLE_S[number], held, _ALL_PLACES))
        for kind, place in self.early.pop(decision.decision_id, ()):
            self._happen(held, place, kind)
        while len(self.held) > MOST_HELD:
            self._drop(next(iter(self.held.values())))

    def happened(self, second: int, event: LoggedEvent) -> None:
        """Take an event that was taken in at a second of the log's clock."""
        if second > self.clock:
            self._pass(second)
        kind = event.kind
        if kind not in _OUTCOMES:
            return
        told = Event.FromString(event.body)
        if kind == EVENT_KIND_REDEMPTION and told.redemption.phase != RedemptionEvent.PHASE_CONFIRM:
            return
        decision_id, _, rank = (told.proposition_id or told.attributed_proposition_id).rpartition("-")
        if not (decision_id and rank.isdecimal()):
            return
        place = int(rank) - 1
        what = kind if event.learn else _UNSAID
        held = self.held.get(decision_id) or self._again(decision_id)
        if held:
            self._happen(held, place, what)
            return
        waiting = self.early.setdefault(decision_id, [])
        if len(waiting) < _EARLY_EACH:
            waiting.append((what, place))
        if len(self.early) > MOST_EARLY:
            self.counts.lost += len(self.early.pop(next(iter(self.early))))

    def flush(self) -> None:
        """Let all examples that there are be learned."""
        for number in range(len(REWARDS)):
            self._flush(number)

    def frequent(self) -> list[str]:
        """The attributes of requests and persons that are to be features: those that are, and what has become frequent.

        Once there are MOST_NAMES, they stay.
        """
        known = [name for name in self._request_names if name.startswith(_COUNTED)]
        least = max(LEAST_MET, LEAST_SHARE * self.counts.decisions)
        common = sorted((-count, name) for name, count in self.met.items() if count >= least and name not in known)
        return sorted(known + [name for _, name in common[: MOST_NAMES - len(known)]])

    def forget(self) -> int:
        """Let go of decisions that the log does not have any more. Returns how many."""
        gone = 0
        names = iter(list(self.held))
        while some := list(islice(names, 500)):
            for name in set(some) - {one.decision_id for one in self.asked.decisions(some)}:
                for states in self.held.pop(name).states:
                    states[:] = [_DONE] * len(states)
                gone += 1
        return gone

    def _hold(self, decision: LoggedDecision, told: DecisionRecord, state: float) -> Held:
        values = request_values(told, decision.second, self.asked.token(decision.person), self.asked.offers.time_zone)
        if state == _OPEN:
            names = list(values)[len(REQUEST_NAMES) :]
            self.met.update(names if len(self.met) < NAMES_MET else [name for name in names if name in self.met])
        count = len(told.offer_ids)
        held = Held(
            decision.decision_id,
            told.catalog,
            f"{told.catalog}\0{told.channel}\0{told.placement}",
            decision.second,
            np.array([_key_of(name, values.get(name)) for name in self._request_names], np.uint64).tobytes(),
            tuple(told.offer_ids),
            bytearray(count),
            tuple([state] * count for _ in REWARDS),
        )
        self.held[decision.decision_id] = held
        return held

    def _again(self, decision_id: str) -> Held | None:
        """A decision that was settled early, held once more: all of it was learned as refused."""
        if self.dropped < 0:
            return None
        for decision in self.asked.decisions([decision_id]):
            told = DecisionRecord.FromString(decision.record)
            if told.learn and self.clock - HELD_S <= decision.second <= self.dropped:
                return self._hold(decision, told, 0.0)
        return None

    def _happen(self, held: Held, place: int, kind: int) -> None:
        if not 0 <= place < len(held.offers):
            return
        if kind == EVENT_KIND_IMPRESSION:
            self._see(held, place)
        elif kind == EVENT_KIND_DISMISSAL:
            self._dismiss(held, place)
        elif kind == _UNSAID:
            for number, states in enumerate(held.states):
                states[place] = _DONE
                self._tell(number, held, place, math.nan)
        else:
            self._reward(_OUTCOMES[kind], held, place)

    def _see(self, held: Held, place: int) -> None:
        if held.seen[place] & _SEEN:
            return
        held.seen[place] |= _SEEN
        if held.surface not in self.reporting and len(self.reporting) < _REPORTING:
            self.reporting[held.surface] = None
        for number, states in enumerate(held.states):
            if states[place] == _OPEN:
                self.due[number].append((self.clock + SETTLE_S[number], held, place))

    def _dismiss(self, held: Held, place: int) -> None:
        if held.seen[place] & _DISMISSED:
            return
        held.seen[place] |= _DISMISSED
        for number, states in enumerate(held.states):
            if states[place] != _DONE:
                self._refuse(number, held, place, DISMISSED - (states[place] != _OPEN))

    def _reward(self, number: int, held: Held, place: int) -> None:
        states, importance = held.states[number], 1.0
        if states[place] == _DONE:
            return
        if states[place] == _LEARNING:
            self._flush(number)
        if states[place] != _OPEN:
            self.counts.late += 1
            importance = min(1 / max(1 - states[place], 1e-9), MOST_IMPORTANCE)
        states[place] = _DONE
        self._tell(number, held, place, 1.0)
        self._waiting[number].append((held, place, 1.0, importance))

    def _refuse(self, number: int, held: Held, place: int, importance: float = 1.0) -> None:
        held.states[number][place] = _LEARNING
        self._tell(number, held, place, 0.0)
        self._waiting[number].append((held, place, 0.0, importance))

    def _tell(self, number: int, held: Held, place: int, reward: float) -> None:
        if held.judged >= 0:
            self.pupil.settle(number, held.judged + place, reward)

    def _pass(self, second: int) -> None:
        """Let time pass: settle what is due, and let go of what nothing can come of."""
        self.clock = second
        for number, queue in enumerate(self.due):
            while queue and queue[0][0] <= second:
                _, held, place = queue.popleft()
                if place == _ALL_PLACES:
                    self._settle(number, held)
                elif held.states[number][place] == _OPEN:
                    self._refuse(number, held, place)
        for held in list(islice(self.held.values(), 0, 64)):
            if held.second >= second - HELD_S:
                break
            self._let_go(held)

    def _settle(self, number: int, held: Held) -> None:
        """Refuse what nothing is known of, where impressions are not reported: else what was seen is due by itself."""
        if held.surface not in self.reporting:
            for place, state in enumerate(held.states[number]):
                if state == _OPEN:
                    self._refuse(number, held, place)

    def _drop(self, held: Held) -> None:
        """Settle a decision early."""
        for number, states in enumerate(held.states):
            self._settle(number, held)
            for place, seen in enumerate(held.seen):
                if seen and states[place] == _OPEN:
                    self._refuse(number, held, place)
        self.counts.early += 1
        self.dropped = max(self.dropped, held.second)
        self._let_go(held)

    def _let_go(self, held: Held) -> None:
        del self.held[held.decision_id]

    def _flush(self, number: int) -> None:
        waiting = self._waiting[number]
        if not waiting:
            return
        held, places, rewards, importances = zip(*waiting, strict=True)
        waiting.clear()
        keys = np.concatenate(self._keys(list(zip(held, places, strict=True))), axis=1)
        examples = Examples(
            keys,
            np.broadcast_to(np.nan, keys.shape),  # which trees alone would read
            np.array(rewards),
            np.array(importances),
            np.array([one.second for one in held], np.int64),
        )
        foreseen = self.pupil.learn(number, examples).tolist()
        for one, place, reward, chance in zip(held, places, rewards, foreseen, strict=True):
            if not reward and (states := one.states[number])[place] != _DONE:
                states[place] = chance

    def _keys(self, shown: Sequence[tuple[Held, int]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Of requests, and of offers, a row for each offer."""
        requests = [one.request for one, _ in shown]
        offers = [self._keys_of(one.catalog, one.offers[place]) for one, place in shown]
        return self._table(requests, len(self._request_names)), self._table(offers, len(self._offer_names))

    @staticmethod
    def _table(rows: Sequence[bytes], width: int) -> NDArray[np.uint64]:
        return np.frombuffer(b"".join(rows), np.uint64).reshape(len(rows), width)

    def _keys_of(self, catalog: str, offer: str) -> bytes:
        keys = self._offer_keys.get((catalog, offer))
        if keys is None:
            if len(self._offer_keys) >= _OFFERS:
                self._offer_keys.clear()
            values = {**self.asked.offers.values(catalog, offer), "id": offer}
            names = zip(self.features.attributes[self.features.request_size :], self._offer_names, strict=True)
            keys = np.array([key_of(name, values.get(bare)) for name, bare in names], np.uint64).tobytes()
            self._offer_keys[catalog, offer] = keys
        return keys

    def kept(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that `restored` needs: arrays, and what JSON can hold. Flush before."""
        held = list(self.held.values())
        number = {id(one): place for place, one in enumerate(held)}
        arrays: dict[str, NDArray[Any]] = {
            "request": self._table([one.request for one in held], len(self._request_names)),
            "second": np.array([one.second for one in held], np.int64),
            "judged": np.array([one.judged for one in held], np.int64),
            "seen": np.frombuffer(b"".join(one.seen for one in held), np.uint8),
        }
        for reward, queue in enumerate(self.due):
            flat = [state for one in held for state in one.states[reward]]
            arrays[f"state.{reward}"] = np.array(flat, np.float64)
            due = [(at, number[id(one)], place) for at, one, place in queue if id(one) in number]
            arrays[f"due.{reward}"] = np.array(due, np.int64).reshape(-1, 3)
        said = {
            "clock": self.clock,
            "dropped": self.dropped,
            "counts": [getattr(self.counts, name) for name in Counts.__slots__],
            "met": dict(self.met),
            "reporting": list(self.reporting),
            "early": [[name, waiting] for name, waiting in self.early.items()],
            "held": [[one.decision_id, one.catalog, one.surface, one.offers] for one in held],
        }
        return arrays, said

    def restore(self, arrays: Mapping[str, NDArray[Any]], said: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave, of the same features."""
        self.clock, self.dropped, self.counts = said["clock"], said["dropped"], Counts(*said["counts"])
        self.met, self.reporting = Counter(said["met"]), dict.fromkeys(said["reporting"])
        self.early = {name: [(kind, place) for kind, place in waiting] for name, waiting in said["early"]}
        first, held = 0, []
        for place, (name, catalog, surface, offers) in enumerate(said["held"]):
            last = first + len(offers)
            seen = bytearray(arrays["seen"][first:last].tobytes())
            states = tuple(arrays[f"state.{reward}"][first:last].tolist() for reward in range(len(REWARDS)))
            request, second = arrays["request"][place].tobytes(), int(arrays["second"][place])
            judged = int(arrays["judged"][place])
            held.append(Held(name, catalog, surface, second, request, tuple(offers), seen, states, judged))
            first = last
        self.held = {one.decision_id: one for one in held}
        self.due = tuple(
            deque((at, held[which], place) for at, which, place in arrays[f"due.{reward}"].tolist())
            for reward in range(len(REWARDS))
        )


_OUTCOMES: dict[int, int] = {
    EVENT_KIND_IMPRESSION: -1,
    EVENT_KIND_DISMISSAL: -1,
    EVENT_KIND_CLICK: REWARDS.index("click"),
    EVENT_KIND_REDEMPTION: REWARDS.index("redemption"),
    EVENT_KIND_ORDER: REWARDS.index("redemption"),
}
"""Kinds of events that say what came of an offer, and the reward they are."""
_UNSAID = 0
"""Kind of an event that may not be learned from: the offer is no example, neither of rewards nor of refusals."""


_key_of = lru_cache(1 << 16)(key_of)
