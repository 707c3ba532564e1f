"""The worker process to measure: the product's own, on one core, with a no-op method beside its methods.

Run as `python -m benchmarks.worker SNAPSHOT CORE BYTES [DATA [FRONT [MEMORY]]]`: prints its port, and serves until its
input ends. DATA is a data folder with persons in it, or the address of a Redis that has them; FRONT a value of the
setting. MEMORY is the descriptor of sealed memory with a copy of the snapshot.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import grpc

from benchmarks.synthetic import NOW
from offers.catalogue.snapshot import map_snapshot, open_snapshot
from offers.learning.learner import FOLDER
from offers.server.process.models import ModelFollower
from offers.server.process.worker import SWITCH_S, Worker, warm
from offers.settings import Settings
from offers.state.opening import open_stores
from offers.telemetry import logs

NOOP_SERVICE = "benchmarks.Noop"


def serve(
    snapshot: Path, core: int, noop_bytes: int, data: str = "", front: str = "grpcio", memory: str = ""
) -> None:  # fmt: skip
    """Serve a snapshot with a clock that starts at NOW; the no-op answers with a given number of bytes."""
    logs.configure("error")
    os.sched_setaffinity(0, {core})
    sys.setswitchinterval(SWITCH_S)
    begin, answer = time.time(), bytes(noop_bytes)
    noop: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(lambda _message, _context: answer)
    with tempfile.TemporaryDirectory(prefix="offers-benchmark-") as folder:
        # A new connection would disturb a measurement.
        is_url = "://" in data
        settings = Settings(
            max_connection_age_s=86_400,
            front=front,
            data_dir=Path(data if data and not is_url else folder),
            state_url=data if is_url else "",
            store_timeout_ms=5_000,  # Redis shares a core with the client
        )
        stores = open_stores(settings)
        worker = Worker(
            settings,
            stores,
            clock=lambda: NOW + time.time() - begin,
            extra=[grpc.method_handlers_generic_handler(NOOP_SERVICE, {"Answer": noop})],
        )
        worker.serve([warm(map_snapshot(snapshot, int(memory)) if memory else open_snapshot(snapshot))])
        ModelFollower(worker.live, settings.data_dir / FOLDER).look()
        print(worker.start(0), flush=True)  # noqa: T201 - whoever started it reads this
        sys.stdin.read()
        worker.stop()
        stores.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
