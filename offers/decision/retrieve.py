"""Retrieve: which entries are within reach of the location.

The grid has a level for each size of reach. Of every level the cells around the location are searched, and somewhat
more, so that the answer can say how far one may move before something else comes within reach.
"""

import math

import numpy as np
from numba import njit

from offers.catalogue.geometry import LEAST_RADIUS_M
from offers.catalogue.snapshot import ENTRY
from offers.decision.location import earth_centred
from offers.decision.records import (
    Column,
    Outcome,
    Scratch,
    Table,
    Terms,
    centres_of,
    entries_of,
    f8,
    fetch_ahead,
    i4,
    u1,
)
from offers.decision.region import NOWHERE

BEYOND_M = 64.0
"""How far beyond the reach of a level its cells are searched at first."""
FEW = 48
"""Where a level has fewer sites than this around, the search goes on farther: that costs little, and the answer can
promise more."""
HALF_TURN = math.pi / 2
ENTRY_BYTES = ENTRY.itemsize


@njit(error_model="numpy")
def retrieve(
    columns: Table, scratch: Table, terms: Table, latitude: float, longitude: float, widening: float, time: int
) -> int:
    """Find the entries within reach of a location (NaN: those that need none), and `widening` metres more.

    Writes candidates, their sites and the squares of their straight-line distances, and the metres within which nothing
    else comes within reach. Returns how many there are; more than the scratch holds means: give it more and call again.
    """
    candidate, sites = i4(scratch, Scratch.candidate), i4(scratch, Scratch.site)
    straight = f8(scratch, Scratch.straight)
    first = i4(columns, Column.site_entry_first)
    room, found, margin = len(candidate), 0, math.inf
    if latitude == latitude:  # noqa: PLR0124 - not NaN
        sizes = f8(columns, Column.level_size)
        for level in range(len(sizes)):
            begin, beyond = found, BEYOND_M
            while True:
                found, near, seen = _search(
                    columns,
                    scratch,
                    terms,
                    level,
                    latitude,
                    longitude,
                    widening,
                    beyond,
                    min(margin, beyond),
                    begin,
                    time,
                )
                if near < beyond or seen > FEW or beyond > 8 * sizes[level] or found > room:
                    break
                beyond *= 4
            margin = min(margin, near)
    else:
        unplaced = i4(columns, Column.unplaced)
        for place in range(len(unplaced)):
            if found < room:
                candidate[found], sites[found], straight[found] = unplaced[place], NOWHERE, math.inf
            found += 1
    for entry in range(first[len(first) - 1], len(entries_of(columns))):  # everywhere
        if found < room:
            candidate[found], sites[found], straight[found] = entry, NOWHERE, math.inf
        found += 1
    f8(scratch, Scratch.outcome)[Outcome.refresh_distance] = margin
    return found


@njit(error_model="numpy")
def _search(
    columns: Table, scratch: Table, terms: Table, level: int, latitude: float, longitude: float, widening: float,
    beyond: float, margin: float, found: int, time: int,
) -> tuple[int, float, int]:  # fmt: skip
    """Search a level's cells for what is within reach, `beyond` metres farther than that may be.

    Writes the candidates from place `found` on. Returns how many there are then, the lesser of `margin` and the metres
    to what is out of reach, and how many sites were looked at.
    """
    candidate, sites = i4(scratch, Scratch.candidate), i4(scratch, Scratch.site)
    straight = f8(scratch, Scratch.straight)
    centres, entry_first = centres_of(columns), i4(columns, Column.site_entry_first)
    row_cell_first, row_columns = i4(columns, Column.row_cell_first), i4(columns, Column.row_columns)
    cell_column, cell_first = i4(columns, Column.cell_column), i4(columns, Column.cell_site_first)
    room, seen = len(candidate), 0
    x, y, z = earth_centred(latitude, longitude)
    # A way on the sphere of least radius is never longer than on the ellipsoid, so what is within these straight-line
    # metres is within this angle on it.
    width = f8(columns, Column.level_reach)[level] + widening + beyond
    angle = 2 * math.asin(min(1.0, width / (2 * LEAST_RADIUS_M)))
    height = f8(columns, Column.level_size)[level] / LEAST_RADIUS_M
    phi = math.radians(latitude) + HALF_TURN
    first_row = i4(columns, Column.level_row_first)[level]
    rows = i4(columns, Column.level_row_first)[level + 1] - first_row
    low = min(int(max(phi - angle, 0.0) / height), rows - 1)
    high = min(int((phi + angle) / height), rows - 1)
    whole = phi - angle <= 0.0 or phi + angle >= math.pi  # around a pole
    spread = math.pi if whole else math.asin(min(1.0, math.sin(angle) / math.sin(phi)))
    turn = math.radians((longitude if longitude < 180.0 else longitude - 360.0) + 180.0)
    for row in range(first_row + low, first_row + high + 1):
        begin, end = row_cell_first[row], row_cell_first[row + 1]
        if begin == end:
            continue
        count = row_columns[row]
        west = math.floor((turn - spread) / (2 * math.pi) * count)
        east = math.floor((turn + spread) / (2 * math.pi) * count)
        if whole or east - west + 1 >= count:
            west, east = 0, count - 1
        for run in range(2):  # the columns may wrap around the earth
            if run == 0:
                start, stop = max(west, 0), min(east, count - 1)
            elif west < 0:
                start, stop = west + count, count - 1
            elif east >= count:
                start, stop = 0, east - count
            else:
                break
            cell = _lower_bound(cell_column, begin, end, start)
            last = cell
            while last < end and cell_column[last] <= stop:
                last += 1
            for site in range(cell_first[cell], cell_first[last]):
                seen += 1
                centre = centres[site]
                dx, dy, dz = centre.x - x, centre.y - y, centre.z - z
                squared = dx * dx + dy * dy + dz * dz
                reach = centre.reach + widening
                if squared <= reach * reach:
                    for entry in range(entry_first[site], entry_first[site + 1]):
                        if found < room:
                            candidate[found], sites[found], straight[found] = entry, site, squared
                            fetch_ahead(columns, Column.entry, entry * ENTRY_BYTES)
                        found += 1
                elif squared < (reach + margin) * (reach + margin):
                    for entry in range(entry_first[site], entry_first[site + 1]):
                        if _may_ever(entries_of(columns)[entry], terms, time):
                            margin = math.sqrt(squared) - reach
                            break
    return found, margin, seen


@njit(error_model="numpy")
def _lower_bound(values: np.ndarray, low: int, high: int, wanted: int) -> int:
    """The first place from `low` on, at most `high`, whose value is not under the wanted one."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@njit(error_model="numpy")
def _may_ever(entry: np.void, terms: Table, time: int) -> bool:
    """Whether an entry's offer could be shown there now or later."""
    return u1(terms, Terms.admits)[entry.terms] != 0 and entry.window_end > time
