"""Merges two states of one person, as at sign-in."""

import math
from collections.abc import Callable
from itertools import zip_longest
from typing import Literal

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from offers.model.attributes import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES
from offers.model.instants import instant_of
from offers.model.visits import merged
from offers.state.person.apply import HASH_BYTES, MAX_APPLIED, MAX_RECENT, MONEY_DIGITS, recent_order
from offers.state.person.basket import settle
from offers.state.person.consent import latest
from offers.state.person.counters import Counters
from offers.state.person.ids import draw_of
from offers.state.person.leanings import Leanings
from offers.state.person.triggering import merge_marks
from offers.state.stores import Person
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import VariantAssignment
from offers.v1.state_pb2 import UserState

SETTLED_S = 60
"""Seconds after which all that a person was shown is stored: decisions are logged some tenths of a second later."""

_INSTANTS: tuple[tuple[Literal["first_seen_time", "last_seen_time", "last_order_time"], Callable[..., Timestamp]], ...]
_INSTANTS = (("first_seen_time", min), ("last_seen_time", max), ("last_order_time", max))


def merge(user: bytes, visitor: bytes) -> bytes:
    """Return the record of a user merged with that of a visitor who is the same person; every event counts once.

    Of an attribute that both have, the user's is kept, and a visitor's that has no room is dropped; the rest is
    symmetric. A visitor whose latest events are all
    known to the user has been merged before, and is not added again.
    """
    if not (user and visitor):
        return user or visitor
    ours, theirs = UserState.FromString(user), UserState.FromString(visitor)
    hashes, others = _hashes(ours.applied), _hashes(theirs.applied)
    if not (others and set(others) <= set(hashes)):
        _merge_totals(ours.profile, theirs.profile)
        _merge_recent(ours, theirs)
        counters = Counters(ours.counters, ours.times)
        counters.merge(Counters(theirs.counters, theirs.times))
        ours.counters, ours.times = counters.packed(ours.profile.last_seen_time.seconds)
        Leanings(ours).merge(theirs)
        ours.applied = _interleaved(hashes, others)
    if theirs.visits:
        ours.visits = merged(ours.visits, theirs.visits)
    _merge_attributes(ours.profile.attributes, theirs.profile.attributes)
    if theirs.profile.consents:
        consents = Profile(consents=latest([*ours.profile.consents, *theirs.profile.consents]))
        ours.profile.ClearField("consents")
        ours.profile.MergeFrom(consents)
    merge_marks(ours, theirs)
    assignments = UserState(assignments=_earliest([*ours.assignments, *theirs.assignments]))
    ours.ClearField("assignments")
    ours.MergeFrom(assignments)
    return ours.SerializeToString()


def linked(user: bytes, visitor: bytes, *, user_id: Person, visitor_id: Person, second: int) -> bytes:
    """Return `merge` of both for a visitor who signs in at a second; variants stay as for the id that was known first.

    A user to whom nothing was shown, and of whom nothing was seen, takes over the visitor's variants, and a known user
    those of experiments to which the user was not exposed. From now on all ids draw by the same numbers.
    """
    state, before, other = (UserState.FromString(record) for record in (merge(user, visitor), user, visitor))
    known, other_known = _first_known(before), _first_known(other)
    is_older = known <= other_known and (known < _NOT_KNOWN or bool(before.draw))
    state.draw = (before.draw or draw_of(user_id)) if is_older else (other.draw or draw_of(visitor_id))
    older = before if is_older else other
    first = {one.experiment_id: one for one in older.assignments}
    for one in state.assignments:  # exposures are kept by the second: of two within one, that of the older id counts
        same = first.get(one.experiment_id)
        if same is not None and same.exposure_time == one.exposure_time:
            one.variant_id = same.variant_id
    drawn = [one.drawn_second for one in (before, other) if one.drawn_second]
    state.drawn_second = min(drawn, default=0)
    state.variant_draw, state.linked_second = older.variant_draw, older.linked_second if drawn else second
    if is_older:
        _take_over(state, before, other.variant_draw or other.draw or draw_of(visitor_id), second)
    return state.SerializeToString()


def with_draw(record: bytes, erased: int, *, user_id: Person, visitor_id: Person, second: int) -> bytes | None:
    """Return a user's record with the number by which variants are drawn, as a Change does; None if it has one.

    `visitor_id` was linked at a second, without a record of its own: decisions are logged after they are answered, so
    its variants are taken over as by `linked`. NOBODY: the visitor was another user's. Until a decision is logged, the
    number counts for less than that of a visitor to whom something was shown.
    """
    del erased  # ids linked now are later than any erasure
    before, state = UserState.FromString(record), UserState.FromString(record)
    is_known = bool(state.draw) or _first_known(state) < _NOT_KNOWN
    if not state.draw:
        state.draw, state.linked_second = draw_of(user_id if is_known or not visitor_id else visitor_id), second
    if is_known and visitor_id:
        _take_over(state, before, draw_of(visitor_id), second)
    return state.SerializeToString() if state != before else None


def _take_over(state: UserState, before: UserState, draw: int, second: int) -> None:
    """Draw the variants of further experiments by the number of a visitor who was linked to a known user at a second.

    What the visitor was just shown may not be stored yet. Nor may what the user was shown after another link, so within
    SETTLED_S of that nothing changes.
    """
    if second - max(before.linked_second, before.drawn_second) > SETTLED_S:
        state.variant_draw, state.linked_second = draw, second


_NOT_KNOWN = (math.inf, 0)


def _first_known(state: UserState) -> tuple[float, int]:
    """Return the instant of the first event, exposure, or decision that depended on the person."""
    found = [instant_of(one.exposure_time) for one in state.assignments]
    if state.profile.HasField("first_seen_time"):
        found.append(instant_of(state.profile.first_seen_time))
    if state.drawn_second:
        found.append((state.drawn_second, 0))
    return min(found, default=_NOT_KNOWN)


def _merge_totals(ours: Profile, theirs: Profile) -> None:
    for name, pick in _INSTANTS:
        times = [getattr(profile, name) for profile in (ours, theirs) if profile.HasField(name)]
        if times:
            getattr(ours, name).CopyFrom(pick(times, key=instant_of))
    ours.order_count += theirs.order_count
    for currency, spent in theirs.spent.items():
        ours.spent[currency] = round(ours.spent[currency] + spent, MONEY_DIGITS)


def _merge_attributes(ours: Struct, theirs: Struct) -> None:
    """Add the attributes of another person, in the order of their names, as far as they fit."""
    size = ours.ByteSize()
    for name, value in sorted(theirs.fields.items()):  # the order of a protobuf map is arbitrary
        added = Struct(fields={name: value}).ByteSize()
        if name not in ours.fields and size + added <= MAX_ATTRIBUTE_BYTES and len(ours.fields) < MAX_ATTRIBUTES:
            ours.fields[name].CopyFrom(value)
            size += added


def _merge_recent(ours: UserState, theirs: UserState) -> None:
    ours.recent.extend(theirs.recent)
    ours.recent.sort(key=recent_order)
    del ours.recent[:-MAX_RECENT]
    ours.basket_steps.extend(theirs.basket_steps)
    settle(ours)


def _hashes(applied: bytes) -> list[bytes]:
    return [applied[begin : begin + HASH_BYTES] for begin in range(0, len(applied), HASH_BYTES)]


def _interleaved(ours: list[bytes], theirs: list[bytes]) -> bytes:
    """Return the latest hashes of both, taken alternately from the newest on."""
    newest_first = dict.fromkeys(
        digest
        for pair in zip_longest(reversed(ours), reversed(theirs))
        for digest in sorted(digest for digest in pair if digest)
    )
    return b"".join(reversed(list(newest_first)[:MAX_APPLIED]))


def _earliest(assignments: list[VariantAssignment]) -> list[VariantAssignment]:
    """Return the variant of each experiment that the person was exposed to first."""
    first: dict[str, VariantAssignment] = {}
    for assignment in assignments:
        known = first.get(assignment.experiment_id)
        if known is None or _rank(assignment) < _rank(known):
            first[assignment.experiment_id] = assignment
    return [first[experiment_id] for experiment_id in sorted(first)]


def _rank(assignment: VariantAssignment) -> tuple[int, int, str]:
    return *instant_of(assignment.exposure_time), assignment.variant_id
