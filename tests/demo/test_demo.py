"""The demo catalogue has offers for every moment.

Most tests read its document with a plain reference implementation that shares no code with the engine.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import holidays
import pytest
import yaml
from geopy.distance import geodesic
from google.protobuf.json_format import ParseDict
from google.type.interval_pb2 import Interval
from opening_hours import OpeningHours

from offers.catalogue import document
from offers.catalogue.check import check
from offers.client import OffersClient, context
from offers.demo import catalogue
from offers.testing import serving
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Offer
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.venue_pb2 import Circle, Zone

PARIS = (48.8566, 2.3522)
REPUBLIQUE = (48.8674, 2.3636)
THE_SEA = (0.0, 0.0)
ELSEWHERE = {
    "lyon-bellecour",
    "london-covent-garden",
    "london-shoreditch",
    "new-york-union-square",
    "tokyo-shibuya",
    "mafe-du-barachois",
}
# Mondays; the first week holds New Year's Day, the second the 14th of July.
WINTER, SUMMER = date(2026, 12, 28), date(2035, 7, 9)


@dataclass(frozen=True)
class Request:
    """The context of a request; None does not restrict."""

    point: tuple[float, float]
    at: datetime
    placement: str | None = None
    channel: str | None = None
    language: str | None = None
    currency: str | None = None


@cache
def paris() -> Catalog:
    """Read the document with PyYAML and protobuf alone."""
    return ParseDict(yaml.safe_load(catalogue().read_text(encoding="utf-8")), Catalog())


@cache
def metres(point: tuple[float, float], latitude: float, longitude: float) -> float:
    """Measure on the ellipsoid."""
    return float(geodesic(point, (latitude, longitude)).meters)


@cache
def hours(text: str, country: str) -> OpeningHours:
    """Parse opening hours with the country's public holidays; the sun is that of Paris."""
    if "sunset" not in text:
        return OpeningHours(text, country=country)
    return OpeningHours(text, timezone=ZoneInfo("Europe/Paris"), country=country, coords=REPUBLIQUE)


def holds(circles: list[Circle], point: tuple[float, float]) -> bool:
    """Tell whether the point is in one of the circles."""
    return any(metres(point, c.center.latitude, c.center.longitude) <= c.radius_m for c in circles)


def clocks(offer: Offer, point: tuple[float, float]) -> Iterator[tuple[str, str]]:
    """Yield the time zone and country of each place of the target that the point is in reach of."""
    catalog = paris()
    local = (catalog.time_zone, catalog.country_code)
    if offer.target.everywhere:
        yield local
    for venue in catalog.venues:
        if venue.venue_id in offer.target.venue_ids:
            reach = offer.target.radius_m if offer.target.HasField("radius_m") else venue.radius_m
            if metres(point, venue.point.latitude, venue.point.longitude) <= reach:
                yield venue.time_zone or local[0], venue.country_code or local[1]
    if holds(list(offer.target.circles), point):
        yield local
    for zone in catalog.zones:
        if zone.zone_id in offer.target.zone_ids and holds(list(zone.circles), point):
            yield zone.time_zone or local[0], zone.country_code or local[1]


@cache
def reachable(point: tuple[float, float]) -> list[tuple[Offer, list[tuple[str, str]]]]:
    """List the offers shown at the point at some time, with their clocks."""
    return [(offer, found) for offer in paris().offers if (found := list(clocks(offer, point)))]


def within(window: Interval, at: datetime) -> bool:
    """Tell whether the instant is in the span, whose ends may be open."""
    start = window.start_time.ToDatetime(UTC) if window.HasField("start_time") else at
    return start <= at and (not window.HasField("end_time") or at < window.end_time.ToDatetime(UTC))


def is_open(text: str, found: list[tuple[str, str]], at: datetime) -> bool:
    """Tell whether the hours are open on one of the clocks."""
    return not text or any(
        hours(text, country).is_open(at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for zone, country in found
    )


def in_a_daypart(offer: Offer, found: list[tuple[str, str]], at: datetime) -> bool:
    """Tell whether it is one of the dayparts the offer is shown in."""
    named = offer.availability.daypart_ids
    return not named or any(
        is_open(daypart.opening_hours, found, at) for daypart in paris().dayparts if daypart.daypart_id in named
    )


def venue_stays_open(offer: Offer, at: datetime) -> bool:
    """Tell whether a venue of the offer is open, and for as long as the offer asks; all of those here are in Paris."""
    if not offer.availability.only_when_open:
        return True
    minutes = range(offer.availability.closing_margin.seconds // 60 + 1)
    return any(
        all(is_open(venue.opening_hours, [("Europe/Paris", "FR")], at + timedelta(minutes=more)) for more in minutes)
        for venue in paris().venues
        if venue.venue_id in offer.target.venue_ids
    )


def redeemable(offer: Offer, found: list[tuple[str, str]], at: datetime) -> bool:
    """Tell whether the benefit may be used at the instant."""
    redemption = offer.redemption
    return (not redemption.HasField("window") or within(redemption.window, at)) and is_open(
        redemption.opening_hours, found, at
    )


def admits(offer: Offer, request: Request) -> bool:
    """Tell whether the offer's placements, channels, languages and currencies fit."""
    money = {
        currency
        for currency in (
            offer.benefit.amount_off.currency_code,
            offer.benefit.fixed_price.currency_code,
            offer.benefit.minimum_order.currency_code,
            offer.benefit.maximum_discount.currency_code,
        )
        if currency
    }
    pairs = (
        (request.placement, set(offer.placement_ids)),
        (request.channel, set(offer.channels)),
        (request.language, set(offer.language_codes)),
        (request.currency, set(offer.currency_codes) or money),
    )
    return all(not asked or not allowed or asked in allowed for asked, allowed in pairs)


def eligible(request: Request) -> list[Offer]:
    """List the offers that may be shown; fallbacks only when nothing else may."""
    found = [
        offer
        for offer, places in reachable(request.point)
        if admits(offer, request)
        and (not offer.availability.windows or any(within(w, request.at) for w in offer.availability.windows))
        and is_open(offer.availability.opening_hours, places, request.at)
        and in_a_daypart(offer, places, request.at)
        and venue_stays_open(offer, request.at)
        and (not offer.redemption.required_when_shown or redeemable(offer, places, request.at))
    ]
    return [offer for offer in found if not offer.fallback] or found


def ids(request: Request) -> set[str]:
    """Name the eligible offers."""
    return {offer.offer_id for offer in eligible(request)}


def local(day: date, clock: str, zone: str = "Europe/Paris") -> datetime:
    """Turn a wall clock such as "12:30" in the zone into an instant."""
    return datetime.combine(day, time.fromisoformat(clock), ZoneInfo(zone)).astimezone(UTC)


def half_hours(monday: date) -> list[datetime]:
    """List each half hour of a week in Paris."""
    start = local(monday, "00:00")
    return [start + timedelta(minutes=30 * step) for step in range(7 * 48)]


def test_variety() -> None:
    """There are 60 offers or more of all six kinds, and some of every restriction."""
    offers = paris().offers
    assert 60 <= len(offers) <= 90
    kinds = Counter(offer.benefit.WhichOneof("kind") for offer in offers)
    assert {"percent_off", "amount_off", "fixed_price", "free_delivery", "bundle", "custom"} == set(kinds)
    assert 5 <= min(kinds.values())
    assert 2 <= sum(offer.fallback for offer in offers) <= 3
    assert 12 <= max(len(offer.target.venue_ids) for offer in offers)
    for restriction in ("placement_ids", "language_codes", "currency_codes", "channels"):
        assert any(getattr(offer, restriction) for offer in offers), restriction
    assert {"Europe/London", "America/New_York", "Asia/Tokyo", "Indian/Reunion"} == {
        venue.time_zone for venue in paris().venues if venue.time_zone
    }


def test_references_resolve() -> None:
    """Ids are unique, each one referred to exists, and no venue or zone is left unused."""
    catalog = paris()
    venues = [venue.venue_id for venue in catalog.venues]
    zones = [zone.zone_id for zone in catalog.zones]
    placements = [placement.placement_id for placement in catalog.placements]
    strategies = [strategy.ranking_strategy_id for strategy in catalog.ranking_strategies]
    for names in (venues, zones, placements, strategies, [offer.offer_id for offer in catalog.offers]):
        assert len(set(names)) == len(names)
    assert set(venues) == {name for offer in catalog.offers for name in offer.target.venue_ids}
    assert set(zones) == {name for offer in catalog.offers for name in offer.target.zone_ids}
    assert set(placements) == {name for offer in catalog.offers for name in offer.placement_ids}
    named = {catalog.default_ranking_strategy_id, *(p.ranking_strategy_id for p in catalog.placements)} - {""}
    assert set(strategies) == named


def test_places() -> None:
    """Every venue, zone and circle of Paris lies within 25 km of its centre, the others do not."""
    catalog = paris()
    near = {v.venue_id for v in catalog.venues if metres(PARIS, v.point.latitude, v.point.longitude) <= 25_000}
    assert {venue.venue_id for venue in catalog.venues} - ELSEWHERE == near
    paris_zones: list[Zone] = [zone for zone in catalog.zones if zone.zone_id != "central-london"]
    circles = [c for part in (paris_zones, (offer.target for offer in catalog.offers)) for p in part for c in p.circles]
    assert 10 < len(circles)
    for circle in circles:
        assert metres(PARIS, circle.center.latitude, circle.center.longitude) <= 25_000, circle


def test_hours_and_windows() -> None:
    """Hours follow the strict grammar and open or close at some time unless 24/7; windows end after they start."""
    for offer in paris().offers:
        for text in {offer.availability.opening_hours, offer.redemption.opening_hours} - {"", "24/7"}:
            parsed = OpeningHours(text, country="FR")
            assert [] == parsed.warnings, text
            assert parsed.next_change(datetime(2027, 1, 4)) is not None, text  # noqa: DTZ001 - a wall clock
        for window in (*offer.availability.windows, offer.redemption.window):
            if window.HasField("start_time") and window.HasField("end_time"):
                assert window.start_time.ToDatetime() < window.end_time.ToDatetime(), offer.offer_id


def test_our_reader_agrees() -> None:
    """The document passes `offers validate`, and is read into the same messages as by protobuf's own reader."""
    check(catalogue())
    read = Catalog()
    for fragment in document.read(catalogue(), []):
        read.MergeFrom(fragment.catalog)
    assert paris() == read


@pytest.mark.parametrize("monday", [WINTER, SUMMER])
def test_republique_is_never_empty(monday: date) -> None:
    """At every half hour of the week a home screen at République has 5 offers or more of 2 kinds or more."""
    for at in half_hours(monday):
        found = eligible(Request(REPUBLIQUE, at, placement="home_feed", channel="app", language="en", currency="EUR"))
        assert 5 <= len(found), at
        assert 2 <= len({offer.benefit.WhichOneof("kind") for offer in found}), at
        assert not any(offer.fallback for offer in found), at


@pytest.mark.parametrize("monday", [WINTER, SUMMER])
def test_lunch_is_at_lunch(monday: date) -> None:
    """Lunch offers show at 12:30, none on a holiday, none anywhere in Paris at 16:00 or outside 11:30-14:30."""
    tuesday = ids(Request(REPUBLIQUE, local(monday + timedelta(days=1), "12:30")))
    assert {"lunch-bol-pivoine", "lunch-petrin-bavard", "lunch-nonna-farfalla", "lunch-curry-cardamine"} <= tuesday
    holiday = date(2027, 1, 1) if monday == WINTER else date(2035, 7, 14)
    assert "lunch-bol-pivoine" not in ids(Request(REPUBLIQUE, local(holiday, "12:30")))
    lunches = [offer for offer in paris().offers if offer.offer_id.startswith("lunch-")]
    assert 10 <= len(lunches)
    for at in half_hours(monday):
        if not time(11, 30) <= at.astimezone(ZoneInfo("Europe/Paris")).time() < time(14, 30):
            for offer in lunches:
                hours_of = offer.availability.opening_hours
                assert hours_of, offer.offer_id
                assert not is_open(hours_of, [("Europe/Paris", "FR")], at), (offer.offer_id, at)
    for day in range(7):
        found = ids(Request(REPUBLIQUE, local(monday + timedelta(days=day), "16:00")))
        assert not {offer.offer_id for offer in lunches} & found


@pytest.mark.parametrize(
    ("day", "clock", "name"),
    [
        (date(2027, 1, 20), "08:00", "breakfast-petrin-bavard-basket"),
        (date(2027, 1, 20), "18:00", "after-work-bouchon-malin"),
        (date(2027, 1, 20), "18:00", "after-work-canal-delivery"),
        (date(2027, 1, 19), "20:30", "dinner-nonna-farfalla-tuesday"),
        (date(2027, 1, 21), "02:15", "late-night-tintamarre"),
        (date(2027, 1, 24), "03:00", "late-night-weekend-delivery"),
        (date(2027, 1, 23), "11:00", "brunch-cafe-loupiote"),
        (date(2027, 1, 24), "09:00", "sunday-petrin-bavard"),
        (date(2027, 7, 14), "12:00", "holiday-delivery"),
        (date(2027, 11, 26), "19:59", "flash-black-friday"),
        (date(2026, 11, 25), "21:15", "flash-last-bowls"),
        (date(2028, 2, 14), "10:00", "flowers-valentine"),
    ],
)
def test_each_moment_has_its_offer(day: date, clock: str, name: str) -> None:
    """At République each moment has an offer of its own, which is gone twelve hours later."""
    at = local(day, clock)
    assert name in ids(Request(REPUBLIQUE, at))
    if name != "flowers-valentine":
        assert name not in ids(Request(REPUBLIQUE, at + timedelta(hours=12)))


@pytest.mark.parametrize(
    ("venue_id", "zone", "inside", "outside", "name"),
    [
        ("london-covent-garden", "Europe/London", "14:15", "10:45", "lunch-london-bol-pivoine"),
        ("london-shoreditch", "Europe/London", "02:15", "21:30", "london-tintamarre-late"),
        ("new-york-union-square", "America/New_York", "17:30", "11:30", "new-york-nonna-farfalla"),
        ("tokyo-shibuya", "Asia/Tokyo", "11:30", "21:30", "tokyo-kumo-no-ki"),
        ("mafe-du-barachois", "Indian/Reunion", "11:45", "15:00", "reunion-mafe-du-barachois"),
    ],
)
def test_elsewhere_goes_by_its_own_clock(venue_id: str, zone: str, inside: str, outside: str, name: str) -> None:
    """Hours far away are read on the venue's clock: the instants chosen are the other way round on that of Paris."""
    point = next((v.point.latitude, v.point.longitude) for v in paris().venues if v.venue_id == venue_id)
    offer = next(offer for offer in paris().offers if offer.offer_id == name)
    instants = [local(date(2027, 6, 16), clock, zone) for clock in (inside, outside)]
    assert [True, False] == [name in ids(Request(point, at)) for at in instants]
    on_paris_clock = [is_open(offer.availability.opening_hours, [("Europe/Paris", "FR")], at) for at in instants]
    assert [False, True] == on_paris_clock
    assert not any(name in ids(Request(REPUBLIQUE, at)) for at in instants)


def test_not_now() -> None:
    """Offers whose window is over or has not begun are not shown anywhere in 2026."""
    waiting = {offer.offer_id for offer in paris().offers if offer.offer_id.startswith(("expired-", "future-"))}
    assert 3 == len(waiting)
    for venue in paris().venues:
        for month in range(1, 13):
            at = local(date(2026, month, 15), "12:30")
            assert not waiting & ids(Request((venue.point.latitude, venue.point.longitude), at))
    assert "future-drones-2030" in ids(Request(REPUBLIQUE, local(date(2030, 1, 15), "12:30")))


def test_vouchers_are_used_later() -> None:
    """A voucher is shown before it can be redeemed, and no longer shown once it can."""
    vouchers = {offer.offer_id: (offer, found) for offer, found in reachable(REPUBLIQUE)}
    for name, sold, used in (
        ("voucher-galette-des-rois", date(2029, 12, 20), date(2030, 1, 6)),
        ("voucher-next-month", date(2026, 11, 20), date(2026, 12, 5)),
    ):
        offer, found = vouchers[name]
        assert [True, False] == [name in ids(Request(REPUBLIQUE, local(day, "12:00"))) for day in (sold, used)]
        assert [False, True] == [redeemable(offer, found, local(day, "12:00")) for day in (sold, used)]


def test_fallbacks_only_when_alone() -> None:
    """In the middle of the sea the checkout has the fallbacks of its language; in Paris it has others."""
    at = local(date(2027, 6, 16), "12:30")
    assert {"fallback-browse", "fallback-not-here-yet"} == ids(
        Request(THE_SEA, at, placement="checkout", channel="app", language="en")
    )
    assert {"fallback-prevoir", "fallback-not-here-yet"} == ids(
        Request(THE_SEA, at, placement="checkout", channel="app", language="fr")
    )
    assert not any(offer.fallback for offer in eligible(Request(REPUBLIQUE, at, placement="checkout", channel="app")))


def test_language_channel_and_currency_decide() -> None:
    """French offers, mail-only offers and offers for visitors show to those they are for."""
    at = local(date(2027, 1, 20), "18:00")
    asked = {
        language: ids(Request(REPUBLIQUE, at, placement="home_feed", channel="app", language=language, currency="EUR"))
        for language in ("en", "fr")
    }
    assert {"after-work-tomme-pouce", "books-bouquin-presse"} == asked["fr"] - asked["en"]
    assert "visitors-in-paris" in ids(Request(REPUBLIQUE, at, language="en", currency="USD"))
    assert "visitors-in-paris" not in ids(Request(REPUBLIQUE, at, language="en", currency="EUR"))
    mail = ids(Request(REPUBLIQUE, at, placement="email_digest", channel="email", language="fr"))
    assert {"bienvenue-premiere-commande-email", "refer-a-friend"} <= mail
    assert "welcome-first-order" not in mail


def test_dayparts_venue_hours_and_the_sun() -> None:
    """The raclette ends half an hour before its shop does; the picnic begins with the evening, later in June."""
    tuesday, midsummer = date(2027, 1, 5), date(2027, 6, 22)
    shown = {
        clock: "after-work-tomme-pouce-raclette" in ids(Request(REPUBLIQUE, local(tuesday, clock)))
        for clock in ("12:00", "14:59", "15:30", "16:00", "17:29", "17:30", "19:29", "19:30")
    }
    assert [False, False, False, True, True, True, True, False] == list(shown.values())
    for day, begins in ((midsummer, "19:58"), (date(2027, 4, 1), "18:21")):
        picnic = [
            "after-work-canal-sunset-picnic" in ids(Request(REPUBLIQUE, local(day, begins) + timedelta(minutes=more)))
            for more in (-5, 5, 100)
        ]
        assert [False, True, True] == picnic
    assert "after-work-canal-sunset-picnic" not in ids(Request(REPUBLIQUE, local(tuesday, "16:30")))


@dataclass(frozen=True)
class Moment:
    """A time of day, and the offers expected then by the beginning of their ids."""

    clock: str
    expected: str
    at_least: int


LUNCH = Moment("12:15", "lunch-", 3)
BRUNCH = Moment("11:30", "brunch-", 2)
DINNER = Moment("20:00", "dinner-", 2)
NIGHT = Moment("00:30", "late-night-", 2)
HOLIDAY_BRUNCH = Moment("11:30", "brunch-cafe-loupiote", 1)
HOLIDAY_DELIVERY = Moment("12:15", "holiday-delivery", 1)


def next_ten_years() -> Iterator[tuple[date, list[Moment]]]:
    """Yield every eleventh day and every public holiday of the next ten years, with the moments to ask about.

    Weekday lunch offers pause on public holidays: the demo then shows brunch and free delivery.
    """
    today = datetime.now(ZoneInfo("Europe/Paris")).date()
    off = holidays.country_holidays("FR", years=range(today.year, today.year + 11))
    end = today + timedelta(days=3653)
    for day in sorted({today + timedelta(days=step) for step in range(0, 3653, 11)} | set(off)):
        if not today <= day < end:
            continue
        noon = [BRUNCH] if day.weekday() >= 5 else [LUNCH]
        yield day, [NIGHT, DINNER, *([HOLIDAY_BRUNCH, HOLIDAY_DELIVERY] if day in off else noon)]


def test_every_day_of_ten_years_has_ranked_offers() -> None:
    """From today on, the feed at République ranks offers of each moment among its first ten."""
    lacking = []
    with serving() as served, OffersClient(served.target) as client:
        for day, moments in next_ten_years():
            for moment in moments:
                where = context(lat=REPUBLIQUE[0], lng=REPUBLIQUE[1], at=local(day, moment.clock))
                found = client.get_offers(GetOffersRequest(context=where, placement="home_feed", max_offers=30)).offers
                ranks = [offer.rank for offer in found if offer.offer_id.startswith(moment.expected)]
                if len(ranks) < moment.at_least or ranks[0] > 10 or len(found) < 5:
                    lacking.append((day.isoformat(), moment, [offer.offer_id for offer in found]))

    assert [] == lacking
