"""The specification of a decision, in plain Python.

It reads the messages of the catalogue, not the compiled snapshot, and looks at every offer: slow, obvious, and
independent of the grid, the arrays and the tables of open hours. The compiled loops are tested against it, and
explanations run it: it is production code.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from google.type.latlng_pb2 import LatLng

from offers.catalogue.compile.extras import DEFAULT_MIN_INSIDE, pace
from offers.catalogue.compile.scoring import (
    DEFAULT_DECAY,
    DEFAULT_LEVER,
    DEFAULT_MINIMUM,
    DEFAULT_NEARNESS,
    DEFAULT_SHARES,
    DEFAULT_TIMELINESS,
    DEFAULT_VALUE,
    DEFAULT_WEIGHTS,
)
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import FACTORS
from offers.decision.kernels.models.foresee import MOST_WEIGHED
from offers.decision.reference import people as reference_people
from offers.decision.reference.behaviour import behaviour, held
from offers.decision.reference.models import NOTHING, Foreseen
from offers.decision.reference.people import NOBODY, KnownPerson
from offers.decision.reference.places import OfferPlace, chance_inside, distance_m, places_of
from offers.decision.reference.times import is_preferred, is_redeemable, shown_until
from offers.model.hashing import SPLITMIX_STEP, mixed_in_python
from offers.model.query import MAX_OFFERS, Query
from offers.v1.catalog_pb2 import Catalog, Placement
from offers.v1.offer_pb2 import (
    MissingLocation,
    Offer,
    ReachableBeforeEnd,
)
from offers.v1.ranking_pb2 import Decay, RankingStrategy
from offers.v1.venue_pb2 import Circle


@dataclass(frozen=True, slots=True)
class QualifyingPlace:
    """A place at which an offer qualifies, and how."""

    place: OfferPlace
    away: float
    """Distance in metres; infinite where the place has none."""
    until: int
    """When the offer ends here, in seconds since 1970; NEVER: it does not."""
    chance: float | None
    """Probability that the person is inside; None: there is no location."""
    is_reachable: bool
    """Whether the person can be there before the offer ends, or that does not lower its score."""
    is_preferred: bool
    """Whether one of the offer's preferred dayparts is on, or it prefers none."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """An offer that qualifies, with its score."""

    offer_id: str
    venue_id: str
    distance_m: float | None
    valid_until: int | None
    log_score: float
    factors: tuple[tuple[float, float], ...]
    """(value, weight) of each factor, in the order of offers.v1.FactorName."""
    redeemable: bool
    foreseen: Foreseen = NOTHING
    """What a model predicts, without exploration."""
    drawn: float = 0.0
    """The amount that exploration adds to the logarithm of the propensity."""


def decide(catalog: Catalog, query: Query, known: KnownPerson = NOBODY) -> tuple[list[Ranked], int]:
    """Return the offers of a decision for a person, best first, and how many qualify. The placement must be known."""
    ranked, eligible = ranked_for(catalog, query, known)
    return [one for one, limits in laid_out(catalog, query, ranked) if not limits], eligible


def ranked_for(catalog: Catalog, query: Query, known: KnownPerson = NOBODY) -> tuple[list[Ranked], int]:
    """Return the offers that may be in the answer to a person, and how many qualify; layout limits are not applied."""
    channel = channel_of(catalog, query)
    eligible = [
        (offer, best)
        for offer, best in shown_here(catalog, query)
        if not reference_people.against(catalog, offer, query, channel, known)
    ]
    strategy = reference_people.strategy_of(catalog, reference_people.variants_of(catalog, query, known))
    return ranking(catalog, query, eligible, strategy, known), len(_proper(eligible))


def shown_here(catalog: Catalog, query: Query) -> list[tuple[Offer, QualifyingPlace]]:
    """Return the offers that may be shown here and now, each at its best place, whoever the person is."""
    channel = channel_of(catalog, query)
    return [
        (offer, best)
        for offer in catalog.offers
        if not refusals(offer, query, channel) and (best := _best_place(catalog, offer, query))
    ]


def placement_of(catalog: Catalog, query: Query) -> Placement | None:
    """Return the placement asked for; None: none is."""
    return next((known for known in catalog.placements if known.placement_id == query.surface.placement), None)


def channel_of(catalog: Catalog, query: Query) -> str:
    """Return the channel asked from; "": none is named."""
    placement = placement_of(catalog, query)
    return query.surface.channel or (placement.channel if placement else "")


def ranking(
    catalog: Catalog,
    query: Query,
    eligible: list[tuple[Offer, QualifyingPlace]],
    instead: str = "",
    known: KnownPerson = NOBODY,
) -> list[Ranked]:
    """Return the offers that qualify, best first; fallbacks only if nothing else qualifies.

    `eligible` holds each offer with its best place. `instead` names a strategy that replaces the placement's. Where a
    model is asked, only MOST_WEIGHED of the offers shown everywhere are scored: the best by all other factors.
    """
    strategy = strategy_of(catalog, query, instead)
    rules = held(catalog, strategy, query.time, known.segments, known.did)
    eligible = _proper(eligible)
    order = order_of(catalog)
    if asks_model(strategy, known):
        worth = {offer.offer_id: _ranked(catalog, strategy, query, offer, found).log_score for offer, found in eligible}
        everywhere = [offer.offer_id for offer, found in eligible if found.place.piece is None]
        everywhere.sort(key=lambda name: (-worth[name], order[name]))
        left_out = frozenset(everywhere[MOST_WEIGHED:])
        eligible = [found for found in eligible if found[0].offer_id not in left_out]
    ranked = [_ranked(catalog, strategy, query, *found, behaviour(found[0], rules), known) for found in eligible]
    return sorted(ranked, key=lambda one: (-one.log_score, turn_of(query.seed, order[one.offer_id])))


def order_of(catalog: Catalog) -> dict[str, int]:
    """Return the index of each offer in the order of ids, by id."""
    return {name: number for number, name in enumerate(sorted(offer.offer_id for offer in catalog.offers))}


def _proper(eligible: list[tuple[Offer, QualifyingPlace]]) -> list[tuple[Offer, QualifyingPlace]]:
    """Return the offers that are no fallbacks; if there are none, all."""
    return [found for found in eligible if not found[0].fallback] or eligible


def asks_model(strategy: RankingStrategy, known: KnownPerson) -> bool:
    """Return whether a model has a part in a decision."""
    return known.taught is not None and strategy.weights.propensity + strategy.weights.recommendation > 0


def strategy_of(catalog: Catalog, query: Query, instead: str = "") -> RankingStrategy:
    """Return the strategy that ranks the answer to a query; `instead` names one that replaces the placement's."""
    placement = placement_of(catalog, query)
    named = instead or (placement.ranking_strategy_id if placement else "") or catalog.default_ranking_strategy_id
    return next((one for one in catalog.ranking_strategies if one.ranking_strategy_id == named), RankingStrategy())


def laid_out(catalog: Catalog, query: Query, ranked: list[Ranked]) -> list[tuple[Ranked, list[str]]]:
    """Return all ranked offers, each with the limits that keep it from the answer; none: it is in the answer.

    The limits are "group", "venue", "brand" and "category", each used up by better offers, and "most": the answer is
    full.
    """
    offers = {offer.offer_id: offer for offer in catalog.offers}
    layout = placement_of(catalog, query) or Placement()
    most = min(query.surface.max_offers, layout.max_offers if layout.HasField("max_offers") else MAX_OFFERS)
    counts: Counter[tuple[str, str]] = Counter()
    chosen = 0
    told: list[tuple[Ranked, list[str]]] = []
    for one in ranked:
        offer = offers[one.offer_id]
        limits = {
            ("group", offer.exclusion_group): 1,
            ("venue", one.venue_id): layout.max_per_venue or math.inf,
            ("brand", offer.brand): layout.max_per_brand or math.inf,
            ("category", offer.category): layout.max_per_category or math.inf,
        }
        used_up = [name[0] for name, limit in limits.items() if name[1] and counts[name] >= limit]
        if chosen >= most:
            used_up.append("most")
        if not used_up:
            chosen += 1
            counts.update(limits.keys())
        told.append((one, used_up))
    return told


def refusals(offer: Offer, query: Query, channel: str) -> list[str]:
    """Return the terms of a request that an offer does not fit: "placement", "language", "currency", "channel"."""
    asked = query.surface
    tags = [tag.lower() for tag in offer.language_codes]
    benefit = offer.benefit
    sums = [benefit.amount_off, benefit.fixed_price, benefit.minimum_order, benefit.maximum_discount]
    currencies = set(offer.currency_codes) or {money.currency_code for money in sums if money.currency_code}
    fits = {
        "placement": not asked.placement or not offer.placement_ids or asked.placement in offer.placement_ids,
        "language": not asked.language or not tags or any(f"{asked.language}-".startswith(f"{tag}-") for tag in tags),
        "currency": not asked.currency or not currencies or asked.currency in currencies,
        "channel": not channel or not offer.channels or channel in offer.channels,
    }
    return [name for name, does_fit in fits.items() if not does_fit]


def _best_place(catalog: Catalog, offer: Offer, query: Query) -> QualifyingPlace | None:
    """Return the place that an offer would be shown for; None: it qualifies nowhere."""
    return best_of(
        one
        for place in places_of(catalog, offer)
        if (one := found_at(catalog, offer, place, query, chance_inside(place, query)))
    )


def best_of(found: Iterable[QualifyingPlace]) -> QualifyingPlace | None:
    """Return the nearest of the places at which an offer qualifies.

    Of equally near places: the one that ends last, then the one most probably inside, then one in a preferred daypart,
    then the first.
    """
    return min(found, key=lambda one: (one.away, -one.until, -(one.chance or 0), not one.is_preferred), default=None)


def least_inside(offer: Offer) -> float:
    """Return the least probability of being inside with which an offer is shown."""
    target = offer.target
    return target.min_inside_probability if target.HasField("min_inside_probability") else DEFAULT_MIN_INSIDE


def found_at(
    catalog: Catalog, offer: Offer, place: OfferPlace, query: Query, chance: float | None
) -> QualifyingPlace | None:
    """Return how an offer qualifies at a place, given `chance_inside` there; None: it does not."""
    target, away = offer.target, math.inf
    least = least_inside(offer)
    if chance is None and target.missing_location <= MissingLocation.MISSING_LOCATION_DENY:
        return None
    if chance is not None and chance < least:
        return None
    until = shown_until(catalog, offer, place, query)
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
    away = away if place.has_distance else math.inf
    return QualifyingPlace(place, away, until, chance, is_reachable, is_preferred(catalog, offer, place, query))


_Share = Literal["missing_location", "nearness_without_distance", "outside_daypart", "unreachable"]


def _ranked(
    catalog: Catalog, strategy: RankingStrategy, query: Query, offer: Offer, found: QualifyingPlace,
    lifted: float = 1.0, known: KnownPerson = NOBODY,
) -> Ranked:  # fmt: skip
    """Return an offer at a place with its score; `lifted` is its behaviour factor."""
    place = found.place
    foreseen, drawn = NOTHING, 0.0
    if known.taught is not None and asks_model(strategy, known):
        middle = place.piece.center if found.away < math.inf and isinstance(place.piece, Circle) else None
        foreseen = known.taught.of(catalog, strategy, offer, middle)
        drawn = known.taught.varied(catalog, query, strategy.weights.propensity, offer.offer_id, foreseen)
    predicted = foreseen.propensity * math.exp(drawn), foreseen.recommendation
    values = (*_plain_factors(strategy, query, offer, found), lifted, *predicted)
    weights = [
        getattr(strategy.weights, name) if strategy.weights.HasField(name) else DEFAULT_WEIGHTS[name]
        for name in FACTORS
    ]
    redeemable = is_redeemable(catalog, offer, place, query)
    return Ranked(
        offer.offer_id,
        place.venue.venue_id if place.venue else "",
        found.away if found.away < math.inf else None,
        found.until if found.until != NEVER else None,
        sum(weight * math.log(value) for weight, value in zip(weights, values, strict=True)),
        tuple(zip(values, weights, strict=True)),
        redeemable,
        foreseen,
        drawn,
    )


def _plain_factors(
    strategy: RankingStrategy, query: Query, offer: Offer, found: QualifyingPlace
) -> tuple[float, ...]:  # fmt: skip
    """Return the factors that depend on neither the person nor a model, in the order of FactorName."""

    def share(name: _Share) -> float:
        return getattr(strategy, name) if strategy.HasField(name) else DEFAULT_SHARES[name]

    near = strategy.nearness if strategy.HasField("nearness") else DEFAULT_NEARNESS
    soon = strategy.timeliness if strategy.HasField("timeliness") else DEFAULT_TIMELINESS
    timeliness = _decayed(soon, found.until - query.time if found.until != NEVER else math.inf)
    if not found.is_preferred:
        timeliness *= share("outside_daypart")
    location = 1.0 if found.chance is None else found.chance
    penalised = offer.target.missing_location == MissingLocation.MISSING_LOCATION_ALLOW_WITH_PENALTY
    if found.chance is None and penalised:
        location = share("missing_location")
    return (
        _decayed(near, found.away) if found.away < math.inf else share("nearness_without_distance"),
        timeliness,
        offer.value if offer.HasField("value") else DEFAULT_VALUE,
        offer.lever if offer.HasField("lever") else DEFAULT_LEVER,
        location,
        1.0 if found.is_reachable else share("unreachable"),
    )


def _decayed(decay: Decay, value: float) -> float:
    """Return a decay function at a value."""
    steps = max(abs(value - decay.origin) - decay.offset, 0) / decay.scale
    base = decay.decay if decay.HasField("decay") else DEFAULT_DECAY
    if decay.shape == Decay.SHAPE_LINEAR:
        left = 1 - (1 - base) * steps
    elif decay.shape == Decay.SHAPE_EXP:
        left = base**steps
    else:
        left = base ** (steps * steps)
    return max(left, decay.minimum if decay.HasField("minimum") else DEFAULT_MINIMUM)


def turn_of(seed: int, order: int) -> int:
    """Return the tie breaker of an offer: of two with equal scores the lower turn is first (splitmix64 of the seed)."""
    if seed < 0:
        return order
    return mixed_in_python(seed + order * SPLITMIX_STEP)
