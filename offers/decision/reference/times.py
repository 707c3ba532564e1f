"""The part of the specification that concerns time: when an offer may be shown at a place."""

from collections.abc import Iterable

from google.type.interval_pb2 import Interval

from offers.catalogue.hours.schedules import HORIZON_DAYS, NEVER, SchedulePart, zone_clock
from offers.decision.reference.people import campaign_of
from offers.decision.reference.places import OfferPlace
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import TIME_ZONE_BASIS_FIXED, TIME_ZONE_BASIS_UNSPECIFIED, TIME_ZONE_BASIS_VENUE, Offer


def shown_until(catalog: Catalog, offer: Offer, place: OfferPlace, query: Query) -> int | None:
    """Return when an offer ends at a place; None: it may not be shown there now."""
    ends = ends_of(catalog, offer, place, query).values()
    known = [end for end in ends if end is not None]
    return min(known) if len(known) == len(ends) else None


def ends_of(catalog: Catalog, offer: Offer, place: OfferPlace, query: Query) -> dict[str, int | None]:
    """Return when each limit in time of an offer at a place ends: NEVER, or None if it forbids the offer now."""
    availability, redemption, campaign = offer.availability, offer.redemption, campaign_of(catalog, offer)
    ends = {
        "window": _in_windows(spans_of(availability.windows), query.time),
        "campaign": NEVER if campaign is None else _in_windows(spans_of([campaign.window]), query.time),
        "hours": _hours_until(catalog, offer, place, [availability.opening_hours], query),
        "daypart": _hours_until(catalog, offer, place, dayparts_of(catalog, availability.daypart_ids), query),
        "venue": _venue_until(offer, place, query),
    }
    if redemption.required_when_shown:
        ends["redemption window"] = _in_windows(spans_of([redemption.window]), query.time)
        ends["redemption hours"] = _hours_until(catalog, offer, place, [redemption.opening_hours], query)
    return ends


def spans_of(windows: Iterable[Interval]) -> list[tuple[int, int]]:
    """Return windows as their first second and the second at which they are over."""
    return [(window.start_time.seconds, _end(window)) for window in windows]


def is_preferred(catalog: Catalog, offer: Offer, place: OfferPlace, query: Query) -> bool:
    """Return whether one of an offer's preferred dayparts is on at a place, or it prefers none."""
    preferred = dayparts_of(catalog, offer.preferred_daypart_ids)
    return _hours_until(catalog, offer, place, preferred, query) is not None


def is_redeemable(catalog: Catalog, offer: Offer, place: OfferPlace, query: Query) -> bool:
    """Return whether the benefit can be used at a place now."""
    redemption = offer.redemption
    is_within = redemption.window.start_time.seconds <= query.time < _end(redemption.window)
    return is_within and _hours_until(catalog, offer, place, [redemption.opening_hours], query) is not None


def dayparts_of(catalog: Catalog, daypart_ids: Iterable[str]) -> list[str]:
    """Return the opening hours of dayparts."""
    hours = {daypart.daypart_id: daypart.opening_hours for daypart in catalog.dayparts}
    return [hours[daypart_id] for daypart_id in daypart_ids]


def _end(window: Interval) -> int:
    return window.end_time.seconds if window.HasField("end_time") else NEVER


def _in_windows(windows: list[tuple[int, int]], time: int) -> int | None:
    """Return when the windows around a time are over, joined where they touch; None: none is around it."""
    if not windows:
        return NEVER
    ends = None
    for start, end in sorted(windows):
        if start <= (time if ends is None else ends) < end:
            ends = end
    return ends


def _hours_until(catalog: Catalog, offer: Offer, place: OfferPlace, hours: list[str], query: Query) -> int | None:
    """Return when the last of some hours of an offer closes at a place; NEVER: there are none, None: all are closed."""
    zone = clock_of(catalog, offer, place, query)
    country = offer.availability.country_code or place.country_code
    return _open_until([rule for rule in hours if rule], zone, country, place.position, query.time)


def _venue_until(offer: Offer, place: OfferPlace, query: Query) -> int | None:
    """Return when the venue closes, less the margin, by its own clock; NEVER: it need not be open, None: closed."""
    if not offer.availability.only_when_open or not place.venue or not place.venue.opening_hours:
        return NEVER
    hours = [place.venue.opening_hours]
    ends = _open_until(hours, place.time_zone, place.country_code, place.position, query.time)
    if ends is None or ends == NEVER:
        return ends
    ends -= offer.availability.closing_margin.seconds
    return ends if query.time < ends else None


def clock_of(catalog: Catalog, offer: Offer, place: OfferPlace, query: Query) -> str:
    """Return the time zone of an offer's hours at a place."""
    basis, named = offer.availability.time_zone_basis, offer.availability.time_zone
    if basis == TIME_ZONE_BASIS_FIXED or (basis == TIME_ZONE_BASIS_UNSPECIFIED and named):
        return named
    if basis == TIME_ZONE_BASIS_VENUE or (basis == TIME_ZONE_BASIS_UNSPECIFIED and place.piece is not None):
        return place.time_zone
    return query.surface.time_zone or catalog.time_zone or "UTC"


def _open_until(hours: list[str], zone: str, country: str, position: tuple[float, ...], time: int) -> int | None:
    """Return when all of some hours are closed next; NEVER: there are none, None: all are closed now."""
    ends, clock = time, zone_clock(zone)
    while hours:
        states = [SchedulePart((rule,), zone, country, position).at(ends, clock) for rule in hours]
        open_until = max((until for is_open, until in states if is_open), default=ends)
        if open_until == ends:
            return ends if ends > time else None
        if open_until >= time + HORIZON_DAYS * 86_400:
            break
        ends = open_until
    return NEVER
