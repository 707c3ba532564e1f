"""A person's profile at an instant, as segments and ProfileService see it."""

from collections.abc import Container

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


def _journey_phase(state: UserState, now: int) -> JourneyPhase.ValueType:
    """Return the journey phase by the newest decisive event of the last half hour."""
    has_basket = state.profile.HasField("basket")
    phase = JOURNEY_PHASE_UNSPECIFIED
    added = False
    for recent in reversed(state.recent):
        if recent.event_time.seconds <= now - _JOURNEY_S:
            break
        if recent.kind == EventKind.EVENT_KIND_CHECKOUT_STARTED:
            return JOURNEY_PHASE_CHECKOUT
        if recent.kind == EventKind.EVENT_KIND_ORDER:
            return JOURNEY_PHASE_CHOOSING if added and has_basket else JOURNEY_PHASE_ORDERED
        added = added or recent.kind == EventKind.EVENT_KIND_ADD_TO_CART
        if has_basket:
            phase = JOURNEY_PHASE_CHOOSING
        elif recent.kind in _LOOKED and not phase:
            phase = JOURNEY_PHASE_BROWSING
    return phase
