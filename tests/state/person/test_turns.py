"""Derived parts of a profile stay as they are until the second at which they are said to change, and change then."""

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from offers.state.person.view import profile_of, turns_of
from offers.v1.event_pb2 import EventKind
from offers.v1.profile_pb2 import Profile
from offers.v1.state_pb2 import UserState

NOW = 1_795_345_200
DAY = 86_400
KINDS = [
    EventKind.Value(f"EVENT_KIND_{name}")
    for name in ("IMPRESSION", "CLICK", "VIEW", "ADD_TO_CART", "CHECKOUT_STARTED", "ORDER", "REDEMPTION")
]
ages = st.one_of(st.integers(-3_600, 3_600), st.sampled_from([30 * DAY - 1, 30 * DAY, 90 * DAY, 91 * DAY]))


@st.composite
def states(draw: st.DrawFn) -> UserState:
    """Draw the record of a person; events are mostly, but not always, in order of time."""
    state = UserState()
    if draw(st.booleans()):
        state.profile.last_seen_time.seconds = NOW - draw(ages)
        state.profile.first_seen_time.seconds = NOW - draw(ages)
        state.profile.order_count = draw(st.integers(0, 3))
    happened = draw(st.lists(st.tuples(st.integers(-100, 2_000), st.sampled_from(KINDS)), max_size=6))
    for age, kind in happened if draw(st.booleans()) else sorted(happened, reverse=True):
        state.recent.add(kind=kind, event_time=Timestamp(seconds=NOW - age))
    if draw(st.booleans()):
        state.basket_steps.add(product_id="p", quantity=1, event_time=Timestamp(seconds=NOW - 60))
    return state


def view(state: UserState, second: int) -> Profile:
    """Return the profile in a state at an instant."""
    copy = UserState()
    copy.CopyFrom(state)
    return profile_of(copy, second)


@given(states(), st.data())
def test_parts_change_when_they_are_said_to(state: UserState, data: st.DataObject) -> None:
    """Life cycle and journey phase are the same at any second before, and another at that second."""
    now = view(state, NOW)
    turns = turns_of(now, UserState(profile=now, recent=state.recent), NOW)
    for name in ("life_cycle", "journey_phase"):
        end = turns.get(name, NOW + 500 * DAY)
        assert NOW < end
        for second in {end - 1, data.draw(st.integers(NOW, end - 1))}:
            assert getattr(now, name) == getattr(view(state, second), name)
        assert (name in turns) == (getattr(now, name) != getattr(view(state, end), name))


def test_nothing_turns_for_nobody() -> None:
    """Without a record nothing changes by time alone."""
    assert {} == turns_of(Profile(), UserState(), NOW)
