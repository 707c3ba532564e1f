"""Meet: what is known of a person, brought into what was found, so that `choose` can go on.

The person's record and the request are read where they stand: what consent allows to keep, what caps count, which
segments the person is in, and which variants of experiments they have. Segments that are no steps are left to CEL.
"""

from enum import IntEnum

import numpy as np
from numba import carray

from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import NO_NAME
from offers.compiled import apart, inner
from offers.decision.experiments import ARM, EXPERIMENT
from offers.decision.kernels.admit import is_capped, share_of
from offers.decision.kernels.memory.encoded import BYTES, FIXED64, VARINT, fixed64, following, is_same, last_of, varint
from offers.decision.kernels.memory.records import Table, Terms, address_of, array_of, f8, i4, i8, u1, u4
from offers.decision.kernels.memory.scratch import COUNTER, IN, OUT, Outcome, PersonFact, Scratch, counters_of
from offers.decision.kernels.person.behave import notice
from offers.decision.kernels.person.judge import LEFT_TO_CEL, judged
from offers.decision.segments.predicates import CONTEXT, PROFILE, TRUE
from offers.v1.context_pb2 import CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_PROFILING
from offers.v1.profile_pb2 import Consent, Profile
from offers.v1.profile_service_pb2 import VariantAssignment
from offers.v1.state_pb2 import UserState

NO_ROOM, OTHER_PERIODS = -1, -2
"""In place of a count: the scratchpad needs room for what the record counts; the calendar's periods are not those of
the instant."""
NAMED, BLIND, AGREED, HIDDEN, COUNTED, TAUGHT = 1, 2, 4, 8, 16, 32
"""Flags: somebody in particular; whose state could not be read; profiling is agreed to where nobody said; without
consent to it, the location and the session are not to be used; what the record counts holds without consent too;
learning is agreed to where nobody said."""

PROFILING, LEARNING = int(CONSENT_PURPOSE_PROFILING), int(CONSENT_PURPOSE_LEARNING)
_NEVER = NEVER  # numba reads globals of this module only once, as constants
_COUNTER_BYTES, _TIME_BYTES = COUNTER.itemsize, 4
COUNTERS, TIMES = UserState.COUNTERS_FIELD_NUMBER << 3 | BYTES, UserState.TIMES_FIELD_NUMBER << 3 | BYTES
VISITS = UserState.VISITS_FIELD_NUMBER << 3 | BYTES
ASSIGNMENT, DRAW = UserState.ASSIGNMENTS_FIELD_NUMBER << 3 | BYTES, UserState.DRAW_FIELD_NUMBER << 3 | FIXED64
CONSENT = Profile.CONSENTS_FIELD_NUMBER << 3 | BYTES
PURPOSE, GRANTED = Consent.PURPOSE_FIELD_NUMBER << 3 | VARINT, Consent.GRANTED_FIELD_NUMBER << 3 | VARINT
EXPERIMENT_ID = VariantAssignment.EXPERIMENT_ID_FIELD_NUMBER << 3 | BYTES
VARIANT_ID = VariantAssignment.VARIANT_ID_FIELD_NUMBER << 3 | BYTES


class People(IntEnum):
    """Places of the arrays by which a catalogue's engine meets persons."""

    fact = 0
    """i8: see Fact."""
    holdout = 1
    """f8: the share of persons who are shown fallbacks alone."""
    period = 2
    """i8: first and last second (exclusive) of each calendar period around an instant."""
    experiment = 3
    """EXPERIMENT."""
    arm = 4
    """ARM."""
    text = 5
    """u1: what experiments and arms refer to."""
    changes = 6
    """u1 per segment: BY_TIME and BY_PLACE."""


class Fact(IntEnum):
    """Places of People.fact."""

    rules = 0
    """The table of the segments' steps."""
    holdout_key = 1
    begin = 2
    """Between which seconds the periods are those of an instant."""
    end = 3
    learned = 4
    """The table of the model that is used; 0: none."""


BY_TIME, BY_PLACE = 1, 2
"""What a segment may change with, though nothing happens."""
_experiments_of = array_of(People.experiment, EXPERIMENT)
_arms_of = array_of(People.arm, ARM)


@apart
def meet(
    columns: Table, people: Table, terms: Table, scratch: Table, record: bytes, request: bytes, draw: int, grants: int,
    flags: int, time: int,
) -> int:  # fmt: skip
    """Bring a person into what `find` found. Returns how many of the wanted segments are left to CEL, now listed first.

    `draw` is the number by which variants are drawn unless the record has another; `grants` a bit per purpose that the
    request agrees to, -1: it does not say. NO_ROOM or OTHER_PERIODS: nothing is done yet.
    """
    facts = i8(people, People.fact)
    if not facts[Fact.begin] <= time < facts[Fact.end]:
        return OTHER_PERIODS
    if not _seat(scratch, record, draw, grants, flags):
        return NO_ROOM
    person, period = i8(scratch, Scratch.person), i8(scratch, Scratch.period)
    for place in range(len(i8(people, People.period))):
        period[place] = i8(people, People.period)[place]
    person[PersonFact.context_begin], person[PersonFact.context_end] = last_of(request, 0, len(request), CONTEXT)
    caps, share = i8(terms, Terms.caps), f8(people, People.holdout)[0]
    person[PersonFact.stopped] = is_capped(columns, scratch, terms, caps[0], caps[1], time)
    drawn_by = person[PersonFact.draw]
    person[PersonFact.held_out] = share > 0 and drawn_by != 0 and share_of(drawn_by, facts[Fact.holdout_key]) < share
    _draw(people, terms, scratch, record, time)
    notice(columns, terms, scratch, record, request, time)
    return _judge(people, scratch, record, request, time)


@inner
def _seat(scratch: Table, record: bytes, draw: int, grants: int, flags: int) -> bool:
    """Note what is known of the person, as far as they agreed to its being kept. False: there is no room for it."""
    person = i8(scratch, Scratch.person)
    profile_begin = counters_begin = times_begin = visits_begin = draw_begin = assignments_begin = np.int64(-1)
    profile_end = counters_end = times_end = visits_end = assignments_end = np.int64(-1)
    at, end = 0, len(record)
    while 0 <= at < end:  # once: a record has a hundred fields
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
        elif tag == ASSIGNMENT:
            assignments_begin, assignments_end = field if assignments_begin < 0 else assignments_begin, at
    agreed = _agrees(record, profile_begin, profile_end, PROFILING, grants, flags & AGREED)
    known = flags & NAMED and agreed and not flags & BLIND
    agreed = _agrees(record, profile_begin, profile_end, LEARNING, grants, flags & TAUGHT)
    person[PersonFact.learn] = agreed and not flags & (BLIND | HIDDEN)
    if not known:
        profile_begin = draw_begin = -1
        if not flags & COUNTED:
            counters_end, times_end = counters_begin, times_begin
    counters, times = (counters_end - counters_begin) // _COUNTER_BYTES, (times_end - times_begin) // _TIME_BYTES
    if counters > len(counters_of(scratch)) or times > len(u4(scratch, Scratch.times)):
        return False
    _copy(scratch, Scratch.counter, record, counters_begin, counters * _COUNTER_BYTES)
    _copy(scratch, Scratch.times, record, times_begin, times * _TIME_BYTES)
    for place in range(counters):  # of a record that is broken
        one = counters_of(scratch)[place]
        if np.int64(one.first) + np.int64(one.count) > times:
            one.count = 0
    if draw_begin >= 0 and fixed64(record, draw_begin) != 0:
        draw = np.int64(fixed64(record, draw_begin))
    person[PersonFact.draw], person[PersonFact.counters] = draw, counters
    person[PersonFact.blind], person[PersonFact.known] = flags & BLIND, known
    person[PersonFact.hidden] = flags & HIDDEN
    person[PersonFact.profile_begin], person[PersonFact.profile_end] = profile_begin, profile_end
    person[PersonFact.visits_begin], person[PersonFact.visits_end] = visits_begin, visits_end
    person[PersonFact.assignments_begin], person[PersonFact.assignments_end] = assignments_begin, assignments_end
    return True


@inner
def _agrees(record: bytes, at: int, end: int, wanted: int, grants: int, unsaid: int) -> bool:
    """Return whether the profile in the record grants a purpose: see offers.state.person.consent.agrees."""
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
def _copy(scratch: Table, place: int, record: bytes, begin: int, size: int) -> None:
    """Copy so many bytes of a record to the beginning of an array that has room for them."""
    into = carray(address_of(scratch, place), (size,), np.uint8)
    for byte in range(size):
        into[byte] = record[begin + byte]


@inner
def _judge(people: Table, scratch: Table, record: bytes, request: bytes, time: int) -> int:
    """Find out which wanted segments the person is in; those that are left to CEL are listed first."""
    outcome, wanted = f8(scratch, Scratch.outcome), i4(scratch, Scratch.wanted)
    segment, changes, left = u1(scratch, Scratch.segment), u1(people, People.changes), 0
    for place in range(int(outcome[Outcome.wanted])):
        number = wanted[place]
        if changes[number] & BY_TIME:
            outcome[Outcome.refresh_after] = min(outcome[Outcome.refresh_after], time + 1.0)
        if changes[number] & BY_PLACE:
            outcome[Outcome.refresh_distance] = 0.0
        come_to = judged(i8(people, People.fact)[Fact.rules], scratch, number, record, request)
        if come_to == LEFT_TO_CEL:
            wanted[left] = number
            left += 1
        else:
            segment[number] = IN if come_to == TRUE else OUT
    i8(scratch, Scratch.person)[PersonFact.left] = left
    return left


@apart
def _draw(people: Table, terms: Table, scratch: Table, record: bytes, time: int) -> None:
    """Note the variants of the person (NO_NAME: none), the strategy they rank by, and which are exposed by a decision.

    Of a layer's experiments that are on, a person stays in the first they were exposed to; others are drawn.
    """
    experiments, person = _experiments_of(people), i8(scratch, Scratch.person)
    variant, state, kept = i4(scratch, Scratch.variant), u1(scratch, Scratch.exposed), i4(scratch, Scratch.layer)
    outcome, draw = f8(scratch, Scratch.outcome), person[PersonFact.draw]
    person[PersonFact.strategy], person[PersonFact.new] = NO_NAME, 0
    count = len(experiments)
    for number in range(count):
        variant[number], state[number], kept[number] = NO_NAME, 0, NO_NAME
    if person[PersonFact.known] and count:
        _recall(people, scratch, record, time)
    for number in range(count):
        one, seen, was = experiments[number], state[number], variant[number]
        variant[number], state[number] = NO_NAME, 0
        if draw != 0 and one.start <= time < one.end and u1(terms, Terms.asked)[number]:
            variant[number] = was if kept[one.layer] == number else _drawn(people, number, kept[one.layer], draw)
        if variant[number] == NO_NAME:
            continue
        strategy = _arms_of(people)[one.first + variant[number]].strategy
        if strategy != NO_NAME and person[PersonFact.strategy] == NO_NAME:
            person[PersonFact.strategy] = strategy
        if u1(scratch, Scratch.mentioned)[number] or one.ranks:
            state[number] = 1
            person[PersonFact.new] |= seen == 0
    if np.any(u1(scratch, Scratch.mentioned)[:count]):
        outcome[Outcome.refresh_after] = min(outcome[Outcome.refresh_after], _next_change(people, time))


@inner
def _drawn(people: Table, number: int, kept: int, draw: int) -> int:
    """The variant that is drawn of an experiment, of whose layer the person stays in another unless that is NO_NAME."""
    one, arms = _experiments_of(people)[number], _arms_of(people)
    if kept != NO_NAME or not one.low <= share_of(draw, one.layer_key) < one.high:
        return np.int64(NO_NAME)
    share = share_of(draw, one.key)
    for place in range(one.first, one.last):
        if share < arms[place].bound:
            return np.int64(place - one.first)
    return np.int64(one.last - 1 - one.first)


@inner
def _recall(people: Table, scratch: Table, record: bytes, time: int) -> None:
    """Note which experiments the person was exposed to, and which variants of those that are on."""
    experiments, arms, text = _experiments_of(people), _arms_of(people), u1(people, People.text)
    variant, seen, kept = i4(scratch, Scratch.variant), u1(scratch, Scratch.exposed), i4(scratch, Scratch.layer)
    person = i8(scratch, Scratch.person)
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
            for place in range(one.first, one.last):
                arm = arms[place]
                is_on = one.start <= time < one.end
                if is_on and is_same(record, name_begin, name_end, text, arm.id_first, arm.id_last):
                    variant[number] = place - one.first
                    if kept[one.layer] == NO_NAME:
                        kept[one.layer] = number


@inner
def _next_change(people: Table, time: int) -> float:
    """The second at which an experiment begins or ends next."""
    experiments, change = _experiments_of(people), float(_NEVER)
    for number in range(len(experiments)):
        if experiments[number].start > time:
            change = min(change, float(experiments[number].start))
        if experiments[number].end > time:
            change = min(change, float(experiments[number].end))
    return change


@inner
def exposures_size(people: Table, scratch: Table) -> int:
    """Bytes of the exposures of a decision, as responses and records tell them."""
    experiments, size = _experiments_of(people), 0
    for number in range(len(experiments)):
        if u1(scratch, Scratch.exposed)[number]:
            arm = _arms_of(people)[experiments[number].first + i4(scratch, Scratch.variant)[number]]
            size += arm.told_last - arm.told_first
    return size


@inner
def write_exposures(people: Table, scratch: Table, out: np.ndarray, at: int) -> int:
    """Write the exposures of a decision; where they end."""
    experiments, text = _experiments_of(people), u1(people, People.text)
    for number in range(len(experiments)):
        if u1(scratch, Scratch.exposed)[number]:
            arm = _arms_of(people)[experiments[number].first + i4(scratch, Scratch.variant)[number]]
            for place in range(arm.told_first, arm.told_last):
                out[at] = text[place]
                at += 1
    return at
