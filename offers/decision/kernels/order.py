"""Order: which of two candidates is the better one, and the heap in which the best stands at the top."""

import numpy as np

from offers.compiled import inlined, inner
from offers.decision.kernels.memory.records import Table, entries_of, i4
from offers.decision.kernels.memory.scratch import Scratch, candidates_of
from offers.model.hashing import SPLITMIX_STEP, mixed


@inner
def rise(columns: Table, scratch: Table, seed: int, seeded: int, place: int) -> None:
    """Let the candidate at a place of the heap rise until none above it is worse."""
    heap = i4(scratch, Scratch.heap)
    rising = heap[place]
    while place > 0 and is_better(columns, scratch, seed, seeded, rising, heap[(place - 1) // 2]):
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = rising


@inner
def sink(columns: Table, scratch: Table, seed: int, seeded: int, place: int, size: int) -> None:
    """Let the candidate at a place of the heap sink until none below it is better."""
    heap = i4(scratch, Scratch.heap)
    sinking = heap[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and is_better(columns, scratch, seed, seeded, heap[child + 1], heap[child]):
            child += 1
        if not is_better(columns, scratch, seed, seeded, heap[child], sinking):
            break
        heap[place] = heap[child]
        place = child
    if size > 0:
        heap[place] = sinking


@inlined
def is_better(columns: Table, scratch: Table, seed: int, seeded: int, one: int, other: int) -> bool:
    """Whether a candidate comes before another: the scores decide, then the seed, or the offers' ids."""
    first, second = candidates_of(scratch)[one], candidates_of(scratch)[other]
    if first.log_score != second.log_score:
        return first.log_score > second.log_score
    entries = entries_of(columns)
    return turn_of(seed, seeded, entries[first.entry].order) < turn_of(seed, seeded, entries[second.entry].order)


@inlined
def turn_of(seed: int, seeded: int, order: int) -> np.uint64:
    """What comes first of what scores alike: the least of these."""
    return shuffled(seed, np.uint64(order)) if seeded else np.uint64(order)


@inner
def shuffled(seed: int, order: int) -> int:
    """A hash of a seed and an offer's order (splitmix64), so that offers of equal score take turns with the seed."""
    return mixed(np.uint64(seed) + np.uint64(order) * np.uint64(SPLITMIX_STEP))
