"""The part of the specification that concerns places: where an offer may be shown."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from google.type.latlng_pb2 import LatLng
from numpy.typing import NDArray
from tzfpy import get_tz

from offers.catalogue.geo.areas import Area, contain_each
from offers.catalogue.geo.geojson import parse
from offers.catalogue.hours.sun import names_sun
from offers.catalogue.rules.places import selects
from offers.decision.kernels.memory.scratch import POINTS
from offers.decision.kernels.places.location import CERTAIN, point_around
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Offer
from offers.v1.venue_pb2 import Circle, Venue

SEMI_MAJOR_M, FLATTENING, MEAN_RADIUS_M = 6_378_137.0, 1 / 298.257223563, 6_371_008.8

Piece = Circle | Area
"""A circle or an area."""


@dataclass(frozen=True, slots=True)
class OfferPlace:
    """A place at which an offer may be shown."""

    piece: Piece | None
    """None: everywhere."""
    excluded: frozenset[str]
    """Ids of the zones cut out of it."""
    cuts: tuple[Piece, ...]
    """The circles and areas cut out of it."""
    has_distance: bool
    """Whether its distance counts: it is a venue, or a circle of the target itself."""
    position: tuple[float, ...]
    """Latitude and longitude of a position inside, in degrees; (): everywhere."""
    time_zone: str
    """Its own time zone, else that of its position, else the catalogue's."""
    country_code: str
    venue: Venue | None = None
    joined: tuple[Piece, ...] = ()
    """The areas that form one place with it, itself included: those with the same clock and the same zones cut out."""


def places_of(catalog: Catalog, offer: Offer) -> Iterator[OfferPlace]:
    """Yield every place at which an offer may be shown, in the order of its target."""
    places = list(_each_of(catalog, offer))
    if _names_sun(catalog, offer):
        yield from places
        return
    alike: dict[tuple[str, str, frozenset[str]], list[Area]] = {}
    for place in places:
        if isinstance(place.piece, Area):
            alike.setdefault((place.time_zone, place.country_code, place.excluded), []).append(place.piece)
    for place in places:
        if isinstance(place.piece, Area):
            joined = alike[place.time_zone, place.country_code, place.excluded]
            yield replace(place, joined=tuple(joined))
        else:
            yield place


def _names_sun(catalog: Catalog, offer: Offer) -> bool:
    """Return whether an offer's hours depend on the sun, so that they differ from place to place."""
    dayparts = {*offer.availability.daypart_ids, *offer.preferred_daypart_ids}
    hours = [one.opening_hours for one in catalog.dayparts if one.daypart_id in dayparts]
    return any(map(names_sun, [*hours, offer.availability.opening_hours, offer.redemption.opening_hours]))


def _each_of(catalog: Catalog, offer: Offer) -> Iterator[OfferPlace]:
    """Yield every place, areas not yet joined."""
    target, country, default = offer.target, catalog.country_code, catalog.time_zone or "UTC"

    @cache
    def pieces_cut(excluded: frozenset[str]) -> tuple[Piece, ...]:
        return tuple(piece for zone_id in sorted(excluded) for piece in pieces_of(catalog, zone_id))

    def placed(
        piece: Piece | None,
        time_zone: str,
        code: str = "",
        *cut: str,
        is_zone: bool = False,
        venue: Venue | None = None,
    ) -> OfferPlace:
        position = _position_in(piece) if piece is not None else ()
        zone = time_zone or (get_tz(position[1], position[0]) if position else "") or default
        excluded = frozenset((*target.excluded_zone_ids, *cut))
        has_distance = isinstance(piece, Circle) and not is_zone
        return OfferPlace(piece, excluded, pieces_cut(excluded), has_distance, position, zone, code or country, venue)

    if target.everywhere:
        yield placed(None, default)
    known = {venue.venue_id: venue for venue in catalog.venues}
    selected = (venue.venue_id for one in target.venue_selectors for venue in catalog.venues if selects(one, venue))
    for venue_id in dict.fromkeys([*target.venue_ids, *selected]):
        venue = known[venue_id]
        radius = target.radius_m if target.HasField("radius_m") else venue.radius_m
        circle = Circle(center=venue.point, radius_m=radius)
        yield placed(circle, venue.time_zone, venue.country_code, venue=venue)
    for circle in target.circles:
        yield placed(circle, "")
    for text in target.areas:
        for part in _parts(text):
            yield placed(part, "")
    for zone_id in target.zone_ids:
        for piece, time_zone, code, cut in _pieces(catalog, zone_id):
            yield placed(piece, time_zone, code, *cut, is_zone=True)


def pieces_of(catalog: Catalog, zone_id: str) -> Iterator[Piece]:
    """Return the circles and areas of a zone, before anything is cut out."""
    return (piece for piece, *_ in _pieces(catalog, zone_id))


def _pieces(catalog: Catalog, zone_id: str) -> Iterator[tuple[Piece, str, str, tuple[str, ...]]]:
    """Yield the circles and areas of a zone, each with its time zone, country and the zones cut out of it."""
    zone = next(one for one in catalog.zones if one.zone_id == zone_id)
    cuts = tuple(zone.excluded_zone_ids)
    pieces: list[Piece] = [*zone.circles, *(part for text in zone.areas for part in _parts(text))]
    for piece in pieces:
        yield piece, zone.time_zone, zone.country_code, cuts
    for other in zone.zone_ids:
        for piece, time_zone, code, cut in _pieces(catalog, other):
            yield piece, zone.time_zone or time_zone, zone.country_code or code, cuts + cut


@cache
def _parts(text: str) -> list[Area]:
    return parse(text)


def _position_in(piece: Piece) -> tuple[float, float]:
    if isinstance(piece, Area):
        return piece.latitude, piece.longitude
    return piece.center.latitude, piece.center.longitude


def chance_inside(place: OfferPlace, query: Query) -> float | None:
    """Return the probability that the person is at a place; 0 or 1 for an exact location, None without a location."""
    if place.piece is None and not place.cuts:
        return 1.0
    if math.isnan(query.latitude):
        return None
    latitude, longitude, sigma = query.latitude, query.longitude, query.sigma_m
    if sigma == 0:
        return float(_held(place, [(latitude, longitude)])[0])
    if isinstance(place.piece, Circle) and not place.cuts:
        away = math.dist(_earth_centred(latitude, longitude), _earth_centred(*_position_in(place.piece)))
        return _chance_in_circle(away / sigma, _straight(place.piece.radius_m) / sigma)
    points = [point_around(latitude, longitude, sigma, point) for point in range(POINTS)]
    return float(_held(place, points).mean())


def _held(place: OfferPlace, positions: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    """Return for each position whether it is at a place: in one of its pieces, and in nothing that is cut out."""
    held = np.ones(len(positions), bool) if place.piece is None else _inside(place.piece, positions)
    for piece in place.joined:
        held |= _inside(piece, positions)
    for cut in place.cuts:
        held &= ~_inside(cut, positions)
    return held


def _inside(piece: Piece, positions: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    if isinstance(piece, Area):
        return contain_each(piece, *np.array(positions).T)
    center = _position_in(piece)
    return np.array([_ground_m(position, center) <= piece.radius_m for position in positions])


def _chance_in_circle(away: float, radius: float) -> float:
    """Return the share of a standard normal distribution inside a circle, summed strip by strip.

    `away` is the distance of its centre, and `radius` its radius, in standard deviations.
    """
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
    """Return the chord of a distance along the ground."""
    return 2 * MEAN_RADIUS_M * math.sin(ground / (2 * MEAN_RADIUS_M))


def distance_m(one: LatLng, other: LatLng) -> float:
    """Return metres along the ground: the chord through the ellipsoid, bent to a sphere of mean radius."""
    return _ground_m((one.latitude, one.longitude), (other.latitude, other.longitude))


def _ground_m(one: tuple[float, float], other: tuple[float, float]) -> float:
    straight = math.dist(_earth_centred(*one), _earth_centred(*other))
    return 2 * MEAN_RADIUS_M * math.asin(min(straight / (2 * MEAN_RADIUS_M), 1))


@lru_cache(16 * POINTS)  # all places of a query are compared with the same points
def _earth_centred(latitude: float, longitude: float) -> tuple[float, float, float]:
    """Return a position on the ellipsoid in earth-centred coordinates, in metres."""
    phi, lam = math.radians(latitude), math.radians(longitude)
    squared = FLATTENING * (2 - FLATTENING)
    normal = SEMI_MAJOR_M / math.sqrt(1 - squared * math.sin(phi) ** 2)
    return (
        normal * math.cos(phi) * math.cos(lam),
        normal * math.cos(phi) * math.sin(lam),
        normal * (1 - squared) * math.sin(phi),
    )
