"""The contract of ledgers."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offers.state.opening import Stores
from offers.state.stores import DONE, PERIOD_KEPT_S, Demand, Ledger, RedemptionOutcome, Usage, refused

DAY = 86_400
MILLION = 1_000_000


def units(budget: str, count: int, most: int = -1) -> Demand:
    """Return a demand for units of a budget without periods."""
    return Demand(budget, 0, count, 0, most, -1, -1, -1)


def money(budget: str, micros: int, most: int = -1) -> Demand:
    """Return a demand for money of a budget without periods."""
    return Demand(budget, 0, 0, micros, -1, most, -1, -1)


def used(ledger: Ledger) -> dict[tuple[str, int], tuple[int, int]]:
    """Return the usage of budgets that is not zero."""
    return {(one.budget, one.period): (one.units, one.micros) for one in ledger.usage() if one.units or one.micros}


def test_units_are_held_taken_and_given_back(state_stores: Stores) -> None:
    """A reservation counts at once, stays when it is confirmed, and is returned when it is released."""
    ledger = state_stores.ledger
    assert DONE == ledger.reserve("r1", [units("b", 2, 3)], 100, 200)
    assert {("b", 0): (2, 0)} == used(ledger)
    assert refused("exhausted", "b") == ledger.reserve("r2", [units("b", 2, 3)], 100, 200)
    assert DONE == ledger.release("r1", 150)
    assert {} == used(ledger)
    assert DONE == ledger.reserve("r2", [units("b", 2, 3)], 150, 200)
    assert DONE == ledger.confirm("r2", [], 160)
    assert {("b", 0): (2, 0)} == used(ledger)


def test_steps_may_be_repeated(state_stores: Stores) -> None:
    """A repeated step succeeds and takes nothing more."""
    ledger = state_stores.ledger
    for _ in range(3):
        assert DONE == ledger.reserve("r1", [units("b", 1, 1)], 100, 200)
    for _ in range(3):
        assert DONE == ledger.confirm("r1", [units("b", 1, 1)], 100)
    assert DONE == ledger.reserve("r1", [units("b", 1, 1)], 100, 200)
    assert DONE == ledger.reserve("r2", [units("c", 1)], 100, 200)
    for _ in range(3):
        assert DONE == ledger.release("r2", 100)
    assert {("b", 0): (1, 0)} == used(ledger)


def test_steps_that_do_not_fit_are_refused(state_stores: Stores) -> None:
    """A confirmed redemption cannot be released, nor a released one reserved; unknown ones are refused."""
    ledger = state_stores.ledger
    ledger.confirm("confirmed", [units("b", 1)], 100)
    ledger.reserve("released", [units("b", 1)], 100, 200)
    ledger.release("released", 100)
    before = used(ledger)

    assert refused("confirmed") == ledger.release("confirmed", 100)
    assert refused("released") == ledger.confirm("released", [units("b", 1)], 100)
    assert refused("released") == ledger.reserve("released", [units("b", 1)], 100, 200)
    assert refused("unknown") == ledger.release("stranger", 100)
    assert before == used(ledger)


def test_all_budgets_have_enough_or_none_is_touched(state_stores: Stores) -> None:
    """A redemption of several budgets takes from all or none, and names the exhausted one."""
    ledger = state_stores.ledger
    ledger.confirm("r1", [units("campaign", 4, 5)], 100)
    both = [units("offer", 2, 10), units("campaign", 2, 5)]

    assert refused("exhausted", "campaign") == ledger.reserve("r2", both, 100, 200)
    assert refused("exhausted", "campaign") == ledger.confirm("r2", both, 100)
    assert {("campaign", 0): (4, 0)} == used(ledger)


def test_a_budget_that_is_asked_twice_is_counted_twice(state_stores: Stores) -> None:
    """Two demands on one budget need enough for both."""
    ledger = state_stores.ledger

    assert refused("exhausted", "b") == ledger.reserve("r1", [units("b", 2, 3), units("b", 2, 3)], 100, 200)
    assert DONE == ledger.reserve("r1", [units("b", 1, 3), units("b", 2, 3)], 100, 200)
    assert {("b", 0): (3, 0)} == used(ledger)


def test_a_period_has_limits_of_its_own(state_stores: Stores) -> None:
    """A period has its own limits, the next begins with no usage, and releases return to both."""
    ledger = state_stores.ledger

    def step(period: int) -> Demand:
        return Demand("b", period, 1, 5, 10, -1, 2, 100)

    assert [DONE, DONE, refused("exhausted", "b")] == [
        ledger.reserve(f"r{number}", [step(DAY)], DAY, 2 * DAY) for number in range(3)
    ]
    assert DONE == ledger.reserve("r3", [step(2 * DAY)], 2 * DAY - 1, 3 * DAY)
    assert {("b", 0): (3, 15), ("b", DAY): (2, 10), ("b", 2 * DAY): (1, 5)} == used(ledger)
    ledger.release("r0", DAY)
    assert {("b", 0): (2, 10), ("b", DAY): (1, 5), ("b", 2 * DAY): (1, 5)} == used(ledger)


@pytest.mark.parametrize("amount", [1, 999_999, MILLION, 2**53 + 1, 10**17 + 1])
def test_money_is_exact(state_stores: Stores, amount: int) -> None:
    """Sums of any size are exact to the millionth, and none exceeds the limit."""
    ledger = state_stores.ledger
    most = 3 * amount - 1

    assert DONE == ledger.confirm("r1", [money("b", amount, most)], 100)
    assert refused("exhausted", "b") == ledger.reserve("r2", [money("b", 2 * amount, most)], 100, 200)
    assert DONE == ledger.reserve("r3", [money("b", 2 * amount - 1, most)], 100, 200)
    assert {("b", 0): (0, most)} == used(ledger)
    ledger.release("r3", 100)
    assert {("b", 0): (0, amount)} == used(ledger)


def test_only_demands_on_an_exhausted_limit_are_refused(state_stores: Stores) -> None:
    """Where a limit was lowered below the usage, only demands on that limit are refused."""
    ledger = state_stores.ledger
    ledger.confirm("r1", [Demand("b", 0, 5, 5, -1, -1, -1, -1)], 100)

    assert DONE == ledger.confirm("r2", [Demand("b", 0, 0, 1, 3, -1, -1, -1)], 100)
    assert DONE == ledger.confirm("r3", [Demand("b", 0, 1, 0, -1, 3, -1, -1)], 100)
    assert refused("exhausted", "b") == ledger.confirm("r4", [Demand("b", 0, 1, 0, 3, -1, -1, -1)], 100)
    assert refused("exhausted", "b") == ledger.confirm("r5", [Demand("b", 0, 0, 1, -1, 3, -1, -1)], 100)


def test_expired_reservations_are_released(state_stores: Stores) -> None:
    """A reservation is released once, at its last second and not before."""
    ledger = state_stores.ledger
    for number in range(1200):
        ledger.reserve(f"r{number}", [units("b", 1)], 100, 200)
    ledger.reserve("later", [units("b", 1)], 100, 201)
    ledger.confirm("r0", [], 150)

    assert 0 == ledger.expire(199)
    assert 1199 == ledger.expire(200)
    assert 0 == ledger.expire(200)
    assert {("b", 0): (2, 0)} == used(ledger)


@pytest.mark.parametrize("swept", [True, False])
def test_confirming_an_expired_reservation_needs_enough_budget(state_stores: Stores, swept: bool) -> None:  # noqa: FBT001
    """An expired reservation holds nothing; confirming takes anew, reserving again is refused."""
    ledger = state_stores.ledger
    for name in ("r1", "r2", "r3"):
        ledger.reserve(name, [units("b", 1, 3)], 100, 200)
    if swept:
        ledger.expire(200)

    assert refused("expired") == ledger.reserve("r1", [units("b", 1, 3)], 200, 300)
    assert DONE == ledger.release("r2", 200)
    assert refused("released") == ledger.confirm("r2", [units("b", 1, 3)], 200)
    assert DONE == ledger.confirm("r1", [units("b", 2, 3)], 200)
    ledger.expire(200)
    assert {("b", 0): (2, 0)} == used(ledger)
    assert refused("exhausted", "b") == ledger.confirm("r3", [units("b", 2, 3)], 200)
    assert DONE == ledger.confirm("r3", [units("b", 1, 3)], 200)


def test_use_in_old_periods_is_forgotten(state_stores: Stores) -> None:
    """The usage of a long past period is removed; the total stays."""
    ledger = state_stores.ledger
    for period in (DAY, 3 * DAY):
        ledger.confirm(f"r{period}", [Demand("b", period, 1, 0, -1, -1, -1, -1)], period)
    ledger.expire(2 * DAY + PERIOD_KEPT_S)

    assert {Usage("b", 0, 2, 0), Usage("b", 3 * DAY, 1, 0)} == set(ledger.usage())


EXAMPLES = itertools.count()


class Step(NamedTuple):
    """A step of a redemption."""

    step: str
    redemption: str
    demands: tuple[Demand, ...]
    now: int
    until: int


class Plain:
    """A ledger in plain Python, as a specification."""

    def __init__(self) -> None:
        self.phases: dict[str, tuple[str, int, Sequence[Demand]]] = {}
        self.used: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])

    def move(self, demands: Sequence[Demand], sign: int) -> None:
        """Add or subtract demands."""
        for demand in demands:
            for period in {0, demand.period}:
                amounts = self.used[demand.budget, period]
                amounts[0] += sign * demand.units
                amounts[1] += sign * demand.micros

    def take(self, demands: Sequence[Demand]) -> str:
        """Take all demands or none; return the exhausted budget."""
        for number, demand in enumerate(demands):
            self.move([demand], 1)
            limits = [(0, demand.max_units, demand.max_micros)]
            if demand.period:
                limits.append((demand.period, demand.max_period_units, demand.max_period_micros))
            for period, *most in limits:
                taken = self.used[demand.budget, period]
                if any(demand[2 + i] and 0 <= most[i] < taken[i] for i in range(2)):
                    self.move(demands[: number + 1], -1)
                    return demand.budget
        return ""

    def step(self, asked: Step) -> RedemptionOutcome:
        """Do a step."""
        name, now = asked.redemption, asked.now
        phase, until, held = self.phases.get(name, ("unknown", 0, ()))
        if phase == "held" and until <= now:
            self.move(held, -1)
            phase = "expired"
            self.phases[name] = (phase, now, ())
        bad = {"reserve": {"released", "expired"}, "confirm": {"released"}, "release": {"unknown", "confirmed"}}
        if phase in bad[asked.step]:
            return refused(phase)
        if asked.step == "release":
            if phase == "held":
                self.move(held, -1)
            self.phases[name] = ("released", now, ())
            return DONE
        if phase in {"unknown", "expired"}:
            lacking = self.take(asked.demands)
            if lacking:
                return refused("exhausted", lacking)
            held = asked.demands
        if asked.step == "confirm":
            self.phases[name] = ("confirmed", now, ())
        elif phase == "unknown":
            self.phases[name] = ("held", asked.until, held)
        return DONE


DEMANDS = st.builds(
    Demand,
    budget=st.sampled_from(["b", "c"]),
    period=st.sampled_from([0, 50]),
    units=st.integers(0, 3),
    micros=st.integers(0, 3 * MILLION),
    max_units=st.sampled_from([-1, 4, 6]),
    max_micros=st.sampled_from([-1, 4 * MILLION, 6 * MILLION - 1]),
    max_period_units=st.sampled_from([-1, 3]),
    max_period_micros=st.sampled_from([-1, 3 * MILLION]),
)
STEPS = st.builds(
    Step,
    step=st.sampled_from(["reserve", "confirm", "release"]),
    redemption=st.sampled_from(["r1", "r2", "r3", "r4"]),
    demands=st.lists(DEMANDS, max_size=2).map(tuple),
    now=st.integers(0, 30),
    until=st.integers(0, 40),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(steps=st.lists(STEPS, min_size=5, max_size=25))
def test_any_steps_have_the_outcome_that_a_plain_ledger_gives(state_stores: Stores, steps: list[Step]) -> None:
    """Outcomes and usage of random steps are those of the specification."""
    ledger, plain = state_stores.ledger, Plain()
    mark = f"{next(EXAMPLES)}-"  # other redemptions and budgets than before

    def marked(demand: Demand) -> Demand:
        return demand._replace(budget=f"{mark}{demand.budget}")

    for plain_step in steps:
        one = plain_step._replace(
            redemption=f"{mark}{plain_step.redemption}", demands=tuple(map(marked, plain_step.demands))
        )
        if one.step == "reserve":
            outcome = ledger.reserve(one.redemption, one.demands, one.now, one.until)
        elif one.step == "confirm":
            outcome = ledger.confirm(one.redemption, one.demands, one.now)
        else:
            outcome = ledger.release(one.redemption, one.now)
        assert plain.step(one) == outcome

    mine = {key: amounts for key, amounts in used(ledger).items() if key[0].startswith(mark)}
    assert {key: tuple(amounts) for key, amounts in plain.used.items() if any(amounts)} == mine
