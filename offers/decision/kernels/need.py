"""Needs: what a decision must be given before it can go on, as its compiled steps tell their caller."""

from enum import IntEnum


class Need(IntEnum):
    """Result of a step of a decision: NOTHING if the decision is made, else what the caller has to provide.

    After LOOK_UP and ROOM the decision begins again (`begin`); after the needs of the person it goes on (`go_on`).
    REQUEST_ID and LONG_WAY are of the fast path alone.
    """

    NOTHING = 0
    """The decision is made: DecisionFact.chosen offers stand in ScratchArray.chosen."""
    LOOK_UP = 1
    """States of the schedules listed in ScratchArray.unknown."""
    ROOM = 2
    """Room for more candidates than DecisionFact.found, or for the model that is used now."""
    PERSON = 3
    """The person's record: the person matters to what was found."""
    COUNTERS = 4
    """Room for what the person's record counts."""
    PERIODS = 5
    """The calendar periods around the instant."""
    SEGMENTS = 6
    """CEL's verdict on the first PersonFact.left segments of ScratchArray.wanted. The person is met then."""
    STANDING = 7
    """A frame with the strategy PersonFact.strategy, and the offers shown everywhere in its order."""
    REQUEST_ID = 8
    """The decision id that follows from the request's own id."""
    LONG_WAY = 9
    """The request has to be answered step by step."""
