"""The catalogue that a soak serves, its edits, and a log as long as what the learner holds of it."""

import random
import time
from pathlib import Path
from typing import Any

import orjson

from offers.settings import Settings
from offers.state.opening import open_stores
from offers.state.stores import LoggedDecision, LoggedEvent
from offers.v1.event_pb2 import EVENT_KIND_IMPRESSION, Event
from offers.v1.state_pb2 import DecisionRecord

CATALOG = "soak"
OFFERS = 400
SHOWN = 5
"""Offers of an answer."""
LATITUDE, LONGITUDE, SPREAD = 48.86, 2.35, 0.05
"""Middle and half the width of the area where offers and persons are, in degrees."""
WEATHERS = ("rain", "sun", "snow", "fog")
REPORTING, SILENT = "home", "list"
"""Placements: the client reports impressions of the first, and none of the second."""
BUDGETED = 20
"""One offer in this many has a budget."""
_HISTORY_S = 86_400
"""Age of the first decision of the log before the start."""
_WRITTEN_AT_ONCE = 5_000


def write_catalogue(folder: Path) -> Path:
    """Write the catalogue, a folder of documents, into another folder, and return it."""
    path = folder / "catalogue"
    path.mkdir(exist_ok=True)
    weights = {"propensity": 1, "recommendation": 0.5, "nearness": 0.5, "value": 0.5, "behaviour": 0.5}
    explored = {"channel": "app", "max_offers": SHOWN, "exploration": {"method": "METHOD_THOMPSON"}}
    document = {
        "catalog_id": CATALOG,
        "time_zone": "Europe/Paris",
        "default_ranking_strategy_id": "learned",
        "ranking_strategies": [{"ranking_strategy_id": "learned", "weights": weights}],
        "order_value_scale": {"currency_code": "EUR", "units": 50},
        "placements": [{"placement_id": name, **explored} for name in (REPORTING, SILENT)],
        "segments": [
            {"segment_id": "grown", "expression": "profile.attributes.age > 30.0"},
            {"segment_id": "ordering", "expression": "profile.order_count > 0"},
        ],
        "campaigns": [{"campaign_id": "autumn", "holdout": 0.05, "frequency_caps": [_cap(20)]}],
        "experiments": [{"experiment_id": "same", "variants": [{"variant_id": "a"}, {"variant_id": "b"}]}],
        "offers": [_offer(number) for number in range(OFFERS)],
    }
    (path / "offers.json").write_bytes(orjson.dumps(document))
    edit(path, 0)
    return path


def edit(catalogue: Path, number: int) -> None:
    """Change an offer of the catalogue; each number makes another version."""
    draft = catalogue / ".edited"
    draft.write_bytes(orjson.dumps({"offers": [_offer(OFFERS) | {"title": f"Edit {number}"}]}))
    draft.rename(catalogue / "edited.json")


def _cap(count: int) -> dict[str, Any]:
    return {"max_count": count, "rolling": "86400s"}


def _offer(number: int) -> dict[str, Any]:
    choose = random.Random(number)
    offer: dict[str, Any] = {
        "offer_id": f"offer-{number:04d}",
        "title": f"Offer {number}",
        "category": f"category-{number % 10}",
        "brand": f"brand-{number % 7}",
        "value": round(choose.uniform(0.1, 1), 3),
        "benefit": {"percent_off": 10 + number % 50},
        "target": {"everywhere": True},
        "frequency_caps": [_cap(3)],
    }
    if number % 2:
        center = {
            "latitude": round(LATITUDE + choose.uniform(-SPREAD, SPREAD), 5),
            "longitude": round(LONGITUDE + choose.uniform(-SPREAD, SPREAD), 5),
        }
        offer["target"] = {"circles": [{"center": center, "radius_m": 2_000}]}
    if number % 3 == 0:
        offer["audience"] = {"any_segment_ids": ["grown", "ordering"]}
    if number % 4 == 0:
        offer["campaign_id"] = "autumn"
    if number % BUDGETED == 0:
        offer["budget"] = {"period": "CALENDAR_PERIOD_DAY", "period_units": 1_000_000}
    return offer


def write_history(data_dir: Path, count: int) -> None:
    """Write a log of a number of decisions, made within the last day.

    With as many as the learner holds, all that has a limit in it is full at the start, and not only after hours.
    """
    stores = open_stores(Settings(data_dir=data_dir))
    choose, begin = random.Random(1), int(time.time()) - _HISTORY_S
    try:
        for first in range(0, count, _WRITTEN_AT_ONCE):
            decisions, events = [], []
            for number in range(first, min(first + _WRITTEN_AT_ONCE, count)):
                second = begin + number * _HISTORY_S // count
                decisions.append(_decision(choose, number, second))
                if number % 2:
                    events.append(_impression(choose, decisions[-1], second))
            stores.events.record(decisions)
            stores.events.append(events, applied=True)
    finally:
        stores.close()


def _decision(choose: random.Random, number: int, second: int) -> LoggedDecision:
    offers = [f"offer-{one:04d}" for one in choose.sample(range(OFFERS), SHOWN)]
    record = DecisionRecord(
        catalog=CATALOG,
        placement=REPORTING if number % 2 else SILENT,
        channel="app",
        offer_ids=offers,
        log_scores=[-1.0] * SHOWN,
        learn=True,
        time=second,
        draw=choose.getrandbits(62),
        distances_m=[choose.randrange(1, 5_000) for _ in offers],
    )
    record.context_attributes["weather"] = choose.choice(WEATHERS)
    record.profile_attributes["age"] = choose.randrange(20, 60)
    return LoggedDecision(f"{number:032x}", f"u:past-{number}", second, record.SerializeToString())


def _impression(choose: random.Random, of: LoggedDecision, second: int) -> LoggedEvent:
    made = Event(event_id=f"past-{of.decision_id}", proposition_id=f"{of.decision_id}-{choose.randint(1, SHOWN)}")
    made.impression.SetInParent()
    body = made.SerializeToString()
    kind, learn = EVENT_KIND_IMPRESSION, True
    return LoggedEvent(made.event_id, of.person, second, second, kind, CATALOG, "", "", learn, body)
