"""Visits and the events they come from, for tests."""

from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from offers.learning.recommend.recommender import RecentVisitors, learn
from offers.learning.recommend.scores import RecommendationModel, ScoreScratch
from offers.model.visits import VISIT, visit

MONDAY = 1_325_462_400
"""2 January 2012, 00:00."""
HOUR, DAY = 3_600, 86_400
PARTNERS = 4

ITEMS = st.sampled_from([7, -3, 2**62, 11, 12, 13, 14, 15, 16, 17, 18, 19])
PLACES = st.sampled_from([0, 5, -6])
TRAITS = st.tuples(*[st.sampled_from([0, 21, 22])] * 4)
SECONDS = st.integers(MONDAY, MONDAY + 60 * DAY) | st.integers(MONDAY, MONDAY + HOUR)
VISITS = st.builds(
    lambda item, second, weight, place, traits: visit(item, second, weight, place=place, traits=traits),
    ITEMS, SECONDS, st.sampled_from([0.2, 0.3, 1.0]), PLACES, TRAITS,
)  # fmt: skip
CLOSE_VISITS = st.builds(
    lambda item, second, weight, place, category: visit(item, MONDAY + second, weight, place=place, traits=(category,)),
    st.integers(1, 3),
    st.sampled_from([0, 1, 1_799, 1_800, 1_801, 3_600]),
    st.sampled_from([0.2, 1.0]),
    st.sampled_from([0, 5]),
    st.sampled_from([0, 21]),
)
"""Many of the same item in the same half hour."""
Event = tuple[int, int, bytes]
"""Who, where, and what."""
EVENTS = st.builds(
    lambda person, place, item, second, weight, traits: (
        person, place, visit(item, second, weight, place=place, traits=traits),
    ),
    st.integers(1, 4), PLACES, ITEMS, SECONDS, st.sampled_from([0.2, 1.0]), TRAITS,
)  # fmt: skip


def unpacked(history: bytes) -> NDArray[np.void]:
    """The visits of a history."""
    return np.frombuffer(history, VISIT)


def small_model() -> RecommendationModel:
    """A model that soon has to forget."""
    return RecommendationModel.empty(items=8, places=8, pairs=16, partners=PARTNERS)


def teach(model: RecommendationModel, people: RecentVisitors, events: Iterable[Event]) -> None:
    """Let a model learn from events, in one call."""
    who, where, what = zip(*events, strict=True)
    visits = unpacked(b"".join(what))
    learn(model, people, np.array(who), np.array(where), visits, ScoreScratch.empty(partners=PARTNERS))
