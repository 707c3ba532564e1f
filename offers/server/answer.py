"""A usual request to its response in one compiled call, over the surfaces met before.

Between two calls the processor's caches go cold, and a step of Python then costs several times what it costs in a loop.
So Python hands over a request's bytes and takes the response's; what is not usual goes the long way, step by step, in
offer_service.py, which remembers the surface here for the next request. Tests hold both ways equal.
"""

import threading
from enum import IntEnum

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from offers.decision.engine import Engine, decide
from offers.decision.records import Outcome, Record, Scratch, Table, address_of, f8, i4, i8, u1
from offers.model.query import Query
from offers.server.limits import MAX_REQUEST_BYTES
from offers.server.scan import KEY_BYTES, Fact, Scan, scan
from offers.server.wire import write_response

SURFACES_KEPT = 4096
"""Surfaces remembered; apps have a few dozen, times their languages and currencies."""
_PLACES = 2 * SURFACES_KEPT
"""Half of them stay empty, so that a search ends soon."""

LONG_WAY, ID_WANTED = -1, -2
"""In place of a length: nothing is decided here; or the request has an id of its own, at `Fact.id_begin`, in the
catalogue of the surface at `Fact.surface`: call again with the decision id that follows from it."""

SURFACE = np.dtype(
    [
        ("hash", "i8"),
        ("columns", "i8"),  # tables of the engine's columns, the terms and the hours
        ("terms", "i8"),
        ("hours", "i8"),
        ("hours_begin", "i8"),  # seconds between which the hours hold
        ("hours_end", "i8"),
        ("version", "i8"),
        ("strategy", "i4"),
        ("most", "i4"),
        ("chains", "i4"),
        ("key_size", "i2"),
        ("full", "u1"),
        ("used", "u1"),
    ]
)


class _Known(IntEnum):
    """Places of the arrays of known surfaces."""

    surface = 0
    """SURFACE per place of a hash table."""
    key = 1
    """u1: KEY_BYTES per place."""


class KnownSurfaces:
    """The surfaces that requests to a set of engines had so far, by the bytes that all requests of one share.

    Compiled loops keep Python's lock, so none runs while another thread changes what it reads.
    """

    def __init__(self) -> None:
        self._record = Record(
            _Known, {"surface": np.zeros(_PLACES, SURFACE), "key": np.empty(_PLACES * KEY_BYTES, np.uint8)}
        )
        self.table = self._record.table
        self._sources: dict[int, tuple[Engine, Record, Record]] = {}
        self._lock = threading.Lock()

    def remember(self, key: NDArray[np.uint8], query: Query, engine: Engine) -> None:
        """Keep what the requests with a key ask for, and the hours of this query's time."""
        resolved, hours = engine.resolve(query.surface), engine.hours(query)
        with self._lock:
            place, hashed = find(self.table, key)
            if place not in self._sources:
                if self.full:
                    return
                self._record.arrays["key"][place * KEY_BYTES :][: len(key)] = key
            self._record.arrays["surface"][place] = (
                hashed, engine.columns.table, resolved.terms.table, hours.record.table, hours.begin, hours.end,
                engine.version, resolved.strategy, resolved.most, engine.chains, len(key), query.surface.full, 1,
            )  # fmt: skip
            self._sources[place] = engine, resolved.terms, hours.record  # only now may the old ones go

    @property
    def full(self) -> bool:
        """Whether there is no room for more."""
        return len(self._sources) >= SURFACES_KEPT

    def catalog_id(self, place: int) -> str:
        """The catalogue of a surface."""
        return self._sources[place][0].catalog_id


@njit
def _surfaces_of(known: Table) -> NDArray[np.void]:
    return carray(address_of(known, _Known.surface), (_PLACES,), SURFACE)


@njit(cache=True)
def find(known: Table, key: np.ndarray) -> tuple[int, int]:
    """The place of a key, or that where it would stand; and its hash."""
    surfaces, keys = _surfaces_of(known), u1(known, _Known.key)
    hashed = np.uint64(0xCBF29CE484222325)  # FNV-1a
    for byte in key:
        hashed = (hashed ^ np.uint64(byte)) * np.uint64(0x100000001B3)
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
def answer(
    data: bytes, known: Table, scanned: Table, scratch: Table, output: Table, now: int, id_high: int, id_low: int,
    has_id: bool,
) -> int:  # fmt: skip
    """Write the response to an encoded GetOffersRequest into the output; its length, LONG_WAY or ID_WANTED.

    The id is used as given if the request has none of its own, or if `has_id` says that it is the request's.
    """
    facts, numbers = i8(scanned, Scan.facts), f8(scanned, Scan.numbers)
    facts[Fact.surface] = -1
    length = scan(data, scanned) if len(data) <= MAX_REQUEST_BYTES else -1
    facts[Fact.key_size] = length
    if length < 0:
        return LONG_WAY
    place, _ = find(known, u1(scanned, Scan.key)[:length])
    surface = _surfaces_of(known)[place]
    time = facts[Fact.time] if facts[Fact.time] >= 0 else now
    if not (surface.used and surface.hours_begin <= time < surface.hours_end):
        return LONG_WAY
    if surface.chains > len(i4(scratch, Scratch.chain_best)):
        return LONG_WAY
    facts[Fact.surface] = place
    if facts[Fact.id_begin] and not has_id:
        return ID_WANTED
    count = decide(
        surface.columns, surface.hours, scratch, surface.terms, surface.strategy, surface.most,
        numbers[0], numbers[1], time, facts[Fact.seed], facts[Fact.seeded],
    )  # fmt: skip
    if count < 0:
        return LONG_WAY
    outcome = f8(scratch, Scratch.outcome)
    length = write_response(
        surface.columns, scratch, output, id_high, id_low, surface.version, count, surface.strategy, time,
        surface.full, np.int64(outcome[Outcome.refresh_after]), outcome[Outcome.refresh_distance],
        np.int64(outcome[Outcome.eligible]),
    )  # fmt: skip
    return length if length >= 0 else LONG_WAY
