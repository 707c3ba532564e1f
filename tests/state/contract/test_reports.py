"""`offers experiments report` from the logs of every kind of store."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from offers.cli import app
from offers.settings import Settings
from offers.state.opening import Stores
from offers.state.stores import LoggedDecision, LoggedEvent
from offers.v1.event_pb2 import EVENT_KIND_CLICK, EVENT_KIND_ORDER, Click, Event, EventKind, Order
from offers.v1.offer_service_pb2 import Exposure
from offers.v1.state_pb2 import DecisionRecord
from tests.state.contract.test_state import joined

PERSONS, SHOWN = 30, 1_795_000_000
CATALOG = """
catalog_id: corner
time_zone: Europe/Paris
experiments:
  - experiment_id: dessert
    variants: [{variant_id: without}, {variant_id: with}]
offers:
  - {offer_id: lunch, title: Lunch, benefit: {percent_off: 20}, target: {everywhere: true}}
"""


def happened(person: str, kind: EventKind.ValueType, second: int) -> LoggedEvent:
    """Return a click or an order."""
    event = Event(event_id=f"{person}-{kind}-{second}")
    event.event_time.seconds = second
    if kind == EVENT_KIND_CLICK:
        event.click.CopyFrom(Click())
    else:
        event.order.CopyFrom(Order())
    body = event.SerializeToString()
    return LoggedEvent(event.event_id, person, second, second, kind, "corner", "lunch", "", learn=True, body=body)


def test_a_report_is_the_same_out_of_every_store(
    settings: Settings, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report counts persons, decisions, clicks and orders by variant.

    Events before the exposure are left out; a visitor's exposure and a linked user's order are one person's.
    """
    people = [f"u:{number}" for number in range(PERSONS)]
    shown = [(person, ("without", "with")[number % 2]) for number, person in enumerate(people)] + [("a:v", "with")]
    decisions = []
    for number, (person, variant) in enumerate(shown):
        exposure = Exposure(experiment_id="dessert", variant_id=variant)
        record = DecisionRecord(catalog="corner", exposures=[exposure]).SerializeToString()
        decisions.append(LoggedDecision(f"d{number}", person, SHOWN, record))
    stores.events.record(decisions)
    stores.state.link("u:ada", "a:v", joined)
    stores.events.append([happened(person, EVENT_KIND_CLICK, SHOWN + 10) for person in people[:5]])
    stores.events.append([happened(people[6], EVENT_KIND_CLICK, SHOWN - 10)])
    stores.events.append([happened("u:ada", EVENT_KIND_ORDER, SHOWN + 20)])
    source = tmp_path / "catalog.yaml"
    source.write_text(CATALOG)
    monkeypatch.setenv("OFFERS_STORE_TIMEOUT_MS", str(settings.store_timeout_ms))
    places = ["--data-dir", str(settings.data_dir)]
    for name, url in (("--state-url", settings.state_url), ("--events-url", settings.events_url)):
        places += [name, url] if url else []

    result = CliRunner().invoke(app, ["experiments", "report", str(source), "--json", *places])

    assert (0, "") == (result.exit_code, result.stderr)
    told = {one["variant"]: one for one in orjson.loads(result.stdout)["variants"]}
    counts = {
        name: (one["persons"], one["decisions"], *(one["rates"][what]["persons"] for what in ("clicked", "ordered")))
        for name, one in told.items()
    }
    assert {"without": (15, 15, 3, 0), "with": (16, 16, 2, 1)} == counts
