"""Erasures that were made while a clock was ahead: until that second comes, they would take all events for erased."""

from collections.abc import Sequence

from offers.model.instants import CLOCK_SKEW_S
from offers.state.stores import Person, StateStore


def set_back_erasures(state: StateStore, persons: Sequence[Person], erased: Sequence[int], now: float) -> bool:
    """Set back what is further ahead of `now` than clocks differ; return whether anything is.

    `erased` are the persons' erasures. Those that are set back hold up to the second before now: the person was erased
    at some time before, and what was to be erased then stays erased. Raises StoreUnavailableError.
    """
    ahead = [person for person, second in zip(persons, erased, strict=True) if second > now + CLOCK_SKEW_S]
    if ahead:
        state.set_back(ahead, int(now) - 1)
    return bool(ahead)
