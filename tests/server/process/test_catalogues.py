"""Compilers that hang, stop, are killed or say much, and the socket that tells children what is served."""

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from offers.catalogue.publish import publish
from offers.catalogue.published import stamp_of_files
from offers.catalogue.snapshot import open_snapshot
from offers.demo import catalogue
from offers.errors import OffersError
from offers.files import new_memory
from offers.server.process import stamps
from offers.server.process.catalogues import LEAST_COMPILERS, LONGEST_RETRY_S, RETRY_S, Catalogues
from offers.server.process.served import ServedReader, ServedSender, ServedSnapshot
from offers.settings import Settings
from offers.telemetry.metrics import Metrics
from tests.server.running import command_of, wait_for

PUBLISHED = orjson.dumps({"path": "/made", "version": "1", "catalog_id": "one", "compiled": True, "files": ""}).decode()

PUBLISHED_AS_NAMED = "echo '" + PUBLISHED.replace('"one"', "\"'$0'\"") + "'"


class Compilers:
    """Catalogues of documents whose compiler is a command of the shell, which finds the document in $0."""

    def __init__(self, folder: Path, seconds: float = 300, names: Sequence[str] = ("one",)) -> None:
        self.command = ""
        self.processes: list[subprocess.Popen[bytes]] = []
        self.metrics = Metrics()
        documents = [folder / f"{name}.yaml" for name in names]
        for document in documents:
            document.write_text("")
        settings = Settings(compile_timeout_s=seconds)
        self.catalogues = Catalogues(settings, documents, self._start, self.metrics)

    def _start(self, source: Path, _memory: int | None) -> "subprocess.Popen[bytes]":
        if not self.command:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        command = ["sh", "-c", self.command, source.stem]
        self.processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0))
        return self.processes[-1]

    def compile(self, command: str) -> list[dict[str, object]]:
        """Compile by a command, and return the lines of the log about a refusal."""
        self.command = command
        with capture_logs() as logs:
            self.catalogues.begin()
            self.collect()
        return [line for line in logs if line["event"] == "catalogue_refused"]  # type: ignore[misc]

    def look(self) -> None:
        """Look for changes, and have them compiled."""
        self.catalogues.look()
        looks = self.catalogues._stamps._looks  # noqa: SLF001
        assert looks is not None
        looks.join()
        self.catalogues.collect()

    def collect(self) -> None:
        """Wait for the end of compilations."""

        def has_ended() -> bool:
            self.catalogues.collect()
            return not self.catalogues.is_compiling

        wait_for(has_ended, "compilers have ended")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Compilers]]:
    """Make catalogues, whose compilers are gone afterwards."""
    made: list[Compilers] = []

    def make_one(seconds: float = 300, names: Sequence[str] = ("one",)) -> Compilers:
        made.append(Compilers(tmp_path, seconds, names))
        return made[-1]

    yield make_one
    for one in made:
        one.catalogues.end()


@pytest.mark.parametrize("fault", ["sleep 1000", "kill -STOP $$", "sleep 1000 & sleep 1000"])
def test_a_compiler_that_takes_too_long_is_killed(make: Callable[..., Compilers], fault: str) -> None:
    """It is killed with its children after the limit; that is logged and counted, and the last good state stays."""
    made = make(0.3)
    assert [] == made.compile(f"echo '{PUBLISHED}'")
    (line,) = made.compile(fault)
    assert "compiling took more than 0.3 s" in str(line["problems"])
    assert ("/made", 1) == (line["still_serving"], line["refused"])
    assert [Path("/made")] == [one.path for one in made.catalogues.served]
    assert not command_of(made.processes[-1].pid)


def test_children_of_a_killed_compiler_hold_nothing_up(make: Callable[..., Compilers]) -> None:
    """Its children have its pipe as well: they are killed with it, so that reading the pipe ends."""
    (line,) = make().compile("sleep 1000 & kill -KILL $$")
    assert "ended by SIGKILL" in str(line["problems"])


def test_a_compiler_that_crashes_is_not_taken_for_a_refused_document(make: Callable[..., Compilers]) -> None:
    """Only a compiler that says what is wrong with the document has refused it; all others are tried again."""
    made = make()
    (line,) = made.compile("exit 1")
    assert RETRY_S == line["retry_s"]
    waits = [made.compile("exit 1")[0]["retry_s"] for _ in range(8)]
    assert [20.0, 40.0, 80.0, 160.0, 320.0, *[LONGEST_RETRY_S] * 3] == waits
    (line,) = made.compile("""echo '{"problems": ["bad"]}'; exit 1""")
    assert line["retry_s"] is None
    assert [] == made.compile(f"echo '{PUBLISHED}'")
    assert RETRY_S == made.compile("exit 2")[0]["retry_s"]


def test_a_compiler_may_say_more_than_a_pipe_holds(make: Callable[..., Compilers]) -> None:
    """Its output is read while it runs."""
    (line,) = make().compile("""printf '{"problems": ["%0500000d"]}' 0; exit 1""")
    assert len(str(line["problems"])) > 500_000


def test_a_snapshot_that_a_worker_refused_is_made_anew(make: Callable[..., Compilers]) -> None:
    """The same snapshot is told again only if a worker could not use it."""
    made = make()
    made.compile(f"echo '{PUBLISHED}'")
    made.compile(f"echo '{PUBLISHED}'")
    assert 1 == made.catalogues.changes
    made.catalogues.renew()
    made.collect()
    assert 2 == made.catalogues.changes


def test_nothing_is_served_until_every_document_has_a_snapshot(make: Callable[..., Compilers]) -> None:
    """Workers wait for the slowest document at the start: else they would say that they lack its catalogue."""
    made = make(names=("one", "two"))
    told = PUBLISHED.replace('"one"', "\"'$0'\"")
    made.compile(f"[ $0 = two ] && exit 2; echo '{told}'")
    assert 0 == made.catalogues.changes
    with pytest.raises(OffersError, match=r"cannot serve .*two\.yaml: the compiler ended with status 2"):
        made.catalogues.require_all()
    made.compile(f"echo '{told}'")
    assert 1 == made.catalogues.changes
    made.catalogues.require_all()


def test_files_that_change_are_compiled_again_once(make: Callable[..., Compilers], tmp_path: Path) -> None:
    """A change of a snapshot's files is one attempt, whatever comes of it."""
    made, snapshot = make(), tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "gate.npy").write_bytes(b"good")
    told = {**orjson.loads(PUBLISHED), "path": str(snapshot), "files": stamp_of_files(snapshot)}
    made.compile(f"echo '{orjson.dumps(told).decode()}'")
    made.look()
    assert 1 == len(made.processes)
    (snapshot / "gate.npy").write_bytes(b"short"[:1])
    made.command = """echo '{"problems": ["bad"]}'; exit 1"""
    for _ in range(3):
        made.look()
        made.collect()
    assert 2 == len(made.processes)


def test_few_documents_are_compiled_at_once(make: Callable[..., Compilers], tmp_path: Path) -> None:
    """Each compiler takes memory and a core: with many documents, some wait for others."""
    made = make(names=[f"c{number}" for number in range(9)])
    made.command = f"while ! [ -e {tmp_path}/go ]; do sleep 0.01; done; " + PUBLISHED_AS_NAMED
    made.catalogues.begin()
    for _ in range(3):
        made.catalogues.collect()
    assert LEAST_COMPILERS == len(made.processes)
    (tmp_path / "go").touch()
    made.collect()
    made.catalogues.require_all()
    assert (9, 1) == (len(made.processes), made.catalogues.changes)


def test_a_compiler_that_cannot_be_started_is_tried_again(make: Callable[..., Compilers]) -> None:
    """At a limit on processes, the last good state stays, and no memory is left over."""
    made = make()
    made.compile(f"echo '{PUBLISHED}'")
    before = len(list(Path("/proc/self/fd").iterdir()))
    (line,) = made.compile("")
    assert "the compiler cannot be started" in str(line["problems"])
    assert ("/made", RETRY_S) == (line["still_serving"], line["retry_s"])
    assert before == len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_system_that_does_not_answer_holds_nothing_up(
    make: Callable[..., Compilers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor goes on and says so, and notices edits once the mount answers."""
    made, answers, asked = make(), threading.Event(), list[Path]()

    def stand_still(path: Path) -> object:
        asked.append(path)
        answers.wait(60)
        return path

    made.compile(f"echo '{PUBLISHED}'")
    monkeypatch.setattr(stamps, "stamp", stand_still)
    monkeypatch.setattr(stamps, "SILENT_S", 0.0)
    with capture_logs() as logs:
        for _ in range(3):
            made.catalogues.look()
            made.catalogues.collect()
    assert {"documents_do_not_answer"} == {line["event"] for line in logs}
    assert 1 == len(made.processes)
    answers.set()
    for _ in range(3):
        made.look()
    assert 2 == len(made.processes)


def test_children_are_told_the_snapshots_with_their_memory(tmp_path: Path) -> None:
    """A child has the last message; its memory is open until the next, and what is mapped stays."""
    published = publish(catalogue(), tmp_path)
    memory = new_memory()
    assert memory is not None
    expected = open_snapshot(published.path, memory)
    sender = ServedSender()
    reader = ServedReader(os.dup(sender.childs.fileno()))
    assert not reader.look()
    assert sender.send([ServedSnapshot(Path("/other"), None)])
    assert sender.send([ServedSnapshot(published.path, memory), ServedSnapshot(Path("/other"), None)])
    os.close(memory)
    assert reader.look()
    assert [published.path, Path("/other")] == [one.path for one in reader.snapshots]
    for file in published.path.iterdir():
        os.truncate(file, 0)
    found = reader.snapshots[0].open()
    assert sender.send([])
    assert reader.look()
    assert found.version == expected.version
    for name, array in expected.columns.items():
        assert array.tobytes() == found.columns[name].tobytes()
        assert not array.ctypes.data % 64
    reader.close()
    sender.close()


def test_a_child_that_reads_nothing_holds_nothing_up() -> None:
    """Where no more messages fit, sending says so instead of waiting."""
    sender, begin = ServedSender(), time.monotonic()
    sent = [sender.send([ServedSnapshot(Path("/one"), None)]) for _ in range(10_000)]
    assert sent[0]
    assert not sent[-1]
    assert time.monotonic() - begin < 60
    reader = ServedReader(os.dup(sender.childs.fileno()))
    assert reader.look()
    assert sender.send([])
    reader.close()
    sender.close()
