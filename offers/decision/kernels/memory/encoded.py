"""Encoded messages: read and write them in place, in compiled loops. Building a message takes longer than deciding.

Offsets are in bytes. An end of -1 says that the data is broken: functions that take an end pass it on.
"""

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from offers.compiled import apart, inner
from offers.model.hashing import fnv1a

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types. Source: https://protobuf.dev/programming-guides/encoding"""


@intrinsic
def borrowed(_context: Any, data: Any) -> Any:  # noqa: ANN401 - numba's own types
    """Return the same bytes without reference counting; the caller keeps them alive. Counting in every loop that gets
    them takes as long as reading a field.
    """  # noqa: D205

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        made = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=args[0])
        made.meminfo = cgutils.get_null_value(made.meminfo.type)
        return made._getvalue()  # noqa: SLF001 - as numba's own intrinsics do

    return data(data), generate


@inner
def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a varint and where it ends; -1 if it does not end before `end`."""
    number = shift = 0
    while at < end and shift < 70:
        byte = np.int64(data[at])
        number |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return (number, at) if shift < 63 or byte <= 1 else (0, -1)
        shift += 7
    return 0, -1


@inner
def span(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return where a field of bytes begins and ends; -1 if it goes beyond `end`."""
    size, begin = varint(data, at, end)
    if begin < 0 or begin - at > 5 or size > end - begin:  # protobuf refuses longer lengths
        return 0, -1
    return begin, begin + size


@intrinsic
def _as_double(_context: Any, _bits: Any) -> Any:  # noqa: ANN401 - numba's own types
    """Return 64 bits as a floating-point number."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), generate


@inner
def fixed64(data: bytes, at: int) -> int:
    """Return the 8 bytes at an offset."""
    bits = np.uint64(0)
    for byte in range(8):
        bits |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
    return bits


@inner
def double(data: bytes, at: int) -> float:
    """Return the 8 bytes at an offset as a floating-point number."""
    return _as_double(fixed64(data, at))


@inner
def following(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Return the tag of the field at an offset, and where its content begins and ends; -1 if it is broken.

    The content of a field of varying length is without the length.
    """
    tag, at = varint(data, at, end)
    kind = tag & 7
    if at < 0 or kind not in (VARINT, FIXED64, BYTES, FIXED32):
        return 0, 0, -1
    if kind == BYTES:
        begin, stop = span(data, at, end)
        return tag, begin, stop
    if kind == VARINT:
        _, stop = varint(data, at, end)
    else:
        stop = at + (8 if kind == FIXED64 else 4)
    return tag, at, (stop if stop <= end else -1)


@apart
def last_of(data: bytes, at: int, end: int, wanted: int) -> tuple[int, int]:
    """Return where the content of a tag's last field begins and ends in a message between two offsets; -1, -1: none."""
    found = -1, -1
    while 0 <= at < end:
        tag, begin, at = following(data, at, end)
        if at >= 0 and tag == wanted:
            found = begin, at
    return found


@inner
def hash_of(data: bytes, begin: int, end: int, salt: int) -> int:
    """Return hashing.fnv1a of the text between two offsets (-1, -1: none)."""
    return fnv1a(data, max(begin, 0), end, salt)


@inner
def is_same(data: bytes, begin: int, end: int, text: np.ndarray, first: int, last: int) -> bool:
    """Return whether the bytes between two offsets are those of a text."""
    if end - begin != last - first:
        return False
    same = True
    for index in range(end - begin):
        same &= data[begin + index] == text[first + index]
    return same


@inner
def varint_into(out: np.ndarray, at: int, number: int) -> int:
    """Write a varint. Returns where it ends."""
    while number >= 128:
        out[at] = (number & 127) | 128
        number >>= 7
        at += 1
    out[at] = number
    return at + 1


@inner
def varint_size(number: int) -> int:
    """Return the bytes that a varint takes."""
    size = 1
    while number >= 128:
        number >>= 7
        size += 1
    return size


@intrinsic
def _store_double(_context: Any, out: Any, _at: Any, _number: Any) -> Any:  # noqa: ANN401 - numba's own types
    """Write a floating-point number into the 8 bytes from an offset on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        made = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.bitcast(builder.gep(made.data, [args[1]]), ir.DoubleType().as_pointer())
        builder.store(args[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(out, types.int64, types.float64), generate


@inner
def double_into(out: np.ndarray, at: int, number: float) -> int:
    """Write the 8 bytes of a floating-point number. Returns where they end."""
    _store_double(out, at, number)
    return at + 8


@inner
def hexadecimal(out: np.ndarray, at: int, number: int) -> int:
    """Write the 16 hexadecimal digits of a 64-bit number. Returns where they end."""
    for digit in range(16):
        value = (number >> (60 - 4 * digit)) & 15
        out[at + digit] = value + (48 if value < 10 else 87)
    return at + 16
