"""What a model is told of a decision and of an offer: values by the names of attributes; and what orders are worth."""

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
"""What is learned of apart: clicks; redemptions that are confirmed and orders, as far as they are put down to an offer;
and what share of their catalogue's scale the totals of such orders are. By their numbers in
offers.v1.Propensity.Reward, from 1 on."""
ORDER_VALUE = REWARDS.index("order_value")

REQUEST_NAMES = (PERSON, "hour", "weekday", "daypart", "channel", "placement", "entry_channel", "place")
OFFER_NAMES = (f"{OFFER_PREFIX}id", CATEGORY, f"{OFFER_PREFIX}brand")
_ALL = 2**64 - 1


class Sum(NamedTuple):
    """A sum of money."""

    currency: str
    """Code of ISO 4217; "": there is none."""
    units: float


NO_SUM = Sum("", 0.0)


def sum_of(money: Money) -> Sum:
    """A sum of money, of any sign."""
    return Sum(money.currency_code, units_of(money))


def written_scales(scales: Mapping[str, Sum]) -> dict[str, list[str | float]]:
    """Scales as JSON has them."""
    return {name: list(scale) for name, scale in scales.items()}


def order_value(total: Sum, scale: Sum) -> float:
    """What an order is as a reward: the share of a scale (over 0) that its total is, from 0 to 1.

    NaN, if that cannot be said: the total is missing, less than 0, or in another currency.
    """
    if total.currency != scale.currency or total.units < 0:
        return math.nan
    return min(total.units / scale.units, 1.0)


def no_item(_catalog: str, _offer: str) -> tuple[int, Sequence[int]]:
    """Of catalogues that do not tell."""
    return NOTHING, NO_TRAITS


class Offers(NamedTuple):
    """What catalogues tell of offers, and for models."""

    attributes: tuple[str, ...]
    """Names of what is known beside "category" and "brand"; some ten at most."""
    values: Callable[[str, str], Mapping[str, object]]
    """From a catalogue and an offer's id to what is known of it, by name; nothing where it is not known."""
    time_zones: Mapping[str, str]
    """Per catalogue, that of decisions that name none; UTC where there is none."""
    sensitive: frozenset[str] = frozenset()
    """Names of profile attributes that no model may know."""
    item: Callable[[str, str], tuple[int, Sequence[int]]] = no_item
    """From a catalogue and an offer's id to what visits of it are visits of, and its traits: see facts.OfferFacts;
    NOTHING where the offer is not known."""
    interactions: tuple[tuple[str, ...], ...] = ()
    """Attributes that are to go together."""
    scales: Mapping[str, Sum] = MappingProxyType({})
    """Per catalogue, what orders are measured by; of those that have none, nothing is learned of order values."""


def features_for(
    counted: Sequence[str],
    offers: Sequence[str],
    bits: int,
    declared: Iterable[tuple[str, ...]] = (),
    *,
    distance: bool = True,
) -> Features:
    """The features of attributes of requests and persons ("context." or "profile." and a name), and of offers (names).

    `bits` is the binary logarithm of how many weights there are; `declared` names attributes that go together. DISTANCE
    is among the attributes unless it is said to be known of nothing.
    """
    of_offers = (*OFFER_NAMES, *[DISTANCE] * distance, *(OFFER_PREFIX + name for name in offers))
    return default_features(tuple(dict.fromkeys([*REQUEST_NAMES, *counted, *of_offers])), bits, declared)


def person_value(draw: int) -> str:
    """What tells a person from others, out of the number by which variants are drawn for them; "" for nobody."""
    return f"{draw & _ALL:016x}" if draw else ""


def request_values(told: DecisionRecord, second: int, time_zone: str) -> dict[str, object]:
    """What a decision that was made at a second tells of the moment and the person: REQUEST_NAMES, then attributes.

    `time_zone` is that of decisions that name none, or one that is not known.
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
    """The texts, numbers, and what is true or false of the top level of a struct, by a prefix and their names."""
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
