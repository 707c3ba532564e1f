"""`offers evaluate`: estimates compared with a world in which the true value is known."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from offers.cli import app
from offers.errors import CatalogError, OffersError
from offers.settings import read_settings
from offers.state.opening import open_stores
from offers.v1.event_pb2 import Event, RedemptionEvent
from offers.whatif.evaluation import UNDECIDED
from offers.whatif.logged_outcomes import UNMEASURED
from offers.whatif.off_policy import EvaluationError
from tests.learning.made_log import NOON, decision, event, logged, order
from tests.paths import ROOT as CHECKOUT
from tests.paths import environment
from tests.whatif import worlds

DECISIONS, DAY_S = 2_000, 86_400
ROOT = str(CHECKOUT)


def run(data: Path, *options: str, strategy: str = "by-weather") -> Result:
    """Evaluate a strategy of the catalogue beside the data folder."""
    named = ("--catalog", str(data.parent / "catalog.yaml"), "--strategy", strategy, "--data-dir", str(data))
    return CliRunner().invoke(app, ["evaluate", *named, *options])


def told(data: Path, *options: str, strategy: str = "by-weather") -> dict[str, Any]:
    """The same, as a program reads it."""
    result = run(data, "--json", *options, strategy=strategy)
    assert (0, None) == (result.exit_code, result.exception)
    found: dict[str, Any] = orjson.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of a policy that explores with known probabilities."""
    return worlds.made(tmp_path_factory.mktemp("explored"), *worlds.happened(DECISIONS))


def test_a_strategy_s_value_is_within_its_intervals(explored: Path) -> None:
    """The true value of a strategy is in the intervals of IPW, SNIPS and DR, and differs from what was earned."""
    found = told(explored)

    assert (DECISIONS, 2 * DECISIONS, 2 * DECISIONS, {}) == tuple(
        found[name] for name in ("decisions", "shown", "explored", "left_out")
    )
    for name in ("ipw", "snips", "dr"):
        one = found["evaluation"][name]
        assert one["low"] < worlds.WET_TRUTH < one["high"]
        assert one["high"] - one["low"] < 0.15
    assert found["evaluation"]["earned"]["high"] < worlds.WET_TRUTH - 0.05
    gain, more = found["evaluation"]["gain"], worlds.WET_TRUTH - worlds.EARNED_TRUTH
    assert 0 < gain["low"] < more < gain["high"]
    assert 2.0 == found["offers"]
    assert found["unsupported"] < 0.05
    assert found["evaluation"]["effective_rows"] < 2 * DECISIONS
    assert [] == found["warnings"]


def test_what_was_never_shown_has_no_support(tmp_path: Path) -> None:
    """Without exploration the strategy in force earns what was earned; of another, what it shows beside is told."""
    decisions, events = worlds.happened(300, explored=False)
    data = worlds.made(tmp_path, decisions, events)
    clicks = sum(event.event_id.startswith("c") for event in events)
    wet = sum(decision.told().context_attributes["weather"] == "rain" for decision in decisions)

    same, other = told(data, strategy="usual"), told(data)

    assert [clicks / 300] * 3 == pytest.approx(
        [
            same["evaluation"]["earned"]["value"],
            same["evaluation"]["ipw"]["value"],
            same["evaluation"]["snips"]["value"],
        ]
    )
    assert (0, 0.0, 600.0) == (same["explored"], same["unsupported"], same["evaluation"]["effective_rows"])
    assert wet / 600 == pytest.approx(other["unsupported"])
    assert all("nothing was explored" in one["warnings"][0] for one in (same, other))
    assert "the weights have a mean of" in " ".join(other["warnings"])


def test_who_has_not_agreed_to_learning_is_in_no_figure(tmp_path: Path) -> None:
    """Decisions, and outcomes, that may not be learned from are left out, and change nothing but their count."""
    decisions, events = worlds.happened(200)
    (tmp_path / "without").mkdir()
    kept = told(worlds.made(tmp_path / "without", decisions[2:], events), "--since", "2026-11-18")
    refused = decisions[0].told()
    refused.learn = False
    empty = decisions[0].told()
    del empty.offer_ids[:]
    data = worlds.made(
        tmp_path,
        [
            decisions[0]._replace(record=refused.SerializeToString()),
            decisions[0]._replace(decision_id="e" * 32, record=empty.SerializeToString()),
            *decisions[1:],
        ],
        [event("withdrawn", "impression", decisions[1].decision_id, 1, learn=False), *events],
    )

    found = told(data, "--since", "2026-11-18")

    left_out = found.pop("left_out")
    assert 3 == len(left_out)
    assert {1} == set(left_out.values())
    assert {} == kept.pop("left_out")
    assert kept == found


def test_a_reward_is_of_its_kind_and_in_time(tmp_path: Path) -> None:
    """Clicks count within a day; confirmed redemptions, and orders put down to an offer, within eight; each once."""
    (tmp_path / "catalog.yaml").write_text(worlds.CATALOG)
    decisions = [decision(f"{number:032x}", offers=worlds.USUAL, draw=number) for number in range(1, 5)]
    ids = [one.decision_id for one in decisions]
    reserved = Event(event_id="r2", proposition_id=f"{ids[0]}-1")
    reserved.redemption.phase = RedemptionEvent.PHASE_RESERVE
    events = [
        event("c1", "click", ids[0], 1, NOON + DAY_S),
        event("c2", "click", ids[0], 1, NOON + 1),
        event("c3", "click", ids[1], 1, NOON + DAY_S + 1),
        event("c4", "click", ids[1], 3, NOON + 1),
        event("c5", "click", "f" * 32, 1, NOON + 1),
        worlds.redemption("r1", ids[2], 2, NOON + 8 * DAY_S),
        logged(reserved, NOON + 1),
        event("o1", "order", ids[3], 2, NOON + 8 * DAY_S),
        event("o2", "order", ids[0], 2, NOON + 8 * DAY_S + 1),
        event("o3", "order", ids[1], 2, NOON + 2),
    ]
    data = worlds.made(tmp_path, decisions, events)

    found = {name: told(data, "--reward", name, strategy="usual") for name in ("click", "redemption", "order")}

    earned = {name: 4 * one["evaluation"]["earned"]["value"] for name, one in found.items()}
    assert {"click": 1.0, "redemption": 1.0, "order": 2.0} == pytest.approx(earned)
    assert [0, 0, 0] == [one["open"] for one in found.values()]


def test_order_values_are_shares_of_the_document_s_scale(tmp_path: Path) -> None:
    """The first total over 0 counts, in time and at most 1; decisions with an unmeasurable order are left out and
    counted; other rewards are not affected.
    """  # noqa: D205
    decisions = [decision(f"{number:032x}", offers=worlds.USUAL, draw=number) for number in range(1, 8)]
    ids = [one.decision_id for one in decisions]
    events = [
        order("1", ids[0], 1, NOON + 1, units=10),
        order("2", ids[0], 1, NOON + 2, units=50),
        order("3", ids[1], 2, NOON + 8 * DAY_S, units=80),
        order("4", ids[2], 2, NOON + 8 * DAY_S + 1, units=50),
        order("5", ids[3], 1, NOON + 1),
        order("6", ids[3], 1, NOON + 2, units=12, nanos=500_000_000),
        order("7", ids[4], 1, NOON + 1, units=10, currency="USD"),
        event("8", "order", ids[5], 2, NOON + 1),
        worlds.redemption("9", ids[6], 1, NOON + 1),
    ]
    data = worlds.made(tmp_path, decisions, events, worlds.MEASURED)

    found, orders = (told(data, "--reward", name, strategy="usual") for name in ("order_value", "order"))

    assert 0.2 + 1 + 0.25 == pytest.approx(5 * found["evaluation"]["earned"]["value"])
    assert ({UNMEASURED: 2}, 5, {"currency": "EUR", "units": 50.0}) == (
        found["left_out"], found["decisions"], found["scale"]
    )  # fmt: skip
    assert 5 == pytest.approx(7 * orders["evaluation"]["earned"]["value"])
    assert ({}, 7, None) == (orders["left_out"], orders["decisions"], orders["scale"])


def test_an_order_value_is_within_its_intervals(tmp_path: Path) -> None:
    """The true order value of a strategy is in the intervals, and is told in the currency as well."""
    decisions, events = worlds.happened(DECISIONS)
    data = worlds.made(tmp_path, decisions, worlds.ordered(decisions, events), worlds.MEASURED)

    found, shown = told(data, "--reward", "order_value"), run(data, "--reward", "order_value")

    for name in ("ipw", "snips", "dr"):
        one = found["evaluation"][name]
        assert one["low"] < worlds.WET_VALUE < one["high"]
        assert one["high"] - one["low"] < 0.1
    assert found["evaluation"]["earned"]["high"] < worlds.WET_VALUE
    assert "order value (1 is 50.00 EUR)" in shown.stdout.replace("\n", " ")
    value = 50 * found["evaluation"]["dr"]["value"]
    assert f"By DR that is {value:.2f} EUR per decision (" in shown.stdout
    assert "An order counts as 50.00 EUR at most." in shown.stdout


def test_order_values_need_a_scale(explored: Path) -> None:
    """A document that measures orders by nothing cannot be asked for their value."""
    refused = run(explored, "--reward", "order_value")

    assert isinstance(refused.exception, EvaluationError)
    assert "the catalogue has no order_value_scale" in str(refused.exception)


def test_decisions_are_chosen_by_placement_and_time(tmp_path: Path) -> None:
    """Decisions of a placement, or from an instant on, are looked at; those of no placement it has are left out."""
    decisions, events = worlds.happened(60)
    told_of = [one.told() for one in decisions]
    for number, one in enumerate(told_of):
        one.placement = ("home", "banner", "gone")[number % 3]
    decisions = [one._replace(record=of.SerializeToString()) for one, of in zip(decisions, told_of, strict=True)]
    data = worlds.made(tmp_path, decisions, events)
    begin = datetime.fromtimestamp(NOON + 60 * 30, UTC).isoformat()

    everything = told(data)
    banner = told(data, "--placement", "banner")
    late = told(data, "--placement", "home", "--since", begin)

    assert (40, {UNDECIDED: 20}) == (everything["decisions"], everything["left_out"])
    assert (20, 1.0) == (banner["decisions"], banner["offers"])
    assert (10, 2.0) == (late["decisions"], late["offers"])


def test_a_strategy_that_asks_models_is_warned_of(tmp_path: Path) -> None:
    """By a model that has learned the world the best is shown; that it learned from the same decisions is told."""
    data = worlds.made(tmp_path, *worlds.happened(3_000))
    nothing = told(data, strategy="learned")
    command = ["-m", "offers", "learn", "--once", "--catalog", str(tmp_path / "catalog.yaml"), "--data-dir", str(data)]
    subprocess.run([sys.executable, "-P", *command], check=True, capture_output=True, env=environment())

    found = told(data, strategy="learned")

    assert any("no model has been published" in one for one in nothing["warnings"])
    assert any("has learned from 3,000 of these decisions" in one for one in found["warnings"])
    one = found["evaluation"]["dr"]
    best = worlds.RAIN * (0.6 + 0.3) + (1 - worlds.RAIN) * (0.3 + 0.1)
    assert one["low"] < best < one["high"]
    assert nothing["evaluation"]["dr"]["high"] < best


def test_the_table_says_what_it_rests_on(explored: Path) -> None:
    """People are told each estimate beside what was earned, how many decisions it rests on, and what to beware of."""
    shown = run(explored)

    assert (0, "") == (shown.exit_code, shown.stderr)
    for text in (
        "earned, as logged",
        "IPW",
        "SNIPS",
        "DM",
        "DR over what was earned",
        "clicks per decision",
        "Used: 2,000 decisions",
    ):
        assert text in shown.stdout
    assert "Effective sample size:" in shown.stdout
    assert "whatever its rank" in shown.stdout
    assert "WARNING" not in shown.stdout


def test_what_cannot_be_evaluated_is_said(explored: Path, tmp_path: Path) -> None:
    """An unknown strategy, a log that is missing or empty, a faulty catalogue and a bad instant are told."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("catalog_id: corner\noffers: [{offer_id: o1, price: 2}]")
    open_stores(read_settings(data_dir=tmp_path / "empty")).close()
    log = ("--data-dir", str(tmp_path / "empty"))

    unknown = run(explored, strategy="best")
    late = run(explored, "--since", "2030-01-01")
    when = run(explored, "--since", "yesterday")
    sloppy = run(explored, "--since", "20261118")
    none = run(explored, *log)
    nowhere = run(explored, "--data-dir", str(tmp_path / "nowhere"))
    faulty = run(explored, "--catalog", str(bad))

    assert (2, 2, 2) == (unknown.exit_code, when.exit_code, sloppy.exit_code)
    assert "by-weather" in unknown.stderr
    assert "2026-11-01" in when.stderr
    for result in (late, none):
        assert isinstance(result.exception, EvaluationError)
        assert "no decisions that can be used" in str(result.exception)
    assert isinstance(nowhere.exception, OffersError)
    assert "--data-dir" in str(nowhere.exception)
    assert isinstance(faulty.exception, CatalogError)
    assert "price" in str(faulty.exception)
