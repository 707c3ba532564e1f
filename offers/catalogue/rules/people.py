"""Rules for segments, audiences, campaigns, policies, experiments and triggers in the context of their catalogue."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, Protocol

from offers.catalogue.document.nodes import Path
from offers.catalogue.document.scalars import cut
from offers.catalogue.expressions import ExpressionError, attributes_of, compiled, tree
from offers.catalogue.hours.grammar import refusal
from offers.catalogue.hours.sun import names_sun
from offers.catalogue.intents import intents_of
from offers.catalogue.rules.faults import Fault
from offers.catalogue.rules.limits import has_both_ends, is_unpaced, lacking_window
from offers.catalogue.rules.survey import Survey
from offers.catalogue.rules.triggers import MAX_TRIGGERS
from offers.v1.audience_pb2 import Audience, Segment
from offers.v1.behaviour_pb2 import Intent
from offers.v1.catalog_pb2 import Interaction
from offers.v1.experiment_pb2 import Experiment
from offers.v1.limits_pb2 import Campaign, ContactPolicy
from offers.v1.offer_pb2 import Offer
from offers.v1.ranking_pb2 import Propensity, RankingStrategy
from offers.v1.trigger_pb2 import Trigger

_ROOM = 1e-9
"""Amount by which the shares of a layer may exceed 1: thirds do not add up exactly."""


class _Names(Protocol):
    """The ids of the catalogue: see CrossRules."""

    def unknown(self, name: str, identity: str, path: Path) -> Fault:
        """Return the fault of a reference to an unknown id."""
        ...

    def close(self, kind: str, name: str, known: Iterable[str]) -> str:
        """Return the known name of a kind that was probably meant, or ""."""
        ...


@lru_cache(4096)
def _attributes(expression: str) -> frozenset[str] | None:
    """Return the attributes an expression uses; None: any. An invalid one, a fault of its own, uses none."""
    try:
        used = attributes_of(tree(compiled(expression)))
    except ExpressionError:
        return frozenset()
    return None if used is None else frozenset(used)


class PeopleRules:
    """Finds the faults of definitions about people, once the whole catalogue is surveyed."""

    def __init__(self, survey: Survey, names: _Names) -> None:
        self._survey = survey
        self._known = survey.known
        self._names = names

    def has_faults(self) -> bool:
        """Return whether there is any fault other than an unknown id."""
        known = self._known
        parts: tuple[tuple[str, Callable[[Any], Iterable[Fault]]], ...] = (
            ("segments", self.segment_faults),
            ("intents", self.segment_faults),
            ("ranking_strategies", self.strategy_faults),
            ("contact_policies", self.policy_faults),
            ("experiments", self.experiment_faults),
            ("triggers", self.trigger_faults),
        )
        return (
            not self._survey.variants <= self._variants
            or any(any(faults_of(one)) for name, faults_of in parts for one in known[name].values())
            or any(any(self.interaction_faults(one)) for one in self._survey.head.interactions)
            or any(not self._has_window(campaign_id) for campaign_id in self._survey.unpaced)
        )

    def segment_faults(self, segment: Segment | Intent) -> Iterator[Fault]:
        """Find the sensitive attributes that a segment or an intent uses without permission."""
        sensitive, use = self._survey.head.sensitive_attributes, segment.sensitive_use
        for index, name in enumerate(use.attributes):
            if name not in sensitive:
                close = self._names.close("sensitive_attributes", name, sensitive)
                fix = f"did you mean '{close}'?" if close else "write one of the catalogue's sensitive_attributes"
                reason = f"'{cut(name)}' is no sensitive attribute of the catalogue"
                yield Fault(("sensitive_use", "attributes", index), reason, fix)
        used = _attributes(segment.expression)
        fix = "leave it out, or get leave and write sensitive_use: its attributes, reason and approved_by"
        missing = [name for name in sensitive if (used is None or name in used) and name not in use.attributes]
        if missing:
            named = f"the sensitive attribute{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))}"
            reason = f"uses {named}" if used is not None else f"does not name the attribute it uses: it may be {named}"
            yield Fault(("expression",), reason, fix)

    def interaction_faults(self, interaction: Interaction) -> Iterator[Fault]:
        """Find the sensitive attributes that an interaction names: no model may use them, with leave or without."""
        for index, name in enumerate(interaction.attributes):
            bare = name.removeprefix("profile.")
            if bare != name and bare in self._survey.head.sensitive_attributes:
                fix = "leave it out: models learn nothing of sensitive attributes"
                yield Fault(("attributes", index), f"uses the sensitive attribute '{cut(bare)}'", fix)

    def strategy_faults(self, strategy: RankingStrategy) -> Iterator[Fault]:
        """Find the elements a strategy and its behaviour rules refer to that the catalogue lacks."""
        is_scaled = self._survey.head.HasField("order_value_scale")
        if strategy.propensity.reward == Propensity.REWARD_ORDER_VALUE and not is_scaled:
            reason = "REWARD_ORDER_VALUE has nothing to measure orders by: the catalogue has no order_value_scale"
            fix = "write 'order_value_scale: {currency_code: EUR, units: 50}', or ask for another reward"
            yield Fault(("propensity", "reward"), reason, fix)
        intents = intents_of(self._known["intents"].values())
        for index, rule in enumerate(strategy.behaviour_rules):
            path = ("behaviour_rules", index)
            yield from self._unknown("segments", filter(None, (rule.segment_id,)), path, ("segment_id",))
            yield from self._unknown("campaigns", filter(None, (rule.campaign_id,)), path, ("campaign_id",))
            if rule.intent_id and rule.intent_id not in intents:
                close = self._names.close("intents", rule.intent_id, intents)
                fix = f"did you mean '{close}'?" if close else f"write one of {cut(', '.join(intents))}"
                yield Fault((*path, "intent_id"), f"there is no intent '{cut(rule.intent_id)}'", fix)

    def campaign_faults(self, campaign: Campaign) -> Iterator[Fault]:
        """Find unknown ids in the audience of a campaign."""
        yield from self._audience_faults(campaign.audience, ("audience",))

    def policy_faults(self, policy: ContactPolicy) -> Iterator[Fault]:
        """Find the faults of a contact policy in the context of the catalogue."""
        yield from self._unknown("campaigns", policy.campaign_ids, ("campaign_ids",))
        if policy.quiet_hours:
            refused = refusal(policy.quiet_hours, self._survey.head.country_code)
            if refused is None and (sun := names_sun(policy.quiet_hours)):
                reason = f"'{sun.group()}' at position {sun.start() + 1} needs a place, and persons have a clock alone"
                refused = reason, "write times of day such as 22:00"
            if refused is not None:
                yield Fault(("quiet_hours",), *refused)

    def experiment_faults(self, experiment: Experiment) -> Iterator[Fault]:
        """Find the faults of an experiment in the context of the catalogue."""
        yield from self._unknown("placements", experiment.placement_ids, ("placement_ids",))
        yield from self._unknown("segments", experiment.segment_ids, ("segment_ids",))
        for index, variant in enumerate(experiment.variants):
            if variant.ranking_strategy_id:
                path = ("variants", index, "ranking_strategy_id")
                yield from self._unknown("ranking_strategies", (variant.ranking_strategy_id,), path[:-1], path[-1:])
        if experiment.experiment_id in self._crowded:
            total = self._crowded[experiment.experiment_id]
            reason = f"makes the shares of the layer '{cut(experiment.layer)}' add up to {total:.6g}"
            yield Fault(("share",), reason, "write shares that add up to 1 at most, or another layer")

    def trigger_faults(self, trigger: Trigger) -> Iterator[Fault]:
        """Find unknown ids in a trigger, and report the first trigger beyond the limit."""
        yield from self._unknown("placements", filter(None, (trigger.placement_id,)), (), ("placement_id",))
        yield from self._unknown("segments", filter(None, (trigger.segment_id,)), (), ("segment_id",))
        if trigger.trigger_id == self._first_too_many:
            yield Fault((), f"is one of {len(self._known['triggers'])} triggers", f"write at most {MAX_TRIGGERS}")

    def offer_faults(self, offer: Offer) -> Iterator[Fault]:
        """Find the faults of an offer's audience and limits in the context of the catalogue."""
        yield from self._audience_faults(offer.audience, ("audience",))
        for index, variant in enumerate(offer.creative_variants):
            yield from self._audience_faults(variant.audience, ("creative_variants", index, "audience"))
        if offer.campaign_id and offer.campaign_id not in self._known["campaigns"]:
            yield self._names.unknown("campaigns", offer.campaign_id, ("campaign_id",))
        elif is_unpaced(offer) and not self._has_window(offer.campaign_id):
            yield lacking_window(("budget", "pacing"), "the offer")

    def _audience_faults(self, audience: Audience, path: Path) -> Iterator[Fault]:
        for name in ("any_segment_ids", "all_segment_ids", "none_segment_ids"):
            yield from self._unknown("segments", getattr(audience, name), (*path, name))
        for index, variant in enumerate(audience.variants):
            here = (*path, "variants", index)
            experiment = self._known["experiments"].get(variant.experiment_id)
            if experiment is None:
                yield self._names.unknown("experiments", variant.experiment_id, (*here, "experiment_id"))
            elif (variant.experiment_id, variant.variant_id) not in self._variants:
                known = [one.variant_id for one in experiment.variants]
                close = self._names.close(f"variants.{variant.experiment_id}", variant.variant_id, known)
                reason = f"there is no variant '{cut(variant.variant_id)}' in the experiment '{variant.experiment_id}'"
                fix = f"did you mean '{close}'?" if close else f"write one of {', '.join(known)}"
                yield Fault((*here, "variant_id"), reason, fix)

    def _unknown(self, name: str, ids: Iterable[str], path: Path, single: Path = ()) -> Iterator[Fault]:
        for index, identity in enumerate(ids):
            if identity not in self._known[name]:
                yield self._names.unknown(name, identity, (*path, *(single or (index,))))

    @cached_property
    def _first_too_many(self) -> str | None:
        return next(islice(self._known["triggers"], MAX_TRIGGERS, None), None)

    @cached_property
    def _variants(self) -> set[tuple[str, str]]:
        experiments = self._known["experiments"].items()
        return {(name, variant.variant_id) for name, experiment in experiments for variant in experiment.variants}

    @cached_property
    def _crowded(self) -> dict[str, float]:
        """The experiments with which the shares of their layer exceed 1, and the total share."""
        totals: dict[str, float] = {}
        crowded = {}
        for name, experiment in self._known["experiments"].items():
            if experiment.layer:
                share = experiment.share if experiment.HasField("share") else 1.0
                totals[experiment.layer] = totals.get(experiment.layer, 0.0) + share
                if totals[experiment.layer] > 1 + _ROOM:
                    crowded[name] = totals[experiment.layer]
        return crowded

    def _has_window(self, campaign_id: str) -> bool:
        """Return whether a campaign is unknown or has a window with both ends."""
        if not campaign_id:
            return False
        campaign = self._known["campaigns"].get(campaign_id)
        return campaign is None or has_both_ends(campaign.window)
