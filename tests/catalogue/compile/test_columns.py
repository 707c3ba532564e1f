"""Columns become arrays whose bytes depend on nothing but the values."""

import struct

import numpy as np

from offers.catalogue.compile.columns import table


def test_padding_of_records_is_zero() -> None:
    """Equal rows have equal bytes, so that equal documents have equal checksums, whatever the memory held before."""
    kind = np.dtype([("number", "<i8"), ("flag", "u1")], align=True)
    dirty = [np.full(16_000, 0xFF, np.uint8) for _ in range(10)]
    del dirty

    made = table(kind, ((number, 1) for number in range(1_000)))

    assert b"".join(struct.pack("<qB7x", number, 1) for number in range(1_000)) == made.tobytes()
