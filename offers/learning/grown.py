"""Grows trees from the log's examples, judges them by examples they have not seen, and keeps them for the learner."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.learning.course import Course, Log
from offers.learning.examples import REWARDS, Asked, Collector
from offers.learning.features import Examples, Features
from offers.learning.kept import latest, prune
from offers.learning.model import Model, write_model
from offers.learning.promotion import Foreseen, figures_of, worse
from offers.learning.trees import Trees, library, train

FOLDER = "trees"
"""Of a learner's folder."""
LEAST_EXAMPLES = 500
"""Of a reward, for trees of it."""
MOST_EXAMPLES = 1_000_000
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
    """The same of what they take the place of: the trees before, on what these have not seen either, or else what the
    online model foresaw."""
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

    def trees(self, features: Features) -> dict[str, Trees]:
        """Those that `version` found, by reward, as trees over some features; without those that ask for more."""
        if not self._model:
            return {}
        own, arrays = Features.of_json(self._model.meta["features"]), self._model.arrays
        found = {}
        for name in self._model.meta["until"]:
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
    witness = _Witness(log, asked, features)
    while witness.step(np.inf):
        if stop():
            return []
    before = Grown(folder)
    before.version()
    trees = before.trees(features)
    until = {name: before.until(name) for name in trees}
    grown = []
    for name, gathered in zip(REWARDS, witness.gathered, strict=True):
        growth, new = _grown(name, features, gathered, trees.get(name), until.get(name, 0))
        grown.append(growth)
        if new:
            trees[name], until[name] = new, int(gathered.examples().time.max())
    if not all(one.refused for one in grown):
        _keep(folder / FOLDER, features, trees, until)
    return grown


class _Gathered:
    """The latest examples of a reward, and what was foreseen of them."""

    def __init__(self) -> None:
        self._parts: deque[tuple[Examples, NDArray[np.float64]]] = deque()
        self.count = 0

    def add(self, examples: Examples, foreseen: NDArray[np.float64]) -> None:
        self._parts.append((examples, foreseen))
        self.count += len(foreseen)
        while self.count > MOST_EXAMPLES:
            self.count -= len(self._parts.popleft()[1])

    def examples(self) -> Examples:
        return Examples(*map(np.concatenate, zip(*(examples for examples, _ in self._parts), strict=True)))

    def foreseen(self) -> NDArray[np.float64]:
        return np.concatenate([foreseen for _, foreseen in self._parts])


class _Witness(Course):
    """Goes through the log as the online models did, as their forecasts weigh what is late, and keeps the examples."""

    def __init__(self, log: Log, asked: Asked, features: Features) -> None:
        super().__init__(log, asked, features)
        self.collector = Collector(features, asked, self, numbers=True)
        self.gathered = [_Gathered() for _ in REWARDS]

    def learn(self, number: int, examples: Examples) -> NDArray[np.float64]:
        foreseen = super().learn(number, examples)
        self.gathered[number].add(examples, foreseen)
        return foreseen


def _grown(
    name: str, features: Features, gathered: _Gathered, before: Trees | None, until: int
) -> tuple[Growth, Trees | None]:
    """Judge trees of the older examples by the later ones; if they are no worse, those of all."""
    if gathered.count < LEAST_EXAMPLES:
        why = f"{gathered.count:,} examples are too few, {LEAST_EXAMPLES:,} are needed"
        return Growth(name, gathered.count, {"judged": 0}, {"judged": 0}, why), None
    examples = gathered.examples()
    cut = int(SEEN * gathered.count)
    older, later = _part(examples, slice(cut)), _part(examples, slice(cut, None))
    candidate: Foreseen = later.reward, _chances(train(features, older), later)
    if before:
        incumbent = later.reward, np.where(later.time > until, _chances(before, later), np.nan)
    else:
        incumbent = later.reward, gathered.foreseen()[cut:]
    why = worse(candidate, incumbent)
    growth = Growth(name, gathered.count, figures_of(candidate), figures_of(incumbent), why)
    return growth, None if why else train(features, examples)


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


def _keep(folder: Path, features: Features, trees: Mapping[str, Trees], until: Mapping[str, int]) -> None:
    arrays = {f"{name}.{part}": array for name, one in trees.items() for part, array in one.arrays().items()}
    before = latest(folder)
    said = {
        "sequence": before.meta["sequence"] + 1 if before else 1,
        "features": features.as_json(),
        "until": dict(until),
    }
    prune(folder, {write_model(folder, arrays, said).name})
