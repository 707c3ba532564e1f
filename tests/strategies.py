"""Random catalogues that cover the edge cases of the schema, and requests that cover the edge cases of a catalogue.

Hypothesis chooses the seed and the size, and `random` everything else: thousands of draws per catalogue would make
hypothesis the slowest part. An offer depends only on the seed and its own number, so that a failure shrinks to few
offers.
"""

import json
import math
from collections.abc import Sequence
from random import Random

from geopy.distance import geodesic
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.interval_pb2 import Interval
from google.type.latlng_pb2 import LatLng
from google.type.money_pb2 import Money
from hypothesis import strategies as st

from offers.catalogue.geo.areas import Area
from offers.catalogue.geo.geojson import AreaError, parse
from offers.decision.reference.places import places_of
from offers.v1.catalog_pb2 import Catalog, Daypart, Placement
from offers.v1.context_pb2 import Context, Location
from offers.v1.offer_pb2 import (
    TIME_ZONE_BASIS_FIXED,
    TIME_ZONE_BASIS_UNSPECIFIED,
    TIME_ZONE_BASIS_USER,
    TIME_ZONE_BASIS_VENUE,
    Availability,
    Benefit,
    MissingLocation,
    Offer,
    ReachableBeforeEnd,
    Redemption,
    Target,
)
from offers.v1.offer_service_pb2 import VIEW_FULL, GetOffersRequest
from offers.v1.ranking_pb2 import Decay, FactorWeights, RankingStrategy
from offers.v1.venue_pb2 import Circle, TravelMode, Venue, Zone

ANCHORS = (
    (48.8566, 2.3522),
    (0.0, 0.0),
    (0.0, 180.0),
    (0.0, -180.0),
    (-16.5, 179.999),
    (90.0, 0.0),
    (89.9995, -120.0),
    (-90.0, 77.0),
    (-89.2, 180.0),
    (65.7, -168.9),
)
"""Positions around which places are put, so that they overlap: a city, the poles, the equator, the antimeridian."""
RADII = (1.0, 30.0, 247.5, 250.0, 800.0, 2_500.0, 20_000.0, 150_000.0, 999_999.0, 1_000_000.0)
"""Radii in metres from the smallest to the largest, over several levels of the grid."""
ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Monrovia", "Asia/Kathmandu", "Pacific/Apia")
COUNTRIES = ("FR", "US", "JP")
INSTANTS = (
    0,  # the first instant
    63_593_070,  # Monrovia gives up its seconds, 1972-01-07T00:44:30Z
    1_325_239_200,  # Samoa skips a day, 2011-12-30T10:00Z
    1_774_746_000,  # Paris goes forward, 2026-03-29T01:00Z
    1_792_890_000,  # Paris goes back, 2026-10-25T01:00Z
    1_775_314_800,  # Lord Howe goes back by half an hour, 2026-04-04T15:00Z
    1_781_524_800,  # an ordinary Monday, 2026-06-15T12:00Z
    4_102_444_799,  # the last instant
)
STEPS = (-604_800, -90_000, -7_200, -3_601, -3_600, -1, 0, 1, 59, 60, 1_799, 3_600, 5_400, 43_200, 86_400, 2_592_000)
LAST = 4_102_444_799
VENUE_IDS, ZONE_IDS, CUT_IDS = ("v1", "v2", "v3", "v4", "v5"), ("z1", "z2"), ("c1", "c2")
DAYPART_IDS = ("d1", "d2", "d3")
"""The last one may name the sun."""
WRITTEN_HOURS = (
    "24/7",
    "off",
    "Mo-Fr 09:00-17:00; PH off",
    "PH 10:00-12:00",
    "Mo-Su 10:00-20:00; Mar 29 off",
    "Mo[1] 10:00-12:00",
    "week 01-53/2 Mo-Fr 08:00-12:00",
    "2026 Mar 29 00:00-24:00",
    "Jan 01 00:00-24:00",
    "Feb 29",
    '00:00-24:00; Mo 10:00-11:00 off "cleaning"',
    "Sa-Mo 18:00-06:00",
    "Mo-Su 00:00-12:00,12:00-24:00",
    "Fr,Sa 11:00-02:00; Su 12:00-22:00",
    "Mo-Su 18:00-03:00; PH off",
    'Mo-Fr 20:00-04:00; We "by appointment" || Th 10:00-12:00',
)
"""Hours of other forms than the random weekly ones: all week, never, holidays, dates, the nth weekday, comments,
nights."""
SUNNY_HOURS = (
    "sunrise-sunset",
    "Mo-Fr 09:00-12:00,17:00-sunset",
    "(sunset-01:30)-02:00",
    "sunset-sunrise",
    "22:00-(sunrise+00:30); Su off",
    "dawn-dusk; PH off",
)
"""Hours that name the sun, for offers with places."""


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


class Maker:
    """Makes the parts of one catalogue, and requests for it, around the same few positions and instants."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.anchors = self.random.sample(ANCHORS, 2)
        self.instants = self.random.sample(INSTANTS, 2)

    def some(self, names: Sequence[str]) -> list[str]:
        """Return none of some names (most often), one or two."""
        return self.random.sample(names, self.random.choice([0, 0, 0, 1, 2]))

    def chance(self, share: float) -> bool:
        """Return true in a share of cases."""
        return self.random.random() < share

    def weekly_hours(self) -> str:
        """Return weekly rules, whose spans may touch, overlap, and end after midnight."""
        pick, rules = self.random.choice, []
        for _ in range(pick([1, 1, 2, 3])):
            days = pick(["", "", "Mo-Fr ", "Sa,Su ", "We ", "Fr-Mo ", "Su "])
            spans = []
            for _ in range(pick([1, 1, 2])):
                start = pick([0, 1, 120, 150, 600, 720, 1_320, 1_439])
                end = start + pick([1, 59, 60, 120, 480, 720, 1_440])
                spans.append(f"{_clock(start)}-{_clock(end if start else min(end, 24 * 60))}")
            rules.append(days + (",".join(spans) if self.chance(0.85) else "off"))
        return "; ".join(rules)

    def hours(self) -> str:
        """Return no limit, weekly rules, or rules of another form."""
        kind = self.random.random()
        return "" if kind < 0.5 else self.weekly_hours() if kind < 0.8 else self.random.choice(WRITTEN_HOURS)

    def hours_of_place(self, share: float = 0.15) -> str:
        """Return hours that, in a share of cases, name the sun."""
        return self.random.choice(SUNNY_HOURS) if self.chance(share) else self.hours()

    def daypart(self, identity: str) -> Daypart:
        """Return a daypart; the last one usually names the sun."""
        sunny = identity == DAYPART_IDS[-1] and self.chance(0.6)
        hours = self.random.choice(SUNNY_HOURS) if sunny else self.hours() or self.weekly_hours()
        return Daypart(daypart_id=identity, opening_hours=hours)

    def margin(self) -> Duration | None:
        """Return a closing margin, which need not be whole minutes, or None."""
        seconds = self.random.choice([None, 0, 1, 90, 1_800, 3_600, 7_200, 86_400])
        return None if seconds is None else Duration(seconds=seconds)

    def instant(self) -> int:
        """Return an instant from 1970 to 2100, at or near a moment at which something changes."""
        second = self.random.choice(self.instants) + self.random.choice(STEPS)
        return min(max(second, 0), LAST)

    def point(self) -> LatLng:
        """Return a position at or near an anchor, at odd fractions so that few distances are equal."""
        latitude, longitude = self.random.choice(self.anchors)
        away = self.random.choice([0.0, 0.000_013_7, 0.002_917, 0.002_917, 0.031_37, 0.717_1, 4.313_9])
        latitude = min(max(latitude + away * self.random.uniform(-1, 1), -90.0), 90.0)
        longitude += away * self.random.uniform(-1, 1)
        return LatLng(latitude=latitude, longitude=longitude - 360 * round(longitude / 360))

    def window(self) -> Interval:
        """Return a window with both ends, or with one left open."""
        start = self.instant()
        length = self.random.choice([1, 60, 3_600, 90_000, 2_592_000, 2_592_000])
        end = min(start + length, LAST + 1)
        window = Interval(start_time=Timestamp(seconds=start), end_time=Timestamp(seconds=end))
        if self.chance(0.25):
            window.ClearField("start_time")
        elif self.chance(0.3):
            window.ClearField("end_time")
        return window

    def decay(self) -> Decay:
        """Return a decay with a scale of at least 100, so that rounding a distance does not change the score."""
        pick = self.random.choice
        decay = Decay(
            shape=pick(Decay.Shape.values()), scale=pick([100, 1e3, 7_200, 1e12]), offset=pick([0.0, 500.0, 1e6])
        )
        if self.chance(0.5):
            decay.decay = pick([0.01, 0.5, 0.999])
        if self.chance(0.5):
            decay.minimum = pick([1e-9, 0.25, 1.0])
        decay.origin = pick([0.0, 0.0, 300.0])
        return decay

    def ranking_strategy(self, identity: str) -> RankingStrategy:
        """Return a strategy with any part left out, and weights down to 0."""
        pick = self.random.choice
        strategy = RankingStrategy(ranking_strategy_id=identity)
        if self.chance(0.6):
            strategy.nearness.CopyFrom(self.decay())
        if self.chance(0.6):
            strategy.timeliness.CopyFrom(self.decay())
        if self.chance(0.5):
            strategy.nearness_without_distance = pick([0.01, 0.5, 1.0])
        if self.chance(0.6):
            weights = [0.0, 0.5, 1.0, 2.0]
            strategy.weights.CopyFrom(
                FactorWeights(nearness=pick(weights), timeliness=pick(weights), value=pick(weights))
            )
            strategy.weights.location, strategy.weights.reachability = pick(weights), pick(weights)
            strategy.weights.behaviour = pick(weights)
        for name in ("missing_location", "unreachable", "outside_daypart"):
            if self.chance(0.3):
                setattr(strategy, name, pick([0.01, 0.7, 1.0]))
        return strategy

    def circle(self) -> Circle:
        """Return a circle of any size."""
        return Circle(center=self.point(), radius_m=self.random.choice(RADII))

    def area(self) -> str:
        """Return GeoJSON of a star around a point, perhaps with a hole, or of a box if the star would cross a pole."""
        middle, pick = self.point(), self.random.choice
        size, corners = pick([0.000_05, 0.003, 0.003, 0.05, 2.0]), self.random.randint(3, 9)
        stretch = 1 / max(math.cos(math.radians(middle.latitude)), 0.01)

        def ring(share: float) -> list[list[float]]:
            positions = []
            for corner in range(corners):
                angle, away = 2 * math.pi * corner / corners, size * share * self.random.uniform(0.5, 1.0)
                longitude = middle.longitude + away * stretch * math.sin(angle)
                latitude = min(max(middle.latitude + away * math.cos(angle), -90.0), 90.0)
                positions.append([longitude - 360 * round(longitude / 360), latitude])
            return [*positions, positions[0]]

        rings = [ring(1.0)] + ([ring(0.2)] if self.chance(0.3) else [])
        text = json.dumps({"type": "Polygon", "coordinates": rings})
        try:
            parse(text)
        except AreaError:
            west, south = self.random.uniform(-180, 160), pick([-90.0, 60.0, 85.0])
            box = [[west, south], [west + 20, south], [west + 20, south + 5], [west, south + 5], [west, south]]
            return json.dumps({"type": "Polygon", "coordinates": [box]})
        return text

    def places(self, target: Target) -> None:
        """Add the fields to a target that few targets have."""
        pick = self.random.choice
        if self.chance(0.1):
            target.venue_selectors.add().labels.update(
                pick([{"cuisine": "ramen; pizza"}, {"cuisine": "bar", "a": "b"}])
            )
        if self.chance(0.2):
            target.areas.append(self.area())
        if self.chance(0.15):
            target.excluded_zone_ids.append(pick(CUT_IDS))
        if self.chance(0.15):
            target.min_inside_probability = pick([0.01, 0.3, 0.5, 0.9, 0.99])
        target.missing_location = pick([*MissingLocation.values(), *[MissingLocation.MISSING_LOCATION_DENY] * 3])

    def whereabouts(self, location: Location, time: int) -> None:
        """Give a location an accuracy and an age, as phones do."""
        pick = self.random.choice
        if self.chance(0.5):
            location.accuracy_m = pick([0.0, 1.0, 15.0, 15.0, 300.0, 20_000.0])
        if self.chance(0.3):
            location.observed_time.seconds = min(max(time - pick([-5, 0, 1, 60, 900]), 0), LAST)
            location.movement = pick(TravelMode.values())

    def venue(self, identity: str) -> Venue:
        """Return a venue, perhaps with a time zone and country of its own."""
        zone, country = self.random.choice(["", "", "", *ZONES]), self.random.choice(["", *COUNTRIES])
        reach = self.random.choice(RADII)
        venue = Venue(venue_id=identity, point=self.point(), radius_m=reach, time_zone=zone, country_code=country)
        if self.chance(0.5):
            venue.labels["cuisine"] = self.random.choice(["ramen", "pizza;bar", "bar ; ramen"])
            venue.labels["a"] = self.random.choice(["b", "c"])
        if identity == VENUE_IDS[0]:  # found by every selector of `places`
            venue.labels.update({"cuisine": "bar ; ramen", "a": "b"})
        if self.chance(0.5) or identity == VENUE_IDS[0]:
            venue.travel.mode = self.random.choice(TravelMode.values()[1:])
            venue.travel.delay.seconds = self.random.choice([0, 600])
            if self.chance(0.3):
                venue.travel.speed_kmh = self.random.choice([0.1, 3.0, 300.0])
        venue.opening_hours = self.hours_of_place() or ("Mo-Su 08:00-22:00" if identity == VENUE_IDS[0] else "")
        return venue

    def zone(self, identity: str) -> Zone:
        """Return a zone of circles and areas, perhaps with other zones in it or excluded from it."""
        circles = [self.circle() for _ in range(self.random.randint(1, 3))]
        zone, country = self.random.choice(["", *ZONES]), self.random.choice(["", *COUNTRIES])
        made = Zone(zone_id=identity, circles=circles, time_zone=zone, country_code=country)
        made.areas.extend(self.area() for _ in range(self.random.choice([0, 0, 1, 2])))
        if identity not in CUT_IDS:
            made.excluded_zone_ids.extend(self.some(CUT_IDS))
            made.zone_ids.extend(self.some(CUT_IDS))
        return made

    def target(self) -> Target:
        """Return a target: everywhere, a venue, a chain, circles, zones, or a mixture."""
        kind = self.random.choice(["everywhere", "venue", "chain", "circles", "zones", "mixed"])
        target = Target(everywhere=kind == "everywhere")
        if kind in {"venue", "chain", "mixed"}:
            target.venue_ids.extend(self.random.sample(VENUE_IDS, 1 if kind == "venue" else self.random.randint(2, 4)))
            if self.chance(0.5):
                target.radius_m = self.random.choice(RADII)
        if kind in {"circles", "mixed"}:
            target.circles.extend(self.circle() for _ in range(self.random.randint(1, 2)))
        if kind in {"zones", "mixed"}:
            target.zone_ids.extend(self.random.sample(ZONE_IDS, self.random.randint(1, 2)))
        if kind != "everywhere":
            self.places(target)
        elif self.chance(0.2):
            target.excluded_zone_ids.extend(CUT_IDS)
            target.missing_location = self.random.choice(MissingLocation.values())
        return target

    def usual_catalog(self, size: int) -> Catalog:
        """Return a catalogue in which most offers have one place, at most one window, and few other fields."""
        catalog = self.catalog(size)
        for offer in catalog.offers:
            if self.chance(0.2):
                continue
            offer.fallback = False
            offer.ClearField("preferred_daypart_ids")
            offer.availability.ClearField("reachable_before_end")
            del offer.availability.windows[1:]
            offer.availability.only_when_open = False
            offer.availability.ClearField("closing_margin")
            at_venue = self.chance(0.7)
            offer.target.CopyFrom(
                Target(venue_ids=[self.random.choice(VENUE_IDS)]) if at_venue else Target(circles=[self.circle()])
            )
        return catalog

    def offer(self, number: int) -> Offer:
        """Return an offer with any part left out, the same for the same number."""
        self.random.seed(f"{self.seed} {number}")
        pick = self.random.choice
        offer = Offer(offer_id=f"o{number * 7919 % 1009}", title=f"offer {number}", target=self.target())
        euros = Money(currency_code="EUR", units=5)
        kinds = [Benefit(percent_off=20), Benefit(amount_off=euros), Benefit(custom="a", minimum_order=euros)]
        offer.benefit.CopyFrom(pick(kinds))
        windows = [self.window() for _ in range(pick([0, 0, 1, 2, 3]))]
        everywhere = offer.target.everywhere
        hours = self.hours() if everywhere else self.hours_of_place()
        offer.availability.CopyFrom(Availability(windows=windows, opening_hours=hours))
        dayparts = DAYPART_IDS[:-1] if everywhere else DAYPART_IDS
        offer.availability.daypart_ids.extend(self.some(dayparts))
        offer.preferred_daypart_ids.extend(self.some(dayparts))
        if VENUE_IDS[0] in offer.target.venue_ids and self.chance(0.6):
            offer.availability.only_when_open = True
            offer.availability.closing_margin.MergeFrom(self.margin() or Duration())
        if self.chance(0.3):
            offer.redemption.CopyFrom(Redemption(opening_hours=self.hours(), required_when_shown=self.chance(0.5)))
            if self.chance(0.5):
                offer.redemption.window.CopyFrom(self.window())
        self._clock_of(offer)
        self._terms_of(offer)
        return offer

    def _clock_of(self, offer: Offer) -> None:
        """Set the clock and the country of an offer's hours."""
        pick = self.random.choice
        # If several places are equally near, it is not defined whose clock decides whether the benefit may be used:
        # such offers get one clock for all places.
        several = offer.redemption.opening_hours and not offer.target.everywhere
        basis = pick(
            [TIME_ZONE_BASIS_UNSPECIFIED, TIME_ZONE_BASIS_FIXED]
            + (not several) * [TIME_ZONE_BASIS_UNSPECIFIED, TIME_ZONE_BASIS_VENUE, TIME_ZONE_BASIS_USER]
        )
        offer.availability.time_zone_basis = basis
        if basis in {TIME_ZONE_BASIS_UNSPECIFIED, TIME_ZONE_BASIS_FIXED}:
            free = basis == TIME_ZONE_BASIS_UNSPECIFIED and not several
            offer.availability.time_zone = pick(("", "", *ZONES) if free else ZONES)
        offer.availability.country_code = pick(COUNTRIES if several else ("", *COUNTRIES))

    def _terms_of(self, offer: Offer) -> None:
        """Set where an offer may appear, its values and its names."""
        pick = self.random.choice
        offer.placement_ids.extend(self.some(["home", "map"]))
        offer.language_codes.extend(self.some(["fr", "fr-CA", "en", "pt-BR"]))
        offer.currency_codes.extend(self.some(["EUR", "USD"]))
        offer.channels.extend(self.some(["app", "web"]))
        if self.chance(0.5):
            offer.value = pick([0.01, 0.5, 1.0])
        if self.chance(0.3):
            offer.lever = pick([0.25, 0.5, 1.0])
        offer.fallback = self.chance(0.15)
        if VENUE_IDS[0] in offer.target.venue_ids:
            offer.availability.reachable_before_end = pick(ReachableBeforeEnd.values())
        offer.brand, offer.category = pick(["", "", "one", "two"]), pick(["", "", "one", "two"])
        offer.exclusion_group = pick(["", "", "", "one", "two"])

    def catalog(self, size: int) -> Catalog:
        """Return a catalogue of `size` offers."""
        catalog = Catalog(catalog_id="random", country_code="FR", time_zone=self.random.choice(["", *ZONES]))
        catalog.venues.extend(map(self.venue, VENUE_IDS))
        catalog.zones.extend(map(self.zone, (*ZONE_IDS, *CUT_IDS)))
        catalog.dayparts.extend(map(self.daypart, DAYPART_IDS))
        catalog.ranking_strategies.extend(map(self.ranking_strategy, ("first", "second")))
        catalog.default_ranking_strategy_id = self.random.choice(["", "first"])
        home = Placement(placement_id="home", channel="app", ranking_strategy_id="first")
        if self.chance(0.5):
            home.max_offers = self.random.randint(1, 5)
        for name in ("max_per_venue", "max_per_brand", "max_per_category"):
            if self.chance(0.3):
                setattr(home, name, self.random.randint(1, 2))
        catalog.placements.extend([home, Placement(placement_id="map", ranking_strategy_id="second")])
        catalog.offers.extend(map(self.offer, range(size)))
        return catalog

    def location(self, around: Sequence[Circle]) -> LatLng | None:
        """Return no position, or one at a centre, inside, just inside or outside the edge of a circle, or elsewhere."""
        if self.chance(0.1):
            return None
        if not around or self.chance(0.1):
            return self.point()
        circle = self.random.choice(around)
        share = self.random.choice([0.0, 0.2, 0.4, 0.7, 0.999, 0.999_99, 1.000_01, 1.001, 1.7])
        return beyond(circle.center, self.random.uniform(0, 360), share * circle.radius_m)

    def request(self, catalog: Catalog) -> GetOffersRequest:
        """Return a request with a time, in the FULL view."""
        pick = self.random.choice
        context = Context(time=Timestamp(seconds=self.instant()), time_zone=pick(["", *ZONES]))
        location = self.location(reaches(catalog))
        if location is not None:
            context.location.CopyFrom(Location(point=location))
            self.whereabouts(context.location, context.time.seconds)
        context.language_code = pick(["", "", "", "fr", "FR-ca-x-abc", "de"])
        context.currency_code = pick(["", "", "", "EUR", "JPY"])
        placement = pick(["", "", "home", "map"])
        context.channel = pick(["", "", "app"] if placement == "home" else ["", "", "app", "web"])
        request = GetOffersRequest(context=context, placement=placement, view=VIEW_FULL, request_id="the same")
        request.max_offers = pick([1, 3, 100, 100])
        if self.chance(0.5):
            request.seed = pick([0, 1, 2**63, 2**64 - 1])
        return request


def reaches(catalog: Catalog) -> list[Circle]:
    """Return every circle within which an offer may be shown."""
    return [circle for offer in catalog.offers for circle in reaches_of(catalog, offer)]


def reaches_of(catalog: Catalog, offer: Offer) -> list[Circle]:
    """Return every circle in which an offer is shown or excluded, and for areas a circle around a position inside."""
    found = []
    for place in places_of(catalog, offer):
        for piece in (place.piece, *place.cuts):
            if isinstance(piece, Area):
                found.append(Circle(center=LatLng(latitude=piece.latitude, longitude=piece.longitude), radius_m=1000))
            elif piece is not None:
                found.append(piece)
    return found


def beyond(point: LatLng, bearing: float, metres: float) -> LatLng:
    """Return the point `metres` along the ground from another, in a direction in degrees from north."""
    end = geodesic(meters=metres).destination((point.latitude, point.longitude), bearing)
    longitude = end.longitude - 360 * round(end.longitude / 360)
    return LatLng(latitude=min(max(end.latitude, -90.0), 90.0), longitude=longitude)


makers = st.builds(Maker, st.integers(0, 2**32 - 1))
"""Makers with any seed."""
sizes = st.integers(1, 40)
"""Numbers of offers in a catalogue."""
