"""Synthetic catalogues of any size, and requests drawn alike: the same bytes for the same seed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import islice, product
from pathlib import Path

import numpy as np
import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.interval_pb2 import Interval
from google.type.latlng_pb2 import LatLng
from google.type.money_pb2 import Money
from numpy.random import Generator
from numpy.typing import NDArray

from offers.catalogue.document import write_fragments
from offers.catalogue.hours.public_holidays import are_known
from offers.v1.catalog_pb2 import Catalog, Placement
from offers.v1.context_pb2 import Context, Location, Session, User
from offers.v1.offer_pb2 import Availability, Benefit, Creative, FreeDelivery, Offer, Target
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.ranking_pb2 import FactorWeights, RankingStrategy
from offers.v1.venue_pb2 import Venue

NOW = 1_772_452_800
"""The second at which every measurement starts, 2026-03-02T12:00:00Z, whatever the day."""
CITIES = 200
OFFERS_PER_VENUE = 4
EVERYWHERE = 12
"""Offers without a place: they fill every answer, so that a small catalogue gives answers of the same length."""
CHAINS = 20
"""Offers with many venues each."""
CITY_SPREAD_M = 4_000.0
"""Standard deviation of venues around the centre of a city of mean size."""
REACH_M = (300.0, 2_000.0)
AREA_CORNERS = (50, 500)

_SEED = 20_260_302
_RECORD_ITEMS = 1_000
_DAY = 86_400
_DEGREE_M = 111_195.0
_HIGHEST_LATITUDE = 60.0
_HOURS = (
    "Mo-Su 11:00-23:00", "Mo-Fr 11:30-14:30", "Mo-Fr 17:00-20:00", "Mo-Sa 10:00-19:00", "Fr,Sa 18:00-02:00",
    "Mo-Su 07:00-11:00", "Sa,Su 09:30-15:00", "Mo-Th 12:00-22:00; Fr-Su 12:00-24:00", "Tu-Su 18:00-23:30", "24/7",
    "Mo-Fr 08:00-12:00,14:00-18:30", "Mo-Sa 09:00-20:00; PH off",
)  # fmt: skip
_DISHES = ("ramen", "bao buns", "pizza", "burgers", "salads", "sushi", "tacos", "curries", "pastries", "coffee")
_NAMES = ("Cedar Kitchen", "La Table Ronde", "Blue Lantern", "Casa Marisol", "The Corner Oven", "Golden Wok")


@dataclass(frozen=True, slots=True)
class _City:
    time_zone: str
    country_code: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class _Venues:
    """The venues, in columns."""

    city: NDArray[np.int64]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    reach_m: NDArray[np.float64]


def write_catalogue(path: Path, offers: int, cities: int = CITIES) -> None:
    """Write a catalogue of at least 1,000 offers in at most CITIES cities as a .binpb file."""
    write_fragments(path, _records(offers, cities))


def write_areas(path: Path, offers: int) -> None:
    """Write a catalogue of offers that each have an area of their own as a .binpb file.

    Areas are stars of AREA_CORNERS around places in the cities, as wide as the reach of venues of `write_catalogue`.
    """
    write_fragments(path, _area_records(offers))


def _area_records(offers: int) -> Iterator[Catalog]:
    random, places = np.random.default_rng([_SEED, offers, 4]), _venues(offers * OFFERS_PER_VENUE, CITIES)
    templates = list(_templates())
    home = Placement(placement_id="home", channel="app")
    record = Catalog(catalog_id=f"areas-{offers}", country_code="FR", placements=[home])
    rows = zip(places.latitude.tolist(), places.longitude.tolist(), places.reach_m.tolist(), strict=True)
    for number, (latitude, longitude, reach_m) in enumerate(rows):
        if number % _RECORD_ITEMS == 0:
            yield record
            record = Catalog()
        offer = record.offers.add()
        offer.CopyFrom(templates[int(random.integers(len(templates)))])
        offer.offer_id, offer.title = f"offer-{number:07d}", "In an area"
        offer.value = round(random.uniform(0.05, 1.0), 3)
        offer.placement_ids[:] = offer.language_codes[:] = []
        offer.target.areas.append(_star(random, latitude, longitude, reach_m))
    yield record


def _star(random: Generator, latitude: float, longitude: float, reach_m: float) -> str:
    """Return the GeoJSON of a polygon around a place."""
    corners = int(random.integers(*AREA_CORNERS, endpoint=True))
    turns = 2 * np.pi * (np.arange(corners) + random.uniform(0, 0.8, corners)) / corners
    radii = reach_m * (0.8 + 0.1 * np.sin(3 * turns) + random.uniform(0, 5 / corners, corners)) / _DEGREE_M
    y = (latitude + radii * np.sin(turns)).round(6)
    x = (longitude + radii * np.cos(turns) / np.cos(np.radians(latitude))).round(6)
    ring = np.stack([(x + 180) % 360 - 180, y], axis=1).tolist()
    return orjson.dumps({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}).decode()


def requests(offers: int, count: int, cities: int = CITIES) -> list[bytes]:
    """Return encoded GetOffersRequests near venues of the catalogue of so many offers and cities, each elsewhere."""
    random = np.random.default_rng([_SEED, offers, 2])
    towns, venues = _cities(cities), _venues(offers, cities)
    chosen = random.integers(len(venues.city), size=count)
    latitude, longitude = _scattered(random, venues.latitude[chosen], venues.longitude[chosen], np.full(count, 300.0))
    encoded = []
    for number, city in enumerate(venues.city[chosen].tolist()):
        point = LatLng(latitude=latitude[number], longitude=longitude[number])
        context = Context(
            location=Location(point=point, accuracy_m=15.0),
            time_zone=towns[city].time_zone,
            user=User(user_id=f"user-{random.integers(10**9):09d}"),
            session=Session(session_id=f"{random.integers(2**63):016x}", entry_channel="direct"),
            channel="app",
            language_code="en-GB",
        )
        encoded.append(GetOffersRequest(context=context, placement="home").SerializeToString())
    return encoded


def _cities(count: int) -> list[_City]:
    """Return real cities all over the world: those that time zones are named after and whose holidays are known."""
    table = resources.files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    found = []
    for line in table.splitlines():
        if line.startswith("#"):
            continue
        country, place, zone = line.split("\t")[:3]
        latitude, longitude = (_degrees(text) for text in re.findall(r"[+-]\d+", place))
        if abs(latitude) <= _HIGHEST_LATITUDE and are_known(country):
            found.append(_City(zone, country, latitude, longitude))
    step = len(found) / count
    return [found[int(number * step)] for number in range(count)]


def _degrees(text: str) -> float:
    """Return degrees from ±DDMM, ±DDDMM, ±DDMMSS or ±DDDMMSS."""
    digits = text[1:]
    width = 2 if len(digits) % 2 == 0 else 3
    minutes, seconds = digits[width : width + 2], digits[width + 2 :] or "0"
    return float(f"{text[0]}1") * (int(digits[:width]) + int(minutes) / 60 + int(seconds) / 3600)


def _venues(offers: int, cities: int) -> _Venues:
    """Return venues around the cities: larger cities have more of them, over a larger area."""
    random = np.random.default_rng([_SEED, offers, 1])
    towns, count = _cities(cities), offers // OFFERS_PER_VENUE
    size = 1 / np.sqrt(np.arange(1, cities + 1))
    size = random.permutation(size / size.mean())
    city = random.choice(cities, size=count, p=size / cities)
    latitude, longitude = _scattered(
        random,
        np.array([one.latitude for one in towns])[city],
        np.array([one.longitude for one in towns])[city],
        CITY_SPREAD_M * np.sqrt(size[city]),
    )
    return _Venues(city, latitude, longitude, random.uniform(*REACH_M, count).round())


def _scattered(
    random: Generator, latitude: NDArray[np.float64], longitude: NDArray[np.float64], spread_m: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points around points, normally distributed by some metres in each direction; six decimals."""
    north, east = random.normal(size=(2, len(latitude))) * spread_m / _DEGREE_M
    moved = longitude + east / np.cos(np.radians(latitude))
    return (latitude + north).round(6), ((moved + 180) % 360 - 180).round(6)


def _records(offers: int, cities: int) -> Iterator[Catalog]:
    towns, venues = _cities(cities), _venues(offers, cities)
    yield Catalog(
        catalog_id=f"synthetic-{offers}",
        default_ranking_strategy_id="balanced",
        placements=[
            Placement(placement_id="home", channel="app"),
            Placement(placement_id="cart", channel="app", ranking_strategy_id="near"),
            Placement(placement_id="email", channel="email"),
        ],
        ranking_strategies=[
            RankingStrategy(ranking_strategy_id="balanced"),
            RankingStrategy(ranking_strategy_id="near", weights=FactorWeights(nearness=3)),
        ],
    )
    rows = zip(venues.city.tolist(), venues.latitude.tolist(), venues.longitude.tolist(), venues.reach_m.tolist(),
               strict=True)  # fmt: skip
    numbered = (
        Venue(
            venue_id=f"venue-{number:06d}",
            title=_NAMES[number % len(_NAMES)],
            point=LatLng(latitude=latitude, longitude=longitude),
            radius_m=reach,
            time_zone=towns[city].time_zone,
            country_code=towns[city].country_code,
        )
        for number, (city, latitude, longitude, reach) in enumerate(rows)
    )
    while some := list(islice(numbered, _RECORD_ITEMS)):
        yield Catalog(venues=some)
    random = np.random.default_rng([_SEED, offers, 3])
    templates = list(_templates())
    for start in range(0, offers, _RECORD_ITEMS):
        record = Catalog()
        _add_offers(record, random, templates, range(start, min(start + _RECORD_ITEMS, offers)), len(venues.city))
        yield record


def _templates() -> Iterator[Offer]:
    """Yield offers of every benefit, dish and schedule, without ids and titles."""
    benefits = (
        Benefit(percent_off=20, maximum_discount=Money(currency_code="EUR", units=8)),
        Benefit(amount_off=Money(currency_code="EUR", units=5), minimum_order=Money(currency_code="EUR", units=20)),
        Benefit(fixed_price=Money(currency_code="EUR", units=9, nanos=900_000_000)),
        Benefit(free_delivery=FreeDelivery()),
        Benefit(custom="A free drink with every main course"),
    )
    for number, (benefit, dish, hours) in enumerate(product(benefits, _DISHES, (*_HOURS, "", "", "", ""))):
        yield Offer(
            benefit=benefit,
            category=dish,
            creative=Creative(
                body=f"Freshly made {dish}, at your door in half an hour or yours to collect. While stocks last.",
                image_uri=f"https://images.example.com/offers/{number:04d}/{dish.replace(' ', '-')}.jpg",
                call_to_action="Order now",
            ),
            availability=Availability(opening_hours=hours),
            placement_ids=["home", "cart"] if number % 7 == 0 else [],
            language_codes=["en"] if number % 11 == 0 else [],
        )


def _add_offers(record: Catalog, random: Generator, templates: list[Offer], numbers: range, venues: int) -> None:
    """Add the offers of some numbers: first those shown everywhere, then those of chains, then those of one venue."""
    count = len(numbers)
    template = random.integers(len(templates), size=count).tolist()
    venue = random.integers(venues, size=count).tolist()
    starts = NOW + random.integers(-60 * _DAY, 10 * _DAY, size=count)
    ends = (starts + random.integers(7 * _DAY, 90 * _DAY, size=count)).tolist()
    value, lever = random.uniform(0.05, 1.0, size=(2, count)).round(3).tolist()
    percent = random.integers(10, 60, size=count).tolist()
    for place, (number, start) in enumerate(zip(numbers, starts.tolist(), strict=True)):
        offer = record.offers.add()
        offer.CopyFrom(templates[template[place]])
        offer.offer_id = f"offer-{number:07d}"
        offer.value, offer.lever = value[place], lever[place]
        offer.brand = _NAMES[venue[place] % len(_NAMES)]
        offer.title = f"{percent[place]} % off {offer.category} at {offer.brand}"
        if number < EVERYWHERE:
            offer.availability.Clear()
            offer.target.everywhere = True
        elif number < EVERYWHERE + CHAINS:
            chain = random.choice(venues, size=min(200, venues // 50), replace=False).tolist()
            offer.target.CopyFrom(Target(venue_ids=[f"venue-{one:06d}" for one in chain]))
        else:
            offer.target.venue_ids.append(f"venue-{venue[place]:06d}")
        if number >= EVERYWHERE:
            span = Interval(start_time=Timestamp(seconds=start), end_time=Timestamp(seconds=ends[place]))
            offer.availability.windows.append(span)
