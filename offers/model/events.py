"""What events say: their kinds, the items they are about, and how much each says of what a person takes up."""

from collections.abc import Sequence

from offers.v1.event_pb2 import Event, EventKind, Item

KINDS: dict[str, EventKind.ValueType] = {
    field.name: EventKind.Value(f"EVENT_KIND_{field.name.upper()}")
    for field in Event.DESCRIPTOR.oneofs_by_name["kind"].fields
}
"""Event kinds by the field of Event that says what happened."""
WEIGHTS = {"view": 0.2, "click": 0.3, "add_to_cart": 0.5, "order": 1.0, "redemption": 1.0}
"""How much each kind says of what a person takes up, of those that say something."""

CLICK_WINDOW_S, IMPRESSION_WINDOW_S = 7 * 86_400, 86_400
"""Seconds after a click, and after an impression, within which an order or a redemption is attributed to it."""


def items_of(event: Event, kind: str) -> Sequence[Item]:
    """The items an event is about; `kind` is the field that says what happened."""
    if kind == "view":
        return (event.view.item,)
    return getattr(event, kind).items[:] if kind in {"order", "add_to_cart", "remove_from_cart"} else ()
