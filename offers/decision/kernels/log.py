"""Log: write the offers.v1.DecisionRecord of a decision, which the event log keeps."""

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
from offers.decision.kernels.memory.frame import Frame, Location
from offers.decision.kernels.memory.records import Column, Table, TermsArray, entries_of, i8, offers_of, u1
from offers.decision.kernels.memory.scratch import LOGGED_ATTRIBUTES, DecisionFact, PersonFact, ScratchArray, chosen_of
from offers.decision.kernels.person.expose import exposures_size, write_exposures
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
"""Digits of geohashes."""
_MOST_ID, _MOST_NAME = 131, 4 * 64 + 4
"""Bytes of an offer's id, and of a name in a request, each with tag and length."""


@apart
def write_record(frame: Frame, location: Location, record: bytes, request: bytes, characters: int) -> int:
    """Write the record of a decision into ScratchArray.logged. Returns its length; 0 if there is no room for it.

    `record` and `request` are those that `meet` had. The record keeps `characters` of the location's geohash.
    """
    columns, terms, meeting, scratch = frame.columns, frame.terms, frame.meeting, frame.scratch
    facts, count = i8(scratch, ScratchArray.decision), i8(scratch, ScratchArray.decision)[DecisionFact.chosen]
    out, stem, wire = u1(scratch, ScratchArray.logged), u1(terms, TermsArray.stem), u1(columns, Column.wire)
    chosen, entries, offers = chosen_of(scratch), entries_of(columns), offers_of(columns)
    most = len(stem) + count * (_MOST_ID + 21) + 128 + 2 * _MOST_NAME + exposures_size(meeting, scratch)
    if most + 2 * LOGGED_ATTRIBUTES > len(out):
        return 0
    at = _copied(out, 0, stem, 0, len(stem))
    for index in range(count):
        # An offer's bytes begin with its id.
        first = offers[entries[chosen[index].entry].offer].wire_first + 1
        size, begin = varint(wire, first, first + 3)
        out[at] = OFFER_IDS
        at = _copied(out, at + 1, wire, first, begin + size)
    if count and math.isnan(location.latitude):  # else scores reveal the distance to each place, to the metre
        out[at] = LOG_SCORES
        at = varint_into(out, at + 1, 8 * count)
        for index in range(count):
            at = double_into(out, at, chosen[index].log_score)
    at = write_exposures(meeting, scratch, out, at)
    if facts[DecisionFact.learned]:
        out[at], out[at + 1] = MODEL_VERSION, 16
        at = hexadecimal(out, at + 2, i8(scratch, ScratchArray.person)[PersonFact.model])
    if count and chosen[0].selection > 0:
        out[at], out[at + 1] = SELECTION & 127 | 128, SELECTION >> 7
        at = varint_into(out, at + 2, 8 * count)
        for index in range(count):
            at = double_into(out, at, chosen[index].selection)
    out[at] = TIME
    at = varint_into(out, at + 1, frame.time)
    if i8(scratch, ScratchArray.person)[PersonFact.learn]:
        at = _write_moment(scratch, out, at, record, request)
        if characters > 0 and not math.isnan(location.latitude):
            out[at], out[at + 1] = GEOHASH, characters
            at = write_geohash(out, at + 2, location.latitude, location.longitude, characters)
            at = _write_distances(columns, scratch, out, at, count)
    return at


@inner
def _write_moment(scratch: Table, out: np.ndarray, at: int, record: bytes, request: bytes) -> int:
    """Write what models may learn of the moment and the person. Returns where it ends."""
    person = i8(scratch, ScratchArray.person)
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
    """Write the offers' distances from the middle of the geohash's cell, if any is known. Returns where they end."""
    chosen, size, known = chosen_of(scratch), 0, False
    for index in range(count):
        metres = metres_to(columns, scratch, chosen[index].index)
        size += varint_size(metres)
        known |= metres > 0
    if not known:
        return at
    out[at], out[at + 1] = DISTANCES & 127 | 128, DISTANCES >> 7
    at = varint_into(out, at + 2, size)
    for index in range(count):
        at = varint_into(out, at, metres_to(columns, scratch, chosen[index].index))
    return at


@inner
def _field(out: np.ndarray, at: int, tag: int, data: bytes, begin: int, end: int, wanted: int, most: int) -> int:
    """Copy a field of a message that stands between two offsets, unless it takes more than `most` bytes.

    Returns where it ends.
    """
    begin, end = last_of(data, begin, end, wanted)
    if begin < 0 or end - begin > most - 4:
        return at
    out[at] = tag
    return _copied(out, varint_into(out, at + 1, end - begin), data, begin, end)


@inner
def _copied(out: np.ndarray, at: int, data: bytes, begin: int, end: int) -> int:
    """Copy bytes. Returns where they end."""
    for index in range(begin, end):
        out[at + index - begin] = data[index]
    return at + end - begin


@inner
def write_geohash(out: np.ndarray, at: int, latitude: float, longitude: float, characters: int) -> int:
    """Write the geohash of a position in degrees, the same as offers.model.geohash does. Returns where it ends."""
    of_y = 5 * characters // 2
    of_x = 5 * characters - of_y
    y, x = cell_of(latitude, longitude, of_y, of_x)
    for index in range(characters):
        digit = 0
        for bit in range(5 * index, 5 * index + 5):  # bits of longitude and latitude take turns
            digit = digit << 1 | (x >> (of_x - 1 - bit // 2) if bit % 2 == 0 else y >> (of_y - 1 - bit // 2)) & 1
        out[at + index] = _DIGITS[digit]
    return at + characters
