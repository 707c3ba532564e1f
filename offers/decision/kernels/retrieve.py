"""Retrieve: find the entries within reach of the location.

The grid has a level for each size of reach. The cells around the location are searched on every level, a little beyond
that reach: the answer says how far the person may move before something else comes within reach.
"""

import math
from typing import NamedTuple

import numpy as np

from offers.catalogue.geo.geometry import LEAST_RADIUS_M, earth_centred
from offers.catalogue.snapshot import CELL, CENTRE, GATE, ROW
from offers.compiled import apart, inlined, inner
from offers.decision.kernels.memory.frame import Frame, Location
from offers.decision.kernels.memory.records import (
    LINE_BYTES,
    Column,
    Table,
    cells_of,
    centres_of,
    f8,
    fetch_ahead,
    gates_of,
    i4,
    rows_of,
)
from offers.decision.kernels.memory.scratch import (
    MOST_ROWS,
    NOT_FOUND,
    SITES_AT_A_TIME,
    ScratchArray,
    reached_of,
    spans_of,
    windows_of,
)
from offers.decision.kernels.places.region import NOWHERE
from offers.decision.kernels.showing import may_ever

BEYOND_M = 64.0
"""Metres beyond the reach of a level that its cells are searched at first."""
FEW = 48
"""Where a level has no more sites than this around the location, the search goes on farther: that costs little, and
the answer holds over a longer distance."""
HALF_TURN = math.pi / 2
ROW_BYTES, CELL_BYTES, CENTRE_BYTES, GATE_BYTES = ROW.itemsize, CELL.itemsize, CENTRE.itemsize, GATE.itemsize
SITE_BYTES = 4  # of i4
FETCHED = 32
"""Sites of a span that are fetched ahead: the processor fetches those after them by itself."""


class Search(NamedTuple):
    """Tables and numbers of one search around a location: fewer than a Frame's, as the innermost loops take them."""

    columns: Table
    scratch: Table
    terms: Table
    time: int
    longitude: float
    """Degrees."""
    x: float
    """Earth-centred metres, as y and z."""
    y: float
    z: float
    widening: float
    """Metres beyond its own reach within which a site still counts: an uncertain location may be nearer to it."""


@apart
def retrieve(frame: Frame, location: Location) -> int:
    """Find the entries within reach of a location; without a location, those that need none.

    Writes ScratchArray.reached, and the metres within which nothing else comes within reach. Returns the number of
    places; if it is more than the array holds, there was no room for the last ones.
    """
    columns, scratch = frame.columns, frame.scratch
    first, unplaced = i4(columns, Column.site_entry_first), i4(columns, Column.unplaced)
    found, margin = 0, math.inf
    if location.latitude == location.latitude:
        widening = location.sigma * f8(columns, Column.widest_fringe)[0]
        _fetch(columns, scratch, location, widening)
        x, y, z = earth_centred(location.latitude, location.longitude)
        search = Search(columns, scratch, frame.terms, frame.time, location.longitude, x, y, z, widening)
        windows, spans = windows_of(scratch), spans_of(scratch)
        margin, seen = BEYOND_M, 0
        for level in range(len(f8(columns, Column.level_size))):
            window = windows[level]
            window.seen = 0
            for index in range(level * MOST_ROWS, level * MOST_ROWS + window.spans):
                begin, end = spans[index].first, spans[index].last
                found, margin = _scan(search, begin, end, margin, found)
                window.seen += end - begin
            if window.spans == NOT_FOUND:
                bounds = window.low, window.high, window.spread
                found, margin, window.seen = _search(search, bounds, margin, found)
            seen = max(seen, window.seen)
        if margin == BEYOND_M and seen <= FEW:
            margin = _look_farther(search, location.latitude, found)
    else:
        for entry in unplaced:
            found = _write_nowhere(scratch, found, entry, entry + 1)
    cut, standing = np.int64(first[len(first) - 1]), np.int64(i4(columns, Column.standing_first)[0])
    if cut < standing:  # everywhere but in some zones
        found = _write_nowhere(scratch, found, cut, standing)
    f8(scratch, ScratchArray.refresh_distance)[0] = margin
    return found


@inner
def _write_nowhere(scratch: Table, found: int, first: int, last: int) -> int:
    """Write entries that are at no site. Returns the number of places then."""
    reached = reached_of(scratch)
    if found < len(reached):
        place = reached[found]
        place.squared, place.site, place.first, place.last = math.inf, NOWHERE, first, last
    return found + 1


@inner
def _look_farther(search: Search, latitude: float, found: int) -> float:
    """Return the metres to the next site that comes within reach, where it is farther than BEYOND_M.

    The places found before stay; places found on the way are written behind them and dropped.
    """
    columns, windows = search.columns, windows_of(search.scratch)
    sizes, margin = f8(columns, Column.level_size), math.inf
    for level in range(len(sizes)):
        beyond, near, seen = BEYOND_M, BEYOND_M, windows[level].seen
        while near >= beyond and seen <= FEW and beyond <= 8 * sizes[level]:
            beyond *= 4
            window = _window(columns, level, latitude, search.widening + beyond)
            _, near, seen = _search(search, window, min(margin, beyond), found)
        margin = near
    return margin


@inlined
def _fetch(columns: Table, scratch: Table, location: Location, widening: float) -> None:
    """Compute the windows of all levels, and fetch ahead from memory all that their first search reads."""
    rows, windows = rows_of(columns), windows_of(scratch)
    levels = len(f8(columns, Column.level_size))
    for level in range(levels):
        window = windows[level]
        window.low, window.high, window.spread = _window(columns, level, location.latitude, widening + BEYOND_M)
        fetch_ahead(columns, Column.row, window.low * ROW_BYTES)
    for level in range(levels):
        low, high = windows[level].low, windows[level].high
        for row in range(low, min(high + 1, low + MOST_ROWS)):
            middle = (np.int64(rows[row].cell_first) + np.int64(rows[row + 1].cell_first)) // 2
            fetch_ahead(columns, Column.cell, middle * CELL_BYTES)
    for level in range(levels):
        _find_spans(columns, scratch, level, location.longitude)


@inlined
def _find_spans(columns: Table, scratch: Table, level: int, longitude: float) -> None:
    """Write the spans of sites in a level's window; NOT_FOUND where it has many rows, or crosses the antimeridian."""
    rows, cells = rows_of(columns), cells_of(columns)
    window, spans = windows_of(scratch)[level], spans_of(scratch)
    low, high = window.low, window.high
    window.spans = NOT_FOUND
    if high - low >= MOST_ROWS:
        return
    found = 0
    for row in range(low, high + 1):
        west, east = _columns(rows[row].columns, longitude, window.spread)
        if west < 0 or east >= rows[row].columns:
            return
        begin, end = _between(columns, row, west, east)
        if begin < end:
            span = spans[level * MOST_ROWS + found]
            span.first, span.last = cells[begin].site_first, cells[end].site_first
            found += 1
            for site in range(span.first, min(span.last, span.first + FETCHED), LINE_BYTES // CENTRE_BYTES):
                fetch_ahead(columns, Column.centre, site * CENTRE_BYTES)
            for site in range(span.first, min(span.last, span.first + FETCHED), LINE_BYTES // SITE_BYTES):
                fetch_ahead(columns, Column.site_entry_first, site * SITE_BYTES)
    window.spans = found


@inner
def _window(columns: Table, level: int, latitude: float, beyond: float) -> tuple[int, int, float]:
    """Return the first and last row of a level within its reach and `beyond` metres more, and half the width.

    The width is in radians of longitude; pi or more is all around.
    """
    # An arc on the sphere of least radius is never longer than the arc on the ellipsoid. A site within these
    # straight-line metres is therefore within this angle on the sphere.
    width = f8(columns, Column.level_reach)[level] + beyond
    angle = 2 * math.asin(min(1.0, width / (2 * LEAST_RADIUS_M)))
    height = f8(columns, Column.level_size)[level] / LEAST_RADIUS_M
    phi = math.radians(latitude) + HALF_TURN
    first_row = i4(columns, Column.level_row_first)[level]
    rows = i4(columns, Column.level_row_first)[level + 1] - first_row
    low = min(int(max(phi - angle, 0.0) / height), rows - 1)
    high = min(int((phi + angle) / height), rows - 1)
    if phi - angle <= 0.0 or phi + angle >= math.pi:  # around a pole
        return first_row + low, first_row + high, math.pi
    return first_row + low, first_row + high, math.asin(min(1.0, math.sin(angle) / math.sin(phi)))


@inner
def _columns(count: int, longitude: float, spread: float) -> tuple[int, int]:
    """Return the first and last of a row's columns within `spread` radians.

    Below 0, or at `count` and above, a column lies beyond the antimeridian.
    """
    turn = math.radians((longitude if longitude < 180.0 else longitude - 360.0) + 180.0)
    west = math.floor((turn - spread) / (2 * math.pi) * count)
    east = math.floor((turn + spread) / (2 * math.pi) * count)
    if spread >= math.pi or east - west + 1 >= count:
        return 0, count - 1
    return west, east


@inner
def _between(columns: Table, row: int, start: int, stop: int) -> tuple[int, int]:
    """Return where the cells of a row from column `start` to `stop` begin and end."""
    cells, rows = cells_of(columns), rows_of(columns)
    low, high = np.int64(rows[row].cell_first), np.int64(rows[row + 1].cell_first)
    end = high
    while low < high:
        middle = (low + high) // 2
        if cells[middle].column < start:
            low = middle + 1
        else:
            high = middle
    last = low
    while last < end and cells[last].column <= stop:
        last += 1
    return low, last


@inner
def _search(
    search: Search, window: tuple[int, int, float], margin: float, found: int
) -> tuple[int, float, int]:  # fmt: skip
    """Search the cells of a window (see `_window`) for sites within reach.

    Writes places from index `found` on. Returns the number of places then, the lesser of `margin` and the metres to
    the nearest site out of reach, and how many sites were looked at.
    """
    columns = search.columns
    rows, cells, seen = rows_of(columns), cells_of(columns), 0
    low, high, spread = window
    for row in range(low, high + 1):
        count = rows[row].columns
        west, east = _columns(count, search.longitude, spread)
        for run in range(2):  # the columns may wrap around the earth
            if run == 0:
                start, stop = max(west, 0), min(east, count - 1)
            elif west < 0:
                start, stop = west + count, count - 1
            elif east >= count:
                start, stop = 0, east - count
            else:
                break
            begin, end = _between(columns, row, start, stop)
            if begin < end:
                first, last = np.int64(cells[begin].site_first), np.int64(cells[end].site_first)
                found, margin = _scan(search, first, last, margin, found)
                seen += last - first
    return found, margin, seen


@inlined
def _scan(
    search: Search, first: int, last: int, margin: float, found: int
) -> tuple[int, float]:  # fmt: skip
    """Look at sites that stand side by side. Writes and returns places and margin as `_search` does."""
    near = i4(search.scratch, ScratchArray.near)
    for begin in range(first, last, SITES_AT_A_TIME):
        count = _sift(search, near, begin, min(last, begin + SITES_AT_A_TIME), margin)
        for index in range(count):
            found, margin = _follow_up(search, near[index], margin, found)
    return found, margin


@inner
def _sift(search: Search, near: np.ndarray, first: int, last: int, margin: float) -> int:
    """List the sites that reach as far as `margin` metres from the location. Returns how many.

    Which of them do cannot be predicted: without a branch, the processor does not have to guess.
    """
    centres, count, beyond = centres_of(search.columns), 0, search.widening + margin
    for site in range(first, last):
        centre = centres[site]
        dx, dy, dz, reach = centre.x - search.x, centre.y - search.y, centre.z - search.z, centre.reach + beyond
        near[count] = site
        count += dx * dx + dy * dy + dz * dz <= reach * reach
    return count


@inlined
def _follow_up(search: Search, site: int, margin: float, found: int) -> tuple[int, float]:
    """Write a site if it is within reach; otherwise measure how far it is from that. Returns as `_search` does."""
    columns, reached = search.columns, reached_of(search.scratch)
    centre, entry_first = centres_of(columns)[site], i4(columns, Column.site_entry_first)
    dx, dy, dz = centre.x - search.x, centre.y - search.y, centre.z - search.z
    squared = dx * dx + dy * dy + dz * dz
    reach = centre.reach + search.widening
    begin, end = np.int64(entry_first[site]), np.int64(entry_first[site + 1])
    if squared <= reach * reach:
        if found < len(reached):
            place = reached[found]
            place.squared, place.site, place.first, place.last = squared, site, begin, end
            fetch_ahead(columns, Column.gate, begin * GATE_BYTES)
            fetch_ahead(columns, Column.gate, end * GATE_BYTES - 1)
        return found + 1, margin
    if squared < (reach + margin) * (reach + margin):
        for entry in range(begin, end):
            if may_ever(gates_of(columns)[entry], search.terms, search.time):
                return found, math.sqrt(squared) - reach
    return found, margin
