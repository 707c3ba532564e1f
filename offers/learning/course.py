"""Models on their way through the log: the same log in the same order gives the same models, wherever one pauses."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from offers.learning.held import LoggedDecision
from offers.learning.model import Model
from offers.learning.outcomes import Asked
from offers.learning.promotion import Recent
from offers.learning.propensity.examples import Collector
from offers.learning.propensity.features import Examples, Features
from offers.learning.propensity.regression import Propensity
from offers.learning.recommend.visited import LoggedVisit, Visited
from offers.learning.values import ORDER_VALUE, REWARDS, Sum

PAGE = 5_000
"""Events and decisions that are learned at once."""
FIRST_REVIEW, REVIEW_GROWTH = 100, 1.25
"""Decisions after which attributes are counted up, and by which factor more for each time after."""
_PREFIX = "collector."


class Log(Protocol):
    """What is asked of the log of events and decisions: see state.stores."""

    def read(self, after: int, limit: int) -> Sequence[tuple[int, LoggedVisit]]: ...  # noqa: D102
    def decisions_after(self, number: int, limit: int) -> Sequence[tuple[int, LoggedDecision]]: ...  # noqa: D102
    def decisions(self, decision_ids: Sequence[str]) -> Sequence[LoggedDecision]: ...  # noqa: D102


class Position(NamedTuple):
    """A place in the log: the numbers of the last event and decision, and the latest second met among either."""

    event: int = 0
    decision: int = 0
    event_second: int = 0
    decision_second: int = 0


_BEGIN, _END = Position(), Position(2**62, 2**62)


class Merged:
    """The log's events and decisions in one order: by when they were taken in and made, decisions first.

    Neither log's clock goes back here: so the order is the same wherever one begins.
    """

    def __init__(self, log: Log, position: Position) -> None:
        self._log = log
        self._events: deque[tuple[int, LoggedVisit]] = deque()
        self._decisions: deque[tuple[int, LoggedDecision]] = deque()
        self.event, self.decision, self._taken, self._made = position
        """Numbers of the last event and decision that were given."""

    @property
    def position(self) -> Position:
        """Behind what was given last."""
        return Position(self.event, self.decision, self._taken, self._made)

    def read(
        self, horizon: float, until: Position = _END
    ) -> Iterator[tuple[int, LoggedVisit | None, LoggedDecision | None]]:
        """What there is now, up to a second and a place: the second, and either an event or a decision."""
        events, decisions = self._events, self._decisions
        more_events = more_decisions = True
        while True:
            if not events and more_events:
                events += self._log.read(self.event, PAGE)
                more_events = bool(events)
            if not decisions and more_decisions:
                decisions += self._log.decisions_after(self.decision, PAGE)
                more_decisions = bool(decisions)
            made = taken = math.inf
            if decisions and decisions[0][0] <= until.decision:
                made = max(decisions[0][1].second, self._made)
            if events and events[0][0] <= until.event:
                taken = max(events[0][1].received, self._taken)
            if min(made, taken) > horizon or made == taken == math.inf:
                return
            if made <= taken:
                self.decision, decision = decisions.popleft()
                self._made = int(made)
                yield self._made, None, decision
            else:
                self.event, event = events.popleft()
                self._taken = int(taken)
                yield self._taken, event, None


class Course:
    """Models of one set of features, one for each reward, and that of recommendation, on their way from the log's
    beginning.
    """  # noqa: D205

    def __init__(self, log: Log, asked: Asked, features: Features, position: Position = _BEGIN) -> None:
        self.features = features
        self.models = {name: Propensity.untaught(features) for name in REWARDS}
        self.recent = {name: Recent() for name in REWARDS}
        self.visited = Visited()
        self.collector = Collector(features, asked, self)
        self.review = FIRST_REVIEW
        """Decisions at which attributes are to be counted up."""
        self._merged = Merged(log, position)
        self._incumbents: dict[str, Propensity] = {}
        self._since, self._is_compared = _END, False

    @property
    def learned(self) -> int:
        """Examples and visits so far."""
        return self.visited.learned + sum(recent.examples for recent in self.recent.values())

    @property
    def scales(self) -> Mapping[str, Sum]:
        """By catalogue, what orders are measured by."""
        return self.collector.scales

    @property
    def taught(self) -> dict[str, Propensity]:
        """The models that have learned from anything, by reward."""
        return {name: model for name, model in self.models.items() if self.recent[name].examples}

    @property
    def position(self) -> Position:
        """Up to where the log was learned."""
        return self._merged.position

    def compare_with(self, incumbents: dict[str, Propensity], since: Position) -> None:
        """Let other models of the same features foresee as well what comes behind the place up to where they are."""
        self._incumbents, self._since, self._is_compared = incumbents, since, False
        for recent in self.recent.values():
            recent.incumbent[:] = np.nan

    def step(self, horizon: float, until: Position = _END) -> int:
        """Learn the next page, up to a second of the log's clock and a place in it, or to where `review` is reached.

        Returns how many events and decisions it had.
        """
        count, collector, merged, since = 0, self.collector, self._merged, self._since
        for second, event, decision in islice(merged.read(horizon, until), PAGE):
            count += 1
            if not self._is_compared and (merged.event > since.event or merged.decision > since.decision):
                collector.flush()
                self._is_compared = True
            if event is not None:
                collector.happened(second, event)
                self.visited.happened(event, collector.asked.offers)
            elif decision is not None:
                collector.decided(second, decision)
                if collector.counts.decisions == self.review:
                    break
        collector.flush()
        self.visited.flush()
        return count

    def learn(self, number: int, examples: Examples) -> NDArray[np.float64]:
        """See Pupil."""
        recent = self.recent[REWARDS[number]]
        recent.examples += len(examples.reward)
        recent.rewards += int(np.count_nonzero(examples.reward))
        return self.models[REWARDS[number]].update(examples)

    def foresee(self, request: NDArray[np.uint64], offers: NDArray[np.uint64]) -> int:
        """See Pupil."""
        first = 0
        for number, (name, recent) in enumerate(self.recent.items()):
            if number == ORDER_VALUE and not self.scales:
                continue  # nothing ever comes of it
            first, incumbent = recent.judged, self._incumbents.get(name) if self._is_compared else None
            recent.foreseen(
                self.models[name].predict(request, offers).probability(),
                incumbent.predict(request, offers).probability() if incumbent else None,
            )
        return first

    def settle(self, number: int, offer: int, reward: float) -> None:
        """See Pupil."""
        self.recent[REWARDS[number]].settle(offer, reward)

    def kept(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that `restored` needs: arrays, and what JSON can hold."""
        arrays, said = self.collector.kept()
        arrays = {_PREFIX + name: array for name, array in arrays.items()} | self.visited.kept()
        for name, model in self.taught.items():
            arrays |= {f"{name}.{part}": array for part, array in model.arrays().items()}
        for name, recent in self.recent.items():
            arrays[f"{name}.recent"] = np.stack((recent.reward, recent.candidate))
        return arrays, {
            "features": self.features.as_json(),
            "position": list(self.position),
            "review": self.review,
            "visits": self.visited.learned,
            "counts": {name: [one.judged, one.examples, one.rewards] for name, one in self.recent.items()},
            "collector": said,
        }

    @classmethod
    def restored(cls, log: Log, asked: Asked, kept: Model) -> Self:
        """A course as it was when `kept` told of it."""
        said, arrays = kept.meta, kept.arrays
        position = Position(*said["position"])
        own = cls(log, asked, Features.of_json(said["features"]), position)
        own.review = said["review"]
        own.visited = Visited.restored(arrays, said["visits"])
        for name, recent in own.recent.items():
            recent.reward[:], recent.candidate[:] = arrays[f"{name}.recent"]
            recent.judged, recent.examples, recent.rewards = said["counts"][name]
        for name, model in own.taught.items():
            for part, array in model.arrays().items():
                array[:] = arrays[f"{name}.{part}"]
        held = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
        own.collector.restore(held, said["collector"])
        return own
