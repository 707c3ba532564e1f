"""Recommendation learned from a log: of the visits that persons' states have, and the same from the same log."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.learning import log_reading
from offers.learning.learner import Learner, current_model
from offers.learning.model import Model
from offers.learning.recommend import visit_training
from offers.learning.recommend.scores import ScoreScratch, recommend
from offers.learning.recommend.slots import claim, find, keys_for, wider
from offers.learning.recommend.visit_training import PARTNERS, TableSizes, VisitTraining, recommendation
from offers.learning.values import CatalogueFacts
from offers.model.acts import wall_clock
from offers.model.events import KINDS
from offers.model.keys import key_of
from offers.model.visits import NOTHING, VISIT, place_of
from offers.state.person.apply import Happened, apply
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.state.stores import LoggedEvent
from offers.v1.event_pb2 import Event, Impression
from offers.v1.state_pb2 import UserState
from tests.learning.made_log import NOON
from tests.state.happenings import OFFERS as FACTS
from tests.state.happenings import happenings

ZONE = "Europe/Paris"
HERE, THERE = "u09tun", "gcpvj0"
SMALL = TableSizes(items=16, places=8, pairs=16, people=16)


def item_of(_catalog: str, offer: str) -> tuple[int, Sequence[int]]:
    """Return the item and traits of an offer."""
    facts = FACTS.get(offer)
    return (facts.item, facts.traits) if facts else (NOTHING, (0, 0, 0, 0))


OFFERS = CatalogueFacts((), lambda _catalog, _offer: {}, {"corner": ZONE}, item=item_of)


def logged(happened: Happened, second: int, person: str = "u:ada", *, learn: bool = True) -> LoggedEvent:
    """An event as the log has it, taken in at a second."""
    event = happened.event
    kind = KINDS[event.WhichOneof("kind") or ""]
    return LoggedEvent(
        event.event_id, person, event.event_time.seconds, second, kind, event.catalog, event.offer_id,
        happened.geohash, learn, event.SerializeToString(),
    )  # fmt: skip


def order(number: int, second: int, person: str, venue: str, place: str = HERE, *, learn: bool = True) -> LoggedEvent:
    """An order at a venue."""
    event = Event(event_id=f"e{number}", catalog="corner", order={"items": [{"venue_id": venue}]})  # type: ignore[arg-type]
    event.event_time.seconds = second
    return logged(Happened(event, None, place), second, person, learn=learn)


def orders(count: int, seed: int = 1) -> list[LoggedEvent]:
    """Orders of 60 people at 90 venues in two places, by taste: even people go to even venues."""
    choose = Random(seed)
    made = []
    for number in range(count):
        person = choose.randrange(60)
        venue = 2 * choose.randrange(45) + person % 2
        made.append(order(number, NOON + 600 * number, f"u:{person}", f"v{venue}", HERE if venue < 45 else THERE))
    return made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be little room at first, so that it has to be made again and again."""
    monkeypatch.setattr(visit_training, "FIRST", SMALL)
    monkeypatch.setattr(visit_training, "LEARNED_AT_ONCE", 8)


def learner(log: SqliteEvents, folder: Path, *, anew: bool = False) -> Learner:
    """A learner with few weights."""
    return Learner(log, folder, OFFERS, bits=12, anew=anew)


def learn(log: SqliteEvents, folder: Path, *, anew: bool = False) -> Model:
    """Learn what there is; the model that is current afterwards."""
    one = learner(log, folder, anew=anew)
    one.catch_up(lambda: False, lambda _: None)
    one.close()
    model = current_model(folder)
    assert model is not None
    return model


def probabilities(model: Model, venues: Sequence[str], history: bytes = b"", place: str = "") -> list[float]:
    """How probable it is that somebody goes to each venue next, at noon."""
    into = np.empty(len(venues))
    items = np.array([key_of("venue", "corner", venue) for venue in venues])
    recommend(
        recommendation(model.arrays), np.frombuffer(history, VISIT), place_of(place), NOON + 86_400 * 30,
        items, np.zeros((len(venues), 4), np.uint16), ScoreScratch.empty(partners=PARTNERS), into,
    )  # fmt: skip
    return into.tolist()


@given(happenings())
def test_the_learner_sees_the_visits_that_a_state_has(happened: list[Happened]) -> None:
    """The same events give the same history in training and in the person's state."""
    one = VisitTraining()
    for number, each in enumerate(happened):
        one.add_event(logged(each, NOON + number), OFFERS)
    one.flush()
    known = [history[:count] for history, count in zip(one.people.histories, one.people.counts, strict=True) if count]
    learned = known[0].tobytes() if known else b""
    assert UserState.FromString(apply(b"", happened) or b"").visits == learned


def test_what_people_take_is_learned(log: SqliteEvents, tmp_path: Path) -> None:
    """From events alone: what is near is likelier than what is not, and what those alike take than what others do."""
    log.append(orders(4_000))
    model = learn(log, tmp_path / "learning")
    (near, far) = probabilities(model, ["v10", "v80"], place=HERE)
    assert near > 2 * far
    taken = [one for one in orders(4_000) if one.person == "u:8"]
    state = apply(b"", [Happened(Event.FromString(one.body), None, one.geohash, ZONE) for one in taken])
    even, odd = probabilities(model, ["v20", "v21"], UserState.FromString(state or b"").visits)
    assert even > odd
    assert {"items": 4_096, "places": 1_024, "pairs": 8_192, "partners": 16, "visits": 4_000} == model.meta["recommend"]


@pytest.mark.usefixtures("small")
def test_the_same_log_gives_the_same_model(log: SqliteEvents, tmp_path: Path) -> None:
    """The published bytes do not depend on page size, pauses, restarts, or growing tables."""
    log.append(orders(600))
    expected = learn(log, tmp_path / "a")
    assert [256, 8, 256] == [expected.meta["recommend"][name] for name in ("items", "places", "pairs")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_reading, "PAGE", 37)
        for until in range(0, 600, 90):
            one = learner(log, tmp_path / "b")
            while one.step(NOON + 600 * until):
                pass
            one.checkpoint()
            one.close()
    assert expected.version == learn(log, tmp_path / "b").version


def test_only_what_may_be_is_learned(log: SqliteEvents, tmp_path: Path) -> None:
    """Events that may not be learned from, those of nobody, and impressions leave no trace in the model."""
    allowed = orders(50)
    log.append(allowed)
    expected = learn(log, tmp_path / "a")
    other = SqliteEvents(Database(tmp_path / "other.db"))
    event = Event(event_id="i", catalog="corner", offer_id="lunch", impression=Impression())
    event.event_time.seconds = NOON
    refused = [
        order(1_000, NOON, "u:1", "v1", learn=False),
        order(1_001, NOON, "", "v1"),
        logged(Happened(event, FACTS["lunch"]), NOON),
    ]
    other.append([*refused, *allowed])
    found = learn(other, tmp_path / "b")
    other.close()
    for name, array in expected.arrays.items():
        assert array.tobytes() == found.arrays[name].tobytes(), name


def test_erased_people_are_in_no_model_learned_anew(log: SqliteEvents, tmp_path: Path) -> None:
    """Learned anew after an erasure, recommendation is that of a log in which the person never was."""
    log.append(orders(400))
    learn(log, tmp_path / "a")
    assert log.erase(["u:8"]) > 0
    found = learn(log, tmp_path / "a", anew=True)
    clean = SqliteEvents(Database(tmp_path / "clean.db"))
    clean.append([one for one in orders(400) if one.person != "u:8"])
    expected = learn(clean, tmp_path / "b")
    clean.close()
    for name, array in expected.arrays.items():
        assert array.tobytes() == found.arrays[name].tobytes(), name


def test_the_hour_is_that_of_the_wall(log: SqliteEvents, tmp_path: Path) -> None:
    """Visits are learned for the local hour."""
    second = NOON - NOON % 86_400 + 11 * 3_600
    log.append([order(number, second, f"u:{number}", "v1") for number in range(20)])
    hours = recommendation(learn(log, tmp_path / "learning").arrays).popularity.place_hours[-1]
    day = 24 * ((wall_clock(second, ZONE) // 86_400 + 3) % 7 >= 5)
    assert [day + 12] == np.flatnonzero(hours).tolist()


@given(st.sets(st.integers(-(2**63), 2**63 - 1).filter(bool), min_size=1, max_size=60))
def test_a_wider_table_has_all_that_the_narrow_one_had(keys: set[int]) -> None:
    """Every key stands where it is looked for, with what is kept of it; rows beyond the table's stay the last."""
    table, weights = keys_for(64), np.zeros(65)
    for key in sorted(keys):
        at, _ = claim(table, weights, key)
        weights[at] = float(key)
    weights[-1] = 7.0
    before = {int(key) for key in table if key}
    spread, moved = wider(table, weights)
    assert (128, 129, 7.0) == (spread.size, moved.size, moved[-1])
    assert before == {int(key) for key in spread if key}
    assert [float(key) for key in before] == [moved[find(spread, key)] for key in before]
