"""Rules for the parts of a catalogue in context: known ids, and radii, countries and hours that fit.

The rules are applied twice: to the whole survey, to find whether there is any fault, and then to each message, to find
which.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import islice
from typing import NamedTuple

from offers.catalogue.document.nodes import Path
from offers.catalogue.document.scalars import cut
from offers.catalogue.hours.grammar import Refusal, refusal
from offers.catalogue.rules.faults import Fault
from offers.catalogue.rules.people import PeopleRules
from offers.catalogue.rules.places import cut_faults, values_of, zone_faults
from offers.catalogue.rules.survey import HolidaySource, Survey, Venues, venues_of
from offers.catalogue.rules.values import close_to
from offers.catalogue.selection import Selection, is_sound, key_of
from offers.v1.catalog_pb2 import Placement
from offers.v1.offer_pb2 import REACHABLE_BEFORE_END_IGNORE, Offer, Target, VenueSelector
from offers.v1.venue_pb2 import Venue, Zone

_NOUNS = {"venues": "venue", "zones": "zone", "placements": "placement", "ranking_strategies": "ranking strategy",
          "dayparts": "daypart", "segments": "segment", "campaigns": "campaign", "category_limits": "category limit",
          "contact_policies": "contact policy", "experiments": "experiment", "intents": "intent",
          "triggers": "trigger"}  # fmt: skip
_ANY_COUNTRY = "FR"
"""The country of holidays at unknown places, which have a fault of their own."""
_MOST_SUGGESTIONS = 100
_MOST_COMPARED = 5_000
"""Most unknown names that get a "did you mean", and most known names each is compared with. A comparison takes about
10 µs."""
_MOST_FOUND = 1 << 20
"""Most selectors whose results are cached."""
_MOST_NAMED = 10
_UNSURE_LABELS = re.compile(r"(?:^|: )venues\[\d+\](?:\.labels|$)")
"""Paths of faults that may be the reason why a selector finds no venue."""


class _SelectorMatch(NamedTuple):
    """The properties of the venues that a selector finds."""

    any: bool
    never_closes: bool
    """Whether there are venues, and none has opening hours."""
    is_never_far: bool
    """Whether there are venues, and none has `travel`."""
    without_radius: str
    """The first venue without a radius of its own, or ""."""
    countries: tuple[str, ...]
    """The countries of the venues; "" is the catalogue's."""


@lru_cache(maxsize=65_536)
def _refusal(expression: str, country_code: str, placed: bool) -> Refusal | None:  # noqa: FBT001
    return refusal(expression, country_code, placed=placed)


class CrossRules:
    """Finds the faults of parts that do not agree, once the whole catalogue is surveyed."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._known = survey.known
        self._suggestions: dict[tuple[str, str], str] = {}
        self._found = lru_cache(_MOST_FOUND)(self._find)
        self.people = PeopleRules(survey, self)

    def has_faults(self) -> bool:
        """Return whether there is any fault."""
        survey, known = self._survey, self._known
        return (
            any(survey.wanted[name] - known[name].keys() for name in known)
            or any(not venue.HasField("radius_m") for venue in self._venues(survey.reaching))
            or any(self._is_at_fault(key, needs_radius=needed) for key, needed in survey.selectors.items())
            or any(any(self.zone_faults(zone)) for zone in known["zones"].values())
            or any(cut_faults(sorted(survey.cut_out), (), known["zones"]))
            or any(self._refused(*hours) is not None for hours in survey.hours)
            or any(self._refused_daypart(*daypart) is not None for daypart in survey.daypart_hours)
            or any(map(self._explores_nothing, known["placements"].values()))
            or any(map(self._never_closes, survey.opening))
            or any(map(self._is_never_far, survey.reached))
            or self.people.has_faults()
        )

    def zone_faults(self, zone: Zone) -> Iterator[Fault]:
        """Find the faults of a zone in the context of the catalogue."""
        zones = self._known["zones"]
        for name, ids in (("zone_ids", zone.zone_ids), ("excluded_zone_ids", zone.excluded_zone_ids)):
            for index, identity in enumerate(ids):
                if identity not in zones:
                    yield self.unknown("zones", identity, (name, index))
        yield from zone_faults(zone, zones)

    def venue_faults(self, venue: Venue) -> Iterator[Fault]:
        """Find the faults of a venue in the context of the catalogue."""
        expression = venue.opening_hours
        refused = self._refused(expression, ("", venue.country_code), placed=True) if expression else None
        if refused is not None:
            yield Fault(("opening_hours",), *refused)

    def placement_faults(self, placement: Placement) -> Iterator[Fault]:
        """Find the faults of a placement in the context of the catalogue."""
        strategy_id = placement.ranking_strategy_id
        if strategy_id and strategy_id not in self._known["ranking_strategies"]:
            yield self.unknown("ranking_strategies", strategy_id, ("ranking_strategy_id",))
        elif self._explores_nothing(placement):
            fix = "give its strategy 'weights: {propensity: 1}', or leave it out"
            yield Fault(("exploration",), "has nothing to vary: propensity does not count in its strategy", fix)

    def _explores_nothing(self, placement: Placement) -> bool:
        name = placement.ranking_strategy_id or self._survey.head.default_ranking_strategy_id
        strategy = self._known["ranking_strategies"].get(name)
        return placement.HasField("exploration") and not (strategy and strategy.weights.propensity)

    def offer_faults(self, offer: Offer) -> Iterator[Fault]:
        """Find the faults of an offer in the context of the catalogue."""
        target, placed = offer.target, not offer.target.everywhere
        holidays = list(self._survey.holiday_sources(offer))
        for name, ids, path in (
            ("venues", target.venue_ids, ("target", "venue_ids")),
            ("zones", target.zone_ids, ("target", "zone_ids")),
            ("zones", target.excluded_zone_ids, ("target", "excluded_zone_ids")),
            ("placements", offer.placement_ids, ("placement_ids",)),
            ("dayparts", offer.availability.daypart_ids, ("availability", "daypart_ids")),
            ("dayparts", offer.preferred_daypart_ids, ("preferred_daypart_ids",)),
        ):
            known = self._known[name]
            for index, identity in enumerate(ids):
                if identity not in known:
                    yield self.unknown(name, identity, (*path, index))
                elif name == "venues" and not target.HasField("radius_m") and not known[identity].HasField("radius_m"):
                    reason = f"neither the target nor the venue '{identity}' has a radius_m"
                    yield Fault((*path, index), reason, "write the radius_m of the target or of the venue in metres")
                elif name == "dayparts":
                    refusals = (self._refused_daypart(identity, source, placed) for source in holidays)
                    for reason, fix in islice(filter(None, refusals), 1):
                        yield Fault((*path, index), f"'{identity}' cannot be used here: {reason}", fix)
        yield from self._target_faults(target)
        for name, expression in (
            ("availability", offer.availability.opening_hours),
            ("redemption", offer.redemption.opening_hours),
        ):
            refusals = (self._refused(expression, source, placed) for source in holidays if expression)
            refused = next(filter(None, refusals), None)
            if refused is not None:
                yield Fault((name, "opening_hours"), *refused)
        yield from self._lacking_venues(offer)
        yield from self.people.offer_faults(offer)

    def _lacking_venues(self, offer: Offer) -> Iterator[Fault]:
        """Find the properties an offer needs of its venues that none of them has."""
        availability, venues = offer.availability, venues_of(offer.target)
        if availability.only_when_open and self._never_closes(venues):
            fix = "write the opening_hours of the venues, or leave only_when_open out"
            yield Fault(("availability", "only_when_open"), "none of its venues has opening_hours", fix)
        if availability.reachable_before_end > REACHABLE_BEFORE_END_IGNORE and self._is_never_far(venues):
            fix = "write the travel of the venues, or leave reachable_before_end out"
            yield Fault(("availability", "reachable_before_end"), "none of its venues says how one travels", fix)

    def unknown(self, name: str, identity: str, path: Path) -> Fault:
        """Return the fault of a reference to an unknown id."""
        close = self.close(name, identity, self._known[name])
        noun = _NOUNS[name]
        fix = (
            f"did you mean '{close}'?"
            if close
            else f"write the id of {'an' if noun[0] == 'e' else 'a'} {noun} of this catalogue, or add the {noun}"
        )
        return Fault(path, f"there is no {noun} '{identity[:60]}'", fix)

    def close(self, kind: str, name: str, known: Iterable[str]) -> str:
        """Return the known name of a kind that was probably meant, or ""."""
        close = self._suggestions.get((kind, name))
        if close is None and len(self._suggestions) < _MOST_SUGGESTIONS:
            close = close_to(name, islice(known, _MOST_COMPARED)) or ""
            self._suggestions[kind, name] = close
        return close or ""

    def _target_faults(self, target: Target) -> Iterator[Fault]:
        yield from cut_faults(target.excluded_zone_ids, ("target", "excluded_zone_ids"), self._known["zones"])
        for index, selector in enumerate(target.venue_selectors):
            path = ("target", "venue_selectors", index)
            found = self._found(key_of(selector))
            if not found.any and self._labels_are_sure:
                yield Fault(path, *self._finds_nothing(selector))
            elif found.without_radius and not target.HasField("radius_m"):
                reason = f"selects the venue '{found.without_radius}', and neither it nor the target has a radius_m"
                yield Fault(path, reason, "write the radius_m of the target or of the venue in metres")

    def _finds_nothing(self, selector: VenueSelector) -> tuple[str, str]:
        """Return why a selector finds no venue, and what to write instead."""
        labels = self._selection.labels
        for key, label in sorted(selector.labels.items()):
            if key not in labels:
                close = self.close("labels", key, labels)
                return f"no venue has a label '{cut(key)}'", _meant(close, "key", labels)
            values = labels[key]
            if values.keys().isdisjoint(values_of(label)):
                closest = (self.close(f"labels.{key}", value, values) for value in sorted(values_of(label)))
                close = next(filter(None, closest), "")
                return f"no venue has the {cut(key)} '{cut(label)}'", _meant(close, "value", values)
        return "no venue has all of these labels at once", "leave some out, or label the venues meant with all of them"

    def _is_at_fault(self, key: bytes, *, needs_radius: bool) -> bool:
        found = self._found(key)
        return bool(found.without_radius and needs_radius) or (not found.any and self._labels_are_sure)

    @cached_property
    def _labels_are_sure(self) -> bool:
        """Whether the labels of all venues could be read."""
        return not any(_UNSURE_LABELS.search(problem.field) for problem in self._survey.problems)

    @cached_property
    def _selection(self) -> Selection:
        return Selection(self._known["venues"].values())

    @cached_property
    def _without_radius(self) -> dict[int, str]:
        """Ids of the venues without a radius of their own, by number."""
        venues = enumerate(self._known["venues"].values())
        return {number: venue.venue_id for number, venue in venues if not venue.HasField("radius_m")}

    @cached_property
    def _with_hours(self) -> set[int]:
        return {number for number, venue in enumerate(self._known["venues"].values()) if venue.opening_hours}

    @cached_property
    def _with_travel(self) -> set[int]:
        return {number for number, venue in enumerate(self._known["venues"].values()) if venue.HasField("travel")}

    @cached_property
    def _by_country(self) -> dict[str, set[int]]:
        numbers: dict[str, set[int]] = {}
        for number, venue in enumerate(self._known["venues"].values()):
            numbers.setdefault(venue.country_code, set()).add(number)
        return numbers

    def _find(self, key: bytes) -> _SelectorMatch:
        """Return the match of a selector, given its `key_of`; an unsound one has a fault of its own and passes."""
        selector = VenueSelector.FromString(key)
        if not is_sound(selector):
            return _SelectorMatch(any=True, never_closes=False, is_never_far=False, without_radius="", countries=())
        selected = self._selection.find(selector)
        without = min(self._without_radius.keys() & selected, default=None)
        countries = (country for country, numbers in self._by_country.items() if not selected.isdisjoint(numbers))
        is_sure = bool(selected) and self._labels_are_sure
        return _SelectorMatch(
            bool(selected),
            is_sure and selected.isdisjoint(self._with_hours),
            is_sure and selected.isdisjoint(self._with_travel),
            "" if without is None else self._without_radius[without],
            tuple(countries),
        )

    def _venues(self, ids: Iterable[str]) -> Iterator[Venue]:
        known = self._known["venues"]
        return (known[identity] for identity in ids if identity in known)

    def _never_closes(self, venues: Venues) -> bool:
        """Return whether all venues are known and none has opening hours."""
        venue_ids, selectors = venues
        known = self._known["venues"]
        return (
            any(venues)
            and all(identity in known and not known[identity].opening_hours for identity in venue_ids)
            and all(self._found(key).never_closes for key in selectors)
        )

    def _is_never_far(self, venues: Venues) -> bool:
        """Return whether all venues are known and none has `travel`."""
        venue_ids, selectors = venues
        known = self._known["venues"]
        return (
            any(venues)
            and all(identity in known and not known[identity].HasField("travel") for identity in venue_ids)
            and all(self._found(key).is_never_far for key in selectors)
        )

    def _countries(self, source: HolidaySource) -> Iterable[str]:
        """Return the countries whose holidays are meant; "" is the catalogue's."""
        name, key = source
        if isinstance(key, bytes):
            return self._found(key).countries or (_ANY_COUNTRY,)
        if not name:
            return (key,)
        if name == "zones":
            return self._countries_of_zone(key) or (_ANY_COUNTRY,)
        return [venue.country_code for venue in self._venues((key,))] or (_ANY_COUNTRY,)

    def _countries_of_zone(self, zone_id: str) -> dict[str, None]:
        """Return the countries of the pieces of a zone; the country of a zone replaces those of the zones it covers."""
        zones = self._known["zones"]
        countries: dict[str, None] = {}
        met: set[str] = set()
        left = [zone_id]
        while left:
            identity = left.pop()
            if identity in met or identity not in zones:
                continue
            met.add(identity)
            zone = zones[identity]
            if zone.country_code or zone.circles or zone.areas:
                countries[zone.country_code] = None
            if not zone.country_code:
                left += zone.zone_ids
        return countries

    def _refused(self, expression: str, source: HolidaySource, placed: bool) -> Refusal | None:  # noqa: FBT001
        """Return why hours are refused in one of the countries meant, or None."""
        here = self._survey.head.country_code
        refusals = (_refusal(expression, country or here, placed) for country in self._countries(source))
        return next(filter(None, refusals), None)

    def _refused_daypart(self, daypart_id: str, source: HolidaySource, placed: bool) -> Refusal | None:  # noqa: FBT001
        """Return why a daypart is refused in an offer although it has no fault by itself, or None."""
        daypart = self._known["dayparts"].get(daypart_id)
        if daypart is None or _refusal(daypart.opening_hours, _ANY_COUNTRY, True):  # noqa: FBT003
            return None
        return self._refused(daypart.opening_hours, source, placed)


def _meant(close: str, noun: str, known: Iterable[str]) -> str:
    """Return what to write instead of a key or value of labels that no venue has."""
    if close:
        return f"did you mean '{close}'?"
    named = cut(", ".join(islice(known, _MOST_NAMED)))
    return f"write a {noun} that venues have, such as {named}" if named else "label the venues meant with it"
