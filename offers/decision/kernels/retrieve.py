"""Retrieve: which entries are within reach of the location.

The grid has a level for each size of reach. Of every level the cells around the location are searched, and somewhat
more, so that the answer can say how far one may move before something else comes within reach.
"""

import math

import numpy as np

from offers.catalogue.compile.geometry import LEAST_RADIUS_M, earth_centred
from offers.catalogue.snapshot import CELL, CENTRE, GATE, ROW
from offers.compiled import apart, inner
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
    Outcome,
    Scratch,
    reached_of,
    spans_of,
    windows_of,
)
from offers.decision.kernels.places.region import NOWHERE
from offers.decision.kernels.showing import may_ever

BEYOND_M = 64.0
"""How far beyond the reach of a level its cells are searched at first."""
FEW = 48
"""Where a level has fewer sites than this around, the search goes on farther: that costs little, and the answer can
promise more."""
HALF_TURN = math.pi / 2
ROW_BYTES, CELL_BYTES, CENTRE_BYTES, GATE_BYTES = ROW.itemsize, CELL.itemsize, CENTRE.itemsize, GATE.itemsize
SITE_BYTES = 4  # of i4
FETCHED = 32
"""Sites of a span that are fetched ahead: the processor fetches what follows them by itself."""


@apart
def retrieve(
    columns: Table, scratch: Table, terms: Table, latitude: float, longitude: float, widening: float, time: int
) -> int:
    """Find the entries within reach of a location (NaN: those that need none), and `widening` metres more.

    Writes where they are, and the metres within which nothing else comes within reach. Returns how many places that
    is; more than the scratch holds means: give it more and call again.
    """
    first, unplaced = i4(columns, Column.site_entry_first), i4(columns, Column.unplaced)
    found, margin = 0, math.inf
    if latitude == latitude:  # noqa: PLR0124 - not NaN
        _fetch(columns, scratch, latitude, longitude, widening)
        x, y, z = earth_centred(latitude, longitude)
        windows, spans = windows_of(scratch), spans_of(scratch)
        margin, seen = BEYOND_M, 0
        for level in range(len(f8(columns, Column.level_size))):
            window = windows[level]
            window.seen = 0
            for place in range(level * MOST_ROWS, level * MOST_ROWS + window.spans):
                begin, end = spans[place].first, spans[place].last
                found, margin = _scan(columns, scratch, terms, begin, end, x, y, z, widening, margin, found, time)
                window.seen += end - begin
            if window.spans == NOT_FOUND:
                found, margin, window.seen = _search(
                    columns, scratch, terms, window.low, window.high, window.spread, longitude, x, y, z, widening,
                    margin, found, time,
                )  # fmt: skip
            seen = max(seen, window.seen)
        if margin == BEYOND_M and seen <= FEW:
            margin = _look_farther(columns, scratch, terms, latitude, longitude, x, y, z, widening, found, time)
    else:
        for entry in unplaced:
            found = _write_nowhere(scratch, found, entry, entry + 1)
    cut, standing = np.int64(first[len(first) - 1]), np.int64(i4(columns, Column.standing_first)[0])
    if cut < standing:  # everywhere but in some zones
        found = _write_nowhere(scratch, found, cut, standing)
    f8(scratch, Scratch.outcome)[Outcome.refresh_distance] = margin
    return found


@inner
def _write_nowhere(scratch: Table, found: int, first: int, last: int) -> int:
    """Write entries that are at no site. Returns how many places there are then."""
    reached = reached_of(scratch)
    if found < len(reached):
        place = reached[found]
        place.squared, place.site, place.first, place.last = math.inf, NOWHERE, first, last
    return found + 1


@inner
def _look_farther(
    columns: Table, scratch: Table, terms: Table, latitude: float, longitude: float, x: float, y: float, z: float,
    widening: float, found: int, time: int,
) -> float:  # fmt: skip
    """How many metres away the next thing comes within reach, where that is farther than BEYOND_M.

    What was found is left as it is: what is found again is written behind it, and forgotten.
    """
    sizes, windows, margin = f8(columns, Column.level_size), windows_of(scratch), math.inf
    for level in range(len(sizes)):
        beyond, near, seen = BEYOND_M, BEYOND_M, windows[level].seen
        while near >= beyond and seen <= FEW and beyond <= 8 * sizes[level]:
            beyond *= 4
            low, high, spread = _window(columns, level, latitude, widening + beyond)
            _, near, seen = _search(
                columns, scratch, terms, low, high, spread, longitude, x, y, z, widening, min(margin, beyond), found,
                time,
            )  # fmt: skip
        margin = near
    return margin


@inner
def _fetch(columns: Table, scratch: Table, latitude: float, longitude: float, widening: float) -> None:
    """Find what the first search of every level reads, and have all of it on its way from memory at once."""
    rows, windows = rows_of(columns), windows_of(scratch)
    levels = len(f8(columns, Column.level_size))
    for level in range(levels):
        window = windows[level]
        window.low, window.high, window.spread = _window(columns, level, latitude, widening + BEYOND_M)
        fetch_ahead(columns, Column.row, window.low * ROW_BYTES)
    for level in range(levels):
        low, high = windows[level].low, windows[level].high
        for row in range(low, min(high + 1, low + MOST_ROWS)):
            middle = (np.int64(rows[row].cell_first) + np.int64(rows[row + 1].cell_first)) // 2
            fetch_ahead(columns, Column.cell, middle * CELL_BYTES)
    for level in range(levels):
        _find_spans(columns, scratch, level, longitude)


@inner
def _find_spans(columns: Table, scratch: Table, level: int, longitude: float) -> None:
    """Write the spans of sites in a level's window: none where it has many rows, or wraps around the earth."""
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
    """The first and last row of a level within its reach and `beyond` metres more, and how far that is in longitude.

    In radians; half a turn or more is all around.
    """
    # A way on the sphere of least radius is never longer than on the ellipsoid, so what is within these straight-line
    # metres is within this angle on it.
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
    """The first and last of a row's columns within so many radians; under 0 or over the last: beyond ±180 degrees."""
    turn = math.radians((longitude if longitude < 180.0 else longitude - 360.0) + 180.0)
    west = math.floor((turn - spread) / (2 * math.pi) * count)
    east = math.floor((turn + spread) / (2 * math.pi) * count)
    if spread >= math.pi or east - west + 1 >= count:
        return 0, count - 1
    return west, east


@inner
def _between(columns: Table, row: int, start: int, stop: int) -> tuple[int, int]:
    """Where the cells of a row from column `start` to `stop` begin and end."""
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
    columns: Table, scratch: Table, terms: Table, low: int, high: int, spread: float, longitude: float,
    x: float, y: float, z: float, widening: float, margin: float, found: int, time: int,
) -> tuple[int, float, int]:  # fmt: skip
    """Search the cells of a window for what is within reach.

    Writes what is from place `found` on. Returns how many there are then, the lesser of `margin` and the metres
    to what is out of reach, and how many sites were looked at.
    """
    rows, cells, seen = rows_of(columns), cells_of(columns), 0
    for row in range(low, high + 1):
        count = rows[row].columns
        west, east = _columns(count, longitude, spread)
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
                found, margin = _scan(columns, scratch, terms, first, last, x, y, z, widening, margin, found, time)
                seen += last - first
    return found, margin, seen


@inner
def _scan(
    columns: Table, scratch: Table, terms: Table, first: int, last: int, x: float, y: float, z: float,
    widening: float, margin: float, found: int, time: int,
) -> tuple[int, float]:  # fmt: skip
    """Look at sites that stand side by side; as `_search`."""
    near = i4(scratch, Scratch.near)
    for begin in range(first, last, SITES_AT_A_TIME):
        count = _sift(columns, near, begin, min(last, begin + SITES_AT_A_TIME), x, y, z, widening + margin)
        for place in range(count):
            found, margin = _follow_up(columns, scratch, terms, near[place], x, y, z, widening, margin, found, time)
    return found, margin


@inner
def _sift(
    columns: Table, near: np.ndarray, first: int, last: int, x: float, y: float, z: float, beyond: float
) -> int:  # fmt: skip
    """List the sites that reach as far as so many metres from the location. Returns how many.

    Which do cannot be foretold, so there is no branch here that the processor would have to guess.
    """
    centres, count = centres_of(columns), 0
    for site in range(first, last):
        centre = centres[site]
        dx, dy, dz, reach = centre.x - x, centre.y - y, centre.z - z, centre.reach + beyond
        near[count] = site
        count += dx * dx + dy * dy + dz * dz <= reach * reach
    return count


@inner
def _follow_up(
    columns: Table, scratch: Table, terms: Table, site: int, x: float, y: float, z: float, widening: float,
    margin: float, found: int, time: int,
) -> tuple[int, float]:  # fmt: skip
    """Write a site if it is within reach, or else how far it is from that; as `_search`."""
    centre, reached, entry_first = centres_of(columns)[site], reached_of(scratch), i4(columns, Column.site_entry_first)
    dx, dy, dz = centre.x - x, centre.y - y, centre.z - z
    squared = dx * dx + dy * dy + dz * dz
    reach = centre.reach + widening
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
            if may_ever(gates_of(columns)[entry], terms, time):
                return found, math.sqrt(squared) - reach
    return found, margin
