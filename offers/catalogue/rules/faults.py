"""Faults of messages."""

from typing import NamedTuple

from offers.catalogue.document.nodes import Path


class Fault(NamedTuple):
    """A fault of a message: the path within it, the reason, and what to write instead."""

    path: Path
    reason: str
    fix: str


Faults = list[Fault]
