"""Connections of threads, which come and go with them."""

import threading
from pathlib import Path

from offers.state.per_thread import PerThread
from offers.state.sqlite.file import Database


class Connection:
    """Something to close."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        """Close it."""
        self.is_closed = True


def in_thread(work: object) -> None:
    """Run work in a thread of its own, to its end."""
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def open_files() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_connection_is_closed_when_its_thread_ends() -> None:
    """Each thread has its own; that of a thread that has ended is closed, others stay open until `close`."""
    held, ours, theirs = PerThread[Connection](Connection.close), Connection(), Connection()
    held.keep(ours)
    found: list[object] = []

    def work() -> None:
        found.append(held.get())
        held.keep(theirs)
        found.append(held.get())

    in_thread(work)
    assert [None, theirs] == found
    assert (False, True) == (ours.is_closed, theirs.is_closed)
    assert ours is held.get()
    held.close()
    assert ours.is_closed
    assert held.get() is None


def test_a_replaced_connection_is_closed() -> None:
    """A thread that keeps another connection has no use for the first."""
    held, first, second = PerThread[Connection](Connection.close), Connection(), Connection()
    held.keep(first)
    held.keep(second)
    assert (True, False) == (first.is_closed, second.is_closed)


def test_threads_that_end_leave_no_open_files(tmp_path: Path) -> None:
    """A hundred threads read from a database one after the other, and as many files are open as before."""
    database = Database(tmp_path / "state.db")
    in_thread(lambda: database.connection().execute("SELECT 1").fetchall())
    before = open_files()
    for _ in range(100):
        in_thread(lambda: database.connection().execute("SELECT 1").fetchall())
    assert open_files() <= before
    database.close()
