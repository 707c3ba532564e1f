"""Reversed redemptions count as not redeemed, in models that are learned."""

from pathlib import Path

from offers.state.sqlite.events import SqliteEvents
from offers.state.stores import LoggedEvent
from offers.v1.event_pb2 import Event, RedemptionEvent
from tests.learning.made_log import NOON, decision, event, logged, write
from tests.learning.test_learner import chance, learn

SHOWN = 600


def reversal(of: str, rank: int, confirmed: int) -> LoggedEvent:
    """Return the reversal of a redemption, an hour after its confirmation."""
    made = Event(event_id=f"reversal of {of}", attributed_proposition_id=f"{of}-{rank}")
    made.redemption.phase = RedemptionEvent.PHASE_REVERSE
    made.redemption.confirm_time.seconds = confirmed
    return logged(made, confirmed + 3_600)


def test_what_was_redeemed_and_reversed_is_not_liked(log: SqliteEvents, folder: Path) -> None:
    """Of two offers that are always redeemed, the one whose redemptions are reversed is foreseen as seldom taken."""
    decisions, events = [], []
    for number in range(SHOWN):
        second, name = NOON + 20 * number, f"{number:032x}"
        decisions.append(decision(name, second, ["o1", "o2"], f"u:{number % 50}", time=second))
        events += [event(f"c{number}-{rank}", "redemption", name, rank, second + 10) for rank in (1, 2)]
        events.append(reversal(name, 2, second + 10))
    write(log, decisions, sorted(events, key=lambda one: one.received))
    learn(log, folder)
    assert chance(folder, "sun", "o1", "redemption") > 0.6
    assert chance(folder, "sun", "o2", "redemption") < 0.4
