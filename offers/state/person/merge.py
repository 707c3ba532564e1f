"""Merges two states of one person, as at sign-in."""

import math
from collections.abc import Callable
from itertools import zip_longest
from typing import Literal

from google.protobuf.timestamp_pb2 import Timestamp

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

_INSTANTS: tuple[tuple[Literal["first_seen_time", "last_seen_time", "last_order_time"], Callable[..., Timestamp]], ...]
_INSTANTS = (("first_seen_time", min), ("last_seen_time", max), ("last_order_time", max))


def merge(user: bytes, visitor: bytes) -> bytes:
    """Return the record of a user merged with that of a visitor who is the same person; every event counts once.

    Of an attribute that both have, the user's is kept; the rest is symmetric. A visitor whose latest events are all
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
    for name, value in theirs.profile.attributes.fields.items():
        if name not in ours.profile.attributes.fields:
            ours.profile.attributes.fields[name].CopyFrom(value)
    if theirs.profile.consents:
        consents = Profile(consents=latest([*ours.profile.consents, *theirs.profile.consents]))
        ours.profile.ClearField("consents")
        ours.profile.MergeFrom(consents)
    merge_marks(ours, theirs)
    assignments = UserState(assignments=_earliest([*ours.assignments, *theirs.assignments]))
    ours.ClearField("assignments")
    ours.MergeFrom(assignments)
    return ours.SerializeToString()


def linked(user: bytes, visitor: bytes, *, visitor_id: Person) -> bytes:
    """Return `merge` of both for a visitor who signs in; variants are drawn as for the id that was seen first."""
    state, before, other = (UserState.FromString(record) for record in (merge(user, visitor), user, visitor))
    state.draw = before.draw
    if _first_seen(other) < _first_seen(before):
        state.draw = other.draw or draw_of(visitor_id)
    return state.SerializeToString()


def _first_seen(state: UserState) -> tuple[float, int]:
    first = state.profile.first_seen_time
    return instant_of(first) if state.profile.HasField("first_seen_time") else (math.inf, 0)


def _merge_totals(ours: Profile, theirs: Profile) -> None:
    for name, pick in _INSTANTS:
        times = [getattr(profile, name) for profile in (ours, theirs) if profile.HasField(name)]
        if times:
            getattr(ours, name).CopyFrom(pick(times, key=instant_of))
    ours.order_count += theirs.order_count
    for currency, spent in theirs.spent.items():
        ours.spent[currency] = round(ours.spent[currency] + spent, MONEY_DIGITS)


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
