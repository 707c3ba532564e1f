"""Offers that are shown at any times and clicked at known rates, and a learner that follows them."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from offers.learning.learner import LAG_S
from offers.learning.settling import Lookups
from offers.learning.training import Training
from offers.learning.values import REWARDS, features_for, request_values
from offers.state.stores import LoggedDecision, LoggedEvent
from tests.learning.made_log import NOON, OFFERS, decision, event

FEATURES = features_for([], (), 18)

Delay = Callable[[random.Random], float]
"""Draws the seconds from a decision to a click."""


class Story(NamedTuple):
    """Decisions, and the events about them in the order in which they were received."""

    decisions: list[LoggedDecision]
    events: list[LoggedEvent]

    def __add__(self, other: object) -> "Story":
        """Return both together."""
        assert isinstance(other, Story)
        return Story(
            sorted(self.decisions + other.decisions, key=lambda one: one.second),
            sorted(self.events + other.events, key=lambda one: one.received),
        )


def shown(seconds: Sequence[int], rates: Mapping[str, float], delay: Delay, seed: str, kind: str = "click") -> Story:
    """Return decisions at some seconds after NOON, which all show the same offers, to persons met once.

    `rates` has the probability that an offer is clicked, by its id.
    """
    choose = random.Random(seed)
    decisions, events = [], []
    for number, second in enumerate(sorted(seconds)):
        made = decision(f"{seed}.{number}", NOON + second, list(rates), f"u:{seed}.{number}")
        decisions.append(made)
        for rank, rate in enumerate(rates.values(), 1):
            if choose.random() < rate:
                at = NOON + second + int(delay(choose))
                events.append(event(f"{seed}.{number}-{rank}", kind, made.decision_id, rank, at))
    return Story(decisions, sorted(events, key=lambda one: one.received))


def burst(count: int, seconds: int, first: int = 0) -> list[int]:
    """Return so many seconds, evenly spread over some seconds."""
    return [first + number * seconds // count for number in range(count)]


class Followed:
    """A training that is told of the entries of a story as they come."""

    def __init__(self, story: Story) -> None:
        self.training = Training(self, Lookups(OFFERS, self.decisions), FEATURES)
        self._story, self._now = story, 0
        self._known = {one.decision_id: one for one in story.decisions}

    def at(self, second: float) -> "Followed":
        """Learn what there is so many seconds after NOON."""
        self._now = int(NOON + second)
        while self.training.step(self._now - LAG_S):
            pass
        return self

    def chance(self, offer: str, second: int = 0, reward: str = REWARDS[0]) -> float:
        """Return the probability of a reward, foreseen for a newcomer so many seconds after NOON."""
        model, at = self.training.models[reward], NOON + second
        own = {f"offer.{name}": value for name, value in OFFERS.values("corner", offer).items()} | {"offer.id": offer}
        request = request_values(decision("", at, person="u:new").told(), at, "Europe/Paris")
        keys, size = FEATURES.keys(request | own), FEATURES.request_size
        return float(model.predict(keys[:size], keys[None, size:]).probability()[0])

    def read(self, after: int, limit: int) -> list[tuple[int, LoggedEvent]]:
        """See LearningLog."""
        some = enumerate(self._story.events[after : after + limit], after + 1)
        return [(number, one) for number, one in some if one.received <= self._now]

    def decisions_after(self, number: int, limit: int) -> list[tuple[int, LoggedDecision]]:
        """See LearningLog."""
        some = enumerate(self._story.decisions[number : number + limit], number + 1)
        return [(one_number, one) for one_number, one in some if one.second <= self._now]

    def decisions(self, decision_ids: Sequence[str]) -> list[LoggedDecision]:
        """See LearningLog."""
        return [self._known[name] for name in decision_ids if name in self._known]

    def end(self) -> tuple[str, int, int]:
        """See LearningLog."""
        return "", len(self._story.events), len(self._story.decisions)
