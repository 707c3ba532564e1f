"""Background tasks continue after an internal fault, and log it without personal data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from offers.server.events.intake import Intake
from offers.server.events.live_offers import LiveOffers
from offers.server.live import Live
from offers.server.people import PersonReader
from offers.server.process import upkeep
from offers.server.recorder import Recorder
from offers.server.triggers import Triggers
from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from offers.state.outbox import open_outbox
from tests.server.running import wait_for

PERSONAL = "alice lives at 12 rue de la Paix"


class _Faulty:
    """A store that fails once with an unexpected exception."""

    def __init__(self, store: object, method: str) -> None:
        self._store, self._method = store, method

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        if name == self._method:
            self._method = ""
            raise ValueError(PERSONAL)
        return getattr(self._store, name)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """Empty stores."""
    opened = open_stores(Settings(data_dir=tmp_path))
    yield opened
    opened.close()


def test_upkeep_goes_on_after_a_fault(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed chore is logged, and tried again."""
    monkeypatch.setattr(upkeep, "RECOVER_S", 0.0)
    faulty: Any = _Faulty(stores.events, "unapplied")
    live = Live()
    consent = frozenset[Any]()
    intake = Intake(
        Stores(stores.state, faulty, stores.ledger), LiveOffers(live), clock=lambda: 0.0, default_consent=consent,
        geohash_length=6,
    )  # fmt: skip
    settings = Settings(data_dir=tmp_path)
    people, outbox = PersonReader(stores.state, consent), open_outbox(settings)
    triggers = Triggers(live, stores.state, outbox, people, stores.events, lambda: 0.0, consent)
    working = upkeep.Upkeep(live, stores, intake, triggers, settings, lambda: 0.0)
    grace = working._grace_s  # noqa: SLF001 - set once a recovery has ended
    with capture_logs() as logs:
        working.start()
        wait_for(lambda: working._grace_s != grace, "events are recovered nevertheless")  # noqa: SLF001
        working.stop()
    (told,) = [one for one in logs if one["event"] == "upkeep_failed"]
    assert ("recover", "ValueError") == (told["chore"], told["error"])
    assert PERSONAL not in str(logs)


def test_the_recorder_goes_on_after_a_fault(stores: Stores) -> None:
    """Decisions after a failed write are handled as before."""
    faulty: Any = _Faulty(stores.events, "record")
    with capture_logs() as logs:
        recorder = Recorder(faulty, stores.state)
        broken: Any = object()
        recorder.keep(broken)
        wait_for(lambda: len(logs) == 1, "the first fault is told of")
        recorder.keep(broken)
        wait_for(lambda: len(logs) == 2, "and so is the second")
        recorder.close()
    assert [("decisions_lost", "ValueError"), ("decisions_lost", "TypeError")] == [
        (one["event"], one["error"]) for one in logs
    ]
    assert PERSONAL not in str(logs)
