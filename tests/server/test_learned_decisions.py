"""The decision and the learner foresee the same of a logged decision: both know the same attributes."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from offers.learning import settling, training
from offers.learning.learner import Learner, current_model, propensities
from offers.learning.propensity.features import DISTANCE
from offers.learning.values import CatalogueFacts, request_values
from offers.server.offer_values import offers_of
from offers.testing import Served, serving
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import FACTOR_NAME_PROPENSITY, VIEW_FULL, GetOffersRequest, GetOffersResponse
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import UpdateProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub

NOON = 1_795_000_000
CONSENT: Any = ("contextual", "profiling", "learning")
DOCUMENT = """
catalog_id: corner
time_zone: Asia/Tokyo
sensitive_attributes: [faith]
interactions: [{attributes: [hour, offer.distance]}]
ranking_strategies: [{ranking_strategy_id: learned, weights: {propensity: 1}}]
venues:
  - {venue_id: tea-house, title: Tea House, point: {latitude: 35.69, longitude: 139.71}, radius_m: 9000}
placements: [{placement_id: home, channel: app, ranking_strategy_id: learned}]
offers:
  - offer_id: noodles
    title: Noodles
    category: food
    brand: bar
    attributes: {cuisine: thai, spiciness: 3, vegan: true}
    benefit: {percent_off: 10}
    target: {everywhere: true}
  - offer_id: ride
    title: Ride
    category: transport
    benefit: {percent_off: 10}
    target: {everywhere: true}
  - offer_id: tea
    title: Tea
    category: food
    benefit: {percent_off: 10}
    target: {venue_ids: [tea-house]}
"""


def asked(number: int, weather: str, time_zone: str = "") -> GetOffersRequest:
    """Return a request with many attributes."""
    request = GetOffersRequest(placement="home", view=VIEW_FULL)
    context = request.context
    context.user.user_id = f"person-{number % 7}"
    context.time.seconds = NOON + 3_600 * number
    context.time_zone = time_zone
    context.channel = "app"
    context.location.point.latitude, context.location.point.longitude = 35.68 + number % 5 * 0.007, 139.7
    context.attributes.update({"weather": weather, "temperature": 7.5 + number % 20})
    context.session.entry_channel = "push"
    return request


class Story:
    """A server, and people who click on noodles when it rains."""

    def __init__(self, served: Served, clock: list[float]) -> None:
        """`clock`: what the server takes for now; decisions about other times would not be logged."""
        self.served, self._clock = served, clock
        self._offers, self._events = OfferServiceStub(served.channel), EventServiceStub(served.channel)
        profiles = ProfileServiceStub(served.channel)
        for number in range(7):
            profile = Profile()
            profile.attributes.update({"age": 20 + number, "faith": "a", "member": number % 2 == 0})
            profiles.UpdateProfile(
                UpdateProfileRequest(
                    user=User(user_id=f"person-{number}"), profile=profile, update_mask=FieldMask(paths=["attributes"])
                ),
                timeout=10,
            )

    def ask(self, request: GetOffersRequest) -> GetOffersResponse:
        """The answer, at the time it is asked for, once the log has it."""
        self._clock[0] = float(request.context.time.seconds)
        response: GetOffersResponse = self._offers.GetOffers(request, timeout=60)
        self.served.worker.recorder.flush()
        return response

    def live(self, count: int) -> None:
        """Ask, and click."""
        for number in range(count):
            weather = "rain" if number % 3 else "sun"
            for offer in self.ask(asked(number, weather)).offers:
                if (offer.offer_id == "noodles") == (weather == "rain"):
                    event = Event(event_id=offer.proposition_id, proposition_id=offer.proposition_id)
                    event.user.user_id = f"person-{number % 7}"
                    event.click.SetInParent()
                    self._events.ReportEvents(ReportEventsRequest(events=[event]), timeout=10)


def test_decision_and_learner_foresee_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The propensity of each offer in a FULL answer is what the published model says of the logged decision's values:
    of the moment by the asked or the catalogue's clock, of the person, of the offer's attributes, and how far it is.
    """  # noqa: D205
    monkeypatch.setattr(settling, "LEAST_MET", 10)
    monkeypatch.setattr(training, "FIRST_REVIEW", 12)
    path = tmp_path / "catalog.yaml"
    path.write_text(DOCUMENT)
    clock = [float(NOON)]
    with serving(path, clock=lambda: clock[0], data_dir=tmp_path / "data", default_consent=CONSENT) as served:
        story, (engine,) = Story(served, clock), served.worker.live.engines()
        story.live(24)
        offers = offers_of([engine.snapshot.path])
        learner = Learner(served.stores.events, tmp_path / "learning", offers, bits=12)
        learner.catch_up(lambda: False, lambda _: None, lambda: clock[0] + 3_600)
        learner.close()
        known = set(learner.training.features.attributes)
        assert {
            "context.weather", "context.temperature", "profile.age", "profile.member", "offer.cuisine", DISTANCE,
        } < known  # fmt: skip
        assert "profile.faith" not in known
        model = current_model(tmp_path / "learning")
        assert model is not None
        served.worker.live.use_model(model)
        for number, time_zone in ((30, ""), (31, "Europe/Paris"), (32, "")):
            response = story.ask(asked(number, "rain", time_zone))
            assert model.version == response.model_version
            told = {one.offer_id: _propensity(one) for one in response.offers}
            expected = foreseen(served, learner, offers, response.decision_id)
            assert expected == pytest.approx(told, rel=1e-9)
            assert 3 == len(set(told.values()))


def _propensity(offer: Any) -> float:  # noqa: ANN401 - a Proposition
    (value,) = [factor.value for factor in offer.factors if factor.name == FACTOR_NAME_PROPENSITY]
    return float(value)


def foreseen(served: Served, learner: Learner, offers: CatalogueFacts, decision_id: str) -> dict[str, float]:
    """Return the probabilities by the published model for the offers of a logged decision."""
    model = current_model(learner.folder)
    assert model is not None
    propensity = propensities(model)["click"]
    (logged,) = served.stores.events.decisions([decision_id])
    record, size = logged.told(), propensity.features.request_size
    request = request_values(record, logged.second, offers.time_zones[record.catalog])
    found = {}
    for offer, metres in zip(record.offer_ids, record.distances_m, strict=True):
        assert (offer == "tea") == (metres > 0)
        own = {f"offer.{name}": value for name, value in offers.values(record.catalog, offer).items()}
        own |= {DISTANCE: metres} if metres else {}
        keys = propensity.features.keys({**request, **own, "offer.id": offer})
        found[offer] = float(propensity.predict(keys[:size], keys[None, size:]).probability()[0])
    return found
