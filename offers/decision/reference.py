"""What a decision is, in plain Python: the specification the compiled loops are tested against.

It reads the catalogue's messages, not the compiled snapshot, and looks at every offer: slow, obvious, and independent
of the grid, the arrays and the per-minute tables.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from google.type.latlng_pb2 import LatLng
from tzfpy import get_tz

from offers.catalogue.areas import Part, contains, parse
from offers.catalogue.compile import (
    DEFAULT_DECAY,
    DEFAULT_LEVER,
    DEFAULT_MINIMUM,
    DEFAULT_NEARNESS,
    DEFAULT_SHARES,
    DEFAULT_TIMELINESS,
    DEFAULT_VALUE,
    FACTORS,
)
from offers.catalogue.extras import DEFAULT_MIN_INSIDE, pace
from offers.catalogue.schedules import NEVER, Schedule, zone_clock
from offers.decision.location import CERTAIN, POINTS, point_around
from offers.model.query import MAX_OFFERS, Query
from offers.v1.catalog_pb2 import Catalog, Placement
from offers.v1.offer_pb2 import MissingLocation, Offer, ReachableBeforeEnd, VenueSelector
from offers.v1.ranking_pb2 import Decay, RankingStrategy
from offers.v1.venue_pb2 import Circle, Travel, Venue

SEMI_MAJOR_M, FLATTENING, MEAN_RADIUS_M = 6_378_137.0, 1 / 298.257223563, 6_371_008.8


Piece = Circle | Part
"""A circle or an area."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place at which an offer may be shown."""

    piece: Piece | None
    """None: everywhere."""
    cuts: tuple[Piece, ...]
    """What is cut out of it."""
    has_distance: bool
    venue_id: str
    time_zone: str
    """"" for the person's."""
    country_code: str
    travel: Travel | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A place that qualifies, and how."""

    place: Place
    away: float
    """Metres; infinite where there is no distance."""
    until: int
    chance: float | None
    """How likely the person is inside; None: there is no location."""
    is_reachable: bool


@dataclass(frozen=True, slots=True)
class Ranked:
    """One offer of the decision."""

    offer_id: str
    venue_id: str
    distance_m: float | None
    valid_until: int | None
    log_score: float
    factors: tuple[tuple[float, float], ...]
    """(value, weight) of each factor, in the order of offers.v1.FactorName."""
    redeemable: bool


def decide(catalog: Catalog, query: Query) -> tuple[list[Ranked], int]:
    """The offers of a decision, best first, and how many qualify. The query's placement must be known."""
    placement = next((known for known in catalog.placements if known.placement_id == query.surface.placement), None)
    named = (placement.ranking_strategy_id if placement else "") or catalog.default_ranking_strategy_id
    strategy = next((one for one in catalog.ranking_strategies if one.ranking_strategy_id == named), RankingStrategy())
    channel = query.surface.channel or (placement.channel if placement else "")
    eligible = [
        (offer, best)
        for offer in catalog.offers
        if _admits(offer, query, channel) and (best := _best_place(catalog, offer, query))
    ]
    if any(not offer.fallback for offer, _ in eligible):
        eligible = [found for found in eligible if not found[0].fallback]
    ranked = [_ranked(catalog, strategy, query, *found) for found in eligible]
    order = {name: number for number, name in enumerate(sorted(offer.offer_id for offer in catalog.offers))}
    ranked.sort(key=lambda one: (-one.log_score, _turn(query.seed, order[one.offer_id])))
    most = placement.max_offers if placement and placement.HasField("max_offers") else MAX_OFFERS
    return _laid_out(catalog, placement, ranked, min(query.surface.max_offers, most)), len(ranked)


def _laid_out(catalog: Catalog, placement: Placement | None, ranked: list[Ranked], most: int) -> list[Ranked]:
    """The best that the placement's layout and the exclusion groups allow together."""
    offers = {offer.offer_id: offer for offer in catalog.offers}
    layout = placement or Placement()
    counts: Counter[tuple[str, str]] = Counter()
    chosen: list[Ranked] = []
    for one in ranked:
        offer = offers[one.offer_id]
        limits = {
            ("group", offer.exclusion_group): 1,
            ("venue", one.venue_id): layout.max_per_venue or math.inf,
            ("brand", offer.brand): layout.max_per_brand or math.inf,
            ("category", offer.category): layout.max_per_category or math.inf,
        }
        if len(chosen) < most and all(counts[name] < limit for name, limit in limits.items() if name[1]):
            chosen.append(one)
            counts.update(limits.keys())
    return chosen


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


def places_of(catalog: Catalog, offer: Offer) -> Iterator[Place]:
    """Every place at which an offer may be shown."""
    target, country = offer.target, catalog.country_code
    cuts = tuple(piece for zone_id in target.excluded_zone_ids for piece, *_ in _pieces(catalog, zone_id))
    if target.everywhere:
        yield Place(None, cuts, has_distance=False, venue_id="", time_zone="", country_code=country)
    for venue in catalog.venues:
        if venue.venue_id in target.venue_ids or any(_selects(one, venue) for one in target.venue_selectors):
            radius = target.radius_m if target.HasField("radius_m") else venue.radius_m
            zone = venue.time_zone or get_tz(venue.point.longitude, venue.point.latitude)
            circle = Circle(center=venue.point, radius_m=radius)
            travel = venue.travel if venue.HasField("travel") else None
            yield Place(circle, cuts, True, venue.venue_id, zone, venue.country_code or country, travel)  # noqa: FBT003
    for circle in target.circles:
        yield Place(circle, cuts, True, "", _zone_of(circle), country)  # noqa: FBT003
    for text in target.areas:
        for part in _parts(text):
            yield Place(part, cuts, False, "", _zone_of(part), country)  # noqa: FBT003
    for zone_id in target.zone_ids:
        for piece, time_zone, code, cut in _pieces(catalog, zone_id):
            yield Place(piece, cuts + cut, False, "", time_zone or _zone_of(piece), code or country)  # noqa: FBT003


def _pieces(catalog: Catalog, zone_id: str) -> Iterator[tuple[Piece, str, str, tuple[Piece, ...]]]:
    """The circles and areas of a zone, each with its time zone, its country and what is cut out of it."""
    zone = next(one for one in catalog.zones if one.zone_id == zone_id)
    cuts = tuple(piece for name in zone.excluded_zone_ids for piece, *_ in _pieces(catalog, name))
    for piece in [*zone.circles, *(part for text in zone.areas for part in _parts(text))]:
        yield piece, zone.time_zone, zone.country_code, cuts
    for other in zone.zone_ids:
        for piece, time_zone, code, cut in _pieces(catalog, other):
            yield piece, zone.time_zone or time_zone, zone.country_code or code, cuts + cut


@cache
def _parts(text: str) -> list[Part]:
    return parse(text)


def _selects(selector: VenueSelector, venue: Venue) -> bool:
    def values(label: str) -> set[str]:
        return {value.strip() for value in label.split(";")} - {""}

    return all(values(venue.labels.get(key, "")) & values(wanted) for key, wanted in selector.labels.items())


def _zone_of(piece: Piece) -> str:
    if isinstance(piece, Part):
        return get_tz(piece.longitude, piece.latitude)
    return get_tz(piece.center.longitude, piece.center.latitude)


def _best_place(catalog: Catalog, offer: Offer, query: Query) -> Found | None:
    """The place that qualifies and is nearest; of equally near ones, that which ends last, then the likeliest."""
    found = [one for place in places_of(catalog, offer) if (one := _found(catalog, offer, place, query))]
    return min(found, key=lambda one: (one.away, -one.until, -(one.chance or 0)), default=None)


def _found(catalog: Catalog, offer: Offer, place: Place, query: Query) -> Found | None:
    target = offer.target
    chance, away = chance_inside(place, query), math.inf
    least = target.min_inside_probability if target.HasField("min_inside_probability") else DEFAULT_MIN_INSIDE
    if chance is None and target.missing_location <= MissingLocation.MISSING_LOCATION_DENY:
        return None
    if chance is not None and chance < least:
        return None
    until = _shown_until(catalog, offer, place, query)
    if until is None:
        return None
    if isinstance(place.piece, Circle) and chance is not None:
        away = distance_m(LatLng(latitude=query.latitude, longitude=query.longitude), place.piece.center)
    is_reachable = True
    if place.travel is not None and chance is not None and until != NEVER:
        speed, delay = pace(place.travel)
        is_reachable = query.time + delay + away / speed < until
    rule = offer.availability.reachable_before_end
    if rule == ReachableBeforeEnd.REACHABLE_BEFORE_END_DROP and not is_reachable:
        return None
    is_reachable = is_reachable or rule != ReachableBeforeEnd.REACHABLE_BEFORE_END_RANK_DOWN
    return Found(place, away if place.has_distance else math.inf, until, chance, is_reachable)


def chance_inside(place: Place, query: Query) -> float | None:
    """How likely the person is at a place: 0 or 1 where the location is exact, None where there is none."""
    if place.piece is None and not place.cuts:
        return 1.0
    if math.isnan(query.latitude):
        return None
    latitude, longitude, sigma = query.latitude, query.longitude, query.sigma_m
    if sigma == 0:
        return float(_holds(place, latitude, longitude))
    if isinstance(place.piece, Circle) and not place.cuts:
        here = _earth_centred(LatLng(latitude=latitude, longitude=longitude))
        away = math.dist(here, _earth_centred(place.piece.center))
        return _chance_in_circle(away / sigma, _straight(place.piece.radius_m) / sigma)
    points = [point_around(latitude, longitude, sigma, point) for point in range(POINTS)]
    return sum(_holds(place, *point) for point in points) / POINTS


def _holds(place: Place, latitude: float, longitude: float) -> bool:
    if any(_is_inside(cut, latitude, longitude) for cut in place.cuts):
        return False
    return place.piece is None or _is_inside(place.piece, latitude, longitude)


def _is_inside(piece: Piece, latitude: float, longitude: float) -> bool:
    if isinstance(piece, Part):
        return contains(piece, latitude, longitude)
    return distance_m(LatLng(latitude=latitude, longitude=longitude), piece.center) <= piece.radius_m


def _chance_in_circle(away: float, radius: float) -> float:
    """The share of a standard normal distribution inside a circle whose centre is so far off: strip by strip."""
    if abs(radius - away) >= CERTAIN:
        return float(away < radius)
    most, strips, total = math.asin(min(1.0, 8.0 / radius)), 400, 0.0
    for strip in range(strips):
        angle = (2 * (strip + 0.5) / strips - 1) * most
        across, along = radius * math.sin(angle), radius * math.cos(angle)
        share = 0.5 * (math.erfc((away - along) * math.sqrt(0.5)) - math.erfc((away + along) * math.sqrt(0.5)))
        total += math.exp(-across * across / 2) / math.sqrt(2 * math.pi) * share * along * 2 * most / strips
    return min(total, 1.0)


def _straight(ground: float) -> float:
    return 2 * MEAN_RADIUS_M * math.sin(ground / (2 * MEAN_RADIUS_M))


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
    until = _in_windows([(w.start_time.seconds, _end(w)) for w in offer.availability.windows], query.time)
    binding = {offer.availability.opening_hours}
    if offer.redemption.required_when_shown:
        binding.add(offer.redemption.opening_hours)
        window = offer.redemption.window
        ends = _in_windows([(window.start_time.seconds, _end(window))], query.time)
        until = None if ends is None or until is None else min(until, ends)
    for hours in binding - {""}:
        until = None if until is None else _open_until(catalog, offer, place, hours, query, until)
    return until


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


def _open_until(catalog: Catalog, offer: Offer, place: Place, hours: str, query: Query, until: int) -> int | None:
    availability = offer.availability
    zone = availability.time_zone or place.time_zone or query.surface.time_zone or catalog.time_zone or "UTC"
    schedule = Schedule((hours,), zone, availability.country_code or place.country_code)
    is_open, ends = schedule.at(query.time, zone_clock(zone))
    return min(until, ends) if is_open else None


def _ranked(catalog: Catalog, strategy: RankingStrategy, query: Query, offer: Offer, found: Found) -> Ranked:
    def share(name: str) -> float:
        return getattr(strategy, name) if strategy.HasField(name) else DEFAULT_SHARES[name]  # type: ignore[arg-type]

    place, until = found.place, found.until
    near = strategy.nearness if strategy.HasField("nearness") else DEFAULT_NEARNESS
    soon = strategy.timeliness if strategy.HasField("timeliness") else DEFAULT_TIMELINESS
    timeliness = _decayed(soon, until - query.time if until != NEVER else math.inf)
    location = 1.0 if found.chance is None else found.chance
    penalised = offer.target.missing_location == MissingLocation.MISSING_LOCATION_ALLOW_WITH_PENALTY
    if found.chance is None and penalised:
        location = share("missing_location")
    values = (
        _decayed(near, found.away) if found.away < math.inf else share("nearness_without_distance"),
        timeliness,
        offer.value if offer.HasField("value") else DEFAULT_VALUE,
        offer.lever if offer.HasField("lever") else DEFAULT_LEVER,
        location,
        1.0 if found.is_reachable else share("unreachable"),
    )
    weights = [
        getattr(strategy.weights, name) if strategy.weights.HasField(name) else 1.0  # type: ignore[arg-type]
        for name in FACTORS
    ]
    window = offer.redemption.window
    redeemable = window.start_time.seconds <= query.time < _end(window)
    if offer.redemption.opening_hours:
        usable = _open_until(catalog, offer, place, offer.redemption.opening_hours, query, NEVER)
        redeemable = redeemable and usable is not None
    return Ranked(
        offer.offer_id,
        place.venue_id,
        found.away if found.away < math.inf else None,
        until if until != NEVER else None,
        sum(weight * math.log(value) for weight, value in zip(weights, values, strict=True)),
        tuple(zip(values, weights, strict=True)),
        redeemable,
    )


def _decayed(decay: Decay, value: float) -> float:
    steps = max(abs(value - decay.origin) - decay.offset, 0) / decay.scale
    base = decay.decay if decay.HasField("decay") else DEFAULT_DECAY
    if decay.shape == Decay.SHAPE_LINEAR:
        left = 1 - (1 - base) * steps
    elif decay.shape == Decay.SHAPE_EXP:
        left = base**steps
    else:
        left = base ** (steps * steps)
    return max(left, decay.minimum if decay.HasField("minimum") else DEFAULT_MINIMUM)


def _turn(seed: int, order: int) -> int:
    """Which of two offers of equal score comes first: the one with the lower turn (splitmix64 of the seed)."""
    if seed < 0:
        return order
    mask = 2**64 - 1
    mixed = (seed + (order + 1) * 0x9E3779B97F4A7C15) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return mixed ^ (mixed >> 31)
