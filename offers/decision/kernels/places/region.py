"""Probability that a person is inside the place of an entry, and how far they may move before that changes.

The place of an entry is a circle, an area or everywhere, minus the zones cut out of it. A circle alone has a formula.
For areas and zones cut out, the probability is the share of points, spread over the location's distribution, inside.
"""

import math

import numpy as np

from offers.catalogue.geo.geometry import earth_centred
from offers.catalogue.snapshot import NO_SHAPE
from offers.compiled import apart, inner
from offers.decision.kernels.memory.frame import Location
from offers.decision.kernels.memory.records import Table, centres_of, extras_of, pieces_of
from offers.decision.kernels.memory.scratch import POINTS, points_of
from offers.decision.kernels.places.areas import clearance
from offers.decision.kernels.places.areas import inside as in_area
from offers.decision.kernels.places.location import CERTAIN, lay_points, points_within, probability_in_circle

NOWHERE = -1
"""Index in place of a site: the entry is shown everywhere."""
FAR_M = 20_000.0
"""Upper bound of distances to the edge of an area: measuring farther takes longer."""
DENSITY = math.sqrt(2 * math.pi)
"""Per metre moved, a probability changes by no more than 1 / (DENSITY * sigma)."""
WIDENING = DENSITY * 2 / math.e
"""Per metre that sigma grows by, a probability changes by no more than WIDENING / (DENSITY * sigma). The circle around
the location with a radius of sigma times the root of 2 reaches that bound, and no other set exceeds it."""


@apart
def located(
    columns: Table, scratch: Table, location: Location, number: int, site: int, cap: float
) -> tuple[float, float, float]:  # fmt: skip
    """Return whether a person is inside the place of the entries at a site with the EXTRA of this index.

    Three numbers: the probability (0 or 1 where the location is exact); the metres the person may move before it passes
    `min_inside` (0 or less: perhaps none; computed up to `cap`); and by how many metres a second these shrink.
    """
    extra = extras_of(columns)[number]
    latitude, longitude, sigma, growth = location
    x, y, z = earth_centred(latitude, longitude)
    cap = min(cap, FAR_M) + 2 * CERTAIN * sigma
    inside, clear = True, math.inf
    if site != NOWHERE:
        centre = centres_of(columns)[site]
        depth = centre.reach - _away(centre.x, centre.y, centre.z, x, y, z)
        inside, clear = _part(columns, depth, extra.shape, latitude, longitude, cap)
        if extra.shape == NO_SHAPE and extra.excluded_first == extra.excluded_last and (sigma > 0 or growth > 0):
            return in_circle(extra, clear if inside else -clear, centre.reach, sigma, growth)
    for index in range(extra.joined_first, extra.joined_last):
        within, edge = _piece(columns, index, x, y, z, latitude, longitude, cap)
        if within:  # the person stays inside while in either of them
            inside, clear = True, max(clear, edge) if inside else edge
        elif not inside:
            clear = min(clear, edge)
    cut_out, beyond = False, 0.0
    for index in range(extra.excluded_first, extra.excluded_last):
        within, edge = _piece(columns, index, x, y, z, latitude, longitude, cap)
        if within:
            cut_out, beyond = True, max(beyond, edge)
        elif inside:
            clear = min(clear, edge)
    if cut_out:  # the person stays outside while either of them holds
        clear = beyond if inside else max(clear, beyond)
        inside = False
    if (sigma == 0.0 and growth == 0.0) or clear == math.inf:
        return (1.0 if inside else 0.0), clear, 0.0
    chance = 1.0 if inside else 0.0
    if clear < CERTAIN * sigma:
        first = points_within(clear, sigma)
        hits = first if inside else 0  # points nearer than the edge are on the same side as the location
        lay_points(scratch, latitude, longitude, sigma, first)
        points = points_of(scratch)
        for index in range(first, POINTS):
            hits += _is_inside(columns, extra, site, points[index].latitude, points[index].longitude)
        chance = hits / POINTS
    qualifies = chance >= extra.min_inside
    away = extra.rings_inside if qualifies else extra.rings_outside
    return chance, (clear if inside == qualifies else 0.0) - away * sigma, away * growth


@inner
def in_circle(extra: np.void, depth: float, reach: float, sigma: float, growth: float) -> tuple[float, float, float]:
    """Return what `located` does for a circle alone, `depth` straight-line metres inside of whose edge the location is.

    `sigma` or `growth` is over 0.
    """
    if depth > CERTAIN * sigma:
        return 1.0, depth - extra.depth * sigma, extra.depth * growth
    chance = probability_in_circle(reach - depth, reach, sigma)
    if chance >= extra.min_inside:
        slack, away = depth - extra.depth * sigma, extra.depth
    else:
        slack, away = -depth - extra.fringe * sigma, extra.fringe
    spare = abs(chance - extra.min_inside) * DENSITY * sigma
    return (chance, spare, WIDENING * growth) if spare > slack else (chance, slack, away * growth)


@inner
def _away(cx: float, cy: float, cz: float, x: float, y: float, z: float) -> float:
    """Return the straight-line metres between two points."""
    return math.sqrt((cx - x) * (cx - x) + (cy - y) * (cy - y) + (cz - z) * (cz - z))


@inner
def _part(
    columns: Table, depth: float, shape: int, latitude: float, longitude: float, cap: float
) -> tuple[bool, float]:
    """Return whether a position is in a circle or area, and the least number of metres to its edge.

    `depth` is how far inside the circle, or the circle around the area, the position is.
    """
    if shape == NO_SHAPE or depth < -cap:
        return depth >= 0, abs(depth)
    clear = clearance(columns, shape, latitude, longitude, cap)
    if depth < 0:
        return False, max(-depth, clear)
    return in_area(columns, shape, latitude, longitude), clear


@inner
def _piece(
    columns: Table, index: int, x: float, y: float, z: float, latitude: float, longitude: float, cap: float
) -> tuple[bool, float]:
    """Return what `_part` does, for one of the snapshot's pieces."""
    piece = pieces_of(columns)[index]
    depth = piece.reach - _away(piece.x, piece.y, piece.z, x, y, z)
    return _part(columns, depth, piece.shape, latitude, longitude, cap)


@inner
def _is_inside(columns: Table, extra: np.void, site: int, latitude: float, longitude: float) -> bool:
    """Return whether a position is in the place of an entry."""
    if site != NOWHERE:
        held = _is_in(columns, extra.shape, centres_of(columns)[site], latitude, longitude)
        for index in range(extra.joined_first, extra.joined_last):
            held = held or in_area(columns, pieces_of(columns)[index].shape, latitude, longitude)
        if not held:
            return False
    for index in range(extra.excluded_first, extra.excluded_last):
        cut = pieces_of(columns)[index]
        if _is_in(columns, cut.shape, cut, latitude, longitude):
            return False
    return True


@inner
def _is_in(columns: Table, shape: int, circle: np.void, latitude: float, longitude: float) -> bool:
    """Return whether a position is in an area; or, without an area, in the circle of a site or piece."""
    if shape != NO_SHAPE:
        return in_area(columns, shape, latitude, longitude)
    x, y, z = earth_centred(latitude, longitude)
    return _away(circle.x, circle.y, circle.z, x, y, z) <= circle.reach
