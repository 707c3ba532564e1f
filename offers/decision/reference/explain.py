"""Verdicts on offers: why each one is in an answer, or why not. The only explainer of the project.

ExplainOffers, `offers query --explain` and `offers query --map` report what is found here, in the wording of words.py.
The verdicts come from the reference, which reads the messages of the catalogue: some milliseconds an offer. This is
production code for explanations, and is never on the path of GetOffers.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from google.type.latlng_pb2 import LatLng

from offers.catalogue.geo.areas import Area, contains
from offers.catalogue.hours import schedules
from offers.catalogue.hours.schedules import HORIZON_DAYS, NEVER, zone_clock
from offers.decision.reference import decide as reference
from offers.decision.reference import times as reference_times
from offers.decision.reference.behaviour import ActiveRule, held
from offers.decision.reference.decide import QualifyingPlace, Ranked
from offers.decision.reference.people import NOBODY, Failed, KnownPerson, against, campaign_of, variants_of
from offers.decision.reference.people import strategy_of as strategy_of_variants
from offers.decision.reference.places import OfferPlace, Piece, chance_inside, distance_m, pieces_of, places_of
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog
from offers.v1.limits_pb2 import Campaign
from offers.v1.offer_pb2 import MissingLocation, Offer
from offers.v1.venue_pb2 import Circle

FARTHEST = 6.0
"""Standard deviations of the location beyond which a person is certainly outside a place."""
_TIED = 1e-9
"""Scores (logarithms) that differ by no more are equal up to rounding."""
_NEARLY, _LEVEL_DEG, _LEVEL_M = 0.98, 60.0, 30_000.0
"""Distances to areas are measured on a plane: within 2 % up to this latitude in degrees and this distance in metres."""


class Why(StrEnum):
    """A reason for the verdict on an offer at a place, the person aside."""

    RETURNED = "returned"
    """The offer is in the answer, shown for this place."""
    OTHER_PLACE = "other place"
    """The offer qualifies here too, and is in the answer for a better place."""
    PLACEMENT = "placement"
    """The offer is for other placements than the one asked for."""
    LANGUAGE = "language"
    """The offer is for other languages than the one asked for."""
    CURRENCY = "currency"
    """The offer is for other currencies than the one asked for."""
    CHANNEL = "channel"
    """The offer is for other channels than the one asked from."""
    NO_LOCATION = "no location"
    """The request has no location, and the offer does not allow that."""
    OUTSIDE = "outside"
    """The location is outside the place."""
    CUT_OUT = "cut out"
    """The location is in a zone that is cut out of the place."""
    UNLIKELY = "unlikely"
    """The location is too uncertain, or too near the edge, to be inside with the probability needed."""
    OVER = "over"
    """The windows of the offer or its campaign are over."""
    NOT_BEGUN = "not begun"
    """The windows of the offer or its campaign have not begun."""
    CLOSED = "closed"
    """The offer's own opening hours are closed."""
    DAYPART = "daypart"
    """None of the offer's dayparts is on."""
    VENUE_CLOSED = "venue closed"
    """The venue is closed, or closes within the offer's closing margin."""
    NOT_REDEEMABLE = "not redeemable"
    """The benefit cannot be used now, and the offer is shown only while it can."""
    UNREACHABLE = "unreachable"
    """The offer ends before the person can be there."""
    FALLBACK = "fallback"
    """The offer is a fallback, and other offers qualify."""
    EXCLUSION_GROUP = "exclusion group"
    """A better offer of the same exclusion group is in the answer."""
    LAYOUT = "layout"
    """The placement's limit for a venue, brand or category is used up."""
    BEYOND = "beyond"
    """The answer already holds as many better offers as were asked for, or as the placement takes."""
    TIED = "tied"
    """The same, but its last offer is no better: offers of equal score are ordered by the seed or by id."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for a verdict, with the values that were compared."""

    why: Why
    metres: float | None = None
    """Distance to the place, for OUTSIDE and UNLIKELY."""
    until: int | None = None
    """When it begins or opens, or when it was over, in seconds since 1970 UTC. None: never, within 400 days."""
    value: float = 0.0
    """The probability of being inside for UNLIKELY, the offer's score for BEYOND and TIED."""
    needed: float = 0.0
    """The least probability for UNLIKELY, the score of the last offer in the answer for BEYOND and TIED."""
    detail: str = ""
    """CUT_OUT: the zone. LAYOUT: "venue", "brand" or "category". NOT_REDEEMABLE: the Why of the redemption's window or
    hours. BEYOND and TIED: the number of offers in the answer."""


@dataclass(frozen=True, slots=True)
class PlaceVerdict:
    """Whether an offer qualifies at one of its places, by place and time alone."""

    place: OfferPlace
    gap_m: float | None
    """Metres from the location to the place, 0 inside. None: there is no location, or the place is everywhere."""
    found: QualifyingPlace | None
    """How the offer qualifies here. None: it does not."""
    reasons: tuple[Reason, ...]
    """Everything against the offer here. Empty: it qualifies."""


@dataclass(frozen=True, slots=True)
class PlacedOffer:
    """An offer, and the verdicts on it that concern the request, place and time."""

    offer: Offer
    refused: tuple[Reason, ...]
    """The terms of the request that the offer does not fit: PLACEMENT, LANGUAGE, CURRENCY, CHANNEL."""
    places: tuple[PlaceVerdict, ...]
    """The verdict at each place, in the order of the offer's target."""
    best: PlaceVerdict | None
    """The place the offer would be shown for. None: it qualifies at none."""

    @property
    def shown(self) -> PlaceVerdict:
        """The best place, else the one with the fewest failures, of these the nearest."""
        return self.best or min(self.places, key=lambda one: (len(one.reasons), one.gap_m or 0.0))

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Everything against the offer, the person aside: its terms, and the reasons at `shown`."""
        return *self.refused, *self.shown.reasons


@dataclass(frozen=True, slots=True)
class OfferVerdict:
    """Why an offer is in an answer, or why not."""

    placed: PlacedOffer
    failed: tuple[Failed, ...]
    """The checks on the person that fail."""
    rank: int = 0
    """Its rank in the answer, from 1. 0: it is not in the answer."""
    ranked: Ranked | None = None
    """How it scores. None: it does not qualify, or is a fallback that is not needed."""
    withheld: tuple[Reason, ...] = ()
    """Why it is not in the answer though it qualifies: FALLBACK, EXCLUSION_GROUP, LAYOUT, BEYOND, TIED."""
    rules: tuple[ActiveRule, ...] = ()
    """The behaviour rules that lift it, where it has a score."""

    @property
    def is_eligible(self) -> bool:
        """Whether the offer may be shown."""
        return bool(self.rank or self.ranked)


def explain(
    catalog: Catalog, query: Query, known: KnownPerson = NOBODY, ranks: Mapping[str, int] | None = None,
    between: Callable[[], None] = lambda: None,
) -> list[OfferVerdict]:  # fmt: skip
    """Return the verdict on each offer of a catalogue, in its order.

    The catalogue may be a part of one: some offers, those of the answer among them, with everything they refer to.
    `ranks` are those of the offers in the answer, by id, from 1; None takes the answer of the reference. An offer in
    the answer passes every check: the reference might refuse it by a rounding error. The placement must be known.
    `between` is called after each step of the work.
    """
    if ranks is None:
        answer, _ = reference.decide(catalog, query, known)
        ranks = {one.offer_id: rank for rank, one in enumerate(answer, 1)}
    channel = reference.channel_of(catalog, query)
    placed = []
    for one in place_verdicts(catalog, query):
        placed.append(one)
        between()
    answered = [
        (one.offer, one.best.found) for one in placed if one.best and one.best.found and one.offer.offer_id in ranks
    ]
    rivals = _Rivals(catalog, query, known, ranks, answered)
    verdicts = []
    for one in placed:
        rank = ranks.get(one.offer.offer_id, 0)
        failed = () if rank else tuple(against(catalog, one.offer, query, channel, known))
        verdict = OfferVerdict(one, failed, rank)
        found = one.best.found if one.best else None
        if found and (rank or not (one.refused or failed)):
            verdict = rivals.compared(verdict, found)
        verdicts.append(verdict)
        between()
    return verdicts


class _Rivals:
    """The offers of an answer, with which others are compared."""

    def __init__(
        self, catalog: Catalog, query: Query, known: KnownPerson, ranks: Mapping[str, int],
        answered: list[tuple[Offer, QualifyingPlace]],
    ) -> None:  # fmt: skip
        self._catalog, self._query, self._known, self._ranks, self._answered = catalog, query, known, ranks, answered
        self._has_proper = any(not offer.fallback for offer, _ in answered)
        self._strategy = strategy_of_variants(catalog, variants_of(catalog, query, known))
        ranked_by = reference.strategy_of(catalog, query, self._strategy)
        self._rules = held(catalog, ranked_by, query.time, known.segments, known.did)

    def compared(self, verdict: OfferVerdict, found: QualifyingPlace) -> OfferVerdict:
        """Add to the verdict on an offer that qualifies how it scores, and what keeps it from the answer."""
        offer = verdict.placed.offer
        if offer.fallback and self._has_proper:
            return replace(verdict, withheld=(Reason(Why.FALLBACK),))
        beside = [one for one in self._answered if one[0].offer_id != offer.offer_id]
        ranked = reference.ranking(self._catalog, self._query, [*beside, (offer, found)], self._strategy, self._known)
        laid_out = reference.laid_out(self._catalog, self._query, ranked)
        own, limits = next((one, limits) for one, limits in laid_out if one.offer_id == offer.offer_id)
        rules = tuple(rule for rule in self._rules if rule.applies(offer))
        withheld = () if verdict.rank else self._withheld(own, limits, ranked)
        return replace(verdict, ranked=own, withheld=withheld, rules=rules)

    def _withheld(self, own: Ranked, limits: Sequence[str], ranked: Sequence[Ranked]) -> tuple[Reason, ...]:
        """Return why an offer is not in the answer, by the limits of `reference.laid_out`."""
        reasons = [
            Reason(Why.EXCLUSION_GROUP) if limit == "group" else Reason(Why.LAYOUT, detail=limit)
            for limit in limits
            if limit != "most"
        ]
        if reasons:
            return tuple(reasons)
        last = min((one.log_score for one in ranked if one.offer_id in self._ranks), default=own.log_score)
        is_tied = math.isclose(own.log_score, last, rel_tol=0.0, abs_tol=_TIED)
        why, score, needed = Why.TIED if is_tied else Why.BEYOND, math.exp(own.log_score), math.exp(last)
        return (Reason(why, value=score, needed=needed, detail=str(len(self._ranks))),)


def place_verdicts(catalog: Catalog, query: Query) -> Iterator[PlacedOffer]:
    """Yield the verdicts on each offer at each of its places, in the order of the catalogue, the person aside."""
    channel = reference.channel_of(catalog, query)
    gaps: dict[int, tuple[Piece, float]] = {}
    for offer in catalog.offers:
        refused = tuple(Reason(Why(name)) for name in reference.refusals(offer, query, channel))
        verdicts = []
        for place in places_of(catalog, offer):
            gap = _gap_to(place.piece, query, gaps)
            reasons, found = _judged(catalog, offer, place, query, gap)
            verdicts.append(PlaceVerdict(place, gap, found, tuple(reasons)))
        nearest = reference.best_of(one.found for one in verdicts if one.found is not None)
        best = next((one for one in verdicts if one.found is nearest), None) if nearest else None
        yield PlacedOffer(offer, refused, tuple(verdicts), best)


def _judged(
    catalog: Catalog, offer: Offer, place: OfferPlace, query: Query, gap: float | None
) -> tuple[list[Reason], QualifyingPlace | None]:
    """Return everything against an offer at a place, or how it qualifies there."""
    reach = FARTHEST * query.sigma_m
    # The probability of being inside an area is slow to work out, so it is skipped for areas that are far away.
    is_sure = query.sigma_m == 0 or (abs(query.latitude) < _LEVEL_DEG and reach < _LEVEL_M)
    is_far = is_sure and gap is not None and gap * _NEARLY > reach + 1.0
    found = None if is_far else reference.found_at(catalog, offer, place, query, chance_inside(place, query))
    if found is not None:
        return [], found
    reasons = [Reason(Why.OUTSIDE, metres=gap)] if is_far else list(_against_place(catalog, offer, place, query, gap))
    reasons += _against_time(catalog, offer, place, query)
    return reasons or [Reason(Why.UNREACHABLE)], None  # the only check that is left


def _against_place(
    catalog: Catalog, offer: Offer, place: OfferPlace, query: Query, gap: float | None
) -> Iterator[Reason]:  # fmt: skip
    """Yield why a location does not count as inside a place."""
    chance, least = chance_inside(place, query), reference.least_inside(offer)
    if chance is None:
        if offer.target.missing_location <= MissingLocation.MISSING_LOCATION_DENY:
            yield Reason(Why.NO_LOCATION)
    elif chance < least:
        whole = replace(place, cuts=())
        if place.cuts and (chance_inside(whole, query) or 0) >= least:
            yield Reason(Why.CUT_OUT, detail=_cutter(catalog, offer, query))
        elif chance > 0 or gap == 0:
            yield Reason(Why.UNLIKELY, metres=gap, value=chance, needed=least)
        else:
            yield Reason(Why.OUTSIDE, metres=gap)


def _cutter(catalog: Catalog, offer: Offer, query: Query) -> str:
    """Return the excluded zone in which the location most probably is."""
    zones = {zone.zone_id: zone for zone in catalog.zones}
    names = dict.fromkeys(offer.target.excluded_zone_ids)
    waiting = list(offer.target.zone_ids)
    while waiting:
        zone = zones[waiting.pop()]
        names |= dict.fromkeys(zone.excluded_zone_ids)
        waiting += zone.zone_ids

    def chance(name: str) -> float:
        places = (OfferPlace(piece, frozenset(), (), has_distance=False, position=(), time_zone="", country_code="")
                  for piece in pieces_of(catalog, name))  # fmt: skip
        return max((chance_inside(place, query) or 0.0 for place in places), default=0.0)

    return max(names, key=chance)


def _against_time(catalog: Catalog, offer: Offer, place: OfferPlace, query: Query) -> Iterator[Reason]:
    """Yield each limit in time that forbids an offer at a place now."""
    availability, redemption = offer.availability, offer.redemption
    clock = reference_times.clock_of(catalog, offer, place, query)
    country = availability.country_code or place.country_code

    def opening(rules: Sequence[str]) -> int | None:
        return _opens(
            [schedules.SchedulePart((rule,), clock, country, place.position) for rule in rules if rule], query.time
        )

    for name, end in reference_times.ends_of(catalog, offer, place, query).items():
        if end is not None:
            continue
        match name:
            case "window":
                yield _windowed(reference_times.spans_of(availability.windows), query.time)
            case "campaign":
                campaign = campaign_of(catalog, offer) or Campaign()
                yield _windowed(reference_times.spans_of([campaign.window]), query.time)
            case "hours":
                yield Reason(Why.CLOSED, until=opening([availability.opening_hours]))
            case "daypart":
                dayparts = reference_times.dayparts_of(catalog, availability.daypart_ids)
                yield Reason(Why.DAYPART, until=opening(dayparts))
            case "redemption window":
                one = _windowed(reference_times.spans_of([redemption.window]), query.time)
                yield Reason(Why.NOT_REDEEMABLE, until=one.until, detail=one.why)
            case "redemption hours":
                until = opening([redemption.opening_hours])
                yield Reason(Why.NOT_REDEEMABLE, until=until, detail=Why.CLOSED)
            case _:
                yield Reason(Why.VENUE_CLOSED, until=_venue_opens(offer, place, query.time))


def _venue_opens(offer: Offer, place: OfferPlace, time: int) -> int | None:
    """Return when the venue of a place opens next, by its own clock."""
    hours = (place.venue.opening_hours,) if place.venue else ()
    margin = offer.availability.closing_margin.seconds
    return _opens([schedules.SchedulePart(hours, place.time_zone, place.country_code, place.position, margin)], time)


def _windowed(windows: list[tuple[int, int]], time: int) -> Reason:
    """Return why none of some windows holds at a time: they have not begun, or are over."""
    coming = [start for start, _ in windows if start > time]
    if coming:
        return Reason(Why.NOT_BEGUN, until=min(coming))
    return Reason(Why.OVER, until=max(end for _, end in windows))


def _opens(parts: Sequence[schedules.SchedulePart], time: int) -> int | None:
    """Return when the first of some hours, all closed now, opens next. None: not within the horizon."""
    opens = []
    for part in parts:
        at, clock = time, zone_clock(part.time_zone)
        while at < time + HORIZON_DAYS * 86_400:
            is_open, until = part.at(at, clock)
            if is_open:
                opens.append(at)
            if is_open or until == NEVER:
                break
            at = until
    return min(opens, default=None)


def _gap_to(piece: Piece | None, query: Query, gaps: dict[int, tuple[Piece, float]]) -> float | None:
    """Return the metres to a piece, 0 inside. Areas are the same objects for all offers, and measured once."""
    if piece is None or math.isnan(query.latitude):
        return None
    if isinstance(piece, Circle):
        return gap_m(piece, query.latitude, query.longitude)
    if id(piece) not in gaps:
        gaps[id(piece)] = piece, gap_m(piece, query.latitude, query.longitude)
    return gaps[id(piece)][1]


def gap_m(piece: Piece, latitude: float, longitude: float) -> float:
    """Return the metres from a position to a circle or area, 0 inside; for areas within 1 % up to some 100 km."""
    here = LatLng(latitude=latitude, longitude=longitude)
    if isinstance(piece, Circle):
        return max(distance_m(here, piece.center) - piece.radius_m, 0.0)
    if contains(piece, latitude, longitude):
        return 0.0
    return min(distance_m(here, spot) for spot in _nearest(piece, latitude, longitude))


def _nearest(part: Area, latitude: float, longitude: float) -> Iterator[LatLng]:
    """Yield the nearest position on each ring of an area, for longitudes as they are and turned by 360 degrees."""
    wide = max(math.cos(math.radians(latitude)), 1e-6)
    for turn in (-360.0, 0.0, 360.0):
        for ring in part.rings:
            x, y = (ring[:, 0] + turn - longitude) * wide, ring[:, 1] - latitude
            dx, dy = np.diff(x), np.diff(y)
            length = np.maximum(dx * dx + dy * dy, 1e-300)
            along = np.clip(-(x[:-1] * dx + y[:-1] * dy) / length, 0.0, 1.0)
            near_x, near_y = x[:-1] + along * dx, y[:-1] + along * dy
            index = int(np.argmin(near_x * near_x + near_y * near_y))
            yield LatLng(latitude=latitude + near_y[index], longitude=longitude + near_x[index] / wide)
