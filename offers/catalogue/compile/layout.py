"""Lay a catalogue out by place, so that what is near on the ground is near in memory: order, sites, rows and cells."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.compile import geometry
from offers.catalogue.hours.schedules import Schedule, zone_clock
from offers.catalogue.snapshot import (
    AROUND_POINT,
    CELL,
    CENTRE,
    ENTRY,
    EVERYWHERE,
    EXTRA,
    GATE,
    NO_CHAIN,
    NO_VENUE,
    NO_WINDOWS,
    ODD,
    OFFER,
    PIECE,
    ROW,
    WORTH,
)
from offers.v1.offer_pb2 import MissingLocation

Arrays = dict[str, NDArray[Any]]

_DENY = MissingLocation.MISSING_LOCATION_DENY

_OFFER_CODES = {
    "terms": "q", "value": "d", "lever": "d", "fallback": "B", "redeem_start": "q", "redeem_end": "q",
    "window_start": "q", "window_end": "q", "windows": "q", "brand": "q", "category": "q", "exclusion_group": "q",
    "audience": "q", "caps": "q", "key": "q",
}  # fmt: skip
_ENTRY_CODES = {
    "offer": "q", "kind": "B", "place": "q", "venue": "q", "radius": "d", "reach": "d", "schedule": "q",
    "redeem_schedule": "q", "extra": "q", "turn": "H",
}  # fmt: skip


def _arrays(codes: dict[str, str]) -> "dict[str, array[Any]]":
    return {name: array(code) for name, code in codes.items()}


@dataclass(slots=True)
class Gathered:
    """What was read of a catalogue, in the order it was read."""

    latitudes: "array[float]"
    """Degrees, of the venues first and then of other places."""
    longitudes: "array[float]"
    venue_ids: list[str]
    ids: list[str] = field(default_factory=list)
    """Of the offers; `wires` and the columns of `offer` go with them."""
    wires: list[bytes] = field(default_factory=list)
    offer: "dict[str, array[Any]]" = field(default_factory=lambda: _arrays(_OFFER_CODES))
    entry: "dict[str, array[Any]]" = field(default_factory=lambda: _arrays(_ENTRY_CODES))
    """Offers are given by their number, places by theirs; -1 where there is no place."""
    window_starts: "array[int]" = field(default_factory=lambda: array("q"))
    window_ends: "array[int]" = field(default_factory=lambda: array("q"))
    extras: Sequence[tuple[float, ...]] = ()
    """Records of snapshot.EXTRA."""
    pieces: Sequence[tuple[int, float, float, int]] = ()
    """Position, radius, reach and shape of all that is cut out or joined."""

    def add_windows(self, windows: Sequence[tuple[int, int]]) -> int:
        """Add the windows of an offer that has several, and give where they begin."""
        first = len(self.window_starts)
        for start, end in (*windows, (0, 0)):
            self.window_starts.append(start)
            self.window_ends.append(end)
        return first


def lay_out(gathered: Gathered) -> Arrays:
    """The arrays of offers, entries, venues and the grid."""
    entry = {name: np.frombuffer(values, dtype=values.typecode) for name, values in gathered.entry.items()}
    offer = {name: np.frombuffer(values, dtype=values.typecode) for name, values in gathered.offer.items()}
    count = len(gathered.ids)
    offer_order = np.empty(count, np.int64)
    offer_order[sorted(range(count), key=gathered.ids.__getitem__)] = np.arange(count)
    extras = _records(
        EXTRA, dict(zip(EXTRA.names or (), map(np.array, zip(*gathered.extras, strict=True)), strict=True))
    )
    grid, entries = lay_grid(gathered, entry, extras, offer_order)
    entry = {name: values[entries] for name, values in entry.items()}

    # Offers take the order in which the sorted entries first name them.
    number = entry["offer"]
    _, first = np.unique(number, return_index=True)
    offers = np.argsort(first)
    renumbered = np.empty_like(offers)
    renumbered[offers] = np.arange(count)
    several = np.bincount(number, minlength=count) > 1
    chain = np.where(several, np.cumsum(several) - 1, NO_CHAIN)
    is_odd = (
        (entry["extra"] != 0)
        | (entry["kind"] != AROUND_POINT)
        | several[number]
        | (offer["windows"][number] != NO_WINDOWS)
        | (offer["fallback"][number] != 0)
    )
    wires = [gathered.wires[place] for place in offers.tolist()]
    sizes = np.fromiter(map(len, wires), np.int64, count)
    venue, venue_ids = _venues(gathered, entry["venue"])
    return {
        "offer": _records(
            OFFER,
            {
                "value": offer["value"][offers],
                "lever": offer["lever"][offers],
                "wire_first": np.cumsum(sizes) - sizes,
                "wire_size": sizes,
                "redeem_start": offer["redeem_start"][offers],
                "redeem_end": offer["redeem_end"][offers],
                "brand": offer["brand"][offers],
                "category": offer["category"][offers],
                "group": offer["exclusion_group"][offers],
                "audience": offer["audience"][offers],
                "caps": offer["caps"][offers],
                "key": offer["key"][offers],
            },
        ),
        "offer_by_key": np.argsort(offer["key"][offers]),
        "window_start": np.frombuffer(gathered.window_starts, np.int64),
        "window_end": np.frombuffer(gathered.window_ends, np.int64),
        "wire": np.frombuffer(b"".join(wires), np.uint8),
        "extra": extras,
        "piece": _pieces(gathered),
        "unplaced": np.flatnonzero((extras["missing"][entry["extra"]] > _DENY) & (entry["kind"] != EVERYWHERE)),
        "widest_fringe": extras["fringe"].max(keepdims=True),
        "gate": _records(
            GATE,
            {
                "terms": offer["terms"][number] + ODD * is_odd,
                "window_start": offer["window_start"][number],
                "window_end": offer["window_end"][number],
                "schedule": entry["schedule"],
            },
        ),
        "worth": _records(
            WORTH,
            {"log_value": np.log(offer["value"])[number], "log_lever": np.log(offer["lever"])[number]},
        ),
        "entry": _records(
            ENTRY,
            {
                "offer": renumbered[number],
                "venue": venue,
                "redeem_schedule": entry["redeem_schedule"],
                "chain": chain[number],
                "order": offer_order[number],
                "windows": offer["windows"][number],
                "kind": entry["kind"],
                "fallback": offer["fallback"][number],
                "extra": entry["extra"],
                "turn": entry["turn"],
            },
        ),
        "venue_id_first": csr([len(venue_id) for venue_id in venue_ids]),
        "venue_id": np.frombuffer(b"".join(venue_ids), np.uint8),
        **grid,
    }


def _venues(gathered: Gathered, venue: NDArray[Any]) -> tuple[NDArray[np.int64], list[bytes]]:
    """The entries' venues numbered as the entries first name them, and the ids of those that are named at all."""
    named, first = np.unique(venue[venue != NO_VENUE], return_index=True)
    named = named[np.argsort(first)]
    renumbered = np.full(len(gathered.venue_ids) + 1, NO_VENUE)
    renumbered[named] = np.arange(len(named))
    return renumbered[venue], [gathered.venue_ids[number].encode() for number in named.tolist()]


def _records(kind: np.dtype[Any], fields: Arrays) -> NDArray[Any]:
    records = np.zeros(len(next(iter(fields.values()))), kind)
    for name, values in fields.items():
        records[name] = values
    return records


def _pieces(gathered: Gathered) -> NDArray[Any]:
    place, radius, reach, shape = np.array(gathered.pieces or np.empty((0, 4))).T
    x, y, z = geometry.earth_centred(*positions(gathered, place.astype(np.int64)))
    return _records(PIECE, {"x": x, "y": y, "z": z, "reach": reaches(radius, reach), "shape": shape})


def calendar(schedules: Sequence[Schedule], time_zones: Sequence[str]) -> Arrays:
    """The arrays of schedules and of the time zones they are in; zone 0 is the person's."""
    clocks = [zone_clock(name) for name in time_zones[1:]]
    number = {name: number for number, name in enumerate(time_zones)}
    weekly = [schedule.weekly() for schedule in schedules]
    parts = [part for week in weekly for part in week or ()]
    spans = [span for _, _, week in parts for span in week]
    return {
        "schedule_weekly": np.array([week is not None for week in weekly]),
        "schedule_part_first": csr([len(week or ()) for week in weekly]),
        "part_zone": np.array([number[time_zone] for time_zone, _, _ in parts]),
        "part_margin": np.array([margin for _, margin, _ in parts]),
        "part_week_first": csr([len(week) for _, _, week in parts]),
        "week_start": np.array([start for start, _ in spans]),
        "week_end": np.array([end for _, end in spans]),
        "zone_first": csr([0, *(len(clock.starts) for clock in clocks)]),
        "zone_start": np.array([start for clock in clocks for start in clock.starts]),
        "zone_offset": np.array([offset for clock in clocks for offset in clock.offsets]),
    }


def lay_grid(
    gathered: Gathered, entry: Arrays, extras: NDArray[Any], offer_order: NDArray[np.int64]
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


def positions(gathered: Gathered, places: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
