"""The synthetic catalogue as plain arrays, and the questions, made without the decision's code so that peers check it.

Opening hours are evaluated one by one, distances stand as in `geometry`, and nothing is read
from a compiled snapshot.
"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import synthetic
from offers.catalogue.document import read
from offers.catalogue.geo.geometry import earth_centred, straight_line
from offers.catalogue.hours.schedules import SchedulePart, zone_clock
from offers.errors import CatalogError, Problem
from offers.model.query import Query
from offers.server.convert import query_of
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Offer
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.venue_pb2 import Venue

NEVER = 2**32 - 1
"""End of offers without one, in seconds; it fits the number types of all peers."""
ALWAYS = 0
"""The schedule of offers without opening hours."""
BOX_MARGIN = 1.01
"""Factor by which boxes exceed the reach: more than the length of a degree varies."""
_DEGREE_M = 110_574.0
"""Metres of a degree of latitude at the equator, where it is shortest."""
_STRIP_DEGREES = 0.01
_SURFACES = (
    ("home", "app", "en-GB"), ("cart", "app", "fr"), ("email", "email", "en-GB"), ("home", "app", ""),
)  # fmt: skip
"""Placements, channels and languages asked for in turn, so that terms and the ranking strategy matter."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Terms = tuple[frozenset[str], frozenset[str], frozenset[str]]
"""Placements, channels and languages of an offer; empty: any."""
_Hours = tuple[str, str, str]
"""Opening hours, time zone and country."""
_Row = tuple[int, int, bool, int, int, int, int, float]
"""An entry: place (-1: everywhere), number, chain, start, end, schedule, terms, log_value."""


@dataclass(frozen=True, slots=True)
class Offering:
    """A catalogue by place: near places are near in the arrays, and the entries of a place are adjacent.

    An entry is one offer at one place; entries from `everywhere` on have no place.
    """

    latitude: Floats
    longitude: Floats
    reach_m: Floats
    centre: Floats
    """Earth-centred metres of each place: three columns."""
    straight: Floats
    """Straight-line metres of each place's reach, squared."""
    first: Integers
    """Offset of the entries of each place, and the end of the last."""
    everywhere: int
    place: Integers
    """The place of each entry that has one."""
    number: Integers
    """The number of each entry's offer: the digits of its id."""
    chain: NDArray[np.bool_]
    """Whether the offer has several entries, of which the nearest counts."""
    start: Integers
    """Seconds since 1970 of the window, end exclusive."""
    end: Integers
    schedule: Integers
    terms: Integers
    log_value: Floats
    """Natural logarithm of value times lever."""
    open_until: Integers
    """By schedule, the second until which it stays open if it is open at synthetic.NOW, else 0."""
    distinct_terms: list[Terms]

    def ends(self) -> Integers:
        """Return the end of each entry by its window or hours, in seconds; 0 if it is closed at synthetic.NOW."""
        return np.minimum(self.end, self.open_until[self.schedule])

    def boxes(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return boxes slightly larger than each place's reach: degrees west, south, east and north."""
        high = self.reach_m * BOX_MARGIN / _DEGREE_M
        wide = high / np.cos(np.radians(np.abs(self.latitude) + high))
        assert np.all(np.abs(self.longitude) + wide < 180)  # else boxes would have to be cut in two
        return self.longitude - wide, self.latitude - high, self.longitude + wide, self.latitude + high


@dataclass(frozen=True, slots=True)
class Question:
    """A question: which ten offers are the best of those that may be shown at a place and an instant."""

    request: bytes
    """The encoded GetOffersRequest."""
    query: Query
    """The same for the decision."""
    admits: NDArray[np.bool_]
    """By distinct terms, whether they admit the request."""
    terms: list[int]
    """The terms that admit it."""
    nearness_weight: float

    @property
    def latitude(self) -> float:
        """Degrees."""
        return self.query.latitude

    @property
    def longitude(self) -> float:
        """Degrees."""
        return self.query.longitude


def questions(offering: Offering, offers: int, count: int) -> list[Question]:
    """Return questions at places drawn like the offers, all at synthetic.NOW."""
    asked = []
    for data, surface in zip(synthetic.requests(offers, count), cycle(_SURFACES), strict=False):
        request = GetOffersRequest.FromString(data)
        request.placement, request.context.channel, request.context.language_code = surface
        request.context.location.ClearField("accuracy_m")  # peers know no uncertain locations
        admits = np.array([_admits(terms, *surface) for terms in offering.distinct_terms])
        query = query_of(request, synthetic.NOW)
        weight = 3.0 if surface[0] == "cart" else 1.0  # as synthetic's ranking strategies have it
        asked.append(Question(request.SerializeToString(), query, admits, np.flatnonzero(admits).tolist(), weight))
    return asked


def _admits(terms: Terms, placement: str, channel: str, language: str) -> bool:
    placements, channels, languages = terms
    return (
        (not placements or placement in placements)
        and (not channels or channel in channels)
        and (not languages or not language or language.partition("-")[0] in languages)
    )


def offering(offers: int) -> Offering:
    """Return the synthetic catalogue of so many offers."""
    venues: dict[str, Venue] = {}
    rows: list[_Row] = []
    schedules: dict[_Hours, int] = {("", "", ""): ALWAYS}
    terms: dict[Terms, int] = {}
    places: dict[str, int] = {}
    for record in _records(offers):
        venues |= {venue.venue_id: venue for venue in record.venues}
        for offer in record.offers:
            target = offer.target
            known = frozenset(offer.placement_ids), frozenset(offer.channels), frozenset(offer.language_codes)
            number, kind = int(offer.offer_id.removeprefix("offer-")), terms.setdefault(known, len(terms))
            start, end = _window(offer)
            hours, log_value = offer.availability.opening_hours, math.log(offer.value) + math.log(offer.lever)
            if target.everywhere:
                assert not hours
                rows.append((-1, number, False, start, end, ALWAYS, kind, log_value))
            for venue_id in target.venue_ids:
                venue = venues[venue_id]
                key = (hours, venue.time_zone, venue.country_code) if hours else ("", "", "")
                schedule = schedules.setdefault(key, len(schedules))
                place = places.setdefault(venue_id, len(places))
                chain = len(target.venue_ids) > 1
                rows.append((place, number, chain, start, end, schedule, kind, log_value))
    return _laid_out([venues[name] for name in places], rows, list(schedules), list(terms))


def _records(offers: int) -> Iterator[Catalog]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "catalogue.binpb")
        synthetic.write_catalogue(path, offers)
        problems: list[Problem] = []
        for fragment in read(path, problems):
            yield fragment.catalog
        if problems:
            raise CatalogError(problems)


def _window(offer: Offer) -> tuple[int, int]:
    if not offer.availability.windows:
        return 0, NEVER
    (window,) = offer.availability.windows
    return window.start_time.seconds, window.end_time.seconds


def _open_until(hours: str, time_zone: str, country_code: str) -> int:
    if not hours:
        return NEVER
    is_open, until = SchedulePart((hours,), time_zone, country_code).at(synthetic.NOW, zone_clock(time_zone))
    return until if is_open else 0


def _laid_out(venues: list[Venue], rows: list[_Row], schedules: list[_Hours], terms: list[Terms]) -> Offering:
    """Number the places so that near ones are near in the arrays, and sort the entries by them."""
    points = np.array([(venue.point.latitude, venue.point.longitude, venue.radius_m) for venue in venues])
    order = np.lexsort((points[:, 1], np.floor(points[:, 0] / _STRIP_DEGREES)))
    renumbered = np.empty(len(order) + 1, np.int64)
    renumbered[order] = np.arange(len(order))
    renumbered[-1] = len(order)  # everywhere: after all places
    latitude, longitude, reach = points[order].T
    place, number, chain, start, end, schedule, kind, log_value = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    place = renumbered[place]
    sorting = np.lexsort((number, place))
    first = np.searchsorted(place[sorting], np.arange(len(order) + 1))
    return Offering(
        latitude,
        longitude,
        reach,
        np.column_stack(earth_centred(latitude, longitude)),
        straight_line(reach) ** 2,
        first,
        int(first[-1]),
        place[sorting][: first[-1]],
        number[sorting],
        chain[sorting],
        start[sorting],
        end[sorting],
        schedule[sorting],
        kind[sorting],
        log_value[sorting],
        np.array([_open_until(*hours) for hours in schedules]),
        terms,
    )
