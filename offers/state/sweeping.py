"""Removes data that is older than the settings allow."""

from typing import NamedTuple

from offers.model.events import KINDS
from offers.model.instants import DAY_S
from offers.settings import Settings
from offers.state.opening import Stores


class Swept(NamedTuple):
    """Numbers of what was removed."""

    persons: int
    events: int
    reservations: int


def sweep(stores: Stores, settings: Settings, now: int) -> Swept:
    """Remove old events and decisions, inactive persons and expired tombstones, and release expired reservations.

    `now` is in seconds since 1970. Raises StoreUnavailableError; removals up to then stay done.
    """
    days = settings.retention_days
    before = {kind: now - days[name] * DAY_S for name, kind in KINDS.items()}
    return Swept(
        reservations=stores.ledger.expire(now),
        events=stores.events.sweep(before, now - days["decision"] * DAY_S),
        persons=stores.state.sweep(now, days["person"] * DAY_S),
    )
