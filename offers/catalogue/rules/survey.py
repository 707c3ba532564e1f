"""A survey of a catalogue document: everything one pass keeps, to check whether the parts agree."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString

from offers.catalogue.definitions import ID_NAMES, head_of
from offers.catalogue.document import Fragment
from offers.catalogue.document.nodes import Path
from offers.catalogue.geo.geojson import corners_of
from offers.catalogue.hours.grammar import names_holidays
from offers.catalogue.rules import audience as audience_rules
from offers.catalogue.rules import behaviour as behaviour_rules
from offers.catalogue.rules import limits as limit_rules
from offers.catalogue.rules import messages as rules
from offers.catalogue.rules.faults import Fault
from offers.catalogue.rules.models import check_attributes
from offers.catalogue.rules.places import check_venue, check_zone
from offers.catalogue.rules.triggers import check_trigger
from offers.catalogue.selection import key_of
from offers.errors import Problem
from offers.v1.audience_pb2 import Audience
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import REACHABLE_BEFORE_END_IGNORE, Offer, Target
from offers.v1.venue_pb2 import Zone

_CHECKS: dict[str, Callable[[Any, list[Fault]], None]] = {
    "venues": check_venue,
    "zones": check_zone,
    "placements": rules.check_placement,
    "ranking_strategies": rules.check_strategy,
    "dayparts": rules.check_daypart,
    "segments": audience_rules.check_segment,
    "campaigns": limit_rules.check_campaign,
    "category_limits": limit_rules.check_category_limit,
    "contact_policies": limit_rules.check_policy,
    "experiments": audience_rules.check_experiment,
    "intents": behaviour_rules.check_intent,
    "triggers": check_trigger,
}
"""The check of a single definition, for each list."""

Venues = tuple[tuple[str, ...], tuple[bytes, ...]]
"""The venues of a target: ids, and the `key_of` of selectors."""
HolidaySource = tuple[str, str | bytes]
"""The country whose public holidays hours mean. It is one of:

- "" and the code of a country, or "" for the catalogue's country;
- "venues" or "zones" and an id: the country of that place;
- "venue_selectors" and the `key_of` of a selector: the countries of the venues it finds."""


def venues_of(target: Target) -> Venues:
    """Return the venues of a target."""
    return tuple(target.venue_ids), tuple(map(key_of, target.venue_selectors))


def problems_of(fragment: Fragment, path: Path, faults: Iterable[Fault]) -> Iterator[Problem]:
    """Yield the faults of the message at a path as problems, without those that follow from a value left out."""
    for fault in faults:
        place = (*path, *fault.path)
        if not any(place[: len(gap)] == gap[: len(place)] for gap in fragment.left_out):
            yield fragment.problem(place, fault.reason, fault.fix)


def place_of(fragment: Fragment, path: Path) -> str:
    """Return the place of a value, for a reason that refers to it."""
    line = fragment.line_of(path)
    return f"{fragment.file}:{line}" if line is not None else f"{fragment.file} {fragment.problem(path, '', '').field}"


def _shown(value: object) -> str:
    """Return a single value as text on one line."""
    return MessageToString(value, as_one_line=True) if isinstance(value, Message) else str(value)


@dataclass(slots=True)
class Survey:
    """Definitions, ids and references of a catalogue, but no offers and no lines.

    Sets show whether all ids are unique and known, once everything is read. Only if they are not, a second pass locates
    the faults. A catalogue without faults therefore takes one pass and little memory, whatever the order of its parts.
    """

    problems: list[Problem]
    """Faults of the parts by themselves are added here."""
    head: Catalog = field(default_factory=Catalog)
    head_places: dict[str, tuple[Fragment, str]] = field(default_factory=dict)
    kept: Catalog = field(default_factory=Catalog)
    """All definitions in one message: separate messages would keep their whole fragments in memory."""
    known: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in ID_NAMES})
    wanted: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in ID_NAMES})
    repeated: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in (*ID_NAMES, "offers")})
    offer_ids: set[str] = field(default_factory=set)
    offer_count: int = 0
    reaching: set[str] = field(default_factory=set)
    """Ids of venues whose own radius an offer needs."""
    selectors: dict[bytes, bool] = field(default_factory=dict)
    """All selectors by `key_of`, and whether an offer needs the radii of the venues found."""
    cut_out: set[str] = field(default_factory=set)
    """Ids of zones that offers exclude."""
    hours: set[tuple[str, HolidaySource, bool]] = field(default_factory=set)
    """Opening hours, with the country of their holidays and whether they are those of a place."""
    daypart_hours: set[tuple[str, HolidaySource, bool]] = field(default_factory=set)
    """Ids of dayparts, with the country of their holidays and whether they are read at a place."""
    opening: set[Venues] = field(default_factory=set)
    """Venues of offers with `only_when_open`."""
    reached: set[Venues] = field(default_factory=set)
    """Venues of offers with `reachable_before_end`."""
    variants: set[tuple[str, str]] = field(default_factory=set)
    """Experiments and variants that audiences name."""
    attributes: set[str] = field(default_factory=set)
    """Names of the attributes of offers."""
    corners: int = 0
    """About how many corners all areas have."""
    unpaced: set[str] = field(default_factory=set)
    """Ids of the campaigns, "" for none, of offers whose paced budget needs the campaign's window."""

    def add(self, fragment: Fragment) -> None:
        """Check the parts of a fragment by themselves, and record their ids and references."""
        catalog = fragment.catalog
        self._add_head(fragment)
        for name in ID_NAMES:
            if getattr(catalog, name):
                self._add_definitions(fragment, name)
        faults: list[Fault] = []
        check_offer, add_offer = rules.check_offer, self._add_offer
        for index, offer in enumerate(catalog.offers):
            check_offer(offer, faults)
            add_offer(offer)
            if rules.concerns_people(offer):
                rules.check_people(offer, faults)
                self._add_people(offer)
            if offer.HasField("attributes"):
                check_attributes(offer, self.attributes, faults)
            if faults:
                self.problems += problems_of(fragment, ("offers", index), faults)
                faults.clear()
        self.offer_count += len(catalog.offers)

    def holiday_sources(self, offer: Offer) -> Iterator[HolidaySource]:
        """Yield the country whose holidays an offer's hours mean, at least once for each of its places."""
        own = offer.availability.country_code
        if own:
            yield "", own
            return
        target = offer.target
        venues, zones = self.known["venues"], self.known["zones"]
        for venue_id in target.venue_ids:
            venue = venues.get(venue_id)
            yield ("", venue.country_code) if venue is not None else ("venues", venue_id)
        for zone_id in target.zone_ids:
            zone: Zone | None = zones.get(zone_id)
            is_plain = zone is not None and (zone.country_code or not zone.zone_ids)
            yield ("", zone.country_code) if zone is not None and is_plain else ("zones", zone_id)
        if target.venue_selectors:
            for selector in target.venue_selectors:
                yield "venue_selectors", key_of(selector)
        if target.circles or target.areas or target.everywhere:
            yield "", ""

    def _add_head(self, fragment: Fragment) -> None:
        faults: list[Fault] = []
        rules.check_head(fragment.catalog, faults)
        self.head.sensitive_attributes.extend(fragment.catalog.sensitive_attributes)
        self.head.interactions.extend(fragment.catalog.interactions)
        for described, value in head_of(fragment.catalog).ListFields():
            name = described.name
            if name not in self.head_places:
                self.head.MergeFrom(Catalog(**{name: value}))
                self.head_places[name] = fragment, place_of(fragment, (name,))
            elif value != (first := getattr(self.head, name)):
                reason = f"is '{_shown(value)}', but '{_shown(first)}' at {self.head_places[name][1]}"
                faults.append(Fault((name,), reason, "give it once, or the same each time"))
        self.problems += problems_of(fragment, (), faults)

    def _add_definitions(self, fragment: Fragment, name: str) -> None:
        id_name, check_one = ID_NAMES[name], _CHECKS[name]
        known, kept = self.known[name], getattr(self.kept, name)
        before = len(kept)
        kept.MergeFrom(getattr(fragment.catalog, name))
        faults: list[Fault] = []
        for index, message in enumerate(islice(kept, before, None)):
            check_one(message, faults)
            if faults:
                self.problems += problems_of(fragment, (name, index), faults)
                faults.clear()
            identity = getattr(message, id_name)
            if known.setdefault(identity, message) is not message and identity:
                self.repeated[name].add(identity)
            if name == "placements" and message.ranking_strategy_id:
                self.wanted["ranking_strategies"].add(message.ranking_strategy_id)
            elif name == "venues" and message.opening_hours:
                self.hours.add((message.opening_hours, ("", message.country_code), True))
            elif name == "zones":
                self.wanted["zones"].update(message.zone_ids, message.excluded_zone_ids)
                self.corners += sum(map(corners_of, message.areas))
            else:
                self._add_wanted(name, message)

    def _add_wanted(self, name: str, message: Any) -> None:  # noqa: ANN401 - one of several messages
        """Record the references of a definition about people."""
        if name == "campaigns":
            self._add_audience(message.audience)
        elif name == "contact_policies":
            self.wanted["campaigns"].update(message.campaign_ids)
        elif name == "experiments":
            self.wanted["placements"].update(message.placement_ids)
            self.wanted["segments"].update(message.segment_ids)
            strategies = (variant.ranking_strategy_id for variant in message.variants)
            self.wanted["ranking_strategies"].update(filter(None, strategies))
        elif name == "triggers":
            self.wanted["placements"].update(filter(None, (message.placement_id,)))
            self.wanted["segments"].update(filter(None, (message.segment_id,)))

    def _add_offer(self, offer: Offer) -> None:
        offer_id = offer.offer_id
        if offer_id in self.offer_ids:
            self.repeated["offers"].add(offer_id)
        elif offer_id:
            self.offer_ids.add(offer_id)
        target, wanted = offer.target, self.wanted
        if venue_ids := target.venue_ids[:]:
            wanted["venues"].update(venue_ids)
            if not target.HasField("radius_m"):
                self.reaching.update(venue_ids)
        if zone_ids := target.zone_ids[:]:
            wanted["zones"].update(zone_ids)
        if target.excluded_zone_ids or target.venue_selectors or target.areas:
            self._add_seldom(target)
        if placement_ids := offer.placement_ids[:]:
            wanted["placements"].update(placement_ids)
        self._add_times(offer)

    def _add_people(self, offer: Offer) -> None:
        if offer.campaign_id:
            self.wanted["campaigns"].add(offer.campaign_id)
        self._add_audience(offer.audience)
        for variant in offer.creative_variants:
            self._add_audience(variant.audience)
        if limit_rules.is_unpaced(offer):
            self.unpaced.add(offer.campaign_id)

    def _add_audience(self, audience: Audience) -> None:
        self.wanted["segments"].update(audience.any_segment_ids, audience.all_segment_ids, audience.none_segment_ids)
        for variant in audience.variants:
            self.wanted["experiments"].add(variant.experiment_id)
            self.variants.add((variant.experiment_id, variant.variant_id))

    def _add_seldom(self, target: Target) -> None:
        self.wanted["zones"].update(target.excluded_zone_ids)
        self.cut_out.update(target.excluded_zone_ids)
        self.corners += sum(map(corners_of, target.areas))
        needed = not target.HasField("radius_m")
        for selector in target.venue_selectors:
            key = key_of(selector)
            self.selectors[key] = needed or self.selectors.get(key, False)

    def _add_times(self, offer: Offer) -> None:
        target = offer.target
        if offer.HasField("availability"):
            availability = offer.availability
            if expression := availability.opening_hours:
                self._add_hours(offer, expression)
            if daypart_ids := availability.daypart_ids[:]:
                self._add_dayparts(offer, daypart_ids)
            if availability.only_when_open:
                self.opening.add(venues_of(target))
            if availability.reachable_before_end > REACHABLE_BEFORE_END_IGNORE:
                self.reached.add(venues_of(target))
        if offer.HasField("redemption") and (expression := offer.redemption.opening_hours):
            self._add_hours(offer, expression)
        if daypart_ids := offer.preferred_daypart_ids[:]:
            self._add_dayparts(offer, daypart_ids)

    def _add_hours(self, offer: Offer, expression: str) -> None:
        placed = not offer.target.everywhere
        if names_holidays(expression):
            self.hours.update((expression, source, placed) for source in self.holiday_sources(offer))
        else:
            self.hours.add((expression, ("", ""), placed))

    def _add_dayparts(self, offer: Offer, daypart_ids: list[str]) -> None:
        self.wanted["dayparts"].update(daypart_ids)
        placed = not offer.target.everywhere
        for source in self.holiday_sources(offer):
            self.daypart_hours.update((daypart_id, source, placed) for daypart_id in daypart_ids)
