"""What the catalogues that are served know of an offer: what counts its events, and which budgets it draws on."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from offers.catalogue.snapshot import NO_AUDIENCE, NO_BUDGET, NO_CAPS, NO_NAME
from offers.decision.engine import Engine
from offers.errors import FieldViolation, InvalidRequestError
from offers.model.facts import CounterSpec, OfferFacts
from offers.model.keys import key_of
from offers.server.live import Live
from offers.state.stores import Demand
from offers.v1.limits_pb2 import CALENDAR_PERIOD_DAY, CALENDAR_PERIOD_MONTH, CALENDAR_PERIOD_WEEK
from offers.v1.offer_service_pb2 import Proposition

FACTS_KEPT = 10_000
"""Offers whose facts are kept at hand, by placement."""
_DAY_S = 86_400
_LONGEST_S = {CALENDAR_PERIOD_DAY: 2 * _DAY_S, CALENDAR_PERIOD_WEEK: 8 * _DAY_S, CALENDAR_PERIOD_MONTH: 32 * _DAY_S}
"""The longest periods, clock changes included."""


class Directory:
    """Looks offers up in the engines that are live."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._facts = lru_cache(FACTS_KEPT)(_facts)

    def catalog(self, name: str) -> str:
        """See intake.Offers."""
        return self._live.engine(name).catalog_id

    def facts(self, catalog: str, offer_id: str, placement: str) -> OfferFacts | None:
        """See intake.Offers."""
        return self._facts(self._live.engine(catalog), offer_id, placement)

    def demands(
        self, catalog: str, offer_id: str, units: int, micros: int, currency: str, now: int
    ) -> Sequence[Demand]:
        """See intake.Offers."""
        engine = self._live.engine(catalog)
        place = _place(engine, offer_id)
        if place is None:
            return []
        demands = []
        for number in _budgets(engine, place):
            budget = engine.snapshot.meta["budgets"][number]
            if currency and budget["currency"] and currency != budget["currency"]:
                reason = f"the budget '{budget['key']}' is in {budget['currency']}: send the amount in it"
                raise InvalidRequestError([FieldViolation("redemption.amount.currency_code", reason)])
            limits = (budget[name] for name in ("units", "micros", "period_units", "period_micros"))
            begin = period_begin(budget["period"], budget["zone"], now) if budget["period"] else 0
            demands.append(Demand(budget_key(engine.catalog_id, budget["key"]), begin, units, micros, *limits))
        return demands


def budget_key(catalog_id: str, key: str) -> str:
    """The key by which the ledger knows a budget of a catalogue, such as "paris/campaign:lunch"."""
    return f"{catalog_id}/{key}"


def period_begin(period: int, zone: str, now: int) -> int:
    """The first second of the calendar period around an instant, by the wall clock of a zone."""
    day = datetime.fromtimestamp(now, ZoneInfo(zone)).replace(hour=0, minute=0, second=0, fold=0)
    if period == CALENDAR_PERIOD_WEEK:
        day -= timedelta(days=day.weekday())
    elif period == CALENDAR_PERIOD_MONTH:
        day = day.replace(day=1)
    return int(day.timestamp())


def _place(engine: Engine, offer_id: str) -> int | None:
    """An offer's row."""
    columns = engine.snapshot.columns
    keys, by_key = columns["offer"]["key"], columns["offer_by_key"]
    key = key_of("offer", engine.catalog_id, offer_id)
    at = bisect_left(by_key, key, key=keys.__getitem__)
    if at == len(by_key) or keys[by_key[at]] != key:
        return None
    return int(by_key[at])


def _facts(engine: Engine, offer_id: str, placement: str) -> OfferFacts | None:
    place = _place(engine, offer_id)
    if place is None:
        return None
    columns, meta = engine.snapshot.columns, engine.snapshot.meta
    offer = columns["offer"][place]
    counted = [(int(offer["key"]), int(offer["caps"]))]
    if offer["audience"] != NO_AUDIENCE:
        audience = columns["audience"][offer["audience"]]
        policies = columns["audience_policy"][audience["policy_first"] : audience["policy_last"]]
        rows = [columns["policy"][policy] for policy in policies]
        if audience["campaign"] != NO_NAME:
            rows.append(columns["campaign"][audience["campaign"]])
        if audience["category"] != NO_NAME:
            rows.append(columns["category_limit"][audience["category"]])
        counted += [(int(row["key"]), int(row["caps"])) for row in rows]
    if placement in meta["placement_caps"]:
        counted.append((meta["placement_keys"][placement], meta["placement_caps"][placement]))
    first, size = int(offer["wire_first"]), int(offer["wire_size"])
    told = Proposition.FromString(columns["wire"][first : first + size].tobytes())
    counters = tuple(spec for key, caps in counted if caps != NO_CAPS for spec in _specs(engine, key, caps))
    return OfferFacts(offer_id, told.category, told.brand, counters)


def _specs(engine: Engine, key: int, caps: int) -> Iterable[CounterSpec]:
    """One for each kind of event that a list of caps counts."""
    columns, periods = engine.snapshot.columns, engine.snapshot.meta["periods"]
    first, last = columns["cap_list_first"][caps : caps + 2]
    kept: dict[int, tuple[int, int]] = {}
    for cap in columns["cap"][first:last]:
        seconds = int(cap["seconds"])
        if cap["period"] != NO_NAME:
            seconds = _LONGEST_S[periods[cap["period"]][0]]
        keep, span = kept.get(int(cap["kind"]), (0, 1))
        span = max(span, seconds) if span and seconds else 0
        kept[int(cap["kind"])] = max(keep, int(cap["max_count"])), span
    return (CounterSpec(key, kind, keep, span) for kind, (keep, span) in kept.items())


def _budgets(engine: Engine, place: int) -> Iterable[int]:
    """The numbers of the budgets of an offer and its campaign."""
    columns = engine.snapshot.columns
    number = columns["offer"]["audience"][place]
    if number == NO_AUDIENCE:
        return
    audience = columns["audience"][number]
    if audience["budget"] != NO_BUDGET:
        yield int(audience["budget"])
    if audience["campaign"] != NO_NAME and columns["campaign"]["budget"][audience["campaign"]] != NO_BUDGET:
        yield int(columns["campaign"]["budget"][audience["campaign"]])
