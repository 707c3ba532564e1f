"""Trees grown from a log: judged by what they have not seen, and published with the online models from then on."""

import math
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from offers.learning import learner
from offers.learning.learner import Learner, current_model
from offers.learning.model import Model
from offers.learning.model_folder import exclusive
from offers.learning.pending import DISMISSED
from offers.learning.propensity.features import CATEGORY, DISTANCE, Features
from offers.learning.propensity.tree_training import FinalOutcomes, TreeFolder, grow
from offers.learning.propensity.trees import Trees
from offers.learning.settling import HELD_S, SETTLE_S, Lookups
from offers.learning.values import ORDER_VALUE, CatalogueFacts, Sum, features_for
from offers.state.sqlite.events import SqliteEvents
from offers.state.stores import LoggedDecision, LoggedEvent
from tests.learning.made_log import (
    NOON,
    OFFERS,
    SCALED,
    at_its_end,
    decision,
    event,
    happenings,
    order,
    values_of,
    write,
)

pytest.importorskip("lightgbm", reason="needs LightGBM: pip install 'offers[gbdt]'")
BITS = 12
ROWS = 1_000
OFFERS_SEEN = features_for([], (), BITS)


def learned(log: SqliteEvents, folder: Path, offers: CatalogueFacts = OFFERS) -> Learner:
    """A learner that has learned all there is, and published it."""
    one = Learner(log, folder, offers, bits=BITS)
    one.catch_up(lambda: False, lambda _: None, at_its_end)
    return one


def foreseen(model: Model, values: dict[str, object], reward: str = "click") -> float:
    """How likely the trees of a published model take a reward to be."""
    features = Features.of_json(model.meta["features"])
    assert reward in model.meta["trees"]
    prefix = f"{reward}.trees."
    arrays = {name.removeprefix(prefix): one for name, one in model.arrays.items() if name.startswith(prefix)}
    trees, size = Trees.of_arrays(features, arrays), features.request_size
    keys, numbers = features.keys(values), features.numbers(values)
    (logit,) = trees.predict((keys[:size], numbers[:size]), (keys[None, size:], numbers[None, size:]))
    return float(1 / (1 + np.exp(-logit)))


def asked(weather: str, offer: str, **more: object) -> dict[str, object]:
    """The values of a request and an offer."""
    known = {f"offer.{name}": value for name, value in values_of("corner", offer).items()}
    return {"context.weather": weather, "offer.id": offer, **known, **more}


def test_trees_are_grown_and_published(log: SqliteEvents, tmp_path: Path) -> None:
    """Trees know what the log shows, such as who likes what in the rain; they stay in the models published later."""
    write(log, *happenings(ROWS))
    one = learned(log, tmp_path / "learning")
    assert [] == current(one).meta["trees"]
    click, redemption = one.grow(lambda: False)
    assert ("click", 4 * ROWS, 0.2 * 4 * ROWS, "") == (
        click.reward, click.examples, click.figures["judged"], click.refused
    )  # fmt: skip
    assert click.figures["log_loss"] < 0.35
    assert ("redemption", "") == (redemption.reward, redemption.refused)
    first = one.publish()
    assert first is not None
    assert foreseen(first, asked("rain", "o3")) > 0.5
    assert foreseen(first, asked("sun", "o3")) < 0.25
    assert foreseen(first, asked("rain", "o4")) < 0.25
    assert foreseen(first, asked("rain", "o3"), "redemption") < foreseen(first, asked("rain", "o3"))
    assert one.publish() is None
    write(log, *happenings(100, first=ROWS))
    one.catch_up(lambda: False, lambda _: None, at_its_end)
    one.close()
    later = current(one)
    assert first.version != later.version
    assert foreseen(first, asked("rain", "o3")) == foreseen(later, asked("rain", "o3"))
    again = Learner(log, tmp_path / "learning", OFFERS, bits=BITS)
    assert again.publish() is None
    again.close()


def current(one: Learner) -> Model:
    """The published model."""
    model = current_model(one.folder)
    assert model is not None
    return model


def test_numbers_are_asked_as_they_are(log: SqliteEvents, tmp_path: Path) -> None:
    """If everybody over 37.5 clicks, trees find that edge; online models cannot resolve the numbers."""
    decisions, events = peopled(lambda age, _: 0.9 if age > 37.5 else 0.1)
    write(log, decisions, events)
    one = learned(log, tmp_path / "learning")
    click, _ = one.grow(lambda: False)
    assert "" == click.refused
    assert click.figures["log_loss"] < 0.9 * click.beside["log_loss"]
    model = one.publish()
    one.close()
    assert model is not None
    chances = [foreseen(model, asked("sun", "o1", **{"profile.age": age})) for age in (37.0, 38.0)]
    assert [0.1, 0.9] == pytest.approx(chances, abs=0.1)


def test_distances_are_asked_as_they_are(log: SqliteEvents, tmp_path: Path) -> None:
    """If offers within 1,600 m are clicked, trees find that edge inside a bucket of distances."""
    choose = random.Random("distances")
    decisions, events = [], []
    for number in range(ROWS):
        metres = [choose.choice([0] * 6 + [*range(1_500, 2_000, 20)]) for _ in range(3)]
        offers = [f"o{one}" for one in choose.sample(range(20), 3)]
        decisions.append(decision(f"{number:032x}", NOON + number, offers, f"u:{number}", distances_m=metres))
        for rank, far in enumerate(metres, 1):
            if choose.random() < (0.9 if 0 < far <= 1_600 else 0.1):
                events.append(event(f"c{number}-{rank}", "click", decisions[-1].decision_id, rank, NOON + number + 5))
    write(log, decisions, events)
    one = learned(log, tmp_path / "learning")
    assert "" == one.grow(lambda: False)[0].refused
    model = one.publish()
    one.close()
    assert model is not None
    told = [foreseen(model, asked("sun", "o1", **more)) for more in ({DISTANCE: 1_590}, {DISTANCE: 1_630}, {})]
    assert [0.9, 0.1, 0.1] == pytest.approx(told, abs=0.1)


def peopled(chance: Callable[[float, str], float], first: int = 0) -> tuple[list[LoggedDecision], list[LoggedEvent]]:
    """Decisions about people between 32 and 43 of age, and their clicks."""
    choose = random.Random(f"ages {first}")
    decisions, events = [], []
    for number in range(first, first + ROWS):
        second, age = NOON + number, choose.randrange(64, 86) / 2
        offers = [f"o{one}" for one in choose.sample(range(20), 3)]
        made = decision(f"{number:032x}", second, offers, f"u:{number}", time=second)
        told = made.told()
        told.profile_attributes["age"] = age
        decisions.append(made._replace(record=told.SerializeToString()))
        for rank, offer in enumerate(offers, 1):
            events.append(event(f"i{number}-{rank}", "impression", made.decision_id, rank, second))
            if choose.random() < chance(age, offer):
                events.append(event(f"c{number}-{rank}", "click", made.decision_id, rank, second + 5))
    return decisions, sorted(events, key=lambda one: one.received)


def test_trees_that_have_become_worse_are_not_promoted(log: SqliteEvents, tmp_path: Path) -> None:
    """After a long time in which people did the opposite, the trees before it stay as long as they are better."""

    def older(age: float, _: str) -> float:
        return 0.9 if age > 37.5 else 0.1

    def younger(age: float, _: str) -> float:
        return 1 - older(age, "")

    write(log, *peopled(older))
    one = learned(log, tmp_path / "learning")
    one.grow(lambda: False)
    good = one.publish()
    assert good is not None
    for number in range(1, 4):
        write(log, *peopled(younger, number * ROWS))
    write(log, *peopled(older, 4 * ROWS))
    click, _ = one.grow(lambda: False)
    assert "the incumbent's" in click.refused
    assert click.beside["log_loss"] < click.figures["log_loss"]
    one.catch_up(lambda: False, lambda _: None, at_its_end)
    one.close()
    values = asked("sun", "o1", **{"profile.age": 40.0})
    assert foreseen(good, values) == foreseen(current(one), values)


def test_trees_follow_the_features(log: SqliteEvents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees answer alike where models come to know more, and are not used where they ask what may not be known."""
    monkeypatch.setattr(learner, "worse", lambda *_: "")  # attributes that tell nothing make no model better
    write(log, *peopled(lambda age, _: 0.9 if age > 37.5 else 0.1))
    one = learned(log, tmp_path / "learning")
    one.grow(lambda: False)
    first = one.publish()
    assert first is not None
    one.update_catalogues(OFFERS._replace(attributes=("hot", "another")))
    second = one.publish()
    assert second is not None
    assert len(Features.of_json(first.meta["features"]).attributes) < len(one.training.features.attributes)
    for age in (32.5, 40.0):
        values = asked("sun", "o1", **{"profile.age": age})
        assert foreseen(first, values) == foreseen(second, values)
    one.update_catalogues(OFFERS._replace(sensitive=frozenset({"age"})))
    third = one.publish()
    one.close()
    assert third is not None
    assert "click" not in third.meta["trees"]
    assert [] == [name for name in third.arrays if name.startswith("click.trees.")]


def test_each_offer_shown_is_one_example() -> None:
    """A late click is a click, a dismissal counts as three refusals, and what may not be said is none of them."""
    shown = ["o1", "o2", "o3", "o4"]
    told = FinalOutcomes(OFFERS_SEEN, Lookups(OFFERS, lambda _: []))
    told.add_decision(NOON, decision("d", NOON, shown))
    told.add_event(NOON, event("1", "dismissal", "d", 3, NOON))
    told.add_event(NOON + 9_000, event("2", "click", "d", 2, NOON + 9_000))
    told.add_event(NOON + 9_000, event("3", "click", "d", 4, NOON + 9_000, learn=False))
    told.add_event(NOON + 9_001, event("4", "dismissal", "d", 1, NOON + 9_001))
    told.pass_time(NOON + HELD_S)
    click = told.examples(0)
    place = OFFERS_SEEN.attributes.index("offer.id")
    names = {int(OFFERS_SEEN.keys({"offer.id": name})[place]): name for name in shown}
    assert {"o1": (0, DISMISSED), "o2": (1, 1), "o3": (0, DISMISSED)} == {
        names[int(key)]: (reward, importance)
        for key, reward, importance in zip(click.keys[:, place], click.reward, click.importance, strict=True)
    }
    redemption = told.examples(1)
    assert [0.0] * 3 == redemption.reward.tolist()
    assert {NOON} == set(redemption.time.tolist())


def test_what_an_order_is_worth_is_one_example() -> None:
    """Its share of the scale, whether it comes in time, late, or after one of nothing; unknown, it is none."""
    told = FinalOutcomes(OFFERS_SEEN, Lookups(SCALED, lambda _: []))
    told.add_decision(NOON, decision("d", NOON, ["o1", "o2", "o3", "o4", "o5"]))
    told.add_event(NOON, order("1", "d", 1, NOON, units=20))
    told.add_event(NOON, order("2", "d", 2, NOON))
    for name, rank, currency in (("3", 2, "EUR"), ("4", 3, "EUR"), ("5", 4, "USD")):
        told.add_event(NOON + 9_000, order(name, "d", rank, NOON + 9_000, units=30, currency=currency))
    told.pass_time(NOON + HELD_S)
    examples, place = told.examples(ORDER_VALUE), OFFERS_SEEN.attributes.index("offer.id")
    names = {int(OFFERS_SEEN.keys({"offer.id": f"o{number}"})[place]): f"o{number}" for number in range(1, 6)}
    assert {"o1": (0.4, 1), "o2": (0.6, 1), "o3": (0.6, 1), "o5": (0, 1)} == {
        names[int(key)]: (reward, importance)
        for key, reward, importance in zip(examples.keys[:, place], examples.reward, examples.importance, strict=True)
    }


def test_trees_of_order_values_follow_the_scale(log: SqliteEvents, tmp_path: Path) -> None:
    """Trees of order values foresee shares of a scale, and are not used on another one until they are grown again;
    trees of clicks stay.
    """  # noqa: D205
    write(log, *happenings(ROWS))
    one = learned(log, tmp_path / "learning", SCALED)
    grown = one.grow(lambda: False)
    assert [("click", ""), ("redemption", ""), ("order_value", "")] == [(each.reward, each.refused) for each in grown]
    first = one.publish()
    assert first is not None
    shares = [foreseen(first, asked("rain", "o3"), name) for name in ("order_value", "redemption")]
    assert 0.2 * shares[1] < shares[0] < shares[1]
    one.update_catalogues(OFFERS._replace(scales={"corner": Sum("EUR", 500.0)}))
    second = one.publish()
    assert second is not None
    assert ["click", "redemption"] == second.meta["trees"]
    one.grow(lambda: False)
    third = one.publish()
    one.close()
    assert third is not None
    assert ["click", "order_value", "redemption"] == third.meta["trees"]
    assert shares[0] / 10 == pytest.approx(foreseen(third, asked("rain", "o3"), "order_value"), rel=0.3)


@pytest.mark.parametrize("is_learned_before", [False, True])
def test_what_may_not_be_said_is_no_example(*, is_learned_before: bool) -> None:
    """A click that then may not be learned from is no example, whether or not it was one already."""
    told = FinalOutcomes(OFFERS_SEEN, Lookups(OFFERS, lambda _: []))
    told.add_decision(NOON, decision("d", NOON, ["o1", "o2"]))
    told.add_event(NOON, event("1", "click", "d", 1, NOON))
    if is_learned_before:
        told.pass_time(NOON + SETTLE_S[0])
        told.flush()
        assert 2 == len(told.examples(0).reward)
    told.add_event(NOON, event("2", "click", "d", 1, NOON, learn=False))
    told.add_event(NOON + 1, event("3", "click", "d", 2, NOON + 1))
    told.pass_time(NOON + HELD_S)
    click, place = told.examples(0), OFFERS_SEEN.attributes.index("offer.id")
    assert [int(OFFERS_SEEN.keys({"offer.id": "o2"})[place])] == click.keys[:, place].tolist()


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_only_finite_numbers_are_learned(number: float) -> None:
    """Only finite numbers are numbers to trees, in training as in decisions."""
    features = features_for(["profile.age"], (), BITS)
    made = decision("d", NOON, ["o1"])
    record = made.told()
    record.profile_attributes["age"] = number
    told = FinalOutcomes(features, Lookups(OFFERS, lambda _: []))
    told.add_decision(NOON, made._replace(record=record.SerializeToString()))
    told.add_event(NOON, event("1", "click", "d", 1, NOON))
    told.pass_time(NOON + HELD_S)
    place = features.attributes.index("profile.age")
    assert math.isnan(told.examples(0).numbers[0, place])
    assert math.isnan(features.numbers({"profile.age": number})[place])


def test_trees_are_forgotten_where_all_is_learned_anew(log: SqliteEvents, tmp_path: Path) -> None:
    """Trees may stem from persons who were erased since: models learned anew have no trees until some are grown.

    Removing them waits for a process that is writing trees.
    """
    write(log, *happenings(ROWS))
    one = learned(log, tmp_path / "learning")
    one.grow(lambda: False)
    assert one.publish() is not None
    one.close()
    assert {"click", "redemption"} == set(current(one).meta["trees"])

    def anew() -> None:
        again = Learner(log, one.folder, OFFERS, bits=BITS, anew=True)
        again.catch_up(lambda: False, lambda _: None, at_its_end)
        again.close()

    thread = threading.Thread(target=anew)
    with exclusive(one.folder / "trees"):
        thread.start()
        thread.join(0.2)
        assert (one.folder / "trees").exists()
    thread.join()
    assert not (one.folder / "trees").exists()
    assert ([], "") == (current(one).meta["trees"], current(one).meta["grown"])


def test_few_examples_make_no_trees(log: SqliteEvents, tmp_path: Path) -> None:
    """A few examples give no trees, and the reason is told."""
    write(log, *happenings(20))
    one = learned(log, tmp_path / "learning")
    told = one.grow(lambda: False)
    one.close()
    assert ["80 examples are too few, 500 are needed"] * 2 == [growth.refused for growth in told]
    assert not (one.folder / "trees").exists()


def test_damaged_trees_are_passed_over(log: SqliteEvents, tmp_path: Path) -> None:
    """If the trees are damaged or gone, those read before stay in use; a new learner has none."""
    write(log, *happenings(ROWS))
    one = learned(log, tmp_path / "learning")
    one.grow(lambda: False)
    grown = TreeFolder(one.folder)
    version = grown.version()
    assert version
    (kept,) = (one.folder / "trees").iterdir()
    (kept / "click.leaf.npy").unlink()  # what is mapped must not be cut short
    (kept / "click.leaf.npy").write_bytes(b"broken")
    kept.rename(kept.with_name("f" * 16))
    assert version == grown.version()
    assert {"click", "redemption"} == set(grown.trees(one.training.features, {}))
    assert "" == TreeFolder(one.folder).version()
    assert {} == TreeFolder(one.folder).trees(one.training.features, {})
    one.close()


def test_growing_is_given_up_when_told_so(log: SqliteEvents, tmp_path: Path) -> None:
    """A command that is to stop grows nothing."""
    write(log, *happenings(ROWS))
    one = learned(log, tmp_path / "learning")
    features, folder = one.training.features, one.folder
    assert CATEGORY in features.attributes
    one.close()
    assert [] == grow(log, Lookups(OFFERS, log.decisions), features, folder, lambda: True)
    assert not (folder / "trees").exists()
