"""Screening and ranking with numpy, for peers that find places but cannot rank offers."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.peers.questions import Floats, Integers, Offering, Question
from benchmarks.synthetic import NOW
from offers.catalogue.compile.scoring import DEFAULT_NEARNESS, DEFAULT_SHARES, DEFAULT_TIMELINESS
from offers.catalogue.geo.geometry import ECCENTRICITY_2, EQUATORIAL_RADIUS_M, MEAN_RADIUS_M

HALVED = math.log(0.5)
"""Change of a factor's logarithm for one more scale of distance (squared) or of time."""
LEAST_NEARNESS, LEAST_TIMELINESS = math.log(1e-6), math.log(DEFAULT_TIMELINESS.minimum)
NEARNESS_M, TIMELINESS_S = DEFAULT_NEARNESS.scale, DEFAULT_TIMELINESS.scale
WITHOUT_DISTANCE = math.log(DEFAULT_SHARES["nearness_without_distance"])
BEST = 10
"""Offers of an answer."""

Ranked = list[tuple[int, float]]
"""Numbers of offers and the logarithms of their scores, best first."""


class Asked(NamedTuple):
    """A peer that is ready for questions."""

    ask: Callable[[Question], Ranked]
    """Returns the best ten offers."""
    version: str


class MissingError(Exception):
    """A requirement of a peer is not installed; the message says how to install it."""


class Ranking:
    """Screens and ranks the offers of nearby places, as the decision does."""

    def __init__(self, offering: Offering) -> None:
        self._offering = offering
        self._count = np.diff(offering.first)
        self._everywhere = np.arange(offering.everywhere, len(offering.number))

    def best(self, near: Integers, question: Question) -> Ranked:
        """Return the best offers of some places, which include all within reach, and of those shown everywhere."""
        offering = self._offering
        here = _earth_centred(question.latitude, question.longitude)
        away = offering.centre[near] - here
        squared = np.einsum("ij,ij->i", away, away)
        inside = squared <= offering.straight[near]
        near, squared = near[inside], squared[inside]
        metres = along_the_ground(squared)
        log_nearness = np.maximum(HALVED * (metres / NEARNESS_M) ** 2, LEAST_NEARNESS)
        # From places to their entries, which stand side by side, and those without a place.
        count = self._count[near]
        ends = count.cumsum()
        total = ends[-1] if len(ends) else 0
        placed = np.arange(total) + np.repeat(offering.first[near] - ends + count, count)
        entry = np.concatenate([placed, self._everywhere])
        until = np.minimum(offering.end[entry], offering.open_until[offering.schedule[entry]])
        kept = np.flatnonzero((offering.start[entry] <= NOW) & (until > NOW) & question.admits[offering.terms[entry]])
        nearness = np.concatenate([np.repeat(log_nearness, count), np.full(len(self._everywhere), WITHOUT_DISTANCE)])
        entry, until, nearness = entry[kept], until[kept], nearness[kept]
        score = (
            question.nearness_weight * nearness
            + np.maximum(HALVED / TIMELINESS_S * (until - NOW), LEAST_TIMELINESS)
            + offering.log_value[entry]
        )
        number = offering.number[entry]
        chain = offering.chain[entry]
        if chain.any():
            single = np.flatnonzero(~chain)
            several = np.flatnonzero(chain)
            several = several[np.lexsort((-until[several], -nearness[several], number[several]))]
            _, nearest = np.unique(number[several], return_index=True)
            kept = np.concatenate([single, several[nearest]])
            number, score = number[kept], score[kept]
        if len(score) > BEST:
            top = np.argpartition(score, -BEST)[-BEST:]
            number, score = number[top], score[top]
        order = np.lexsort((number, -score))
        return list(zip(number[order].tolist(), score[order].tolist(), strict=True))


def along_the_ground(squared: Floats) -> Floats:
    """Return metres along the ground from straight-line metres squared."""
    return 2 * MEAN_RADIUS_M * np.arcsin(np.sqrt(squared) / (2 * MEAN_RADIUS_M))


def _earth_centred(latitude: float, longitude: float) -> tuple[float, float, float]:
    """Return geometry.earth_centred of one point: ten times as fast without numpy."""
    phi, lam = math.radians(latitude), math.radians(longitude)
    normal = EQUATORIAL_RADIUS_M / math.sqrt(1 - ECCENTRICITY_2 * math.sin(phi) ** 2)
    across = normal * math.cos(phi)
    return across * math.cos(lam), across * math.sin(lam), normal * (1 - ECCENTRICITY_2) * math.sin(phi)
