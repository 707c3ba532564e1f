"""What an answer promises: its offers end when it says, ties are fair, and nothing changes before it has to."""

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.latlng_pb2 import LatLng
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.catalogue.document import write_document
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision import reference
from offers.decision.engine import Engine
from offers.errors import InvalidRequestError
from offers.model.query import Query
from offers.server.offer_service import OfferService
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from tests import strategies
from tests.decision.test_kernels_equal_reference import service_of

NOON = 1_781_524_800
"""2026-06-15T12:00Z, a Monday."""


def ask(service: OfferService, request: GetOffersRequest) -> GetOffersResponse:
    """Ask for one answer."""
    return GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))


def at(latitude: float, longitude: float, time: int = NOON) -> GetOffersRequest:
    """A request for as many offers as there can be, somewhere at some time."""
    request = GetOffersRequest(max_offers=100)
    request.context.location.point.CopyFrom(LatLng(latitude=latitude, longitude=longitude))
    request.context.time.CopyFrom(Timestamp(seconds=time))
    return request


def one_offer(**target: object) -> Catalog:
    """A catalogue of one offer in two venues at the same place, of which one is a time zone ahead."""
    catalog = Catalog(catalog_id="one", time_zone="UTC")
    for name, zone in (("ahead", "Europe/Paris"), ("behind", "Europe/London")):
        venue = catalog.venues.add(venue_id=name, radius_m=1000, time_zone=zone)
        venue.point.CopyFrom(LatLng(latitude=50, longitude=1))
    offer = catalog.offers.add(offer_id="a", title="a")
    offer.benefit.custom = "a"
    for name, value in target.items():
        getattr(offer.target, name).extend(value)
    return catalog


@settings(max_examples=40)
@given(strategies.makers, strategies.sizes, st.randoms(use_true_random=True))
def test_nothing_changes_before_the_answer_says_so(maker: strategies.Maker, size: int, random: st.DrawFn) -> None:
    """Within refresh_distance_m and before refresh_after, the same offers qualify."""
    del random
    catalog = maker.catalog(size)
    choose = maker.random
    with service_of(catalog) as service:
        for _ in range(12):
            request = maker.request(catalog)
            request.max_offers = 100
            for placement in ("home", "map"):
                if request.placement == placement:
                    request.placement = ""
            answer = ask(service, request)
            assert answer.eligible_count == len(answer.offers)
            wanted = {offer.offer_id for offer in answer.offers}
            here, now = LatLng(), request.context.time.seconds
            here.CopyFrom(request.context.location.point)
            assert now < answer.refresh_after.seconds <= now + 86_400
            for _ in range(6):
                later = choose.choice([now, answer.refresh_after.seconds - 1, choose.randrange(now, answer.refresh_after.seconds)])
                request.context.time.seconds = min(later, strategies.LAST)
                if request.context.HasField("location"):
                    reach = answer.refresh_distance_m if answer.HasField("refresh_distance_m") else 2e7
                    share = choose.choice([0.0, 0.5, 0.99, 0.999_999])
                    there = strategies.beyond(here, choose.uniform(0, 360), max(share * reach - 1e-6, 0.0))
                    request.context.location.point.CopyFrom(there)
                assert wanted == {offer.offer_id for offer in ask(service, request).offers}
