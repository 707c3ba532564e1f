"""Check-ins, replayed: where somebody goes next, beside a count of where they went before."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.figures import Floats, hit_rate, listed, mean_reciprocal_rank, rank_in
from benchmarks.quality.mapping import DataSet, Row
from benchmarks.quality.result import PLACEMENTS, Added, Figure, Found
from benchmarks.quality.takings import DAY_S, MAIN, Taking, replay

NAME = "checkins"
MONDAY = 1_325_462_400
"""2 January 2012: the first day of the data set, for those whose weekdays say so; for others up to six days later."""
SHOWN = 10
OF_HOUR, OF_BEFORE, OF_ALL = 10.0, 30.0, 1e-6
"""Of the baseline: as how many visits one counts at this hour, one after the same place, and one of anybody's. Of the
weights that were tried on these rows the ones that serve it best."""


def run(folder: Path) -> Found:
    """Replay the data set in a folder."""
    data = DataSet.read(NAME)
    train, valid = data.rows(folder)
    before, after = takings(data, train, valid)
    ranks = replay(data, [*train, *valid], before, after, SHOWN)
    beside = baseline(before, after)
    own = [hit_rate(ranks.of(MAIN), most) for most in (1, 5, 10)]
    other = [hit_rate(beside, most) for most in (1, 5, 10)]
    return Found(
        [
            Figure(
                NAME,
                "Acc@1/5/10",
                listed(own),
                "≥ beside",
                all(np.array(own) >= other),
                f"online frequency + hour + previous place {listed(other)}",
            )
        ],
        [
            Added(NAME, "Acc@1", {name: hit_rate(ranks.of(name), 1) for name in PLACEMENTS}),
            Added(NAME, "MRR@10", {name: mean_reciprocal_rank(ranks.of(name)) for name in PLACEMENTS}),
        ],
        [f"{NAME}: {len(before):,} learned, {len(after):,} replayed, {ranks.models} models taken up"],
    )


def takings(data: DataSet, train: Sequence[Row], valid: Sequence[Row]) -> tuple[list[Taking], list[Taking]]:
    """What to learn and what to replay, each in order of time.

    A person's days are moved so that weekdays are those of the calendar; check-ins of a person within one minute follow
    each other by a second.
    """
    moved = {row["user_id"]: (int(row["weekday"]) - int(row["start_day"])) % 7 for row in (*train, *valid)}
    met: Counter[tuple[str, int]] = Counter()
    found = []
    for rows in (train, valid):
        some = []
        for row in sorted(rows, key=lambda row: (_minute(row), int(row["id"]))):
            person = row["user_id"]
            second = MONDAY + moved[person] * DAY_S + 60 * _minute(row)
            met[person, second] += 1
            second += met[person, second] - 1
            some.append(Taking(person, row["location_id"], second, data.context(row, second), row))
        found.append(sorted(some, key=lambda taking: taking.second))
    return found[0], found[1]


def baseline(before: Sequence[Taking], after: Sequence[Taking]) -> Floats:
    """The ranks by how often a person was at a place: ever, at this hour (those beside it: half), and coming from where
    they are. Counted online.
    """  # noqa: D205
    number = {place: index for index, place in enumerate(sorted({one.offer_id for one in (*before, *after)}))}
    overall = np.zeros(len(number))
    own, hourly, following = (defaultdict[object, Floats](lambda: np.zeros(len(number))) for _ in range(3))
    last: dict[str, int] = {}
    ranks = []
    for index, one in enumerate((*before, *after)):
        person, place, hour = one.person, number[one.offer_id], one.second // 3_600 % 24
        if index >= len(before):
            beside = hourly[person, (hour + 1) % 24] + hourly[person, (hour - 1) % 24]
            score = own[person] + OF_HOUR * (hourly[person, hour] + 0.5 * beside) + OF_ALL * overall
            if person in last:
                score = score + OF_BEFORE * following[person, last[person]]
            ranks.append(rank_in(score, place))
        overall[place] += 1
        own[person][place] += 1
        hourly[person, hour][place] += 1
        if person in last:
            following[person, last[person]][place] += 1
        last[person] = place
    return np.array(ranks, np.float64)


def _minute(row: Row) -> int:
    return 1440 * int(row["start_day"]) + int(row["start_min"])
