"""Delivery orders, replayed: the restaurant a person orders from next, compared with counts by region and daypart."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.figures import Floats, hit_rate, listed, mean_reciprocal_rank, rank_in
from benchmarks.quality.mapping import DataSet, Row
from benchmarks.quality.result import Figure, Found
from benchmarks.quality.takings import DAY_S, MAIN, Taking, found, replay

NAME = "orders"
BEGIN = 1_325_462_400
"""2 January 2012, the day before the first of the data set, which does not tell its weekdays."""
BEHIND_S = 7 * 3_600
"""Seconds by which the column's clock is ahead of local time."""
LEARNED_DAYS = 20
SHOWN = 100
DAYPARTS = (10, 14, 17, 21)
"""Hours at which dayparts of the baseline begin."""


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
    told = f"online region + daypart + own history {listed(other)}"
    figure = Figure(NAME, "HR@10, MRR", listed(own), "≥ beside", all(np.array(own) >= other), told)
    measures = {"HR@10": lambda ranks: hit_rate(ranks, 10), "MRR": mean_reciprocal_rank}
    return found(figure, measures, ranks, f"{len(before):,} learned, {len(after):,} replayed")


def takings(data: DataSet, rows: Sequence[Row]) -> list[Taking]:
    """Return the orders, by time."""
    orders = []
    for row in rows:
        second = BEGIN + _day(row) * DAY_S + _of_day(row) - BEHIND_S
        orders.append(Taking(row["consumer_id"], row["restaurant_id"], second, data.context(row, second), row))
    return sorted(orders, key=lambda taking: taking.second)


def baseline(before: Sequence[Taking], after: Sequence[Taking]) -> Floats:
    """Return the ranks by a person's orders at a restaurant, then by its region's at this daypart, at any, and by all.

    Counts are updated online.
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
    """Return the second of the day by the column's clock."""
    hours, minutes, seconds = row["placed"][3:].split(":")
    return 3_600 * int(hours) + 60 * int(minutes) + int(seconds)


def _figures(ranks: Floats) -> tuple[float, float]:
    return hit_rate(ranks, 10), mean_reciprocal_rank(ranks)
