"""A decision's inputs, after the request has been checked."""

import math
from typing import NamedTuple

DEFAULT_MAX_OFFERS = 10
"""Offers returned when a request names no number: a phone's screen with a little scrolling."""
MAX_OFFERS = 100
"""The most offers one request may ask for: ten screens. More is a catalogue export, not a decision."""


class Surface(NamedTuple):
    """The fields that all requests of one screen share: looked up once, not once per call."""

    time_zone: str = ""
    """The person's IANA time zone; "" for the catalogue's."""
    placement: str = ""
    channel: str = ""
    language: str = ""
    """BCP 47 tag in lower case."""
    currency: str = ""
    max_offers: int = DEFAULT_MAX_OFFERS
    full: bool = False
    """Whether the answer carries the factors."""
    catalog: str = ""


class Query(NamedTuple):
    """A request as the decision reads it: every value checked, every absence a stated default."""

    surface: Surface
    time: int
    """The instant decided for, in seconds since 1970 UTC."""
    latitude: float = math.nan
    """Degrees from -90 to 90; NaN: no location."""
    longitude: float = math.nan
    """Degrees from -180 to 180; NaN: no location."""
    seed: int = -1
    """Orders offers of equal score, under 2^64; -1: by offer id."""
    request_id: str = ""
    sigma_m: float = 0.0
    """Standard deviation of the location in metres, along each axis; 0: exact."""
    growth_mps: float = 0.0
    """Metres per second by which `sigma_m` grows with time; 0: the location is as old as the request."""
