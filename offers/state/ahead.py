"""Erasures recorded while a clock was ahead. Left as they are, they would also erase every event until that second."""

from collections.abc import Sequence

from offers.model.instants import CLOCK_SKEW_S
from offers.state.stores import Person, StateStore


def set_back_erasures(state: StateStore, persons: Sequence[Person], erased: Sequence[int], now: float) -> bool:
    """Set back the erasures that are further ahead of `now` than clocks differ; return whether there are any.

    `erased` holds the second of each person's erasure. An erasure that is set back covers all events up to the second
    before now, and so all that it was made for. Raises StoreUnavailableError.
    """
    ahead = [person for person, second in zip(persons, erased, strict=True) if second > now + CLOCK_SKEW_S]
    if ahead:
        state.set_back(ahead, int(now) - 1)
    return bool(ahead)
