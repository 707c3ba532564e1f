"""Reports on experiments: the shares of a variant's persons who clicked, redeemed and ordered after their exposure."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from offers.learning.outcomes import EXPERIMENT, OfferOutcome, OutcomeRules, Reaction, experiment_rules, outcome_of
from offers.state.stores import LoggedDecision, LoggedEvent, Person
from offers.v1.experiment_pb2 import Experiment
from offers.whatif.statistics import Estimate, difference, mean, mismatch, share

MISMATCH_P = 0.001
"""Below this probability, persons were not split by the weights."""
OUTCOMES = tuple(EXPERIMENT.reward_of.values())
"""Names of what persons did."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Persons of a variant who did something at least once."""

    persons: int
    share: Estimate | None
    """Share of the persons exposed, 0 to 1; None where there are none."""
    uplift: Estimate | None
    """The share minus that of the first variant, -1 to 1; None for the first, and where either share is None."""


@dataclass(frozen=True, slots=True)
class VariantReport:
    """The results of one variant."""

    variant: str
    weight: float
    persons: int
    """Persons who were exposed to it first."""
    crossed: int
    """Those of them who were exposed to another variant as well."""
    decisions: int
    """Decisions it had a part in, with an identifiable person."""
    nameless: int
    """Decisions without an identifiable person, which are excluded from all rates."""
    rates: dict[str, Rate]
    """By names of OUTCOMES."""
    order_value: dict[str, Estimate | None]
    """By currency, the mean per person exposed, in units of it; None for fewer than 2 persons."""


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """The results of an experiment."""

    experiment: str
    window_s: int
    """Seconds after a person's first exposure within which outcomes count."""
    variants: tuple[VariantReport, ...]
    """In the catalogue's order; the first is the one the others are compared with."""
    unknown: int
    """Decisions of variants that the catalogue does not have; they are left out."""
    mismatch_p: float | None
    """Probability of a split at least this far from the weights; None: too few persons to tell."""
    mismatch: bool
    """Whether it is below MISMATCH_P: then the variants cannot be compared."""


def reports(
    catalog: str,
    experiments: Iterable[Experiment],
    decisions: Iterable[LoggedDecision],
    events: Iterable[LoggedEvent],
    *,
    window_s: int,
    same: Callable[[Person], Person],
) -> list[ExperimentReport]:
    """Report on experiments of a catalogue, from all its decisions and events, in any order.

    `same` returns the id that stands for all ids of a person. A person counts for the variant of their first exposure;
    of two in one second, for the one that is given first. Outcomes count up to `window_s` seconds after it, whichever
    offer they are about: a variant may lead people from one offer to another.
    """
    rules = experiment_rules(window_s)
    tallies = {one.experiment_id: _Tally(one, rules) for one in experiments}
    for decision in decisions:
        told = decision.told()
        for one in told.exposures if told.catalog == catalog else ():
            if one.experiment_id in tallies:
                tallies[one.experiment_id].expose(same(decision.person), one.variant_id, decision.second)
    for logged in events:
        if logged.person and logged.catalog in {"", catalog} and (outcome := outcome_of(logged, rules)):
            person = same(logged.person)
            for tally in tallies.values():
                tally.follow(person, outcome)
    return [tally.report(window_s) for tally in tallies.values()]


class _Exposure(NamedTuple):
    """A person's first exposure."""

    second: int
    variant: str


@dataclass(slots=True)
class _Tally:
    """Counts for one experiment."""

    experiment: Experiment
    rules: OutcomeRules
    exposed: dict[Person, _Exposure] = field(default_factory=dict)
    crossed: set[Person] = field(default_factory=set)
    decisions: dict[tuple[str, bool], int] = field(default_factory=dict)
    """By variant, and whether there is an identifiable person."""
    acted: dict[str, set[Person]] = field(default_factory=lambda: {name: set() for name in OUTCOMES})
    spent: dict[str, dict[Person, float]] = field(default_factory=dict)
    """By currency and person, the sum of order totals."""
    unknown: int = 0
    redemptions: Counter[Person] = field(default_factory=Counter)
    """By person, those that were not reversed."""

    def __post_init__(self) -> None:
        self.decisions = {(one.variant_id, known): 0 for one in self.experiment.variants for known in (True, False)}

    def expose(self, person: Person, variant: str, second: int) -> None:
        """Count a decision of a variant."""
        if (variant, True) not in self.decisions:
            self.unknown += 1
            return
        self.decisions[variant, bool(person)] += 1
        if not person:
            return
        first = self.exposed.setdefault(person, _Exposure(second, variant))
        if variant != first.variant:
            self.crossed.add(person)
        if second < first.second:
            self.exposed[person] = _Exposure(second, variant)

    def follow(self, person: Person, outcome: OfferOutcome) -> None:
        """Count an outcome of a person, if it is in time after their first exposure."""
        first = self.exposed.get(person)
        if first is None:
            return
        for reward, _ in outcome.rewards(self.rules, None):
            if not self.rules.is_in_time(reward, first.second, outcome.second):
                continue
            if outcome.reaction in {Reaction.REDEMPTION, Reaction.REVERSAL}:
                self.redemptions[person] += 1 if outcome.reaction == Reaction.REDEMPTION else -1
                if self.redemptions[person] <= 0:
                    self.acted[reward].discard(person)
                    continue
            self.acted[reward].add(person)
            if outcome.reaction == Reaction.ORDER and outcome.amount.currency:
                spent = self.spent.setdefault(outcome.amount.currency, {})
                spent[person] = spent.get(person, 0.0) + outcome.amount.units

    def report(self, window_s: int) -> ExperimentReport:
        """Return the results so far."""
        persons: dict[str, set[Person]] = {one.variant_id: set() for one in self.experiment.variants}
        for person, first in self.exposed.items():
            persons[first.variant].add(person)
        weights = [one.weight if one.HasField("weight") else 1.0 for one in self.experiment.variants]
        p = mismatch([len(some) for some in persons.values()], weights)
        variants: list[VariantReport] = []
        for (name, some), weight in zip(persons.items(), weights, strict=True):
            variants.append(self._variant(name, weight, some, variants[0].rates if variants else {}))
        is_off = p is not None and p < MISMATCH_P
        return ExperimentReport(self.experiment.experiment_id, window_s, tuple(variants), self.unknown, p, is_off)

    def _variant(self, name: str, weight: float, some: set[Person], base: dict[str, Rate]) -> VariantReport:
        return VariantReport(
            name,
            weight,
            len(some),
            len(some & self.crossed),
            self.decisions[name, True],
            self.decisions[name, False],
            {did: _rate(some & who, some, base.get(did)) for did, who in self.acted.items()},
            {
                currency: mean([spent[person] for person in some & spent.keys()], len(some))
                for currency, spent in sorted(self.spent.items())
            },
        )


def _rate(did: set[Person], persons: set[Person], base: Rate | None) -> Rate:
    if not persons:
        return Rate(0, None, None)
    own = share(len(did), len(persons))
    return Rate(len(did), own, difference(own, base.share) if base and base.share else None)
