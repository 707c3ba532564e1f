"""Clocks that jump by a day, both ways, under a server that runs: libfaketime reads the time of day from a file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from offers.model.instants import DAY_S, HOUR_S
from offers.v1.event_pb2 import RedemptionEvent
from offers.v1.event_service_pb2 import EventWarning
from tests.faults.clients import client_of, order, redemption, write_catalog
from tests.needs import lacking
from tests.paths import ROOT
from tests.server.running import started, wait_for

LATER = ROOT / "tests" / "later"
RESERVE, CONFIRM = RedemptionEvent.PHASE_RESERVE, RedemptionEvent.PHASE_CONFIRM


class Clock:
    """The time of day of processes that are started from now on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, days: int) -> None:
        """Let the clock be some days ahead."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{days * DAY_S:+d}\n")
        draft.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that can be moved."""
    program = shutil.which("faketime")
    if program is None:
        lacking("apt-get install faketime")
    command = [program, "-m", "-f", "+0d", "/bin/sh", "-c", 'echo "$LD_PRELOAD"']
    library = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    found = Clock(tmp_path / "time")
    monkeypatch.delenv("FAKETIME", raising=False)
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(tmp_path / "time"))
    monkeypatch.setenv("LD_PRELOAD", library)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(LATER), os.environ.get("PYTHONPATH", "")]))
    for name in ("FAKETIME_NO_CACHE", "NO_FAKE_STAT", "DONT_FAKE_MONOTONIC", "FAKETIME_DONT_FAKE_MONOTONIC"):
        monkeypatch.setenv(name, "1")
    return found


def test_a_clock_that_was_a_day_ahead_swallows_and_resurrects_nothing(tmp_path: Path, clock: Clock) -> None:
    """Whoever was erased while the clock was ahead stays erased, and their later events count at once.

    Decisions are answered, and budgets hold, whichever way the clock has jumped.
    """
    with started(tmp_path, workers=1, catalogs=(write_catalog(tmp_path, 3),)) as server:
        with client_of(server.target) as client:
            client.report(order("first", "ada"), order("bob", "bob"), order("cy", "cy"))
            now = client.time()
            assert not client.report(redemption("r1", "one", RESERVE))[0].status.code

            clock.set(1)
            wait_for(lambda: client.time() > now + DAY_S - HOUR_S, "the clock is ahead")
            assert client.ask("cy").offers
            client.report(order("tomorrow", "cy"))
            client.erase("ada")
            client.erase("bob")
            assert not client.report(redemption("r2", "two", RESERVE), redemption("c2", "two", CONFIRM))[1].status.code

            clock.set(0)
            wait_for(lambda: client.time() < now + DAY_S - HOUR_S, "the clock is back")
            assert client.ask("ada").offers
            late = order("late", "bob")
            late.event_time.seconds = now - HOUR_S
            (result,) = client.report(late)
            assert [EventWarning.CODE_ERASED] == [warning.code for warning in result.warnings]
            assert 0 == client.orders_of("bob")
            wait_for(lambda: client.report(order("again", "ada"))[0] and client.orders_of("ada"), "ada counts again")
            assert 1 == client.orders_of("ada")
            assert 2 == client.orders_of("cy")
            client.report(order("today", "cy"))
            assert 3 == client.orders_of("cy")
            codes = [
                client.report(redemption(f"r{name}", name, RESERVE))[0].status.code
                for name in ("three", "four", "five")
            ]
            assert any(codes)
            assert not codes[0]
        assert 0 == server.stop()
        assert not server.lines("worker_died")
        assert "Traceback" not in server.text
