"""What SQLite has acknowledged is there after a power cut, on a disk that keeps nothing but what was flushed."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from tests.needs import lacking
from tests.paths import ROOT, environment

ROUNDS, LARGE = 3, 60_000


class Disk:
    """Folders of files: as processes see them, and as they are on the disk."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.seen, self.kept, self.failing = folder / "seen", folder / "kept", folder / "failing"
        self._library = library
        self._writers = ExitStack()
        self.seen.mkdir()
        self.kept.mkdir()

    def writer(self, body_size: int = 10) -> "Writer":
        """Start a process that writes to the database."""
        lossy = {"FROM": self.seen, "TO": self.kept, "FAIL": self.failing}
        variables = {**environment(), "LD_PRELOAD": str(self._library)}
        variables |= {f"LOSSY_{name}": str(path) for name, path in lossy.items()}
        command = [sys.executable, "-P", "-m", "tests.state.lossy_writer", str(self.seen / "state.db"), str(body_size)]
        process = subprocess.Popen(
            command, env=variables, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._writers.enter_context(process)
        self._writers.callback(process.kill)
        return Writer(process)

    def cut_power(self) -> None:
        """End all processes; what is left is what was flushed."""
        self._writers.close()
        shutil.rmtree(self.seen)
        shutil.copytree(self.kept, self.seen)

    def events(self) -> set[str]:
        """The ids of the events that are on the disk. A copy is opened, as opening a database changes its files."""
        with TemporaryDirectory() as folder:
            shutil.copytree(self.kept, folder, dirs_exist_ok=True)
            database = Database(Path(folder, "state.db"))
            found = {one.event.event_id for one in SqliteEvents(database).read(0, 100_000)}
            database.close()
            return found


class Writer:
    """A process that writes as it is told."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin
        assert process.stdout
        self._to, self._from = process.stdin, process.stdout
        assert self._from.readline() == "open\n"

    def tell(self, *steps: str) -> None:
        """Have it do some steps."""
        self._to.write("".join(f"{step}\n" for step in steps))
        self._to.flush()

    def done(self) -> str:
        """Wait for a step, and return it; "" where it failed."""
        outcome, step = self._from.readline().split()
        return step if outcome == "done" else ""

    def do(self, step: str) -> bool:
        """Do a step; return whether it was acknowledged."""
        self.tell(step)
        return self.done() == step


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a disk lossy."""
    compiler = shutil.which("cc")
    if compiler is None:
        lacking("apt-get install gcc libc6-dev")
    path = tmp_path_factory.mktemp("lossy") / "lossy_disk.so"
    source = Path(__file__).with_name("lossy_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl"], check=True)
    return path


@pytest.fixture
def disk(tmp_path: Path, library: Path) -> Iterator[Disk]:
    """A disk that keeps nothing but what was flushed."""
    made = Disk(tmp_path, library)
    yield made
    made.cut_power()


def test_acknowledged_events_are_there_after_every_power_cut(disk: Disk) -> None:
    """Power is cut at random while events, decisions and erasures are written and the log is checkpointed."""
    choose, acknowledged = Random(5), set[str]()
    for number in range(ROUNDS):
        writer = disk.writer(LARGE)  # some hundred of them fill the log
        steps = [f"e{number}-{one}" for one in range(500)]
        for one in range(0, 500, 7):
            steps[one] = f"+{steps[one]}"
        for one in range(5, 500, 50):
            steps[one] = f"-{steps[one - 2]}"
        writer.tell(*steps)
        for _ in range(choose.randint(50, 480)):
            done = writer.done()
            assert done
            acknowledged = acknowledged - {done[1:]} if done[0] == "-" else acknowledged | ({done} - {f"+{done[1:]}"})
        disk.cut_power()
        found = disk.events()
        assert acknowledged <= found
        acknowledged = found


def test_a_lost_flush_is_made_good_before_anything_is_acknowledged(disk: Disk) -> None:
    """After a flush that failed, an event that is sent again, and those behind it, survive a power cut."""
    writer = disk.writer()
    assert writer.do("e1")
    disk.failing.touch()
    assert not writer.do("e2")
    assert all(map(writer.do, ("e2", "e3")))
    disk.cut_power()
    assert disk.events() == {"e1", "e2", "e3"}


def test_a_process_that_came_after_a_lost_flush_makes_it_good(disk: Disk) -> None:
    """Events of a process that did not see the flush fail survive a power cut, too."""
    first = disk.writer()
    assert first.do("e1")
    disk.failing.touch()
    assert not first.do("e2")
    assert disk.writer().do("e3")
    disk.cut_power()
    assert disk.events() >= {"e1", "e3"}
