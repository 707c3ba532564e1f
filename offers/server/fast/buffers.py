"""Per-thread buffers of the fast path: what is read of a request, and the bytes of its response."""

from enum import IntEnum

import numpy as np

from offers.decision.kernels.memory.records import Record
from offers.decision.kernels.memory.scratch import Scratchpad

KEY_BYTES = 512
"""Longest key of a surface. A key has a few short names; a request with a longer one is not usual."""
_RESPONSE_BYTES = 1 << 16
"""Bytes for a response at first; grown to need."""


class BufferArray(IntEnum):
    """Indices of the arrays of a thread's buffers."""

    numbers = 0
    """f8: see RequestNumber."""
    facts = 1
    """i8: see RequestFact."""
    key = 2
    """u1: the bytes that requests for one surface have in common."""
    response = 3
    """u1."""


class RequestNumber(IntEnum):
    """Indices of the floating-point numbers of a request."""

    latitude = 0
    """Degrees; NaN: there is no location."""
    longitude = 1
    accuracy = 2
    """Metres."""
    sigma = 3
    """Standard deviation of the location, either way in metres."""
    growth = 4
    """Metres per second by which it grows."""


class RequestFact(IntEnum):
    """Indices of the whole numbers of a request, and of its thread."""

    time = 0
    """Second that the request names, or -1; once its surface is found, the second that is decided for."""
    seed = 1
    seeded = 2
    """1 if there is a seed."""
    id_begin = 3
    """Where the request id stands in the request."""
    id_end = 4
    key_size = 5
    """Bytes of the key; UNUSUAL: the fast path does not read this request."""
    observed = 6
    """Second of the measurement of the location; -1: none given."""
    movement = 7
    surface = 8
    """Slot of the surface that has the key."""
    person_begin = 9
    """Where the person's id stands in the request."""
    person_end = 10
    person_field = 11
    """Field of that id in offers.v1.User; 0: nobody in particular."""
    consent = 12
    """A bit per offers.v1.ConsentPurpose that is agreed to; -1: the request says nothing of consent."""
    id_high = 13
    """Upper 64 bits of the decision id, as a signed number."""
    id_low = 14
    scratch = 15
    """Address of the thread's scratchpad table."""
    geohash_length = 16
    """Characters of the location's geohash that models and the log are given."""


UNUSUAL = -1
"""Length of the key of a request that the fast path does not read."""


class ThreadBuffers:
    """One thread's memory for answers."""

    def __init__(self, geohash_length: int = 0) -> None:
        self.pad = Scratchpad()
        self.facts = np.zeros(len(RequestFact), np.int64)
        self.facts[RequestFact.scratch], self.facts[RequestFact.geohash_length] = self.pad.table, geohash_length
        self.key = np.zeros(KEY_BYTES, np.uint8)
        self.numbers = np.zeros(len(RequestNumber))
        self.grow(_RESPONSE_BYTES)

    def grow(self, size: int) -> None:
        """Make room for a response of `size` bytes."""
        response = np.empty(size, np.uint8)
        self._record = Record(
            BufferArray, {"numbers": self.numbers, "facts": self.facts, "key": self.key, "response": response}
        )
        self.table = self._record.table
        self.response = response.data
        self.size = size
