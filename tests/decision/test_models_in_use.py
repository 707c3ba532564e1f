"""Models come and go between decisions; one that does not fit together is refused, and never read beyond its end."""

import math
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from offers.decision.engine import Engine
from offers.decision.kernels.decide import go_on
from offers.decision.kernels.memory.scratch import MOST_ATTRIBUTES, MOST_OWN, Scratchpad
from offers.decision.kernels.models.learned import learned_record
from offers.decision.kernels.need import Need
from offers.decision.kernels.person.meet import AGREED, NAMED
from offers.decision.person import Person
from offers.learning.model import Model
from offers.learning.propensity.features import Features, Interaction, default_features
from offers.model.query import Query, Surface
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.ranking_pb2 import FactorWeights, RankingStrategy
from tests.decision.kernels.test_kernels_equal_reference import engine_of
from tests.decision.made_models import model_of, online, recommending, trees

FEATURES = default_features(("person", "hour", "context.weather", "offer.id", "offer.category"), 9)
NOW = 1_795_000_000
CATALOG = Catalog(
    catalog_id="random", default_ranking_strategy_id="s",
    ranking_strategies=[
        RankingStrategy(ranking_strategy_id="s", weights=FactorWeights(propensity=1, recommendation=1))
    ],
    offers=[
        Offer(offer_id=f"o{number}", title="T", benefit=Benefit(custom="b"), target=Target(everywhere=True))
        for number in range(20)
    ],
)  # fmt: skip
Arrays = dict[str, NDArray[Any]]


def whole(seed: int = 1, partners: int = 4) -> Arrays:
    """Return the arrays of a model of everything."""
    arrays = {f"click.{name}": one for name, one in online(FEATURES, seed).items()}
    arrays |= {f"redemption.trees.{name}": one for name, one in trees(FEATURES, seed, 3).items()}
    made = recommending(seed, [1, 2, 3, 4, 5, 6, 7, 8], [9, 10], NOW - 86_400, partners)
    return arrays | {f"recommend.{name}": one for name, one in made.arrays().items()}


def changed(name: str, place: Any, value: Any) -> Callable[[Arrays], None]:  # noqa: ANN401
    """Return a function that sets something of an array."""

    def change(arrays: Arrays) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return change


def shorter(name: str) -> Callable[[Arrays], None]:
    """Return a function that drops the last row of an array."""
    return lambda arrays: arrays.__setitem__(name, arrays[name][:-1])


def of_type(name: str, kind: str) -> Callable[[Arrays], None]:
    """Return a function that converts an array to another type."""
    return lambda arrays: arrays.__setitem__(name, np.zeros(arrays[name].shape, kind))


def never_right(arrays: Arrays) -> None:
    """Make a tree whose tests rule out all of its leaves."""
    tests = arrays["redemption.trees.test"].copy()
    tests["kept"] = 0
    arrays["redemption.trees.test"] = tests


def beyond_leaves(arrays: Arrays) -> None:
    """Make trees that reach a leaf of another tree, or of none."""
    tests = arrays["redemption.trees.test"].copy()
    tests["kept"] &= np.uint64(1 << 63)
    arrays["redemption.trees.test"] = tests


@pytest.mark.parametrize("name", sorted(whole()))
@pytest.mark.parametrize("fault", [shorter, lambda name: of_type(name, "i2"), lambda name: lambda all_: all_.pop(name)])
def test_arrays_of_other_lengths_or_types_are_refused(
    name: str, fault: Callable[[str], Callable[[Arrays], Any]]
) -> None:  # fmt: skip
    """Every array that is missing, or not as it has to be, is named in the refusal."""
    arrays = whole()
    fault(name)(arrays)
    with pytest.raises(ValueError, match=r"the model cannot be used, as .*: learn it again"):
        learned_record(model_of(arrays, FEATURES), ["offer.id"], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed("click.weight", 3, (math.nan, 1)), "click.weight is not finite"),
        (changed("click.weight", 3, (math.inf, 1)), "click.weight is not finite"),
        (changed("click.weight", 3, (1, -2)), "evidence below 0"),
        (changed("click.seen", 0, -5), "click.seen is not finite, or below 0"),
        (changed("click.seen", 1, math.inf), "click.seen is not finite, or below 0"),
        (changed("redemption.trees.test_first", 2, 10**6), "test_first does not rise from 0"),
        (changed("redemption.trees.test_first", 2, -1), "test_first does not rise from 0"),
        (changed("redemption.trees.test_first", slice(1, 3), (2**31 - 1, -(2**31))), "test_first does not rise from 0"),
        (changed("redemption.trees.level_first", 2, 10**6), "level_first does not rise from 0"),
        (changed("redemption.trees.leaf_first", 1, 10**6), "its trees have not 1 to 64 leaves each"),
        (changed("redemption.trees.leaf_first", 0, 1), "its trees have not 1 to 64 leaves each"),
        (changed("redemption.trees.leaf", 0, math.nan), "leaf is not finite"),
        (changed("recommend.habit.unknown", 0, 0.0), "unknown is not over 0"),
        (changed("recommend.habit.unknown", 0, math.nan), "unknown is not over 0"),
        (never_right, "rules out all leaves of a tree"),
        (beyond_leaves, "rules out all leaves of a tree"),
        (of_type("recommend.popularity.item_keys", "i4"), "item_keys is int32"),
        (
            lambda arrays: arrays.update({"recommend.popularity.pair_keys": np.zeros(24, np.int64)}),
            "pair_keys has 24 places, not a power of two",
        ),
        (
            lambda arrays: arrays.update({"recommend.cooccurrence.source_keys": np.zeros(4, np.int64)}),
            "source_keys has 4 places, not a power of two",
        ),
    ],
)
def test_values_out_of_range_are_refused(change: Callable[[Arrays], None], reason: str) -> None:
    """A value that would lead a loop beyond an array, or to no number, is named in the refusal."""
    arrays = whole()
    change(arrays)
    with pytest.raises(ValueError, match="learn it again") as raised:
        learned_record(model_of(arrays, FEATURES), ["offer.id"], [])
    assert reason in str(raised.value)


def test_trees_that_are_not_there_are_refused() -> None:
    """A test of a tree beyond the last is refused."""
    arrays = whole()
    tests = arrays["redemption.trees.test"].copy()
    tests["tree"] = 3
    arrays["redemption.trees.test"] = tests
    with pytest.raises(ValueError, match="of trees that it has not got"):
        learned_record(model_of(arrays, FEATURES), [], [])


@pytest.mark.parametrize(
    "meta", [{}, {"features": None}, {"features": {}}, {"features": {"bits": 99, "interactions": []}},
             {"features": {"bits": 9, "interactions": [[["hour"], -1.0]]}},
             {"features": {"bits": 9, "interactions": [["hour"]]}}],
)  # fmt: skip
def test_features_that_cannot_be_read_are_refused(meta: dict[str, Any]) -> None:
    """A model whose features cannot be read is refused."""
    with pytest.raises(ValueError, match="features cannot be read"):
        learned_record(replace(model_of({}, FEATURES), meta=meta), [], [])


@pytest.mark.parametrize(("prefix", "most"), [("context.a", MOST_ATTRIBUTES), ("offer.a", MOST_OWN)])
def test_models_of_too_many_attributes_are_refused(prefix: str, most: int) -> None:
    """As many attributes as there is room for are used, one more is refused."""
    names = [f"{prefix}{number}" for number in range(most + 1)]
    for count in (most, most + 1):
        features = Features(tuple(Interaction((name,), 1.0) for name in names[:count]), 8)
        model = model_of({f"click.{name}": one for name, one in online(features, 1).items()}, features)
        if count == most:
            assert count == len(learned_record(model, [], []).arrays["attribute" if "context" in prefix else "column"])
        else:
            with pytest.raises(ValueError, match=f"by {count}.*attributes: learn it again|{count} attributes"):
                learned_record(model, [], [])


def model_numbered(number: int) -> Model:
    """Return one of several models; every other one has features, sizes and parts of its own."""
    if number % 2:
        return model_of(whole(number, partners=2 + number), FEATURES, number)
    features = default_features(("offer.category", "offer.gone", "weekday", "place", "person", "offer.id"), 8)
    arrays = {f"click.{name}": one for name, one in online(features, number).items()}
    return model_of(arrays, features, number)


def answered(engine: Engine, pad: Scratchpad, draw: int) -> tuple[list[float], ...]:
    """Return the scores of an answer, with the factors of models."""
    person = Person(draw, b"", GetOffersRequest().SerializeToString(), -1, NAMED | AGREED)
    decision = engine.decide(Query(Surface("UTC", max_offers=20, full=True), NOW), pad, person, 6)
    chosen = pad.arrays["chosen"][: decision.count]
    return tuple(chosen["logs"][:, 7:].tolist())


def test_refused_model_leaves_the_one_that_is_used() -> None:
    """After a refusal, decisions go on with the model they had; without any, they go on without."""
    with engine_of(CATALOG) as engine:
        pad = Scratchpad()
        plain = answered(engine, pad, 5)
        assert {0.0} == {factor for row in plain for factor in row}
        good = model_numbered(1)
        engine.use(good)
        before = answered(engine, pad, 5)
        arrays = whole()
        never_right(arrays)
        with pytest.raises(ValueError, match="learn it again"):
            engine.use(model_of(arrays, FEATURES))
        assert (good, before) == (engine.model, answered(engine, pad, 5))
        engine.use(None)
        assert (None, plain) == (engine.model, answered(engine, pad, 5))


def test_model_that_comes_while_a_person_is_met_is_told_of_them_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model swapped in after another read the request reads it itself when the decision begins again."""
    with engine_of(CATALOG) as engine:
        engine.use(model_numbered(2))
        expected = answered(engine, Scratchpad(), 5)
        others = [model_numbered(1), None]
        while others:
            engine.use(others[-1])
            called = list[int]()

            def go_on_and_swap(*arguments: Any, called: list[int] = called) -> int:  # noqa: ANN401
                need = go_on(*arguments)
                called.append(1)
                if len(called) > 1:
                    return need
                engine.use(model_numbered(2))
                return Need.ROOM

            with monkeypatch.context() as patched:
                patched.setattr("offers.decision.engine.go_on", go_on_and_swap)
                assert expected == answered(engine, Scratchpad(), 5)
            assert 2 == len(called)
            others.pop()


def test_models_are_swapped_while_decisions_are_made() -> None:
    """Each decision, while models change, has the answer of one of the models, and never a mixture."""
    models = [None, *map(model_numbered, range(1, 6))]
    draws = [3, -4, 2**62]
    with engine_of(CATALOG) as engine:
        possible: dict[int, list[tuple[list[float], ...]]] = {draw: [] for draw in draws}
        for model in models:
            engine.use(model)
            for draw in draws:
                possible[draw].append(answered(engine, Scratchpad(), draw))
        assert all(len({str(one) for one in possible[draw]}) == len(models) for draw in draws)
        wrong, done, stop = list[int](), list[int](), threading.Event()

        def ask(seed: int) -> None:
            random, pad = Random(seed), Scratchpad()
            while not stop.is_set():
                draw = random.choice(draws)
                wrong.extend([draw] * (answered(engine, pad, draw) not in possible[draw]))
                done.append(draw)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        random, usual = Random(1), sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for _ in range(600):
                engine.use(random.choice(models))
        finally:
            sys.setswitchinterval(usual)
            stop.set()
            for thread in threads:
                thread.join()
    assert [] == wrong
    assert len(done) > 50
