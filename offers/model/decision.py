"""What one decision found, before it is put into a response."""

from typing import NamedTuple


class Decision(NamedTuple):
    """The outcome of one decision; the chosen offers themselves stand in the scratch record it was made in."""

    count: int  # type: ignore[assignment] # hides tuple.count, which nobody asks of a decision
    """Offers chosen."""
    eligible: int
    """Distinct offers that qualify."""
    refresh_after: int
    """Second (UTC) until which the set of offers that qualify stays as it is."""
    refresh_distance_m: float
    """Metres from the location within which it does; infinite where it does not depend on the location."""
    strategy: int
    """Number of the ranking strategy used."""
    exposures: tuple[tuple[str, str], ...] = ()
    """Experiments that had a part in it, and the person's variants."""
    personal: bool = False
    """Whether the person mattered to it."""
