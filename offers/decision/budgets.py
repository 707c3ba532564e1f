"""Budgets: what redemptions draw on, and which budgets have something left, by their use and their plan."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from offers.catalogue.hours.schedules import NEVER
from offers.decision.calendar import period_of
from offers.decision.kernels.memory.records import BudgetArray, Record
from offers.errors import FieldViolation, InvalidRequestError
from offers.state.ledger import Amounts, Demand, Usage
from offers.v1.limits_pb2 import Pacing

NO_LIMIT = -1
PACED = frozenset({Pacing.PACING_EVEN, Pacing.PACING_FRONT_LOADED})
"""The pacings that follow a plan."""


class Budget(NamedTuple):
    """A budget of a catalogue, as a snapshot's meta["budgets"] holds it. A limit of NO_LIMIT is none."""

    key: str
    """ "offer:" or "campaign:", and the id."""
    units: int
    micros: int
    """Money in millionths of the currency's unit."""
    currency: str
    period: int
    """offers.v1.CalendarPeriod; 0: none."""
    period_units: int
    period_micros: int
    zone: str
    pacing: int
    """offers.v1.Pacing."""
    start: int
    end: int
    """The seconds since 1970 over which a budget without a period is spread."""

    def span(self, now: int) -> tuple[int, int]:
        """Return the seconds over which the budget is spread, around an instant."""
        return period_of(self.period, self.zone, now) if self.period else (self.start, self.end)


class BudgetBook:
    """The budgets of a catalogue, and which of them have something left."""

    def __init__(self, catalog_id: str, described: Sequence[Mapping[str, Any]]) -> None:
        self.budgets = [Budget(**one) for one in described]
        self._catalog_id = catalog_id
        self._spans = [(0, 0)] * len(described)
        """The seconds over which each was spread when last updated."""
        self.record = Record(
            BudgetArray,
            {"left": np.ones(len(described), np.uint8), "until": np.full(len(described), NEVER, np.int64)},
        )
        """The record that decisions read. Every budget is full before the first `update`."""
        self.used: Mapping[tuple[str, int], Usage] = {}
        """The usages of the last `update`, by the name of the budget and the first second of the period."""

    def name(self, budget: Budget) -> str:
        """Return the name of a budget in ledgers."""
        return f"{self._catalog_id}/{budget.key}"

    def update(self, usages: Iterable[Usage], now: int) -> None:
        """Record which budgets have something left at an instant, by what is used of them."""
        used = {(usage.budget, usage.period): usage for usage in usages}
        self.used = used
        for number, budget in enumerate(self.budgets):
            begin, end = self._spans[number]
            if not begin <= now < end:
                begin, end = self._spans[number] = budget.span(now)
            in_all = used.get((self.name(budget), 0))
            in_period = used.get((self.name(budget), begin)) if budget.period else None
            left, until = _left(budget, in_all, in_period, begin, end, now)
            self.record.arrays["until"][number] = until
            self.record.arrays["left"][number] = left

    def demands(self, numbers: Iterable[int], amounts: Amounts, now: int) -> list[Demand]:
        """Return what a redemption takes from budgets, by number; 1 unit and no money where that is not told.

        Raises InvalidRequestError for money of another currency.
        """
        demands = []
        units, micros = amounts.units or 1, amounts.micros or 0
        for number in numbers:
            budget = self.budgets[number]
            if micros and budget.currency and amounts.currency != budget.currency:
                reason = f"{amounts.currency} is not the currency of the budget of {budget.key}: send {budget.currency}"
                raise InvalidRequestError([FieldViolation("redemption.amount.currency_code", reason)])
            period = budget.span(now)[0] if budget.period else 0
            needed = units, micros if budget.currency else 0
            limits = budget.units, budget.micros, budget.period_units, budget.period_micros
            demands.append(Demand(self.name(budget), period, *needed, *limits))
        return demands


def plan_allows(pacing: int, used: int, limit: int, begin: int, end: int) -> int:
    """Return the first second at which the plan of a paced budget allows for what is used of it.

    A plan allows for `limit` from `begin` to `end`, evenly, or so that the share left falls with the square of the time
    left. `used` is at most `limit`. Whole numbers keep the result exact.
    """
    span = end - begin
    if pacing == Pacing.PACING_FRONT_LOADED:
        return end - math.isqrt((limit - used) * span * span // limit)
    return begin - (-used * span // limit)  # rounded up


def _left(
    budget: Budget, in_all: Usage | None, in_period: Usage | None, begin: int, end: int, now: int
) -> tuple[bool, int]:
    """Return whether a budget has something left, and until when time alone does not change that."""
    until = end if budget.period else NEVER
    limits = [(budget.units, in_all.units if in_all else 0), (budget.micros, in_all.micros if in_all else 0)]
    periodic = [
        (budget.period_units, in_period.units if in_period else 0),
        (budget.period_micros, in_period.micros if in_period else 0),
    ]
    if any(limit != NO_LIMIT and used >= limit for limit, used in limits):
        return False, NEVER
    if any(limit != NO_LIMIT and used >= limit for limit, used in periodic):
        return False, until
    if budget.pacing in PACED:
        spread = periodic if budget.period else limits
        passes = max(plan_allows(budget.pacing, used, limit, begin, end) for limit, used in spread if limit > 0)
        if passes > now:
            return False, passes
    return True, until
