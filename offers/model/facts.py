"""The attributes of an offer that events about it are applied with."""

from typing import NamedTuple


class CounterSpec(NamedTuple):
    """A counter that frequency caps read."""

    key: int
    """See `keys.key_of`."""
    kind: int
    """offers.v1.EventKind of the events counted."""
    keep: int
    """The number of latest instants to keep: the most that any cap on the counter needs."""
    span_s: int
    """The longest window of any cap on the counter, in seconds; 0: unlimited."""


class ProposedOffer(NamedTuple):
    """An offer that a proposition id names, and where it was shown."""

    catalog: str
    offer_id: str
    placement: str
    channel: str
    """Empty: unknown. The same holds for the placement."""


class OfferFacts(NamedTuple):
    """An offer, as events are applied with it."""

    offer_id: str
    category: str
    brand: str
    counters: tuple[CounterSpec, ...]
    """All counters of the offer's events: those of its own caps, its campaign, category and contact policies."""
    item: int
    """The item key of visits by events of the offer: of its venue where it has exactly one, else of the offer."""
    traits: tuple[int, ...]
    """The keys of its category, cuisine, brand and price band, shortened by visits.short."""
