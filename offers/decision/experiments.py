"""Experiments: which variants a person has, drawn by hashes so that they stay, and kept once seen."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.schedules import NEVER
from offers.catalogue.snapshot import NO_NAME
from offers.model.keys import key_of, share_of


class _Experiment(NamedTuple):
    name: str
    start: int
    end: int
    placements: frozenset[str]
    layer_key: int
    low: float
    """It takes the persons of its layer from here on, by their share."""
    high: float
    key: int
    variants: tuple[str, ...]
    bounds: tuple[float, ...]
    """Where each variant's persons end."""
    strategies: tuple[int, ...]
    """The ranking strategy of each variant; NO_NAME: that of the placement."""


class Experiments:
    """The experiments of a catalogue, in its order."""

    def __init__(self, catalog_id: str, described: Sequence[Mapping[str, Any]]) -> None:
        """`described` is a snapshot's meta["experiments"]."""
        self._experiments: list[_Experiment] = []
        taken: dict[str, float] = {}
        for one in described:
            layer = one["layer"] or f"experiment\0{one['id']}"
            low = taken.get(layer, 0.0)
            taken[layer] = low + one["share"]
            weights = [variant["weight"] for variant in one["variants"]]
            self._experiments.append(
                _Experiment(
                    one["id"],
                    one["start"],
                    one["end"],
                    frozenset(one["placements"]),
                    key_of("layer", catalog_id, layer),
                    low,
                    taken[layer],
                    key_of("experiment", catalog_id, one["id"]),
                    tuple(variant["id"] for variant in one["variants"]),
                    tuple(bound / sum(weights) for bound in accumulate(weights)),
                    tuple(variant["strategy"] for variant in one["variants"]),
                )
            )

    def __len__(self) -> int:
        return len(self._experiments)

    def draw(
        self, person: int, assigned: Sequence[tuple[str, str]], placement: str, time: int, variants: NDArray[np.int32]
    ) -> None:
        """Write the number of the variant that a person (by hash; 0: nobody) has of each experiment, or NO_NAME.

        `assigned` are the variants the person was exposed to, the earliest first: of a layer's experiments that are on,
        the person stays in the first one.
        """
        known = dict(assigned)
        on = [one for one in self._experiments if one.start <= time < one.end]
        kept: dict[int, str] = {}
        for name, variant in known.items():
            for one in on:
                if one.name == name and variant in one.variants:
                    kept.setdefault(one.layer_key, name)
        for number, one in enumerate(self._experiments):
            is_asked = one in on and (not one.placements or placement in one.placements)
            if person == 0 or not is_asked:
                variants[number] = NO_NAME
            elif one.layer_key in kept:
                is_kept = kept[one.layer_key] == one.name
                variants[number] = one.variants.index(known[one.name]) if is_kept else NO_NAME
            else:
                variants[number] = self._draw(one, person)

    @staticmethod
    def _draw(one: _Experiment, person: int) -> int:
        if not one.low <= share_of(person, one.layer_key) < one.high:
            return NO_NAME
        share = share_of(person, one.key)
        return next((number for number, bound in enumerate(one.bounds) if share < bound), len(one.bounds) - 1)

    def next_change(self, time: int) -> int:
        """The second at which an experiment begins or ends next; NEVER: none does."""
        ends = (second for one in self._experiments for second in (one.start, one.end) if second > time)
        return min(ends, default=NEVER)

    def strategy(self, variants: NDArray[np.int32]) -> int:
        """The ranking strategy that variants give instead of the placement's, or NO_NAME."""
        for one, variant in zip(self._experiments, variants.tolist(), strict=False):
            if variant != NO_NAME and one.strategies[variant] != NO_NAME:
                return one.strategies[variant]
        return NO_NAME

    def exposures(self, variants: NDArray[np.int32], mentioned: NDArray[np.uint8]) -> list[tuple[str, str]]:
        """The experiments that have a part in a decision, and the person's variants.

        `mentioned` says whether the offers at hand name variants of each.
        """
        return [
            (one.name, one.variants[variant])
            for one, variant, named in zip(self._experiments, variants.tolist(), mentioned.tolist(), strict=False)
            if variant != NO_NAME and (named or max(one.strategies) != NO_NAME)
        ]
