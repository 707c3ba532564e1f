"""A small catalogue with limits, and a server with a fixed clock, for tests of events and profiles."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from offers.state.person.counters import Counters
from offers.testing import Served, serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_PROFILING, ConsentGrants, User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import EventResult, ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from offers.v1.state_pb2 import UserState

NOW = 1_795_000_000
CATALOG = """
catalog_id: corner
time_zone: Europe/Paris
campaigns:
  - campaign_id: spring
    frequency_caps: [{kind: EVENT_KIND_CLICK, max_count: 2}]
    budget: {amount: {currency_code: EUR, units: 10}}
offers:
  - offer_id: lunch
    title: Lunch
    benefit: {percent_off: 20}
    target: {everywhere: true}
    category: food
    brand: Bento & Co
    campaign_id: spring
    frequency_caps: [{max_count: 3, rolling: 86400s}]
    budget: {units: 2}
  - offer_id: ride
    title: Ride
    benefit: {percent_off: 10}
    target: {everywhere: true}
    category: transport
"""
AGREED = ConsentGrants(purposes=[CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_LEARNING])


class Server:
    """A server of the catalogue above in this process, with both stubs."""

    def __init__(self, served: Served, folder: Path, clock: list[float]) -> None:
        self.served, self.folder, self.clock = served, folder, clock
        self.events = EventServiceStub(served.channel)
        self.profiles = ProfileServiceStub(served.channel)

    def report(self, *events: Event) -> list[EventResult]:
        """Report events in one batch."""
        return list(self.events.ReportEvents(ReportEventsRequest(events=events), timeout=10).results)

    def state(self, person: str) -> UserState:
        """Return the state of a person."""
        return UserState.FromString(self.served.stores.state.read(person))

    def counted(self, person: str) -> dict[tuple[int, int], list[int]]:
        """Return the counted instants of a person, by key and kind."""
        state = self.state(person)
        return {(key, kind): times for key, kind, times in Counters(state.counters, state.times)}


@contextmanager
def server(folder: Path, **settings: Any) -> Iterator[Server]:  # noqa: ANN401 - the fields of Settings
    """Serve the catalogue; `clock[0]` is the time of the server, NOW at first."""
    source = folder / "catalog.yaml"
    source.write_text(CATALOG)
    clock = [float(NOW)]
    with serving(source, clock=lambda: clock[0], data_dir=folder / "data", **settings) as served:
        yield Server(served, folder / "data", clock)


def event(event_id: str, user: str = "alice", at: int | None = NOW, **fields: Any) -> Event:  # noqa: ANN401
    """Return an event of a person who has agreed to everything.

    Without `at` it has no time, with an empty `user` no person.
    """
    made = Event(event_id=event_id, **fields)
    if user:
        made.user.CopyFrom(known(user))
    if at is not None:
        made.event_time.seconds = at
    return made


def known(user: str) -> User:
    """Return a user who has agreed to everything."""
    return User(user_id=user, consent=AGREED)
