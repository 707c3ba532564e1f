"""Gradient-boosted trees: LightGBM grows them from past examples; a compiled loop evaluates them without LightGBM.

A tree tests a number of each attribute: the value itself if it is a number, else the count of the value in training.
Counts separate rare values from common ones, and values that were never met count 0.
"""

import math
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.errors import SettingsError
from offers.learning.propensity.features import PERSON, Examples, Features
from offers.model.hashing import MISSING

ROUNDS = 200
PARAMETERS: Mapping[str, Any] = {
    "objective": "cross_entropy",  # as for binary outcomes, and for rewards in between
    "learning_rate": 0.05,
    "num_leaves": 31,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    # The same examples give the same trees on any machine. One thread leaves the other cores to the workers.
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}

TEST = np.dtype(
    [
        ("threshold", "<f8"),  # a number above it goes right
        ("kept", "<u8"),  # bits of the leaves that can still be reached then, from the left
        ("tree", "<i4"),
        ("missing", "<i4"),  # where a missing number goes: LEFT, RIGHT, or as a zero would
    ]
)
LEFT, RIGHT, ZERO = 0, 1, 2

_RIGHT, _ZERO, _MISSING = RIGHT, ZERO, MISSING  # numba reads only globals of this module as constants
_DE_BRUIJN = 0x03F79D71B4CB0A89
_LOWEST = np.zeros(64, np.int64)
"""The index of a single set bit, by the top six bits of its product with _DE_BRUIJN."""
for _bit in range(64):
    _LOWEST[(_DE_BRUIJN << _bit & (2**64 - 1)) >> 58] = _bit


class AttributeValues(NamedTuple):
    """Values of attributes: their keys, and their numbers or NaN."""

    keys: NDArray[np.uint64]
    numbers: NDArray[np.float64]


class TreeTables(NamedTuple):
    """The arrays of Trees, as compiled loops read them."""

    test_first: NDArray[np.int32]
    """By attribute, the offset of its tests; then the end of the last one's."""
    test: NDArray[Any]
    """Records of TEST, of all trees: by attribute, then by threshold."""
    leaf_first: NDArray[np.int32]
    """By tree, the offset of its leaves."""
    leaf: NDArray[np.float64]
    """Terms of the logit: a tree's leaves from the left."""
    level_first: NDArray[np.int32]
    """By attribute, the offset of its values in the next two; then the end of the last one's."""
    level_key: NDArray[np.uint64]
    """Keys of values that are not numbers, ascending."""
    level_count: NDArray[np.float64]
    """How often these values were met."""


@dataclass(frozen=True, slots=True)
class Trees:
    """A grown model: the logit of a reward is the sum of one leaf of each tree.

    Trees are not walked. Every test that goes right rules out leaves of its tree, and the first remaining leaf is the
    one a walk would end at (QuickScorer, Lucchese et al. 2015). So the tests of a request are made once for all its
    offers.
    """

    features: Features
    tables: TreeTables

    @classmethod
    def of_arrays(cls, features: Features, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return a model over what `arrays` returned, without copying."""
        return cls(features, TreeTables(**arrays))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that was grown, by name."""
        return self.tables._asdict()

    def predict(
        self,
        request: tuple[NDArray[np.uint64], NDArray[np.float64]],
        offers: tuple[NDArray[np.uint64], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Return the logits of a request's offers: `request` has its keys and numbers, `offers` rows of both."""
        logits = np.empty(len(offers[0]))
        rows = map(np.ascontiguousarray, offers)  # other strides would compile the loop again
        predict(self.tables, AttributeValues(*request), AttributeValues(*rows), logits)
        return logits


def library() -> Any:  # noqa: ANN401 - it has no types
    """Return the module of LightGBM. Raises SettingsError where it is not installed."""
    try:
        import lightgbm
    except ImportError as error:
        message = "growing trees needs LightGBM: pip install 'offers[gbdt]'"
        raise SettingsError(message) from error
    return lightgbm


def train(features: Features, examples: Examples, rounds: int = ROUNDS) -> Trees:
    """Grow trees from examples. They never test PERSON.

    Raises SettingsError where LightGBM is not installed.
    """
    lightgbm = library()
    levels = [
        np.unique(examples.keys[np.isnan(examples.numbers[:, column]), column], return_counts=True)
        if name != PERSON
        else (np.empty(0, np.uint64), np.empty(0, np.int64))
        for column, name in enumerate(features.attributes)
    ]
    first = _firsts(found for found, _ in levels)
    keys = np.concatenate([keys for keys, _ in levels])
    counts = np.concatenate([counts for _, counts in levels]).astype(np.float64)
    asked = np.empty(examples.numbers.shape)
    _numbers_of(first, keys, counts, examples.keys, examples.numbers, asked)
    data = lightgbm.Dataset(asked, examples.reward, weight=examples.importance, params=dict(PARAMETERS))
    grown = lightgbm.train(dict(PARAMETERS), data, rounds).dump_model()
    tests: list[list[tuple[float, int, int, int]]] = [[] for _ in features.attributes]
    leaves: list[float] = []
    leaf_first = []
    for number, tree in enumerate(grown["tree_info"]):
        leaf_first.append(len(leaves))
        _flatten(tree["tree_structure"], number, len(leaves), tests, leaves)
    tables = TreeTables(
        _firsts(tests),
        np.array([test for column in tests for test in sorted(column)], TEST),
        np.array(leaf_first, np.int32),
        np.array(leaves, np.float64),
        first,
        keys,
        counts,
    )
    return Trees(features, tables)


def _firsts(lists: Iterable[Sized]) -> NDArray[np.int32]:
    return np.cumsum([0, *map(len, lists)]).astype(np.int32)


def _flatten(
    node: Mapping[str, Any], tree: int, first: int, tests: list[list[tuple[float, int, int, int]]], leaves: list[float]
) -> None:
    """Add the leaves and tests of a node; `first` is the offset of its tree's leaves, `tests` is by attribute."""
    if "leaf_value" in node:
        leaves.append(node["leaf_value"])
        return
    begin = len(leaves) - first
    _flatten(node["left_child"], tree, first, tests, leaves)
    end = len(leaves) - first
    _flatten(node["right_child"], tree, first, tests, leaves)
    missing = ZERO if node["missing_type"] == "None" else LEFT if node["default_left"] else RIGHT
    kept = (2**64 - 1) ^ ((1 << end) - (1 << begin))
    tests[node["split_feature"]].append((node["threshold"], kept, tree, missing))


@njit(error_model="numpy")
def _number_of(
    level_first: NDArray[np.int32], level_key: NDArray[np.uint64], level_count: NDArray[np.float64],
    attribute: int, key: int, number: float,
) -> float:  # fmt: skip
    """Return the number of a value that trees test: NaN where the value is missing."""
    if key == np.uint64(_MISSING) or not math.isnan(number):
        return number
    low, end = level_first[attribute], level_first[attribute + 1]
    high = end
    while low < high:
        middle = (low + high) // 2
        if level_key[middle] < key:
            low = middle + 1
        else:
            high = middle
    return level_count[low] if low < end and level_key[low] == key else 0.0


@njit(cache=True, error_model="numpy")
def _numbers_of(
    level_first: NDArray[np.int32], level_key: NDArray[np.uint64], level_count: NDArray[np.float64],
    keys: NDArray[np.uint64], numbers: NDArray[np.float64], asked: NDArray[np.float64],
) -> None:  # fmt: skip
    for row in range(len(keys)):
        for attribute in range(keys.shape[1]):
            asked[row, attribute] = _number_of(
                level_first, level_key, level_count, attribute, keys[row, attribute], numbers[row, attribute]
            )


@njit(error_model="numpy")
def _rule_out(
    test_first: NDArray[np.int32], test: NDArray[Any], attribute: int, number: float, left: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Remove the leaves that the tests of an attribute rule out from those that are left in each tree."""
    first, last = test_first[attribute], test_first[attribute + 1]
    if math.isnan(number):
        for index in range(first, last):
            one = test[index]
            if one.missing == _RIGHT or (one.missing == _ZERO and one.threshold < 0):
                left[one.tree] &= one.kept
        return
    for index in range(first, last):
        one = test[index]
        if number <= one.threshold:
            return
        left[one.tree] &= one.kept


@njit(cache=True, error_model="numpy")
def predict(
    model: TreeTables, request: AttributeValues, offers: AttributeValues, logits: NDArray[np.float64]
) -> None:  # fmt: skip
    """Write the logit of each offer. The values of offers have a row for each."""
    test_first, test, leaf_first, leaf = model.test_first, model.test, model.leaf_first, model.leaf
    level_first, level_key, level_count = model.level_first, model.level_key, model.level_count
    request_keys, request_numbers, offer_keys, offer_numbers = (
        request.keys,
        request.numbers,
        offers.keys,
        offers.numbers,
    )
    shared, trees = len(request_keys), len(leaf_first)
    common = np.full(trees, ~np.uint64(0))
    for attribute in range(shared):
        number = _number_of(
            level_first, level_key, level_count, attribute, request_keys[attribute], request_numbers[attribute]
        )
        _rule_out(test_first, test, attribute, number, common)
    left = np.empty(trees, np.uint64)
    for index in range(len(offer_keys)):
        left[:] = common
        for column in range(offer_keys.shape[1]):
            key, number = offer_keys[index, column], offer_numbers[index, column]
            number = _number_of(level_first, level_key, level_count, shared + column, key, number)
            _rule_out(test_first, test, shared + column, number, left)
        logit = 0.0
        for tree in range(trees):
            lowest = left[tree] & (~left[tree] + np.uint64(1))
            logit += leaf[leaf_first[tree] + _LOWEST[(lowest * np.uint64(_DE_BRUIJN)) >> np.uint64(58)]]
        logits[index] = logit
