"""The table of quality: its measures are right, and what it replays goes through a real server."""

import csv
import math
import random
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.quality import checkins, coupon, takings
from benchmarks.quality.__main__ import show
from benchmarks.quality.figures import auc, hit_rate, interval, mean_reciprocal_rank, rank_in, rank_of, sent
from benchmarks.quality.mapping import DataSet, Row, filled
from benchmarks.quality.service import service
from offers.v1.offer_service_pb2 import GetOffersRequest

RESPONDENTS, ROWS = 15, 12
HOURS = ("7AM", "10AM", "2PM", "6PM", "10PM")
KINDS = ("Bar", "Coffee House", "Carry out & Take away")


def test_auc_counts_pairs_in_the_right_order() -> None:
    """Three of the four pairs of a yes and a no are in order and one ties: .75 and half of a quarter."""
    assert 0.875 == auc(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.5, 0.5, 0.1]))


def test_ranks_make_hit_rates_and_reciprocal_ranks() -> None:
    """An offer that is not shown has no rank, and counts 0."""
    ranks = np.array([rank_of(one, ["a", "b", "c", "d"]) for one in ("a", "d", "x", "b")])
    assert [1.0, 4.0, math.inf, 2.0] == ranks.tolist()
    assert 0.25 == hit_rate(ranks, 1)
    assert 0.75 == hit_rate(ranks, 4)
    assert (1 + 1 / 4 + 1 / 2) / 4 == mean_reciprocal_rank(ranks)


def test_of_equal_scores_the_first_comes_first() -> None:
    """The rank of a score among others counts the greater ones and the equal ones before it."""
    score = np.array([1.0, 3.0, 3.0, 2.0])
    assert [4, 1, 2, 3] == [rank_in(score, wanted) for wanted in range(4)]


def test_what_sending_brings_is_told_by_those_chosen() -> None:
    """Two of three chosen buy with the promotion and one of two without; the others do not count."""
    chosen = np.array([True] * 5 + [False])
    treated = np.array([True, True, True, False, False, True])
    bought = np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    nir, irr = sent(chosen, treated, bought)
    assert pytest.approx(10 * 2 - 0.15 * 3 - 10) == nir
    assert pytest.approx(2 / 3 - 1 / 2) == irr


def test_the_interval_is_that_of_the_mean() -> None:
    """The bootstrap interval of the mean of 10,000 fair coins is about two standard errors to each side."""
    coins = np.arange(10_000) % 2
    ((low, high),) = interval(len(coins), lambda drawn: [float(coins[drawn].mean())])
    assert pytest.approx((0.4902, 0.5098), abs=0.001) == (low, high)


def test_templates_are_filled_with_cells(tmp_path: Path) -> None:
    """Texts, numbers, ids and picked parts come out of a row, and what is empty is left out."""
    mapping = tmp_path / "made.yaml"
    mapping.write_text(
        'text: "{a} and {b}"\nnumber: !number "{n}"\nid: !id "{a} <{n}>"\nempty: "{e}"\nno_number: !number "{e}"\n'
        'picked: !pick {by: "{b}", among: {two: {of: "{a}"}}}\nnot_picked: !pick {by: "{a}", among: {two: 1}}\n'
        'list: ["{a}", "{e}", 3]\n'
    )
    row = {"a": "one", "b": "two", "n": "1.5", "e": ""}
    expected = {
        "text": "one and two",
        "number": 1.5,
        "id": "one-1.5-",
        "picked": {"of": "one"},
        "list": ["one", 3],
    }
    assert expected == filled(DataSet.read("made", tmp_path).said, row)


def test_hours_are_read() -> None:
    """Midday and midnight are the hours they are."""
    assert [7, 12, 14, 0, 22] == [coupon.hour_of(text) for text in ("7AM", "12PM", "2PM", "12AM", "10PM")]


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _coupon_rows() -> list[Row]:
    """Respondents who take coupons of the first kind and no others."""
    draw = random.Random(1)
    columns = [
        "weather", "passanger", "destination", "gender", "age", "maritalStatus", "education", "occupation", "income",
        "car", "Bar", "CoffeeHouse", "CarryAway", "RestaurantLessThan20", "Restaurant20To50",
    ]  # fmt: skip
    numbers = [
        "temperature", "has_children", "toCoupon_GEQ5min", "toCoupon_GEQ15min", "toCoupon_GEQ25min", "direction_same",
        "direction_opp",
    ]  # fmt: skip
    rows: list[Row] = []
    for respondent in range(1, RESPONDENTS + 1):
        for _ in range(ROWS):
            kind = draw.choice(KINDS)
            said = dict.fromkeys(columns, "some") | dict.fromkeys(numbers, "1")
            said |= {"respondent": str(respondent), "time": draw.choice(HOURS), "coupon": kind, "expiration": "1d"}
            rows.append(said | {"Y": str(int(kind == KINDS[0]))})
    return rows


@pytest.fixture
def coupons(tmp_path: Path) -> tuple[DataSet, list[Row], list[coupon.Answer]]:
    """A data set of coupons, its rows, and the answers."""
    _write(tmp_path / "coupon" / "coupon.csv", _coupon_rows())
    data = DataSet.read(coupon.NAME)
    (rows,) = data.rows(tmp_path)
    return data, rows, coupon.answers(data, rows)


def test_a_respondent_answers_once_a_day(coupons: tuple[DataSet, list[Row], list[coupon.Answer]]) -> None:
    """Answers of a respondent are a day apart, at the hour of the question, and no two are at the same second."""
    _, rows, answers = coupons
    for row, answer in zip(rows, answers, strict=True):
        assert answer.before == answer.number % ROWS
        assert coupon.hour_of(row["time"]) == answer.second // 3_600 % 24
        assert answer.before == (answer.second - coupon.BEGIN) // coupon.DAY_S
    assert len(answers) == len({answer.second for answer in answers})


def test_answers_reach_the_log_through_the_server(coupons: tuple[DataSet, list[Row], list[coupon.Answer]]) -> None:
    """Each answer is a decision and its events in the server's log; what is only asked is not."""
    data, rows, answers = coupons
    some = sorted(answers, key=lambda answer: answer.second)[:10]
    with service(data.catalog(rows), coupon.BEGIN) as one:
        for row in rows:
            one.keep(data.context(row, coupon.BEGIN).user, data.profile(row))
        one.second = answers[0].second
        one.ask([GetOffersRequest(context=answer.context) for answer in answers])
        coupon.live(one, some)
        one.learn()
        stores = one.served.stores
        decisions = [decision for _, decision in stores.events.decisions_after(0, 1_000)]
        events = [event for _, event in stores.events.read(0, 1_000)]
    assert [answer.second for answer in some] == [decision.second for decision in decisions]
    assert [f"u:{answer.respondent}" for answer in some] == [decision.person for decision in decisions]
    assert sum(3 if answer.yes else 1 for answer in some) == len(events)
    assert all(event.learn for event in events)
    for answer, decision in zip(some, decisions, strict=True):
        assert answer.context.attributes == decision.told().context_attributes
        assert answer.offer_id in decision.told().offer_ids


def test_what_was_learned_is_foreseen(coupons: tuple[DataSet, list[Row], list[coupon.Answer]]) -> None:
    """If the kind of coupon decides, the server's answers foresee people who were never met."""
    data, rows, answers = coupons
    into = coupon.Foreseen.nothing(len(answers))
    coupon.replay_fold(data, rows, answers, 1, into)
    tested = np.array([coupon.fold_of(answer) == 1 for answer in answers])
    yes = np.array([float(answer.yes) for answer in answers])[tested]
    assert "models taken up, 0 refused" in into.notes[-1]
    assert 1.0 == auc(yes, into.first[tested])
    assert 1.0 == auc(yes, into.known[tested])
    for scores in into.scores.values():
        assert not np.isnan(scores[tested]).any()
        assert np.isnan(scores[~tested]).all()


def _checkin_rows() -> tuple[list[Row], list[Row]]:
    """Two weeks of people who are at a place of their own in the morning, and at another in the evening."""
    rows: list[Row] = []
    for day in range(14):
        for minute, place in ((480, 1), (1_200, 2)):
            for user in range(1, 9):
                row = {"id": len(rows), "user_id": user, "location_id": 10 * user + place, "latitude": 0.1 * user}
                row |= {"longitude": 0.1 * place, "start_day": day, "start_min": minute, "weekday": (day + user) % 7}
                rows.append({name: str(value) for name, value in row.items()})
    return rows[:160], rows[160:]


def test_habits_are_found() -> None:
    """A person who does the same each day is foreseen by server and baseline; feedback comes after the question."""
    train, valid = _checkin_rows()
    data = DataSet.read(checkins.NAME)
    before, after = checkins.takings(data, train, valid)
    assert [int(row["weekday"]) for row in valid] == [
        (taking.second // 86_400 + 3) % 7 for row in valid for taking in after if taking.row is row
    ]
    ranks = takings.replay(data, [*train, *valid], before, after, 10)
    assert len(valid) == len(ranks.of(takings.MAIN))
    assert 1.0 == hit_rate(ranks.of(takings.MAIN), 1)
    assert 1.0 == hit_rate(checkins.baseline(before, after), 1)


def test_what_is_not_there_is_skipped_with_words(tmp_path: Path) -> None:
    """Without its folder, a data set is skipped, and it is said how to name the folder."""
    told = StringIO()
    assert 0 == show(Console(file=told, width=200), {"coupon": tmp_path / "coupon"}, tmp_path)
    assert "coupon: skipped" in told.getvalue()
    assert "--data" in told.getvalue()
