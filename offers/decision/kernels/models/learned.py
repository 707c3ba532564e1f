"""A published model as the compiled loops read it, beside one snapshot."""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from offers.compiled import inner
from offers.decision.kernels.memory.records import Record, Table, address_of, array_of, arrays_of, f8, i8
from offers.decision.kernels.memory.scratch import MOST_ATTRIBUTES, MOST_OWN
from offers.decision.kernels.models.sound import check_arrays
from offers.learning.model import Model
from offers.learning.propensity.features import DISTANCE, GROUP, INTERACTION, OFFER_PREFIX, PERSON, Features
from offers.learning.propensity.regression import WEIGHT
from offers.learning.propensity.trees import TEST
from offers.learning.recommend import scores as recommend
from offers.learning.recommend.cooccurrence import Cooccurrence
from offers.learning.recommend.habit import Parameters
from offers.learning.recommend.popularity import HOURS, Popularity
from offers.learning.values import REWARDS
from offers.model.hashing import attribute_key, text_hash
from offers.model.visits import TRAITS

# Sources of a model's attributes of requests.
(NOWHERE_KNOWN, OF_PERSON, HOUR, WEEKDAY, DAYPART, CHANNEL, PLACEMENT, ENTRY_CHANNEL, PLACE, OF_CONTEXT,
 OF_PROFILE) = range(11)  # fmt: skip
_SOURCES = {
    PERSON: OF_PERSON, "hour": HOUR, "weekday": WEEKDAY, "daypart": DAYPART, "channel": CHANNEL,
    "placement": PLACEMENT, "entry_channel": ENTRY_CHANNEL, "place": PLACE,
}  # fmt: skip
_CONTEXT, _PROFILE = "context.", "profile."
PLACE_KEY = attribute_key("place")

ATTRIBUTE = np.dtype([("key", "u8"), ("name", "i8"), ("source", "i8")])
"""An attribute of requests: its key; the hash of its name, if it is one of contexts or profiles; and its source."""


class ModelArray(IntEnum):
    """Indices of the arrays of a model."""

    fact = 0
    """i8: see ModelFact."""
    attribute = 1
    """ATTRIBUTE: of requests."""
    column = 2
    """i8: per attribute of offers, its index in the snapshot's offer_key, or NO_COLUMN or DISTANCE_COLUMN."""
    interaction = 3
    group = 4
    part = 5
    # By reward: weights and counts of the online model, and the arrays of the trees.
    click_weight = 6
    click_seen = 7
    redemption_weight = 8
    redemption_seen = 9
    order_value_weight = 10
    order_value_seen = 11
    click_test_first = 12
    click_test = 13
    click_leaf_first = 14
    click_leaf = 15
    click_level_first = 16
    click_level_key = 17
    click_level_count = 18
    redemption_test_first = 19
    redemption_test = 20
    redemption_leaf_first = 21
    redemption_leaf = 22
    redemption_level_first = 23
    redemption_level_key = 24
    redemption_level_count = 25
    order_value_test_first = 26
    order_value_test = 27
    order_value_leaf_first = 28
    order_value_leaf = 29
    order_value_level_first = 30
    order_value_level_key = 31
    order_value_level_count = 32
    # Recommendation: see learning.recommend.RecommendationModel.
    item_keys = 33
    item_weights = 34
    item_hours = 35
    place_keys = 36
    place_weights = 37
    place_hours = 38
    pair_keys = 39
    pair_weights = 40
    trait_weights = 41
    epoch = 42
    source_keys = 43
    source_weights = 44
    partner_keys = 45
    partner_weights = 46
    together_epoch = 47
    habit_weights = 48
    unknown = 49
    by_bin = 50
    by_day = 51


class ModelFact(IntEnum):
    """Indices of the whole numbers in ModelArray.fact."""

    version = 0
    """The model's version, as a signed number."""
    partners = 1
    """Partners of each item, in recommendation."""
    related = 2
    """Capacity.related that recommendation needs; 0: the model has no recommendation."""
    id_interaction = 3
    """Index of the interaction that is the offer's id alone; -1: there is none."""
    click = 4
    """1 if there is an online model of the reward; the same for the two that follow."""
    redemption = 5
    order_value = 6
    click_trees = 7
    """1 if there are trees of the reward; the same for the two that follow."""
    redemption_trees = 8
    order_value_trees = 9
    width = 10
    """Attributes of offers that the snapshot has."""


NO_COLUMN, DISTANCE_COLUMN = -1, -2
"""In place of a column: the snapshot does not have it; the distance, which is computed per candidate."""
DISTANCE_KEY = attribute_key(DISTANCE)
_TREE_TYPES: Mapping[str, Any] = {
    "test_first": "i4", "test": TEST, "leaf_first": "i4", "leaf": "f8", "level_first": "i4", "level_key": "u8",
    "level_count": "f8",
}  # fmt: skip
_RECOMMEND = {
    **{name: f"popularity.{name}" for name in Popularity._fields},
    **{name: f"cooccurrence.{name}" for name in Cooccurrence._fields if name != "epoch"},
    "together_epoch": "cooccurrence.epoch",
    "habit_weights": "habit.weights", "unknown": "habit.unknown", "by_bin": "habit.by_bin", "by_day": "habit.by_day",
}  # fmt: skip
"""From members of ModelArray to names of recommend.RecommendationModel.arrays."""


def learned_record(model: Model, offer_attributes: Iterable[str], sensitive: Iterable[str]) -> Record:
    """Return the record of a model for a snapshot, which has some attributes of offers; sensitive ones are left out.

    Raises ValueError for a model that cannot be read, does not fit together, or has more attributes than there may be.
    """
    try:
        features = Features.of_json(model.meta["features"])
        plan = features.plan
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"the model's features cannot be read ({error}): learn it again"
        raise ValueError(message) from None
    check_arrays(model.arrays, features)
    hidden = {_PROFILE + name for name in sensitive}
    size = features.request_size
    known = [name.removeprefix(OFFER_PREFIX) for name in features.attributes[size:]]
    if size > MOST_ATTRIBUTES or len(known) > MOST_OWN:
        message = f"the model knows requests by {size} and offers by {len(known)} attributes: learn it again"
        raise ValueError(message)
    attribute = np.zeros(size, ATTRIBUTE)
    for number, name in enumerate(features.attributes[:size]):
        attribute[number] = attribute_key(name), *_source(name, name in hidden)
    own = list(offer_attributes)
    columns = {name: index for index, name in enumerate(own)} | {DISTANCE: DISTANCE_COLUMN}
    column = [columns.get(name, NO_COLUMN) for name in features.attributes[size:]]
    arrays = _arrays(model)
    fact = _facts(model, features, arrays)
    fact[ModelFact.width] = len(own)
    flat = {name: array.reshape(-1) for name, array in arrays.items()}
    return Record(
        ModelArray,
        {
            "fact": fact, "attribute": attribute, "column": np.array(column, np.int64),
            "interaction": plan.interaction, "group": plan.group, "part": plan.part, **flat,
        },
    )  # fmt: skip


def _facts(model: Model, features: Features, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the numbers of ModelFact, without the width."""
    alone = [index for index, (one, _) in enumerate(features.ordered) if one.attributes == (f"{OFFER_PREFIX}id",)]
    fact = np.zeros(len(ModelFact), np.int64)
    version = int(model.version, 16)
    fact[ModelFact.version] = version if version < 2**63 else version - 2**64
    fact[ModelFact.id_interaction] = alone[0] if alone else -1
    for index, reward in enumerate(REWARDS):
        fact[ModelFact.click + index] = len(arrays[f"{reward}_weight"]) > 0
        fact[ModelFact.click_trees + index] = len(arrays[f"{reward}_test_first"]) > 0
    partners = arrays["partner_keys"]
    if len(partners):
        fact[ModelFact.partners] = partners.shape[1]
        fact[ModelFact.related] = len(recommend.ScoreScratch.empty(partners=partners.shape[1]).keys)
    return fact


def _source(name: str, is_hidden: bool) -> tuple[int, int]:
    """Return the hash of an attribute's own name, and its source."""
    if is_hidden:
        return 0, NOWHERE_KNOWN
    for prefix, source in ((_CONTEXT, OF_CONTEXT), (_PROFILE, OF_PROFILE)):
        if name.startswith(prefix):
            return text_hash(name.removeprefix(prefix)), source
    return 0, _SOURCES.get(name, NOWHERE_KNOWN)


def _arrays(model: Model) -> Mapping[str, NDArray[Any]]:
    """Return the model's arrays by members of ModelArray; empty where the model does not have them."""
    found: dict[str, NDArray[Any]] = {}
    for reward in REWARDS:
        found[f"{reward}_weight"] = model.arrays.get(f"{reward}.weight", np.zeros(0, WEIGHT))
        found[f"{reward}_seen"] = model.arrays.get(f"{reward}.seen", np.zeros(0))
        for part, kind in _TREE_TYPES.items():
            empty: NDArray[Any] = np.zeros(0, np.dtype(kind))
            found[f"{reward}_{part}"] = model.arrays.get(f"{reward}.trees.{part}", empty)
    for name, said in _RECOMMEND.items():
        found[name] = model.arrays.get(f"recommend.{said}", np.zeros((0, 0)))
    return found


interactions_of = array_of(ModelArray.interaction, INTERACTION)
groups_of = array_of(ModelArray.group, GROUP)
attributes_of = array_of(ModelArray.attribute, ATTRIBUTE)
weights_of = arrays_of(WEIGHT)
tests_of = arrays_of(TEST)


@inner
def recommendation_of(learned: Table) -> recommend.RecommendationModel:
    """Return the recommendation part of a model."""
    partners = i8(learned, ModelArray.fact)[ModelFact.partners]
    items, places = len(i8(learned, ModelArray.item_keys)), len(f8(learned, ModelArray.place_weights))
    sources = len(i8(learned, ModelArray.source_keys))
    return recommend.RecommendationModel(
        Popularity(
            i8(learned, ModelArray.item_keys),
            f8(learned, ModelArray.item_weights),
            carray(address_of(learned, ModelArray.item_hours), (items, HOURS), np.float32),
            i8(learned, ModelArray.place_keys),
            f8(learned, ModelArray.place_weights),
            carray(address_of(learned, ModelArray.place_hours), (places, HOURS), np.float32),
            i8(learned, ModelArray.pair_keys),
            f8(learned, ModelArray.pair_weights),
            carray(address_of(learned, ModelArray.trait_weights), (len(TRAITS), 1 << 16), np.float64),
            i8(learned, ModelArray.epoch),
        ),
        Cooccurrence(
            i8(learned, ModelArray.source_keys),
            f8(learned, ModelArray.source_weights),
            carray(address_of(learned, ModelArray.partner_keys), (sources, partners), np.int64),
            carray(address_of(learned, ModelArray.partner_weights), (sources, partners), np.float32),
            i8(learned, ModelArray.together_epoch),
        ),
        Parameters(
            f8(learned, ModelArray.habit_weights),
            f8(learned, ModelArray.unknown),
            f8(learned, ModelArray.by_bin),
            f8(learned, ModelArray.by_day),
        ),
    )
