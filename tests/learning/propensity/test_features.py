"""Values have keys and interactions have places: the same in compiled loops, in plain Python and on every machine."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.learning.propensity.features import (
    CATEGORY,
    NO_WEIGHT,
    PERSON,
    PERSON_VARIANCE,
    SHARED_VARIANCE,
    Features,
    Interaction,
    default_features,
    weight_index_of,
)
from offers.model.hashing import MISSING, attribute_key, bucket, key_of, number_key, text_key

NAMES = ("context.weather", "context.distance", "profile.age", "offer.brand", CATEGORY, PERSON)
VALUES = st.one_of(st.none(), st.text(max_size=3), st.booleans(), st.floats(), st.integers(-40, 40), st.just([1]))
SETS = st.lists(
    st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=4).map(tuple),
    min_size=1,
    max_size=8,
    unique=True,
)


def features_of(sets: list[tuple[str, ...]], bits: int = 20) -> Features:
    """Features with these interactions."""
    return Features(tuple(Interaction(attributes, 1.0) for attributes in sets), bits)


def compiled_indexes(features: Features, keys: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> list[int]:
    """Return the indexes of weights by the compiled loop."""
    size, plan = features.request_size, features.plan
    return [weight_index_of(one, plan.part, keys[:size], keys[size:]) for one in plan.interaction]


@given(SETS, st.dictionaries(st.sampled_from(NAMES), VALUES), st.integers(8, 28))
def test_compiled_indexes_are_those_of_the_reference(
    sets: list[tuple[str, ...]], values: dict[str, object], bits: int
) -> None:
    """For any interactions and values, the compiled loop finds the same weights as its specification."""
    features = features_of(sets, bits)
    keys = features.keys(values)
    assert features.weight_indexes([int(key) for key in keys]) == compiled_indexes(features, keys)


@given(st.floats())
def test_compiled_number_keys_are_those_of_values(value: float) -> None:
    """A number that a compiled loop works out has the key of the same number in a request."""
    assert key_of("context.distance", value) == number_key(np.uint64(attribute_key("context.distance")), value)


@given(st.text(), st.binary(max_size=3))
def test_compiled_text_keys_are_those_of_values(value: str, before: bytes) -> None:
    """The compiled loop gives a text that stands among other bytes the key that Python gives it."""
    data = before + value.encode() + b"after"
    end = len(before) + len(value.encode())
    assert key_of("city", value) == text_key(np.uint64(attribute_key("city")), data, len(before), end)


def test_models_on_disk_stay_readable() -> None:
    """Keys and places are these for ever: others would scramble every model that was published."""
    features = features_of([("profile.city", CATEGORY), (PERSON,), (CATEGORY, "context.hour")])
    values: dict[str, object] = {"profile.city": "Paris", CATEGORY: "sushi", PERSON: "u-1", "context.hour": 12}
    assert 15692176671041218682 == key_of("profile.city", "Paris")
    assert 8634167375610412073 == key_of("context.distance", 120)
    assert [1033140, 114340, 148569] == features.weight_indexes([int(key) for key in features.keys(values)])


def test_small_whole_numbers_have_buckets_of_their_own() -> None:
    """From -31 to 31 every whole number has its bucket; beyond and between there are two for each doubling."""
    assert list(range(-31, 32)) == [bucket(float(number)) for number in range(-31, 32)]
    sizes = [32 * 2 ** (step / 8 + 1 / 16) for step in range(32)]
    assert [4] * 8 == list(Counter(map(bucket, sizes)).values())
    assert bucket(0.3) + 1 == bucket(0.4)
    assert -bucket(100.0) == bucket(-100.0)


@pytest.mark.parametrize("value", [None, "", math.nan, math.inf, [1.0], {"a": 1.0}])
def test_what_is_neither_text_nor_number_is_missing(value: object) -> None:
    """A value that cannot be used is as one that is not there, and no interaction with it has a weight."""
    features = features_of([("profile.city",), (CATEGORY,), ("profile.city", CATEGORY)])
    keys = features.keys({"profile.city": value, CATEGORY: "sushi"})
    assert MISSING == keys[0]
    city, category, both = features.weight_indexes([int(key) for key in keys])
    assert (NO_WEIGHT, NO_WEIGHT) == (city, both)
    assert NO_WEIGHT != category


def test_persons_keep_to_their_half() -> None:
    """Interactions with the person never share a weight with others, however many persons there are."""
    features = features_of([(PERSON,), (CATEGORY,)], bits=8)
    places = {
        tuple(
            features.weight_indexes(
                [int(key) for key in features.keys({PERSON: f"u-{number}", CATEGORY: f"c-{number}"})]
            )
        )
        for number in range(500)
    }
    persons, common = (set(half) for half in zip(*places, strict=True))
    assert (128, 255) == (min(persons), max(persons))
    assert (0, 127) == (min(common), max(common))


def test_defaults_cross_everything_with_the_category() -> None:
    """Every attribute stands alone and with the category; what is shared has one variance in all, persons their own."""
    features = default_features(["context.weather", "profile.age", CATEGORY, PERSON])
    variances = {one.attributes: one.variance for one in features.interactions}
    shared = SHARED_VARIANCE / 5
    assert {
        ("context.weather",): shared,
        ("profile.age",): shared,
        (CATEGORY,): shared,
        (PERSON,): PERSON_VARIANCE,
        ("context.weather", CATEGORY): shared,
        ("profile.age", CATEGORY): shared,
        (PERSON, CATEGORY): PERSON_VARIANCE,
    } == variances


def test_defaults_without_a_category_cross_nothing() -> None:
    """Without a category of offers, attributes do not interact."""
    sets = [one.attributes for one in default_features(["context.weather", "offer.brand"]).interactions]
    assert [("context.weather",), ("offer.brand",)] == sets


def test_features_survive_json() -> None:
    """Features survive their JSON form."""
    features = default_features(["context.weather", CATEGORY, PERSON], bits=12)
    assert features == Features.of_json(features.as_json())


@pytest.mark.parametrize("bits", [7, 29])
def test_size_is_bounded(bits: int) -> None:
    """Fewer weights than 256, or more than some hundred million, are refused."""
    with pytest.raises(ValueError, match="bits must be from 8 to 28"):
        features_of([(PERSON,)], bits)


def test_numbers_are_told_beside_keys() -> None:
    """Trees read the numbers themselves; what is text or missing is none."""
    features = features_of([("profile.age",), ("profile.city",), ("profile.student",), ("profile.height",)])
    numbers = features.numbers({"profile.age": 36, "profile.city": "Paris", "profile.student": True})
    np.testing.assert_array_equal([36, math.nan, 1, math.nan], numbers)


def test_declared_interactions_are_learned_as_far_as_their_attributes_are_known() -> None:
    """Beside the usual ones, once; the variance that people share is spread evenly over all."""
    declared = [("hour", "offer.id"), ("hour", CATEGORY), ("hour", "context.unheard"), ("person", "offer.id")]
    features = default_features(["hour", CATEGORY, "offer.id", PERSON], declared=declared)
    usual = default_features(["hour", CATEGORY, "offer.id", PERSON])
    sets = [one.attributes for one in features.interactions]
    assert [one.attributes for one in usual.interactions] + [("hour", "offer.id"), ("person", "offer.id")] == sets
    variances = {one.attributes: one.variance for one in features.interactions}
    assert PERSON_VARIANCE == variances["person", "offer.id"]
    common = [variance for one, variance in variances.items() if PERSON not in one]
    assert [SHARED_VARIANCE / len(common)] * len(common) == common
