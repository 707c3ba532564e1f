"""What an experiment brought: of the persons exposed to each variant, who clicked, redeemed and ordered afterwards."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from offers.model.money import units_of
from offers.state.stores import LoggedDecision, LoggedEvent, Person
from offers.v1.event_pb2 import EVENT_KIND_CLICK, EVENT_KIND_ORDER, EVENT_KIND_REDEMPTION, Event, RedemptionEvent
from offers.v1.experiment_pb2 import Experiment
from offers.whatif.statistics import Estimate, difference, mean, mismatch, share

MISMATCH_P = 0.001
"""Counts that are less probable than this by chance were not shared out by the weights."""
OUTCOMES = {EVENT_KIND_CLICK: "clicked", EVENT_KIND_REDEMPTION: "redeemed", EVENT_KIND_ORDER: "ordered"}
"""Kinds of event that are outcomes, and what persons are called for them."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Persons of a variant who did something at least once."""

    persons: int
    share: Estimate | None
    """Of the persons exposed, 0 to 1; None where there are none."""
    uplift: Estimate | None
    """How much the share is over that of the first variant, -1 to 1; None for the first, and where a share is none."""


@dataclass(frozen=True, slots=True)
class VariantReport:
    """What came of one variant."""

    variant: str
    weight: float
    persons: int
    """Who were exposed to it first."""
    crossed: int
    """Those of them who were exposed to another variant as well."""
    decisions: int
    """Decisions it had a part in, of persons who are known."""
    nameless: int
    """Those of nobody who may be known, which are in no rate."""
    rates: dict[str, Rate]
    """By OUTCOMES' names."""
    order_value: dict[str, Estimate | None]
    """Of a person exposed, in units of each currency; None: of fewer than 2 persons."""


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """What came of an experiment."""

    experiment: str
    window_s: int
    """Seconds after a person's first exposure within which what they do is counted."""
    variants: tuple[VariantReport, ...]
    """In the catalogue's order; the first is the one the others are compared with."""
    unknown: int
    """Decisions of variants that the catalogue does not have; they are left out."""
    mismatch_p: float | None
    """How probable it is that the weights share persons out like this; None: too few to tell."""
    mismatch: bool
    """Whether that is below MISMATCH_P: what the variants brought cannot be compared then."""


def reports(
    catalog: str,
    experiments: Iterable[Experiment],
    decisions: Iterable[LoggedDecision],
    events: Iterable[LoggedEvent],
    *,
    window_s: int,
    same: Callable[[Person], Person],
) -> list[ExperimentReport]:
    """Report on experiments of a catalogue, out of all its decisions and events, in any order.

    `same` gives the id that stands for all ids of a person. A person counts for the variant of the first exposure, of
    two in one second for the one that comes first. What they do counts up to `window_s` seconds after it, whichever
    offer it is about: a variant may lead people from one offer to another.
    """
    tallies = {one.experiment_id: _Tally(one) for one in experiments}
    for decision in decisions:
        told = decision.told()
        for one in told.exposures if told.catalog == catalog else ():
            if one.experiment_id in tallies:
                tallies[one.experiment_id].expose(same(decision.person), one.variant_id, decision.second)
    for logged in events:
        if logged.person and logged.catalog in {"", catalog} and (outcome := _outcome_of(logged, same)):
            for tally in tallies.values():
                tally.follow(outcome, window_s)
    return [tally.report(window_s) for tally in tallies.values()]


class _Outcome(NamedTuple):
    name: str
    person: Person
    second: int
    currency: str
    value: float


class _Exposed(NamedTuple):
    """A person's first exposure."""

    second: int
    variant: str


@dataclass(slots=True)
class _Tally:
    """Counts for one experiment."""

    experiment: Experiment
    exposed: dict[Person, _Exposed] = field(default_factory=dict)
    crossed: set[Person] = field(default_factory=set)
    decisions: dict[tuple[str, bool], int] = field(default_factory=dict)
    """By variant, and whether the person is known."""
    acted: dict[str, set[Person]] = field(default_factory=lambda: {name: set() for name in OUTCOMES.values()})
    spent: dict[str, dict[Person, float]] = field(default_factory=dict)
    """By currency."""
    unknown: int = 0

    def __post_init__(self) -> None:
        self.decisions = {(one.variant_id, known): 0 for one in self.experiment.variants for known in (True, False)}

    def expose(self, person: Person, variant: str, second: int) -> None:
        if (variant, True) not in self.decisions:
            self.unknown += 1
            return
        self.decisions[variant, bool(person)] += 1
        if not person:
            return
        first = self.exposed.setdefault(person, _Exposed(second, variant))
        if variant != first.variant:
            self.crossed.add(person)
        if second < first.second:
            self.exposed[person] = _Exposed(second, variant)

    def follow(self, outcome: _Outcome, window_s: int) -> None:
        first = self.exposed.get(outcome.person)
        if first and first.second <= outcome.second <= first.second + window_s:
            self.acted[outcome.name].add(outcome.person)
            if outcome.currency:
                of = self.spent.setdefault(outcome.currency, {})
                of[outcome.person] = of.get(outcome.person, 0.0) + outcome.value

    def report(self, window_s: int) -> ExperimentReport:
        persons: dict[str, set[Person]] = {one.variant_id: set() for one in self.experiment.variants}
        for person, first in self.exposed.items():
            persons[first.variant].add(person)
        weights = [one.weight if one.HasField("weight") else 1.0 for one in self.experiment.variants]
        p = mismatch([len(some) for some in persons.values()], weights)
        variants: list[VariantReport] = []
        for (name, some), weight in zip(persons.items(), weights, strict=True):
            base = variants[0].rates if variants else {}
            variants.append(
                VariantReport(
                    name,
                    weight,
                    len(some),
                    len(some & self.crossed),
                    self.decisions[name, True],
                    self.decisions[name, False],
                    {did: _rate(some & who, some, base.get(did)) for did, who in self.acted.items()},
                    {
                        currency: mean([of[person] for person in some & of.keys()], len(some))
                        for currency, of in sorted(self.spent.items())
                    },
                )
            )
        is_off = p is not None and p < MISMATCH_P
        return ExperimentReport(self.experiment.experiment_id, window_s, tuple(variants), self.unknown, p, is_off)


def _rate(did: set[Person], persons: set[Person], base: Rate | None) -> Rate:
    if not persons:
        return Rate(0, None, None)
    own = share(len(did), len(persons))
    return Rate(len(did), own, difference(own, base.share) if base and base.share else None)


def _outcome_of(logged: LoggedEvent, same: Callable[[Person], Person]) -> _Outcome | None:
    """What an event is an outcome of; None: of nothing, as a redemption that is only reserved, or given back."""
    if logged.kind not in OUTCOMES:
        return None
    currency, value = "", 0.0
    if logged.kind != EVENT_KIND_CLICK:
        event = Event.FromString(logged.body)
        if event.HasField("redemption") and event.redemption.phase != RedemptionEvent.PHASE_CONFIRM:
            return None
        total = event.order.total
        currency, value = total.currency_code, units_of(total)
    return _Outcome(OUTCOMES[logged.kind], same(logged.person), logged.second, currency, value)
