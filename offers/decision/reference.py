"""What a decision is, in plain Python: the specification the compiled loops are tested against.

It reads the catalogue's messages, not the compiled snapshot, and looks at every offer: slow, obvious, and independent
of the grid, the arrays and the per-minute tables.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from google.type.latlng_pb2 import LatLng

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
from offers.catalogue.schedules import HORIZON_DAYS, NEVER, Part, zone_clock
from offers.decision.reference_places import Place, chance_inside, distance_m, places_of
from offers.model.query import MAX_OFFERS, Query
from offers.v1.catalog_pb2 import Catalog, Placement
from offers.v1.offer_pb2 import (
    TIME_ZONE_BASIS_FIXED,
    TIME_ZONE_BASIS_UNSPECIFIED,
    TIME_ZONE_BASIS_VENUE,
    MissingLocation,
    Offer,
    ReachableBeforeEnd,
)
from offers.v1.ranking_pb2 import Decay, RankingStrategy
from offers.v1.venue_pb2 import Circle


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


def _best_place(catalog: Catalog, offer: Offer, query: Query) -> Found | None:
    """The place that qualifies and is nearest.

    Of equally near ones that which ends last, then the likeliest, then one inside its preferred dayparts.
    """
    found = [one for place in places_of(catalog, offer) if (one := _found(catalog, offer, place, query))]

    def order(one: Found) -> tuple[float, ...]:
        is_outside = not _is_preferred(catalog, offer, one.place, query)
        return one.away, -one.until, -(one.chance or 0), is_outside

    return min(found, key=order, default=None)


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
    if place.venue and place.venue.HasField("travel") and chance is not None and until != NEVER:
        speed, delay = pace(place.venue.travel)
        is_reachable = query.time + delay + away / speed < until
    rule = offer.availability.reachable_before_end
    if rule == ReachableBeforeEnd.REACHABLE_BEFORE_END_DROP and not is_reachable:
        return None
    is_reachable = is_reachable or rule != ReachableBeforeEnd.REACHABLE_BEFORE_END_RANK_DOWN
    return Found(place, away if place.has_distance else math.inf, until, chance, is_reachable)


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


def _is_preferred(catalog: Catalog, offer: Offer, place: Place, query: Query) -> bool:
    """Whether it is one of the offer's preferred dayparts at a place, or it prefers none."""
    preferred = _dayparts(catalog, offer.preferred_daypart_ids)
    return _hours_until(catalog, offer, place, preferred, query) is not None


def _dayparts(catalog: Catalog, daypart_ids: Iterable[str]) -> list[str]:
    hours = {daypart.daypart_id: daypart.opening_hours for daypart in catalog.dayparts}
    return [hours[daypart_id] for daypart_id in daypart_ids]


def _end(window: object) -> int:
    return window.end_time.seconds if window.HasField("end_time") else NEVER


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
    return _open_until([rule for rule in hours if rule], zone, country, place.position, query.time)


def _venue_until(offer: Offer, place: Place, query: Query) -> int | None:
    """When the venue's hours stop counting as open, by its own clock; NEVER if they do not matter, None if closed."""
    if not offer.availability.only_when_open or not place.venue or not place.venue.opening_hours:
        return NEVER
    hours = [place.venue.opening_hours]
    ends = _open_until(hours, place.time_zone, place.country_code, place.position, query.time)
    if ends is None or ends == NEVER:
        return ends
    ends -= offer.availability.closing_margin.seconds
    return ends if query.time < ends else None


def _clock_of(catalog: Catalog, offer: Offer, place: Place, query: Query) -> str:
    """The time zone of an offer's hours at a place."""
    basis, named = offer.availability.time_zone_basis, offer.availability.time_zone
    if basis == TIME_ZONE_BASIS_FIXED or (basis == TIME_ZONE_BASIS_UNSPECIFIED and named):
        return named
    if basis == TIME_ZONE_BASIS_VENUE or (basis == TIME_ZONE_BASIS_UNSPECIFIED and place.piece is not None):
        return place.time_zone
    return query.surface.time_zone or catalog.time_zone or "UTC"


def _open_until(hours: list[str], zone: str, country: str, position: tuple[float, ...], time: int) -> int | None:
    """When it is first so that none of some hours holds; NEVER if there are none, None if none holds now."""
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


def _ranked(catalog: Catalog, strategy: RankingStrategy, query: Query, offer: Offer, found: Found) -> Ranked:
    def share(name: str) -> float:
        return getattr(strategy, name) if strategy.HasField(name) else DEFAULT_SHARES[name]

    place, until = found.place, found.until
    near = strategy.nearness if strategy.HasField("nearness") else DEFAULT_NEARNESS
    soon = strategy.timeliness if strategy.HasField("timeliness") else DEFAULT_TIMELINESS
    timeliness = _decayed(soon, until - query.time if until != NEVER else math.inf)
    if not _is_preferred(catalog, offer, place, query):
        timeliness *= share("outside_daypart")
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
    weights = [getattr(strategy.weights, name) if strategy.weights.HasField(name) else 1.0 for name in FACTORS]
    window = offer.redemption.window
    redeemable = window.start_time.seconds <= query.time < _end(window)
    if offer.redemption.opening_hours:
        usable = _hours_until(catalog, offer, place, [offer.redemption.opening_hours], query)
        redeemable = redeemable and usable is not None
    return Ranked(
        offer.offer_id,
        place.venue.venue_id if place.venue else "",
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
