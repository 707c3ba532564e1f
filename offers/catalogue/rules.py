"""What each message of a catalogue must be by itself, whatever else the catalogue holds.

Every function adds to `faults` what its message breaks of the rules in protos/offers/v1, and nothing when there is
nothing to say. A million offers pass through here, hence two habits: a path is only made up for a fault, and a list
is only iterated over when it holds something, as ending an iteration costs more than the question.
"""

import difflib
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from math import inf
from zoneinfo import available_timezones

from google.type.interval_pb2 import Interval
from google.type.latlng_pb2 import LatLng
from google.type.money_pb2 import Money

from offers.catalogue.document.nodes import Path
from offers.catalogue.faults import Fault, Faults
from offers.catalogue.place_rules import check_areas, check_labels, check_selectors, check_travel
from offers.catalogue.schedules import FIRST_SECOND, LAST_SECOND
from offers.v1.catalog_pb2 import Catalog, Placement
from offers.v1.offer_pb2 import (
    Availability,
    Benefit,
    Bundle,
    Creative,
    FreeDelivery,
    MissingLocation,
    Offer,
    Redemption,
    Target,
)
from offers.v1.ranking_pb2 import Decay, RankingStrategy
from offers.v1.venue_pb2 import Circle, Venue, Zone

MAX_RADIUS_M = 1_000_000.0

_CATALOG_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}").fullmatch
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch
_CURRENCY = re.compile(r"[A-Z]{3}").fullmatch
_COUNTRY = re.compile(r"[A-Z]{2}").fullmatch
is_language_tag = re.compile(
    r"(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"
    r"(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(?:-[A-WY-Za-wy-z0-9](?:-[A-Za-z0-9]{2,8})+)*"
    r"(?:-[Xx](?:-[A-Za-z0-9]{1,8})+)?|[Xx](?:-[A-Za-z0-9]{1,8})+"
).fullmatch
"""A BCP 47 tag, by its shape: language, script, region, variants, extensions, private use."""
_URI = re.compile(
    r"(?:https?://[^/?#@:]+(?::[0-9]+)?(?:[/?#].*)?|(?!https?:)[a-z][a-z0-9+.-]*:.+)", re.IGNORECASE
).fullmatch
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
_CONTROL_BUT_SPACE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]").search
_NOT_IN_URI = re.compile(r'[^!-~]|["<>\\^`{|}]').search


@cache
def time_zones() -> frozenset[str]:
    """Give the IANA names that mean the same everywhere, so without `localtime` and `Factory`."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


def check_head(catalog: Catalog, faults: Faults) -> None:
    """Check the single values of a catalogue, as far as they are given."""
    if catalog.catalog_id and not _CATALOG_ID(catalog.catalog_id):
        faults.append(_bad_id(("catalog_id",), catalog.catalog_id, 64))
    _check_length(catalog.title, 200, ("title",), faults)
    _check_time_zone(catalog.time_zone, ("time_zone",), faults)
    _check_country(catalog.country_code, ("country_code",), faults)


def check_placement(placement: Placement, faults: Faults) -> None:
    """Check a placement."""
    _check_id(placement.placement_id, ("placement_id",), faults)
    _check_length(placement.title, 200, ("title",), faults)
    _check_length(placement.channel, 64, ("channel",), faults)
    for name in ("max_offers", "max_per_venue", "max_per_brand", "max_per_category"):
        number = getattr(placement, name)
        if placement.HasField(name) and not 1 <= number <= 100:
            faults.append(Fault((name,), f"{number} is not from 1 to 100", "write a whole number from 1 to 100"))


def check_strategy(strategy: RankingStrategy, faults: Faults) -> None:
    """Check a ranking strategy."""
    _check_id(strategy.ranking_strategy_id, ("ranking_strategy_id",), faults)
    for described, weight in strategy.weights.ListFields():
        if not 0 <= weight <= 100:
            path = ("weights", described.name)
            faults.append(Fault(path, f"{weight:.12g} is not from 0 to 100", "write a weight from 0 to 100"))
    if strategy.HasField("nearness"):
        _check_decay(strategy.nearness, ("nearness",), faults)
    if strategy.HasField("timeliness"):
        _check_decay(strategy.timeliness, ("timeliness",), faults)
    for name in ("nearness_without_distance", "outside_daypart", "missing_location", "unreachable"):
        if strategy.HasField(name):
            _check_share(getattr(strategy, name), (name,), faults)


def _check_decay(decay: Decay, path: Path, faults: Faults) -> None:
    if decay.shape not in Decay.Shape.values():
        fix = f"write one of {', '.join(Decay.Shape.keys())}"
        faults.append(Fault((*path, "shape"), f"{decay.shape} is not a Shape", fix))
    for name, number in (("offset", decay.offset), ("origin", decay.origin)):
        if not 0 <= number < inf:
            fix = "write metres or seconds, 0 or more"
            faults.append(Fault((*path, name), f"{number:.12g} is not 0 or more", fix))
    if not 0 < decay.scale < inf:
        reason = f"{decay.scale:.12g} is not over 0" if decay.scale else "missing"
        fix = "write over how many metres or seconds the factor falls to `decay`, over 0"
        faults.append(Fault((*path, "scale"), reason, fix))
    if decay.HasField("decay") and not 0 < decay.decay < 1:
        reason = f"{decay.decay:.12g} is not between 0 and 1"
        faults.append(Fault((*path, "decay"), reason, "write a number over 0 and under 1, such as 0.5"))
    if decay.HasField("minimum"):
        _check_share(decay.minimum, (*path, "minimum"), faults)


def check_venue(venue: Venue, faults: Faults) -> None:
    """Check a venue."""
    _check_id(venue.venue_id, ("venue_id",), faults)
    _check_length(venue.title, 200, ("title",), faults)
    if venue.HasField("point"):
        _check_point(venue.point, ("point",), faults)
    else:
        faults.append(Fault(("point",), "missing", "write the latitude and longitude of the venue in degrees"))
    if venue.HasField("radius_m"):
        _check_radius(venue.radius_m, ("radius_m",), faults)
    check_labels(venue.labels, ("labels",), faults)
    if venue.HasField("travel"):
        check_travel(venue.travel, ("travel",), faults)
    _check_time_zone(venue.time_zone, ("time_zone",), faults)
    _check_country(venue.country_code, ("country_code",), faults)


def check_zone(zone: Zone, faults: Faults) -> None:
    """Check a zone."""
    _check_id(zone.zone_id, ("zone_id",), faults)
    _check_length(zone.title, 200, ("title",), faults)
    if not (zone.circles or zone.areas or zone.zone_ids):
        fix = "write at least one of circles, areas and zone_ids"
        faults.append(Fault((), "covers nothing", fix))
    for index, circle in enumerate(zone.circles):
        _check_circle(circle, ("circles", index), faults)
    check_areas(zone.areas, ("areas",), faults)
    _check_time_zone(zone.time_zone, ("time_zone",), faults)
    _check_country(zone.country_code, ("country_code",), faults)


def check_offer(offer: Offer, faults: Faults) -> None:  # noqa: C901, PLR0912 - calls would cost more than the checks
    """Check an offer, but for the ids it names and its opening hours, which depend on the rest of the catalogue."""
    if not _ID(offer.offer_id):
        faults.append(_bad_id(("offer_id",), offer.offer_id, 128))
    title = offer.title
    if not 0 < len(title) <= 200 or not title.isprintable() or title[0] == " ":
        _check_text(offer.title, 200, ("title",), faults)
    if offer.HasField("benefit"):
        _check_benefit(offer.benefit, faults)
    else:
        fix = "write what the person gains, such as {percent_off: 20}"
        faults.append(Fault(("benefit",), "missing", fix))
    if offer.HasField("creative"):
        _check_creative(offer.creative, faults)
    _check_length(offer.category, 128, ("category",), faults)
    _check_length(offer.brand, 128, ("brand",), faults)
    if offer.HasField("target"):
        _check_target(offer.target, faults)
    else:
        faults.append(Fault(("target",), "missing", "write where it may be shown, such as {everywhere: true}"))
    if offer.HasField("availability"):
        _check_availability(offer.availability, faults)
    if offer.HasField("redemption"):
        _check_redemption(offer.redemption, faults)
    if offer.language_codes:
        for index, code in enumerate(offer.language_codes):
            if not is_language_tag(code):
                fix = "write a BCP 47 tag such as 'fr' or 'pt-BR'"
                faults.append(Fault(("language_codes", index), f"'{_cut(code)}' is not a language tag", fix))
    if offer.currency_codes:
        for index, code in enumerate(offer.currency_codes):
            if not _CURRENCY(code):
                faults.append(_bad_currency(("currency_codes", index), code))
    if offer.channels:
        for index, channel in enumerate(offer.channels):
            if not 0 < len(channel) <= 64:
                _check_text(channel, 64, ("channels", index), faults)
    if offer.exclusion_group:
        _check_length(offer.exclusion_group, 128, ("exclusion_group",), faults)
    if offer.HasField("value") and not 0 < offer.value <= 1:
        _check_share(offer.value, ("value",), faults)
    if offer.HasField("lever") and not 0 < offer.lever <= 1:
        _check_share(offer.lever, ("lever",), faults)


def _check_benefit(benefit: Benefit, faults: Faults) -> None:  # noqa: C901 - a check per kind
    kind = benefit.WhichOneof("kind")
    if kind == "percent_off":
        if not 0 < benefit.percent_off <= 100:
            reason = f"{benefit.percent_off:.12g} is not over 0 and at most 100"
            faults.append(Fault(("benefit", kind), reason, "write percent, such as 20"))
    elif kind == "amount_off":
        _check_money(benefit.amount_off, ("benefit", kind), faults, over_zero=True)
    elif kind == "fixed_price":
        _check_money(benefit.fixed_price, ("benefit", kind), faults, over_zero=False)
    elif kind == "free_delivery":
        _check_delivery(benefit.free_delivery, faults)
    elif kind == "bundle":
        _check_bundle(benefit.bundle, faults)
    elif kind == "custom":
        _check_text(benefit.custom, 200, ("benefit", kind), faults)
    else:
        names = ", ".join(described.name for described in Benefit.DESCRIPTOR.oneofs_by_name["kind"].fields)
        fix = f"write one of {names}; for free delivery without a limit, 'free_delivery: {{}}'"
        faults.append(Fault(("benefit",), "does not say what is gained", fix))
    if benefit.HasField("minimum_order"):
        _check_money(benefit.minimum_order, ("benefit", "minimum_order"), faults, over_zero=False)
        _check_currencies(benefit, faults)
    if benefit.HasField("maximum_discount"):
        _check_money(benefit.maximum_discount, ("benefit", "maximum_discount"), faults, over_zero=True)
        if not benefit.HasField("minimum_order"):
            _check_currencies(benefit, faults)


def _check_currencies(benefit: Benefit, faults: Faults) -> None:
    sums = [value for _, value in benefit.ListFields() if isinstance(value, Money)]
    codes = sorted({money.currency_code for money in sums})
    if len(codes) > 1 and all(map(_CURRENCY, codes)):
        fix = "write all its sums in one currency"
        faults.append(Fault(("benefit",), f"mixes the currencies {' and '.join(codes)}", fix))


def _check_delivery(delivery: FreeDelivery, faults: Faults) -> None:
    if delivery.HasField("maximum_distance_m") and not 0 < delivery.maximum_distance_m < inf:
        path = ("benefit", "free_delivery", "maximum_distance_m")
        faults.append(Fault(path, f"{delivery.maximum_distance_m:.12g} is not over 0", "write metres, such as 3000"))


def _check_bundle(bundle: Bundle, faults: Faults) -> None:
    if bundle.quantity < 1:
        reason = f"{bundle.quantity} is not 1 or more" if bundle.quantity else "missing"
        faults.append(Fault(("benefit", "bundle", "quantity"), reason, "write the pieces received, 1 or more"))
    elif not 0 <= bundle.paid_quantity <= bundle.quantity:
        reason = f"{bundle.paid_quantity} is not from 0 to the quantity, {bundle.quantity}"
        fix = f"write the pieces paid for, from 0 to {bundle.quantity}"
        faults.append(Fault(("benefit", "bundle", "paid_quantity"), reason, fix))
    _check_length(bundle.items, 200, ("benefit", "bundle", "items"), faults)


def _check_creative(creative: Creative, faults: Faults) -> None:
    _check_length(creative.body, 2_000, ("creative", "body"), faults)
    _check_length(creative.call_to_action, 100, ("creative", "call_to_action"), faults)
    for name, uri in (("image_uri", creative.image_uri), ("link_uri", creative.link_uri)):
        if uri and (not _URI(uri) or _NOT_IN_URI(uri)):
            fix = "write it whole, such as https://example.com/a.jpg, other characters as %20 and so on"
            faults.append(Fault(("creative", name), f"'{_cut(uri)}' is not an absolute URI", fix))
        _check_length(uri, 2_000, ("creative", name), faults)


def _check_target(target: Target, faults: Faults) -> None:  # noqa: C901 - calls would cost more than the checks
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
    if target.missing_location not in MissingLocation.values():
        fix = f"write one of {', '.join(MissingLocation.keys())}"
        reason = f"{target.missing_location} is not a MissingLocation"
        faults.append(Fault(("target", "missing_location"), reason, fix))


def _check_availability(availability: Availability, faults: Faults) -> None:
    windows = availability.windows
    for index in range(len(windows)):
        if not _sound(windows[index]):
            _check_window(windows[index], ("availability", "windows", index), faults)
    if availability.time_zone:
        _check_time_zone(availability.time_zone, ("availability", "time_zone"), faults)
    if availability.country_code:
        _check_country(availability.country_code, ("availability", "country_code"), faults)


def _check_redemption(redemption: Redemption, faults: Faults) -> None:
    if redemption.HasField("window"):
        _check_window(redemption.window, ("redemption", "window"), faults)


def _sound(window: Interval) -> bool:
    """Tell quickly of a window with two ends that nothing is wrong with it."""
    start, end = window.start_time, window.end_time
    return FIRST_SECOND < start.seconds < end.seconds <= LAST_SECOND and not start.nanos and not end.nanos


def _check_window(window: Interval, path: Path, faults: Faults) -> None:
    ends: list[int] = []
    for name in ("start_time", "end_time"):
        if window.HasField(name):
            instant = window.start_time if name == "start_time" else window.end_time
            ends.append(instant.seconds)
            if instant.nanos:
                fix = "leave the fraction of the second out"
                faults.append(Fault((*path, name), "is not a whole second", fix))
            if not FIRST_SECOND <= instant.seconds <= LAST_SECOND:
                fix = "write an instant from 1970-01-01T00:00:00Z to 2100-01-01T00:00:00Z, or leave this end open"
                faults.append(Fault((*path, name), "is not from 1970 to 2100", fix))
    if not ends:
        faults.append(Fault(path, "has neither end", "write start_time, end_time or both, or leave the window out"))
    elif ends[0] >= ends[-1] and len(ends) > 1:
        faults.append(Fault((*path, "end_time"), "is not after start_time", "write a later end, or swap the two"))


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


def _check_money(money: Money, path: Path, faults: Faults, *, over_zero: bool) -> None:
    if not _CURRENCY(money.currency_code):
        faults.append(_bad_currency((*path, "currency_code"), money.currency_code))
    units, nanos = money.units, money.nanos
    if not -999_999_999 <= nanos <= 999_999_999:
        fix = "write billionths of a unit, such as 500000000 for a half; whole ones go into units"
        faults.append(Fault((*path, "nanos"), f"{nanos} is not within 999,999,999 of 0", fix))
    elif (units > 0 > nanos) or (units < 0 < nanos):
        fix = "give units and nanos the same sign"
        faults.append(Fault((*path, "nanos"), f"{nanos} has not the sign of units, {units}", fix))
    elif units < 0 or nanos < 0:
        faults.append(Fault(path, "is less than 0", "write an amount over 0"))
    elif over_zero and not units and not nanos:
        faults.append(Fault(path, "is 0", "write an amount over 0, in units and nanos"))


def _check_share(number: float, path: Path, faults: Faults) -> None:
    if not 0 < number <= 1:
        fix = "write a number over 0 and at most 1, such as 0.5"
        faults.append(Fault(path, f"{number:.12g} is not over 0 and at most 1", fix))


def _check_id(text: str, path: Path, faults: Faults) -> None:
    if not _ID(text):
        faults.append(_bad_id(path, text, 128))


def _bad_id(path: Path, text: str, most: int) -> Fault:
    reason = f"'{_cut(text)}' is not an id" if text else "missing"
    return Fault(path, reason, f"write 1 to {most} characters of A-Z a-z 0-9 . _ : -")


def _check_text(text: str, most: int, path: Path, faults: Faults) -> None:
    if not text.strip():
        faults.append(Fault(path, "is blank" if text else "missing", f"write 1 to {most} characters"))
    _check_length(text, most, path, faults)


def _check_length(text: str, most: int, path: Path, faults: Faults) -> None:
    if len(text) > most:
        faults.append(Fault(path, f"has {len(text):,} characters", f"write at most {most:,}"))
    controls = _CONTROL_BUT_SPACE if path[-1] == "body" else _CONTROL
    if not text.isprintable() and (found := controls(text)):
        reason = f"has the control character U+{ord(found.group()):04X}"
        faults.append(Fault(path, reason, "write printable text, on one line but for `creative.body`"))


def _check_time_zone(name: str, path: Path, faults: Faults) -> None:
    if name and name not in time_zones():
        faults.append(Fault(path, f"'{_cut(name)}' is not an IANA time zone", _zone_fix(name)))


def _check_country(code: str, path: Path, faults: Faults) -> None:
    if code and not _COUNTRY(code):
        fix = "write two capital letters of ISO 3166-1, such as FR"
        faults.append(Fault(path, f"'{_cut(code)}' is not a country code", fix))


def _bad_currency(path: Path, code: str) -> Fault:
    reason = f"'{_cut(code)}' is not a currency code" if code else "missing"
    return Fault(path, reason, "write three capital letters of ISO 4217, such as EUR")


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


@lru_cache(maxsize=1024)
def _zone_fix(name: str) -> str:
    close = close_to(name, time_zones())
    return f"did you mean '{close}'?" if close else "write a name such as Europe/Paris"


def close_to(name: str, names: Iterable[str]) -> str | None:
    """Give the one of some names that somebody who wrote `name` may have meant."""
    folded = {known.casefold(): known for known in names}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None
