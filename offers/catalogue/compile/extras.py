"""Records of snapshot.EXTRA: what few entries need for uncertain and missing locations, travel and dayparts."""

import math
from statistics import NormalDist
from typing import NamedTuple

from offers.catalogue.compile.places import NO_PIECES, TargetPlace
from offers.catalogue.geo.geometry import RING_ROOM, RINGS, ring_radius
from offers.catalogue.snapshot import NO_SCHEDULE, NO_SHAPE
from offers.v1.offer_pb2 import Availability, MissingLocation, ReachableBeforeEnd, Target
from offers.v1.venue_pb2 import Travel, TravelMode

DEFAULT_MIN_INSIDE = 0.5
SPEEDS_KMH = {
    TravelMode.TRAVEL_MODE_WALKING: 5.0,
    TravelMode.TRAVEL_MODE_CYCLING: 15.0,
    TravelMode.TRAVEL_MODE_TRANSIT: 18.0,
    TravelMode.TRAVEL_MODE_DRIVING: 30.0,
}
"""Speeds through a city, including stops."""
DETOUR = 1.3
"""Ratio of the distance through streets to the straight line: a common mean of road networks."""


class PlaceRules(NamedTuple):
    """The rules of an offer for all of its places."""

    min_inside: float
    missing: int
    reachable: int


NO_RULES = PlaceRules(
    DEFAULT_MIN_INSIDE, MissingLocation.MISSING_LOCATION_DENY, ReachableBeforeEnd.REACHABLE_BEFORE_END_IGNORE
)


class Extra(NamedTuple):
    """A record of snapshot.EXTRA."""

    min_inside: float = DEFAULT_MIN_INSIDE
    depth: float = math.sqrt(-2 * math.log(1 - DEFAULT_MIN_INSIDE))
    fringe: float = 0.0
    rings_inside: float = 0.0
    rings_outside: float = 0.0
    speed: float = math.inf
    delay: float = 0.0
    shape: int = NO_SHAPE
    excluded_first: int = 0
    excluded_last: int = 0
    joined_first: int = 0
    joined_last: int = 0
    daypart_schedule: int = NO_SCHEDULE
    missing: int = MissingLocation.MISSING_LOCATION_DENY
    reachable: int = ReachableBeforeEnd.REACHABLE_BEFORE_END_IGNORE


def rules_of(target: Target, availability: Availability) -> PlaceRules | None:
    """Return the rules of an offer, or None if all are the default."""
    reachable = availability.reachable_before_end
    if not (target.missing_location or reachable or target.HasField("min_inside_probability")):
        return None
    return PlaceRules(
        target.min_inside_probability if target.HasField("min_inside_probability") else DEFAULT_MIN_INSIDE,
        target.missing_location or NO_RULES.missing,
        reachable or NO_RULES.reachable,
    )


def extra_of(rules: PlaceRules, place: TargetPlace, daypart_schedule: int) -> Extra:
    """Return the record of an offer at a place."""
    least = rules.min_inside
    by_rings = place.shape != NO_SHAPE or place.cuts != NO_PIECES
    inside = RING_ROOM * ring_radius(math.ceil(RINGS * least))
    outside = RING_ROOM * ring_radius(math.floor(RINGS * (1 - least)) + 1)
    speed, delay, reachable = math.inf, 0.0, NO_RULES.reachable
    if place.travel is not None:
        speed, delay, reachable = *pace(place.travel), rules.reachable
    return Extra(
        min_inside=least,
        depth=math.sqrt(-2 * math.log(1 - least)),
        fringe=outside if by_rings else max(0.0, -NormalDist().inv_cdf(least)),
        rings_inside=inside,
        rings_outside=outside,
        speed=speed,
        delay=delay,
        shape=place.shape,
        excluded_first=place.cuts[0],
        excluded_last=place.cuts[1],
        joined_first=place.joined[0],
        joined_last=place.joined[1],
        daypart_schedule=daypart_schedule,
        missing=rules.missing,
        reachable=reachable,
    )


def pace(travel: Travel) -> tuple[float, float]:
    """Return the metres per second towards a venue as the crow flies, and the seconds before one sets out."""
    kmh = travel.speed_kmh if travel.HasField("speed_kmh") else SPEEDS_KMH[travel.mode]
    return kmh / 3.6 / DETOUR, float(travel.delay.seconds)
