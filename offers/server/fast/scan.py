"""Scan: read the usual request without building a message, which takes longer than deciding.

Fields that differ from call to call (location, instant, person, ids) are read and checked here. The bytes of all others
make a key, by which the surface of an earlier request with the same bytes is found again. Requests that are not usual
are left to convert.py. A test holds that both read the same from a usual request.
"""

import math

import numpy as np

from offers.compiled import apart, inner
from offers.decision.kernels.memory.encoded import BYTES, FIXED64, VARINT, double, span, varint
from offers.decision.kernels.memory.records import Table, f8, i8, u1
from offers.decision.kernels.places.location import MOVEMENT_MPS
from offers.server.fast.buffers import KEY_BYTES, UNUSUAL, BufferArray, RequestFact, RequestNumber
from offers.server.fast.scan_session import is_plain, second_of, usual_session
from offers.server.limits import MAX_ACCURACY_M, MAX_ID, MAX_PERSON_ID
from offers.v1 import context_pb2, offer_service_pb2

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
"""The number after the last purpose: the numbers have no gaps."""
LATITUDE, LONGITUDE = 1 << 3 | FIXED64, 2 << 3 | FIXED64  # google.type.LatLng


@apart
def scan(data: bytes, buffers: Table) -> int:
    """Read an encoded GetOffersRequest. Returns the length of the key, or UNUSUAL."""
    numbers, facts, key = f8(buffers, BufferArray.numbers), i8(buffers, BufferArray.facts), u1(buffers, BufferArray.key)
    numbers[RequestNumber.latitude] = numbers[RequestNumber.longitude] = math.nan
    numbers[RequestNumber.accuracy] = 0.0
    facts[RequestFact.time] = facts[RequestFact.observed] = -1
    facts[RequestFact.movement] = 0
    facts[RequestFact.seed] = facts[RequestFact.seeded] = facts[RequestFact.id_begin] = facts[
        RequestFact.id_end
    ] = facts[RequestFact.person_field] = 0
    facts[RequestFact.consent] = -1
    size = len(data)
    at = length = seen = 0
    while at < size:
        tag = data[at]
        begin = at
        if tag == CONTEXT:
            low, at = span(data, at + 1, size)
            if at < 0 or seen & 1:
                return UNUSUAL
            seen |= 1
            length = _context(data, low, at, buffers, length)
            if length < 0:
                return UNUSUAL
        elif tag == REQUEST_ID:
            low, at = span(data, at + 1, size)
            if at < 0 or seen & 2 or at - low > MAX_ID or not is_plain(data, low, at):
                return UNUSUAL
            seen |= 2
            facts[RequestFact.id_begin], facts[RequestFact.id_end] = low, at
        elif tag == SEED:
            facts[RequestFact.seed], at = varint(data, at + 1, size)
            if at < 0 or seen & 4:
                return UNUSUAL
            seen |= 4
            facts[RequestFact.seeded] = 1
        elif tag in (MAX_OFFERS, VIEW):
            _, at = varint(data, at + 1, size)
            if at < 0:
                return UNUSUAL
            length = _append(data, begin, at, key, length, 1)
        elif tag in (PLACEMENT, CATALOG):
            _, at = span(data, at + 1, size)
            if at < 0:
                return UNUSUAL
            length = _append(data, begin, at, key, length, 1)
        else:
            return UNUSUAL
        if length < 0:
            return UNUSUAL
    return length


@apart
def _context(data: bytes, at: int, end: int, buffers: Table, length: int) -> int:
    """Read a Context. Returns the length of the key, or UNUSUAL."""
    key, facts = u1(buffers, BufferArray.key), i8(buffers, BufferArray.facts)
    seen = 0
    while at < end:
        tag, begin = data[at], at
        low, at = span(data, at + 1, end)
        if at < 0:
            return UNUSUAL
        if tag in (TIME_ZONE, CHANNEL, LANGUAGE, CURRENCY):
            length = _append(data, begin, at, key, length, 2)
            if length < 0:
                return UNUSUAL
            continue
        if tag not in (LOCATION, TIME, USER, SESSION) or seen & (1 << (tag >> 3)):
            return UNUSUAL
        seen |= 1 << (tag >> 3)
        if tag == LOCATION:
            usual = _location(data, low, at, buffers)
        elif tag == TIME:
            facts[RequestFact.time] = second_of(data, low, at)
            usual = facts[RequestFact.time] >= 0
        elif tag == USER:
            usual = _user(data, low, at, facts)
        else:
            usual = usual_session(data, low, at)
        if not usual:
            return UNUSUAL
    return length


@inner
def _location(data: bytes, at: int, end: int, buffers: Table) -> bool:
    """Read a Location. Returns whether it is a usual one."""
    numbers, facts = f8(buffers, BufferArray.numbers), i8(buffers, BufferArray.facts)
    has_point = False
    while at < end:
        if data[at] == POINT:
            at, stop = span(data, at + 1, end)
            if stop < 0 or has_point:
                return False
            has_point = True
            numbers[RequestNumber.latitude] = numbers[RequestNumber.longitude] = 0.0
            while at < stop:
                if data[at] not in (LATITUDE, LONGITUDE) or at + 9 > stop:
                    return False
                numbers[(data[at] >> 3) - 1] = double(data, at + 1)
                at += 9
        elif data[at] == ACCURACY and at + 9 <= end:
            numbers[RequestNumber.accuracy] = double(data, at + 1)
            if not 0.0 <= numbers[RequestNumber.accuracy] <= MAX_ACCURACY_M:
                return False
            at += 9
        elif data[at] == OBSERVED:
            low, at = span(data, at + 1, end)
            if at < 0 or facts[RequestFact.observed] >= 0:
                return False
            facts[RequestFact.observed] = second_of(data, low, at)
            if facts[RequestFact.observed] < 0:
                return False
        elif data[at] == MOVEMENT:
            facts[RequestFact.movement], at = varint(data, at + 1, end)
            if at < 0 or not 0 <= facts[RequestFact.movement] < len(MOVEMENT_MPS):
                return False
        else:
            return False
    return (
        has_point
        and -90.0 <= numbers[RequestNumber.latitude] <= 90.0
        and -180.0 <= numbers[RequestNumber.longitude] <= 180.0
    )


@inner
def _user(data: bytes, at: int, end: int, facts: np.ndarray) -> bool:
    """Read a User. Returns whether it is a usual one."""
    while at < end:
        tag = data[at]
        low, at = span(data, at + 1, end)
        if at < 0:
            return False
        if tag == CONSENT:
            if facts[RequestFact.consent] >= 0:
                return False
            facts[RequestFact.consent] = _purposes(data, low, at)
            if facts[RequestFact.consent] < 0:
                return False
        else:
            if tag not in (USER_ID, ANONYMOUS_ID) or facts[RequestFact.person_field] > 0:
                return False
            if not (1 <= at - low <= MAX_PERSON_ID and is_plain(data, low, at)):
                return False
            facts[RequestFact.person_begin], facts[RequestFact.person_end], facts[RequestFact.person_field] = (
                low,
                at,
                tag >> 3,
            )
    return facts[RequestFact.person_field] > 0


@inner
def _purposes(data: bytes, at: int, end: int) -> int:
    """Return the purposes of ConsentGrants as bits, or UNUSUAL."""
    if at == end:
        return 0
    if data[at] != PURPOSES:
        return UNUSUAL
    at, stop = span(data, at + 1, end)
    bits = 0
    while stop == end and at < end:
        purpose, at = varint(data, at, end)
        if at < 0 or not 0 < purpose < MOST_PURPOSES:
            return UNUSUAL
        bits |= 1 << purpose
    return bits if stop == end else UNUSUAL


@inner
def _append(data: bytes, begin: int, end: int, key: np.ndarray, length: int, message: int) -> int:
    """Append a field to the key, after the number of its message. Returns the key's length, or UNUSUAL if too long."""
    if length + 1 + end - begin > KEY_BYTES:
        return UNUSUAL
    key[length] = message
    for index in range(begin, end):
        key[length + 1 + index - begin] = data[index]
    return length + 1 + end - begin
