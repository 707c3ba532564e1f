"""The learner: the same log gives the same model, whatever happens meanwhile, and worse models are not published."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from offers.errors import OffersError
from offers.learning import following, learner, log_reading, settling, training
from offers.learning.following import follow
from offers.learning.learner import Learner, current_model, propensities
from offers.learning.model import open_model
from offers.learning.model_folder import latest
from offers.learning.promotion import worse
from offers.learning.propensity import rehearsal
from offers.learning.propensity.examples import JUDGED_EVERY
from offers.learning.propensity.features import CATEGORY
from offers.learning.values import CatalogueFacts
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.v1.event_pb2 import EVENT_KIND_CLICK, Event
from tests.learning.made_log import NOON, OFFERS, at_its_end, event, happenings, write
from tests.paths import ROOT, environment

BITS = 12
ROWS = 1_200
FOREVER = float("inf")


def opened(log: SqliteEvents, folder: Path, *, anew: bool = False, offers: CatalogueFacts = OFFERS) -> Learner:
    """Return a learner with few weights."""
    return Learner(log, folder, offers, bits=BITS, anew=anew)


def learn(log: SqliteEvents, folder: Path, *, anew: bool = False, offers: CatalogueFacts = OFFERS) -> str:
    """Learn the whole log, and return the version of the published model."""
    one = opened(log, folder, anew=anew, offers=offers)
    one.catch_up(lambda: False, lambda _: None, at_its_end)
    one.close()
    model = current_model(folder)
    return model.version if model else ""


def chance(folder: Path, weather: str, offer: str, reward: str = "click") -> float:
    """Return the probability that the published model foresees for an offer at noon."""
    model = current_model(folder)
    assert model is not None
    propensity = propensities(model)[reward]
    values = {"context.weather": weather, **{f"offer.{name}": one for name, one in OFFERS.values("c", offer).items()}}
    keys = propensity.features.keys(values | {"offer.id": offer})
    size = propensity.features.request_size
    return float(propensity.predict(keys[:size], keys[None, size:]).probability()[0])


def test_what_people_like_is_learned(log: SqliteEvents, folder: Path) -> None:
    """The log teaches which offers are clicked in which weather, and that a third of the clicks lead to orders."""
    write(log, *happenings(ROWS))
    learn(log, folder)
    assert chance(folder, "rain", "o3") > 0.5
    assert chance(folder, "sun", "o3") < 0.25
    assert chance(folder, "rain", "o4") < 0.25
    assert chance(folder, "rain", "o3", "redemption") < chance(folder, "rain", "o3")
    model = current_model(folder)
    assert model is not None
    assert {"context.weather", "profile.age", CATEGORY} < set(propensities(model)["click"].features.attributes)
    assert (4 * ROWS, 4 * ROWS // JUDGED_EVERY) == tuple(
        model.meta["figures"]["click"][name] for name in ("examples", "judged")
    )
    assert model.meta["figures"]["click"]["log_loss"] < 0.35
    assert model.meta["position"]["decision"] == ROWS


def test_the_same_log_gives_the_same_model(log: SqliteEvents, folder: Path, tmp_path: Path) -> None:
    """Bytes and meta are the same after learning again, in another folder, in pages of any size, and with pauses."""
    write(log, *happenings(ROWS))
    expected = learn(log, folder)
    assert expected == learn(log, folder)
    assert expected == learn(log, folder, anew=True)
    assert expected == learn(log, tmp_path / "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_reading, "PAGE", 97)
        one = opened(log, tmp_path / "paused")
        for second in range(0, ROWS + 500, 50):  # not beyond the log, as time that passes settles offers
            while one.step(NOON + second):
                pass
            one.checkpoint()
            one.close()
            one = opened(log, tmp_path / "paused")
        one.catch_up(lambda: False, lambda _: None, at_its_end)
        one.close()
    model = current_model(tmp_path / "paused")
    assert model is not None
    assert expected == model.version


def test_killed_anywhere_it_goes_on_to_the_same_model(log: SqliteEvents, folder: Path, tmp_path: Path) -> None:
    """A learner that is killed again and again ends with the model of one that never was. Each time it leaves whole
    models and a whole checkpoint.
    """  # noqa: D205
    write(log, *happenings(ROWS))
    expected = learn(log, folder)
    killed = tmp_path / "killed"
    choose = random.Random(1)
    command = [sys.executable, "-P", "-m", "tests.learning.learn_slowly", str(tmp_path / "state.db"), str(killed)]
    kills, whole = 0, list[bool]()
    while True:
        child = subprocess.Popen(command, cwd=ROOT, env=environment())
        before = _kept(killed)
        deadline = time.monotonic() + 60
        while child.poll() is None and _kept(killed) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(choose.uniform(0, 0.3))
        if kills < 6 and child.poll() is None:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
            whole.append(latest(killed / "checkpoint") is not None)
            assert whole == sorted(whole)  # once there is one, there always is
            assert (current_model(killed) is not None) == (killed / "current.json").exists()
            continue
        assert 0 == child.wait()
        break
    assert 6 == kills
    model = current_model(killed)
    assert model is not None
    assert expected == model.version


def _kept(folder: Path) -> set[str]:
    checkpoints = folder / "checkpoint"
    return {path.name for path in checkpoints.iterdir()} if checkpoints.exists() else set()


def test_a_damaged_checkpoint_is_not_believed(log: SqliteEvents, folder: Path) -> None:
    """A damaged checkpoint is ignored, and the log is learned again."""
    write(log, *happenings(300))
    expected = learn(log, folder)
    (array,) = (folder / "checkpoint").glob("*/click.model.weight.npy")
    array.write_bytes(array.read_bytes()[:-1] + b"\x01")
    assert expected == learn(log, folder)


def test_the_last_good_models_are_kept(log: SqliteEvents, folder: Path) -> None:
    """Up to three published models are kept; if the current one is damaged, the one before it is used."""
    versions = []
    for number in range(5):
        write(log, *happenings(150, first=150 * number))
        versions.append(learn(log, folder))
    assert 5 == len(set(versions))
    assert set(versions[2:]) == {path.name for path in (folder / "models").iterdir()}
    current = current_model(folder)
    assert current is not None
    assert (versions[-1], orjson.loads((folder / "current.json").read_bytes())["version"]) == (
        current.version,
        versions[-1],
    )
    (folder / "models" / versions[-1] / "click.weight.npy").write_bytes(b"broken")
    before = current_model(folder)
    assert before is not None
    assert versions[-2] == before.version


def test_only_what_was_learned_is_published(log: SqliteEvents, folder: Path) -> None:
    """Without examples there is no model, and nothing is published where nothing new was learned."""
    one = opened(log, folder)
    assert one.publish() is None
    write(log, *happenings(100))
    while one.step(FOREVER):
        pass
    assert one.publish() is not None
    assert one.publish() is None
    one.checkpoint()
    one.close()
    again = opened(log, folder)
    assert again.publish() is None
    again.close()


def test_a_model_that_has_become_worse_is_not_promoted(
    log: SqliteEvents, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a time in which people seemed to want the opposite, the earlier model is kept as long as it is better."""
    monkeypatch.setattr(log_reading, "PAGE", 500)
    write(log, *happenings(ROWS))
    good = learn(log, folder)
    write(log, *happenings(ROWS, first=ROWS, flipped=True))
    one = opened(log, folder)
    while one.step(FOREVER):
        pass
    for recent in one.training.recent.values():
        recent.incumbent[:] = np.nan  # the time of the mistake is not what it is judged by
    write(log, *happenings(ROWS // 2, first=2 * ROWS))
    while one.step(FOREVER):
        pass
    assert one.publish() is None
    one.close()
    current = current_model(folder)
    assert current is not None
    assert good == current.version
    (why,) = one.refused
    assert "the model of click at event" in why
    assert "the incumbent's" in why


def test_worse_is_told_in_words() -> None:
    """Models are compared by log loss, then by calibration; a few examples, or a chance difference, decide nothing."""
    random_ = np.random.default_rng(1)
    truth = random_.uniform(0.05, 0.4, 4_000)
    reward = (random_.random(4_000) < truth).astype(np.float64)
    noisy = np.clip(truth + random_.normal(0, 0.1, 4_000), 0.01, 0.99)
    assert "" == worse((reward, truth), (reward, noisy))
    assert "log loss on the last 4,000 offers shown" in worse((reward, noisy), (reward, truth))
    assert "" == worse((reward[:99], noisy[:99]), (reward[:99], truth[:99]))
    assert "" == worse((reward, truth), (reward, truth))
    other = (random_.random(4_000) < truth).astype(np.float64)
    assert "" == worse((other, truth), (reward, truth))
    assert "log loss" in worse((other, np.full(4_000, 0.9)), (reward, truth))
    flat = np.full(4_000, reward.mean())  # which tells nothing apart, but promises nothing wrong either
    assert "calibration error on the last 4,000 offers shown" in worse((reward, truth + 0.06), (reward, flat))


def test_erased_persons_are_in_no_model_learned_anew(log: SqliteEvents, folder: Path, tmp_path: Path) -> None:
    """Learned again after an erasure, the model is that of a log without the person."""
    decisions, events = happenings(ROWS)
    write(log, decisions, events)
    learn(log, folder)
    persons = {one.decision_id: one.person for one in decisions}
    gone = "u:7"
    owned = [one._replace(person=persons[_decision_of(one.body)]) for one in events]
    other = SqliteEvents(Database(tmp_path / "other.db"))
    write(other, [one for one in decisions if one.person != gone], [one for one in owned if one.person != gone])
    clean = SqliteEvents(Database(tmp_path / "erased.db"))
    write(clean, decisions, owned)
    assert clean.erase([gone]) > 0
    learn(clean, tmp_path / "a", anew=True)
    learn(other, tmp_path / "b")
    arrays = [current_model(tmp_path / name) for name in "ab"]
    assert arrays[0] is not None
    assert arrays[1] is not None
    for name, array in arrays[0].arrays.items():
        assert array.tobytes() == arrays[1].arrays[name].tobytes()
    other.close()
    clean.close()


def test_a_crash_brings_nothing_back(log: SqliteEvents, folder: Path, tmp_path: Path) -> None:
    """Learning anew never continues from earlier state, wherever it crashes: before the first page, or between writing
    the new checkpoint and removing the old one.
    """  # noqa: D205
    write(log, *happenings(100))
    for _ in range(3):
        learn(log, folder)
    (before,) = (folder / "checkpoint").iterdir()
    shutil.copytree(before, tmp_path / "before")
    opened(log, folder, anew=True).close()
    shutil.copytree(tmp_path / "before", before, dirs_exist_ok=True)
    again = opened(log, folder)
    again.close()
    assert (0, 0) == again.training.position[:2]


def test_learning_again_is_left_off_when_told_so(log: SqliteEvents, folder: Path) -> None:
    """Stopped while it learns the log again, a learner publishes nothing that may not be known, and keeps what it has;
    the next one is as if it had not been stopped.
    """  # noqa: D205
    write(log, *happenings(ROWS))
    one = opened(log, folder)
    one.catch_up(lambda: False, lambda _: None, at_its_end)
    one.close()
    shutil.copytree(folder, folder.parent / "unstopped")
    known, published = one.training.features.attributes, current_model(folder)
    assert "profile.age" in known
    marked = OFFERS._replace(sensitive=frozenset({"age"}))
    stopped = Learner(log, folder, marked, bits=BITS, stop=lambda: True)
    stopped.catch_up(lambda: True, lambda _: None)
    stopped.close()
    assert known == stopped.training.features.attributes
    assert published is not None
    assert published.version == getattr(current_model(folder), "version", "")
    weights = []
    for name in ("learning", "unstopped"):
        again = Learner(log, folder.parent / name, marked, bits=BITS)
        model = again.publish()
        again.close()
        assert "profile.age" not in again.training.features.attributes
        assert model is not None
        weights.append(model.arrays["click.weight"].tobytes())
    assert weights[0] == weights[1]


def test_attributes_counted_up_when_stopped_are_counted_up_again(log: SqliteEvents, folder: Path) -> None:
    """If learning the log again with frequent attributes is stopped, the next learner begins with that."""
    write(log, *happenings(ROWS))
    expected = learn(log, folder.parent / "unstopped")
    one = opened(log, folder)
    one.catch_up(lambda: one.training.collector.counts.decisions >= training.FIRST_REVIEW, lambda _: None, at_its_end)
    one.close()
    assert current_model(folder) is None
    assert training.FIRST_REVIEW == one.training.collector.counts.decisions == one.training.review
    assert expected == learn(log, folder)


def test_decisions_that_wait_are_forgotten_with_their_person(log: SqliteEvents, folder: Path) -> None:
    """Pending decisions of an erased person are not learned when the learner comes back."""
    decisions, events = happenings(100)
    write(log, decisions, events)
    one = opened(log, folder)
    while one.step(NOON + 50):
        pass
    one.checkpoint()
    one.close()
    waiting = set(one.training.collector.held)
    log.erase(["u:7"])
    again = opened(log, folder)
    gone = waiting - set(again.training.collector.held)
    assert {made.decision_id for made in decisions[:51] if made.person == "u:7"} == gone
    assert gone
    again.close()


def test_what_was_learned_of_a_person_leaves_the_files(log: SqliteEvents, folder: Path) -> None:
    """After an erasure, no id of the person's decisions is in the next checkpoint, nor an example of theirs."""
    decisions, events = happenings(400)
    write(log, decisions, events)
    learn(log, folder)
    theirs = {made.decision_id for made in decisions if made.person == "u:7"}

    def found() -> set[str]:
        saved = latest(folder / "checkpoint")
        assert saved is not None
        kept = np.concatenate([saved.arrays[name] for name in saved.arrays if name.endswith(".kept.decision")])
        return {name.decode() for name in kept.tolist()} | {held[0] for held in saved.meta["collector"]["held"]}

    assert theirs <= found()
    log.erase(["u:7"])
    learn(log, folder)
    assert not theirs & found()
    assert found()


@pytest.mark.parametrize("trap", [False, True])
def test_attributes_that_make_it_worse_are_declined(
    log: SqliteEvents, folder: Path, monkeypatch: pytest.MonkeyPatch, *, trap: bool
) -> None:
    """When attributes become frequent, models with them are learned too, and replace the others unless worse."""
    monkeypatch.setattr(settling, "LEAST_MET", 900)
    monkeypatch.setattr(rehearsal, "MOST_RECENT", 100)  # else the values would be mixed
    decisions, events = happenings(ROWS)
    clicked = {_decision_of(one.body) for one in events if one.kind == EVENT_KIND_CLICK}
    for number, made in enumerate(decisions):
        told = made.told()
        if trap:
            told.ClearField("profile_attributes")
            told.ClearField("context_attributes")
            # Who is to click has one value now and the other one later: what was learned of it is always wrong.
            value = "a" if (made.decision_id in clicked) == (number // 50 % 2 == 0) else "b"
            told.context_attributes.update({f"trap{name}": value for name in range(8)})
        decisions[number] = made._replace(record=told.SerializeToString())
    write(log, decisions, events)
    one = opened(log, folder)
    one.catch_up(lambda: False, lambda _: None, at_its_end)
    one.close()
    assert trap == (not any(name.startswith("context.") for name in one.training.features.attributes))
    assert trap == any("context.trap0" in why and "the incumbent's" in why for why in one.refused)
    model = current_model(folder)
    assert model is not None
    assert one.refused == model.meta["refused"]


def _decision_of(body: bytes) -> str:
    told = Event.FromString(body)
    return (told.proposition_id or told.attributed_proposition_id).partition("-")[0]


def test_features_follow_the_catalogues(log: SqliteEvents, folder: Path) -> None:
    """While a learner runs, attributes of offers come and go: the models published from then on know what there is,
    having learned it from all of the log; also one that begins again.
    """  # noqa: D205

    def spicy(catalog: str, offer: str) -> dict[str, object]:
        values = dict(OFFERS.values(catalog, offer))
        return {**values, "hot": values["category"] == "coffee"}

    write(log, *happenings(ROWS))
    one = opened(log, folder)
    one.catch_up(lambda: False, lambda _: None, at_its_end)
    one.update_catalogues(OFFERS._replace(attributes=("hot",), values=spicy))
    model = one.publish()
    assert model is not None
    assert "offer.hot" in propensities(model)["click"].features.attributes
    assert 4 * ROWS == model.meta["figures"]["click"]["examples"]
    one.update_catalogues(OFFERS)
    without = one.publish()
    assert without is not None
    assert "offer.hot" not in propensities(without)["click"].features.attributes
    one.checkpoint()
    one.close()
    again = Learner(log, folder, OFFERS._replace(attributes=("hot",), values=spicy), bits=BITS)
    assert "offer.hot" in again.training.features.attributes
    assert model.meta["position"] == again.training.position._asdict()
    published = again.publish()
    assert published is not None
    assert model.arrays["click.weight"].tobytes() == published.arrays["click.weight"].tobytes()
    again.close()


def test_what_becomes_sensitive_is_forgotten(log: SqliteEvents, folder: Path) -> None:
    """When an attribute is marked as sensitive, the next model is that of a learner that never knew it."""
    write(log, *happenings(ROWS))
    one = opened(log, folder)
    one.catch_up(lambda: False, lambda _: None, at_its_end)
    assert "profile.age" in one.training.features.attributes
    marked = OFFERS._replace(sensitive=frozenset({"age"}))
    one.update_catalogues(marked)
    model = one.publish()
    assert model is not None
    assert "profile.age" not in propensities(model)["click"].features.attributes
    assert "context.weather" in propensities(model)["click"].features.attributes
    assert one.step(FOREVER) == 0
    one.close()
    never = Learner(log, folder.parent / "never", marked, bits=BITS)
    never.catch_up(lambda: False, lambda _: None, at_its_end)
    never.close()
    assert "profile.age" not in never.training.features.attributes
    assert never.training.features.attributes == one.training.features.attributes


def test_a_pointer_that_is_damaged_is_no_end(log: SqliteEvents, folder: Path) -> None:
    """If the file that names the current model cannot be read, learning goes on and writes another."""
    write(log, *happenings(100))
    learn(log, folder)
    (folder / "current.json").write_text("{")
    assert current_model(folder) is None
    write(log, *happenings(100, first=100))
    assert learn(log, folder)


def test_only_its_owner_may_read_what_is_learned(log: SqliteEvents, folder: Path) -> None:
    """The folder is private, even if it existed with wider permissions."""
    folder.mkdir(mode=0o755)
    opened(log, folder).close()
    assert 0o700 == folder.stat().st_mode & 0o777


def test_two_learners_do_not_share_a_folder(log: SqliteEvents, folder: Path) -> None:
    """A second learner is refused until the first has ended."""
    first = opened(log, folder)
    with pytest.raises(OffersError, match="another learner"):
        opened(log, folder)
    first.close()
    opened(log, folder).close()


def test_following_publishes_what_comes(log: SqliteEvents, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New entries of the log are in a published model when the clock has passed them by the lag."""
    for name in ("PUBLISH_S", "CHECKPOINT_S", "FORGET_S"):
        monkeypatch.setattr(following, name, 0.0)
    write(log, *happenings(100))
    clock = [NOON + 50.0 + learner.LAG_S]
    seen: list[int] = []

    def stop() -> bool:
        model = current_model(folder)
        at = model.meta["position"]["decision"] if model else 0
        if at and (not seen or seen[-1] != at):
            seen.append(at)
            if at == 51:
                write(log, [], [event("late", "click", f"{10:032x}", 1, NOON + 60)])
                clock[0] = NOON + 1_000.0
        return at == 100

    one = opened(log, folder)
    follow(one, stop, lambda: clock[0], idle_s=0.001)
    one.close()
    assert {51, 100} <= set(seen)
    model = open_model(next((folder / "checkpoint").iterdir()))
    assert 100 == model.meta["position"][1]


def test_following_takes_up_changed_catalogues(
    log: SqliteEvents, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running learner reads the catalogues before it publishes: the next model knows their changes."""
    monkeypatch.setattr(following, "PUBLISH_S", 0.0)
    write(log, *happenings(100))
    changed = iter([None, OFFERS._replace(attributes=("hot",))])
    one = opened(log, folder)
    seen: list[bool] = []

    def stop() -> bool:
        model = current_model(folder)
        seen.append(model is not None and "offer.hot" in propensities(model)["click"].features.attributes)
        return seen[-1] or len(seen) > 100

    monkeypatch.setattr(learner, "worse", lambda *_: "")  # an attribute that tells nothing makes no model better
    follow(one, stop, lambda: NOON + 1_000.0, lambda: next(changed, None), 0.001)
    one.close()
    assert seen[-1]
