"""The learner process: learns from the event log, and publishes models for the workers."""

import gc
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import structlog

from offers.catalogue.snapshot import Snapshot
from offers.errors import ConflictError
from offers.learning.learner import FOLDER, Learner
from offers.learning.values import CatalogueFacts
from offers.server.offer_values import CatalogueReader
from offers.server.process.served import ServedReader
from offers.settings import Settings
from offers.state.opening import open_stores
from offers.state.stores import EventLog

WAIT_S = 1.0
"""Seconds between attempts to take over from another learner."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def run(settings: Settings, served: int, supervisor: int) -> None:
    """Run the learner until SIGTERM; while another one works in the folder, wait for it to end.

    It also ends once the process `supervisor` is no longer its parent. The socket `served` tells the snapshots.
    """
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides

    def stop() -> bool:
        return bool(told) or os.getppid() != supervisor

    gc.disable()  # pending decisions have no cycles, and searching for some costs a quarter of the time
    told_of = ServedReader(served)

    def paths() -> list[Path]:
        told_of.look()
        return [one.path for one in told_of.snapshots]

    def open_copy(path: Path) -> Snapshot:
        return next(one for one in told_of.snapshots if one.path == path).open()

    reader = CatalogueReader(paths, open_copy)
    with closing(open_stores(settings, is_server=True)) as stores:
        learner = _begun(stores.events, settings.data_dir / FOLDER, reader.read(), stop)
        if learner is None:
            return
        with closing(learner):
            log.info("learner_working", position=learner.training.position.event)
            learner.run(stop, look=reader.look)
    log.info("learner_stopped")


def _begun(events: EventLog, folder: Path, offers: CatalogueFacts, stop: Callable[[], bool]) -> Learner | None:
    """Return a learner once no other works in the folder; None if told to stop first."""
    waiting = False
    while not stop():
        try:
            return Learner(events, folder, offers, stop=stop)
        except ConflictError as error:
            if not waiting:
                log.info("learner_waits", reason=str(error))
            waiting = True
        time.sleep(WAIT_S)
    return None
