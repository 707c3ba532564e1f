"""Learns popularity, co-occurrence and the weights of habits, visit by visit."""

from typing import NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.learning.recommend.cooccurrence import HALF_LIFE_S, join
from offers.learning.recommend.habit import AGE, QUESTIONS, answers, now_of, tabulate
from offers.learning.recommend.popularity import count
from offers.learning.recommend.scores import SOURCES, RecommendationModel, ScoreScratch, clean, gather, judge
from offers.learning.recommend.slots import KNOWN, claim, keys_for
from offers.model.visits import VISIT, VISIT_S, add

RATE = 0.05
"""Learning rate of AdaGrad (Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html)."""
STEADY = 1.0
"""Initial value of the sums of squares, so that the first steps are small."""
TABULATED = 32
"""Steps after which the tables are computed again."""
STEEPEST = 6.0
"""Limit of the absolute value of a weight."""
_LEAST_UNKNOWN, _MOST_UNKNOWN = 0.5, 1_000.0


class RecentVisitors(NamedTuple):
    """The latest visits of the people seen last. Some thousands are enough to learn from."""

    keys: NDArray[np.int64]
    seen: NDArray[np.float64]
    """The second of the last event."""
    counts: NDArray[np.int64]
    histories: NDArray[np.void]
    """A row of visits for each person, of which the first `counts` are used."""
    squares: NDArray[np.float64]
    """Sums of squared slopes, by question, then of `unknown`."""
    steps: NDArray[np.int64]

    @classmethod
    def empty(cls, *, people: int, visits: int) -> Self:
        """Return an empty table for at least so many people with so many visits each (at most MAX_VISITS, 24 bytes)."""
        keys = keys_for(people)
        return cls(
            keys,
            np.zeros(keys.size),
            np.zeros(keys.size, np.int64),
            np.zeros((keys.size, visits), VISIT),
            np.full(QUESTIONS + 1, STEADY),
            np.zeros(1, np.int64),
        )


@njit(error_model="numpy")
def slopes(
    model: RecommendationModel, history: NDArray[np.void], visit: np.void, place: int, traits: NDArray[np.uint16],
    scratch: ScoreScratch, into: NDArray[np.float64],
) -> None:  # fmt: skip
    """Write the derivatives of log P(item of the visit), by the weights and by the logarithm of `unknown`."""
    second = np.int64(visit.second)
    gathered = gather(model, history, place, second, scratch)
    items, owns, backgrounds = np.full(1, visit.item), np.empty(1), np.empty(1)
    judge(model, gathered, items, traits, scratch, owns, backgrounds)
    own, background = owns[0], backgrounds[0]
    now = now_of(history, second, visit.place)
    unknown = model.habit.unknown[0]
    here, everything = own + unknown * background, gathered.own + unknown
    into[:] = 0.0
    into[QUESTIONS] = unknown * background / here - unknown / everything
    said = np.empty(QUESTIONS)
    for at in range(gathered.known):
        counts = scratch.counts[at]
        slope = (counts / here if history[at].item == visit.item else 0.0) - counts / everything
        if counts >= unknown:  # clipped to `unknown`: it moves with that, not with the weights
            into[QUESTIONS] += slope
            continue
        answers(history, at, now, said)
        for question in range(QUESTIONS):
            into[question] += slope * said[question]
    clean(history, gathered, scratch)


@njit(error_model="numpy")
def _adjust(model: RecommendationModel, people: RecentVisitors, slope: NDArray[np.float64], weight: float) -> None:
    weights, unknown = model.habit.weights, model.habit.unknown
    for question in range(QUESTIONS + 1):
        step = weight * slope[question]
        people.squares[question] += step * step
        step *= RATE / np.sqrt(people.squares[question])
        if question < QUESTIONS:
            most = 0.0 if question == AGE else STEEPEST  # an older visit never counts for more
            weights[question] = min(max(weights[question] + step, -STEEPEST), most)
        else:
            unknown[0] = min(max(unknown[0] * np.exp(step), _LEAST_UNKNOWN), _MOST_UNKNOWN)
    people.steps[0] += 1
    if people.steps[0] % TABULATED == 0:
        tabulate(model.habit)


@njit(cache=True, error_model="numpy")
def learn(
    model: RecommendationModel, people: RecentVisitors, persons: NDArray[np.int64], places: NDArray[np.int64],
    visits: NDArray[np.void], scratch: ScoreScratch,
) -> None:  # fmt: skip
    """Learn from visits in the order given, with the key of each one's person and place (NOTHING: unknown).

    The same visits in the same order give the same model, in however many calls.
    """
    slope = np.empty(QUESTIONS + 1)
    traits = np.empty((1, 4), np.uint16)
    for index in range(visits.size):
        visit, place = visits[index], places[index]
        second = np.int64(visit.second)
        at, stood = claim(people.keys, people.seen, persons[index])
        if stood != KNOWN:
            people.counts[at] = 0
        people.seen[at] = max(people.seen[at], float(second))
        room = people.histories[at]
        history = room[: people.counts[at]]
        strongest, is_new = 0.0, True
        for known in history:
            if known.item == visit.item:
                strongest = max(strongest, known.weight / 255.0)
                is_new = is_new and known.second // VISIT_S != visit.second // VISIT_S
        if is_new and history.size > 0:
            for kind, value in enumerate((visit.category, visit.cuisine, visit.brand, visit.price_band)):
                traits[0, kind] = value
            slopes(model, history, visit, place, traits, scratch, slope)
            _adjust(model, people, slope, visit.weight / 255.0)
        more = visit.weight / 255.0 - strongest
        if more > 0.0:
            count(model.popularity, visit, place, more)
            _join(model, history, visit, more)
        people.counts[at] = add(room, people.counts[at], visit)


@njit(error_model="numpy")
def _join(model: RecommendationModel, history: NDArray[np.void], visit: np.void, more: float) -> None:
    """Count an item as partner of the person's last other items, each once, the less the longer ago."""
    joined = np.empty(SOURCES, np.int64)
    so_far = 0
    for at in range(history.size - 1, -1, -1):
        other = history[at]
        if other.item == visit.item or other.item in joined[:so_far]:
            continue
        apart = abs(np.int64(visit.second) - np.int64(other.second))
        weight = more * (other.weight / 255.0) * 2.0 ** (-apart / HALF_LIFE_S)
        join(model.cooccurrence, visit.item, other.item, np.int64(visit.second), weight)
        joined[so_far] = other.item
        so_far += 1
        if so_far == SOURCES:
            return
