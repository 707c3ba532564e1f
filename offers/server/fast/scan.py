"""Reads the usual request without building a message, which takes longer than deciding.

What differs from call to call (place, instant, person, ids) is read and checked here; the bytes of all else make a key,
by which the surface that an equal request had before is found again. Whatever is not usual is declined, and convert.py
reads it: a test holds that what is read here is what convert.py would have read.
"""

import math
from enum import IntEnum

import numpy as np

from offers.compiled import apart, inner
from offers.decision.kernels.memory.encoded import BYTES, FIXED64, VARINT, double, span, varint
from offers.decision.kernels.memory.records import Record, Table, f8, i8, u1
from offers.decision.kernels.places.location import MOVEMENT_MPS
from offers.server.fast.scan_session import is_plain, second_of, usual_session
from offers.server.limits import MAX_ACCURACY_M, MAX_ID, MAX_PERSON_ID
from offers.v1 import context_pb2, offer_service_pb2

KEY_BYTES = 512
"""The longest key kept: a few short names; longer requests are not usual."""

_REQUEST = offer_service_pb2.GetOffersRequest.DESCRIPTOR.fields_by_name
_CONTEXT = context_pb2.Context.DESCRIPTOR.fields_by_name
_LOCATION = context_pb2.Location.DESCRIPTOR.fields_by_name
_USER = context_pb2.User.DESCRIPTOR.fields_by_name
CONTEXT = _REQUEST["context"].number << 3 | BYTES
PLACEMENT = _REQUEST["placement"].number << 3 | BYTES
MAX_OFFERS = _REQUEST["max_offers"].number << 3 | VARINT
VIEW = _REQUEST["view"].number << 3 | VARINT
SEED = _REQUEST["seed"].number << 3 | VARINT
REQUEST_ID = _REQUEST["request_id"].number << 3 | BYTES
CATALOG = _REQUEST["catalog"].number << 3 | BYTES
LOCATION = _CONTEXT["location"].number << 3 | BYTES
TIME = _CONTEXT["time"].number << 3 | BYTES
TIME_ZONE = _CONTEXT["time_zone"].number << 3 | BYTES
USER = _CONTEXT["user"].number << 3 | BYTES
SESSION = _CONTEXT["session"].number << 3 | BYTES
CHANNEL = _CONTEXT["channel"].number << 3 | BYTES
LANGUAGE = _CONTEXT["language_code"].number << 3 | BYTES
CURRENCY = _CONTEXT["currency_code"].number << 3 | BYTES
POINT = _LOCATION["point"].number << 3 | BYTES
ACCURACY = _LOCATION["accuracy_m"].number << 3 | FIXED64
OBSERVED = _LOCATION["observed_time"].number << 3 | BYTES
MOVEMENT = _LOCATION["movement"].number << 3 | VARINT
USER_ID = _USER["user_id"].number << 3 | BYTES
ANONYMOUS_ID = _USER["anonymous_id"].number << 3 | BYTES
CONSENT = _USER["consent"].number << 3 | BYTES
PURPOSES = 1 << 3 | BYTES  # of ConsentGrants
MOST_PURPOSES = len(context_pb2.ConsentPurpose.values())
"""One more than there are: their numbers are without gaps."""
LATITUDE, LONGITUDE = 1 << 3 | FIXED64, 2 << 3 | FIXED64  # google.type.LatLng


class Scan(IntEnum):
    """Places of the arrays that a scan writes."""

    numbers = 0
    """f8: latitude and longitude (NaN: no location), and the accuracy in metres."""
    facts = 1
    """i8: see Fact."""
    key = 2
    """u1: the bytes of what usually stays the same."""


class Fact(IntEnum):
    """Places of the whole numbers of a scan."""

    time = 0
    """Second; -1: none given."""
    seed = 1
    seeded = 2
    id_begin = 3
    """Where the request id stands in the request."""
    id_end = 4
    key_size = 5
    """Bytes of the key; -1: the request is not a usual one."""
    observed = 6
    """Second of the measurement of the location; -1: none given."""
    movement = 7
    surface = 8
    """Place of the known surface that has the key, where the decision's id or its person is wanted."""
    person_begin = 9
    """Where the person's id stands in the request."""
    person_end = 10
    person_field = 11
    """Its field in offers.v1.User; 0: nobody in particular."""
    consent = 12
    """A bit per offers.v1.ConsentPurpose that is agreed to; -1: it is not said."""


def scan_record() -> Record:
    """Memory for one thread's scans."""
    return Record(
        Scan,
        {
            "numbers": np.empty(3, np.float64),
            "facts": np.empty(len(Fact), np.int64),
            "key": np.empty(KEY_BYTES, np.uint8),
        },
    )


@apart
def scan(data: bytes, scanned: Table) -> int:
    """Read an encoded GetOffersRequest. Returns the length of the key, or -1 if the request is not a usual one."""
    numbers, facts, key = f8(scanned, Scan.numbers), i8(scanned, Scan.facts), u1(scanned, Scan.key)
    numbers[0] = numbers[1] = math.nan
    numbers[2] = 0.0
    facts[Fact.time] = facts[Fact.observed] = -1
    facts[Fact.movement] = 0
    facts[Fact.seed] = facts[Fact.seeded] = facts[Fact.id_begin] = facts[Fact.id_end] = facts[Fact.person_field] = 0
    facts[Fact.consent] = -1
    size = len(data)
    at = length = seen = 0
    while at < size:
        tag = data[at]
        begin = at
        if tag == CONTEXT:
            low, at = span(data, at + 1, size)
            if at < 0 or seen & 1:
                return -1
            seen |= 1
            length = _context(data, low, at, scanned, length)
            if length < 0:
                return -1
        elif tag == REQUEST_ID:
            low, at = span(data, at + 1, size)
            if at < 0 or seen & 2 or at - low > MAX_ID or not is_plain(data, low, at):
                return -1
            seen |= 2
            facts[Fact.id_begin], facts[Fact.id_end] = low, at
        elif tag == SEED:
            facts[Fact.seed], at = varint(data, at + 1, size)
            if at < 0 or seen & 4:
                return -1
            seen |= 4
            facts[Fact.seeded] = 1
        elif tag in (MAX_OFFERS, VIEW):
            _, at = varint(data, at + 1, size)
            if at < 0:
                return -1
            length = _keep(data, begin, at, key, length, 1)
        elif tag in (PLACEMENT, CATALOG):
            _, at = span(data, at + 1, size)
            if at < 0:
                return -1
            length = _keep(data, begin, at, key, length, 1)
        else:
            return -1
        if length < 0:
            return -1
    return length


@apart
def _context(data: bytes, at: int, end: int, scanned: Table, length: int) -> int:
    """Read a Context; returns the length of the key, or -1."""
    key, facts = u1(scanned, Scan.key), i8(scanned, Scan.facts)
    seen = 0
    while at < end:
        tag, begin = data[at], at
        low, at = span(data, at + 1, end)
        if at < 0:
            return -1
        if tag in (TIME_ZONE, CHANNEL, LANGUAGE, CURRENCY):
            length = _keep(data, begin, at, key, length, 2)
            if length < 0:
                return -1
            continue
        if tag not in (LOCATION, TIME, USER, SESSION) or seen & (1 << (tag >> 3)):
            return -1
        seen |= 1 << (tag >> 3)
        if tag == LOCATION:
            usual = _location(data, low, at, scanned)
        elif tag == TIME:
            facts[Fact.time] = second_of(data, low, at)
            usual = facts[Fact.time] >= 0
        elif tag == USER:
            usual = _user(data, low, at, facts)
        else:
            usual = usual_session(data, low, at)
        if not usual:
            return -1
    return length


@inner
def _location(data: bytes, at: int, end: int, scanned: Table) -> bool:
    numbers, facts = f8(scanned, Scan.numbers), i8(scanned, Scan.facts)
    has_point = False
    while at < end:
        if data[at] == POINT:
            at, stop = span(data, at + 1, end)
            if stop < 0 or has_point:
                return False
            has_point = True
            numbers[0] = numbers[1] = 0.0
            while at < stop:
                if data[at] not in (LATITUDE, LONGITUDE) or at + 9 > stop:
                    return False
                numbers[(data[at] >> 3) - 1] = double(data, at + 1)
                at += 9
        elif data[at] == ACCURACY and at + 9 <= end:
            numbers[2] = double(data, at + 1)
            if not 0.0 <= numbers[2] <= MAX_ACCURACY_M:
                return False
            at += 9
        elif data[at] == OBSERVED:
            low, at = span(data, at + 1, end)
            if at < 0 or facts[Fact.observed] >= 0:
                return False
            facts[Fact.observed] = second_of(data, low, at)
            if facts[Fact.observed] < 0:
                return False
        elif data[at] == MOVEMENT:
            facts[Fact.movement], at = varint(data, at + 1, end)
            if at < 0 or not 0 <= facts[Fact.movement] < len(MOVEMENT_MPS):
                return False
        else:
            return False
    return has_point and -90.0 <= numbers[0] <= 90.0 and -180.0 <= numbers[1] <= 180.0


@inner
def _user(data: bytes, at: int, end: int, facts: np.ndarray) -> bool:
    while at < end:
        tag = data[at]
        low, at = span(data, at + 1, end)
        if at < 0:
            return False
        if tag == CONSENT:
            if facts[Fact.consent] >= 0:
                return False
            facts[Fact.consent] = _purposes(data, low, at)
            if facts[Fact.consent] < 0:
                return False
        else:
            if tag not in (USER_ID, ANONYMOUS_ID) or facts[Fact.person_field] > 0:
                return False
            if not (1 <= at - low <= MAX_PERSON_ID and is_plain(data, low, at)):
                return False
            facts[Fact.person_begin], facts[Fact.person_end], facts[Fact.person_field] = low, at, tag >> 3
    return facts[Fact.person_field] > 0


@inner
def _purposes(data: bytes, at: int, end: int) -> int:
    """The purposes of ConsentGrants as bits, or -1."""
    if at == end:
        return 0
    if data[at] != PURPOSES:
        return -1
    at, stop = span(data, at + 1, end)
    bits = 0
    while stop == end and at < end:
        purpose, at = varint(data, at, end)
        if at < 0 or not 0 < purpose < MOST_PURPOSES:
            return -1
        bits |= 1 << purpose
    return bits if stop == end else -1


@inner
def _keep(data: bytes, begin: int, end: int, key: np.ndarray, length: int, message: int) -> int:
    """Add a field to the key, after the number of the message it stands in; returns the key's length, or -1."""
    if length + 1 + end - begin > KEY_BYTES:
        return -1
    key[length] = message
    for place in range(begin, end):
        key[length + 1 + place - begin] = data[place]
    return length + 1 + end - begin
