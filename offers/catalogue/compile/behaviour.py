"""Behaviour rules as rows of a snapshot, and the numbering of the expressions they depend on."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.catalogue import snapshot
from offers.catalogue.compile.columns import csr, table
from offers.catalogue.definitions import Definitions
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.intents import intents_of
from offers.catalogue.snapshot import NO_NAME
from offers.model.hashing import text_hash
from offers.v1.audience_pb2 import Segment
from offers.v1.behaviour_pb2 import BehaviourRule, Intent

VIEWED_S = 1800
"""Seconds for which a view counts if a rule names no time."""
OF_BASKET, OF_VIEWED, OF_CATEGORY, OF_BRAND, OF_CAMPAIGN = range(5)
"""Kinds of the subjects of rules."""
_KINDS = {"basket": OF_BASKET, "viewed": OF_VIEWED, "category": OF_CATEGORY, "brand": OF_BRAND,
          "campaign_id": OF_CAMPAIGN}  # fmt: skip
_INTENT = "intent/"
"""Prefix of intents among the names of expressions. Ids of segments cannot contain its slash."""


def conditions(checked: Definitions) -> dict[str, Segment | Intent]:
    """Return all expressions of a catalogue by name, in the order of their numbers: segments, then intents."""
    rules = (rule for strategy in checked.ranking_strategies.values() for rule in strategy.behaviour_rules)
    intents = checked.intents
    if not intents and any(rule.intent_id for rule in rules):
        intents = intents_of(())
    return {**checked.segments, **{intent_name(name): intent for name, intent in intents.items()}}


def intent_name(intent_id: str) -> str:
    """Return the name of an intent among the expressions."""
    return _INTENT + intent_id


def behaviour_columns(
    checked: Definitions, names: Mapping[str, int], categories: Iterable[int]
) -> dict[str, NDArray[Any]]:
    """Return the arrays of all behaviour rules.

    `names` are the numbers of brands and categories. `categories` are the numbers of the categories that offers have.
    """
    numbers = {name: number for number, name in enumerate(conditions(checked))}
    intents = [number for name, number in numbers.items() if name.startswith(_INTENT)]
    campaigns = {name: number for number, name in enumerate(checked.campaigns)}
    strategies = [[], *(strategy.behaviour_rules for strategy in checked.ranking_strategies.values())]
    rows = [_row(rule, numbers, names, campaigns) for rules in strategies for rule in rules]
    used = (
        set(categories) if any(rule.WhichOneof("subject") in _SOUGHT for rules in strategies for rule in rules) else ()
    )
    found = sorted((text_hash(name), number) for name, number in names.items() if number in used and name)
    return {
        "rule": table(snapshot.RULE, rows),
        "rule_first": csr([len(rules) for rules in strategies]),
        "intent_segment": np.array(intents, np.int64),
        "category_hash": np.array([hashed for hashed, _ in found], np.int64),
        "category_number": np.array([number for _, number in found], np.int64),
    }


_SOUGHT = frozenset({"basket", "viewed"})
"""Subjects whose categories a decision looks up."""


def _row(
    rule: BehaviourRule, numbers: Mapping[str, int], names: Mapping[str, int], campaigns: Mapping[str, int]
) -> tuple[Any, ...]:
    """Return a record of snapshot.RULE."""
    kind, idle, within, number = rule.WhichOneof("subject") or "", 0, NEVER, NO_NAME
    if kind == "basket":
        idle, within = rule.basket.idle.seconds, rule.basket.within.seconds or NEVER
    elif kind == "viewed":
        within = rule.viewed.within.seconds or VIEWED_S
    elif kind == "campaign_id":
        number = campaigns[rule.campaign_id]
    else:  # a name that no offer has
        number = names.get(getattr(rule, kind), snapshot.UNKNOWN_NAME)
    intents = [name for name in numbers if name.startswith(_INTENT)]
    return (
        math.log(rule.lift),
        idle,
        within,
        numbers[rule.segment_id] if rule.segment_id else NO_NAME,
        intents.index(intent_name(rule.intent_id)) if rule.intent_id else NO_NAME,
        number,
        _KINDS[kind],
    )
