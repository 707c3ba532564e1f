"""A catalogue with an offer for each reason, and a person all of them apply to, for tests of explanations."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from offers.decision.reference.people import share_of
from offers.model.keys import key_of
from offers.state.ledger import Demand, Redemption
from offers.testing import Served, serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING, ConsentGrants, User
from offers.v1.event_pb2 import Dismissal, Event, Impression
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub

NOON = datetime.fromisoformat("2026-11-24T12:15:00+01:00")
NOW = int(NOON.timestamp())
LATITUDE, LONGITUDE = 48.8674, 2.3636
OFFER = "{{offer_id: {0}, title: Some, benefit: {{percent_off: 20}}, {1}}}"
EVERYWHERE = "target: {everywhere: true}, "
FAR = "48.89, longitude: 2.3636}, radius_m: 100"
OFFERS = {
    "shown": EVERYWHERE + "brand: one, exclusion_group: g, value: 1.0",
    "elsewhere": EVERYWHERE + "placement_ids: [map]",
    "german": EVERYWHERE + "language_codes: [de]",
    "dollars": EVERYWHERE + "currency_codes: [USD]",
    "email": EVERYWHERE + "channels: [email]",
    "soon": EVERYWHERE + "availability: {windows: [{startTime: '2026-11-24T11:27:00Z'}]}",
    "past": EVERYWHERE + "availability: {windows: [{endTime: '2026-11-24T11:00:00Z'}]}",
    "later": EVERYWHERE + "campaign_id: later",
    "closed": EVERYWHERE + "availability: {opening_hours: '12:27-14:00'}",
    "evening": EVERYWHERE + "availability: {daypart_ids: [evening]}",
    "unused": EVERYWHERE + "redemption: {opening_hours: '12:27-14:00', required_when_shown: true}",
    "never": EVERYWHERE + "availability: {opening_hours: 'off'}",
    "far": "target: {circles: [{center: {latitude: " + FAR + "}]}",
    "zoned": "target: {zone_ids: [north]}",
    "cut": EVERYWHERE.replace("true", "true, excluded_zone_ids: [here], missing_location: MISSING_LOCATION_DENY"),
    "vague": "target: {venue_ids: [bar], min_inside_probability: 0.99}",
    "rushed": "target: {venue_ids: [bar]}, availability: {windows: [{endTime: '2026-11-24T11:16:00Z'}], "
    "reachable_before_end: REACHABLE_BEFORE_END_DROP}",
    "segment": EVERYWHERE + "audience: {any_segment_ids: [pushed]}",
    "left-out": EVERYWHERE + "audience: {none_segment_ids: [everyone]}",
    "variant": EVERYWHERE + "audience: {variants: [{experiment_id: e, variant_id: b}]}",
    "held-out": EVERYWHERE + "campaign_id: tested",
    "capped": EVERYWHERE + "frequency_caps: [{max_count: 3, rolling: 21600s}]",
    "pressed": EVERYWHERE + "category: promo",
    "quiet": EVERYWHERE + "category: loud",
    "dismissed": EVERYWHERE + "category: cool",
    "used-up": EVERYWHERE + "budget: {units: 10}",
    "paced": EVERYWHERE + "budget: {period: CALENDAR_PERIOD_DAY, period_units: 24, pacing: PACING_EVEN}",
    "fallback": EVERYWHERE + "fallback: true",
    "grouped": EVERYWHERE + "exclusion_group: g, value: 0.9",
    "branded": EVERYWHERE + "brand: one, value: 0.9",
    "outranked": EVERYWHERE + "value: 0.1",
    "several": "target: {zone_ids: [north]}, language_codes: [de], frequency_caps: [{max_count: 1}], "
    "availability: {opening_hours: '12:27-14:00'}",
}
CATALOG = """
catalog_id: corner
time_zone: Europe/Paris
country_code: FR
placements: [{placement_id: home, max_offers: 2, max_per_brand: 1}, {placement_id: map}]
dayparts: [{daypart_id: evening, opening_hours: "18:00-22:00"}]
venues:
  - {venue_id: bar, point: {latitude: 48.87, longitude: 2.3636}, radius_m: 300, travel: {mode: TRAVEL_MODE_WALKING}}
zones:
  - {zone_id: north, circles: [{center: {latitude: 48.88, longitude: 2.3636}, radius_m: 1000}]}
  - {zone_id: here, circles: [{center: {latitude: 48.8674, longitude: 2.3636}, radius_m: 50}]}
segments:
  - {segment_id: pushed, expression: "session.entry_channel == 'push'"}
  - {segment_id: everyone, expression: "now > timestamp('2020-01-01T00:00:00Z')"}
campaigns:
  - {campaign_id: later, window: {startTime: '2026-11-25T11:15:00Z'}}
  - {campaign_id: tested, holdout: 0.5}
category_limits: []
contact_policies:
  - {contact_policy_id: few, categories: [promo], frequency_caps: [{max_count: 1, calendar: CALENDAR_PERIOD_DAY}]}
  - {contact_policy_id: night, categories: [loud], quiet_hours: "12:00-13:00"}
  - {contact_policy_id: calm, categories: [cool], offer_cool_down: 86400s}
experiments: [{experiment_id: e, variants: [{variant_id: a, weight: 1000}, {variant_id: b, weight: 0.000001}]}]
offers:
"""
AGREED = ConsentGrants(purposes=[CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING])
HELD_OUT = next(
    name
    for name in map("ada{}".format, range(100))
    if share_of(key_of("person", "", f"u:{name}"), key_of("campaign", "corner", "tested")) < 0.5
)
USER = User(user_id=HELD_OUT, consent=AGREED)


def document(folder: Path) -> Path:
    """Write the catalogue, and return its path."""
    source = folder / "catalog.yaml"
    source.write_text(CATALOG + "".join(f"  - {OFFER.format(name, rest)}\n" for name, rest in OFFERS.items()))
    return source


@contextmanager
def serving_the_day(folder: Path, **settings: Any) -> Iterator[Served]:  # noqa: ANN401 - the fields of Settings
    """Serve the catalogue, with the person's day so far reported."""
    with serving(document(folder), clock=lambda: NOW, data_dir=folder / "data", **settings) as running:
        happened = [Event(event_id=f"i{minute}", offer_id="capped", impression=Impression()) for minute in (10, 9, 1)]
        happened += [Event(event_id="p2", offer_id="pressed", impression=Impression())]
        happened += [Event(event_id="s3", offer_id="several", impression=Impression())]
        happened += [Event(event_id="d60", offer_id="dismissed", dismissal=Dismissal())]
        for event in happened:
            event.user.CopyFrom(USER)
            event.event_time.seconds = NOW - 60 * int(event.event_id[1:])
        results = EventServiceStub(running.channel).ReportEvents(ReportEventsRequest(events=happened), timeout=10)
        assert len(happened) == len(results.results)
        midnight = NOW - 12 * 3600 - 15 * 60
        for number, (budget, period, units) in enumerate((("used-up", 0, 10), ("paced", midnight, 13))):
            demand = Demand(f"corner/offer:{budget}", period, units, 0, -1, -1, -1, -1)
            assert running.stores.ledger.confirm(Redemption(f"r{number}", demands=[demand]), NOW).done
        running.worker.upkeep.follow_budgets()
        yield running
