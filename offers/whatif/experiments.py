"""Reports on experiments and holdouts: what persons did after their exposure, by variant, or held out and not.

A holdout is reported as an experiment with two variants: those who are held out, and those who may be shown the offers.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from offers.learning.outcomes import EXPERIMENT, OfferOutcome, OutcomeRules, Reaction, experiment_rules, outcome_of
from offers.state.stores import LoggedDecision, LoggedEvent, Person
from offers.v1.catalog_pb2 import Catalog
from offers.v1.experiment_pb2 import Experiment, Variant
from offers.v1.limits_pb2 import Campaign
from offers.whatif.statistics import Estimate, Mean, difference, mean, mean_difference, mismatch, share

MISMATCH_P = 0.001
"""Below this probability, persons were not split by the weights."""
OUTCOMES = tuple(EXPERIMENT.reward_of.values())
"""Names of what persons did."""
HELD_OUT, SHOWN = "held out", "shown"
"""The two sides of a holdout."""


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
    """The number of these persons who were exposed to another variant as well."""
    decisions: int
    """Decisions it had a part in, with an identifiable person."""
    nameless: int
    """Decisions without an identifiable person, which are excluded from all rates."""
    rates: dict[str, Rate]
    """By names of OUTCOMES."""
    order_value: dict[str, Estimate | None]
    """By currency, the mean per person exposed, in units of it; None for fewer than 2 persons."""
    order_value_uplift: dict[str, Estimate | None]
    """By currency, that mean minus that of the first variant; None for the first, and where either is None."""


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """The results of an experiment, or of a holdout."""

    kind: Literal["experiment", "holdout"]
    experiment: str
    """The id of the experiment; of a holdout, the campaign, or "" for the catalogue's."""
    window_s: int
    """Seconds after a person's first exposure within which outcomes count."""
    variants: tuple[VariantReport, ...]
    """In the catalogue's order; the first is the one the others are compared with."""
    unknown: int
    """Decisions of variants that the catalogue does not have; they are left out."""
    unsaid: int
    """Decisions of which the log does not say whether the person was in the segment asked for; they are left out."""
    mismatch_p: float | None
    """Probability of a split at least this far from the weights; None: too few persons to tell."""
    mismatch: bool
    """Whether it is below MISMATCH_P: then the variants cannot be compared."""


class Compared(NamedTuple):
    """The experiments and holdouts to report on."""

    catalog: str
    experiments: Sequence[Experiment]
    holdouts: Sequence[Campaign] = ()
    """Campaigns with their holdout; one without an id stands for the catalogue."""
    is_in: Callable[[LoggedDecision], bool | None] = lambda _: True
    """Whether the person of a decision is in the segment asked for; None: the log does not say."""


def holdouts_of(catalog: Catalog, campaigns: Iterable[Campaign]) -> list[Campaign]:
    """Return the holdouts of a catalogue and its campaigns, its own first, as Compared takes them."""
    own = Campaign(holdout=catalog.holdout)
    return [one for one in (own, *campaigns) if one.holdout > 0]


def reports(
    compared: Compared,
    decisions: Iterable[LoggedDecision],
    events: Iterable[LoggedEvent],
    *,
    window_s: int,
    same: Callable[[Person], Person],
) -> list[ExperimentReport]:
    """Report on experiments and holdouts of a catalogue, from all its decisions and events, in any order.

    `same` returns the id that stands for all ids of a person. A person counts for the variant of their first exposure;
    of two in one second, for the one that is given first. Outcomes count up to `window_s` seconds after it, whichever
    offer they are about: a variant may lead people from one offer to another.
    """
    rules, catalog = experiment_rules(window_s), compared.catalog
    tallies = {("experiment", one.experiment_id): _Tally("experiment", one, rules) for one in compared.experiments}
    for holdout in compared.holdouts:
        tallies["holdout", holdout.campaign_id] = _Tally("holdout", _as_experiment(holdout), rules)
    for decision in decisions:
        told = decision.told()
        if told.catalog != catalog:
            continue
        met = [(("experiment", one.experiment_id), one.variant_id) for one in told.exposures]
        met += [(("holdout", one.campaign_id), HELD_OUT if one.held_out else SHOWN) for one in told.holdouts]
        met = [one for one in met if one[0] in tallies]
        is_in = compared.is_in(decision) if met else False
        for name, variant in met:
            if is_in is None:
                tallies[name].unsaid += 1
            elif is_in:
                tallies[name].expose(same(decision.person), variant, decision.second)
    for logged in events:
        if logged.person and logged.catalog in {"", catalog} and (outcome := outcome_of(logged, rules)):
            person = same(logged.person)
            for tally in tallies.values():
                tally.follow(person, outcome)
    return [tally.report(window_s) for tally in tallies.values()]


def _as_experiment(holdout: Campaign) -> Experiment:
    sides = (HELD_OUT, holdout.holdout), (SHOWN, 1 - holdout.holdout)
    variants = [Variant(variant_id=name, weight=weight) for name, weight in sides]
    return Experiment(experiment_id=holdout.campaign_id, variants=variants)


class _Exposure(NamedTuple):
    """A person's first exposure."""

    second: int
    variant: str


@dataclass(slots=True)
class _Tally:
    """Counts for one experiment or holdout."""

    kind: Literal["experiment", "holdout"]
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
    unsaid: int = 0

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
        base = next(iter(persons.values()))
        variants: list[VariantReport] = []
        for (name, some), weight in zip(persons.items(), weights, strict=True):
            variants.append(self._variant(name, weight, some, base if variants else None))
        is_off = p is not None and p < MISMATCH_P
        return ExperimentReport(
            self.kind,
            self.experiment.experiment_id,
            window_s,
            tuple(variants),
            self.unknown,
            self.unsaid,
            p,
            is_off,
        )

    def _variant(self, name: str, weight: float, some: set[Person], base: set[Person] | None) -> VariantReport:
        """Return the report of a variant with some persons, beside those of the first one; None for the first."""
        means, first = self._means(some), self._means(base or set())
        return VariantReport(
            name,
            weight,
            len(some),
            len(some & self.crossed),
            self.decisions[name, True],
            self.decisions[name, False],
            {did: _rate(some & who, some, (base & who, base) if base else None) for did, who in self.acted.items()},
            {currency: own.estimate() if own else None for currency, own in means.items()},
            {currency: _more(own, first[currency]) for currency, own in means.items()},
        )

    def _means(self, some: set[Person]) -> dict[str, Mean | None]:
        """Return by currency what some persons spent."""
        return {
            currency: mean([spent[person] for person in some & spent.keys()], len(some))
            for currency, spent in sorted(self.spent.items())
        }


def _more(own: Mean | None, base: Mean | None) -> Estimate | None:
    return mean_difference(own, base) if own and base else None


def _rate(did: set[Person], persons: set[Person], base: tuple[set[Person], set[Person]] | None) -> Rate:
    if not persons:
        return Rate(0, None, None)
    own = share(len(did), len(persons))
    return Rate(len(did), own, difference(own, share(*map(len, base))) if base else None)
