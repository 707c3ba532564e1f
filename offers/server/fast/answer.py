"""A usual request to its response in one compiled call, over the surfaces met before; or in two, around the person.

Between two calls the processor's caches go cold, and a step of Python then costs several times what it costs in a loop.
So Python hands over a request's bytes and takes the response's; only where the person matters to what was found does it
bring in what is known of the person, and calls again. What is not usual goes the long way, step by step, in
offer_service.py, which remembers the surface here for the next request. Tests hold both ways equal.
"""

from enum import IntEnum

import numpy as np
from numba import njit, typeof, types
from numpy.typing import NDArray

from offers.catalogue.snapshot import NO_NAME
from offers.compiled import apart, inner
from offers.decision.engine import Engine
from offers.decision.kernels.decide import choose, find
from offers.decision.kernels.log import write_record
from offers.decision.kernels.memory.encoded import borrowed
from offers.decision.kernels.memory.records import Record, Table, array_of, f8, i4, i8, u1
from offers.decision.kernels.memory.scratch import Outcome, PersonFact, Scratch, marks_of, values_of
from offers.decision.kernels.models.sense import sense
from offers.decision.kernels.person.meet import exposures_size, meet, write_exposures
from offers.decision.kernels.places.location import spread
from offers.model.hashing import fnv1a
from offers.model.query import Query, Surface
from offers.server.fast.scan import KEY_BYTES, Fact, Scan, scan
from offers.server.fast.wire import Output, write_response
from offers.server.limits import MAX_REQUEST_BYTES
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL

KEPT = 4096
"""Surfaces remembered; apps have a few dozen, times their languages and currencies."""
CLOCKS_KEPT = 64
"""Hours remembered: those of one minute per catalogue, and per person's time zone where hours depend on it."""
BYTES_KEPT = 64 << 20
"""Memory for what is shown everywhere, as far as surfaces do not share it."""
_PLACES = 2 * KEPT
"""Half of them stay empty, so that a search ends soon."""

CONTEXTUAL = int(CONSENT_PURPOSE_CONTEXTUAL)
LONG_WAY, ID_WANTED, PERSON_WANTED, STANDING_WANTED, SEGMENTS_WANTED, HELP_WANTED = -1, -2, -3, -4, -5, -6
"""In place of a length: nothing is decided here; or the request has an id of its own, at `Fact.id_begin`, in the
catalogue of the surface at `Fact.surface`: call again with the decision id that follows from it; or the person matters:
call `finish`; or the person's strategy puts what is shown everywhere in another order than is known here; or segments
are left to CEL, as many as PersonFact.left says: call again then; or, with what lies under it, what `meet` wants."""

SURFACE = np.dtype(
    [
        ("hash", "i8"),
        ("columns", "i8"),  # tables of the engine's columns and of the terms
        ("terms", "i8"),
        ("people", "i8"),  # what persons are met by
        ("version", "i8"),
        ("standing", "i8"),  # the table of what is shown everywhere, and the seconds between which it holds
        ("begin", "i8"),
        ("end", "i8"),
        ("clock", "i4"),
        ("strategy", "i4"),
        ("budgets", "i8"),  # the table of what is left of budgets
        ("chains", "i4"),  # what a scratchpad must have room for
        ("segments", "i4"),
        ("audiences", "i4"),
        ("experiments", "i4"),
        ("periods", "i4"),
        ("values", "i4"),
        ("names", "i4"),
        ("key_size", "i4"),
        ("full", "u1"),
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
"""What is shown everywhere on a surface, in the order of another strategy than its own, as in SURFACE."""


class _Known(IntEnum):
    """Places of the arrays of known surfaces."""

    surface = 0
    """SURFACE per place of a hash table."""
    key = 1
    """u1: KEY_BYTES per place."""
    clock = 2
    """CLOCK."""
    other = 3
    """OTHER per place of a hash table."""


class KnownSurfaces:
    """The surfaces that requests to a set of engines had so far, by the bytes that all requests of one share.

    Compiled loops keep Python's lock, so none runs while another thread changes what it reads: each change is one
    assignment, and what it refers to is kept from before it until after it. Only one thread may remember at a time.
    """

    def __init__(self) -> None:
        self._record = Record(
            _Known,
            {
                "surface": np.zeros(_PLACES, SURFACE),
                "key": np.empty(_PLACES * KEY_BYTES, np.uint8),
                "clock": np.zeros(CLOCKS_KEPT, CLOCK),
                "other": np.zeros(_PLACES, OTHER),
            },
        )
        self.table = self._record.table
        self._surfaces: dict[int, tuple[Engine, Record, Record, Surface]] = {}
        self._others: dict[int, Record] = {}
        self._bytes = 0
        self._clocks: dict[tuple[Engine, str], tuple[int, Record]] = {}

    def remember(self, key: NDArray[np.uint8], query: Query, engine: Engine) -> bool:
        """Keep what the requests with a key ask for, and the hours of this query's time. False: there is no room."""
        resolved, hours, standing = engine.resolve(query.surface), engine.hours(query), engine.standing(query)
        place, hashed = locate(self.table, key)
        clock, earlier = self._clocks.get((engine, hours.time_zone), (len(self._clocks), None))
        if clock == CLOCKS_KEPT or (place not in self._surfaces and len(self._surfaces) == KEPT):
            return False
        if self._bytes + standing.record.size > BYTES_KEPT and self._surfaces:
            return False
        self._clocks[engine, hours.time_zone] = clock, hours.record
        self._record.arrays["clock"][clock] = hours.record.table, hours.begin, hours.end
        del earlier  # only now may it go
        before = self._surfaces.get(place)
        self._bytes += standing.record.size - (before[2].size if before else 0)
        self._surfaces[place] = engine, resolved.terms, standing.record, query.surface
        if before is None:
            self._record.arrays["key"][place * KEY_BYTES :][: len(key)] = key
        self._record.arrays["surface"][place] = (
            hashed, engine.columns.table, resolved.terms.table, engine.meeting.record.table, engine.version,
            standing.record.table, standing.begin, standing.end, clock, resolved.strategy, engine.budgets.record.table,
            *engine.room[1:8], len(key),
            query.surface.full, 1,
        )  # fmt: skip
        del before  # only now may it go
        return True

    def engine(self, place: int) -> Engine:
        """What answers for a surface."""
        return self._surfaces[place][0]

    def stand(self, place: int, strategy: int, second: int) -> bool:
        """Keep what is shown everywhere on a surface in the order of another strategy. False: there is no room."""
        engine, _, _, surface = self._surfaces[place]
        standing = engine.standing(Query(surface, second), strategy)
        other = locate_other(self.table, place, strategy)
        before = self._others.get(other)
        size = standing.record.size - (before.size if before else 0)
        if self._bytes + size > BYTES_KEPT or (before is None and len(self._others) == KEPT):
            return False
        self._bytes += size
        self._others[other] = standing.record
        self._record.arrays["other"][other] = (
            standing.record.table, standing.begin, standing.end, place, strategy, 1,
        )  # fmt: skip
        del before  # only now may it go
        return True


_surfaces_of = array_of(_Known.surface, SURFACE)
_clocks_of = array_of(_Known.clock, CLOCK)
_others_of = array_of(_Known.other, OTHER)


@njit(cache=True)
def locate(known: Table, key: np.ndarray) -> tuple[int, int]:
    """The place of a key, or that where it would stand; and its hash."""
    surfaces, keys = _surfaces_of(known), u1(known, _Known.key)
    hashed = fnv1a(key, 0, len(key), np.uint64(0))
    place = np.int64(hashed % np.uint64(_PLACES))
    while surfaces[place].used:
        if surfaces[place].hash == np.int64(hashed) and surfaces[place].key_size == len(key):
            same = True
            for at in range(len(key)):
                same &= keys[place * KEY_BYTES + at] == key[at]
            if same:
                break
        place = (place + 1) % _PLACES
    return place, np.int64(hashed)


@njit(cache=True)
def locate_other(known: Table, surface: int, strategy: int) -> int:
    """The place of what is shown everywhere on a surface by a strategy, or that where it would stand."""
    others = _others_of(known)
    place = (surface * 31 + strategy) % _PLACES
    while others[place].used and (others[place].surface != surface or others[place].strategy != strategy):
        place = (place + 1) % _PLACES
    return place


@njit(cache=True)
def answer(
    data: bytes, known: Table, scanned: Table, scratch: Table, output: Table, now: int, id_high: int, id_low: int,
    has_id: int,
) -> int:  # fmt: skip
    """Write the response to an encoded GetOffersRequest into the output; its length, LONG_WAY or ID_WANTED.

    The id is used as given if the request has none of its own, or if `has_id` says that it is the request's.
    """
    data = borrowed(data)
    facts, numbers = i8(scanned, Scan.facts), f8(scanned, Scan.numbers)
    key_size = scan(data, scanned) if len(data) <= MAX_REQUEST_BYTES else -1
    facts[Fact.key_size] = key_size
    if key_size < 0:
        return LONG_WAY
    place, _ = locate(known, u1(scanned, Scan.key)[:key_size])
    surface = _surfaces_of(known)[place]
    if not surface.used or not _has_room(surface, scratch):
        return LONG_WAY
    clock = _clocks_of(known)[surface.clock]
    time = facts[Fact.time] if facts[Fact.time] >= 0 else now
    if not (clock.begin <= time < clock.end and surface.begin <= time < surface.end):
        return LONG_WAY
    if facts[Fact.consent] >= 0 and not facts[Fact.consent] >> CONTEXTUAL & 1:
        return LONG_WAY
    facts[Fact.surface] = place
    if facts[Fact.id_end] > facts[Fact.id_begin] and has_id == 0:
        return ID_WANTED
    sigma, growth = spread(numbers[2], facts[Fact.observed], facts[Fact.movement], time)
    found = find(
        surface.columns, clock.hours, surface.standing, scratch, surface.terms, numbers[0], numbers[1], sigma, growth,
        time,
    )  # fmt: skip
    if found < 0:
        return LONG_WAY
    if f8(scratch, Scratch.outcome)[Outcome.personal] != 0:
        return PERSON_WANTED
    return _finish(known, scanned, scratch, output, time, id_high, id_low, surface.standing, surface.strategy)


@njit(cache=True)
def finish(
    data: bytes, known: Table, scanned: Table, scratch: Table, output: Table, now: int, id_high: int, id_low: int,
    record: bytes, draw: int, flags: int, characters: int, is_met: int,
) -> int:  # fmt: skip
    """Write the response where PERSON_WANTED was said, and the decision's record; its length, or what is wanted.

    The record is the person's UserState; `draw` and `flags` are as `meet` takes them, `characters` as `write_record`
    does. Meanwhile another thread may have
    remembered the surface for another time: then the long way has to answer.
    """
    data, record = borrowed(data), borrowed(record)
    facts, person = i8(scanned, Scan.facts), i8(scratch, Scratch.person)
    time = facts[Fact.time] if facts[Fact.time] >= 0 else now
    surface = _surfaces_of(known)[facts[Fact.surface]]
    clock = _clocks_of(known)[surface.clock]
    if not (clock.begin <= time < clock.end and surface.begin <= time < surface.end):
        return LONG_WAY
    if is_met == 0:
        left = meet(
            surface.columns, surface.people, surface.terms, scratch, record, data, draw, facts[Fact.consent], flags,
            time,
        )  # fmt: skip
        if left:
            return SEGMENTS_WANTED if left > 0 else HELP_WANTED + left
    strategy, standing = np.int64(surface.strategy), surface.standing
    drawn = person[PersonFact.strategy]
    if drawn != NO_NAME and drawn != strategy:
        other = _others_of(known)[locate_other(known, facts[Fact.surface], drawn)]
        if not (other.used and other.begin <= time < other.end):
            return STANDING_WANTED
        strategy, standing = drawn, other.standing
    numbers = f8(scanned, Scan.numbers)
    sense(
        surface.people, surface.terms, scratch, record, data, numbers[0], numbers[1], characters, facts[Fact.seed],
        facts[Fact.seeded], id_low, time,
    )  # fmt: skip
    length = _finish(known, scanned, scratch, output, time, id_high, id_low, standing, strategy)
    if length < 0 or length + exposures_size(surface.people, scratch) > len(u1(output, Output.bytes)):
        return LONG_WAY
    count = np.int64(f8(scratch, Scratch.outcome)[Outcome.chosen])
    person[PersonFact.logged] = write_record(
        surface.columns, surface.terms, surface.people, scratch, record, data, numbers[0], numbers[1], characters, time,
        count,
    )  # fmt: skip
    return write_exposures(surface.people, scratch, u1(output, Output.bytes), length)


def compile_for_persons() -> None:
    """Have what only decisions about persons call compiled before the first of them."""
    number, text = types.int64, typeof(b"")
    finish.compile((text, *(number,) * 7, text, *(number,) * 4))


@apart
def _finish(
    known: Table, scanned: Table, scratch: Table, output: Table, time: int, id_high: int, id_low: int, standing: Table,
    strategy: int,
) -> int:  # fmt: skip
    facts, outcome = i8(scanned, Scan.facts), f8(scratch, Scratch.outcome)
    surface = _surfaces_of(known)[facts[Fact.surface]]
    count = choose(
        surface.columns, surface.people, _clocks_of(known)[surface.clock].hours, surface.budgets, standing, scratch,
        surface.terms, strategy, time, facts[Fact.seed], facts[Fact.seeded],
    )  # fmt: skip
    if count < 0:
        return LONG_WAY
    length = write_response(
        surface.columns, scratch, output, id_high, id_low, surface.version, count, strategy, time,
        surface.full, np.int64(outcome[Outcome.refresh_after]), outcome[Outcome.refresh_distance],
        np.int64(outcome[Outcome.eligible]),
    )  # fmt: skip
    return length if length >= 0 else LONG_WAY


@inner
def _has_room(surface: np.void, scratch: Table) -> bool:
    """Whether a scratchpad has what decisions of a surface need."""
    return (
        surface.chains <= len(i4(scratch, Scratch.chain_best))
        and surface.segments <= len(u1(scratch, Scratch.segment))
        and surface.audiences <= len(i8(scratch, Scratch.asked))
        and surface.experiments <= len(i4(scratch, Scratch.variant))
        and 2 * surface.periods <= len(i8(scratch, Scratch.period))
        and surface.values <= len(values_of(scratch))
        and surface.names <= len(marks_of(scratch))
    )
