"""The grid: entries in the order of the ground, gathered into sites, rows and cells."""

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offers.catalogue import geometry
from offers.catalogue.snapshot import CELL, CENTRE, EVERYWHERE, ROW

if TYPE_CHECKING:
    from offers.catalogue.layout import Gathered

Arrays = dict[str, NDArray[Any]]


def lay_grid(
    gathered: "Gathered", entry: Arrays, extras: NDArray[Any], offer_order: NDArray[np.int64]
) -> tuple[Arrays, NDArray[np.int64]]:
    """The grid's arrays, and the order of the entries in it: by level, row, column and site; those for everywhere last.

    A site is a centre with a reach: the entries of a venue's offers share one, mostly.
    """
    placed = np.flatnonzero(entry["kind"] != EVERYWHERE)
    everywhere = np.flatnonzero(entry["kind"] == EVERYWHERE)
    is_cut = extras["excluded_first"][entry["extra"][everywhere]] < extras["excluded_last"][entry["extra"][everywhere]]
    place = entry["place"][placed]
    latitude, longitude = positions(gathered, place)
    straight = reaches(entry["radius"][placed], entry["reach"][placed])
    level = geometry.level_of(geometry.ground(straight))
    used = np.unique(level)
    row = np.zeros(len(placed), np.int64)
    column = np.zeros(len(placed), np.int64)
    sizes = [geometry.SMALLEST_CELL_M * 2.0**number for number in used.tolist()]
    columns = [geometry.columns_of_rows(size) for size in sizes]
    row_first = csr([len(counts) for counts in columns])
    level_reach = []
    for number, size in enumerate(sizes):
        here = level == used[number]
        row_here = geometry.row_of(latitude[here], size)
        column[here] = geometry.column_of(longitude[here], columns[number][row_here])
        row[here] = row_here + row_first[number]
        level_reach.append(straight[here].max())
    order = np.lexsort((offer_order[entry["offer"][placed]], straight, place, column, row))
    row, column, place, straight = row[order], column[order], place[order], straight[order]
    new_cell = (np.diff(row, prepend=-1) != 0) | (np.diff(column, prepend=-1) != 0)
    new_site = new_cell | (np.diff(place, prepend=-1) != 0) | (np.diff(straight, prepend=-1.0) != 0)
    site, cell = np.flatnonzero(new_site), np.flatnonzero(new_cell)
    x, y, z = geometry.earth_centred(*positions(gathered, place[site]))
    centres = np.zeros(len(site), CENTRE)
    rows, cells = np.zeros(int(row_first[-1]) + 1, ROW), np.zeros(len(cell) + 1, CELL)
    rows["cell_first"] = csr(np.bincount(row[cell], minlength=int(row_first[-1])))
    rows["columns"][:-1] = np.concatenate([np.empty(0, np.uint32), *columns])
    cells["column"][:-1] = column[cell]
    cells["site_first"] = np.append(np.searchsorted(site, cell), len(site))
    centres["x"], centres["y"], centres["z"], centres["reach"] = x, y, z, straight[site]
    return {
        "centre": centres,
        "site_entry_first": np.append(site, len(placed)),
        "level_size": np.array(sizes),
        "level_reach": np.array(level_reach),
        "level_row_first": row_first,
        "row": rows,
        "cell": cells,
        "standing_first": np.array([len(entry["kind"]) - np.count_nonzero(~is_cut)]),
    }, np.concatenate([placed[order], everywhere[np.lexsort((offer_order[entry["offer"][everywhere]], ~is_cut))]])


def positions(gathered: "Gathered", places: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitudes and longitudes in degrees of places by their numbers."""
    nowhere = array("d", [0.0])
    latitude = np.frombuffer(gathered.latitudes or nowhere, np.float64)[places]
    return latitude, np.frombuffer(gathered.longitudes or nowhere, np.float64)[places]


def reaches(radius: NDArray[np.float64], reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """Straight-line metres of circles (radius along the ground) and areas (reach)."""
    return np.where(reach > 0, reach, geometry.straight_line(radius))


def csr(counts: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    """Where each run begins, and where the last ends."""
    return np.fromiter(accumulate(counts, initial=0), np.int64, len(counts) + 1)
