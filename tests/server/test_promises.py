"""Answers stay as they are until `refresh_after`, also where segments and budgets depend on time."""

from collections.abc import Iterator

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.server.convert import query_of
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import PersonReader
from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, Context, User
from offers.v1.event_pb2 import EVENT_KIND_CLICK
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.state_pb2 import UserState
from tests.decision.kernels.test_kernels_equal_reference import engine_of, undecided
from tests.moments import DAY, MomentMaker
from tests.strategies import LAST

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """Open empty stores."""
    opened = open_stores(Settings(data_dir=tmp_path_factory.mktemp("promises")))
    yield opened
    opened.close()


def keep(stores: Stores, user_id: str, state: UserState) -> None:
    """Write the record of a person."""
    record = state.SerializeToString()
    stores.state.change([(f"u:{user_id}", lambda _record, _erased: record)])


def without_layout(catalog: Catalog) -> Catalog:
    """Clear whatever keeps an offer that qualifies out of an answer."""
    for placement in catalog.placements:
        for name in ("max_offers", "max_per_venue", "max_per_brand", "max_per_category"):
            placement.ClearField(name)
    for offer in catalog.offers:
        offer.ClearField("exclusion_group")
    return catalog


def shown(service: OfferService, request: GetOffersRequest) -> tuple[set[str], int, int]:
    """Return the offers of an answer, how many qualify, and until when it holds."""
    answer = GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))
    return {one.offer_id for one in answer.offers}, answer.eligible_count, answer.refresh_after.seconds


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 25))
def test_nothing_changes_before_the_second_promised(stores: Stores, seed: int, size: int) -> None:
    """For random catalogues, persons, budgets and instants the same offers qualify at sampled instants before it."""
    maker = MomentMaker(seed)
    catalog = without_layout(maker.catalog(size))
    with engine_of(catalog) as engine:
        people = PersonReader(stores.state, frozenset([CONSENT_PURPOSE_PROFILING]))
        service = OfferService(Live([engine]), lambda: 0.0, people)
        for number in range(6):
            user_id = f"{seed}-{number}"
            request = maker.asked(catalog, user_id)
            request.max_offers, time = 100, request.context.time.seconds
            keep(stores, user_id, maker.record(catalog, time))
            engine.budgets.update(maker.usages(catalog, time, time + DAY, maker.turn), maker.instant())
            if undecided(catalog, query_of(request, 0)):
                continue
            offers, eligible, end = shown(service, request)
            assert time < end <= time + DAY
            turns = {maker.random.randrange(time, end), (time + end) // 2, end - 1, time + 1}
            for second in sorted(one for one in turns if time < one < min(end, LAST)):
                request.context.time.seconds = second
                if not undecided(catalog, query_of(request, 0)):
                    assert (offers, eligible) == shown(service, request)[:2]


NOW = 1_795_345_200
"""2026-11-22T11:00:00Z, a Sunday; noon in Paris."""
CASES = {
    "life-cycle": ("profile.life_cycle == LifeCycle.LIFE_CYCLE_LAPSING", DAY, DAY),
    "journey": ("profile.journey_phase == JourneyPhase.JOURNEY_PHASE_BROWSING", DAY, 1_740),
    "ordered": ("now - profile.last_order_time > duration('336h')", DAY, 3_600),
    "evening": ("now.getHours('Europe/Paris') >= 18", 3_600, 3_600),
    "weekend": ("now.getDayOfWeek('Europe/Paris') in [0, 6]", 12 * 3_600, 12 * 3_600),
    "opening": ("now >= timestamp('2026-11-22T11:30:00Z')", 1_800, 1_800),
    "sushi": ("profile.affinities.categories.sushi > 0.2", DAY, DAY),
}
"""By placement: the segment of its offer, and the seconds for which answers hold for nobody and for a person."""


@pytest.mark.parametrize("placement", CASES)
def test_promises_are_as_long_as_they_can_be(stores: Stores, placement: str) -> None:
    """A person who looked around a minute ago, and ordered almost two weeks ago, and nobody: each until their own."""
    catalog = Catalog(catalog_id="long")
    for name, (expression, _, _) in CASES.items():
        catalog.segments.add(segment_id=name, expression=expression)
        catalog.placements.add(placement_id=name)
        offer = catalog.offers.add(offer_id=name, title="An offer", placement_ids=[name])
        offer.benefit.percent_off, offer.target.everywhere = 5, True
        offer.audience.any_segment_ids.append(name)
    state = UserState()
    state.profile.first_seen_time.seconds, state.profile.last_seen_time.seconds = NOW - 40 * DAY, NOW - 60
    state.profile.last_order_time.seconds, state.profile.order_count = NOW - 335 * 3_600, 3
    state.recent.add(kind=EVENT_KIND_CLICK, event_time=Timestamp(seconds=NOW - 60))
    keep(stores, "ada", state)
    with engine_of(catalog) as engine:
        people = PersonReader(stores.state, frozenset([CONSENT_PURPOSE_PROFILING]))
        service = OfferService(Live([engine]), lambda: float(NOW), people)
        users = (None, User(anonymous_id="new"), User(user_id="ada"))
        ends = [
            shown(service, GetOffersRequest(context=Context(user=user), placement=placement))[2] - NOW
            for user in users
            for _ in ("the long way", "the usual one")
        ]
    _, nobody, somebody = CASES[placement]
    assert [nobody] * 4 + [somebody] * 2 == ends
