"""Arguments that the stages of a decision share, passed by value: tables, the location, and the person."""

from typing import NamedTuple

from offers.decision.kernels.memory.records import Table


class Frame(NamedTuple):
    """Addresses of the tables that one decision reads and writes, and the numbers that hold for all its stages.

    Whoever makes a frame keeps the records behind the addresses alive until the decision is made.
    """

    columns: Table
    """A snapshot's columns: see Column."""
    meeting: Table
    """Segments, experiments and the model of a catalogue: see MeetingArray."""
    hours: Table
    """States of schedules: see HoursArray."""
    budgets: Table
    """See BudgetArray."""
    standing: Table
    """Offers shown everywhere: see StandingArray."""
    scratch: Table
    """The thread's working arrays: see ScratchArray."""
    terms: Table
    """A surface's terms and layout: see TermsArray."""
    strategy: int
    """Index of the ranking strategy."""
    time: int
    """Second decided for."""
    seed: int
    """Orders offers of equal score, as a signed number; read only if `seeded`."""
    seeded: int
    """1 if the request has a seed, else 0: offers of equal score are ordered by id."""


class Location(NamedTuple):
    """The location of a request, as a normal distribution around a point."""

    latitude: float
    """Degrees; NaN: there is no location."""
    longitude: float
    sigma: float
    """Standard deviation either way, in metres; 0: the location is exact."""
    growth: float
    """Metres per second by which `sigma` grows."""


class PersonInput(NamedTuple):
    """Numbers about the person that come with a request, beside the person's record."""

    draw: int
    """Signed number by which variants and holdouts are drawn unless the record has another; 0: nobody."""
    grants: int
    """A bit per offers.v1.ConsentPurpose that the request agrees to; -1: the request says nothing of consent."""
    flags: int
    """NAMED and so on: see meet.py."""
    geohash_length: int
    """Characters of the location's geohash that models and the log are given; 0: none."""
    chance: int
    """Number that exploration is drawn by where there is neither a seed nor a person."""
