"""What a model is told of a moment, a person and an offer: values as 64-bit keys, interactions as places of weights.

The learner and the decision share this one definition. Values become keys once per request (in the decision, where they
stand in its bytes) and once per offer; which weights an interaction of keys has is worked out in compiled loops, and in
`Features.places`, their specification.
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
"""The attribute that tells a person from all others: some id, as text."""
OFFER_PREFIX = "offer."
"""Attributes so named are the offer's; all others are of the request."""
CATEGORY = "offer.category"
DISTANCE = "offer.distance"
"""Whole metres, 1 at least, from the middle of the geohash's cell in which the person is to the place for which the
offer is shown. The log keeps no more of where the person is, so that the decision and the learner know the same."""

SHARED_VARIANCE = 1.0
"""Prior variance of a logit by all that people have in common, spread evenly over these interactions."""
PERSON_VARIANCE = 0.5
"""Prior variance of what is a person's own, in a logit, for each such interaction: how strongly persons are pooled."""

DEFAULT_BITS = 20
LEAST_BITS, MOST_BITS = 8, 28

NOWHERE = -1
"""The place of an interaction that has no weight."""

INTERACTION = np.dtype(
    [
        ("salt", "u8"),
        ("mask", "u8"),
        ("base", "i8"),  # its weights are the mask + 1 from here on
        ("scale", "f8"),  # prior standard deviation of its part of the logit
        ("variance", "f8"),  # its square
        ("part_first", "i4"),  # its attributes, in Plan.part
        ("part_last", "i4"),  # exclusive
    ],
    align=True,
)
GROUP = np.dtype([("first", "i4"), ("last", "i4"), ("part_first", "i4"), ("part_last", "i4")])
"""Interactions that ask for the same attributes of an offer, which are in Plan.part; the first group asks for none."""


class Examples(NamedTuple):
    """What happened, in columns: a row for each offer that was shown and whose outcome is settled, oldest first."""

    keys: NDArray[np.uint64]
    """By row and attribute, as `Features.keys` gives them."""
    numbers: NDArray[np.float64]
    """The same of `Features.numbers`."""
    reward: NDArray[np.float64]
    """From 0 (did not) to 1 (did)."""
    importance: NDArray[np.float64]
    """As how many examples it counts, over 0."""
    time: NDArray[np.int64]
    """Second since 1970."""


class Plan(NamedTuple):
    """Features as compiled loops read them; attributes are numbered as in `Features.attributes`."""

    interaction: NDArray[Any]
    """INTERACTION, group by group."""
    group: NDArray[Any]
    """GROUP."""
    part: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Interaction:
    """One or more attributes, of which every combination of values has a weight of its own."""

    attributes: tuple[str, ...]
    variance: float
    """Prior variance of its part of the logit, over 0."""


@dataclass(frozen=True)
class Features:
    """The interactions of a model, and the binary logarithm of how many weights they share, from 8 to 28.

    What is a person's own has one half of the weights, all else the other: persons do not wash out what they share.
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
        """How many of the attributes are of the request."""
        return sum(not name.startswith(OFFER_PREFIX) for name in self.attributes)

    def keys(self, values: Mapping[str, object]) -> NDArray[np.uint64]:
        """The key of each attribute, for values by name: text, numbers, true or false; MISSING for anything else."""
        return np.array([key_of(name, values.get(name)) for name in self.attributes], np.uint64)

    def numbers(self, values: Mapping[str, object]) -> NDArray[np.float64]:
        """Each attribute's value where it is a finite number (trees read these), NaN where it is text or missing."""
        found = [values.get(name) for name in self.attributes]
        finite = (isinstance(value, (bool, int, float)) and math.isfinite(value) for value in found)
        return np.array(
            [value if is_one else math.nan for value, is_one in zip(found, finite, strict=True)], np.float64
        )

    def places(self, keys: Sequence[int]) -> list[int]:
        """The place of each interaction's weight, in the order of `plan`; NOWHERE where a value is missing."""
        found = []
        for interaction, numbers in self.ordered:
            parts = [keys[number] for number in numbers]
            place = _salt(interaction.attributes)
            for key in parts:
                place = mixed_in_python(place ^ key)
            half = 1 << (self.bits - 1)
            place = place % half + (half if PERSON in interaction.attributes else 0)
            found.append(NOWHERE if MISSING in parts else place)
        return found

    @cached_property
    def ordered(self) -> list[tuple[Interaction, tuple[int, ...]]]:
        """The interactions with the numbers of their attributes, by what they ask of an offer."""
        number = {name: place for place, name in enumerate(self.attributes)}
        numbered = [(one, tuple(number[name] for name in one.attributes)) for one in self.interactions]
        return sorted(numbered, key=lambda one: self._of_offer(one[1]))

    def _of_offer(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(number for number in numbers if number >= self.request_size))

    @cached_property
    def plan(self) -> Plan:
        """What compiled loops read."""
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
        """What `of_json` reads."""
        interactions = [[list(one.attributes), one.variance] for one in self.interactions]
        return {"bits": self.bits, "interactions": interactions}

    @classmethod
    def of_json(cls, written: Mapping[str, Any]) -> Self:
        """The features that `as_json` wrote."""
        interactions = (Interaction(tuple(names), variance) for names, variance in written["interactions"])
        return cls(tuple(interactions), written["bits"])


def default_features(
    names: Sequence[str], bits: int = DEFAULT_BITS, declared: Iterable[tuple[str, ...]] = ()
) -> Features:
    """The interactions of attributes about which nothing is known but their names.

    Each by itself and, where the category is among them, each with the category of the offer; and what is `declared`
    to go together, as far as it is among them. PERSON is pooled: it has
    variances of its own, which do not become smaller the more other attributes there are.
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
def place_of(
    interaction: np.void, part: NDArray[np.int32], request: NDArray[np.uint64], offer: NDArray[np.uint64]
) -> int:
    """The place of an interaction's weight, or NOWHERE, for the keys of a request and of an offer."""
    place = interaction.salt
    for number in part[interaction.part_first : interaction.part_last]:
        key = request[number] if number < len(request) else offer[number - len(request)]
        if key == np.uint64(MISSING):
            return NOWHERE
        place = mixed(place ^ key)
    return np.int64(interaction.base) + np.int64(place & interaction.mask)
