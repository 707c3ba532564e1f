"""Admission: which calls a worker takes, by how many wait, for how long they have waited, and by their deadlines.

A queue that grows without limit answers nobody in time: each call waits until its caller has given up, and is worked
on all the same. So a call is refused before any work is done for it, as early as one of these rules says so. The rules
know no transport; every front applies them, and tells callers what the error says.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from offers.errors import ExpiredError, OverloadedError

MOST_WAITING: Final = 256
"""Calls of a worker that may wait for their turn, beside those being worked on: some 50 ms of decisions."""
OLDEST_S: Final = 5.0
"""Seconds that a call may have waited when its turn comes, whatever its deadline."""
CROWDED_S: Final = 0.02
"""Seconds that the oldest waiting call may have waited before the newest come first, while calls are refused. In their
order of arrival, calls would be answered when their callers have just given up."""
FULL_S: Final = 1.0
"""Seconds since there was no room for a call after which the order is that of arrival again. A fixed number of callers
that each wait for their answers, as in a load test, is no crowd: none of them may starve."""
PACE_S: Final = 5.0
"""Seconds after which the durations of calls are forgotten, at the latest after twice as many."""


class Pace:
    """The shortest duration of a method's calls in the last seconds. A call with less time left cannot be answered."""

    __slots__ = ("_before", "_now", "_until")

    def __init__(self) -> None:
        self._before = self._now = float("inf")
        self._until = 0.0

    def note(self, seconds: float, now: float) -> None:
        """Take in the duration of a call that has ended."""
        self._turn(now)
        self._now = min(self._now, seconds)

    def shortest(self, now: float) -> float:
        """Return the shortest duration in seconds; 0 while none is known."""
        self._turn(now)
        shortest = min(self._before, self._now)
        return 0.0 if shortest == float("inf") else shortest

    def _turn(self, now: float) -> None:
        if now >= self._until:
            is_old = now >= self._until + PACE_S
            self._before, self._now, self._until = float("inf") if is_old else self._now, float("inf"), now + PACE_S


class Counts(NamedTuple):
    """Calls that were refused."""

    refused: int
    """Too many waited, they had waited for too long, or too little time was left."""
    expired: int
    """The deadline had passed when their turn came."""


class Admission:
    """Decides on the calls of one worker, and counts those that it refuses."""

    def __init__(
        self,
        most_waiting: int = MOST_WAITING,
        oldest_s: float = OLDEST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.most_waiting = most_waiting
        self.refused = self.expired = 0
        """Calls so far, as in Counts."""
        self._oldest_s = oldest_s
        self._full_until = float("-inf")
        self._taken = Counts(0, 0)

    def take_counts(self) -> Counts:
        """Return the calls refused since this was last asked."""
        before, self._taken = self._taken, Counts(self.refused, self.expired)
        return Counts(self._taken.refused - before.refused, self._taken.expired - before.expired)

    def is_full(self, waiting: int) -> bool:
        """Return whether no further call may wait beside `waiting` others."""
        is_full = waiting >= self.most_waiting
        if is_full:
            self._full_until = self.clock() + FULL_S
        return is_full

    def is_newest_first(self, oldest_s: float) -> bool:
        """Return whether the newest waiting call is next, where the oldest has waited for some seconds.

        Once that one has waited for too long, it is next, and refused: nobody waits without end.
        """
        return CROWDED_S < oldest_s <= self._oldest_s and self.clock() < self._full_until

    def refuse_number(self) -> OverloadedError:
        """Count a call that is one too many, and return its error."""
        self.refused += 1
        return OverloadedError("as many calls wait as this server takes: try again later, or at another server")

    def check(self, waited_s: float, left_s: float, pace: Pace) -> None:
        """Check a call whose turn has come.

        `waited_s` is the time that it waited, `left_s` the time until its deadline (infinite: it has none), and `pace`
        its method's. Raises OverloadedError, or ExpiredError when the deadline has passed.
        """
        if left_s <= 0:
            self.expired += 1
            raise ExpiredError("the deadline passed before the call's turn came: nothing was done")
        if waited_s > self._oldest_s:
            self.refused += 1
            message = f"the call waited more than {self._oldest_s:g} s for its turn: try again later"
            raise OverloadedError(message)
        if left_s < (shortest := pace.shortest(self.clock())):
            self.refused += 1
            message = f"{left_s * 1000:.0f} ms are left, and no such call takes less than {shortest * 1000:.0f}"
            raise OverloadedError(f"{message}: try again later, or with a later deadline")
