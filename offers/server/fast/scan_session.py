"""Scan a usual request's session: check that convert.py would find nothing wrong in it."""

from typing import Any

from offers.catalogue.hours.schedules import FIRST_SECOND, LAST_SECOND
from offers.compiled import apart, inner
from offers.decision.kernels.memory.encoded import BYTES, VARINT, following, span, varint
from offers.server.limits import (
    MAX_ID,
    MAX_ITEMS,
    MAX_NAME,
    MAX_PERSON_ID,
    MAX_QUANTITY,
    MAX_SEARCHES,
    MAX_UNITS,
    MAX_VIEWED,
    MAX_WORDS,
)
from offers.v1.context_pb2 import Search, Session, SessionBasket, SessionItem

_FIRST_SECOND, _LAST_SECOND = FIRST_SECOND, LAST_SECOND  # numba reads globals of this module only once, as constants
SECONDS, NANOS = 1 << 3 | VARINT, 2 << 3 | VARINT  # google.protobuf.Timestamp


def _tag(message: Any, field: str, kind: int = BYTES) -> int:  # noqa: ANN401 - of any type
    """Return the first byte of a field on the wire; all fields read here have numbers under 16."""
    return int(message.DESCRIPTOR.fields_by_name[field].number) << 3 | kind


SESSION_ID, START_TIME = _tag(Session, "session_id"), _tag(Session, "start_time")
ENTRY_CHANNEL, ENTRY_CAMPAIGN = _tag(Session, "entry_channel"), _tag(Session, "entry_campaign")
VIEWED_CATEGORIES, VIEWED_PRODUCTS = _tag(Session, "viewed_categories"), _tag(Session, "viewed_products")
SEARCHES, BASKET = _tag(Session, "searches"), _tag(Session, "basket")
MICRO_CONVERSIONS = _tag(Session, "micro_conversions")
QUERY, SEARCH_TIME = _tag(Search, "query"), _tag(Search, "search_time")
ITEMS, WORTH, UPDATE_TIME = (
    _tag(SessionBasket, "items"),
    _tag(SessionBasket, "value"),
    _tag(SessionBasket, "update_time"),
)
PRODUCT, CATEGORY, VENUE = (_tag(SessionItem, name) for name in ("product_id", "category", "venue_id"))
QUANTITY = _tag(SessionItem, "quantity", VARINT)
KEY, WHEN = 1 << 3 | BYTES, 2 << 3 | BYTES  # of a map's entry
CURRENCY, UNITS, MONEY_NANOS = 1 << 3 | BYTES, 2 << 3 | VARINT, 3 << 3 | VARINT  # google.type.Money


@apart
def usual_session(data: bytes, at: int, end: int) -> bool:
    """Return whether a Session is a usual one, with nothing wrong in it."""
    low, searches, seen = at, 0, 0
    while at < end:
        tag, field = data[at], at
        begin, at = span(data, at + 1, end)
        if at < 0:
            return False
        if tag in (SESSION_ID, ENTRY_CHANNEL, ENTRY_CAMPAIGN):
            most = MAX_PERSON_ID if tag == SESSION_ID else MAX_NAME if tag == ENTRY_CHANNEL else MAX_ID
            usual = _is_text(data, begin, at, 0, most)
        elif tag in (VIEWED_CATEGORIES, VIEWED_PRODUCTS, MICRO_CONVERSIONS):
            usual = _is_moment(data, begin, at, MAX_NAME if tag == MICRO_CONVERSIONS else MAX_ID)
            usual = usual and _is_new(data, low, field, tag, begin, at)
        elif tag == SEARCHES:
            searches += 1
            usual = searches <= MAX_SEARCHES and _is_search(data, begin, at)
        elif tag in (START_TIME, BASKET) and not seen & 1 << (tag >> 3):
            seen |= 1 << (tag >> 3)
            usual = second_of(data, begin, at) >= 0 if tag == START_TIME else _is_basket(data, begin, at)
        else:
            usual = False
        if not usual:
            return False
    return True


@inner
def _is_new(data: bytes, at: int, end: int, wanted: int, begin: int, stop: int) -> bool:
    """Return whether a map's entry has a key of its own, and the map is not too large so far."""
    own, own_end = span(data, begin + 1, stop)
    count = 1
    while at < end:
        tag, other, at = following(data, at, end)
        if tag != wanted:
            continue
        count += 1
        low, high = span(data, other + 1, at)
        same = high - low == own_end - own
        for index in range(own_end - own if same else 0):
            same &= data[own + index] == data[low + index]
        if same:
            return False
    return count <= MAX_VIEWED


@inner
def _is_moment(data: bytes, at: int, end: int, most: int) -> bool:
    """Return whether a map's entry is a text of 1 to `most` characters, then an instant."""
    if at == end or data[at] != KEY:
        return False
    begin, at = span(data, at + 1, end)
    if at < 0 or not _is_text(data, begin, at, 1, most) or at == end or data[at] != WHEN:
        return False
    begin, at = span(data, at + 1, end)
    return at == end and second_of(data, begin, at) >= 0


@inner
def _is_search(data: bytes, at: int, end: int) -> bool:
    """Return whether a Search is a usual one."""
    seen = 0
    while at < end:
        tag = data[at]
        begin, at = span(data, at + 1, end)
        if at < 0 or tag not in (QUERY, SEARCH_TIME) or seen & 1 << (tag >> 3):
            return False
        seen |= 1 << (tag >> 3)
        usual = _is_text(data, begin, at, 1, MAX_WORDS) if tag == QUERY else second_of(data, begin, at) >= 0
        if not usual:
            return False
    return seen & 1 << (QUERY >> 3) != 0


@inner
def _is_basket(data: bytes, at: int, end: int) -> bool:
    """Return whether a SessionBasket is a usual one."""
    items = seen = 0
    while at < end:
        tag = data[at]
        begin, at = span(data, at + 1, end)
        if at < 0:
            return False
        if tag == ITEMS:
            items += 1
            usual = _is_item(data, begin, at)
        elif tag in (WORTH, UPDATE_TIME) and not seen & 1 << (tag >> 3):
            seen |= 1 << (tag >> 3)
            usual = _is_money(data, begin, at) if tag == WORTH else second_of(data, begin, at) >= 0
        else:
            usual = False
        if not usual:
            return False
    return 1 <= items <= MAX_ITEMS


@inner
def _is_item(data: bytes, at: int, end: int) -> bool:
    """Return whether a SessionItem is a usual one."""
    while at < end:
        tag = data[at]
        if tag == QUANTITY:
            quantity, at = varint(data, at + 1, end)
            usual = 1 <= quantity <= MAX_QUANTITY
        else:
            begin, at = span(data, at + 1, end)
            usual = tag in (PRODUCT, CATEGORY, VENUE) and at >= 0 and _is_text(data, begin, at, 0, MAX_ID)
        if at < 0 or not usual:
            return False
    return True


@inner
def _is_money(data: bytes, at: int, end: int) -> bool:
    """Return whether a google.type.Money is a usual one."""
    named = False
    while at < end:
        tag = data[at]
        if tag == CURRENCY:
            begin, at = span(data, at + 1, end)
            if at - begin != 3:
                return False
            for index in range(begin, at):
                if not 65 <= data[index] <= 90:
                    return False
            named = True
        elif tag in (UNITS, MONEY_NANOS):
            number, at = varint(data, at + 1, end)
            if at < 0 or not 0 <= number <= (MAX_UNITS if tag == UNITS else 999_999_999):
                return False
        else:
            return False
    return named


@inner
def second_of(data: bytes, at: int, end: int) -> int:
    """Return the second of a Timestamp; -1 if requests may not name it."""
    second = 0
    while at < end:
        tag = data[at]
        number, at = varint(data, at + 1, end)
        if at < 0:
            return -1
        if tag == SECONDS:
            second = number
        elif tag != NANOS or not 0 <= number < 1_000_000_000:
            return -1
    return second if _FIRST_SECOND <= second < _LAST_SECOND else -1


@inner
def _is_text(data: bytes, begin: int, end: int, least: int, most: int) -> bool:
    """Return whether a text is plain and has `least` to `most` characters."""
    return least <= end - begin <= most and is_plain(data, begin, end)


@inner
def is_plain(data: bytes, at: int, end: int) -> bool:
    """Return whether a text is ASCII without NUL: one byte per character, and every store can keep it."""
    for index in range(at, end):
        if data[index] > 127 or data[index] == 0:
            return False
    return True
