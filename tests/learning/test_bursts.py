"""Bursts: however offers and clicks crowd, what is foreseen stays plausible on the way and is right at rest."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from offers.learning.learner import Learner, current_model
from offers.learning.propensity.features import Examples
from offers.learning.propensity.regression import Propensity
from offers.learning.settling import SETTLE_S
from offers.state.sqlite.events import SqliteEvents
from tests.learning.bursts import FEATURES, Delay, Followed, Story, burst, shown
from tests.learning.made_log import NOON, OFFERS, at_its_end, write

PLAUSIBLE = 0.01, 0.7
HOUR, DAY = 3_600, 86_400


def soon(choose: random.Random) -> float:
    """Within ten seconds."""
    return choose.uniform(0, 10)


def slowly(choose: random.Random) -> float:
    """After two minutes on average, so that most clicks come after the settle time."""
    return choose.expovariate(1 / 120)


@pytest.mark.parametrize(
    ("count", "seconds", "rates"),
    [
        (600, 3, {"o1": 0.4, "o2": 0.1}),
        (1_000, 5, {"o1": 0.3, "o2": 0.05}),
        (10_000, 20, {"o1": 0.3}),
        (1_200, 120, {"o1": 0.3, "o2": 0.05}),  # 10/s
    ],
)
@pytest.mark.parametrize("is_calm", [True, False])
def test_a_burst_is_foreseen_right_a_minute_later(
    count: int, seconds: int, rates: Mapping[str, float], *, is_calm: bool
) -> None:
    """A minute after a burst each offer is foreseen within .05 of the truth, on the way nothing beyond what is
    plausible, whether some people come after it or nobody does.
    """  # noqa: D205
    story = shown(burst(count, seconds), rates, soon, "burst")
    if is_calm:
        story += shown(range(seconds, seconds + 120, 3), rates, soon, "calm")
    told = Followed(story)
    for second in range(seconds + 60):
        told.at(second)
        for offer in rates:
            chance = told.chance(offer, second)
            assert PLAUSIBLE[0] < chance < PLAUSIBLE[1], (offer, second)
    told.at(seconds + 60)
    found = [told.chance(offer, seconds + 60) for offer in rates]
    assert list(rates.values()) == pytest.approx(found, abs=0.05)


def test_nothing_is_learned_before_it_is_settled() -> None:
    """Within a burst the model stays as it was before; after the settle time it changes without any new entry."""
    told = Followed(shown(burst(200, 2), {"o1": 0.3}, soon, "burst"))
    before = told.chance("o1")
    told.at(SETTLE_S[0])
    assert before == told.chance("o1")
    assert 0 == told.training.learned
    told.at(SETTLE_S[0] + 10)
    assert 0.3 == pytest.approx(told.chance("o1"), abs=0.1)
    assert 200 == told.training.learned


def test_late_clicks_are_felt_as_they_come() -> None:
    """In a push whose clicks come over minutes, what is foreseen rises to the truth and stays plausible."""
    told = Followed(shown(burst(3_000, 20), {"o1": 0.3}, slowly, "push"))
    found = []
    for second in range(60, 1_200, 30):
        found.append(told.at(second).chance("o1", second))
        assert PLAUSIBLE[0] < found[-1] < 0.45
    assert 0.3 == pytest.approx(found[-1], abs=0.03)


def test_what_comes_late_is_expected_of_the_next_push() -> None:
    """Once it is known how late clicks come, a second push is foreseen right before most of its clicks have come."""
    rates = {"o1": 0.3}
    story = shown(burst(2_000, 20), rates, slowly, "first") + shown(burst(4_000, 20, 2 * HOUR), rates, slowly, "second")
    told, worst = Followed(story), 0.0
    for second in range(2 * HOUR, 2 * HOUR + 600, 30):
        worst = max(worst, abs(told.at(second).chance("o1", second) - 0.3))
    assert worst < 0.07


def alternating(seed: int) -> Story:
    """Bursts of one offer after the other, clicked soon or late."""
    choose = random.Random(seed)
    rates, story = {"o1": 0.4, "o2": 0.05, "o3": 0.2}, Story([], [])
    for number in range(9):
        offer = ("o1", "o2", "o3")[number % 3]
        delay: Delay = choose.choice([soon, slowly])
        length = choose.choice([1, 10, 300])
        story += shown(burst(300, length, number * 400), {offer: rates[offer]}, delay, f"{seed}.{number}")
    return story


def scattered(seed: int) -> Story:
    """Decisions at random times, some in crowds."""
    choose = random.Random(seed)
    seconds = [int(choose.choice([choose.uniform(0, DAY / 8), choose.gauss(HOUR, 20)])) for _ in range(900)]
    late: Delay = lambda one: one.choice([one.uniform(0, 30), one.expovariate(1 / HOUR)])  # noqa: E731
    return shown([max(0, one) for one in seconds], {"o1": 0.4, "o2": 0.05, "o3": 0.2}, late, str(seed))


def one_by_one(seed: int) -> Story:
    """All of one offer, then all of the next."""
    story = Story([], [])
    for number, (offer, rate) in enumerate({"o1": 0.4, "o2": 0.05, "o3": 0.2}.items()):
        story += shown(burst(900, 30, 200 * number), {offer: rate}, soon, f"{seed}.{offer}")
    return story


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("arrivals", [alternating, scattered, one_by_one])
def test_at_rest_the_order_makes_no_difference(arrivals: Callable[[int], Story], seed: int) -> None:
    """For any times of decisions and clicks, the model at rest foresees what the same examples give in random order,
    and nothing on the way is implausible.
    """  # noqa: D205
    story = arrivals(seed)
    end = max([one.second for one in story.decisions] + [one.second for one in story.events]) - NOON
    told = Followed(story)
    for second in range(0, end, max(7, end // 300)):
        told.at(second)
        for offer in ("o1", "o2", "o3"):
            assert PLAUSIBLE[0] < told.chance(offer, second) < PLAUSIBLE[1], (offer, second)
    told.at(end + 2 * DAY)
    clicked = {one.event_id for one in story.events}
    rows = [
        (one.second, rank, offer, f"{one.decision_id}-{rank}" in clicked)
        for one in story.decisions
        for rank, offer in enumerate(one.told().offer_ids, 1)
    ]
    for offer in ("o1", "o2", "o3"):
        shares = [is_clicked for *_, other, is_clicked in rows if other == offer]
        assert np.mean(shares) == pytest.approx(told.chance(offer, end), abs=0.03), offer
    examples = told.training.rehearsed["click"].kept
    assert len(rows) == len(examples.reward)
    chances = [_in_random_order(examples, number) for number in range(8)]
    model = told.training.models["click"]
    keys = np.unique(examples.keys[:, FEATURES.request_size :], axis=0)
    request = examples.keys[-1, : FEATURES.request_size]
    found = model.predict(request, keys).probability()
    expected = [one.predict(request, keys).probability() for one in chances]
    assert np.mean(expected, axis=0) == pytest.approx(found, abs=0.05)


def _in_random_order(examples: Examples, seed: int) -> Propensity:
    """Return a model that has learned examples once, in random order."""
    order = np.random.default_rng(seed).permutation(len(examples.reward))
    model = Propensity.untaught(FEATURES)
    keys, numbers, reward, importance, time, _ = examples
    model.update(Examples(keys[order], numbers, reward[order], importance[order], np.sort(time)))
    return model


@pytest.mark.parametrize("cut", [1, 4, SETTLE_S[0] + 2, SETTLE_S[0] + 4, 90])
def test_a_learner_that_stops_within_a_burst_goes_on(log: SqliteEvents, folder: Path, tmp_path: Path, cut: int) -> None:
    """A learner that is stopped amid a burst, or while it settles, ends with the model of one that never was: each
    offer is an example once.
    """  # noqa: D205
    story = shown(burst(300, 5), {"o1": 0.3, "o2": 0.05}, slowly, "burst")
    write(log, story.decisions, story.events)
    whole = Learner(log, folder, OFFERS, bits=12)
    whole.catch_up(lambda: False, lambda _: None, at_its_end)
    whole.close()
    first = Learner(log, tmp_path / "cut", OFFERS, bits=12)
    while first.step(NOON + cut):
        pass
    first.publish()
    first.checkpoint()
    first.close()
    second = Learner(log, tmp_path / "cut", OFFERS, bits=12)
    second.catch_up(lambda: False, lambda _: None, at_its_end)
    second.close()
    expected, found = current_model(folder), current_model(tmp_path / "cut")
    assert expected is not None
    assert found is not None
    assert 600 == found.meta["figures"]["click"]["examples"]
    assert expected.version == found.version


def test_how_time_passes_makes_no_difference() -> None:
    """The model is the same to the byte whether time passes second by second or in one step."""
    story = shown(burst(300, 5), {"o1": 0.3, "o2": 0.05}, slowly, "burst")
    story += shown(range(300, 2_000, 50), {"o1": 0.3}, slowly, "calm")
    end = max(one.received for one in story.events) - NOON + HOUR
    stepped, at_once = Followed(story), Followed(story).at(end)
    for second in range(0, end, 3):
        stepped.at(second)
    stepped.at(end)
    expected = at_once.training.models["click"].weight.tobytes()
    assert expected == stepped.training.models["click"].weight.tobytes()
