"""Wire: write the bytes of a GetOffersResponse straight from a decision.

Fields that never change are copied from the snapshot, all others are encoded. Field numbers come from the descriptors.
A test parses the bytes and holds them equal to a message put together with protobuf.
"""

import math
import sys
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import EVERYWHERE, IN_ZONE, NO_NAME, NO_SCHEDULE, NO_VENUE
from offers.compiled import apart, inner
from offers.decision.kernels.memory.encoded import (
    BYTES,
    FIXED64,
    VARINT,
    double_into,
    hexadecimal,
    varint_into,
    varint_size,
)
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import (
    Column,
    Layout,
    Table,
    TermsArray,
    creatives_of,
    entries_of,
    f8,
    gates_of,
    i4,
    i8,
    offers_of,
    strategies_of,
    u1,
    u8,
)
from offers.decision.kernels.memory.scratch import (
    HABIT,
    IN_AUDIENCE,
    IN_DAYPART,
    LIFTED,
    UNPLACED,
    UNREACHABLE,
    DecisionFact,
    PersonFact,
    ScratchArray,
    chosen_of,
)
from offers.decision.kernels.person.meet import MeetingArray, MeetingFact
from offers.model.proposition_ids import (
    DECISION_ID_DIGITS,
    PROPOSED_DIGITS,
    rank_digits,
    write_proposed,
    write_rank,
)
from offers.server.fast.buffers import BufferArray
from offers.v1 import offer_service_pb2 as pb


def _tag(message: str, field: str, kind: int) -> int:
    """Return the tag of a field on the wire: one byte, but for the two fields whose numbers are 16 or more."""
    return pb.DESCRIPTOR.message_types_by_name[message].fields_by_name[field].number << 3 | kind


DECISION_ID = _tag("GetOffersResponse", "decision_id", BYTES)
OFFERS = _tag("GetOffersResponse", "offers", BYTES)
CATALOG_VERSION = _tag("GetOffersResponse", "catalog_version", BYTES)
REFRESH_AFTER = _tag("GetOffersResponse", "refresh_after", BYTES)
REFRESH_DISTANCE = _tag("GetOffersResponse", "refresh_distance_m", FIXED64)
MODEL_VERSION = _tag("GetOffersResponse", "model_version", BYTES)
ELIGIBLE_COUNT = _tag("GetOffersResponse", "eligible_count", VARINT)
RANK = _tag("Proposition", "rank", VARINT)
PROPOSITION_ID = _tag("Proposition", "proposition_id", BYTES)
SCORE = _tag("Proposition", "score", FIXED64)
DISTANCE = _tag("Proposition", "distance_m", FIXED64)
VENUE_ID = _tag("Proposition", "venue_id", BYTES)
VALID_UNTIL = _tag("Proposition", "valid_until", BYTES)
REDEEMABLE_NOW = _tag("Proposition", "redeemable_now", VARINT)
REASONS = _tag("Proposition", "reasons", BYTES)
FACTORS = _tag("Proposition", "factors", BYTES)
SELECTION = _tag("Proposition", "selection_probability", FIXED64)
FACTOR_NAME = _tag("Factor", "name", VARINT)
FACTOR_VALUE = _tag("Factor", "value", FIXED64)
FACTOR_WEIGHT = _tag("Factor", "weight", FIXED64)
FACTOR_LOG = _tag("Factor", "log_contribution", FIXED64)
SECONDS = 1 << 3 | VARINT

NEARBY, ZONE, ANYWHERE = pb.REASON_CODE_NEARBY, pb.REASON_CODE_IN_ZONE, pb.REASON_CODE_EVERYWHERE
OPEN_NOW, ENDS_SOON, FALLBACK = pb.REASON_CODE_OPEN_NOW, pb.REASON_CODE_ENDS_SOON, pb.REASON_CODE_FALLBACK
MISSING, DAYPART = pb.REASON_CODE_LOCATION_MISSING, pb.REASON_CODE_PREFERRED_DAYPART
TOO_FAR, AUDIENCE, BEHAVIOUR = pb.REASON_CODE_UNREACHABLE, pb.REASON_CODE_AUDIENCE, pb.REASON_CODE_BEHAVIOUR
HABITUAL = pb.REASON_CODE_HABIT
SOON_S = 3600
"""Seconds within which an offer ends soon: the person can still act on it, if at once."""


PER_PROPOSITION = 512
"""Bytes that a proposition takes at most beside its static fields and venue id: ids 65, numbers 70, factors 9 x 32."""
PER_RESPONSE = 256
FACTOR_SIZE = 3 + 2 + 3 * 9
FACTORS_TOLD = len(pb.FactorName.values()) - 1
"""Factors of a proposition, in the order of their numbers."""
VALUE, LEVER = pb.FACTOR_NAME_VALUE - 1, pb.FACTOR_NAME_LEVER - 1
LEAST_SCORE = sys.float_info.min
"""Lower bound of scores, which are over 0: with heavy weights the true value may underflow. The factors show it."""
_NEVER = NEVER


@inner
def _double(out: np.ndarray, at: int, tag: int, number: float) -> int:
    """Write a field of a floating-point number. Returns where it ends."""
    out[at] = tag
    return double_into(out, at + 1, number)


@inner
def _instant(out: np.ndarray, at: int, tag: int, second: int) -> int:
    """Write a field of a google.protobuf.Timestamp. Returns where it ends."""
    out[at] = tag
    out[at + 1] = 1 + varint_size(second)
    out[at + 2] = SECONDS
    return varint_into(out, at + 3, second)


@intrinsic
def _move(_context: Any, _out: Any, _at: Any, _source: Any, _begin: Any, _size: Any) -> Any:  # noqa: ANN401
    """Copy bytes between arrays by memmove: a loop over bytes is several times slower."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        out, at, source, begin, size = args
        to = context.make_array(signature.args[0])(context, builder, out).data
        origin = context.make_array(signature.args[2])(context, builder, source).data
        cgutils.raw_memmove(builder, builder.gep(to, [at]), builder.gep(origin, [begin]), size, 1)
        return context.get_dummy_value()

    return types.void(_out, types.int64, _source, types.int64, types.int64), generate


@inner
def _copy(out: np.ndarray, at: int, source: np.ndarray, begin: int, end: int) -> int:
    """Copy bytes. Returns where they end."""
    _move(out, at, source, begin, end - begin)
    return at + end - begin


@inner
def _factors(out: np.ndarray, at: int, chosen: np.void, offer: np.void, strategy: np.void) -> int:
    """Write the factors of a proposition. Returns where they end."""
    for factor in range(FACTORS_TOLD):
        value, weight = math.exp(chosen.logs[factor]), strategy.weights[factor]
        if factor == VALUE:  # exactly as the catalogue has it
            value = offer.value
        elif factor == LEVER:
            value = offer.lever
        at = _factor(out, at, factor + 1, value, weight, weight * chosen.logs[factor])
    return at


@inner
def _factor(out: np.ndarray, at: int, name: int, value: float, weight: float, log: float) -> int:
    """Write a factor. Returns where it ends."""
    out[at], out[at + 1] = FACTORS & 127 | 128, FACTORS >> 7  # the tag takes two bytes
    out[at + 2] = FACTOR_SIZE - 3
    out[at + 3], out[at + 4] = FACTOR_NAME, name
    at = _double(out, at + 5, FACTOR_VALUE, value)
    at = _double(out, at, FACTOR_WEIGHT, weight)
    return _double(out, at, FACTOR_LOG, log)


@inner
def _proposition_id(out: np.ndarray, at: int, id_at: int, rank: int, digits: int) -> int:
    """Write a proposition id as far as the rank, behind the decision's id at `id_at`. Returns where it ends."""
    out[at], out[at + 1] = PROPOSITION_ID, DECISION_ID_DIGITS + 1 + digits + 1 + PROPOSED_DIGITS
    return write_rank(out, _copy(out, at + 2, out, id_at, id_at + DECISION_ID_DIGITS), rank, digits)


@inner
def _reasons(out: np.ndarray, at: int, kind: int, has_hours: bool, ends_soon: bool, fallback: bool, flags: int) -> int:
    """Write the reason codes of a proposition. Returns where they end."""
    out[at] = REASONS
    first = at + 2
    out[first] = ANYWHERE if kind == EVERYWHERE else ZONE if kind == IN_ZONE else NEARBY
    if flags & UNPLACED:
        out[first] = MISSING
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
    if flags & IN_DAYPART:
        out[end] = DAYPART
        end += 1
    if flags & UNREACHABLE:
        out[end] = TOO_FAR
        end += 1
    if flags & IN_AUDIENCE:
        out[end] = AUDIENCE
        end += 1
    if flags & LIFTED:
        out[end] = BEHAVIOUR
        end += 1
    if flags & HABIT:
        out[end] = HABITUAL
        end += 1
    out[at + 1] = end - first
    return end


@inner
def _static(columns: Table, chosen: np.void, offer: np.void) -> tuple[int, int, int]:
    """Return the column of the fields that never change, and where they begin and end there."""
    if chosen.creative == NO_NAME:
        return np.int64(Column.wire), offer.wire_first, offer.wire_first + np.int64(offer.wire_size)
    creative = creatives_of(columns)[chosen.creative]
    return np.int64(Column.creative_wire), creative.wire_first, creative.wire_first + np.int64(creative.wire_size)


@apart
def response_size(frame: Frame) -> int:
    """Return the most bytes that the response of a decision takes, without exposures."""
    columns, chosen, entries = frame.columns, chosen_of(frame.scratch), entries_of(frame.columns)
    venue_first, size = i4(columns, Column.venue_id_first), PER_RESPONSE
    for index in range(i8(frame.scratch, ScratchArray.decision)[DecisionFact.chosen]):
        entry = entries[chosen[index].entry]
        _, first, last = _static(columns, chosen[index], offers_of(columns)[entry.offer])
        size += PER_PROPOSITION + last - first
        if entry.venue != NO_VENUE:
            size += venue_first[entry.venue + 1] - venue_first[entry.venue]
    return size


@apart
def write_response(frame: Frame, buffers: Table, id_high: int, id_low: int) -> int:
    """Write the response of a decision into BufferArray.response, which has room for it. Returns its length.

    The decision's id is 128 bits in two signed numbers, written as hexadecimal.
    """
    columns, scratch, time = frame.columns, frame.scratch, frame.time
    facts, full = i8(scratch, ScratchArray.decision), i4(frame.terms, TermsArray.layout)[Layout.full] != 0
    count, eligible = facts[DecisionFact.chosen], facts[DecisionFact.eligible]
    out = u1(buffers, BufferArray.response)
    offers = offers_of(columns)
    venue_first, venue_ids = i4(columns, Column.venue_id_first), u1(columns, Column.venue_id)
    gates, entries, chosen = gates_of(columns), entries_of(columns), chosen_of(scratch)
    strategy = strategies_of(columns)[frame.strategy]
    out[0], out[1] = DECISION_ID, DECISION_ID_DIGITS
    id_at, surface = 2, u8(frame.terms, TermsArray.moment_key)
    at = hexadecimal(out, hexadecimal(out, id_at, id_high), id_low)
    for index in range(count):
        one = chosen[index]
        entry, rank = entries[one.entry], index + 1
        offer, venue = offers[entry.offer], entry.venue
        column, first, last = _static(columns, one, offer)
        has_distance, has_end, redeemable = one.distance_m >= 0, one.until != _NEVER, one.redeemable != 0
        has_hours, ends_soon = gates[one.entry].schedule != NO_SCHEDULE, one.until - time <= SOON_S
        is_fallback, in_daypart = entry.fallback != 0, one.flags & IN_DAYPART != 0
        too_far, in_audience = one.flags & UNREACHABLE != 0, one.flags & IN_AUDIENCE != 0
        is_lifted, is_habit = one.flags & LIFTED != 0, one.flags & HABIT != 0
        digits = rank_digits(rank)
        venue_begin = venue_end = venue_size = 0
        if venue != NO_VENUE:
            venue_begin, venue_end = venue_first[venue], venue_first[venue + 1]
            venue_size = 1 + varint_size(venue_end - venue_begin) + venue_end - venue_begin
        size = (
            (last - first)
            + 2  # rank
            + (4 + DECISION_ID_DIGITS + digits + PROPOSED_DIGITS)  # proposition_id
            + 9  # score
            + 9 * has_distance
            + venue_size
            + ((3 + varint_size(one.until)) if has_end else 0)
            + 2 * redeemable
            + (
                3 + has_hours + ends_soon + is_fallback + in_daypart + too_far + in_audience + is_lifted + is_habit
            )  # reasons
            + (FACTORS_TOLD * FACTOR_SIZE if full else 0)
            + 10 * (one.selection > 0)
        )
        out[at] = OFFERS
        at = varint_into(out, at + 1, size)
        at = _copy(out, at, u1(columns, column), first, last)
        out[at], out[at + 1] = RANK, rank
        at = _proposition_id(out, at + 2, id_at, rank, digits)
        at = write_proposed(out, at, (id_high, id_low, rank), offer.key, surface)
        at = _double(out, at, SCORE, max(math.exp(one.log_score), LEAST_SCORE))
        if has_distance:
            at = _double(out, at, DISTANCE, one.distance_m)
        if venue_size:
            out[at] = VENUE_ID
            at = _copy(out, varint_into(out, at + 1, venue_end - venue_begin), venue_ids, venue_begin, venue_end)
        if has_end:
            at = _instant(out, at, VALID_UNTIL, one.until)
        if redeemable:
            out[at], out[at + 1] = REDEEMABLE_NOW, 1
            at += 2
        at = _reasons(out, at, entry.kind, has_hours, ends_soon, is_fallback, one.flags)
        if full:
            at = _factors(out, at, one, offer, strategy)
        if one.selection > 0:
            out[at], out[at + 1] = SELECTION & 127 | 128, SELECTION >> 7
            at = double_into(out, at + 2, one.selection)
    out[at], out[at + 1] = CATALOG_VERSION, 16
    at = hexadecimal(out, at + 2, i8(frame.meeting, MeetingArray.fact)[MeetingFact.version])
    at = _instant(out, at, REFRESH_AFTER, facts[DecisionFact.refresh_after])
    refresh_distance = f8(scratch, ScratchArray.refresh_distance)[0]
    if refresh_distance < np.inf:
        at = _double(out, at, REFRESH_DISTANCE, refresh_distance)
    if eligible:
        out[at] = ELIGIBLE_COUNT
        at = varint_into(out, at + 1, eligible)
    if facts[DecisionFact.learned]:
        out[at], out[at + 1] = MODEL_VERSION, 16
        at = hexadecimal(out, at + 2, i8(scratch, ScratchArray.person)[PersonFact.model])
    return at
