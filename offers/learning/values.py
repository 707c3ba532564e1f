"""What a model is told of a decision and of an offer: values by the names of attributes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from offers.learning.features import CATEGORY, OFFER_PREFIX, PERSON, Features, default_features
from offers.model.visits import PLACE_DIGITS
from offers.v1.state_pb2 import DecisionRecord

DAYPART_HOURS = 4

REQUEST_NAMES = (PERSON, "hour", "weekday", "daypart", "channel", "placement", "entry_channel", "place")
OFFER_NAMES = (f"{OFFER_PREFIX}id", CATEGORY, f"{OFFER_PREFIX}brand")


class Offers(NamedTuple):
    """What catalogues tell of offers."""

    attributes: tuple[str, ...]
    """Names of what is known beside "category" and "brand"; some ten at most."""
    values: Callable[[str, str], Mapping[str, object]]
    """From a catalogue and an offer's id to what is known of it, by name; nothing where it is not known."""
    time_zone: str
    """Of decisions that name none."""


def features_for(counted: Sequence[str], offers: Sequence[str], bits: int) -> Features:
    """The features of attributes of requests and persons ("context." or "profile." and a name), and of offers (names).

    `bits` is the binary logarithm of how many weights there are.
    """
    names = dict.fromkeys([*REQUEST_NAMES, *counted, *OFFER_NAMES, *(OFFER_PREFIX + name for name in offers)])
    return default_features(tuple(names), bits)


def request_values(told: DecisionRecord, second: int, token: str, time_zone: str) -> dict[str, object]:
    """What a decision that was made at a second tells of the moment and the person: REQUEST_NAMES, then attributes.

    `token` stands for the person; `time_zone` is that of decisions that name none, or one that is not known.
    """
    local = datetime.fromtimestamp(told.time or second, _zone(told.time_zone, time_zone))
    values: dict[str, object] = {
        PERSON: token,
        "hour": local.hour,
        "weekday": local.weekday(),
        "daypart": local.hour // DAYPART_HOURS,
        "channel": told.channel,
        "placement": told.placement,
        "entry_channel": told.entry_channel,
        "place": told.geohash[:PLACE_DIGITS],
    }
    for prefix, struct in (("context.", told.context_attributes), ("profile.", told.profile_attributes)):
        fields = struct.fields
        for name in fields:  # `items` takes three times as long
            value = fields[name]
            kind = value.WhichOneof("kind")
            if kind in {"string_value", "number_value", "bool_value"}:
                values[prefix + name] = getattr(value, kind)
    return values


@lru_cache(256)
def _zone(name: str, otherwise: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or otherwise)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo(otherwise)
