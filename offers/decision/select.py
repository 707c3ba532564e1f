"""Select: how probable it was that each offer is in the answer: it would be there in so many of the draws."""

import math

import numpy as np

from offers.catalogue.snapshot import NO_NAME, PROPENSITY
from offers.compiled import apart, inner
from offers.decision.explore import DRAWS, THOMPSON, highest_of, own_of, shares_of, varied
from offers.decision.layout import fits, is_limited
from offers.decision.order import turn_of
from offers.decision.records import (
    Explore,
    Layout,
    Table,
    Terms,
    entries_of,
    f8,
    i4,
    i8,
    offers_of,
    strategies_of,
)
from offers.decision.scratch import RIVALS, Outcome, PersonFact, Scratch, candidates_of, chosen_of, rivals_of

FAR = 3.0
"""Standard deviations beyond which a draw is not reckoned with."""
_OTHER = -1
_GRAIN = 2.0**-40
"""Logarithms of scores are reckoned to that: taking off what was explored leaves less, and would part equals."""


@apart
def tell_selection(
    columns: Table, scratch: Table, terms: Table, strategy_number: int, seed: int, seeded: int, kept: int, count: int
) -> None:
    """Write how probable it was that each offer is in the answer: of the draws, those that bring it there.

    Reckoned among the chosen and the RIVALS that may come nearest to them, as the placement's layout allows.
    """
    rivals, chosen = rivals_of(scratch), chosen_of(scratch)
    weight, explore = strategies_of(columns)[strategy_number].weights[PROPENSITY], f8(terms, Terms.explore)
    for place in range(count):
        chosen[place].selection = 0.0
    if f8(scratch, Scratch.outcome)[Outcome.explored] == 0:
        return
    size = _find_rivals(columns, scratch, terms, weight, kept, count)
    is_bound = _is_bound(columns, scratch, terms, size)
    if not is_bound:
        _find_highest(explore, rivals, weight, count, size)
    for number in range(size):
        rivals[number].turn = turn_of(seed, seeded, entries_of(columns)[rivals[number].entry].order)
    new, tried = shares_of(explore, i8(scratch, Scratch.person)[PersonFact.chance])
    for draw in range(DRAWS):
        for number in range(size if is_bound else count):
            _draw(explore, rivals, weight, draw, new, tried, number)
        if is_bound:
            _lay_out(columns, scratch, terms, size)
            continue
        drawn, least = count, math.inf
        for place in range(count):
            least = min(least, rivals[place].drawn)
        while drawn < size and rivals[drawn].highest >= least:  # those behind it do not come into this answer
            _draw(explore, rivals, weight, draw, new, tried, drawn)
            drawn += 1
        _count_leading(scratch, count, drawn)
    for place in range(count):
        chosen[place].selection = max(chosen[place].selection, 1.0 / DRAWS)


@inner
def _is_bound(columns: Table, scratch: Table, terms: Table, size: int) -> bool:
    """Whether it is not the best alone that are in an answer."""
    rivals, entries = rivals_of(scratch), entries_of(columns)
    is_bound = is_limited(i4(terms, Terms.layout))
    for number in range(size):
        is_bound |= offers_of(columns)[entries[rivals[number].entry].offer].group != NO_NAME
    return is_bound


@inner
def _draw(
    explore: np.ndarray, rivals: np.ndarray, weight: float, draw: int, new: int, tried: int, number: int
) -> None:  # fmt: skip
    """Note the score that one has in a draw."""
    one = rivals[number]
    added = varied(explore, weight, draw, new, tried, one.own, one.deviation, one.most)
    one.drawn = one.log_score + weight * added


@inner
def _find_highest(explore: np.ndarray, rivals: np.ndarray, weight: float, count: int, size: int) -> None:
    """Note of each of those not chosen the highest score that it, or one behind it, has in any draw."""
    highest = -math.inf
    for number in range(size - 1, count - 1, -1):
        one = rivals[number]
        added = highest_of(explore, weight, one.deviation, one.most)
        highest = max(highest, one.log_score + weight * added)
        one.highest = highest


@inner
def _count_leading(scratch: Table, count: int, drawn: int) -> None:
    """Count the chosen that are in the answer of a draw: those with fewer than `count` better ones.

    All are compared with all: without branches that cannot be foretold, that is quicker than to put them in order.
    """
    rivals, chosen, scores = rivals_of(scratch), chosen_of(scratch), f8(scratch, Scratch.drawn)
    for number in range(drawn):
        scores[number] = rivals[number].drawn
    for place in range(count):
        score, turn, better = scores[place], rivals[place].turn, 0
        for number in range(drawn):
            better += (scores[number] > score) | ((scores[number] == score) & (rivals[number].turn < turn))
        if better < count:
            chosen[place].selection += 1.0 / DRAWS


@inner
def _lay_out(columns: Table, scratch: Table, terms: Table, size: int) -> None:
    """Count the chosen that are in the answer of a draw."""
    rivals, layout, taken = rivals_of(scratch), i4(terms, Terms.layout), 0
    while taken < layout[Layout.most]:
        best = 0
        for number in range(1, size):
            gain = rivals[number].drawn - rivals[best].drawn
            if gain > 0.0 or (gain == 0.0 and rivals[number].turn < rivals[best].turn):
                best = number
        one = rivals[best]
        if one.drawn == -math.inf:
            break
        one.drawn = -math.inf
        if fits(columns, scratch, taken, one.entry, layout):
            i8(scratch, Scratch.taken)[taken] = one.entry
            taken += 1
            if one.place != _OTHER:
                chosen_of(scratch)[one.place].selection += 1.0 / DRAWS


@inner
def _find_rivals(columns: Table, scratch: Table, terms: Table, weight: float, kept: int, count: int) -> int:
    """List the chosen, and after them the others that may score best; how many there are."""
    rivals, chosen, candidates = rivals_of(scratch), chosen_of(scratch), candidates_of(scratch)
    for place in range(count):
        _list(columns, scratch, weight, chosen[place].index, place)
        rivals[place].place = place
    size, most = count, count + RIVALS
    for index in range(kept):
        one = candidates[index]
        best = _best_of(terms, one, weight)
        if (size == most and best <= rivals[size - 1].drawn) or _is_chosen(chosen, count, index):
            continue
        at = size if size < most else size - 1
        while at > count and rivals[at - 1].drawn < best:
            rivals[at] = rivals[at - 1]
            at -= 1
        _list(columns, scratch, weight, index, at)
        rivals[at].drawn = best
        size = min(size + 1, most)
    return size


@inner
def _best_of(terms: Table, candidate: np.void, weight: float) -> float:
    """The best score that a candidate may be drawn to."""
    explore = f8(terms, Terms.explore)
    limit = explore[Explore.limit]
    if explore[Explore.method] == THOMPSON and not (candidate.deviation < 0.0 and explore[Explore.new_share] > 0):
        limit = min(limit, FAR * weight * abs(candidate.deviation))
    return candidate.log_score - weight * candidate.varied + limit


@inner
def _is_chosen(chosen: np.ndarray, count: int, index: int) -> bool:
    found = False
    for place in range(count):
        found |= chosen[place].index == index
    return found


@inner
def _list(columns: Table, scratch: Table, weight: float, index: int, place: int) -> None:
    one, rival = candidates_of(scratch)[index], rivals_of(scratch)[place]
    rival.log_score = _rounded(one.log_score - weight * one.varied)
    rival.deviation, rival.most = one.deviation, _rounded(one.varied - one.log_propensity)
    key = offers_of(columns)[entries_of(columns)[one.entry].offer].key
    rival.own = own_of(i8(scratch, Scratch.person)[PersonFact.chance], key)
    rival.entry, rival.place = one.entry, _OTHER


@inner
def _rounded(log: float) -> float:
    return math.floor(log / _GRAIN + 0.5) * _GRAIN
