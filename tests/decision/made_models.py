"""Random models, for tests of decisions that ask them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.learning.model import Model
from offers.learning.propensity.features import CATEGORY, DISTANCE, PERSON, Features, Interaction, default_features
from offers.learning.propensity.regression import Propensity
from offers.learning.propensity.trees import LEFT, RIGHT, TEST, ZERO, Trees, TreeTables
from offers.learning.recommend import scores as recommend
from offers.learning.recommend.habit import tabulate
from offers.learning.recommend.reference import ReferenceScores
from offers.learning.recommend.slots import WAYS, paired
from offers.learning.values import REWARDS, features_for
from offers.model.hashing import key_of, mixed_in_python
from offers.model.visits import VISIT

COUNTED = (
    "context.weather", "context.heat", "context.raining", "profile.age", "profile.plan", "profile.s1",
    "profile.secret", "never.met",
)  # fmt: skip
OWN = ("campaign", "cuisine", "price_band", "level", "halal", "nowhere")
TEXTS = {
    "context.weather": ["sun", "rain", "schön 🌧"], "profile.plan": ["gold", "free"], "offer.cuisine": ["thai", "thé"],
    CATEGORY: ["one", "two"], "channel": ["app", "web"], "placement": ["home", "map"],
}  # fmt: skip
"""Texts that trees have met in training."""


def model_of(arrays: Mapping[str, NDArray[Any]], features: Features, version: int = 1) -> Model:
    """Return a model of arrays in memory, as if it were opened."""
    meta = {"features": features.as_json(), "rewards": list(REWARDS)}
    return Model(Path("made-up"), f"{version:016x}", arrays, meta, 0)


def some_features(random: Random, bits: int = 11) -> Features:
    """Return the usual interactions, or fewer, or others that need several attributes at once."""
    usual = features_for(COUNTED, OWN, bits)
    match random.randrange(3):
        case 0:
            return usual
        case 1:
            names = [name for name in usual.attributes if random.random() < 0.5]
            return default_features(names or [CATEGORY], bits)
    crossed = [
        (PERSON, "offer.id"), ("hour", "context.weather", CATEGORY), ("offer.id", "offer.cuisine"), ("offer.id",),
        ("place", "profile.plan"), (PERSON,), ("offer.level", "offer.halal", "context.heat"),
        (DISTANCE, "hour"), (DISTANCE,),
    ]  # fmt: skip
    return Features(
        tuple(Interaction(one, random.choice([0.1, 2.0])) for one in crossed if random.random() < 0.9), bits
    )


def online(features: Features, seed: int, spread: float = 2.0, shown: float = 200.0) -> dict[str, NDArray[Any]]:
    """Return weights and counts of a model that has seen many examples, or none."""
    random = np.random.default_rng(seed)
    model = Propensity.untaught(features)
    if random.random() < 0.9:
        model.weight["mean"] = random.normal(0, spread, len(model.weight))
        model.weight["evidence"] = random.gamma(0.5, shown, len(model.weight))
        model.seen[:] = *random.gamma(1, 50, 2), 20_000
    return model.arrays()


def trees(features: Features, seed: int, count: int) -> dict[str, NDArray[Any]]:
    """Return trees of 1 to 64 leaves over any attributes."""
    random = Random(seed)
    tests: list[list[tuple[float, int, int, int]]] = [[] for _ in features.attributes]
    leaves: list[float] = []
    first = []
    for tree in range(count):
        first.append(len(leaves))
        _grow(random, tests, leaves, tree, 0, random.choice([1, 2, 7, 64]))
    levels = [sorted(key_of(name, text) for text in TEXTS.get(name, [])) for name in features.attributes]
    counts = [float(random.choice([1, 3, 40])) for keys in levels for _ in keys]
    tables = TreeTables(
        _firsts(tests),
        np.array([test for column in tests for test in sorted(column)], TEST),
        np.array(first, np.int32),
        np.array(leaves, np.float64),
        _firsts(levels),
        np.array([key for keys in levels for key in keys], np.uint64),
        np.array(counts, np.float64),
    )
    return Trees(features, tables).arrays()


def _grow(
    random: Random, tests: list[list[tuple[float, int, int, int]]], leaves: list[float], tree: int, begin: int,
    size: int,
) -> None:  # fmt: skip
    """Add a part of a tree with some leaves, the first of which is number `begin` of the tree."""
    if size == 1:
        leaves.append(random.gauss(0, 1))
        return
    on_left = random.randint(1, size - 1)
    kept = (2**64 - 1) ^ ((1 << begin + on_left) - (1 << begin))
    threshold = random.choice([-1.0, 0.0, 0.5, 1.0, 2.0, 12.0, 30.5, 700.0, 90_000.0])
    tests[random.randrange(len(tests))].append((threshold, kept, tree, random.choice([LEFT, RIGHT, ZERO])))
    _grow(random, tests, leaves, tree, begin, on_left)
    _grow(random, tests, leaves, tree, begin + on_left, size - on_left)


def _firsts(lists: Sequence[Sequence[object]]) -> NDArray[np.int32]:
    return np.cumsum([0, *map(len, lists)]).astype(np.int32)


def recommending(
    seed: int, items: Sequence[int], places: Sequence[int], epoch: int, partners: int = 4
) -> recommend.RecommendationModel:  # fmt: skip
    """Return a recommendation model for some items and places, as of a second; some of these are unknown to it."""
    random = np.random.default_rng(seed)
    model = recommend.RecommendationModel.empty(items=32, places=8, pairs=64, partners=partners)
    known, together = model.popularity, model.cooccurrence
    for item in items:
        if random.random() < 0.3 or not _claim(known.item_keys, item):
            continue
        at = int(np.flatnonzero(known.item_keys == item)[0])
        known.item_weights[at], known.item_hours[at] = random.gamma(1, 30), random.gamma(0.3, 2, 48)
        for place in places:
            if random.random() < 0.5 and _claim(known.pair_keys, int(paired(place, item))):
                known.pair_weights[known.pair_keys == int(paired(place, item))] = random.gamma(1, 10)
        if random.random() < 0.7 and _claim(together.source_keys, item):
            row = int(np.flatnonzero(together.source_keys == item)[0])
            others = random.choice(np.array(items), min(partners, len(items)), replace=False)
            together.partner_keys[row, : len(others)] = np.where(others == item, 0, others)
            together.partner_weights[row] = np.where(together.partner_keys[row] != 0, random.gamma(1, 5, partners), 0)
            together.source_weights[row] = float(together.partner_weights[row].sum()) + random.gamma(1, 5)
    for place in places:
        if random.random() < 0.7 and _claim(known.place_keys, place):
            at = int(np.flatnonzero(known.place_keys == place)[0])
            known.place_weights[at], known.place_hours[at] = random.gamma(1, 50), random.gamma(0.3, 2, 48)
    known.place_weights[-1], known.place_hours[-1] = random.gamma(2, 100), random.gamma(1, 4, 48)
    known.trait_weights[:, :] = random.gamma(0.5, 1, known.trait_weights.shape)
    known.trait_weights[:, 0] = 1_000.0
    known.epoch[:] = epoch, np.count_nonzero(known.item_keys)
    together.epoch[0] = epoch
    model.habit.weights[:], model.habit.unknown[0] = random.uniform(-1, 1, 7), random.choice([0.5, 5.0, 50.0])
    tabulate.py_func(model.habit)
    return model


def _claim(keys: NDArray[np.int64], key: int) -> bool:
    """Put a key where loops look for it. Returns False if its bucket is full."""
    first = (mixed_in_python(key & (2**64 - 1)) & (keys.size // WAYS - 1)) * WAYS
    free = np.flatnonzero(keys[first : first + WAYS] == 0)
    if key == 0 or key in keys[first : first + WAYS] or not len(free):
        return bool(key != 0 and key in keys[first : first + WAYS])
    keys[first + free[0]] = key
    return True


def history(random: Random, items: Sequence[int], second: int) -> bytes:
    """Return a history up to about an instant, partly after it."""
    ago = [0, 60, 3_600, 7_200, 86_400, 7 * 86_400, 400 * 86_400, -3_600]
    seconds = sorted(
        min(max(second - random.choice(ago), 0), 2**32 - 1) for _ in range(random.choice([0, 0, 1, 5, 40]))
    )
    rows = [
        (
            random.choice(items), one, random.choice([0, 7, 9]),
            *(random.choice([0, 5, 65_535]) for _ in range(4)), random.choice([1, 51, 255]), 0,
        )
        for one in seconds
    ]  # fmt: skip
    return np.array(rows, VISIT).tobytes()


def some_model(
    random: Random, items: Sequence[int], places: Sequence[int], epoch: int
) -> tuple[Model, ReferenceScores | None]:  # fmt: skip
    """Return a model as of a second, without some of its parts, and the specification of its recommendation."""
    features = some_features(random)
    arrays: dict[str, NDArray[Any]] = {}
    for reward in REWARDS:
        if random.random() < 0.8:
            arrays |= {f"{reward}.{name}": one for name, one in online(features, random.getrandbits(32)).items()}
        if random.random() < 0.5:
            grown = trees(features, random.getrandbits(32), random.choice([0, 1, 5]))
            arrays |= {f"{reward}.trees.{name}": one for name, one in grown.items()}
    if random.random() < 0.2:
        return model_of(arrays, features, random.getrandbits(64)), None
    made = recommending(random.getrandbits(32), items, places, epoch)
    arrays |= {f"recommend.{name}": one for name, one in made.arrays().items()}
    return model_of(arrays, features, random.getrandbits(64)), ReferenceScores(made)


def is_close(one: float, other: float, near: float) -> bool:
    """Return whether two logarithms are nearly equal."""
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=near)
