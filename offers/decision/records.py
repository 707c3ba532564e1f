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


LINE_BYTES = 64
"""A line of the processor's cache."""


class Terms(IntEnum):
    """Places of the arrays that say which terms admit a request, and what the placement holds."""

    admits = 0
    """u1 per distinct terms."""
    layout = 1
    """i4: see Layout."""
    creative = 2
    """u1 per distinct terms of creatives."""
    asked = 3
    """u1 per experiment: whether it is one of the placement's."""
    caps = 4
    """i8: the key of the placement and its list of caps, or NO_CAPS."""
    stem = 5
    """u1: what the records of all decisions for the surface begin with."""
    conditions = 6
    """i4: the segments that behaviour rules ask about, each once."""
    explore = 7
    """f8: see Explore."""
    moment_key = 8
    """u8: keys of channel and placement, as models know them."""
    zone_start = 9
    """i8: seconds from which the clock of the person's time zone is ahead of UTC by..."""
    zone_offset = 10
    """i8: ... so many seconds."""


class Explore(IntEnum):
    """Places of what is explored: see offers.v1.Exploration."""

    method = 0
    epsilon = 1
    limit = 2
    """By how much exploration may change the logarithm of a score, up or down, at most."""
    new_share = 3


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
    personal = 5
    """Whether the person matters whatever is near: caps of the placement, persons held out, experiments, behaviour."""
    strategy = 6
    """By which persons are answered whose variants give no other."""
    behaves = 7
    """Whether any strategy by which persons may be answered has behaviour rules."""


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
    audience = 5
    """i4: their distinct audiences, NO_AUDIENCE among them."""
    proper = 6
    """i4 per audience: how many are no fallbacks."""
    fallback = 7
    """i4 per audience: how many are."""
    capped_key = 8
    """i8: the keys of those with caps of their own, rising."""
    capped_entry = 9
    """i4 per key."""


class Budgets(IntEnum):
    """Places of the arrays that tell which budgets have something left."""

    left = 0
    """u1 per budget."""
    until = 1
    """i8: second until which that holds as far as it is a matter of time."""


class StandingFact(IntEnum):
    """Places of what is to be known of all of them."""

    found = 0
    """How many there are."""
    proper = 1
    """How many of them are no fallbacks."""
    change = 2
    """Second at which the first offer begins or ends; NEVER: none does."""


CLOSED, OPEN, UNKNOWN = 0, 1, 2


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
def u2(table: Table, place: int) -> NDArray[np.uint16]:
    """An array of unsigned 16-bit numbers of a record."""
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), np.uint16)


@njit
def u4(table: Table, place: int) -> NDArray[np.uint32]:
    """An array of unsigned 32-bit numbers of a record."""
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), np.uint32)


@njit
def u8(table: Table, place: int) -> NDArray[np.uint64]:
    """An array of unsigned 64-bit numbers of a record."""
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), np.uint64)


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


def array_of(place: int, kind: np.dtype[Any]) -> Callable[[Table], NDArray[np.void]]:
    """Gives the loop that reads an array of records."""

    @njit
    def read(table: Table) -> NDArray[np.void]:
        return carray(address_of(table, place), (_at(table, 2 * place + 1),), kind)

    return read


def arrays_of(kind: np.dtype[Any]) -> Callable[[Table, int], NDArray[np.void]]:
    """Gives the loop that reads an array of records at any place."""

    @njit
    def read(table: Table, place: int) -> NDArray[np.void]:
        return carray(address_of(table, place), (_at(table, 2 * place + 1),), kind)

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
