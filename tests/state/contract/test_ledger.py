"""The contract of ledgers."""

import pytest

from offers.state.ledger import PERIOD_KEPT_S, Amounts, Demand, Ledger, Redemption, RedemptionOutcome, Usage
from offers.state.opening import Stores

DAY = 86_400
MILLION = 1_000_000


def units(budget: str, count: int, most: int = -1) -> Demand:
    """Return a demand for units of a budget without periods."""
    return Demand(budget, 0, count, 0, most, -1, -1, -1)


def money(budget: str, micros: int, most: int = -1) -> Demand:
    """Return a demand for money of a budget without periods."""
    return Demand(budget, 0, 0, micros, -1, most, -1, -1)


def asked(name: str, *demands: Demand) -> Redemption:
    """Return a step of a redemption with these demands, whose amounts are those of the first."""
    amounts = Amounts(demands[0].units, demands[0].micros) if demands else Amounts()
    return Redemption(name, f"event of {name}", amounts=amounts, demands=demands)


def refusal(outcome: RedemptionOutcome) -> tuple[str, str]:
    """Return why a step was refused, and what was lacking; nothing where it was done."""
    assert outcome.done == (not outcome.reason)
    return outcome.reason, outcome.lacking


DONE = ("", "")


def used(ledger: Ledger) -> dict[tuple[str, int], tuple[int, int]]:
    """Return the usage of budgets that is not zero."""
    return {(one.budget, one.period): (one.units, one.micros) for one in ledger.usage() if one.units or one.micros}


def test_units_are_held_taken_and_given_back(state_stores: Stores) -> None:
    """A reservation counts at once, stays when it is confirmed, and is returned when it is released."""
    ledger = state_stores.ledger
    assert DONE == refusal(ledger.reserve(asked("r1", units("b", 2, 3)), 100, 200))
    assert {("b", 0): (2, 0)} == used(ledger)
    assert ("exhausted", "b") == refusal(ledger.reserve(asked("r2", units("b", 2, 3)), 100, 200))
    assert DONE == refusal(ledger.release(asked("r1"), 150))
    assert {} == used(ledger)
    assert DONE == refusal(ledger.reserve(asked("r2", units("b", 2, 3)), 150, 200))
    assert DONE == refusal(ledger.confirm(asked("r2"), 160))
    assert {("b", 0): (2, 0)} == used(ledger)


def test_steps_may_be_repeated(state_stores: Stores) -> None:
    """A repeated step succeeds and takes nothing more."""
    ledger = state_stores.ledger
    for _ in range(3):
        assert DONE == refusal(ledger.reserve(asked("r1", units("b", 1, 1)), 100, 200))
    for _ in range(3):
        assert DONE == refusal(ledger.confirm(asked("r1", units("b", 1, 1)), 100))
    assert DONE == refusal(ledger.reserve(asked("r1", units("b", 1, 1)), 100, 200))
    assert DONE == refusal(ledger.reserve(asked("r2", units("c", 1)), 100, 200))
    for _ in range(3):
        assert DONE == refusal(ledger.release(asked("r2"), 100))
    assert {("b", 0): (1, 0)} == used(ledger)


def test_steps_that_do_not_fit_are_refused(state_stores: Stores) -> None:
    """A confirmed redemption cannot be released, nor a released one reserved; unknown ones are refused."""
    ledger = state_stores.ledger
    ledger.confirm(asked("confirmed", units("b", 1)), 100)
    ledger.reserve(asked("released", units("b", 1)), 100, 200)
    ledger.release(asked("released"), 100)
    before = used(ledger)

    assert ("confirmed", "") == refusal(ledger.release(asked("confirmed"), 100))
    assert ("released", "") == refusal(ledger.confirm(asked("released", units("b", 1)), 100))
    assert ("released", "") == refusal(ledger.reserve(asked("released", units("b", 1)), 100, 200))
    assert ("unknown", "") == refusal(ledger.release(asked("stranger"), 100))
    assert before == used(ledger)


def test_all_budgets_have_enough_or_none_is_touched(state_stores: Stores) -> None:
    """A redemption of several budgets takes from all or none, and names the exhausted one."""
    ledger = state_stores.ledger
    ledger.confirm(asked("r1", units("campaign", 4, 5)), 100)
    both = [units("offer", 2, 10), units("campaign", 2, 5)]

    assert ("exhausted", "campaign") == refusal(ledger.reserve(asked("r2", *both), 100, 200))
    assert ("exhausted", "campaign") == refusal(ledger.confirm(asked("r2", *both), 100))
    assert {("campaign", 0): (4, 0)} == used(ledger)


def test_a_budget_that_is_asked_twice_is_counted_twice(state_stores: Stores) -> None:
    """Two demands on one budget need enough for both."""
    ledger = state_stores.ledger

    assert ("exhausted", "b") == refusal(ledger.reserve(asked("r1", units("b", 2, 3), units("b", 2, 3)), 100, 200))
    assert DONE == refusal(ledger.reserve(asked("r1", units("b", 1, 3), units("b", 2, 3)), 100, 200))
    assert {("b", 0): (3, 0)} == used(ledger)


def test_a_period_has_limits_of_its_own(state_stores: Stores) -> None:
    """A period has its own limits, the next begins with no usage, and releases return to both."""
    ledger = state_stores.ledger

    def step(period: int) -> Demand:
        return Demand("b", period, 1, 5, 10, -1, 2, 100)

    steps = [ledger.reserve(asked(f"r{number}", step(DAY)), DAY, 2 * DAY) for number in range(3)]
    assert [DONE, DONE, ("exhausted", "b")] == [refusal(outcome) for outcome in steps]
    assert DONE == refusal(ledger.reserve(asked("r3", step(2 * DAY)), 2 * DAY - 1, 3 * DAY))
    assert {("b", 0): (3, 15), ("b", DAY): (2, 10), ("b", 2 * DAY): (1, 5)} == used(ledger)
    ledger.release(asked("r0"), DAY)
    assert {("b", 0): (2, 10), ("b", DAY): (1, 5), ("b", 2 * DAY): (1, 5)} == used(ledger)


@pytest.mark.parametrize("amount", [1, 999_999, MILLION, 2**53 + 1, 10**17 + 1])
def test_money_is_exact(state_stores: Stores, amount: int) -> None:
    """Sums of any size are exact to the millionth, and none exceeds the limit."""
    ledger = state_stores.ledger
    most = 3 * amount - 1

    assert DONE == refusal(ledger.confirm(asked("r1", money("b", amount, most)), 100))
    assert ("exhausted", "b") == refusal(ledger.reserve(asked("r2", money("b", 2 * amount, most)), 100, 200))
    assert DONE == refusal(ledger.reserve(asked("r3", money("b", 2 * amount - 1, most)), 100, 200))
    assert {("b", 0): (0, most)} == used(ledger)
    ledger.release(asked("r3"), 100)
    assert {("b", 0): (0, amount)} == used(ledger)


def test_only_demands_on_an_exhausted_limit_are_refused(state_stores: Stores) -> None:
    """Where a limit was lowered below the usage, only demands on that limit are refused."""
    ledger = state_stores.ledger
    ledger.confirm(asked("r1", Demand("b", 0, 5, 5, -1, -1, -1, -1)), 100)

    assert DONE == refusal(ledger.confirm(asked("r2", Demand("b", 0, 0, 1, 3, -1, -1, -1)), 100))
    assert DONE == refusal(ledger.confirm(asked("r3", Demand("b", 0, 1, 0, -1, 3, -1, -1)), 100))
    assert ("exhausted", "b") == refusal(ledger.confirm(asked("r4", Demand("b", 0, 1, 0, 3, -1, -1, -1)), 100))
    assert ("exhausted", "b") == refusal(ledger.confirm(asked("r5", Demand("b", 0, 0, 1, -1, 3, -1, -1)), 100))


def test_expired_reservations_are_released(state_stores: Stores) -> None:
    """A reservation is released once, at its last second and not before."""
    ledger = state_stores.ledger
    for number in range(1200):
        ledger.reserve(asked(f"r{number}", units("b", 1)), 100, 200)
    ledger.reserve(asked("later", units("b", 1)), 100, 201)
    ledger.confirm(asked("r0"), 150)

    assert 0 == ledger.expire(199)
    assert 1199 == ledger.expire(200)
    assert 0 == ledger.expire(200)
    assert {("b", 0): (2, 0)} == used(ledger)


@pytest.mark.parametrize("swept", [True, False])
def test_confirming_an_expired_reservation_needs_enough_budget(state_stores: Stores, swept: bool) -> None:  # noqa: FBT001
    """An expired reservation holds nothing; confirming takes anew, reserving again is refused."""
    ledger = state_stores.ledger
    for name in ("r1", "r2", "r3"):
        ledger.reserve(asked(name, units("b", 1, 3)), 100, 200)
    if swept:
        ledger.expire(200)

    assert ("expired", "") == refusal(ledger.reserve(asked("r1", units("b", 1, 3)), 200, 300))
    assert DONE == refusal(ledger.release(asked("r2"), 200))
    assert ("released", "") == refusal(ledger.confirm(asked("r2", units("b", 1, 3)), 200))
    assert DONE == refusal(ledger.confirm(asked("r1", units("b", 2, 3)), 200))
    ledger.expire(200)
    assert {("b", 0): (2, 0)} == used(ledger)
    assert ("exhausted", "b") == refusal(ledger.confirm(asked("r3", units("b", 2, 3)), 200))
    assert DONE == refusal(ledger.confirm(asked("r3", units("b", 1, 3)), 200))


def test_use_in_old_periods_is_forgotten(state_stores: Stores) -> None:
    """The usage of a long past period is removed; the total stays."""
    ledger = state_stores.ledger
    for period in (DAY, 3 * DAY):
        ledger.confirm(asked(f"r{period}", Demand("b", period, 1, 0, -1, -1, -1, -1)), period)
    ledger.expire(2 * DAY + PERIOD_KEPT_S)

    assert {Usage("b", 0, 2, 0), Usage("b", 3 * DAY, 1, 0)} == set(ledger.usage())
