"""Grows trees from the log's examples, judges them by examples they have not seen, and keeps them for the learner."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.learning.course import PAGE, Log, Merged, Position
from offers.learning.held import Held
from offers.learning.kept import alone, latest, prune
from offers.learning.model import Model, write_model
from offers.learning.outcomes import DONE, Asked, Outcomes
from offers.learning.promotion import figures_of, worse
from offers.learning.propensity.features import Examples, Features
from offers.learning.propensity.regression import Propensity
from offers.learning.propensity.trees import Trees, library, train
from offers.learning.values import ORDER_VALUE, REWARDS, Sum, written_scales

FOLDER = "trees"
"""Of a learner's folder."""
LEAST_EXAMPLES = 500
"""Of a reward, for trees of it."""
MOST_EXAMPLES = 500_000
"""Of a reward; the latest."""
SEEN = 0.8
"""The share of examples, the oldest, that trees are grown from to be judged by the others."""


class Growth(NamedTuple):
    """What came of growing trees of a reward."""

    reward: str
    examples: int
    figures: dict[str, float]
    """How good trees are, grown from the older examples, at the later ones: see `figures_of`."""
    beside: dict[str, float]
    """The same of what they take the place of: the trees before, at what these have not seen either, or else an online
    model of the same older examples."""
    refused: str
    """Why they are not to be used; "": they are."""


class Grown:
    """The trees that were grown last for a learner's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._seen: set[str] = set()
        self._model: Model | None = None

    def version(self) -> str:
        """Which they are by now; "": there are none. The last good ones stay."""
        names = {path.name for path in self._folder.glob("[0-9a-f]*")}
        if names != self._seen:
            self._seen = names
            self._model = latest(self._folder) or self._model
        return self._model.version if self._model else ""

    def until(self, reward: str) -> int:
        """The second of the latest decision that those of a reward have seen."""
        return int(self._model.meta["until"][reward]) if self._model else 0

    def trees(self, features: Features, scales: Mapping[str, Sum]) -> dict[str, Trees]:
        """Those that `version` found, by reward, as trees over some features; without those that ask for more, and of
        order values without those of other scales.
        """  # noqa: D205
        if not self._model:
            return {}
        own, arrays = Features.of_json(self._model.meta["features"]), self._model.arrays
        found = {}
        for name in self._model.meta["until"]:
            if name == REWARDS[ORDER_VALUE] and self._model.meta["scales"] != written_scales(scales):
                continue
            prefix = f"{name}."
            parts = {part.removeprefix(prefix): arrays[part] for part in arrays if part.startswith(prefix)}
            if carried := _over(features, Trees.of_arrays(own, parts)):
                found[name] = carried
        return found


def grow(log: Log, asked: Asked, features: Features, folder: Path, stop: Callable[[], bool]) -> list[Growth]:
    """Grow trees of each reward from all that the log has, and keep them where they are no worse than what there was.

    A learner's folder; nothing comes of it if `stop` says so. Raises SettingsError where LightGBM is not installed.
    """
    library()
    hindsight = Hindsight(features, asked)
    for number, (second, event, decision) in enumerate(Merged(log, Position()).read(math.inf)):
        if number % PAGE == 0:
            if stop():
                return []
            hindsight.flush()
        if event is not None:
            hindsight.happened(second, event)
        elif decision is not None:
            hindsight.decided(second, decision)
    before = Grown(folder)
    before.version()
    trees = before.trees(features, hindsight.scales)
    until = {name: before.until(name) for name in trees}
    grown = []
    for number, name in enumerate(REWARDS):
        if number == ORDER_VALUE and not hindsight.scales:
            continue
        examples = hindsight.examples(number)
        growth, new = _grown(name, features, examples, trees.get(name), until.get(name, 0))
        grown.append(growth)
        if new:
            trees[name], until[name] = new, int(examples.time[-1])
    if not all(one.refused for one in grown):
        _keep(folder / FOLDER, features, trees, until, hindsight.scales)
    return grown


class Hindsight(Outcomes):
    """Makes one example of each offer that was shown: of what came of it in the end, however late."""

    def __init__(self, features: Features, asked: Asked) -> None:
        super().__init__(features, asked, numbers=True)
        self._ends: tuple[OrderedDict[tuple[str, int], _End], ...] = tuple(OrderedDict() for _ in REWARDS)
        self._unsaid: tuple[OrderedDict[tuple[str, int], None], ...] = tuple(OrderedDict() for _ in REWARDS)
        """By reward: offers of decisions that may not be known, whatever waits of them."""

    def examples(self, number: int) -> Examples:
        """The latest examples of a reward, by its number in REWARDS: the earliest decision first."""
        self.flush()
        ends = sorted(self._ends[number].items(), key=lambda end: end[1].held.second)
        return self._rows.examples(
            [end.held.request for _, end in ends],
            [(end.held.catalog, end.held.offers[place]) for (_, place), end in ends],
            [end.held.metres[place] for (_, place), end in ends],
            np.array([end.reward for _, end in ends]),
            np.array([end.importance for _, end in ends]),
            np.array([end.held.second for _, end in ends], np.int64),
        )

    def _foresee(self, held: Held) -> None:
        """Nobody does."""

    def _tell(self, number: int, held: Held, place: int, reward: float) -> None:
        if math.isnan(reward):  # may not be known
            self._ends[number].pop((held.decision_id, place), None)
            self._unsaid[number][held.decision_id, place] = None

    def _flush(self, number: int) -> None:
        ends, unsaid = self._ends[number], self._unsaid[number]
        for held, place, reward, importance in self._waiting[number]:
            if (held.decision_id, place) in unsaid:
                continue
            known = ends.pop((held.decision_id, place), None)
            if reward:  # one that came late is a whole one of its importance, as nothing was foreseen
                ends[held.decision_id, place] = _End(held, reward * importance, 1.0)
            elif held.states[number][place] != DONE:
                ends[held.decision_id, place] = _End(held, 0.0, importance + (known.importance if known else 0.0))
                held.states[number][place] = 0.0
        self._waiting[number].clear()
        while len(ends) > MOST_EXAMPLES:
            ends.popitem(last=False)
        while len(unsaid) > MOST_EXAMPLES:
            unsaid.popitem(last=False)


class _End(NamedTuple):
    held: Held
    reward: float
    importance: float


def _grown(
    name: str, features: Features, examples: Examples, before: Trees | None, until: int
) -> tuple[Growth, Trees | None]:
    """Judge trees of the older examples by the later ones; if they are no worse, those of all."""
    count = len(examples.reward)
    if count < LEAST_EXAMPLES:
        why = f"{count:,} examples are too few, {LEAST_EXAMPLES:,} are needed"
        return Growth(name, count, {"judged": 0}, {"judged": 0}, why), None
    cut = int(SEEN * count)
    older, later = _part(examples, slice(cut)), _part(examples, slice(cut, None))
    candidate = later.reward, _chances(train(features, older), later)
    if before:
        incumbent = later.reward, np.where(later.time > until, _chances(before, later), np.nan)
    else:
        incumbent = later.reward, _foreseen(features, older, later)
    why = worse(candidate, incumbent)
    growth = Growth(name, count, figures_of(candidate), figures_of(incumbent), why)
    return growth, None if why else train(features, examples)


def _foreseen(features: Features, older: Examples, later: Examples) -> NDArray[np.float64]:
    """How likely an online model of the older examples takes the rewards of the later ones to be."""
    model, size = Propensity.untaught(features), features.request_size
    model.update(older)
    return np.array([model.predict(keys[:size], keys[None, size:]).probability()[0] for keys in later.keys])


def _part(examples: Examples, part: slice) -> Examples:
    keys, numbers, reward, importance, time = examples
    return Examples(keys[part], numbers[part], reward[part], importance[part], time[part])


def _chances(trees: Trees, examples: Examples) -> NDArray[np.float64]:
    """How likely the reward of each example is."""
    nothing = np.empty(0, np.uint64), np.empty(0)
    return np.asarray(1 / (1 + np.exp(-trees.predict(nothing, (examples.keys, examples.numbers)))))


def _over(features: Features, trees: Trees) -> Trees | None:
    """Trees over other features, or None if they ask for an attribute that these have not."""
    own = {name: place for place, name in enumerate(trees.features.attributes)}
    sizes = np.diff(trees.test_first)
    if any(sizes[place] and name not in features.attributes for name, place in own.items()):
        return None
    places = [own.get(name) for name in features.attributes]
    test_first, test = _ordered(places, trees.test_first, trees.test)
    level_first, level_key = _ordered(places, trees.level_first, trees.level_key)
    _, level_count = _ordered(places, trees.level_first, trees.level_count)
    return Trees(features, test_first, test, trees.leaf_first, trees.leaf, level_first, level_key, level_count)


def _ordered(
    places: Sequence[int | None], first: NDArray[np.int32], column: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """The lists of a column in another order, None for an empty one; and where they begin."""
    lists = [column[:0] if place is None else column[first[place] : first[place + 1]] for place in places]
    return np.cumsum([0, *map(len, lists)]).astype(np.int32), np.concatenate(lists)


def _keep(
    folder: Path, features: Features, trees: Mapping[str, Trees], until: Mapping[str, int], scales: Mapping[str, Sum]
) -> None:
    arrays = {f"{name}.{part}": array for name, one in trees.items() for part, array in one.arrays().items()}
    with alone(folder):
        before = latest(folder)
        said = {
            "sequence": before.meta["sequence"] + 1 if before else 1,
            "features": features.as_json(),
            "until": dict(until),
            "scales": written_scales(scales),
        }
        prune(folder, {write_model(folder, arrays, said).name})
