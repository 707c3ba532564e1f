"""Ids of decisions: 128 bits, as two signed numbers of 64 bits."""

import random
import struct
import time
from hashlib import blake2b

_TWO_NUMBERS = struct.Struct(">qq")
_VARIANT = 2**62
"""Of the lower half of a UUID, the two highest bits are 1 and 0, and those below are free."""
_random = random.Random()  # noqa: S311 - ids must differ, not be secret


def decision_id_of(request_id: str, catalog_id: str) -> tuple[int, int]:
    """Return the id of the decision for a request_id, the same for every retry: a UUID of version 8."""
    high, low = _TWO_NUMBERS.unpack(blake2b(f"{catalog_id}\0{request_id}".encode(), digest_size=16).digest())
    return high & ~0xF000 | 0x8000, low & _VARIANT - 1 | -2 * _VARIANT


def new_decision_id() -> tuple[int, int]:
    """Return an id that no other decision has: a UUID of version 7, which begins with the time.

    The log finds decisions by an index on the id. Ids that begin with the time keep its inserts at the end.
    Source: https://www.rfc-editor.org/rfc/rfc9562
    """
    return time.time_ns() // 1_000_000 << 16 | 0x7000 | _random.getrandbits(12), _random.getrandbits(62) - 2 * _VARIANT


def hex_id(high: int, low: int) -> str:
    """Return an id as callers see it: 32 hexadecimal digits."""
    return _TWO_NUMBERS.pack(high, low).hex()
