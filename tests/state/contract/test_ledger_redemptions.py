"""The contract of ledgers for redemptions that change, are reversed, and are limited per person."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import orjson
import pytest

from offers.settings import Settings
from offers.state.ledger import (
    KEPT_S,
    LATE_S,
    PERIOD_KEPT_S,
    Amounts,
    Demand,
    Redemption,
    RedemptionCap,
    RedemptionOutcome,
    Usage,
)
from offers.state.opening import FILE, Stores, open_stores
from offers.state.stores import EVER
from tests.state.contract.test_ledger import DAY, DONE, asked, refusal, units, used

ADA, BOB = ("u:ada", "a:phone"), ("u:bob",)
ONCE = RedemptionCap("once", 7, 1, 0, EVER, 0)
TWICE_A_WEEK = RedemptionCap("twice a week", 8, 2, 0, 0, 7 * DAY)


def by(persons: tuple[str, ...], name: str, *caps: RedemptionCap, second: int = 100) -> Redemption:
    """Return a step of a redemption of a person, under caps."""
    return Redemption(name, f"event of {name}", "offer", persons, second, Amounts(1), (), caps or (ONCE,))


def test_the_rest_is_taken_in_the_period_of_the_reservation(state_stores: Stores) -> None:
    """A reservation of before midnight is wholly of that day, with that day's limit."""
    ledger = state_stores.ledger

    def step(period: int, count: int) -> Redemption:
        return asked("r", Demand("b", period, count, 0, 10, -1, 3, -1))

    assert DONE == refusal(ledger.reserve(step(DAY, 1), 2 * DAY - 1, 3 * DAY))
    assert ("exhausted", "b") == refusal(ledger.confirm(step(2 * DAY, 4), 2 * DAY))
    assert DONE == refusal(ledger.confirm(step(2 * DAY, 3), 2 * DAY))
    assert {("b", 0): (3, 0), ("b", DAY): (3, 0)} == used(ledger)


def test_a_lowered_limit_lets_reservations_be_confirmed_and_nothing_more(state_stores: Stores) -> None:
    """What was promised is kept; less may be confirmed, more may not."""
    ledger = state_stores.ledger
    for name in ("same", "less", "more"):
        ledger.reserve(asked(name, units("b", 2, 9)), 100, 200)

    assert ("exhausted", "b") == refusal(ledger.confirm(asked("more", units("b", 3, 4)), 100))
    assert DONE == refusal(ledger.confirm(asked("same", units("b", 2, 4)), 100))
    assert DONE == refusal(ledger.confirm(asked("less", units("b", 1, 4)), 100))
    assert {("b", 0): (5, 0)} == used(ledger)


def test_a_redemption_stays_with_the_budgets_of_its_reservation(state_stores: Stores) -> None:
    """A budget that was added is not touched, and one that is gone keeps what was held of it."""
    ledger = state_stores.ledger
    ledger.reserve(asked("r", units("old", 2, 9), units("both", 2, 9)), 100, 200)

    assert DONE == refusal(ledger.confirm(asked("r", units("both", 3, 9), units("new", 3, 1)), 100))
    assert {("old", 0): (2, 0), ("both", 0): (3, 0)} == used(ledger)
    assert DONE == refusal(ledger.reverse(asked("r"), 100))
    assert {} == used(ledger)


def test_all_of_several_budgets_have_the_rest_or_none_is_touched(state_stores: Stores) -> None:
    """A refused confirmation leaves the hold, which expires as if nothing had been asked."""
    ledger = state_stores.ledger
    ledger.reserve(asked("r", units("offer", 1, 9), units("campaign", 1, 2)), 100, 200)
    both = asked("r", units("offer", 3, 9), units("campaign", 3, 2))

    assert ("exhausted", "campaign") == refusal(ledger.confirm(both, 150))
    assert {("offer", 0): (1, 0), ("campaign", 0): (1, 0)} == used(ledger)
    assert "held" == ledger.find("r").phase
    assert 1 == ledger.expire(200)
    assert {} == used(ledger)


def test_a_reversal_is_given_back_once(state_stores: Stores) -> None:
    """A reversal returns to total and period, repeated by any event it does nothing, and nothing follows it."""
    ledger = state_stores.ledger
    step = asked("r", Demand("b", DAY, 2, 5, 9, 9, 9, 9))
    ledger.confirm(step, DAY)
    ledger.confirm(asked("other", Demand("b", DAY, 1, 1, 9, 9, 9, 9)), DAY)

    repeats = [ledger.reverse(step._replace(event_id=name), 2 * DAY) for name in ("x", "x", "y")]
    assert [DONE] * 3 == [refusal(outcome) for outcome in repeats]
    assert [False, False, True] == [outcome.repeated for outcome in repeats]
    assert {("b", 0): (1, 1), ("b", DAY): (1, 1)} == used(ledger)
    assert ("reversed", "event of r") == (ledger.find("r").phase, ledger.find("r").confirm_event_id)
    for again in (ledger.confirm(step, 2 * DAY), ledger.release(step, 2 * DAY), ledger.reserve(step, 2 * DAY, 3 * DAY)):
        assert ("reversed", "") == refusal(again)


def test_a_reversal_after_the_period_is_forgotten_leaves_no_trace(state_stores: Stores) -> None:
    """Usage never falls below zero, and forgotten periods stay forgotten."""
    ledger = state_stores.ledger
    ledger.confirm(asked("r", Demand("b", DAY, 2, 0, 9, -1, 9, -1)), DAY)
    later = DAY + PERIOD_KEPT_S
    ledger.expire(later)

    assert DONE == refusal(ledger.reverse(asked("r"), later))
    assert [Usage("b", 0, 0, 0)] == list(ledger.usage())


def test_redemptions_are_forgotten(state_settings: Settings, state_stores: Stores) -> None:
    """After KEPT_S a redemption is unknown, by Redis's own clock there."""
    ledger = state_stores.ledger
    ledger.confirm(asked("r", units("b", 1)), 100)
    ledger.expire(99 + KEPT_S)
    assert "confirmed" == ledger.find("r").phase
    if not state_settings.state_url:
        ledger.expire(100 + KEPT_S)
        assert "confirmed" == ledger.find("r").phase  # once an hour
        ledger.expire(100 + KEPT_S + 3_600)
        assert "unknown" == ledger.find("r").phase


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"offer": "another"}, "offer"),
        ({"persons": BOB}, "person"),
        ({"amounts": Amounts(2, 3, "USD")}, "currency"),
    ],
)
def test_all_steps_are_about_one_thing(state_stores: Stores, other: dict[str, object], reason: str) -> None:
    """Another offer, person or currency is refused in every step, and the outcome has the one that is kept."""
    ledger = state_stores.ledger
    first = Redemption("r", "e", "offer", ADA, 100, Amounts(2, 3, "EUR"), (Demand("b", 0, 2, 3, 9, 9, -1, -1),))
    wrong = first._replace(**other)  # type: ignore[arg-type]
    steps: list[Callable[[Redemption], RedemptionOutcome]] = [
        lambda one: ledger.reserve(one, 100, 200),
        lambda one: ledger.confirm(one, 100),
        lambda one: ledger.release(one, 100),
        lambda one: ledger.reverse(one, 100),
    ]
    for number in (0, 1, 3):
        for step in steps if number else steps[:0]:
            outcome = step(wrong)
            assert (reason, "") == refusal(outcome)
            assert ("offer", Amounts(2, 3, "EUR")) == (outcome.kept.offer, outcome.kept.amounts)
        assert DONE == refusal(steps[number](first))
    assert {} == used(ledger)


def test_what_is_not_told_does_not_differ(state_stores: Stores) -> None:
    """A till that knows the redemption alone confirms what was reserved, for whoever reserved."""
    ledger = state_stores.ledger
    first = by(ADA, "r")._replace(amounts=Amounts(2, 3, "EUR"), demands=(Demand("b", 0, 2, 3, 9, 9, -1, -1),))
    ledger.reserve(first, 100, 200)
    assert DONE == refusal(ledger.confirm(Redemption("r", "till"), 150))
    assert {("b", 0): (2, 3)} == used(ledger)
    assert [(7, 100)] == ledger.redeemed(ADA)
    kept = ledger.find("r")
    assert ("till", "till", Amounts(2, 3, "EUR")) == (kept.event_id, kept.confirm_event_id, kept.amounts)


def test_a_cap_counts_what_is_held_and_confirmed(state_stores: Stores) -> None:
    """Whatever is released, expired or reversed does not count."""
    ledger = state_stores.ledger
    assert DONE == refusal(ledger.reserve(by(ADA, "r1"), 100, 200))
    assert ("capped", "once") == refusal(ledger.reserve(by(ADA, "r2"), 100, 200))
    assert ("capped", "once") == refusal(ledger.confirm(by(ADA, "r2"), 100))
    assert DONE == refusal(ledger.reserve(by(BOB, "r3"), 100, 200))
    ledger.release(by(ADA, "r1"), 100)
    assert DONE == refusal(ledger.reserve(by(ADA, "r2"), 100, 200))
    ledger.expire(200)
    assert [] == ledger.redeemed((*ADA, *BOB))
    assert DONE == refusal(ledger.confirm(by(ADA, "r4"), 200))
    assert ("capped", "once") == refusal(ledger.confirm(by(ADA, "r2"), 200))
    ledger.reverse(by(ADA, "r4"), 200)
    assert DONE == refusal(ledger.confirm(by(ADA, "r2"), 200))
    assert [(7, 100)] == ledger.redeemed(ADA)


def test_a_capped_redemption_takes_nothing(state_stores: Stores) -> None:
    """Budgets are as before, also where the person becomes known only at the till."""
    ledger = state_stores.ledger
    ledger.confirm(by(ADA, "r1"), 100)
    demands = (units("b", 2, 9),)
    assert ("capped", "once") == refusal(ledger.reserve(by(ADA, "r2")._replace(demands=demands), 100, 200))
    nobody = by((), "r3")._replace(demands=demands)
    assert DONE == refusal(ledger.reserve(nobody, 100, 200))
    more = nobody._replace(amounts=Amounts(3), demands=(units("b", 3, 9),), persons=ADA)
    assert ("capped", "once") == refusal(ledger.confirm(more, 100))
    assert {("b", 0): (2, 0)} == used(ledger)
    assert DONE == refusal(ledger.confirm(more._replace(persons=BOB), 100))
    assert ({("b", 0): (3, 0)}, [(7, 100)]) == (used(ledger), ledger.redeemed(BOB))


def test_a_cap_counts_over_all_ids(state_stores: Stores) -> None:
    """What a guest redeemed counts for the user, and the other way round."""
    ledger = state_stores.ledger
    assert DONE == refusal(ledger.confirm(by(("a:phone",), "r1"), 100))
    assert ("capped", "once") == refusal(ledger.confirm(by(ADA, "r2"), 100))
    assert ("capped", "once") == refusal(ledger.confirm(by(("a:phone",), "r2"), 100))
    assert DONE == refusal(ledger.confirm(by(("a:laptop",), "r3"), 100))


def test_no_rolling_window_has_too_many_in_whatever_order(state_stores: Stores) -> None:
    """Late redemptions are judged among those before and after them."""
    ledger = state_stores.ledger
    days = (20, 14, 13, 17, 8, 7, 22, 26)
    outcomes = [ledger.confirm(by(ADA, f"r{day}", TWICE_A_WEEK, second=day * DAY), 30 * DAY) for day in days]
    assert [True, True, True, False, False, True, True, False] == [outcome.done for outcome in outcomes]


def test_what_no_cap_counts_any_more_is_removed(state_settings: Settings, state_stores: Stores) -> None:
    """Redemptions are kept for the windows of caps, and for late events; for ever where a cap is for ever."""
    ledger = state_stores.ledger
    ledger.confirm(by(ADA, "r1", TWICE_A_WEEK, ONCE), 100)
    later = 101 + 7 * DAY + LATE_S
    ledger.expire(later - 2)
    assert [(7, 100), (8, 100)] == ledger.redeemed(ADA)
    ledger.expire(later + 3_600)
    if state_settings.state_url:
        ledger.confirm(by(ADA, "r2", TWICE_A_WEEK, second=later), later)  # with the next redemption
    assert (7, 100) in ledger.redeemed(ADA)
    assert (8, 100) not in ledger.redeemed(ADA)


def test_a_person_is_forgotten(state_stores: Stores) -> None:
    """After an erasure nothing is counted, and redemptions go on as before."""
    ledger = state_stores.ledger
    ledger.confirm(by(ADA, "r1"), 100)
    ledger.reserve(by(BOB, "r2"), 100, 200)
    ledger.forget(ADA)
    assert [(7, 100)] == ledger.redeemed((*ADA, *BOB))
    assert DONE == refusal(ledger.reverse(by(ADA, "r1"), 100))
    assert DONE == refusal(ledger.confirm(by(ADA, "r3"), 100))


def test_persons_who_redeem_at_once_stay_within_their_cap(state_settings: Settings, state_stores: Stores) -> None:
    """Sixteen threads of two processes' worth of connections redeem for one person, by all ids: three times."""
    cap = RedemptionCap("three", 9, 3, 0, EVER, 0)
    others = open_stores(state_settings)
    barrier = threading.Barrier(16)

    def work(number: int) -> int:
        ledger = (state_stores, others)[number % 2].ledger
        persons = ADA if number % 3 else ADA[::-1]
        barrier.wait()
        done = 0
        for turn in range(5):
            one = by(persons, f"r{number}-{turn}", cap)
            done += ledger.reserve(one, 100, 200).done if turn % 2 else ledger.confirm(one, 100).done
        return done

    with ThreadPoolExecutor(16) as pool:
        assert 3 == sum(pool.map(work, range(16)))
    others.close()
    assert 3 == len(state_stores.ledger.redeemed(ADA))


def test_confirmations_at_once_take_one_amount(state_settings: Settings, state_stores: Stores) -> None:
    """Of confirmations of one redemption with different amounts one is taken; others are refused."""
    others = open_stores(state_settings)
    state_stores.ledger.reserve(asked("r", units("b", 1, 8)), 100, 200)
    barrier = threading.Barrier(8)

    def work(count: int) -> bool:
        barrier.wait()
        one = asked("r", units("b", count, 8))._replace(event_id=f"e{count}")
        return (state_stores, others)[count % 2].ledger.confirm(one, 100).done

    with ThreadPoolExecutor(8) as pool:
        done = [count for count, is_done in enumerate(pool.map(work, range(1, 9)), 1) if is_done]
    others.close()
    assert 1 == len(done)
    assert {("b", 0): (done[0], 0)} == used(state_stores.ledger)


def as_format_3(connection: sqlite3.Connection) -> None:
    """Bring an empty file into the format before redemptions had amounts and persons."""
    connection.execute("DROP TABLE redeemed")
    connection.execute("DROP TABLE redemption")
    connection.execute(
        "CREATE TABLE redemption (redemption TEXT PRIMARY KEY, phase TEXT NOT NULL, second INTEGER NOT NULL,"
        " demands BLOB NOT NULL) WITHOUT ROWID"
    )
    connection.execute("CREATE INDEX redemption_second ON redemption (phase, second)")
    connection.execute("PRAGMA user_version = 3")


@pytest.mark.parametrize("state_settings", ["sqlite"], indirect=True)
def test_files_of_the_last_version_are_read(state_settings: Settings) -> None:
    """Holds of a file of format 3 are given back and confirmed; what it has confirmed cannot be reversed."""
    open_stores(state_settings).close()
    path = state_settings.data_dir / FILE
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        as_format_3(connection)
        held = orjson.dumps([["b", DAY, 2, 5]])
        for name, phase, demands in (("h1", "held", held), ("h2", "held", held), ("c", "confirmed", b"[]")):
            connection.execute("INSERT INTO redemption VALUES (?, ?, ?, ?)", (name, phase, 200, demands))
        connection.executemany("INSERT INTO used VALUES ('b', ?, 6, 15)", [(0,), (DAY,)])
    with closing(open_stores(state_settings)) as stores:
        ledger = stores.ledger
        step = Demand("b", DAY, 3, 5, 9, -1, -1, -1)
        assert DONE == refusal(ledger.release(asked("h1"), 100))
        assert DONE == refusal(ledger.confirm(asked("h2", step), 100))
        assert ("unknown", "") == refusal(ledger.reverse(asked("c"), 100))
        assert DONE == refusal(ledger.confirm(asked("c", step), 100))
        assert {("b", 0): (5, 10), ("b", DAY): (5, 10)} == used(ledger)
