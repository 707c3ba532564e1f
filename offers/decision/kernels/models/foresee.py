"""Foresee: how likely the person takes a candidate up, by what was learned, and what is explored of it."""

import math

import numpy as np
from numba import carray

from offers.catalogue.snapshot import PROPENSITY, RECOMMENDATION, WITHOUT_CONTEXT, WITHOUT_PERSON, WITHOUT_PROFILE
from offers.compiled import apart, inner
from offers.decision.kernels.admit import may_meet
from offers.decision.kernels.memory.records import (
    Column,
    Explore,
    Standing,
    Table,
    Terms,
    address_of,
    entries_of,
    f8,
    i4,
    i8,
    offers_of,
    strategies_of,
    u2,
    u8,
)
from offers.decision.kernels.memory.scratch import (
    AT_A_TIME,
    HABIT,
    NO_ROOM,
    Outcome,
    PersonFact,
    Scratch,
    candidates_of,
    visits_of,
)
from offers.decision.kernels.models.explore import explored
from offers.decision.kernels.models.learned import (
    DISTANCE_COLUMN,
    DISTANCE_KEY,
    OF_PERSON,
    OF_PROFILE,
    Learned,
    Told,
    attributes_of,
    groups_of,
    interactions_of,
    recommendation_of,
    tests_of,
    weights_of,
)
from offers.decision.kernels.person.meet import Fact, People
from offers.decision.kernels.places.cell import metres_to
from offers.decision.kernels.standing import call_up
from offers.learning.propensity import trees
from offers.learning.propensity.features import NO_WEIGHT, weight_index_of
from offers.learning.propensity.regression import PropensityTables, predict
from offers.learning.recommend import scores as recommend
from offers.model.hashing import MISSING, number_key
from offers.model.visits import MAX_VISITS, TRAITS
from offers.v1.ranking_pb2 import Propensity

MOST_WEIGHED = 8_192
"""Offers shown everywhere of which is foreseen how likely they are taken up: those best by the other factors."""
LEAST_PROPENSITY = 1e-9
"""The logarithm of a factor has to exist."""
NEW_SHOWN = 100.0
"""An offer shown fewer times than about that is new."""
_TREES, _MISSING, _NO_WEIGHT, _KINDS = int(Propensity.LEARNER_TREES), MISSING, NO_WEIGHT, len(TRAITS)
_REWARD_PLACES, _TREE_PLACES = 2, 7
_LOG_LEAST = math.log(recommend.LEAST)


@apart
def foresee(
    columns: Table, people: Table, hours: Table, budgets: Table, standing: Table, scratch: Table, terms: Table,
    strategy_number: int, kept: int, time: int,
) -> int:  # fmt: skip
    """Write what a model foresees of each candidate, and say in Outcome.learned whether one has a part in the decision.

    Then offers shown everywhere become candidates here: how good they are is not known before. Returns how many there
    are, or NO_ROOM.
    """
    outcome, learned = f8(scratch, Scratch.outcome), i8(people, People.fact)[Fact.learned]
    weights = strategies_of(columns)[strategy_number].weights
    outcome[Outcome.learned] = outcome[Outcome.explored] = 0
    if learned == 0 or outcome[Outcome.personal] == 0 or weights[PROPENSITY] + weights[RECOMMENDATION] == 0:
        return kept
    facts = i8(learned, Learned.fact)
    related, is_sensed = facts[Told.related], i8(scratch, Scratch.person)[PersonFact.model] == facts[Told.version]
    if related > len(i8(scratch, Scratch.recommend_keys)) or not is_sensed:  # another model is used since: begin again
        outcome[Outcome.found] = 0
        return NO_ROOM
    kept = _call_up_standing(columns, hours, budgets, standing, scratch, terms, kept, time)
    if kept == NO_ROOM:
        return NO_ROOM
    outcome[Outcome.learned] = 1
    candidates = candidates_of(scratch)
    for index in range(kept):
        one = candidates[index]
        one.log_propensity, one.varied, one.deviation, one.log_recommendation = 0.0, 0.0, 0.0, 0.0
    if weights[PROPENSITY] > 0:
        _propensities(columns, learned, scratch, terms, strategy_number, kept)
    if weights[RECOMMENDATION] > 0 and related > 0:
        _recommendations(columns, learned, scratch, kept)
    return kept


@inner
def _call_up_standing(
    columns: Table, hours: Table, budgets: Table, standing: Table, scratch: Table, terms: Table, kept: int, time: int
) -> int:
    """Make candidates of the offers shown everywhere that the person may be shown; how many there are then."""
    outcome, candidates, entries = f8(scratch, Scratch.outcome), candidates_of(scratch), i4(standing, Standing.entry)
    coming, last = int(outcome[Outcome.standing_begin]), int(outcome[Outcome.standing_end])
    most = kept + MOST_WEIGHED
    while coming < last and kept < most:
        if may_meet(columns, hours, budgets, scratch, terms, entries[coming], time):
            if kept == len(candidates):
                outcome[Outcome.found] = kept
                return NO_ROOM
            call_up(standing, scratch, coming, kept)
            kept += 1
        coming += 1
    outcome[Outcome.standing_begin] = last
    return kept


@inner
def _propensities(
    columns: Table, learned: Table, scratch: Table, terms: Table, strategy_number: int, kept: int
) -> None:
    strategy, facts = strategies_of(columns)[strategy_number], i8(learned, Learned.fact)
    reward = np.int64(strategy.reward) - 1
    by_trees = strategy.learner == _TREES and facts[Told.click_trees + reward] != 0
    if not (by_trees or facts[Told.click + reward]):
        return
    size = len(attributes_of(learned))
    request = _asked(learned, scratch, strategy.unknown)[:size]
    wanted = i8(learned, Learned.column)
    offer_keys = carray(address_of(scratch, Scratch.offer_key), (AT_A_TIME, len(wanted)), np.uint64)
    offer_numbers = carray(address_of(scratch, Scratch.offer_number), (AT_A_TIME, len(wanted)), np.float64)
    known_keys, known_numbers = u8(columns, Column.offer_key), f8(columns, Column.offer_number)
    candidates, entries, width = candidates_of(scratch), entries_of(columns), facts[Told.width]
    means, variances = f8(scratch, Scratch.foreseen)[:AT_A_TIME], f8(scratch, Scratch.foreseen)[AT_A_TIME:]
    explores = f8(terms, Terms.explore)[Explore.method] != 0
    f8(scratch, Scratch.outcome)[Outcome.explored] = explores
    for first in range(0, kept, AT_A_TIME):
        count = min(kept - first, AT_A_TIME)
        for place in range(count):
            base = np.int64(entries[candidates[first + place].entry].offer) * width
            for attribute in range(len(wanted)):
                column = wanted[attribute]
                if column >= 0:
                    offer_keys[place, attribute] = known_keys[base + column]
                    offer_numbers[place, attribute] = known_numbers[base + column]
                elif column == DISTANCE_COLUMN and not strategy.unknown & WITHOUT_CONTEXT:
                    own = _distance(columns, scratch, first + place)
                    offer_keys[place, attribute], offer_numbers[place, attribute] = own
                else:
                    offer_keys[place, attribute], offer_numbers[place, attribute] = np.uint64(_MISSING), math.nan
        if by_trees:
            shared = _ask_trees(learned, scratch, reward, request, offer_keys, offer_numbers, count, means)
            variances[:count] = 0.0
        else:
            model = PropensityTables(
                interactions_of(learned), groups_of(learned), i4(learned, Learned.part),
                weights_of(learned, Learned.click_weight + _REWARD_PLACES * reward),
                f8(learned, Learned.click_seen + _REWARD_PLACES * reward),
            )  # fmt: skip
            shared = predict(model, request, offer_keys[:count], means[:count], variances[:count])
        for place in range(count):
            one = candidates[first + place]
            spread = math.sqrt(1.0 + math.pi / 8.0 * variances[place])
            chance = max(1.0 / (1.0 + math.exp(-means[place] / spread)), LEAST_PROPENSITY)
            one.log_propensity = math.log(chance)
            if explores:
                one.deviation = (1.0 - chance) * math.sqrt(max(variances[place] - shared, 0.0))
                if not by_trees and _is_new(learned, reward, request, offer_keys[place], chance):
                    one.deviation = -max(one.deviation, LEAST_PROPENSITY)
                key, most = offers_of(columns)[entries[one.entry].offer].key, -one.log_propensity
                one.varied = explored(scratch, terms, strategy.weights[PROPENSITY], one.deviation, most, key)
                one.log_propensity += one.varied


@inner
def _distance(columns: Table, scratch: Table, index: int) -> tuple[int, float]:
    """The key of how far a candidate is, and the metres."""
    metres = metres_to(columns, scratch, index)
    if metres == 0:
        return np.uint64(_MISSING), math.nan
    return number_key(np.uint64(DISTANCE_KEY), float(metres)), float(metres)


@inner
def _asked(learned: Table, scratch: Table, unknown: int) -> np.ndarray:
    """The keys of the request, but for what the strategy takes as not known."""
    keys, asked, attributes = u8(scratch, Scratch.request_key), u8(scratch, Scratch.asked_key), attributes_of(learned)
    for number in range(len(attributes)):
        source = attributes[number].source
        bit = WITHOUT_CONTEXT
        if source == OF_PERSON:
            bit = WITHOUT_PERSON
        elif source == OF_PROFILE:
            bit = WITHOUT_PROFILE
        asked[number] = np.uint64(_MISSING) if unknown & bit else keys[number]
    return asked


@inner
def _ask_trees(
    learned: Table, scratch: Table, reward: int, request: np.ndarray, offer_keys: np.ndarray,
    offer_numbers: np.ndarray, count: int, logits: np.ndarray,
) -> float:  # fmt: skip
    """Write the logits that the trees of a reward give; they know of no doubt."""
    first, numbers = (
        Learned.click_test_first + _TREE_PLACES * reward,
        f8(scratch, Scratch.request_number)[: len(request)],
    )
    for number in range(len(request)):
        if request[number] == np.uint64(_MISSING):
            numbers[number] = math.nan
    model = trees.TreeTables(
        i4(learned, first), tests_of(learned, first + 1), i4(learned, first + 2), f8(learned, first + 3),
        i4(learned, first + 4), u8(learned, first + 5), f8(learned, first + 6),
    )  # fmt: skip
    offers = trees.AttributeValues(offer_keys[:count], offer_numbers[:count])
    trees.predict(model, trees.AttributeValues(request, numbers), offers, logits[:count])
    return 0.0


@inner
def _is_new(learned: Table, reward: int, request: np.ndarray, offer: np.ndarray, chance: float) -> bool:
    """Whether an offer was shown too seldom to be known by itself.

    Of n times that it was shown, each adds chance x (1 - chance) to the evidence of its own weight, in units of the
    prior's precision.
    """
    number = i8(learned, Learned.fact)[Told.id_interaction]
    if number < 0:
        return False
    one = interactions_of(learned)[number]
    place = weight_index_of(one, i4(learned, Learned.part), request, offer)
    if place == _NO_WEIGHT:
        return True
    weight = weights_of(learned, Learned.click_weight + _REWARD_PLACES * reward)[place]
    return weight.evidence < NEW_SHOWN * one.variance * chance * (1.0 - chance)


@inner
def _recommendations(columns: Table, learned: Table, scratch: Table, kept: int) -> None:
    model, person = recommendation_of(learned), i8(scratch, Scratch.person)
    history = visits_of(scratch)[: person[PersonFact.visits]]
    related = len(i8(scratch, Scratch.recommend_keys))
    room = recommend.ScoreScratch(
        i8(scratch, Scratch.recommend_keys),
        carray(address_of(scratch, Scratch.recommend_sums), (related, 2), np.float64),
        i4(scratch, Scratch.recommend_used),
        carray(address_of(scratch, Scratch.recommend_traits), (_KINDS, 1 << 16), np.float64),
        carray(address_of(scratch, Scratch.recommend_per_kind), (_KINDS, 2), np.float64),
        carray(address_of(scratch, Scratch.recommend_counts), (MAX_VISITS,), np.float64),
    )
    gathered = recommend.gather(model, history, person[PersonFact.place], person[PersonFact.local_second], room)
    items, known_items = i8(scratch, Scratch.item), i8(columns, Column.item)
    traits = carray(address_of(scratch, Scratch.trait), (AT_A_TIME, _KINDS), np.uint16)
    known_traits = u2(columns, Column.trait)
    own, background = f8(scratch, Scratch.foreseen)[:AT_A_TIME], f8(scratch, Scratch.foreseen)[AT_A_TIME:]
    candidates, entries, unknown = candidates_of(scratch), entries_of(columns), model.habit.unknown[0]
    for first in range(0, kept, AT_A_TIME):
        count = min(kept - first, AT_A_TIME)
        for place in range(count):
            offer = np.int64(entries[candidates[first + place].entry].offer)
            items[place] = known_items[offer]
            for kind in range(_KINDS):
                traits[place, kind] = known_traits[offer * _KINDS + kind]
        recommend.judge(model, gathered, items[:count], traits[:count], room, own[:count], background[:count])
        for place in range(count):
            one = candidates[first + place]
            found = (own[place] + unknown * background[place]) / (gathered.own + unknown)
            one.log_recommendation = math.log(min(found, 1.0)) if found > recommend.LEAST else _LOG_LEAST
            if own[place] > 0.0:
                one.flags |= HABIT
    recommend.clean(history, gathered, room)
