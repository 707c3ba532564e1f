"""What events are asked to know of the offer they are about."""

from typing import NamedTuple


class CounterSpec(NamedTuple):
    """Something a cap counts."""

    key: int
    """See `keys.key_of`."""
    kind: int
    """offers.v1.EventKind of the events counted."""
    keep: int
    """How many of the last instants any cap on it asks for."""
    span_s: int
    """The longest window of any cap on it, in seconds; 0: ever."""


class OfferFacts(NamedTuple):
    """An offer as events see it."""

    offer_id: str
    category: str
    brand: str
    counters: tuple[CounterSpec, ...]
    """All that counts events of the offer: its own caps, and those of its campaign, category and contact policies."""
    item: int
    """What visits of it are visits of: the key of the venue that is all it is for, else its own."""
    traits: tuple[int, ...]
    """Its category, cuisine, brand and price band, as visits.short makes them."""
