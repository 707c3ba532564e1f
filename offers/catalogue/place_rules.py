"""What areas, labels, selectors and zones must be; rules.py calls this for the messages that have them."""

from collections.abc import Iterator, Mapping, Sequence

from offers.catalogue.areas import AreaError, parse
from offers.catalogue.document.nodes import Path
from offers.catalogue.faults import Fault, Faults
from offers.v1.offer_pb2 import VenueSelector
from offers.v1.venue_pb2 import Travel, TravelMode, Venue, Zone

MAX_LABELS = 32
MAX_LABEL_KEY = 64
MAX_LABEL_VALUE = 200
MAX_SPEED_KMH = 300.0


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
    for key, value in labels.items():
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
        for key, value in selector.labels.items():
            if not values_of(value):
                fix = "write the value looked for, or several separated by semicolons"
                faults.append(Fault((*here, key), "has no value, so that no venue matches", fix))


def check_travel(travel: Travel, path: Path, faults: Faults) -> None:
    """Check a way to travel, but for its delay."""
    if travel.mode not in TravelMode.values() or not travel.mode:
        reason = f"{travel.mode} is not a TravelMode" if travel.mode else "missing"
        fix = f"write one of {', '.join(TravelMode.keys()[1:])}"
        faults.append(Fault((*path, "mode"), reason, fix))
    if travel.HasField("speed_kmh") and not 0 < travel.speed_kmh <= MAX_SPEED_KMH:
        reason = f"{travel.speed_kmh:.12g} is not over 0 and at most {MAX_SPEED_KMH:.0f}"
        faults.append(Fault((*path, "speed_kmh"), reason, "write kilometres per hour, such as 15"))


def values_of(label: str) -> frozenset[str]:
    """The values of a label, which semicolons separate."""
    return frozenset(value for value in map(str.strip, label.split(";")) if value)


def selects(selector: VenueSelector, venue: Venue) -> bool:
    """Whether each label of a selector shares a value with that of a venue."""
    labels = venue.labels
    return all(key in labels and values_of(value) & values_of(labels[key]) for key, value in selector.labels.items())


def zone_faults(zone: Zone, zones: Mapping[str, Zone]) -> Iterator[Fault]:
    """Find zones that cover themselves, and cut out what itself has something cut out; unknown ids are passed over."""
    for index, identity in enumerate(zone.zone_ids):
        if zone.zone_id in _covered(identity, zones):
            by_way = f" by way of '{identity}'" if identity != zone.zone_id else ""
            yield Fault(("zone_ids", index), f"covers itself{by_way}", "leave one of the references out")
    yield from cut_faults(zone.excluded_zone_ids, ("excluded_zone_ids",), zones)


def cut_faults(zone_ids: Sequence[str], path: Path, zones: Mapping[str, Zone]) -> Iterator[Fault]:
    """Find zones cut out that have something cut out themselves, in what they cover too."""
    for index, identity in enumerate(zone_ids):
        nested = next((one for one in _covered(identity, zones) if one in zones and zones[one].excluded_zone_ids), None)
        if nested is not None:
            which = "itself" if nested == identity else f"in '{nested}', which it covers"
            reason = f"'{identity}' is cut out, and excludes zones {which}"
            yield Fault((*path, index), reason, "cut out a zone that excludes none")


def _covered(zone_id: str, zones: Mapping[str, Zone]) -> dict[str, None]:
    """A zone and all that it covers by way of others, in the order they are met."""
    met: dict[str, None] = {}
    left = [zone_id]
    while left:
        identity = left.pop()
        if identity not in met:
            met[identity] = None
            if identity in zones:
                left += zones[identity].zone_ids
    return met
