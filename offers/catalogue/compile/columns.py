"""Columns of a catalogue in document order, and helpers that turn columns into the arrays of a snapshot."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.geo import geometry

Arrays = dict[str, NDArray[Any]]

_OFFER_CODES = {
    "terms": "q", "value": "d", "lever": "d", "fallback": "B", "redeem_start": "q", "redeem_end": "q",
    "window_start": "q", "window_end": "q", "windows": "q", "brand": "q", "category": "q", "exclusion_group": "q",
    "audience": "q", "caps": "q", "key": "q",
}  # fmt: skip
_ENTRY_CODES = {
    "offer": "q", "kind": "B", "place": "q", "venue": "q", "radius": "d", "reach": "d", "schedule": "q",
    "redeem_schedule": "q", "extra": "q", "turn": "H",
}  # fmt: skip


def _empty_columns(codes: dict[str, str]) -> "dict[str, array[Any]]":
    return {name: array(code) for name, code in codes.items()}


@dataclass(slots=True)
class LayoutInput:
    """Offers, entries and positions of a catalogue, in the order they were read."""

    latitudes: "array[float]"
    """Degrees, by number of the position: venues first, then other places."""
    longitudes: "array[float]"
    """Degrees, parallel to `latitudes`."""
    venue_ids: list[str]
    ids: list[str] = field(default_factory=list)
    """Offer ids; `wires` and the columns of `offer` are parallel to it."""
    wires: list[bytes] = field(default_factory=list)
    offer: "dict[str, array[Any]]" = field(default_factory=lambda: _empty_columns(_OFFER_CODES))
    entry: "dict[str, array[Any]]" = field(default_factory=lambda: _empty_columns(_ENTRY_CODES))
    """Columns of entries. `offer` and `place` are numbers of offers and positions; -1: no position."""
    window_starts: "array[int]" = field(default_factory=lambda: array("q"))
    """Seconds since 1970. The windows of each offer that has several are a list ended by (0, 0)."""
    window_ends: "array[int]" = field(default_factory=lambda: array("q"))
    """Seconds since 1970, exclusive; parallel to `window_starts`."""
    extras: Sequence[tuple[float, ...]] = ()
    """Records of snapshot.EXTRA."""
    pieces: Sequence[tuple[int, float, float, int]] = ()
    """Position, radius, reach and shape of each piece that is cut out of a target or joined with others."""

    def add_windows(self, windows: Sequence[tuple[int, int]]) -> int:
        """Add the windows of an offer that has several and return the index of the first."""
        first = len(self.window_starts)
        for start, end in (*windows, (0, 0)):
            self.window_starts.append(start)
            self.window_ends.append(end)
        return first


def as_arrays(columns: "dict[str, array[Any]]") -> Arrays:
    """Return views of columns as arrays, without copying."""
    return {name: np.frombuffer(values, dtype=values.typecode) for name, values in columns.items()}


def records(kind: np.dtype[Any], fields: Arrays) -> NDArray[Any]:
    """Return records of a dtype, filled field by field; all fields have the same length."""
    filled = np.zeros(len(next(iter(fields.values()))), kind)
    for name, values in fields.items():
        filled[name] = values
    return filled


def table(kind: np.dtype[Any], rows: Iterable[Any]) -> NDArray[Any]:
    """Return records of a dtype, filled row by row. Padding is zero, so that equal rows have equal bytes."""
    given = list(rows)
    filled = np.zeros(len(given), kind)
    for number, row in enumerate(given):
        filled[number] = row
    return filled


def positions(gathered: LayoutInput, places: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the latitudes and longitudes, in degrees, of positions given by their numbers."""
    nowhere = array("d", [0.0])
    latitude = np.frombuffer(gathered.latitudes or nowhere, np.float64)[places]
    return latitude, np.frombuffer(gathered.longitudes or nowhere, np.float64)[places]


def reaches(radius: NDArray[np.float64], reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return reaches in straight-line metres.

    Areas have a `reach`, in straight-line metres already. Circles have a reach of 0 and a `radius` in metres along the
    ground.
    """
    return np.where(reach > 0, reach, geometry.straight_line(radius))


def csr(counts: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    """Return the offset of each run of a CSR column from the runs' lengths, and the end of the last run."""
    return np.fromiter(accumulate(counts, initial=0), np.int64, len(counts) + 1)
