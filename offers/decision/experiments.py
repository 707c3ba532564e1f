"""Experiments and holdouts: the arrays by which kernels/person/expose.py draws variants, and tells what had a part."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.snapshot import NO_NAME
from offers.decision.kernels.memory.scratch import HELD_OUT
from offers.model.keys import key_of
from offers.v1.offer_service_pb2 import Exposure, GetOffersResponse, HoldoutExposure

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
        ("segment_first", "i4"),  # in the segments of experiments; none: it runs for everybody
        ("segment_last", "i4"),
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
HOLDOUT = np.dtype([("index", "i4"), ("told_first", "i4", (2,)), ("told_last", "i4", (2,))], align=True)
"""A holdout: its index in ScratchArray.withheld, and where it stands as encoded in a response, and in the record of a
decision, for persons who are not held out, and for those who are."""


class Experiments:
    """The experiments of a catalogue, in the catalogue's order."""

    def __init__(self, catalog_id: str, described: Sequence[Mapping[str, Any]]) -> None:
        """Take a snapshot's meta["experiments"]."""
        text = bytearray()
        segments: list[int] = []
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
            row["segment_first"] = len(segments)
            segments += one.get("segments", [])  # snapshots of earlier versions have none
            row["segment_last"] = len(segments)
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
        self.segments = np.array(segments, np.int32)

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

    def conditions(self, asked: NDArray[np.uint8]) -> set[int]:
        """Return the segments of those of some experiments, as `asked` returns them, that replace the strategy."""
        rows = self.experiments[(asked != 0) & (self.experiments["ranks"] != 0)]
        lists = (self.segments[row["segment_first"] : row["segment_last"]].tolist() for row in rows)
        return {number for of_one in lists for number in of_one}

    def named(self, exposed: Sequence[int], variants: Sequence[int]) -> list[tuple[str, str]]:
        """Return the ids of the `exposed` experiments and of the variants; `variants` are the person's, of all."""
        return [self._arms[int(self.experiments["first"][number]) + variants[number]] for number in exposed]


class Holdouts:
    """The holdouts of a catalogue: its own first, then those of its campaigns, without those that hold nobody out."""

    def __init__(self, share: float, campaigns: Sequence[tuple[str, float]]) -> None:
        """Take the catalogue's share, and the id and share of each campaign."""
        text = bytearray()
        self._names = ["", *(name for name, _ in campaigns)]
        found = [index for index, part in enumerate((share, *(part for _, part in campaigns))) if part > 0]
        self.holdouts = np.zeros(len(found), HOLDOUT)
        for row, index in zip(self.holdouts, found, strict=True):
            row["index"] = index
            for held_out in (False, True):
                told = GetOffersResponse(holdouts=[self._told(index, held_out=held_out)]).SerializeToString()
                row["told_first"][int(held_out)] = len(text)
                text.extend(told)
                row["told_last"][int(held_out)] = len(text)
        self.text = np.frombuffer(bytes(text), np.uint8)

    def __len__(self) -> int:
        """Return how many holdouts there may be: one for the catalogue, and one for each campaign."""
        return len(self._names)

    def named(self, withheld: NDArray[np.uint8]) -> list[HoldoutExposure]:
        """Return the holdouts that had a part in a decision, from ScratchArray.withheld."""
        indices = self.holdouts["index"].tolist()
        return [self._told(one, held_out=withheld[one] == HELD_OUT) for one in indices if withheld[one]]

    def _told(self, index: int, *, held_out: bool) -> HoldoutExposure:
        return HoldoutExposure(campaign_id=self._names[index], held_out=held_out)
