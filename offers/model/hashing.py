"""Values as 64-bit keys, the same in Python and in compiled loops: what models know things by."""

import math
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numba import njit
from numpy.typing import NDArray

MISSING = 0
"""The key of what is not known."""

_ALL = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15
_FNV_BASIS, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
"""Of FNV-1a: a loop over bytes can do it. Source: https://www.rfc-editor.org/rfc/rfc9923"""
_SQRT_HALF = math.sqrt(0.5)


def key_of(attribute: str, value: object) -> int:
    """The 64-bit key of a value: numbers by their bucket, empty text and what is neither text nor number is MISSING."""
    if isinstance(value, str):
        return _text_key(attribute, value) if value else MISSING
    if isinstance(value, (bool, int, float)) and math.isfinite(value):
        return mixed_in_python(attribute_key(attribute) ^ (bucket(float(value)) & _ALL)) or 1
    return MISSING


def signed(key: int) -> int:
    """The same 64 bits as a signed number."""
    return key - 2**64 if key >= 2**63 else key


def bucket(value: float) -> int:
    """The bucket of a finite number: whole numbers from -31 to 31 have one each, others two for each doubling."""
    size = abs(value)
    if size <= 31 and size == math.floor(size):
        return int(value)
    fraction, exponent = math.frexp(size)
    step = 4096 + 2 * exponent + (1 if fraction >= _SQRT_HALF else 0)
    return step if value > 0 else -step


@lru_cache(1024)
def attribute_key(attribute: str) -> int:
    """The key of an attribute itself, as `text_key` and `number_key` need it."""
    return int.from_bytes(blake2b(attribute.encode(), digest_size=8).digest(), "little")


@lru_cache(1 << 16)
def _text_key(attribute: str, text: str) -> int:
    number = _FNV_BASIS
    for byte in text.encode():
        number = (number ^ byte) * _FNV_PRIME & _ALL
    return mixed_in_python(attribute_key(attribute) ^ number) or 1


def mixed_in_python(number: int) -> int:
    """Well-spread bits of an unsigned 64-bit number (one step of splitmix64)."""
    number = (number + _STEP) & _ALL
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & _ALL
    return number ^ (number >> 31)


@njit(error_model="numpy", forceinline=True)
def mixed(number: int) -> np.uint64:
    """As mixed_in_python, of a signed or unsigned 64-bit number."""
    number = np.uint64(number) + np.uint64(_STEP)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


@njit(error_model="numpy")
def text_key(attribute: int, data: bytes, begin: int, end: int) -> int:
    """As key_of, of a text that stands between two places, encoded. `attribute` is the attribute_key, as uint64."""
    if begin == end:
        return np.uint64(MISSING)
    number = np.uint64(_FNV_BASIS)
    for place in range(begin, end):
        number = (number ^ np.uint64(data[place])) * np.uint64(_FNV_PRIME)
    key = mixed(attribute ^ number)
    return key if key != np.uint64(0) else np.uint64(1)


_bucket = njit(error_model="numpy")(bucket)


@njit(error_model="numpy")
def number_key(attribute: int, value: float) -> int:
    """As key_of, of a number that is known only in a compiled loop, such as a distance.

    `attribute` is the attribute_key, as uint64.
    """
    if not math.isfinite(value):
        return np.uint64(MISSING)
    key = mixed(attribute ^ np.uint64(_bucket(value)))
    return key if key != np.uint64(0) else np.uint64(1)


@njit(cache=True, error_model="numpy")
def number_keys(attribute: int, values: NDArray[np.float64], keys: NDArray[np.uint64]) -> None:
    """Write the `number_key` of each of some values."""
    for place in range(len(values)):
        keys[place] = number_key(attribute, values[place])
