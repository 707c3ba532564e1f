"""Checks of the values of a request, each of which reports the fields that cannot be used."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from offers.catalogue.hours.schedules import FIRST_SECOND, LAST_SECOND
from offers.model.attributes import attribute_faults
from offers.model.currencies import PAST_CURRENCIES, fraction_fault
from offers.model.money import NANOS
from offers.server.limits import (
    MAX_ACCURACY_M,
    MAX_ID,
    MAX_ITEMS,
    MAX_LATITUDE,
    MAX_LONGITUDE,
    MAX_NAME,
    MAX_PERSON_ID,
    MAX_QUANTITY,
    MAX_SEARCHES,
    MAX_SEEN,
    MAX_UNITS,
    MAX_VIEWED,
    MAX_WORDS,
)
from offers.v1.context_pb2 import Location, Search, Session, SessionBasket, SessionItem, User
from offers.v1.offer_service_pb2 import SeenOffer
from offers.v1.venue_pb2 import TravelMode

Refuse = Callable[[str, str], None]
"""Reports a field that cannot be used: its path, and the reason with the remedy."""
T = TypeVar("T")


def check_instant(field: str, instant: Timestamp, refuse: Refuse) -> None:
    """Check that an instant is from 1970 to 2100."""
    if not FIRST_SECOND <= instant.seconds < LAST_SECOND:
        refuse(field, f"{instant.seconds} s is out of range: send an instant from 1970 to 2100")
    elif not 0 <= instant.nanos < NANOS:
        refuse(field, f"{instant.nanos} ns is out of range: send 0 to 999,999,999")


def check_span(field: str, span: Duration, least: int, most: int, refuse: Refuse) -> None:
    """Check a span of time of `least` to `most` seconds."""
    if not (least <= span.seconds <= most and 0 <= span.nanos < NANOS) or (span.seconds == most and span.nanos):
        told = f"{span.seconds:,} s" + (f" and {span.nanos:,} ns" if span.nanos else "")
        refuse(field, f"{told} is out of range: send {least} to {most:,} seconds")


def check_attributes(field: str, attributes: Struct, refuse: Refuse) -> None:
    """Check the names and values of attributes."""
    for path, reason in attribute_faults(attributes):
        refuse(f"{field}.{path}" if path else field, reason)


def check_money(money: Money, field: str, refuse: Refuse) -> None:
    """Check a sum of 0 or more, in whole minor units of its currency."""
    decimals = PAST_CURRENCIES.get(money.currency_code)
    if decimals is None:
        refuse(f"{field}.currency_code", no_currency(money.currency_code))
    if not 0 <= money.units <= MAX_UNITS:
        refuse(f"{field}.units", f"{money.units:,} is out of range: send 0 to {MAX_UNITS:,}")
    if not 0 <= money.nanos < NANOS:
        refuse(f"{field}.nanos", f"{money.nanos:,} is out of range: send 0 to 999,999,999")
    elif decimals is not None and (reason := fraction_fault(money, decimals)):
        refuse(f"{field}.nanos", reason)


def no_currency(code: str) -> str:
    """Return why a text that is no currency's code cannot be used."""
    return f"'{cut(code)}' is no currency: send three capital letters of ISO 4217, such as EUR"


def check_quantity(quantity: int, field: str, refuse: Refuse) -> None:
    """Check a number of pieces."""
    if not 1 <= quantity <= MAX_QUANTITY:
        refuse(field, f"{quantity:,} is out of range: send 1 to {MAX_QUANTITY:,}, or leave it out for 1")


def check_location(location: Location, refuse: Refuse) -> None:
    """Check a position and what is said of its accuracy."""
    point = location.point
    latitude, longitude = point.latitude, point.longitude
    # NaN fails every comparison.
    if not (-MAX_LATITUDE <= latitude <= MAX_LATITUDE and -MAX_LONGITUDE <= longitude <= MAX_LONGITUDE):
        for name, degrees, limit in (("latitude", latitude, MAX_LATITUDE), ("longitude", longitude, MAX_LONGITUDE)):
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


def check_user(user: User, refuse: Refuse) -> None:
    """Check the id of a person."""
    length = len(user.user_id) + len(user.anonymous_id)  # one of the two is empty
    if not 1 <= length <= MAX_PERSON_ID:
        reason = f"{length:,} characters: send 1 to {MAX_PERSON_ID} of user_id or anonymous_id, or leave the user out"
        refuse(f"context.user.{user.WhichOneof('identity') or 'user_id'}", reason)
    elif "\0" in user.user_id or "\0" in user.anonymous_id:
        refuse(f"context.user.{user.WhichOneof('identity')}", "has a NUL character, which not every store can keep")


def check_session(session: Session, refuse: Refuse) -> None:
    """Check a session and its basket."""
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


def check_seen(seen: Sequence[SeenOffer], refuse: Refuse) -> None:
    """Check the offers that a caller reports as seen."""
    if len(seen) > MAX_SEEN:
        refuse("seen", f"{len(seen):,} offers: send at most {MAX_SEEN:,}")
        return
    for number, one in enumerate(seen):
        if not 1 <= len(one.times) <= MAX_SEEN:
            refuse(f"seen[{number}].times", f"{len(one.times):,} instants: send 1 to {MAX_SEEN:,}")
            continue
        # Check the extremes only: a report of a thousand bad instants helps nobody.
        for when in (min(one.times, key=_seconds), max(one.times, key=_seconds)):
            check_instant(f"seen[{number}].times", when, refuse)


def cut(text: str) -> str:
    """Return a text, cut where it is longer than a name."""
    return text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}..."


def _seconds(instant: Timestamp) -> int:
    return instant.seconds


def _check_each(things: Iterable[T], field: str, check: Callable[[T, str, Refuse], None], refuse: Refuse) -> None:
    """Check things until one cannot be used, and report only that one: a hundred reports would help nobody."""
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
    """Check a map from names of at most `limit` characters to instants."""
    if len(moments) > MAX_VIEWED:
        refuse(field, f"{len(moments):,} entries: send at most {MAX_VIEWED}, the last ones")
        return

    def check(moment: tuple[str, Timestamp], _: str, refuse: Refuse) -> None:
        name, when = moment
        if not 1 <= len(name) <= limit:
            refuse(field, f"a key of {len(name):,} characters: send 1 to {limit}")
        check_instant(f"{field}[{cut(name)}]", when, refuse)

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
