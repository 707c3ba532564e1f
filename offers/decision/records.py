"""What the compiled loops read and write: records of arrays, passed as one number each.

A compiled function takes some 0.25 microseconds per array argument, and a decision touches some forty arrays. So a
record keeps a table of its arrays' addresses and hands over where that table stands; each loop says at its top which
arrays it reads. Whoever calls a loop keeps the records alive.
"""

from collections.abc import Mapping
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
    OFFER,
    PIECE,
    POLICY,
    ROW,
    SHAPE,
    STRATEGY,
    VARIANT,
    VERTEX,
)
from offers.model.query import MAX_OFFERS

CANDIDATES = 16_384
"""Candidates a thread has room for at first; grown to need. Most decisions have some hundreds."""
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
    """i4: entries within reach; screening keeps those that may be shown."""
    straight = 1
    """f8: straight-line metres, squared, from the location to each candidate; infinite: it has no distance."""
    site = 2
    """i4: the site of each candidate, or region.NOWHERE."""
    until = 3
    """i8: second at which each candidate ends."""
    chance = 4
    """f8: how likely one is inside the place of each candidate."""
    flags = 5
    """u1: what is to be told of each candidate: UNPLACED and so on."""
    log_score = 6
    """f8 per candidate."""
    heap = 7
    """i4: numbers of candidates, the best first."""
    chain_best = 8
    """i4 per chain: the nearest candidate of the offer in this decision, or -1."""
    chosen = 9
    """CHOSEN: the offers of the decision, best first."""
    outcome = 10
    """f8: see Outcome."""
    window = 11
    """WINDOW per level of the grid."""
    unknown = 12
    """i4: schedules whose state must be looked up before the decision can be made, as far as there is room."""
    span = 13
    """SPAN: MOST_ROWS per level of the grid."""
    point = 14
    """POINT: the positions that stand for an uncertain location; see location.py."""
    segment = 15
    """u1 per segment: OUT, IN or UNASKED."""
    wanted = 16
    """i4: segments that must be known, as many as Outcome.wanted says."""
    asked = 17
    """i8 per audience: four times the number of the decision that met it last, and what became of it: MET and so on."""
    counter = 18
    """COUNTER: what is counted of the person, by key and kind."""
    times = 19
    """u4: seconds of the counters."""
    variant = 20
    """i4 per experiment: the person's variant, or NO_NAME."""
    mentioned = 21
    """u1 per experiment: 1 if what is near names its variants."""
    period = 22
    """i8: first and last second (exclusive) of the calendar periods around the instant."""
    person = 23
    """i8: see PersonFact."""


COUNTER = np.dtype([("key", "<i8"), ("kind", "u1"), ("spare", "u1"), ("count", "<u2"), ("first", "<u4")])
"""As in offers.v1.UserState: instants of one kind, from `first` in times on."""
OUT, IN, UNASKED = 0, 1, 2
MET, REFUSED, ADMITTED = 0, 1, 2
"""What became of an audience in a decision."""


class PersonFact(IntEnum):
    """Places of what is known of the person, beside what is counted."""

    number = 0
    """Of the decision, rising with every one of the scratchpad's."""
    hash = 1
    """Of the person's id; 0: nobody in particular."""
    counters = 2
    """How many there are."""
    held_out = 3
    """Whether fallbacks alone are shown."""
    stopped = 4
    """Whether nothing is shown: the placement is at a cap."""
    blind = 5
    """Whether the state could not be read: contact policies with caps are taken to be at them."""


WINDOW = np.dtype([("low", "i8"), ("high", "i8"), ("spread", "f8"), ("spans", "i8"), ("seen", "i8")])
"""The first and last row of a level around the location, how far to either side, in radians of longitude, how many
spans of sites are there, or NOT_FOUND, and how many sites."""
SPAN = np.dtype([("first", "i8"), ("last", "i8")])
"""Sites that stand side by side; the last exclusive."""
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
    """Candidates within reach."""
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
    "candidate": "i4", "straight": "f8", "site": "i4", "until": "i8", "chance": "f8", "flags": "u1", "log_score": "f8",
    "heap": "i4", "chain_best": "i4", "chosen": CHOSEN, "outcome": "f8", "window": WINDOW, "unknown": "i4", "span": SPAN,
    "point": POINT, "segment": "u1", "wanted": "i4", "asked": "i8", "counter": COUNTER, "times": "u4", "variant": "i4",
    "mentioned": "u1", "period": "i8", "person": "i8",
}  # fmt: skip
"""The types of the arrays of Scratch."""

CLOSED, OPEN, UNKNOWN = 0, 1, 2

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
            "candidate": candidates, "straight": candidates, "site": candidates, "until": candidates,
            "chance": candidates, "flags": candidates, "log_score": candidates, "heap": candidates,
            "chain_best": chains, "chosen": MAX_OFFERS + 1, "outcome": len(Outcome), "window": MOST_LEVELS,
            "unknown": LOOKED_UP, "span": MOST_LEVELS * MOST_ROWS, "point": POINTS, "segment": segments,
            "wanted": segments, "asked": audiences, "counter": counters, "times": times, "variant": experiments,
            "mentioned": experiments, "period": 2 * periods, "person": len(PersonFact),
        }  # fmt: skip
        before = self.arrays
        kept = {name: array for name, array in before.items() if len(array) == sizes[name]}
        made = {
            name: np.full(size, -1 if name == "chain_best" else 0, SCRATCH[name])
            for name, size in sizes.items()
            if name not in kept
        }
        self.record = Record(Scratch, kept | made)
        self.table = self.record.table
        self.arrays = self.record.arrays


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


_CHOSEN, _STRATEGY, _CENTRE, _ENTRY, _OFFER = CHOSEN, STRATEGY, CENTRE, ENTRY, OFFER
_EXTRA, _PIECE, _SHAPE, _VERTEX = EXTRA, PIECE, SHAPE, VERTEX
_ROW, _CELL, _WINDOW, _SPAN, _POINT = ROW, CELL, WINDOW, SPAN, POINT
_AUDIENCE, _CAMPAIGN, _CATEGORY_LIMIT, _POLICY, _VARIANT = AUDIENCE, CAMPAIGN, CATEGORY_LIMIT, POLICY, VARIANT
_CAP, _CREATIVE, _COUNTER = CAP, CREATIVE, COUNTER


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


@njit
def chosen_of(table: Table) -> NDArray[np.void]:
    """The chosen offers of a scratch record."""
    place = Scratch.chosen
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _CHOSEN)


@njit
def strategies_of(table: Table) -> NDArray[np.void]:
    """The ranking strategies of a snapshot's columns."""
    place = Column.strategies
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _STRATEGY)


@njit
def centres_of(table: Table) -> NDArray[np.void]:
    """The sites' centres of a snapshot's columns."""
    place = Column.centre
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _CENTRE)


@njit
def entries_of(table: Table) -> NDArray[np.void]:
    """The entries of a snapshot's columns."""
    place = Column.entry
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _ENTRY)


@njit
def offers_of(table: Table) -> NDArray[np.void]:
    """The offers of a snapshot's columns."""
    place = Column.offer
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _OFFER)


@njit
def extras_of(table: Table) -> NDArray[np.void]:
    """The distinct extras of a snapshot's columns."""
    place = Column.extra
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _EXTRA)


@njit
def pieces_of(table: Table) -> NDArray[np.void]:
    """What is cut out or joined, of a snapshot's columns."""
    place = Column.piece
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _PIECE)


@njit
def shapes_of(table: Table) -> NDArray[np.void]:
    """The shapes of a snapshot's columns."""
    place = Column.shape
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _SHAPE)


@njit
def vertices_of(table: Table) -> NDArray[np.void]:
    """The vertices of a snapshot's shapes."""
    place = Column.shape_vertex
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _VERTEX)


@njit
def rows_of(table: Table) -> NDArray[np.void]:
    """The grid's rows of a snapshot's columns."""
    place = Column.row
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _ROW)


@njit
def cells_of(table: Table) -> NDArray[np.void]:
    """The grid's cells of a snapshot's columns."""
    place = Column.cell
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _CELL)


@njit
def windows_of(table: Table) -> NDArray[np.void]:
    """The windows of a scratch record."""
    place = Scratch.window
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _WINDOW)


@njit
def spans_of(table: Table) -> NDArray[np.void]:
    """The spans of sites of a scratch record."""
    place = Scratch.span
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _SPAN)


@njit
def points_of(table: Table) -> NDArray[np.void]:
    """The points around an uncertain location of a scratch record."""
    place = Scratch.point
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _POINT)


@njit
def audiences_of(table: Table) -> NDArray[np.void]:
    """The distinct audiences of a snapshot's columns."""
    place = Column.audience
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _AUDIENCE)


@njit
def variants_of(table: Table) -> NDArray[np.void]:
    """The variants that audiences name of a snapshot's columns."""
    place = Column.audience_variant
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _VARIANT)


@njit
def campaigns_of(table: Table) -> NDArray[np.void]:
    """The campaigns of a snapshot's columns."""
    place = Column.campaign
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _CAMPAIGN)


@njit
def category_limits_of(table: Table) -> NDArray[np.void]:
    """The limits on categories of a snapshot's columns."""
    place = Column.category_limit
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _CATEGORY_LIMIT)


@njit
def policies_of(table: Table) -> NDArray[np.void]:
    """The contact policies of a snapshot's columns."""
    place = Column.policy
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _POLICY)


@njit
def caps_of(table: Table) -> NDArray[np.void]:
    """The caps of a snapshot's columns."""
    place = Column.cap
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _CAP)


@njit
def creatives_of(table: Table) -> NDArray[np.void]:
    """The creative variants of a snapshot's columns."""
    place = Column.creative
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _CREATIVE)


@njit
def counters_of(table: Table) -> NDArray[np.void]:
    """What is counted of the person, in a scratch record."""
    place = Scratch.counter
    return carray(address_of(table, place), (_at(table, 2 * place + 1),), _COUNTER)
