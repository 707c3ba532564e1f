"""Rules for intents and behaviour rules, each taken by itself."""

from offers.catalogue.document.nodes import Path
from offers.catalogue.rules.audience import check_expression
from offers.catalogue.rules.faults import Fault, Faults
from offers.catalogue.rules.values import check_duration, check_id, check_length, check_new_id, check_text
from offers.v1.behaviour_pb2 import BasketSubject, BehaviourRule, Intent
from offers.v1.ranking_pb2 import RankingStrategy

MAX_RULES = 32
MAX_LIFT = 100
MAX_IDLE_DAYS = 7
MAX_DAYS = 400


def check_intent(intent: Intent, faults: Faults) -> None:
    """Check an intent, except for its use of sensitive attributes, which depends on the catalogue."""
    check_id(intent.intent_id, ("intent_id",), faults)
    check_length(intent.title, 200, ("title",), faults)
    check_expression(intent, "write when it is, such as has(session.basket)", faults)


def check_behaviour(strategy: RankingStrategy, faults: Faults) -> None:
    """Check the behaviour rules of a strategy, except for the ids they name."""
    rules = strategy.behaviour_rules
    if len(rules) > MAX_RULES:
        faults.append(Fault(("behaviour_rules",), f"has {len(rules):,} rules", f"write at most {MAX_RULES}"))
    known: set[str] = set()
    for index, rule in enumerate(rules):
        path = ("behaviour_rules", index)
        check_new_id(rule.rule_id, known, (*path, "rule_id"), faults)
        _check_condition(rule, path, faults)
        _check_subject(rule, path, faults)
        if not 1 < rule.lift <= MAX_LIFT:
            reason = f"{rule.lift:.12g} is not over 1 and at most {MAX_LIFT}" if rule.lift else "missing"
            faults.append(Fault((*path, "lift"), reason, "write by how much its offers stand above others, such as 2"))


def _check_condition(rule: BehaviourRule, path: Path, faults: Faults) -> None:
    name = rule.WhichOneof("condition")
    if name and not getattr(rule, name):
        faults.append(Fault((*path, name), "is empty", "write an id, or leave it out for everybody"))


def _check_subject(rule: BehaviourRule, path: Path, faults: Faults) -> None:
    match rule.WhichOneof("subject"):
        case None:
            fix = "write which offers it applies to: one of basket, viewed, category, brand and campaign_id"
            faults.append(Fault(path, "has no subject", fix))
        case "basket":
            _check_basket(rule.basket, (*path, "basket"), faults)
        case "viewed":
            if rule.viewed.HasField("within"):
                check_duration(rule.viewed.within, (*path, "viewed", "within"), faults, least=1, days=MAX_DAYS)
        case name:
            check_text(getattr(rule, name), 128, (*path, name), faults)


def _check_basket(basket: BasketSubject, path: Path, faults: Faults) -> None:
    check_duration(basket.idle, (*path, "idle"), faults, days=MAX_IDLE_DAYS)
    if basket.HasField("within"):
        check_duration(basket.within, (*path, "within"), faults, least=1, days=MAX_DAYS)
        if basket.within.seconds <= basket.idle.seconds:
            fix = "write a longer time, or leave it out for no limit"
            faults.append(Fault((*path, "within"), "is not over idle", fix))
