"""Converts calls of Segment's Spec (track, identify, alias) to events, attributes and links.

Source: https://segment.com/docs/connections/spec/
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from google.protobuf.struct_pb2 import Struct
from google.type.money_pb2 import Money

from offers.model.money import NANOS
from offers.state.cloudevents import instant
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Event, Item

_NAMES = {
    "Promotion Viewed": "impression",
    "Promotion Clicked": "click",
    "Product Viewed": "view",
    "Product List Viewed": "view",
    "Product Added": "add_to_cart",
    "Product Removed": "remove_from_cart",
    "Checkout Started": "checkout_started",
    "Order Completed": "order",
}
"""Kinds of track calls by name; all others are custom events."""
_DEFAULT_CURRENCY = "USD"
_CUSTOM_NAME = 64


class Identified(NamedTuple):
    """The content of an identify or alias call."""

    user: User
    attributes: Struct
    """Traits; empty for an alias call."""
    visitors: tuple[str, ...]
    """Anonymous ids to link with the user."""


def read(line: Mapping[str, Any]) -> Event | Identified:
    """Return the content of a call. Raises ValueError for a malformed call and for other kinds of calls."""
    kind = line.get("type")
    if kind == "track":
        return _event(line)
    user_id, anonymous_id = _text(line, "userId"), _text(line, "anonymousId")
    if kind == "identify":
        attributes = Struct()
        attributes.update(_object(line, "traits"))
        visitors = (anonymous_id,) if user_id and anonymous_id else ()
        return Identified(_user(user_id, anonymous_id), attributes, visitors)
    if kind == "alias":
        previous = _text(line, "previousId") or anonymous_id
        if not (user_id and previous):
            raise ValueError("an alias needs userId and previousId")
        return Identified(User(user_id=user_id), Struct(), (previous,))
    raise ValueError(f"'{kind}' is no kind of call that is read: there are track, identify and alias")


def _event(line: Mapping[str, Any]) -> Event:
    name, properties = _text(line, "event"), _object(line, "properties")
    event = Event(event_id=_text(line, "messageId"), session_id=_text(_object(line, "context"), "sessionId"))
    if not name:
        raise ValueError("'event' is missing: a track call must have a name")
    event.user.CopyFrom(_user(_text(line, "userId"), _text(line, "anonymousId")))
    time = line.get("timestamp") or line.get("originalTimestamp") or line.get("sentAt")
    if time:
        event.event_time.CopyFrom(instant(time))
    event.offer_id = _text(properties, "promotion_id") or _text(properties, "offer_id")
    event.proposition_id = _text(properties, "proposition_id")
    event.channel = _text(_object(line, "context"), "channel")
    place = _object(_object(line, "context"), "location")
    if "latitude" in place and "longitude" in place:
        event.location.latitude, event.location.longitude = float(place["latitude"]), float(place["longitude"])
    _fill_in_kind(event, name, properties)
    return event


def _fill_in_kind(event: Event, name: str, properties: Mapping[str, Any]) -> None:
    """Fill in the event's kind and its fields."""
    kind = _NAMES.get(name, "custom")
    currency = _text(properties, "currency") or _DEFAULT_CURRENCY
    getattr(event, kind).SetInParent()
    if kind == "view":
        event.view.item.CopyFrom(_item(properties, currency))
    elif kind == "add_to_cart":
        event.add_to_cart.items.append(_item(properties, currency))
    elif kind == "remove_from_cart":
        event.remove_from_cart.items.append(_item(properties, currency))
    elif kind == "checkout_started":
        _pay(event.checkout_started.value, properties, ("value", "total", "revenue"), currency)
        if not event.checkout_started.value.currency_code:
            event.checkout_started.ClearField("value")
    elif kind == "order":
        event.order.order_id = _text(properties, "order_id")
        products = properties.get("products") or []
        event.order.items.extend(_item(product, currency) for product in products)
        _pay(event.order.total, properties, ("total", "revenue", "value"), currency)
        if not event.order.total.currency_code:
            event.order.ClearField("total")
    elif kind == "custom":
        event.custom.name = name[:_CUSTOM_NAME]
        event.custom.attributes.update(dict(properties))


def _item(product: Mapping[str, Any], currency: str) -> Item:
    item = Item(
        product_id=_text(product, "product_id") or _text(product, "sku"),
        category=_text(product, "category"),
        brand=_text(product, "brand"),
        venue_id=_text(product, "venue_id"),
        cuisine=_text(product, "cuisine"),
        price_band=_text(product, "price_band"),
    )
    if "quantity" in product:
        item.quantity = int(product["quantity"])
    if "price" in product:
        _pay(item.price, product, ("price",), _text(product, "currency") or currency)
    return item


def _pay(money: Money, properties: Mapping[str, Any], names: tuple[str, ...], currency: str) -> None:
    """Set money to the first of the named properties that is there."""
    for name in names:
        if properties.get(name) is not None:
            try:
                amount = Decimal(str(properties[name]))
                nanos = int(amount * NANOS)
            except (InvalidOperation, OverflowError, ValueError):
                raise ValueError(f"{name}: '{properties[name]}' is no number") from None
            money.currency_code, money.units, money.nanos = currency, nanos // NANOS, nanos % NANOS
            return


def _user(user_id: str, anonymous_id: str) -> User:
    if not (user_id or anonymous_id):
        raise ValueError("'userId' and 'anonymousId' are missing: one must be there")
    return User(user_id=user_id) if user_id else User(anonymous_id=anonymous_id)


def _text(call: Mapping[str, Any], name: str) -> str:
    value = call.get(name)
    return "" if value is None else str(value)


def _object(call: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = call.get(name) or {}
    if not isinstance(value, dict):
        raise ValueError(f"'{name}' is no object")  # noqa: TRY004 - a fault of the line, as the others
    return value
