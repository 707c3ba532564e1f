"""Attributes orders and redemptions that name no proposition to one the person saw or clicked."""

from collections.abc import Iterable

from offers.model.events import CLICK_WINDOW_S, IMPRESSION_WINDOW_S, items_of
from offers.model.instants import instant_of
from offers.v1.event_pb2 import Event, EventKind, RedemptionEvent
from offers.v1.state_pb2 import RecentEvent

_WINDOWS = {EventKind.EVENT_KIND_CLICK: CLICK_WINDOW_S, EventKind.EVENT_KIND_IMPRESSION: IMPRESSION_WINDOW_S}


def wants_attribution(event: Event) -> bool:
    """Return whether an event is an order or a redemption that names no proposition.

    A reversal is attributed as what it reverses.
    """
    if event.HasField("redemption") and event.redemption.phase == RedemptionEvent.PHASE_REVERSE:
        return False
    return not event.proposition_id and (event.HasField("order") or event.HasField("redemption"))


def causes_among(recent: Iterable[RecentEvent]) -> list[RecentEvent]:
    """Return the recent events that an order or redemption may be attributed to: impressions and clicks."""
    return [cause for cause in recent if cause.proposition_id and cause.kind in _WINDOWS]


def attributed(event: Event, causes: Iterable[RecentEvent]) -> str:
    """Return the proposition that an order or redemption is attributed to; "" for none.

    A redemption matches causes of its offer, an order those of its items' categories and venues. Clicks go before
    impressions, then the latest counts.
    """
    items = items_of(event, event.WhichOneof("kind") or "")
    categories = {item.category for item in items} - {""}
    venues = {item.venue_id for item in items} - {""}
    is_redemption = event.HasField("redemption")
    second, nanos = instant_of(event.event_time)
    best = (False, (0, 0), "")
    for cause in causes:
        if is_redemption:
            fits = cause.offer_id == event.offer_id
        else:
            fits = cause.category in categories or cause.venue_id in venues
        instant = instant_of(cause.event_time)
        if fits and (second - _WINDOWS[cause.kind], nanos) <= instant <= (second, nanos):
            best = max(best, (cause.kind == EventKind.EVENT_KIND_CLICK, instant, cause.proposition_id))
    return best[-1]
