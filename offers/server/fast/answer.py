"""Answer: a usual request to its response in one compiled call; in two, if the person matters.

Between two calls the processor's caches go cold, and a step of Python then costs several times what it costs in a loop.
Therefore Python hands over a request's bytes and takes the response's. Only if the person matters to what was found
does Python read the person's record, and call `finish`. A request whose surface is not known yet, or that is not usual,
takes the long way, step by step, in offer_service.py, which remembers the surface here for the next request.

Both ways run the sequence of kernels/decide.py. Tests hold their answers equal.
"""

from enum import IntEnum

import numpy as np
from numba import njit, typeof, types
from numpy.typing import NDArray

from offers.compiled import inner
from offers.decision.engine import Engine
from offers.decision.kernels.decide import begin, go_on
from offers.decision.kernels.memory.encoded import borrowed
from offers.decision.kernels.memory.frame import Frame, Location, PersonInput
from offers.decision.kernels.memory.records import BudgetArray, Record, Table, array_of, f8, i8, u1
from offers.decision.kernels.memory.scratch import Capacity, PersonFact, ScratchArray, has_room
from offers.decision.kernels.need import Need
from offers.decision.kernels.person.expose import exposures_size, write_exposures
from offers.decision.kernels.places.location import spread
from offers.model.hashing import fnv1a
from offers.model.query import Query, Surface
from offers.server.fast.buffers import KEY_BYTES, UNUSUAL, BufferArray, RequestFact, RequestNumber
from offers.server.fast.scan import scan
from offers.server.fast.wire import response_size, write_response
from offers.server.limits import MAX_REQUEST_BYTES
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL

KEPT = 4096
"""Surfaces remembered; apps have a few dozen, times their languages and currencies."""
CLOCKS_KEPT = 64
"""Records of hours remembered: one per catalogue and minute, and per person's time zone where hours depend on it."""
BYTES_KEPT = 64 << 20
"""Memory for offers shown everywhere, counted per surface even where surfaces share it."""
_SLOTS = 2 * KEPT
"""Slots of the hash tables: the load factor is at most 0.5."""

CONTEXTUAL = int(CONSENT_PURPOSE_CONTEXTUAL)
_NOTHING, _PERSON, _STANDING = int(Need.NOTHING), int(Need.PERSON), int(Need.STANDING)
_REQUEST_ID, _LONG_WAY = int(Need.REQUEST_ID), int(Need.LONG_WAY)

SURFACE = np.dtype(
    [
        ("hash", "i8"),
        ("columns", "i8"),  # tables of a Frame
        ("meeting", "i8"),
        ("budgets", "i8"),
        ("standing", "i8"),
        ("terms", "i8"),
        ("begin", "i8"),  # seconds between which `standing` holds
        ("end", "i8"),
        ("clock", "i4"),
        ("strategy", "i4"),
        ("needed", "i4", (len(Capacity._fields),)),  # a Capacity
        ("key_size", "i4"),
        ("used", "u1"),
    ],
    align=True,
)
CLOCK = np.dtype([("hours", "i8"), ("begin", "i8"), ("end", "i8")])
"""A table of hours, and the seconds between which they hold."""
OTHER = np.dtype(
    [("standing", "i8"), ("begin", "i8"), ("end", "i8"), ("surface", "i4"), ("strategy", "i4"), ("used", "u1")],
    align=True,
)
"""Offers shown everywhere on a surface, in the order of another strategy than its own, as in SURFACE."""


class SurfaceArray(IntEnum):
    """Indices of the arrays of known surfaces."""

    surface = 0
    """SURFACE per slot of a hash table."""
    key = 1
    """u1: KEY_BYTES per slot."""
    clock = 2
    """CLOCK."""
    other = 3
    """OTHER per slot of a hash table."""


class KnownSurfaces:
    """The surfaces that requests to a set of engines had so far, by the bytes that all requests of one share.

    Compiled loops keep Python's lock: none runs while another thread changes what it reads. Each change is one
    assignment, and the records it refers to are kept alive from before it until after it. Only one thread may remember
    at a time.
    """

    def __init__(self) -> None:
        self._record = Record(
            SurfaceArray,
            {
                "surface": np.zeros(_SLOTS, SURFACE),
                "key": np.empty(_SLOTS * KEY_BYTES, np.uint8),
                "clock": np.zeros(CLOCKS_KEPT, CLOCK),
                "other": np.zeros(_SLOTS, OTHER),
            },
        )
        self.table = self._record.table
        self._surfaces: dict[int, tuple[Engine, Record, Record, Surface]] = {}
        self._others: dict[int, Record] = {}
        self._bytes = 0
        self._clocks: dict[tuple[Engine, str], tuple[int, Record]] = {}

    def remember(self, key: NDArray[np.uint8], query: Query, engine: Engine) -> bool:
        """Keep the surface of requests with a key, and the hours of this query's time. Returns False if full."""
        resolved, hours, standing = engine.resolve(query.surface), engine.hours(query), engine.standing(query)
        slot, hashed = locate(self.table, key)
        clock, earlier = self._clocks.get((engine, hours.time_zone), (len(self._clocks), None))
        if clock == CLOCKS_KEPT or (slot not in self._surfaces and len(self._surfaces) == KEPT):
            return False
        if self._bytes + standing.record.size > BYTES_KEPT and self._surfaces:
            return False
        self._clocks[engine, hours.time_zone] = clock, hours.record
        self._record.arrays["clock"][clock] = hours.record.table, hours.begin, hours.end
        del earlier  # kept alive until no row points to it
        before = self._surfaces.get(slot)
        self._bytes += standing.record.size - (before[2].size if before else 0)
        self._surfaces[slot] = engine, resolved.terms, standing.record, query.surface
        if before is None:
            self._record.arrays["key"][slot * KEY_BYTES :][: len(key)] = key
        self._record.arrays["surface"][slot] = (
            hashed, engine.columns.table, engine.meeting.record.table, engine.budgets.record.table,
            standing.record.table, resolved.terms.table, standing.begin, standing.end, clock, resolved.strategy,
            tuple(engine.room), len(key), 1,
        )  # fmt: skip
        del before  # kept alive until no row points to it
        return True

    def engine(self, slot: int) -> Engine:
        """Return the engine that answers for a surface."""
        return self._surfaces[slot][0]

    def stand(self, slot: int, strategy: int, second: int) -> bool:
        """Keep the offers shown everywhere on a surface in the order of another strategy. Returns False if full."""
        engine, _, _, surface = self._surfaces[slot]
        standing = engine.standing(Query(surface, second), strategy)
        other = locate_other(self.table, slot, strategy)
        before = self._others.get(other)
        size = standing.record.size - (before.size if before else 0)
        if self._bytes + size > BYTES_KEPT or (before is None and len(self._others) == KEPT):
            return False
        self._bytes += size
        self._others[other] = standing.record
        self._record.arrays["other"][other] = (
            standing.record.table, standing.begin, standing.end, slot, strategy, 1,
        )  # fmt: skip
        del before  # kept alive until no row points to it
        return True


_surfaces_of = array_of(SurfaceArray.surface, SURFACE)
_clocks_of = array_of(SurfaceArray.clock, CLOCK)
_others_of = array_of(SurfaceArray.other, OTHER)


@njit(cache=True)
def locate(known: Table, key: np.ndarray) -> tuple[int, int]:
    """Return the slot of a key, or the free one where it would stand; and its hash."""
    surfaces, keys = _surfaces_of(known), u1(known, SurfaceArray.key)
    hashed = fnv1a(key, 0, len(key), np.uint64(0))
    slot = np.int64(hashed % np.uint64(_SLOTS))
    while surfaces[slot].used:
        if surfaces[slot].hash == np.int64(hashed) and surfaces[slot].key_size == len(key):
            same = True
            for at in range(len(key)):
                same &= keys[slot * KEY_BYTES + at] == key[at]
            if same:
                break
        slot = (slot + 1) % _SLOTS
    return slot, np.int64(hashed)


@njit(cache=True)
def locate_other(known: Table, surface: int, strategy: int) -> int:
    """Return the slot of the offers shown everywhere on a surface by a strategy, or the free one for them."""
    others = _others_of(known)
    slot = (surface * 31 + strategy) % _SLOTS
    while others[slot].used and (others[slot].surface != surface or others[slot].strategy != strategy):
        slot = (slot + 1) % _SLOTS
    return slot


@njit(cache=True)
def answer(
    data: bytes, known: Table, buffers: Table, now: int, id_high: int, id_low: int, has_id: int
) -> tuple[int, int]:  # fmt: skip
    """Answer an encoded GetOffersRequest, unless the person matters. Returns a Need, and the response's length.

    The needs are NOTHING, PERSON (call `finish`), REQUEST_ID (call again with `has_id` 1 and the id that follows from
    the request's, which stands at RequestFact.id_begin) and LONG_WAY. Without a request id, the given id is used.
    """
    data = borrowed(data)
    facts, numbers = i8(buffers, BufferArray.facts), f8(buffers, BufferArray.numbers)
    key_size = scan(data, buffers) if len(data) <= MAX_REQUEST_BYTES else UNUSUAL
    facts[RequestFact.key_size] = key_size
    if key_size == UNUSUAL:
        return _LONG_WAY, 0
    slot, _ = locate(known, u1(buffers, BufferArray.key)[:key_size])
    surface = _surfaces_of(known)[slot]
    if not surface.used or not has_room(facts[RequestFact.scratch], surface.needed):
        return _LONG_WAY, 0
    time = facts[RequestFact.time] if facts[RequestFact.time] >= 0 else now
    facts[RequestFact.time], facts[RequestFact.surface] = time, slot
    if not _is_current(known, surface, time):
        return _LONG_WAY, 0
    if facts[RequestFact.consent] >= 0 and not facts[RequestFact.consent] >> CONTEXTUAL & 1:
        return _LONG_WAY, 0
    if facts[RequestFact.id_end] > facts[RequestFact.id_begin] and has_id == 0:
        return _REQUEST_ID, 0
    facts[RequestFact.id_high], facts[RequestFact.id_low] = id_high, id_low
    numbers[RequestNumber.sigma], numbers[RequestNumber.growth] = spread(
        numbers[RequestNumber.accuracy], facts[RequestFact.observed], facts[RequestFact.movement], time
    )
    frame = _frame(known, surface, facts, surface.standing, np.int64(surface.strategy))
    need = begin(frame, _location(numbers))
    if need != _NOTHING:
        return (need if need == _PERSON else _LONG_WAY), 0
    if response_size(frame) > len(u1(buffers, BufferArray.response)):
        return _LONG_WAY, 0
    return _NOTHING, write_response(frame, buffers, id_high, id_low)


@njit(cache=True)
def finish(
    data: bytes, known: Table, buffers: Table, record: bytes, draw: int, flags: int, is_met: int
) -> tuple[int, int]:  # fmt: skip
    """Answer for a person, after `answer` said PERSON. Returns a Need, and the response's length.

    `record` is the person's UserState; `draw` and `flags` are those of PersonInput; `is_met` is that of `go_on`. The
    needs are NOTHING, those of `go_on`, and LONG_WAY: what is left of the budgets may be known for other times only, or
    another thread may have remembered the surface for another time meanwhile.
    """
    data, record = borrowed(data), borrowed(record)
    facts, numbers = i8(buffers, BufferArray.facts), f8(buffers, BufferArray.numbers)
    slot, time, scratch = facts[RequestFact.surface], facts[RequestFact.time], facts[RequestFact.scratch]
    surface = _surfaces_of(known)[slot]
    spent = i8(surface.budgets, BudgetArray.holds)
    if not (_is_current(known, surface, time) and spent[0] <= time < spent[1]):
        return _LONG_WAY, 0
    location, id_high, id_low = _location(numbers), facts[RequestFact.id_high], facts[RequestFact.id_low]
    person = PersonInput(draw, facts[RequestFact.consent], flags, facts[RequestFact.geohash_length], id_low)
    frame = _frame(known, surface, facts, surface.standing, np.int64(surface.strategy))
    need = go_on(frame, location, record, data, person, is_met)
    if need == _STANDING:
        strategy = i8(scratch, ScratchArray.person)[PersonFact.strategy]
        other = _others_of(known)[locate_other(known, slot, strategy)]
        if not (other.used and other.begin <= time < other.end):
            return _STANDING, 0
        frame = _frame(known, surface, facts, other.standing, strategy)
        need = go_on(frame, location, record, data, person, 1)
    if need != _NOTHING:
        return need, 0
    out = u1(buffers, BufferArray.response)
    if response_size(frame) + exposures_size(frame.meeting, scratch) > len(out):
        return _LONG_WAY, 0
    length = write_response(frame, buffers, id_high, id_low)
    return _NOTHING, write_exposures(frame.meeting, scratch, out, length)


def compile_for_persons() -> None:
    """Compile `finish` before the first decision that a person matters to."""
    number, text = types.int64, typeof(b"")
    finish.compile((text, number, number, text, number, number, number))


@inner
def _is_current(known: Table, surface: np.void, time: int) -> bool:
    """Return whether the hours and the offers shown everywhere of a surface hold at a time."""
    clock = _clocks_of(known)[surface.clock]
    return clock.begin <= time < clock.end and surface.begin <= time < surface.end


@inner
def _frame(known: Table, surface: np.void, facts: np.ndarray, standing: int, strategy: int) -> Frame:
    """Return the frame of a decision for a surface, with the offers shown everywhere in a strategy's order."""
    return Frame(
        surface.columns, surface.meeting, _clocks_of(known)[surface.clock].hours, surface.budgets, standing,
        facts[RequestFact.scratch], surface.terms, strategy, facts[RequestFact.time], facts[RequestFact.seed],
        facts[RequestFact.seeded],
    )  # fmt: skip


@inner
def _location(numbers: np.ndarray) -> Location:
    """Return the location of a request that was scanned."""
    return Location(
        numbers[RequestNumber.latitude],
        numbers[RequestNumber.longitude],
        numbers[RequestNumber.sigma],
        numbers[RequestNumber.growth],
    )
