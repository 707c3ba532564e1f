"""Removes what has been kept for as long as the settings allow."""

from typing import NamedTuple

from offers.settings import Settings
from offers.state.opening import Stores
from offers.v1.event_pb2 import EventKind

_DAY_S = 86_400


class Swept(NamedTuple):
    """How much was removed."""

    persons: int
    events: int
    reservations: int


def sweep(stores: Stores, settings: Settings, now: int) -> Swept:
    """Remove old events and decisions, persons of whom nothing was heard, expired tombstones, and give back
    reservations that have expired. `now` in seconds since 1970. Raises StoreUnavailableError; what is done until then
    stays done.
    """  # noqa: D205
    days = settings.retention_days
    before = {
        kind: now - days[name.removeprefix("EVENT_KIND_").lower()] * _DAY_S for name, kind in EventKind.items() if kind
    }
    return Swept(
        reservations=stores.ledger.expire(now),
        events=stores.events.sweep(before, now - days["decision"] * _DAY_S),
        persons=stores.state.sweep(now, days["person"] * _DAY_S),
    )
