"""How long answers hold where audiences depend on time: medians of `refresh_after`, for nobody and for persons.

`python -m benchmarks.holding 1000000` measures the demo and synthetic catalogues of these numbers of offers.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.latlng_pb2 import LatLng
from rich.console import Console
from rich.table import Table

from benchmarks import catalogues, synthetic
from offers.catalogue.check import check
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.demo import catalogue as demo_catalogue
from offers.model.instants import DAY_S, HOUR_S
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import PersonReader
from offers.settings import Settings
from offers.state.opening import open_stores
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, Context, Location, User
from offers.v1.event_pb2 import EVENT_KIND_CLICK, EVENT_KIND_VIEW
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.state_pb2 import UserState

REQUESTS = 1_024
"""Requests of nobody, and as many of persons."""
PERSONS = 100
_SEED = 20_261_130
_AGES = (60, 20 * 60, 2 * HOUR_S, 3 * DAY_S, 29 * DAY_S + 20 * HOUR_S, 60 * DAY_S, 200 * DAY_S)
"""Seconds since a person was seen last."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Seconds until `refresh_after`, over requests for one instant from other places each."""

    nobody_s: float
    """The median of requests that name nobody."""
    persons_s: float
    """The median of requests of persons whose last visit was a minute to half a year ago."""
    shortest_s: float
    """The 1st percentile of those."""


def measure(snapshot: Path, requests: list[bytes]) -> Holding:
    """Measure the answers to requests, first of nobody, then of persons."""
    with tempfile.TemporaryDirectory(prefix="offers-benchmark-") as folder:
        stores = open_stores(Settings(data_dir=Path(folder)))
        records = [state.SerializeToString() for state in _states()]
        stores.state.change(
            [(f"u:{_name(number)}", lambda _record, _erased, new=new: new) for number, new in enumerate(records)]  # type: ignore[misc]
        )
        people = PersonReader(stores.state, frozenset([CONSENT_PURPOSE_PROFILING]))
        service = OfferService(Live([Engine(open_snapshot(snapshot))]), lambda: float(synthetic.NOW), people)
        seconds = [list(_seconds(service, requests, persons=persons)) for persons in (0, PERSONS)]
        stores.close()
    return Holding(float(np.median(seconds[0])), float(np.median(seconds[1])), float(np.percentile(seconds[1], 1)))


def _seconds(service: OfferService, requests: list[bytes], *, persons: int) -> Iterator[int]:
    """Yield the seconds for which each answer holds."""
    for number, data in enumerate(requests):
        request = GetOffersRequest.FromString(data)
        request.context.ClearField("user")
        if persons:
            request.context.user.CopyFrom(User(user_id=_name(number % persons)))
        answer = GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))
        yield answer.refresh_after.seconds - synthetic.NOW


def _states() -> Iterator[UserState]:
    """Yield the persons' records: views and a click at their last visit, and an order of every second one."""
    for number in range(PERSONS):
        state, seen = UserState(), synthetic.NOW - _AGES[number % len(_AGES)]
        state.profile.first_seen_time.seconds, state.profile.last_seen_time.seconds = seen - 40 * DAY_S, seen
        if number % 2:
            state.profile.order_count = 1 + number % 3
            state.profile.last_order_time.seconds = seen
        for age, kind in ((600, EVENT_KIND_VIEW), (60, EVENT_KIND_VIEW), (0, EVENT_KIND_CLICK)):
            state.recent.add(kind=kind, event_time=Timestamp(seconds=seen - age))
        yield state


def _name(number: int) -> str:
    return f"held-{number:04d}"


def of_synthetic(offers: int) -> Holding:
    """Measure the synthetic catalogue of so many offers with audiences that depend on time."""
    return measure(catalogues.compiled_timed(offers).path, synthetic.requests(offers, REQUESTS))


def of_demo() -> Holding:
    """Measure the demo catalogue, with locations up to 300 m either way from its venues."""
    random = np.random.default_rng(_SEED)
    points = [venue.point for venue in check(demo_catalogue()).venues.values()]
    requests = []
    for number, (north, east) in enumerate(random.uniform(-0.0027, 0.0027, size=(REQUESTS, 2)).tolist()):
        near = points[number % len(points)]
        point = LatLng(latitude=near.latitude + north, longitude=near.longitude + east)
        context = Context(location=Location(point=point, accuracy_m=15.0))
        requests.append(GetOffersRequest(context=context).SerializeToString())
    with tempfile.TemporaryDirectory() as folder:
        return measure(publish(demo_catalogue(), Path(folder)).path, requests)


def print_figures(console: Console, figures: dict[str, Holding]) -> None:
    """Print a row for each catalogue."""
    table = Table(title="How long answers hold, in seconds, with audiences that depend on time")
    for name in ("offers", "nobody", "persons", "persons, 1st percentile"):
        table.add_column(name, justify="right")
    for name, one in figures.items():
        table.add_row(name, f"{one.nobody_s:,.0f}", f"{one.persons_s:,.0f}", f"{one.shortest_s:,.0f}")
    console.print(table)


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]]
    print_figures(Console(), {"the demo's": of_demo(), **{f"{size:,}": of_synthetic(size) for size in sizes}})
