"""Starts the real server, several processes of it, and looks at it from outside."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import orjson
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVE = "import sys; from offers.app import serve; from offers.settings import Settings; sys.exit(serve(Settings()))"
LONG_S = 300.0
"""For a process to begin or to end, on a machine that has to compile its loops first, and has more to do."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:  # noqa: ANN401 - whatever is true
    """Wait until something is true and return it; fails with `what` if it takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    message = f"{what}: not within {seconds} s"
    raise AssertionError(message)


class Server:
    """A server that was started, and its log."""

    def __init__(self, folder: Path, **settings: Any) -> None:  # noqa: ANN401 - the fields of Settings
        given = {
            "port": 0,
            "workers": 2,
            "drain_s": 0.2,
            "grace_s": 5.0,
            "data_dir": str(folder / "data"),
            "learner": False,
            "sqlite_flush": False,
            **settings,
        }
        environment = {f"OFFERS_{name.upper()}": _text(value) for name, value in given.items()}
        self._log = folder / "stderr.log"
        with self._log.open("wb") as log:
            command = [sys.executable, "-c", SERVE]
            self.process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=log)

    @property
    def text(self) -> str:
        """All that was written to stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log about an event."""
        lines = [orjson.loads(line) for line in self.text.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == event]

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.lines('server_starting')[0]['port']}"

    def workers(self) -> set[int]:
        """The process ids of its workers."""
        return self._children("worker")

    def learners(self) -> set[int]:
        """The process ids of its learner: one, or none."""
        return self._children("learner")

    def compilers(self) -> set[int]:
        """The process ids of those that compile its documents."""
        return self._children("publish")

    def _children(self, role: str) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = [int(pid) for pid in (children.read_text().split() if children.exists() else [])]
        return {pid for pid in pids if f"\0{role}\0".encode() in command_of(pid)}

    def health(self, service: str = "") -> int:
        """What a new connection's health check says; 0 where nothing answers."""
        with grpc.insecure_channel(self.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                request = health_pb2.HealthCheckRequest(service=service)
                return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=2).status)
            except grpc.RpcError:
                return 0

    def wait_until_ready(self) -> None:
        """Wait until all workers serve."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(self.text)
            return len(self.lines("worker_serving")) >= len(self.workers()) > 0

        wait_for(ready, "the server is ready", LONG_S)

    def stop(self) -> int:
        """End it as an operator would, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG_S)


def _text(value: Any) -> str:  # noqa: ANN401 - of a setting
    return orjson.dumps([str(item) for item in value]).decode() if isinstance(value, tuple) else str(value)


def command_of(pid: int) -> bytes:
    """The command line of a process; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def environment_of(pid: int) -> bytes:
    """The environment a process was started with; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@contextmanager
def started(folder: Path, **settings: Any) -> Iterator[Server]:  # noqa: ANN401 - the fields of Settings
    """A server that is ready, and that is gone afterwards."""
    server = Server(folder, **settings)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            children = server.workers() | server.learners()
            server.process.kill()
            server.process.wait()
            for pid in children:  # in the middle of compiling they would notice late that they are alone
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not any(b"offers.app" in command_of(pid) for pid in children), "its children have ended")
