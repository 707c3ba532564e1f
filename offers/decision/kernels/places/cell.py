"""The cell of the grid of geohashes in which a person is, and how far places are from its middle: so models know it."""

import math

import numpy as np

from offers.catalogue.compile.geometry import MEAN_RADIUS_M, earth_centred
from offers.compiled import inner
from offers.decision.kernels.memory.records import Table, centres_of, f8, i8
from offers.decision.kernels.memory.scratch import PersonFact, Scratch, candidates_of


@inner
def cell_of(latitude: float, longitude: float, of_y: int, of_x: int) -> tuple[int, int]:
    """The row and the column of a position in degrees, in a grid of so many bits each, counted from the south west."""
    y: int = min(np.int64((latitude + 90.0) / 180.0 * (1 << of_y)), (1 << of_y) - 1)
    x: int = min(np.int64((longitude + 180.0) / 360.0 * (1 << of_x)), (1 << of_x) - 1)
    return y, x


@inner
def middle_of(latitude: float, longitude: float, characters: int) -> tuple[float, float]:
    """The latitude and longitude, in degrees, of the middle of the cell in which a position is.

    That is exact, and what offers.model.geohash.centre_of gives.
    """
    of_y = 5 * characters // 2
    of_x = 5 * characters - of_y
    y, x = cell_of(latitude, longitude, of_y, of_x)
    return (y + 0.5) * (180.0 / (1 << of_y)) - 90.0, (x + 0.5) * (360.0 / (1 << of_x)) - 180.0


@inner
def note_cell(scratch: Table, latitude: float, longitude: float, characters: int) -> None:
    """Note the middle of the cell in which the person is.

    It is a cell of so many characters; of none, or of a location that is hidden, it is not known.
    """
    middle = f8(scratch, Scratch.cell)
    if characters <= 0 or math.isnan(latitude) or i8(scratch, Scratch.person)[PersonFact.hidden]:
        middle[0] = math.nan
    else:
        middle[0], middle[1], middle[2] = earth_centred(*middle_of(latitude, longitude, characters))


@inner
def metres_to(columns: Table, scratch: Table, index: int) -> int:
    """Whole metres from there to the place for which a candidate is shown, 1 at least; 0: that is not known.

    Cells of few characters are wider than ground_distance is good for, so the arcsine is taken.
    """
    one, middle = candidates_of(scratch)[index], f8(scratch, Scratch.cell)
    if one.squared == math.inf or math.isnan(middle[0]):
        return 0
    centre = centres_of(columns)[one.site]
    dx, dy, dz = centre.x - middle[0], centre.y - middle[1], centre.z - middle[2]
    half = math.sqrt(dx * dx + dy * dy + dz * dz) / (2 * MEAN_RADIUS_M)
    return max(np.int64(math.floor(2 * MEAN_RADIUS_M * math.asin(min(half, 1.0)) + 0.5)), 1)
