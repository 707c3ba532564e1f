"""Areas for tests."""

import json
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.geo.areas import Area
from offers.catalogue.geo.shapes import pack
from offers.catalogue.snapshot import COLUMNS
from offers.decision.kernels.memory.records import Column, Record

Position = Sequence[float]


def polygon(*rings: Sequence[Position]) -> str:
    """Return GeoJSON of an outer ring and its holes."""
    return json.dumps({"type": "Polygon", "coordinates": rings})


def star(random: Random, latitude: float, longitude: float, size: float, corners: int, *, hole: bool = False) -> str:
    """Return GeoJSON of a polygon around a position, up to `size` degrees of latitude away, and perhaps with a hole."""
    stretch = 1 / max(math.cos(math.radians(latitude)), 0.05)

    def ring(radii: Sequence[float]) -> list[Position]:
        count = len(radii)
        turns = [2 * math.pi * (number + 0.8 * random.random()) / count for number in range(count)]
        made = [
            (
                _turned(longitude + size * radius * stretch * math.cos(turn)),
                min(max(latitude + size * radius * math.sin(turn), -90.0), 90.0),
            )
            for radius, turn in zip(radii, turns, strict=True)
        ]
        return [*made, made[0]]

    roughness = min(0.4, 40 / corners)
    rings = [ring([random.uniform(1 - roughness, 1) for _ in range(corners)])]
    if hole:
        rings.append(ring([0.05, 0.1, 0.05]))
    return polygon(*rings)


def _turned(longitude: float) -> float:
    return (longitude + 180) % 360 - 180


def record_of(areas: Sequence[Area]) -> Record:
    """Return the record of a snapshot in which only shapes are filled."""
    empty: Mapping[str, NDArray[Any]] = {name: np.zeros(0, kind) for name, kind in COLUMNS.items()}
    return Record(Column, {**empty, **pack(areas)})
