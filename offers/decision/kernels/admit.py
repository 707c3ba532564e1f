"""Admit: keep the candidates that may be shown to this person.

Segments, variants, holdouts, caps, contact policies and budgets decide. Rules that many offers share are an audience,
which is judged once in a decision. The person's counters are looked up by key. The cost of a decision therefore depends
on what is near, not on the size of the catalogue. The specification is reference/people.py.
"""

import numpy as np

from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import ENTRY, NO_AUDIENCE, NO_BUDGET, NO_CAPS, NO_NAME, NO_SCHEDULE, OFFER
from offers.compiled import apart, inner
from offers.decision.budgets import SOON_S
from offers.decision.kernels.concern import has_variant, is_held_out_of, note
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import (
    OPEN,
    UNKNOWN,
    BudgetArray,
    Column,
    HoursArray,
    Layout,
    StandingArray,
    StandingFact,
    Table,
    TermsArray,
    audiences_of,
    campaigns_of,
    caps_of,
    category_limits_of,
    entries_of,
    fetch_ahead,
    i4,
    i8,
    offers_of,
    policies_of,
    u1,
    u4,
)
from offers.decision.kernels.memory.scratch import (
    ADMITTED,
    DEPENDS,
    IF_FALLBACKS,
    IN,
    MET,
    NOTED,
    REFUSED,
    STAMP_SHIFT,
    SURE,
    UNASKED,
    VERDICT,
    DecisionFact,
    PersonFact,
    ScratchArray,
    candidates_of,
    counters_of,
)

ENTRY_BYTES, OFFER_BYTES = ENTRY.itemsize, OFFER.itemsize
_NEVER = NEVER  # numba reads globals of this module only once, as constants


@apart
def survey(frame: Frame) -> bool:
    """Return whether the person matters to the candidates or to what is shown everywhere.

    Lists the segments that must be known for it, and schedules of unknown state.
    """
    columns, hours, scratch, terms = frame.columns, frame.hours, frame.scratch, frame.terms
    facts, offers, entries = i8(scratch, ScratchArray.decision), offers_of(columns), entries_of(columns)
    kept = facts[DecisionFact.kept]
    facts[DecisionFact.wanted] = 0
    u1(scratch, ScratchArray.mentioned)[:] = 0
    matters = i4(terms, TermsArray.layout)[Layout.personal] != 0
    conditions, behaves = i4(terms, TermsArray.conditions), i4(terms, TermsArray.layout)[Layout.behaves]
    if len(audiences_of(columns)) + len(caps_of(columns)) + len(conditions) + behaves == 0:
        return matters
    u1(scratch, ScratchArray.segment)[:] = UNASKED
    for slot in range(len(conditions)):
        u1(scratch, ScratchArray.segment)[conditions[slot]] = IN  # until it is judged: listed
        i4(scratch, ScratchArray.wanted)[slot] = conditions[slot]
    facts[DecisionFact.wanted] = len(conditions)
    i8(scratch, ScratchArray.person)[PersonFact.number] += 1
    candidates = candidates_of(scratch)
    for index in range(kept):  # fetched one after the other, they would cost more than all the rest
        fetch_ahead(columns, Column.entry, candidates[index].entry * ENTRY_BYTES)
    for index in range(kept):
        fetch_ahead(columns, Column.offer, np.int64(entries[candidates[index].entry].offer) * OFFER_BYTES)
    for index in range(kept):
        offer = offers[entries[candidates[index].entry].offer]
        matters |= offer.caps != NO_CAPS
        if offer.audience != NO_AUDIENCE:
            matters = True
            _list_audience(columns, hours, scratch, offer.audience)
    matters |= len(i8(frame.standing, StandingArray.capped_key)) > 0
    everywhere = i4(frame.standing, StandingArray.audience)
    for slot in range(len(everywhere)):
        if everywhere[slot] != NO_AUDIENCE:
            matters = True
            _list_audience(columns, hours, scratch, everywhere[slot])
    return matters


@inner
def _list_audience(columns: Table, hours: Table, scratch: Table, number: int) -> None:
    """List the segments and schedules that must be known for an audience, the first time that a decision meets it."""
    asked, stamp = i8(scratch, ScratchArray.asked), i8(scratch, ScratchArray.person)[PersonFact.number]
    if asked[number] >> STAMP_SHIFT == stamp:
        return
    asked[number] = stamp << STAMP_SHIFT | MET
    segment, wanted = u1(scratch, ScratchArray.segment), i4(scratch, ScratchArray.wanted)
    facts = i8(scratch, ScratchArray.decision)
    audience, count = audiences_of(columns)[number], facts[DecisionFact.wanted]
    for index in range(audience.wanted_first, audience.wanted_last):
        one = i4(columns, Column.audience_segment)[index]
        if segment[one] == UNASKED:
            segment[one] = IN  # until it is judged: listed
            wanted[count] = one
            count += 1
    facts[DecisionFact.wanted] = count
    for index in range(audience.named_first, audience.named_last):
        u1(scratch, ScratchArray.mentioned)[i4(columns, Column.audience_experiment)[index]] = 1
    unknown = i4(scratch, ScratchArray.unknown)
    for index in range(audience.policy_first, audience.policy_last):
        quiet = policies_of(columns)[i4(columns, Column.audience_policy)[index]].quiet_schedule
        listed = facts[DecisionFact.unknown]
        if quiet != NO_SCHEDULE and u1(hours, HoursArray.state)[quiet] == UNKNOWN and listed < len(unknown):
            unknown[listed] = quiet
            facts[DecisionFact.unknown] = listed + 1


@apart
def admit(frame: Frame) -> None:
    """Keep the candidates that this person may be shown; fallbacks only where nothing else qualifies.

    Also writes which of the offers shown everywhere compete with them, how many qualify in all, and until when.
    """
    scratch, standing = frame.scratch, frame.standing
    facts = i8(scratch, ScratchArray.decision)
    kept, proper, personal = facts[DecisionFact.kept], facts[DecisionFact.proper], facts[DecisionFact.personal] != 0
    hold(scratch, i8(standing, StandingArray.facts)[StandingFact.change])
    everywhere = len(i4(standing, StandingArray.entry))
    standing_proper = i8(standing, StandingArray.facts)[StandingFact.proper]
    found_proper, found_fallback = standing_proper, everywhere - standing_proper
    if personal:
        kept, proper = _keep_admitted(frame, kept)
        found_proper, found_fallback = _count_standing(frame)
    has_proper = proper + found_proper > 0
    facts[DecisionFact.has_proper] = has_proper
    if has_proper and proper < kept:
        kept = _keep_proper(frame.columns, scratch, kept)
    if personal and i8(scratch, ScratchArray.person)[PersonFact.stopped]:
        everywhere = standing_proper = found_proper = found_fallback = kept = 0
    facts[DecisionFact.standing_begin] = 0 if has_proper else standing_proper
    facts[DecisionFact.standing_end] = standing_proper if has_proper else everywhere
    facts[DecisionFact.eligible] = kept + (found_proper if has_proper else found_fallback)
    facts[DecisionFact.kept] = kept


@inner
def _keep_admitted(frame: Frame, kept: int) -> tuple[int, int]:
    """Keep the candidates that the person may be shown. Returns how many, and how many of them are no fallbacks."""
    candidates, entries, count, proper = candidates_of(frame.scratch), entries_of(frame.columns), 0, 0
    is_concerned = i8(frame.scratch, ScratchArray.person)[PersonFact.concerned] != 0
    for index in range(kept):
        if is_concerned:
            _consider(frame, candidates[index].entry)
        if may_be_shown(frame, candidates[index].entry):
            candidates[count] = candidates[index]
            proper += entries[candidates[count].entry].fallback == 0
            count += 1
    return count, proper


@inner
def _keep_proper(columns: Table, scratch: Table, kept: int) -> int:
    """Keep the candidates that are no fallbacks. Returns how many."""
    candidates, entries, count = candidates_of(scratch), entries_of(columns), 0
    for index in range(kept):
        if entries[candidates[index].entry].fallback == 0:
            candidates[count] = candidates[index]
            count += 1
    return count


@inner
def _count_standing(frame: Frame) -> tuple[int, int]:
    """Return how many of the offers shown everywhere the person may be shown: proper ones, and fallbacks."""
    columns, standing, scratch = frame.columns, frame.standing, frame.scratch
    audience, proper, fallback = i4(standing, StandingArray.audience), 0, 0
    person = i8(scratch, ScratchArray.person)
    is_held_out, is_concerned = person[PersonFact.held_out] != 0, person[PersonFact.concerned] != 0
    for slot in range(len(audience)):
        if is_concerned:
            _consider_standing(frame, slot)
        if _is_admitted(frame, audience[slot]):
            proper += i4(standing, StandingArray.proper)[slot]
            fallback += i4(standing, StandingArray.fallback)[slot]
    keys, capped = i8(standing, StandingArray.capped_key), i4(standing, StandingArray.capped_entry)
    counters, last = counters_of(scratch), np.int64(0)
    for index in range(i8(scratch, ScratchArray.person)[PersonFact.counters] if len(keys) else 0):
        key = counters[index].key
        slot = np.searchsorted(keys, key)
        if slot == len(keys) or keys[slot] != key or (index > 0 and key == last):
            continue
        last = key
        entry = entries_of(columns)[capped[slot]]
        offer = offers_of(columns)[entry.offer]
        if _is_admitted(frame, offer.audience) and is_capped(frame, key, offer.caps):
            proper -= entry.fallback == 0
            fallback -= entry.fallback != 0
    if is_concerned and proper > 0:
        u1(scratch, ScratchArray.withheld)[0] = SURE
    return (0 if is_held_out else proper), fallback


@inner
def _consider(frame: Frame, number: int) -> None:
    """Note the experiments and holdouts on which it depends whether the person is shown the offer of an entry."""
    entry, scratch = entries_of(frame.columns)[number], frame.scratch
    offer, is_held_out = offers_of(frame.columns)[entry.offer], i8(scratch, ScratchArray.person)[PersonFact.held_out]
    withheld, asked = u1(scratch, ScratchArray.withheld), i8(scratch, ScratchArray.asked)
    bit = IF_FALLBACKS if entry.fallback != 0 else SURE
    is_admitted, depends = _is_admitted(frame, offer.audience), False
    if offer.audience != NO_AUDIENCE:
        depends = asked[offer.audience] & DEPENDS != 0 and asked[offer.audience] & NOTED * bit == 0
        depends = depends and (bit == IF_FALLBACKS or is_held_out == 0)
    is_first = is_admitted and bit == SURE and withheld[0] == 0
    if not (depends or is_first) or _is_capped_now(frame, offer.key, offer.caps):
        return
    if is_first:
        withheld[0] = SURE
    if depends:
        asked[offer.audience] |= NOTED * bit
        note(frame, offer.audience, bit)


@inner
def _consider_standing(frame: Frame, slot: int) -> None:
    """Do as `_consider` for all offers shown everywhere that have one audience."""
    scratch, standing, audience = frame.scratch, frame.standing, i4(frame.standing, StandingArray.audience)[slot]
    if audience == NO_AUDIENCE:
        return
    _is_admitted(frame, audience)
    if i8(scratch, ScratchArray.asked)[audience] & DEPENDS == 0:
        return
    proper, fallback = i4(standing, StandingArray.proper)[slot], i4(standing, StandingArray.fallback)[slot]
    keys, capped = i8(standing, StandingArray.capped_key), i4(standing, StandingArray.capped_entry)
    counters, last = counters_of(scratch), np.int64(0)
    for index in range(i8(scratch, ScratchArray.person)[PersonFact.counters] if len(keys) else 0):
        key = counters[index].key
        found = np.searchsorted(keys, key)
        if found == len(keys) or keys[found] != key or (index > 0 and key == last):
            continue
        last = key
        entry = entries_of(frame.columns)[capped[found]]
        offer = offers_of(frame.columns)[entry.offer]
        if offer.audience == audience and _is_capped_now(frame, key, offer.caps):
            proper -= entry.fallback == 0
            fallback -= entry.fallback != 0
    if proper > 0 and i8(scratch, ScratchArray.person)[PersonFact.held_out] == 0:
        note(frame, audience, SURE)
    if fallback > 0:
        note(frame, audience, IF_FALLBACKS)


@inner
def may_be_shown(frame: Frame, number: int) -> bool:
    """Return whether the person may be shown the offer of an entry."""
    entry = entries_of(frame.columns)[number]
    offer = offers_of(frame.columns)[entry.offer]
    return (
        (entry.fallback != 0 or i8(frame.scratch, ScratchArray.person)[PersonFact.held_out] == 0)
        and _is_admitted(frame, offer.audience)
        and not is_capped(frame, offer.key, offer.caps)
    )


@inner
def _is_admitted(frame: Frame, number: int) -> bool:
    """Return whether the person is in an audience and within its limits; judged once in a decision."""
    if number == NO_AUDIENCE:
        return True
    scratch = frame.scratch
    asked, stamp = i8(scratch, ScratchArray.asked), i8(scratch, ScratchArray.person)[PersonFact.number]
    if asked[number] & VERDICT == MET or asked[number] >> STAMP_SHIFT != stamp:
        asked[number] = stamp << STAMP_SHIFT | _judge(frame, number)
    return asked[number] & VERDICT == ADMITTED


@inner
def _judge(frame: Frame, number: int) -> int:
    """Return ADMITTED or REFUSED, and DEPENDS if variants and the campaign's holdout alone may change that."""
    columns, scratch = frame.columns, frame.scratch
    audience = audiences_of(columns)[number]
    if not is_in_segments(columns, scratch, number):
        return REFUSED
    is_for, depends = has_variant(columns, scratch, number), audience.named_first < audience.named_last
    if audience.campaign != NO_NAME:
        campaign = campaigns_of(columns)[audience.campaign]
        if not is_in_segments(columns, scratch, campaign.audience):
            return REFUSED
        is_for = is_for and has_variant(columns, scratch, campaign.audience)
        is_for = is_for and not is_held_out_of(frame, np.int64(audience.campaign))
        depends = depends or campaign.holdout > 0
    facts, person = i8(scratch, ScratchArray.decision), i8(scratch, ScratchArray.person)
    before, unread = facts[DecisionFact.refresh_after], person[PersonFact.unread]
    is_within = _is_within_limits(frame, number)
    if not is_for:  # whatever time does to the limits, and whether or not they could be read
        facts[DecisionFact.refresh_after], person[PersonFact.unread] = before, unread
    verdict = ADMITTED if is_for and is_within else REFUSED
    return verdict | DEPENDS if depends and is_within else verdict


@inner
def _is_within_limits(frame: Frame, number: int) -> bool:
    """Return whether caps, policies and budgets of an audience admit the person."""
    columns, hours, scratch, terms = frame.columns, frame.hours, frame.scratch, frame.terms
    audience = audiences_of(columns)[number]
    if audience.campaign != NO_NAME:
        campaign = campaigns_of(columns)[audience.campaign]
        if is_capped(frame, campaign.key, campaign.caps) or not _has_left(frame, campaign.budget):
            return False
    if audience.category != NO_NAME:
        limit = category_limits_of(columns)[audience.category]
        if is_capped(frame, limit.key, limit.caps):
            return False
    for index in range(audience.policy_first, audience.policy_last):
        policy = policies_of(columns)[i4(columns, Column.audience_policy)[index]]
        if u1(terms, TermsArray.admits)[policy.channels] == 0:
            continue
        if policy.caps != NO_CAPS and i8(scratch, ScratchArray.person)[PersonFact.blind] != 0:
            return False
        if is_capped(frame, policy.key, policy.caps):
            return False
        if policy.quiet_schedule != NO_SCHEDULE:
            hold(scratch, i8(hours, HoursArray.until)[policy.quiet_schedule])
            if u1(hours, HoursArray.state)[policy.quiet_schedule] == OPEN:
                return False
    return _has_left(frame, audience.budget)


@inner
def is_in_segments(columns: Table, scratch: Table, number: int) -> bool:
    """Return whether the person has the segments of an audience."""
    if number == NO_AUDIENCE:
        return True
    audience, segments = audiences_of(columns)[number], i4(columns, Column.audience_segment)
    state = u1(scratch, ScratchArray.segment)
    is_any = audience.any_first == audience.all_first
    for index in range(audience.any_first, audience.all_first):
        is_any = is_any or state[segments[index]] == IN
    if not is_any:
        return False
    for index in range(audience.all_first, audience.none_first):
        if state[segments[index]] != IN:
            return False
    for index in range(audience.none_first, audience.wanted_first):
        if state[segments[index]] == IN:
            return False
    return True


@inner
def _has_left(frame: Frame, number: int) -> bool:
    """Return whether a budget has something left, and hold the decision until that may change with time."""
    if number == NO_BUDGET:
        return True
    budgets, scratch = frame.budgets, frame.scratch
    if u1(budgets, BudgetArray.known)[0] == 0:
        i8(scratch, ScratchArray.person)[PersonFact.unread] = 1
        hold(scratch, frame.time + SOON_S)
    hold(scratch, i8(budgets, BudgetArray.until)[number])
    return u1(budgets, BudgetArray.left)[number] != 0


@inner
def is_capped(frame: Frame, key: int, caps: int) -> bool:
    """Return whether any cap of a list that holds on the channel is reached by what is counted under a key."""
    if caps == NO_CAPS:
        return False
    columns, scratch, terms, time = frame.columns, frame.scratch, frame.terms, frame.time
    first = i4(columns, Column.cap_list_first)
    for index in range(first[caps], first[caps + 1]):
        cap = caps_of(columns)[index]
        if cap.channels != NO_NAME and u1(terms, TermsArray.admits)[cap.channels] == 0:
            continue
        begin, end = _counted(scratch, key, cap.kind)
        times = u4(scratch, ScratchArray.times)
        while end > begin and np.int64(times[end - 1]) > time:  # counted after the instant that is decided for
            end -= 1
            hold(scratch, np.int64(times[end]))
        if end - begin < cap.max_count:
            continue
        decisive = np.int64(times[end - cap.max_count])
        if cap.seconds > 0:
            since, passes = time - cap.seconds + 1, decisive + cap.seconds
        elif cap.period != NO_NAME:
            period = i8(scratch, ScratchArray.period)
            since, passes = period[2 * cap.period], period[2 * cap.period + 1]
        else:
            since, passes = np.int64(0), np.int64(_NEVER)
        if decisive >= since:
            hold(scratch, passes)
            return True
    return False


@inner
def _is_capped_now(frame: Frame, key: int, caps: int) -> bool:
    """Return `is_capped` without holding the decision until that changes: other reasons may be against the offer."""
    facts = i8(frame.scratch, ScratchArray.decision)
    before = facts[DecisionFact.refresh_after]
    capped = is_capped(frame, key, caps)
    facts[DecisionFact.refresh_after] = before
    return capped


@inner
def _counted(scratch: Table, key: int, kind: int) -> tuple[int, int]:
    """Return where the instants of a key and kind stand; the last exclusive."""
    counters = counters_of(scratch)
    low, high = np.int64(0), i8(scratch, ScratchArray.person)[PersonFact.counters]
    while low < high:
        middle = (low + high) // 2
        one = counters[middle]
        if one.key < key or (one.key == key and one.kind < kind):
            low = middle + 1
        else:
            high = middle
    if low == i8(scratch, ScratchArray.person)[PersonFact.counters]:
        return 0, 0
    one = counters[low]
    if one.key != key or one.kind != kind:
        return 0, 0
    return np.int64(one.first), np.int64(one.first) + np.int64(one.count)


@inner
def hold(scratch: Table, second: int) -> None:
    """Lower the second until which the decision holds to at most this one."""
    facts = i8(scratch, ScratchArray.decision)
    facts[DecisionFact.refresh_after] = min(facts[DecisionFact.refresh_after], np.int64(second))
