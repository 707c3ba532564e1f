"""Areas: decide whether a position is in a shape, and bound the distance to its edge.

Shapes are those that catalogue/geo/shapes.py compiles. A position is tried with each longitude, a turn apart, that
falls into the shape's range of longitudes. The specification is catalogue/geo/areas.py.
"""

import math

from offers.catalogue.geo.areas import ROUNDER, TOP
from offers.catalogue.geo.geometry import ECCENTRICITY_2, EQUATORIAL_RADIUS_M, LEAST_RADIUS_M
from offers.catalogue.geo.shapes import cell_of, crosses
from offers.compiled import inner
from offers.decision.kernels.memory.records import Column, Table, i4, shapes_of, u1, vertices_of

_EDGES_LOOKED_AT = 1024
"""Edges after which a distance is bounded rather than found: they take two microseconds."""
_ROUNDING_M = 1e-6
_M_FLATTENS = 0.021
"""The radius of curvature along the meridian changes by less than this part of itself per radian of latitude."""
_HALF_TURN = math.pi / 2


@inner
def inside(columns: Table, shape: int, latitude: float, longitude: float) -> bool:
    """Return whether a position in degrees is in a shape: see catalogue.geo.areas.contains."""
    box = shapes_of(columns)[shape]
    y = min((latitude + ROUNDER) - ROUNDER, TOP)
    if not box.south <= y < box.north:
        return False
    x = (longitude + ROUNDER) - ROUNDER
    x += 360.0 * math.ceil((box.west - x) / 360.0)
    while x < box.east:
        if _is_odd(columns, shape, x, y):
            return True
        x += 360.0
    return False


@inner
def _is_odd(columns: Table, shape: int, x: float, y: float) -> bool:
    """Return whether an odd number of edges lies to the east of a position within the box."""
    box = shapes_of(columns)[shape]
    row, column = cell_of(y, box.south, box.north, box.side), cell_of(x, box.west, box.east, box.side)
    cell = u1(columns, Column.shape_cell)[box.cell_first + row * box.side + column]
    if cell:
        return (cell & 1) != 0
    rows, vertices = i4(columns, Column.shape_row), vertices_of(columns)
    odd = False
    for index in range(rows[box.row_first + row], rows[box.row_first + row + 1]):
        first = box.vertex_first + rows[box.row_first + index]
        one, other = vertices[first], vertices[first + 1]
        if crosses(one.longitude, one.latitude, other.longitude, other.latitude, x, y):
            odd = not odd
    return odd


@inner
def clearance(columns: Table, shape: int, latitude: float, longitude: float, cap_m: float) -> float:
    """Return metres along the ground to a shape's edge: a lower bound, and at most `cap_m`.

    The result is exact to 1 % for edges within some kilometres, unless hundreds of other edges or a pole are near.

    A path on the ellipsoid is no shorter than its image on a plane whose scales are the least that the path meets. Up
    to c metres away, these are less than the scales at the position by a factor r(c). If the edge is D metres away by
    the scales at the position, the path is longer than c metres or, if not, at least r(c) D metres long.
    """
    phi = math.radians(latitude)
    sine, cosine = abs(math.sin(phi)), max(math.cos(phi), 1e-16)
    curved = 1 - ECCENTRICITY_2 * sine * sine
    normal = EQUATORIAL_RADIUS_M / math.sqrt(curved)
    per_longitude = math.radians(normal * cosine)
    per_latitude = math.radians(normal * (1 - ECCENTRICITY_2) / curved)
    shrinks = cap_m / LEAST_RADIUS_M * (sine / cosine + _M_FLATTENS + cap_m / LEAST_RADIUS_M)
    most = (
        cap_m * (1 + 2 * min(shrinks, 0.5)) + 1e-5
    )  # an edge farther than this by the scales from here is beyond cap_m
    away = _to_edge(columns, shape, latitude, longitude, per_longitude, per_latitude, most)
    within = away / (1 + away * sine / cosine / LEAST_RADIUS_M)
    within = min(within, LEAST_RADIUS_M * (_HALF_TURN - abs(phi)) / 2)
    turn = max(within, 0.0) / LEAST_RADIUS_M
    ratio = min(1 - turn * turn / 2 - turn * sine / cosine, 1 - _M_FLATTENS * turn)
    return min(max(min(within, ratio * away) - _ROUNDING_M, 0.0), cap_m)


@inner
def _to_edge(
    columns: Table,
    shape: int,
    latitude: float,
    longitude: float,
    per_longitude: float,
    per_latitude: float,
    most: float,
) -> float:
    """Return a lower bound, up to `most`, of metres to the edge on a plane with these scales, in metres per degree."""
    box = shapes_of(columns)[shape]
    south, north = (box.south - latitude) * per_latitude, (latitude - box.north) * per_latitude
    for turn in range(-1, 3):
        x = longitude + 360.0 * turn
        across = max((box.west - x) * per_longitude, (x - box.east) * per_longitude, 0.0)
        along = max(south, north, 0.0)
        least = math.sqrt(across * across + along * along)
        if least < most:
            most = min(
                most, max(least, _to_edge_of_frame(columns, shape, latitude, x, per_longitude, per_latitude, most))
            )
    return most


@inner
def _to_edge_of_frame(
    columns: Table, shape: int, y: float, x: float, per_longitude: float, per_latitude: float, most: float
) -> float:
    """Return what `_to_edge` does, for the longitude `x` as it is: not a turn more or less.

    Rows are looked at farther and farther away, until none can hold a nearer edge.
    """
    box = shapes_of(columns)[shape]
    side, height = box.side, (box.north - box.south) / box.side
    row = cell_of(max(y, box.south), box.south, box.north, side)
    least = 0.0
    if box.south <= y <= box.north and box.west <= x <= box.east:
        column, width = cell_of(x, box.west, box.east, side), (box.east - box.west) / side
        steps = u1(columns, Column.shape_cell)[box.cell_first + row * side + column] >> 1
        if steps:  # the edge is outside of the rectangle of cells that are fewer steps away
            left, low = x - box.west - column * width, y - box.south - row * height
            least = min(
                (min(left, width - left) + (steps - 1) * width) * per_longitude,
                (min(low, height - low) + (steps - 1) * height) * per_latitude,
            )
            if least >= most:
                return most
    rows, vertices = i4(columns, Column.shape_row), vertices_of(columns)
    nearest = most * most
    looked_at = 0
    for step in range(side):
        for near in range(row - step, row + step + 1, max(2 * step, 1)):
            if not 0 <= near < side:
                continue
            begin, end = rows[box.row_first + near], rows[box.row_first + near + 1]
            looked_at += end - begin
            for index in range(begin, end):
                first = box.vertex_first + rows[box.row_first + index]
                one, other = vertices[first], vertices[first + 1]
                nearest = min(
                    nearest,
                    _squared_to_segment(
                        (one.longitude - x) * per_longitude,
                        (one.latitude - y) * per_latitude,
                        (other.longitude - x) * per_longitude,
                        (other.latitude - y) * per_latitude,
                    ),
                )
        gap = math.inf  # to rows not looked at
        if row - step > 0:
            gap = y - (box.south + (row - step) * height)
        if row + step + 1 < side:
            gap = min(gap, box.south + (row + step + 1) * height - y)
        gap = max(gap, 0.0) * per_latitude
        if gap * gap >= nearest:
            break
        if looked_at > _EDGES_LOOKED_AT:
            return max(gap, least)
    return max(math.sqrt(nearest), least)


@inner
def _squared_to_segment(x0: float, y0: float, x1: float, y1: float) -> float:
    """Return the square of the distance of a segment from the origin."""
    dx, dy = x1 - x0, y1 - y0
    length = dx * dx + dy * dy
    share = min(max(-(x0 * dx + y0 * dy) / length, 0.0), 1.0) if length > 0 else 0.0
    x, y = x0 + share * dx, y0 + share * dy
    return x * x + y * y
