"""Compares a peer's answer with the decision's."""

import numpy as np

from benchmarks.peers.questions import Offering, Question
from benchmarks.peers.ranking import Ranked, along_the_ground
from offers.catalogue.geo.geometry import earth_centred

EDGE_M = 1.0
"""Metres around the edge of a place's reach within which peers may differ, as their distances do."""
TIE = 1e-6
"""Logarithms of scores that differ by less count as equal; those of one offer never differ by more."""


def same(ours: Ranked, theirs: Ranked) -> bool:
    """Return whether two answers rank the same offers, with equal scores in any order."""
    if len(ours) != len(theirs) or any(abs(our[1] - their[1]) > TIE for our, their in zip(ours, theirs, strict=True)):
        return False
    return all(
        our[0] == their[0] or _is_tied(ours, rank) for rank, (our, their) in enumerate(zip(ours, theirs, strict=True))
    )


def _is_tied(ranked: Ranked, rank: int) -> bool:
    """Return whether the offer at a rank could be exchanged: with a neighbour, or with the first one cut off."""
    neighbours = ranked[max(rank - 1, 0) : rank] + ranked[rank + 1 : rank + 2]
    return rank == len(ranked) - 1 or any(abs(ranked[rank][1] - score) <= TIE for _, score in neighbours)


def same_but_for_edges(offering: Offering, question: Question, ours: Ranked, theirs: Ranked) -> bool:
    """Return whether two answers agree, except for offers within EDGE_M of the edge of a place's reach."""
    here = np.column_stack(earth_centred(np.array([question.latitude]), np.array([question.longitude])))
    metres = along_the_ground(((offering.centre - here) ** 2).sum(axis=1).clip(max=1e12))
    edge = np.flatnonzero(np.abs(metres - offering.reach_m) < EDGE_M)
    doubtful = {
        number
        for place in edge.tolist()
        for number in offering.number[offering.first[place] : offering.first[place + 1]].tolist()
    }
    left = [[one for one in answer if one[0] not in doubtful] for answer in (ours, theirs)]
    length = min(map(len, left))
    return same(left[0][:length], left[1][:length])
