"""Exploration: offers are shown as often as their probabilities say, within the allowed loss, new ones included."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from offers.decision.engine import Engine
from offers.decision.kernels.memory.scratch import Scratchpad
from offers.decision.kernels.models.explore import DRAWS, HOUR_S
from offers.decision.kernels.models.foresee import MOST_WEIGHED
from offers.decision.kernels.person.meet import AGREED, NAMED
from offers.decision.person import Person
from offers.decision.reference import decide as reference
from offers.decision.reference.explored import selection_probabilities
from offers.decision.reference.models import Taught, chance_of
from offers.decision.reference.people import KnownPerson
from offers.learning.propensity.features import default_features
from offers.learning.propensity.regression import Propensity
from offers.model.query import Query, Surface
from offers.v1.catalog_pb2 import Catalog, Exploration, Placement
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.ranking_pb2 import FactorWeights, RankingStrategy
from offers.v1.ranking_pb2 import Propensity as Propensities
from tests.decision.kernels.test_kernels_equal_reference import engine_of
from tests.decision.made_models import model_of, trees

FEATURES = default_features(("hour", "offer.id", "offer.category"), 10)
NOW = 1_795_000_000
COUNT, SHOWN = 12, 4
CHANCES = 400
THOMPSON, EPSILON = Exploration.METHOD_THOMPSON, Exploration.METHOD_EPSILON_GREEDY
WEIGHT = 2.0
ENCODED = GetOffersRequest().SerializeToString()


def catalog_of(exploration: Exploration, *, limited: bool = False, equal: bool = False) -> Catalog:
    """Return a catalogue of offers for everywhere, of different worth unless `equal`.

    If `limited`, its placement shows two of a category at most, and some offers exclude each other.
    """
    placement = Placement(placement_id="p", ranking_strategy_id="s", exploration=exploration)
    if limited:
        placement.max_per_category = 2
    return Catalog(
        catalog_id="random",
        ranking_strategies=[RankingStrategy(ranking_strategy_id="s", weights=FactorWeights(propensity=WEIGHT))],
        placements=[placement],
        offers=[
            Offer(
                offer_id=f"o{number:02}", title="T", category=f"c{number % 3}", benefit=Benefit(custom="b"),
                target=Target(everywhere=True), value=0.5 if equal else 0.5 + number / 40,
                exclusion_group="last" if limited and number > COUNT - 4 else "",
            )
            for number in range(COUNT)
        ],
    )  # fmt: skip


def propensity(evidence: float, new: int = 3) -> Propensity:
    """Return a model with some evidence of everything, and hardly any of the first offers themselves."""
    model = Propensity.untaught(FEATURES)
    model.weight["mean"] = np.random.default_rng(1).normal(0, 0.5, len(model.weight))
    model.weight["evidence"] = evidence
    model.seen[:] = 30, 270, 20_000
    for number in range(COUNT):
        keys = FEATURES.keys({"offer.id": f"o{number:02}"})
        place = max(FEATURES.weight_indexes([int(key) for key in keys]))
        model.weight["evidence"][place] = 0.1 if number < new else max(evidence, 1e4)
    return model


@contextmanager
def exploring(
    exploration: Exploration,
    evidence: float = 20.0,
    new: int = 3,
    *,
    limited: bool = False,
    equal: bool = False,
    catalog: Catalog | None = None,
) -> Iterator[tuple[Engine, Catalog, Taught]]:
    """Return an engine that explores, and what the reference has to know of its model, which is blind if `equal`."""
    catalog = catalog or catalog_of(exploration, limited=limited, equal=equal)
    learned = Propensity.untaught(FEATURES) if equal else propensity(evidence, new)
    arrays = {f"click.{name}": one for name, one in learned.arrays().items()}
    model = model_of(arrays, FEATURES)
    with engine_of(catalog) as engine:
        engine.use(model)
        yield engine, catalog, Taught(model, None, {"hour": NOW % 86_400 // 3_600})


def answer_to(
    engine: Engine, pad: Scratchpad, draw: int = 0, time: int = NOW, seed: int = -1, chance: int = 0, most: int = SHOWN
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Return an answer's offers, best first: the logarithm of the score, and the selection probability."""
    query = Query(Surface("UTC", "p", max_offers=most, full=True), time, seed=seed)
    decision = engine.decide(query, pad, Person(draw, b"", ENCODED, -1, NAMED | AGREED), 0, chance)
    chosen = pad.arrays["chosen"][: decision.count]
    numbers = engine.snapshot.columns["entry"]["offer"][chosen["entry"]].tolist()
    ids = [engine.directory.offer_id(number) for number in numbers]
    return dict(zip(ids, zip(chosen["log_score"].tolist(), chosen["selection"].tolist(), strict=True), strict=True))


KINDS = [
    Exploration(method=THOMPSON, new_offer_share=0),
    Exploration(method=THOMPSON, max_loss=0.9, new_offer_share=0.3),
    Exploration(method=EPSILON, epsilon=0.3),
    Exploration(method=EPSILON, epsilon=1, max_loss=0.8, new_offer_share=0.5),
]


@pytest.mark.parametrize(("limited", "equal"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("exploration", KINDS)
def test_offers_are_shown_as_often_as_is_said(exploration: Exploration, *, limited: bool, equal: bool) -> None:
    """Over many chances, an offer is in as many answers as its probabilities add up to, and these are what is told;
    so also where the layout, or an exclusion group, keeps some of the best away, and among equals.
    """  # noqa: D205
    pad, expected, found, spread = Scratchpad(), np.zeros(COUNT), np.zeros(COUNT), np.zeros(COUNT)
    with exploring(exploration, limited=limited, equal=equal) as (engine, catalog, taught):
        for seed in range(CHANCES):
            query = Query(Surface("UTC", "p", max_offers=SHOWN), NOW, seed=seed)
            one = replace(taught, chance=chance_of(0, NOW, seed, 0))
            ranked, _ = reference.ranked_for(catalog, query, KnownPerson(taught=one))
            wanted = selection_probabilities(catalog, query, ranked, one)
            for name, (_, told) in answer_to(engine, pad, seed=seed).items():
                found[int(name[1:])] += 1
                assert max(wanted[name][0], 1 / DRAWS) == pytest.approx(told, abs=1e-9)
            share = np.array([wanted[name][0] for name in sorted(wanted)])
            expected += share
            spread += share * (1 - share)
    assert (np.abs(found - expected) <= 4.5 * np.sqrt(spread) + 1e-6).all()
    assert np.count_nonzero(spread > CHANCES / 100) > 2


@pytest.mark.parametrize(("categories", "most"), [({"a": 0.9}, 0), ({"a": 0.9, "b": 0.88}, 1)])
@pytest.mark.parametrize("exploration", KINDS)
def test_however_many_may_be_shown(exploration: Exploration, categories: dict[str, float], most: int) -> None:
    """Two hundred offers that hardly differ take turns, and each is told to be as improbable as it is; so also those of
    a category that the layout lets in beside a better one.
    """  # noqa: D205
    catalog = catalog_of(exploration)
    del catalog.offers[:]
    if most:
        catalog.placements[0].max_per_category = most
    for category, value in categories.items():
        for number in range(200 // len(categories)):
            offer = catalog.offers.add(offer_id=f"{category}{number:03}", title="T", category=category)
            offer.benefit.custom, offer.target.everywhere, offer.value = "b", True, value - number * 1e-4
    pad, shown = Scratchpad(), set()
    with exploring(exploration, catalog=catalog) as (engine, _, taught):
        for seed in range(6):
            query = Query(Surface("UTC", "p", max_offers=2), NOW, seed=seed)
            one = replace(taught, chance=chance_of(0, NOW, seed, 0))
            ranked, _ = reference.ranked_for(catalog, query, KnownPerson(taught=one))
            wanted = selection_probabilities(catalog, query, ranked, one)
            for name, (_, told) in answer_to(engine, pad, seed=seed, most=2).items():
                assert max(wanted[name][0], 1 / DRAWS) == pytest.approx(told, abs=1e-9)
                shown.add(name)
    assert len(shown) > 1


@pytest.mark.parametrize("exploration", KINDS)
def test_no_offer_loses_more_than_is_allowed(exploration: Exploration) -> None:
    """An offer shown is, without exploration, no worse than one left out by more than `max_loss` allows."""
    pad, worst = Scratchpad(), 1.0
    most = exploration.max_loss if exploration.HasField("max_loss") else 0.5
    with exploring(exploration) as (engine, catalog, taught):
        plain, _ = reference.ranked_for(catalog_of(Exploration()), Query(Surface("UTC"), NOW), KnownPerson())
        known = KnownPerson(taught=replace(taught, chance=0))
        ranked, _ = reference.ranked_for(catalog, Query(Surface("UTC", "p"), NOW), known)
        score = {one.offer_id: one.log_score - WEIGHT * one.drawn for one in ranked}
        assert len(score) == len(plain) == COUNT
        for seed in range(CHANCES):
            answer = answer_to(engine, pad, seed=seed)
            best_left_out = max(log for name, log in score.items() if name not in answer)
            worst = min(worst, *(math.exp(score[name] - best_left_out) for name in answer))
    assert worst >= 1 - most - 1e-9
    assert worst < 0.99


def test_answers_stay_the_same_within_the_hour() -> None:
    """A person gets one answer within an hour, and another in the next; so does somebody else."""
    pad, begin = Scratchpad(), NOW - NOW % HOUR_S
    with exploring(KINDS[0]) as (engine, _, _):
        answers = [[answer_to(engine, pad, draw, begin + second) for second in (0, 1_800, 3_599)] for draw in (5, -6)]
        assert all(one == others[0] for others in answers for one in others)
        later = [answer_to(engine, pad, draw, begin + HOUR_S * hour) for draw in (5, -6) for hour in range(1, 9)]
        assert len({tuple(one.items()) for one in [*later, *(others[0] for others in answers)]}) > 12
        nobody = [answer_to(engine, pad, 0, NOW, chance=chance) for chance in (1, 1, 2)]
        assert (True, False) == (nobody[0] == nobody[1], nobody[1] == nobody[2])
        seeded = [answer_to(engine, pad, draw, seed=9) for draw in (0, 5, -6)]
        assert seeded[0] == seeded[1] == seeded[2]


def test_new_offers_get_their_share() -> None:
    """In their share of the answers new offers stand as high as they may; in all others they do not."""
    exploration = Exploration(method=EPSILON, epsilon=1e-9, max_loss=0.99, new_offer_share=0.25)
    shown, pad = Counter[str](), Scratchpad()
    with exploring(exploration) as (engine, _, _):
        for seed in range(4 * CHANCES):
            shown.update(list(answer_to(engine, pad, seed=seed, most=3)))
    usual = {name for name, count in shown.items() if count > 2 * CHANCES}
    new = {f"o{number:02}" for number in range(3)} - usual
    assert new
    assert set(shown) == usual | new
    assert all(abs(shown[name] - CHANCES) < 4.5 * math.sqrt(CHANCES * 3 / 4) for name in new)


def test_certain_models_explore_nothing() -> None:
    """Where a model is sure of all offers, Thompson sampling shows the best ones, and says that it always does."""
    with exploring(Exploration(method=THOMPSON, new_offer_share=0), 1e12, new=0) as (engine, _, _):
        answers = [answer_to(engine, Scratchpad(), seed=seed) for seed in range(20)]
    assert 1 == len({tuple(answer) for answer in answers})


def test_trees_are_explored_by_epsilon_alone() -> None:
    """Trees give no variances: Thompson sampling draws nothing, epsilon-greedy varies them in its share of answers."""
    arrays = {f"click.trees.{name}": one for name, one in trees(FEATURES, 3, 5).items()}
    pad, found = Scratchpad(), []
    for method in (THOMPSON, EPSILON):
        exploration = Exploration(method=method, max_loss=0.9)
        if method == EPSILON:
            exploration.epsilon = 0.5
        catalog = catalog_of(exploration)
        catalog.ranking_strategies[0].propensity.learner = Propensities.LEARNER_TREES
        with engine_of(catalog) as engine:
            engine.use(model_of(arrays, FEATURES))
            answers = [answer_to(engine, pad, seed=seed) for seed in range(200)]
        assert all(probability > 0 for answer in answers for _, probability in answer.values())
        found.append(len({tuple(answer) for answer in answers}))
    assert 1 == found[0]
    assert found[1] > 20


def test_nothing_is_said_to_be_explored_where_there_is_no_model_of_the_reward() -> None:
    """Without a model of the reward, no propensity is varied and no probability is given."""
    catalog = catalog_of(Exploration(method=EPSILON, epsilon=1))
    catalog.ranking_strategies[0].propensity.reward = Propensities.REWARD_REDEMPTION
    arrays = {f"click.{name}": one for name, one in propensity(20.0).arrays().items()}
    with engine_of(catalog) as engine:
        engine.use(model_of(arrays, FEATURES))
        answers = [answer_to(engine, Scratchpad(), seed=seed) for seed in range(50)]
    assert {0.0} == {probability for answer in answers for _, probability in answer.values()}


def test_offers_for_everywhere_are_weighed_up_to_a_limit() -> None:
    """Of very many offers for everywhere, the model is asked for those worth most, up to a limit."""
    catalog = catalog_of(Exploration())
    del catalog.offers[:]
    names = [f"o{number:05}" for number in range(MOST_WEIGHED + 2)]
    for number, name in enumerate(names):
        value = 1 - number / 100_000
        catalog.offers.add(
            offer_id=name, title="T", benefit=Benefit(custom="b"), target=Target(everywhere=True), value=value
        )
    catalog.placements[0].ClearField("exploration")
    features = default_features(("offer.id",), 18)
    model = Propensity.untaught(features)
    for name in (names[MOST_WEIGHED - 1], names[MOST_WEIGHED]):
        model.weight["mean"][features.weight_indexes([int(key) for key in features.keys({"offer.id": name})])[0]] = 9.0
    with engine_of(catalog) as engine:
        engine.use(model_of({f"click.{name}": one for name, one in model.arrays().items()}, features))
        answer = answer_to(engine, Scratchpad(), most=2)
    assert [names[MOST_WEIGHED - 1], names[0]] == list(answer)
