"""Hashes are the same in Python and in compiled loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offers.model.hashing import (
    SPLITMIX_STEP,
    digest64,
    finished,
    finished_in_python,
    fnv1a,
    fnv1a_in_python,
    mixed,
    mixed_in_python,
    signed,
    text_hash,
)
from offers.model.visits import short, short_in_python

UNSIGNED = st.integers(0, 2**64 - 1)


@given(UNSIGNED)
def test_numbers_are_mixed_alike(number: int) -> None:
    """The compiled functions and the plain ones give the same bits, for signed and unsigned numbers."""
    assert finished_in_python(number) == int(finished(np.uint64(number)))
    assert mixed_in_python(number) == int(mixed(np.uint64(number))) == int(mixed(np.int64(signed(number))))
    assert short_in_python(signed(number)) == int(short(np.int64(signed(number))))


def test_splitmix64_is_the_published_generator() -> None:
    """The first numbers for the seed 1234567 are those of the reference implementation."""
    made = [mixed_in_python((1234567 + index * SPLITMIX_STEP) % 2**64) for index in range(3)]
    assert [6457827717110365317, 3203168211198807973, 9817491932198370423] == made


@given(st.binary(max_size=40), st.data())
def test_bytes_are_hashed_alike(data: bytes, draw: st.DataObject) -> None:
    """The compiled FNV-1a of a part of some bytes is that of the part alone."""
    begin = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(begin, len(data)))
    assert fnv1a_in_python(data[begin:end]) == int(fnv1a(data, begin, end, np.uint64(0)))


def test_text_hashes_are_the_published_ones() -> None:
    """FNV-1a of the RFC's test vectors; digests differ where texts do."""
    assert signed(0xCBF29CE484222325) == text_hash("")
    assert signed(0xAF63DC4C8601EC8C) == text_hash("a")
    assert digest64("a") != digest64("b")
