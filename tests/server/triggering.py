"""A catalogue with triggers, and a server whose upkeep is run by hand, for tests of triggers."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import orjson
from google.protobuf.json_format import ParseDict

from offers.testing import Served, serving
from offers.v1.context_pb2 import ConsentPurpose, User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import EventResult, ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.profile_pb2 import Consent, Profile
from offers.v1.profile_service_pb2 import UpdateProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from offers.v1.state_pb2 import UserState
from offers.v1.trigger_pb2 import OfferTriggered

PARIS = ZoneInfo("Europe/Paris")
MINUTE, HOUR, DAY = 60, 3_600, 86_400
EVERYTHING = ("contextual", "profiling", "learning", "messaging")
HEAD = """
catalog_id: corner
time_zone: Europe/Paris
placements:
- {placement_id: push, channel: push}
- {placement_id: email, channel: email}
segments:
- {segment_id: member, expression: profile.attributes.member == true}
- {segment_id: browsing, expression: profile.journey_phase == JourneyPhase.JOURNEY_PHASE_BROWSING}
contact_policies:
- {contact_policy_id: night, channels: [push], quiet_hours: "22:00-08:00"}
- {contact_policy_id: calm, channels: [push], frequency_caps: [{max_count: 2, rolling: 604800s}]}
offers:
- {offer_id: delivery, title: Delivery is on us, benefit: {free_delivery: {}}, target: {everywhere: true}, value: 0.9}
- {offer_id: dessert, title: A dessert, benefit: {custom: A dessert}, target: {everywhere: true}, value: 0.3}
"""
BASKET = "{trigger_id: basket, abandoned_basket: {}, placement_id: push}"
AWAY = "{trigger_id: away, lapsing: {after: 2592000s}, placement_id: push}"


def at(text: str, zone: ZoneInfo = PARIS) -> int:
    """Return an instant such as "2026-11-18 12:00" as seconds since 1970."""
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


NOON = at("2026-11-18 12:00")


class Server:
    """A server in this process with its own clock, which sends messages only when told to check."""

    def __init__(self, served: Served, folder: Path, clock: list[float]) -> None:
        self.served, self.folder, self.clock = served, folder, clock
        self.events = EventServiceStub(served.channel)
        self.profiles = ProfileServiceStub(served.channel)

    def report(self, user: str | User, second: int, **fields: Any) -> EventResult:  # noqa: ANN401 - of Event
        """Report an event, and advance the clock to the event's second."""
        self.clock[0] = max(self.clock[0], second)
        whose = User(user_id=user) if isinstance(user, str) else user
        event = Event(event_id=uuid4().hex, user=whose, **fields)
        event.event_time.seconds = second
        result: EventResult = self.events.ReportEvents(ReportEventsRequest(events=[event]), timeout=10).results[0]
        return result

    def put_into_basket(self, user: str, second: int, price: int = 0, currency: str = "EUR") -> None:
        """Add an item to a person's basket."""
        item: dict[str, Any] = {"product_id": f"ramen {price}"}
        if price:
            item["price"] = {"currency_code": currency, "units": price}
        self.report(user, second, add_to_cart={"items": [item]})

    def update(self, user: str, **profile: Any) -> None:  # noqa: ANN401 - of Profile
        """Update a profile."""
        self.profiles.UpdateProfile(
            UpdateProfileRequest(user=User(user_id=user), profile=Profile(**profile)), timeout=10
        )

    def consent(self, user: str, *, granted: bool, purposes: tuple[ConsentPurpose.ValueType, ...]) -> None:
        """Record consent decisions at the server's time."""
        self.update(user, consents=[Consent(purpose=one, granted=granted) for one in purposes])

    def look(self, second: int) -> list[OfferTriggered]:
        """Set the clock, check who is due, and return the new lines of the outbox."""
        before = len(self.lines())
        self.clock[0] = second
        self.served.worker.upkeep.trigger()
        return [message_of(line) for line in self.lines()[before:]]

    def lines(self) -> list[dict[str, Any]]:
        """Return all lines of the outbox."""
        file = self.folder / "data" / "outbox.jsonl"
        return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []

    def state(self, user: str) -> UserState:
        """Return the state of a user."""
        return UserState.FromString(self.served.stores.state.read(f"u:{user}"))

    def due(self, user: str) -> list[int]:
        """Return when a user is due, if ever."""
        return [one.second for one in self.served.stores.state.due(2**40, 1_000) if one.ids[0] == f"u:{user}"]


def message_of(line: dict[str, Any]) -> OfferTriggered:
    """Return the data of a CloudEvent."""
    return ParseDict(line["data"], OfferTriggered())


def catalogue(*triggers: str, head: str = HEAD) -> str:
    """Write the document with some triggers."""
    return head + "triggers:\n" + "".join(f"- {trigger}\n" for trigger in triggers) if triggers else head


@contextmanager
def server(
    folder: Path,
    *triggers: str,
    head: str = HEAD,
    source: Path | None = None,
    default_consent: tuple[str, ...] = EVERYTHING,
    **settings: Any,  # noqa: ANN401 - the fields of Settings
) -> Iterator[Server]:
    """Serve a catalogue with triggers, or a document, at NOON."""
    if source is None:
        source = folder / "catalog.yaml"
        source.write_text(catalogue(*triggers, head=head))
    clock = [float(NOON)]
    settings = {"data_dir": folder / "data", "default_consent": default_consent, **settings}
    with serving(source, clock=lambda: clock[0], **settings) as served:
        served.worker.upkeep.stop()
        yield Server(served, folder, clock)
