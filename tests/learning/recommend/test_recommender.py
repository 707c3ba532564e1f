"""Learning from events: the direction of each step, and what order, calls and repetition do to it."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from offers.learning.recommend.habit import AGE, QUESTIONS, SAME_HOUR, Parameters, tabulate
from offers.learning.recommend.recommender import RecentVisitors, slopes
from offers.learning.recommend.reference import ReferenceScores
from offers.learning.recommend.scores import RecommendationModel, ScoreScratch, recommend
from offers.model.visits import merged, short, visit
from tests.learning.visits import (
    DAY,
    EVENTS,
    HOUR,
    ITEMS,
    MONDAY,
    PARTNERS,
    PLACES,
    SECONDS,
    VISITS,
    Event,
    small_model,
    teach,
    unpacked,
)  # fmt: skip


def _log_probability(model: RecommendationModel, history: bytes, place: int, item: int, second: int) -> float:
    return math.log(ReferenceScores(model).probability(history, place, second, item, (0, 0, 0, 0)))


@given(
    st.lists(EVENTS, min_size=1, max_size=30),
    st.lists(VISITS, min_size=1, max_size=12),
    st.lists(st.floats(-1, 1), min_size=QUESTIONS, max_size=QUESTIONS),
    ITEMS,
    PLACES,
    SECONDS,
)
def test_slopes_are_those_of_the_specification(
    events: list[Event], visits: list[bytes], weights: list[float], item: int, place: int, second: int
) -> None:
    """The slopes a step follows are the derivatives of the logarithm of the specified probability."""
    model = small_model()
    teach(model, RecentVisitors.empty(people=8, visits=16), events)
    model.habit.weights[:], model.habit.unknown[0] = weights, 300.0  # nothing is held back: there slopes have a kink
    tabulate(model.habit)
    history = merged(b"", b"".join(visits))
    found = np.empty(QUESTIONS + 1)
    taken = unpacked(visit(item, second, 1.0, place=place))[0]
    slopes(
        model, unpacked(history), taken, place, np.zeros((1, 4), np.uint16), ScoreScratch.empty(partners=PARTNERS),
        found,
    )  # fmt: skip
    assume(_log_probability(model, history, place, item, second) < -1e-3)  # at 1 there is no slope
    step = 1e-5
    for question in range(QUESTIONS + 1):
        sides = []
        for side in (-step, step):
            habit = Parameters(model.habit.weights.copy(), model.habit.unknown.copy(), *model.habit[2:])
            if question < QUESTIONS:
                habit.weights[question] += side
            else:
                habit.unknown[0] *= math.exp(side)
            sides.append(_log_probability(model._replace(habit=habit), history, place, item, second))
        assert (sides[1] - sides[0]) / (2 * step) == pytest.approx(found[question], abs=1e-5, rel=1e-4)


@given(st.lists(EVENTS, min_size=2, max_size=40), st.integers(1, 39))
def test_the_same_events_make_the_same_model(events: list[Event], cut: int) -> None:
    """Events learned in one call or two leave the same numbers, to the last bit."""
    one, other = small_model(), small_model()
    of_one, of_other = (RecentVisitors.empty(people=8, visits=16) for _ in range(2))
    teach(one, of_one, events)
    for part in (events[:cut], events[cut:]):
        if part:
            teach(other, of_other, part)
    for name, array in one.arrays().items():
        assert array.tobytes() == other.arrays()[name].tobytes(), name
    for name, array in of_one._asdict().items():
        assert array.tobytes() == getattr(of_other, name).tobytes(), name


def test_a_person_counts_once_by_the_most_they_did() -> None:
    """A view, an order and a hundred more orders of one person are one person who took the item."""
    model, people = small_model(), RecentVisitors.empty(people=8, visits=256)
    acts = [(1, 0, visit(11, MONDAY + hours * HOUR, 0.2 if hours == 0 else 1.0)) for hours in range(102)]
    teach(model, people, acts)
    assert 1.0 == pytest.approx(model.popularity.place_weights[-1], rel=0.11)  # the later ones would count for 100


@given(st.lists(EVENTS, min_size=1, max_size=12))
def test_an_event_that_comes_again_changes_nothing(events: list[Event]) -> None:
    """An event that is delivered twice in a row is learned once."""
    model, people = small_model(), RecentVisitors.empty(people=8, visits=16)
    teach(model, people, events)
    before = {name: array.tobytes() for name, array in (model.arrays() | people._asdict()).items()}
    teach(model, people, events[-1:])
    assert before == {name: array.tobytes() for name, array in (model.arrays() | people._asdict()).items()}


def test_two_items_of_one_person_are_joined() -> None:
    """Each new item of a person is joined to the others they took of late, and not to itself."""
    model, people = small_model(), RecentVisitors.empty(people=8, visits=16)
    teach(model, people, [(1, 0, visit(item, MONDAY + at * HOUR, 1.0)) for at, item in enumerate((11, 12, 11, 13))])
    together = model.cooccurrence
    rows = {int(key): set(together.partner_keys[at]) - {0} for at, key in enumerate(together.source_keys) if key}
    assert {11: {12, 13}, 12: {11, 13}, 13: {11, 12}} == rows
    last = list(together.source_keys).index(13)
    assert 2.0 == pytest.approx(together.source_weights[last], rel=0.05)  # though 11 was visited twice


def test_habits_of_the_hour_are_found_in_what_people_do() -> None:
    """If people take one item in the morning and another in the evening, the weight of the hour is learned."""
    model, people = (
        RecommendationModel.empty(items=64, places=8, pairs=8, partners=8),
        RecentVisitors.empty(people=64, visits=64),
    )
    events = [
        (person, 0, visit((11 if hour == 8 else 12) + 10 * person, MONDAY + day * DAY + hour * HOUR + person, 1.0))
        for day in range(40)
        for hour in (8, 20)
        for person in range(1, 6)
        if (day * 7 + hour + person * 3) % 5 < 3
    ]
    teach(model, people, events)
    assert model.habit.weights[SAME_HOUR] > 0.5
    history = merged(b"", b"".join(what for who, _, what in events if who == 1))
    into = np.empty(2)
    for hour, likely in ((8, 0), (20, 1)):
        second = MONDAY + 41 * DAY + hour * HOUR
        items, kinds = np.array([21, 22]), np.zeros((2, 4), np.uint16)
        recommend(model, unpacked(history), 0, second, items, kinds, ScoreScratch.empty(partners=8), into)
        assert into[likely] > 3 * into[1 - likely]


def test_the_old_never_counts_for_more_than_the_new() -> None:
    """Even where people return to what they did long ago, age is not learned to be a merit."""
    model, people = small_model(), RecentVisitors.empty(people=8, visits=64)
    items = [11] * 20 + [12] * 20 + [11] * 20
    teach(model, people, [(1, 0, visit(item, MONDAY + at * DAY, 1.0)) for at, item in enumerate(items)])
    assert model.habit.weights[AGE] <= 0.0


def test_people_not_seen_for_longest_make_room() -> None:
    """In a full table a new person replaces the one seen least recently, with an empty history."""
    model, people = small_model(), RecentVisitors.empty(people=8, visits=16)
    teach(model, people, [(person, 0, visit(11, MONDAY + person, 1.0)) for person in range(1, 10)])
    assert set(range(2, 10)) == set(people.keys)
    assert 1 == people.counts[list(people.keys).index(9)]


def test_places_of_visits_are_known_by_their_short_keys() -> None:
    """The place of a visit is kept as 16 bits, which are 0 for an unknown place only."""
    assert [short(5), 0] == [unpacked(visit(1, MONDAY, 1.0, place=place))[0].item()[2] for place in (5, 0)]
    assert 0 < short(5) < 1 << 16
