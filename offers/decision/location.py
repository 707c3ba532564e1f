"""What is known of where a person is: a normal distribution around a point, and how likely that is inside a circle.

`accuracy_m` is the radius that holds the true position in 68 % of cases. It grows from the measurement on.
"""

import math

import numpy as np
from numba import njit

from offers.catalogue.geometry import ECCENTRICITY_2, EQUATORIAL_RADIUS_M, MEAN_RADIUS_M

MOVEMENT_MPS = np.array([1.4, 1.4, 4.2, 8.3, 13.9])
"""Metres per second by which a position grows older, per offers.v1.TravelMode: not said (as on foot), walking, cycling,
transit, driving."""
WIDEST_M = 1_000_000.0
"""The most a radius grows to: beyond, nothing is known."""
SIGMA = 1 / math.sqrt(-2 * math.log(1 - 0.68))
"""Standard deviation (either way) per metre of the radius that holds 68 %."""
CERTAIN = 5.5
"""So many standard deviations from an edge, a person is inside or outside for certain (to 3e-7)."""
WIDE = 16.0
"""Radii over so many standard deviations are wide."""
_ANGLES, _SHARES = np.polynomial.legendre.leggauss(32)
_STRIPS, _WEIGHTS = (values[3:] for values in np.polynomial.hermite_e.hermegauss(7))
"""Strips of a normal distribution: the middle one and those on one side of it."""


@njit(cache=True, error_model="numpy")
def spread(accuracy_m: float, observed: int, movement: int, time: int) -> tuple[float, float]:
    """The standard deviation of a position at a time, either way in metres, and its growth in metres per second.

    `observed` is the second of the measurement, or -1: it is always as old as the request; `movement` a TravelMode.
    """
    if observed < 0:
        return accuracy_m * SIGMA, 0.0
    speed = MOVEMENT_MPS[movement]
    radius = accuracy_m + max(time - observed, 0) * speed
    return (radius * SIGMA, speed * SIGMA) if radius < WIDEST_M else (WIDEST_M * SIGMA, 0.0)


@njit(error_model="numpy")
def earth_centred(latitude: float, longitude: float) -> tuple[float, float, float]:
    """Earth-centred coordinates in metres, from degrees; as geometry.earth_centred."""
    phi, lam = math.radians(latitude), math.radians(longitude)
    normal = EQUATORIAL_RADIUS_M / math.sqrt(1 - ECCENTRICITY_2 * math.sin(phi) ** 2)
    return (
        normal * math.cos(phi) * math.cos(lam),
        normal * math.cos(phi) * math.sin(lam),
        normal * (1 - ECCENTRICITY_2) * math.sin(phi),
    )


@njit(error_model="numpy")
def _below(value: float) -> float:
    """The share of a standard normal distribution below a value."""
    return 0.5 * math.erfc(-value * math.sqrt(0.5))


@njit(error_model="numpy")
def probability_in_circle(distance_m: float, radius_m: float, sigma_m: float) -> float:
    """The share of a normal distribution inside a circle, `distance_m` from its centre to the circle's.

    Cut into strips along the line of the centres: a strip's share is a difference of two normal ones. Few strips do for
    a circle that is wide beside the distribution, as most are; for others the sine of an angle in place of the strip's
    place makes the sum smooth. To 1e-6.
    """
    if abs(radius_m - distance_m) >= CERTAIN * sigma_m:
        return 1.0 if distance_m <= radius_m else 0.0
    away, wide = distance_m / sigma_m, radius_m / sigma_m
    total = 0.0
    if wide > WIDE:
        for place in range(len(_STRIPS)):
            along = math.sqrt(wide * wide - _STRIPS[place] * _STRIPS[place])
            total += (1 if place == 0 else 2) * _WEIGHTS[place] * _below(along - away)
        return total / math.sqrt(2.0 * math.pi)
    most = math.asin(min(1.0, 7.0 / wide))
    for place in range(len(_ANGLES)):
        angle = 0.5 * most * (_ANGLES[place] + 1.0)
        across, along = wide * math.sin(angle), wide * math.cos(angle)
        share = _below(along - away) - _below(-along - away)
        total += _SHARES[place] * math.exp(-0.5 * across * across) * along * share
    return min(total * 0.5 * most * math.sqrt(2.0 / math.pi), 1.0)


@njit(error_model="numpy")
def depth_needed(probability: float) -> float:
    """Standard deviations from an edge at which what is inside is so with this probability, whatever the shape."""
    return math.sqrt(-2.0 * math.log(1.0 - probability))


POINT_RINGS = 16
POINTS = POINT_RINGS * POINT_RINGS
"""Points that stand for a distribution: on 16 rings of equal share, 16 to a ring, every other ring turned by half a
step."""
_RINGS = np.sqrt(-2 * np.log(1 - (np.arange(POINT_RINGS) + 0.5) / POINT_RINGS))
_BEARINGS = (np.arange(POINTS) % POINT_RINGS + 0.5 * (np.arange(POINTS) // POINT_RINGS % 2)) * 2 * np.pi / POINT_RINGS
_NORTH, _EAST = np.repeat(_RINGS, POINT_RINGS) * np.cos(_BEARINGS), np.repeat(_RINGS, POINT_RINGS) * np.sin(_BEARINGS)
"""Standard deviations from the middle."""


@njit(error_model="numpy")
def point_around(latitude: float, longitude: float, sigma_m: float, point: int) -> tuple[float, float]:
    """One of the points that stand for a distribution around a position: latitude and longitude in degrees.

    It lies as far away, on a sphere of mean radius, as the distribution is wide there.
    """
    phi, lam = math.radians(latitude), math.radians(longitude)
    north, east = _NORTH[point] * sigma_m / MEAN_RADIUS_M, _EAST[point] * sigma_m / MEAN_RADIUS_M
    angle = math.hypot(north, east)
    if angle > 0.0:
        north, east = north / angle, east / angle
    sine = math.sin(phi) * math.cos(angle) + math.cos(phi) * math.sin(angle) * north
    there = math.asin(min(max(sine, -1.0), 1.0))
    turn = math.atan2(east * math.sin(angle) * math.cos(phi), math.cos(angle) - math.sin(phi) * math.sin(there))
    degrees = math.degrees(lam + turn)
    return math.degrees(there), degrees - 360.0 * math.floor((degrees + 180.0) / 360.0)
