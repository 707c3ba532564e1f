"""Valid requests, from which mutations start: samples of known methods, and values for fields by their names."""

from functools import lru_cache
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from tests.faults.fuzz.methods import Method, is_list, is_map

ALL_PURPOSES = [f"CONSENT_PURPOSE_{name}" for name in ("CONTEXTUAL", "PROFILING", "LEARNING", "MESSAGING")]
SOMEBODY = {"userId": "person", "consent": {"purposes": ALL_PURPOSES}}
CONTEXT = {
    "location": {"point": {"latitude": 48.86, "longitude": 2.35}, "accuracyM": 10},
    "time": "2026-11-30T12:00:00Z",
    "timeZone": "Europe/Paris",
    "user": SOMEBODY,
    "attributes": {"weather": "rain", "party": 4, "tags": ["a", {"b": None}]},
    "channel": "app",
    "languageCode": "fr-FR",
    "currencyCode": "EUR",
    "session": {
        "sessionId": "today",
        "startTime": "2026-11-30T11:59:00Z",
        "viewedCategories": {"sushi": "2026-11-30T11:59:30Z"},
        "microConversions": {"help_opened": "2026-11-30T11:59:30Z"},
        "searches": [{"query": "sushi", "searchTime": "2026-11-30T11:59:40Z"}],
        "basket": {"items": [{"category": "sushi", "quantity": 2}], "value": {"currencyCode": "EUR", "units": 30}},
    },
}
GET = {"context": CONTEXT, "requestId": "fuzz", "maxOffers": 10, "view": "VIEW_FULL", "seed": 7}
OF_AN_OFFER = {"eventId": "event", "user": SOMEBODY, "offerId": "welcome-first-order", "channel": "app"}
ITEM = {"productId": "maki", "category": "sushi", "quantity": 2, "price": {"currencyCode": "EUR", "units": 9}}
EVENTS = [
    {**OF_AN_OFFER, "impression": {"inView": "2s"}},
    {**OF_AN_OFFER, "click": {}, "location": {"latitude": 48.86, "longitude": 2.35}},
    {**OF_AN_OFFER, "dismissal": {"reason": "seen"}},
    {"eventId": "event", "user": SOMEBODY, "view": {"item": ITEM}},
    {"eventId": "event", "user": SOMEBODY, "addToCart": {"items": [ITEM]}},
    {"eventId": "event", "user": SOMEBODY, "order": {"orderId": "order", "items": [ITEM]}},
    {**OF_AN_OFFER, "redemption": {"phase": "PHASE_RESERVE", "redemptionId": "redemption", "units": 1, "hold": "60s"}},
    {**OF_AN_OFFER, "redemption": {"phase": "PHASE_CONFIRM", "redemptionId": "redemption"}},
    {"eventId": "event", "user": SOMEBODY, "custom": {"name": "walked", "attributes": {"steps": 9}}},
]
SAMPLES: dict[str, list[dict[str, Any]]] = {
    "/offers.v1.OfferService/GetOffers": [GET, {"context": CONTEXT}, {}],
    "/offers.v1.OfferService/BatchGetOffers": [{"requests": [GET, GET]}],
    "/offers.v1.OfferService/ExplainOffers": [{"request": GET, "offerIds": ["welcome-first-order"]}],
    "/offers.v1.EventService/ReportEvents": [{"events": EVENTS}, *({"events": [event]} for event in EVENTS)],
    "/offers.v1.EventService/StreamEvents": [{"events": [event]} for event in EVENTS],
    "/offers.v1.ProfileService/GetProfile": [{"user": SOMEBODY}],
    "/offers.v1.ProfileService/UpdateProfile": [
        {"user": SOMEBODY, "profile": {"attributes": {"vip": True}}, "updateMask": "attributes.vip"},
        {"user": SOMEBODY, "profile": {"consents": [{"purpose": "CONSENT_PURPOSE_PROFILING", "granted": True}]}},
    ],
    "/offers.v1.ProfileService/DeleteProfile": [{"user": SOMEBODY}],
    "/offers.v1.ProfileService/ExportProfile": [{"user": SOMEBODY}],
    "/offers.v1.ProfileService/StreamExportProfile": [{"user": SOMEBODY}],
    "/offers.v1.ProfileService/LinkIdentities": [
        {"userId": "person", "anonymousIds": ["visitor"], "consent": {"purposes": ALL_PURPOSES}}
    ],
    "/grpc.health.v1.Health/Check": [{"service": "offers.v1.OfferService"}, {}],
    "/grpc.health.v1.Health/Watch": [{}],
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": [
        {"listServices": ""},
        {"fileContainingSymbol": "offers.v1.OfferService"},
    ],
}
PERSONS = 500
NAMED: dict[str, tuple[str, ...]] = {
    "user_id": tuple(f"person-{number}" for number in range(PERSONS)),
    "anonymous_id": tuple(f"visitor-{number}" for number in range(PERSONS)),
    "anonymous_ids": tuple(f"visitor-{number}" for number in range(PERSONS)),
    "redemption_id": tuple(f"redemption-{number}" for number in range(PERSONS)),
    "offer_id": ("welcome-first-order", "pickup-paris", "refer-a-friend", "carte-cadeau-web"),
    "offer_ids": ("welcome-first-order", "pickup-paris", "refer-a-friend", "carte-cadeau-web"),
    "time_zone": ("Europe/Paris", "Asia/Kathmandu", "America/St_Johns", "UTC"),
    "language_code": ("fr-FR", "en", "de-CH"),
    "currency_code": ("EUR", "USD", "JPY"),
    "channel": ("app", "web", "email"),
    "catalog": ("",),
}
"""Texts that are right for a field of this name."""
_WHOLE = (0, 1, 2, 5, 30, 100)


@lru_cache
def _parsed(method: Method) -> list[Message]:
    return [ParseDict(sample, method.request()) for sample in SAMPLES.get(method.path, [{}])]


def sample(random: Random, method: Method) -> Message:
    """Return a valid request of a known method, and of a new one whatever its fields' names and types suggest."""
    request = method.request()
    request.CopyFrom(random.choice(_parsed(method)))
    vary(random, request)
    if method.path not in SAMPLES:
        for _ in range(random.randint(1, 8)):
            grow(random, request)
    return request


def vary(random: Random, message: Message) -> None:
    """Give other ids to persons, events and redemptions, at any depth, so that not all requests are about one."""
    for field, value in message.ListFields():
        if field.name == "event_id":
            setattr(message, field.name, f"event-{random.getrandbits(40)}")
        elif field.name in NAMED and not is_list(field):
            setattr(message, field.name, random.choice(NAMED[field.name]))
        elif field.message_type is None or is_map(field):
            continue
        elif is_list(field):
            for one in value:
                vary(random, one)
        elif field.message_type.file.package.startswith("offers."):
            vary(random, value)


def grow(random: Random, message: Message) -> None:
    """Set a field, at any depth, to a value that suits its name and type."""
    target: Any = message
    for _ in range(random.randint(1, 6)):
        if not target.DESCRIPTOR.fields:
            return
        field = random.choice(target.DESCRIPTOR.fields)
        if is_map(field):
            return
        if field.message_type is None:
            value = suitable(random, field)
            if is_list(field):
                getattr(target, field.name).append(value)
            else:
                setattr(target, field.name, value)
            return
        target = getattr(target, field.name).add() if is_list(field) else getattr(target, field.name)
    target.SetInParent()


def suitable(random: Random, field: FieldDescriptor) -> Any:  # noqa: ANN401 - a value of any field
    """Return a value that suits the name and type of a field."""
    if field.enum_type is not None:
        return random.choice(field.enum_type.values).number
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = random.choice(NAMED.get(field.name, (f"{field.name}-{random.randrange(PERSONS)}",)))
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if field.cpp_type in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return random.uniform(0, 60)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    return random.choice(_WHOLE)
