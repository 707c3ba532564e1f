"""Pauses in long work in Python, in which other threads run.

Python lets a thread that waits for the interpreter run after 5 ms only, and a decision waits for it several times. Work
that takes longer than some milliseconds beside decisions therefore pauses by itself.
"""

from time import perf_counter, sleep
from typing import Final

WORK_S: Final = 0.001
"""Seconds of work between pauses."""
PAUSE_S: Final = 0.0002
"""Seconds of a pause. A sleep of 0 would let no other thread run before this one goes on."""


class Pauses:
    """Sleeps for PAUSE_S after each WORK_S of work, which calls it between its steps."""

    def __init__(self) -> None:
        self._due = perf_counter() + WORK_S

    def __call__(self) -> None:
        """Pause, if the last pause was long enough ago."""
        if perf_counter() >= self._due:
            sleep(PAUSE_S)
            self._due = perf_counter() + WORK_S
