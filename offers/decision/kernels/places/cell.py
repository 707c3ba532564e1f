"""Geohash cells: the cell in which a person is, and distances from its middle, by which models know the location."""

import math

import numpy as np

from offers.catalogue.geo.geometry import MEAN_RADIUS_M, earth_centred
from offers.compiled import inner
from offers.decision.kernels.memory.frame import Location
from offers.decision.kernels.memory.records import Table, centres_of, f8, i8
from offers.decision.kernels.memory.scratch import PersonFact, ScratchArray, candidates_of


@inner
def cell_of(latitude: float, longitude: float, of_y: int, of_x: int) -> tuple[int, int]:
    """Return row and column of a position in degrees, from the south west of a grid of 2^of_y rows, 2^of_x columns."""
    y: int = min(np.int64((latitude + 90.0) / 180.0 * (1 << of_y)), (1 << of_y) - 1)
    x: int = min(np.int64((longitude + 180.0) / 360.0 * (1 << of_x)), (1 << of_x) - 1)
    return y, x


@inner
def middle_of(latitude: float, longitude: float, characters: int) -> tuple[float, float]:
    """Return latitude and longitude, in degrees, of the middle of the cell in which a position is.

    The result is exact, and the same as that of offers.model.geohash.centre_of.
    """
    of_y = 5 * characters // 2
    of_x = 5 * characters - of_y
    y, x = cell_of(latitude, longitude, of_y, of_x)
    return (y + 0.5) * (180.0 / (1 << of_y)) - 90.0, (x + 0.5) * (360.0 / (1 << of_x)) - 180.0


@inner
def write_cell(scratch: Table, location: Location, characters: int) -> None:
    """Write the middle of the cell of `characters` in which the person is; unknown if 0, or the location is hidden."""
    middle = f8(scratch, ScratchArray.cell)
    if characters <= 0 or math.isnan(location.latitude) or i8(scratch, ScratchArray.person)[PersonFact.hidden]:
        middle[0] = math.nan
    else:
        middle[0], middle[1], middle[2] = earth_centred(*middle_of(location.latitude, location.longitude, characters))


@inner
def metres_to(columns: Table, scratch: Table, index: int) -> int:
    """Return whole metres from the cell's middle to the place of a candidate, at least 1; 0 if unknown.

    Cells of few characters are wider than the range of ground_distance, hence the arcsine.
    """
    one, middle = candidates_of(scratch)[index], f8(scratch, ScratchArray.cell)
    if one.squared == math.inf or math.isnan(middle[0]):
        return 0
    centre = centres_of(columns)[one.site]
    dx, dy, dz = centre.x - middle[0], centre.y - middle[1], centre.z - middle[2]
    half = math.sqrt(dx * dx + dy * dy + dz * dz) / (2 * MEAN_RADIUS_M)
    return max(np.int64(math.floor(2 * MEAN_RADIUS_M * math.asin(min(half, 1.0)) + 0.5)), 1)
