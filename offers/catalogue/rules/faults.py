"""What is wrong with a message, and where in it."""

from typing import NamedTuple

from offers.catalogue.document.nodes import Path


class Fault(NamedTuple):
    """What is wrong at a path within a message."""

    path: Path
    reason: str
    fix: str


Faults = list[Fault]
