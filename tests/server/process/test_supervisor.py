"""A supervisor at the limits of its system, workers whose end hangs, and workers that are told of other memory."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.demo import catalogue
from offers.files import new_memory
from offers.server.process import supervisor as supervising
from offers.server.process.served import ServedReader, ServedSender, ServedSnapshot
from offers.server.process.supervisor import HANG_S, NOT_STARTED_S, Supervisor
from offers.server.process.worker import _Follower
from offers.settings import Settings
from offers.testing import Served, serving
from tests.server.running import LONG_S, wait_for

IDLE = ["sh", "-c", "cat > /dev/null; exec sleep 600"]


class Supervised:
    """A supervisor of one worker, which is a command of the shell."""

    def __init__(self, folder: Path) -> None:
        self.command = IDLE
        settings = Settings(data_dir=folder, workers=1, learner=False)
        self._supervisor = Supervisor(settings, [folder], lambda *_: self.command, lambda *_: IDLE, lambda *_: IDLE)
        (self.slot,) = self._supervisor._slots  # noqa: SLF001

    def check(self) -> list[str]:
        """Check the worker, and return the events in the log."""
        with capture_logs() as logs:
            self._supervisor._keep_children([self.slot], 1)  # noqa: SLF001
        return [line["event"] for line in logs]

    def serve(self) -> None:
        """Have it take itself for serving."""
        self._supervisor._catalogues.changes += 1  # noqa: SLF001

    def stand_still(self, seconds: float) -> None:
        """Have it take itself for not having run for some seconds."""
        self._supervisor._kept_at -= seconds  # noqa: SLF001

    def end(self) -> None:
        """Kill the worker."""
        if self.slot.process is not None:
            self.slot.process.kill()
            self.slot.process.wait()
            assert self.slot.process.stdout is not None
            self.slot.process.stdout.close()
        assert self.slot.sender is not None
        self.slot.sender.close()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    """A supervisor that has not begun."""
    made = Supervised(tmp_path)
    yield made
    made.end()


def test_workers_that_were_paused_with_their_supervisor_do_not_hang(supervised: Supervised) -> None:
    """A machine or a container that was paused for long goes on with the workers it had."""
    assert [] == supervised.check()
    supervised.slot.beat = time.monotonic() - HANG_S - 5
    supervised.stand_still(HANG_S + 4)
    assert [] == supervised.check()
    supervised.slot.beat = time.monotonic() - HANG_S - 5
    assert ["worker_hangs", "worker_died"] == supervised.check()


def test_a_worker_that_the_system_does_not_let_start_is_tried_again(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on processes, files or memory ends a start, and never a server that serves."""
    supervised.command = ["/nowhere"]
    with pytest.raises(OSError, match="nowhere"):
        supervised.check()
    supervised.serve()
    assert ["child_not_started"] == supervised.check()
    assert [] == supervised.check()  # not yet
    assert supervised.slot.not_before > time.monotonic() - NOT_STARTED_S
    monkeypatch.setattr(supervising, "NOT_STARTED_S", 0.0)
    supervised.slot.not_before = 0.0
    supervised.command = IDLE
    assert [] == supervised.check()
    assert supervised.slot.process is not None
    assert supervised.slot.process.poll() is None


RUN = """
import sys, time
from pathlib import Path
from offers.server.process import worker
from offers.settings import Settings
from offers.telemetry import logs
logs.configure("error")  # which go to stderr
worker.Worker.drain = lambda self: time.sleep(600)
settings = Settings(data_dir=Path(sys.argv[1]), drain_s=0, grace_s=0, learner=False)
worker.run(settings, 0, 0, int(sys.argv[2]), int(sys.argv[3]))
"""


def test_a_worker_whose_end_hangs_ends_all_the_same(tmp_path: Path) -> None:
    """Also without a supervisor that would kill it: it has set itself an alarm."""
    sender, published = ServedSender(), publish(catalogue(), tmp_path)
    assert sender.send([ServedSnapshot(published.path, None)])
    child = sender.childs.fileno()
    command = [sys.executable, "-c", RUN, str(tmp_path), str(child), str(os.getpid())]
    worker = subprocess.Popen(command, pass_fds=(child,), stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        assert worker.stdout.read(1) == b"."  # its first sign of life
        worker.send_signal(signal.SIGTERM)
        assert -signal.SIGALRM == worker.wait(LONG_S)
    finally:
        worker.kill()
        worker.communicate()
        sender.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The demo catalogue, served by one worker."""
    with serving() as running:
        yield running


def mapped() -> set[str]:
    """The inodes of sealed memory that this process has mapped."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return {line.split()[4] for line in lines if "memfd:offers" in line}


def test_other_memory_with_the_same_snapshot_takes_the_place_of_the_old(served: Served, tmp_path: Path) -> None:
    """Workers that live on share the memory of those that begin, so that it is not there twice for good."""
    published, sender = publish(catalogue(), tmp_path), ServedSender()
    reader = ServedReader(os.dup(sender.childs.fileno()))
    follower, before, found = _Follower(served.worker, reader), mapped(), list[set[str]]()
    for _ in range(2):
        memory = new_memory()
        assert memory is not None
        open_snapshot(published.path, memory)
        assert sender.send([ServedSnapshot(published.path, memory)])
        os.close(memory)
        follower.look()
        wait_for(lambda: len(mapped() - before) == 1, "one copy is mapped")
        found.append(mapped() - before)
    assert found[0] != found[1]
    sender.close()
    reader.close()
