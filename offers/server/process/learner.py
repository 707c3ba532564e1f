"""The learner process: learns from the event log, and publishes models for the workers."""

import gc
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import structlog

from offers import memory
from offers.catalogue.snapshot import Snapshot
from offers.learning.following import follow, once_there
from offers.learning.learner import FOLDER, Learner
from offers.server.offer_values import CatalogueReader
from offers.server.process.served import ServedReader
from offers.settings import Settings
from offers.state.opening import open_stores
from offers.state.stores import EventLog

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def run(settings: Settings, served: int, supervisor: int) -> None:
    """Run the learner until SIGTERM. It waits while another one works in the folder, or stores and disk do not answer.

    It also ends once the process `supervisor` is no longer its parent. The socket `served` tells the snapshots.
    """
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides

    def stop() -> bool:
        return bool(told) or os.getppid() != supervisor

    memory.return_large_blocks()
    gc.disable()  # searching takes a quarter of the time; checkpoints do it
    told_of = ServedReader(served)

    def paths() -> list[Path]:
        told_of.look()
        return [one.path for one in told_of.snapshots]

    def open_copy(path: Path) -> Snapshot:
        return next(one for one in told_of.snapshots if one.path == path).open()

    reader = CatalogueReader(paths, open_copy)
    with ExitStack() as stack:
        stores = once_there(lambda: open_stores(settings, is_server=True), "its stores", stop)
        if stores is None:
            return
        stack.callback(stores.close)
        learner = _begun(stores.events, settings.data_dir / FOLDER, reader, stop)
        if learner is None:
            return
        stack.callback(learner.close)
        log.info("learner_working", position=learner.training.position.event)
        follow(learner, stop, look=reader.look)
    log.info("learner_stopped")


def _begun(events: EventLog, folder: Path, reader: CatalogueReader, stop: Callable[[], bool]) -> Learner | None:
    """Return a learner, once catalogues, log and disk are there and no other learner works; None if told to stop."""
    facts = once_there(reader.read, "the catalogues", stop)
    if facts is None:
        return None
    return once_there(lambda: Learner(events, folder, facts, stop=stop), "its folder and the log", stop)
