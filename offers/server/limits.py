"""The limits of requests, each declared once, and the elements of the protos they hold for.

The comments in protos/offers/v1 state the same limits for callers. tests/server/test_limits.py keeps both equal.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from offers.model.attributes import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTE_NAME,
    MAX_ATTRIBUTES,
    MAX_LEVELS,
    MAX_LISTED,
)
from offers.model.instants import DAY_S
from offers.model.query import MAX_OFFERS

MAX_REQUEST_BYTES: Final = 1 << 20
"""A context of a few kilobytes is large. 1 MiB leaves room for attributes and stops mistakes."""
MAX_BATCH_BYTES: Final = 4 << 20
MAX_BATCH: Final = 1000
"""Requests or events of one message."""
MAX_BATCH_RESPONSE_BYTES: Final = 32 << 20
"""A thousand usual answers have 3 MB. Without this limit a request of 4 kB could ask for a gigabyte."""
MAX_MESSAGE_BYTES: Final = 8 << 20
"""Limit of the transport. It is above the others, so that a message somewhat too large is refused with a reason."""
MAX_ACCURACY_M: Final = 1_000_000
MAX_LATITUDE: Final = 90
MAX_LONGITUDE: Final = 180
MAX_EVENT_BYTES: Final = 64 << 10
"""An order of 100 items with all their properties has less. Events are kept in the log, and exported."""
MAX_EXPORT_BYTES: Final = 4 << 20
"""Longest export in one message: gRPC's clients read no longer ones, unless they are told to."""
MAX_CONSENTS: Final = 100
"""Consent decisions of one change."""
MAX_PATHS: Final = 200
"""Fields that a change names: all attributes that there may be, and as many that are removed."""
MAX_SEEN: Final = 1000
"""Offers that a caller reports as seen by a person, and instants of each."""
MAX_EXPLANATIONS: Final = 1000
"""Catalogues of more offers are not explained as a whole."""
MAX_ID: Final = 128
MAX_PERSON_ID: Final = 256
MAX_NAME: Final = 64
MAX_LINKS: Final = 100
"""Visitors that are linked to a person at once."""
MAX_VISITORS: Final = 1000
"""Visitors that are linked to a person by and by. Each reads its ids where the person is exported or erased."""
MAX_VIEWED: Final = 50
"""Categories, products and micro conversions of a session, of each."""
MAX_SEARCHES: Final = 20
MAX_WORDS: Final = 200
"""Characters of a search."""
MAX_ITEMS: Final = 100
"""Items in a basket or an order."""
MAX_QUANTITY: Final = 1_000_000
MAX_UNITS: Final = 2**40 - 1
"""Whole units of a sum of money."""
MAX_HOLD_S: Final = DAY_S
"""Seconds a reservation may hold."""
MAX_IN_VIEW_S: Final = DAY_S
"""Seconds an offer may be in view."""


class Limit(NamedTuple):
    """The values an element may have, both ends included."""

    least: int
    most: int
    unit: str = ""
    """"characters" of a text or of each key of a map, "entries" of a list or map, "levels" of lists and maps within
    one another, "bytes", "seconds", or "" for the value itself."""


def _characters(most: int, least: int = 0) -> Limit:
    return Limit(least, most, "characters")


def _entries(most: int, least: int = 0) -> Limit:
    return Limit(least, most, "entries")


def _bytes(most: int) -> Limit:
    return Limit(0, most, "bytes")


_ATTRIBUTES = (_entries(MAX_ATTRIBUTES), _bytes(MAX_ATTRIBUTE_BYTES))
_POSITION = (Limit(-MAX_LATITUDE, MAX_LATITUDE), Limit(-MAX_LONGITUDE, MAX_LONGITUDE))
_MONEY = (Limit(0, MAX_UNITS),)
_ID, _PERSON_ID, _NAME = (_characters(MAX_ID),), (_characters(MAX_PERSON_ID),), (_characters(MAX_NAME),)

LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "Context.attributes": _ATTRIBUTES,
    "Context.channel": _NAME,
    "Location.point": _POSITION,
    "Location.accuracy_m": (Limit(0, MAX_ACCURACY_M),),
    "User.user_id": (_characters(MAX_PERSON_ID, 1),),
    "User.anonymous_id": (_characters(MAX_PERSON_ID, 1),),
    "Session.session_id": _PERSON_ID,
    "Session.entry_channel": _NAME,
    "Session.entry_campaign": _ID,
    "Session.viewed_categories": (_entries(MAX_VIEWED), _characters(MAX_ID, 1)),
    "Session.viewed_products": (_entries(MAX_VIEWED), _characters(MAX_ID, 1)),
    "Session.searches": (_entries(MAX_SEARCHES),),
    "Session.micro_conversions": (_entries(MAX_VIEWED), _characters(MAX_NAME, 1)),
    "Search.query": (_characters(MAX_WORDS, 1),),
    "SessionBasket.items": (_entries(MAX_ITEMS, 1),),
    "SessionBasket.value": _MONEY,
    "SessionItem.product_id": _ID,
    "SessionItem.category": _ID,
    "SessionItem.venue_id": _ID,
    "SessionItem.quantity": (Limit(1, MAX_QUANTITY),),
    "OfferService.BatchGetOffers": (_bytes(MAX_BATCH_RESPONSE_BYTES),),
    "GetOffersRequest": (_bytes(MAX_REQUEST_BYTES), _bytes(MAX_MESSAGE_BYTES)),
    "GetOffersRequest.placement": _ID,
    "GetOffersRequest.max_offers": (Limit(1, MAX_OFFERS),),
    "GetOffersRequest.request_id": _ID,
    "GetOffersRequest.seen": (_entries(MAX_SEEN),),
    "SeenOffer.times": (_entries(MAX_SEEN, 1),),
    "BatchGetOffersRequest": (_bytes(MAX_BATCH_BYTES),),
    "BatchGetOffersRequest.requests": (_entries(MAX_BATCH, 1),),
    "ExplainOffersRequest": (_bytes(MAX_REQUEST_BYTES),),
    "ExplainOffersRequest.offer_ids": (_entries(MAX_EXPLANATIONS), _characters(MAX_ID, 1)),
    "ExplainOffersRequest.max_explanations": (Limit(1, MAX_EXPLANATIONS),),
    "ReportEventsRequest": (_bytes(MAX_BATCH_BYTES),),
    "ReportEventsRequest.events": (_entries(MAX_BATCH, 1),),
    "StreamEventsRequest": (_bytes(MAX_BATCH_BYTES),),
    "StreamEventsRequest.events": (_entries(MAX_BATCH, 1),),
    "Event": (_bytes(MAX_EVENT_BYTES),),
    "Event.event_id": (_characters(MAX_ID, 1),),
    "Event.catalog": _ID,
    "Event.proposition_id": _ID,
    "Event.offer_id": _ID,
    "Event.placement": _ID,
    "Event.channel": _NAME,
    "Event.session_id": _PERSON_ID,
    "Event.location": _POSITION,
    "Impression.in_view": (Limit(0, MAX_IN_VIEW_S, "seconds"),),
    "Dismissal.reason": _NAME,
    "Item.product_id": _ID,
    "Item.category": _ID,
    "Item.brand": _ID,
    "Item.venue_id": _ID,
    "Item.cuisine": _NAME,
    "Item.price_band": _NAME,
    "Item.quantity": (Limit(1, MAX_QUANTITY),),
    "Item.price": _MONEY,
    "BasketChange.items": (_entries(MAX_ITEMS, 1),),
    "CheckoutStarted.value": _MONEY,
    "Order.order_id": _ID,
    "Order.items": (_entries(MAX_ITEMS),),
    "Order.total": _MONEY,
    "RedemptionEvent.redemption_id": (_characters(MAX_ID, 1),),
    "RedemptionEvent.units": (Limit(1, MAX_QUANTITY),),
    "RedemptionEvent.amount": _MONEY,
    "RedemptionEvent.hold": (Limit(1, MAX_HOLD_S, "seconds"),),
    "CustomEvent.name": (_characters(MAX_NAME, 1),),
    "CustomEvent.attributes": _ATTRIBUTES,
    "Profile.attributes": (
        *_ATTRIBUTES,
        _characters(MAX_ATTRIBUTE_NAME, 1),
        _entries(MAX_LISTED),
        Limit(0, MAX_LEVELS, "levels"),
    ),
    "Profile.consents": (_entries(MAX_CONSENTS),),
    "Consent.recorded_by": _ID,
    "Consent.source": _ID,
    "GetProfileRequest": (_bytes(MAX_REQUEST_BYTES),),
    "UpdateProfileRequest": (_bytes(MAX_REQUEST_BYTES),),
    "UpdateProfileRequest.update_mask": (_entries(MAX_PATHS),),
    "DeleteProfileRequest": (_bytes(MAX_REQUEST_BYTES),),
    "ProfileService.ExportProfile": (_bytes(MAX_EXPORT_BYTES),),
    "ExportProfileRequest": (_bytes(MAX_REQUEST_BYTES),),
    "StreamExportProfileRequest": (_bytes(MAX_REQUEST_BYTES),),
    "ProfileService.LinkIdentities": (_entries(MAX_VISITORS),),
    "LinkIdentitiesRequest": (_bytes(MAX_REQUEST_BYTES),),
    "LinkIdentitiesRequest.user_id": (_characters(MAX_PERSON_ID, 1),),
    "LinkIdentitiesRequest.anonymous_ids": (_entries(MAX_LINKS, 1), _characters(MAX_PERSON_ID, 1)),
}
"""Every limit, by the name of the message, field or method whose comment states it."""
