"""Budgets: what redemptions draw on, and which budgets have something left, by their use and their plan."""

import math
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.hours.schedules import NEVER
from offers.decision.calendar import period_of
from offers.decision.kernels.memory.records import BudgetArray, Record
from offers.errors import FieldViolation, InvalidRequestError
from offers.state.circuit import RETRY_S
from offers.state.ledger import Amounts, Demand, Usage
from offers.v1.limits_pb2 import Pacing

NO_LIMIT = -1
PACED = frozenset({Pacing.PACING_EVEN, Pacing.PACING_FRONT_LOADED})
"""The pacings that follow a plan."""
SOON_S = math.ceil(RETRY_S)
"""Seconds for which an answer holds that had to do without a store: then the store may be back."""
KEPT = 8
"""Spans of time, beside the present, for which it is kept what is left of all budgets."""


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


class Verdict(NamedTuple):
    """Whether a budget has something left, between two seconds (the end exclusive), by what is used of it."""

    left: bool
    begin: int
    end: int


class BudgetBook:
    """The budgets of a catalogue, and which of them have something left at an instant."""

    def __init__(self, catalog_id: str, described: Sequence[Mapping[str, Any]]) -> None:
        self.budgets = [Budget(**one) for one in described]
        self._names = [f"{catalog_id}/{one.key}" for one in self.budgets]
        """The names of the budgets in ledgers."""
        self.record = _record(len(described))
        """The record for the present. Every budget is full before the first `update`."""
        self.used: Mapping[tuple[str, int], Usage] = {}
        """The usages of the last `update`, by the name of the budget and the first second of the period."""
        self._others: list[Record] = []
        """The records for other times; the last used is the last."""
        self._lock = Lock()

    def update(self, usages: Iterable[Usage], now: int) -> None:
        """Record which budgets have something left now, by what is used of them."""
        used = {(usage.budget, usage.period): usage for usage in usages}
        with self._lock:
            if used != self.used:
                self._others = []
            self.used = used
            self._fill(self.record, now)
            self.record.arrays["known"][:] = 1

    def lose(self) -> None:
        """Record that the use of the budgets could not be read: the last `update` holds, and decisions say so."""
        self.record.arrays["known"][:] = 0

    def at(self, second: int) -> Record:
        """Return the record that decisions for an instant read, by what is used of the budgets as far as is known now.

        A period that has not begun is unused. One that is over is as it ended, or unused where the ledger has forgotten
        it (see PERIOD_KEPT_S). What is used in all is what is used by now.
        """
        if _covers(self.record, second):
            return self.record
        with self._lock:
            if _covers(self.record, second):  # it was being written
                return self.record
            found = next((one for one in self._others if _covers(one, second)), None)
            if found is None:
                found = _record(len(self.budgets))
                self._fill(found, second)
            self._others = [*(one for one in self._others if one is not found), found][-KEPT:]
        found.arrays["known"][:] = self.record.arrays["known"]
        return found

    def _fill(self, record: Record, second: int) -> None:
        """Write what is left of all budgets at an instant.

        Meanwhile the record holds for no time: compiled loops may run between any two lines of this.
        """
        left, until, holds = (record.arrays[name] for name in ("left", "until", "holds"))
        holds[:] = 0
        spans: dict[tuple[int, str], tuple[int, int]] = {}
        first, last = 0, NEVER
        for number, budget in enumerate(self.budgets):
            key = budget.period, budget.zone
            span = spans.get(key) if budget.period else (budget.start, budget.end)
            if span is None:
                span = spans[key] = budget.span(second)
            verdict = self._verdict(number, span, second)
            left[number], until[number] = verdict.left, verdict.end
            first, last = max(first, verdict.begin), min(last, verdict.end)
        holds[:] = first, last

    def _verdict(self, number: int, span: tuple[int, int], second: int) -> Verdict:
        """Return the verdict on a budget at an instant, given the seconds over which it is spread around it."""
        budget, name, (begin, end) = self.budgets[number], self._names[number], span
        in_all, in_period = self.used.get((name, 0)), self.used.get((name, begin)) if budget.period else None
        limits = [(budget.units, in_all.units if in_all else 0), (budget.micros, in_all.micros if in_all else 0)]
        periodic = [
            (budget.period_units, in_period.units if in_period else 0),
            (budget.period_micros, in_period.micros if in_period else 0),
        ]
        if any(limit != NO_LIMIT and used >= limit for limit, used in limits):
            return Verdict(left=False, begin=0, end=NEVER)
        whole = Verdict(True, *(span if budget.period else (0, NEVER)))  # noqa: FBT003 - its first field
        if budget.period and any(limit != NO_LIMIT and used >= limit for limit, used in periodic):
            return whole._replace(left=False)
        if budget.pacing not in PACED:
            return whole
        spread = periodic if budget.period else limits
        passes = max(plan_allows(budget.pacing, used, limit, begin, end) for limit, used in spread if limit > 0)
        if passes > second:
            return Verdict(left=False, begin=whole.begin, end=min(passes, whole.end))
        return whole._replace(begin=max(passes, whole.begin))

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
            demands.append(Demand(self._names[number], period, *needed, *limits))
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


def _record(count: int) -> Record:
    """Return a record that says that so many budgets are full at all times."""
    arrays: dict[str, NDArray[Any]] = {
        "left": np.ones(count, np.uint8),
        "until": np.full(count, NEVER, np.int64),
        "holds": np.array([0, NEVER], np.int64),
        "known": np.ones(1, np.uint8),
    }
    return Record(BudgetArray, arrays)


def _covers(record: Record, second: int) -> bool:
    """Return whether a record is right for an instant."""
    begin, end = record.arrays["holds"].tolist()
    return bool(begin <= second < end)
