"""No sequence of steps oversells a budget or a redemption cap: every ledger agrees with a model in plain Python."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from offers.state.ledger import Amounts, Demand, Ledger, Redemption, RedemptionCap, RedemptionOutcome
from offers.state.opening import Stores
from offers.state.stores import EVER

MILLION = 1_000_000
PERIOD = 40
"""Seconds of a period of the campaign's budget."""
EXAMPLES = itertools.count()
OUTCOME = tuple[bool, str, str, bool]
"""Whether a step was done, why not, what was lacking, and whether it was repeated."""


@dataclass(slots=True)
class Kept:
    """A redemption as the model has it."""

    phase: str
    event_id: str
    offer: str
    person: str
    units: int
    micros: int
    currency: str
    until: int = 0
    periods: dict[str, int] = field(default_factory=dict)
    """By budget, the period it draws on."""
    money: frozenset[str] = frozenset()
    """The budgets that are in money."""
    second: int = 0
    keys: frozenset[int] = frozenset()
    """What caps count it for."""

    def use(self, budget: str) -> tuple[int, int]:
        """Return what it takes from a budget."""
        return self.units, self.micros if budget in self.money else 0


@dataclass(slots=True)
class Model:
    """A ledger that adds up all redemptions whenever it is asked."""

    kept: dict[str, Kept] = field(default_factory=dict)

    def used(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Return the units and money used, by budget and period."""
        units, micros = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
        for one in self.kept.values():
            if one.phase in {"held", "confirmed"}:
                for budget, period in one.periods.items():
                    for key in {(budget, 0), (budget, period)}:
                        units[key] += one.use(budget)[0]
                        micros[key] += one.use(budget)[1]
        return {key: (units[key], micros[key]) for key in units if units[key] or micros[key]}

    def expire(self, now: int) -> int:
        """End the holds that are over."""
        over = [one for one in self.kept.values() if one.phase == "held" and one.until <= now]
        for one in over:
            one.phase = "expired"
        return len(over)

    def step(self, phase: str, asked: Redemption, now: int, until: int) -> OUTCOME:
        """Bring a redemption into a phase."""
        one = self.kept.get(asked.name)
        if one is not None and one.phase == "held" and one.until <= now:
            one.phase = "expired"
        if one is None:
            if phase in {"released", "reversed"}:
                return False, "unknown", "", False
        elif (reason := self._difference(one, asked, phase)) or (reason := self._misfit(one, phase)):
            return False, reason, "", False
        elif one.phase == phase or (phase, one.phase) == ("held", "confirmed"):
            return True, "", "", one.event_id != asked.event_id
        if phase in {"released", "reversed"}:
            assert one is not None
            one.phase, one.event_id = phase, asked.event_id
            return True, "", "", False
        return self._take(phase, one, asked, until)

    def _difference(self, one: Kept, asked: Redemption, phase: str) -> str:
        if asked.offer != one.offer:
            return "offer"
        if one.person and asked.persons and one.person not in asked.persons:
            return "person"
        told = asked.amounts
        if one.currency and told.currency and one.currency != told.currency:
            return "currency"
        if phase not in {one.phase, "reversed"}:
            return ""
        if told.units not in {None, one.units}:
            return "units"
        return "amount" if told.micros not in {None, one.micros} else ""

    def _misfit(self, one: Kept, phase: str) -> str:
        fits = {
            ("held", "held"), ("held", "confirmed"), ("held", "released"), ("expired", "confirmed"),
            ("expired", "released"), ("confirmed", "held"), ("confirmed", "confirmed"), ("confirmed", "reversed"),
            ("released", "released"), ("reversed", "reversed"),
        }  # fmt: skip
        return "" if (one.phase, phase) in fits else one.phase

    def _take(self, phase: str, one: Kept | None, asked: Redemption, until: int) -> OUTCOME:
        told = asked.amounts
        held = one if one and one.phase == "held" else None
        units = told.units if told.units is not None else held.units if held else 1
        micros = told.micros if told.micros is not None else held.micros if held else 0
        new = Kept(phase, asked.event_id, asked.offer, "", units, micros, told.currency, until, second=asked.second)
        if one:
            new.currency, new.person = told.currency or one.currency, one.person
        new.person = new.person or (asked.persons[0] if asked.persons else "")
        counted = held is not None and bool(held.person)
        if held is not None:
            new.periods, new.money = held.periods, held.money
            new.second, new.keys = (held.second, held.keys) if counted else (new.second, new.keys)
        else:
            new.periods = {demand.budget: demand.period for demand in asked.demands}
            new.money = frozenset(demand.budget for demand in asked.demands if demand.budget.endswith("campaign"))
        others = Model({name: kept for name, kept in self.kept.items() if name != asked.name})
        if lacking := others.lacks(new, held, asked.demands):
            return False, "exhausted", lacking, False
        if asked.persons:
            for cap in asked.caps:
                if others.is_reached_again(cap, asked, new) if counted else others.is_reached(cap, asked.second, asked):
                    return False, "capped", cap.name, False
        if asked.persons and not counted:
            new.keys = frozenset(cap.key for cap in asked.caps)
        self.kept[asked.name] = new
        return True, "", "", False

    def lacks(self, new: Kept, held: Kept | None, demands: Iterable[Demand]) -> str:
        """Return the first budget that has too little left for more than is held; "" for none."""
        used = self.used()
        for demand in demands:
            budget, total = demand.budget, (demand.max_units, demand.max_micros)
            limits = {(0, total), (new.periods.get(budget, 0), (demand.max_period_units, demand.max_period_micros))}
            before, after = held.use(budget) if held else (0, 0), new.use(budget)
            for (period, most), i in itertools.product(limits, range(2)):
                left = most[i] - used.get((budget, period), (0, 0))[i]
                if budget in new.periods and after[i] > before[i] and most[i] >= 0 and after[i] > left:
                    return budget
        return ""

    def is_reached(
        self, cap: RedemptionCap, second: int, asked: Redemption, phases: Collection[str] = ("held", "confirmed")
    ) -> bool:
        """Return whether any window of a cap would have too many redemptions with one more."""
        seconds = [second, *(one.second for one in self.counted(cap, asked, phases))]
        starts = range(second - cap.rolling_s + 1, second + 1) if cap.rolling_s else [cap.begin]
        last = cap.rolling_s or cap.end - cap.begin
        return any(sum(start <= one < start + last for one in seconds) > cap.max_count for start in starts)

    def is_reached_again(self, cap: RedemptionCap, asked: Redemption, held: Kept) -> bool:
        """Return whether a held redemption is too many beside those confirmed under ids of the same person by now."""
        is_in = cap.key in held.keys and (cap.rolling_s > 0 or cap.begin <= held.second < cap.end)
        is_joined = any(one.person != held.person for one in self.counted(cap, asked, ("confirmed",)))
        return is_in and is_joined and self.is_reached(cap, held.second, asked, ("confirmed",))

    def counted(self, cap: RedemptionCap, asked: Redemption, phases: Collection[str]) -> list[Kept]:
        """Return the redemptions of a person in some phases that a cap counts."""
        return [
            one
            for one in self.kept.values()
            if one.phase in phases and cap.key in one.keys and one.person in asked.persons
        ]


AMOUNTS = st.builds(
    lambda units, whole, currency: (
        Amounts(units, None if whole is None else whole * MILLION // 2, currency)
        if whole is not None
        else Amounts(units)
    ),
    st.sampled_from([None, 1, 1, 2, 5]),
    st.sampled_from([None, 0, 1, 2, 7]),
    st.sampled_from(["EUR", "EUR", "EUR", "USD"]),
)
NAMES = st.sampled_from(["r1", "r2", "r3", "r4", "r5", "r6"])
STEPS = st.tuples(
    NAMES,
    st.sampled_from(["a", "a", "a", "b"]),
    st.sampled_from(["", "u:1", "u:1", "a:1", "u:2"]),
    AMOUNTS,
    st.sampled_from([0, 0, 0, 3, 30]),
)
"""Name, offer, person, amounts, and seconds by which the event is late."""
StepParts = tuple[str, str, str, Amounts, int]


class LedgerSequences(RuleBasedStateMachine):
    """Random steps, on a ledger and on the model."""

    ledger: ClassVar[Ledger]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.mark = f"{next(EXAMPLES)}-"  # other redemptions, budgets and persons than in the examples before
        self.now = 1_000
        self.events = itertools.count()
        self.linked = False
        self.last: tuple[str, Redemption, int] | None = None

    @initialize(units=st.sampled_from([-1, 3, 5]), whole=st.sampled_from([-1, 4, 6]), most=st.sampled_from([1, 1, 2]))
    def limit(self, units: int, whole: int, most: int) -> None:
        """Choose limits."""
        self.units, self.micros, self.most = units, whole * MILLION if whole > 0 else -1, most
        self.rolling_s = (self.now % 7 + most) * 10

    def asked(self, name: str, offer: str, person: str, amounts: Amounts, late: int) -> Redemption:
        """Return a step with what the catalogue demands now."""
        units, micros = amounts.units or 1, amounts.micros or 0
        period = self.now // PERIOD * PERIOD
        demands = (
            Demand(f"{self.mark}offer-{offer}", 0, units, 0, self.units, -1, -1, -1),
            Demand(f"{self.mark}campaign", period, units, micros, 2 * self.units, self.micros, self.units, -1),
        )
        ids = {"": (), "a:1": ("u:1", "a:1"), "u:1": ("u:1", "a:1")} if self.linked else {"": ()}
        second, day = self.now - late, (self.now - late) // PERIOD * PERIOD
        caps = (
            RedemptionCap("of offer", ord(offer), 2 * self.most, 0, EVER, 0),
            RedemptionCap("a day", ord(offer), self.most, day, day + PERIOD, 0),
            RedemptionCap("of campaign", -7, self.most, 0, EVER, self.rolling_s),
        )
        persons = tuple(self.mark + one for one in ids.get(person, (person,)))
        event_id = f"e{next(self.events)}"
        return Redemption(self.mark + name, event_id, offer, persons, second, amounts, demands, caps)

    def do(self, phase: str, asked: Redemption, hold: int = 0) -> None:
        """Do a step on both."""
        until = self.now + hold
        if phase == "held":
            outcome = self.ledger.reserve(asked, self.now, until)
        else:
            steps = {"confirmed": self.ledger.confirm, "released": self.ledger.release, "reversed": self.ledger.reverse}
            outcome = steps[phase](asked, self.now)
        assert self.model.step(phase, asked, self.now, until) == told(outcome)
        self.last = phase, asked, hold

    @rule(step=STEPS, hold=st.sampled_from([5, 50]))
    def reserve(self, step: StepParts, hold: int) -> None:
        """Reserve."""
        self.do("held", self.asked(*step), hold)

    @rule(step=STEPS)
    def confirm(self, step: StepParts) -> None:
        """Confirm, whatever was reserved."""
        self.do("confirmed", self.asked(*step))

    @rule(name=NAMES, phase=st.sampled_from(["confirmed", "released", "reversed"]))
    def go_on(self, name: str, phase: str) -> None:
        """Take a step that tells nothing new, as a till does; amounts are those before, where the hold is over."""
        one = self.model.kept.get(self.mark + name)
        amounts = Amounts(one.units, one.micros, one.currency) if one and one.until <= self.now else Amounts()
        self.do(phase, self.asked(name, one.offer if one else "a", "", amounts, 0))

    @rule()
    def retry(self) -> None:
        """Send the last event again."""
        if self.last:
            self.do(*self.last)

    @rule(seconds=st.sampled_from([1, 5, 20, 60]))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    @rule()
    def expire(self) -> None:
        """Release what is over."""
        self.ledger.expire(self.now)
        self.model.expire(self.now)

    @rule(units=st.sampled_from([1, 4, -1]))
    def change_limits(self, units: int) -> None:
        """Publish other limits."""
        self.units = units

    @rule()
    def link(self) -> None:
        """Let the visitor sign in as the first user."""
        self.linked = True

    @invariant()
    def agrees(self) -> None:
        """Compare the usage of budgets, and what caps count."""
        found = {(one.budget, one.period): (one.units, one.micros) for one in self.ledger.usage()}
        mine = {key: use for key, use in found.items() if key[0].startswith(self.mark) and any(use)}
        assert self.model.used() == mine
        for person in ("u:1", "a:1", "u:2"):
            counted = [
                (key, one.second)
                for one in self.model.kept.values()
                for key in one.keys
                if one.phase in {"held", "confirmed"} and one.person == self.mark + person
            ]
            assert sorted(counted) == self.ledger.redeemed([self.mark + person])


def told(outcome: RedemptionOutcome) -> OUTCOME:
    """Return an outcome as the model tells it."""
    return outcome.done, outcome.reason, outcome.lacking, outcome.repeated


def test_no_sequence_of_steps_oversells(state_stores: Stores) -> None:
    """Outcomes, usage and counts of random steps in any order are those of the model."""

    class Sequences(LedgerSequences):
        ledger = state_stores.ledger

    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # making a failure smaller would take minutes
        ),
    )
