"""Checks a whole catalogue document and tells everything that is wrong with it."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from offers.catalogue import document, rules
from offers.catalogue.document import Fragment
from offers.catalogue.document.nodes import Path as FieldPath
from offers.catalogue.faults import Fault
from offers.catalogue.grammar import names_holidays, refusal
from offers.catalogue.place_rules import check_venue, check_zone, cut_faults, selects, zone_faults
from offers.catalogue.value_rules import close_to
from offers.errors import CatalogError, Problem
from offers.v1.catalog_pb2 import Catalog, Daypart, Placement
from offers.v1.offer_pb2 import Offer, Target, VenueSelector
from offers.v1.ranking_pb2 import RankingStrategy
from offers.v1.venue_pb2 import Venue, Zone

_HEAD_FIELDS = ("catalog_id", "title", "time_zone", "country_code", "default_ranking_strategy_id")
_NOUNS = {"venues": "venue", "zones": "zone", "placements": "placement", "ranking_strategies": "ranking strategy",
          "dayparts": "daypart"}  # fmt: skip
_CHECKS: dict[str, tuple[str, Callable[[Any, list[Fault]], None]]] = {
    "venues": ("venue_id", check_venue),
    "zones": ("zone_id", check_zone),
    "placements": ("placement_id", rules.check_placement),
    "ranking_strategies": ("ranking_strategy_id", rules.check_strategy),
    "dayparts": ("daypart_id", rules.check_daypart),
}
"""Per list of things that offers refer to: the field that names one, and what checks one."""

_ANY_COUNTRY = "FR"
_MOST_SUGGESTIONS = 100
_MOST_COMPARED = 5_000
"""How many unknown ids get a "did you mean", and from how many known ones: comparing takes about 10 µs a pair."""


@dataclass(frozen=True, slots=True)
class Definitions:
    """What the offers of a catalogue refer to. They themselves are read one fragment at a time."""

    catalog: Catalog
    """The single values, merged; the lists are empty."""
    venues: dict[str, Venue]
    zones: dict[str, Zone]
    placements: dict[str, Placement]
    ranking_strategies: dict[str, RankingStrategy]
    dayparts: dict[str, Daypart]


@dataclass(frozen=True, slots=True)
class Checked(Definitions):
    """A catalogue without faults."""

    offer_count: int


def check(source: Path) -> Checked:
    """Read a file or folder once and check all of it.

    Raises CatalogError with every problem found, in the order of files and lines; nothing else, also not for a path
    that cannot be read.
    """
    problems: list[Problem] = []
    survey = _Survey(source, problems)
    for fragment in document.read(source, problems):
        survey.add(fragment)
    complete = all(problem.field not in {"", *_CHECKS} for problem in problems)
    if complete:
        survey.check_whole()
    if survey.has_cross_faults(complete=complete):
        found = list(_locate(source, survey, complete=complete))
        if not (found or problems):
            found = [Problem(str(source), None, "", "changed while it was being read", "check it again")]
        problems += found
    if problems:
        raise CatalogError(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
    return survey.checked()


def definitions(source: Path) -> Definitions:
    """The definitions of a document, taken as they stand: for who has `check` look at the same time."""
    head, kept = Catalog(), Catalog()
    for fragment in document.read(source, [], offers=False):
        head.MergeFrom(Catalog(**{name: getattr(fragment.catalog, name) for name in _HEAD_FIELDS}))
        for name in _CHECKS:
            getattr(kept, name).MergeFrom(getattr(fragment.catalog, name))
    return Definitions(
        head,
        **{
            name: {getattr(message, id_name): message for message in getattr(kept, name)}
            for name, (id_name, _) in _CHECKS.items()
        },
    )


def _problems(fragment: Fragment, path: FieldPath, faults: Iterable[Fault]) -> Iterator[Problem]:
    """Place the faults of a message that stands at a path; those that follow from a value left out say nothing new."""
    for fault in faults:
        place = (*path, *fault.path)
        if not any(place[: len(gap)] == gap[: len(place)] for gap in fragment.left_out):
            yield fragment.problem(place, fault.reason, fault.fix)


@lru_cache(maxsize=65_536)
def _refusal(expression: str, country_code: str, placed: bool) -> tuple[str, str] | None:  # noqa: FBT001
    return refusal(expression, country_code, placed=placed)


@dataclass(slots=True)
class _Survey:
    """What one pass over the source keeps: definitions, ids and what is referred to, but no offers and no places.

    Whether ids are unique and known is decided on sets once all is read; only when they are not, a second pass looks
    for the places. So a catalogue without faults costs one pass and little memory, whatever the order of its parts.
    """

    source: Path
    problems: list[Problem]
    head: Catalog = field(default_factory=Catalog)
    head_places: dict[str, tuple[Fragment, str]] = field(default_factory=dict)
    kept: Catalog = field(default_factory=Catalog)
    """All definitions in one message, as each message of its own would hold on to the fragment it came in."""
    known: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in _CHECKS})
    wanted: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in _CHECKS})
    twice: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in (*_CHECKS, "offers")})
    offer_ids: set[str] = field(default_factory=set)
    offer_count: int = 0
    reaching: set[str] = field(default_factory=set)
    """Venues whose own radius an offer needs."""
    selecting: dict[bytes, VenueSelector] = field(default_factory=dict)
    """Selectors of offers that need the radius of the venues themselves."""
    cut_out: set[str] = field(default_factory=set)
    """Zones that offers exclude."""
    hours: set[tuple[str, str, str, bool]] = field(default_factory=set)
    """Opening hours with whose country's holidays they mean (a country's own, or that of one of `known`), and whether
    they are those of a place."""
    parts_of_day: set[tuple[str, str, str, bool]] = field(default_factory=set)
    """The same of dayparts, by their ids."""
    opening: set[tuple[str, ...]] = field(default_factory=set)
    """The venues of offers that are shown only when these are open."""
    suggestions: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, fragment: Fragment) -> None:
        """Check the parts of a fragment by themselves and note how they hang together."""
        catalog = fragment.catalog
        self._add_head(fragment)
        for name in _CHECKS:
            if getattr(catalog, name):
                self._add_definitions(fragment, name)
        faults: list[Fault] = []
        check_offer, add_offer = rules.check_offer, self._add_offer
        for index, offer in enumerate(catalog.offers):
            check_offer(offer, faults)
            add_offer(offer)
            if faults:
                self.problems += _problems(fragment, ("offers", index), faults)
                faults.clear()
        self.offer_count += len(catalog.offers)

    def _add_head(self, fragment: Fragment) -> None:
        faults: list[Fault] = []
        rules.check_head(fragment.catalog, faults)
        for name in _HEAD_FIELDS:
            value = getattr(fragment.catalog, name)
            if not value:
                continue
            first = getattr(self.head, name)
            if not first:
                setattr(self.head, name, value)
                self.head_places[name] = fragment, _place(fragment, (name,))
            elif value != first:
                reason = f"is '{value}', but '{first}' at {self.head_places[name][1]}"
                faults.append(Fault((name,), reason, "give it once, or the same each time"))
        self.problems += _problems(fragment, (), faults)

    def _add_definitions(self, fragment: Fragment, name: str) -> None:
        id_name, check_one = _CHECKS[name]
        known, kept = self.known[name], getattr(self.kept, name)
        before = len(kept)
        kept.MergeFrom(getattr(fragment.catalog, name))
        faults: list[Fault] = []
        for index, message in enumerate(islice(kept, before, None)):
            check_one(message, faults)
            if faults:
                self.problems += _problems(fragment, (name, index), faults)
                faults.clear()
            identity = getattr(message, id_name)
            if known.setdefault(identity, message) is not message and identity:
                self.twice[name].add(identity)
            if name == "placements" and message.ranking_strategy_id:
                self.wanted["ranking_strategies"].add(message.ranking_strategy_id)
            elif name == "venues" and message.opening_hours:
                self.hours.add((message.opening_hours, "", message.country_code, True))
            elif name == "zones":
                self.wanted["zones"].update(message.zone_ids, message.excluded_zone_ids)

    def _add_offer(self, offer: Offer) -> None:
        offer_id = offer.offer_id
        if offer_id in self.offer_ids:
            self.twice["offers"].add(offer_id)
        elif offer_id:
            self.offer_ids.add(offer_id)
        target, wanted = offer.target, self.wanted
        if venue_ids := target.venue_ids[:]:
            wanted["venues"].update(venue_ids)
            if not target.HasField("radius_m"):
                self.reaching.update(venue_ids)
        if zone_ids := target.zone_ids[:]:
            wanted["zones"].update(zone_ids)
        if target.excluded_zone_ids or target.venue_selectors:
            self._add_seldom(target)
        if placement_ids := offer.placement_ids[:]:
            wanted["placements"].update(placement_ids)
        self._add_times(offer)

    def _add_times(self, offer: Offer) -> None:
        target = offer.target
        if offer.HasField("availability"):
            availability = offer.availability
            if expression := availability.opening_hours:
                self._add_hours(offer, expression)
            if daypart_ids := availability.daypart_ids[:]:
                self._add_dayparts(offer, daypart_ids)
            if availability.only_when_open and not target.venue_selectors:
                self.opening.add(tuple(target.venue_ids))
        if offer.HasField("redemption") and (expression := offer.redemption.opening_hours):
            self._add_hours(offer, expression)
        if daypart_ids := offer.preferred_daypart_ids[:]:
            self._add_dayparts(offer, daypart_ids)

    def _add_seldom(self, target: Target) -> None:
        self.wanted["zones"].update(target.excluded_zone_ids)
        self.cut_out.update(target.excluded_zone_ids)
        if not target.HasField("radius_m"):
            for selector in target.venue_selectors:
                kept = VenueSelector()  # a copy, which does not hold on to the fragment
                kept.CopyFrom(selector)
                self.selecting[kept.SerializeToString(deterministic=True)] = kept

    def _add_hours(self, offer: Offer, expression: str) -> None:
        placed = not offer.target.everywhere
        if names_holidays(expression):
            self.hours.update((expression, *country, placed) for country in self._countries(offer))
        else:
            self.hours.add((expression, "", "", placed))

    def _add_dayparts(self, offer: Offer, daypart_ids: list[str]) -> None:
        self.wanted["dayparts"].update(daypart_ids)
        placed = not offer.target.everywhere
        for country in self._countries(offer):
            self.parts_of_day.update((daypart_id, *country, placed) for daypart_id in daypart_ids)

    def _countries(self, offer: Offer) -> Iterator[tuple[str, str]]:
        """Give whose holidays an offer's hours mean, once for each of its places."""
        own = offer.availability.country_code
        if own:
            yield "", own
            return
        target = offer.target
        for name, ids in (("venues", target.venue_ids), ("zones", target.zone_ids)):
            known = self.known[name]
            for identity in ids:
                place = known.get(identity)
                yield ("", place.country_code) if place is not None else (name, identity)
        if target.circles or target.areas or target.everywhere:
            yield "", ""

    def _refused(self, expression: str, name: str, key: str, placed: bool) -> tuple[str, str] | None:  # noqa: FBT001
        """Why hours are refused in the country given, or in that of the place given, if it is known."""
        if name:
            place = self.known[name].get(key)
            if place is None:  # a problem of its own; the grammar can be checked all the same
                return _refusal(expression, _ANY_COUNTRY, placed)
            key = place.country_code
        return _refusal(expression, key or self.head.country_code, placed)

    def _refused_daypart(self, daypart_id: str, name: str, key: str, placed: bool) -> tuple[str, str] | None:  # noqa: FBT001
        """Why a daypart is refused in an offer, beyond what is wrong with it anywhere."""
        daypart = self.known["dayparts"].get(daypart_id)
        if daypart is None or _refusal(daypart.opening_hours, _ANY_COUNTRY, True):  # noqa: FBT003
            return None
        return self._refused(daypart.opening_hours, name, key, placed)

    def check_whole(self) -> None:
        """Note what the document lacks as a whole."""
        faulty = {problem.field for problem in self.problems}
        if not self.head.catalog_id and "catalog_id" not in faulty:
            fix = "write the name that requests will use, such as 'catalog_id: paris'"
            self.problems.append(Problem(str(self.source), None, "catalog_id", "missing", fix))
        if not self.offer_count and "offers" not in faulty:
            fix = "write at least one offer"
            self.problems.append(Problem(str(self.source), None, "offers", "missing", fix))
        default = self.head.default_ranking_strategy_id
        if default and default not in self.known["ranking_strategies"]:
            fragment = self.head_places["default_ranking_strategy_id"][0]
            fault = self.unknown("ranking_strategies", default, ("default_ranking_strategy_id",))
            self.problems += _problems(fragment, (), [fault])

    def has_cross_faults(self, *, complete: bool) -> bool:
        """Whether an id is given twice or, where nothing of the document is missing, names nothing, or hours fail."""
        return any(self.twice.values()) or (
            complete
            and (
                any(self.wanted[name] - known.keys() for name, known in self.known.items())
                or any(not venue.HasField("radius_m") for venue in self._venues(self.reaching))
                or any(self._without_reach(selector) for selector in self.selecting.values())
                or any(any(self.zone_faults(zone)) for zone in self.known["zones"].values())
                or any(cut_faults(sorted(self.cut_out), (), self.known["zones"]))
                or any(self._refused(*hours) is not None for hours in self.hours)
                or any(self._refused_daypart(*daypart) is not None for daypart in self.parts_of_day)
                or any(map(self._never_closes, self.opening))
            )
        )

    def _venues(self, ids: Iterable[str]) -> Iterator[Venue]:
        known = self.known["venues"]
        return (known[identity] for identity in ids if identity in known)

    def _without_reach(self, selector: VenueSelector) -> str:
        """The first venue a selector finds that has no radius of its own; "" if there is none."""
        without = (venue for venue in self.known["venues"].values() if not venue.HasField("radius_m"))
        return next((venue.venue_id for venue in without if selects(selector, venue)), "")

    def zone_faults(self, zone: Zone) -> Iterator[Fault]:
        """Find what a zone says that does not agree with the rest of the catalogue."""
        zones = self.known["zones"]
        for name, ids in (("zone_ids", zone.zone_ids), ("excluded_zone_ids", zone.excluded_zone_ids)):
            for index, identity in enumerate(ids):
                if identity not in zones:
                    yield self.unknown("zones", identity, (name, index))
        yield from zone_faults(zone, zones)

    def _never_closes(self, venue_ids: Sequence[str]) -> bool:
        """Whether none of some venues, all known, has hours."""
        known = self.known["venues"]
        return bool(venue_ids) and all(
            identity in known and not known[identity].opening_hours for identity in venue_ids
        )

    def venue_faults(self, venue: Venue) -> Iterator[Fault]:
        """Find what a venue says that does not agree with the rest of the catalogue."""
        expression = venue.opening_hours
        refused = self._refused(expression, "", venue.country_code, placed=True) if expression else None
        if refused is not None:
            yield Fault(("opening_hours",), *refused)

    def _target_faults(self, target: Target) -> Iterator[Fault]:
        yield from cut_faults(target.excluded_zone_ids, ("target", "excluded_zone_ids"), self.known["zones"])
        for index, selector in enumerate(target.venue_selectors if not target.HasField("radius_m") else ()):
            if identity := self._without_reach(selector):
                reason = f"selects the venue '{identity}', and neither it nor the target has a radius_m"
                fix = "write the radius_m of the target or of the venue in metres"
                yield Fault(("target", "venue_selectors", index), reason, fix)

    def offer_faults(self, offer: Offer) -> Iterator[Fault]:
        """Find what an offer says that does not agree with the rest of the catalogue."""
        target, placed = offer.target, not offer.target.everywhere
        countries = list(self._countries(offer))
        for name, ids, path in (
            ("venues", target.venue_ids, ("target", "venue_ids")),
            ("zones", target.zone_ids, ("target", "zone_ids")),
            ("zones", target.excluded_zone_ids, ("target", "excluded_zone_ids")),
            ("placements", offer.placement_ids, ("placement_ids",)),
            ("dayparts", offer.availability.daypart_ids, ("availability", "daypart_ids")),
            ("dayparts", offer.preferred_daypart_ids, ("preferred_daypart_ids",)),
        ):
            known = self.known[name]
            for index, identity in enumerate(ids):
                if identity not in known:
                    yield self.unknown(name, identity, (*path, index))
                elif name == "venues" and not target.HasField("radius_m") and not known[identity].HasField("radius_m"):
                    reason = f"neither the target nor the venue '{identity}' has a radius_m"
                    yield Fault((*path, index), reason, "write the radius_m of the target or of the venue in metres")
                elif name == "dayparts":
                    refusals = (self._refused_daypart(identity, *country, placed) for country in countries)
                    for reason, fix in islice(filter(None, refusals), 1):
                        yield Fault((*path, index), f"'{identity}' cannot be used here: {reason}", fix)
        yield from self._target_faults(target)
        for name, expression in (
            ("availability", offer.availability.opening_hours),
            ("redemption", offer.redemption.opening_hours),
        ):
            refusals = (self._refused(expression, *country, placed) for country in countries if expression)
            refused = next(filter(None, refusals), None)
            if refused is not None:
                yield Fault((name, "opening_hours"), *refused)
        if offer.availability.only_when_open and self._never_closes(target.venue_ids) and not target.venue_selectors:
            fix = "write the opening_hours of the venues, or leave only_when_open out"
            yield Fault(("availability", "only_when_open"), "none of its venues has opening_hours", fix)

    def placement_faults(self, placement: Placement) -> Iterator[Fault]:
        """Find what a placement says that does not agree with the rest of the catalogue."""
        strategy_id = placement.ranking_strategy_id
        if strategy_id and strategy_id not in self.known["ranking_strategies"]:
            yield self.unknown("ranking_strategies", strategy_id, ("ranking_strategy_id",))

    def unknown(self, name: str, identity: str, path: FieldPath) -> Fault:
        """Describe a reference to something the catalogue does not have."""
        close = self.suggestions.get((name, identity))
        if close is None and len(self.suggestions) < _MOST_SUGGESTIONS:
            close = close_to(identity, islice(self.known[name], _MOST_COMPARED)) or ""
            self.suggestions[name, identity] = close
        noun = _NOUNS[name]
        fix = f"did you mean '{close}'?" if close else f"write the id of a {noun} of this catalogue, or add the {noun}"
        return Fault(path, f"there is no {noun} '{identity[:60]}'", fix)

    def checked(self) -> Checked:
        """Give what the pass kept."""
        return Checked(self.head, **self.known, offer_count=self.offer_count)


def _place(fragment: Fragment, path: FieldPath) -> str:
    """Write where a value stands, for a reason that points to it."""
    line = fragment.line_of(path)
    return f"{fragment.file}:{line}" if line is not None else f"{fragment.file} {fragment.problem(path, '', '').field}"


def _locate(source: Path, survey: _Survey, *, complete: bool) -> Iterator[Problem]:
    """Read the source again and place the faults that only the whole of it has shown."""
    first: dict[tuple[str, str], str] = {}
    for fragment in document.read(source, []):
        for name, twice in survey.twice.items():
            id_name = _CHECKS[name][0] if name in _CHECKS else "offer_id"
            for index, message in enumerate(getattr(fragment.catalog, name) if twice else ()):
                identity = getattr(message, id_name)
                if identity not in twice:
                    continue
                path = (name, index, id_name)
                if (name, identity) in first:
                    reason = f"'{identity}' is given twice, first at {first[name, identity]}"
                    yield fragment.problem(path, reason, "give each its own id, or remove one")
                else:
                    first[name, identity] = _place(fragment, path)
        if complete:
            for name, faults_of in (
                ("zones", survey.zone_faults),
                ("venues", survey.venue_faults),
                ("offers", survey.offer_faults),
                ("placements", survey.placement_faults),
            ):
                for index, message in enumerate(getattr(fragment.catalog, name)):
                    yield from _problems(fragment, (name, index), faults_of(message))


if __name__ == "__main__":  # the check on another core: see compile.py
    try:
        check(Path(sys.argv[1]))
    except CatalogError:
        sys.exit(1)
