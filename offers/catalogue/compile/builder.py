"""Collect the definitions and offers of a catalogue and lay them out as the arrays of a snapshot."""

from array import array
from collections.abc import Iterable
from dataclasses import astuple
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.type.money_pb2 import Money
from numpy.typing import NDArray

from offers.catalogue import snapshot
from offers.catalogue.compile.audiences import ALWAYS, Audiences, Span, Terms, span_of
from offers.catalogue.compile.behaviour import behaviour_columns
from offers.catalogue.compile.columns import LayoutInput, table
from offers.catalogue.compile.extras import NO_RULES, Extra, extra_of, rules_of
from offers.catalogue.compile.layout import lay_out
from offers.catalogue.compile.places import NO_PIECES, Places
from offers.catalogue.compile.propositions import static_wire, variant_wires
from offers.catalogue.compile.scoring import DEFAULT_LEVER, DEFAULT_VALUE, exploration_row, strategy_row
from offers.catalogue.compile.timetable import OfferHours, Timetable, name_sun, schedule_columns
from offers.catalogue.compile.traits import Traits
from offers.catalogue.definitions import Definitions
from offers.catalogue.geo.shapes import pack
from offers.catalogue.hours.public_holidays import data_version
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import LAST_TURN, NO_AUDIENCE, NO_CAPS, NO_NAME, NO_SCHEDULE, NO_SHAPE, NO_WINDOWS
from offers.model.keys import keys_of
from offers.v1.catalog_pb2 import Placement
from offers.v1.offer_pb2 import Availability, Benefit, Offer, Redemption, Target
from offers.v1.ranking_pb2 import RankingStrategy


class Builder:
    """Collects offers one by one, in any order, and lays them out by place."""

    def __init__(self, checked: Definitions) -> None:
        catalog = checked.catalog
        self._catalog = catalog
        self._checked = checked
        self._strategies = {"": 0, **{name: number for number, name in enumerate(checked.ranking_strategies, 1)}}
        """Numbers of ranking strategies by id; number 0 has every default."""
        venues = checked.venues.values()
        self._terms: dict[Terms, int] = {}
        self._timetable = Timetable(checked)
        self._gathered = LayoutInput(
            latitudes=array("d", [venue.point.latitude for venue in venues]),
            longitudes=array("d", [venue.point.longitude for venue in venues]),
            venue_ids=list(checked.venues),
        )
        self._places = Places(checked, self._gathered)
        self._names: dict[str, int] = {"": NO_NAME}
        self._extras: dict[Extra, int] = {Extra(): 0}
        self._audiences = Audiences(checked, self._timetable, self._terms)
        self._traits = Traits(self._names, {venue_id: number for number, venue_id in enumerate(checked.venues)})

    def add(self, offer: Offer) -> None:
        """Add an offer and its entries."""
        # This runs for a million offers: read each field once, and look into a message only where it is present.
        gathered, availability = self._gathered, offer.availability
        column = gathered.offer
        redemption = offer.redemption if offer.HasField("redemption") else None
        gathered.ids.append(offer.offer_id)
        gathered.wires.append(static_wire(offer, redemption))
        column["terms"].append(self._terms.setdefault(_terms(offer), len(self._terms)))
        column["value"].append(offer.value if offer.HasField("value") else DEFAULT_VALUE)
        column["lever"].append(offer.lever if offer.HasField("lever") else DEFAULT_LEVER)
        column["fallback"].append(offer.fallback)
        self._traits.add(offer)
        names = self._names
        column["brand"].append(names.setdefault(offer.brand, len(names)))
        column["category"].append(names.setdefault(offer.category, len(names)))
        column["exclusion_group"].append(names.setdefault(offer.exclusion_group, len(names)))
        redeem_start, redeem_end = span_of(redemption.window) if redemption else (0, NEVER)
        column["redeem_start"].append(redeem_start)
        column["redeem_end"].append(redeem_end)
        self._add_windows(offer, availability, redemption)
        self._add_entries(offer.target, availability, self._timetable.hours(offer, availability, redemption))

    def _add_windows(self, offer: Offer, availability: Availability, redemption: Redemption | None) -> None:
        """Add the windows of the offer added last, and its audience and caps, for which the windows matter."""
        gathered, column = self._gathered, self._gathered.offer
        windows = [span_of(window) for window in availability.windows[:]]
        if len(windows) > 1:
            windows = _merged(windows)
        if redemption and redemption.required_when_shown and (use := span_of(redemption.window)) != ALWAYS:
            windows = _within(windows, use)
        audience, caps = NO_AUDIENCE, NO_CAPS
        if self._audiences.concern(offer):
            if (campaign := self._audiences.window(offer)) != ALWAYS:
                windows = _within(windows, campaign)
            span = (windows[0][0], windows[-1][1]) if windows else ALWAYS
            wires = variant_wires(offer, redemption)
            audience, caps = self._audiences.add(len(gathered.ids) - 1, offer, span, wires)
        column["audience"].append(audience)
        column["caps"].append(caps)
        column["window_start"].append(windows[0][0] if windows else 0)
        column["window_end"].append(windows[-1][1] if windows else NEVER)
        column["windows"].append(gathered.add_windows(windows) if len(windows) > 1 else NO_WINDOWS)

    def _add_entries(self, target: Target, availability: Availability, hours: OfferHours | None) -> None:
        """Add the entries of the offer added last, one for each of its places."""
        column, number = self._gathered.entry, len(self._gathered.ids) - 1
        rules = rules_of(target, availability)
        is_sunny = hours is not None and name_sun(hours)
        for turn, place in enumerate(self._places.of(target, apart=is_sunny)):
            schedule = redeem_schedule = daypart_schedule = NO_SCHEDULE
            if hours:
                schedule, redeem_schedule, daypart_schedule = self._timetable.at(hours, place)
            extra = 0
            if rules or place.shape != NO_SHAPE or place.cuts != NO_PIECES or daypart_schedule != NO_SCHEDULE:
                one = extra_of(rules or NO_RULES, place, daypart_schedule)
                extra = self._extras.setdefault(one, len(self._extras))
            column["offer"].append(number)
            column["kind"].append(place.kind)
            column["place"].append(place.number)
            column["venue"].append(place.venue)
            column["radius"].append(place.radius_m)
            column["reach"].append(place.reach_m)
            column["schedule"].append(schedule)
            column["redeem_schedule"].append(redeem_schedule)
            column["extra"].append(extra)
            column["turn"].append(min(turn, LAST_TURN))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of snapshot.COLUMNS."""
        strategies = [RankingStrategy(), *self._checked.ranking_strategies.values()]
        self._gathered.extras = list(self._extras)
        self._gathered.pieces = self._places.pieces
        keys = keys_of("offer", self._catalog.catalog_id, self._gathered.ids)
        self._gathered.offer["key"].extend(keys)
        laid_out = lay_out(self._gathered)
        read = np.argsort(keys)
        order = read[np.searchsorted(np.array(keys)[read], laid_out["offer"]["key"])]
        creative_keys = {number: keys[number] for number in self._audiences.creative_offers()}
        return {
            **laid_out,
            **self._audiences.columns(laid_out, creative_keys),
            **schedule_columns(list(self._timetable.schedules), self._timetable.time_zones()),
            **pack(self._places.shapes),
            **self._traits.columns(self._catalog.catalog_id, self._gathered.ids, self._gathered.offer, order),
            "strategies": table(snapshot.STRATEGY, map(strategy_row, strategies)),
            **behaviour_columns(self._checked, self._names, self._gathered.offer["category"]),
        }

    def meta(self, columns: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """Return what is not columnar: names and the small tables the engine reads when it opens the snapshot."""
        return {
            **self._audiences.meta(),
            "catalog_id": self._catalog.catalog_id,
            "time_zone": self._timetable.time_zone,
            "offer_attributes": self._traits.attributes(),
            "sensitive": sorted(self._catalog.sensitive_attributes),
            "offers": len(self._gathered.ids),
            "entries": len(self._gathered.entry["offer"]),
            "triggers": [
                MessageToDict(one, preserving_proto_field_name=True) for one in self._checked.triggers.values()
            ],
            "chains": int(columns["entry"]["chain"].max(initial=-1)) + 1,
            "terms": list(self._terms),
            "schedules": [[astuple(part) for part in schedule.parts] for schedule in self._timetable.schedules],
            "zones": self._timetable.time_zones(),
            "holidays": data_version() if self._timetable.names_holidays() else "",
            "default_strategy": self._strategies[self._catalog.default_ranking_strategy_id],
            "placements": {name: self._placement(one) for name, one in self._checked.placements.items()},
        }

    def _placement(self, placement: Placement) -> dict[str, Any]:
        return {
            "channel": placement.channel,
            "strategy": self._strategies[placement.ranking_strategy_id or self._catalog.default_ranking_strategy_id],
            "max_offers": placement.max_offers if placement.HasField("max_offers") else None,
            "exploration": exploration_row(placement.exploration),
            "limits": [placement.max_per_venue, placement.max_per_brand, placement.max_per_category],
        }


def _terms(offer: Offer) -> Terms:
    """Return the placements, languages, currencies and channels an offer is for."""
    placements, tags, channels = offer.placement_ids[:], offer.language_codes[:], offer.channels[:]
    currencies = offer.currency_codes[:] or _currencies(offer.benefit.SerializeToString())
    return (
        tuple(sorted(set(placements))) if placements else (),
        tuple(sorted({tag.lower() for tag in tags})) if tags else (),
        tuple(sorted(set(currencies))) if currencies else (),
        tuple(sorted(set(channels))) if channels else (),
    )


@lru_cache(maxsize=65_536)  # many offers have equal benefits
def _currencies(benefit: bytes) -> list[str]:
    """Return the currency of each sum of an encoded Benefit; the rules let them all be the same."""
    sums = [value for _, value in Benefit.FromString(benefit).ListFields() if isinstance(value, Money)]
    return [money.currency_code for money in sums if money.currency_code]


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Return sorted spans with those that touch or overlap merged."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _within(windows: list[Span], span: Span) -> list[Span]:
    """Return the parts of windows that are inside a span. An empty list of windows stands for always."""
    inside = [(max(start, span[0]), min(end, span[1])) for start, end in windows or [ALWAYS]]
    return [window for window in inside if window[0] < window[1]] or [(0, 0)]  # never
