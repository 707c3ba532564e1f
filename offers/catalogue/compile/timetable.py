"""Schedules of a catalogue: the hours at which offers are shown, used and preferred at each of their places."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from offers.catalogue.compile.columns import Arrays, csr
from offers.catalogue.compile.places import TargetPlace, zone_at
from offers.catalogue.definitions import Definitions
from offers.catalogue.hours.grammar import names_holidays
from offers.catalogue.hours.schedules import Schedule, SchedulePart, zone_clock
from offers.catalogue.hours.sun import names_sun
from offers.catalogue.snapshot import EVERYWHERE, NO_SCHEDULE
from offers.v1.offer_pb2 import (
    TIME_ZONE_BASIS_FIXED,
    TIME_ZONE_BASIS_UNSPECIFIED,
    TIME_ZONE_BASIS_USER,
    TIME_ZONE_BASIS_VENUE,
    Availability,
    Offer,
    Redemption,
)

DEFAULT_TIME_ZONE = "UTC"


class OfferHours(NamedTuple):
    """The opening hours and dayparts an offer names, and the clock they are read by."""

    shown: str
    used: str
    required: bool
    """Whether the offer is shown only while it may be used."""
    dayparts: tuple[str, ...]
    """Hours of the dayparts outside of which the offer is not shown."""
    preferred: tuple[str, ...]
    """Hours of the preferred dayparts."""
    only_when_open: bool
    closing_margin: int
    """Seconds."""
    time_zone: str
    """"": the time zone of the place or the person."""
    personal: bool
    """Whether the hours are read by the person's clock."""
    country_code: str


class _HoursAtPlace(NamedTuple):
    """The hours of an offer with what they depend on at one place."""

    hours: OfferHours
    time_zone: str
    """"": the time zone of the person."""
    country_code: str
    position: tuple[float, ...]
    """Latitude and longitude in degrees if the hours name the sun, else ()."""
    while_open: SchedulePart | None
    """The hours of the venue, if the offer is shown only while the venue is open."""


def _part(
    expressions: tuple[str, ...], time_zone: str, country: str, position: tuple[float, ...], margin: int = 0
) -> SchedulePart:
    """Return hours at a place, without the country and the position where the hours do not depend on them."""
    return SchedulePart(
        expressions,
        time_zone,
        country if any(map(_names_holidays, expressions)) else "",
        position if any(map(_names_sun, expressions)) else (),
        margin,
    )


@lru_cache(maxsize=65_536)
def _names_holidays(expression: str) -> bool:
    return names_holidays(expression)


@lru_cache(maxsize=65_536)
def _names_sun(expression: str) -> bool:
    return names_sun(expression) is not None


@lru_cache(maxsize=65_536)
def name_sun(hours: OfferHours) -> bool:
    """Return whether an offer's hours name the sun, which rises at another time in every place."""
    return any(map(_names_sun, (hours.shown, hours.used, *hours.dayparts, *hours.preferred)))


class Timetable:
    """The distinct schedules of a catalogue, numbered in the order they are added."""

    def __init__(self, checked: Definitions) -> None:
        self.time_zone = checked.catalog.time_zone or DEFAULT_TIME_ZONE
        """The time zone of hours for which nothing else decides one."""
        self._country = checked.catalog.country_code
        self.schedules: dict[Schedule, int] = {}
        self._dayparts: Mapping[str, str] = {name: daypart.opening_hours for name, daypart in checked.dayparts.items()}
        self._numbers: dict[_HoursAtPlace, tuple[int, int, int]] = {}

    def hours(self, offer: Offer, availability: Availability, redemption: Redemption | None) -> OfferHours | None:
        """Return the hours of an offer, or None if it has none."""
        shown, used = availability.opening_hours, redemption.opening_hours if redemption else ""
        binding, preferred = availability.daypart_ids[:], offer.preferred_daypart_ids[:]
        if not (shown or used or binding or preferred or availability.only_when_open):
            return None
        basis, zone = availability.time_zone_basis, availability.time_zone
        if basis == TIME_ZONE_BASIS_UNSPECIFIED:
            everywhere = TIME_ZONE_BASIS_USER if offer.target.everywhere else TIME_ZONE_BASIS_VENUE
            basis = TIME_ZONE_BASIS_FIXED if zone else everywhere
        return OfferHours(
            shown,
            used,
            redemption.required_when_shown if redemption else False,
            self._hours_of(binding) if binding else (),
            self._hours_of(preferred) if preferred else (),
            availability.only_when_open,
            availability.closing_margin.seconds,
            "" if basis == TIME_ZONE_BASIS_USER else zone,
            basis == TIME_ZONE_BASIS_USER,
            availability.country_code,
        )

    def _hours_of(self, daypart_ids: list[str]) -> tuple[str, ...]:
        return tuple(sorted({self._dayparts[name] for name in daypart_ids}))

    def at(self, hours: OfferHours, place: TargetPlace) -> tuple[int, int, int]:
        """Return the numbers of an offer's schedules at a place: shown, used, preferred."""
        here = self._here(hours, place)
        known = self._numbers.get(here)
        if known is None:
            known = self._numbers[here] = self._add_schedules(here)
        return known

    def personal(self, expression: str) -> int:
        """Return the number of the schedule of hours that are read by the person's clock."""
        schedule = Schedule((_part((expression,), "", self._country, ()),))
        return self.schedules.setdefault(schedule, len(self.schedules))

    def time_zones(self) -> list[str]:
        """Return the time zones of the schedules; the first, "", is the person's."""
        return ["", *sorted({part.time_zone for schedule in self.schedules for part in schedule.parts} - {""})]

    def names_holidays(self) -> bool:
        """Return whether any schedule depends on public holidays."""
        return any(part.country_code for schedule in self.schedules for part in schedule.parts)

    def _here(self, hours: OfferHours, place: TargetPlace) -> _HoursAtPlace:
        """Return the hours of an offer with the clock, country and position of a place."""
        position: tuple[float, ...] = ()
        time_zone = place.time_zone
        if place.kind != EVERYWHERE:
            position = place.latitude, place.longitude
            # Look the time zone up only if hours need it: most catalogues have far more venues than hours.
            if not time_zone and (hours.only_when_open or not (hours.personal or hours.time_zone)):
                time_zone = zone_at(place.longitude, place.latitude)
        time_zone = time_zone or self.time_zone
        while_open = None
        if hours.only_when_open and place.opening_hours:
            while_open = _part((place.opening_hours,), time_zone, place.country_code, position, hours.closing_margin)
        return _HoursAtPlace(
            hours,
            "" if hours.personal else hours.time_zone or time_zone,
            hours.country_code or place.country_code,
            position if name_sun(hours) else (),
            while_open,
        )

    def _add_schedules(self, here: _HoursAtPlace) -> tuple[int, int, int]:
        """Number the schedules of an offer at a place: shown, used, preferred."""
        hours = here.hours
        shown = {(hours.shown,), hours.dayparts, (hours.used,) if hours.required else ()}
        return (
            self._add_schedule(shown, here, {here.while_open} - {None}),
            self._add_schedule({(hours.used,)}, here, set()),
            self._add_schedule({hours.preferred}, here, set()),
        )

    def _add_schedule(self, groups: set[tuple[str, ...]], here: _HoursAtPlace, parts: set[SchedulePart | None]) -> int:
        """Number a schedule that is open while every part is open and, in every group, at least one expression."""
        own = {_part(group, *here[1:4]) for group in groups - {(), ("",)}}
        if not own | parts:
            return NO_SCHEDULE
        schedule = Schedule(tuple(sorted(filter(None, own | parts))))
        return self.schedules.setdefault(schedule, len(self.schedules))


def schedule_columns(schedules: Sequence[Schedule], time_zones: Sequence[str]) -> Arrays:
    """Return the arrays of schedules and of their time zones; zone 0 is the person's."""
    clocks = [zone_clock(name) for name in time_zones[1:]]
    number = {name: number for number, name in enumerate(time_zones)}
    weekly = [schedule.weekly() for schedule in schedules]
    parts = [part for week in weekly for part in week or ()]
    spans = [span for _, _, week in parts for span in week]
    return {
        "schedule_weekly": np.array([week is not None for week in weekly]),
        "schedule_part_first": csr([len(week or ()) for week in weekly]),
        "part_zone": np.array([number[time_zone] for time_zone, _, _ in parts]),
        "part_margin": np.array([margin for _, margin, _ in parts]),
        "part_week_first": csr([len(week) for _, _, week in parts]),
        "week_start": np.array([start for start, _ in spans]),
        "week_end": np.array([end for _, end in spans]),
        "zone_first": csr([0, *(len(clock.starts) for clock in clocks)]),
        "zone_start": np.array([start for clock in clocks for start in clock.starts]),
        "zone_offset": np.array([offset for clock in clocks for offset in clock.offsets]),
    }
