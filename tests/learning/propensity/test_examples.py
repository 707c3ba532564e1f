"""From the log to examples: which offers become rows, when, and with which values."""

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from offers.learning import settling
from offers.learning.pending import DISMISSED, NO_EXAMPLE, REFUSAL, UNKNOWN, Label
from offers.learning.propensity import rehearsal
from offers.learning.propensity.examples import Collector
from offers.learning.propensity.features import DECISION, Examples
from offers.learning.propensity.rehearsal import RehearsedModel
from offers.learning.settling import CALM_S, HELD_S, SETTLE_S, Lookups
from offers.learning.values import REWARDS, CatalogueFacts, features_for, request_values
from offers.state.stores import LoggedDecision, LoggedEvent
from offers.v1.event_pb2 import Click, Event, Impression, ItemView, RedemptionEvent
from offers.v1.state_pb2 import DecisionRecord
from tests.learning.made_log import NOON, OFFERS, SCALED, SHOWN, decision, event, happenings, logged, order

FEATURES = features_for(["context.weather"], (), 10)
CLICK, REDEMPTION, ORDER_VALUE = range(3)

Told = LoggedDecision | LoggedEvent


def in_order(story: Sequence[Told]) -> list[Told]:
    """Sort by time."""
    return sorted(story, key=lambda one: one.second)


class Collected:
    """A collector with its examples, which real models learn."""

    def __init__(self, kept: Sequence[LoggedDecision] = (), offers: CatalogueFacts = OFFERS) -> None:
        """Collect over a log that has the decisions `kept`."""
        self.kept = {one.decision_id: one for one in kept}
        self.models = [RehearsedModel(FEATURES, settle) for settle in SETTLE_S]
        self.rows: tuple[list[Any], ...] = ([], [], [])
        """By reward, the rewards and importances."""
        self.keys: tuple[list[Any], ...] = ([], [], [])
        self.revised: tuple[list[tuple[int, Label, Label]], ...] = ([], [], [])
        """By reward, numbers of examples with their labels before and after."""
        self.rested = [0] * len(REWARDS)
        self.asked: list[list[int]] = []
        """Keys of the offers that were foreseen."""
        self.outcomes: tuple[dict[int, float], ...] = ({}, {}, {})
        self.collector = Collector(FEATURES, Lookups(offers, self._decisions), self)

    def tell(self, *told: Told) -> "Collected":
        """Take in decisions and events in this order, and flush."""
        for one in told:
            self.collect(one)
        self.collector.flush()
        return self

    def collect(self, one: Told) -> None:
        """Take in a decision or event."""
        if isinstance(one, LoggedDecision):
            self.kept[one.decision_id] = one
            self.collector.add_decision(one.second, one)
        else:
            self.collector.add_event(one.received, one)

    def at(self, second: int) -> "Collected":
        """Advance the clock to a second."""
        return self.tell(logged(Event(event_id="later", impression=Impression()), second))

    def chance(self, offer: str, second: int = NOON, number: int = CLICK) -> float:
        """Return the probability that is foreseen of an offer for nobody known."""
        model = self.models[number].model
        own = {f"offer.{name}": value for name, value in OFFERS.values("corner", offer).items()} | {"offer.id": offer}
        keys = FEATURES.keys(request_values(decision("d", second, person="").told(), second, "Europe/Paris") | own)
        size = FEATURES.request_size
        return float(model.predict(keys[:size], keys[None, size:]).probability()[0])

    def learn(self, number: int, rows: Examples) -> int:
        """See ExampleConsumer."""
        self.rows[number].extend(zip(rows.reward.tolist(), rows.importance.tolist(), strict=True))
        self.keys[number].extend(rows.keys.tolist())
        return self.models[number].learn(rows)

    def revise(self, number: int, which: int, labels: tuple[Label, Label], example: Examples, second: int) -> None:
        """See ExampleConsumer."""
        self.revised[number].append((which, *labels))
        self.models[number].revise(which, labels, example, second)

    def rest(self, number: int, second: int) -> None:
        """See ExampleConsumer."""
        self.rested[number] += 1
        self.models[number].rest(second)

    def decisions(self) -> set[str]:
        """See ExampleConsumer."""
        return {name.decode() for one in self.models for name in one.kept.decision.tolist() if name}

    def forget(self, lost: set[str], second: int) -> None:
        """See ExampleConsumer."""
        for one in self.models:
            one.forget(np.array([name.encode() for name in lost], DECISION), second)

    def foresee(self, request: np.ndarray[Any, Any], offers: np.ndarray[Any, Any]) -> int:
        """See ExampleConsumer."""
        self.asked += [[*request.tolist(), *offer] for offer in offers.tolist()]
        return len(self.asked) - len(offers)

    def settle(self, number: int, offer: int, reward: float) -> None:
        """See ExampleConsumer."""
        self.outcomes[number][offer] = reward

    def _decisions(self, names: Sequence[str]) -> list[LoggedDecision]:
        return [self.kept[name] for name in names if name in self.kept]


def test_offers_are_settled_in_the_order_in_which_they_were_shown() -> None:
    """Nothing is learned at once; when offers are settled, clicks and refusals are learned as they were shown."""
    told = Collected().tell(decision("d"), event("1", "click", "d", 2, NOON + 5))
    told.at(NOON + SETTLE_S[CLICK] - 1)
    assert ([], [], []) == told.rows
    told.at(NOON + SETTLE_S[CLICK])
    assert ([(0, 1), (1, 1), (0, 1)], [], []) == told.rows
    told.at(NOON + SETTLE_S[REDEMPTION])
    assert [(0, 1)] * 3 == told.rows[REDEMPTION]


def test_time_that_passes_without_entries_settles_offers() -> None:
    """Offers are settled by the clock alone, in many steps as in one, and a clock that goes back changes nothing."""
    whole, stepped = (Collected().tell(decision("d"), event("1", "click", "d", 2, NOON + 5)) for _ in range(2))
    whole.collector.pass_time(NOON + HELD_S)
    for second in (10, 5, SETTLE_S[CLICK] - 1, SETTLE_S[CLICK], SETTLE_S[CLICK] + 30, 0, HELD_S):
        stepped.collector.pass_time(NOON + second)
        stepped.collector.flush()
    whole.collector.flush()
    assert [(0, 1), (1, 1), (0, 1)] == whole.rows[CLICK]
    assert whole.rows == stepped.rows


def test_models_rest_while_no_examples_come() -> None:
    """A model rests again and again while no examples come, and always before the next ones are learned."""
    told = Collected().tell(decision("d"))
    told.at(NOON + SETTLE_S[CLICK])
    before, shown = told.rested[CLICK], NOON + SETTLE_S[CLICK] + 1
    told.tell(decision("e", shown)).at(shown + SETTLE_S[CLICK])
    assert before + 1 == told.rested[CLICK]
    told.collector.pass_time(shown + SETTLE_S[CLICK] + CALM_S[1] - 1)
    assert before + 2 == told.rested[CLICK]
    told.collector.pass_time(shown + SETTLE_S[CLICK] + CALM_S[-1])
    assert before + 1 + len(CALM_S) == told.rested[CLICK]


@pytest.mark.parametrize("kind", ["order", "redemption"])
def test_redemptions_and_orders_are_rewards_of_their_own(kind: str) -> None:
    """An order attributed to an offer, or a confirmed redemption of it, is no click."""
    told = Collected().tell(decision("d", offers=["o1"]), event("1", kind, "d", 1)).at(NOON + SETTLE_S[REDEMPTION])
    assert ([(0, 1)], [(1, 1)], []) == told.rows


def test_a_redemption_that_is_only_reserved_is_no_reward() -> None:
    """A reserved or released redemption is no reward; the offer is settled later."""
    told = Collected().tell(decision("d", offers=["o1"]))
    for phase in (RedemptionEvent.PHASE_RESERVE, RedemptionEvent.PHASE_RELEASE):
        step = Event(event_id=str(phase), proposition_id="d-1", redemption=RedemptionEvent(phase=phase))
        told.tell(logged(step, NOON + 1))
    told.at(NOON + SETTLE_S[REDEMPTION])
    assert [(0, 1)] == told.rows[REDEMPTION]


def test_a_row_is_not_learned_twice() -> None:
    """A decision, impression, click or dismissal that is reported again changes nothing, settled or not."""
    story: list[Told] = [
        decision("d"),
        event("1", "impression", "d", 1, NOON + 1),
        event("2", "impression", "d", 2, NOON + 1),
        event("3", "click", "d", 1, NOON + 2),
        event("4", "dismissal", "d", 2, NOON + 3),
    ]
    once, twice = Collected(), Collected()
    for one in story:
        once.tell(one)
        twice.tell(one, one)
    for told in (once, twice):
        told.at(NOON + SETTLE_S[REDEMPTION] + 1).tell(*(one for one in story if told is twice)).at(NOON + HELD_S)
    assert [(1, 1), (0, DISMISSED)] == once.rows[CLICK]
    assert once.rows == twice.rows
    assert ([], [], []) == once.revised == twice.revised


def test_dismissals_weigh_more_than_silence() -> None:
    """A dismissal is a refusal of more importance; one that comes late revises the refusal."""
    told = Collected().tell(decision("d", offers=["o1"]), event("1", "dismissal", "d", 1)).at(NOON + HELD_S // 2)
    assert ([(0, DISMISSED)],) * 2 == told.rows[:ORDER_VALUE]
    later = Collected().tell(decision("d", offers=["o1"])).at(NOON + HELD_S // 2)
    later.tell(event("1", "dismissal", "d", 1, NOON + HELD_S // 2))
    assert ([(0, 1)],) * 2 == later.rows[:ORDER_VALUE]
    assert ([(0, REFUSAL, Label(0, DISMISSED))],) * 2 == later.revised[:ORDER_VALUE]


def test_what_came_of_what_was_foreseen_is_told() -> None:
    """Every eighth decision is foreseen; then its rewards, refusals and withheld outcomes are noted."""
    told = Collected().tell(*(decision(f"d{number}", offers=[f"o{number}", "o99"]) for number in range(10)))
    offer = FEATURES.attributes.index("offer.id")
    names = [FEATURES.keys({"offer.id": name})[offer] for name in ("o0", "o99", "o8", "o99")]
    assert names == [keys[offer] for keys in told.asked]
    told.tell(event("1", "click", "d0", 1, NOON + 1), event("2", "click", "d8", 2, NOON + 1, learn=False))
    told.at(NOON + SETTLE_S[CLICK])
    assert {0: 1.0, 1: 0.0, 2: 0.0} == {
        offer: one for offer, one in told.outcomes[CLICK].items() if not math.isnan(one)
    }
    told.tell(event("3", "click", "d0", 2, NOON + 99), event("4", "click", "d1", 2, NOON + 99))
    assert {0: 1.0, 1: 1.0, 2: 0.0} == {
        offer: one for offer, one in told.outcomes[CLICK].items() if not math.isnan(one)
    }


def test_a_late_reward_revises_its_refusal() -> None:
    """A reward after the settle time takes the place of the refusal, once."""
    told = Collected().tell(decision("d", offers=["o0", "o1"])).at(NOON + SETTLE_S[CLICK])
    told.tell(event("1", "click", "d", 2, NOON + 3_600), event("2", "click", "d", 2, NOON + 3_700))
    assert ([(0, 1)] * 2, [(1, REFUSAL, Label(1, 1))]) == (told.rows[CLICK], told.revised[CLICK])
    assert 1 == told.collector.counts.late


def test_a_reward_that_is_taken_back_is_a_refusal() -> None:
    """A reward set to 0 counts as refused, settled or not, and another one may follow."""
    for settled in (False, True):
        told = Collected().tell(decision("d", offers=["o1"]), event("1", "click", "d", 1))
        if settled:
            told.at(NOON + SETTLE_S[CLICK])
        told.collector.set_reward(CLICK, told.collector.held["d"], 0, 0.0)
        told.at(NOON + SETTLE_S[CLICK] + 1)
        expected = ([(1, 1)], [(0, Label(1, 1), REFUSAL)]) if settled else ([(0, 1)], [])
        assert expected == (told.rows[CLICK], told.revised[CLICK])
        told.tell(event("2", "click", "d", 1, NOON + 99))
        assert (0, REFUSAL, Label(1, 1)) == told.revised[CLICK][-1]


@pytest.mark.parametrize("delay", [5, SETTLE_S[CLICK] + 600])
def test_chances_are_foreseen_as_they_are_however_late_rewards_come(
    delay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If four in ten click, 0.4 is foreseen, even where each click comes after its refusal, and where that one is among
    the latest examples no longer.
    """  # noqa: D205
    for most in (rehearsal.MOST_RECENT, 40):
        monkeypatch.setattr(rehearsal, "MOST_RECENT", most)
        choose = random.Random(3)
        told = Collected()
        story: list[Told] = []
        for number in range(3_000):
            second = NOON + 10 * number
            story.append(decision(f"d{number}", second, ["o1"], ""))
            if choose.random() < 0.4:
                story.append(event(f"c{number}", "click", f"d{number}", 1, second + delay))
        end = story[-1].second - delay  # from then on there would be clicks alone
        foreseen = []
        for number, one in enumerate(in_order([one for one in story if one.second <= end])):
            told.collect(one)
            if number > 2_000 and number % 25 == 0:
                told.collector.flush()
                foreseen.append(told.chance("o1", one.second))
        assert 0.4 == pytest.approx(np.mean(foreseen), abs=0.03)


def test_only_what_was_seen_was_shown_where_impressions_are_reported() -> None:
    """On a surface with impressions, offers without one are no examples; on others, all offers of a decision are."""
    other = decision("e", channel="mail")
    told = Collected().tell(decision("d"), other, event("1", "impression", "d", 3, NOON + 40))
    told.at(NOON + SETTLE_S[CLICK])
    assert [(0, 1)] * len(SHOWN) == told.rows[CLICK]
    told.at(NOON + 40 + SETTLE_S[CLICK])
    assert [(0, 1)] * (len(SHOWN) + 1) == told.rows[CLICK]
    third = FEATURES.keys({"offer.id": "o3"})[FEATURES.attributes.index("offer.id")]
    assert third == told.keys[CLICK][-1][FEATURES.attributes.index("offer.id")]


def test_outcomes_wait_for_their_decision() -> None:
    """Events that arrive before their decision count as if they had arrived after it."""
    before = Collected().tell(event("1", "click", "d", 2), event("2", "dismissal", "d", 1), decision("d"))
    after = Collected().tell(decision("d"), event("1", "click", "d", 2), event("2", "dismissal", "d", 1))
    for told in (before, after):
        told.at(NOON + SETTLE_S[REDEMPTION])
    assert after.rows == before.rows
    assert ([(0, DISMISSED), (1, 1), (0, 1)], [(0, DISMISSED), (0, 1), (0, 1)], []) == after.rows


def test_only_what_may_be_learned_is() -> None:
    """A decision without consent is no example; an event without consent withholds its offer, clicked or not."""
    told = Collected().tell(decision("d", learn=False), event("1", "click", "d", 1))
    told.tell(decision("e", NOON + 1, ["o1", "o2"]), event("2", "click", "e", 1, NOON + 2, learn=False))
    told.at(NOON + HELD_S // 2)
    assert ([(0, 1)], [(0, 1)], []) == told.rows
    told.tell(event("3", "click", "e", 2, NOON + HELD_S // 2, learn=False))
    assert [[(0, REFUSAL, UNKNOWN)]] * 2 == list(told.revised[:ORDER_VALUE])


def test_what_names_no_proposition_is_passed_over() -> None:
    """Events about unknown decisions or ranks, and of other kinds, leave no trace."""
    told = Collected().tell(decision("d", offers=["o1"]))
    for number, name in enumerate(("", "d", "d-", "d-0", "d-2", "d-x", "-1", "d--1")):
        told.tell(logged(Event(event_id=str(number), click=Click(), proposition_id=name), NOON))
    told.tell(logged(Event(event_id="view", view=ItemView(), proposition_id="d-1"), NOON))
    assert ([], [], []) == told.rows


def test_values_of_a_decision() -> None:
    """Time is local to the person; names of attributes have a prefix for their source; lists are left out."""
    record = DecisionRecord(
        channel="app", placement="home", entry_channel="push", geohash="u09tvwq", time=NOON, time_zone="Asia/Tokyo",
        draw=-2,
    )  # fmt: skip
    record.context_attributes.update({"weather": "rain", "tags": ["a"]})
    record.profile_attributes.update({"age": 40, "member": True})
    expected = {
        "person": "fffffffffffffffe",
        "hour": 20,
        "weekday": 2,
        "daypart": 5,
        "channel": "app",
        "placement": "home",
        "entry_channel": "push",
        "place": "u09tv",
        "context.weather": "rain",
        "profile.age": 40,
        "profile.member": True,
    }
    assert expected == request_values(record, 0, "Europe/Paris")
    for name, hour in (("", 12), ("No/Where", 12), ("America/New_York", 6)):
        record.time_zone = name
        assert hour == request_values(record, 0, "Europe/Paris")["hour"]
    record.time, record.time_zone = 0, ""
    assert 13 == request_values(record, NOON + 3_600, "Europe/Paris")["hour"]
    for draw, person in ((0, ""), (1, "0000000000000001")):
        record.draw = draw
        assert person == request_values(record, 0, "Europe/Paris")["person"]


def test_a_row_has_the_keys_of_its_request_and_offer() -> None:
    """Keys are those of `Features.keys` for the values of the request and the offer, known or not."""
    told = Collected().tell(decision("d", offers=["o7", "o700"], time=NOON)).at(NOON + SETTLE_S[CLICK])
    values = request_values(told.kept["d"].told(), NOON, "Europe/Paris")
    known = {"offer.id": "o7", "offer.category": "books", "offer.brand": "b0"}
    assert [FEATURES.keys(values | known).tolist(), FEATURES.keys(values | {"offer.id": "o700"}).tolist()] == (
        told.keys[CLICK]
    )


def test_frequent_attributes_become_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frequent attributes become features, the most frequent first if there are too many; features stay features."""
    monkeypatch.setattr(settling, "MOST_NAMES", 3)
    told = Collected()
    for number in range(400):
        names = {"often", *(["second"] if number % 2 else []), *(["third"] if number % 3 == 0 else [])}
        names |= {"seldom"} if number % 5 == 0 else set()
        record = decision(f"d{number}").told()
        record.profile_attributes.update(dict.fromkeys(names, 1))
        told.tell(decision(f"d{number}")._replace(record=record.SerializeToString()))
    assert ["context.weather", "profile.often", "profile.second"] == told.collector.frequent()


def test_what_is_sensitive_is_no_feature() -> None:
    """However frequent, a sensitive attribute of persons is not to be one; nor any more, once it has become sensitive;
    one of the context by the same name is.
    """  # noqa: D205
    features = features_for(["context.faith", "profile.faith", "profile.age"], (), 10)
    told = Collector(
        features, Lookups(OFFERS._replace(sensitive=frozenset({"faith", "party"})), lambda _: []), Collected()
    )
    for number in range(150):
        record = decision(f"d{number}").told()
        record.profile_attributes.update({"faith": "a", "party": "b", "income": 1})
        told.add_decision(NOON, decision(f"d{number}")._replace(record=record.SerializeToString()))
    assert ["context.faith", "profile.age"] == sorted(told.counted())
    assert ["context.faith", "profile.age", "profile.income"] == told.frequent()


def test_the_clock_is_that_of_the_decision_s_catalogue() -> None:
    """A decision without a time zone has that of its catalogue, or UTC if that is unknown."""
    zones = {"corner": "Europe/Paris", "far": "Asia/Tokyo"}
    hours = FEATURES.attributes.index("hour")
    for catalog, hour in (("corner", 12), ("far", 20), ("gone", 11)):
        told = Collected()
        told.collector.update_catalogues(OFFERS._replace(time_zones=zones))
        told.tell(decision("d", catalog=catalog, time=NOON)).at(NOON + SETTLE_S[CLICK])
        assert FEATURES.keys({"hour": hour})[hours] == told.keys[CLICK][0][hours]


def test_what_catalogues_tell_by_now_is_learned() -> None:
    """Offers settled after a change of the catalogue have its new values."""
    told = Collected().tell(decision("d", offers=["o1"])).at(NOON + SETTLE_S[CLICK])
    told.collector.update_catalogues(OFFERS._replace(values=lambda _catalog, _offer: {"category": "tea"}))
    told.tell(decision("e", NOON + SETTLE_S[CLICK], offers=["o1"])).at(NOON + 2 * SETTLE_S[CLICK])
    category = FEATURES.attributes.index("offer.category")
    keys = [FEATURES.keys({"offer.category": name})[category] for name in ("ride", "tea")]
    assert keys == [one[category] for one in told.keys[CLICK]]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MOST_HELD the oldest decisions are settled early; later rewards are learned once, with the log."""
    monkeypatch.setattr(settling, "MOST_HELD", 5)
    monkeypatch.setattr(settling, "MOST_EARLY", 3)
    told = Collected()
    told.tell(decision("first", NOON, ["o1"]), event("0", "click", "first", 1))
    told.tell(*(decision(f"d{number}", NOON + number, ["o1"]) for number in range(19)))
    assert (5, 15, [(1, 1)] + [(0, 1)] * 14) == (
        len(told.collector.held),
        told.collector.counts.early,
        told.rows[CLICK],
    )
    told.tell(event("1", "click", "d2", 1, NOON + 20), event("2", "click", "d2", 1, NOON + 21))
    assert [(NO_EXAMPLE, REFUSAL, Label(1, 1))] == told.revised[CLICK]
    told.tell(*(event(f"e{number}", "click", f"none{number}", 1, NOON + 22) for number in range(10)))
    assert (3, 7) == (len(told.collector.early), told.collector.counts.lost)
    told.at(NOON + 22 + HELD_S)
    assert 0 == len(told.collector.held)
    assert (20, 1) == (len(told.rows[CLICK]), sum(reward for reward, _ in told.rows[CLICK]))


def test_what_the_log_has_lost_is_forgotten() -> None:
    """Decisions that were erased while they were pending are not learned."""
    told = Collected().tell(decision("d", offers=["o1"]), decision("e", offers=["o2"]))
    del told.kept["d"]
    assert 1 == told.collector.forget_erased()
    told.at(NOON + SETTLE_S[CLICK])
    second = FEATURES.keys({"offer.id": "o2"})[FEATURES.attributes.index("offer.id")]
    assert [second] == [keys[FEATURES.attributes.index("offer.id")] for keys in told.keys[CLICK]]


def test_examples_of_what_the_log_has_lost_are_forgotten() -> None:
    """Examples of an erased decision are removed, and a late click on it is none; those of others stay."""
    told = Collected().tell(decision("d", offers=["o1"]), decision("e", offers=["o2"]))
    told.at(NOON + SETTLE_S[CLICK])
    assert {"d", "e"} == told.decisions()
    del told.kept["d"]
    assert 2 == told.collector.forget_erased()  # held, and learned
    assert 0 == told.collector.forget_erased()
    told.tell(event("1", "click", "d", 1, NOON + 60), event("2", "click", "e", 1, NOON + 61))
    kept = told.models[CLICK].kept
    assert [(b"", 0.0, 0.0), (b"e", 1.0, 1.0)] == list(
        zip(kept.decision.tolist(), kept.reward.tolist(), kept.importance.tolist(), strict=True)
    )
    assert not kept.keys[0].any()


@pytest.mark.parametrize("cut", [0, 1, 77, 500, 1_500])
def test_what_was_kept_goes_on_as_if_nothing_had_been(cut: int) -> None:
    """A collector that is saved and restored anywhere makes the same examples from there on."""
    decisions, events = happenings(300)
    told: list[Told] = [*decisions, *events]
    story = in_order(told)
    whole = Collected(offers=SCALED).tell(*story)
    first = Collected(offers=SCALED).tell(*story[:cut])
    second = Collected(list(first.kept.values()), OFFERS)  # what was kept says what orders are measured by
    second.models = first.models
    second.collector.restore(*first.collector.to_save())
    second.tell(*story[cut:])
    for number in range(len(REWARDS)):
        assert whole.rows[number] == first.rows[number] + second.rows[number]
        assert whole.revised[number] == first.revised[number] + second.revised[number]
        assert whole.keys[number] == first.keys[number] + second.keys[number]
        assert whole.models[number].model.weight.tobytes() == second.models[number].model.weight.tobytes()


@pytest.mark.parametrize("seed", range(8))
def test_examples_do_not_depend_on_when_they_are_learned(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any events in any order give the same models, learned one by one or together, and restored anywhere."""
    monkeypatch.setattr(settling, "MOST_HELD", 30)
    choose = random.Random(seed)
    story: list[Told] = []
    for number in range(150):
        second = NOON + 7 * number
        if number % 2 == 0:
            channel, metres = choose.choice(["app", "mail"]), [number % 8 * 200, 0, 3_000]
            story.append(decision(f"d{number}", second, SHOWN, f"u:{number % 9}", channel=channel, distances_m=metres))
        kind = choose.choice(["impression", "click", "dismissal", "order", "redemption"])
        of, rank = f"d{choose.randint(max(0, number - 60), number + 2) // 2 * 2}", choose.randint(0, 4)
        if kind == "order" and choose.random() < 0.8:
            units, currency = choose.choice([0, 5, 20, 80]), choose.choice(["EUR", "EUR", "USD"])
            story.append(order(f"e{number}", of, rank, second, units=units, currency=currency))
        else:
            story.append(event(f"e{number}", kind, of, rank, second, learn=choose.random() < 0.95))
    story = [one for one in story for _ in range(choose.choice([1, 1, 2]))]
    whole = Collected([one for one in story if isinstance(one, LoggedDecision)], SCALED)
    for one in story:
        whole.collect(one)
    whole.tell()
    pieces = Collected(list(whole.kept.values()), SCALED)
    for one in story:
        pieces.tell(one)
        if choose.random() < 0.1:
            arrays, said = pieces.collector.to_save()
            again = Collected(list(whole.kept.values()), SCALED)
            again.collector.restore(arrays, orjson.loads(orjson.dumps(said)))
            again.models, again.rows, again.keys = pieces.models, pieces.rows, pieces.keys
            again.asked, again.outcomes, again.revised = pieces.asked, pieces.outcomes, pieces.revised
            pieces = again
    assert len(whole.rows[CLICK]) > 20
    assert whole.collector.counts == pieces.collector.counts
    assert whole.collector.counts.late > 0
    assert whole.asked == pieces.asked
    assert repr(whole.outcomes) == repr(pieces.outcomes)
    for number in range(len(REWARDS)):
        assert whole.rows[number] == pieces.rows[number]
        assert whole.revised[number] == pieces.revised[number]
        assert whole.keys[number] == pieces.keys[number]
        assert whole.models[number].model.weight.tobytes() == pieces.models[number].model.weight.tobytes()
