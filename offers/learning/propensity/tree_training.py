"""Grows trees from the examples of the log, judges them by later examples, and keeps them for the learner."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.learning.log_reading import PAGE, LearningLog, LogPosition, MergedLog
from offers.learning.model import Model, write_model
from offers.learning.model_folder import exclusive, latest, prune
from offers.learning.pending import Label, PendingDecision, SettledOffer
from offers.learning.promotion import figures_of, worse
from offers.learning.propensity.features import Examples, Features
from offers.learning.propensity.regression import Propensity
from offers.learning.propensity.trees import Trees, TreeTables, library, train
from offers.learning.settling import Lookups, OutcomeTracker
from offers.learning.values import ORDER_VALUE, REWARDS, Sum, written_scales

FOLDER = "trees"
"""Folder of the trees in a learner's folder."""
LEAST_EXAMPLES = 500
"""Fewest examples of a reward to grow trees from."""
MOST_EXAMPLES = 500_000
"""Most examples of a reward: the latest are used."""
TRAINING_SHARE = 0.8
"""Share of the examples, the oldest, from which the trees are grown that the others judge."""


class TreeReport(NamedTuple):
    """The result of growing trees of one reward."""

    reward: str
    examples: int
    figures: dict[str, float]
    """How well trees of the older examples foresee the later ones: see `figures_of`."""
    beside: dict[str, float]
    """The same of the model they would replace: the trees before, on examples that these have not seen either, or else
    an online model of the same older examples."""
    refused: str
    """Why they are not used; "": they are."""


class TreeFolder:
    """The trees that were grown last, in a learner's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._seen: set[str] = set()
        self._model: Model | None = None

    def version(self) -> str:
        """Look for new trees, and return the version of the last good ones; "" where there are none."""
        names = {path.name for path in self._folder.glob("[0-9a-f]*")}
        if names != self._seen:
            self._seen = names
            self._model = latest(self._folder) or self._model
        return self._model.version if self._model else ""

    def until(self, reward: str) -> int:
        """Return the second of the latest decision that the trees of a reward were grown from."""
        return int(self._model.meta["until"][reward]) if self._model else 0

    def trees(self, features: Features, scales: Mapping[str, Sum]) -> dict[str, Trees]:
        """Return the trees that `version` found, by reward, converted to other features.

        Trees that ask for attributes beyond these are left out, and so are those of order values on other scales.
        """
        if not self._model:
            return {}
        own, arrays = Features.of_json(self._model.meta["features"]), self._model.arrays
        found = {}
        for name in self._model.meta["until"]:
            if name == REWARDS[ORDER_VALUE] and self._model.meta["scales"] != written_scales(scales):
                continue
            prefix = f"{name}."
            parts = {part.removeprefix(prefix): arrays[part] for part in arrays if part.startswith(prefix)}
            if converted := _converted(features, Trees.of_arrays(own, parts)):
                found[name] = converted
        return found


def grow(
    log: LearningLog, lookups: Lookups, features: Features, folder: Path, stop: Callable[[], bool]
) -> list[TreeReport]:
    """Grow trees of each reward from the whole log, and keep those that are no worse than what they replace.

    `folder` is a learner's. Returns nothing if `stop` says so. Raises SettingsError where LightGBM is not installed.
    """
    library()
    outcomes = FinalOutcomes(features, lookups)
    for number, (second, event, decision) in enumerate(MergedLog(log, LogPosition()).read(math.inf)):
        if number % PAGE == 0:
            if stop():
                return []
            outcomes.flush()
        if event is not None:
            outcomes.add_event(second, event)
        elif decision is not None:
            outcomes.add_decision(second, decision)
    before = TreeFolder(folder)
    before.version()
    trees = before.trees(features, outcomes.scales)
    until = {name: before.until(name) for name in trees}
    reports = []
    for number, name in enumerate(REWARDS):
        if number == ORDER_VALUE and not outcomes.scales:
            continue
        examples = outcomes.examples(number)
        one, new = _grown(name, features, examples, trees.get(name), until.get(name, 0))
        reports.append(one)
        if new:
            trees[name], until[name] = new, int(examples.time[-1])
    if not all(one.refused for one in reports):
        _write(folder / FOLDER, features, trees, until, outcomes.scales)
    return reports


class FinalOutcomes(OutcomeTracker):
    """Makes one example of each offer that was shown: of its final outcome, however late that came."""

    def __init__(self, features: Features, lookups: Lookups) -> None:
        super().__init__(features, lookups, numbers=True)
        self._settled: tuple[OrderedDict[tuple[str, int], SettledOffer], ...] = tuple(OrderedDict() for _ in REWARDS)
        """By reward, then by decision and index."""

    def examples(self, number: int) -> Examples:
        """Return the latest examples of a reward, by its number in REWARDS: those of the earliest decision first."""
        self.flush()
        return self._rows.examples(sorted(self._settled[number].values(), key=lambda one: one[0].second))

    def _judge(self, pending: PendingDecision) -> None:
        """Judge nothing: there are no models yet."""

    def _note(self, number: int, pending: PendingDecision, index: int) -> None:
        """Note nothing: no models are judged."""

    def _calm(self, number: int, second: int) -> None:
        """Do nothing: there are no models yet."""

    def _revise(self, number: int, pending: PendingDecision, index: int, before: Label) -> None:  # noqa: ARG002
        self._settled[number].pop((pending.decision_id, index), None)
        label = pending.label(number, index)
        if label.importance:
            self._keep(number, (pending, index, *label))

    def _flush(self, number: int) -> None:
        for one in self._waiting[number]:
            self._keep(number, one)
        self._waiting[number].clear()

    def _keep(self, number: int, one: SettledOffer) -> None:
        settled = self._settled[number]
        settled[one[0].decision_id, one[1]] = one
        if len(settled) > MOST_EXAMPLES:
            settled.popitem(last=False)


def _grown(
    name: str, features: Features, examples: Examples, before: Trees | None, until: int
) -> tuple[TreeReport, Trees | None]:
    """Judge trees of the older examples by the later ones. Returns trees of all examples, unless they are worse."""
    count = len(examples.reward)
    if count < LEAST_EXAMPLES:
        why = f"{count:,} examples are too few, {LEAST_EXAMPLES:,} are needed"
        return TreeReport(name, count, {"judged": 0}, {"judged": 0}, why), None
    cut = int(TRAINING_SHARE * count)
    older, later = _part(examples, slice(cut)), _part(examples, slice(cut, None))
    candidate = later.reward, _chances(train(features, older), later)
    if before:
        incumbent = later.reward, np.where(later.time > until, _chances(before, later), np.nan)
    else:
        incumbent = later.reward, _online_chances(features, older, later)
    why = worse(candidate, incumbent)
    report = TreeReport(name, count, figures_of(candidate), figures_of(incumbent), why)
    return report, None if why else train(features, examples)


def _online_chances(features: Features, older: Examples, later: Examples) -> NDArray[np.float64]:
    """Return the probabilities of the later rewards by an online model of the older examples."""
    model, size = Propensity.untaught(features), features.request_size
    model.update(older)
    return np.array([model.predict(keys[:size], keys[None, size:]).probability()[0] for keys in later.keys])


def _part(examples: Examples, part: slice) -> Examples:
    return Examples(*(column[part] for column in examples))


def _chances(trees: Trees, examples: Examples) -> NDArray[np.float64]:
    """Return the probability of each example's reward."""
    nothing = np.empty(0, np.uint64), np.empty(0)
    return np.asarray(1 / (1 + np.exp(-trees.predict(nothing, (examples.keys, examples.numbers)))))


def _converted(features: Features, trees: Trees) -> Trees | None:
    """Return trees over other features, or None if they ask for an attribute that these do not have."""
    own = {name: column for column, name in enumerate(trees.features.attributes)}
    tables = trees.tables
    sizes = np.diff(tables.test_first)
    if any(sizes[column] and name not in features.attributes for name, column in own.items()):
        return None
    columns = [own.get(name) for name in features.attributes]
    test_first, test = _reordered(columns, tables.test_first, tables.test)
    level_first, level_key = _reordered(columns, tables.level_first, tables.level_key)
    _, level_count = _reordered(columns, tables.level_first, tables.level_count)
    return Trees(
        features, TreeTables(test_first, test, tables.leaf_first, tables.leaf, level_first, level_key, level_count)
    )


def _reordered(
    columns: Sequence[int | None], first: NDArray[np.int32], values: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Return lists in another order, None standing for an empty one: where each begins, and all their values."""
    lists = [values[:0] if one is None else values[first[one] : first[one + 1]] for one in columns]
    return np.cumsum([0, *map(len, lists)]).astype(np.int32), np.concatenate(lists)


def _write(
    folder: Path, features: Features, trees: Mapping[str, Trees], until: Mapping[str, int], scales: Mapping[str, Sum]
) -> None:
    arrays = {f"{name}.{part}": array for name, one in trees.items() for part, array in one.arrays().items()}
    with exclusive(folder):
        before = latest(folder)
        meta = {
            "sequence": before.meta["sequence"] + 1 if before else 1,
            "features": features.as_json(),
            "until": dict(until),
            "scales": written_scales(scales),
        }
        prune(folder, {write_model(folder, arrays, meta).name})
