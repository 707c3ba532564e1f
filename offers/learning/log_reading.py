"""The log of decisions and events as the learner reads it: in one order, from any position on."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

PAGE = 5_000
"""Events, and decisions, that are read at once."""


class EventEntry(Protocol):
    """An event of the log, as offers.state.stores gives it."""

    @property
    def second(self) -> int: ...  # noqa: D102
    @property
    def received(self) -> int: ...  # noqa: D102
    @property
    def kind(self) -> int: ...  # noqa: D102
    @property
    def learn(self) -> bool: ...  # noqa: D102
    @property
    def body(self) -> bytes: ...  # noqa: D102


class VisitEntry(EventEntry, Protocol):
    """An event of the log with its person and place."""

    @property
    def person(self) -> str: ...  # noqa: D102
    @property
    def geohash(self) -> str: ...  # noqa: D102


class DecisionEntry(Protocol):
    """A decision of the log, as offers.state.stores gives it."""

    @property
    def decision_id(self) -> str: ...  # noqa: D102
    @property
    def person(self) -> str: ...  # noqa: D102
    @property
    def second(self) -> int: ...  # noqa: D102
    @property
    def record(self) -> bytes: ...  # noqa: D102


class LearningLog(Protocol):
    """The part of offers.state.stores.EventLog that the learner reads."""

    def read(self, after: int, limit: int) -> Sequence[tuple[int, VisitEntry]]: ...  # noqa: D102
    def decisions_after(self, number: int, limit: int) -> Sequence[tuple[int, DecisionEntry]]: ...  # noqa: D102
    def decisions(self, decision_ids: Sequence[str]) -> Sequence[DecisionEntry]: ...  # noqa: D102
    def end(self) -> tuple[str, int, int]: ...  # noqa: D102


STEP_S = 3_600
"""Seconds by which clocks of servers differ at most. A clock that differs by more was set."""


class LogPosition(NamedTuple):
    """How far the log was read: numbers of the last event and decision, and the latest second met in either."""

    event: int = 0
    decision: int = 0
    event_second: int = 0
    decision_second: int = 0


BEGIN, END = LogPosition(), LogPosition(2**62, 2**62)


class MergedLog:
    """Events and decisions of the log in one order: by when they were received and made, decisions first.

    The clocks of both never go back here, so the order is the same from whichever position reading begins.
    """

    _last: "tuple[LogPosition, deque[Any], Any] | None" = None
    """The entry that was given last: the position before it, its queue and the entry."""

    def __init__(self, log: LearningLog, position: LogPosition) -> None:
        self._log = log
        self._events: deque[tuple[int, VisitEntry]] = deque()
        self._decisions: deque[tuple[int, DecisionEntry]] = deque()
        self.event, self.decision, self._event_second, self._decision_second = position
        """Numbers of the last event and decision that were given."""

    @property
    def position(self) -> LogPosition:
        """The position behind the last event or decision that was given."""
        return LogPosition(self.event, self.decision, self._event_second, self._decision_second)

    def read(
        self, horizon: float, until: LogPosition = END
    ) -> Iterator[tuple[int, VisitEntry | None, DecisionEntry | None]]:
        """Yield a second of the log's clock with either an event or a decision, up to `horizon` and `until`.

        Entries from more than STEP_S behind the horizon were made while a clock was ahead: they are given at once.
        """
        events, decisions = self._events, self._decisions
        more_events = more_decisions = True
        while True:
            if not events and more_events:
                events += self._log.read(self.event, PAGE)
                more_events = bool(events)
            if not decisions and more_decisions:
                decisions += self._log.decisions_after(self.decision, PAGE)
                more_decisions = bool(decisions)
            made = received = math.inf
            if decisions and decisions[0][0] <= until.decision:
                made = max(decisions[0][1].second, self._decision_second)
            if events and events[0][0] <= until.event:
                received = max(events[0][1].received, self._event_second)
            if made == received == math.inf:
                return
            queue: deque[Any] = decisions if made <= received else events
            second = decisions[0][1].second if made <= received else events[0][1].received
            if horizon < second <= horizon + STEP_S:
                return
            self._last = self.position, queue, queue[0]
            if queue is decisions:
                self.decision, decision = decisions.popleft()
                self._decision_second = int(made)
                yield self._decision_second, None, decision
            else:
                self.event, event = events.popleft()
                self._event_second = int(received)
                yield self._event_second, event, None

    def give_back(self) -> None:
        """Have the entry that was given last be read again."""
        assert self._last is not None  # noqa: S101 - for the type checker
        position, queue, entry = self._last
        queue.appendleft(entry)
        self.event, self.decision, self._event_second, self._decision_second = position
