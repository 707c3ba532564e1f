"""Kinds of events, the items they are about, and their weight as evidence of a person's tastes."""

from collections.abc import Sequence

from offers.model.instants import DAY_S
from offers.v1.event_pb2 import Event, EventKind, Item

KINDS: dict[str, EventKind.ValueType] = {
    field.name: EventKind.Value(f"EVENT_KIND_{field.name.upper()}")
    for field in Event.DESCRIPTOR.oneofs_by_name["kind"].fields
}
"""Event kinds by the name of their field in Event."""
KIND_NAMES = {kind: name for name, kind in KINDS.items()}
WEIGHTS = {"view": 0.2, "click": 0.3, "add_to_cart": 0.5, "order": 1.0, "redemption": 1.0}
"""Weight of each kind that is evidence of what a person likes, relative to an order."""

CLICK_WINDOW_S, IMPRESSION_WINDOW_S = 7 * DAY_S, DAY_S
"""Seconds after a click, and after an impression, within which an order or a redemption is attributed to it."""


def items_of(event: Event, kind: str) -> Sequence[Item]:
    """Return the items an event is about; `kind` is the name of its field in Event."""
    if kind == "view":
        return (event.view.item,)
    return getattr(event, kind).items[:] if kind in {"order", "add_to_cart", "remove_from_cart"} else ()
