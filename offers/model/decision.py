"""The result of one decision, before it is put into a response."""

from typing import NamedTuple


class Decision(NamedTuple):
    """The result of one decision; the chosen offers themselves stand in the scratch record it was made in."""

    count: int  # type: ignore[assignment] # hides tuple.count, which no caller needs
    """Offers chosen."""
    eligible: int
    """Distinct offers that qualify."""
    refresh_after: int
    """Second (UTC) until which the set of offers that qualify stays the same."""
    refresh_distance_m: float
    """Metres from the location within which that set stays the same; infinite where no rule depends on the location."""
    strategy: int
    """Number of the ranking strategy used."""
    exposures: tuple[tuple[str, str], ...] = ()
    """Experiments that affected the decision, each with the person's variant."""
    personal: bool = False
    """Whether the decision depends on the person."""
    holdouts: tuple[tuple[str, bool], ...] = ()
    """Campaigns ("": the catalogue) whose holdout affected the decision, each with whether the person is held out."""
