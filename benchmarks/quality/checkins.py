"""Check-ins, replayed: where a person goes next, compared with counts of where they went before."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.figures import Floats, hit_rate, listed, mean_reciprocal_rank, rank_in
from benchmarks.quality.mapping import DataSet, Row
from benchmarks.quality.result import Figure, Found
from benchmarks.quality.takings import DAY_S, MAIN, Taking, found, replay

NAME = "checkins"
MONDAY = 1_325_462_400
"""2 January 2012: the first day of the data set for persons whose weekdays agree; for others up to six days later."""
SHOWN = 10
OF_HOUR, OF_BEFORE, OF_ALL = 10.0, 30.0, 1e-6
"""Weights of the baseline, in visits: of one at this hour, one after the same place, and one of anybody. They are the
best for it among those tried on these rows."""


def run(folder: Path) -> Found:
    """Replay the data set in a folder."""
    data = DataSet.read(NAME)
    train, valid = data.rows(folder)
    before, after = takings(data, train, valid)
    ranks = replay(data, [*train, *valid], before, after, SHOWN)
    beside = baseline(before, after)
    own = [hit_rate(ranks.of(MAIN), most) for most in (1, 5, 10)]
    other = [hit_rate(beside, most) for most in (1, 5, 10)]
    told = f"online frequency + hour + previous place {listed(other)}"
    figure = Figure(NAME, "Acc@1/5/10", listed(own), "≥ beside", all(np.array(own) >= other), told)
    measures = {"Acc@1": lambda ranks: hit_rate(ranks, 1), "MRR@10": mean_reciprocal_rank}
    return found(figure, measures, ranks, f"{len(before):,} learned, {len(after):,} replayed")


def takings(data: DataSet, train: Sequence[Row], valid: Sequence[Row]) -> tuple[list[Taking], list[Taking]]:
    """Return the check-ins to learn from and those to replay, each by time.

    A person's days are shifted so that weekdays agree with the calendar; check-ins of a person within one minute are a
    second apart.
    """
    moved = {row["user_id"]: (int(row["weekday"]) - int(row["start_day"])) % 7 for row in (*train, *valid)}
    met: Counter[tuple[str, int]] = Counter()
    both = []
    for rows in (train, valid):
        some = []
        for row in sorted(rows, key=lambda row: (_minute(row), int(row["id"]))):
            person = row["user_id"]
            second = MONDAY + moved[person] * DAY_S + 60 * _minute(row)
            met[person, second] += 1
            second += met[person, second] - 1
            some.append(Taking(person, row["location_id"], second, data.context(row, second), row))
        both.append(sorted(some, key=lambda taking: taking.second))
    return both[0], both[1]


def baseline(before: Sequence[Taking], after: Sequence[Taking]) -> Floats:
    """Return the ranks by a person's visits of a place: all, at this hour (neighbouring hours count half), and those
    coming from the present place. Counts are updated online.
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
