"""Answers by a model, over the stores: what responses, explanations and the log tell of it agree."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.type.latlng_pb2 import LatLng

from offers.catalogue.document import write_document
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.learning.propensity.features import default_features
from offers.learning.values import request_values
from offers.model.keys import key_of
from offers.model.visits import visit
from offers.server.explain_service import ExplainService
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import PersonReader
from offers.server.recorder import Recorder
from offers.state.person.ids import draw_of
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.state.sqlite.state import SqliteState
from offers.v1.catalog_pb2 import Catalog, Exploration, Placement
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    ConsentPurpose,
    Context,
    Location,
    Session,
    User,
)
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.offer_service_pb2 import (
    FACTOR_NAME_PROPENSITY,
    FACTOR_NAME_RECOMMENDATION,
    REASON_CODE_HABIT,
    VIEW_FULL,
    ExplainOffersRequest,
    ExplainOffersResponse,
    Factor,
    GetOffersRequest,
    GetOffersResponse,
)
from offers.v1.ranking_pb2 import FactorWeights, RankingStrategy
from offers.v1.state_pb2 import DecisionRecord, UserState
from tests.decision.made_models import model_of, online, recommending

NOW = 1_795_345_200
CHARACTERS = 6
FEATURES = default_features(("person", "hour", "place", "entry_channel", "context.weather", "profile.age",
                             "offer.id", "offer.category", "offer.level"), 12)  # fmt: skip
ALL = (CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_LEARNING)
Purposes = tuple[ConsentPurpose.ValueType, ...]
VERSION = 0xFEDC_BA98_0000_0001


def catalog() -> Catalog:
    """Twelve offers for everywhere, of which a placement shows three."""
    offers = [
        Offer(
            offer_id=f"o{number:02}", title="T", category=f"c{number % 3}", benefit=Benefit(custom="b"),
            target=Target(everywhere=True),
        )
        for number in range(12)
    ]  # fmt: skip
    for number, offer in enumerate(offers):
        offer.attributes["level"] = number % 4
    weights = FactorWeights(propensity=1, recommendation=0.5)
    thompson = Exploration(method=Exploration.METHOD_THOMPSON)
    return Catalog(
        catalog_id="shop", time_zone="Asia/Kathmandu", offers=offers,
        ranking_strategies=[RankingStrategy(ranking_strategy_id="s", weights=weights)],
        placements=[
            Placement(placement_id="explored", ranking_strategy_id="s", max_offers=3, exploration=thompson),
            Placement(placement_id="plain", ranking_strategy_id="s", max_offers=3),
            Placement(placement_id="unasked", max_offers=3),
        ],
    )  # fmt: skip


class Shop:
    """Services over a catalogue, a model and one person of whom much is known."""

    def __init__(self, folder: Path) -> None:
        write_document(folder / "catalog.binpb", catalog())
        self.engine = Engine(open_snapshot(publish(folder / "catalog.binpb", folder).path))
        items = [key_of("offer", "shop", f"o{number:02}") for number in range(12)]
        arrays = {f"click.{name}": one for name, one in online(FEATURES, 3).items()}
        made = recommending(3, items, [5], NOW - 86_400)
        arrays |= {f"recommend.{name}": one for name, one in made.arrays().items()}
        self.database = Database(folder / "state.db")
        state = SqliteState(self.database)
        self.events = SqliteEvents(self.database)
        self.recorder = Recorder(self.events, state)
        people, live = PersonReader(state, frozenset()), Live([self.engine])
        live.use_model(model_of(arrays, FEATURES, VERSION))
        self.offers = OfferService(live, lambda: NOW, people, self.recorder, CHARACTERS)
        self.explaining = ExplainService(live, lambda: NOW, people, CHARACTERS)
        self.items = items

        record = UserState(visits=visit(items[7], NOW - 86_400, 1.0) + visit(items[2], NOW - 3_600, 0.5))
        record.profile.attributes["age"] = 30
        state.change([("u:ann", lambda _, __: record.SerializeToString())])

    def close(self) -> None:
        """End what was begun."""
        self.recorder.close()
        self.database.close()

    def logged(self) -> list[tuple[str, DecisionRecord]]:
        """Return the decisions of the log: their persons and records."""
        self.recorder.flush()
        return [(one.person, one.told()) for _, one in self.events.decisions_after(0, 100)]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop that is open."""
    made = Shop(tmp_path)
    yield made
    made.close()


def request_of(placement: str = "explored", purposes: Purposes = ALL, seed: int | None = None) -> GetOffersRequest:
    """A request of the person, with all that models are told."""
    context = Context(
        location=Location(point=LatLng(latitude=48.8, longitude=2.3)), session=Session(entry_channel="push"),
        user=User(user_id="ann", consent=ConsentGrants(purposes=purposes)), language_code="fr", currency_code="EUR",
    )  # fmt: skip
    context.attributes["weather"] = "sun"
    request = GetOffersRequest(context=context, placement=placement, view=VIEW_FULL, max_offers=3)
    if seed is not None:
        request.seed = seed
    return request


def factor(factors: list[Factor], name: int) -> float:
    """A factor's value."""
    (value,) = (one.value for one in factors if one.name == name)
    return value


def test_both_ways_give_the_same_answer_by_a_model(shop: Shop) -> None:
    """The answer that is found step by step, and the usual one in two compiled calls, agree to the last bit."""
    for number, placement in enumerate(["explored", "plain", "unasked"]):
        for purposes in (ALL, ALL[:2], ALL[:1], ALL[1:]):
            request = request_of(placement, purposes)
            request.request_id = f"{number} {purposes}"
            answers = {shop.offers.get_offers(request.SerializeToString()) for _ in range(3)}
            assert 1 == len(answers)


def test_responses_name_the_model_and_the_probabilities(shop: Shop) -> None:
    """Answers by models carry the version of the model and, where they explore, their probability."""
    told = {}
    for placement in ("explored", "plain", "unasked"):
        answer = GetOffersResponse.FromString(shop.offers.get_offers(request_of(placement).SerializeToString()))
        has = {offer.HasField("selection_probability") for offer in answer.offers}
        told[placement] = answer.model_version, has, len(answer.offers)
        for offer in answer.offers:
            assert math.isclose(math.log(offer.score), math.fsum(one.log_contribution for one in offer.factors))
    version = f"{VERSION:016x}"
    assert {"explored": (version, {True}, 3), "plain": (version, {False}, 3), "unasked": ("", {False}, 3)} == told


def test_habits_are_a_reason(shop: Shop) -> None:
    """Offers that the person took before are marked as a habit."""
    found = set()
    for seed in range(40):
        answer = GetOffersResponse.FromString(shop.offers.get_offers(request_of(seed=seed).SerializeToString()))
        found |= {(offer.offer_id, REASON_CODE_HABIT in offer.reasons) for offer in answer.offers}
    assert all(is_habit == (name in {"o07", "o02"}) for name, is_habit in found)
    assert any(is_habit for _, is_habit in found)


@pytest.mark.parametrize("placement", ["explored", "plain", "unasked"])
@pytest.mark.parametrize("purposes", [ALL, ALL[:1], ALL[1:]])
def test_explanations_have_the_factors_of_the_answer(shop: Shop, placement: str, purposes: Purposes) -> None:
    """Propensity and recommendation are told of every offer, and as in the answer; they add up to the score."""
    for seed in (None, 5):
        asked = ExplainOffersRequest(request=request_of(placement, purposes, seed))
        response = ExplainOffersResponse.FromString(shop.explaining.explain_offers(asked.SerializeToString()))
        explained = {one.offer_id: one for one in response.explanations}
        assert 12 == len(explained)
        answered = {offer.offer_id: offer for offer in response.response.offers}
        values: dict[int, set[float]] = {FACTOR_NAME_PROPENSITY: set(), FACTOR_NAME_RECOMMENDATION: set()}
        for name, one in explained.items():
            assert math.isclose(math.log(one.score), math.fsum(each.log_contribution for each in one.factors))
            for kind, found in values.items():
                value = factor(list(one.factors), kind)
                found.add(value)
                if name in answered:
                    assert math.isclose(factor(list(answered[name].factors), kind), value, rel_tol=1e-6)
        for found in values.values():
            assert ({1.0} == found) == (placement == "unasked")
        last = min(offer.score for offer in answered.values())
        assert all(one.score <= last * (1 + 1e-6) for name, one in explained.items() if name not in answered)


def test_log_keeps_what_models_learn_from(shop: Shop) -> None:
    """A decision's record has the model, the probabilities, the request and, with consent, who it was for."""
    answer = GetOffersResponse.FromString(shop.offers.get_offers(request_of().SerializeToString()))
    ((person, record),) = shop.logged()
    assert ("u:ann", f"{VERSION:016x}") == (person, record.model_version)
    assert [offer.selection_probability for offer in answer.offers] == list(record.selection_probabilities)
    assert [offer.offer_id for offer in answer.offers] == list(record.offer_ids)
    assert [] == list(record.log_scores)  # they would tell where the person was
    assert ("fr", "EUR", 3, "explored") == (
        record.language_code, record.currency_code, record.max_offers, record.placement,
    )  # fmt: skip
    assert (draw_of("u:ann"), NOW, 6) == (record.draw, record.time, len(record.geohash))
    values = request_values(record, 0, "Asia/Kathmandu")
    assert ("sun", 30, "push") == tuple(values[name] for name in ("context.weather", "profile.age", "entry_channel"))


@pytest.mark.parametrize(("size", "is_logged"), [(8_100, True), (8_200, False)])
def test_log_keeps_attributes_up_to_a_size(shop: Shop, size: int, is_logged: bool) -> None:  # noqa: FBT001
    """Attributes of the request, and of the person, are logged up to 8 KiB, and none beyond."""
    known, request = UserState(), request_of()
    for attributes in (known.profile.attributes, request.context.attributes):
        attributes["note"] = "x" * (size - 20)
    SqliteState(shop.database).change([("u:ann", lambda _, __: known.SerializeToString())])
    shop.offers.get_offers(request.SerializeToString())
    ((_, record),) = shop.logged()
    assert 3 == len(record.offer_ids)
    assert (is_logged, is_logged) == ("note" in record.profile_attributes, "note" in record.context_attributes)


@pytest.mark.parametrize("purposes", [ALL[:2], ALL[:1], ()])
def test_log_tells_nothing_of_persons_without_consent_to_learning(shop: Shop, purposes: Purposes) -> None:
    """Without consent to learning, the record names the model and the offers, and neither person nor moment."""
    shop.offers.get_offers(request_of("plain", purposes).SerializeToString())
    ((_, record),) = shop.logged()
    assert f"{VERSION:016x}" == record.model_version
    assert 3 == len(record.offer_ids)
    kept = (record.draw, record.geohash, record.entry_channel, record.learn)
    assert (0, "", "", False) == kept
    assert not record.context_attributes.fields
    assert not record.profile_attributes.fields
