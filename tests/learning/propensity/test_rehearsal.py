"""A model that learns its latest examples again: order, revisions, delays, bounds and checkpoints."""

from hashlib import blake2b

import numpy as np
import pytest
from numpy.typing import NDArray

from offers.learning.pending import NO_EXAMPLE, REFUSAL, UNKNOWN, Label
from offers.learning.propensity import rehearsal
from offers.learning.propensity.delays import STEPS, come_by, counted, shares_of, step_of
from offers.learning.propensity.features import DECISION, Examples, Features, Interaction
from offers.learning.propensity.regression import DAY_S
from offers.learning.propensity.rehearsal import RehearsedModel, spread

FEATURES = Features((Interaction(("offer.id",), 0.5), Interaction(("hour",), 0.5)), 12)
SETTLE_S, START = 45, 20_000 * DAY_S
CLICK = Label(1.0, 1.0)


def examples(offers: str, rewards: list[float], first: int = 0) -> Examples:
    """Return an example a second: of offers with names of one letter."""
    keys = np.array([FEATURES.keys({"offer.id": name, "hour": 12}) for name in offers])
    count = len(offers)
    numbers, time = np.empty((0, 0)), START + first + np.arange(count)
    return Examples(keys, numbers, np.array(rewards, np.float64), np.ones(count), time)


def drawn(offers: str, rate: float, seed: int = 1) -> list[float]:
    """Return a reward for each offer, at a rate."""
    return list((np.random.default_rng(seed).random(len(offers)) < rate).astype(float))


def part(rows: Examples, which: slice) -> Examples:
    """Return some of the examples."""
    return rows._replace(
        keys=rows.keys[which],
        reward=rows.reward[which],
        importance=rows.importance[which],
        time=rows.time[which],
        decision=rows.decision[which],
    )


def chance(model: RehearsedModel, offer: str) -> float:
    """Return the probability that is foreseen of an offer."""
    keys, size = FEATURES.keys({"offer.id": offer, "hour": 12}), FEATURES.request_size
    return float(model.model.predict(keys[:size], keys[None, size:]).probability()[0])


def contents(model: RehearsedModel) -> dict[str, bytes]:
    """Return all that the model is."""
    return {name: array.tobytes() for name, array in model.arrays().items()}


def test_runs_leave_no_mark() -> None:
    """Whether offers come one after the other, sorted by their outcomes, or mixed: each is foreseen at its rate."""
    offers = "a" * 600 + "b" * 600
    rewards = np.array(drawn("a" * 600, 0.4) + drawn("b" * 600, 0.05))
    for order in (np.arange(1_200), np.argsort(-rewards, kind="stable"), np.random.default_rng(1).permutation(1_200)):
        model = RehearsedModel(FEATURES, SETTLE_S)
        model.learn(examples("".join(offers[at] for at in order), list(rewards[order])))
        model.rest(START + DAY_S)
        assert rewards[:600].mean() == pytest.approx(chance(model, "a"), abs=0.02)
        assert rewards[600:].mean() == pytest.approx(chance(model, "b"), abs=0.02)


@pytest.mark.parametrize("most", [rehearsal.MOST_RECENT, 64])
def test_pieces_and_checkpoints_make_no_difference(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is the same to the byte in pieces of any size, and restored after any of them."""
    monkeypatch.setattr(rehearsal, "MOST_RECENT", most)
    rows = examples("abc" * 100, drawn("abc" * 100, 0.3))
    whole, pieces = RehearsedModel(FEATURES, SETTLE_S), RehearsedModel(FEATURES, SETTLE_S)
    revised = {number: examples("abc"[number % 3], [1.0]) for number in range(0, 300, 7)}
    for first, size in ((0, 1), (1, 4), (5, 95), (100, 200)):
        some = part(rows, slice(first, first + size))
        assert first == whole.learn(some) or most == 64
        for at in range(0, size, 3):
            pieces.learn(part(some, slice(at, at + 3)))
        for number in [one for one in revised if one < first + size]:
            for model in (whole, pieces):
                model.revise(number, (REFUSAL, CLICK), revised[number], START + 900)
            del revised[number]
        pieces = RehearsedModel.restored(FEATURES, SETTLE_S, pieces.arrays())
        for model in (whole, pieces):
            model.rest(START + 1_000)
    assert contents(whole) == contents(pieces)


def test_a_revised_example_is_as_if_it_had_always_been_so() -> None:
    """After a rest, clicks that came late, were taken back or became unknown count as their last outcome."""
    offers, rewards = "a" * 400, drawn("a" * 400, 0.3)
    model, expected = RehearsedModel(FEATURES, SETTLE_S), RehearsedModel(FEATURES, SETTLE_S)
    first = model.learn(examples(offers, rewards))
    last = list(rewards)
    for number in range(0, 400, 5):
        last[number] = 1 - rewards[number]
        labels = (CLICK, REFUSAL) if rewards[number] else (REFUSAL, CLICK)
        model.revise(first + number, labels, examples("a", [last[number]]), START + 500)
    for number in range(1, 400, 4):
        model.revise(first + number, (Label(last[number], 1.0), UNKNOWN), examples("a", [0.0]), START + 500)
    known = [last[number] for number in range(400) if number % 4 != 1]
    expected.learn(examples("a" * len(known), known))
    for one in (model, expected):
        one.rest(START + 30 * DAY_S)
    assert np.mean(known) == pytest.approx(chance(model, "a"), abs=0.02)
    assert chance(expected, "a") == pytest.approx(chance(model, "a"), abs=0.02)


def test_what_is_not_kept_any_more_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most MOST_RECENT examples are kept. A click on an older one, or an unknown one, counts as one more example."""
    monkeypatch.setattr(rehearsal, "MOST_RECENT", 400)
    model, found = RehearsedModel(FEATURES, SETTLE_S), []
    for first in range(0, 6_000, 10):
        model.learn(examples("a" * 10, [0.0] * 10, first))
        assert len(model.kept.reward) <= 400
        for number in range(first - 500, first - 490, 4) if first >= 500 else ():
            model.revise(number, (REFUSAL, CLICK), examples("a", [1.0]), START + first)
        found.append(chance(model, "a"))
    assert 0.3 == pytest.approx(np.mean(found[-200:]), abs=0.05)
    before = model.kept.reward.sum()
    model.revise(NO_EXAMPLE, (REFUSAL, CLICK), examples("a", [1.0]), START + 2_000)
    assert before + 1 == model.kept.reward.sum()


def decision_ids(count: int) -> list[bytes]:
    """Return ids of decisions."""
    return [blake2b(b"%d" % number, digest_size=16).hexdigest().encode() for number in range(count)]


def of_decisions(rows: Examples, names: list[bytes]) -> Examples:
    """Return the examples with ids of decisions."""
    return rows._replace(decision=np.array(names, DECISION))


@pytest.mark.parametrize("gone", [[7], list(range(30)), list(range(0, 300, 3)), list(range(300))])
def test_forgotten_examples_are_in_neither_model_nor_checkpoint(gone: list[int]) -> None:
    """Forgotten, whichever they are, they are not kept, and the model is that of the others; revisions find these."""
    rewards = drawn("abc" * 100, 0.3)
    names = decision_ids(300)
    rows = of_decisions(examples("abc" * 100, rewards), names)
    model, blank = RehearsedModel(FEATURES, SETTLE_S), RehearsedModel(FEATURES, SETTLE_S)
    model.learn(rows)
    importance = np.ones(300)
    importance[gone] = 0
    blank.learn(rows._replace(importance=importance, reward=rows.reward * importance))
    assert len(gone) == model.forget(np.array([names[number] for number in gone], DECISION), START + 400)
    assert 0 == model.forget(np.array([b"none"], DECISION), START + 400)
    written = b"".join(contents(model).values())
    kept = [number for number in range(300) if number not in gone]
    assert not any(names[number] in written for number in gone)
    assert all(names[number] in written for number in kept)
    for one in (model, blank) if kept else ():
        one.revise(kept[-1], (Label(rewards[kept[-1]], 1.0), UNKNOWN), examples("a", [0.0]), START + 500)
        one.rest(START + DAY_S)
    expected = blank if kept else RehearsedModel(FEATURES, SETTLE_S)
    assert chance(expected, "a") == pytest.approx(chance(model, "a"), abs=0.01)
    assert contents(model) == contents(RehearsedModel.restored(FEATURES, SETTLE_S, model.arrays()))


def test_what_has_expired_is_learned_for_good() -> None:
    """The oldest examples, once the log keeps their decisions no more, are not kept any more but stay in the model."""
    names = decision_ids(300)
    model = RehearsedModel(FEATURES, SETTLE_S)
    model.learn(of_decisions(examples("a" * 300, [1.0, 0.0, 0.0, 0.0] * 75), names))
    before = 0.25
    assert 200 == model.forget(np.array(names[:200], DECISION), START + 90 * DAY_S)
    assert 100 == len(model.kept.reward)
    assert before == pytest.approx(chance(model, "a"), abs=0.03)
    assert 100 == model.forget(np.array(names[200:], DECISION), START + 91 * DAY_S)
    assert 0 == len(model.kept.reward)
    assert before == pytest.approx(chance(model, "a"), abs=0.03)
    model = RehearsedModel.restored(FEATURES, SETTLE_S, model.arrays())
    model.rest(START + 92 * DAY_S)
    assert 300 == model.learn(of_decisions(examples("a", [1.0], 92 * DAY_S), [b"new"]))
    assert before == pytest.approx(chance(model, "a"), abs=0.05)


def test_an_order_is_spread_evenly() -> None:
    """In each part of the order, every stratum has its share, up to one example."""
    strata = np.random.default_rng(1).choice([3, 5, 8], 1_000, p=[0.7, 0.25, 0.05]).astype(np.uint64)
    order = spread(strata, 17)
    assert sorted(order.tolist()) == list(range(1_000))
    for name in (3, 5, 8):
        count = np.cumsum(strata[order] == name)
        assert np.abs(count - np.arange(1, 1_001) * count[-1] / 1_000).max() <= 2
    assert order.tolist() == spread(strata, 17).tolist() != spread(strata, 18).tolist()


def test_steps_of_delays() -> None:
    """Step 0 is up to the settle time, then there are two to each doubling."""
    assert [0, 0, 1, 2, 4, STEPS - 1] == [step_of(one, 45) for one in (0, 45, 46, 90, 180, 1e12)]


def _truncated(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Return steps and ages of rewards that have come, of offers shown over ten minutes, and all delays."""
    random = np.random.default_rng(seed)
    delays, ages = random.exponential(120, count), random.uniform(45, 600, count)
    come = delays <= ages
    return np.array([step_of(one, 45) for one in delays[come]], np.uint8), ages[come], delays


def test_shares_are_right_though_the_young_have_no_late_rewards() -> None:
    """The shares that have come by an age are those of all delays, also where most examples are young."""
    steps, ages, delays = _truncated(20_000, 1)
    shares = shares_of(steps, ages, 45)
    for age in (45.0, 90.0, 180.0, 360.0):
        expected = np.mean(delays <= age) / np.mean(delays <= 600)
        assert expected == pytest.approx(come_by(shares, np.array([age]), 45)[0], abs=0.04)
    few = shares_of(np.array([3], np.uint8), np.array([9_000.0]), 45)
    assert few[0] > 0.9  # one late reward proves little
    assert [1.0] * STEPS == shares_of(np.empty(0, np.uint8), np.empty(0), 45).tolist()


def test_what_counts_gives_the_rate() -> None:
    """Of examples of any age, rewards and what counts of the others give the true rate; with all come, all counts."""
    random = np.random.default_rng(3)
    ages, rate = random.uniform(45, 600, 50_000), 0.3
    delays = random.exponential(120, len(ages))
    reward = ((random.random(len(ages)) < rate) & (delays <= ages)).astype(np.float64)
    ones, come, none = np.ones(len(ages)), 1 - np.exp(-ages / 120), np.zeros(3)
    found = counted(reward, ones, come, none)
    assert rate == pytest.approx(reward.sum() / found.sum(), abs=0.02)
    assert reward.mean() < 0.26
    assert ones.tolist() == counted(reward, ones, ones, none).tolist()
