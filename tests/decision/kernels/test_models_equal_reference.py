"""Compiled decisions with models equal the plain-Python reference, at random."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from google.protobuf.struct_pb2 import Struct
from google.type.money_pb2 import Money
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.decision.engine import Engine
from offers.decision.kernels.memory.scratch import Scratchpad
from offers.decision.kernels.models.explore import DRAWS
from offers.decision.kernels.person.meet import AGREED, HIDDEN, NAMED, TAUGHT
from offers.decision.person import Person
from offers.decision.reference import decide as reference
from offers.decision.reference import explored as reference_explored
from offers.decision.reference.decide import Ranked
from offers.decision.reference.models import chance_of, item_of, taught_of, told
from offers.decision.reference.people import KnownPerson
from offers.decision.segments.evaluate import Facts
from offers.model.hashing import signed
from offers.model.query import Query
from offers.model.visits import place_of
from offers.server.convert import query_of
from offers.v1.catalog_pb2 import Catalog, Exploration
from offers.v1.context_pb2 import Session, User
from offers.v1.offer_pb2 import Offer
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.profile_pb2 import Profile
from offers.v1.ranking_pb2 import Propensity, RankingStrategy
from offers.v1.state_pb2 import UserState
from tests.decision import made_models
from tests.decision.kernels.test_kernels_equal_reference import engine_of, laid_out, undecided
from tests.people import PeopleMaker, behaving, person_of, usages_of

NEAR = 1e-5
"""Scores (logarithms) that differ by less may be put in either order: recommendation adds 32-bit numbers up."""
TINY = 1e-9
UNUSUAL = (-1e300, math.inf, math.nan)
"""Numbers that requests may not have. Records of persons may."""
SECRET = "secret"  # noqa: S105 - the name of an attribute


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and its person, as the engine and as the reference have them."""

    request: GetOffersRequest
    query: Query
    person: Person
    known: KnownPerson
    otherwise: int
    characters: int
    """Length of geohashes."""


class ModelMaker(PeopleMaker):
    """A PeopleMaker with strategies that ask models, placements that explore, and offers with attributes."""

    def ranking_strategy(self, identity: str) -> RankingStrategy:
        """As Maker's; the first one always varies propensity."""
        pick, strategy = self.random.choice, super().ranking_strategy(identity)
        strategy.weights.propensity = pick([0.5, 1.0, 2.0] if identity == "first" else [0.0, 1.0, 3.0])
        strategy.weights.recommendation = pick([0.0, 0.5, 1.0])
        if self.chance(0.8):
            strategy.propensity.reward = pick(Propensity.Reward.values())
            strategy.propensity.learner = pick(Propensity.Learner.values())
            for name in ("without_context", "without_profile", "without_person"):
                setattr(strategy.propensity, name, self.chance(0.2))
        return strategy

    def offer(self, number: int) -> Offer:
        """As PeopleMaker's; some have attributes."""
        offer, pick = super().offer(number), self.random.choice
        values: dict[str, str | float] = {
            "cuisine": pick(["thai", "thé"]), "price_band": "2" if self.chance(0.5) else 3.0,
            "level": pick([0.0, 1.0, 31.5, -7.0]), "halal": pick([True, False]), "unheard": "of",
        }  # fmt: skip
        for name, value in values.items():
            if self.chance(0.4):
                offer.attributes[name] = value
        return offer

    def catalog(self, size: int) -> Catalog:
        """As PeopleMaker's."""
        catalog, pick = super().catalog(size), self.random.choice
        catalog.sensitive_attributes.extend(self.some([SECRET, "age"]))
        catalog.order_value_scale.CopyFrom(Money(currency_code="EUR", units=50))
        for placement in catalog.placements:
            strategies = {one.ranking_strategy_id: one for one in catalog.ranking_strategies}
            if strategies[placement.ranking_strategy_id].weights.propensity and self.chance(0.7):
                one = Exploration(method=pick(Exploration.Method.values()[1:]))
                if self.chance(0.5):
                    one.max_loss = pick([0.01, 0.9, 0.99])
                if self.chance(0.5):
                    one.new_offer_share = pick([0.0, 0.2, 0.5])
                if one.method == Exploration.METHOD_EPSILON_GREEDY and self.chance(0.6):
                    one.epsilon = pick([0.3, 1.0])
                placement.exploration.CopyFrom(one)
        return catalog

    def told_of(self, names: list[str], unusual: Sequence[float] = ()) -> Struct:
        """Return some attributes of a request or a person."""
        values: list[Any] = [
            "sun", "schön 🌧", "gold", "", True, False, 0.0, -0.0, 12, 30.5, 5e-324, None, ["sun"], {"sun": 1}, *unusual,
        ]  # fmt: skip
        struct = Struct()
        for name in names:
            if self.chance(0.6):
                struct[name] = self.random.choice(values)
        return struct

    def asked(self, catalog: Catalog, models: "ModelAndReference") -> Asked:
        """Return a person who asks, with a history, or one of whom nothing may be kept."""
        request, pick = self.request(catalog), self.random.choice
        context, time = request.context, request.context.time.seconds
        context.attributes.CopyFrom(self.told_of(["weather", "heat", "raining", "else"]))
        if self.chance(0.6):
            context.session.CopyFrom(self.session(time))
            context.session.entry_channel = pick(["", "push", "é" * 30])
        is_hidden, agrees = self.chance(0.15), self.chance(0.85)
        if is_hidden:
            context.ClearField("location")
        session = Session() if is_hidden else context.session
        state, known = self.history(time), self.known(catalog, time)
        if not agrees:
            state, known = UserState(), KnownPerson(known.draw, self.segments([], time), used=known.used)
        known = behaving(catalog, known, session, state, time)
        query, otherwise = query_of(request, 0), self.random.getrandbits(64) - 2**63
        person = person_of(known, time, did=state)
        record = UserState.FromString(person.record)
        record.profile.attributes.MergeFrom(self.told_of(["age", "plan", SECRET], UNUSUAL))
        record.visits = made_models.history(self.random, models.items, time)
        may_keep = agrees and not known.blind
        profile = record.profile if may_keep else Profile()
        facts = Facts(User(), session, context, profile, time)
        flags = NAMED | (person.flags | AGREED if agrees else 0) | TAUGHT | (HIDDEN if is_hidden else 0)
        person = person._replace(
            record=record.SerializeToString(), request=request.SerializeToString(), facts=lambda: facts,
            flags=flags if agrees else flags & ~AGREED,
        )  # fmt: skip
        zone = catalog.time_zone
        draw, characters = known.draw if may_keep else 0, pick([0, 1, 3, 6, 6, 6, 12])
        values = told(context, profile, query, draw, characters, zone, hidden=is_hidden)
        chance = chance_of(known.draw, time, query.seed, otherwise)
        visits = record.visits if may_keep else b""
        taught = taught_of(*models.pair, values, query, visits, characters, zone, chance)
        return Asked(request, query, person, replace(known, taught=taught), otherwise, characters)


class ModelAndReference:
    """A made-up model of a catalogue."""

    def __init__(self, maker: ModelMaker, catalog: Catalog) -> None:
        self.items = sorted({item_of(catalog, offer) for offer in catalog.offers})
        places = [signed(place_of(name)) for name in ("u09tv", "u09tu", "s0000")]
        self.pair = made_models.some_model(maker.random, self.items, places, min(maker.instants) + 90 * 86_400)


class Answered:
    """The answer of an engine."""

    def __init__(self, engine: Engine, asked: Asked) -> None:
        pad = Scratchpad()
        self.decision = engine.decide(asked.query, pad, asked.person, asked.characters, asked.otherwise)
        self.chosen = pad.arrays["chosen"][: self.decision.count]
        offers = engine.snapshot.columns["entry"]["offer"][self.chosen["entry"]]
        self.ids = [engine.directory.offer_id(int(number)) for number in offers]


def check(catalog: Catalog, engine: Engine, asked: Asked) -> Answered | None:
    """Hold an engine's answer against the reference's; None if only rounding decides."""
    if asked.request.context.HasField("location") and undecided(catalog, asked.query):
        return None
    answered = Answered(engine, asked)
    considered, eligible = reference.ranked_for(catalog, asked.query, asked.known)
    best, ranked = laid_out(catalog, asked.query, considered)
    assert eligible == answered.decision.eligible
    assert len(best) == answered.decision.count
    check_order(ranked, answered.ids)
    by_id = {one.offer_id: one for one in ranked}
    is_explored = reference_explored.explores(catalog, asked.query, considered)
    selection: dict[str, tuple[float, float]] = {}
    if is_explored and asked.known.taught:
        selection = reference_explored.selection_probabilities(
            catalog, asked.query, considered, asked.known.taught, NEAR
        )
    for name, got in zip(answered.ids, answered.chosen, strict=True):
        one = by_id[name]
        assert made_models.is_close(one.log_score, float(got["log_score"]), NEAR)
        for (value, _), log in zip(one.factors[7:], got["logs"].tolist()[7:], strict=True):
            assert made_models.is_close(math.log(value), log, NEAR)
        least, most = (max(share, 1 / DRAWS) if is_explored else 0.0 for share in selection.get(name, (0.0, 0.0)))
        assert least - TINY <= float(got["selection"]) <= most + TINY
    return answered


def check_order(wanted: list[Ranked], got: list[str]) -> None:
    """Hold an order against the reference's: exactly, except where only rounding tells two scores apart."""
    start = 0
    runs: list[list[Ranked]] = []
    for one in wanted:
        if runs and runs[-1][-1].log_score - one.log_score < NEAR:
            runs[-1].append(one)
        else:
            runs.append([one])
    for run in runs:
        ours, names = got[start : start + len(run)], [one.offer_id for one in run]
        same = len(list(groupby((one.factors, one.distance_m) for one in run))) == 1
        assert names[: len(ours)] == ours if same else set(ours) <= set(names)
        start += len(run)


def hold_equal(maker: ModelMaker, catalog: Catalog, asks: Callable[[Asked], Asked] = lambda asked: asked) -> None:
    """Hold an engine's answers to some persons equal to the reference's, with several models one after the other."""
    with engine_of(catalog) as engine:
        for _ in range(3):
            models = ModelAndReference(maker, catalog)
            engine.use(models.pair[0])
            for _ in range(3):
                asked = asks(maker.asked(catalog, models))
                engine.budgets.update(usages_of(asked.known), asked.query.time)
                check(catalog, engine, asked)


@settings(max_examples=40)
@given(st.builds(ModelMaker, st.integers(0, 2**32 - 1)), st.integers(1, 30))
def test_decisions_with_models_equal_the_reference(maker: ModelMaker, size: int) -> None:
    """The same offers, order, propensities, recommendations and selection probabilities, whatever model there is."""
    hold_equal(maker, maker.catalog(size))


@settings(max_examples=15)
@given(st.builds(ModelMaker, st.integers(0, 2**32 - 1)), st.integers(1, 30))
def test_decisions_without_a_model_equal_the_reference(maker: ModelMaker, size: int) -> None:
    """Where strategies ask models and there is none, their factors are 1 and nothing is explored."""
    catalog = maker.catalog(size)
    with engine_of(catalog) as engine:
        models = ModelAndReference(maker, catalog)
        engine.use(models.pair[0])
        engine.use(None)
        asked = maker.asked(catalog, models)
        engine.budgets.update(usages_of(asked.known), asked.query.time)
        check(catalog, engine, replace(asked, known=replace(asked.known, taught=None)))
