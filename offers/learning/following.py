"""Follows the log with a learner. Where the log or the disk fails, it waits, says so once, and goes on when it can."""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog

from offers.errors import ConflictError, OffersError
from offers.learning.learner import CHECKPOINT_S, LAG_S, Learner
from offers.learning.values import CatalogueFacts

PUBLISH_S, FORGET_S = 1.0, 3600.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
"""Seconds between attempts at what fails: twice as many after each."""
IDLE_S = 0.1
CONFLICT_WAIT_S = 1.0
"""Seconds between attempts to take over from another learner."""

Got = TypeVar("Got")
log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Attempts:
    """Attempts at one thing that may fail for a time, as long as a store does not answer or a disk is full."""

    def __init__(self, waits_for: str) -> None:
        """Begin; `waits_for` completes "the learner waits for"."""
        self._waits_for = waits_for
        self._cause: object = None
        self._since = self._next = 0.0
        self._wait_s = FIRST_WAIT_S

    def make(self, attempt: Callable[[], object], *, at_once: bool = False) -> bool:
        """Make an attempt if one is due. Returns whether it was made and succeeded.

        A failure is logged once for each kind, as texts may name another draft each time.
        """
        if time.monotonic() < self._next and not at_once:
            return False
        try:
            attempt()
        except (OffersError, OSError) as error:
            self._failed(error)
            return False
        if self._cause is not None:
            log.info("learner_goes_on", waited_for=self._waits_for, seconds=round(time.monotonic() - self._since, 1))
            self._cause, self._wait_s = None, FIRST_WAIT_S
        return True

    def _failed(self, error: OffersError | OSError) -> None:
        now, cause = time.monotonic(), (type(error), getattr(error, "errno", None))
        if self._cause is None:
            self._since = now
        if cause != self._cause:
            tell = log.info if isinstance(error, ConflictError) else log.error
            tell("learner_waits", waits_for=self._waits_for, reason=str(error))
        self._cause = cause
        self._next = now + (CONFLICT_WAIT_S if isinstance(error, ConflictError) else self._wait_s)
        self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s)


def once_there(get: Callable[[], Got], waits_for: str, stop: Callable[[], bool]) -> Got | None:
    """Return what `get` returns, once it does not fail any more; None if told to stop first."""
    attempts, got = Attempts(waits_for), list[Got]()
    while not stop():
        if attempts.make(lambda: got.append(get())):
            return got[0]
        time.sleep(IDLE_S)
    return None


def follow(
    learner: Learner,
    stop: Callable[[], bool],
    clock: Callable[[], float] = time.time,
    look: Callable[[], CatalogueFacts | None] = lambda: None,
    idle_s: float = IDLE_S,
) -> None:
    """Follow the log until `stop` says so: publish at most every PUBLISH_S, save a checkpoint every CHECKPOINT_S.

    `look` returns the facts of the catalogues if they have changed, else None. Whatever fails is tried again, while the
    rest goes on.
    """
    learner.stop = stop
    learning, forgetting = Attempts("the log"), Attempts("the log, to forget what was erased")
    publishing, saving = Attempts("the folder of models"), Attempts("the folder of checkpoints")
    published = forgot = saved = time.monotonic()
    told: CatalogueFacts | None = None
    while not stop():
        before = learner.training.position
        learning.make(lambda: learner.step(clock() - LAG_S))
        now = time.monotonic()
        if now - published >= PUBLISH_S:
            told = look() or told
            if told and learning.make(partial(learner.update_catalogues, told)):
                told = None
            learning.make(learner.check_log)
            publishing.make(learner.publish)
            published = now
        if now - forgot >= FORGET_S and forgetting.make(learner.forget_erased):
            forgot = now
        if now - saved >= CHECKPOINT_S and saving.make(learner.checkpoint):
            saved = now
        if learner.training.position == before:
            time.sleep(idle_s)
    publishing.make(learner.publish, at_once=True)
    saving.make(learner.checkpoint, at_once=True)
