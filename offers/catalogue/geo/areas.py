"""Areas as closed rings of positions, and the test whether a position is inside.

Edges are straight in longitude and latitude. The longitudes of an area run on without a jump across the antimeridian:
they may pass 180, up to 540, and the west end is from -180 to 180. Positions are rounded to multiples of GRAIN. Adding
360 to a longitude is then exact, and areas that share an edge agree about it in every frame of longitudes.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRAIN = 2.0**-43
"""Degrees that positions are rounded to: 12 nanometres on the ground. Differences of longitudes to 540 are exact."""
ROUNDER = 768.0
"""Adding and subtracting this number rounds degrees to a multiple of GRAIN."""
TOP = 90 - GRAIN
"""The latitude the north pole is taken to have, so that it is inside the areas whose northern edge it is on."""

_EDGES = 4_096
"""Edges of a ring that are tested together."""
_FRAMES = (-360, 0, 360, 720)
"""Degrees added to a longitude to read it in each frame an area may be in."""

Ring = NDArray[np.float64]
"""Positions as rows of [longitude, latitude]; the last equals the first."""


@dataclass(frozen=True, slots=True)
class Area:
    """One polygon or multipolygon."""

    rings: tuple[Ring, ...]
    """Outer rings and holes alike: a position is inside when an odd number of edges lies to its east."""
    latitude: float
    """Latitude in degrees of a position inside, which decides the time zone."""
    longitude: float


def rounded(degrees: Any) -> Any:  # noqa: ANN401 - a number or an array of numbers
    """Return degrees rounded to multiples of GRAIN."""
    return (degrees + ROUNDER) - ROUNDER


def contains(area: Area, latitude: float, longitude: float) -> bool:
    """Return whether a position, in degrees, is inside an area.

    It is inside when, in one of the frames its longitude can be read in, an odd number of edges lies to its east. An
    edge spans the latitudes from its south end, included, to its north end, excluded. A position on an edge therefore
    belongs to the area east of the edge or, on an edge along a parallel, to the area north of it.
    """
    y, x = min(rounded(latitude), TOP), rounded(longitude)
    return any(_is_odd(area, x + turn, y) for turn in _FRAMES)


def _is_odd(area: Area, x: float, y: float) -> bool:
    odd = False
    for ring in area.rings:
        positions = ring.tolist()
        for one, other in pairwise(positions):
            (x0, y0), (x1, y1) = (one, other) if one[1] <= other[1] else (other, one)
            if y0 <= y < y1 and (x1 - x0) * (y - y0) > (x - x0) * (y1 - y0):
                odd = not odd
    return odd


def contain_each(area: Area, latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each of many positions whether it is inside, by the arithmetic of `contains`."""
    y, held = np.minimum(rounded(latitudes), TOP), np.zeros(len(latitudes), bool)
    for turn in _FRAMES:
        x, odd = rounded(longitudes) + turn, np.zeros(len(latitudes), bool)
        for ring in area.rings:
            (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
            # Elsewhere the number of edges to the east is even.
            asked = np.flatnonzero((south <= y) & (y < north) & (west <= x) & (x < east))
            for first in range(0, len(ring) - 1 if len(asked) else 0, _EDGES):
                odd[asked] ^= _are_odd(ring[first : first + _EDGES + 1], x[asked, None], y[asked, None])
        held |= odd
    return held


def _are_odd(ring: Ring, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each position whether an odd number of the ring's edges lies to its east."""
    one, other = ring[:-1].T, ring[1:].T
    is_upward = one[1] <= other[1]
    (x0, y0), (x1, y1) = np.where(is_upward, one, other), np.where(is_upward, other, one)
    crossed = (y0 <= y) & (y < y1) & ((x1 - x0) * (y - y0) > (x - x0) * (y1 - y0))
    odd: NDArray[np.bool_] = np.bitwise_xor.reduce(crossed, axis=1)
    return odd
