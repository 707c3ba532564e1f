"""Following a log while disk, store or clock fail: the learner waits, says so once, and loses and doubles nothing."""

import random
import resource
import shutil
import tracemalloc
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from offers.directories import write_array
from offers.errors import StoreUnavailableError
from offers.learning import following, settling
from offers.learning.following import follow, once_there
from offers.learning.learner import Learner, current_model
from offers.learning.log_reading import DecisionEntry, VisitEntry
from offers.state.sqlite.backup import back_up
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.state.stores import LoggedDecision
from offers.v1.event_pb2 import EVENT_KIND_VIEW
from tests.learning.made_log import NOON, OFFERS, decision, event, happenings, write

BITS = 12
ROWS = 300
DAY_S = 86_400
Logged = Sequence[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait little before the next attempt."""
    monkeypatch.setattr(following, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(following, "LONGEST_WAIT_S", 0.01)


class FailingLog:
    """A log of which every other call fails, by chance, while `fails` says so."""

    def __init__(self, log: SqliteEvents, fails: Callable[[], bool]) -> None:
        self._log, self._fails, self._choose = log, fails, random.Random(1)

    def read(self, after: int, limit: int) -> Sequence[tuple[int, VisitEntry]]:
        """See EventLog."""
        self._fail()
        return self._log.read(after, limit)

    def decisions_after(self, number: int, limit: int) -> Sequence[tuple[int, DecisionEntry]]:
        """See EventLog."""
        self._fail()
        return self._log.decisions_after(number, limit)

    def decisions(self, decision_ids: Sequence[str]) -> Sequence[DecisionEntry]:
        """See EventLog."""
        self._fail()
        return self._log.decisions(decision_ids)

    def end(self) -> tuple[str, int, int]:
        """See EventLog."""
        self._fail()
        return self._log.end()

    def _fail(self) -> None:
        if self._fails() and self._choose.random() < 0.5:
            message = "the log does not answer"
            raise StoreUnavailableError(message)


def until(condition: Callable[[], object], most: int = 5_000) -> Callable[[], bool]:
    """Return a `stop` that becomes true with a condition. Fails if that takes too many looks."""
    looks = iter(range(most))

    def stop() -> bool:
        assert next(looks, None) is not None, "it goes on for too long"
        return bool(condition())

    return stop


def afterwards() -> float:
    """Return the time when all of a log is settled."""
    return NOON + DAY_S


def position(folder: Path) -> int:
    """Return the last decision that the current model has learned."""
    model = current_model(folder)
    return int(model.meta["position"]["decision"]) if model else 0


def learned(log: SqliteEvents, folder: Path) -> str:
    """Return the version of the model of a learner that nothing disturbs."""
    one = Learner(log, folder, OFFERS, bits=BITS)
    one.catch_up(lambda: False, lambda _: None, afterwards)
    one.close()
    model = current_model(folder)
    assert model is not None
    return model.version


def named(logged: Logged, name: str) -> list[MutableMapping[str, Any]]:
    """Return the lines about an event."""
    return [line for line in logged if line["event"] == name]


@contextmanager
def full_disk(size: int = 64) -> Iterator[Callable[[], None]]:
    """Let no file grow beyond a few bytes, as on a full disk, until the function given is called."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def free() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield free
    finally:
        free()


def test_a_full_disk_is_waited_for(
    log: SqliteEvents, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for models and checkpoints the learner learns on, says so once for each, and writes both later."""
    for name in ("PUBLISH_S", "CHECKPOINT_S"):
        monkeypatch.setattr(following, name, 0.0)
    write(log, *happenings(ROWS))
    expected = learned(log, tmp_path / "undisturbed")
    one = Learner(log, folder, OFFERS, bits=BITS)
    with capture_logs() as logged, full_disk() as free:
        looks = 0

        def both_there() -> bool:
            nonlocal looks
            looks += 1
            if looks == 20:
                assert current_model(folder) is None
                free()
            return looks > 20 and position(folder) == ROWS and any((folder / "checkpoint").glob("[0-9a-f]*"))

        follow(one, until(both_there), afterwards, idle_s=0.001)
        one.catch_up(lambda: False, lambda _: None, afterwards)
    one.close()
    waits = named(logged, "learner_waits")
    assert ["error"] * 2 == [line["log_level"] for line in waits]
    assert {"the folder of models", "the folder of checkpoints"} == {line["waits_for"] for line in waits}
    assert all("File too large" in line["reason"] for line in waits)
    assert 2 == len(named(logged, "learner_goes_on"))
    model = current_model(folder)
    assert model is not None
    assert model.version == expected


def test_a_disk_that_fills_up_within_an_array_is_named(tmp_path: Path) -> None:
    """NumPy tells no reason when some of an array could be written."""
    with full_disk(4096), pytest.raises(OSError, match=r"No space left on device: '.*/array\.npy'"):
        write_array(tmp_path / "array.npy", np.zeros(10_000))


def test_a_lost_store_is_waited_for(
    log: SqliteEvents, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While most calls of the log fail, also amid an event, nothing is lost or learned twice: the model is the same as
    without. It is said once that the log does not answer, and once that it does.
    """  # noqa: D205
    monkeypatch.setattr(settling, "MOST_HELD", 250)  # so that late outcomes are looked up in the log
    decisions, events = happenings(ROWS)
    write(log, decisions, events)
    expected = learned(log, tmp_path / "undisturbed")
    failing = [True]
    failing_log = FailingLog(log, lambda: failing[0])
    with capture_logs() as logged:
        stop = until(lambda: False)
        one = once_there(lambda: Learner(failing_log, folder, OFFERS, bits=BITS), "its log", stop)
        assert one is not None
        follow(one, until(lambda: one.training.position.event == len(events)), afterwards, idle_s=0.001)
        failing[0] = False
        one.catch_up(lambda: False, lambda _: None, afterwards)
    one.close()
    model = current_model(folder)
    assert model is not None
    assert model.version == expected
    waits = named(logged, "learner_waits")
    assert waits
    assert {"error"} == {line["log_level"] for line in waits}
    assert len(named(logged, "learner_goes_on")) in {len(waits), len(waits) - 1}
    assert "the log does not answer" in waits[0]["reason"]


def test_what_cannot_be_read_is_passed_over(log: SqliteEvents, folder: Path, tmp_path: Path) -> None:
    """Entries that are no messages are counted and named in the log; the model is the same as without them."""
    decisions, events = happenings(ROWS)
    broken = event("broken", "click", f"{1:032x}", 1, NOON + 30)._replace(body=b"\xff\xff")
    view = broken._replace(event_id="view", kind=EVENT_KIND_VIEW)
    no_decision = LoggedDecision("broken", "u:ada", NOON + 30, b"\xff\xff")
    write(log, decisions, events)
    learned(log, tmp_path / "undisturbed")
    expected = current_model(tmp_path / "undisturbed")
    other = SqliteEvents(type(log._database)(tmp_path / "other.db"))  # noqa: SLF001 - one of the same kind
    write(other, [*decisions[:31], no_decision, *decisions[31:]], sorted([*events, broken, view], key=_received))
    with capture_logs() as logged:
        learned(other, folder)
    other.close()
    model = current_model(folder)
    assert model is not None
    assert expected is not None
    assert 3 == model.meta["figures"]["unreadable"]
    assert 3 == sum(line["entries"] for line in named(logged, "log_unreadable"))
    for name, array in expected.arrays.items():
        assert array.tobytes() == model.arrays[name].tobytes()


def _received(one: Any) -> int:  # noqa: ANN401 - a LoggedEvent
    return int(one.received)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_clocks_that_jump_stop_nothing(log: SqliteEvents, folder: Path, jump_s: int) -> None:
    """A clock that jumps a day and back: what is logged before, meanwhile and afterwards is learned within the time
    that it always takes, and once; also by a learner that begins anew in between.
    """  # noqa: D205
    one = Learner(log, folder, OFFERS, bits=BITS)
    clock = NOON
    for number, jump in enumerate((0, jump_s, -jump_s)):
        clock += jump + 10
        names = [f"{number}{index:031x}" for index in range(10)]
        log.record([decision(name, clock) for name in names])
        log.append([event(f"i{name}", "impression", name, 1, clock + 1) for name in names])
        log.append([event(f"c{name}", "click", name, 1, clock + 2) for name in names[:5]])
        for _ in range(5):
            clock += 100
            while one.step(clock):
                pass
        assert 10 * (number + 1) == one.training.recent["click"].examples
        assert 5 * (number + 1) == one.training.recent["click"].rewards
        assert 10 * (number + 1) == one.training.recent["redemption"].examples
        one.checkpoint()
        one.close()
        one = Learner(log, folder, OFFERS, bits=BITS)
    one.close()


def test_what_a_restart_cannot_get_is_waited_for(log: SqliteEvents, folder: Path) -> None:
    """A learner that fails to open leaves its folder to the next attempt."""
    calls = []

    def opened() -> Learner:
        calls.append(1)
        return Learner(FailingLog(log, lambda: len(calls) < 3), folder, OFFERS, bits=BITS)

    one = Learner(log, folder, OFFERS, bits=BITS)
    write(log, *happenings(50))
    one.catch_up(lambda: False, lambda _: None, afterwards)
    one.close()
    with capture_logs() as logged:
        again = once_there(opened, "its log", until(lambda: False))
    assert again is not None
    assert 50 == again.training.position.decision
    again.close()
    assert 1 == len(named(logged, "learner_waits"))


def test_decisions_that_wait_are_small(log: SqliteEvents, folder: Path) -> None:
    """A decision that waits for its outcomes takes about 1 kB: a learner holds 100,000 of them."""
    write(log, *happenings(4 * ROWS))
    one = Learner(log, folder, OFFERS, bits=BITS)
    tracemalloc.start()
    while one.step(float("inf")):
        pass
    held = one.training.collector.held
    count, before = len(held), tracemalloc.get_traced_memory()[0]
    held.clear()
    for queue in one.training.collector.due:
        queue.clear()
    freed = before - tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    one.close()
    assert 4 * ROWS == count
    assert 300 * count < freed < 1_500 * count


@pytest.mark.parametrize("rows", [100, ROWS])
def test_a_replaced_log_is_learned_from_its_beginning(
    log: SqliteEvents, folder: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """A backup with fewer entries takes the place of the log, or another log with more, while a learner follows it.

    The same model comes of it as if the learner had known no other, and none is published before. So it is after a
    restart.
    """
    monkeypatch.setattr(following, "PUBLISH_S", 0.0)
    base, (decisions, events) = folder.parent, happenings(ROWS)
    write(log, decisions[:100], events[:100])
    if rows < ROWS:
        back_up(base / "state.db", base / "new.db")
    write(log, decisions[100:200], events[100:200])
    learned(log, folder)
    shutil.copytree(folder, base / "stopped")
    one = Learner(log, folder, OFFERS, bits=BITS)
    versions = {getattr(current_model(folder), "version", "")}
    with capture_logs() as logged, closing(one), closing(SqliteEvents(Database(base / "new.db"))) as new:
        if rows == ROWS:
            write(new, decisions, events)
        expected = learned(new, base / "undisturbed")
        monkeypatch.setattr(log, "_database", new._database)  # noqa: SLF001 - as a database that opens another file

        def is_published() -> bool:
            versions.add(getattr(current_model(folder), "version", ""))
            return expected in versions

        follow(one, until(is_published), afterwards, idle_s=0.001)
        assert expected == learned(new, base / "stopped")
        monkeypatch.undo()
    assert 2 == len(versions)
    assert 2 == len(named(logged, "log_replaced"))


def test_a_log_that_has_lost_its_last_rows_is_the_same(log: SqliteEvents, folder: Path) -> None:
    """Erasures take the last entries of a log: nothing is learned again."""
    write(log, *happenings(50))
    with capture_logs() as logged:
        learned(log, folder)
        log.erase([one.person for _, one in log.decisions_after(0, 50)])
        learned(log, folder)
    assert not named(logged, "log_replaced")
