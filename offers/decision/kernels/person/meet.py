"""Meet: bring what is known of a person into a decision, between `begin` and `choose`.

The encoded record and request are read in place: what consent allows to keep, what caps count, and which segments the
person is in. Segments that cannot be compiled to steps are left to CEL. The variants of experiments follow, in
expose.py. The specification is reference/people.py.
"""

from enum import IntEnum

import numpy as np
from numba import carray

from offers.catalogue.snapshot import NO_NAME
from offers.compiled import apart, inner
from offers.decision.budgets import SOON_S
from offers.decision.experiments import ARM, EXPERIMENT, HOLDOUT
from offers.decision.kernels.admit import hold, is_capped
from offers.decision.kernels.concern import share_of
from offers.decision.kernels.memory.encoded import BYTES, FIXED64, VARINT, fixed64, following, last_of, varint
from offers.decision.kernels.memory.frame import Frame, PersonInput
from offers.decision.kernels.memory.records import Table, TermsArray, address_of, array_of, f8, i4, i8, u1, u4
from offers.decision.kernels.memory.scratch import COUNTER, IN, OUT, DecisionFact, PersonFact, ScratchArray, counters_of
from offers.decision.kernels.need import Need
from offers.decision.kernels.person.judge import LEFT_TO_CEL, judge
from offers.decision.segments.predicates import CONTEXT, PROFILE, TRUE
from offers.v1.context_pb2 import CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_PROFILING
from offers.v1.profile_pb2 import Consent, Profile
from offers.v1.state_pb2 import UserState

NAMED = 1
"""Flag: the request names a person."""
BLIND = 2
"""Flag: the person's state could not be read."""
AGREED = 4
"""Flag: profiling is agreed to where neither the request nor the record says."""
HIDDEN = 8
"""Flag: the location and the session must not be used, as there is no consent to it."""
COUNTED = 16
"""Flag: what the record counts holds without consent too."""
TAUGHT = 32
"""Flag: learning is agreed to where neither the request nor the record says."""

PROFILING, LEARNING = int(CONSENT_PURPOSE_PROFILING), int(CONSENT_PURPOSE_LEARNING)
_COUNTER_BYTES, _TIME_BYTES = COUNTER.itemsize, 4
COUNTERS, TIMES = UserState.COUNTERS_FIELD_NUMBER << 3 | BYTES, UserState.TIMES_FIELD_NUMBER << 3 | BYTES
VISITS = UserState.VISITS_FIELD_NUMBER << 3 | BYTES
ASSIGNMENT, DRAW = UserState.ASSIGNMENTS_FIELD_NUMBER << 3 | BYTES, UserState.DRAW_FIELD_NUMBER << 3 | FIXED64
VARIANT_DRAW = UserState.VARIANT_DRAW_FIELD_NUMBER << 3 | FIXED64
CONSENT = Profile.CONSENTS_FIELD_NUMBER << 3 | BYTES
PURPOSE, GRANTED = Consent.PURPOSE_FIELD_NUMBER << 3 | VARINT, Consent.GRANTED_FIELD_NUMBER << 3 | VARINT


class MeetingArray(IntEnum):
    """Indices of the arrays by which a catalogue's engine meets persons."""

    fact = 0
    """i8: see MeetingFact."""
    holdout = 1
    """f8: share of the persons who are shown only fallbacks."""
    period = 2
    """i8: first and last second (exclusive) of each calendar period around an instant."""
    experiment = 3
    """EXPERIMENT."""
    arm = 4
    """ARM."""
    text = 5
    """u1: ids and encoded exposures that experiments and arms refer to."""
    placed = 6
    """u1 per segment: 1 if it may change with the location."""
    segment = 7
    """i4: segments of experiments."""
    withholding = 8
    """HOLDOUT."""
    withholding_text = 9
    """u1: encoded holdouts that these refer to."""


class MeetingFact(IntEnum):
    """Indices of the whole numbers in MeetingArray.fact."""

    rules = 0
    """Address of the table of the segments' steps."""
    holdout_key = 1
    begin = 2
    """Second from which MeetingArray.period holds."""
    end = 3
    """Second until which it does, exclusive."""
    learned = 4
    """Address of the table of the model that is used; 0: none."""
    version = 5
    """Version of the snapshot, as a signed number."""


experiments_of = array_of(MeetingArray.experiment, EXPERIMENT)
arms_of = array_of(MeetingArray.arm, ARM)
holdouts_of = array_of(MeetingArray.withholding, HOLDOUT)


@apart
def meet(frame: Frame, record: bytes, request: bytes, asked: PersonInput) -> int:
    """Bring a person into what was found.

    Returns a Need: PERIODS or COUNTERS, if nothing is done yet; SEGMENTS, if some of the wanted segments are left to
    CEL, which are listed first then; or NOTHING.
    """
    meeting, scratch, time = frame.meeting, frame.scratch, frame.time
    facts = i8(meeting, MeetingArray.fact)
    if not facts[MeetingFact.begin] <= time < facts[MeetingFact.end]:
        return Need.PERIODS
    if not _read_record(scratch, record, asked):
        return Need.COUNTERS
    person, period = i8(scratch, ScratchArray.person), i8(scratch, ScratchArray.period)
    for index in range(len(i8(meeting, MeetingArray.period))):
        period[index] = i8(meeting, MeetingArray.period)[index]
    person[PersonFact.context_begin], person[PersonFact.context_end] = last_of(request, 0, len(request), CONTEXT)
    caps, share = i8(frame.terms, TermsArray.caps), f8(meeting, MeetingArray.holdout)[0]
    if person[PersonFact.blind]:
        hold(scratch, time + SOON_S)
    person[PersonFact.stopped] = is_capped(frame, caps[0], caps[1])
    drawn_by = person[PersonFact.draw]
    person[PersonFact.held_out] = (
        share > 0 and drawn_by != 0 and share_of(drawn_by, facts[MeetingFact.holdout_key]) < share
    )
    person[PersonFact.strategy] = NO_NAME  # until variants are drawn
    left = _judge(frame, record, request)
    return Need.SEGMENTS if left > 0 else Need.NOTHING


@inner
def _read_record(scratch: Table, record: bytes, asked: PersonInput) -> bool:
    """Read what is known of the person, as far as consent allows it to be kept. Returns False if there is no room."""
    draw, grants, flags = asked.draw, asked.grants, asked.flags
    person = i8(scratch, ScratchArray.person)
    profile_begin = counters_begin = times_begin = visits_begin = draw_begin = variant_begin = assignments_begin = (
        np.int64(-1)
    )
    profile_end = counters_end = times_end = visits_end = assignments_end = np.int64(-1)
    at, end = 0, len(record)
    while 0 <= at < end:  # one pass for all of them: a record has some hundred fields
        field = at
        tag, begin, at = following(record, at, end)
        if at < 0:
            break
        if tag == PROFILE:
            profile_begin, profile_end = begin, at
        elif tag == COUNTERS:
            counters_begin, counters_end = begin, at
        elif tag == TIMES:
            times_begin, times_end = begin, at
        elif tag == VISITS:
            visits_begin, visits_end = begin, at
        elif tag == DRAW:
            draw_begin = begin
        elif tag == VARIANT_DRAW:
            variant_begin = begin
        elif tag == ASSIGNMENT:
            assignments_begin, assignments_end = field if assignments_begin < 0 else assignments_begin, at
    agreed = _agrees(record, profile_begin, profile_end, PROFILING, grants, flags & AGREED)
    known = flags & NAMED and agreed and not flags & BLIND
    agreed = _agrees(record, profile_begin, profile_end, LEARNING, grants, flags & TAUGHT)
    person[PersonFact.learn] = agreed and not flags & (BLIND | HIDDEN)
    if not known:
        profile_begin = draw_begin = variant_begin = -1
        if not flags & COUNTED:
            counters_end, times_end = counters_begin, times_begin
    counters, times = (counters_end - counters_begin) // _COUNTER_BYTES, (times_end - times_begin) // _TIME_BYTES
    if counters > len(counters_of(scratch)) or times > len(u4(scratch, ScratchArray.times)):
        return False
    _copy(scratch, ScratchArray.counter, record, counters_begin, counters * _COUNTER_BYTES)
    _copy(scratch, ScratchArray.times, record, times_begin, times * _TIME_BYTES)
    for index in range(counters):  # a broken record must not make the loops read beyond the instants
        one = counters_of(scratch)[index]
        if np.int64(one.first) + np.int64(one.count) > times:
            one.count = 0
    person[PersonFact.pinned] = draw_begin >= 0 and fixed64(record, draw_begin) != 0
    if person[PersonFact.pinned]:
        draw = np.int64(fixed64(record, draw_begin))
    person[PersonFact.draw], person[PersonFact.counters] = draw, counters
    person[PersonFact.variant_draw] = np.int64(fixed64(record, variant_begin)) if variant_begin >= 0 else draw
    person[PersonFact.blind], person[PersonFact.known] = flags & BLIND, known
    person[PersonFact.hidden], person[PersonFact.unread] = flags & HIDDEN, 0
    person[PersonFact.profile_begin], person[PersonFact.profile_end] = profile_begin, profile_end
    person[PersonFact.visits_begin], person[PersonFact.visits_end] = visits_begin, visits_end
    person[PersonFact.assignments_begin], person[PersonFact.assignments_end] = assignments_begin, assignments_end
    return True


@inner
def _agrees(record: bytes, at: int, end: int, wanted: int, grants: int, unsaid: int) -> bool:
    """Return whether a purpose is agreed to: by the request's grants, else the profile in the record, else `unsaid`.

    See offers.state.person.consent.agrees.
    """
    if grants >= 0:
        return grants >> wanted & 1 != 0
    agreed = unsaid != 0
    while 0 <= at < end:
        tag, begin, at = following(record, at, end)
        if at < 0 or tag != CONSENT:
            continue
        purpose, _ = last_of(record, begin, at, PURPOSE)
        if purpose >= 0 and varint(record, purpose, at)[0] == wanted:
            granted, _ = last_of(record, begin, at, GRANTED)
            agreed = granted >= 0 and varint(record, granted, at)[0] != 0
    return agreed


@inner
def _copy(scratch: Table, index: int, record: bytes, begin: int, size: int) -> None:
    """Copy `size` bytes of a record to the beginning of an array that has room for them."""
    into = carray(address_of(scratch, index), (size,), np.uint8)
    for byte in range(size):
        into[byte] = record[begin + byte]


@inner
def _judge(frame: Frame, record: bytes, request: bytes) -> int:
    """Judge which wanted segments the person is in. Returns how many are left to CEL, which are listed first.

    Segments that have steps do not change with time alone: see predicates.py.
    """
    meeting, scratch = frame.meeting, frame.scratch
    wanted = i4(scratch, ScratchArray.wanted)
    segment, placed, left = u1(scratch, ScratchArray.segment), u1(meeting, MeetingArray.placed), 0
    for index in range(i8(scratch, ScratchArray.decision)[DecisionFact.wanted]):
        number = wanted[index]
        if placed[number]:
            f8(scratch, ScratchArray.refresh_distance)[0] = 0.0
        verdict = judge(i8(meeting, MeetingArray.fact)[MeetingFact.rules], scratch, number, record, request)
        if verdict == LEFT_TO_CEL:
            wanted[left] = number
            left += 1
        else:
            segment[number] = IN if verdict == TRUE else OUT
    i8(scratch, ScratchArray.person)[PersonFact.left] = left
    return left
