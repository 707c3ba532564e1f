"""Promises of an answer: its offers end when it says, ties are fair, and nothing changes before it says so."""

import threading
from collections.abc import Sequence
from itertools import permutations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.latlng_pb2 import LatLng
from hypothesis import given, settings

from offers.errors import InvalidRequestError
from offers.server.offer_service import OfferService
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import MISSING_LOCATION_ALLOW, Benefit, Offer, ReachableBeforeEnd, Target
from offers.v1.offer_service_pb2 import FACTOR_NAME_TIMELINESS, VIEW_FULL, GetOffersRequest, GetOffersResponse
from offers.v1.venue_pb2 import Circle, TravelMode
from tests import strategies
from tests.decision.kernels.test_kernels_equal_reference import service_of

NOON = 1_781_524_800
"""2026-06-15T12:00Z, a Monday."""
HERE = LatLng(latitude=50, longitude=1)


def ask(service: OfferService, request: GetOffersRequest) -> GetOffersResponse:
    """Ask for one answer."""
    return GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))


def at(point: LatLng | None = HERE, time: int = NOON) -> GetOffersRequest:
    """Return a request for as many offers as there can be, somewhere at some time."""
    request = GetOffersRequest(max_offers=100)
    if point is not None:
        request.context.location.point.CopyFrom(point)
    request.context.time.CopyFrom(Timestamp(seconds=time))
    return request


def offer(identity: str, *, fallback: bool = False) -> Offer:
    """Return an offer shown everywhere."""
    benefit = Benefit(custom="a")
    return Offer(offer_id=identity, title="a", benefit=benefit, target=Target(everywhere=True), fallback=fallback)


def two_clocks(venue_ids: Sequence[str]) -> Catalog:
    """Return a catalogue of one offer until 18:00 in two venues at the same place, whose clocks differ by an hour."""
    catalog = Catalog(catalog_id="one")
    for name, zone in (("ahead", "Europe/Paris"), ("behind", "Europe/London")):
        catalog.venues.add(venue_id=name, radius_m=1000, time_zone=zone, point=HERE)
    one = catalog.offers.add(offer_id="a", title="a", benefit=Benefit(custom="a"), target=Target(venue_ids=venue_ids))
    one.availability.opening_hours = "Mo 10:00-18:00"
    return catalog


@settings(max_examples=40)
@given(strategies.makers, strategies.sizes)
def test_nothing_changes_before_the_answer_says_so(maker: strategies.Maker, size: int) -> None:
    """Within refresh_distance_m and before refresh_after the same offers qualify, also as the location ages."""
    catalog = maker.catalog(size) if maker.chance(0.5) else maker.usual_catalog(size)
    for one in catalog.offers:
        one.exclusion_group = ""  # of which an answer would hold but one
    choose = maker.random
    with service_of(catalog) as service:
        for _ in range(15):
            request = maker.request(catalog)
            request.max_offers, request.placement = 100, ""
            answer = ask(service, request)
            assert answer.eligible_count == len(answer.offers)
            wanted = {one.offer_id for one in answer.offers}
            here, now = LatLng(), request.context.time.seconds
            here.CopyFrom(request.context.location.point)
            end = answer.refresh_after.seconds
            assert now < end <= now + 86_400
            for _ in range(6):
                later = choose.choice([now, end - 1, choose.randrange(now, end)])
                request.context.time.seconds = min(later, strategies.LAST)
                if request.context.HasField("location"):
                    reach = answer.refresh_distance_m if answer.HasField("refresh_distance_m") else 2e7
                    metres = max(choose.choice([0.0, 0.5, 0.99, 0.999_999]) * reach - 1e-6, 0.0)
                    there = strategies.beyond(here, choose.uniform(0, 360), metres)
                    request.context.location.point.CopyFrom(there)
                assert wanted == {one.offer_id for one in ask(service, request).offers}


def test_refresh_distance_is_not_timid() -> None:
    """Well inside a lone circle the distance reaches its edge, and outside no farther than to it."""
    catalog = Catalog(catalog_id="one", offers=[offer("a")])
    catalog.offers[0].target.CopyFrom(Target(circles=[Circle(center=HERE, radius_m=1000)]))
    with service_of(catalog) as service:
        assert ask(service, at()).refresh_distance_m == pytest.approx(1000, abs=0.1)
        outside = strategies.beyond(HERE, 45, 1300)
        assert ask(service, at(outside)).refresh_distance_m == pytest.approx(300, abs=0.5)
        far = strategies.beyond(HERE, 45, 1_000_000)
        assert 200 <= ask(service, at(far)).refresh_distance_m <= 999_000


def test_old_location_near_an_edge_holds_for_a_while() -> None:
    """Where a person is likely inside a circle but not for certain, an ageing location promises metres and seconds."""
    catalog = Catalog(catalog_id="one", offers=[offer("a")])
    catalog.offers[0].target.CopyFrom(Target(circles=[Circle(center=HERE, radius_m=1000)]))
    request = at(strategies.beyond(HERE, 45, 940))  # some 0.8 within, with 65 metres of standard deviation
    request.context.location.accuracy_m, request.context.location.observed_time.seconds = 15, NOON - 60
    with service_of(catalog) as service:
        answer = ask(service, request)
    assert 20 < answer.refresh_distance_m < 40
    assert 10 < answer.refresh_after.seconds - NOON < 25


@pytest.mark.parametrize("bearing", [0, 180])
def test_promise_of_what_can_be_reached_holds_far_away(bearing: int) -> None:
    """Moved as far as promised, the person still cannot be there in time, also hundreds of kilometres away."""
    pole = LatLng(latitude=-84, longitude=1)
    catalog = Catalog(catalog_id="one", offers=[offer("a")])
    venue = catalog.venues.add(venue_id="v", point=pole, radius_m=1_000_000)
    venue.travel.mode, venue.travel.speed_kmh = TravelMode.TRAVEL_MODE_DRIVING, 300
    one = catalog.offers[0]
    one.target.CopyFrom(Target(venue_ids=["v"]))
    one.availability.reachable_before_end = ReachableBeforeEnd.REACHABLE_BEFORE_END_DROP
    one.availability.windows.add().end_time.seconds = NOON + 13_600  # to go some 872 km
    here = strategies.beyond(pole, bearing, 933_000)
    with service_of(catalog) as service:
        asked = ask(service, at(here))
        metres = asked.refresh_distance_m
        moved = ask(service, at(strategies.beyond(pole, bearing, 933_000 - metres + 0.01)))
        farther = ask(service, at(strategies.beyond(pole, bearing, 933_000 - metres - 100)))
    assert [0, 0, 1] == [asked.eligible_count, moved.eligible_count, farther.eligible_count]


def test_refresh_distance_is_absent_where_place_does_not_matter() -> None:
    """An answer that does not depend on the location leaves the distance out."""
    with service_of(Catalog(catalog_id="one", offers=[offer("a")])) as service:
        assert not ask(service, at()).HasField("refresh_distance_m")
        assert not ask(service, at(None)).HasField("refresh_distance_m")


@pytest.mark.parametrize("venue_ids", [["ahead", "behind"], ["behind", "ahead"]])
def test_of_equally_near_venues_the_one_that_ends_last_counts(venue_ids: list[str]) -> None:
    """Two venues at one place: the offer ends when the later of them closes, whatever their order."""
    with service_of(two_clocks(venue_ids)) as service:
        (got,) = ask(service, at()).offers
    assert ("behind", NOON + 5 * 3600) == (got.venue_id, got.valid_until.seconds)


def test_offer_without_end_has_the_least_timeliness() -> None:
    """Timeliness is at its minimum for an offer without an end, however long the scale."""
    catalog = Catalog(catalog_id="one", default_ranking_strategy_id="s", offers=[offer("a")])
    strategy = catalog.ranking_strategies.add(ranking_strategy_id="s")
    strategy.timeliness.scale, strategy.timeliness.minimum = 1e12, 0.125
    request = at()
    request.view = VIEW_FULL
    with service_of(catalog) as service:
        (got,) = ask(service, request).offers
    assert [pytest.approx(0.125)] == [factor.value for factor in got.factors if factor.name == FACTOR_NAME_TIMELINESS]


def test_fallbacks_step_in_only_when_nothing_else_qualifies() -> None:
    """A fallback is neither shown nor counted beside another offer, and shown the moment that one ends."""
    catalog = Catalog(catalog_id="one", offers=[offer("proper"), offer("spare", fallback=True)])
    catalog.offers[0].availability.windows.add().end_time.seconds = NOON
    with service_of(catalog) as service:
        before, after = ask(service, at(time=NOON - 1)), ask(service, at(time=NOON))
    assert (["proper"], 1, NOON) == (
        [one.offer_id for one in before.offers], before.eligible_count, before.refresh_after.seconds,
    )  # fmt: skip
    assert (["spare"], 1) == ([one.offer_id for one in after.offers], after.eligible_count)


def test_equal_scores_are_ordered_by_id_or_take_turns_with_the_seed() -> None:
    """Without a seed the id decides; with seeds every offer comes first about equally often."""
    names = ["a", "b", "c", "d"]
    catalog = Catalog(catalog_id="one", offers=[offer(name) for name in ("c", "a", "d", "b")])
    firsts = dict.fromkeys(names, 0)
    request = at()
    with service_of(catalog) as service:
        assert names == [one.offer_id for one in ask(service, request).offers]
        for seed in range(400):
            request.seed = seed
            firsts[ask(service, request).offers[0].offer_id] += 1
    assert all(70 <= count <= 130 for count in firsts.values())


@pytest.mark.parametrize("venue_ids", list(permutations(("north", "south", "east"))))
def test_the_venue_named_first_stands_for_those_that_are_as_good(venue_ids: tuple[str, ...]) -> None:
    """Without a location all venues of a chain are equally near: the answer names the first of its target."""
    catalog = Catalog(catalog_id="one")
    for name, latitude, longitude in (("north", 60, 10), ("south", -30, 20), ("east", 10, 140)):
        point = LatLng(latitude=latitude, longitude=longitude)
        catalog.venues.add(venue_id=name, radius_m=1000, time_zone="UTC", point=point)
    target = Target(venue_ids=venue_ids, missing_location=MISSING_LOCATION_ALLOW)
    catalog.offers.add(offer_id="a", title="a", benefit=Benefit(custom="a"), target=target)
    with service_of(catalog) as service:
        assert [venue_ids[0]] == [one.venue_id for one in ask(service, at(None)).offers]


def test_room_grows_with_the_candidates() -> None:
    """More places within reach than a thread has room for at first are all looked at."""
    catalog = Catalog(catalog_id="one", offers=[offer("a")])
    places = [Circle(center=LatLng(latitude=50, longitude=1 + number / 1e6), radius_m=5000) for number in range(20_000)]
    catalog.offers[0].target.CopyFrom(Target(circles=reversed(places)))
    with service_of(catalog) as service:
        (got,) = ask(service, at()).offers
    assert got.distance_m == pytest.approx(0, abs=1e-6)


def test_room_grows_with_the_offers_of_a_place() -> None:
    """More offers at one place than a thread has room for at first all count, and the best are returned."""
    catalog = Catalog(catalog_id="one")
    catalog.venues.add(venue_id="a", radius_m=1000, point=HERE, time_zone="Europe/Paris")
    for number in range(17_000):
        one = catalog.offers.add(offer_id=f"{number:05d}", title="a", benefit=Benefit(custom="a"), value=0.5)
        one.target.venue_ids.append("a")
    catalog.offers[16_999].value = 1.0
    with service_of(catalog) as service:
        answer = ask(service, at())
    assert 17_000 == answer.eligible_count
    assert ["16999", *(f"{number:05d}" for number in range(99))] == [one.offer_id for one in answer.offers]


def test_others_take_the_place_of_those_an_exclusion_group_keeps_out() -> None:
    """However many of the best are in one group, one of them is returned and then the best of all others."""
    catalog = Catalog(catalog_id="one", offers=[offer("everywhere")])
    catalog.offers[0].value = 0.305
    catalog.venues.add(venue_id="a", radius_m=1000, point=HERE, time_zone="Europe/Paris")
    for number in range(60):
        one = catalog.offers.add(offer_id=f"{number:02d}", title="a", benefit=Benefit(custom="a"))
        one.value, one.exclusion_group = 1 - number / 100, "best" if number < 40 else ""
        one.target.venue_ids.append("a")
    with service_of(catalog) as service:
        answer = ask(service, at())
    ranked = [one.offer_id for one in answer.offers if one.offer_id != "everywhere"]
    assert ["00", *(f"{number:02d}" for number in range(40, 60))] == ranked
    scores = [one.score for one in answer.offers]
    assert sorted(scores, reverse=True) == scores
    assert (61, 22) == (answer.eligible_count, len(scores))


def test_threads_do_not_disturb_each_other() -> None:
    """Four threads that ask at once get the answers of one alone, holidays and other looked-up hours included."""
    maker = strategies.Maker(4)
    catalog = maker.catalog(40)
    requests = [maker.request(catalog).SerializeToString() for _ in range(150)]
    with service_of(catalog) as alone:
        wanted = [alone.get_offers(request) for request in requests]
    got: dict[int, list[bytes]] = {}
    with service_of(catalog) as service:
        gate = threading.Barrier(4)

        def call(number: int) -> None:
            gate.wait()
            got[number] = [service.get_offers(request) for request in requests]

        threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [wanted] * 4 == [got[number] for number in range(4)]


@pytest.mark.parametrize(
    ("placement", "channel", "field"), [("nowhere", "", "placement"), ("home", "web", "context.channel")]
)
def test_placement_that_cannot_be_filled_is_refused(placement: str, channel: str, field: str) -> None:
    """An unknown placement, or one of another channel, is refused with the field's name."""
    catalog = strategies.Maker(1).catalog(1)
    request = GetOffersRequest(placement=placement)
    request.context.channel = channel
    with service_of(catalog) as service, pytest.raises(InvalidRequestError) as caught:
        ask(service, request)
    assert [field] == [violation.field for violation in caught.value.violations]
