"""Distances on the WGS 84 ellipsoid, and the cells of the grid that finds places within reach.

Distances are compared as straight lines through the earth between points in earth-centred coordinates. That is exact on
the ellipsoid, has no special cases at the poles or across the antimeridian, and takes three multiplications. A straight
line of up to 1,000 km gives the distance along the ground with an error under 0.01 % (checked against geopy's
geodesic).
"""

import math
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

EQUATORIAL_RADIUS_M = 6_378_137.0
FLATTENING = 1 / 298.257223563
ECCENTRICITY_2 = FLATTENING * (2 - FLATTENING)
MEAN_RADIUS_M = 6_371_008.8
LEAST_RADIUS_M = EQUATORIAL_RADIUS_M * (1 - ECCENTRICITY_2)
"""The least radius of curvature (at the equator, along the meridian). A distance on a sphere of this radius is never
longer than the one between the same latitudes and longitudes on the ellipsoid. The correctness of the grid depends on
that."""

SMALLEST_CELL_M = 250.0
"""Cell size of the finest level; level k has 2^k times as much. Finer rows would cost more memory than they save time.
With 250, round reaches such as 1,000 m just miss their level and use cells twice as wide. Entries outside the searched
cells are then far away, and `refresh_distance_m` can be large."""
MARGIN = 1.01
"""Factor by which the cells of a level are larger than the reach of its entries: far more than any rounding error."""

RINGS = 16
"""Rings of equal probability into which a normal distribution is divided, to measure how much of it an area
contains."""
RING_ROOM = 1.02
"""Bound of the distance to a point of a ring, in radii of the ring, with a wide margin."""

Floats = NDArray[np.float64]


@register_jitable(error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def earth_centred(latitude: Floats, longitude: Floats) -> tuple[Floats, Floats, Floats]:
    """Return earth-centred coordinates, in metres, of points given in degrees; in compiled loops of one point."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    normal = EQUATORIAL_RADIUS_M / np.sqrt(1 - ECCENTRICITY_2 * np.sin(phi) ** 2)
    return (
        normal * np.cos(phi) * np.cos(lam),
        normal * np.cos(phi) * np.sin(lam),
        normal * (1 - ECCENTRICITY_2) * np.sin(phi),
    )


def straight_line(ground_m: Floats) -> Floats:
    """Return the metres through the earth between points `ground_m` metres apart along the ground."""
    return 2 * MEAN_RADIUS_M * np.sin(ground_m / (2 * MEAN_RADIUS_M))


def ground(straight_m: Floats) -> Floats:
    """Return the metres along the ground between points `straight_m` metres apart through the earth."""
    return 2 * MEAN_RADIUS_M * np.arcsin(np.minimum(straight_m / (2 * MEAN_RADIUS_M), 1))


def level_of(radius_m: Floats) -> NDArray[np.int64]:
    """Return the finest level of the grid whose cells are larger than circles of a radius in metres."""
    level: NDArray[np.int64] = np.ceil(np.log2(np.maximum(radius_m * MARGIN / SMALLEST_CELL_M, 1))).astype(np.int64)
    return level


def rows_of(size_m: float) -> int:
    """Return the number of rows, from pole to pole, of a level with cells of `size_m` metres."""
    return max(1, int(np.ceil(np.pi / (size_m / LEAST_RADIUS_M))))


def columns_of_rows(size_m: float) -> NDArray[np.uint32]:
    """Return the number of columns of each row: the most with which a circle never reaches beyond the next column."""
    rows = rows_of(size_m)
    edges = np.minimum(np.arange(rows + 1) * (size_m / LEAST_RADIUS_M) - np.pi / 2, np.pi / 2)
    steepest = np.cos(np.maximum(np.abs(edges[:-1]), np.abs(edges[1:])))
    ratio = np.sin(min(size_m / LEAST_RADIUS_M, np.pi / 2)) / np.maximum(steepest, 1e-12)
    widths = np.where(ratio < 1, np.arcsin(np.minimum(ratio, 1)), 2 * np.pi)
    return np.maximum(1, np.floor(2 * np.pi / widths)).astype(np.uint32)


def row_of(latitude: Floats, size_m: float) -> NDArray[np.int64]:
    """Return the row of each latitude, in degrees."""
    row: NDArray[np.int64] = (np.radians(latitude + 90.0) / (size_m / LEAST_RADIUS_M)).astype(np.int64)
    return np.clip(row, 0, rows_of(size_m) - 1)


def column_of(longitude: Floats, columns: NDArray[Any]) -> NDArray[np.int64]:
    """Return the column of each longitude, in degrees, in a row of `columns` columns; 180 has the column of -180."""
    turn = np.where(longitude >= 180.0, longitude - 360.0, longitude) + 180.0
    column: NDArray[np.int64] = (turn / 360.0 * columns).astype(np.int64)
    return np.minimum(column, columns.astype(np.int64) - 1)


def ring_radius(number: int) -> float:
    """Return the middle radius, in standard deviations, of a ring; rings are numbered from 1."""
    return math.sqrt(-2 * math.log(1 - (number - 0.5) / RINGS))
