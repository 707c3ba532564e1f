"""Expose: draw the person's variants, and tell which experiments and holdouts have a part in the decision.

`draw_variants` runs once the person's segments are known, before offers are admitted; `settle` once they are; `is_new`
when the answer stands. The specification is `variants_of` of reference/people.py, and reference/concern.py.
"""

import numpy as np

from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import NO_NAME
from offers.compiled import apart, inner
from offers.decision.kernels.admit import hold
from offers.decision.kernels.concern import is_held_out_of, share_of
from offers.decision.kernels.memory.encoded import BYTES, following, is_same, last_of
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import Table, TermsArray, i4, i8, u1
from offers.decision.kernels.memory.scratch import (
    HELD_OUT,
    IF_FALLBACKS,
    IF_RANKED,
    IN,
    SHOWN,
    SURE,
    DecisionFact,
    PersonFact,
    ScratchArray,
)
from offers.decision.kernels.person.meet import ASSIGNMENT, MeetingArray, arms_of, experiments_of, holdouts_of
from offers.v1.profile_service_pb2 import VariantAssignment

_NEVER = NEVER  # numba reads globals of this module only once, as constants
EXPERIMENT_ID = VariantAssignment.EXPERIMENT_ID_FIELD_NUMBER << 3 | BYTES
VARIANT_ID = VariantAssignment.VARIANT_ID_FIELD_NUMBER << 3 | BYTES


@apart
def draw_variants(frame: Frame, record: bytes) -> None:
    """Write the person's variants (NO_NAME: none), and the strategy they rank by.

    Among a layer's experiments that are on, a person stays in the first they were exposed to; else one is drawn.
    """
    meeting, scratch, time = frame.meeting, frame.scratch, frame.time
    experiments, person = experiments_of(meeting), i8(scratch, ScratchArray.person)
    variant, exposed = i4(scratch, ScratchArray.variant), u1(scratch, ScratchArray.exposed)
    recalled, kept = u1(scratch, ScratchArray.recalled), i4(scratch, ScratchArray.layer)
    draw, own = person[PersonFact.draw], person[PersonFact.variant_draw]
    person[PersonFact.strategy] = NO_NAME
    count, withheld = len(experiments), u1(scratch, ScratchArray.withheld)
    for number in range(count):
        variant[number], exposed[number], recalled[number], kept[number] = NO_NAME, 0, 0, NO_NAME
    for number in range(len(holdouts_of(meeting))):
        withheld[holdouts_of(meeting)[number].index] = 0
    person[PersonFact.concerned] = draw != 0 and count + len(holdouts_of(meeting)) > 0
    if person[PersonFact.known] and count:
        _recall(meeting, scratch, record, time)
    for number in range(count):
        one, was = experiments[number], variant[number]
        variant[number] = NO_NAME
        is_on = draw != 0 and one.start <= time < one.end and u1(frame.terms, TermsArray.asked)[number]
        if is_on and _runs_for(meeting, scratch, number):
            variant[number] = (
                was if kept[one.layer] == number else _drawn_variant(meeting, number, kept[one.layer], own)
            )
        if variant[number] == NO_NAME:
            continue
        if one.ranks and person[PersonFact.strategy] == NO_NAME:
            exposed[number] = IF_RANKED
        strategy = arms_of(meeting)[one.first + variant[number]].strategy
        if strategy != NO_NAME and person[PersonFact.strategy] == NO_NAME:
            person[PersonFact.strategy] = strategy
    if np.any(u1(scratch, ScratchArray.mentioned)[:count]):
        hold(scratch, _next_change(meeting, time))


@inner
def _runs_for(meeting: Table, scratch: Table, number: int) -> bool:
    """Return whether the person is in one of an experiment's segments, or it has none."""
    one, segments = experiments_of(meeting)[number], i4(meeting, MeetingArray.segment)
    is_in = one.segment_first == one.segment_last
    for index in range(one.segment_first, one.segment_last):
        is_in = is_in or u1(scratch, ScratchArray.segment)[segments[index]] == IN
    return is_in


@apart
def settle(frame: Frame) -> None:
    """Write which experiments and holdouts have a part in the decision, from what was noted while admitting offers."""
    meeting, scratch = frame.meeting, frame.scratch
    facts, person = i8(scratch, ScratchArray.decision), i8(scratch, ScratchArray.person)
    if person[PersonFact.concerned] == 0:
        return
    exposed, withheld = u1(scratch, ScratchArray.exposed), u1(scratch, ScratchArray.withheld)
    counted = SURE
    if facts[DecisionFact.has_proper] == 0:
        counted |= IF_FALLBACKS
    if facts[DecisionFact.eligible] > 1:
        counted |= IF_RANKED
    if person[PersonFact.stopped]:
        counted = 0
    for number in range(len(experiments_of(meeting))):
        has_one = i4(scratch, ScratchArray.variant)[number] != NO_NAME
        exposed[number] = has_one and exposed[number] & counted != 0
    for number in range(len(holdouts_of(meeting))):
        index = np.int64(holdouts_of(meeting)[number].index)
        is_held_out = person[PersonFact.held_out] != 0 if index == 0 else is_held_out_of(frame, index - 1)
        if withheld[index] & counted:
            withheld[index] = HELD_OUT if is_held_out else SHOWN
        else:
            withheld[index] = 0


@apart
def is_new(frame: Frame) -> bool:
    """Return whether something of the decision has to be kept in the person's record: see PersonFact.new."""
    meeting, scratch, new = frame.meeting, frame.scratch, False
    for number in range(len(experiments_of(meeting))):
        is_exposed = u1(scratch, ScratchArray.exposed)[number] != 0
        new = new or (is_exposed and u1(scratch, ScratchArray.recalled)[number] == 0)
    if i8(scratch, ScratchArray.person)[PersonFact.pinned] == 0:
        for number in range(len(holdouts_of(meeting))):
            new = new or u1(scratch, ScratchArray.withheld)[holdouts_of(meeting)[number].index] != 0
    return new


@inner
def _drawn_variant(meeting: Table, number: int, kept: int, draw: int) -> int:
    """Return the variant of an experiment that is drawn for a person, or NO_NAME.

    `kept` is the experiment of its layer in which the person stays, or NO_NAME.
    """
    one, arms = experiments_of(meeting)[number], arms_of(meeting)
    if kept != NO_NAME or not one.low <= share_of(draw, one.layer_key) < one.high:
        return np.int64(NO_NAME)
    share = share_of(draw, one.key)
    for index in range(one.first, one.last):
        if share < arms[index].bound:
            return np.int64(index - one.first)
    return np.int64(one.last - 1 - one.first)


@inner
def _recall(meeting: Table, scratch: Table, record: bytes, time: int) -> None:
    """Write which experiments the person was exposed to, and the variants of those that are on."""
    experiments, arms, text = experiments_of(meeting), arms_of(meeting), u1(meeting, MeetingArray.text)
    variant, seen, kept = (
        i4(scratch, ScratchArray.variant),
        u1(scratch, ScratchArray.recalled),
        i4(scratch, ScratchArray.layer),
    )
    person = i8(scratch, ScratchArray.person)
    at, end = person[PersonFact.assignments_begin], person[PersonFact.assignments_end]
    while 0 <= at < end:
        tag, begin, at = following(record, at, end)
        if at < 0 or tag != ASSIGNMENT:
            continue
        id_begin, id_end = last_of(record, begin, at, EXPERIMENT_ID)
        name_begin, name_end = last_of(record, begin, at, VARIANT_ID)
        for number in range(len(experiments)):
            one = experiments[number]
            if not is_same(record, id_begin, id_end, text, one.id_first, one.id_last):
                continue
            seen[number] = 1
            for index in range(one.first, one.last):
                arm = arms[index]
                is_on = one.start <= time < one.end
                if is_on and is_same(record, name_begin, name_end, text, arm.id_first, arm.id_last):
                    variant[number] = index - one.first
                    if kept[one.layer] == NO_NAME:
                        kept[one.layer] = number


@inner
def _next_change(meeting: Table, time: int) -> int:
    """Return the second at which an experiment begins or ends next."""
    experiments, change = experiments_of(meeting), np.int64(_NEVER)
    for number in range(len(experiments)):
        if experiments[number].start > time:
            change = min(change, experiments[number].start)
        if experiments[number].end > time:
            change = min(change, experiments[number].end)
    return change


@inner
def exposures_size(meeting: Table, scratch: Table) -> int:
    """Return the bytes that a decision's exposures and holdouts take in a response, and in a record."""
    experiments, size = experiments_of(meeting), 0
    for number in range(len(experiments)):
        if u1(scratch, ScratchArray.exposed)[number]:
            arm = arms_of(meeting)[experiments[number].first + i4(scratch, ScratchArray.variant)[number]]
            size += arm.told_last - arm.told_first
    for number in range(len(holdouts_of(meeting))):
        one = holdouts_of(meeting)[number]
        side = np.int64(u1(scratch, ScratchArray.withheld)[one.index])
        if side:
            size += one.told_last[side - 1] - one.told_first[side - 1]
    return size


@inner
def write_exposures(meeting: Table, scratch: Table, out: np.ndarray, at: int) -> int:
    """Write the exposures and holdouts of a decision. Returns where they end."""
    experiments, text = experiments_of(meeting), u1(meeting, MeetingArray.text)
    for number in range(len(experiments)):
        if u1(scratch, ScratchArray.exposed)[number]:
            arm = arms_of(meeting)[experiments[number].first + i4(scratch, ScratchArray.variant)[number]]
            for index in range(arm.told_first, arm.told_last):
                out[at] = text[index]
                at += 1
    text = u1(meeting, MeetingArray.withholding_text)
    for number in range(len(holdouts_of(meeting))):
        one = holdouts_of(meeting)[number]
        side = np.int64(u1(scratch, ScratchArray.withheld)[one.index])
        if side:
            for index in range(one.told_first[side - 1], one.told_last[side - 1]):
                out[at] = text[index]
                at += 1
    return at
