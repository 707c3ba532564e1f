"""Over a real server: the value of attributed orders ranks offers, where a strategy asks for it."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.type.money_pb2 import Money

from offers.learning.learner import Learner, current_model
from offers.server.offer_values import offers_of
from offers.testing import Served, serving
from offers.v1.context_pb2 import Context, User
from offers.v1.event_pb2 import Event, Order
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import FACTOR_NAME_PROPENSITY, VIEW_FULL, ExplainOffersRequest, GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub

NOON, VISITS = 1_795_000_000, 400
CONSENT: Any = ("contextual", "profiling", "learning")
EUROS = {"feast": 40, "snack": 5}
"""Value of an order attributed to each offer."""
TURN = {"feast": 0, "snack": 2}
"""The visit of four that ends with an order attributed to each offer: equally often for all persons and hours."""
DOCUMENT = """
catalog_id: corner
order_value_scale: {currency_code: EUR, units: 50}
ranking_strategies:
  - {ranking_strategy_id: by-orders, weights: {propensity: 1}, propensity: {reward: REWARD_REDEMPTION}}
  - {ranking_strategy_id: by-value, weights: {propensity: 1}, propensity: {reward: REWARD_ORDER_VALUE}}
placements:
  - {placement_id: orders, ranking_strategy_id: by-orders}
  - {placement_id: value, ranking_strategy_id: by-value}
offers:
  - {offer_id: feast, title: Feast, category: food, benefit: {percent_off: 10}, target: {everywhere: true}}
  - {offer_id: snack, title: Snack, category: food, benefit: {percent_off: 10}, target: {everywhere: true}}
"""


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a model of persons who order for two offers equally often, and for very different sums."""
    folder, clock = tmp_path_factory.mktemp("ordered"), [float(NOON)]
    (folder / "catalog.yaml").write_text(DOCUMENT)
    with serving(
        folder / "catalog.yaml", clock=lambda: clock[0], data_dir=folder / "data", default_consent=CONSENT
    ) as served:
        offers, events = OfferServiceStub(served.channel), EventServiceStub(served.channel)
        for number in range(VISITS):
            clock[0] += 600
            context = Context(user=User(user_id=f"person-{number % 37}"))
            answer = offers.GetOffers(GetOffersRequest(context=context, placement="orders"), timeout=60)
            served.worker.recorder.flush()
            for one in answer.offers:
                if number % 4 == TURN[one.offer_id]:
                    total = Money(currency_code="EUR", units=EUROS[one.offer_id])
                    event = Event(event_id=one.proposition_id, proposition_id=one.proposition_id, user=context.user)
                    event.order.CopyFrom(Order(total=total))
                    (told,) = events.ReportEvents(ReportEventsRequest(events=[event]), timeout=10).results
                    assert not told.HasField("status")
        (engine,) = served.worker.live.engines()
        learner = Learner(served.stores.events, folder / "learning", offers_of([engine.snapshot.path]), bits=12)
        learner.catch_up(lambda: False, lambda _: None, lambda: clock[0] + 3_600)
        learner.close()
        served.worker.live.use_model(current_model(folder / "learning"))
        yield served


def propensities(served: Served, placement: str) -> dict[str, float]:
    """Return the mean propensity of each offer for some persons, best first."""
    each = [_of_person(served, placement, f"person-{number}") for number in range(0, 36, 3)]
    means = {offer: sum(one[offer] for one in each) / len(each) for offer in each[0]}
    return dict(sorted(means.items(), key=lambda one: -one[1]))


def _of_person(served: Served, placement: str, person: str) -> dict[str, float]:
    """Return the propensity of each offer in a FULL answer, which ExplainOffers must confirm."""
    offers = OfferServiceStub(served.channel)
    request = GetOffersRequest(context=Context(user=User(user_id=person)), placement=placement, view=VIEW_FULL)
    found = {}
    for one in offers.GetOffers(request, timeout=60).offers:
        (found[one.offer_id],) = [factor.value for factor in one.factors if factor.name == FACTOR_NAME_PROPENSITY]
    told = offers.ExplainOffers(ExplainOffersRequest(request=request, offer_ids=list(found)), timeout=60)
    explained = {
        one.offer_id: factor.value
        for one in told.explanations
        for factor in one.factors
        if factor.name == FACTOR_NAME_PROPENSITY
    }
    assert explained == pytest.approx(found, rel=1e-9)
    return found


def test_the_dearer_orders_come_first_by_value(taught: Served) -> None:
    """The expected value is about the order's share of the scale times its probability."""
    found = propensities(taught, "value")
    assert ["feast", "snack"] == list(found)
    assert 0.25 * 40 / 50 == pytest.approx(found["feast"], rel=0.3)
    assert 0.25 * 5 / 50 == pytest.approx(found["snack"], rel=0.6)


def test_orders_alone_do_not_tell_them_apart(taught: Served) -> None:
    """Both offers have the same probability of an order."""
    found = propensities(taught, "orders")
    assert found["feast"] == pytest.approx(found["snack"], rel=0.15)
    assert 0.25 == pytest.approx(found["feast"], rel=0.3)
