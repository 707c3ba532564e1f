"""Ids of decisions and propositions: how they are made, written and parsed.

A decision id is a UUID of 128 bits, written as 32 hexadecimal digits. A proposition id is the decision id, a dash and
the offer's rank in the answer, which begins with 1: "0198c5...9f-3".
"""

import random
import struct
import time
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from offers.compiled import inner

DECISION_ID_DIGITS = 32
_DASH, _ZERO = ord("-"), ord("0")
_TWO_NUMBERS = struct.Struct(">qq")
_VARIANT = 2**62
_random = random.Random()  # noqa: S311 - ids must differ, not be secret


class PropositionId(NamedTuple):
    """The parts of a proposition id."""

    decision_id: str
    rank: int
    """1 or more."""

    def __str__(self) -> str:
        """Return the id as it stands in an answer."""
        return f"{self.decision_id}-{self.rank}"


def parse_proposition_id(text: str) -> PropositionId | None:
    """Return the parts of a proposition id; None for a text that is none."""
    decision_id, _, rank = text.rpartition("-")
    if not (decision_id and rank.isdecimal() and int(rank)):
        return None
    return PropositionId(decision_id, int(rank))


@inner
def rank_digits(rank: int) -> int:
    """Return the number of digits of a rank up to 999."""
    return 1 if rank < 10 else 2 if rank < 100 else 3


@inner
def write_rank(out: np.ndarray, at: int, rank: int, digits: int) -> int:
    """Write the dash and the rank, which follow the decision id in a proposition id; return the offset behind them."""
    out[at] = _DASH
    for digit in range(digits):
        out[at + digits - digit] = _ZERO + rank % 10
        rank //= 10
    return at + 1 + digits


def decision_id_of(request_id: str, catalog_id: str) -> tuple[int, int]:
    """Return the decision id of a request id as two signed numbers of 64 bits: a UUID of version 8.

    Retries of a request have the same id, so they are counted once.
    """
    high, low = _TWO_NUMBERS.unpack(blake2b(f"{catalog_id}\0{request_id}".encode(), digest_size=16).digest())
    return high & ~0xF000 | 0x8000, low & _VARIANT - 1 | -2 * _VARIANT


def new_decision_id() -> tuple[int, int]:
    """Return a unique decision id as two signed numbers of 64 bits: a UUID of version 7, which begins with the time.

    Ids that rise with time let the decision log append at the end of its index.
    Source: https://www.rfc-editor.org/rfc/rfc9562
    """
    return time.time_ns() // 1_000_000 << 16 | 0x7000 | _random.getrandbits(12), _random.getrandbits(62) - 2 * _VARIANT


def written_decision_id(high: int, low: int) -> str:
    """Return a decision id as hexadecimal digits."""
    return _TWO_NUMBERS.pack(high, low).hex()
