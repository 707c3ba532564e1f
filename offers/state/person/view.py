"""A person's profile at an instant, as segments and ProfileService see it."""

from collections.abc import Container, Iterator
from itertools import takewhile

from offers.model.instants import DAY_S
from offers.state.person.basket import fill_in
from offers.state.person.leanings import affinities
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import EventKind
from offers.v1.profile_pb2 import (
    JOURNEY_PHASE_BROWSING,
    JOURNEY_PHASE_CHECKOUT,
    JOURNEY_PHASE_CHOOSING,
    JOURNEY_PHASE_ORDERED,
    JOURNEY_PHASE_UNSPECIFIED,
    LIFE_CYCLE_ACTIVE,
    LIFE_CYCLE_INACTIVE,
    LIFE_CYCLE_LAPSING,
    LIFE_CYCLE_NEW,
    LIFE_CYCLE_UNSPECIFIED,
    JourneyPhase,
    LifeCycle,
    Profile,
)
from offers.v1.state_pb2 import UserState

_ACTIVE_S = 30 * DAY_S
_LAPSING_S = 90 * DAY_S
_JOURNEY_S = 30 * 60
_LOOKED = frozenset({EventKind.EVENT_KIND_IMPRESSION, EventKind.EVENT_KIND_CLICK, EventKind.EVENT_KIND_VIEW})

EVERYTHING = frozenset({"basket", "affinities", "life_cycle", "journey_phase"})
"""The derived parts of a profile."""


def profile_of(state: UserState, now: int, user: User | None = None, wanted: Container[str] = EVERYTHING) -> Profile:
    """Return the profile in a state, with the `wanted` derived parts filled in for the second `now`.

    The profile is the state's own message: call this once for a state.
    """
    profile = state.profile
    if user is not None:
        profile.user.CopyFrom(user)
        profile.user.ClearField("consent")
    if state.basket_steps and ("basket" in wanted or "journey_phase" in wanted):
        fill_in(profile.basket, state.basket_steps)
        if not profile.basket.items:
            profile.ClearField("basket")
    if state.leanings and "affinities" in wanted:
        affinities(state.leanings, now, profile.affinities)
    if "life_cycle" in wanted:
        profile.life_cycle = life_cycle(profile, now)
    if "journey_phase" in wanted:
        profile.journey_phase = _journey_phase(state, now)
    return profile


def life_cycle(profile: Profile, now: int) -> LifeCycle.ValueType:
    """Return the life cycle stage of a person at the second `now`."""
    if not profile.HasField("last_seen_time"):
        return LIFE_CYCLE_UNSPECIFIED
    if now - profile.first_seen_time.seconds < _ACTIVE_S and profile.order_count < 2:
        return LIFE_CYCLE_NEW
    unseen_s = now - profile.last_seen_time.seconds
    if unseen_s < _ACTIVE_S:
        return LIFE_CYCLE_ACTIVE
    return LIFE_CYCLE_LAPSING if unseen_s <= _LAPSING_S else LIFE_CYCLE_INACTIVE


def turns_of(
    profile: Profile, state: UserState, now: int, wanted: Container[str] = EVERYTHING
) -> dict[str, int]:  # fmt: skip
    """Return the second after `now` at which each `wanted` derived part of a profile may change next by time alone.

    A part that time alone does not change is left out.
    """
    turns = {
        "life_cycle": _life_cycle_turn(profile, now) if "life_cycle" in wanted else None,
        "journey_phase": _journey_turn(state, now) if "journey_phase" in wanted else None,
        "affinities": now + 1 if state.leanings and "affinities" in wanted else None,
    }
    return {name: turn for name, turn in turns.items() if turn is not None}


def _life_cycle_turn(profile: Profile, now: int) -> int | None:
    """Return the second at which the life cycle stage changes next; None: it stays."""
    if not profile.HasField("last_seen_time"):
        return None
    first, last, stage = profile.first_seen_time.seconds, profile.last_seen_time.seconds, life_cycle(profile, now)
    turns = sorted((first + _ACTIVE_S, last + _ACTIVE_S, last + _LAPSING_S + 1))
    return next((turn for turn in turns if turn > now and life_cycle(profile, turn) != stage), None)


def _journey_turn(state: UserState, now: int) -> int | None:
    """Return the second at which the journey phase changes next; None: it stays."""
    counted = list(takewhile(lambda one: one[0] > now - _JOURNEY_S, _phases(state)))
    phases = [JOURNEY_PHASE_UNSPECIFIED, *(phase for _, phase in counted)]
    others = [count for count, phase in enumerate(phases) if phase != phases[-1]]
    if not others:
        return None
    # Events cease to count from the oldest on: at most others[-1] are left once any of those up to the next is too old.
    return min(second for second, _ in counted[: others[-1] + 1]) + _JOURNEY_S


def _journey_phase(state: UserState, now: int) -> JourneyPhase.ValueType:
    """Return the journey phase by the newest decisive event of the last half hour."""
    phase = JOURNEY_PHASE_UNSPECIFIED
    for second, phase_then in _phases(state):
        if second <= now - _JOURNEY_S:
            break
        phase = phase_then
    return phase


def _phases(state: UserState) -> Iterator[tuple[int, JourneyPhase.ValueType]]:
    """Yield the second of each recent event, newest first, with the phase if it is the oldest event that counts.

    Ends with the first event that decides, whatever happened before.
    """
    has_basket = state.profile.HasField("basket")
    phase = JOURNEY_PHASE_UNSPECIFIED
    added = False
    for recent in reversed(state.recent):
        if recent.kind == EventKind.EVENT_KIND_CHECKOUT_STARTED:
            yield recent.event_time.seconds, JOURNEY_PHASE_CHECKOUT
            return
        if recent.kind == EventKind.EVENT_KIND_ORDER:
            yield recent.event_time.seconds, JOURNEY_PHASE_CHOOSING if added and has_basket else JOURNEY_PHASE_ORDERED
            return
        added = added or recent.kind == EventKind.EVENT_KIND_ADD_TO_CART
        if has_basket:
            phase = JOURNEY_PHASE_CHOOSING
        elif recent.kind in _LOOKED and not phase:
            phase = JOURNEY_PHASE_BROWSING
        yield recent.event_time.seconds, phase
