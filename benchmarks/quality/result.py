"""The results of a replay, for the tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SWITCHES = ("segmentation", "recommendation", "behaviour", "context", "individual")
ALL = "all"
PLACEMENTS = (ALL, *(f"no-{switch}" for switch in SWITCHES))
"""Switches of mappings/switches.yaml."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table of figures."""

    data: str
    measure: str
    found: str
    wanted: str
    """The target."""
    reached: bool
    beside: str = ""
    """The same measure of a baseline."""


@dataclass(frozen=True, slots=True)
class Added:
    """The measure with and without each switch."""

    data: str
    measure: str
    by_placement: Mapping[str, float]
    """By placement of PLACEMENTS."""


@dataclass(slots=True)
class Found:
    """All results of a replay."""

    figures: list[Figure] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
