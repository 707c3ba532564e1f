"""What the compiled loops read and write: records of arrays, passed as one number each.

A compiled function takes some 0.25 microseconds per array argument, and a decision touches some forty arrays. So a
record keeps a table of its arrays' addresses and hands over where that table stands; each loop says at its top which
arrays it reads. Whoever calls a loop keeps the records alive.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from offers.catalogue.geometry import RINGS
from offers.catalogue.snapshot import (
    CELL,
    CENTRE,
    COLUMNS,
    ENTRY,
    EXTRA,
    GATE,
    OFFER,
    PIECE,
    ROW,
    SHAPE,
    STRATEGY,
    VERTEX,
    WORTH,
)
from offers.model.query import MAX_OFFERS

CANDIDATES = 16_384
"""Candidates a thread has room for at first; grown to need. Most decisions have some hundreds."""
SITES_AT_A_TIME = 256
"""Sites looked at before those within reach are followed up."""
LOOKED_UP = 4096
"""Schedules looked up at a time."""

Table = int
"""The address of a record's table: addresses and lengths of its arrays, two numbers each."""

Column = IntEnum("Column", list(COLUMNS), start=0)  # type: ignore[misc]
"""Places of a snapshot's columns in their table."""


class Hours(IntEnum):
    """Places of the arrays that tell the state of every schedule at one instant."""

    state = 0
    """u1: CLOSED, OPEN or UNKNOWN."""
    until = 1
    """i8: second until which that stays so at least; exactly, while open."""


class Scratch(IntEnum):
    """Places of the arrays one thread works in."""

    candidate = 0
    """CANDIDATE: entries that may be shown."""
    reached = 1
    """REACHED: where there are entries within reach."""
    heap = 2
    """i4: numbers of candidates, the best first."""
    chain_best = 3
    """u4 per chain: the nearest candidate of the offer in this decision, if that one is of the chain."""
    chosen = 4
    """CHOSEN: the offers of the decision, best first."""
    outcome = 5
    """f8: see Outcome."""
    window = 6
    """WINDOW per level of the grid."""
    unknown = 7
    """i4: schedules whose state must be looked up before the decision can be made, as far as there is room."""
    span = 8
    """SPAN: MOST_ROWS per level of the grid."""
    point = 9
    """POINT: the positions that stand for an uncertain location; see location.py."""
    near = 10
    """i4: sites that may be within reach, of those looked at at a time."""


CANDIDATE = np.dtype(
    [
        ("squared", "f8"),  # straight-line metres, squared, from the location; infinite: it has no distance
        ("chance", "f8"),  # how likely one is inside its place
        ("log_score", "f8"),
        ("until", "u4"),  # second at which it ends; NEVER: it does not
        ("entry", "u4"),
        ("flags", "u4"),  # what is to be told of it: UNPLACED and so on
    ],
    align=True,
)
WINDOW = np.dtype([("low", "i8"), ("high", "i8"), ("spread", "f8"), ("spans", "i8"), ("seen", "i8")])
"""The first and last row of a level around the location, how far to either side, in radians of longitude, how many
spans of sites are there, or NOT_FOUND, and how many sites."""
SPAN = np.dtype([("first", "i8"), ("last", "i8")])
"""Sites that stand side by side; the last exclusive."""
REACHED = np.dtype([("squared", "f8"), ("site", "i4"), ("first", "u4"), ("last", "u4")], align=True)
"""Straight-line metres, squared, from the location to a site, or infinity; the site, or region.NOWHERE; and its
entries, the last exclusive."""
POINT = np.dtype([("latitude", "f8"), ("longitude", "f8")])
"""Degrees."""
POINTS = RINGS * RINGS
"""Points that stand for a distribution: as many to a ring as there are rings."""
MOST_ROWS = 8
"""Rows of a level, and so spans, that are kept."""
NOT_FOUND = -1
LINE_BYTES = 64
"""A line of the processor's cache."""
MOST_LEVELS = 32
"""Levels of the grid, at most: cells of the 18th are as wide as the earth."""


class Terms(IntEnum):
    """Places of the arrays that say which terms admit a request, and what the placement holds."""

    admits = 0
    """u1 per distinct terms."""
    layout = 1
    """i4: see Layout."""


class Layout(IntEnum):
    """Places of what limits the offers of an answer."""

    most = 0
    """Offers in all."""
    per_venue = 1
    """Offers of one venue; 0: no limit."""
    per_brand = 2
    per_category = 3
    full = 4
    """Whether factors are told."""


class Standing(IntEnum):
    """Places of the arrays that tell which offers shown everywhere may be shown: proper ones first, then fallbacks."""

    entry = 0
    """i4."""
    bound = 1
    """f8: the most its score's logarithm can be; falling."""
    until = 2
    """i8: second at which it ends."""
    flags = 3
    """u1: IN_DAYPART and so on."""
    facts = 4
    """i8: see StandingFact."""


class StandingFact(IntEnum):
    """Places of what is to be known of all of them."""

    found = 0
    """How many there are."""
    proper = 1
    """How many of them are no fallbacks."""
    change = 2
    """Second at which the first offer begins or ends; NEVER: none does."""


class Outcome(IntEnum):
    """Places of what the stages find out beside the offers."""

    refresh_after = 0
    """Second until which the set of offers that qualify stays as it is."""
    refresh_distance = 1
    """Metres within which it does."""
    unknown = 2
    """Schedules that must be looked up."""
    found = 3
    """Places within reach, or more candidates than there was room for."""
    eligible = 4
    """Distinct offers that qualify."""
    standing_begin = 5
    """Which of the offers shown everywhere are among them."""
    standing_end = 6
    laid_from = 7
    """The first of the points that are worked out; all that follow are."""


CHOSEN = np.dtype(
    [
        ("entry", "i8"),
        ("index", "i8"),  # of the candidate
        ("log_score", "f8"),
        ("distance_m", "f8"),  # -1: none
        ("until", "i8"),  # second; NEVER: no end
        ("logs", "f8", (6,)),  # of nearness, timeliness, value, lever, location, reachability
        ("flags", "u1"),
        ("redeemable", "u1"),
    ],
    align=True,
)

CLOSED, OPEN, UNKNOWN = 0, 1, 2

NO_ROOM = -2
"""In place of a count: more candidates than the scratch has room for."""

UNPLACED, PENALISED, IN_DAYPART, OUTSIDE_DAYPART, UNREACHABLE = 1, 2, 4, 8, 16
"""What screening tells of a candidate: shown without a location, and with less score for it; inside, or outside, its
preferred dayparts; over before one can be there."""


class Record:
    """Arrays and the table by which compiled loops reach them. Keeps the arrays alive."""

    __slots__ = ("_table", "arrays", "size", "table")

    def __init__(self, places: type[IntEnum], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = {place.name: np.ascontiguousarray(arrays[place.name]) for place in places}
        self._table = np.array(
            [number for array in self.arrays.values() for number in (array.ctypes.data, len(array))], np.int64
        )
        self.table: Table = self._table.ctypes.data
        self.size = sum(array.nbytes for array in self.arrays.values())
        """Bytes."""


class Scratchpad:
    """Memory for one thread's decisions, over any catalogues."""

    def __init__(self) -> None:
        self.fit(CANDIDATES, 0)

    def fit(self, candidates: int, chains: int) -> None:
        """Have room for so many candidates and chains."""
        self.record = Record(
            Scratch,
            {
                "candidate": np.zeros(candidates, CANDIDATE),
                "reached": np.empty(candidates, REACHED),
                "heap": np.empty(candidates, np.int32),
                "chain_best": np.zeros(chains, np.uint32),
                "chosen": np.zeros(MAX_OFFERS + 1, CHOSEN),
                "outcome": np.zeros(len(Outcome), np.float64),
                "window": np.zeros(MOST_LEVELS, WINDOW),
                "unknown": np.empty(LOOKED_UP, np.int32),
                "span": np.zeros(MOST_LEVELS * MOST_ROWS, SPAN),
                "point": np.zeros(POINTS, POINT),
                "near": np.empty(SITES_AT_A_TIME, np.int32),
            },
        )
        self.table = self.record.table
        self.arrays = self.record.arrays
        self.candidates, self.chains = candidates, chains


@intrinsic
def _pointer(_context: Any, _address: Any) -> Any:  # noqa: ANN401 - numba's own types
    """An address as a pointer."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@njit
def _at(table: Table, place: int) -> int:
    return carray(_pointer(table), (place + 1,), np.int64)[place]


@njit
def address_of(table: Table, place: int) -> Any:  # noqa: ANN401 - numba's own type
    """Where an array of a record stands."""
    return _pointer(_at(table, 2 * place))


@intrinsic
def _prefetch(_context: Any, _address: Any) -> Any:  # noqa: ANN401
    """Ask the processor to bring a line of memory nearer."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401
        pointer = builder.inttoptr(args[0], cgutils.voidptr_t)
        number = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number]),
            "llvm.prefetch.p0",
        )
        builder.call(function, [pointer, number(0), number(3), number(1)])  # to read, keep near, data
        return _context.get_dummy_value()

    return types.void(types.int64), generate


@njit
def fetch_ahead(table: Table, place: int, byte: int) -> None:
    """Have the line with a byte of an array on its way from memory while other work is done."""
    _prefetch(_at(table, 2 * place) + byte)


@njit
def u1(table: Table, place: int) -> NDArray[np.uint8]:
    """An array of bytes of a record."""
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), np.uint8)


@njit
def u4(table: Table, place: int) -> NDArray[np.uint32]:
    """An array of unsigned 32-bit numbers of a record."""
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), np.uint32)


@njit
def i4(table: Table, place: int) -> NDArray[np.int32]:
    """An array of 32-bit numbers of a record."""
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), np.int32)


@njit
def i8(table: Table, place: int) -> NDArray[np.int64]:
    """An array of 64-bit numbers of a record."""
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), np.int64)


@njit
def f8(table: Table, place: int) -> NDArray[np.float64]:
    """An array of 64-bit floating-point numbers of a record."""
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), np.float64)


def _array_of(place: int, kind: np.dtype[Any]) -> Callable[[Table], NDArray[np.void]]:
    """Gives the loop that reads an array of records."""

    @njit
    def read(table: Table) -> NDArray[np.void]:
        return carray(address_of(table, place), (_at(table, 2 * place + 1),), kind)

    return read


strategies_of = _array_of(Column.strategies, STRATEGY)
rows_of = _array_of(Column.row, ROW)
cells_of = _array_of(Column.cell, CELL)
centres_of = _array_of(Column.centre, CENTRE)
gates_of = _array_of(Column.gate, GATE)
worths_of = _array_of(Column.worth, WORTH)
entries_of = _array_of(Column.entry, ENTRY)
extras_of = _array_of(Column.extra, EXTRA)
pieces_of = _array_of(Column.piece, PIECE)
shapes_of = _array_of(Column.shape, SHAPE)
vertices_of = _array_of(Column.shape_vertex, VERTEX)
offers_of = _array_of(Column.offer, OFFER)
windows_of = _array_of(Scratch.window, WINDOW)
spans_of = _array_of(Scratch.span, SPAN)
candidates_of = _array_of(Scratch.candidate, CANDIDATE)
reached_of = _array_of(Scratch.reached, REACHED)
points_of = _array_of(Scratch.point, POINT)
chosen_of = _array_of(Scratch.chosen, CHOSEN)
