"""Events that name a proposition alone count at once, whether or not its decision is logged yet, or ever."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from offers.model.proposition_ids import parse_proposition_id
from offers.server.recorder import Recorder
from offers.testing import Served, serving
from offers.v1.context_pb2 import Context, User
from offers.v1.event_pb2 import Event, Impression
from offers.v1.event_service_pb2 import EventResult, EventWarning, ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest, Proposition
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_service_pb2 import ExportProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from tests.server.persons import AGREED
from tests.server.running import started

NOW = 1_795_000_000
CATALOG = """
catalog_id: corner
time_zone: Europe/Paris
placements:
  - {placement_id: home, channel: app, frequency_caps: [{max_count: 3}]}
  - {placement_id: list}
offers:
  - {offer_id: lunch, title: Lunch, benefit: {percent_off: 20}, target: {everywhere: true}}
  - {offer_id: dinner, title: Dinner, benefit: {percent_off: 20}, target: {everywhere: true},
     frequency_caps: [{max_count: 2}]}
  - {offer_id: snack, title: Snack, benefit: {percent_off: 20}, target: {everywhere: true}, placement_ids: [list]}
"""
PLAIN = """
catalog_id: plain
time_zone: Europe/Paris
offers:
  - {offer_id: lunch, title: Lunch, benefit: {percent_off: 20}, target: {everywhere: true}}
"""
"""A catalogue whose decisions depend on nobody, and are not logged."""


class App:
    """An app that asks, and reports at once what it shows."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._offers, self._events = OfferServiceStub(served.channel), EventServiceStub(served.channel)
        self._count = 0

    def ask(self, placement: str = "", channel: str = "", user_id: str = "alice") -> list[Proposition]:
        """Return what a person is shown."""
        context = Context(user=User(user_id=user_id, consent=AGREED), channel=channel)
        request = GetOffersRequest(context=context, placement=placement)
        return list(self._offers.GetOffers(request, timeout=20).offers)

    def report(self, proposition_id: str, user_id: str = "alice") -> EventResult:
        """Report an impression by the proposition alone."""
        self._count += 1
        event = Event(event_id=f"e{self._count}", proposition_id=proposition_id, impression=Impression())
        event.user.CopyFrom(User(user_id=user_id, consent=AGREED))
        results: list[EventResult] = list(
            self._events.ReportEvents(ReportEventsRequest(events=[event]), timeout=20).results
        )
        return results[0]

    def last(self) -> Event:
        """Return the event that stands last in the log."""
        return Event.FromString(self.served.stores.events.read(0, 10_000)[-1].event.body)


@pytest.fixture(params=["corner", "plain"])
def app(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """An app of a server that never gets round to logging decisions."""
    monkeypatch.setattr(Recorder, "flush", lambda _: None)
    source = tmp_path / "catalog.yaml"
    source.write_text(CATALOG if request.param == "corner" else PLAIN)
    with serving(source, clock=lambda: float(NOW), data_dir=tmp_path / "data") as served:
        yield App(served)


def test_an_impression_counts_before_its_decision_is_logged(app: App) -> None:
    """The event is stored with offer, catalogue, placement and channel, without a warning."""
    is_plain = app.served.worker.live.engines()[0].catalog_id == "plain"
    places = [("", "")] if is_plain else [("", ""), ("home", ""), ("home", "app"), ("list", ""), ("list", "kiosk")]
    for placement, channel in places:
        for shown in app.ask(placement, channel):
            result = app.report(shown.proposition_id)
            assert not result.HasField("status")
            assert not result.warnings
            stored = app.last()
            assert (shown.offer_id, placement) == (stored.offer_id, stored.placement)
            assert stored.channel in {channel, ""}
            assert shown.proposition_id == stored.proposition_id


def test_caps_of_placements_and_offers_count_at_once(app: App) -> None:
    """The third impression in a placement, and the second of an offer, are the last."""
    if app.served.worker.live.engines()[0].catalog_id == "plain":
        return
    for _ in range(2):
        (dinner,) = [one for one in app.ask("list") if one.offer_id == "dinner"]
        app.report(dinner.proposition_id)
    assert ["lunch", "snack"] == sorted(one.offer_id for one in app.ask("list"))
    for _ in range(3):
        (lunch,) = app.ask("home")
        app.report(lunch.proposition_id)
    assert [] == app.ask("home")
    assert ["lunch"] == [one.offer_id for one in app.ask("home", user_id="bob") if one.offer_id == "lunch"]


def test_changed_and_made_up_ids_are_told(app: App) -> None:
    """Another rank, another decision, another offer, and ids that were never given count for nothing."""
    shown = app.ask()[0].proposition_id
    decision, rank, proposed = shown.split("-")
    other = decision[:-1] + ("0" if decision[-1] != "0" else "1")
    made_up = [
        f"{decision}-{int(rank) + 1}-{proposed}",
        f"{other}-{rank}-{proposed}",
        f"{decision}-{rank}-{proposed[::-1]}",
        f"{decision}-{rank}-{'0' * len(proposed)}",
        f"{decision}-{rank}",
        f"{'0' * 32}-1",
        "something else",
        "-".join(("é" * 32, "1", proposed)),
    ]
    for one in made_up:
        assert [EventWarning.CODE_UNKNOWN_OFFER] == [warning.code for warning in app.report(one).warnings]
        assert not app.last().offer_id


def test_every_id_says_which_decision_it_is_of(app: App) -> None:
    """The first two parts of an id are the decision's id and the rank."""
    for rank, shown in enumerate(app.ask(), 1):
        parsed = parse_proposition_id(shown.proposition_id)
        assert parsed is not None
        assert (rank, 32) == (parsed.rank, len(parsed.decision_id))


def test_two_hundred_of_two_hundred_count(tmp_path: Path) -> None:
    """With two workers, on several placements, every impression that is reported at once counts."""
    source = tmp_path / "catalog.yaml"
    source.write_text(CATALOG)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with started(tmp_path, catalogs=(str(source),), workers=2) as server:
        channels = [grpc.insecure_channel(server.target, options=options) for _ in range(4)]
        for number in range(200):
            user = User(user_id=f"u{number}", consent=AGREED)
            request = GetOffersRequest(context=Context(user=user), placement=("home", "list", "")[number % 3])
            shown = OfferServiceStub(channels[number % 4]).GetOffers(request, timeout=20).offers[0]
            event = Event(
                event_id=f"e{number}", proposition_id=shown.proposition_id, impression=Impression(), user=user
            )
            report = ReportEventsRequest(events=[event])
            (result,) = EventServiceStub(channels[(number // 4) % 4]).ReportEvents(report, timeout=20).results
            assert not result.warnings
            export = ProfileServiceStub(channels[0]).ExportProfile(ExportProfileRequest(user=user), timeout=20)
            assert [shown.offer_id] == [one.offer_id for one in export.events]
            assert shown.offer_id != "dinner" or export.counts
        for channel in channels:
            channel.close()
