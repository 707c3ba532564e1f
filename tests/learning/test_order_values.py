"""Order values as a reward: the examples they make, and that a model has one scale throughout."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from offers.learning import log_reading
from offers.learning.learner import Learner, current_model, propensities
from offers.learning.pending import DISMISSED, REFUSAL, Label
from offers.learning.promotion import Recent, worse
from offers.learning.propensity.examples import JUDGED_EVERY
from offers.learning.settling import HELD_S, SETTLE_S
from offers.learning.values import CatalogueFacts, Sum
from offers.state.sqlite.events import SqliteEvents
from offers.state.stores import LoggedEvent
from offers.v1.event_pb2 import Event
from tests.learning.made_log import NOON, OFFERS, SCALED, decision, event, happenings, order, write
from tests.learning.propensity.test_examples import FEATURES, ORDER_VALUE, REDEMPTION, Collected, Told, in_order
from tests.learning.test_learner import BITS, ROWS, chance, learn, opened


@pytest.mark.parametrize(
    ("units", "nanos", "reward"),
    [(0, 10_000_000, 0.0002), (20, 0, 0.4), (12, 500_000_000, 0.25), (50, 0, 1), (80, 0, 1)],
)
def test_an_order_is_worth_its_share_of_the_scale(units: int, nanos: int, reward: float) -> None:
    """An order is a redemption as well, and a total over the scale counts as the scale."""
    told = Collected(offers=SCALED).tell(decision("d", offers=["o1"]), order("1", "d", 1, units=units, nanos=nanos))
    told.at(NOON + HELD_S // 2)
    assert ([(0, 1)], [(1, 1)], [(pytest.approx(reward), 1)]) == told.rows
    assert {0: pytest.approx(reward)} == told.outcomes[ORDER_VALUE]


def test_an_order_of_nothing_is_a_refusal() -> None:
    """An order of nothing is a refusal; a later one of more takes its place, one of nothing does not."""
    told = Collected(offers=SCALED).tell(decision("d", offers=["o1"]), order("1", "d", 1))
    told.at(NOON + SETTLE_S[ORDER_VALUE])
    assert ([(0, 1)], [(1, 1)], [(0, 1)]) == told.rows
    second = NOON + SETTLE_S[ORDER_VALUE]
    told.tell(order("2", "d", 1, second), order("3", "d", 1, second, units=20), order("4", "d", 1, second))
    assert ([], [], [(0, REFUSAL, Label(0.4, 1))]) == told.revised


@pytest.mark.parametrize(
    "of_unknown_worth",
    [order("1", "d", 1, units=20, currency="USD"), order("1", "d", 1, units=-20), event("1", "order", "d", 1)],
)
def test_what_an_order_is_worth_may_be_unknown(of_unknown_worth: LoggedEvent) -> None:
    """The value of an order in another currency, below 0, or without a total is never learned."""
    told = Collected(offers=SCALED).tell(decision("d", offers=["o1", "o2"]), of_unknown_worth)
    told.at(NOON + HELD_S // 2).tell(order("2", "d", 1, NOON + HELD_S // 2, units=20))
    second = FEATURES.keys({"offer.id": "o2"})[FEATURES.attributes.index("offer.id")]
    assert ([(1, 1), (0, 1)], [(0, 1)]) == told.rows[REDEMPTION:]
    assert second == told.keys[ORDER_VALUE][0][FEATURES.attributes.index("offer.id")]
    assert math.isnan(told.outcomes[ORDER_VALUE][0])


def test_a_gift_is_neither_reward_nor_refusal() -> None:
    """An order for somebody else says nothing of what the person likes, whether it was taken as an order or for its
    value.
    """  # noqa: D205
    gift = order("1", "d", 1, units=20)
    told_of = Event.FromString(gift.body)
    told_of.order.gift = True
    told = Collected(offers=SCALED).tell(decision("d", offers=["o1", "o2"]))
    told.tell(gift._replace(body=told_of.SerializeToString())).at(NOON + HELD_S // 2)
    assert [[(0, 1)]] * 2 == [list(rows) for rows in told.rows[REDEMPTION:]]
    assert all(math.isnan(told.outcomes[number][0]) for number in (REDEMPTION, ORDER_VALUE))


def test_a_redemption_says_nothing_of_order_values() -> None:
    """A redemption is neither an order value nor a refusal of one: offers without an order are settled all the same."""
    told = Collected(offers=SCALED).tell(decision("d", offers=["o1"]), event("1", "redemption", "d", 1, NOON + 1))
    told.at(NOON + SETTLE_S[ORDER_VALUE] - 1)
    assert ([], []) == told.rows[REDEMPTION:]
    told.at(NOON + SETTLE_S[ORDER_VALUE])
    assert ([(1, 1)], [(0, 1)]) == told.rows[REDEMPTION:]


def test_only_catalogues_with_a_scale_tell_of_order_values() -> None:
    """Each order is measured by its own catalogue's scale; without one, there are no examples."""
    scales = {"corner": Sum("EUR", 50.0), "far": Sum("JPY", 4_000.0)}
    told = Collected(offers=OFFERS._replace(scales=scales))
    for name, catalog, currency, units in (
        ("c", "corner", "EUR", 10), ("f", "far", "JPY", 1_000), ("n", "none", "EUR", 10),
    ):  # fmt: skip
        told.tell(order(f"early{name}", name, 1, units=units, currency=currency))
        told.tell(decision(name, offers=["o1", "o2", "o3"], catalog=catalog), event(f"i{name}", "impression", name, 2))
        told.tell(event(f"x{name}", "dismissal", name, 3))
    told.at(NOON + HELD_S // 2)
    assert [(0.2, 1), (0, 1), (0, DISMISSED), (0.25, 1), (0, 1), (0, DISMISSED)] == told.rows[ORDER_VALUE]
    assert [(1, 1), (0, 1), (0, DISMISSED)] * 3 == told.rows[REDEMPTION]


def test_a_late_order_revises_its_refusal() -> None:
    """An order after the settle time takes the place of the refusal, as a redemption as well."""
    told = Collected(offers=SCALED).tell(decision("d", offers=["o1"])).at(NOON + SETTLE_S[ORDER_VALUE])
    told.tell(order("1", "d", 1, NOON + 3_600, units=20))
    assert ([], [(0, REFUSAL, Label(1, 1))], [(0, REFUSAL, Label(0.4, 1))]) == told.revised
    assert 2 == told.collector.counts.late


def ordered(delay: int, paid: Callable[[random.Random], tuple[int, str] | None]) -> tuple[Collected, float]:
    """Return what was learned of an offer that some order, for units of a currency and after a delay, and the mean
    probability foreseen in the second half.
    """  # noqa: D205
    choose = random.Random(4)
    told = Collected(offers=SCALED)
    story: list[Told] = []
    for number in range(4_000):
        second = NOON + 10 * number
        story.append(decision(f"d{number}", second, ["o1"], ""))
        if total := paid(choose):
            story.append(order(f"c{number}", f"d{number}", 1, second + delay, units=total[0], currency=total[1]))
    end = story[-1].second - delay
    foreseen = []
    for number, one in enumerate(in_order([one for one in story if one.second <= end])):
        told.collect(one)
        if number > 3_000 and number % 25 == 0:
            told.collector.flush()
            foreseen.append(told.chance("o1", one.second, ORDER_VALUE))
    return told, float(np.mean(foreseen))


@pytest.mark.parametrize("delay", [5, SETTLE_S[ORDER_VALUE] + 600])
def test_order_values_are_foreseen_as_they_are_however_late_orders_come(delay: int) -> None:
    """If half of the people order, for 10 or 40 of a scale of 50, a quarter of the scale is foreseen."""
    _, foreseen = ordered(delay, lambda choose: (choose.choice([10, 40]), "EUR") if choose.random() < 0.5 else None)
    assert 0.25 == pytest.approx(foreseen, abs=0.03)


@pytest.mark.parametrize("delay", [5, SETTLE_S[ORDER_VALUE] + 600])
def test_orders_of_unknown_worth_teach_nothing_however_late_they_come(delay: int) -> None:
    """Orders in another currency do not change what is foreseen: a refusal learned before one is taken back."""
    totals = [(40, "EUR"), None, (40, "USD"), (40, "USD")]
    told, foreseen = ordered(delay, lambda choose: choose.choice(totals))
    assert 0.4 == pytest.approx(foreseen, abs=0.04)
    assert all(math.isnan(one) or one in {0, 0.8} for one in told.outcomes[ORDER_VALUE].values())


def test_shares_are_judged_as_what_is_or_is_not() -> None:
    """For rewards between 0 and 1, too, true probabilities are never worse; noisy ones are worse by log loss, and too
    high ones by calibration.
    """  # noqa: D205
    random_ = np.random.default_rng(2)
    truth = random_.uniform(0.05, 0.4, 4_000)
    reward = np.where(random_.random(4_000) < 0.5, random_.beta(2 * truth, 2 - 2 * truth), truth)
    noisy = np.clip(truth + random_.normal(0, 0.1, 4_000), 0.01, 0.99)
    assert 0 < np.median(reward) < 1
    assert "" == worse((reward, truth), (reward, noisy))
    assert "log loss on the last 4,000 offers shown" in worse((reward, noisy), (reward, truth))
    flat = np.full(4_000, reward.mean())
    assert "calibration error on the last 4,000 offers shown" in worse((reward, truth + 0.06), (reward, flat))
    recent = Recent()
    recent.foreseen(truth, noisy)
    for number, one in enumerate(reward.tolist()):
        recent.settle(number, one)
    assert "" == worse(*recent.of_both())
    assert recent.figures()["calibration_error"] < 0.02


def test_without_a_scale_nothing_of_order_values_is_kept(log: SqliteEvents, folder: Path) -> None:
    """Without a scale, orders are learned as redemptions, and no array, figure or example has order values."""
    write(log, *happenings(ROWS))
    learn(log, folder)
    model = current_model(folder)
    assert model is not None
    (checkpoint,) = (folder / "checkpoint").iterdir()
    assert ["click", "redemption"] == model.meta["rewards"] == list(propensities(model))
    assert "order_value" not in model.meta["figures"]
    assert [] == [name for name in model.arrays if name.startswith("order_value")]
    assert ["order_value.recent.npy"] == [path.name for path in checkpoint.glob("order_value*")]


def test_what_orders_are_worth_is_learned(log: SqliteEvents, folder: Path, tmp_path: Path) -> None:
    """Order values are shares of the scale, with any pauses; clicks and redemptions are as without a scale."""
    write(log, *happenings(ROWS))
    learn(log, tmp_path / "without")
    expected = learn(log, folder, offers=SCALED)
    model, without = current_model(folder), current_model(tmp_path / "without")
    assert model is not None
    assert without is not None
    figures = model.meta["figures"]
    assert figures["redemption"]["examples"] == figures["order_value"]["examples"] == 4 * ROWS
    assert 4 * ROWS // JUDGED_EVERY == figures["order_value"]["judged"]
    for name, array in without.arrays.items():
        assert array.tobytes() == model.arrays[name].tobytes()
    assert 0 < chance(folder, "rain", "o3", "order_value") < chance(folder, "rain", "o3", "redemption")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_reading, "PAGE", 97)
        for second in range(0, ROWS + 500, 200):
            one = opened(log, tmp_path / "paused", offers=SCALED)
            while one.step(NOON + second):
                pass
            one.checkpoint()
            one.close()
        assert expected == learn(log, tmp_path / "paused", offers=SCALED)


def test_shares_add_up_alike_however_the_log_is_cut(
    log: SqliteEvents, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published bytes do not depend on the size of pages, even if shares have no exact sum."""
    names = [f"{number:032x}" for number in range(300)]
    orders = [
        order(name, name, 1, NOON + number, units=number % 49, nanos=7_777_777 * number % 10**9)
        for number, name in enumerate(names)
    ]
    write(log, [decision(name, NOON + number, ["o1"]) for number, name in enumerate(names)], orders)
    expected = learn(log, folder, offers=SCALED)
    monkeypatch.setattr(log_reading, "PAGE", 7)
    assert expected == learn(log, tmp_path / "in-small-pages", offers=SCALED)


@pytest.mark.parametrize("ends", ["goes on", "begins again", "is stopped"])
def test_another_scale_is_learned_anew(log: SqliteEvents, folder: Path, tmp_path: Path, ends: str) -> None:
    """When a catalogue changes or drops its scale, models become those of a learner that never knew another: as it
    runs, when it starts again, and after it was stopped while learning the log again.
    """  # noqa: D205
    write(log, *happenings(ROWS))
    learn(log, folder, offers=SCALED)
    for number, scales in enumerate(({"corner": Sum("EUR", 20.0)}, {"corner": Sum("USD", 20.0)}, {})):
        offers = OFFERS._replace(scales=scales)
        if ends == "is stopped":
            stopped = Learner(log, folder, offers, bits=BITS, stop=lambda: True)
            assert stopped.publish() is None
            stopped.checkpoint()
            stopped.close()
        one = opened(log, folder, offers=_last(folder) if ends == "goes on" else offers)
        one.update_catalogues(offers)
        model = one.publish()
        one.checkpoint()
        one.close()
        assert model is not None
        fresh = learn(log, tmp_path / f"fresh{number}", offers=offers)
        expected = current_model(tmp_path / f"fresh{number}")
        assert expected is not None
        assert fresh == expected.version
        assert expected.arrays.keys() == model.arrays.keys()
        for name, array in expected.arrays.items():
            assert array.tobytes() == model.arrays[name].tobytes()
        assert [] == one.refused


def _last(folder: Path) -> CatalogueFacts:
    """Return what the catalogues told when the current model was published."""
    model = current_model(folder)
    assert model is not None
    return OFFERS._replace(scales={name: Sum(*scale) for name, scale in model.meta["scales"].items()})
