"""Records: groups of arrays that compiled loops reach by one number, the address of a table.

A compiled function takes some 0.25 microseconds per array argument, and a decision touches some forty arrays. Therefore
a record keeps a table of its arrays' addresses, and loops are passed where that table stands. Each loop says at its top
which arrays it reads. Whoever calls a loop keeps the records alive.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype
from numpy.typing import DTypeLike, NDArray

from offers.catalogue.snapshot import (
    AUDIENCE,
    CAMPAIGN,
    CAP,
    CATEGORY_LIMIT,
    CELL,
    CENTRE,
    COLUMNS,
    CREATIVE,
    ENTRY,
    EXTRA,
    GATE,
    OFFER,
    PIECE,
    POLICY,
    ROW,
    RULE,
    SHAPE,
    STRATEGY,
    VARIANT,
    VERTEX,
    WORTH,
)
from offers.compiled import write_fetch_ahead

Table = int
"""The address of a record's table: addresses and lengths of its arrays, two numbers each."""

Column = IntEnum("Column", list(COLUMNS), start=0)  # type: ignore[misc]
"""Indices of a snapshot's columns in their table."""


class HoursArray(IntEnum):
    """Indices of the arrays that have the state of every schedule at one instant."""

    state = 0
    """u1: CLOSED, OPEN or UNKNOWN."""
    until = 1
    """i8: second until which the state holds at least; while OPEN, the second at which it ends."""


LINE_BYTES = 64
"""Bytes of a line of the processor's cache."""


class TermsArray(IntEnum):
    """Indices of the arrays of a surface: which terms admit its requests, and what its placement allows."""

    admits = 0
    """u1 per distinct terms: 1 if they admit the surface."""
    layout = 1
    """i4: see Layout."""
    creative = 2
    """u1 per distinct terms of creatives: 1 if they admit the surface."""
    asked = 3
    """u1 per experiment: 1 if it is one of the placement's."""
    caps = 4
    """i8: the key of the placement and its list of caps, or NO_CAPS."""
    stem = 5
    """u1: the bytes with which the records of all decisions for the surface begin."""
    conditions = 6
    """i4: the segments that behaviour rules and experiments on ranking read, each once."""
    explore = 7
    """f8: see Explore."""
    moment_key = 8
    """u8: keys of channel and placement, by which models know them."""
    zone_start = 9
    """i8: seconds from which the person's time zone has the offset of the same index."""
    zone_offset = 10
    """i8: seconds by which its clock is ahead of UTC."""
    home_start = 11
    """i8: the same for the catalogue's time zone, by which visits are kept."""
    home_offset = 12
    """i8."""


class Explore(IntEnum):
    """Indices of the parameters of exploration: see offers.v1.Exploration."""

    method = 0
    epsilon = 1
    limit = 2
    """Most by which exploration may change the logarithm of a score, up or down."""
    new_share = 3


class Layout(IntEnum):
    """Indices of a surface's whole numbers: limits of the answer, and what it depends on."""

    most = 0
    """Most offers of an answer."""
    per_venue = 1
    """Most offers of one venue; 0: no limit. The same for brand and category."""
    per_brand = 2
    per_category = 3
    full = 4
    """1 if the answer has the factors."""
    personal = 5
    """1 if the person matters whatever is near: caps of the placement, holdouts, experiments, behaviour or models."""
    strategy = 6
    """Ranking strategy for persons whose variants give no other."""
    behaves = 7
    """1 if any strategy that may rank for a person has behaviour rules."""
    learns = 8
    """1 if any of them asks models."""


class StandingArray(IntEnum):
    """Indices of the arrays of the offers shown everywhere that may be shown: proper ones first, then fallbacks."""

    entry = 0
    """i4."""
    bound = 1
    """f8: upper bound of the logarithm of its score; falling."""
    until = 2
    """i8: second at which it ends."""
    flags = 3
    """u1: IN_DAYPART and so on."""
    facts = 4
    """i8: see StandingFact."""
    audience = 5
    """i4: the distinct audiences of all, NO_AUDIENCE among them."""
    proper = 6
    """i4 per audience: offers that are no fallbacks."""
    fallback = 7
    """i4 per audience: offers that are fallbacks."""
    capped_key = 8
    """i8: keys of the offers with caps of their own, rising."""
    capped_entry = 9
    """i4 per key."""


class BudgetArray(IntEnum):
    """Indices of the arrays that say which budgets have something left."""

    left = 0
    """u1 per budget: 1 if it has something left."""
    until = 1
    """i8: second until which that holds, as far as it changes with time alone."""
    holds = 2
    """i8: the seconds between which `left` and `until` are right for all budgets; empty while they are written."""
    known = 3
    """u1: 1 if the use of budgets could be read."""


class StandingFact(IntEnum):
    """Indices of the whole numbers about all offers shown everywhere."""

    found = 0
    """Number of offers."""
    proper = 1
    """Number of these offers that are not fallbacks."""
    change = 2
    """Second at which the next offer begins or ends; NEVER: none does."""


CLOSED, OPEN, UNKNOWN = 0, 1, 2
"""States of a schedule."""


class Record:
    """Arrays, and the table by which compiled loops reach them. A record keeps its arrays alive."""

    __slots__ = ("_table", "arrays", "size", "table")

    def __init__(self, places: type[IntEnum], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = {index.name: np.ascontiguousarray(arrays[index.name]) for index in places}
        self._table = np.array(
            [number for array in self.arrays.values() for number in (array.ctypes.data, len(array))], np.int64
        )
        self.table: Table = self._table.ctypes.data
        self.size = sum(array.nbytes for array in self.arrays.values())
        """Bytes."""

    def copy_table(self, into: NDArray[np.int64]) -> None:
        """Copy the addresses and lengths into the table of another owner, who keeps `arrays` alive."""
        into[:] = self._table


def _element(builder: Any, table: Any, index: Any) -> Any:  # noqa: ANN401 - llvmlite's own types
    """Write the load of a number of a table, given the table's address."""
    numbers = builder.inttoptr(table, ir.IntType(64).as_pointer())
    return builder.load(builder.gep(numbers, [index]))


def _reader(dtype: DTypeLike, index: int | None = None) -> Any:  # noqa: ANN401 - numba's own type
    """Make an intrinsic that reads an array of a record. It is for loops alone, and written into them, not called."""
    array = types.Array(from_dtype(np.dtype(dtype)), 1, "C")

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401
        number = context.get_value_type(types.int64)
        first = builder.shl(args[1], number(1)) if index is None else number(2 * index)
        address, length = (_element(builder, args[0], at) for at in (first, builder.add(first, number(1))))
        made = context.make_array(array)(context, builder)
        size = np.dtype(dtype).itemsize
        populate_array(
            made,
            data=builder.inttoptr(address, made.data.type),
            shape=[length],
            strides=[number(size)],
            itemsize=number(size),
            meminfo=None,
        )
        return made._getvalue()  # noqa: SLF001 - as numba's own intrinsics do

    if index is None:
        return intrinsic(lambda _context, _table, _place: (array(types.int64, types.int64), generate))
    return intrinsic(lambda _context, _table: (array(types.int64), generate))


u1: Callable[[Table, int], NDArray[np.uint8]] = _reader(np.uint8)
"""An array of bytes of a record."""
u2: Callable[[Table, int], NDArray[np.uint16]] = _reader(np.uint16)
"""An array of unsigned 16-bit numbers of a record."""
u4: Callable[[Table, int], NDArray[np.uint32]] = _reader(np.uint32)
"""An array of unsigned 32-bit numbers of a record."""
u8: Callable[[Table, int], NDArray[np.uint64]] = _reader(np.uint64)
"""An array of unsigned 64-bit numbers of a record."""
i4: Callable[[Table, int], NDArray[np.int32]] = _reader(np.int32)
"""An array of 32-bit numbers of a record."""
i8: Callable[[Table, int], NDArray[np.int64]] = _reader(np.int64)
"""An array of 64-bit numbers of a record."""
f8: Callable[[Table, int], NDArray[np.float64]] = _reader(np.float64)
"""An array of 64-bit floating-point numbers of a record."""


def array_of(index: int, kind: np.dtype[Any]) -> Callable[[Table], NDArray[np.void]]:
    """Make the intrinsic that reads an array of records at one index of a table."""
    read: Callable[[Table], NDArray[np.void]] = _reader(kind, index)
    return read


@intrinsic
def address_of(_context: Any, _table: Any, _place: Any) -> Any:  # noqa: ANN401
    """Return the address of an array of a record."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401
        address = _element(builder, args[0], builder.shl(args[1], ir.IntType(64)(1)))
        return builder.inttoptr(address, cgutils.voidptr_t)

    return types.voidptr(types.int64, types.int64), generate


@intrinsic
def fetch_ahead(_context: Any, _table: Any, _place: Any, _byte: Any) -> Any:  # noqa: ANN401
    """Start to load the cache line with a byte of an array, without waiting for it."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401
        address = _element(builder, args[0], builder.shl(args[1], ir.IntType(64)(1)))
        pointer = builder.inttoptr(builder.add(address, args[2]), cgutils.voidptr_t)
        write_fetch_ahead(builder, pointer)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def arrays_of(kind: np.dtype[Any]) -> Callable[[Table, int], NDArray[np.void]]:
    """Make the intrinsic that reads an array of records at any index of a table."""
    read: Callable[[Table, int], NDArray[np.void]] = _reader(kind)
    return read


strategies_of = array_of(Column.strategies, STRATEGY)
rows_of = array_of(Column.row, ROW)
cells_of = array_of(Column.cell, CELL)
centres_of = array_of(Column.centre, CENTRE)
gates_of = array_of(Column.gate, GATE)
worths_of = array_of(Column.worth, WORTH)
entries_of = array_of(Column.entry, ENTRY)
extras_of = array_of(Column.extra, EXTRA)
pieces_of = array_of(Column.piece, PIECE)
shapes_of = array_of(Column.shape, SHAPE)
vertices_of = array_of(Column.shape_vertex, VERTEX)
offers_of = array_of(Column.offer, OFFER)
audiences_of = array_of(Column.audience, AUDIENCE)
variants_of = array_of(Column.audience_variant, VARIANT)
campaigns_of = array_of(Column.campaign, CAMPAIGN)
category_limits_of = array_of(Column.category_limit, CATEGORY_LIMIT)
policies_of = array_of(Column.policy, POLICY)
caps_of = array_of(Column.cap, CAP)
creatives_of = array_of(Column.creative, CREATIVE)
rules_of = array_of(Column.rule, RULE)
