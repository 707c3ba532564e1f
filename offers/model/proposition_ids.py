"""Ids of decisions and propositions: how they are made, written and parsed.

A decision id is a UUID of 128 bits, written as 32 hexadecimal digits. A proposition id is the decision id, the offer's
rank in the answer, which begins with 1, and 22 characters that say what was proposed, separated by dashes:
"0198c5...9f-3-3Xq0v_2mB7~1K1aZr9y0Qd".

These 22 characters are the 64 bits of the offer's key, and 32 bits each of the placement's and the channel's. They are
combined by exclusive or with bits drawn from the decision id and the rank. An event with the id alone can therefore be
taken in before, or without, its decision being logged. A changed or made-up id names no offer: one in 2^64 keys is that
of a given offer.
"""

import random
import struct
import time
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from offers.compiled import inner
from offers.model.hashing import key_of, mixed, mixed_in_python, signed

DECISION_ID_DIGITS = 32
PROPOSED_DIGITS = 22
_DASH, _ZERO = ord("-"), ord("0")
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_~"
"""Digits of 6 bits: all may stand in a URL, and none is a dash."""
_DIGITS = np.frombuffer(_ALPHABET.encode(), np.uint8)
_VALUES = {digit: value for value, digit in enumerate(_ALPHABET)}
_WORD_DIGITS = 11
"""Digits of 64 bits."""
_ALL, _HALF = 2**64 - 1, 2**32 - 1
_TWO_NUMBERS = struct.Struct(">qq")
_VARIANT = 2**62
_random = random.Random()  # noqa: S311 - ids must differ, not be secret


class PropositionId(NamedTuple):
    """The parts of a proposition id."""

    decision_id: str
    rank: int
    """1 or more."""


class Proposed(NamedTuple):
    """The offer and the surface that a proposition id names."""

    offer_key: int
    """model.keys.key_of the offer."""
    placement: int
    """The lower 32 bits of hashing.key_of the placement; those of "" where the request named none."""
    channel: int
    """The same for the channel."""


def parse_proposition_id(text: str) -> PropositionId | None:
    """Return the decision and rank in a proposition id, whether or not it says more; None for a text that is none."""
    decision_id, _, rank = _without_proposed(text).rpartition("-")
    if not (decision_id and rank.isdecimal() and int(rank)):
        return None
    return PropositionId(decision_id, int(rank))


def proposed_in(text: str) -> Proposed | None:
    """Return what a proposition id says of the offer; None if it says nothing. A made-up id gives keys of nothing."""
    parts, last = parse_proposition_id(text), text[-PROPOSED_DIGITS:]
    if parts is None or len(_without_proposed(text)) == len(text) or len(parts.decision_id) != DECISION_ID_DIGITS:
        return None
    try:
        high, low = _TWO_NUMBERS.unpack(bytes.fromhex(parts.decision_id))
        offer, surface = (_word(last[begin : begin + _WORD_DIGITS]) for begin in (0, _WORD_DIGITS))
    except (ValueError, KeyError):
        return None
    mask = mixed_in_python(mixed_in_python(high & _ALL) ^ (low & _ALL) ^ parts.rank)
    surface ^= mixed_in_python(mask)
    return Proposed(signed((offer ^ mask) & _ALL), surface >> 32 & _HALF, surface & _HALF)


def surface_bits(attribute: str, name: str) -> int:
    """Return the 32 bits that stand for a "placement" or a "channel"."""
    return key_of(attribute, name) & _HALF


def _word(digits: str) -> int:
    """Return the number that some digits of 6 bits write. Raises KeyError for other characters."""
    number = 0
    for digit in digits:
        number = number << 6 | _VALUES[digit]
    return number


def _without_proposed(text: str) -> str:
    """Return the part of a proposition id before the characters that say what was proposed."""
    first, _, last = text.rpartition("-")
    rank = first.rpartition("-")[2]
    return first if len(last) == PROPOSED_DIGITS and rank.isdecimal() else text


@inner
def write_proposed(out: np.ndarray, at: int, ids: tuple[int, int, int], offer_key: int, surface: np.ndarray) -> int:
    """Write a dash and what was proposed, for a decision id in two numbers and a rank. Returns where it ends.

    `surface` has hashing.key_of the channel and of the placement.
    """
    high, low, rank = ids
    mask = mixed(mixed(high) ^ np.uint64(low) ^ np.uint64(rank))
    offer, half = np.uint64(offer_key) ^ mask, np.uint64(_HALF)
    rest = (surface[1] & half) << np.uint64(32) | surface[0] & half
    rest ^= mixed(mask)
    out[at] = _DASH
    for digit in range(_WORD_DIGITS):
        shift = np.uint64(6 * (_WORD_DIGITS - 1 - digit))
        out[at + 1 + digit] = _DIGITS[np.int64((offer >> shift) & np.uint64(63))]
        out[at + 1 + _WORD_DIGITS + digit] = _DIGITS[np.int64((rest >> shift) & np.uint64(63))]
    return at + 1 + PROPOSED_DIGITS


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
