"""The map of one answer: what was considered and why, as GeoJSON (RFC 7946, simplestyle) for any map viewer.

The answer, and what concerns the person, come from the server. Places and their verdicts come from the document, by the
same explainer in the same words.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import shapely
from geopy.distance import geodesic
from shapely import affinity
from shapely.geometry.polygon import orient

from offers.catalogue.geo.areas import Area
from offers.cli.words import benefit_words, code_words, distance_words, factor_words, local
from offers.decision.kernels.places.location import SIGMA
from offers.decision.reference.explain import PlacedOffer, PlaceVerdict, Why, place_verdicts
from offers.decision.reference.places import OfferPlace, Piece
from offers.decision.reference.words import CHOSEN, CODES, WITHHELD, Words
from offers.errors import OffersError
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Offer
from offers.v1.offer_service_pb2 import (
    REASON_CODE_NO_SUCH_OFFER,
    Factor,
    GetOffersResponse,
    OfferExplanation,
    Proposition,
)

CORNERS = 64
"""Corners of a polygon that stands for a circle: between two of them it is 0.12 % of the radius off."""
GREEN, GREY, BLUE, RED = "#2da44e", "#8c959f", "#1f6feb", "#cf222e"
"""Colours of what is returned, of what is not, of the person, and of what is cut out."""
_LOCAL = frozenset(CODES.values()) - WITHHELD.keys()
"""Codes of the checks that concern the request, place and time, but not the person."""

Feature = dict[str, Any]


class OtherCatalogError(OffersError):
    """The server does not answer from the document that is to explain its answer."""


def write_map(path: Path, features: Sequence[Feature]) -> None:
    """Write a FeatureCollection, whole or not at all. Raises OSError."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


class _MapEntry(NamedTuple):
    """An offer at one of its places, as the map shows it."""

    offer: Offer
    place: OfferPlace
    proposition: Proposition | None
    """The offer in the answer, where it is shown for this place."""
    factors: Sequence[Factor]
    """How it scores, at the place it would be shown for."""
    reasons: list[str]
    """Names of the reasons: those of Why, and of ReasonCode for what concerns the person."""
    why: str
    """The reasons in words."""

    @property
    def color(self) -> str:
        """Green where it is returned for this place, else grey."""
        return GREY if self.proposition is None else GREEN


class OfferMap:
    """The map of one answer: the person, and each offer at each of its places within a radius of the location."""

    def __init__(
        self, catalog: Catalog, query: Query, response: GetOffersResponse, radius_m: float, *, is_served: bool = False
    ) -> None:
        """`is_served`: the answer is certainly from the document, so no difference is the document's fault."""
        self._is_served = is_served
        self._query, self._response, self._radius_m = query, response, radius_m
        self._answer = {one.offer_id: one for one in response.offers}
        self._words = Words(catalog, query)
        self._offers = [
            one
            for one in place_verdicts(catalog, query)
            if one.offer.offer_id in self._answer or any(map(self._is_near, one.places))
        ]

    @property
    def offer_ids(self) -> list[str]:
        """The offers on the map, which the server is to explain."""
        return [one.offer.offer_id for one in self._offers]

    def features(self, explanations: Mapping[str, OfferExplanation]) -> list[Feature]:
        """Return the features, what is returned last, given the server's explanations of the offers on the map.

        Raises OtherCatalogError where the server's verdicts are not those of the document.
        """
        self._check_document(explanations)
        shown = [one for placed in self._offers for one in self._entries(placed, explanations[placed.offer.offer_id])]
        shown.sort(key=lambda one: -one.proposition.rank if one.proposition else -math.inf)
        return [
            *_cuts(one.place for one in shown),
            *(_place(one, self._query) for one in shown),
            *_venues(shown),
            *_person(self._query),
        ]

    def _is_near(self, verdict: PlaceVerdict) -> bool:
        return (verdict.gap_m or 0.0) <= self._radius_m

    def _check_document(self, explanations: Mapping[str, OfferExplanation]) -> None:
        """Raise OtherCatalogError where the server does not answer from the document."""
        if self._is_served:
            return
        differing = self._answer.keys() - set(self.offer_ids)
        for placed in self._offers:
            name, offer = placed.offer.offer_id, placed.offer
            codes = {one.reason for one in self._words.reasons(offer, placed.shown.place, placed.reasons)}
            told = {one.reason for one in explanations[name].failed_checks}
            if REASON_CODE_NO_SUCH_OFFER in told or codes != told & _LOCAL:
                differing.add(name)
        if differing:
            raise OtherCatalogError(
                f"the server (catalogue version {self._response.catalog_version}) answers otherwise than this document "
                f"would, about {', '.join(sorted(differing)[:5])}: give --catalog the document that it serves"
            )

    def _entries(self, placed: PlacedOffer, explanation: OfferExplanation) -> Iterator[_MapEntry]:
        """Yield an offer at each of its places that are near, and at the one it is returned for."""
        proposition = self._answer.get(placed.offer.offer_id)
        personal = [one for one in explanation.failed_checks if one.reason not in {*_LOCAL, *WITHHELD}]
        withheld = [one for one in explanation.failed_checks if one.reason in WITHHELD]
        for verdict in placed.places:
            own = proposition if verdict is placed.shown else None
            if own is None and not self._is_near(verdict):
                continue
            against = *placed.refused, *verdict.reasons
            checks = [*self._words.reasons(placed.offer, verdict.place, against), *personal]
            names = [*(str(one.why) for one in against), *(code_words(one.reason) for one in personal)]
            if own is not None or (proposition is not None and not against):
                chosen = Why.RETURNED if own else Why.OTHER_PLACE
                names, details = [str(chosen)], [CHOSEN[chosen]]
            else:
                if not checks:
                    checks, names = withheld, [str(WITHHELD[one.reason]) for one in withheld]
                details = [one.detail for one in checks]
            factors = explanation.factors if verdict is placed.shown else ()
            yield _MapEntry(placed.offer, verdict.place, own, factors, names, "; ".join(details))


def _person(query: Query) -> Iterator[Feature]:
    """Yield the location, and the circle of its accuracy."""
    if math.isnan(query.latitude):
        return
    accuracy = query.sigma_m / SIGMA
    time = _instant(query.time, query.surface.time_zone or "UTC")
    told: dict[str, Any] = {"title": "the location asked for", "time": time}
    if accuracy:
        told["accuracy_m"] = round(accuracy, 1)
        circle = _circle(query.latitude, query.longitude, accuracy)
        yield _feature("accuracy", circle, BLUE, title=f"68 % likely within {distance_words(accuracy)}")
    yield _feature("location", _point(query), BLUE, **told)


def _cuts(places: Iterable[OfferPlace]) -> Iterator[Feature]:
    """Yield what is cut out of places, each piece once."""
    seen: list[Piece] = []
    for place in places:
        for cut in place.cuts:
            if not any(cut is one or (not isinstance(cut, Area) and cut == one) for one in seen):
                seen.append(cut)
                yield _feature("cut out", _geometry(cut), RED, title="cut out")


def _place(one: _MapEntry, query: Query) -> Feature:
    """Return an offer at a place, with its verdict."""
    offer, place, proposition = one.offer, one.place, one.proposition
    told: dict[str, Any] = {
        "offer_id": offer.offer_id,
        "offer": offer.title,
        "benefit": benefit_words(offer.benefit),
        "verdict": "not returned" if proposition is None else "returned",
        "why": one.why,
        "reasons": one.reasons,
    }
    if place.venue is not None:
        told["venue_id"] = place.venue.venue_id
    title = offer.title
    if proposition is not None:
        title = f"{proposition.rank}. {offer.title}"
        told |= {"rank": proposition.rank, "score": proposition.score}
        if proposition.HasField("distance_m"):
            told["distance_m"] = round(proposition.distance_m, 1)
        if proposition.HasField("valid_until"):
            told["valid_until"] = _instant(proposition.valid_until.seconds, place.time_zone)
    if one.factors:
        told["factors"] = ", ".join(map(factor_words, one.factors))
    geometry = _point(query) if place.piece is None else _geometry(place.piece)
    return _feature("place", geometry, one.color, title=title, description=one.why, **told)


def _venues(shown: Iterable[_MapEntry]) -> Iterator[Feature]:
    """Yield each venue once, with the verdicts on all its offers."""
    by_id: dict[str, list[_MapEntry]] = defaultdict(list)
    for one in shown:
        if one.place.venue is not None:
            by_id[one.place.venue.venue_id].append(one)
    for venue_id, found in by_id.items():
        venue = found[0].place.venue
        if venue is None:
            continue
        color = GREEN if any(one.proposition for one in found) else GREY
        point = {"type": "Point", "coordinates": [venue.point.longitude, venue.point.latitude]}
        description = "\n".join(f"{one.offer.title}: {one.why}" for one in found)
        yield _feature("venue", point, color, title=venue.title or venue_id, venue_id=venue_id, description=description)


def _instant(second: int, zone: str) -> str:
    return f"{local(second, ZoneInfo(zone)):%a %-d %b %Y %H:%M} {zone}"


def _feature(kind: str, geometry: Feature | None, color: str, **told: Any) -> Feature:  # noqa: ANN401 - any JSON
    style: dict[str, Any] = {"marker-color": color}
    if geometry is not None and geometry["type"] != "Point":
        opacity = 0.25 if color == GREEN else 0.1
        style = {"stroke": color, "stroke-width": 2, "stroke-opacity": 0.9, "fill": color, "fill-opacity": opacity}
    return {"type": "Feature", "geometry": geometry, "properties": {"kind": kind, **told, **style}}


def _point(query: Query) -> Feature | None:
    """Return the location, where places everywhere are shown too. None: there is no location."""
    if math.isnan(query.latitude):
        return None
    return {"type": "Point", "coordinates": [query.longitude, query.latitude]}


def _geometry(piece: Piece) -> Feature:
    """Return a circle or area as polygons, split at the antimeridian."""
    if not isinstance(piece, Area):
        return _circle(piece.center.latitude, piece.center.longitude, piece.radius_m)
    rings = [shapely.Polygon(ring) for ring in piece.rings]
    return _split(reduce(shapely.symmetric_difference, rings))  # inside: within an odd number of rings


@lru_cache(maxsize=4_096)  # offers of one venue share its circle
def _circle(latitude: float, longitude: float, radius_m: float) -> Feature:
    """Return a circle on the ellipsoid as a polygon with its corners on the edge."""
    spots = [geodesic(meters=radius_m).destination((latitude, longitude), 360 * n / CORNERS) for n in range(CORNERS)]
    x, y = np.array([spot.longitude for spot in spots]), np.array([spot.latitude for spot in spots])
    pole = math.copysign(90.0, latitude)
    if geodesic((latitude, longitude), (pole, longitude)).m >= radius_m:
        x -= 360 * np.round((x - longitude) / 360)
        return _split(shapely.Polygon(np.column_stack([x, y])))
    # A circle around a pole becomes a band: along its edge from west to east, and back along the pole.
    order = np.argsort(x)
    x, y = x[order], y[order]
    share = (180 - x[-1]) / (x[0] + 360 - x[-1])
    edge = y[-1] + share * (y[0] - y[-1])
    ring = [(-180.0, edge), *zip(x, y, strict=True), (180.0, edge), (180.0, pole), (-180.0, pole)]
    return _split(shapely.Polygon(ring))


def _split(shape: Any) -> Feature:  # noqa: ANN401 - a geometry
    """Return a shape as polygons within longitudes -180 to 180, their outer rings anticlockwise."""
    pieces: list[Any] = []
    west, _, east, _ = shape.bounds
    for turn in range(math.floor((west + 180) / 360), math.ceil((east + 180) / 360)):
        whole = west >= 360 * turn - 180 and east <= 360 * turn + 180
        part = shape if whole else shape.intersection(shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90))
        moved = affinity.translate(part, -360 * turn) if turn else part
        pieces += [orient(one) for one in shapely.get_parts(moved) if one.geom_type == "Polygon" and not one.is_empty]
    geometry = pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)
    told: Feature = shapely.geometry.mapping(geometry)
    return told
