"""Order: compare two candidates, and keep the heap in which the best stands at the top."""

import numpy as np

from offers.compiled import inlined, inner
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import entries_of, i4
from offers.decision.kernels.memory.scratch import ScratchArray, candidates_of
from offers.model.hashing import SPLITMIX_STEP, mixed


@inlined
def rise(frame: Frame, index: int) -> None:
    """Let the candidate at an index of the heap rise until none above it is worse."""
    heap = i4(frame.scratch, ScratchArray.heap)
    rising = heap[index]
    while index > 0 and is_better(frame, rising, heap[(index - 1) // 2]):
        heap[index] = heap[(index - 1) // 2]
        index = (index - 1) // 2
    heap[index] = rising


@inlined
def sink(frame: Frame, index: int, size: int) -> None:
    """Let the candidate at an index of the heap sink until none below it is better."""
    heap = i4(frame.scratch, ScratchArray.heap)
    sinking = heap[index]
    while True:
        child = 2 * index + 1
        if child >= size:
            break
        if child + 1 < size and is_better(frame, heap[child + 1], heap[child]):
            child += 1
        if not is_better(frame, heap[child], sinking):
            break
        heap[index] = heap[child]
        index = child
    if size > 0:
        heap[index] = sinking


@inlined
def is_better(frame: Frame, one: int, other: int) -> bool:
    """Return whether a candidate comes before another: by score, then by the seed, or by the offers' ids."""
    first, second = candidates_of(frame.scratch)[one], candidates_of(frame.scratch)[other]
    if first.log_score != second.log_score:
        return first.log_score > second.log_score
    entries = entries_of(frame.columns)
    return turn_of(frame, entries[first.entry].order) < turn_of(frame, entries[second.entry].order)


@inlined
def turn_of(frame: Frame, order: int) -> np.uint64:
    """Return the turn of an offer by its order of ids: of equal scores, the least turn comes first."""
    return shuffled(frame.seed, np.uint64(order)) if frame.seeded else np.uint64(order)


@inner
def shuffled(seed: int, order: int) -> int:
    """Return a hash of a seed and an offer's order (splitmix64): offers of equal score take turns with the seed."""
    return mixed(np.uint64(seed) + np.uint64(order) * np.uint64(SPLITMIX_STEP))
