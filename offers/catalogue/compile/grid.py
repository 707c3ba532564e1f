"""The grid of a snapshot: levels of cell sizes, rows, cells and the sites in them.

A site is a centre with a reach. The entries of a venue's offers mostly share one site.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.compile.columns import Arrays, LayoutInput, csr, positions, reaches
from offers.catalogue.geo import geometry
from offers.catalogue.snapshot import CELL, CENTRE, EVERYWHERE, ROW


def lay_grid(
    gathered: LayoutInput, entry: Arrays, extras: NDArray[Any], offer_order: NDArray[np.int64]
) -> tuple[Arrays, NDArray[np.int64]]:
    """Return the arrays of the grid, and the order of the entries in it.

    Entries are ordered by level, row, column and site. Those shown everywhere come last, and among them those out of
    which nothing is cut. `offer_order` is the rank of each offer's id and breaks ties.
    """
    placed = np.flatnonzero(entry["kind"] != EVERYWHERE)
    place = entry["place"][placed]
    straight = reaches(entry["radius"][placed], entry["reach"][placed])
    levels = _levels(straight, *positions(gathered, place))
    order = np.lexsort((offer_order[entry["offer"][placed]], straight, place, levels.column, levels.row))
    grid = _sites(gathered, levels, place[order], straight[order], order)

    everywhere = np.flatnonzero(entry["kind"] == EVERYWHERE)
    extra = extras[entry["extra"][everywhere]]
    is_cut = extra["excluded_first"] < extra["excluded_last"]
    standing = np.lexsort((offer_order[entry["offer"][everywhere]], ~is_cut))
    grid["standing_first"] = np.array([len(entry["kind"]) - np.count_nonzero(~is_cut)])
    return grid, np.concatenate([placed[order], everywhere[standing]])


class _Levels(NamedTuple):
    """The levels of the grid that are in use, and the row and column of each placed entry."""

    sizes: list[float]
    """Cell size of each level, in metres."""
    columns: list[NDArray[np.uint32]]
    """Per level the number of columns of each row."""
    row_first: NDArray[np.int64]
    """CSR over the rows of all levels."""
    reach: list[float]
    """Per level the farthest reach of its entries, in straight-line metres."""
    row: NDArray[np.int64]
    column: NDArray[np.int64]


def _levels(straight: NDArray[np.float64], latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> _Levels:
    """Assign each placed entry to the level of its reach, and to a row and a column of that level."""
    level = geometry.level_of(geometry.ground(straight))
    used = np.unique(level)
    row = np.zeros(len(level), np.int64)
    column = np.zeros(len(level), np.int64)
    sizes = [geometry.SMALLEST_CELL_M * 2.0**number for number in used.tolist()]
    columns = [geometry.columns_of_rows(size) for size in sizes]
    row_first = csr([len(counts) for counts in columns])
    reach = []
    for number, size in enumerate(sizes):
        here = level == used[number]
        row_here = geometry.row_of(latitude[here], size)
        column[here] = geometry.column_of(longitude[here], columns[number][row_here])
        row[here] = row_here + row_first[number]
        reach.append(straight[here].max())
    return _Levels(sizes, columns, row_first, reach, row, column)


def _sites(
    gathered: LayoutInput,
    levels: _Levels,
    place: NDArray[Any],
    straight: NDArray[np.float64],
    order: NDArray[np.int64],
) -> Arrays:
    """Return the arrays of the grid; `place` and `straight` are in the order of the grid already."""
    row, column = levels.row[order], levels.column[order]
    new_cell = (np.diff(row, prepend=-1) != 0) | (np.diff(column, prepend=-1) != 0)
    new_site = new_cell | (np.diff(place, prepend=-1) != 0) | (np.diff(straight, prepend=-1.0) != 0)
    site, cell = np.flatnonzero(new_site), np.flatnonzero(new_cell)
    x, y, z = geometry.earth_centred(*positions(gathered, place[site]))
    centres = np.zeros(len(site), CENTRE)
    centres["x"], centres["y"], centres["z"], centres["reach"] = x, y, z, straight[site]
    row_count = int(levels.row_first[-1])
    rows, cells = np.zeros(row_count + 1, ROW), np.zeros(len(cell) + 1, CELL)
    rows["cell_first"] = csr(np.bincount(row[cell], minlength=row_count))
    rows["columns"][:-1] = np.concatenate([np.empty(0, np.uint32), *levels.columns])
    cells["column"][:-1] = column[cell]
    cells["site_first"] = np.append(np.searchsorted(site, cell), len(site))
    return {
        "centre": centres,
        "site_entry_first": np.append(site, len(order)),
        "level_size": np.array(levels.sizes),
        "level_reach": np.array(levels.reach),
        "level_row_first": levels.row_first,
        "row": rows,
        "cell": cells,
    }
