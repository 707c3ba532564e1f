"""A real server in this process, on a free port, for tests of programs that call the service."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from offers.catalogue.publish import publish
from offers.demo import catalogue as demo_catalogue
from offers.server.process.worker import Worker, warm_engine
from offers.settings import Settings
from offers.state.opening import Stores, open_stores


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    target: str
    """Its address, such as "127.0.0.1:43121"."""
    channel: grpc.Channel
    """An open channel to it."""
    worker: Worker
    stores: Stores
    """Its stores of persons, events and budgets."""


@contextlib.contextmanager
def serving(
    source: Path | None = None,
    *,
    clock: Callable[[], float] = time.time,
    data_dir: Path | None = None,
    **settings: Any,  # noqa: ANN401 - the fields of Settings
) -> Iterator[Served]:
    """Serve a catalogue document (None: the demo catalogue) while the block runs.

    `clock` returns seconds since 1970; requests without a time are decided for it. Snapshots, persons and events go to
    `data_dir`, or to a folder that is removed afterwards. `settings` are fields of Settings. Raises CatalogError for an
    invalid document. SQLite does not flush unless `sqlite_flush` says so.
    """
    with contextlib.ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="offers-testing-")))
        published = publish(source or demo_catalogue(), folder)
        served = Settings(data_dir=folder, **{"sqlite_flush": False, **settings})
        stores = open_stores(served)
        stack.callback(stores.close)
        worker = Worker(served, stores, clock=clock)
        target = f"127.0.0.1:{worker.start(0)}"
        stack.callback(worker.stop)
        worker.serve([warm_engine(published.path)])
        channel = stack.enter_context(grpc.insecure_channel(target))
        yield Served(target, channel, worker, stores)
