"""Settings of the stores: where they are, and how long data is kept."""

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from offers import app as root
from offers.cli import app
from offers.errors import SettingsError
from offers.settings import RETENTION_DAYS, Settings, read_settings
from offers.state.ledger import Demand, Redemption
from offers.state.opening import open_stores
from offers.state.stores import LoggedEvent
from offers.state.sweeping import Swept, sweep
from offers.v1.event_pb2 import EventKind

DAY_S = 86_400
KINDS = {name.removeprefix("EVENT_KIND_").lower(): kind for name, kind in EventKind.items() if kind}


def test_every_kind_of_event_is_kept_for_a_stated_time() -> None:
    """Each kind of event, decisions, persons and tombstones have a number of days, and nothing else has."""
    assert {*KINDS, "decision", "person", "tombstone"} == RETENTION_DAYS.keys()


def test_unset_retention_has_its_default() -> None:
    """Setting the days of one kind leaves the defaults of the others."""
    assert {**RETENTION_DAYS, "view": 7} == read_settings(retention_days={"view": 7}).retention_days


@pytest.mark.parametrize(
    ("days", "message"),
    [({"vew": 7}, "unknown: vew"), ({"view": 0}, "view: must be 1 to 3650"), ({"view": 3651}, "view: must be")],
)
def test_days_that_cannot_be_used_are_refused(days: dict[str, int], message: str) -> None:
    """An unknown kind, and days out of range, are refused by name."""
    with pytest.raises(SettingsError, match=message):
        read_settings(retention_days=days)


def test_stores_can_be_set_by_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """`offers serve` passes on its flags about stores, consent and retention."""
    served: list[Settings] = []

    def serve(settings: Settings) -> int:
        served.append(settings)
        return 0

    monkeypatch.setattr(root, "serve", serve)
    flags = "--state-url redis://r/1 --events-url e.db --store-timeout-ms 70 --geohash-length 4"
    repeated = "--retention-days view=7 --retention-days order=9 --default-consent profiling --default-consent learning"
    result = CliRunner().invoke(app, ["serve", *flags.split(), *repeated.split()])

    assert 0 == result.exit_code
    (settings,) = served
    assert ("redis://r/1", "e.db", 70, 4) == (
        settings.state_url, settings.events_url, settings.store_timeout_ms, settings.geohash_length
    )  # fmt: skip
    assert {**RETENTION_DAYS, "view": 7, "order": 9} == settings.retention_days
    assert ("profiling", "learning") == settings.default_consent


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_sweep_removes_what_is_older_than_its_kind_may_be(tmp_path: Path, name: str) -> None:
    """Of a kind kept for five days, only events reported in the last five days remain."""
    now = int(time.time())
    settings = Settings(data_dir=tmp_path, retention_days={name: 5})
    stores = open_stores(settings)
    stores.events.append(
        [
            LoggedEvent(f"{kind} {days}", "u:1", now, now - days * DAY_S, kind, "", "", "", learn=True, body=b"")
            for kind in KINDS.values()
            for days in (4, 6)
        ]
    )

    assert Swept(persons=0, events=1, reservations=0) == sweep(stores, settings, now)
    left = {position.event.event_id for position in stores.events.read(0, 100)}
    assert {f"{kind} {days}" for kind in KINDS.values() for days in (4, 6)} - {f"{KINDS[name]} 6"} == left
    stores.close()


def test_a_sweep_gives_back_what_is_held_too_long(tmp_path: Path) -> None:
    """Expired reservations are released and counted."""
    settings = Settings(data_dir=tmp_path)
    stores = open_stores(settings)
    for redemption, until in (("r1", 200), ("r2", 201)):
        demand = Demand("b", 0, 1, 0, 2, -1, -1, -1)
        stores.ledger.reserve(Redemption(redemption, demands=[demand]), 100, until)

    assert Swept(persons=0, events=0, reservations=1) == sweep(stores, settings, 200)
    assert [1] == [usage.units for usage in stores.ledger.usage()]
    stores.close()
