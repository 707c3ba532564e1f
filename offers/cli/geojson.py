"""What was considered for one answer and why, as GeoJSON (RFC 7946, simplestyle) for any map viewer."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import shapely
from geopy.distance import geodesic
from shapely import affinity
from shapely.geometry.polygon import orient

from offers.catalogue import document
from offers.catalogue.check import check
from offers.catalogue.compile.areas import Area
from offers.catalogue.snapshot import FACTORS
from offers.cli.words import benefit_words, distance_words, local
from offers.decision.kernels.places.location import SIGMA
from offers.decision.reference.explain import Reason, Verdict, Why, explain
from offers.decision.reference.places import Piece, Place
from offers.errors import OffersError
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_service_pb2 import GetOffersResponse, Proposition
from offers.v1.venue_pb2 import Venue

CORNERS = 64
"""Of the polygons that stand for circles: 0.12 % of the radius off between two of them."""
GREEN, GREY, BLUE, RED = "#2da44e", "#8c959f", "#1f6feb", "#cf222e"
"""Returned, not returned, the person, what is cut out."""

Feature = dict[str, Any]


class OtherCatalogError(OffersError):
    """The server does not answer from the document that is to explain its answer."""


def read_catalog(path: Path) -> Catalog:
    """Read a document as one message. Raises CatalogError with every problem of it."""
    check(path)
    catalog = Catalog()
    for fragment in document.read(path, []):
        catalog.MergeFrom(fragment.catalog)
    return catalog


def write_map(path: Path, features: Sequence[Feature]) -> None:
    """Write a FeatureCollection, whole or not at all. Raises OSError."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def features_of(catalog: Catalog, query: Query, response: GetOffersResponse, radius_m: float) -> list[Feature]:
    """The person, and each offer at each of its places within `radius_m` of the location, what is returned last.

    Raises OtherCatalogError where the answer is not what the catalogue gives.
    """
    answer = {one.offer_id: one for one in response.offers}
    verdicts = explain(catalog, query)
    returned = {verdict.offer.offer_id for verdict in verdicts if verdict.is_returned}
    if returned != answer.keys():
        differing = ", ".join(sorted(returned ^ answer.keys())[:5])
        raise OtherCatalogError(
            f"the server (catalogue version {response.catalog_version}) answers otherwise than this document would, "
            f"about {differing}: give --catalog the document that it serves"
        )
    near = [verdict for verdict in verdicts if verdict.is_returned or (verdict.gap_m or 0.0) <= radius_m]
    near.sort(key=lambda verdict: -(verdict.rank or math.inf))
    return [
        *_cuts(near),
        *(_place(verdict, query, answer) for verdict in near),
        *_venues(near, query),
        *_person(query),
    ]


def _person(query: Query) -> Iterator[Feature]:
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


def _cuts(verdicts: Iterable[Verdict]) -> Iterator[Feature]:
    """What is cut out of the places, each once."""
    seen: list[Piece] = []
    for verdict in verdicts:
        for cut in verdict.place.cuts:
            if not any(cut is one or (not isinstance(cut, Area) and cut == one) for one in seen):
                seen.append(cut)
                yield _feature("cut out", _geometry(cut), RED, title="cut out")


def _place(verdict: Verdict, query: Query, answer: dict[str, Proposition]) -> Feature:
    offer, place, proposition = verdict.offer, verdict.place, answer.get(verdict.offer.offer_id)
    why = "; ".join(reason_words(reason, place, query) for reason in verdict.reasons)
    told: dict[str, Any] = {
        "offer_id": offer.offer_id,
        "offer": offer.title,
        "benefit": benefit_words(offer.benefit),
        "verdict": "returned" if verdict.is_returned else "not returned",
        "why": why,
        "reasons": [str(reason.why) for reason in verdict.reasons],
    }
    if place.venue is not None:
        told["venue_id"] = place.venue.venue_id
    title = offer.title
    if verdict.is_returned and proposition is not None:
        title = f"{proposition.rank}. {offer.title}"
        told |= {"rank": proposition.rank, "score": proposition.score}
        if proposition.HasField("distance_m"):
            told["distance_m"] = round(proposition.distance_m, 1)
        if proposition.HasField("valid_until"):
            told["valid_until"] = _instant(proposition.valid_until.seconds, place.time_zone)
    if verdict.ranked is not None:
        factors = zip(FACTORS, verdict.ranked.factors, strict=True)
        told["factors"] = ", ".join(f"{name} {value:.4f} ^ {weight:g}" for name, (value, weight) in factors)
    geometry = _point(query) if place.piece is None else _geometry(place.piece)
    color = GREEN if verdict.is_returned else GREY
    return _feature("place", geometry, color, title=title, description=why, **told)


def _venues(verdicts: Iterable[Verdict], query: Query) -> Iterator[Feature]:
    by_id: dict[str, list[tuple[Verdict, Venue]]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.place.venue is not None:
            by_id[verdict.place.venue.venue_id].append((verdict, verdict.place.venue))
    for venue_id, found in by_id.items():
        venue = found[0][1]
        color = GREEN if any(verdict.is_returned for verdict, _ in found) else GREY
        words = (
            f"{verdict.offer.title}: {'; '.join(reason_words(one, verdict.place, query) for one in verdict.reasons)}"
            for verdict, _ in found
        )
        point = {"type": "Point", "coordinates": [venue.point.longitude, venue.point.latitude]}
        title = venue.title or venue_id
        yield _feature("venue", point, color, title=title, venue_id=venue_id, description="\n".join(words))


def reason_words(reason: Reason, place: Place, query: Query) -> str:  # noqa: C901, PLR0911, PLR0912 - one each
    """Say a reason, instants by the clock of the place."""
    until = "" if reason.until is None else _instant(reason.until, place.time_zone)
    match reason.why:
        case Why.RETURNED:
            return "returned"
        case Why.OTHER_PLACE:
            return "returned for another place, which is nearer or better"
        case Why.PLACEMENT:
            return f"not for the placement {query.surface.placement}"
        case Why.LANGUAGE:
            return f"not for the language {query.surface.language}"
        case Why.CURRENCY:
            return f"not for the currency {query.surface.currency}"
        case Why.CHANNEL:
            return "not for the channel asked from"
        case Why.NO_LOCATION:
            return "there is no location, and the offer does not allow that"
        case Why.OUTSIDE:
            return f"outside, {distance_words(reason.metres)} away" if reason.metres else "outside"
        case Why.CUT_OUT:
            return f"cut out by the zone {reason.detail}"
        case Why.UNLIKELY:
            return f"inside with a probability of only {reason.chance or 0:.2g}, and {reason.needed:g} is needed"
        case Why.OVER:
            return f"over since {until}"
        case Why.NOT_BEGUN:
            return f"begins {until}"
        case Why.CLOSED:
            return f"closed {_till(until)}"
        case Why.DAYPART:
            return f"outside its dayparts {_till(until)}"
        case Why.VENUE_CLOSED:
            return f"the venue is closed, or about to close, {_till(until)}"
        case Why.NOT_REDEEMABLE:
            return f"over since {until}, to be used" if reason.detail == Why.OVER else f"not to be used {_till(until)}"
        case Why.UNREACHABLE:
            return "ends before one can be there"
        case Why.FALLBACK:
            return "a fallback, held back because others qualify"
        case Why.EXCLUSION_GROUP:
            return "a better one of its exclusion group is returned"
        case Why.LAYOUT:
            return f"the placement has its most of one {reason.detail} already"
        case Why.BEYOND:
            return "qualifies, and as many better ones are returned as may be"


def _till(until: str) -> str:
    return f"until {until}" if until else "for the next 400 days at least"


def _instant(second: int, zone: str) -> str:
    return f"{local(second, ZoneInfo(zone)):%a %-d %b %Y %H:%M} {zone}"


def _feature(kind: str, geometry: Feature | None, color: str, **told: Any) -> Feature:  # noqa: ANN401 - any JSON
    style: dict[str, Any] = {"marker-color": color}
    if geometry is not None and geometry["type"] != "Point":
        opacity = 0.25 if color == GREEN else 0.1
        style = {"stroke": color, "stroke-width": 2, "stroke-opacity": 0.9, "fill": color, "fill-opacity": opacity}
    return {"type": "Feature", "geometry": geometry, "properties": {"kind": kind, **told, **style}}


def _point(query: Query) -> Feature | None:
    """The location, at which places everywhere are shown as well; None: there is none."""
    if math.isnan(query.latitude):
        return None
    return {"type": "Point", "coordinates": [query.longitude, query.latitude]}


def _geometry(piece: Piece) -> Feature:
    """A circle or area as polygons, split at the antimeridian."""
    if not isinstance(piece, Area):
        return _circle(piece.center.latitude, piece.center.longitude, piece.radius_m)
    rings = [shapely.Polygon(ring) for ring in piece.rings]
    return _split(reduce(shapely.symmetric_difference, rings))  # inside is within an odd number of them


@lru_cache(maxsize=4_096)  # offers of one venue share its circle
def _circle(latitude: float, longitude: float, radius_m: float) -> Feature:
    """A circle on the ellipsoid, as the corners of a polygon on its edge."""
    spots = [geodesic(meters=radius_m).destination((latitude, longitude), 360 * n / CORNERS) for n in range(CORNERS)]
    x, y = np.array([spot.longitude for spot in spots]), np.array([spot.latitude for spot in spots])
    pole = math.copysign(90.0, latitude)
    if geodesic((latitude, longitude), (pole, longitude)).m >= radius_m:
        x -= 360 * np.round((x - longitude) / 360)
        return _split(shapely.Polygon(np.column_stack([x, y])))
    # Around the pole: from the west end of the map to its east end, and back along the pole.
    order = np.argsort(x)
    x, y = x[order], y[order]
    share = (180 - x[-1]) / (x[0] + 360 - x[-1])
    edge = y[-1] + share * (y[0] - y[-1])
    ring = [(-180.0, edge), *zip(x, y, strict=True), (180.0, edge), (180.0, pole), (-180.0, pole)]
    return _split(shapely.Polygon(ring))


def _split(shape: Any) -> Feature:  # noqa: ANN401 - a geometry
    """Polygons within longitudes from -180 to 180, their outer rings anticlockwise."""
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
