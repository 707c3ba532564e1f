"""Which proposition an order or a redemption is put down to, where it names none."""

from collections.abc import Iterable

from offers.model.events import CLICK_WINDOW_S, IMPRESSION_WINDOW_S, items_of
from offers.v1.event_pb2 import Event, EventKind
from offers.v1.state_pb2 import RecentEvent

_WINDOWS = {EventKind.EVENT_KIND_CLICK: CLICK_WINDOW_S, EventKind.EVENT_KIND_IMPRESSION: IMPRESSION_WINDOW_S}


def wants_attribution(event: Event) -> bool:
    """Whether an event is to be put down to a proposition, and names none."""
    return not event.proposition_id and (event.HasField("order") or event.HasField("redemption"))


def causes_among(recent: Iterable[RecentEvent]) -> list[RecentEvent]:
    """What an order or redemption may be put down to, of what a person did."""
    return [of for of in recent if of.proposition_id and of.kind in _WINDOWS]


def attributed(event: Event, causes: Iterable[RecentEvent]) -> str:
    """The proposition an order or redemption is put down to, among the causes there may be; "" for none."""
    items = items_of(event, event.WhichOneof("kind") or "")
    categories = {item.category for item in items} - {""}
    venues = {item.venue_id for item in items} - {""}
    is_redemption = event.HasField("redemption")
    at = event.event_time.seconds, event.event_time.nanos
    best = (False, (0, 0), "")
    for of in causes:
        fits = of.offer_id == event.offer_id if is_redemption else of.category in categories or of.venue_id in venues
        time = of.event_time.seconds, of.event_time.nanos
        if fits and (at[0] - _WINDOWS[of.kind], at[1]) <= time <= at:
            best = max(best, (of.kind == EventKind.EVENT_KIND_CLICK, time, of.proposition_id))
    return best[-1]
