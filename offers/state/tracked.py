"""Converts calls of Segment's Spec to events, attributes and links.

Source: https://segment.com/docs/connections/spec/

A field of null is not there. An id may be a whole number; a sum of money may be a text of digits with a point. Other
values of the wrong type are refused.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from google.protobuf.struct_pb2 import Struct
from google.type.money_pb2 import Money

from offers.model.json_messages import instant_of, struct_of, unfit
from offers.model.money import NANOS
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
PASSED_OVER = ("page", "screen", "group")
"""Kinds of calls that say nothing about offers, items or persons."""
_DEFAULT_CURRENCY = "USD"
_CUSTOM_NAME = 64
_SUM = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?", re.ASCII)
_SUM_DIGITS = 6
"""Decimals that are read of a sum: sums that were computed in floats, such as 0.1 + 0.7, are off by less."""
_MOST_UNITS = 2**63 - 1
"""Whole units that Money can hold."""
_QUANTITIES = range(-(2**31), 2**31)
"""Pieces that an Item can hold."""


class Identified(NamedTuple):
    """The content of an identify or alias call."""

    user: User
    attributes: Struct
    """Traits; empty for an alias call."""
    removed: tuple[str, ...]
    """Names of the traits that are null: the attributes to remove."""
    visitors: tuple[str, ...]
    """Anonymous ids to link with the user."""


class PassedOver(NamedTuple):
    """A call that is not read."""

    kind: str


class _Part:
    """An object of a call, with readers of its fields. They raise ValueError that names the field."""

    def __init__(self, fields: Mapping[str, Any], path: str = "") -> None:
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._path = path

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def path(self, name: str) -> str:
        """Return the path of a field from the call."""
        return f"{self._path}.{name}" if self._path else name

    def value(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        """Return a field as it is; None where it is not there."""
        return self._fields.get(name)

    def text(self, *names: str) -> str:
        """Return the first of some fields that has a text or an id that is a whole number; "" where none has."""
        for name in names:
            value = self._fields.get(name, "")
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise unfit(self.path(name), value, "is neither a text nor a whole number")
            if value != "":
                return str(value)
        return ""

    def number(self, name: str) -> float:
        """Return a number."""
        value = self._fields[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise unfit(self.path(name), value, "is no number")
        return float(value)

    def whole(self, name: str) -> int:
        """Return a whole number of pieces; 2.0 is one."""
        value = self.number(name)
        if not value.is_integer():
            raise unfit(self.path(name), self._fields[name], "is no whole number of pieces")
        if int(value) not in _QUANTITIES:
            raise unfit(self.path(name), self._fields[name], "is out of range")
        return int(value)

    def sum(self, name: str, currency: str) -> Money:
        """Return a sum of money, which may be a number or its digits as a text."""
        value = self._fields[name]
        if not (isinstance(value, str) and _SUM.fullmatch(value)):
            self.number(name)
        amount = Decimal(str(value))
        if abs(amount) > _MOST_UNITS:
            raise unfit(self.path(name), value, "is out of range")
        amount = round(amount, _SUM_DIGITS)
        units = int(amount)
        return Money(currency_code=currency, units=units, nanos=int((amount - units) * NANOS))

    def part(self, name: str) -> "_Part":
        """Return an object; an empty one where it is not there."""
        return _part(self._fields.get(name, {}), self.path(name))

    def parts(self, name: str) -> "Sequence[_Part]":
        """Return the objects of a list; none where it is not there."""
        values = self._fields.get(name, [])
        if not isinstance(values, list):
            raise unfit(self.path(name), values, "is no list")
        return [_part(value, f"{self.path(name)}[{index}]") for index, value in enumerate(values)]


def read(call: Mapping[str, Any]) -> Event | Identified | PassedOver:
    """Return the content of a call. Raises ValueError for a malformed call and for other kinds of calls."""
    part = _Part(call)
    kind = part.value("type")
    if kind == "track":
        return _event(part)
    if kind in PASSED_OVER:
        return PassedOver(kind)
    if kind == "identify":
        return _identified(part)
    if kind == "alias":
        user_id, previous = part.text("userId"), part.text("previousId", "anonymousId")
        if not (user_id and previous):
            message = "an alias needs userId and previousId"
            raise ValueError(message)
        return Identified(User(user_id=user_id), Struct(), (), (previous,))
    if "type" not in part:
        message = "is neither a CloudEvent, which has a 'specversion', nor a call, which has a 'type'"
        raise ValueError(message)
    known = ", ".join(("track", "identify", "alias", *PASSED_OVER))
    raise unfit("type", kind, f"is no kind of call: there are {known}")


def _identified(call: _Part) -> Identified:
    user_id, anonymous_id = call.text("userId"), call.text("anonymousId")
    traits = call.value("traits") if "traits" in call else {}
    if not isinstance(traits, dict):
        raise unfit("traits", traits, "is no object")
    given = {name: value for name, value in traits.items() if value is not None}
    removed = tuple(name for name in traits if name not in given)
    visitors = (anonymous_id,) if user_id and anonymous_id else ()
    return Identified(_user(user_id, anonymous_id), struct_of(given, "traits"), removed, visitors)


def _event(call: _Part) -> Event:
    name, properties, context = call.text("event"), call.part("properties"), call.part("context")
    for needed in ("event", "messageId"):
        if not call.text(needed):
            raise ValueError(f"'{needed}' is missing: a track call must have it")
    event = Event(event_id=call.text("messageId"), session_id=context.text("sessionId"))
    event.user.CopyFrom(_user(call.text("userId"), call.text("anonymousId")))
    time = next((one for one in ("timestamp", "originalTimestamp", "sentAt") if one in call), None)
    if time is not None:
        event.event_time.CopyFrom(instant_of(call.value(time), time))
    event.offer_id = properties.text("promotion_id", "offer_id")
    event.proposition_id = properties.text("proposition_id")
    event.channel = context.text("channel")
    place = context.part("location")
    if "latitude" in place and "longitude" in place:
        event.location.latitude, event.location.longitude = place.number("latitude"), place.number("longitude")
    _fill_in_kind(event, name, properties, call.value("properties") or {})
    return event


def _fill_in_kind(event: Event, name: str, properties: _Part, attributes: Mapping[str, Any]) -> None:
    """Fill in the event's kind and its fields; `attributes` are those of a custom event."""
    kind = _NAMES.get(name, "custom")
    getattr(event, kind).SetInParent()
    if kind == "custom":
        event.custom.name = name[:_CUSTOM_NAME]
        event.custom.attributes.CopyFrom(struct_of(attributes, "properties"))
        return
    currency = properties.text("currency") or _DEFAULT_CURRENCY
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
        event.order.order_id = properties.text("order_id")
        event.order.items.extend(_item(product, currency) for product in properties.parts("products"))
        _pay(event.order.total, properties, ("total", "revenue", "value"), currency)
        if not event.order.total.currency_code:
            event.order.ClearField("total")


def _item(product: _Part, currency: str) -> Item:
    item = Item(
        product_id=product.text("product_id", "sku"),
        category=product.text("category"),
        brand=product.text("brand"),
        venue_id=product.text("venue_id"),
        cuisine=product.text("cuisine"),
        price_band=product.text("price_band"),
    )
    if "quantity" in product:
        item.quantity = product.whole("quantity")
    if "price" in product:
        item.price.CopyFrom(product.sum("price", product.text("currency") or currency))
    return item


def _pay(money: Money, properties: _Part, names: tuple[str, ...], currency: str) -> None:
    """Set money to the first of the named properties that is there."""
    name = next((name for name in names if name in properties), None)
    if name is not None:
        money.CopyFrom(properties.sum(name, currency))


def _user(user_id: str, anonymous_id: str) -> User:
    if not (user_id or anonymous_id):
        message = "'userId' and 'anonymousId' are missing: one must be there"
        raise ValueError(message)
    return User(user_id=user_id) if user_id else User(anonymous_id=anonymous_id)


def _part(value: object, path: str) -> _Part:
    if not isinstance(value, dict):
        raise unfit(path, value, "is no object")
    return _Part(value, path)
