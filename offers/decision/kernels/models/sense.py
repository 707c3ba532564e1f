"""Sense: read the attributes that models know a request and a person by, as keys, from the encoded request and record.

The specification is reference/models.py.
"""

import math

import numpy as np
from numba import carray

from offers.compiled import apart, inner
from offers.decision.kernels.log import ASKED_ATTRIBUTES, ENTRY, KNOWN_ATTRIBUTES, SESSION, write_geohash
from offers.decision.kernels.memory.encoded import BYTES, FIXED64, VARINT, double, following, hash_of, last_of, varint
from offers.decision.kernels.memory.frame import Frame, Location, PersonInput
from offers.decision.kernels.memory.records import Layout, Table, TermsArray, address_of, f8, i4, i8, u8
from offers.decision.kernels.memory.scratch import PersonFact, ScratchArray, visits_of
from offers.decision.kernels.models.explore import chance_of
from offers.decision.kernels.models.learned import (
    CHANNEL,
    DAYPART,
    ENTRY_CHANNEL,
    HOUR,
    OF_CONTEXT,
    OF_PERSON,
    OF_PROFILE,
    PLACE,
    PLACE_KEY,
    PLACEMENT,
    WEEKDAY,
    ModelArray,
    ModelFact,
    attributes_of,
)
from offers.decision.kernels.person.meet import MeetingArray, MeetingFact
from offers.decision.kernels.places.cell import write_cell
from offers.learning.values import DAYPART_HOURS
from offers.model.hashing import MISSING, number_key, text_key
from offers.model.visits import PLACE_DIGITS, VISIT

FIELDS, NAME, SAID = 1 << 3 | BYTES, 1 << 3 | BYTES, 2 << 3 | BYTES
"""Tags of the entries of google.protobuf.Struct, and of an entry's name and value."""
NUMBER, TEXT, TRUTH = 2 << 3 | FIXED64, 3 << 3 | BYTES, 4 << 3 | VARINT
"""Tags of the kinds of google.protobuf.Value that have a key."""
_MISSING = MISSING  # numba reads globals of this module only once, as constants
_DAY_S, _HOUR_S, _WEEK_DAYS, _EPOCH_WEEKDAY = 86_400, 3_600, 7, 3
_VISIT_BYTES = VISIT.itemsize


@apart
def sense(frame: Frame, location: Location, record: bytes, request: bytes, asked: PersonInput) -> None:
    """Write the model's attributes of a request and of a person whom `meet` has met, and the person's visits.

    The model reads the location as a geohash of PLACE_DIGITS characters at most. The cell of all `geohash_length`
    characters is written for the log as well, whether or not there is a model.
    """
    terms, scratch, time = frame.terms, frame.scratch, frame.time
    write_cell(scratch, location, asked.geohash_length)
    learned = i8(frame.meeting, MeetingArray.fact)[MeetingFact.learned]
    person = i8(scratch, ScratchArray.person)
    person[PersonFact.model] = i8(learned, ModelArray.fact)[ModelFact.version] if learned else 0
    if learned == 0 or i4(terms, TermsArray.layout)[Layout.learns] == 0:
        return
    person[PersonFact.chance] = chance_of(frame, person[PersonFact.draw], asked.chance)
    local = time + _ahead(terms, TermsArray.zone_start, TermsArray.zone_offset, time)
    at_home = time + _ahead(terms, TermsArray.home_start, TermsArray.home_offset, time)
    place = _place_key(scratch, location, asked.geohash_length)
    person[PersonFact.local_second], person[PersonFact.place] = at_home, np.int64(place)
    keys, numbers = u8(scratch, ScratchArray.request_key), f8(scratch, ScratchArray.request_number)
    attributes, moment = attributes_of(learned), u8(terms, TermsArray.moment_key)
    begin, end = person[PersonFact.context_begin], person[PersonFact.context_end]
    low, high = last_of(request, begin, end, SESSION) if person[PersonFact.hidden] == 0 else (-1, -1)
    low, high = last_of(request, low, high, ENTRY)
    for number in range(len(attributes)):
        one = attributes[number]
        keys[number], numbers[number] = np.uint64(_MISSING), _time_of(one.source, local)
        if not math.isnan(numbers[number]):
            keys[number] = number_key(one.key, numbers[number])
        elif one.source == CHANNEL:
            keys[number] = moment[0]
        elif one.source == PLACEMENT:
            keys[number] = moment[1]
        elif one.source == PLACE:
            keys[number] = place
        elif one.source == OF_PERSON and person[PersonFact.known] and person[PersonFact.draw] != 0:
            keys[number] = _person_key(one.key, person[PersonFact.draw])
        elif one.source == ENTRY_CHANNEL and high > low:
            keys[number] = text_key(one.key, request, low, high)
    low, high = last_of(request, begin, end, ASKED_ATTRIBUTES)
    _read_attributes(learned, scratch, request, low, high, OF_CONTEXT)
    low, high = last_of(record, person[PersonFact.profile_begin], person[PersonFact.profile_end], KNOWN_ATTRIBUTES)
    _read_attributes(learned, scratch, record, low, high, OF_PROFILE)
    _copy_visits(scratch, record)


@inner
def _ahead(terms: Table, starts: int, offsets: int, time: int) -> int:
    """Return by how many seconds a clock is ahead of UTC at an instant."""
    return i8(terms, offsets)[np.searchsorted(i8(terms, starts), time, side="right") - 1]


@inner
def _time_of(source: int, local: int) -> float:
    """Return the number of a source that depends on the wall clock's second; NaN for all other sources."""
    if source == HOUR:
        return np.float64(local % _DAY_S // _HOUR_S)
    if source == WEEKDAY:
        return np.float64((local // _DAY_S + _EPOCH_WEEKDAY) % _WEEK_DAYS)
    if source == DAYPART:
        return np.float64(local % _DAY_S // (_HOUR_S * DAYPART_HOURS))
    return math.nan


@inner
def _place_key(scratch: Table, location: Location, characters: int) -> int:
    """Return the key of the geohash cell of a location; MISSING if there is none or it is hidden."""
    digits = min(characters, PLACE_DIGITS)
    if digits <= 0 or math.isnan(location.latitude) or i8(scratch, ScratchArray.person)[PersonFact.hidden]:
        return np.uint64(_MISSING)
    text = np.empty(PLACE_DIGITS, np.uint8)
    write_geohash(text, 0, location.latitude, location.longitude, digits)
    return text_key(np.uint64(PLACE_KEY), text, 0, digits)


@inner
def _person_key(attribute: np.uint64, draw: int) -> int:
    """Return the key of the person's number, as 16 hexadecimal digits."""
    text = np.empty(16, np.uint8)
    for digit in range(16):
        value = np.int64(draw >> (60 - 4 * digit)) & 15
        text[digit] = value + (48 if value < 10 else 87)
    return text_key(attribute, text, 0, 16)


@inner
def _read_attributes(learned: Table, scratch: Table, data: bytes, at: int, end: int, source: int) -> None:
    """Read the attributes of a Struct between two offsets; where a name comes twice, the last one counts."""
    attributes = attributes_of(learned)
    keys, numbers = u8(scratch, ScratchArray.request_key), f8(scratch, ScratchArray.request_number)
    while 0 <= at < end:
        tag, begin, at = following(data, at, end)
        if at < 0 or tag != FIELDS:
            continue
        low, high = last_of(data, begin, at, NAME)
        name = np.int64(hash_of(data, low, high, np.uint64(0)))
        for number in range(len(attributes)):
            one = attributes[number]
            if one.source == source and one.name == name:
                low, high = last_of(data, begin, at, SAID)
                keys[number], numbers[number] = _value(data, low, high, one.key)
                break


@inner
def _value(data: bytes, at: int, end: int, attribute: np.uint64) -> tuple[int, float]:
    """Return the key of a google.protobuf.Value between two offsets, and its number (NaN: none)."""
    key, number = np.uint64(_MISSING), math.nan
    while 0 <= at < end:
        tag, begin, at = following(data, at, end)
        if at < 0:
            break
        key, number = np.uint64(_MISSING), math.nan  # the last kind counts
        if tag == TEXT:
            key = text_key(attribute, data, begin, at)
        elif tag == NUMBER:
            number = double(data, begin)
            number = number if math.isfinite(number) else math.nan
            key = number_key(attribute, number)
        elif tag == TRUTH:
            number = 1.0 if varint(data, begin, at)[0] != 0 else 0.0
            key = number_key(attribute, number)
    return key, number


@inner
def _copy_visits(scratch: Table, record: bytes) -> None:
    """Copy the visits of a person of whom data may be kept; of a broken record, only those that are in order."""
    person, visits = i8(scratch, ScratchArray.person), visits_of(scratch)
    person[PersonFact.visits] = 0
    if not person[PersonFact.known]:
        return
    begin, end = person[PersonFact.visits_begin], person[PersonFact.visits_end]
    count = min((end - begin) // _VISIT_BYTES, len(visits))
    into = carray(address_of(scratch, ScratchArray.visit), (count * _VISIT_BYTES,), np.uint8)
    for byte in range(count * _VISIT_BYTES):
        into[byte] = record[begin + byte]
    for index in range(1, count):
        if visits[index].second < visits[index - 1].second:
            count = index
            break
    person[PersonFact.visits] = count
