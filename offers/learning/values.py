"""Attributes that models know of a decision and of an offer, by name, and the value of orders."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.struct_pb2 import Struct
from google.type.money_pb2 import Money

from offers.learning.propensity.features import CATEGORY, DISTANCE, OFFER_PREFIX, PERSON, Features, default_features
from offers.model.acts import NO_TRAITS
from offers.model.money import units_of
from offers.model.visits import NOTHING, PLACE_DIGITS
from offers.v1.state_pb2 import DecisionRecord

DAYPART_HOURS = 4

REWARDS = ("click", "redemption", "order_value")
"""Rewards that have a model each, in the order of offers.v1.Propensity.Reward, whose numbers begin at 1:

click        a click
redemption   a confirmed redemption, or an order, that is attributed to an offer
order_value  the total of such an order, as a share of its catalogue's scale
"""
ORDER_VALUE = REWARDS.index("order_value")

REQUEST_NAMES = (PERSON, "hour", "weekday", "daypart", "channel", "placement", "entry_channel", "place")
OFFER_NAMES = (f"{OFFER_PREFIX}id", CATEGORY, f"{OFFER_PREFIX}brand")
_ALL = 2**64 - 1


class Sum(NamedTuple):
    """A sum of money, in whole units with fractions."""

    currency: str
    """ISO 4217 code; "": there is no sum."""
    units: float


NO_SUM = Sum("", 0.0)


def sum_of(money: Money) -> Sum:
    """Return a sum of money, of any sign."""
    return Sum(money.currency_code, units_of(money))


def written_scales(scales: Mapping[str, Sum]) -> dict[str, list[str | float]]:
    """Return scales for JSON."""
    return {name: list(scale) for name, scale in scales.items()}


def order_value(total: Sum, scale: Sum) -> float:
    """Return an order's reward: its total as a share of a scale (over 0), at most 1.

    NaN where it cannot be measured: the total is missing, below 0, or in another currency.
    """
    if total.currency != scale.currency or total.units < 0:
        return math.nan
    return min(total.units / scale.units, 1.0)


def no_item(_catalog: str, _offer: str) -> tuple[int, Sequence[int]]:
    """Return no item: for catalogues that do not tell of items."""
    return NOTHING, NO_TRAITS


class CatalogueFacts(NamedTuple):
    """The facts of the served catalogues that the learner needs."""

    attributes: tuple[str, ...]
    """Names of the offers' attributes beside "category" and "brand"; some ten at most."""
    values: Callable[[str, str], Mapping[str, object]]
    """From a catalogue and an offer's id to its attributes, by name; none where the offer is unknown."""
    time_zones: Mapping[str, str]
    """By catalogue, the time zone of decisions that name none; UTC where there is none."""
    sensitive: frozenset[str] = frozenset()
    """Names of profile attributes that no model may use."""
    item: Callable[[str, str], tuple[int, Sequence[int]]] = no_item
    """From a catalogue and an offer's id to the item that visits of the offer count for, and its traits: see
    facts.OfferFacts. The item is NOTHING where the offer is unknown."""
    interactions: tuple[tuple[str, ...], ...] = ()
    """Sets of attributes that are declared to interact."""
    scales: Mapping[str, Sum] = MappingProxyType({})
    """By catalogue, the scale of order values; without one, no order values are learned."""


def features_for(
    counted: Sequence[str],
    offers: Sequence[str],
    bits: int,
    declared: Iterable[tuple[str, ...]] = (),
    *,
    distance: bool = True,
) -> Features:
    """Return features of requests and persons (attributes with "context." or "profile."), and of offers (bare names).

    `bits` is the binary logarithm of the number of weights; `declared` has sets of attributes that interact. Without
    `distance`, DISTANCE is not among the attributes.
    """
    of_offers = (*OFFER_NAMES, *[DISTANCE] * distance, *(OFFER_PREFIX + name for name in offers))
    return default_features(tuple(dict.fromkeys([*REQUEST_NAMES, *counted, *of_offers])), bits, declared)


def person_value(draw: int) -> str:
    """Return the value of PERSON for the number by which a person's variants are drawn; "" for nobody."""
    return f"{draw & _ALL:016x}" if draw else ""


def request_values(told: DecisionRecord, second: int, time_zone: str) -> dict[str, object]:
    """Return the attributes of a decision that was made at a second: REQUEST_NAMES, then those of context and profile.

    `time_zone` is used for decisions that name none, or an unknown one.
    """
    local = datetime.fromtimestamp(told.time or second, _zone(told.time_zone, time_zone))
    values: dict[str, object] = {
        PERSON: person_value(told.draw),
        "hour": local.hour,
        "weekday": local.weekday(),
        "daypart": local.hour // DAYPART_HOURS,
        "channel": told.channel,
        "placement": told.placement,
        "entry_channel": told.entry_channel,
        "place": told.geohash[:PLACE_DIGITS],
    }
    for prefix, struct in (("context.", told.context_attributes), ("profile.", told.profile_attributes)):
        values |= scalars(struct, prefix)
    return values


def scalars(struct: Struct, prefix: str = "") -> dict[str, object]:
    """Return the texts, numbers and booleans at the top level of a struct, by a prefix and their names."""
    fields, found = struct.fields, dict[str, object]()
    for name in fields:  # `items` takes three times as long
        value = fields[name]
        kind = value.WhichOneof("kind")
        if kind in {"string_value", "number_value", "bool_value"}:
            found[prefix + name] = getattr(value, kind)
    return found


@lru_cache(256)
def _zone(name: str, otherwise: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or otherwise)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo(otherwise)
