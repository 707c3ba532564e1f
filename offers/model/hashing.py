"""64-bit hashes and keys, equal in Python and in compiled loops.

Every hash of the package that both sides compute stands here twice, side by side: `name_in_python` for single values,
and `name` for compiled loops. Keys are how models refer to attribute values.
"""

import math
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numba import njit
from numpy.typing import NDArray

MISSING = 0
"""The key of an unknown value."""
SPLITMIX_STEP = 0x9E3779B97F4A7C15
"""The increment of splitmix64. Source: https://prng.di.unimi.it/splitmix64.c"""

_ALL = 2**64 - 1
_FNV_BASIS, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
"""Parameters of 64-bit FNV-1a, chosen because it is a simple loop over bytes. Source: https://www.rfc-editor.org/rfc/rfc9923"""
_SQRT_HALF = math.sqrt(0.5)


def finished_in_python(number: int) -> int:
    """Return the output function of splitmix64 applied to an unsigned 64-bit state."""
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & _ALL
    return number ^ (number >> 31)


@njit(error_model="numpy", forceinline=True)
def finished(number: int) -> np.uint64:
    """Return `finished_in_python` of a uint64."""
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


def mixed_in_python(number: int) -> int:
    """Return well-distributed bits for an unsigned 64-bit number: one step of splitmix64."""
    return finished_in_python((number + SPLITMIX_STEP) & _ALL)


@njit(error_model="numpy", forceinline=True)
def mixed(number: int) -> np.uint64:
    """Return `mixed_in_python` of a signed or unsigned 64-bit number."""
    return finished(np.uint64(number) + np.uint64(SPLITMIX_STEP))


def fnv1a_in_python(data: bytes) -> int:
    """Return the unsigned 64-bit FNV-1a hash of some bytes."""
    number = _FNV_BASIS
    for byte in data:
        number = (number ^ byte) * _FNV_PRIME & _ALL
    return number


@njit(error_model="numpy")
def fnv1a(data: bytes, begin: int, end: int, salt: int) -> np.uint64:
    """Return `fnv1a_in_python` of the bytes from `begin` to `end`; a uint64 salt other than 0 gives another hash."""
    number = np.uint64(_FNV_BASIS) ^ salt
    for index in range(begin, end):
        number = (number ^ np.uint64(data[index])) * np.uint64(_FNV_PRIME)
    return number


def text_hash(text: str) -> int:
    """Return the FNV-1a hash of a text's UTF-8 as a signed 64-bit number."""
    return signed(fnv1a_in_python(text.encode()))


def digest64(text: str) -> int:
    """Return an unsigned 64-bit BLAKE2b digest of a text: collisions are unlikely even where texts are chosen."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def signed(key: int) -> int:
    """Return the same 64 bits as a signed number."""
    return key - 2**64 if key >= 2**63 else key


def key_of(attribute: str, value: object) -> int:
    """Return the unsigned 64-bit key of an attribute's value.

    Numbers share the key of their `bucket`. Empty text, and values that are neither text nor a finite number, are
    MISSING.
    """
    if isinstance(value, str):
        return _text_key(attribute, value) if value else MISSING
    if isinstance(value, (bool, int, float)) and math.isfinite(value):
        return mixed_in_python(attribute_key(attribute) ^ (bucket(float(value)) & _ALL)) or 1
    return MISSING


@lru_cache(1024)
def attribute_key(attribute: str) -> int:
    """Return the key of an attribute itself, which `text_key` and `number_key` take."""
    return digest64(attribute)


@lru_cache(1 << 16)
def _text_key(attribute: str, text: str) -> int:
    return mixed_in_python(attribute_key(attribute) ^ fnv1a_in_python(text.encode())) or 1


@njit(error_model="numpy")
def text_key(attribute: int, data: bytes, begin: int, end: int) -> int:
    """Return `key_of` for the UTF-8 text from `begin` to `end`; `attribute` is the attribute_key, as uint64."""
    if begin == end:
        return np.uint64(MISSING)
    key = mixed(attribute ^ fnv1a(data, begin, end, np.uint64(0)))
    return key if key != np.uint64(0) else np.uint64(1)


def bucket(value: float) -> int:
    """Return the bucket of a finite number: one for each integer from -31 to 31, beyond them two for each doubling."""
    size = abs(value)
    if size <= 31 and size == math.floor(size):
        return int(value)
    fraction, exponent = math.frexp(size)
    step = 4096 + 2 * exponent + (1 if fraction >= _SQRT_HALF else 0)
    return step if value > 0 else -step


_bucket = njit(error_model="numpy")(bucket)


@njit(error_model="numpy")
def number_key(attribute: int, value: float) -> int:
    """Return `key_of` for a number that only a compiled loop knows, such as a distance.

    `attribute` is the attribute_key, as uint64. NaN and infinities are MISSING.
    """
    if not math.isfinite(value):
        return np.uint64(MISSING)
    key = mixed(attribute ^ np.uint64(_bucket(value)))
    return key if key != np.uint64(0) else np.uint64(1)


@njit(cache=True, error_model="numpy")
def number_keys(attribute: int, values: NDArray[np.float64], keys: NDArray[np.uint64]) -> None:
    """Write the `number_key` of each of `values` to `keys`."""
    for index in range(len(values)):
        keys[index] = number_key(attribute, values[index])
