"""Areas compiled for the decision: bounding boxes, rasters with the edges of each row, and circles that cover them.

The raster of a shape decides for most positions whether they are inside, and bounds the distance to the edge. Only
where an edge is near are the edges of some rows examined. The function from a latitude to its row is monotone and the
same here and in the decision, so that a row lists every edge that matters for a position in it.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.catalogue.geo.areas import Area, contains
from offers.catalogue.geo.geometry import ECCENTRICITY_2, EQUATORIAL_RADIUS_M, earth_centred
from offers.catalogue.snapshot import SHAPE, VERTEX

Arrays = dict[str, NDArray[Any]]

LEAST_SIDE, MOST_SIDE = 8, 512
"""Bounds of the rows and columns of a raster. Between them it has the least power of two whose square is at least the
number of vertices."""
MOST_RINGS = 127
"""Most steps to an edge that a cell can hold, because a cell is one byte."""
_SLACK = 1e-12
"""Degrees by which an edge is thickened, far more than any rounding error."""
_SLACK_SHARE = 1e-6
"""Share of a cell's size by which an edge is thickened as well."""

_PIECE = math.radians(0.1)
_LONGEST_ACCELERATION_M = 6.41e6
"""Bound of the second derivatives of earth-centred coordinates by latitude and longitude, in metres per radian squared.
A piece of an edge, _PIECE radians long, deviates from its chord by at most an eighth of this bound times _PIECE
squared: 2.4 m."""
_HALF_EARTH_M = 9_000_000.0
_WHOLE_EARTH_M = 2 * EQUATORIAL_RADIUS_M


class Cover(NamedTuple):
    """A circle that contains an area."""

    latitude: float
    longitude: float
    reach_m: float
    """Radius in straight-line metres through the earth."""


def pack(areas: Sequence[Area]) -> Arrays:
    """Return the arrays of all shapes, in the order of the areas: shape, shape_vertex, shape_row, shape_cell."""
    _keep_compiled(numba.config.CACHE_DIR)
    shapes = np.zeros(len(areas), SHAPE)
    vertices = [np.concatenate(area.rings) for area in areas]
    rows: list[NDArray[np.int32]] = []
    cells: list[NDArray[np.uint8]] = []
    firsts = [0, 0, 0]
    for number, area in enumerate(areas):
        positions = vertices[number]
        side = _side(len(positions))
        ends = np.cumsum([len(ring) for ring in area.rings])
        row, cell = _raster(positions, ends, side)
        shapes[number] = (*positions.min(axis=0), *positions.max(axis=0), *firsts, side, 0)
        rows.append(row)
        cells.append(cell)
        firsts = [first + len(array) for first, array in zip(firsts, (positions, row, cell), strict=True)]
    vertex = np.concatenate([np.empty((0, 2)), *vertices])
    return {
        "shape": shapes,
        "shape_vertex": np.ascontiguousarray(vertex).view(VERTEX).reshape(-1),
        "shape_row": np.concatenate([np.empty(0, np.int32), *rows]),
        "shape_cell": np.concatenate([np.empty(0, np.uint8), *cells]),
    }


def cover(area: Area) -> Cover:
    """Return a nearly smallest circle that contains an area; for areas over a quarter of the earth, the whole earth."""
    _keep_compiled(numba.config.CACHE_DIR)
    pieces, sag = [], 0.0
    for ring in area.rings:
        steps = np.radians(np.abs(np.diff(ring, axis=0)).sum(axis=1))
        counts = np.maximum(np.ceil(steps / _PIECE), 1).astype(np.int64)
        sag = max(sag, float(((steps / counts) ** 2).max()) * _LONGEST_ACCELERATION_M / 8)
        edge = np.repeat(np.arange(len(counts)), counts)
        share = (np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[edge]
        pieces.append(ring[edge] + (ring[edge + 1] - ring[edge]) * share[:, None])
    points = np.concatenate(pieces)
    x, y, z = earth_centred(points[:, 1], points[:, 0])
    middle = _middle(np.column_stack([x, y, z]))
    latitude = math.degrees(math.atan2(middle[2], (1 - ECCENTRICITY_2) * math.hypot(middle[0], middle[1])))
    longitude = math.degrees(math.atan2(middle[1], middle[0]))
    centre = earth_centred(np.array(latitude), np.array(longitude))
    squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    reach = math.sqrt(float(squared.max())) + sag + 0.001
    # The farthest position from the centre is on an edge, or next to the antipode of the centre.
    opposite = longitude - 180 if longitude > 0 else longitude + 180
    beside = points[:, 1].min() <= -latitude <= points[:, 1].max()
    if reach > _HALF_EARTH_M or (beside and contains(area, -latitude, opposite)):
        reach = _WHOLE_EARTH_M
    return Cover(latitude, longitude, reach)


@cache
def _keep_compiled(directory: str) -> None:
    """Cache the compiled loops where the decision caches its own: numba's default directories may not be writable."""
    if directory:
        _raster.enable_caching()
        _middle.enable_caching()


def _side(vertices: int) -> int:
    return int(min(max(2 ** math.ceil(math.log2(vertices) / 2), LEAST_SIDE), MOST_SIDE))


@njit(error_model="numpy")
def cell_of(degrees: float, least: float, most: float, side: int) -> int:
    """Return the row of a latitude, or the column of a longitude, in a raster of `side` from `least` to `most`."""
    return min(int((degrees - least) / (most - least) * side), side - 1)


@njit(error_model="numpy")
def crosses(x0: float, y0: float, x1: float, y1: float, x: float, y: float) -> bool:
    """Return whether an edge lies to the east of a position at its latitude, whichever end of the edge comes first."""
    if y0 > y1:
        x0, y0, x1, y1 = x1, y1, x0, y0
    return y0 <= y < y1 and (x1 - x0) * (y - y0) > (x - x0) * (y1 - y0)


@njit(error_model="numpy")
def _raster(  # noqa: C901, PLR0912 - consecutive loops that share counters
    positions: np.ndarray, ends: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a shape (offsets, then edges) and its cells, in the format of snapshot.COLUMNS."""
    west, south = positions[:, 0].min(), positions[:, 1].min()
    east, north = positions[:, 0].max(), positions[:, 1].max()
    width, height = (east - west) / side, (north - south) / side
    firsts = np.zeros(side + 2, np.int32)
    cells = np.full(side * side, MOST_RINGS, np.uint8)  # at first the steps to an edge: 0 on an edge
    rows = np.empty(0, np.int32)
    for filling in (False, True):
        if filling:
            for row in range(side + 1):  # the index of the next edge of each row
                firsts[row + 1] += firsts[row]
            rows = np.empty(firsts[side], np.int32)
            places = firsts[:side].copy()
        begin = 0
        for end in ends:
            for edge in range(begin, end - 1):
                x0, y0, x1, y1 = positions[edge, 0], positions[edge, 1], positions[edge + 1, 0], positions[edge + 1, 1]
                if y0 > y1:
                    x0, y0, x1, y1 = x1, y1, x0, y0
                for row in range(cell_of(y0, south, north, side), cell_of(y1, south, north, side) + 1):
                    if filling:
                        rows[places[row]] = edge
                        places[row] += 1
                    else:
                        firsts[row + 1] += 1
                if filling:
                    continue
                slack_y, slack_x = _SLACK + _SLACK_SHARE * height, _SLACK + _SLACK_SHARE * width
                low, high = max(y0 - slack_y, south), min(y1 + slack_y, north)
                for row in range(cell_of(low, south, north, side), cell_of(high, south, north, side) + 1):
                    left, right = min(x0, x1), max(x0, x1)
                    if y1 > y0:
                        enters = (south + row * height - slack_y - y0) / (y1 - y0)
                        leaves = (south + (row + 1) * height + slack_y - y0) / (y1 - y0)
                        x_in = x0 + (x1 - x0) * min(max(enters, 0.0), 1.0)
                        x_out = x0 + (x1 - x0) * min(max(leaves, 0.0), 1.0)
                        left, right = min(x_in, x_out), max(x_in, x_out)
                    first = cell_of(max(left - slack_x, west), west, east, side)
                    last = cell_of(min(right + slack_x, east), west, east, side)
                    for column in range(first, last + 1):
                        cells[row * side + column] = 0
            begin = end
    _count_rings(cells, side)
    for row in range(side):
        known = False
        inside = False
        for column in range(side):
            cell = row * side + column
            if cells[cell] == 0:
                known = False
                continue
            if not known:  # otherwise equal to its neighbour, because no edge is between them
                x, y = west + (column + 0.5) * width, south + (row + 0.5) * height
                known, inside = True, False
                for place in range(firsts[row], firsts[row + 1]):
                    edge = rows[place]
                    if crosses(
                        positions[edge, 0], positions[edge, 1], positions[edge + 1, 0], positions[edge + 1, 1], x, y
                    ):
                        inside = not inside
            cells[cell] = cells[cell] * 2 + inside
    return np.concatenate((firsts[: side + 1] + np.int32(side + 1), rows)), cells


@njit(error_model="numpy")
def _count_rings(cells: np.ndarray, side: int) -> None:
    """Write into each cell the king's steps to the next cell with an edge, in two passes from opposite corners."""
    for turn in range(2):
        for step in range(side * side):
            cell = step if turn == 0 else side * side - 1 - step
            row, column = cell // side, cell % side
            back = -1 if turn == 0 else 1
            near = np.int64(cells[cell])
            if 0 <= column + back < side:
                near = min(near, cells[cell + back] + 1)
            if 0 <= row + back < side:
                for aside in range(max(column - 1, 0), min(column + 2, side)):
                    near = min(near, cells[(row + back) * side + aside] + 1)
            cells[cell] = near


@njit(error_model="numpy")
def _middle(points: np.ndarray) -> np.ndarray:
    """Approximate the centre of the smallest ball around points: shrinking steps to the farthest (Badoiu, Clarkson)."""
    middle = np.array([points[:, 0].mean(), points[:, 1].mean(), points[:, 2].mean()])
    for step in range(1, 65):
        farthest, most = 0, -1.0
        for index in range(len(points)):
            away = 0.0
            for axis in range(3):
                away += (points[index, axis] - middle[axis]) ** 2
            if away > most:
                farthest, most = index, away
        for axis in range(3):
            middle[axis] += (points[farthest, axis] - middle[axis]) / (step + 1)
    return middle
