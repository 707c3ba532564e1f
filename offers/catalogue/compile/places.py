"""Places of targets: venues, circles and areas, including those of zones."""

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.type.latlng_pb2 import LatLng
from tzfpy import get_tz

from offers.catalogue.compile.columns import LayoutInput
from offers.catalogue.definitions import Definitions
from offers.catalogue.geo.areas import Area
from offers.catalogue.geo.geojson import parse
from offers.catalogue.geo.shapes import cover
from offers.catalogue.selection import Selection, key_of
from offers.catalogue.snapshot import AROUND_POINT, EVERYWHERE, IN_ZONE, NO_SHAPE, NO_VENUE
from offers.v1.offer_pb2 import Target, VenueSelector
from offers.v1.venue_pb2 import Circle, Travel

NO_PIECES = (0, 0)


class TargetPlace(NamedTuple):
    """One place of a target."""

    kind: int
    """EVERYWHERE, IN_ZONE or AROUND_POINT."""
    number: int
    """Number of the position of its centre; -1: everywhere."""
    venue: int
    radius_m: float
    """Metres along the ground from the centre; 0 for areas."""
    reach_m: float
    """Straight-line metres through the earth from the centre; 0 for circles."""
    shape: int
    """Number of the area, or NO_SHAPE."""
    cuts: tuple[int, int]
    """First and last index, exclusive, of the excluded pieces among all pieces."""
    latitude: float
    """Latitude in degrees of a position inside."""
    longitude: float
    time_zone: str
    """"": nothing names one."""
    country_code: str
    travel: Travel | None = None
    opening_hours: str = ""
    """Opening hours of the venue."""
    joined: tuple[int, int] = NO_PIECES
    """First and last index, exclusive, of the areas it counts as one with, among all pieces."""


class _Piece(NamedTuple):
    """A circle or an area, shared by all places that refer to it."""

    number: int
    radius_m: float
    reach_m: float
    shape: int
    latitude: float
    longitude: float


class _ZonePiece(NamedTuple):
    """A piece of a zone with its time zone, its country and the zones excluded from it."""

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
        """Position, radius, reach and shape of each piece that is excluded or joined."""
        self._spans: dict[tuple[str, ...] | tuple[int, ...], tuple[int, int]] = {(): NO_PIECES}
        """First and last index of pieces, by the ids of excluded zones or the shapes of joined areas."""
        self._zone_pieces: dict[str, list[_ZonePiece]] = {}
        self._selection = Selection(checked.venues.values())
        self._selected = lru_cache(4096)(self._select)
        self._area = lru_cache(4096)(self._find_area)

    def of(self, target: Target, *, apart: bool = False) -> Iterable[TargetPlace]:
        """Return the places of a target: venues first, then circles, areas and zones; or everywhere.

        With `apart`, no areas are joined.
        """
        given = target.ListFields()
        if len(given) == 1 and given[0][0].number == Target.VENUE_IDS_FIELD_NUMBER:  # most targets
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
        """Join areas with the same time zone, country and exclusions: a person is inside if inside any of them."""
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
        """Return the pieces of a zone, including those of the zones it covers."""
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
        """Return the first and last index of the pieces of excluded zones."""
        return self._span(zone_ids, (one.piece for zone_id in zone_ids for one in self._pieces(zone_id)))

    def _span(self, key: tuple[str, ...] | tuple[int, ...], pieces: Iterable[_Piece | TargetPlace]) -> tuple[int, int]:
        """Return the first and last index of pieces among all, and add them if their `key` is new."""
        span = self._spans.get(key)
        if span is None:
            first = len(self.pieces)
            self.pieces += [(one.number, one.radius_m, one.reach_m, one.shape) for one in pieces]
            span = self._spans[key] = (first, len(self.pieces))
        return span

    def _select(self, key: bytes) -> list[int]:
        """Return the numbers of the venues that a selector finds, given its `key_of`."""
        return sorted(self._selection.find(VenueSelector.FromString(key)))

    def _circle(self, circle: Circle) -> _Piece:
        return _Piece(
            self._position(circle.center), circle.radius_m, 0.0, NO_SHAPE, circle.center.latitude,
            circle.center.longitude,
        )  # fmt: skip

    def _find_area(self, text: str) -> list[_Piece]:
        """Return the pieces of a GeoJSON text, whose areas are added to `shapes`."""
        pieces = []
        for area in parse(text):
            covered = cover(area)
            number = self._position(LatLng(latitude=covered.latitude, longitude=covered.longitude))
            pieces.append(
                _Piece(number, 0.0, covered.reach_m, len(self.shapes), float(area.latitude), float(area.longitude))
            )
            self.shapes.append(area)
        return pieces

    def _position(self, point: LatLng) -> int:
        self._gathered.latitudes.append(point.latitude)
        self._gathered.longitudes.append(point.longitude)
        return len(self._gathered.latitudes) - 1


@lru_cache(maxsize=1 << 20)
def zone_at(longitude: float, latitude: float) -> str:
    """Return the IANA zone of a position, or "" if this machine's zone data lacks it."""
    name = get_tz(longitude, latitude)
    return name if _is_known(name) else ""


@cache
def _is_known(time_zone: str) -> bool:
    """Return whether this machine's zone data has a zone. ZoneInfo's own cache is small and would read it again."""
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        return False
    return True
