"""Sunrise, sunset, dawn and dusk at a place, to the minute.

The opening-hours library knows them only roughly. It uses the sun of another day where a clock is far from its
meridian, and mistakes polar night for polar day in the south. The position of the sun is computed by the formulas of
Jean Meeus, Astronomical Algorithms, chapters 25 and 28, and his earlier Astronomical Formulae for Calculators, chapter
18, for what draws the earth from its ellipse: to a few thousandths of a degree.
"""

import math
import re
from collections.abc import Callable
from functools import lru_cache

EVENTS = ("dawn", "sunrise", "sunset", "dusk")
"""Events in the order of the day. Dawn and dusk are those of civil twilight: the sun is 6 degrees below the horizon."""

_ALTITUDES = {"dawn": -6.0, "sunrise": -50 / 60, "sunset": -50 / 60, "dusk": -6.0}
"""Altitude of the sun in degrees. 50 minutes are half of the sun's disc plus the refraction of the air."""
_DAY_S = 86_400
_ROUNDS = 5
"""Most steps towards an event: its time depends on the position of the sun at that time."""
_NEAR_S = 0.1
_J2000_DAY = 10_957.5
"""The astronomical epoch J2000, 2000-01-01T12:00:00Z, in days since 1970."""
_CENTURY_DAYS = 36_525
_LATE_S = 69
"""Seconds by which the rotation of the earth is late since the ephemeris was begun (delta T). It changes slowly."""
_PERTURBATIONS = (
    (0.00134, 243.23, 22_518.7541),  # Venus
    (0.00154, 306.57, 45_037.5082),  # Venus
    (0.00200, 42.69, 32_964.3577),  # Jupiter
    (0.00179, 350.74, 445_267.1142),  # the moon
    (0.00178, 231.19, 20.20),  # of long period
)
"""Perturbations of the earth's orbit: amplitude and phase in degrees, and degrees a century since 1900."""
COMMENT = re.compile(r'"[^"]*"')
_NAMED = re.compile(rf"\b(?:{'|'.join(EVENTS)})\b", re.IGNORECASE)

Clock = Callable[[int], int]
"""Returns the offset of the wall clock in seconds at an instant in seconds UTC."""


def names_sun(expression: str) -> "re.Match[str] | None":
    """Return the first match of an event of the sun in hours, or None."""
    return _NAMED.search(COMMENT.sub(lambda comment: " " * len(comment.group()), expression))


def minute_of(event: str, day: int, place: tuple[float, ...], clock: Clock) -> int:
    """Return the wall-clock minute of an event of the sun on a day, counted from midnight and rounded to the nearest.

    `day` is in days since 1970, `place` a latitude and a longitude in degrees. The day is the one around the noon of
    that date by the place's wall clock. If the sun does not rise, sunrise and sunset are at noon; if it does not set,
    at the midnights before and after.
    """
    latitude, longitude = place
    middle = day * _DAY_S + _DAY_S // 2
    mean_noon = middle - 240 * longitude  # mean solar noon of that date by UTC
    mean_noon += _DAY_S * round((middle - mean_noon - clock(int(mean_noon))) / _DAY_S)
    instant = _instant(event, mean_noon, latitude)
    return math.floor((instant + clock(math.floor(instant)) - day * _DAY_S) / 60 + 0.5)


@lru_cache(maxsize=65_536)
def _instant(event: str, mean_noon: float, latitude: float) -> float:
    """Return the instant, in seconds UTC, of an event on the day around a mean solar noon."""
    is_evening = event in EVENTS[2:]
    phi, sine = math.radians(min(max(latitude, -89.999), 89.999)), math.sin(math.radians(_ALTITUDES[event]))
    instant = mean_noon
    for _ in range(_ROUNDS):
        declination, equation = _sun_at(instant)
        cosine = (sine - math.sin(phi) * math.sin(declination)) / (math.cos(phi) * math.cos(declination))
        if cosine <= -1:
            return _midnight(mean_noon, mean_noon + (_DAY_S if is_evening else -_DAY_S))
        half_day = math.acos(min(cosine, 1.0)) / math.tau * _DAY_S
        before, instant = instant, mean_noon - equation + (half_day if is_evening else -half_day)
        if abs(instant - before) < _NEAR_S:
            break
    return instant


def _midnight(noon: float, other: float) -> float:
    """Return the middle between two solar noons, given the mean ones: the same for the evening and the morning."""
    return (noon - _sun_at(noon)[1] + other - _sun_at(other)[1]) / 2


def _sun_at(instant: float) -> tuple[float, float]:
    """Return the declination of the sun in radians and the equation of time in seconds, at an instant."""
    day, part = divmod(instant / _DAY_S, 1)
    (declination, equation), (later, other) = _sun_of(int(day)), _sun_of(int(day) + 1)
    return declination + part * (later - declination), equation + part * (other - equation)


@lru_cache(maxsize=16_384)
def _sun_of(day: int) -> tuple[float, float]:
    """Return what `_sun_at` does for the first instant of a day since 1970.

    Between two days both change evenly enough: by less than 0.001 degrees and 0.1 s from a straight line.
    """
    centuries = (day + _LATE_S / _DAY_S - _J2000_DAY) / _CENTURY_DAYS
    mean = math.radians(280.46646 + 36_000.76983 * centuries)
    anomaly = math.radians(357.52911 + 35_999.05029 * centuries)
    centre = (
        (1.914602 - 0.004817 * centuries) * math.sin(anomaly)
        + (0.019993 - 0.000101 * centuries) * math.sin(2 * anomaly)
        + 0.000289 * math.sin(3 * anomaly)
    )
    node = math.radians(125.04 - 1934.136 * centuries)
    drawn = sum(size * math.sin(math.radians(phase + speed * (centuries + 1))) for size, phase, speed in _PERTURBATIONS)
    longitude = mean + math.radians(centre + drawn - 0.00569 - 0.00478 * math.sin(node))
    obliquity = math.radians(23.4392911 - 0.0130042 * centuries + 0.00256 * math.cos(node))
    ascension = math.atan2(math.cos(obliquity) * math.sin(longitude), math.cos(longitude))
    equation = mean - math.radians(0.0057183 + 0.00478 * math.sin(node) * math.cos(obliquity)) - ascension
    equation -= math.tau * round(equation / math.tau)
    return math.asin(math.sin(obliquity) * math.sin(longitude)), equation / math.tau * _DAY_S
