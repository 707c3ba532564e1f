"""Behave: find the behaviour rules that hold for a person here and now, and their factor for an offer.

`notice` reads the basket and the viewed categories from the encoded record and request when the person is met. `weigh`
combines that with segments and intents, once these are known. Rules that no strategy of the catalogue has cost nothing.
The specification is reference/behaviour.py.
"""

import numpy as np

from offers.catalogue.compile.behaviour import OF_BASKET, OF_BRAND, OF_CATEGORY, OF_VIEWED
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import NO_AUDIENCE, NO_NAME
from offers.compiled import apart, inner
from offers.decision.kernels.admit import hold
from offers.decision.kernels.memory.encoded import BYTES, VARINT, following, hash_of, last_of, varint
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import (
    Column,
    Layout,
    TermsArray,
    audiences_of,
    entries_of,
    i4,
    i8,
    offers_of,
    rules_of,
    u1,
)
from offers.decision.kernels.memory.scratch import IN, PersonFact, ScratchArray, marks_of, steps_of
from offers.state.person.basket import MAX_ITEMS, MAX_STEPS
from offers.v1.context_pb2 import Context, Session, SessionBasket, SessionItem
from offers.v1.event_pb2 import EVENT_KIND_CLICK, EVENT_KIND_VIEW
from offers.v1.state_pb2 import BasketStep, RecentEvent, UserState

_NEVER = NEVER  # numba reads globals of this module only once, as constants
_MOST_ITEMS, _MOST_STEPS = MAX_ITEMS, MAX_STEPS
VIEW, CLICK = int(EVENT_KIND_VIEW), int(EVENT_KIND_CLICK)
SESSION = Context.SESSION_FIELD_NUMBER << 3 | BYTES
VIEWED, BASKET = Session.VIEWED_CATEGORIES_FIELD_NUMBER << 3 | BYTES, Session.BASKET_FIELD_NUMBER << 3 | BYTES
ITEM, UPDATED = SessionBasket.ITEMS_FIELD_NUMBER << 3 | BYTES, SessionBasket.UPDATE_TIME_FIELD_NUMBER << 3 | BYTES
ITEM_CATEGORY = SessionItem.CATEGORY_FIELD_NUMBER << 3 | BYTES
STEP, RECENT = UserState.BASKET_STEPS_FIELD_NUMBER << 3 | BYTES, UserState.RECENT_FIELD_NUMBER << 3 | BYTES
STEP_TIME, STEP_PRODUCT = (
    BasketStep.EVENT_TIME_FIELD_NUMBER << 3 | BYTES,
    BasketStep.PRODUCT_ID_FIELD_NUMBER << 3 | BYTES,
)
STEP_CATEGORY, STEP_VENUE = BasketStep.CATEGORY_FIELD_NUMBER << 3 | BYTES, BasketStep.VENUE_ID_FIELD_NUMBER << 3 | BYTES
STEP_QUANTITY = BasketStep.QUANTITY_FIELD_NUMBER << 3 | VARINT
RECENT_KIND = RecentEvent.KIND_FIELD_NUMBER << 3 | VARINT
RECENT_TIME, RECENT_CATEGORY = (
    RecentEvent.EVENT_TIME_FIELD_NUMBER << 3 | BYTES,
    RecentEvent.CATEGORY_FIELD_NUMBER << 3 | BYTES,
)
KEY, WHEN = 1 << 3 | BYTES, 2 << 3 | BYTES  # of a map's entry
SECONDS = 1 << 3 | VARINT  # of google.protobuf.Timestamp


@apart
def notice(frame: Frame, record: bytes, request: bytes) -> None:
    """Write for which rules of the person's strategy the subject is there, on which categories, and until when."""
    columns, scratch = frame.columns, frame.scratch
    person, turns = i8(scratch, ScratchArray.person), i8(scratch, ScratchArray.turn)
    person[PersonFact.subjects] = 0
    if i4(frame.terms, TermsArray.layout)[Layout.behaves] == 0:
        return
    rules = _span(frame)
    first, last = rules
    baskets = views = False
    for index in range(first, last):
        kind = rules_of(columns)[index].kind
        baskets |= kind == OF_BASKET
        views |= kind == OF_VIEWED
        turns[index - first] = _NEVER
        if kind not in (OF_BASKET, OF_VIEWED):
            person[PersonFact.subjects] |= 1 << (index - first)
    session, end = np.int64(-1), np.int64(-1)
    if person[PersonFact.context_begin] >= 0 and not person[PersonFact.hidden]:
        session, end = last_of(request, person[PersonFact.context_begin], person[PersonFact.context_end], SESSION)
    if baskets:
        begin, stop = last_of(request, session, end, BASKET)
        if begin >= 0:
            _notice_basket(frame, request, begin, stop, rules)
        elif person[PersonFact.known]:
            _notice_steps(frame, record, rules)
    if views:
        _notice_views(frame, request, session, end, rules)
        if person[PersonFact.known]:
            _notice_recent(frame, record, rules)


@inner
def _span(frame: Frame) -> tuple[int, int]:
    """Return the first and last (exclusive) rule of the strategy that ranks for the person."""
    strategy = i8(frame.scratch, ScratchArray.person)[PersonFact.strategy]
    firsts = i4(frame.columns, Column.rule_first)
    if strategy == NO_NAME:
        strategy = np.int64(i4(frame.terms, TermsArray.layout)[Layout.strategy])
    return np.int64(firsts[strategy]), np.int64(firsts[strategy + 1])


@inner
def _notice_basket(frame: Frame, data: bytes, at: int, end: int, rules: tuple[int, int]) -> None:
    """Mark the categories of the session's basket, which stands between two offsets of the request."""
    begin, stop = last_of(data, at, end, UPDATED)
    bits = _left_behind(frame, rules, _second(data, begin, stop) if begin >= 0 else frame.time)
    while 0 <= at < end:
        tag, begin, at = following(data, at, end)
        if at >= 0 and tag == ITEM:
            low, high = last_of(data, begin, at, ITEM_CATEGORY)
            _mark(frame, data, low, high, bits)


@inner
def _notice_steps(frame: Frame, record: bytes, rules: tuple[int, int]) -> None:
    """Mark the categories of the basket that events have filled: see offers.state.person.basket.fill_in."""
    scratch = frame.scratch
    steps, count, changed = steps_of(scratch), 0, np.int64(0)
    at, end = 0, len(record)
    while 0 <= at < end:
        tag, begin, at = following(record, at, end)
        if at < 0 or tag != STEP:
            continue
        low, high = last_of(record, begin, at, STEP_CATEGORY)
        what = hash_of(record, low, high, np.uint64(STEP_CATEGORY))
        for field in (STEP_PRODUCT, STEP_VENUE):
            one, other = last_of(record, begin, at, field)
            what = hash_of(record, one, other, what ^ np.uint64(field))
        index = 0
        while index < count and steps[index].what != np.int64(what):
            index += 1
        if index == _MOST_STEPS:
            continue
        if index == count:
            steps[index].what, steps[index].quantity = np.int64(what), 0
            steps[index].begin, steps[index].end = low, high
            count += 1
        number, _ = last_of(record, begin, at, STEP_QUANTITY)
        zigzag = varint(record, number, at)[0] if number >= 0 else 0
        steps[index].quantity = max(steps[index].quantity + ((zigzag >> 1) ^ -(zigzag & 1)), 0)
        one, other = last_of(record, begin, at, STEP_TIME)
        changed = _second(record, one, other)
    inside = 0
    for index in range(count):
        inside += steps[index].quantity > 0
    if inside == 0:
        return
    bits = _left_behind(frame, rules, changed)
    for index in range(count):
        if steps[index].quantity > 0:
            if inside <= _MOST_ITEMS:
                _mark(frame, record, steps[index].begin, steps[index].end, bits)
            inside -= 1


@inner
def _left_behind(frame: Frame, rules: tuple[int, int], changed: int) -> int:
    """Return a bit per rule for which a basket is abandoned that was changed last at a second."""
    turns, bits, time = i8(frame.scratch, ScratchArray.turn), 0, frame.time
    first, last = rules
    for index in range(first, last):
        rule = rules_of(frame.columns)[index]
        if rule.kind != OF_BASKET:
            continue
        age = max(time - changed, 0)
        if age < rule.idle:
            turns[index - first] = changed + rule.idle
        elif age < rule.within:
            bits |= 1 << (index - first)
            if rule.within < _NEVER:
                turns[index - first] = changed + rule.within
    return bits


@inner
def _notice_views(frame: Frame, request: bytes, at: int, end: int, rules: tuple[int, int]) -> None:
    """Mark the viewed categories of the session, which stands between two offsets of the request."""
    while 0 <= at < end:
        tag, begin, at = following(request, at, end)
        if at >= 0 and tag == VIEWED:
            low, high = last_of(request, begin, at, KEY)
            one, other = last_of(request, begin, at, WHEN)
            bits = _viewed(frame, rules, _second(request, one, other))
            _mark(frame, request, low, high, bits)


@inner
def _notice_recent(frame: Frame, record: bytes, rules: tuple[int, int]) -> None:
    """Mark the categories of the person's recent views and clicks."""
    at, end = 0, len(record)
    while 0 <= at < end:
        tag, begin, at = following(record, at, end)
        if at < 0 or tag != RECENT:
            continue
        kind, low, high, one, other = np.int64(0), np.int64(0), np.int64(0), np.int64(-1), np.int64(-1)
        while 0 <= begin < at:  # one pass over its fields: there may be fifty events
            field, value, begin = following(record, begin, at)
            if field == RECENT_KIND:
                kind = varint(record, value, begin)[0]
            elif field == RECENT_TIME:
                one, other = value, begin
            elif field == RECENT_CATEGORY:
                low, high = value, begin
        if high > low and kind in (VIEW, CLICK):
            bits = _viewed(frame, rules, _second(record, one, other))
            _mark(frame, record, low, high, bits)


@inner
def _viewed(frame: Frame, rules: tuple[int, int], second: int) -> int:
    """Return a bit per rule for which a category counts that was viewed last at a second."""
    turns, bits = i8(frame.scratch, ScratchArray.turn), 0
    first, last = rules
    for index in range(first, last):
        rule = rules_of(frame.columns)[index]
        if rule.kind == OF_VIEWED and max(frame.time - second, 0) < rule.within:
            bits |= 1 << (index - first)
            turns[index - first] = min(turns[index - first], second + rule.within)
    return bits


@inner
def _second(data: bytes, at: int, end: int) -> int:
    """Return the second of a Timestamp that stands between two offsets; 0 if it has none."""
    begin, _ = last_of(data, at, end, SECONDS)
    return varint(data, begin, end)[0] if begin >= 0 else 0


@inner
def _mark(frame: Frame, data: bytes, begin: int, end: int, bits: int) -> None:
    """Mark the category whose name stands between two offsets, if the catalogue has it: some rules apply to it."""
    if bits == 0 or end <= begin:
        return
    columns, scratch = frame.columns, frame.scratch
    person = i8(scratch, ScratchArray.person)
    person[PersonFact.subjects] |= bits
    hashes = i8(columns, Column.category_hash)
    hashed = np.int64(hash_of(data, begin, end, np.uint64(0)))
    index = np.searchsorted(hashes, hashed)
    if index < len(hashes) and hashes[index] == hashed:
        mark = marks_of(scratch)[i4(columns, Column.category_number)[index]]
        before = mark.bits if mark.number == person[PersonFact.number] else 0
        mark.number, mark.bits = person[PersonFact.number], before | bits


@inner
def weigh(frame: Frame) -> int:
    """List the rules that hold, and hold the decision until one begins or ceases to. Returns how many hold."""
    if i4(frame.terms, TermsArray.layout)[Layout.behaves] == 0:
        return 0
    columns, scratch = frame.columns, frame.scratch
    segment, intents = u1(scratch, ScratchArray.segment), i4(columns, Column.intent_segment)
    held, turns, count = i4(scratch, ScratchArray.held), i8(scratch, ScratchArray.turn), 0
    subjects, intent = i8(scratch, ScratchArray.person)[PersonFact.subjects], 0
    while intent < len(intents) and segment[intents[intent]] != IN:
        intent += 1
    first, last = _span(frame)
    for index in range(first, last):
        rule = rules_of(columns)[index]
        if rule.segment != NO_NAME and segment[rule.segment] != IN:
            continue
        if rule.intent != NO_NAME and rule.intent != intent:
            continue
        if turns[index - first] < _NEVER:
            hold(scratch, turns[index - first])
        if subjects >> (index - first) & 1:
            held[count] = index
            count += 1
    return count


@inner
def log_behaviour(frame: Frame, entry: int, count: int) -> tuple[float, bool]:
    """Return the logarithm of an offer's behaviour factor by the `count` rules that hold, and whether any applies."""
    columns, scratch = frame.columns, frame.scratch
    offer, first = offers_of(columns)[entries_of(columns)[entry].offer], _span(frame)[0]
    held, log, applies = i4(scratch, ScratchArray.held), 0.0, False
    bits, campaign = np.int64(0), np.int64(NO_NAME)
    if offer.category != NO_NAME and offer.category < len(marks_of(scratch)):
        mark = marks_of(scratch)[offer.category]
        if mark.number == i8(scratch, ScratchArray.person)[PersonFact.number]:
            bits = mark.bits
    if offer.audience != NO_AUDIENCE:
        campaign = np.int64(audiences_of(columns)[offer.audience].campaign)
    for index in range(count):
        rule = rules_of(columns)[held[index]]
        if rule.kind in (OF_BASKET, OF_VIEWED):
            is_meant = bits >> (held[index] - first) & 1 != 0
        else:
            own = offer.category if rule.kind == OF_CATEGORY else offer.brand if rule.kind == OF_BRAND else campaign
            is_meant = own == rule.number
        if is_meant:
            applies = True
        else:
            log -= rule.log_lift
    return log, applies
