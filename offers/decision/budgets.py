"""Budgets: what redemptions need of them, and which have something left, by what is used and by their plan."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from offers.catalogue.hours.schedules import NEVER
from offers.decision.calendar import period_of
from offers.decision.kernels.memory.records import BudgetArray, Record
from offers.errors import FieldViolation, InvalidRequestError
from offers.state.stores import Demand, Usage
from offers.v1.limits_pb2 import Pacing

NO_LIMIT = -1
_ROUNDING_S = 1e-6


class Budget(NamedTuple):
    """A budget of a catalogue, as a snapshot's meta["budgets"] has it. Limits of -1 are none."""

    key: str
    """ "offer:" or "campaign:" and the id."""
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
    """Seconds over which it is spread where it has no period."""

    def span(self, now: int) -> tuple[int, int]:
        """The seconds over which it is spread, around an instant."""
        return period_of(self.period, self.zone, now) if self.period else (self.start, self.end)


class BudgetBook:
    """The budgets of a catalogue, and what is left of them."""

    def __init__(self, catalog_id: str, described: Sequence[Mapping[str, Any]]) -> None:
        self.budgets = [Budget(**one) for one in described]
        self._catalog_id = catalog_id
        self._spans = [(0, 0)] * len(described)
        """Over which seconds each is spread, when last asked."""
        self.record = Record(
            BudgetArray,
            {"left": np.ones(len(described), np.uint8), "until": np.full(len(described), NEVER, np.int64)},
        )
        """As decisions read it. Full until `update` was told what is used."""
        self.used: Mapping[tuple[str, int], Usage] = {}
        """What `update` was told, by the name of the budget and the period."""

    def name(self, budget: Budget) -> str:
        """How ledgers know a budget."""
        return f"{self._catalog_id}/{budget.key}"

    def update(self, usages: Iterable[Usage], now: int) -> None:
        """Work out which budgets have something left at an instant, by what is used of them."""
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

    def demands(self, numbers: Iterable[int], units: int, micros: int, currency: str, now: int) -> list[Demand]:
        """What a redemption takes of budgets, by number. Raises InvalidRequestError for money of another currency."""
        demands = []
        for number in numbers:
            budget = self.budgets[number]
            if micros and budget.currency and currency != budget.currency:
                reason = f"{currency} is not the currency of the budget of {budget.key}: send {budget.currency}"
                raise InvalidRequestError([FieldViolation("redemption.amount.currency_code", reason)])
            period = budget.span(now)[0] if budget.period else 0
            needed = units, micros if budget.currency else 0
            limits = budget.units, budget.micros, budget.period_units, budget.period_micros
            demands.append(Demand(self.name(budget), period, *needed, *limits))
        return demands


def _left(
    budget: Budget, in_all: Usage | None, in_period: Usage | None, begin: int, end: int, now: int
) -> tuple[bool, int]:
    """Whether a budget has something left, and until when that holds, as far as it is a matter of time."""
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
    if budget.pacing in {Pacing.PACING_EVEN, Pacing.PACING_FRONT_LOADED}:
        spread = periodic if budget.period else limits
        catches_up = max((_plan_reaches(budget, used, limit, begin, end) for limit, used in spread if limit > 0))
        if catches_up > now:
            return False, catches_up
    return True, until


def _plan_reaches(budget: Budget, used: int, limit: int, begin: int, end: int) -> int:
    """The first second at which a budget's plan allows for what is used."""
    share = used / limit
    if budget.pacing == Pacing.PACING_FRONT_LOADED:
        share = 1 - math.sqrt(max(1 - share, 0.0))
    return begin + math.ceil(share * (end - begin) - _ROUNDING_S)
