"""The part of the specification that concerns behaviour: the rules that hold for a person, and what they lift."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from offers.catalogue.compile.behaviour import VIEWED_S, intent_name
from offers.catalogue.intents import intents_of
from offers.v1.behaviour_pb2 import BehaviourRule
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import Session
from offers.v1.event_pb2 import EVENT_KIND_CLICK, EVENT_KIND_VIEW
from offers.v1.offer_pb2 import Offer
from offers.v1.profile_pb2 import Basket
from offers.v1.ranking_pb2 import RankingStrategy
from offers.v1.state_pb2 import RecentEvent


@dataclass(frozen=True, slots=True)
class Behaved:
    """What a person did recently, by the session and by events. The default is nothing."""

    categories: frozenset[str] = frozenset()
    """The categories of the items in the open basket."""
    changed: int = 0
    """When the basket last changed, in seconds since 1970."""
    viewed: Sequence[tuple[str, int]] = ()
    """The categories looked at, each with the second."""


@dataclass(frozen=True, slots=True)
class ActiveRule:
    """A behaviour rule that holds for a person."""

    rule: BehaviourRule
    categories: frozenset[str]
    """The categories it lifts, if its subject is the basket or what was viewed."""

    def applies(self, offer: Offer) -> bool:
        """Return whether the rule lifts an offer."""
        match self.rule.WhichOneof("subject"):
            case "category":
                return offer.category == self.rule.category
            case "brand":
                return offer.brand == self.rule.brand
            case "campaign_id":
                return offer.campaign_id == self.rule.campaign_id
        return offer.category in self.categories


def behaved(session: Session, basket: Basket, recent: Iterable[RecentEvent], time: int) -> Behaved:
    """Return what a person did, by the session and by events. The session's basket replaces the one of events."""
    viewed = [(name, when.seconds) for name, when in session.viewed_categories.items()]
    viewed += [
        (one.category, one.event_time.seconds)
        for one in recent
        if one.category and one.kind in {EVENT_KIND_VIEW, EVENT_KIND_CLICK}
    ]
    items, changed = [item.category for item in basket.items], basket.update_time.seconds
    if session.HasField("basket"):
        items = [item.category for item in session.basket.items]
        changed = session.basket.update_time.seconds if session.basket.HasField("update_time") else time
    return Behaved(frozenset(filter(None, items)), changed, viewed)


def intent_of(catalog: Catalog, segments: frozenset[str]) -> str:
    """Return the intent among the segments of a person; "": none."""
    return next((name for name in intents_of(catalog.intents) if intent_name(name) in segments), "")


def held(
    catalog: Catalog, strategy: RankingStrategy, time: int, segments: frozenset[str], did: Behaved
) -> list[ActiveRule]:  # fmt: skip
    """Return the rules of a strategy that hold at a time for a person in some segments, intents among them."""
    intent = intent_of(catalog, segments)
    found = []
    for rule in strategy.behaviour_rules:
        if rule.segment_id and rule.segment_id not in segments:
            continue
        if rule.intent_id and rule.intent_id != intent:
            continue
        match rule.WhichOneof("subject"):
            case "basket":
                age, within = max(time - did.changed, 0), rule.basket.within.seconds
                is_there = rule.basket.idle.seconds <= age and (not within or age < within)
                categories = did.categories if is_there else frozenset()
            case "viewed":
                within = rule.viewed.within.seconds or VIEWED_S
                categories = frozenset(name for name, when in did.viewed if max(time - when, 0) < within)
            case _:
                found.append(ActiveRule(rule, frozenset()))
                continue
        if categories:
            found.append(ActiveRule(rule, categories))
    return found


def behaviour(offer: Offer, rules: Iterable[ActiveRule]) -> float:
    """Return the behaviour factor of an offer, given the rules that hold."""
    factor = 1.0
    for one in rules:
        factor /= 1.0 if one.applies(offer) else one.rule.lift
    return factor
