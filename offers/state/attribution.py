"""Which proposition an order or a redemption is put down to, where it names none."""

from collections.abc import Iterable

from offers.state.apply import items_of
from offers.v1.event_pb2 import Event, EventKind
from offers.v1.state_pb2 import RecentEvent

CLICK_WINDOW_S = 7 * 86_400
IMPRESSION_WINDOW_S = 86_400
_WINDOWS = (
    (EventKind.EVENT_KIND_CLICK, CLICK_WINDOW_S),
    (EventKind.EVENT_KIND_IMPRESSION, IMPRESSION_WINDOW_S),
)


def wants_attribution(event: Event) -> bool:
    """Whether an event is to be put down to a proposition, and names none."""
    return not event.proposition_id and (event.HasField("order") or event.HasField("redemption"))


def attributed(event: Event, recent: Iterable[RecentEvent]) -> str:
    """The proposition an order or redemption is put down to, among what the person did of late; "" for none."""
    items = items_of(event)
    categories = {item.category for item in items} - {""}
    venues = {item.venue_id for item in items} - {""}
    at = event.event_time.seconds, event.event_time.nanos

    def fits(of: RecentEvent) -> bool:
        if event.HasField("redemption"):
            return of.offer_id == event.offer_id
        return of.category in categories or of.venue_id in venues

    for kind, window_s in _WINDOWS:
        fitting = [
            ((of.event_time.seconds, of.event_time.nanos), of.proposition_id)
            for of in recent
            if of.kind == kind and of.proposition_id and fits(of)
        ]
        fitting = [(time, proposition) for time, proposition in fitting if (at[0] - window_s, at[1]) <= time <= at]
        if fitting:
            return max(fitting)[1]
    return ""
