"""Layout: decide which offers may stand beside each other in an answer."""

import numpy as np

from offers.catalogue.snapshot import NO_NAME, NO_VENUE
from offers.compiled import inlined, inner
from offers.decision.kernels.memory.records import Layout, Table, entries_of, i8, offers_of
from offers.decision.kernels.memory.scratch import ScratchArray


@inlined
def is_limited(layout: np.ndarray) -> bool:
    """Return whether a placement limits offers of one venue, brand or category."""
    return layout[Layout.per_venue] + layout[Layout.per_brand] + layout[Layout.per_category] > 0


@inner
def fits(columns: Table, scratch: Table, count: int, entry: int, layout: np.ndarray) -> bool:
    """Return whether exclusion groups and the placement's limits let an entry's offer stand in an answer.

    The answer so far is the first `count` entries of ScratchArray.taken.
    """
    entries, taken = entries_of(columns), i8(scratch, ScratchArray.taken)
    offer, venue = offers_of(columns)[entries[entry].offer], entries[entry].venue
    if offer.group == NO_NAME and not is_limited(layout):
        return True
    venues = brands = categories = 0
    for index in range(count):
        beside = entries[taken[index]]
        other = offers_of(columns)[beside.offer]
        if offer.group != NO_NAME and other.group == offer.group:
            return False
        venues += venue != NO_VENUE and beside.venue == venue
        brands += offer.brand != NO_NAME and other.brand == offer.brand
        categories += offer.category != NO_NAME and other.category == offer.category
    return (
        (layout[Layout.per_venue] == 0 or venues < layout[Layout.per_venue])
        and (layout[Layout.per_brand] == 0 or brands < layout[Layout.per_brand])
        and (layout[Layout.per_category] == 0 or categories < layout[Layout.per_category])
    )
