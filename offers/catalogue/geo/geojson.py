"""GeoJSON texts of catalogue documents, read as areas: polygons are checked, brought into one frame and merged."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely import affinity

from offers.catalogue.document.nodes import Path, dotted
from offers.catalogue.document.scalars import cut
from offers.catalogue.geo.areas import GRAIN, Area, Ring, rounded
from offers.catalogue.rules.faults import Fault, Faults
from offers.errors import OffersError

MAX_CORNERS = 100_000
"""Positions of an area's text. The border of a country, to the metre, has some ten thousand."""
MAX_CHARACTERS = 8 << 20
"""Characters of an area's text: 80 for each corner."""
MAX_CATALOG_CORNERS = 2_000_000
"""Positions of all areas of a catalogue: reading and compiling one takes some 10 µs."""
_SIMPLER = "simplify it, such as with shapely.simplify(area, 0.00001), which moves edges by a metre, or split it"
_MAX_DEPTH = 8
"""Collections within collections; RFC 7946 advises against even one."""
_MOST_OVERLAPS = 100
"""Polygons of one area that are reported to overlap another, at most."""
_KINDS = "Polygon or MultiPolygon, or a Feature, FeatureCollection or GeometryCollection of them"
_LISTS = {"FeatureCollection": "features", "GeometryCollection": "geometries"}
"""Members of collections that hold their elements."""
_NUMBERS = frozenset({int, float})
_WGS84 = re.compile(r".*(CRS:?:?84|EPSG:+4326)(?!\d)", re.IGNORECASE)
_SPOT = re.compile(r"(.*)\[(\S+) (\S+)\]")
_MEND = "redraw it there; `shapely.make_valid`, or a map editor's check of geometries, shows a way"


class AreaError(OffersError):
    """A text is not a GeoJSON area; `faults` holds every reason."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{dotted(fault.path)} {fault.reason}; {fault.fix}".strip() for fault in faults))
        self.faults = tuple(faults)


def parse(text: str) -> list[Area]:
    """Read a GeoJSON text as areas, one for each Polygon or MultiPolygon in it.

    The text is a Polygon, a MultiPolygon, a Feature, a FeatureCollection or a GeometryCollection. Rings may wind either
    way. Raises AreaError with every ring and polygon that cannot be used.
    """
    if len(text) > MAX_CHARACTERS:
        raise AreaError([Fault((), f"has {len(text):,} characters, and may have {MAX_CHARACTERS:,}", _SIMPLER)])
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fix = (
            "write GeoJSON such as {type: Polygon, coordinates: [[[2.3, 48.8], [2.4, 48.8], [2.4, 48.9], [2.3, 48.8]]]}"
        )
        raise AreaError([Fault((), f"is not JSON: {error}", fix)]) from None
    if (corners := _corners(value)) > MAX_CORNERS:
        raise AreaError([Fault((), f"has {corners:,} corners, and may have {MAX_CORNERS:,}", _SIMPLER)])
    faults: Faults = []
    areas = list(_read(value, (), 0, faults))
    if not (areas or faults):
        faults.append(Fault((), "holds no area", f"write a {_KINDS}"))
    if faults:
        raise AreaError(faults)
    return areas


def corners_of(text: str) -> int:
    """Return about how many positions an area's text has: a little more than there are."""
    return text.count("[")


def _corners(value: Any, depth: int = 0) -> int:  # noqa: ANN401 - JSON
    """Return the number of positions in a GeoJSON value; deeper ones than an area may have do not count."""
    if depth > 4 * _MAX_DEPTH or not isinstance(value, dict | list):
        return 0
    if isinstance(value, dict):
        return sum(_corners(value.get(name), depth + 1) for name in ("geometry", "coordinates", *_LISTS.values()))
    if value and isinstance(value[0], list) and value[0] and type(value[0][0]) in _NUMBERS:
        return len(value)
    return sum(_corners(one, depth + 1) for one in value)


def _read(value: Any, path: Path, depth: int, faults: Faults) -> Iterator[Area]:  # noqa: ANN401 - JSON
    """Read the areas of a GeoJSON object; `depth` is the number of objects around it."""
    kind = value.get("type") if isinstance(value, dict) else None
    kind = kind if isinstance(kind, str) else ""
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
        yield from _area([(value.get("coordinates"), (*path, "coordinates"))], faults)
    elif kind not in {"MultiPolygon", *_LISTS}:
        reason = f"is a {cut(kind)}, which has no area" if kind else "has no `type` that GeoJSON knows"
        faults.append(Fault(path, reason, f"write a {_KINDS}; around a point, write a circle"))
    else:
        name = _LISTS.get(kind, "coordinates")
        items = value.get(name)
        if not isinstance(items, list):
            faults.append(Fault((*path, name), f"{_shown(items)} is not a list", f"write the list of {name}"))
        elif kind == "MultiPolygon":
            yield from _area([(item, (*path, name, index)) for index, item in enumerate(items)], faults)
        else:
            for index, item in enumerate(items):
                yield from _read(item, (*path, name, index), depth + 1, faults)


def _area(written: Sequence[tuple[Any, Path]], faults: Faults) -> Iterator[Area]:
    """Read the polygons that make up one area; yield nothing when one of them has a fault."""
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
        yield Area(rings, inside.y, _turned(inside.x))


def _polygon(value: Any, path: Path, faults: Faults) -> shapely.Polygon | None:  # noqa: ANN401 - JSON
    """Read an outer ring and its holes; return None when one of them has a fault."""
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
    """Read one ring, its longitudes continuous across the antimeridian; return None when it has a fault."""
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
    """Return a ring with continuous longitudes, its west end from -180 to 180; None when it has a fault."""
    steps = np.diff(ring[:, 0])
    short = np.where(np.abs(steps) > 180, steps - np.sign(steps) * 360, steps)
    if short.sum() or np.ptp(np.cumsum(short)) == 0:
        # A step from -180 to 180 has length 0. Along a pole, or in a ring along both of them, it has 360.
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
    """Return whether positions, relative to the first, are all on one line through it, apart from rounding."""
    farthest = np.argmax(x * x + y * y)
    length = float(np.hypot(x[farthest], y[farthest]))
    return bool(np.abs(x * y[farthest] - y * x[farthest]).max() <= 4 * GRAIN * length)


def _joined(polygons: Sequence[tuple[shapely.Polygon, Path]], faults: Faults) -> Any:  # noqa: ANN401 - a geometry
    """Bring polygons into one frame and merge those that share edges, such as the halves on either side of 180."""
    shapes = np.array(_in_one_frame([polygon for polygon, _ in polygons]), object)
    paths = [path for _, path in polygons]
    tree = shapely.STRtree(shapes)
    touching, faulty = False, set[int]()
    west, _, east, _ = shapely.total_bounds(shapes).tolist()
    for turn in (0.0, 360.0) if east - west > 360 else (0.0,):  # a frame wider than the earth overlaps itself
        for number, shape in enumerate(shapes):
            turned = affinity.translate(shape, turn) if turn else shape
            near = tree.query(turned, predicate="intersects")
            near = np.sort(near if turn else near[near > number])
            for other in near.tolist():
                later = max(number, other)
                # Report one fault for each polygon: n polygons can overlap in n² ways.
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
    """Move polygons by 360 degrees so that they begin after the largest gap in longitude; without a gap, move none."""
    ends = sorted((shape.bounds[0], shape.bounds[2]) for shape in shapes)
    start, largest = -180.0, 0.0
    covered = max(east for _, east in ends) - 360
    for west, east in ends:
        if west - covered > largest:
            start, largest = west, west - covered
        covered = max(covered, east)
    return [affinity.translate(shape, 360) if shape.bounds[0] < start else shape for shape in shapes]


def _invalid(path: Path, reason: str) -> Fault:
    """Return the fault that stands for a reason of shapely."""
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


def _is_position(value: Any) -> bool:  # noqa: ANN401 - JSON
    return type(value) is list and len(value) >= 2 and all(type(number) in _NUMBERS for number in value[:2])


def _without_repeats(ring: Ring) -> Ring:
    """Return a ring without positions that equal the one before."""
    other = np.ones(len(ring), np.bool_)
    other[1:] = (np.diff(ring, axis=0) != 0).any(axis=1)
    return ring[other]


def _turned(longitude: float) -> float:
    """Return a longitude of any frame as one from -180 to 180."""
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
    return cut(text)
