"""Converts events to visits: records of which item a person used, where, and when by the local clock."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

from offers.model.events import WEIGHTS, items_of
from offers.model.keys import key_of
from offers.model.visits import NOTHING, TRAITS, byte_of, packed, place_of, short_in_python, trait_of
from offers.v1.event_pb2 import Event, Item, RedemptionEvent

NO_TRAITS = (0,) * len(TRAITS)
_WEIGHTS = {kind: byte_of(weight) for kind, weight in WEIGHTS.items()}
_QUARTER_S = 900
"""Changes of a zone's offset happen at full quarters of an hour."""
_KEPT = 1 << 16
"""Keys cached: hashing costs more than the rest of a conversion."""


def visits_of(
    event: Event, kind: str, geohash: str, time_zone: str, item: int = NOTHING, traits: Sequence[int] = NO_TRAITS
) -> bytes:
    """Return the visits an event adds to a person's history: one for each venue of its items, else one for its offer.

    `kind` is the name of the event's field in Event; `geohash` is "" where the place is unknown; `time_zone` is an IANA
    name. `item` and `traits` (shortened by `short`) are those of the offer; values of the items take precedence. Gifts
    and redemptions that are not confirmed add nothing. Raises ZoneInfoNotFoundError.
    """
    weight = _WEIGHTS.get(kind)
    if weight is None or (kind == "order" and event.order.gift):
        return b""
    if kind == "redemption" and event.redemption.phase != RedemptionEvent.PHASE_CONFIRM:
        return b""
    items = items_of(event, kind)
    venues: dict[str, list[Item]] = {}
    if items and event.catalog:
        for one in items:
            if venue_id := one.venue_id:
                venues.setdefault(venue_id, []).append(one)
    if not venues and item == NOTHING:
        return b""
    second, place = wall_clock(event.event_time.seconds, time_zone), _short_place(geohash)
    if not venues:
        return packed(item, second, place, _traits(items, traits), weight)
    return b"".join(
        [
            packed(_venue(event.catalog, venue_id), second, place, _traits(those, traits), weight)
            for venue_id, those in venues.items()
        ]
    )


def wall_clock(second: int, time_zone: str) -> int:
    """Return the local time of an IANA zone at a second since 1970, as if it were in UTC; 0 or more."""
    return max(second + _offset(time_zone, second // _QUARTER_S), 0)


def _traits(items: Sequence[Item], otherwise: Sequence[int]) -> Sequence[int]:
    """Return the key of the first name of each kind among the items, else that of the offer."""
    if not items:
        return otherwise
    found = list(otherwise)
    for index, kind in enumerate(TRAITS):
        for one in items:
            if name := getattr(one, kind):
                found[index] = _short_trait(kind, name)
                break
    return found


@lru_cache(_KEPT)
def _offset(time_zone: str, quarter: int) -> int:
    offset = datetime.fromtimestamp(quarter * _QUARTER_S, _zone(time_zone)).utcoffset() or timedelta()
    return round(offset.total_seconds())


_zone = cache(ZoneInfo)


@lru_cache(_KEPT)
def _venue(catalog: str, venue_id: str) -> int:
    return key_of("venue", catalog, venue_id)


@lru_cache(_KEPT)
def _short_trait(kind: str, name: str) -> int:
    return short_in_python(trait_of(kind, name))


@lru_cache(_KEPT)
def _short_place(geohash: str) -> int:
    return short_in_python(place_of(geohash))
