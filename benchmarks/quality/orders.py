"""Delivery orders, replayed: from which restaurant somebody orders next, beside counts by region and daypart."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.figures import Floats, hit_rate, listed, mean_reciprocal_rank, rank_in
from benchmarks.quality.mapping import DataSet, Row
from benchmarks.quality.result import PLACEMENTS, Added, Figure, Found
from benchmarks.quality.takings import DAY_S, MAIN, Taking, replay

NAME = "orders"
BEGIN = 1_325_462_400
"""2 January 2012, of which the first day of the data set is the next; which days of the week it has is not said."""
BEHIND_S = 7 * 3_600
"""The column's clock is ahead of the local one by so much."""
LEARNED_DAYS = 20
SHOWN = 100
DAYPARTS = (10, 14, 17, 21)
"""Of the baseline: the hours at which the next one begins."""


def run(folder: Path) -> Found:
    """Replay the data set in a folder."""
    data = DataSet.read(NAME)
    (rows,) = data.rows(folder)
    every = takings(data, rows)
    before = [one for one in every if _day(one.row) <= LEARNED_DAYS]
    after = [one for one in every if _day(one.row) > LEARNED_DAYS]
    ranks = replay(data, rows, before, after, SHOWN)
    beside = baseline(before, after)
    own, other = _figures(ranks.of(MAIN)), _figures(beside)
    return Found(
        [
            Figure(
                NAME,
                "HR@10, MRR",
                listed(own),
                "≥ beside",
                all(np.array(own) >= other),
                f"online region + daypart + own history {listed(other)}",
            )
        ],
        [
            Added(NAME, "HR@10", {name: hit_rate(ranks.of(name), 10) for name in PLACEMENTS}),
            Added(NAME, "MRR", {name: mean_reciprocal_rank(ranks.of(name)) for name in PLACEMENTS}),
        ],
        [f"{NAME}: {len(before):,} learned, {len(after):,} replayed, {ranks.models} models taken up"],
    )


def takings(data: DataSet, rows: Sequence[Row]) -> list[Taking]:
    """What was ordered, in order of time."""
    found = []
    for row in rows:
        second = BEGIN + _day(row) * DAY_S + _of_day(row) - BEHIND_S
        found.append(Taking(row["consumer_id"], row["restaurant_id"], second, data.context(row, second), row))
    return sorted(found, key=lambda taking: taking.second)


def baseline(before: Sequence[Taking], after: Sequence[Taking]) -> Floats:
    """The ranks by how often the person ordered there; then by how often the region did at this daypart, ever, and all.

    Counted online.
    """
    number = {place: index for index, place in enumerate(sorted({one.offer_id for one in (*before, *after)}))}
    overall = np.zeros(len(number))
    regional, usual, own = (defaultdict[object, Floats](lambda: np.zeros(len(number))) for _ in range(3))
    ranks = []
    for index, one in enumerate((*before, *after)):
        region, place = one.row["region"], number[one.offer_id]
        daypart = int(np.digitize(one.second // 3_600 % 24, DAYPARTS))
        if index >= len(before):
            score = 1e-6 * overall + 1e-3 * regional[region] + usual[region, daypart]
            ranks.append(rank_in(0.999 * score / max(score.max(), 1e-9) + own[one.person], place))
        overall[place] += 1
        regional[region][place] += 1
        usual[region, daypart][place] += 1
        own[one.person][place] += 1
    return np.array(ranks, np.float64)


def _day(row: Row) -> int:
    return int(row["placed"][:2])


def _of_day(row: Row) -> int:
    """The second of the day, by the column's clock."""
    hours, minutes, seconds = row["placed"][3:].split(":")
    return 3_600 * int(hours) + 60 * int(minutes) + int(seconds)


def _figures(ranks: Floats) -> tuple[float, float]:
    return hit_rate(ranks, 10), mean_reciprocal_rank(ranks)
