"""Writes the offers.v1.DecisionRecord of a decision: what the log keeps of it."""

import math

import numpy as np

from offers.compiled import apart, inner
from offers.decision.kernels.memory.encoded import (
    BYTES,
    FIXED64,
    VARINT,
    double_into,
    hexadecimal,
    last_of,
    varint,
    varint_into,
    varint_size,
)
from offers.decision.kernels.memory.records import Column, Table, Terms, entries_of, f8, i8, offers_of, u1
from offers.decision.kernels.memory.scratch import LOGGED_ATTRIBUTES, Outcome, PersonFact, Scratch, chosen_of
from offers.decision.kernels.person.meet import exposures_size, write_exposures
from offers.decision.kernels.places.cell import cell_of, metres_to
from offers.v1.context_pb2 import Context, Session
from offers.v1.profile_pb2 import Profile
from offers.v1.state_pb2 import DecisionRecord

_FIELDS = DecisionRecord.DESCRIPTOR.fields_by_name
OFFER_IDS, LOG_SCORES = _FIELDS["offer_ids"].number << 3 | BYTES, _FIELDS["log_scores"].number << 3 | BYTES
TIME, LEARN = _FIELDS["time"].number << 3 | VARINT, _FIELDS["learn"].number << 3 | VARINT
TIME_ZONE, ENTRY_CHANNEL = _FIELDS["time_zone"].number << 3 | BYTES, _FIELDS["entry_channel"].number << 3 | BYTES
CONTEXT_ATTRIBUTES = _FIELDS["context_attributes"].number << 3 | BYTES
PROFILE_ATTRIBUTES = _FIELDS["profile_attributes"].number << 3 | BYTES
MODEL_VERSION = _FIELDS["model_version"].number << 3 | BYTES
SELECTION, DRAW = _FIELDS["selection_probabilities"].number << 3 | BYTES, _FIELDS["draw"].number << 3 | FIXED64
GEOHASH, DISTANCES = _FIELDS["geohash"].number << 3 | BYTES, _FIELDS["distances_m"].number << 3 | BYTES
ASKED_ATTRIBUTES, ASKED_ZONE = Context.ATTRIBUTES_FIELD_NUMBER << 3 | BYTES, Context.TIME_ZONE_FIELD_NUMBER << 3 | BYTES
SESSION, ENTRY = Context.SESSION_FIELD_NUMBER << 3 | BYTES, Session.ENTRY_CHANNEL_FIELD_NUMBER << 3 | BYTES
KNOWN_ATTRIBUTES = Profile.ATTRIBUTES_FIELD_NUMBER << 3 | BYTES
_DIGITS = np.frombuffer(b"0123456789bcdefghjkmnpqrstuvwxyz", np.uint8)
"""Of geohashes."""
_MOST_ID, _MOST_NAME = 131, 4 * 64 + 4
"""Bytes of an offer's id, and of a name in a request, with its tag and length."""


@apart
def write_record(
    columns: Table, terms: Table, people: Table, scratch: Table, record: bytes, request: bytes, latitude: float,
    longitude: float, characters: int, time: int, count: int,
) -> int:  # fmt: skip
    """Write the record of a decision of so many offers into Scratch.logged; its length, or 0 if there is no room.

    `record` and `request` are as `meet` had them; of a location (NaN: none) so many characters of a geohash are kept.
    """
    out, stem, wire = u1(scratch, Scratch.logged), u1(terms, Terms.stem), u1(columns, Column.wire)
    chosen, entries, offers = chosen_of(scratch), entries_of(columns), offers_of(columns)
    most = len(stem) + count * (_MOST_ID + 21) + 128 + 2 * _MOST_NAME + exposures_size(people, scratch)
    if most + 2 * LOGGED_ATTRIBUTES > len(out):
        return 0
    at = _copied(out, 0, stem, 0, len(stem))
    for place in range(count):
        # An offer's bytes begin with its id.
        first = offers[entries[chosen[place].entry].offer].wire_first + 1
        size, begin = varint(wire, first, first + 3)
        out[at] = OFFER_IDS
        at = _copied(out, at + 1, wire, first, begin + size)
    if count and math.isnan(latitude):  # else they tell how far the person was from each place, to the metre
        out[at] = LOG_SCORES
        at = varint_into(out, at + 1, 8 * count)
        for place in range(count):
            at = double_into(out, at, chosen[place].log_score)
    at = write_exposures(people, scratch, out, at)
    if f8(scratch, Scratch.outcome)[Outcome.learned]:
        out[at], out[at + 1] = MODEL_VERSION, 16
        at = hexadecimal(out, at + 2, i8(scratch, Scratch.person)[PersonFact.model])
    if count and chosen[0].selection > 0:
        out[at], out[at + 1] = SELECTION & 127 | 128, SELECTION >> 7
        at = varint_into(out, at + 2, 8 * count)
        for place in range(count):
            at = double_into(out, at, chosen[place].selection)
    out[at] = TIME
    at = varint_into(out, at + 1, time)
    if i8(scratch, Scratch.person)[PersonFact.learn]:
        at = _write_moment(scratch, out, at, record, request)
        if characters > 0 and not math.isnan(latitude):
            out[at], out[at + 1] = GEOHASH, characters
            at = write_geohash(out, at + 2, latitude, longitude, characters)
            at = _write_distances(columns, scratch, out, at, count)
    return at


@inner
def _write_moment(scratch: Table, out: np.ndarray, at: int, record: bytes, request: bytes) -> int:
    """Write what a model may be told of the moment and the person; where it ends."""
    person = i8(scratch, Scratch.person)
    out[at], out[at + 1] = LEARN, 1
    if person[PersonFact.known] and person[PersonFact.draw] != 0:
        out[at + 2], out[at + 3] = DRAW & 127 | 128, DRAW >> 7
        out[at + 4 : at + 12].view(np.int64)[0] = person[PersonFact.draw]
        at += 10
    begin, end = person[PersonFact.context_begin], person[PersonFact.context_end]
    at = _field(out, at + 2, TIME_ZONE, request, begin, end, ASKED_ZONE, _MOST_NAME)
    at = _field(out, at, CONTEXT_ATTRIBUTES, request, begin, end, ASKED_ATTRIBUTES, LOGGED_ATTRIBUTES)
    begin, end = last_of(request, begin, end, SESSION)
    at = _field(out, at, ENTRY_CHANNEL, request, begin, end, ENTRY, _MOST_NAME)
    begin, end = person[PersonFact.profile_begin], person[PersonFact.profile_end]
    return _field(out, at, PROFILE_ATTRIBUTES, record, begin, end, KNOWN_ATTRIBUTES, LOGGED_ATTRIBUTES)


@inner
def _write_distances(columns: Table, scratch: Table, out: np.ndarray, at: int, count: int) -> int:
    """Write how far the offers are from the middle of the geohash's cell, if that is known of any; where it ends."""
    chosen, size, known = chosen_of(scratch), 0, False
    for place in range(count):
        metres = metres_to(columns, scratch, chosen[place].index)
        size += varint_size(metres)
        known |= metres > 0
    if not known:
        return at
    out[at], out[at + 1] = DISTANCES & 127 | 128, DISTANCES >> 7
    at = varint_into(out, at + 2, size)
    for place in range(count):
        at = varint_into(out, at, metres_to(columns, scratch, chosen[place].index))
    return at


@inner
def _field(out: np.ndarray, at: int, tag: int, data: bytes, begin: int, end: int, wanted: int, most: int) -> int:
    """Write a field of a message that stands between two places, unless it takes more than so many bytes."""
    begin, end = last_of(data, begin, end, wanted)
    if begin < 0 or end - begin > most - 4:
        return at
    out[at] = tag
    return _copied(out, varint_into(out, at + 1, end - begin), data, begin, end)


@inner
def _copied(out: np.ndarray, at: int, data: bytes, begin: int, end: int) -> int:
    for place in range(begin, end):
        out[at + place - begin] = data[place]
    return at + end - begin


@inner
def write_geohash(out: np.ndarray, at: int, latitude: float, longitude: float, characters: int) -> int:
    """Write the geohash of a position in degrees, as offers.model.geohash gives it; where it ends."""
    of_y = 5 * characters // 2
    of_x = 5 * characters - of_y
    y, x = cell_of(latitude, longitude, of_y, of_x)
    for place in range(characters):
        digit = 0
        for bit in range(5 * place, 5 * place + 5):  # they take turns
            digit = digit << 1 | (x >> (of_x - 1 - bit // 2) if bit % 2 == 0 else y >> (of_y - 1 - bit // 2)) & 1
        out[at + place] = _DIGITS[digit]
    return at + characters
