"""Changes to encoded messages at any depth: what no library of Protobuf would write."""

import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

VARINT, FIXED64, BYTES, GROUP, END, FIXED32 = range(6)
DOUBLES = (float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1.7e308, 90.0, -90.0, 180.0, -180.0, 91.0, 1e9)
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 2_000, 2**29 - 1)
WHOLE = (0, 1, 99, 2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1)
NOT_UTF_8 = (b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"ok\xc0\x80", b"\0" * 50)
LONGEST = 60_000
"""Bytes of a message that repeats may make."""


class Part(NamedTuple):
    """A field of an encoded message."""

    number: int
    kind: int
    start: int
    """Where its tag begins."""
    value: int
    """Where its value begins, behind tag and length."""
    end: int


def varint(number: int) -> bytes:
    """Return a number as 7 bits a byte, least significant first."""
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def tagged(number: int, data: bytes) -> bytes:
    """Return a length-delimited field on the wire."""
    return varint(number << 3 | BYTES) + varint(len(data)) + data


def parts_of(data: bytes) -> list[Part]:
    """Return the fields of an encoded message; an empty list where it is none."""
    try:
        return list(_parts(data))
    except (IndexError, ValueError):
        return []


def _parts(data: bytes) -> Iterator[Part]:
    at = 0
    while at < len(data):
        start = at
        tag, at = _read(data, at)
        kind, value = tag & 7, at
        if kind == VARINT:
            _, at = _read(data, at)
        elif kind == BYTES:
            length, value = _read(data, at)
            at = value + length
        elif kind in {FIXED64, FIXED32}:
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError
        if at > len(data) or tag < 8:
            raise ValueError
        yield Part(tag >> 3, kind, start, value, at)


def _read(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise ValueError


def change_at_depth(random: Random, data: bytes) -> bytes:
    """Change one field at a random depth; the lengths of the messages around it follow."""
    parts = parts_of(data)
    if not parts:
        return data + added(random)
    part = random.choice(parts)
    inner = data[part.value : part.end]
    if part.kind == BYTES and inner and random.random() < 0.7 and parts_of(inner):
        changed = tagged(part.number, change_at_depth(random, inner))
    else:
        changed = random.choice(_CHANGES)(random, data, part)
    return data[: part.start] + changed + data[part.end :]


def added(random: Random) -> bytes:
    """Return a field of any number and type."""
    number = random.choice(NUMBERS)
    match random.randrange(6):
        case 0:
            return tagged(number, random.choice(NOT_UTF_8))
        case 1:
            return varint(number << 3) + varint(random.choice(WHOLE))
        case 2:
            return varint(number << 3 | FIXED64) + struct.pack("<d", random.choice(DOUBLES))
        case 3:
            return varint(number << 3 | GROUP) + tagged(1, b"x") + varint(number << 3 | END)
        case 4:
            return varint(number << 3 | FIXED32) + random.randbytes(4)
        case _:
            return tagged(number, random.randbytes(random.randint(0, 40)))


def _deleted(_random: Random, _data: bytes, _part: Part) -> bytes:
    return b""


def _repeated(random: Random, data: bytes, part: Part) -> bytes:
    one = data[part.start : part.end]
    return one * min(random.choice((2, 3, 101, 1_001)), 1 + LONGEST // len(one))


def _other_kind(random: Random, data: bytes, part: Part) -> bytes:
    kind = random.choice([kind for kind in range(8) if kind != part.kind])
    return varint(part.number << 3 | kind) + data[part.value : part.end]


def _other_number(random: Random, data: bytes, part: Part) -> bytes:
    return varint(random.choice(NUMBERS) << 3 | part.kind) + data[part.value : part.end]


def _other_value(random: Random, data: bytes, part: Part) -> bytes:
    tag = varint(part.number << 3 | part.kind)
    if part.kind == VARINT:
        return tag + varint(random.choice(WHOLE))
    if part.kind == FIXED64:
        return tag + struct.pack("<d", random.choice(DOUBLES))
    if part.kind == BYTES:
        return tagged(part.number, random.choice((*NOT_UTF_8, random.randbytes(9), b"", data)))
    return data[part.start : part.end]


def _wrong_length(random: Random, data: bytes, part: Part) -> bytes:
    value = data[part.value : part.end]
    length = random.choice((0, 1, len(value) - 1, len(value) + 1, 2**31 - 1, 2**63, 2**64 - 1))
    return varint(part.number << 3 | BYTES) + varint(max(0, length)) + value


def _overlong(_random: Random, data: bytes, part: Part) -> bytes:
    """Write the tag with more bytes than it needs, and beyond the ten that a number may have."""
    tag = varint(part.number << 3 | part.kind)
    return tag[:-1] + bytes([tag[-1] | 128]) + b"\x80" * 10 + b"\0" + data[part.value : part.end]


def _with_another(random: Random, data: bytes, part: Part) -> bytes:
    return data[part.start : part.end] + added(random)


_Change = Callable[[Random, bytes, Part], bytes]
_CHANGES: tuple[_Change, ...] = (
    _deleted,
    _repeated,
    _other_kind,
    _other_number,
    _other_value,
    _other_value,
    _wrong_length,
    _overlong,
    _with_another,
)


def change_bytes(random: Random, data: bytes, other: bytes) -> bytes:
    """Flip, cut, repeat and splice."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, to = sorted((random.randint(0, len(changed)), random.randint(0, len(changed))))
        kind = random.randrange(5)
        if kind == 0 and changed:
            changed[at - 1] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            changed[at:at] = changed[at:to] * random.choice([1, 2, 30])
        elif kind == 3:
            changed[at:to] = other[random.randint(0, len(other)) :]
        else:
            changed[at:to] = random.randbytes(random.randint(0, 20))
    return bytes(changed)


def nested(random: Random) -> bytes:
    """Return a google.protobuf.Struct that is nested deep or wide."""
    if random.random() < 0.3:
        entry = tagged(1, b"%d") + tagged(2, b"\x20\x01")
        return b"".join(tagged(1, entry % number) for number in range(random.randint(90, 200)))
    value = b"\x20\x01"
    for _ in range(random.choice([10, 30, 45, 48, 49, 50, 51, 100, 1_000])):
        is_list = random.random() < 0.5
        value = tagged(6, tagged(1, value)) if is_list else tagged(5, tagged(1, tagged(1, b"k") + tagged(2, value)))
    return tagged(1, tagged(1, b"deep") + tagged(2, value))
