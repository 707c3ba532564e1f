"""Decisions with the outcomes of their offers, as what-if reads them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.learning.values import Sum
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.state.stores import LoggedEvent
from offers.v1.event_pb2 import Event, RedemptionEvent
from offers.whatif.logged_outcomes import DecisionFilter, read_log
from tests.learning.made_log import NOON, decision, logged


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEvents]:
    """An empty log."""
    log = SqliteEvents(Database(tmp_path / "log.db"))
    yield log
    log.close()


def redemption(name: str, rank: int, euros: int, confirmed: int = 0) -> LoggedEvent:
    """Return a confirmation of a decision's offer or, with the second of one, its reversal."""
    phase = RedemptionEvent.PHASE_REVERSE if confirmed else RedemptionEvent.PHASE_CONFIRM
    made = Event(event_id=name, attributed_proposition_id=f"d-{rank}", redemption=RedemptionEvent(phase=phase))
    made.redemption.amount.currency_code, made.redemption.amount.units = "EUR", euros
    if confirmed:
        made.redemption.confirm_time.seconds = confirmed
    return logged(made, NOON + 10)


def test_a_reversed_redemption_brought_and_cost_nothing(log: SqliteEvents) -> None:
    """The reward is that of the redemptions that are left, and so is what they took from budgets."""
    log.record([decision("d")])
    log.append([redemption("c1", 1, 5), redemption("c2", 1, 3), redemption("c3", 2, 4)])
    log.append([redemption("r2", 1, 3, NOON + 10), redemption("r3", 2, 4, NOON + 10)])
    (shown,) = read_log(log, DecisionFilter("corner")).shown
    assert [1.0, 0.0, 0.0] == shown.rewards["redemption"]
    assert [("o1", Sum("EUR", 5.0))] == shown.paid
