"""Select: compute each chosen offer's selection probability, the share of the draws whose answer has it.

The specification is reference/explored.py.
"""

import math

import numpy as np

from offers.catalogue.snapshot import NO_NAME, PROPENSITY
from offers.compiled import apart, inner
from offers.decision.kernels.layout import fits, is_limited
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import (
    Layout,
    Table,
    TermsArray,
    entries_of,
    f8,
    i4,
    i8,
    offers_of,
    strategies_of,
)
from offers.decision.kernels.memory.scratch import (
    RIVALS,
    DecisionFact,
    PersonFact,
    ScratchArray,
    candidates_of,
    chosen_of,
    rivals_of,
)
from offers.decision.kernels.models.explore import DRAWS, Draws, draws_of, highest_of, lowest_of, own_of, varied
from offers.decision.kernels.order import turn_of

_OTHER = -1
"""Rank of a rival that is not chosen."""
_GRAIN = 2.0**-40
"""Logarithms of scores are rounded to this: subtracting what was explored leaves smaller errors, which would order
equal scores."""
_ROUNDED = 1e-9
"""More than the rounding error of a score."""


@apart
def compute_selection(frame: Frame) -> None:
    """Write the selection probability of each chosen offer, if something is explored. It is 0 before.

    Each draw is made again among the chosen and the RIVALS that may score highest, as the placement's layout allows.
    """
    columns, scratch, terms = frame.columns, frame.scratch, frame.terms
    rivals, chosen = rivals_of(scratch), chosen_of(scratch)
    facts = i8(scratch, ScratchArray.decision)
    kept, count = facts[DecisionFact.kept], facts[DecisionFact.chosen]
    weight, explore = strategies_of(columns)[frame.strategy].weights[PROPENSITY], f8(terms, TermsArray.explore)
    size = _find_rivals(columns, scratch, explore, weight, kept, count)
    for number in range(size):
        rivals[number].turn = turn_of(frame, entries_of(columns)[rivals[number].entry].order)
    is_bound = _is_bound(columns, scratch, terms, size)
    draws = draws_of(explore, i8(scratch, ScratchArray.person)[PersonFact.chance])
    for draw in range(DRAWS):
        if is_bound:
            for number in range(size):
                _draw(explore, rivals, weight, draw, draws, number)
            _lay_out(columns, scratch, terms, size)
        else:
            _lead(scratch, explore, weight, draw, draws, size)
    for index in range(count):
        chosen[index].selection = max(chosen[index].selection, 1.0 / DRAWS)


@inner
def _is_bound(columns: Table, scratch: Table, terms: Table, size: int) -> bool:
    """Return whether the layout or exclusion groups may keep the best out of an answer."""
    rivals, entries = rivals_of(scratch), entries_of(columns)
    is_bound = is_limited(i4(terms, TermsArray.layout))
    for number in range(size):
        is_bound |= offers_of(columns)[entries[rivals[number].entry].offer].group != NO_NAME
    return is_bound


@inner
def _draw(explore: np.ndarray, rivals: np.ndarray, weight: float, draw: int, draws: Draws, number: int) -> None:
    """Write the score that a rival has in a draw."""
    one = rivals[number]
    added = varied(explore, weight, draw, draws, one.own, one.deviation, one.most)
    one.drawn = one.log_score + weight * added


@inner
def _lead(scratch: Table, explore: np.ndarray, weight: float, draw: int, draws: Draws, size: int) -> None:
    """Count the chosen that are among the best of a draw. The best are as many as the answer has offers.

    Rivals that cannot come among them are not drawn.
    """
    rivals, leading, filled = rivals_of(scratch), i4(scratch, ScratchArray.heap), 0
    count = i8(scratch, ScratchArray.decision)[DecisionFact.chosen]
    for number in range(size):
        if filled == count and rivals[number].highest < rivals[leading[count - 1]].drawn:
            break  # those behind it are lower still
        _draw(explore, rivals, weight, draw, draws, number)
        if filled == count:
            if not _is_before(rivals, number, leading[count - 1]):
                continue
            filled -= 1
        at = filled
        while at > 0 and _is_before(rivals, number, leading[at - 1]):
            leading[at] = leading[at - 1]
            at -= 1
        leading[at] = number
        filled += 1
    for index in range(filled):
        _count(scratch, leading[index])


@inner
def _is_before(rivals: np.ndarray, one: int, other: int) -> bool:
    """Return whether a rival comes before another in a draw."""
    gain = rivals[one].drawn - rivals[other].drawn
    return gain > 0.0 or (gain == 0.0 and rivals[one].turn < rivals[other].turn)


@inner
def _count(scratch: Table, number: int) -> None:
    """Count a rival that is in the answer of a draw, if it is one of the chosen."""
    index = rivals_of(scratch)[number].place
    if index != _OTHER:
        chosen_of(scratch)[index].selection += 1.0 / DRAWS


@inner
def _lay_out(columns: Table, scratch: Table, terms: Table, size: int) -> None:
    """Count the chosen that are in the answer of a draw, as the layout and exclusion groups allow."""
    rivals, layout, taken = rivals_of(scratch), i4(terms, TermsArray.layout), 0
    while taken < layout[Layout.most]:
        best = 0
        for number in range(1, size):
            if rivals[number].highest < rivals[best].drawn:
                break  # those behind it are lower still
            if _is_before(rivals, number, best):
                best = number
        one = rivals[best]
        if one.drawn == -math.inf:
            break
        one.drawn = -math.inf
        if fits(columns, scratch, taken, one.entry, layout):
            i8(scratch, ScratchArray.taken)[taken] = one.entry
            taken += 1
            _count(scratch, best)


@inner
def _find_rivals(
    columns: Table, scratch: Table, explore: np.ndarray, weight: float, kept: int, count: int
) -> int:  # fmt: skip
    """List the chosen, and after them the others that may score as much in some draw, the highest first.

    Returns how many are listed.
    """
    rivals, chosen, candidates = rivals_of(scratch), chosen_of(scratch), candidates_of(scratch)
    numbers, highest, least = i4(scratch, ScratchArray.heap), f8(scratch, ScratchArray.highest), math.inf
    for slot in range(count):
        _list(columns, scratch, weight, chosen[slot].index, slot)
        one = rivals[slot]
        one.place, one.highest = slot, math.inf
        least = min(least, one.log_score + weight * lowest_of(explore, weight, one.deviation))
    size = 0
    for index in range(kept):
        one = candidates[index]
        most = one.varied - one.log_propensity
        best = one.log_score + weight * (highest_of(explore, weight, one.deviation, most) - one.varied)
        if best < least or (size == RIVALS and best <= highest[0]) or _is_chosen(chosen, count, index):
            continue
        if size < RIVALS:
            size += 1
            _rise(numbers, highest, size - 1, index, best)
        else:
            _sink(numbers, highest, size, index, best)
    found = count + size
    for slot in range(found - 1, count - 1, -1):  # the lowest of them stands at the top
        index, best = numbers[0], highest[0]
        size -= 1
        _sink(numbers, highest, size, numbers[size], highest[size])
        _list(columns, scratch, weight, index, slot)
        rivals[slot].highest = best + _ROUNDED
    return found


@inner
def _rise(numbers: np.ndarray, highest: np.ndarray, index: int, number: int, value: float) -> None:
    """Let a number rise from an index of a heap until none above it has a higher value."""
    while index > 0 and highest[(index - 1) // 2] > value:
        above = (index - 1) // 2
        numbers[index], highest[index] = numbers[above], highest[above]
        index = above
    numbers[index], highest[index] = number, value


@inner
def _sink(numbers: np.ndarray, highest: np.ndarray, size: int, number: int, value: float) -> None:
    """Let a number sink from the top of a heap until none below it has a lower value."""
    index = 0
    while 2 * index + 1 < size:
        below = 2 * index + 1
        if below + 1 < size and highest[below + 1] < highest[below]:
            below += 1
        if highest[below] >= value:
            break
        numbers[index], highest[index] = numbers[below], highest[below]
        index = below
    numbers[index], highest[index] = number, value


@inner
def _is_chosen(chosen: np.ndarray, count: int, index: int) -> bool:
    """Return whether a candidate is among the chosen."""
    found = False
    for slot in range(count):
        found |= chosen[slot].index == index
    return found


@inner
def _list(columns: Table, scratch: Table, weight: float, index: int, slot: int) -> None:
    """Write a candidate as the rival of an index."""
    one, rival = candidates_of(scratch)[index], rivals_of(scratch)[slot]
    rival.log_score = _rounded(one.log_score - weight * one.varied)
    rival.deviation, rival.most = one.deviation, _rounded(one.varied - one.log_propensity)
    key = offers_of(columns)[entries_of(columns)[one.entry].offer].key
    rival.own = own_of(i8(scratch, ScratchArray.person)[PersonFact.chance], key)
    rival.entry, rival.place = one.entry, _OTHER


@inner
def _rounded(log: float) -> float:
    """Round the logarithm of a score to _GRAIN."""
    return math.floor(log / _GRAIN + 0.5) * _GRAIN
