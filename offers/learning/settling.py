"""Follows each offer that was shown until its outcome is settled, so that it becomes an example.

An offer is settled SETTLE_S after it was shown, whatever came of it until then: taken up, dismissed, or nothing heard.
So offers become examples in the order in which they were shown. Were rewards learned when they come and refusals when
they are settled, everything within a burst would be learned sorted by its outcome.

An outcome that changes after that, such as a late click, revises its example.

Rewards are 0 or 1, except order values, which are shares of a scale: their models are fractional logistic regressions.
Source: Papke and Wooldridge, "Econometric methods for fractional response variables", J. Appl. Econometrics 11 (1996).
"""

import math
from abc import ABC, abstractmethod
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from sys import intern
from typing import Any, NamedTuple

from numpy.typing import NDArray

from offers.learning.log_reading import DecisionEntry, EventEntry
from offers.learning.outcomes import LEARNING, OfferOutcome, Reaction, outcome_of
from offers.learning.pending import (
    DISMISSED_BIT,
    NO_EXAMPLE,
    SHOWN_BIT,
    DueQueue,
    Label,
    LogCounts,
    OfferState,
    PendingDecision,
    SettledOffer,
    from_arrays,
    to_arrays,
)
from offers.learning.propensity.features import Features
from offers.learning.propensity.rows import Rows
from offers.learning.values import ORDER_VALUE, REWARDS, CatalogueFacts, Sum, written_scales
from offers.v1.state_pb2 import DecisionRecord

SETTLE_S = (45, 300, 300)
"""By reward, the seconds after which the outcome of an offer that was shown is settled: most clicks have come by then,
and most redemptions and orders."""
CALM_S = (10, 60, 600, 3_600, 6 * 3_600, 86_400)
"""Seconds without any example of a reward after each of which its model rests."""
HELD_S = max(LEARNING.window_s.values())
"""Seconds for which a decision is held, because a reward may follow."""
MOST_HELD = 100_000
"""Most decisions that are held. Beyond that the oldest are settled early."""
MOST_EARLY = 10_000
"""Most outcomes that are held for decisions that the log does not have yet."""
FLUSHED_AT_ONCE = 8_192
"""Settled offers that are made into examples at once."""
MOST_NAMES, NAMES_MET = 64, 4_096
"""Most attributes of requests and persons that become features, and that are counted."""
LEAST_MET, LEAST_SHARE = 100, 0.01
"""Decisions that have an attribute, and their share of all decisions, for the attribute to become a feature."""
_COUNTED = ("context.", "profile.")
_REPORTING = 4_096
_EARLY_EACH = 100
_ALL_OFFERS = -1  # as an index in a DueQueue: the whole decision is due
_NUMBER_OF = {name: number for number, name in enumerate(REWARDS)}
_IMPRESSION, _DISMISSAL, _WITHHELD = Reaction.IMPRESSION, Reaction.DISMISSAL, Reaction.WITHHELD
_REVERSAL = Reaction.REVERSAL
# Plain integers: a byte is compared with these faster than with members of the enum.
_OPEN, _SETTLED, _DONE = map(int, OfferState)


class Lookups(NamedTuple):
    """Sources beside the entries of the log that are given."""

    catalogues: CatalogueFacts
    decisions: Callable[[Sequence[str]], Sequence[DecisionEntry]]
    """From ids of decisions to those of them that the log still has."""


@dataclass
class OutcomeTracker(ABC):
    """Follows the outcomes of decisions. The same entries of the log in the same order give the same examples.

    Events may come before their decision: they wait for it. An outcome that is reported again changes nothing.
    """

    features: Features
    lookups: Lookups
    numbers: bool = False
    """Whether examples have numbers beside keys."""
    clock: int = 0
    """The latest second of the log so far."""
    counts: LogCounts = field(default_factory=LogCounts)
    met: Counter[str] = field(default_factory=Counter)
    """By attribute of requests and persons, the decisions that have it."""
    held: OrderedDict[str, PendingDecision] = field(default_factory=OrderedDict)
    """Ordered, like `early`: the first is removed again and again, for which a dict would search ever longer."""
    due: tuple[DueQueue, ...] = field(default_factory=lambda: tuple(deque() for _ in REWARDS))
    """By reward."""
    reporting: dict[str, None] = field(default_factory=dict)
    """Surfaces that report impressions: on these only offers with an impression count as shown."""
    early: OrderedDict[str, list[tuple[int, int, Sum]]] = field(default_factory=OrderedDict)
    """By id of a decision that is not known yet: reactions, indexes of offers, and amounts."""
    dropped: int = -1
    """The latest second of the decisions that were settled early; -1: there were none."""
    settled_at: list[int] = field(default_factory=lambda: [0] * len(REWARDS))
    """By reward, the second of the latest example or revision."""
    rests: list[int] = field(default_factory=lambda: [0] * len(REWARDS))
    """By reward, how often its model has rested since then."""
    scales: Mapping[str, Sum] = field(init=False)
    """By catalogue, the scale of order values: the same from beginning to end."""

    def __post_init__(self) -> None:
        self.scales = self.lookups.catalogues.scales
        self._rows = Rows(self.features, self.lookups.catalogues, numbers=self.numbers)
        self._waiting: tuple[list[SettledOffer], ...] = tuple([] for _ in REWARDS)

    def add_decision(self, second: int, decision: DecisionEntry) -> None:
        """Take in a decision that was made at a second of the log's clock."""
        self.pass_time(second)
        if decision.decision_id in self.held:
            return
        told = DecisionRecord.FromString(decision.record)
        if not (told.learn and told.offer_ids):
            return
        self.counts.decisions += 1
        pending = self._hold(decision, told, _OPEN)
        self._judge(pending)
        for number, queue in enumerate(self.due):
            if pending.states[pending.at(number, 0)] == _OPEN:
                queue.append((self.clock + SETTLE_S[number], pending, _ALL_OFFERS))
        for reaction, index, total in self.early.pop(decision.decision_id, ()):
            self._react(pending, OfferOutcome(Reaction(reaction), second, "", index, total))
        while len(self.held) > MOST_HELD:
            self._drop(next(iter(self.held.values())))

    def add_event(self, second: int, event: EventEntry) -> None:
        """Take in an event that was received at a second of the log's clock."""
        self.pass_time(second)
        outcome = outcome_of(event, LEARNING)
        if outcome is None:
            return
        pending = self.held.get(outcome.decision_id) or self._held_again(outcome.decision_id)
        if pending:
            self._react(pending, outcome)
            return
        waiting = self.early.setdefault(outcome.decision_id, [])
        if len(waiting) < _EARLY_EACH:
            waiting.append((int(outcome.reaction), outcome.offer_index, outcome.amount))
        if len(self.early) > MOST_EARLY:
            self.counts.lost += len(self.early.popitem(last=False)[1])

    def pass_time(self, second: int) -> None:
        """Advance the clock, unless it is ahead: settle what is due, and let go of decisions too old for any outcome.

        It makes no difference whether time passes in many steps or in one.
        """
        if second <= self.clock:
            return
        self.clock = second
        for number, queue in enumerate(self.due):
            while queue and queue[0][0] <= second:
                due, pending, index = queue.popleft()
                self._rest(number, due)
                if index == _ALL_OFFERS:
                    self._settle_decision(number, pending, due)
                else:
                    self._settle(number, pending, index, due)
            self._rest(number, second)
        for pending in list(islice(self.held.values(), 0, 64)):
            if pending.second >= second - HELD_S:
                break
            del self.held[pending.decision_id]

    def flush(self) -> None:
        """Have all examples learned that there are by now."""
        for number in range(len(REWARDS)):
            self._flush(number)

    def update_catalogues(self, catalogues: CatalogueFacts) -> None:
        """Replace what catalogues tell."""
        self.lookups = self.lookups._replace(catalogues=catalogues)
        self._rows.update_catalogues(catalogues)

    def counted(self) -> list[str]:
        """Return the attributes of requests and persons that are features, without those that are sensitive by now."""
        return [name for name in self.features.attributes if name.startswith(_COUNTED) and self._may_use(name)]

    def frequent(self) -> list[str]:
        """Return the attributes of requests and persons that should be features: those that are, and frequent ones.

        At most MOST_NAMES: once there are so many, they stay.
        """
        known = self.counted()
        least = max(LEAST_MET, LEAST_SHARE * self.counts.decisions)
        common = sorted(
            (-count, name)
            for name, count in self.met.items()
            if count >= least and name not in known and self._may_use(name)
        )
        return sorted(known + [name for _, name in common[: MOST_NAMES - len(known)]])

    def _may_use(self, name: str) -> bool:
        kind, _, bare = name.partition(".")
        return kind != "profile" or bare not in self.lookups.catalogues.sensitive

    def forget_erased(self) -> int:
        """Remove decisions that the log does not have any more. Returns how many."""
        gone = self.lost(self.held)
        for name in gone:
            states = self.held.pop(name).states
            states[:] = bytes([_DONE]) * len(states)
        return len(gone)

    def lost(self, decision_ids: Iterable[str]) -> set[str]:
        """Return those of some ids of decisions that the log does not have any more."""
        lost: set[str] = set()
        names = iter(list(decision_ids))
        while some := list(islice(names, 500)):
            lost |= set(some) - {one.decision_id for one in self.lookups.decisions(some)}
        return lost

    def _hold(self, decision: DecisionEntry, told: DecisionRecord, state: int) -> PendingDecision:
        request, names = self._rows.request(told, decision.second)
        if state == _OPEN:
            self.met.update(names if len(self.met) < NAMES_MET else [name for name in names if name in self.met])
        count = len(told.offer_ids)
        pending = PendingDecision(
            decision.decision_id,
            intern(told.catalog),
            intern(f"{told.catalog}\0{told.channel}\0{told.placement}"),
            decision.second,
            request,
            tuple(map(intern, told.offer_ids)),
            array("I", told.distances_m if len(told.distances_m) == count else (0,) * count),
            bytearray(count),
            bytearray((state,)) * (len(REWARDS) * count),
            array("q", (NO_EXAMPLE,)) * (len(REWARDS) * count),
        )
        if told.catalog not in self.scales:
            pending.states[pending.all_of(ORDER_VALUE)] = bytes((_DONE,)) * count
        self.held[decision.decision_id] = pending
        return pending

    @abstractmethod
    def _judge(self, pending: PendingDecision) -> None:
        """Foresee the outcome of a new decision, to judge models by it later, if it is one of those."""

    @abstractmethod
    def _note(self, number: int, pending: PendingDecision, index: int) -> None:
        """Note the settled outcome of an offer, for a reward by its number. Later calls overwrite earlier ones."""

    @abstractmethod
    def _revise(self, number: int, pending: PendingDecision, index: int, before: Label) -> None:
        """Revise the example of an offer whose label was another one before. All others are flushed."""

    @abstractmethod
    def _calm(self, number: int, second: int) -> None:
        """Let the model of a reward rest, as of a second. All examples are flushed."""

    @abstractmethod
    def _flush(self, number: int) -> None:
        """Take the waiting examples of a reward."""

    def _held_again(self, decision_id: str) -> PendingDecision | None:
        """Hold a decision once more that was settled early. All of it counts as refused, which most of it was."""
        if self.dropped < 0:
            return None
        for decision in self.lookups.decisions([decision_id]):
            told = DecisionRecord.FromString(decision.record)
            if told.learn and self.clock - HELD_S <= decision.second <= self.dropped:
                return self._hold(decision, told, _SETTLED)
        return None

    def _react(self, pending: PendingDecision, outcome: OfferOutcome) -> None:
        index, reaction = outcome.offer_index, outcome.reaction
        if not 0 <= index < len(pending.offers):
            return
        if reaction is _WITHHELD:
            for number in range(len(REWARDS)):
                self.set_reward(number, pending, index, math.nan)
            return
        self._show(pending, index)
        if reaction is _IMPRESSION:
            if pending.surface not in self.reporting and len(self.reporting) < _REPORTING:
                self.reporting[pending.surface] = None
        elif reaction is _DISMISSAL:
            self._dismiss(pending, index)
        else:
            self._reward(pending, outcome)

    def _reward(self, pending: PendingDecision, outcome: OfferOutcome) -> None:
        for name, reward in outcome.rewards(LEARNING, self.scales.get(pending.catalog)):
            number, index = _NUMBER_OF[name], outcome.offer_index
            known = pending.reward(number, index)
            if known == 0 or (outcome.reaction is _REVERSAL and known > 0):  # else only the first over 0 counts
                self.set_reward(number, pending, index, reward)

    def _show(self, pending: PendingDecision, index: int) -> None:
        """Note that an offer was shown, as any reaction tells."""
        if pending.seen[index] & SHOWN_BIT:
            return
        pending.seen[index] |= SHOWN_BIT
        for number in range(len(REWARDS)):
            if pending.states[pending.at(number, index)] == _OPEN:
                self.due[number].append((self.clock + SETTLE_S[number], pending, index))

    def _dismiss(self, pending: PendingDecision, index: int) -> None:
        if pending.seen[index] & DISMISSED_BIT:
            return
        before = [pending.label(number, index) for number in range(len(REWARDS))]
        pending.seen[index] |= DISMISSED_BIT
        for number, label in enumerate(before):
            self._changed(number, pending, index, label)

    def set_reward(self, number: int, pending: PendingDecision, index: int, reward: float) -> None:
        """Set a reward of an offer, settled or not: from 0, which takes it back, to 1, or NaN for unknown."""
        before = pending.label(number, index)
        pending.set_reward(number, index, reward)
        self._changed(number, pending, index, before)

    def _changed(self, number: int, pending: PendingDecision, index: int, before: Label) -> None:
        if pending.states[pending.at(number, index)] != _SETTLED or pending.label(number, index) == before:
            return
        self.counts.late += 1
        self._flush(number)
        self.settled_at[number], self.rests[number] = self.clock, 0
        self._revise(number, pending, index, before)
        self._note(number, pending, index)

    def _settle(self, number: int, pending: PendingDecision, index: int, second: int) -> None:
        """Make an open offer an example, as of a second."""
        at = pending.at(number, index)
        if pending.states[at] != _OPEN:
            return
        reward, importance = pending.label(number, index)
        if not importance:
            pending.states[at] = _DONE
            self._note(number, pending, index)
            return
        pending.states[at] = _SETTLED
        self.settled_at[number], self.rests[number] = second, 0
        self._waiting[number].append((pending, index, reward, importance))
        self._note(number, pending, index)
        if len(self._waiting[number]) >= FLUSHED_AT_ONCE:
            self._flush(number)

    def _settle_decision(self, number: int, pending: PendingDecision, second: int) -> None:
        """Settle the offers of a decision, unless its surface reports impressions: then each is due by itself."""
        if pending.surface not in self.reporting:
            for index in range(len(pending.offers)):
                self._settle(number, pending, index, second)

    def _rest(self, number: int, second: int) -> None:
        """Let the model of a reward rest for each of CALM_S that is over at a second."""
        while self.rests[number] < len(CALM_S) and second >= self.settled_at[number] + CALM_S[self.rests[number]]:
            self._flush(number)
            self._calm(number, self.settled_at[number] + CALM_S[self.rests[number]])
            self.rests[number] += 1

    def _drop(self, pending: PendingDecision) -> None:
        """Settle a decision early."""
        for number in range(len(REWARDS)):
            self._settle_decision(number, pending, self.clock)
            for index, seen in enumerate(pending.seen):
                if seen:
                    self._settle(number, pending, index, self.clock)
        self.counts.early += 1
        self.dropped = max(self.dropped, pending.second)
        del self.held[pending.decision_id]

    def to_save(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return all that `restore` needs: arrays, and what JSON can hold. Flush before."""
        arrays, held = to_arrays(list(self.held.values()), self.due, self.features.request_size)
        return arrays, {
            "clock": self.clock,
            "dropped": self.dropped,
            "settled_at": self.settled_at,
            "rests": self.rests,
            "counts": [getattr(self.counts, name) for name in LogCounts.__slots__],
            "met": dict(self.met),
            "reporting": list(self.reporting),
            "early": [
                [name, [[reaction, index, *total] for reaction, index, total in waiting]]
                for name, waiting in self.early.items()
            ],
            "scales": written_scales(self.scales),
            "held": held,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], saved: Mapping[str, Any]) -> None:
        """Go on from what `to_save` returned, with the same features."""
        self.clock, self.dropped, self.counts = saved["clock"], saved["dropped"], LogCounts(*saved["counts"])
        self.settled_at, self.rests = list(saved["settled_at"]), list(saved["rests"])
        self.met, self.reporting = Counter(saved["met"]), dict.fromkeys(saved["reporting"])
        self.early = OrderedDict(
            (name, [(reaction, index, Sum(*total)) for reaction, index, *total in waiting])
            for name, waiting in saved["early"]
        )
        self.scales = {name: Sum(*scale) for name, scale in saved["scales"].items()}
        held, self.due = from_arrays(arrays, saved["held"], len(REWARDS))
        self.held = OrderedDict((one.decision_id, one) for one in held)
