"""Admit: which of the offers that may be shown here and now may be shown to this person.

Segments, variants, holdouts, caps, contact policies and budgets. What many offers share is asked once in a decision;
what is counted of the person is looked up by its key, so that a decision costs by what is near, not by the catalogue.
"""

import numpy as np

from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import ENTRY, NO_AUDIENCE, NO_BUDGET, NO_CAPS, NO_NAME, NO_SCHEDULE, OFFER
from offers.compiled import apart, inner
from offers.decision.kernels.memory.records import (
    OPEN,
    UNKNOWN,
    Budgets,
    Column,
    Hours,
    Layout,
    Standing,
    StandingFact,
    Table,
    Terms,
    audiences_of,
    campaigns_of,
    caps_of,
    category_limits_of,
    entries_of,
    f8,
    fetch_ahead,
    i4,
    i8,
    offers_of,
    policies_of,
    u1,
    u4,
    variants_of,
)
from offers.decision.kernels.memory.scratch import (
    ADMITTED,
    IN,
    MET,
    REFUSED,
    UNASKED,
    Outcome,
    PersonFact,
    Scratch,
    candidates_of,
    counters_of,
)
from offers.model.hashing import SPLITMIX_STEP, finished

ENTRY_BYTES, OFFER_BYTES = ENTRY.itemsize, OFFER.itemsize
_NEVER = NEVER  # numba reads globals of this module only once, as constants


@apart
def survey(columns: Table, hours: Table, standing: Table, scratch: Table, terms: Table, kept: int) -> bool:
    """Whether the person matters to the candidates or to what is shown everywhere.

    Lists the segments that must be known for it, and schedules of unknown state.
    """
    outcome, offers, entries = f8(scratch, Scratch.outcome), offers_of(columns), entries_of(columns)
    outcome[Outcome.wanted] = 0
    u1(scratch, Scratch.mentioned)[:] = 0
    matters = i4(terms, Terms.layout)[Layout.personal] != 0
    if len(audiences_of(columns)) + len(caps_of(columns)) + i4(terms, Terms.layout)[Layout.behaves] == 0:
        return matters
    u1(scratch, Scratch.segment)[:] = UNASKED
    conditions = i4(terms, Terms.conditions)
    for place in range(len(conditions)):
        u1(scratch, Scratch.segment)[conditions[place]] = IN  # for now: listed
        i4(scratch, Scratch.wanted)[place] = conditions[place]
    outcome[Outcome.wanted] = len(conditions)
    i8(scratch, Scratch.person)[PersonFact.number] += 1
    candidates = candidates_of(scratch)
    for index in range(kept):  # one after the other from memory would cost more than all the rest
        fetch_ahead(columns, Column.entry, candidates[index].entry * ENTRY_BYTES)
    for index in range(kept):
        fetch_ahead(columns, Column.offer, np.int64(entries[candidates[index].entry].offer) * OFFER_BYTES)
    for index in range(kept):
        offer = offers[entries[candidates[index].entry].offer]
        matters |= offer.caps != NO_CAPS
        if offer.audience != NO_AUDIENCE:
            matters = True
            _meet(columns, hours, scratch, offer.audience)
    matters |= len(i8(standing, Standing.capped_key)) > 0
    elsewhere = i4(standing, Standing.audience)
    for place in range(len(elsewhere)):
        if elsewhere[place] != NO_AUDIENCE:
            matters = True
            _meet(columns, hours, scratch, elsewhere[place])
    return matters


@inner
def _meet(columns: Table, hours: Table, scratch: Table, number: int) -> None:
    """Note what must be known for an audience, the first time that a decision meets it."""
    asked, stamp = i8(scratch, Scratch.asked), i8(scratch, Scratch.person)[PersonFact.number]
    if asked[number] >> 2 == stamp:
        return
    asked[number] = stamp << 2 | MET
    segment, wanted, outcome = u1(scratch, Scratch.segment), i4(scratch, Scratch.wanted), f8(scratch, Scratch.outcome)
    audience, count = audiences_of(columns)[number], int(outcome[Outcome.wanted])
    for place in range(audience.wanted_first, audience.wanted_last):
        one = i4(columns, Column.audience_segment)[place]
        if segment[one] == UNASKED:
            segment[one] = IN  # for now: listed
            wanted[count] = one
            count += 1
    outcome[Outcome.wanted] = count
    for place in range(audience.named_first, audience.named_last):
        u1(scratch, Scratch.mentioned)[i4(columns, Column.audience_experiment)[place]] = 1
    unknown = i4(scratch, Scratch.unknown)
    for place in range(audience.policy_first, audience.policy_last):
        quiet = policies_of(columns)[i4(columns, Column.audience_policy)[place]].quiet_schedule
        listed = int(outcome[Outcome.unknown])
        if quiet != NO_SCHEDULE and u1(hours, Hours.state)[quiet] == UNKNOWN and listed < len(unknown):
            unknown[listed] = quiet
            outcome[Outcome.unknown] = listed + 1


@apart
def admit(
    columns: Table, hours: Table, budgets: Table, standing: Table, scratch: Table, terms: Table, kept: int, time: int
) -> int:
    """Keep the candidates that this person may be shown; fallbacks only where nothing else qualifies.

    Writes which of the offers shown everywhere come after them, how many qualify in all, and until when that holds.
    Returns how many are kept.
    """
    outcome, personal = f8(scratch, Scratch.outcome), f8(scratch, Scratch.outcome)[Outcome.personal] != 0
    outcome[Outcome.refresh_after] = min(
        outcome[Outcome.refresh_after], float(i8(standing, Standing.facts)[StandingFact.change])
    )
    proper = int(outcome[Outcome.proper])
    everywhere = len(i4(standing, Standing.entry))
    standing_proper = i8(standing, Standing.facts)[StandingFact.proper]
    found_proper, found_fallback = standing_proper, everywhere - standing_proper
    if personal:
        kept, proper = _keep_admitted(columns, hours, budgets, scratch, terms, kept, time)
        found_proper, found_fallback = _count_standing(columns, hours, budgets, standing, scratch, terms, time)
    has_proper = proper + found_proper > 0
    if has_proper and proper < kept:
        kept = _keep_proper(columns, scratch, kept)
    if personal and i8(scratch, Scratch.person)[PersonFact.stopped]:
        everywhere = standing_proper = found_proper = found_fallback = kept = 0
    outcome[Outcome.standing_begin] = 0 if has_proper else standing_proper
    outcome[Outcome.standing_end] = standing_proper if has_proper else everywhere
    outcome[Outcome.eligible] = kept + (found_proper if has_proper else found_fallback)
    return kept


@inner
def _keep_admitted(
    columns: Table, hours: Table, budgets: Table, scratch: Table, terms: Table, kept: int, time: int
) -> tuple[int, int]:
    """Keep the candidates that the person may be shown; how many, and how many of them are no fallbacks."""
    candidates, entries, count, proper = candidates_of(scratch), entries_of(columns), 0, 0
    for index in range(kept):
        if may_meet(columns, hours, budgets, scratch, terms, candidates[index].entry, time):
            candidates[count] = candidates[index]
            proper += entries[candidates[count].entry].fallback == 0
            count += 1
    return count, proper


@inner
def _keep_proper(columns: Table, scratch: Table, kept: int) -> int:
    """Keep the candidates that are no fallbacks; how many."""
    candidates, entries, count = candidates_of(scratch), entries_of(columns), 0
    for index in range(kept):
        if entries[candidates[index].entry].fallback == 0:
            candidates[count] = candidates[index]
            count += 1
    return count


@inner
def _count_standing(
    columns: Table, hours: Table, budgets: Table, standing: Table, scratch: Table, terms: Table, time: int
) -> tuple[int, int]:
    """How many of the offers shown everywhere the person may be shown: proper ones, and fallbacks."""
    audience, proper, fallback = i4(standing, Standing.audience), 0, 0
    is_held_out = i8(scratch, Scratch.person)[PersonFact.held_out] != 0
    for place in range(len(audience)):
        if _is_admitted(columns, hours, budgets, scratch, terms, audience[place], time):
            proper += i4(standing, Standing.proper)[place]
            fallback += i4(standing, Standing.fallback)[place]
    keys, capped = i8(standing, Standing.capped_key), i4(standing, Standing.capped_entry)
    counters, last = counters_of(scratch), np.int64(0)
    for index in range(i8(scratch, Scratch.person)[PersonFact.counters] if len(keys) else 0):
        key = counters[index].key
        place = np.searchsorted(keys, key)
        if place == len(keys) or keys[place] != key or (index > 0 and key == last):
            continue
        last = key
        entry = entries_of(columns)[capped[place]]
        offer = offers_of(columns)[entry.offer]
        if _is_admitted(columns, hours, budgets, scratch, terms, offer.audience, time) and is_capped(
            columns, scratch, terms, key, offer.caps, time
        ):
            proper -= entry.fallback == 0
            fallback -= entry.fallback != 0
    return (0 if is_held_out else proper), fallback


@inner
def may_meet(
    columns: Table, hours: Table, budgets: Table, scratch: Table, terms: Table, number: int, time: int
) -> bool:
    """Whether the person may be shown the offer of an entry."""
    entry = entries_of(columns)[number]
    offer = offers_of(columns)[entry.offer]
    return (
        (entry.fallback != 0 or i8(scratch, Scratch.person)[PersonFact.held_out] == 0)
        and _is_admitted(columns, hours, budgets, scratch, terms, offer.audience, time)
        and not is_capped(columns, scratch, terms, offer.key, offer.caps, time)
    )


@inner
def _is_admitted(
    columns: Table, hours: Table, budgets: Table, scratch: Table, terms: Table, number: int, time: int
) -> bool:
    """Whether the person is in an audience, and none of the limits it is under forbids."""
    if number == NO_AUDIENCE:
        return True
    asked, stamp = i8(scratch, Scratch.asked), i8(scratch, Scratch.person)[PersonFact.number]
    if asked[number] & 3 == MET or asked[number] >> 2 != stamp:
        admitted = _judge(columns, hours, budgets, scratch, terms, number, time)
        asked[number] = stamp << 2 | (ADMITTED if admitted else REFUSED)
    return asked[number] & 3 == ADMITTED


@inner
def _judge(columns: Table, hours: Table, budgets: Table, scratch: Table, terms: Table, number: int, time: int) -> bool:
    audience = audiences_of(columns)[number]
    if not is_in(columns, scratch, number):
        return False
    if audience.campaign != NO_NAME:
        campaign = campaigns_of(columns)[audience.campaign]
        person = i8(scratch, Scratch.person)[PersonFact.draw]
        if (
            not is_in(columns, scratch, campaign.audience)
            or (person != 0 and share_of(person, campaign.key) < campaign.holdout)
            or is_capped(columns, scratch, terms, campaign.key, campaign.caps, time)
            or not _has_left(budgets, scratch, campaign.budget)
        ):
            return False
    if audience.category != NO_NAME:
        limit = category_limits_of(columns)[audience.category]
        if is_capped(columns, scratch, terms, limit.key, limit.caps, time):
            return False
    for place in range(audience.policy_first, audience.policy_last):
        policy = policies_of(columns)[i4(columns, Column.audience_policy)[place]]
        if u1(terms, Terms.admits)[policy.channels] == 0:
            continue
        if policy.caps != NO_CAPS and i8(scratch, Scratch.person)[PersonFact.blind] != 0:
            return False
        if is_capped(columns, scratch, terms, policy.key, policy.caps, time):
            return False
        if policy.quiet_schedule != NO_SCHEDULE:
            hold(scratch, i8(hours, Hours.until)[policy.quiet_schedule])
            if u1(hours, Hours.state)[policy.quiet_schedule] == OPEN:
                return False
    return _has_left(budgets, scratch, audience.budget)


@inner
def is_in(columns: Table, scratch: Table, number: int) -> bool:
    """Whether the person has the segments and variants of an audience."""
    if number == NO_AUDIENCE:
        return True
    audience, segments = audiences_of(columns)[number], i4(columns, Column.audience_segment)
    state = u1(scratch, Scratch.segment)
    is_any = audience.any_first == audience.all_first
    for place in range(audience.any_first, audience.all_first):
        is_any = is_any or state[segments[place]] == IN
    if not is_any:
        return False
    for place in range(audience.all_first, audience.none_first):
        if state[segments[place]] != IN:
            return False
    for place in range(audience.none_first, audience.wanted_first):
        if state[segments[place]] == IN:
            return False
    has_one = audience.variant_first == audience.variant_last
    for place in range(audience.variant_first, audience.variant_last):
        named = variants_of(columns)[place]
        has_one = has_one or i4(scratch, Scratch.variant)[named.experiment] == named.variant
    return has_one


@inner
def _has_left(budgets: Table, scratch: Table, number: int) -> bool:
    if number == NO_BUDGET:
        return True
    hold(scratch, i8(budgets, Budgets.until)[number])
    return u1(budgets, Budgets.left)[number] != 0


@inner
def is_capped(columns: Table, scratch: Table, terms: Table, key: int, caps: int, time: int) -> bool:
    """Whether any cap of a list that holds on the channel is reached by what is counted under a key."""
    if caps == NO_CAPS:
        return False
    first = i4(columns, Column.cap_list_first)
    for place in range(first[caps], first[caps + 1]):
        cap = caps_of(columns)[place]
        if cap.channels != NO_NAME and u1(terms, Terms.admits)[cap.channels] == 0:
            continue
        begin, end = _counted(scratch, key, cap.kind)
        times = u4(scratch, Scratch.times)
        while end > begin and np.int64(times[end - 1]) > time:  # what is asked for lies before
            end -= 1
            hold(scratch, np.int64(times[end]))  # from then on it counts
        if end - begin < cap.max_count:
            continue
        decisive = np.int64(times[end - cap.max_count])
        if cap.seconds > 0:
            since, passes = time - cap.seconds + 1, decisive + cap.seconds
        elif cap.period != NO_NAME:
            period = i8(scratch, Scratch.period)
            since, passes = period[2 * cap.period], period[2 * cap.period + 1]
        else:
            since, passes = np.int64(0), np.int64(_NEVER)
        if decisive >= since:
            hold(scratch, passes)
            return True
    return False


@inner
def _counted(scratch: Table, key: int, kind: int) -> tuple[int, int]:
    """Where the instants of a key and kind stand; the last exclusive."""
    counters = counters_of(scratch)
    low, high = np.int64(0), i8(scratch, Scratch.person)[PersonFact.counters]
    while low < high:
        middle = (low + high) // 2
        one = counters[middle]
        if one.key < key or (one.key == key and one.kind < kind):
            low = middle + 1
        else:
            high = middle
    if low == i8(scratch, Scratch.person)[PersonFact.counters]:
        return 0, 0
    one = counters[low]
    if one.key != key or one.kind != kind:
        return 0, 0
    return np.int64(one.first), np.int64(one.first) + np.int64(one.count)


@inner
def hold(scratch: Table, second: int) -> None:
    """Promise nothing beyond a second."""
    outcome = f8(scratch, Scratch.outcome)
    outcome[Outcome.refresh_after] = min(outcome[Outcome.refresh_after], float(second))


@inner
def share_of(person: int, key: int) -> float:
    """A number from 0 to 1 (exclusive) that a person and a key always have, and that is evenly spread (splitmix64)."""
    bits = finished(np.uint64(person) ^ (np.uint64(key) * np.uint64(SPLITMIX_STEP)))
    return float(bits >> np.uint64(11)) * 2.0**-53
