"""Features of propensity models: values of attributes as 64-bit keys, interactions of keys as indexes of weights.

The learner and the decision share this one definition. Values become keys once per request (in a decision, straight
from its bytes) and once per offer. Compiled loops find the weight of an interaction; `Features.weight_indexes` is their
specification.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.model.hashing import MISSING, digest64, key_of, mixed, mixed_in_python

PERSON = "person"
"""The attribute that identifies a person: an id, as text."""
OFFER_PREFIX = "offer."
"""Prefix of the offer's attributes; all others are of the request."""
CATEGORY = "offer.category"
DISTANCE = "offer.distance"
"""Whole metres, at least 1, from the middle of the person's geohash cell to the place for which the offer is shown. The
log keeps no more of the person's location, so the decision and the learner know the same."""

SHARED_VARIANCE = 1.0
"""Prior variance of a logit by what people have in common, spread evenly over these interactions."""
PERSON_VARIANCE = 0.5
"""Prior variance of a logit by each interaction with the person: how strongly persons are pooled."""

DEFAULT_BITS = 20
LEAST_BITS, MOST_BITS = 8, 28

NO_WEIGHT = -1
"""The index of an interaction that has no weight."""

INTERACTION = np.dtype(
    [
        ("salt", "u8"),
        ("mask", "u8"),
        ("base", "i8"),  # index of its first weight; it has mask + 1 of them
        ("scale", "f8"),  # prior standard deviation of its part of the logit
        ("variance", "f8"),  # its square
        ("part_first", "i4"),  # its attributes, in Plan.part
        ("part_last", "i4"),  # exclusive
    ],
    align=True,
)
GROUP = np.dtype([("first", "i4"), ("last", "i4"), ("part_first", "i4"), ("part_last", "i4")])
"""Interactions with the same attributes of the offer, which are in Plan.part; those of the first group have none."""


DECISION = "S32"
"""Type of the ids of decisions in Examples."""


class Examples(NamedTuple):
    """Examples in columns: a row for each offer that was shown and whose outcome is settled, oldest first."""

    keys: NDArray[np.uint64]
    """By row and attribute, as `Features.keys` returns them."""
    numbers: NDArray[np.float64]
    """By row and attribute, as `Features.numbers` returns them."""
    reward: NDArray[np.float64]
    """From 0 (refused) to 1 (taken up)."""
    importance: NDArray[np.float64]
    """The number of examples it counts as, over 0."""
    time: NDArray[np.int64]
    """Second since 1970."""
    decision: NDArray[np.bytes_] = np.empty(0, DECISION)
    """The id of the decision that showed the offer, of at most 32 bytes; no rows where it is not needed."""


class Plan(NamedTuple):
    """Features for compiled loops; attributes are numbered as in `Features.attributes`."""

    interaction: NDArray[Any]
    """Records of INTERACTION, group by group."""
    group: NDArray[Any]
    """Records of GROUP."""
    part: NDArray[np.int32]
    """Numbers of attributes, listed by both."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """One or more attributes; every combination of their values has a weight of its own."""

    attributes: tuple[str, ...]
    variance: float
    """Prior variance of its part of the logit, over 0."""


@dataclass(frozen=True)
class Features:
    """The interactions of a model, and the binary logarithm of the number of weights they share, from 8 to 28.

    Interactions with the person have one half of the weights and all others the other half, so that hash collisions
    with persons do not spoil what people have in common.
    """

    interactions: tuple[Interaction, ...]
    bits: int = DEFAULT_BITS

    def __post_init__(self) -> None:
        if not LEAST_BITS <= self.bits <= MOST_BITS:
            message = f"bits must be from {LEAST_BITS} to {MOST_BITS}, not {self.bits}"
            raise ValueError(message)

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Names of all attributes, those of the request before those of the offer: the columns of keys."""
        named = dict.fromkeys(name for interaction in self.interactions for name in interaction.attributes)
        return tuple(sorted(named, key=lambda name: name.startswith(OFFER_PREFIX)))

    @cached_property
    def request_size(self) -> int:
        """The number of attributes of the request."""
        return sum(not name.startswith(OFFER_PREFIX) for name in self.attributes)

    def keys(self, values: Mapping[str, object]) -> NDArray[np.uint64]:
        """Return the key of each attribute, for values by name: text, numbers, booleans; MISSING for anything else."""
        return np.array([key_of(name, values.get(name)) for name in self.attributes], np.uint64)

    def numbers(self, values: Mapping[str, object]) -> NDArray[np.float64]:
        """Return each attribute's value where it is a finite number, for trees; NaN where it is text or missing."""
        found = [values.get(name) for name in self.attributes]
        finite = (isinstance(value, (bool, int, float)) and math.isfinite(value) for value in found)
        return np.array(
            [value if is_one else math.nan for value, is_one in zip(found, finite, strict=True)], np.float64
        )

    def weight_indexes(self, keys: Sequence[int]) -> list[int]:
        """Return the index of each interaction's weight, in the order of `plan`; NO_WEIGHT where a value is missing."""
        found = []
        for interaction, numbers in self.ordered:
            parts = [keys[number] for number in numbers]
            index = _salt(interaction.attributes)
            for key in parts:
                index = mixed_in_python(index ^ key)
            half = 1 << (self.bits - 1)
            index = index % half + (half if PERSON in interaction.attributes else 0)
            found.append(NO_WEIGHT if MISSING in parts else index)
        return found

    @cached_property
    def ordered(self) -> list[tuple[Interaction, tuple[int, ...]]]:
        """The interactions with the numbers of their attributes, sorted by their attributes of the offer."""
        number = {name: index for index, name in enumerate(self.attributes)}
        numbered = [(one, tuple(number[name] for name in one.attributes)) for one in self.interactions]
        return sorted(numbered, key=lambda one: self._of_offer(one[1]))

    def _of_offer(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(number for number in numbers if number >= self.request_size))

    @cached_property
    def plan(self) -> Plan:
        """The features for compiled loops."""
        half = 1 << (self.bits - 1)
        groups: dict[tuple[int, ...], list[tuple[Any, ...]]] = {(): []}
        part: list[int] = []
        for interaction, numbers in self.ordered:
            base = half if PERSON in interaction.attributes else 0
            first = len(part)
            part.extend(numbers)
            scale = math.sqrt(interaction.variance)
            record = (_salt(interaction.attributes), half - 1, base, scale, interaction.variance, first, len(part))
            groups.setdefault(self._of_offer(numbers), []).append(record)
        group: list[tuple[int, int, int, int]] = []
        records: list[tuple[Any, ...]] = []
        for numbers, members in groups.items():
            group.append((len(records), len(records) + len(members), len(part), len(part) + len(numbers)))
            records.extend(members)
            part.extend(numbers)
        return Plan(np.array(records, INTERACTION), np.array(group, GROUP), np.array(part, np.int32))

    def as_json(self) -> dict[str, Any]:
        """Return what `of_json` reads."""
        interactions = [[list(one.attributes), one.variance] for one in self.interactions]
        return {"bits": self.bits, "interactions": interactions}

    @classmethod
    def of_json(cls, written: Mapping[str, Any]) -> Self:
        """Return the features that `as_json` wrote."""
        interactions = (Interaction(tuple(names), variance) for names, variance in written["interactions"])
        return cls(tuple(interactions), written["bits"])


def default_features(
    names: Sequence[str], bits: int = DEFAULT_BITS, declared: Iterable[tuple[str, ...]] = ()
) -> Features:
    """Return the interactions of attributes about which only the names are known.

    These are each attribute by itself, each with the category of the offer if that is among the names, and the sets
    that are `declared`, as far as all their names are given. Interactions with PERSON are pooled: their variances do
    not shrink with the number of other attributes.
    """
    crossed = [(name, CATEGORY) for name in names if name != CATEGORY and CATEGORY in names]
    usual = [(name,) for name in names] + crossed
    sets = list(dict.fromkeys([*usual, *(one for one in declared if set(one) <= {*names})]))
    common = sum(PERSON not in attributes for attributes in sets)
    variances = [PERSON_VARIANCE if PERSON in attributes else SHARED_VARIANCE / common for attributes in sets]
    return Features(tuple(map(Interaction, sets, variances)), bits)


@lru_cache(1024)
def _salt(attributes: tuple[str, ...]) -> int:
    return digest64("\0".join(attributes))


@njit(error_model="numpy")
def weight_index_of(
    interaction: np.void, part: NDArray[np.int32], request: NDArray[np.uint64], offer: NDArray[np.uint64]
) -> int:
    """Return the index of an interaction's weight, or NO_WEIGHT, for the keys of a request and of an offer."""
    index = interaction.salt
    for number in part[interaction.part_first : interaction.part_last]:
        key = request[number] if number < len(request) else offer[number - len(request)]
        if key == np.uint64(MISSING):
            return NO_WEIGHT
        index = mixed(index ^ key)
    return np.int64(interaction.base) + np.int64(index & interaction.mask)
