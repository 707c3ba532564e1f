"""The number of an item: equal to its specification, probable, and of use to newcomers."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from offers.learning.recommend.habit import QUESTIONS, tabulate
from offers.learning.recommend.recommender import RecentVisitors
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
    TRAITS,
    VISITS,
    Event,
    small_model,
    teach,
    unpacked,
)  # fmt: skip

_NOW = MONDAY + 38 * DAY + 12 * HOUR


def _ask(
    model: RecommendationModel, history: bytes, items: list[int], *, place: int = 0, second: int = _NOW,
    traits: NDArray[np.uint16] | None = None, scratch: ScoreScratch | None = None,
) -> list[float]:  # fmt: skip
    into = np.empty(len(items))
    kinds = np.zeros((len(items), 4), np.uint16) if traits is None else traits
    room = scratch or ScoreScratch.empty(partners=PARTNERS)
    recommend(model, unpacked(history), place, second, np.array(items), kinds, room, into)
    return list(into)


def _taught(*events: Event) -> RecommendationModel:
    model = small_model()
    teach(model, RecentVisitors.empty(people=8, visits=16), events)
    return model


@given(
    st.lists(EVENTS, min_size=1, max_size=60),
    st.lists(VISITS, max_size=20),
    st.lists(st.floats(-2, 2), min_size=QUESTIONS, max_size=QUESTIONS),
    st.floats(0.5, 50),
    PLACES,
    st.integers(MONDAY, MONDAY + 90 * DAY),
    st.lists(st.tuples(ITEMS, TRAITS), min_size=1, max_size=12),
)
def test_the_loop_equals_its_specification(
    events: list[Event], visits: list[bytes], weights: list[float], unknown: float, place: int, second: int,
    asked: list[tuple[int, tuple[int, ...]]],
) -> None:  # fmt: skip
    """For any model, history and moment, compiled scores equal those of the specification."""
    model = _taught(*events)
    model.habit.weights[:], model.habit.unknown[0] = weights, unknown
    tabulate(model.habit)
    history = merged(b"", b"".join(visits))
    kinds = np.array([[short(trait) for trait in traits] for _, traits in asked], np.uint16)
    found = _ask(model, history, [item for item, _ in asked], place=place, second=second, traits=kinds)
    reference = ReferenceScores(model)
    expected = [
        reference.probability(history, place, second, item, [int(kind) for kind in row])
        for (item, _), row in zip(asked, kinds, strict=True)
    ]
    assert pytest.approx(expected, rel=1e-5) == found


def test_newcomers_get_what_is_popular_at_their_place() -> None:
    """For an unknown person, the most popular item here is the likeliest, whatever is popular elsewhere."""
    here = [(person, 5, visit(11, MONDAY, 1.0, place=5)) for person in range(1, 31)]
    elsewhere = [(person, 6, visit(12, MONDAY, 1.0, place=6)) for person in range(31, 91)]
    model = _taught(*here, *elsewhere)
    at_home, away, unknown = (_ask(model, b"", [11, 12], place=place) for place in (5, 6, 0))
    assert at_home[0] > at_home[1]
    assert away[0] < away[1]
    assert unknown[0] < unknown[1]


def test_popular_at_this_hour_comes_first() -> None:
    """Between two equally popular items, the one taken at this time of day is likelier."""
    lunch = [(person, 5, visit(11, MONDAY + 12 * HOUR, 1.0, place=5)) for person in range(1, 31)]
    dinner = [(person, 5, visit(12, MONDAY + 19 * HOUR, 1.0, place=5)) for person in range(31, 61)]
    model = _taught(*lunch, *dinner)
    noon, evening = (_ask(model, b"", [11, 12], place=5, second=MONDAY + 7 * DAY + h * HOUR) for h in (12, 19))
    assert noon[0] > 1.2 * noon[1]
    assert evening[1] > 1.2 * evening[0]


def test_what_similar_people_took_is_likelier() -> None:
    """Between two equally popular items, the one taken by those who took what this person took is likelier."""
    people = [
        (person, 0, visit(item, MONDAY + hours * HOUR, 1.0))
        for person in range(1, 61)
        for hours, item in enumerate((11, 12) if person % 2 else (13, 14))
    ]
    model = _taught(*people)
    likes_12, likes_14 = _ask(model, visit(11, MONDAY + 30 * DAY, 1.0), [12, 14])
    assert likes_12 > 1.2 * likes_14


def test_new_items_of_a_liked_category_are_likelier() -> None:
    """Between two new items, the one in a category that the person takes more than others do is likelier."""
    others = [(p, 0, visit(11, MONDAY + p, 1.0, traits=(22,))) for p in range(1, 30)]
    model = _taught(*others, (30, 0, visit(12, MONDAY, 1.0, traits=(21,))))
    history = merged(b"", b"".join(visit(12, MONDAY + day * DAY, 1.0, traits=(21,)) for day in range(9)))
    kinds = np.array([[short(21), 0, 0, 0], [short(22), 0, 0, 0]], np.uint16)
    liked, usual = _ask(model, history, [17, 18], traits=kinds)
    assert liked > 2 * usual


def test_all_items_together_are_as_probable_as_can_be() -> None:
    """The scores of all known items add up to about one; shrinking the factors leaves a small difference."""
    items = [11, 12, 13, 14, 15]
    events = [
        (person, place, visit(item, MONDAY + (person + item) % 24 * HOUR, 1.0, place=place))
        for person, item, place in itertools.product(range(1, 21), items, (5, 6))
        if (person + item) % 3
    ]
    model = RecommendationModel.empty(items=64, places=8, pairs=64, partners=8)
    teach(model, RecentVisitors.empty(people=256, visits=16), events)
    for history in (b"", visit(11, MONDAY, 1.0)):
        into = np.empty(len(items))
        scratch = ScoreScratch.empty(partners=8)
        recommend(model, unpacked(history), 5, _NOW, np.array(items), np.zeros((5, 4), np.uint16), scratch, into)
        assert 1.0 == pytest.approx(into.sum(), abs=0.05)


def test_questions_leave_nothing_behind() -> None:
    """One scratch answers many questions as new ones would."""
    model = _taught(*[(p, 5, visit(11 + p % 4, MONDAY + p * HOUR, 1.0, place=5, traits=(21, 22))) for p in range(1, 9)])
    scratch = ScoreScratch.empty(partners=PARTNERS)
    history = merged(visit(11, MONDAY, 1.0, traits=(21, 22, 21, 22)), visit(12, MONDAY + DAY, 0.3, traits=(22,)))
    before = _ask(model, b"", [11, 12, 13])
    assert before != _ask(model, history, [11, 12, 13], scratch=scratch)
    assert before == _ask(model, b"", [11, 12, 13], scratch=scratch)
    assert not any(array.any() for array in (scratch.keys, scratch.sums, scratch.traits))


def test_a_model_of_mapped_files_answers_as_in_memory(tmp_path: Path) -> None:
    """Arrays written to files and mapped read-only make the same model."""
    model = _taught(*[(p, 5, visit(11 + p % 4, MONDAY + p * HOUR, 1.0, place=5)) for p in range(1, 9)])
    arrays = model.arrays()
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    mapped = RecommendationModel.of({name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in arrays})
    history = visit(11, MONDAY, 1.0)
    assert _ask(model, history, [11, 12, 99], place=5) == _ask(mapped, history, [11, 12, 99], place=5)
