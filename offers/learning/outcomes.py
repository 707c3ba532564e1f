"""Finds what came of each offer that was shown, and when that is settled.

Of an offer that was shown, a reward is learned at once, and a dismissal as well; nothing heard within SETTLE_S is a
refusal. A reward r that comes after its refusal was learned is learned on top of it, as a whole one with an importance
of r / (1 - p) where p was foreseen of the refusal: then what is foreseen in the long run is right.

Rewards are 0 or 1, but order values are shares of a scale: the models of them are fractional logistic regressions.
Source: Papke and Wooldridge, "Econometric methods for fractional response variables", J. Appl. Econometrics 11 (1996).
"""

import math
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from numpy.typing import NDArray

from offers.learning.held import Counts, Due, Held, LoggedDecision, LoggedEvent, read_held, written
from offers.learning.propensity.features import Features
from offers.learning.propensity.rows import Rows
from offers.learning.values import NO_SUM, ORDER_VALUE, REWARDS, Offers, Sum, order_value, sum_of, written_scales
from offers.model.proposition_ids import parse_proposition_id
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

SETTLE_S = (60, 300, 300)
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
MOST_IMPORTANCE = 10.0
"""Of a reward that comes late."""
MOST_NAMES, NAMES_MET = 64, 4_096
"""Attributes of requests and persons that become features, and that are counted."""
LEAST_MET, LEAST_SHARE = 100, 0.01
"""Decisions in which an attribute is met, and their share of all, for it to become a feature."""
_COUNTED = ("context.", "profile.")
_REPORTING = 4_096
_EARLY_EACH = 100

# What is known of an offer that was shown, for one reward; from 0 to 1: it was learned as refused, and how likely a
# reward was foreseen then.
_OPEN, _LEARNING, DONE = -1.0, -2.0, 2.0
_ALL_PLACES = -1
_SEEN, _DISMISSED = 1, 2


class Asked(NamedTuple):
    """What is asked for beyond what is told."""

    offers: Offers
    decisions: Callable[[Sequence[str]], Sequence[LoggedDecision]]
    """Those of some decisions that the log still has."""


_Row = tuple[Held, int, float, float]
"""An example to be: an offer by its place, the reward and the importance."""


@dataclass
class Outcomes(ABC):
    """Finds what came of decisions: told the same ones and the same events in the same order, it finds the same.

    Events before their decision wait for it, and what happens again to an offer that was shown changes nothing.
    """

    features: Features
    asked: Asked
    numbers: bool = False
    """Whether rows are to have numbers."""
    clock: int = 0
    """The latest second of the log that was told."""
    counts: Counts = field(default_factory=Counts)
    met: Counter[str] = field(default_factory=Counter)
    """In how many decisions each attribute of requests and persons was met."""
    held: OrderedDict[str, Held] = field(default_factory=OrderedDict)
    """The first are let go of all the time: a dict would look for them ever longer. So it is with `early`."""
    due: tuple[Due, ...] = field(default_factory=lambda: tuple(deque() for _ in REWARDS))
    """By reward: when places of decisions are settled, the next first."""
    reporting: dict[str, None] = field(default_factory=dict)
    """Surfaces that report impressions: there, only what was seen was shown."""
    early: OrderedDict[str, list[tuple[int, int, Sum]]] = field(default_factory=OrderedDict)
    """By decision that is not known yet: kinds of events, places, and totals of orders."""
    dropped: int = -1
    """The latest second of decisions that were settled early."""

    scales: Mapping[str, Sum] = field(init=False)
    """Per catalogue, what orders are measured by: from beginning to end the same."""

    def __post_init__(self) -> None:
        self.scales = self.asked.offers.scales
        self._rows = Rows(self.features, self.asked.offers, numbers=self.numbers)
        self._waiting: tuple[list[_Row], ...] = tuple([] for _ in REWARDS)

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
        self._foresee(held)
        for number, queue in enumerate(self.due):
            if held.states[number][0] == _OPEN:
                queue.append((self.clock + SETTLE_S[number], held, _ALL_PLACES))
        for kind, place, total in self.early.pop(decision.decision_id, ()):
            self._happen(held, place, kind, total)
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
        proposition = parse_proposition_id(told.proposition_id or told.attributed_proposition_id)
        if proposition is None:
            return
        decision_id, place = proposition.decision_id, proposition.rank - 1
        what = kind if event.learn else _UNSAID
        if what == EVENT_KIND_ORDER and told.order.gift:
            what = _GIFT
        total = sum_of(told.order.total) if kind == EVENT_KIND_ORDER else NO_SUM
        held = self.held.get(decision_id) or self._again(decision_id)
        if held:
            self._happen(held, place, what, total)
            return
        waiting = self.early.setdefault(decision_id, [])
        if len(waiting) < _EARLY_EACH:
            waiting.append((what, place, total))
        if len(self.early) > MOST_EARLY:
            self.counts.lost += len(self.early.popitem(last=False)[1])

    def flush(self) -> None:
        """Let all examples that there are be learned."""
        for number in range(len(REWARDS)):
            self._flush(number)

    def know(self, offers: Offers) -> None:
        """Take up what catalogues now tell."""
        self.asked = self.asked._replace(offers=offers)
        self._rows.know(offers)

    def counted(self) -> list[str]:
        """The attributes of requests and persons that are features, but for those that are sensitive by now."""
        return [name for name in self.features.attributes if name.startswith(_COUNTED) and self._may_know(name)]

    def frequent(self) -> list[str]:
        """The attributes of requests and persons that are to be features: those that are, and what has become frequent.

        Once there are MOST_NAMES, they stay.
        """
        known = self.counted()
        least = max(LEAST_MET, LEAST_SHARE * self.counts.decisions)
        common = sorted(
            (-count, name)
            for name, count in self.met.items()
            if count >= least and name not in known and self._may_know(name)
        )
        return sorted(known + [name for _, name in common[: MOST_NAMES - len(known)]])

    def _may_know(self, name: str) -> bool:
        kind, _, bare = name.partition(".")
        return kind != "profile" or bare not in self.asked.offers.sensitive

    def forget(self) -> int:
        """Let go of decisions that the log does not have any more. Returns how many."""
        gone = 0
        names = iter(list(self.held))
        while some := list(islice(names, 500)):
            for name in set(some) - {one.decision_id for one in self.asked.decisions(some)}:
                for states in self.held.pop(name).states:
                    states[:] = [DONE] * len(states)
                gone += 1
        return gone

    def _hold(self, decision: LoggedDecision, told: DecisionRecord, state: float) -> Held:
        request, names = self._rows.request(told, decision.second)
        if state == _OPEN:
            self.met.update(names if len(self.met) < NAMES_MET else [name for name in names if name in self.met])
        count = len(told.offer_ids)
        held = Held(
            decision.decision_id,
            told.catalog,
            f"{told.catalog}\0{told.channel}\0{told.placement}",
            decision.second,
            request,
            tuple(told.offer_ids),
            tuple(told.distances_m) if len(told.distances_m) == count else (0,) * count,
            bytearray(count),
            tuple(
                [state if self._is_learned(number, told.catalog) else DONE] * count for number in range(len(REWARDS))
            ),
        )
        self.held[decision.decision_id] = held
        return held

    def _is_learned(self, number: int, catalog: str) -> bool:
        return number != ORDER_VALUE or catalog in self.scales

    @abstractmethod
    def _foresee(self, held: Held) -> None:
        """Told of a decision, of which it may be foreseen what will come of it."""

    @abstractmethod
    def _tell(self, number: int, held: Held, place: int, reward: float) -> None:
        """Told what came of an offer, for a reward by its number; NaN: may not be said. The last word holds."""

    @abstractmethod
    def _flush(self, number: int) -> None:
        """Take the rows that wait: whatever is _LEARNING there gets the chance of a reward that was foreseen."""

    def _again(self, decision_id: str) -> Held | None:
        """A decision that was settled early, held once more: all of it was learned as refused."""
        if self.dropped < 0:
            return None
        for decision in self.asked.decisions([decision_id]):
            told = DecisionRecord.FromString(decision.record)
            if told.learn and self.clock - HELD_S <= decision.second <= self.dropped:
                return self._hold(decision, told, 0.0)
        return None

    def _happen(self, held: Held, place: int, kind: int, total: Sum) -> None:
        if not 0 <= place < len(held.offers):
            return
        if kind == EVENT_KIND_IMPRESSION:
            self._see(held, place)
        elif kind == EVENT_KIND_DISMISSAL:
            self._dismiss(held, place)
        elif kind == _UNSAID:
            for number in range(len(REWARDS)):
                self._leave_unsaid(number, held, place)
        elif kind == _GIFT:
            for number in (_OUTCOMES[EVENT_KIND_ORDER], ORDER_VALUE):
                self._reward(number, held, place, math.nan)
        else:
            self._reward(_OUTCOMES[kind], held, place, 1.0)
            if kind == EVENT_KIND_ORDER and held.catalog in self.scales:
                self._reward(ORDER_VALUE, held, place, order_value(total, self.scales[held.catalog]))

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
            if states[place] != DONE:
                self._refuse(number, held, place, DISMISSED - (states[place] != _OPEN))

    def _leave_unsaid(self, number: int, held: Held, place: int) -> None:
        held.states[number][place] = DONE
        self._tell(number, held, place, math.nan)

    def _reward(self, number: int, held: Held, place: int, reward: float) -> None:
        """Take a reward from 0 to 1, or NaN: there was one, which cannot be said; the first one over 0 counts."""
        states, importance = held.states[number], 1.0
        if states[place] == DONE:
            return
        if math.isnan(reward) and states[place] == _OPEN:
            self._leave_unsaid(number, held, place)
            return
        if reward == 0:  # as good as a refusal
            if states[place] == _OPEN:
                self._refuse(number, held, place)
            return
        if states[place] == _LEARNING:
            self._flush(number)
        self._tell(number, held, place, reward)
        if states[place] != _OPEN:
            self.counts.late += 1
            foreseen = states[place]
            # The refusal pulled by -p, and a whole reward pulls by 1 - p each: r / (1 - p) of it make that r - p. What
            # cannot be said is as what was foreseen: then the refusal is taken back.
            worth = foreseen if math.isnan(reward) else reward
            reward, importance = 1.0, min(worth / max(1 - foreseen, 1e-9), MOST_IMPORTANCE)
        states[place] = DONE
        self._waiting[number].append((held, place, reward, importance))

    def _refuse(self, number: int, held: Held, place: int, importance: float = 1.0) -> None:
        held.states[number][place] = _LEARNING
        self._tell(number, held, place, 0.0)
        self._waiting[number].append((held, place, 0.0, importance))

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

    def kept(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that `restored` needs: arrays, and what JSON can hold. Flush before."""
        arrays, held = written(list(self.held.values()), self.due, self.features.request_size)
        return arrays, {
            "clock": self.clock,
            "dropped": self.dropped,
            "counts": [getattr(self.counts, name) for name in Counts.__slots__],
            "met": dict(self.met),
            "reporting": list(self.reporting),
            "early": [
                [name, [[kind, place, *total] for kind, place, total in waiting]]
                for name, waiting in self.early.items()
            ],
            "scales": written_scales(self.scales),
            "held": held,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], said: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave, of the same features."""
        self.clock, self.dropped, self.counts = said["clock"], said["dropped"], Counts(*said["counts"])
        self.met, self.reporting = Counter(said["met"]), dict.fromkeys(said["reporting"])
        self.early = OrderedDict(
            (name, [(kind, place, Sum(*total)) for kind, place, *total in waiting]) for name, waiting in said["early"]
        )
        self.scales = {name: Sum(*scale) for name, scale in said["scales"].items()}
        held, self.due = read_held(arrays, said["held"], len(REWARDS))
        self.held = OrderedDict((one.decision_id, one) for one in held)


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
_GIFT = -1
"""Kind of an order for somebody else: what this person likes, it says nothing about."""
