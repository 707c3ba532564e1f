"""What a decision is, in plain Python: the specification the compiled loops are tested against.

It reads the catalogue's messages, not the compiled snapshot, and looks at every offer: slow, obvious, and independent
of the grid, the arrays and the per-minute tables.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.type.latlng_pb2 import LatLng
from tzfpy import get_tz

from offers.catalogue.compile import (
    DEFAULT_DECAY,
    DEFAULT_LEVER,
    DEFAULT_MINIMUM,
    DEFAULT_NEARNESS,
    DEFAULT_NEARNESS_WITHOUT_DISTANCE,
    DEFAULT_TIMELINESS,
    DEFAULT_VALUE,
)
from offers.catalogue.schedules import HORIZON_DAYS, NEVER, Part, zone_clock
from offers.model.query import MAX_OFFERS, Query
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import (
    TIME_ZONE_BASIS_FIXED,
    TIME_ZONE_BASIS_UNSPECIFIED,
    TIME_ZONE_BASIS_VENUE,
    Offer,
)
from offers.v1.ranking_pb2 import Decay, RankingStrategy

SEMI_MAJOR_M, FLATTENING, MEAN_RADIUS_M = 6_378_137.0, 1 / 298.257223563, 6_371_008.8


@dataclass(frozen=True, slots=True)
class Place:
    """One place at which an offer may be shown."""

    point: LatLng | None
    """None: everywhere."""
    radius_m: float
    has_distance: bool
    venue_id: str
    time_zone: str
    """Its own, else that of its position, else the catalogue's."""
    country_code: str
    opening_hours: str = ""
    """Of the venue."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One offer of the decision."""

    offer_id: str
    venue_id: str
    distance_m: float | None
    valid_until: int | None
    log_score: float
    factors: tuple[tuple[float, float], ...]
    """(value, weight) of nearness, timeliness, value and lever."""
    redeemable: bool


def decide(catalog: Catalog, query: Query) -> tuple[list[Ranked], int]:
    """The offers of a decision, best first, and how many qualify. The query's placement must be known."""
    placement = next((known for known in catalog.placements if known.placement_id == query.surface.placement), None)
    named = (placement.ranking_strategy_id if placement else "") or catalog.default_ranking_strategy_id
    strategy = next((one for one in catalog.ranking_strategies if one.ranking_strategy_id == named), RankingStrategy())
    channel = query.surface.channel or (placement.channel if placement else "")
    eligible = [
        (offer, *best)
        for offer in catalog.offers
        if _admits(offer, query, channel) and (best := _best_place(catalog, offer, query))
    ]
    if any(not offer.fallback for offer, *_ in eligible):
        eligible = [found for found in eligible if not found[0].fallback]
    ranked = [_ranked(catalog, strategy, query, *found) for found in eligible]
    order = {name: number for number, name in enumerate(sorted(offer.offer_id for offer in catalog.offers))}
    ranked.sort(key=lambda one: (-one.log_score, _turn(query.seed, order[one.offer_id])))
    most = placement.max_offers if placement and placement.HasField("max_offers") else MAX_OFFERS
    return ranked[: min(query.surface.max_offers, most)], len(ranked)


def _admits(offer: Offer, query: Query, channel: str) -> bool:
    asked = query.surface
    tags = [tag.lower() for tag in offer.language_codes]
    benefit = offer.benefit
    sums = [benefit.amount_off, benefit.fixed_price, benefit.minimum_order, benefit.maximum_discount]
    currencies = set(offer.currency_codes) or {money.currency_code for money in sums if money.currency_code}
    return (
        (not asked.placement or not offer.placement_ids or asked.placement in offer.placement_ids)
        and (not asked.language or not tags or any(f"{asked.language}-".startswith(f"{tag}-") for tag in tags))
        and (not asked.currency or not currencies or asked.currency in currencies)
        and (not channel or not offer.channels or channel in offer.channels)
    )


def places(catalog: Catalog, offer: Offer) -> Iterator[Place]:
    """The places at which an offer may be shown."""
    target, country, default = offer.target, catalog.country_code, catalog.time_zone or "UTC"
    if target.everywhere:
        yield Place(None, 0, has_distance=False, venue_id="", time_zone=default, country_code=country)
    for venue in catalog.venues:
        if venue.venue_id in target.venue_ids:
            radius = target.radius_m if target.HasField("radius_m") else venue.radius_m
            zone = venue.time_zone or get_tz(venue.point.longitude, venue.point.latitude) or default
            its_country, hours = venue.country_code or country, venue.opening_hours
            yield Place(venue.point, radius, True, venue.venue_id, zone, its_country, hours)  # noqa: FBT003
    for circle in target.circles:
        zone = get_tz(circle.center.longitude, circle.center.latitude) or default
        yield Place(circle.center, circle.radius_m, True, "", zone, country)  # noqa: FBT003
    for area in catalog.zones:
        if area.zone_id in target.zone_ids:
            for circle in area.circles:
                zone = area.time_zone or get_tz(circle.center.longitude, circle.center.latitude) or default
                yield Place(circle.center, circle.radius_m, False, "", zone, area.country_code or country)  # noqa: FBT003


def _best_place(catalog: Catalog, offer: Offer, query: Query) -> tuple[Place, float, int] | None:
    """The place that qualifies and is nearest, its distance, and when it ends.

    One with a distance comes before one without; of equally near ones, that which ends last.
    """
    best: tuple[Place, float, int] | None = None
    for place in places(catalog, offer):
        distance = 0.0
        if place.point is not None:
            if math.isnan(query.latitude):
                continue
            here = LatLng(latitude=query.latitude, longitude=query.longitude)
            distance = distance_m(here, place.point)
            if distance > place.radius_m:
                continue
        until = _shown_until(catalog, offer, place, query)
        away = distance if place.has_distance else math.inf
        if until is not None and (best is None or (away, -until) < (best[1], -best[2])):
            best = place, away, until
    return best


def distance_m(one: LatLng, other: LatLng) -> float:
    """Metres along the ground: the straight line through the earth, bent to a sphere of mean radius."""
    straight = math.dist(_earth_centred(one), _earth_centred(other))
    return 2 * MEAN_RADIUS_M * math.asin(min(straight / (2 * MEAN_RADIUS_M), 1))


def _earth_centred(point: LatLng) -> tuple[float, float, float]:
    phi, lam = math.radians(point.latitude), math.radians(point.longitude)
    squared = FLATTENING * (2 - FLATTENING)
    normal = SEMI_MAJOR_M / math.sqrt(1 - squared * math.sin(phi) ** 2)
    return (
        normal * math.cos(phi) * math.cos(lam),
        normal * math.cos(phi) * math.sin(lam),
        normal * (1 - squared) * math.sin(phi),
    )


def _shown_until(catalog: Catalog, offer: Offer, place: Place, query: Query) -> int | None:
    """When the offer ends at a place, or None if it may not be shown there now."""
    availability, redemption = offer.availability, offer.redemption
    ends = [
        _in_windows([(w.start_time.seconds, _end(w)) for w in availability.windows], query.time),
        _hours_until(catalog, offer, place, [availability.opening_hours], query),
        _hours_until(catalog, offer, place, _dayparts(catalog, availability.daypart_ids), query),
        _venue_until(offer, place, query),
    ]
    if redemption.required_when_shown:
        ends += [
            _in_windows([(redemption.window.start_time.seconds, _end(redemption.window))], query.time),
            _hours_until(catalog, offer, place, [redemption.opening_hours], query),
        ]
    known = [end for end in ends if end is not None]
    return min(known) if len(known) == len(ends) else None


def is_preferred(catalog: Catalog, offer: Offer, place: Place, query: Query) -> bool:
    """Whether it is one of the offer's preferred dayparts at a place, or it prefers none."""
    preferred = _dayparts(catalog, offer.preferred_daypart_ids)
    return _hours_until(catalog, offer, place, preferred, query) is not None


def _dayparts(catalog: Catalog, daypart_ids: Iterable[str]) -> list[str]:
    hours = {daypart.daypart_id: daypart.opening_hours for daypart in catalog.dayparts}
    return [hours[daypart_id] for daypart_id in daypart_ids]


def _end(window: object) -> int:
    return window.end_time.seconds if window.HasField("end_time") else NEVER  # type: ignore[attr-defined]


def _in_windows(windows: list[tuple[int, int]], time: int) -> int | None:
    if not windows:
        return NEVER
    ends = None
    for start, end in sorted(windows):
        if start <= (time if ends is None else ends) < end:
            ends = end
    return ends


def _hours_until(catalog: Catalog, offer: Offer, place: Place, hours: list[str], query: Query) -> int | None:
    """When any of an offer's hours end that hold at a place now; NEVER if there are none, None if none holds."""
    zone = _clock_of(catalog, offer, place, query)
    country = offer.availability.country_code or place.country_code
    return _open_until([rule for rule in hours if rule], zone, country, place.point, query.time)


def _venue_until(offer: Offer, place: Place, query: Query) -> int | None:
    """When the venue's hours stop counting as open, by its own clock; NEVER if they do not matter, None if closed."""
    if not offer.availability.only_when_open or not place.opening_hours:
        return NEVER
    ends = _open_until([place.opening_hours], place.time_zone, place.country_code, place.point, query.time)
    if ends is None or ends == NEVER:
        return ends
    ends -= offer.availability.closing_margin.seconds
    return ends if query.time < ends else None


def _clock_of(catalog: Catalog, offer: Offer, place: Place, query: Query) -> str:
    """The time zone of an offer's hours at a place."""
    basis, named = offer.availability.time_zone_basis, offer.availability.time_zone
    if basis == TIME_ZONE_BASIS_FIXED or (basis == TIME_ZONE_BASIS_UNSPECIFIED and named):
        return named
    if basis == TIME_ZONE_BASIS_VENUE or (basis == TIME_ZONE_BASIS_UNSPECIFIED and place.point is not None):
        return place.time_zone
    return query.surface.time_zone or catalog.time_zone or "UTC"


def _open_until(hours: list[str], zone: str, country: str, point: LatLng | None, time: int) -> int | None:
    """When it is first so that none of some hours holds; NEVER if there are none, None if none holds now."""
    position = () if point is None else (point.latitude, point.longitude)
    ends, clock = time, zone_clock(zone)
    while hours:
        states = [Part((rule,), zone, country, position).at(ends, clock) for rule in hours]
        open_until = max((until for is_open, until in states if is_open), default=ends)
        if open_until == ends:
            return ends if ends > time else None
        if open_until >= time + HORIZON_DAYS * 86_400:
            break
        ends = open_until
    return NEVER


def _ranked(
    catalog: Catalog, strategy: RankingStrategy, query: Query, offer: Offer, place: Place, away: float, until: int
) -> Ranked:
    without = DEFAULT_NEARNESS_WITHOUT_DISTANCE
    if strategy.HasField("nearness_without_distance"):
        without = strategy.nearness_without_distance
    near = strategy.nearness if strategy.HasField("nearness") else DEFAULT_NEARNESS
    soon = strategy.timeliness if strategy.HasField("timeliness") else DEFAULT_TIMELINESS
    values = (
        _decayed(near, away) if place.has_distance else without,
        _decayed(soon, until - query.time if until != NEVER else math.inf),
        offer.value if offer.HasField("value") else DEFAULT_VALUE,
        offer.lever if offer.HasField("lever") else DEFAULT_LEVER,
    )
    weights = [
        getattr(strategy.weights, name) if strategy.weights.HasField(name) else 1.0
        for name in ("nearness", "timeliness", "value", "lever")
    ]
    window = offer.redemption.window
    redeemable = window.start_time.seconds <= query.time < _end(window)
    if offer.redemption.opening_hours:
        usable = _hours_until(catalog, offer, place, [offer.redemption.opening_hours], query)
        redeemable = redeemable and usable is not None
    return Ranked(
        offer.offer_id,
        place.venue_id,
        away if place.has_distance else None,
        until if until != NEVER else None,
        sum(weight * math.log(value) for weight, value in zip(weights, values, strict=True)),
        tuple(zip(values, weights, strict=True)),
        redeemable,
    )


def _decayed(decay: Decay, away: float) -> float:
    steps = max(away - decay.offset, 0) / decay.scale
    base = decay.decay if decay.HasField("decay") else DEFAULT_DECAY
    if decay.shape == Decay.SHAPE_LINEAR:
        value = 1 - (1 - base) * steps
    elif decay.shape == Decay.SHAPE_EXP:
        value = base**steps
    else:
        value = base ** (steps * steps)
    return max(value, decay.minimum if decay.HasField("minimum") else DEFAULT_MINIMUM)


def _turn(seed: int, order: int) -> int:
    """Which of two offers of equal score comes first: the one with the lower turn (splitmix64 of the seed)."""
    if seed < 0:
        return order
    mask = 2**64 - 1
    mixed = (seed + (order + 1) * 0x9E3779B97F4A7C15) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return mixed ^ (mixed >> 31)
