"""Rules for venues, zones and targets, by themselves and in the context of their catalogue."""

from collections.abc import Iterator, Mapping, Sequence

from google.type.latlng_pb2 import LatLng

from offers.catalogue.document.nodes import Path
from offers.catalogue.geo.geojson import AreaError, parse
from offers.catalogue.rules.faults import Fault, Faults
from offers.catalogue.rules.values import (
    check_country,
    check_duration,
    check_enum,
    check_id,
    check_length,
    check_time_zone,
    one_of,
)
from offers.v1.offer_pb2 import MissingLocation, Target, VenueSelector
from offers.v1.venue_pb2 import Circle, Travel, TravelMode, Venue, Zone

MAX_RADIUS_M = 1_000_000.0
MAX_LABELS = 32
MAX_LABEL_KEY = 64
MAX_LABEL_VALUE = 200
MAX_SPEED_KMH = 300.0


def check_venue(venue: Venue, faults: Faults) -> None:
    """Check a venue."""
    check_id(venue.venue_id, ("venue_id",), faults)
    check_length(venue.title, 200, ("title",), faults)
    if venue.HasField("point"):
        _check_point(venue.point, ("point",), faults)
    else:
        faults.append(Fault(("point",), "missing", "write the latitude and longitude of the venue in degrees"))
    if venue.HasField("radius_m"):
        _check_radius(venue.radius_m, ("radius_m",), faults)
    check_labels(venue.labels, ("labels",), faults)
    if venue.HasField("travel"):
        check_travel(venue.travel, ("travel",), faults)
    check_time_zone(venue.time_zone, ("time_zone",), faults)
    check_country(venue.country_code, ("country_code",), faults)


def check_zone(zone: Zone, faults: Faults) -> None:
    """Check a zone."""
    check_id(zone.zone_id, ("zone_id",), faults)
    check_length(zone.title, 200, ("title",), faults)
    if not (zone.circles or zone.areas or zone.zone_ids):
        fix = "write at least one of circles, areas and zone_ids"
        faults.append(Fault((), "covers nothing", fix))
    for index, circle in enumerate(zone.circles):
        _check_circle(circle, ("circles", index), faults)
    check_areas(zone.areas, ("areas",), faults)
    check_time_zone(zone.time_zone, ("time_zone",), faults)
    check_country(zone.country_code, ("country_code",), faults)


def check_target(target: Target, faults: Faults) -> None:  # noqa: C901 - calls would cost more than the checks
    """Check a target, except for the ids it names."""
    venue_ids, circles, selectors, areas = target.venue_ids, target.circles, target.venue_selectors, target.areas
    places = bool(venue_ids or circles or target.zone_ids or selectors or areas)
    if target.everywhere == places:
        if places:
            fix = "leave out either 'everywhere' or the venues, circles, zones and areas"
            faults.append(Fault(("target", "everywhere"), "stands beside places, and must stand alone", fix))
        else:
            fix = "write venue_ids, venue_selectors, circles, zone_ids or areas, or 'everywhere: true'"
            faults.append(Fault(("target",), "names no place", fix))
    if target.HasField("radius_m"):
        if not 0 < target.radius_m <= MAX_RADIUS_M:
            _check_radius(target.radius_m, ("target", "radius_m"), faults)
        if not (venue_ids or selectors):
            fix = "add venue_ids, or put the radius into a circle"
            faults.append(Fault(("target", "radius_m"), "has no venue to be a radius of", fix))
    if circles:
        for index, circle in enumerate(circles):
            _check_circle(circle, ("target", "circles", index), faults)
    if selectors:
        check_selectors(selectors, ("target", "venue_selectors"), faults)
    if areas:
        check_areas(areas, ("target", "areas"), faults)
    if target.HasField("min_inside_probability") or target.missing_location:
        _check_uncertain(target, faults)


def _check_uncertain(target: Target, faults: Faults) -> None:
    if target.HasField("min_inside_probability") and not 0.01 <= target.min_inside_probability <= 0.99:
        reason = f"{target.min_inside_probability:.12g} is not from 0.01 to 0.99"
        faults.append(Fault(("target", "min_inside_probability"), reason, "write a probability such as 0.5"))
    check_enum(target.missing_location, MissingLocation, ("target", "missing_location"), faults)


def _check_circle(circle: Circle, path: Path, faults: Faults) -> None:
    if circle.HasField("center"):
        _check_point(circle.center, (*path, "center"), faults)
    else:
        fix = "write the latitude and longitude of the centre in degrees"
        faults.append(Fault((*path, "center"), "missing", fix))
    _check_radius(circle.radius_m, (*path, "radius_m"), faults)


def _check_point(point: LatLng, path: Path, faults: Faults) -> None:
    if not -90 <= point.latitude <= 90:
        fix = "write degrees from -90 (south) to 90 (north)"
        faults.append(Fault((*path, "latitude"), f"{point.latitude:.12g} is not from -90 to 90", fix))
    if not -180 <= point.longitude <= 180:
        fix = "write degrees from -180 (west) to 180 (east)"
        faults.append(Fault((*path, "longitude"), f"{point.longitude:.12g} is not from -180 to 180", fix))


def _check_radius(radius_m: float, path: Path, faults: Faults) -> None:
    if not 0 < radius_m <= MAX_RADIUS_M:
        reason = f"{radius_m:.12g} is not over 0 and at most 1,000,000"
        faults.append(Fault(path, reason, "write metres, such as 800"))


def check_areas(areas: Sequence[str], path: Path, faults: Faults) -> None:
    """Check GeoJSON texts; `path` is that of their list."""
    for index, text in enumerate(areas):
        try:
            parse(text)
        except AreaError as error:
            faults += (Fault((*path, index, *fault.path), fault.reason, fault.fix) for fault in error.faults)


def check_labels(labels: Mapping[str, str], path: Path, faults: Faults) -> None:
    """Check the labels of a venue or a selector."""
    if len(labels) > MAX_LABELS:
        faults.append(Fault(path, f"has {len(labels)} keys", f"write at most {MAX_LABELS}"))
    for key, value in sorted(labels.items()):  # the order of a protobuf map is arbitrary
        if not (0 < len(key) <= MAX_LABEL_KEY and key.isprintable()):
            reason = f"{key[:MAX_LABEL_KEY]!r} is not a key"
            faults.append(Fault(path, reason, f"write 1 to {MAX_LABEL_KEY} printable characters"))
        if not (len(value) <= MAX_LABEL_VALUE and value.isprintable()):
            reason = f"{value[:60]!r} is not a value"
            faults.append(Fault((*path, key), reason, f"write at most {MAX_LABEL_VALUE} printable characters"))


def check_selectors(selectors: Sequence[VenueSelector], path: Path, faults: Faults) -> None:
    """Check venue selectors; `path` is that of their list."""
    for index, selector in enumerate(selectors):
        here = (*path, index, "labels")
        if not selector.labels:
            faults.append(Fault(here, "missing", "write what the venues are labelled with, such as {cuisine: ramen}"))
        check_labels(selector.labels, here, faults)
        for key, value in sorted(selector.labels.items()):
            if not values_of(value):
                fix = "write the value looked for, or several separated by semicolons"
                faults.append(Fault((*here, key), "has no value, so that no venue matches", fix))


def check_travel(travel: Travel, path: Path, faults: Faults) -> None:
    """Check a way to travel."""
    if not travel.mode:
        faults.append(Fault((*path, "mode"), "missing", one_of(TravelMode)))
    check_enum(travel.mode, TravelMode, (*path, "mode"), faults)
    if travel.HasField("speed_kmh") and not 0 < travel.speed_kmh <= MAX_SPEED_KMH:
        reason = f"{travel.speed_kmh:.12g} is not over 0 and at most {MAX_SPEED_KMH:.0f}"
        faults.append(Fault((*path, "speed_kmh"), reason, "write kilometres per hour, such as 15"))
    if travel.HasField("delay"):
        check_duration(travel.delay, (*path, "delay"), faults)


def values_of(label: str) -> frozenset[str]:
    """Return the values of a label, which are separated by semicolons."""
    return frozenset(value for value in map(str.strip, label.split(";")) if value)


def selects(selector: VenueSelector, venue: Venue) -> bool:
    """Return whether each label of a selector shares a value with the venue's label of the same key."""
    labels = venue.labels
    return all(key in labels and values_of(value) & values_of(labels[key]) for key, value in selector.labels.items())


def zone_faults(zone: Zone, zones: Mapping[str, Zone]) -> Iterator[Fault]:
    """Find the faults of a zone that covers itself or excludes a zone with exclusions; unknown ids are skipped."""
    for index, identity in enumerate(zone.zone_ids):
        if zone.zone_id in _covered(identity, zones):
            by_way = f" by way of '{identity}'" if identity != zone.zone_id else ""
            yield Fault(("zone_ids", index), f"covers itself{by_way}", "leave one of the references out")
    yield from cut_faults(zone.excluded_zone_ids, ("excluded_zone_ids",), zones)


def cut_faults(zone_ids: Sequence[str], path: Path, zones: Mapping[str, Zone]) -> Iterator[Fault]:
    """Find excluded zones that exclude zones themselves, directly or in a zone they cover."""
    for index, identity in enumerate(zone_ids):
        nested = next((one for one in _covered(identity, zones) if one in zones and zones[one].excluded_zone_ids), None)
        if nested is not None:
            which = "itself" if nested == identity else f"in '{nested}', which it covers"
            reason = f"'{identity}' is cut out, and excludes zones {which}"
            yield Fault((*path, index), reason, "cut out a zone that excludes none")


def _covered(zone_id: str, zones: Mapping[str, Zone]) -> dict[str, None]:
    """Return a zone and all zones it covers, directly or indirectly, in the order they are found."""
    met: dict[str, None] = {}
    left = [zone_id]
    while left:
        identity = left.pop()
        if identity not in met:
            met[identity] = None
            if identity in zones:
                left += zones[identity].zone_ids
    return met
