"""Distances of the offers shown, in examples."""

import numpy as np
import pytest

from offers.learning.propensity.examples import Collector
from offers.learning.propensity.features import DISTANCE, Features
from offers.learning.propensity.rehearsal import RehearsedModel
from offers.learning.propensity.tree_training import FinalOutcomes
from offers.learning.settling import SETTLE_S, Lookups
from offers.learning.values import features_for
from offers.model.hashing import MISSING
from offers.state.stores import LoggedDecision
from tests.learning.made_log import NOON, OFFERS, decision, event
from tests.learning.propensity.test_examples import CLICK, FEATURES, Collected

COLUMN = FEATURES.attributes.index(DISTANCE)


def key(metres: int) -> int:
    """The key of a distance."""
    return int(FEATURES.keys({DISTANCE: metres})[COLUMN])


def test_each_offer_has_its_own_distance() -> None:
    """Distances are in examples and predictions; 0 metres, or a record without distances, is a missing value."""
    told = Collected()
    told.tell(decision("d", offers=["o1", "o2", "o1"], distances_m=[812, 0, 90_000]), decision("e", offers=["o1"]))
    told.at(NOON + SETTLE_S[CLICK])
    assert [key(812), MISSING, key(90_000), MISSING] == [keys[COLUMN] for keys in told.keys[CLICK]]
    assert [key(812), MISSING, key(90_000)] == [keys[COLUMN] for keys in told.asked]
    assert key(812) not in {MISSING, key(90_000)}


@pytest.mark.parametrize("metres", [[5], [5, 6, 7]])
def test_distances_that_fit_no_offers_are_not_known(metres: list[int]) -> None:
    """If a record has fewer or more distances than offers, none is used, and the offers are still learned."""
    told = Collected().tell(decision("d", offers=["o1", "o2"], distances_m=metres)).at(NOON + SETTLE_S[CLICK])
    assert [MISSING] * 2 == [keys[COLUMN] for keys in told.keys[CLICK]]


def test_distances_are_kept_with_what_is_held() -> None:
    """Pending decisions keep their distances through a restart."""
    first = Collected().tell(decision("d", offers=["o1", "o2"], distances_m=[70, 7_000]), decision("e", offers=["o3"]))
    second = Collected(list(first.kept.values()))
    second.collector.restore(*first.collector.to_save())
    second.at(NOON + SETTLE_S[CLICK])
    assert [key(70), key(7_000), MISSING] == [keys[COLUMN] for keys in second.keys[CLICK]]


def test_trees_are_told_the_metres() -> None:
    """Trees get distances as numbers, beside the keys; NaN where they are unknown."""
    kept: list[LoggedDecision] = [decision("d", offers=["o1", "o2"], distances_m=[812, 0])]
    hindsight = FinalOutcomes(FEATURES, Lookups(OFFERS, lambda _: kept))
    hindsight.add_decision(NOON, kept[0])
    hindsight.add_event(NOON + 1, event("1", "click", "d", 1))
    hindsight.add_event(NOON + SETTLE_S[CLICK], event("2", "impression", "none", 1))
    examples = hindsight.examples(CLICK)
    assert [key(812), MISSING] == examples.keys[:, COLUMN].tolist()
    assert np.array_equal([812.0, np.nan], examples.numbers[:, COLUMN], equal_nan=True)


def test_distance_is_learned_by_itself_and_with_others() -> None:
    """Alone, with the category, and in what a catalogue declares; unless it is said to be known of nothing."""
    declared = [("hour", DISTANCE), ("person", DISTANCE)]

    def named(features: Features) -> set[tuple[str, ...]]:
        return {one.attributes for one in features.interactions if DISTANCE in one.attributes}

    assert {(DISTANCE,), (DISTANCE, "offer.category"), *declared} == named(features_for([], (), 10, declared))
    assert set() == named(features_for([], (), 10, declared, distance=False))


def test_features_without_distance_leave_it_out() -> None:
    """A collector of such features learns the same log."""
    features = features_for([], (), 10, distance=False)
    told = Collected()
    told.models = [RehearsedModel(features, settle) for settle in SETTLE_S]
    told.collector = Collector(features, Lookups(OFFERS, lambda _: []), told)
    told.tell(decision("d", offers=["o1"], distances_m=[812])).at(NOON + SETTLE_S[CLICK])
    assert [len(features.attributes)] == [len(keys) for keys in told.keys[CLICK]]
