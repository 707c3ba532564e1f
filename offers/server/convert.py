"""Requests to queries, and errors to statuses: the only place that knows both the messages and the model."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2
from google.type.money_pb2 import Money

from offers.catalogue.hours.schedules import FIRST_SECOND, LAST_SECOND
from offers.catalogue.rules.creative import is_language_tag
from offers.catalogue.rules.values import time_zones
from offers.decision.kernels.places.location import spread
from offers.errors import (
    BusyError,
    ConflictError,
    FieldViolation,
    InvalidRequestError,
    NotFoundError,
    OffersError,
    StoreUnavailableError,
)
from offers.model.query import DEFAULT_MAX_OFFERS, MAX_OFFERS, Query, Surface
from offers.server.limits import (
    MAX_ACCURACY_M,
    MAX_ATTRIBUTES,
    MAX_ID,
    MAX_ITEMS,
    MAX_NAME,
    MAX_PERSON_ID,
    MAX_QUANTITY,
    MAX_SEARCHES,
    MAX_SEEN,
    MAX_UNITS,
    MAX_VIEWED,
    MAX_WORDS,
)
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    Location,
    Search,
    Session,
    SessionBasket,
    SessionItem,
    User,
)
from offers.v1.offer_service_pb2 import VIEW_FULL, GetOffersRequest, SeenOffer
from offers.v1.venue_pb2 import TravelMode

ERROR_DOMAIN = "offers"
RETRY_S = 1
"""After which a caller is told to try again when a store cannot be reached."""
_CODES = {
    NotFoundError: code_pb2.NOT_FOUND,
    ConflictError: code_pb2.FAILED_PRECONDITION,
    BusyError: code_pb2.RESOURCE_EXHAUSTED,
}
CURRENCY = re.compile(r"[A-Z]{3}")

Refuse = Callable[[str, str], None]
"""Notes a field, by its path, and what is wrong with it."""
M = TypeVar("M", bound=Message)
T = TypeVar("T")


def parse(kind: type[M], data: bytes, limit: int) -> M:
    """The message in `data`. Raises InvalidRequestError when it is too large or not one of its kind."""
    if len(data) > limit:
        reason = f"the message has {len(data):,} bytes: send at most {limit:,}"
        raise InvalidRequestError([FieldViolation("request", reason)])
    try:
        return kind.FromString(data)
    except DecodeError:
        reason = f"the bytes are not a {kind.DESCRIPTOR.full_name}: encode the request with the protos of this server"
        raise InvalidRequestError([FieldViolation("request", reason)]) from None


def query_of(request: GetOffersRequest, now: int) -> Query:  # noqa: C901, PLR0912, PLR0915 - a check per field
    """The query a request asks, at the second `now` unless it names a time.

    Raises InvalidRequestError naming every field that cannot be used.
    """
    violations: list[FieldViolation] = []

    def refuse(field: str, reason: str) -> None:
        violations.append(FieldViolation(field, reason))

    # Asking a message whether it has a field takes longer than reading it: done only where the value cannot tell.
    context = request.context
    latitude = longitude = math.nan
    sigma = growth = 0.0
    location = context.location
    if context.HasField("location"):
        latitude, longitude = _position(location, refuse)
    time = now
    if context.HasField("time"):
        time = context.time.seconds
        check_instant("context.time", context.time, refuse)
    time_zone, channel = context.time_zone, context.channel
    language, currency = context.language_code, context.currency_code
    if time_zone and time_zone not in time_zones():
        refuse("context.time_zone", f"unknown zone '{_short(time_zone)}': send an IANA name such as Europe/Paris")
    if len(channel) > MAX_NAME:
        refuse("context.channel", f"{len(channel)} characters: send at most {MAX_NAME}")
    if language:
        language = _language(language)
        if not language:
            refuse("context.language_code", "not a BCP 47 tag: send one such as 'fr' or 'pt-BR'")
    if currency and not CURRENCY.fullmatch(currency):
        refuse("context.currency_code", "not three capital letters: send an ISO 4217 code such as EUR")
    if context.HasField("user"):
        _check_user(context.user, refuse)
    if context.HasField("session"):
        _check_session(context.session, refuse)
    if context.HasField("attributes") and len(context.attributes.fields) > MAX_ATTRIBUTES:
        reason = f"{len(context.attributes.fields):,} entries: send at most {MAX_ATTRIBUTES}"
        refuse("context.attributes", reason)
    max_offers = request.max_offers
    if max_offers == 0 and not request.HasField("max_offers"):
        max_offers = DEFAULT_MAX_OFFERS
    if not 1 <= max_offers <= MAX_OFFERS:
        refuse("max_offers", f"{max_offers} is out of range: send 1 to {MAX_OFFERS}, or leave it out for 10")
    view, placement, request_id = request.view, request.placement, request.request_id
    if not 0 <= view <= VIEW_FULL:
        refuse("view", f"{view} is no view: send VIEW_BASIC or VIEW_FULL")
    if len(placement) > MAX_ID:
        refuse("placement", f"{len(placement):,} characters: send at most {MAX_ID}")
    if len(request_id) > MAX_ID:
        refuse("request_id", f"{len(request_id):,} characters: send at most {MAX_ID}")
    if request.seen:
        _check_seen(request.seen, refuse)
    if violations:
        raise InvalidRequestError(violations)
    if context.HasField("user") and not may_use_context(context.user):
        latitude = longitude = math.nan
    elif context.HasField("location"):
        observed = location.observed_time.seconds if location.HasField("observed_time") else -1
        sigma, growth = spread(location.accuracy_m, observed, location.movement, time)
    surface = Surface(time_zone, placement, channel, language, currency, max_offers, view == VIEW_FULL, request.catalog)
    seed = request.seed if request.HasField("seed") else -1
    return Query(surface, time, latitude, longitude, seed, request_id, sigma, growth)


@lru_cache(1024)
def _language(tag: str) -> str:
    """A language tag in lower case; "" where it is none."""
    return tag.lower() if is_language_tag(tag) else ""


def _position(location: Location, refuse: Refuse) -> tuple[float, float]:
    point = location.point
    latitude, longitude = point.latitude, point.longitude
    if not (-90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0):  # NaN fails every comparison
        for name, degrees, limit in (("latitude", latitude, 90), ("longitude", longitude, 180)):
            if not -limit <= degrees <= limit:
                reason = f"{degrees} is out of range: send degrees from -{limit} to {limit}"
                refuse(f"context.location.point.{name}", reason)
    elif latitude == longitude == 0.0 and not location.HasField("point"):
        refuse("context.location.point", "missing: send a latitude and a longitude, or leave the location out")
    if not 0.0 <= location.accuracy_m <= MAX_ACCURACY_M:
        reason = f"{location.accuracy_m} is out of range: send metres from 0 to {MAX_ACCURACY_M:,}"
        refuse("context.location.accuracy_m", reason)
    if location.HasField("observed_time"):
        check_instant("context.location.observed_time", location.observed_time, refuse)
    if location.movement not in TravelMode.values():
        refuse("context.location.movement", f"{location.movement} is no travel mode: send one of TravelMode")
    return latitude, longitude


def check_instant(field: str, instant: Timestamp, refuse: Refuse) -> None:
    """Note what is wrong with an instant."""
    if not FIRST_SECOND <= instant.seconds < LAST_SECOND:
        refuse(field, f"{instant.seconds} s is out of range: send an instant from 1970 to 2100")
    elif not 0 <= instant.nanos < 1_000_000_000:
        refuse(field, f"{instant.nanos} ns is out of range: send 0 to 999,999,999")


def _check_user(user: User, refuse: Refuse) -> None:
    length = len(user.user_id) + len(user.anonymous_id)  # of one: the other is empty
    if not 1 <= length <= MAX_PERSON_ID:
        reason = f"{length:,} characters: send 1 to {MAX_PERSON_ID} of user_id or anonymous_id, or leave the user out"
        refuse(f"context.user.{user.WhichOneof('identity') or 'user_id'}", reason)
    elif "\0" in user.user_id or "\0" in user.anonymous_id:
        refuse(f"context.user.{user.WhichOneof('identity')}", "has a NUL character, which not every store can keep")


def check_money(money: Money, field: str, refuse: Refuse) -> None:
    """Note what is wrong with a sum of 0 or more."""
    if not CURRENCY.fullmatch(money.currency_code):
        refuse(f"{field}.currency_code", "not three capital letters: send an ISO 4217 code such as EUR")
    if not 0 <= money.units <= MAX_UNITS:
        refuse(f"{field}.units", f"{money.units:,} is out of range: send 0 or more, less than a trillion")
    if not 0 <= money.nanos < 1_000_000_000:
        refuse(f"{field}.nanos", f"{money.nanos:,} is out of range: send 0 to 999,999,999")


def check_quantity(quantity: int, field: str, refuse: Refuse) -> None:
    """Note what is wrong with a number of pieces."""
    if not 1 <= quantity <= MAX_QUANTITY:
        refuse(field, f"{quantity:,} is out of range: send 1 to {MAX_QUANTITY:,}, or leave it out for 1")


def _check_session(session: Session, refuse: Refuse) -> None:
    field = "context.session"
    for name, limit in (("session_id", MAX_PERSON_ID), ("entry_channel", MAX_NAME), ("entry_campaign", MAX_ID)):
        if len(getattr(session, name)) > limit:
            refuse(f"{field}.{name}", f"{len(getattr(session, name)):,} characters: send at most {limit}")
    if session.HasField("start_time"):
        check_instant(f"{field}.start_time", session.start_time, refuse)
    for name, limit in (("viewed_categories", MAX_ID), ("viewed_products", MAX_ID), ("micro_conversions", MAX_NAME)):
        _check_moments(getattr(session, name), limit, f"{field}.{name}", refuse)
    if len(session.searches) > MAX_SEARCHES:
        refuse(f"{field}.searches", f"{len(session.searches):,} searches: send at most {MAX_SEARCHES}, the last ones")
    else:
        _check_each(session.searches, f"{field}.searches", _check_search, refuse)
    if session.HasField("basket"):
        _check_basket(session.basket, f"{field}.basket", refuse)


def _check_each(things: Iterable[T], field: str, check: Callable[[T, str, Refuse], None], refuse: Refuse) -> None:
    """Note what is wrong with the first of some things that is not right: a hundred faults of a hundred help nobody."""
    found: list[tuple[str, str]] = []
    for number, one in enumerate(things):
        check(one, f"{field}[{number}]", lambda path, reason: found.append((path, reason)))
        if found:
            break
    for path, reason in found:
        refuse(path, reason)


def _check_search(search: Search, field: str, refuse: Refuse) -> None:
    if not 1 <= len(search.query) <= MAX_WORDS:
        refuse(f"{field}.query", f"{len(search.query):,} characters: send 1 to {MAX_WORDS}")
    if search.HasField("search_time"):
        check_instant(f"{field}.search_time", search.search_time, refuse)


def _check_item(item: SessionItem, field: str, refuse: Refuse) -> None:
    for name in ("product_id", "category", "venue_id"):
        if len(getattr(item, name)) > MAX_ID:
            refuse(f"{field}.{name}", f"{len(getattr(item, name)):,} characters: send at most {MAX_ID}")
    if item.HasField("quantity"):
        check_quantity(item.quantity, f"{field}.quantity", refuse)


def _check_moments(moments: Mapping[str, Timestamp], limit: int, field: str, refuse: Refuse) -> None:
    """Note what is wrong with names and when each was met last."""
    if len(moments) > MAX_VIEWED:
        refuse(field, f"{len(moments):,} entries: send at most {MAX_VIEWED}, the last ones")
        return

    def check(moment: tuple[str, Timestamp], _: str, refuse: Refuse) -> None:
        name, when = moment
        if not 1 <= len(name) <= limit:
            refuse(field, f"a key of {len(name):,} characters: send 1 to {limit}")
        check_instant(f"{field}[{_short(name)}]", when, refuse)

    _check_each(sorted(moments.items()), field, check, refuse)


def _check_basket(basket: SessionBasket, field: str, refuse: Refuse) -> None:
    if not 1 <= len(basket.items) <= MAX_ITEMS:
        reason = f"{len(basket.items):,} items: send 1 to {MAX_ITEMS}, or leave the basket out"
        refuse(f"{field}.items", reason)
    else:
        _check_each(basket.items, f"{field}.items", _check_item, refuse)
    if basket.HasField("value"):
        check_money(basket.value, f"{field}.value", refuse)
    if basket.HasField("update_time"):
        check_instant(f"{field}.update_time", basket.update_time, refuse)


def _check_seen(seen: Sequence[SeenOffer], refuse: Refuse) -> None:
    if len(seen) > MAX_SEEN:
        refuse("seen", f"{len(seen):,} offers: send at most {MAX_SEEN:,}")
        return
    for number, one in enumerate(seen):
        if not 1 <= len(one.times) <= MAX_SEEN:
            refuse(f"seen[{number}].times", f"{len(one.times):,} instants: send 1 to {MAX_SEEN:,}")
            continue
        # The first and the last stand for all: a thousand faults of a thousand help nobody.
        for when in (min(one.times, key=_seconds), max(one.times, key=_seconds)):
            check_instant(f"seen[{number}].times", when, refuse)


def _seconds(instant: Timestamp) -> int:
    return instant.seconds


def _short(text: str) -> str:
    return text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}..."


def may_use_context(user: User) -> bool:
    """Whether a request's location and session may be used for its answer, as far as the request says."""
    return not user.HasField("consent") or CONSENT_PURPOSE_CONTEXTUAL in user.consent.purposes


def status_of(error: OffersError) -> status_pb2.Status:
    """The status an error ends a call with: a canonical code, and details that say which field and why."""
    if isinstance(error, StoreUnavailableError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = RETRY_S
        return status_pb2.Status(code=code_pb2.UNAVAILABLE, message=str(error), details=[_packed(retry)])
    if not isinstance(error, InvalidRequestError):
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), code_pb2.INTERNAL)
        return status_pb2.Status(code=code, message=str(error))
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.reason)
            for violation in error.violations
        ]
    )
    info = error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain=ERROR_DOMAIN)
    message = "; ".join(f"{violation.field}: {violation.reason}" for violation in error.violations)
    return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=message, details=[_packed(bad), _packed(info)])


BATCH_FULL = status_pb2.Status(
    code=code_pb2.RESOURCE_EXHAUSTED, message="the batch's answers are over 32 MiB: ask for the rest in another"
)
"""What a request of a batch gets when those before it have used up the room."""


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
