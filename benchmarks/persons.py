"""A catalogue of offers with audiences and limits, and persons with much state, to measure decisions about persons.

Every offer names segments and a campaign, so that a decision needs all twenty segments; each person has fifty counters.
"""

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks import synthetic
from offers.catalogue.document import read, write_fragments
from offers.decision.engine import Engine
from offers.learning.learner import FOLDER, Learner
from offers.server.events.service import EventService
from offers.server.offer_service import OfferService
from offers.server.offer_values import offers_of
from offers.server.people import PersonReader
from offers.server.process.worker import Worker, warm_engine
from offers.settings import Settings
from offers.state.opening import open_stores
from offers.state.person.apply import Happened, apply
from offers.v1.audience_pb2 import Audience, Segment
from offers.v1.catalog_pb2 import Catalog, Exploration
from offers.v1.context_pb2 import ConsentGrants, User
from offers.v1.event_pb2 import Event, Impression, Item, ItemView
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.experiment_pb2 import Experiment, Variant
from offers.v1.limits_pb2 import CALENDAR_PERIOD_DAY, PACING_EVEN, Budget, Campaign, ContactPolicy, FrequencyCap
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.state_pb2 import UserState

SEGMENTS, CAMPAIGNS, PERSONS, COUNTERS = 20, 10, 500, 50
CITIES = ("Lyon", "Paris", "Nantes", "Lille")
EVENTS = 100
"""Events of a report."""
TAUGHT, CLICKED = 2_000, 0.3
"""Decisions that a model learns from, and the share of their first offers that are clicked."""
_SEED = 20_261_122
_DAY_S = 86_400
_PURPOSES = (1, 2, 3, 4)


def write_catalogue(path: Path, offers: int, *, learned: bool = False) -> None:
    """Write the synthetic catalogue of so many offers with audiences as a .binpb file.

    `learned`: by strategies that ask models, in placements that explore.
    """
    plain = path.with_name("plain.binpb")
    synthetic.write_catalogue(plain, offers)
    records = _for_some(fragment.catalog for fragment in read(plain, []))
    write_fragments(path, map(_asking_models, records) if learned else records)
    plain.unlink()


TIMED = (
    "profile.order_count > 0 && profile.life_cycle in [LifeCycle.LIFE_CYCLE_LAPSING, LifeCycle.LIFE_CYCLE_INACTIVE]",
    "profile.life_cycle == LifeCycle.LIFE_CYCLE_NEW",
    "profile.journey_phase == JourneyPhase.JOURNEY_PHASE_BROWSING",
    "now - profile.last_order_time > duration('336h')",
    "now.getHours('Europe/Paris') >= 18 || now.getDayOfWeek('Europe/Paris') in [0, 6]",
)
"""Segments that time alone changes."""


def write_timed(path: Path, offers: int) -> None:
    """Write the synthetic catalogue of so many offers, a third of them for segments that time alone changes."""
    plain = path.with_name("plain.binpb")
    synthetic.write_catalogue(plain, offers)
    write_fragments(path, _for_timed(fragment.catalog for fragment in read(plain, [])))
    plain.unlink()


def _for_timed(records: Iterator[Catalog]) -> Iterator[Catalog]:
    names = [f"timed{number}" for number in range(len(TIMED))]
    rules = zip(names, TIMED, strict=True)
    yield Catalog(segments=[Segment(segment_id=name, expression=rule) for name, rule in rules])
    number = 0
    for record in records:
        for offer in record.offers:
            if number % 3 == 0:
                offer.audience.any_segment_ids.append(names[number // 3 % len(names)])
            number += 1
        yield record


def _for_some(records: Iterator[Catalog]) -> Iterator[Catalog]:
    day = FrequencyCap(max_count=20, calendar=CALENDAR_PERIOD_DAY)
    yield Catalog(
        segments=[Segment(segment_id=f"s{number}", expression=_expression(number)) for number in range(SEGMENTS)],
        campaigns=[
            Campaign(
                campaign_id=f"c{number}",
                frequency_caps=[FrequencyCap(max_count=3 + number, rolling=Duration(seconds=_DAY_S))],
                budget=Budget(period=CALENDAR_PERIOD_DAY, period_units=100_000, pacing=PACING_EVEN),
                holdout=0.05,
            )
            for number in range(CAMPAIGNS)
        ],
        contact_policies=[
            ContactPolicy(contact_policy_id="calm", frequency_caps=[day], cool_down=Duration(seconds=60))
        ],
        experiments=[
            Experiment(
                experiment_id="nearer",
                variants=[Variant(variant_id="as-is"), Variant(variant_id="near", ranking_strategy_id="near")],
            )
        ],
    )
    number = 0
    for record in records:
        for offer in record.offers:
            offer.campaign_id = f"c{number % CAMPAIGNS}"
            if number % 3:
                names = [f"s{(number + step) % SEGMENTS}" for step in range(3)]
                offer.audience.CopyFrom(Audience(any_segment_ids=names[:2], none_segment_ids=names[2:]))
            if number % 5 == 0:
                offer.frequency_caps.add(max_count=2, rolling=Duration(seconds=_DAY_S))
            number += 1
        yield record


def _asking_models(record: Catalog) -> Catalog:
    for strategy in record.ranking_strategies:
        strategy.weights.propensity = strategy.weights.recommendation = 1
    for placement in record.placements:
        placement.exploration.method = Exploration.METHOD_THOMPSON
    return record


def _expression(number: int) -> str:
    """Return a rule of three terms."""
    city = CITIES[number % len(CITIES)]
    terms = (
        f"profile.attributes.city == '{city}'",
        f"profile.order_count > {number % 7}",
        ("session.entry_channel == 'direct'", "context.channel == 'app'", "profile.attributes.age > 30.0")[number % 3],
    )
    return f"{terms[0]} && {terms[1]} && {terms[2]}" if number % 2 else f"({terms[0]} || {terms[1]}) && {terms[2]}"


def fill(data: str, engine: Engine, offer_ids: list[str]) -> None:
    """Write the persons into the state of a data folder, or at a URL, as events would have left them."""
    with tempfile.TemporaryDirectory(prefix="offers-benchmark-") as empty:
        is_url = "://" in data
        stores = open_stores(Settings(state_url=data if is_url else "", data_dir=Path(empty if is_url else data)))
        stores.state.change(_changes(engine, offer_ids))
        stores.close()


def _changes(engine: Engine, offer_ids: list[str]) -> list[tuple[str, "_Put"]]:
    """Yield each person's record."""
    random = np.random.default_rng(_SEED)
    changes = []
    for number in range(PERSONS):
        state = UserState()
        state.profile.attributes.update(
            {"city": CITIES[number % len(CITIES)], "age": 20.0 + number % 50, "device": "ios", "interests": ["a", "b"]}
        )
        for purpose in _PURPOSES:
            state.profile.consents.add(purpose=purpose, granted=True)
        state.profile.order_count = number % 9
        happened, chosen = [], random.choice(len(offer_ids), size=COUNTERS).tolist()
        for place, offer in enumerate(chosen):
            second = synthetic.NOW - 3_000 * place
            happened.append(
                Happened(
                    Event(
                        event_id=f"{number}-{place}",
                        event_time=Timestamp(seconds=second),
                        offer_id=offer_ids[offer],
                        impression=Impression(),
                    ),
                    engine.directory.of(offer_ids[offer], "home"),
                )
            )
        record = apply(state.SerializeToString(), happened)
        changes.append((f"u:{_name(number)}", _Put(record or b"")))
    return changes


def teach(data: str, snapshot: Path, offers: int) -> None:
    """Make decisions for the persons of a data folder with a server, have them react, and publish a model."""
    seconds = itertools.count(synthetic.NOW - 2 * TAUGHT)
    settings = Settings(data_dir=Path(data))
    stores = open_stores(settings)
    worker = Worker(settings, stores, clock=lambda: next(seconds))
    worker.live.swap([warm_engine(snapshot)])
    service = OfferService(
        worker.live, lambda: next(seconds), PersonReader(stores.state, frozenset()), worker.recorder, 6
    )
    random = np.random.default_rng([_SEED, 2])
    for data_asked in requests(offers, TAUGHT):
        asked = GetOffersRequest.FromString(data_asked)
        asked.context.ClearField("time")
        answer = GetOffersResponse.FromString(service.get_offers(asked.SerializeToString()))
        report = ReportEventsRequest()
        for one in answer.offers:
            if random.random() < CLICKED / one.rank:
                event = report.events.add(event_id=one.proposition_id, user=asked.context.user)
                event.proposition_id, event.offer_id, event.placement = one.proposition_id, one.offer_id, "home"
                event.event_time.seconds = next(seconds)
                event.click.SetInParent()
        worker.recorder.flush()
        if report.events:
            EventService(worker.intake, max_streams=1).report_events(report.SerializeToString())
    with contextlib.closing(Learner(stores.events, Path(data, FOLDER), offers_of([snapshot]))) as learner:
        learner.catch_up(lambda: False, lambda _: None)
    worker.recorder.close()
    stores.close()


class _Put:
    """A change of state that writes a record where there is none."""

    def __init__(self, record: bytes) -> None:
        self._record = record

    def __call__(self, _record: bytes, _erased: int) -> bytes | None:
        return self._record


def _name(number: int) -> str:
    return f"person-{number:06d}"


def requests(offers: int, count: int) -> list[bytes]:
    """Return the requests of `synthetic.requests`, made by the persons."""
    encoded = []
    for number, data in enumerate(synthetic.requests(offers, count)):
        request = GetOffersRequest.FromString(data)
        request.context.user.user_id = _name(number % PERSONS)
        encoded.append(request.SerializeToString())
    return encoded


def reports(offer_ids: list[str]) -> Iterator[bytes]:
    """Yield reports of new events, endlessly."""
    random = np.random.default_rng([_SEED, 1])
    grants = ConsentGrants(purposes=_PURPOSES)  # type: ignore[arg-type]
    number = 0
    while True:
        report = ReportEventsRequest()
        for offer in random.integers(len(offer_ids), size=EVENTS).tolist():
            event = report.events.add(event_id=f"event-{number}", offer_id=offer_ids[offer], placement="home")
            event.event_time.seconds = synthetic.NOW
            event.user.CopyFrom(User(user_id=_name(number % PERSONS), consent=grants))
            if number % 10 == 0:
                event.view.CopyFrom(ItemView(item=Item(category="ramen", venue_id="venue-000001")))
            elif number % 10 == 1:
                event.click.SetInParent()
            else:
                event.impression.SetInParent()
            number += 1
        yield report.SerializeToString()
