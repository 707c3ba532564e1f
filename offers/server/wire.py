"""Writes GetOffersResponse bytes straight from a decision: what never changes is copied, the rest encoded.

A test parses what this writes and holds it equal to the messages; field numbers come from the descriptors.
"""

import numpy as np
from numba import njit

from offers.catalogue.schedules import NEVER
from offers.catalogue.snapshot import EVERYWHERE, IN_ZONE, NO_SCHEDULE, NO_VENUE
from offers.decision.records import Column, Table, chosen_of, i4, i8, strategies_of, u1
from offers.v1 import offer_service_pb2 as pb

_VARINT, _FIXED64, _BYTES = 0, 1, 2


def _tag(message: str, field: str, kind: int) -> int:
    """The first byte of a field on the wire. All fields written here have numbers under 16, but one."""
    return pb.DESCRIPTOR.message_types_by_name[message].fields_by_name[field].number << 3 | kind


DECISION_ID = _tag("GetOffersResponse", "decision_id", _BYTES)
OFFERS = _tag("GetOffersResponse", "offers", _BYTES)
CATALOG_VERSION = _tag("GetOffersResponse", "catalog_version", _BYTES)
REFRESH_AFTER = _tag("GetOffersResponse", "refresh_after", _BYTES)
REFRESH_DISTANCE = _tag("GetOffersResponse", "refresh_distance_m", _FIXED64)
ELIGIBLE_COUNT = _tag("GetOffersResponse", "eligible_count", _VARINT)
RANK = _tag("Proposition", "rank", _VARINT)
PROPOSITION_ID = _tag("Proposition", "proposition_id", _BYTES)
SCORE = _tag("Proposition", "score", _FIXED64)
DISTANCE = _tag("Proposition", "distance_m", _FIXED64)
VENUE_ID = _tag("Proposition", "venue_id", _BYTES)
VALID_UNTIL = _tag("Proposition", "valid_until", _BYTES)
REDEEMABLE_NOW = _tag("Proposition", "redeemable_now", _VARINT)
REASONS = _tag("Proposition", "reasons", _BYTES)
FACTORS = _tag("Proposition", "factors", _BYTES)
FACTOR_NAME = _tag("Factor", "name", _VARINT)
FACTOR_VALUE = _tag("Factor", "value", _FIXED64)
FACTOR_WEIGHT = _tag("Factor", "weight", _FIXED64)
FACTOR_LOG = _tag("Factor", "log_contribution", _FIXED64)
SECONDS = 1 << 3 | _VARINT

NEARBY, ZONE, ANYWHERE = pb.REASON_CODE_NEARBY, pb.REASON_CODE_IN_ZONE, pb.REASON_CODE_EVERYWHERE
OPEN_NOW, ENDS_SOON, FALLBACK = pb.REASON_CODE_OPEN_NOW, pb.REASON_CODE_ENDS_SOON, pb.REASON_CODE_FALLBACK
SOON_S = 3600
"""An offer ends soon when it ends within an hour: one can still act on it, if now."""

PER_PROPOSITION = 512
"""Bytes a proposition takes at most beside its static fields and venue id: ids 40, numbers 60, factors 4 x 33."""
PER_RESPONSE = 256
_NEVER = NEVER
_ID_LENGTH = 32


@njit(nogil=True)  # type: ignore[misc]
def _varint(out: np.ndarray, at: int, number: int) -> int:
    while number >= 128:
        out[at] = (number & 127) | 128
        number >>= 7
        at += 1
    out[at] = number
    return at + 1


@njit(nogil=True)  # type: ignore[misc]
def _varint_size(number: int) -> int:
    size = 1
    while number >= 128:
        number >>= 7
        size += 1
    return size


@njit(nogil=True)  # type: ignore[misc]
def _double(out: np.ndarray, at: int, tag: int, number: float, scratch: np.ndarray) -> int:
    out[at] = tag
    scratch[0] = number
    eight = scratch.view(np.uint8)
    for byte in range(8):
        out[at + 1 + byte] = eight[byte]
    return at + 9


@njit(nogil=True)  # type: ignore[misc]
def _instant(out: np.ndarray, at: int, tag: int, second: int) -> int:
    """A google.protobuf.Timestamp."""
    out[at] = tag
    out[at + 1] = 1 + _varint_size(second)
    out[at + 2] = SECONDS
    return _varint(out, at + 3, second)


@njit(nogil=True)  # type: ignore[misc]
def _text(out: np.ndarray, at: int, tag: int, text: bytes) -> int:
    out[at] = tag
    at = _varint(out, at + 1, len(text))
    for place in range(len(text)):
        out[at + place] = text[place]
    return at + len(text)


@njit(nogil=True)  # type: ignore[misc]
def _copy(out: np.ndarray, at: int, source: np.ndarray, begin: int, end: int) -> int:
    for place in range(begin, end):
        out[at] = source[place]
        at += 1
    return at


@njit(nogil=True)  # type: ignore[misc]
def _factors(out: np.ndarray, at: int, chosen: np.void, weights: np.ndarray, double: np.ndarray) -> int:
    for factor in range(4):
        out[at] = FACTORS & 127 | 128  # the one field whose number takes two bytes
        out[at + 1] = FACTORS >> 7
        out[at + 2] = 29
        out[at + 3] = FACTOR_NAME
        out[at + 4] = factor + 1
        at = _double(out, at + 5, FACTOR_VALUE, chosen.values[factor], double)
        at = _double(out, at, FACTOR_WEIGHT, weights[factor], double)
        at = _double(out, at, FACTOR_LOG, chosen.logs[factor], double)
    return at


@njit(nogil=True)  # type: ignore[misc]
def _reasons(out: np.ndarray, at: int, kind: int, has_hours: bool, ends_soon: bool, fallback: bool) -> int:  # noqa: FBT001
    out[at] = REASONS
    first = at + 2
    out[first] = ANYWHERE if kind == EVERYWHERE else ZONE if kind == IN_ZONE else NEARBY
    end = first + 1
    if has_hours:
        out[end] = OPEN_NOW
        end += 1
    if ends_soon:
        out[end] = ENDS_SOON
        end += 1
    if fallback:
        out[end] = FALLBACK
        end += 1
    out[at + 1] = end - first
    return end


@njit(cache=True, nogil=True)  # type: ignore[misc]
def write_response(
    columns: Table, scratch: Table, out: np.ndarray, decision_id: bytes, version: bytes, count: int, strategy_number: int,
    time: int, full: bool, refresh_after: int, refresh_distance: float, eligible: int,
) -> int:  # fmt: skip
    """Write a response and return its length; a negative length says how many bytes `out` must have instead.

    `decision_id` is 32 ASCII characters, `version` the snapshot's.
    """
    wire_first, wire = i8(columns, Column.offer_wire_first), u1(columns, Column.wire)
    venue_first, venue_ids = i4(columns, Column.venue_id_first), u1(columns, Column.venue_id)
    offers, venues = i4(columns, Column.entry_offer), i4(columns, Column.entry_venue)
    kinds, schedules = u1(columns, Column.entry_kind), i4(columns, Column.entry_schedule)
    fallback = u1(columns, Column.offer_fallback)
    chosen = chosen_of(scratch)
    strategy = strategies_of(columns)[strategy_number]
    weights = np.empty(4)
    weights[0], weights[1] = strategy.nearness_weight, strategy.timeliness_weight
    weights[2], weights[3] = strategy.value_weight, strategy.lever_weight
    double = np.empty(1)
    need = PER_RESPONSE + len(version)
    for place in range(count):
        entry = chosen[place].entry
        offer, venue = offers[entry], venues[entry]
        need += PER_PROPOSITION + wire_first[offer + 1] - wire_first[offer]
        if venue != NO_VENUE:
            need += venue_first[venue + 1] - venue_first[venue]
    if need > len(out):
        return -need
    at = _text(out, 0, DECISION_ID, decision_id)
    for place in range(count):
        one = chosen[place]
        entry, rank = one.entry, place + 1
        offer, venue = offers[entry], venues[entry]
        # The fields that change are written where a length of up to three bytes leaves them, then moved up to it.
        start = at + 4
        end = _copy(out, start, wire, wire_first[offer], wire_first[offer + 1])
        out[end] = RANK
        end = _varint(out, end + 1, rank)
        digits = 1 if rank < 10 else 2 if rank < 100 else 3
        out[end] = PROPOSITION_ID
        out[end + 1] = _ID_LENGTH + 1 + digits
        end += 2
        for character in range(_ID_LENGTH):
            out[end + character] = decision_id[character]
        end += _ID_LENGTH
        out[end] = 45  # -
        for digit in range(digits):
            out[end + digits - digit] = 48 + rank % 10
            rank //= 10
        end += 1 + digits
        end = _double(out, end, SCORE, np.exp(one.log_score), double)
        if one.distance_m >= 0:
            end = _double(out, end, DISTANCE, one.distance_m, double)
        if venue != NO_VENUE:
            out[end] = VENUE_ID
            first, last = venue_first[venue], venue_first[venue + 1]
            end = _copy(out, _varint(out, end + 1, last - first), venue_ids, first, last)
        if one.until != _NEVER:
            end = _instant(out, end, VALID_UNTIL, one.until)
        if one.redeemable:
            out[end] = REDEEMABLE_NOW
            out[end + 1] = 1
            end += 2
        end = _reasons(
            out, end, kinds[entry], schedules[entry] != NO_SCHEDULE, one.until - time <= SOON_S, fallback[offer] != 0
        )
        if full:
            end = _factors(out, end, one, weights, double)
        out[at] = OFFERS
        begin = _varint(out, at + 1, end - start)
        at = _copy(out, begin, out, start, end)
    at = _text(out, at, CATALOG_VERSION, version)
    at = _instant(out, at, REFRESH_AFTER, refresh_after)
    if refresh_distance < np.inf:
        at = _double(out, at, REFRESH_DISTANCE, refresh_distance, double)
    if eligible:
        out[at] = ELIGIBLE_COUNT
        at = _varint(out, at + 1, eligible)
    return at
