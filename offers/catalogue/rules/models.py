"""Rules for attributes, interactions, propensity and exploration."""

from math import isfinite

from offers.catalogue.document.nodes import Path
from offers.catalogue.rules.faults import Fault, Faults
from offers.catalogue.rules.values import check_text
from offers.v1.catalog_pb2 import Catalog, Exploration, Placement
from offers.v1.offer_pb2 import Offer
from offers.v1.ranking_pb2 import Propensity, RankingStrategy

MAX_NAMES = 16
MAX_NAME, MAX_TEXT = 64, 128
OF_OFFERS = ("id", "category", "brand", "campaign")
"""Attributes that models know of every offer, independent of the request."""
RESERVED = (*OF_OFFERS, "distance")
"""Names that attributes of offers cannot have, because models use them."""
MAX_LOSS, MAX_SHARE = 0.99, 0.5
MAX_INTERACTIONS, MOST_TOGETHER = 32, 4
KNOWN_OF_REQUESTS = ("person", "hour", "weekday", "daypart", "channel", "placement", "entry_channel", "place")
"""Attributes that models know of every request."""
_PREFIXES = ("context", "profile", "offer")


def check_attributes(offer: Offer, known: set[str], faults: Faults) -> None:
    """Check the attributes of an offer, and add their names to `known`, the names of the offers before."""
    fields = offer.attributes.fields
    for name in sorted(fields):  # the order of a protobuf map is arbitrary
        value = fields[name]
        path = ("attributes", name)
        if name in RESERVED:
            reason = f"'{name}' is what models know of every offer"
            faults.append(Fault(path, reason, "leave it out, or choose another name"))
            continue
        check_text(name, MAX_NAME, path, faults)
        kind = value.WhichOneof("kind")
        if kind == "string_value":
            check_text(value.string_value, MAX_TEXT, path, faults)
        elif kind == "number_value":
            if not isfinite(value.number_value):
                faults.append(Fault(path, f"{value.number_value} is not finite", "write a number, or leave it out"))
        elif kind != "bool_value":
            faults.append(Fault(path, "is no text, number, true or false", "write one of these, or leave it out"))
        if name not in known:
            known.add(name)
            if len(known) == MAX_NAMES + 1:
                reason = f"'{name}' is the {len(known)}th name of attributes in the catalogue"
                faults.append(Fault(path, reason, f"use at most {MAX_NAMES} names"))


def check_interactions(catalog: Catalog, faults: Faults) -> None:
    """Check the interactions of a catalogue."""
    if len(catalog.interactions) > MAX_INTERACTIONS:
        reason = f"has {len(catalog.interactions):,} of them"
        faults.append(Fault(("interactions",), reason, f"write at most {MAX_INTERACTIONS}"))
    for index, one in enumerate(catalog.interactions):
        path = ("interactions", index, "attributes")
        if not 2 <= len(set(one.attributes)) == len(one.attributes) <= MOST_TOGETHER:
            reason = f"names {len(one.attributes)} attributes, {len(set(one.attributes))} of them different"
            faults.append(Fault(path, reason, f"name 2 to {MOST_TOGETHER}, each once"))
        for number, name in enumerate(one.attributes):
            prefix, dot, own = name.partition(".")
            if name not in KNOWN_OF_REQUESTS and not (dot and prefix in _PREFIXES and 0 < len(own) <= MAX_TEXT):
                fix = f"write one of {', '.join(KNOWN_OF_REQUESTS)}, or 'context.', 'profile.' or 'offer.' and a name"
                faults.append(Fault((*path, number), f"'{name[:MAX_TEXT]}' is no attribute that models know", fix))


def check_propensity(strategy: RankingStrategy, faults: Faults) -> None:
    """Check the propensity of a strategy."""
    for name, kinds in (("reward", Propensity.Reward), ("learner", Propensity.Learner)):
        number = getattr(strategy.propensity, name)
        if number not in kinds.values():
            fix = f"write one of {', '.join(kinds.keys())}"
            faults.append(Fault(("propensity", name), f"{number} is none of them", fix))


def check_exploration(placement: Placement, faults: Faults) -> None:
    """Check the exploration of a placement, except for the strategy it needs."""
    if not placement.HasField("exploration"):
        return
    one, path = placement.exploration, ("exploration",)
    if one.method not in Exploration.Method.values() or one.method == Exploration.METHOD_UNSPECIFIED:
        fix = "write METHOD_THOMPSON or METHOD_EPSILON_GREEDY, or leave exploration out"
        reason = f"{one.method} is not a Method" if one.method else "missing"
        faults.append(Fault((*path, "method"), reason, fix))
    if one.HasField("epsilon"):
        _check_share(one.epsilon, 1.0, (*path, "epsilon"), faults)
        if one.method == Exploration.METHOD_THOMPSON:
            fix = "leave it out, or write METHOD_EPSILON_GREEDY"
            faults.append(Fault((*path, "epsilon"), "is not asked for by METHOD_THOMPSON", fix))
    if one.HasField("max_loss"):
        _check_share(one.max_loss, MAX_LOSS, (*path, "max_loss"), faults)
    if one.HasField("new_offer_share") and one.new_offer_share != 0:
        _check_share(one.new_offer_share, MAX_SHARE, (*path, "new_offer_share"), faults)


def _check_share(share: float, most: float, path: Path, faults: Faults) -> None:
    if not 0 < share <= most:
        fix = f"write a number over 0 and at most {most:g}"
        faults.append(Fault(path, f"{share:.12g} is not over 0 and at most {most:g}", fix))
