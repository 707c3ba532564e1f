"""What the compiled loops read and write: records of arrays, passed as one number each.

A compiled function takes some 0.25 microseconds per array argument, and a decision touches some forty arrays. So a
record keeps a table of its arrays' addresses and hands over where that table stands; each loop says at its top which
arrays it reads. Whoever calls a loop keeps the records alive.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from offers.catalogue.geometry import RINGS
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
    SHAPE,
    STRATEGY,
    VARIANT,
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
    segment = 11
    """u1 per segment: OUT, IN or UNASKED."""
    wanted = 12
    """i4: segments that must be known, as many as Outcome.wanted says."""
    asked = 13
    """i8 per audience: four times the number of the decision that met it last, and what became of it: MET and so on."""
    counter = 14
    """COUNTER: what is counted of the person, by key and kind."""
    times = 15
    """u4: seconds of the counters."""
    variant = 16
    """i4 per experiment: the person's variant, or NO_NAME."""
    mentioned = 17
    """u1 per experiment: 1 if what is near names its variants."""
    period = 18
    """i8: first and last second (exclusive) of the calendar periods around the instant."""
    person = 19
    """i8: see PersonFact."""
    stack = 20
    """u1: what steps of segments have come to; see judge.py."""


COUNTER = np.dtype([("key", "<i8"), ("kind", "u1"), ("spare", "u1"), ("count", "<u2"), ("first", "<u4")])
"""As in offers.v1.UserState: instants of one kind, from `first` in times on."""
OUT, IN, UNASKED = 0, 1, 2
MET, REFUSED, ADMITTED = 0, 1, 2
"""What became of an audience in a decision."""


class PersonFact(IntEnum):
    """Places of what is known of the person, beside what is counted."""

    number = 0
    """Of the decision, rising with every one of the scratchpad's."""
    draw = 1
    """The number by which variants and holdouts are drawn; 0: nobody in particular."""
    counters = 2
    """How many there are."""
    held_out = 3
    """Whether fallbacks alone are shown."""
    stopped = 4
    """Whether nothing is shown: the placement is at a cap."""
    blind = 5
    """Whether the state could not be read: contact policies with caps are taken to be at them."""
    profile_begin = 6
    """Where the profile stands in the record; -1: there is none."""
    profile_end = 7
    context_begin = 8
    """Where the context stands in the request; -1: there is none."""
    context_end = 9
    hidden = 10
    """Whether the location and the session are not to be used."""


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
MOST_DEPTH = 32
"""Results of steps that wait for each other."""
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
    creative = 2
    """u1 per distinct terms of creatives."""


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
    """Whether the person matters whatever is near: caps of the placement, persons held out, experiments."""


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
    proper = 8
    """Candidates that are no fallbacks."""
    personal = 9
    """Whether the person matters to what is near."""
    wanted = 10
    """Segments that must be known."""
    kept = 11
    """Candidates that may be shown here and now."""
    chosen = 12
    """Offers of the decision."""


CHOSEN = np.dtype(
    [
        ("entry", "i8"),
        ("index", "i8"),  # of the candidate
        ("log_score", "f8"),
        ("distance_m", "f8"),  # -1: none
        ("until", "i8"),  # second; NEVER: no end
        ("logs", "f8", (6,)),  # of nearness, timeliness, value, lever, location, reachability
        ("creative", "i4"),  # number of the creative variant, or NO_NAME
        ("flags", "u1"),
        ("redeemable", "u1"),
    ],
    align=True,
)

SCRATCH = {
    "candidate": CANDIDATE, "reached": REACHED, "heap": "i4", "chain_best": "u4", "chosen": CHOSEN, "outcome": "f8",
    "window": WINDOW, "unknown": "i4", "span": SPAN, "point": POINT, "near": "i4", "segment": "u1", "wanted": "i4",
    "asked": "i8", "counter": COUNTER, "times": "u4", "variant": "i4", "mentioned": "u1", "period": "i8",
    "person": "i8", "stack": "u1",
}  # fmt: skip
"""The types of the arrays of Scratch."""

CLOSED, OPEN, UNKNOWN = 0, 1, 2

NO_ROOM = -2
"""In place of a count: more candidates than the scratch has room for."""

UNPLACED, PENALISED, IN_DAYPART, OUTSIDE_DAYPART, UNREACHABLE, IN_AUDIENCE = 1, 2, 4, 8, 16, 32
"""What screening tells of a candidate: shown without a location, and with less score for it; inside, or outside, its
preferred dayparts; over before one can be there; for the person's segments."""


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


class Room(NamedTuple):
    """How many a scratchpad has room for."""

    candidates: int = 0
    chains: int = 0
    segments: int = 0
    audiences: int = 0
    experiments: int = 0
    periods: int = 0
    counters: int = 64
    times: int = 1024


class Scratchpad:
    """Memory for one thread's decisions, over any catalogues."""

    def __init__(self) -> None:
        self.room = Room()
        self.arrays: dict[str, NDArray[Any]] = {}
        self.fit(CANDIDATES)

    def fit(
        self, candidates: int = 0, chains: int = 0, segments: int = 0, audiences: int = 0, experiments: int = 0,
        periods: int = 0, counters: int = 0, times: int = 0,
    ) -> None:  # fmt: skip
        """Have room for as many at least, and for no less than before. What need not grow stays as it is."""
        asked = (candidates, chains, segments, audiences, experiments, periods, counters, times)
        self.room = Room(*map(max, asked, self.room))
        candidates, chains, segments, audiences, experiments, periods, counters, times = self.room
        sizes = {
            "candidate": candidates, "reached": candidates, "heap": candidates, "near": SITES_AT_A_TIME,
            "chain_best": chains, "chosen": MAX_OFFERS + 1, "outcome": len(Outcome), "window": MOST_LEVELS,
            "unknown": LOOKED_UP, "span": MOST_LEVELS * MOST_ROWS, "point": POINTS, "segment": segments,
            "wanted": segments, "asked": audiences, "counter": counters, "times": times, "variant": experiments,
            "mentioned": experiments, "period": 2 * periods, "person": len(PersonFact),
            "stack": MOST_DEPTH,
        }  # fmt: skip
        before = self.arrays
        kept = {name: array for name, array in before.items() if len(array) == sizes[name]}
        made = {name: np.zeros(size, SCRATCH[name]) for name, size in sizes.items() if name not in kept}
        self.record = Record(Scratch, kept | made)
        self.table = self.record.table
        self.arrays = self.record.arrays
        self.counter_bytes = self.arrays["counter"].view(np.uint8).data
        self.times_bytes = self.arrays["times"].view(np.uint8).data


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


def array_of(place: int, kind: np.dtype[Any]) -> Callable[[Table], NDArray[np.void]]:
    """Gives the loop that reads an array of records."""

    @njit
    def read(table: Table) -> NDArray[np.void]:
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
windows_of = array_of(Scratch.window, WINDOW)
spans_of = array_of(Scratch.span, SPAN)
candidates_of = array_of(Scratch.candidate, CANDIDATE)
reached_of = array_of(Scratch.reached, REACHED)
points_of = array_of(Scratch.point, POINT)
chosen_of = array_of(Scratch.chosen, CHOSEN)
audiences_of = array_of(Column.audience, AUDIENCE)
variants_of = array_of(Column.audience_variant, VARIANT)
campaigns_of = array_of(Column.campaign, CAMPAIGN)
category_limits_of = array_of(Column.category_limit, CATEGORY_LIMIT)
policies_of = array_of(Column.policy, POLICY)
caps_of = array_of(Column.cap, CAP)
creatives_of = array_of(Column.creative, CREATIVE)
counters_of = array_of(Scratch.counter, COUNTER)
