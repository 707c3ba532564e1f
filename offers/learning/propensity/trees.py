"""Gradient-boosted trees: LightGBM grows them from past examples; a compiled loop asks them, and needs no LightGBM.

A tree asks for a number of each attribute: the value itself where it is one, else how often the value was met in
training (an order that splits rare from common, and has a place for values never met: they were met 0 times).
"""

import math
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.errors import SettingsError
from offers.learning.propensity.features import PERSON, Examples, Features
from offers.model.hashing import MISSING

ROUNDS = 200
PARAMETERS: Mapping[str, Any] = {
    "objective": "cross_entropy",  # that of binary outcomes, for rewards between as well
    "learning_rate": 0.05,
    "num_leaves": 31,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    # The same examples give the same trees, whatever the machine; one thread leaves the other cores to the workers.
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}

TEST = np.dtype(
    [
        ("threshold", "<f8"),  # a number above it goes to the right
        ("kept", "<u8"),  # the leaves that can be reached from there, as bits from the left; others are out
        ("tree", "<i4"),
        ("missing", "<i4"),  # where one goes without a number: LEFT, RIGHT, or as with ZERO
    ]
)
LEFT, RIGHT, ZERO = 0, 1, 2

_RIGHT, _ZERO, _MISSING = RIGHT, ZERO, MISSING  # numba reads globals of this module only once, as constants
_DE_BRUIJN = 0x03F79D71B4CB0A89
_LOWEST = np.zeros(64, np.int64)
"""The number of the one bit that is set, by the top six bits of its product with _DE_BRUIJN."""
for _bit in range(64):
    _LOWEST[(_DE_BRUIJN << _bit & (2**64 - 1)) >> 58] = _bit


@dataclass(frozen=True, slots=True)
class Trees:
    """A grown model: the logit of a reward is the sum of a leaf of each tree.

    Trees are not walked. Every test that goes to the right rules leaves of its tree out, and the first leaf that is
    left is the one a walk would end at (QuickScorer, Lucchese et al. 2015): so the tests of the request are made once
    for all its offers.
    """

    features: Features
    test_first: NDArray[np.int32]
    """Per attribute, where its tests begin; and where the last one's end."""
    test: NDArray[Any]
    """TEST: of all trees, by attribute, the least threshold first."""
    leaf_first: NDArray[np.int32]
    """Per tree, where its leaves begin."""
    leaf: NDArray[np.float64]
    """What leaves add to the logit, from the left."""
    level_first: NDArray[np.int32]
    """Per attribute, where its values begin in the next two; and where the last one's end."""
    level_key: NDArray[np.uint64]
    """Keys of values that are no numbers, ascending."""
    level_count: NDArray[np.float64]
    """How often they were met."""

    @classmethod
    def of_arrays(cls, features: Features, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The model over what `arrays` gave, which is not copied."""
        return cls(features, **arrays)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learned, by name."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "features"}

    def predict(
        self,
        request: tuple[NDArray[np.uint64], NDArray[np.float64]],
        offers: tuple[NDArray[np.uint64], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """The logits of a request's offers: `request` has keys and numbers of its attributes, `offers` rows of both."""
        logits = np.empty(len(offers[0]))
        rows = map(np.ascontiguousarray, offers)  # other strides would be compiled anew
        predict(*self.arrays().values(), *request, *rows, logits)
        return logits


def library() -> Any:  # noqa: ANN401 - it has no types
    """LightGBM. Raises SettingsError where it is not installed."""
    try:
        import lightgbm
    except ImportError as error:
        message = "growing trees needs LightGBM: pip install 'offers[gbdt]'"
        raise SettingsError(message) from error
    return lightgbm


def train(features: Features, examples: Examples, rounds: int = ROUNDS) -> Trees:
    """Grow trees from examples. What tells a person from others is not asked.

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
    _ask_all(first, keys, counts, examples.keys, examples.numbers, asked)
    data = lightgbm.Dataset(asked, examples.reward, weight=examples.importance, params=dict(PARAMETERS))
    grown = lightgbm.train(dict(PARAMETERS), data, rounds).dump_model()
    tests: list[list[tuple[float, int, int, int]]] = [[] for _ in features.attributes]
    leaves: list[float] = []
    leaf_first = []
    for number, tree in enumerate(grown["tree_info"]):
        leaf_first.append(len(leaves))
        _flatten(tree["tree_structure"], number, len(leaves), tests, leaves)
    return Trees(
        features,
        _firsts(tests),
        np.array([test for column in tests for test in sorted(column)], TEST),
        np.array(leaf_first, np.int32),
        np.array(leaves, np.float64),
        first,
        keys,
        counts,
    )


def _firsts(lists: Iterable[Sized]) -> NDArray[np.int32]:
    return np.cumsum([0, *map(len, lists)]).astype(np.int32)


def _flatten(
    node: Mapping[str, Any], tree: int, first: int, tests: list[list[tuple[float, int, int, int]]], leaves: list[float]
) -> None:
    """Add the leaves of a node of a tree, whose first leaf is `first`, and its tests to those of their attributes."""
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
def _ask(
    level_first: NDArray[np.int32], level_key: NDArray[np.uint64], level_count: NDArray[np.float64],
    attribute: int, key: int, number: float,
) -> float:  # fmt: skip
    """The number that trees ask for: NaN where the value is missing."""
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
def _ask_all(
    level_first: NDArray[np.int32], level_key: NDArray[np.uint64], level_count: NDArray[np.float64],
    keys: NDArray[np.uint64], numbers: NDArray[np.float64], asked: NDArray[np.float64],
) -> None:  # fmt: skip
    for row in range(len(keys)):
        for attribute in range(keys.shape[1]):
            asked[row, attribute] = _ask(
                level_first, level_key, level_count, attribute, keys[row, attribute], numbers[row, attribute]
            )


@njit(error_model="numpy")
def _rule_out(
    test_first: NDArray[np.int32], test: NDArray[Any], attribute: int, number: float, left: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Take away from the leaves that are left in each tree what the tests of an attribute rule out."""
    first, last = test_first[attribute], test_first[attribute + 1]
    if math.isnan(number):
        for place in range(first, last):
            one = test[place]
            if one.missing == _RIGHT or (one.missing == _ZERO and one.threshold < 0):
                left[one.tree] &= one.kept
        return
    for place in range(first, last):
        one = test[place]
        if number <= one.threshold:
            return
        left[one.tree] &= one.kept


@njit(cache=True, error_model="numpy")
def predict(
    test_first: NDArray[np.int32], test: NDArray[Any], leaf_first: NDArray[np.int32], leaf: NDArray[np.float64],
    level_first: NDArray[np.int32], level_key: NDArray[np.uint64], level_count: NDArray[np.float64],
    request_keys: NDArray[np.uint64], request_numbers: NDArray[np.float64],
    offer_keys: NDArray[np.uint64], offer_numbers: NDArray[np.float64], logits: NDArray[np.float64],
) -> None:  # fmt: skip
    """Write the logit of each offer."""
    shared, trees = len(request_keys), len(leaf_first)
    common = np.full(trees, ~np.uint64(0))
    for attribute in range(shared):
        number = _ask(
            level_first, level_key, level_count, attribute, request_keys[attribute], request_numbers[attribute]
        )
        _rule_out(test_first, test, attribute, number, common)
    left = np.empty(trees, np.uint64)
    for place in range(len(offer_keys)):
        left[:] = common
        for column in range(offer_keys.shape[1]):
            key, number = offer_keys[place, column], offer_numbers[place, column]
            number = _ask(level_first, level_key, level_count, shared + column, key, number)
            _rule_out(test_first, test, shared + column, number, left)
        logit = 0.0
        for tree in range(trees):
            lowest = left[tree] & (~left[tree] + np.uint64(1))
            logit += leaf[leaf_first[tree] + _LOWEST[(lowest * np.uint64(_DE_BRUIJN)) >> np.uint64(58)]]
        logits[place] = logit
