"""Compiled loops read each array by its own type: a wrong accessor would read garbage instead of failing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import offers
from offers.catalogue.snapshot import COLUMNS
from offers.decision.kernels.memory.scratch import ScratchArray

READERS = {"u1", "u2", "u4", "u8", "i4", "i8", "f8"}
TYPES = {
    "ScratchArray": {one.name: one.dtype for one in ScratchArray},
    "Column": {name: np.dtype(kind) for name, kind in COLUMNS.items()},
}


def accesses() -> Iterator[tuple[str, str, str]]:
    """Yield the reader, enum and member of each read of an array by its type in loops over snapshots and scratch."""
    package = Path(offers.__file__).parent
    for folder in ("decision/kernels", "server/fast"):
        for file in (package / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                match node:
                    case ast.Call(
                        func=ast.Name(id=reader), args=[_, ast.Attribute(value=ast.Name(id=enum), attr=member)]
                    ) if reader in READERS and enum in TYPES:
                        yield reader, enum, member


def test_readers_are_of_the_type_of_what_they_read() -> None:
    """Every column and every working array is read as the type it is declared with."""
    found = set(accesses())
    assert len(found) > 60
    assert set() == {(reader, enum, name) for reader, enum, name in found if TYPES[enum][name] != np.dtype(reader)}
