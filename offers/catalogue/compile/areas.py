"""Areas as people draw them: GeoJSON polygons read, mended or refused, each as rings in one frame of longitudes.

Edges are straight in longitude and latitude. An area's longitudes run on without a jump across the antimeridian, so
they may pass 180, up to 540; its west end is from -180 to 180. Positions are rounded to multiples of GRAIN: then
adding 360 to a longitude changes nothing else of it, and areas that share an edge agree about it in any frame.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely import affinity

from offers.catalogue.document.nodes import Path, dotted
from offers.catalogue.rules.faults import Fault, Faults
from offers.errors import OffersError

GRAIN = 2.0**-43
"""Degrees that positions are rounded to: 12 nanometres on the ground. Differences of longitudes to 540 are exact."""
ROUNDER = 768.0
"""Added to degrees and taken away again, leaves a multiple of GRAIN."""
TOP = 90 - GRAIN
"""The north pole is on the northern edge of whatever reaches it; it is taken to be just inside."""

_EDGES = 4_096
"""Edges of a ring looked at together."""
_MAX_DEPTH = 8
"""Collections within collections; RFC 7946 advises against even one."""
_MOST_OVERLAPS = 100
"""Polygons of one part that are told to overlap another, at most."""
_SHOWN = 60
"""Characters of a bad value that a reason repeats."""
_KINDS = "Polygon or MultiPolygon, or a Feature, FeatureCollection or GeometryCollection of them"
_WGS84 = re.compile(r".*(CRS:?:?84|EPSG:+4326)(?!\d)", re.IGNORECASE)
_SPOT = re.compile(r"(.*)\[(\S+) (\S+)\]")
_MEND = "redraw it there; `shapely.make_valid`, or a map editor's check of geometries, shows a way"

Ring = NDArray[np.float64]
"""Positions as rows of [longitude, latitude], the last like the first."""


class AreaError(OffersError):
    """A text is no area; `faults` tells why."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{dotted(fault.path)} {fault.reason}; {fault.fix}".strip() for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Part:
    """One polygon or multipolygon."""

    rings: tuple[Ring, ...]
    """Outer rings and holes alike: a position is inside when an odd number of edges lies to its east."""
    latitude: float
    """Of a position inside, in degrees; it tells the time zone."""
    longitude: float


def rounded(degrees: Any) -> Any:  # noqa: ANN401 - a number or an array of numbers
    """Degrees as multiples of GRAIN."""
    return (degrees + ROUNDER) - ROUNDER


def parse(text: str) -> list[Part]:
    """Read a GeoJSON text: a Polygon or MultiPolygon, or a Feature or a collection of them, each one part.

    Which way a ring winds is no matter. Raises AreaError with every ring and polygon that cannot be used.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fix = (
            "write GeoJSON such as {type: Polygon, coordinates: [[[2.3, 48.8], [2.4, 48.8], [2.4, 48.9], [2.3, 48.8]]]}"
        )
        raise AreaError([Fault((), f"is not JSON: {error}", fix)]) from None
    faults: Faults = []
    parts = list(_read(value, (), 0, faults))
    if not (parts or faults):
        faults.append(Fault((), "holds no area", f"write a {_KINDS}"))
    if faults:
        raise AreaError(faults)
    return parts


def contains(part: Part, latitude: float, longitude: float) -> bool:
    """Whether a position is inside: an odd number of edges lies to its east, in one of the frames it can be read in.

    An edge lies between the latitude of its south end, included, and that of its north end. So a position on an edge
    belongs to the area east of it or, on an edge along a parallel, to that north of it.
    """
    y, x = min(rounded(latitude), TOP), rounded(longitude)
    return any(_is_odd(part, x + turn, y) for turn in (-360, 0, 360, 720))


def _is_odd(part: Part, x: float, y: float) -> bool:
    odd = False
    for ring in part.rings:
        positions = ring.tolist()
        for one, other in pairwise(positions):
            (x0, y0), (x1, y1) = (one, other) if one[1] <= other[1] else (other, one)
            if y0 <= y < y1 and (x1 - x0) * (y - y0) > (x - x0) * (y1 - y0):
                odd = not odd
    return odd


def contain_each(part: Part, latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """As `contains`, for many positions at once, by the same arithmetic."""
    y, held = np.minimum(rounded(latitudes), TOP), np.zeros(len(latitudes), bool)
    for turn in (-360, 0, 360, 720):
        x, odd = rounded(longitudes) + turn, np.zeros(len(latitudes), bool)
        for ring in part.rings:
            (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
            asked = np.flatnonzero((south <= y) & (y < north) & (west <= x) & (x < east))  # others: an even number
            for first in range(0, len(ring) - 1 if len(asked) else 0, _EDGES):
                odd[asked] ^= _are_odd(ring[first : first + _EDGES + 1], x[asked, None], y[asked, None])
        held |= odd
    return held


def _are_odd(ring: Ring, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether an odd number of edges lies to the east."""
    one, other = ring[:-1].T, ring[1:].T
    is_upward = one[1] <= other[1]
    (x0, y0), (x1, y1) = np.where(is_upward, one, other), np.where(is_upward, other, one)
    crossed = (y0 <= y) & (y < y1) & ((x1 - x0) * (y - y0) > (x - x0) * (y1 - y0))
    odd: NDArray[np.bool_] = np.bitwise_xor.reduce(crossed, axis=1)
    return odd


def _read(value: Any, path: Path, depth: int, faults: Faults) -> Iterator[Part]:  # noqa: ANN401 - JSON
    kind = value.get("type") if isinstance(value, dict) else None
    kind = kind if isinstance(kind, str) else ""
    lists = {"FeatureCollection": "features", "GeometryCollection": "geometries"}
    if depth > _MAX_DEPTH:
        faults.append(Fault(path, f"is nested deeper than {_MAX_DEPTH} levels", "write its areas side by side"))
    elif not isinstance(value, dict):
        faults.append(Fault(path, f"{_shown(value)} is not a GeoJSON object", f"write a {_KINDS}"))
    elif value.get("crs") is not None and not _WGS84.match(str(value["crs"])):
        reason = "is in another coordinate system than WGS 84"
        faults.append(Fault((*path, "crs"), reason, "write longitudes and latitudes in degrees, and leave `crs` out"))
    elif kind == "Feature":
        yield from _read(value.get("geometry"), (*path, "geometry"), depth + 1, faults)
    elif kind == "Polygon":
        yield from _part([(value.get("coordinates"), (*path, "coordinates"))], faults)
    elif kind not in {"MultiPolygon", *lists}:
        reason = f"is a {kind[:_SHOWN]}, which has no area" if kind else "has no `type` that GeoJSON knows"
        faults.append(Fault(path, reason, f"write a {_KINDS}; around a point, write a circle"))
    else:
        name = lists.get(kind, "coordinates")
        items = value.get(name)
        if not isinstance(items, list):
            faults.append(Fault((*path, name), f"{_shown(items)} is not a list", f"write the list of {name}"))
        elif kind == "MultiPolygon":
            yield from _part([(item, (*path, name, index)) for index, item in enumerate(items)], faults)
        else:
            for index, item in enumerate(items):
                yield from _read(item, (*path, name, index), depth + 1, faults)


def _part(written: Sequence[tuple[Any, Path]], faults: Faults) -> Iterator[Part]:
    """Read the polygons that make up one part, if nothing is wrong with them."""
    before = len(faults)
    polygons = [(polygon, path) for rings, path in written if (polygon := _polygon(rings, path, faults)) is not None]
    if len(polygons) > 1 and len(faults) == before:
        whole = _joined(polygons, faults)
    elif polygons:
        whole = polygons[0][0]
    if polygons and len(faults) == before:
        inside = whole.representative_point()
        rings = tuple(
            _without_repeats(rounded(shapely.get_coordinates(ring)))
            for polygon in shapely.get_parts(whole)
            for ring in (polygon.exterior, *polygon.interiors)
        )
        yield Part(rings, inside.y, _turned(inside.x))


def _polygon(value: Any, path: Path, faults: Faults) -> shapely.Polygon | None:  # noqa: ANN401 - JSON
    """Read an outer ring and its holes."""
    if not (isinstance(value, list) and value):
        faults.append(Fault(path, f"{_shown(value)} is not a list of rings", "write the outer ring, then its holes"))
        return None
    rings: list[Ring] = []
    for index, item in enumerate(value):
        ring = _ring(item, (*path, index), faults)
        if ring is not None:
            rings.append(ring)
    if len(rings) < len(value):
        return None
    west, east = rings[0][:, 0].min(), rings[0][:, 0].max()
    for hole in rings[1:]:
        for turn in (-360, 360):
            if hole[:, 0].min() + turn >= west and hole[:, 0].max() + turn <= east:
                hole[:, 0] += turn
                break
    polygon = shapely.Polygon(rings[0], rings[1:])
    if polygon.is_valid:
        return polygon
    alone = next(((n, one) for n, one in enumerate(map(shapely.Polygon, rings)) if not one.is_valid), None)
    number, faulty = alone if alone is not None else (-1, polygon)
    faults.append(_invalid((*path, number) if number >= 0 else path, shapely.is_valid_reason(faulty)))
    return None


def _ring(value: Any, path: Path, faults: Faults) -> Ring | None:  # noqa: ANN401 - JSON
    """Read one ring, with its longitudes running on across the antimeridian."""
    if not isinstance(value, list):
        faults.append(Fault(path, f"{_shown(value)} is not a list of positions", "write [longitude, latitude] pairs"))
        return None
    pairs = [position[:2] for position in value if type(position) is list]
    kinds = {type(number) for pair in pairs for number in pair}
    if len(pairs) < len(value) or not ({*map(len, pairs)} <= {2} and kinds <= _NUMBERS):
        index = next(index for index, position in enumerate(value) if not _is_position(position))
        fix = "write [longitude, latitude], two numbers in degrees"
        faults.append(Fault((*path, index), f"{_shown(value[index])} is not a position", fix))
        return None
    if len(value) < 4:
        reason = f"has {len(value)} positions, and a ring needs 4 at least"
        faults.append(Fault(path, reason, "write three corners or more, and the first of them again at the end"))
        return None
    written = np.array(pairs, np.float64)
    outside = np.flatnonzero(~((np.abs(written[:, 0]) <= 180) & (np.abs(written[:, 1]) <= 90)))
    if len(outside):
        longitude, latitude = written[outside[0]].tolist()
        fix = "write degrees: first the longitude from -180 to 180, then the latitude from -90 to 90"
        reason = f"[{longitude:.12g}, {latitude:.12g}] is no position on the earth"
        faults.append(Fault((*path, int(outside[0])), reason, fix))
        return None
    if (written[0] != written[-1]).any():
        reason = f"begins at {_at(*written[0])} and ends at {_at(*written[-1])}: it is not closed"
        faults.append(Fault(path, reason, "repeat the first position at the end"))
        return None
    return _unwrapped(rounded(written), path, faults)


def _unwrapped(ring: Ring, path: Path, faults: Faults) -> Ring | None:
    steps = np.diff(ring[:, 0])
    short = np.where(np.abs(steps) > 180, steps - np.sign(steps) * 360, steps)
    if short.sum() or np.ptp(np.cumsum(short)) == 0:
        # From -180 to 180 is no step at all, but along a pole, and in a ring that is drawn along both of them.
        along = ring[:-1][(steps == 0) & (np.diff(ring[:, 1]) != 0), 0]
        at_pole = (np.abs(ring[:-1, 1]) == 90) & (ring[:-1, 1] == ring[1:, 1])
        is_whole = (np.abs(steps) == 360) & (at_pole | ({-180.0, 180.0} <= set(along.tolist())))
        short = np.where(is_whole, steps, short)
    if short.sum():
        y = f"{ring[:, 1].mean():.0f}"
        pole = 90 if ring[:, 1].mean() >= 0 else -90
        fix = f"lead it along 180 to the pole and back: [180, {y}], [180, {pole}], [-180, {pole}], [-180, {y}]"
        faults.append(Fault(path, "goes around the pole, so that nothing tells which side is inside", fix))
        return None
    longitudes = ring[0, 0] + np.concatenate([[0.0], np.cumsum(short)])
    if _on_a_line(longitudes - longitudes[0], ring[:, 1] - ring[0, 1]):
        faults.append(
            Fault(path, f"has no area: all of it is on one line, at {_at(*ring[0])}", "draw three corners or more")
        )
        return None
    if np.ptp(longitudes) > 360:
        faults.append(Fault(path, "goes around the earth and over itself", "split it into polygons side by side"))
        return None
    longitudes -= 360 * np.floor((longitudes.min() + 180) / 360)
    return np.column_stack([longitudes, ring[:, 1]])


def _on_a_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether positions, relative to the first, are all on one line through it, but for rounding."""
    farthest = np.argmax(x * x + y * y)
    length = float(np.hypot(x[farthest], y[farthest]))
    return bool(np.abs(x * y[farthest] - y * x[farthest]).max() <= 4 * GRAIN * length)


def _joined(polygons: Sequence[tuple[shapely.Polygon, Path]], faults: Faults) -> Any:  # noqa: ANN401 - a geometry
    """Bring polygons into one frame and melt those that share edges, such as the halves left and right of 180."""
    shapes = np.array(_in_one_frame([polygon for polygon, _ in polygons]), object)
    paths = [path for _, path in polygons]
    tree = shapely.STRtree(shapes)
    touching, faulty = False, set[int]()
    west, _, east, _ = shapely.total_bounds(shapes).tolist()
    for turn in (0.0, 360.0) if east - west > 360 else (0.0,):  # a frame wider than the earth meets itself
        for number, shape in enumerate(shapes):
            turned = affinity.translate(shape, turn) if turn else shape
            near = tree.query(turned, predicate="intersects")
            near = np.sort(near if turn else near[near > number])
            for other in near.tolist():
                later = max(number, other)
                # One fault tells enough: all may overlap all.
                if later in faulty or not shapely.relate_pattern(turned, shapes[other], "T********"):
                    continue
                spot = turned.intersection(shapes[other]).representative_point()
                reason = f"overlaps {dotted(paths[min(number, other)])} around {_at(spot.x, spot.y)}"
                faulty.add(later)
                if len(faulty) == _MOST_OVERLAPS:
                    reason += f"; more of the {len(shapes):,} polygons may overlap, which was not looked at"
                faults.append(Fault(paths[later], reason, "draw the two as one, or cut one out of the other"))
                if len(faulty) == _MOST_OVERLAPS:
                    return None
            touching = touching or bool(not turn and shapely.relate_pattern(turned, shapes[near], "****1****").any())
    return shapely.unary_union(shapes) if touching else shapely.MultiPolygon(shapes.tolist())


def _in_one_frame(shapes: Sequence[shapely.Polygon]) -> list[shapely.Polygon]:
    """Begin after the largest gap in longitude, so that what lies near is near; without a gap, leave all as it is."""
    ends = sorted((shape.bounds[0], shape.bounds[2]) for shape in shapes)
    start, largest = -180.0, 0.0
    covered = max(east for _, east in ends) - 360
    for west, east in ends:
        if west - covered > largest:
            start, largest = west, west - covered
        covered = max(covered, east)
    return [affinity.translate(shape, 360) if shape.bounds[0] < start else shape for shape in shapes]


def _invalid(path: Path, reason: str) -> Fault:
    """Say what shapely found in our words."""
    match = _SPOT.match(reason)
    name, spot = (match.group(1), _at(float(match.group(2)), float(match.group(3)))) if match else (reason, "")
    known = {
        "Self-intersection": ("crosses itself at", _MEND),
        "Ring Self-intersection": ("touches itself at", _MEND),
        "Hole lies outside shell": ("has a hole outside of its outer ring, at", "draw it inside, or leave it out"),
        "Holes are nested": ("has a hole within a hole, at", "write what is inside the hole as a polygon of its own"),
        "Interior is disconnected": ("falls into pieces that only touch, at", "write each piece as a polygon"),
        "Duplicate Rings": ("has the same ring twice, at", "leave one out"),
        "Too few points in geometry component": ("has no area, at", "draw three corners or more"),
    }
    words, fix = known.get(name, (f"is not valid ({name}) at", _MEND))
    return Fault(path, f"{words} {spot}".strip(), fix)


_NUMBERS = frozenset({int, float})


def _is_position(value: Any) -> bool:  # noqa: ANN401 - JSON
    return type(value) is list and len(value) >= 2 and all(type(number) in _NUMBERS for number in value[:2])


def _without_repeats(ring: Ring) -> Ring:
    other = np.ones(len(ring), np.bool_)
    other[1:] = (np.diff(ring, axis=0) != 0).any(axis=1)
    return ring[other]


def _turned(longitude: float) -> float:
    """A longitude of any frame as one from -180 to 180."""
    return longitude - 360 * math.floor((longitude + 180) / 360) if longitude > 180 else longitude


def _at(longitude: float, latitude: float) -> str:
    return f"[{_turned(longitude):.9g}, {latitude:.9g}]"


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON
    if value is None:
        return "an empty value"
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "a list"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
