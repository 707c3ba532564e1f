"""Experiments: the arrays by which kernels/person/meet.py draws variants, by hashes, and keeps those once seen."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.snapshot import NO_NAME
from offers.model.keys import key_of
from offers.v1.offer_service_pb2 import Exposure, GetOffersResponse

EXPERIMENT = np.dtype(
    [
        ("start", "i8"),  # second from which it is on
        ("end", "i8"),  # second until which it is on, exclusive
        ("key", "i8"),
        ("layer_key", "i8"),
        ("low", "f8"),  # takes the persons of its layer whose share is at least this
        ("high", "f8"),  # and under this
        ("layer", "i4"),
        ("first", "i4"),  # variants
        ("last", "i4"),
        ("id_first", "i4"),  # in text
        ("id_last", "i4"),
        ("ranks", "u1"),  # whether any variant has a ranking strategy
    ],
    align=True,
)
ARM = np.dtype(
    [
        ("bound", "f8"),  # takes the persons whose share is under this, and not under that of the variant before
        ("strategy", "i4"),  # NO_NAME: that of the placement
        ("id_first", "i4"),
        ("id_last", "i4"),
        ("told_first", "i4"),  # the exposure as encoded in a response, and in the record of a decision
        ("told_last", "i4"),
    ],
    align=True,
)
"""A variant."""


class Experiments:
    """The experiments of a catalogue, in the catalogue's order."""

    def __init__(self, catalog_id: str, described: Sequence[Mapping[str, Any]]) -> None:
        """Take a snapshot's meta["experiments"]."""
        text = bytearray()
        taken: dict[str, float] = {}
        layers: dict[str, int] = {}
        self._arms: list[tuple[str, str]] = []
        self._placements = [frozenset(one["placements"]) for one in described]
        self.experiments = np.zeros(len(described), EXPERIMENT)
        self.arms = np.zeros(sum(len(one["variants"]) for one in described), ARM)

        def written(told: bytes) -> tuple[int, int]:
            """Append to the text. Returns where it begins and ends."""
            first = len(text)
            text.extend(told)
            return first, len(text)

        for row, one in zip(self.experiments, described, strict=True):
            layer, variants = one["layer"] or f"experiment\0{one['id']}", one["variants"]
            low = taken.get(layer, 0.0)
            taken[layer] = low + one["share"]
            weights = [variant["weight"] for variant in variants]
            row["start"], row["end"], row["low"], row["high"] = one["start"], one["end"], low, taken[layer]
            row["key"] = key_of("experiment", catalog_id, one["id"])
            row["layer_key"], row["layer"] = key_of("layer", catalog_id, layer), layers.setdefault(layer, len(layers))
            row["first"], row["last"] = len(self._arms), len(self._arms) + len(variants)
            row["ranks"] = any(variant["strategy"] != NO_NAME for variant in variants)
            row["id_first"], row["id_last"] = written(one["id"].encode())
            for variant, bound in zip(variants, accumulate(weights), strict=True):
                arm = self.arms[len(self._arms)]
                exposure = Exposure(experiment_id=one["id"], variant_id=variant["id"])
                arm["bound"], arm["strategy"] = bound / sum(weights), variant["strategy"]
                arm["id_first"], arm["id_last"] = written(variant["id"].encode())
                arm["told_first"], arm["told_last"] = written(
                    GetOffersResponse(exposures=[exposure]).SerializeToString()
                )
                self._arms.append((one["id"], variant["id"]))
        self.text = np.frombuffer(bytes(text), np.uint8)

    def __len__(self) -> int:
        return len(self.experiments)

    def asked(self, placement: str) -> NDArray[np.uint8]:
        """Return, per experiment, whether it is one of a placement's."""
        return np.array([not names or placement in names for names in self._placements], np.uint8)

    def strategies(self, asked: NDArray[np.uint8]) -> list[int]:
        """Return the ranking strategies that variants of some experiments, as `asked` returns them, may give."""
        rows = self.experiments[asked != 0]
        arms = (self.arms["strategy"][row["first"] : row["last"]].tolist() for row in rows)
        return sorted({number for of_one in arms for number in of_one} - {NO_NAME})

    def named(self, exposed: Sequence[int], variants: Sequence[int]) -> list[tuple[str, str]]:
        """Return the ids of the `exposed` experiments and of the variants; `variants` are the person's, of all."""
        return [self._arms[int(self.experiments["first"][number]) + variants[number]] for number in exposed]
