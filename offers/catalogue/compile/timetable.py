"""What the hours of an offer mean at its places: the schedules by which it is shown, used, and best."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from offers.catalogue.compile.places import Place, zone_at
from offers.catalogue.definitions import Definitions
from offers.catalogue.hours.grammar import names_holidays
from offers.catalogue.hours.schedules import Part, Schedule
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


class Hours(NamedTuple):
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

    hours: Hours
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


@lru_cache(maxsize=65_536)
def name_sun(hours: Hours) -> bool:
    """Whether the sun, which rises at another time in every place, has a part in an offer's hours."""
    return any(map(_sunny, (hours.shown, hours.used, *hours.dayparts, *hours.preferred)))


class Timetable:
    """Numbers the schedules of a catalogue."""

    def __init__(self, checked: Definitions) -> None:
        self.time_zone = checked.catalog.time_zone or DEFAULT_TIME_ZONE
        """That of whatever names none."""
        self._country = checked.catalog.country_code
        self.schedules: dict[Schedule, int] = {}
        self._dayparts: Mapping[str, str] = {name: daypart.opening_hours for name, daypart in checked.dayparts.items()}
        self._numbers: dict[_Here, tuple[int, int, int]] = {}

    def hours(self, offer: Offer, availability: Availability, redemption: Redemption | None) -> Hours | None:
        """What an offer says of its hours, or None if it says nothing."""
        shown, used = availability.opening_hours, redemption.opening_hours if redemption else ""
        binding, preferred = availability.daypart_ids[:], offer.preferred_daypart_ids[:]
        if not (shown or used or binding or preferred or availability.only_when_open):
            return None
        basis, zone = availability.time_zone_basis, availability.time_zone
        if basis == TIME_ZONE_BASIS_UNSPECIFIED:
            everywhere = TIME_ZONE_BASIS_USER if offer.target.everywhere else TIME_ZONE_BASIS_VENUE
            basis = TIME_ZONE_BASIS_FIXED if zone else everywhere
        return Hours(
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

    def at(self, hours: Hours, place: Place) -> tuple[int, int, int]:
        """The schedules of an offer at a place: when it may be shown, when it may be used, when it is best."""
        here = self._here(hours, place)
        known = self._numbers.get(here)
        if known is None:
            known = self._numbers[here] = self._add_schedules(here)
        return known

    def personal(self, expression: str) -> int:
        """The schedule of hours that are read by the person's clock, wherever that is."""
        schedule = Schedule((_part((expression,), "", self._country, ()),))
        return self.schedules.setdefault(schedule, len(self.schedules))

    def time_zones(self) -> list[str]:
        """The time zones of the schedules; the first, "", is the person's."""
        return ["", *sorted({part.time_zone for schedule in self.schedules for part in schedule.parts} - {""})]

    def _here(self, hours: Hours, place: Place) -> _Here:
        """What the hours of an offer mean at a place."""
        position: tuple[float, ...] = ()
        time_zone = place.time_zone
        if place.kind != EVERYWHERE:
            position = place.latitude, place.longitude
            # A place's time zone is looked up when hours need it: most catalogues have far more venues than hours.
            if not time_zone and (hours.only_when_open or not (hours.personal or hours.time_zone)):
                time_zone = zone_at(place.longitude, place.latitude)
        time_zone = time_zone or self.time_zone
        while_open = None
        if hours.only_when_open and place.opening_hours:
            while_open = _part((place.opening_hours,), time_zone, place.country_code, position, hours.closing_margin)
        return _Here(
            hours,
            "" if hours.personal else hours.time_zone or time_zone,
            hours.country_code or place.country_code,
            position if name_sun(hours) else (),
            while_open,
        )

    def _add_schedules(self, here: _Here) -> tuple[int, int, int]:
        """The numbers of the schedules of an offer at a place: when it may be shown, when used, when it is best."""
        hours = here.hours
        shown = {(hours.shown,), hours.dayparts, (hours.used,) if hours.required else ()}
        return (
            self._add_schedule(shown, here, {here.while_open} - {None}),
            self._add_schedule({(hours.used,)}, here, set()),
            self._add_schedule({hours.preferred}, here, set()),
        )

    def _add_schedule(self, groups: set[tuple[str, ...]], here: _Here, parts: set[Part | None]) -> int:
        """The number of a schedule that is open while every part is, and in every group an expression."""
        own = {_part(group, *here[1:4]) for group in groups - {(), ("",)}}
        if not own | parts:
            return NO_SCHEDULE
        schedule = Schedule(tuple(sorted(filter(None, own | parts))))
        return self.schedules.setdefault(schedule, len(self.schedules))
