"""Why each offer is in an answer or not, at each of its places: told by the reference, over the whole document.

As slow as the reference: for a person who wants to know, not for a request.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from google.type.latlng_pb2 import LatLng

from offers.catalogue.compile.areas import Area, contains
from offers.catalogue.hours import schedules
from offers.catalogue.hours.schedules import HORIZON_DAYS, NEVER, zone_clock
from offers.decision.reference import decide as reference
from offers.decision.reference import times as reference_times
from offers.decision.reference.decide import Found, Ranked
from offers.decision.reference.people import campaign_of
from offers.decision.reference.places import Piece, Place, chance_inside, distance_m, pieces_of, places_of
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog
from offers.v1.limits_pb2 import Campaign
from offers.v1.offer_pb2 import MissingLocation, Offer
from offers.v1.venue_pb2 import Circle

FARTHEST = 6.0
"""So many standard deviations from a place, one is outside for certain."""
_NEARLY, _LEVEL_DEG, _LEVEL_M = 0.98, 60.0, 30_000.0
"""Distances to areas are measured on a plane: to 2 % up to so many degrees of latitude and so many metres."""


class Why(StrEnum):
    """What became of an offer at a place."""

    RETURNED = "returned"
    """It is in the answer, with this place."""
    OTHER_PLACE = "other place"
    """It would qualify here, too; another of its places is better."""
    PLACEMENT = "placement"
    LANGUAGE = "language"
    CURRENCY = "currency"
    CHANNEL = "channel"
    """The offer is not for the placement, language, currency or channel asked for."""
    NO_LOCATION = "no location"
    """There is no location, and the offer does not allow that."""
    OUTSIDE = "outside"
    CUT_OUT = "cut out"
    """A zone is cut out here."""
    UNLIKELY = "unlikely"
    """The location is too uncertain, or too near the edge, for one to be inside likely enough."""
    OVER = "over"
    NOT_BEGUN = "not begun"
    """The windows are."""
    CLOSED = "closed"
    """By the offer's own hours."""
    DAYPART = "daypart"
    VENUE_CLOSED = "venue closed"
    """Or it closes within the margin."""
    NOT_REDEEMABLE = "not redeemable"
    """It may not be used now, and is shown only while it may."""
    UNREACHABLE = "unreachable"
    """It ends before one can be there."""
    FALLBACK = "fallback"
    """It is held back, because others qualify."""
    EXCLUSION_GROUP = "exclusion group"
    """A better one of its group is in the answer."""
    LAYOUT = "layout"
    """The placement's limit to a venue, brand or category is used up."""
    BEYOND = "beyond"
    """So many better ones are in the answer as were asked for, or as the placement holds."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for a verdict."""

    why: Why
    metres: float | None = None
    """To the place, for OUTSIDE and UNLIKELY."""
    until: int | None = None
    """When it begins or opens, or when it was over, in seconds since 1970 UTC; None: never, within 400 days."""
    chance: float | None = None
    """How likely one is inside, for UNLIKELY."""
    needed: float | None = None
    """How likely that must be."""
    detail: str = ""
    """The zone for CUT_OUT; "venue", "brand" or "category" for LAYOUT; "window" or "hours" for NOT_REDEEMABLE."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an offer at one of its places."""

    offer: Offer
    place: Place
    gap_m: float | None
    """Metres from the location to the place, 0 inside; None without a location, and for places everywhere."""
    reasons: tuple[Reason, ...]
    """All that stand against it there, or the one why it is there."""
    rank: int | None = None
    """Its place in the answer, from 1."""
    ranked: Ranked | None = None
    """What it is ranked by, if this is the place it would be shown for."""

    @property
    def is_returned(self) -> bool:
        """Whether it is in the answer, for this place."""
        return self.rank is not None


def explain(catalog: Catalog, query: Query) -> list[Verdict]:
    """The verdict on each offer at each of its places, in the order of the catalogue. The placement must be known."""
    channel = reference.channel_of(catalog, query)
    gaps: dict[int, tuple[Piece, float]] = {}
    verdicts: list[Verdict] = []
    bests: dict[str, tuple[Offer, Found]] = {}
    for offer in catalog.offers:
        refused = [Reason(Why(name)) for name in reference.refusals(offer, query, channel)]
        found: list[Found] = []
        for place in places_of(catalog, offer):
            gap = _known_gap(place.piece, query, gaps)
            reasons, one = judged(catalog, offer, place, query, gap)
            if one is not None and not refused:
                found.append(one)
            verdicts.append(Verdict(offer, place, gap, (*refused, *reasons)))
        best = reference.best_of(found)
        if best is not None:
            bests[offer.offer_id] = offer, best
    outcome = _outcome(catalog, query, bests)
    return [verdict if verdict.reasons else _settled(verdict, bests, outcome) for verdict in verdicts]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of an offer that qualifies."""

    reasons: tuple[Reason, ...]
    rank: int | None = None
    ranked: Ranked | None = None


def _outcome(catalog: Catalog, query: Query, bests: dict[str, tuple[Offer, Found]]) -> dict[str, _Outcome]:
    ranked = reference.ranking(catalog, query, list(bests.values()))
    outcome = {offer_id: _Outcome((Reason(Why.FALLBACK),)) for offer_id in bests}
    rank = 0
    whys = {"group": Why.EXCLUSION_GROUP, "most": Why.BEYOND}
    for one, limits in reference.laid_out(catalog, query, ranked):
        if limits:
            reasons = tuple(
                Reason(whys[limit]) if limit in whys else Reason(Why.LAYOUT, detail=limit) for limit in limits
            )
            outcome[one.offer_id] = _Outcome(reasons, None, one)
        else:
            rank += 1
            outcome[one.offer_id] = _Outcome((Reason(Why.RETURNED),), rank, one)
    return outcome


def _settled(verdict: Verdict, bests: dict[str, tuple[Offer, Found]], outcome: dict[str, _Outcome]) -> Verdict:
    """The verdict on an offer at a place where it qualifies."""
    _, best = bests[verdict.offer.offer_id]
    became = outcome[verdict.offer.offer_id]
    if best.place is verdict.place:
        return replace(verdict, reasons=became.reasons, rank=became.rank, ranked=became.ranked)
    return replace(verdict, reasons=(Reason(Why.OTHER_PLACE),) if became.rank is not None else became.reasons)


def judged(
    catalog: Catalog, offer: Offer, place: Place, query: Query, gap: float | None
) -> tuple[list[Reason], Found | None]:
    """What stands against an offer at a place, or how it qualifies there."""
    reach = FARTHEST * query.sigma_m
    # Whether one is inside an area by chance takes long to tell: not where it is far off.
    is_sure = query.sigma_m == 0 or (abs(query.latitude) < _LEVEL_DEG and reach < _LEVEL_M)
    is_far = is_sure and gap is not None and gap * _NEARLY > reach + 1.0
    found = None if is_far else reference.found_at(catalog, offer, place, query, chance_inside(place, query))
    if found is not None:
        return [], found
    reasons = [Reason(Why.OUTSIDE, metres=gap)] if is_far else list(_against_place(catalog, offer, place, query, gap))
    reasons += _against_time(catalog, offer, place, query)
    return reasons or [Reason(Why.UNREACHABLE)], None  # nothing else is left


def _against_place(catalog: Catalog, offer: Offer, place: Place, query: Query, gap: float | None) -> Iterator[Reason]:
    chance, least = chance_inside(place, query), reference.least_inside(offer)
    if chance is None:
        if offer.target.missing_location <= MissingLocation.MISSING_LOCATION_DENY:
            yield Reason(Why.NO_LOCATION)
    elif chance < least:
        whole = replace(place, cuts=())
        if place.cuts and (chance_inside(whole, query) or 0) >= least:
            yield Reason(Why.CUT_OUT, detail=_cutter(catalog, offer, query))
        elif chance > 0 or gap == 0:
            yield Reason(Why.UNLIKELY, metres=gap, chance=chance, needed=least)
        else:
            yield Reason(Why.OUTSIDE, metres=gap)


def _cutter(catalog: Catalog, offer: Offer, query: Query) -> str:
    """The zone cut out where the location most likely is."""
    zones = {zone.zone_id: zone for zone in catalog.zones}
    names = dict.fromkeys(offer.target.excluded_zone_ids)
    waiting = list(offer.target.zone_ids)
    while waiting:
        zone = zones[waiting.pop()]
        names |= dict.fromkeys(zone.excluded_zone_ids)
        waiting += zone.zone_ids

    def chance(name: str) -> float:
        places = (Place(piece, frozenset(), (), has_distance=False, position=(), time_zone="", country_code="")
                  for piece in pieces_of(catalog, name))  # fmt: skip
        return max((chance_inside(place, query) or 0.0 for place in places), default=0.0)

    return max(names, key=chance)


def _against_time(catalog: Catalog, offer: Offer, place: Place, query: Query) -> Iterator[Reason]:
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
                told = _windowed(reference_times.spans_of([redemption.window]), query.time)
                yield Reason(Why.NOT_REDEEMABLE, until=told.until, detail=told.why)
            case "redemption hours":
                yield Reason(Why.NOT_REDEEMABLE, until=opening([redemption.opening_hours]), detail="closed")
            case _:
                hours = (place.venue.opening_hours,) if place.venue else ()
                margin = availability.closing_margin.seconds
                part = schedules.SchedulePart(hours, place.time_zone, place.country_code, place.position, margin)
                yield Reason(Why.VENUE_CLOSED, until=_opens([part], query.time))


def _windowed(windows: list[tuple[int, int]], time: int) -> Reason:
    """Why none of some windows holds at a time."""
    coming = [start for start, _ in windows if start > time]
    if coming:
        return Reason(Why.NOT_BEGUN, until=min(coming))
    return Reason(Why.OVER, until=max(end for _, end in windows))


def _opens(parts: Sequence[schedules.SchedulePart], time: int) -> int | None:
    """When any of some hours, none of which holds, holds next; None: not within the horizon."""
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


def _known_gap(piece: Piece | None, query: Query, gaps: dict[int, tuple[Piece, float]]) -> float | None:
    """The gap to a piece; areas, which are the same objects for all offers, are measured once."""
    if piece is None or math.isnan(query.latitude):
        return None
    if isinstance(piece, Circle):
        return gap_m(piece, query.latitude, query.longitude)
    if id(piece) not in gaps:
        gaps[id(piece)] = piece, gap_m(piece, query.latitude, query.longitude)
    return gaps[id(piece)][1]


def gap_of(place: Place, query: Query) -> float | None:
    """Metres from the location to a place, 0 inside; None without a location, and for places everywhere."""
    return _known_gap(place.piece, query, {})


def gap_m(piece: Piece, latitude: float, longitude: float) -> float:
    """Metres from a position to a circle or area, 0 inside; for areas to about 1 % within some 100 km."""
    here = LatLng(latitude=latitude, longitude=longitude)
    if isinstance(piece, Circle):
        return max(distance_m(here, piece.center) - piece.radius_m, 0.0)
    if contains(piece, latitude, longitude):
        return 0.0
    return min(distance_m(here, spot) for spot in _nearest(piece, latitude, longitude))


def _nearest(part: Area, latitude: float, longitude: float) -> Iterator[LatLng]:
    """Where the edge of an area is nearest, in each frame of longitudes."""
    wide = max(math.cos(math.radians(latitude)), 1e-6)
    for turn in (-360.0, 0.0, 360.0):
        for ring in part.rings:
            x, y = (ring[:, 0] + turn - longitude) * wide, ring[:, 1] - latitude
            dx, dy = np.diff(x), np.diff(y)
            length = np.maximum(dx * dx + dy * dy, 1e-300)
            along = np.clip(-(x[:-1] * dx + y[:-1] * dy) / length, 0.0, 1.0)
            near_x, near_y = x[:-1] + along * dx, y[:-1] + along * dy
            place = int(np.argmin(near_x * near_x + near_y * near_y))
            yield LatLng(latitude=latitude + near_y[place], longitude=longitude + near_x[place] / wide)
