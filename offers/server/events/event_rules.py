"""Rules that an event must meet to be taken in."""

from collections.abc import Callable, Sequence

from offers.errors import FieldViolation
from offers.server.checks import Refuse, check_attributes, check_instant, check_money, check_quantity, check_span
from offers.server.limits import (
    MAX_EVENT_BYTES,
    MAX_HOLD_S,
    MAX_ID,
    MAX_IN_VIEW_S,
    MAX_ITEMS,
    MAX_LATITUDE,
    MAX_LONGITUDE,
    MAX_NAME,
    MAX_PERSON_ID,
)
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Event, Item, RedemptionEvent

_KINDS = ", ".join(field.name for field in Event.DESCRIPTOR.oneofs_by_name["kind"].fields)
_PHASES = ", ".join(RedemptionEvent.Phase.keys()[1:])
_TEXTS = (
    ("catalog", MAX_ID),
    ("proposition_id", MAX_ID),
    ("offer_id", MAX_ID),
    ("placement", MAX_ID),
    ("channel", MAX_NAME),
    ("session_id", MAX_PERSON_ID),
)
_ITEM_TEXTS = (
    ("product_id", MAX_ID),
    ("category", MAX_ID),
    ("brand", MAX_ID),
    ("venue_id", MAX_ID),
    ("cuisine", MAX_NAME),
    ("price_band", MAX_NAME),
)
"""Text fields with their maximum number of characters."""
_OF_AN_OFFER = frozenset({"impression", "click", "dismissal", "redemption"})


def check_event(event: Event) -> list[FieldViolation]:
    """Return all violations of an event, with paths relative to it; "" is the event as a whole."""
    if (size := event.ByteSize()) > MAX_EVENT_BYTES:
        return [FieldViolation("", f"{size:,} bytes: send at most {MAX_EVENT_BYTES:,}")]
    return _violations_within(event)


def _violations_within(event: Event) -> list[FieldViolation]:
    violations: list[FieldViolation] = []

    def refuse(field: str, reason: str) -> None:
        violations.append(FieldViolation(field, reason))

    check_text(event.event_id, 1, MAX_ID, "event_id", refuse)
    if event.HasField("event_time"):
        check_instant("event_time", event.event_time, refuse)
    if event.HasField("user"):
        check_user("user", event.user, refuse)
    texts = event.catalog, event.proposition_id, event.offer_id, event.placement, event.channel, event.session_id
    if not _are_plain(texts):
        for (name, limit), text in zip(_TEXTS, texts, strict=True):
            check_text(text, 0, limit, name, refuse)
    if event.HasField("location"):
        _check_degrees(event.location.latitude, MAX_LATITUDE, "location.latitude", refuse)
        _check_degrees(event.location.longitude, MAX_LONGITUDE, "location.longitude", refuse)
    kind = event.WhichOneof("kind")
    if kind is None:
        refuse("kind", f"nothing happened: send one of {_KINDS}")
    else:
        if kind in _OF_AN_OFFER and not (event.offer_id or event.proposition_id):
            refuse("offer_id", f"missing: send the offer of the {kind}, or its proposition_id")
        check = _CHECKS.get(kind)
        if check is not None:
            check(event, refuse)
    return violations


def check_user(field: str, user: User, refuse: Refuse) -> None:
    """Report violations of a person's ids."""
    name = user.WhichOneof("identity") or "user_id"
    check_text(user.user_id or user.anonymous_id, 1, MAX_PERSON_ID, f"{field}.{name}", refuse)


def _are_plain(texts: tuple[str, ...]) -> bool:
    """Return whether all texts are surely valid, as nearly always: one fast check instead of one for each text."""
    return max(map(len, texts)) <= MAX_NAME and "\0" not in "".join(texts)


def check_text(text: str, least: int, most: int, field: str, refuse: Refuse) -> None:
    """Report violations of a text that must have from `least` to `most` characters."""
    if not least <= len(text) <= most:
        refuse(field, f"{len(text):,} characters: send {f'{least} to' if least else 'at most'} {most}")
    elif "\0" in text:
        refuse(field, "has a character of value 0: leave it out")


def _check_degrees(degrees: float, limit: int, field: str, refuse: Refuse) -> None:
    if not -limit <= degrees <= limit:  # NaN fails every comparison
        refuse(field, f"{degrees} is out of range: send degrees from -{limit} to {limit}")


def _check_items(items: Sequence[Item], field: str, refuse: Refuse) -> None:
    for number, item in enumerate(items):
        _check_item(item, f"{field}[{number}]", refuse)


def _check_item(item: Item, field: str, refuse: Refuse) -> None:
    texts = item.product_id, item.category, item.brand, item.venue_id, item.cuisine, item.price_band
    if not _are_plain(texts):
        for (name, limit), text in zip(_ITEM_TEXTS, texts, strict=True):
            check_text(text, 0, limit, f"{field}.{name}", refuse)
    if item.HasField("quantity"):
        check_quantity(item.quantity, f"{field}.quantity", refuse)
    if item.HasField("price"):
        check_money(item.price, f"{field}.price", refuse)


def _check_impression(event: Event, refuse: Refuse) -> None:
    if event.impression.HasField("in_view"):
        check_span("impression.in_view", event.impression.in_view, 0, MAX_IN_VIEW_S, refuse)


def _check_dismissal(event: Event, refuse: Refuse) -> None:
    check_text(event.dismissal.reason, 0, MAX_NAME, "dismissal.reason", refuse)


def _check_view(event: Event, refuse: Refuse) -> None:
    if not event.view.HasField("item"):
        refuse("view.item", "missing: say what was looked at")
    _check_item(event.view.item, "view.item", refuse)


def _check_basket(event: Event, refuse: Refuse) -> None:
    kind = "add_to_cart" if event.HasField("add_to_cart") else "remove_from_cart"
    items = event.add_to_cart.items if event.HasField("add_to_cart") else event.remove_from_cart.items
    if not 1 <= len(items) <= MAX_ITEMS:
        refuse(f"{kind}.items", f"{len(items):,} items: send 1 to {MAX_ITEMS}")
    else:
        _check_items(items, f"{kind}.items", refuse)


def _check_checkout(event: Event, refuse: Refuse) -> None:
    if event.checkout_started.HasField("value"):
        check_money(event.checkout_started.value, "checkout_started.value", refuse)


def _check_order(event: Event, refuse: Refuse) -> None:
    order = event.order
    check_text(order.order_id, 0, MAX_ID, "order.order_id", refuse)
    if len(order.items) > MAX_ITEMS:
        refuse("order.items", f"{len(order.items):,} items: send at most {MAX_ITEMS}")
    else:
        _check_items(order.items, "order.items", refuse)
    if order.HasField("total"):
        check_money(order.total, "order.total", refuse)


def _check_redemption(event: Event, refuse: Refuse) -> None:
    redemption = event.redemption
    phases = RedemptionEvent.Phase
    if redemption.phase not in phases.values() or redemption.phase == RedemptionEvent.PHASE_UNSPECIFIED:
        refuse("redemption.phase", f"{redemption.phase} is no phase: send one of {_PHASES}")
    check_text(redemption.redemption_id, 1, MAX_ID, "redemption.redemption_id", refuse)
    if redemption.HasField("units"):
        check_quantity(redemption.units, "redemption.units", refuse)
    if redemption.HasField("amount"):
        check_money(redemption.amount, "redemption.amount", refuse)
    if redemption.HasField("hold"):
        check_span("redemption.hold", redemption.hold, 1, MAX_HOLD_S, refuse)


def _check_custom(event: Event, refuse: Refuse) -> None:
    check_text(event.custom.name, 1, MAX_NAME, "custom.name", refuse)
    check_attributes("custom.attributes", event.custom.attributes, refuse)


_CHECKS: dict[str, Callable[[Event, Refuse], None]] = {
    "impression": _check_impression,
    "dismissal": _check_dismissal,
    "view": _check_view,
    "add_to_cart": _check_basket,
    "remove_from_cart": _check_basket,
    "checkout_started": _check_checkout,
    "order": _check_order,
    "redemption": _check_redemption,
    "custom": _check_custom,
}
