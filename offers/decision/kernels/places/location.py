"""Uncertain locations: a normal distribution around a point, and the probability of being inside a circle.

`accuracy_m` is the radius that holds the true position in 68 % of cases. It grows with the age of the measurement.
"""

import math

import numpy as np

from offers.catalogue.geo.geometry import ECCENTRICITY_2, EQUATORIAL_RADIUS_M, RING_ROOM, RINGS, ring_radius
from offers.compiled import apart, inner
from offers.decision.kernels.memory.records import Table, i8
from offers.decision.kernels.memory.scratch import POINTS, DecisionFact, ScratchArray, points_of

MOVEMENT_MPS = np.array([1.4, 1.4, 4.2, 8.3, 13.9])
"""Metres per second by which the radius grows, per offers.v1.TravelMode: unspecified (as walking), walking, cycling,
transit, driving."""
WIDEST_M = 1_000_000.0
"""Upper bound of the radius: beyond it, the location says nothing."""
SIGMA = 1 / math.sqrt(-2 * math.log(1 - 0.68))
"""Standard deviation, either way, per metre of the radius that holds 68 %."""
CERTAIN = 5.5
"""Standard deviations from an edge beyond which a person is certainly inside or outside (to 3e-7)."""
WIDE = 16.0
"""Standard deviations beyond which a radius is wide."""
_ANGLES, _SHARES = np.polynomial.legendre.leggauss(32)
_STRIPS, _WEIGHTS = (values[3:] for values in np.polynomial.hermite_e.hermegauss(7))
"""Strips of a normal distribution: the middle one and those on one side of it."""


@apart
def spread(accuracy_m: float, observed: int, movement: int, time: int) -> tuple[float, float]:
    """Return the standard deviation of a position at a time, either way in metres, and its growth in metres per second.

    `observed` is the second of the measurement; -1: it is as old as the request. `movement` is a TravelMode.
    """
    if observed < 0:
        return accuracy_m * SIGMA, 0.0
    speed = MOVEMENT_MPS[movement]
    radius = accuracy_m + max(time - observed, 0) * speed
    return (radius * SIGMA, speed * SIGMA) if radius < WIDEST_M else (WIDEST_M * SIGMA, 0.0)


@inner
def _below(value: float) -> float:
    """Return the share of a standard normal distribution below a value."""
    return 0.5 * math.erfc(-value * math.sqrt(0.5))


@inner
def probability_in_circle(distance_m: float, radius_m: float, sigma_m: float) -> float:
    """Return the share of a normal distribution inside a circle, to 1e-6. The two centres are `distance_m` apart.

    The circle is cut into strips along the line of the centres. A strip's share is a difference of two normal shares.
    Few strips suffice for a circle that is wide beside the distribution, as most are. For others, the strips are placed
    by the sine of an angle, which makes the sum smooth.
    """
    if abs(radius_m - distance_m) >= CERTAIN * sigma_m:
        return 1.0 if distance_m <= radius_m else 0.0
    away, wide = distance_m / sigma_m, radius_m / sigma_m
    total = 0.0
    if wide > WIDE:
        for index in range(len(_STRIPS)):
            along = math.sqrt(wide * wide - _STRIPS[index] * _STRIPS[index])
            total += (1 if index == 0 else 2) * _WEIGHTS[index] * _below(along - away)
        return total / math.sqrt(2.0 * math.pi)
    most = math.asin(min(1.0, 7.0 / wide))
    for index in range(len(_ANGLES)):
        angle = 0.5 * most * (_ANGLES[index] + 1.0)
        across, along = wide * math.sin(angle), wide * math.cos(angle)
        share = _below(along - away) - _below(-along - away)
        total += _SHARES[index] * math.exp(-0.5 * across * across) * along * share
    return min(total * 0.5 * most * math.sqrt(2.0 / math.pi), 1.0)


# The points of every other ring are turned by half a step.
_BEARINGS = (np.arange(POINTS) % RINGS + 0.5 * (np.arange(POINTS) // RINGS % 2)) * 2 * np.pi / RINGS
_RADII = np.array([ring_radius(point // RINGS + 1) for point in range(POINTS)])
_NORTH, _EAST = _RADII * np.cos(_BEARINGS), _RADII * np.sin(_BEARINGS)
"""Standard deviations from the middle."""


@inner
def point_around(latitude: float, longitude: float, sigma_m: float, point: int) -> tuple[float, float]:
    """Return one of the points that stand for a distribution around a position: latitude and longitude in degrees.

    The points lie on the plane that touches the ellipsoid at the position, and are projected onto the ellipsoid.
    """
    phi = math.radians(latitude)
    sine, cosine = math.sin(phi), math.cos(phi)
    normal = EQUATORIAL_RADIUS_M / math.sqrt(1 - ECCENTRICITY_2 * sine * sine)
    north, east = sigma_m * _NORTH[point], sigma_m * _EAST[point]
    outward = normal * cosine - north * sine
    up = normal * (1 - ECCENTRICITY_2) * sine + north * cosine
    there = math.degrees(math.atan2(up, (1 - ECCENTRICITY_2) * math.hypot(outward, east)))
    turned = longitude + math.degrees(math.atan2(east, outward))
    if turned > 180.0:
        turned -= 360.0
    elif turned < -180.0:
        turned += 360.0
    return there, turned


@inner
def points_within(clear_m: float, sigma_m: float) -> int:
    """Return how many of the points, counted from the innermost ring, are within `clear_m` metres."""
    ring = 0
    while ring < RINGS and RING_ROOM * _RADII[ring * RINGS] * sigma_m <= clear_m:
        ring += 1
    return ring * RINGS


@inner
def lay_points(scratch: Table, latitude: float, longitude: float, sigma_m: float, first: int) -> None:
    """Compute the points around a decision's location from index `first` on, except those already computed."""
    points, facts = points_of(scratch), i8(scratch, ScratchArray.decision)
    laid = facts[DecisionFact.laid_from]
    for number in range(first, laid):
        point = points[number]
        point.latitude, point.longitude = point_around(latitude, longitude, sigma_m, number)
    facts[DecisionFact.laid_from] = min(first, laid)
