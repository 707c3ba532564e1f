"""Where offers may be shown: targets to places, zones to the circles and areas they are made of."""

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.type.latlng_pb2 import LatLng
from tzfpy import get_tz

from offers.catalogue.compile.areas import Area
from offers.catalogue.compile.columns import LayoutInput
from offers.catalogue.compile.geojson import parse
from offers.catalogue.compile.shapes import cover
from offers.catalogue.definitions import Definitions
from offers.catalogue.selection import Selection, key_of
from offers.catalogue.snapshot import AROUND_POINT, EVERYWHERE, IN_ZONE, NO_SHAPE, NO_VENUE
from offers.v1.offer_pb2 import Target, VenueSelector
from offers.v1.venue_pb2 import Circle, Travel

NO_PIECES = (0, 0)


class TargetPlace(NamedTuple):
    """One place at which offers may be shown."""

    kind: int
    """EVERYWHERE, IN_ZONE or AROUND_POINT."""
    number: int
    """Of the position of its centre; -1: everywhere."""
    venue: int
    radius_m: float
    """Along the ground, from the centre; 0 for areas."""
    reach_m: float
    """Through the earth, from the centre, for areas; 0 for circles."""
    shape: int
    """Number of the area, or NO_SHAPE."""
    cuts: tuple[int, int]
    """What is cut out: where it begins and ends among all pieces."""
    latitude: float
    """Of a position inside, in degrees."""
    longitude: float
    time_zone: str
    """"" where nothing names one."""
    country_code: str
    travel: Travel | None = None
    opening_hours: str = ""
    """Of the venue."""
    joined: tuple[int, int] = NO_PIECES
    """The areas it is one with: where they begin and end among all pieces."""


class _Piece(NamedTuple):
    """A circle or an area, as it is shared by all that refer to it."""

    number: int
    radius_m: float
    reach_m: float
    shape: int
    latitude: float
    longitude: float


class _ZonePiece(NamedTuple):
    """A piece of a zone, the clock and country it is given, and the zones cut out of it."""

    piece: _Piece
    time_zone: str
    country_code: str
    excluded: tuple[str, ...]


class Places:
    """The places of a catalogue's targets."""

    def __init__(self, checked: Definitions, gathered: LayoutInput) -> None:
        self._gathered = gathered
        self._country = checked.catalog.country_code
        self._zones = checked.zones
        self._numbers = {venue_id: number for number, venue_id in enumerate(checked.venues)}
        self._around = [
            TargetPlace(
                AROUND_POINT, number, number, venue.radius_m, 0.0, NO_SHAPE, NO_PIECES,
                venue.point.latitude, venue.point.longitude, venue.time_zone, venue.country_code or self._country,
                venue.travel if venue.HasField("travel") else None, venue.opening_hours,
            )
            for number, venue in enumerate(checked.venues.values())
        ]  # fmt: skip
        self._everywhere = TargetPlace(
            EVERYWHERE, -1, NO_VENUE, 0.0, 0.0, NO_SHAPE, NO_PIECES, 0.0, 0.0, "", self._country
        )
        self.shapes: list[Area] = []
        """The areas, by their numbers."""
        self.pieces: list[tuple[int, float, float, int]] = []
        """All that is cut out or joined: position, radius, reach and shape of each piece."""
        self._spans: dict[tuple[str, ...] | tuple[int, ...], tuple[int, int]] = {(): NO_PIECES}
        """Where pieces stand, by the zones cut out or the areas joined."""
        self._zone_pieces: dict[str, list[_ZonePiece]] = {}
        self._selection = Selection(checked.venues.values())
        self._selected = lru_cache(4096)(self._select)
        self._area = lru_cache(4096)(self._find_area)

    def of(self, target: Target, *, apart: bool = False) -> Iterable[TargetPlace]:
        """The places of a target: around venues first, then circles, areas and zones; or everywhere.

        `apart`: no area is one with another.
        """
        given = target.ListFields()
        if len(given) == 1 and given[0][0].number == Target.VENUE_IDS_FIELD_NUMBER:  # as most are
            around, numbers, venue_ids = self._around, self._numbers, target.venue_ids[:]
            if len(venue_ids) == 1:
                return (around[numbers[venue_ids[0]]],)
            return [around[numbers[venue_id]] for venue_id in dict.fromkeys(venue_ids)]
        return self._all(target, tuple(sorted(set(target.excluded_zone_ids[:]))), apart)

    def _all(self, target: Target, excluded: tuple[str, ...], apart: bool) -> Iterator[TargetPlace]:  # noqa: FBT001
        cuts = self._cuts(excluded)
        numbers = [self._numbers[venue_id] for venue_id in target.venue_ids]
        for selector in target.venue_selectors:
            numbers += self._selected(key_of(selector))
        for number in dict.fromkeys(numbers):
            place = self._around[number]._replace(cuts=cuts)
            yield place._replace(radius_m=target.radius_m) if target.HasField("radius_m") else place
        others = self._others(target, excluded)
        yield from others if apart else self._joined(list(others))

    def _others(self, target: Target, excluded: tuple[str, ...]) -> Iterator[TargetPlace]:
        if target.everywhere:
            yield self._everywhere._replace(cuts=self._cuts(excluded))
        for circle in target.circles[:]:
            yield self._place(AROUND_POINT, self._circle(circle), excluded, "", self._country)
        for text in target.areas[:]:
            for piece in self._area(text):
                yield self._place(IN_ZONE, piece, excluded, "", self._country)
        for zone_id in target.zone_ids[:]:
            for piece, time_zone, country, cut in self._pieces(zone_id):
                yield self._place(IN_ZONE, piece, tuple(sorted({*excluded, *cut})), time_zone, country or self._country)

    def _joined(self, places: list[TargetPlace]) -> list[TargetPlace]:
        """Let areas by the same clock, with the same cut out of them, know of each other: one is in any of them."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for number, place in enumerate(places):
            if place.shape != NO_SHAPE:
                clock = place.time_zone or zone_at(place.longitude, place.latitude)
                alike.setdefault((clock, place.country_code, place.cuts), []).append(number)
        for numbers in alike.values():
            each = {places[number].shape: places[number] for number in numbers}
            if len(each) > 1:
                span = self._span(tuple(each), each.values())
                for number in numbers:
                    places[number] = places[number]._replace(joined=span)
        return places

    def _place(self, kind: int, piece: _Piece, excluded: tuple[str, ...], time_zone: str, country: str) -> TargetPlace:
        return TargetPlace(
            kind, piece.number, NO_VENUE, piece.radius_m, piece.reach_m, piece.shape, self._cuts(excluded),
            piece.latitude, piece.longitude, time_zone, country,
        )  # fmt: skip

    def _pieces(self, zone_id: str) -> list[_ZonePiece]:
        """The pieces of a zone, those of the zones it covers included."""
        pieces = self._zone_pieces.get(zone_id)
        if pieces is None:
            zone = self._zones[zone_id]
            here = zone.time_zone, zone.country_code, tuple(zone.excluded_zone_ids[:])
            pieces = [_ZonePiece(self._circle(circle), *here) for circle in zone.circles]
            pieces += [_ZonePiece(piece, *here) for text in zone.areas for piece in self._area(text)]
            for other in zone.zone_ids:
                for piece, time_zone, country, cut in self._pieces(other):
                    pieces.append(_ZonePiece(piece, here[0] or time_zone, here[1] or country, (*here[2], *cut)))
            self._zone_pieces[zone_id] = pieces
        return pieces

    def _cuts(self, zone_ids: tuple[str, ...]) -> tuple[int, int]:
        return self._span(zone_ids, (one.piece for zone_id in zone_ids for one in self._pieces(zone_id)))

    def _span(self, key: tuple[str, ...] | tuple[int, ...], pieces: Iterable[_Piece | TargetPlace]) -> tuple[int, int]:
        """Where some pieces stand among all: `key` tells them apart from others."""
        span = self._spans.get(key)
        if span is None:
            first = len(self.pieces)
            self.pieces += [(one.number, one.radius_m, one.reach_m, one.shape) for one in pieces]
            span = self._spans[key] = (first, len(self.pieces))
        return span

    def _select(self, key: bytes) -> list[int]:
        """The venues that a selector finds, by its `key_of`."""
        return sorted(self._selection.find(VenueSelector.FromString(key)))

    def _circle(self, circle: Circle) -> _Piece:
        return _Piece(
            self._position(circle.center), circle.radius_m, 0.0, NO_SHAPE, circle.center.latitude,
            circle.center.longitude,
        )  # fmt: skip

    def _find_area(self, text: str) -> list[_Piece]:
        pieces = []
        for part in parse(text):
            covered = cover(part)
            number = self._position(LatLng(latitude=covered.latitude, longitude=covered.longitude))
            pieces.append(
                _Piece(number, 0.0, covered.reach_m, len(self.shapes), float(part.latitude), float(part.longitude))
            )
            self.shapes.append(part)
        return pieces

    def _position(self, point: LatLng) -> int:
        self._gathered.latitudes.append(point.latitude)
        self._gathered.longitudes.append(point.longitude)
        return len(self._gathered.latitudes) - 1


@lru_cache(maxsize=1 << 20)
def zone_at(longitude: float, latitude: float) -> str:
    """The IANA zone of a position; "" where this machine's zone data lacks it."""
    name = get_tz(longitude, latitude)
    return name if _is_known(name) else ""


@cache
def _is_known(time_zone: str) -> bool:
    """Whether this machine's zone data has a zone. Zones themselves are soon forgotten, and read again from disk."""
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        return False
    return True
