"""What a replay gives to the tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SWITCHES = ("segmentation", "recommendation", "behaviour", "context", "individual")
ALL = "all"
PLACEMENTS = (ALL, *(f"no-{switch}" for switch in SWITCHES))
"""Of mappings/switches.yaml."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    data: str
    measure: str
    found: str
    wanted: str
    """What is to be reached."""
    reached: bool
    beside: str = ""
    """The same measure of something else."""


@dataclass(frozen=True, slots=True)
class Added:
    """What each switch adds to one measure."""

    data: str
    measure: str
    by_placement: Mapping[str, float]
    """By those of PLACEMENTS."""


@dataclass(slots=True)
class Found:
    """All that came of a replay."""

    figures: list[Figure] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
