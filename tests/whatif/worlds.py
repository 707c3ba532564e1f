"""A log of a made-up world in which it is known how likely each offer is clicked, and how likely it was shown."""

import random
from pathlib import Path

from offers.settings import read_settings
from offers.state.opening import open_stores
from offers.state.stores import LoggedDecision, LoggedEvent
from offers.v1.event_pb2 import EVENT_KIND_CLICK, Event, RedemptionEvent
from tests.learning.made_log import NOON, decision, event, logged, order, write

CATALOG = """
catalog_id: corner
time_zone: Europe/Paris
default_ranking_strategy_id: usual
placements:
  - {placement_id: home, max_offers: 2}
  - {placement_id: banner, max_offers: 1}
ranking_strategies:
  - ranking_strategy_id: usual
  - ranking_strategy_id: by-weather
    behaviour_rules: [{rule_id: wet, segment_id: wet, category: coffee, lift: 100}]
  - {ranking_strategy_id: learned, weights: {propensity: 1, nearness: 0, timeliness: 0, value: 0}}
segments:
  - {segment_id: wet, expression: "context.attributes.weather == 'rain'"}
campaigns:
  - {campaign_id: autumn, budget: {amount: {currency_code: EUR, units: 500}}}
offers:
  - offer_id: coffee
    title: Coffee
    category: coffee
    benefit: {percent_off: 20}
    target: {everywhere: true}
    value: 0.2
    campaign_id: autumn
  - {offer_id: lunch, title: Lunch, category: food, benefit: {percent_off: 20}, target: {everywhere: true}, value: 0.9}
  - offer_id: ride
    title: Ride
    category: ride
    benefit: {amount_off: {currency_code: EUR, units: 2}}
    target: {everywhere: true}
    value: 0.5
    campaign_id: autumn
    budget: {units: 40}
"""
MEASURED = f"{CATALOG}order_value_scale: {{currency_code: EUR, units: 50}}\n"
"""The same with a scale of order values."""
USUAL = ("lunch", "ride")
"""The offers that the catalogue shows at home, best first; by weather, rain puts coffee before lunch."""
PAIRS = {("lunch", "ride"): 0.5, ("coffee", "lunch"): 0.3, ("ride", "coffee"): 0.2}
"""Probability of each answer when the world explores."""
CHANCE = {
    "rain": {"coffee": 0.6, "lunch": 0.1, "ride": 0.3},
    "sun": {"coffee": 0.05, "lunch": 0.3, "ride": 0.1},
}
"""Probability of a click."""
RAIN = 0.4
WET_TRUTH = RAIN * (0.6 + 0.1) + (1 - RAIN) * (0.3 + 0.1)
"""Clicks per decision by weather: of coffee and lunch when it rains, else of lunch and ride."""


def included(offer: str) -> float:
    """How likely an offer is in an explored answer."""
    return sum(chance for pair, chance in PAIRS.items() if offer in pair)


EARNED_TRUTH = sum(
    share * included(offer) * CHANCE[weather][offer]
    for weather, share in (("rain", RAIN), ("sun", 1 - RAIN))
    for offer in CHANCE[weather]
)
"""Clicks per decision of what is explored."""


def happened(
    count: int, seed: int = 1, *, explored: bool = True, persons: int = 400
) -> tuple[list[LoggedDecision], list[LoggedEvent]]:
    """Return decisions of persons in Paris and Lyon, and their events: one click in four leads to a redemption."""
    choose = random.Random(seed)
    decisions, events = [], []
    for number in range(count):
        second, who = NOON + 60 * number, choose.randrange(persons)
        weather = "rain" if choose.random() < RAIN else "sun"
        pair = choose.choices(list(PAIRS), list(PAIRS.values()))[0] if explored else USUAL
        chances = [included(offer) for offer in pair] if explored else []
        made = decision(
            f"{number:032x}", second, pair, f"u:{who}", channel="", time=second, draw=who + 1, max_offers=10,
            selection_probabilities=chances,
        )  # fmt: skip
        told = made.told()
        told.context_attributes["weather"] = weather
        told.profile_attributes["city"] = "Paris" if who % 4 else "Lyon"
        decisions.append(made._replace(record=told.SerializeToString()))
        for rank, offer in enumerate(pair, 1):
            if choose.random() < CHANCE[weather][offer]:
                events.append(event(f"c{number}-{rank}", "click", made.decision_id, rank, second + 20))
                if choose.random() < 0.25:
                    events.append(redemption(f"r{number}-{rank}", made.decision_id, rank, second + 600))
    return decisions, events


def redemption(name: str, of: str, rank: int, second: int, euros: int = 3) -> LoggedEvent:
    """A redemption that is confirmed."""
    made = Event(event_id=name, proposition_id=f"{of}-{rank}")
    made.redemption.phase, made.redemption.redemption_id = RedemptionEvent.PHASE_CONFIRM, name
    made.redemption.amount.currency_code, made.redemption.amount.units = "EUR", euros
    return logged(made, second)


EUROS = {"coffee": 10, "lunch": 80, "ride": 25}
"""Totals of orders after a click."""
SHARE = {"coffee": 0.2, "lunch": 1.0, "ride": 0.5}
"""The same, as MEASURED has it."""
WET_VALUE = RAIN * (0.6 * SHARE["coffee"] + 0.1 * SHARE["lunch"]) + (1 - RAIN) * (
    0.3 * SHARE["lunch"] + 0.1 * SHARE["ride"]
)
"""Order value per decision by weather."""


def ordered(decisions: list[LoggedDecision], events: list[LoggedEvent]) -> list[LoggedEvent]:
    """The events, and an order after each click."""
    shown = {one.decision_id: one.told().offer_ids for one in decisions}
    found = list(events)
    for one in events:
        if one.kind == EVENT_KIND_CLICK:
            of, _, rank = Event.FromString(one.body).proposition_id.rpartition("-")
            euros = EUROS[shown[of][int(rank) - 1]]
            found.append(order(f"o{one.event_id}", of, int(rank), one.second + 60, units=euros))
    return found


def made(
    folder: Path, decisions: list[LoggedDecision], events: list[LoggedEvent], catalog: str = CATALOG
) -> Path:  # fmt: skip
    """A data folder with such a log, beside a catalogue; the folder."""
    (folder / "catalog.yaml").write_text(catalog)
    stores = open_stores(read_settings(data_dir=folder / "data"))
    write(stores.events, decisions, events)
    stores.close()
    return folder / "data"
