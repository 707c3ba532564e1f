"""What pages take for granted: the logs that their examples report on."""

from pathlib import Path

from google.type.money_pb2 import Money

from offers.testing import serving
from offers.v1.context_pb2 import Context, User
from offers.v1.event_pb2 import Click, Event, Order
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.server.persons import AGREED
from tests.server.running import wait_for
from tests.whatif import worlds

PEOPLE = 400
TRIAL = """
catalog_id: corner
time_zone: Europe/Paris
experiments:
  - experiment_id: dessert
    variants: [{variant_id: without}, {variant_id: with}]
offers:
  - {offer_id: lunch, title: Lunch, benefit: {percent_off: 20}, target: {everywhere: true}}
  - offer_id: dessert
    title: A dessert
    benefit: {percent_off: 100}
    target: {everywhere: true}
    audience: {variants: [{experiment_id: dessert, variant_id: with}]}
"""


def weather(folder: Path) -> None:
    """Write a log of 2,000 decisions in which coffee sells when it rains, and a catalogue without lunch."""
    worlds.made(folder, *worlds.happened(2_000))
    without = [line for line in worlds.CATALOG.splitlines() if "offer_id: lunch" not in line]
    (folder / "without-lunch.yaml").write_text("\n".join(without))


def trial(folder: Path) -> None:
    """Write a log of 400 persons who are shown lunch, half of them with a dessert; those click and order more."""
    source = folder / "catalog.yaml"
    source.write_text(TRIAL)
    with serving(source, data_dir=folder / "data") as served:
        offers, events = OfferServiceStub(served.channel), EventServiceStub(served.channel)
        done = []
        for number in range(PEOPLE):
            user = User(user_id=f"person-{number}", consent=AGREED)
            answer = offers.GetOffers(GetOffersRequest(context=Context(user=user)))
            shown = answer.offers[number % len(answer.offers)]
            name = shown.proposition_id
            if number % (3 if len(answer.offers) > 1 else 5) == 0:
                done.append(Event(event_id=f"c{number}", proposition_id=name, click=Click(), user=user))
            if number % (8 if len(answer.offers) > 1 else 10) == 0:
                order = Order(total=Money(currency_code="EUR", units=10 + number % 30))
                done.append(Event(event_id=f"o{number}", proposition_id=name, order=order, user=user))
        wait_for(lambda: PEOPLE == len(served.stores.events.decisions_after(0, 1_000)), "the decisions are logged")
        results = events.ReportEvents(ReportEventsRequest(events=done)).results
        assert not any(result.HasField("status") for result in results)
