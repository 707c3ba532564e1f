"""Refuse models whose arrays do not fit together: compiled loops do not check whether they read within them."""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from offers.learning.propensity.features import Features
from offers.learning.propensity.regression import WEIGHT
from offers.learning.propensity.trees import TEST
from offers.learning.recommend.habit import BINS, DAYS, QUESTIONS
from offers.learning.recommend.popularity import HOURS
from offers.learning.recommend.slots import WAYS
from offers.model.visits import TRAITS

MOST_LEAVES = 64
"""Leaves of a tree, at most: each has a bit."""
_SEEN = 3
_KEYS, _EPOCHS = 1 << 16, 2


def check_arrays(arrays: Mapping[str, NDArray[Any]], features: Features) -> None:
    """Raise ValueError unless a model's arrays, by the names they are published by, fit its features and each other."""
    found = _Arrays(arrays)
    if not all(0 < one.variance < math.inf for one in features.interactions):
        _refuse("a variance of its features is not over 0")
    for reward in sorted({name.split(".")[0] for name in arrays if not name.startswith("recommend.")}):
        if f"{reward}.weight" in arrays or f"{reward}.seen" in arrays:
            _check_weights(found, reward, features)
        if any(name.startswith(f"{reward}.trees.") for name in arrays):
            _check_trees(found, f"{reward}.trees.", len(features.attributes))
    if any(name.startswith("recommend.") for name in arrays):
        _check_recommendation(found)


class _Arrays:
    """The arrays of a model, checked when they are asked for."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays

    def get(self, name: str, kind: Any, *shape: int | None) -> NDArray[Any]:  # noqa: ANN401 - what numpy takes for one
        """Return an array of a type and a shape (None: any length). Raises ValueError."""
        array = self._arrays.get(name)
        if array is None:
            _refuse(f"it has no array {name}")
        fits = len(array.shape) == len(shape) and all(
            wanted in {None, size} for wanted, size in zip(shape, array.shape, strict=True)
        )
        if array.dtype != np.dtype(kind) or not fits:
            wanted = " x ".join("any" if size is None else f"{size:,}" for size in shape)
            _refuse(f"{name} is {array.dtype} of {array.shape}, not {np.dtype(kind)} of {wanted}")
        return array


def _refuse(reason: str) -> NoReturn:
    """Raise the error of a model that cannot be used."""
    message = f"the model cannot be used, as {reason}: learn it again"
    raise ValueError(message)


def _check_weights(arrays: _Arrays, reward: str, features: Features) -> None:
    """Check the online model of a reward."""
    weight, seen = arrays.get(f"{reward}.weight", WEIGHT, 1 << features.bits), arrays.get(f"{reward}.seen", "f8", _SEEN)
    least, lowest, highest = weight["evidence"].min(), weight["mean"].min(), weight["mean"].max()
    if not (least >= 0 and math.isfinite(lowest) and math.isfinite(highest)):
        _refuse(f"{reward}.weight is not finite, or has evidence below 0")
    if not (seen[:2].min() >= 0 and np.isfinite(seen).all()):
        _refuse(f"{reward}.seen is not finite, or below 0")


def _check_trees(arrays: _Arrays, prefix: str, attributes: int) -> None:
    """Check the trees of a reward."""
    test, leaf = arrays.get(f"{prefix}test", TEST, None), arrays.get(f"{prefix}leaf", "f8", None)
    if not np.isfinite(leaf).all():
        _refuse(f"{prefix}leaf is not finite")
    key = arrays.get(f"{prefix}level_key", "u8", None)
    arrays.get(f"{prefix}level_count", "f8", len(key))
    for name, end in (("test_first", len(test)), ("level_first", len(key))):
        first = arrays.get(f"{prefix}{name}", "i4", attributes + 1).astype(np.int64)
        if first[0] != 0 or first[-1] != end or (np.diff(first) < 0).any():
            _refuse(f"{prefix}{name} does not rise from 0 to {end:,}")
    leaf_first = arrays.get(f"{prefix}leaf_first", "i4", None).astype(np.int64)
    leaves = np.diff(leaf_first, append=len(leaf))
    if (len(leaf_first) and leaf_first[0] != 0) or (leaves < 1).any() or (leaves > MOST_LEAVES).any():
        _refuse(f"its trees have not 1 to {MOST_LEAVES} leaves each")
    if len(test) and not 0 <= test["tree"].min() <= test["tree"].max() < len(leaf_first):
        _refuse(f"{prefix}test is of trees that it has not got")
    # Whatever else is ruled out, the leaf that is left when all is must be one of the tree's.
    left = np.full(len(leaf_first), ~np.uint64(0))
    np.bitwise_and.at(left, test["tree"], test["kept"])
    if any(not 0 < (kept & -kept) < 1 << size for kept, size in zip(left.tolist(), leaves.tolist(), strict=True)):
        _refuse(f"{prefix}test rules out all leaves of a tree")


def _check_recommendation(arrays: _Arrays) -> None:
    """Check the recommendation part."""
    known, together, habit = "recommend.popularity.", "recommend.cooccurrence.", "recommend.habit."
    items = _table(arrays, f"{known}item_keys")
    arrays.get(f"{known}item_weights", "f8", items)
    arrays.get(f"{known}item_hours", "f4", items, HOURS)
    places = _table(arrays, f"{known}place_keys")
    arrays.get(f"{known}place_weights", "f8", places + 1)
    arrays.get(f"{known}place_hours", "f4", places + 1, HOURS)
    arrays.get(f"{known}pair_weights", "f8", _table(arrays, f"{known}pair_keys"))
    arrays.get(f"{known}trait_weights", "f8", len(TRAITS), _KEYS)
    arrays.get(f"{known}epoch", "i8", _EPOCHS)
    sources = _table(arrays, f"{together}source_keys")
    arrays.get(f"{together}source_weights", "f8", sources)
    partners = arrays.get(f"{together}partner_keys", "i8", sources, None).shape[1]
    arrays.get(f"{together}partner_weights", "f4", sources, partners)
    arrays.get(f"{together}epoch", "i8", 1)
    arrays.get(f"{habit}weights", "f8", QUESTIONS)
    arrays.get(f"{habit}by_bin", "f8", BINS)
    arrays.get(f"{habit}by_day", "f8", DAYS)
    if not 0 < arrays.get(f"{habit}unknown", "f8", 1)[0] < math.inf:
        _refuse(f"{habit}unknown is not over 0")


def _table(arrays: _Arrays, name: str) -> int:
    """Return how many keys a table has room for."""
    size = len(arrays.get(name, "i8", None))
    if size < WAYS or size & (size - 1):
        _refuse(f"{name} has {size:,} places, not a power of two from {WAYS} on")
    return size
