"""From a catalogue document to the arrays of a snapshot."""

import math
import subprocess
import sys
from array import array
from collections.abc import Iterable
from dataclasses import astuple
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.interval_pb2 import Interval
from google.type.latlng_pb2 import LatLng
from numpy.typing import NDArray
from tzfpy import get_tz

from offers.catalogue import snapshot
from offers.catalogue.check import Checked, check, definitions
from offers.catalogue.document import files, read
from offers.catalogue.grammar import names_holidays
from offers.catalogue.layout import Gathered, calendar, lay_out
from offers.catalogue.schedules import NEVER, Part, Schedule
from offers.catalogue.snapshot import AROUND_POINT, EVERYWHERE, IN_ZONE, NO_SCHEDULE, NO_VENUE, NO_WINDOWS
from offers.catalogue.sun import names_sun
from offers.errors import CatalogError, Problem
from offers.v1.offer_pb2 import (
    TIME_ZONE_BASIS_FIXED,
    TIME_ZONE_BASIS_UNSPECIFIED,
    TIME_ZONE_BASIS_USER,
    TIME_ZONE_BASIS_VENUE,
    Benefit,
    Offer,
    Redemption,
    Target,
)
from offers.v1.offer_service_pb2 import Proposition
from offers.v1.ranking_pb2 import Decay, RankingStrategy

DEFAULT_VALUE: Final = 0.5
DEFAULT_LEVER: Final = 0.5
DEFAULT_TIME_ZONE: Final = "UTC"
DEFAULT_NEARNESS: Final = Decay(shape=Decay.SHAPE_GAUSS, scale=1000)
DEFAULT_TIMELINESS: Final = Decay(shape=Decay.SHAPE_EXP, scale=7200, minimum=0.25)
DEFAULT_NEARNESS_WITHOUT_DISTANCE: Final = 0.5
DEFAULT_DECAY: Final = 0.5
DEFAULT_MINIMUM: Final = 1e-6

CONCURRENT_BYTES: Final = 32 << 20
"""Documents of so many bytes are checked and taken in at once, on two cores; starting a process takes half a second."""

Terms = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Placements, languages (lower case), currencies and channels of an offer, sorted; empty means any."""


def compile_snapshot(source: Path, path: Path, version: str) -> Checked:
    """Check the document `source` and write its snapshot to the directory `path`.

    Raises CatalogError with every problem of the document; then nothing is written.
    """
    if sum(file.stat().st_size for file in files(source, [])) < CONCURRENT_BYTES:
        checked = check(source)
        builder = _built(source, checked)
    else:
        checked, builder = _checked_and_built(source)
    columns = builder.columns()
    snapshot.write(path, version, columns, builder.meta(columns))
    return checked


def _built(source: Path, checked: Checked) -> "_Builder":
    builder = _Builder(checked)
    problems: list[Problem] = []
    for fragment in read(source, problems):
        for offer in fragment.catalog.offers:
            builder.add(offer)
    if problems:  # the document changed after it was checked
        raise CatalogError(problems)
    return builder


def _checked_and_built(source: Path) -> "tuple[Checked, _Builder]":
    """Check on another core while the offers are taken in here: each takes about half of the time."""
    with subprocess.Popen([sys.executable, "-P", "-m", "offers.catalogue.check", str(source)]) as checking:  # noqa: S603
        try:
            checked = definitions(source)
            builder = _built(source, checked)
        except Exception:
            check(source)  # tells what is wrong with the document, if that is the reason
            raise
    if checking.returncode != 0:
        return check(source), builder
    return checked, builder


class _Builder:
    """Takes offers one by one, in any order, and lays them out by place."""

    def __init__(self, checked: Checked) -> None:
        catalog = checked.catalog
        self._catalog = catalog
        self._time_zone = catalog.time_zone or DEFAULT_TIME_ZONE
        self._placements = checked.placements
        self._strategies = checked.ranking_strategies
        self._venues = {venue_id: number for number, venue_id in enumerate(checked.venues)}
        venues = checked.venues.values()
        self._venue_reach = [venue.radius_m for venue in venues]
        # A place's time zone is looked up when hours need it: most catalogues have far more venues than hours.
        self._venue_zones = [venue.time_zone for venue in venues]
        self._venue_countries = [venue.country_code or catalog.country_code for venue in venues]
        self._venue_hours = [venue.opening_hours for venue in venues]
        self._zones = checked.zones
        self._dayparts = {name: daypart.opening_hours for name, daypart in checked.dayparts.items()}
        self._terms: dict[Terms, int] = {}
        self._schedules: dict[Schedule, int] = {}
        self._schedule_numbers: dict[_Here, tuple[int, int, int]] = {}
        self._gathered = Gathered(
            latitudes=array("d", [venue.point.latitude for venue in venues]),
            longitudes=array("d", [venue.point.longitude for venue in venues]),
            venue_ids=list(checked.venues),
        )

    def add(self, offer: Offer) -> None:
        # A million offers pass here: a field is read once, and what an offer lacks is not looked into.
        gathered, availability = self._gathered, offer.availability
        column = gathered.offer
        redemption = offer.redemption if offer.HasField("redemption") else None
        gathered.ids.append(offer.offer_id)
        gathered.wires.append(_static_wire(offer, redemption))
        column["terms"].append(self._terms.setdefault(_terms(offer), len(self._terms)))
        column["value"].append(offer.value if offer.HasField("value") else DEFAULT_VALUE)
        column["lever"].append(offer.lever if offer.HasField("lever") else DEFAULT_LEVER)
        column["fallback"].append(offer.fallback)
        redeem_start, redeem_end = _span(redemption.window) if redemption else (0, NEVER)
        column["redeem_start"].append(redeem_start)
        column["redeem_end"].append(redeem_end)
        windows = [_span(window) for window in availability.windows[:]]
        if len(windows) > 1:
            windows = _merged(windows)
        if redemption and redemption.required_when_shown and (redeem_start, redeem_end) != (0, NEVER):
            windows = [
                (max(start, redeem_start), min(end, redeem_end))
                for start, end in windows or [(0, NEVER)]
                if max(start, redeem_start) < min(end, redeem_end)
            ] or [(0, 0)]  # never
        column["window_start"].append(windows[0][0] if windows else 0)
        column["window_end"].append(windows[-1][1] if windows else NEVER)
        column["windows"].append(gathered.add_windows(windows) if len(windows) > 1 else NO_WINDOWS)
        self._add_entries(offer.target, self._hours(offer, redemption))

    def _hours(self, offer: Offer, redemption: Redemption | None) -> "_Hours | None":
        """What an offer says of its hours, or None if it says nothing."""
        availability = offer.availability
        shown, used = availability.opening_hours, redemption.opening_hours if redemption else ""
        binding, preferred = availability.daypart_ids[:], offer.preferred_daypart_ids[:]
        if not (shown or used or binding or preferred or availability.only_when_open):
            return None
        basis, zone = availability.time_zone_basis, availability.time_zone
        if basis == TIME_ZONE_BASIS_UNSPECIFIED:
            everywhere = TIME_ZONE_BASIS_USER if offer.target.everywhere else TIME_ZONE_BASIS_VENUE
            basis = TIME_ZONE_BASIS_FIXED if zone else everywhere
        return _Hours(
            shown,
            used,
            redemption.required_when_shown if redemption else False,
            tuple(sorted({self._dayparts[name] for name in binding})),
            tuple(sorted({self._dayparts[name] for name in preferred})),
            availability.only_when_open,
            availability.closing_margin.seconds,
            "" if basis == TIME_ZONE_BASIS_USER else zone,
            basis == TIME_ZONE_BASIS_USER,
            availability.country_code,
        )

    def _add_entries(self, target: Target, hours: "_Hours | None") -> None:
        if target.everywhere:
            self._add_entry(hours, EVERYWHERE, -1, NO_VENUE, 0.0, "", self._catalog.country_code)
            return
        radius = target.radius_m if target.HasField("radius_m") else None
        for venue_id in target.venue_ids[:]:
            number = self._venues[venue_id]
            reach = self._venue_reach[number] if radius is None else radius
            country = self._venue_countries[number]
            self._add_entry(hours, AROUND_POINT, number, number, reach, self._venue_zones[number], country)
        for circle in target.circles[:]:
            place = self._add_place(circle.center)
            self._add_entry(hours, AROUND_POINT, place, NO_VENUE, circle.radius_m, "", self._catalog.country_code)
        for zone_id in target.zone_ids[:]:
            zone = self._zones[zone_id]
            for circle in zone.circles:
                place = self._add_place(circle.center)
                country = zone.country_code or self._catalog.country_code
                self._add_entry(hours, IN_ZONE, place, NO_VENUE, circle.radius_m, zone.time_zone, country)

    def _add_place(self, point: LatLng) -> int:
        self._gathered.latitudes.append(point.latitude)
        self._gathered.longitudes.append(point.longitude)
        return len(self._gathered.latitudes) - 1

    def _add_entry(
        self, hours: "_Hours | None", kind: int, place: int, venue: int, reach: float, time_zone: str, country: str
    ) -> None:
        """Add a place of the offer added last; `time_zone` and `country` are those of the place."""
        numbers = (NO_SCHEDULE, NO_SCHEDULE, NO_SCHEDULE)
        if hours:
            here = self._here(hours, place, venue, time_zone, country)
            known = self._schedule_numbers.get(here)
            if known is None:
                known = self._schedule_numbers[here] = self._add_schedules(here)
            numbers = known
        column = self._gathered.entry
        column["offer"].append(len(self._gathered.ids) - 1)
        column["kind"].append(kind)
        column["place"].append(place)
        column["venue"].append(venue)
        column["radius"].append(reach)
        column["schedule"].append(numbers[0])
        column["redeem_schedule"].append(numbers[1])
        column["daypart_schedule"].append(numbers[2])

    def _here(self, hours: "_Hours", place: int, venue: int, time_zone: str, country: str) -> "_Here":
        """What the hours of an offer mean at a place."""
        position: tuple[float, ...] = ()
        if place >= 0:
            gathered = self._gathered
            position = gathered.latitudes[place], gathered.longitudes[place]
            if not time_zone and (hours.only_when_open or not (hours.personal or hours.time_zone)):
                time_zone = _zone_at(position[1], position[0])
        time_zone = time_zone or self._time_zone
        while_open = None
        if hours.only_when_open and venue != NO_VENUE and self._venue_hours[venue]:
            expressions = (self._venue_hours[venue],)
            while_open = _part(expressions, time_zone, country, position, hours.closing_margin)
        sunny = any(map(_sunny, (hours.shown, hours.used, *hours.dayparts, *hours.preferred)))
        return _Here(
            hours,
            "" if hours.personal else hours.time_zone or time_zone,
            hours.country_code or country,
            position if sunny else (),
            while_open,
        )

    def _add_schedules(self, here: "_Here") -> tuple[int, int, int]:
        """The numbers of the schedules of an offer at a place: when it may be shown, when used, when it is best."""
        hours = here.hours
        shown = {(hours.shown,), hours.dayparts, (hours.used,) if hours.required else ()}
        return (
            self._add_schedule(shown, here, {here.while_open} - {None}),
            self._add_schedule({(hours.used,)}, here, set()),
            self._add_schedule({hours.preferred}, here, set()),
        )

    def _add_schedule(self, groups: set[tuple[str, ...]], here: "_Here", parts: "set[Part | None]") -> int:
        """The number of a schedule that is open while every part is, and in every group an expression."""
        own = {_part(group, *here[1:4]) for group in groups - {(), ("",)}}
        if not own | parts:
            return NO_SCHEDULE
        schedule = Schedule(tuple(sorted(filter(None, own | parts))))
        return self._schedules.setdefault(schedule, len(self._schedules))

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays of snapshot.COLUMNS."""
        strategies = [_strategy(RankingStrategy()), *map(_strategy, self._strategies.values())]
        return {
            **lay_out(self._gathered),
            **calendar(list(self._schedules), self._zone_names()),
            "strategies": np.array(strategies, snapshot.STRATEGY),
        }

    def _zone_names(self) -> list[str]:
        return ["", *sorted({part.time_zone for schedule in self._schedules for part in schedule.parts} - {""})]

    def meta(self, columns: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """What is not columnar: names and the few small tables the engine reads when it opens the snapshot."""
        strategies = {"": 0, **{name: number for number, name in enumerate(self._strategies, 1)}}
        return {
            "catalog_id": self._catalog.catalog_id,
            "time_zone": self._time_zone,
            "offers": len(self._gathered.ids),
            "entries": len(self._gathered.entry["offer"]),
            "chains": int(columns["entry"]["chain"].max(initial=-1)) + 1,
            "terms": list(self._terms),
            "schedules": [[astuple(part) for part in schedule.parts] for schedule in self._schedules],
            "zones": self._zone_names(),
            "default_strategy": strategies[self._catalog.default_ranking_strategy_id],
            "placements": {
                name: {
                    "channel": placement.channel,
                    "strategy": strategies[placement.ranking_strategy_id or self._catalog.default_ranking_strategy_id],
                    "max_offers": placement.max_offers if placement.HasField("max_offers") else None,
                }
                for name, placement in self._placements.items()
            },
        }


class _Hours(NamedTuple):
    """What an offer says of its hours."""

    shown: str
    used: str
    required: bool
    """Whether it is shown only while it may be used."""
    dayparts: tuple[str, ...]
    """The hours of those it is only shown in."""
    preferred: tuple[str, ...]
    """The hours of those it is best shown in."""
    only_when_open: bool
    closing_margin: int
    """Seconds."""
    time_zone: str
    """"" for that of the place or the person."""
    personal: bool
    """Whether they are read by the person's clock."""
    country_code: str


class _Here(NamedTuple):
    """What the hours of an offer mean at a place."""

    hours: _Hours
    time_zone: str
    """"" for that of the person."""
    country_code: str
    position: tuple[float, ...]
    """Latitude and longitude in degrees where the hours name the sun, else ()."""
    while_open: Part | None
    """The hours of the venue, where they bind."""


def _part(
    expressions: tuple[str, ...], time_zone: str, country: str, position: tuple[float, ...], margin: int = 0
) -> Part:
    """Hours at a place; of the place itself nothing is kept that they do not depend on."""
    return Part(
        expressions,
        time_zone,
        country if any(map(_festive, expressions)) else "",
        position if any(map(_sunny, expressions)) else (),
        margin,
    )


@lru_cache(maxsize=65_536)
def _festive(expression: str) -> bool:
    return names_holidays(expression)


@lru_cache(maxsize=65_536)
def _sunny(expression: str) -> bool:
    return names_sun(expression) is not None


def _static_wire(offer: Offer, redemption: Redemption | None) -> bytes:
    """The fields of the Proposition that every decision repeats."""
    static = Proposition(
        offer_id=offer.offer_id,
        title=offer.title,
        benefit=offer.benefit,
        category=offer.category,
        brand=offer.brand,
        creative=offer.creative if offer.HasField("creative") else None,
        redemption=redemption,
    )
    return static.SerializeToString()


def _terms(offer: Offer) -> Terms:
    placements, tags, channels = offer.placement_ids[:], offer.language_codes[:], offer.channels[:]
    currencies = offer.currency_codes[:] or _currencies(offer.benefit)
    return (
        tuple(sorted(set(placements))) if placements else (),
        tuple(sorted({tag.lower() for tag in tags})) if tags else (),
        tuple(sorted(set(currencies))) if currencies else (),
        tuple(sorted(set(channels))) if channels else (),
    )


def _currencies(benefit: Benefit) -> list[str]:
    """The currencies of a benefit's sums, which differ only by mistake."""
    kind = benefit.WhichOneof("kind")
    codes = []
    if kind == "amount_off":
        codes.append(benefit.amount_off.currency_code)
    elif kind == "fixed_price":
        codes.append(benefit.fixed_price.currency_code)
    if benefit.HasField("minimum_order"):
        codes.append(benefit.minimum_order.currency_code)
    if benefit.HasField("maximum_discount"):
        codes.append(benefit.maximum_discount.currency_code)
    return [code for code in codes if code]


def _span(window: Interval) -> tuple[int, int]:
    start: Timestamp = window.start_time
    end: Timestamp = window.end_time
    return start.seconds, end.seconds if window.HasField("end_time") else NEVER


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


@lru_cache(maxsize=1 << 20)
def _zone_at(longitude: float, latitude: float) -> str:
    """The IANA zone of a position; "" where this machine's zone data lacks it."""
    name = get_tz(longitude, latitude)
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ""
    return name


def _strategy(strategy: RankingStrategy) -> tuple[float, ...]:
    weights = strategy.weights
    return (
        *(
            getattr(weights, name) if weights.HasField(name) else 1.0
            for name in ("nearness", "timeliness", "value", "lever")
        ),
        math.log(
            strategy.nearness_without_distance
            if strategy.HasField("nearness_without_distance")
            else DEFAULT_NEARNESS_WITHOUT_DISTANCE
        ),
        *_decay(strategy.nearness if strategy.HasField("nearness") else DEFAULT_NEARNESS),
        *_decay(strategy.timeliness if strategy.HasField("timeliness") else DEFAULT_TIMELINESS),
    )


def _decay(decay: Decay) -> tuple[float, ...]:
    base = decay.decay if decay.HasField("decay") else DEFAULT_DECAY
    minimum = decay.minimum if decay.HasField("minimum") else DEFAULT_MINIMUM
    return (
        decay.shape or Decay.SHAPE_GAUSS, decay.offset, decay.scale, base, math.log(base), math.log(minimum),
    )  # fmt: skip
