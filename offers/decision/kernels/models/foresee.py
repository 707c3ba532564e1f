"""Foresee: predict by a model how probable it is that the person takes each candidate up, and explore around it.

The specification is reference/models.py.
"""

import math

import numpy as np
from numba import carray

from offers.catalogue.snapshot import PROPENSITY, RECOMMENDATION, WITHOUT_CONTEXT, WITHOUT_PERSON, WITHOUT_PROFILE
from offers.compiled import apart, inner
from offers.decision.kernels.admit import may_be_shown
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import (
    Column,
    Explore,
    StandingArray,
    Table,
    TermsArray,
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
    DecisionFact,
    PersonFact,
    ScratchArray,
    candidates_of,
    visits_of,
)
from offers.decision.kernels.models.explore import explored
from offers.decision.kernels.models.learned import (
    DISTANCE_COLUMN,
    DISTANCE_KEY,
    OF_PERSON,
    OF_PROFILE,
    ModelArray,
    ModelFact,
    attributes_of,
    groups_of,
    interactions_of,
    recommendation_of,
    tests_of,
    weights_of,
)
from offers.decision.kernels.need import Need
from offers.decision.kernels.person.meet import MeetingArray, MeetingFact
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
"""Offers shown everywhere for which a model is asked, at most: those that are best by the other factors."""
LEAST_PROPENSITY = 1e-9
"""Lower bound of propensities: the logarithm of a factor has to exist."""
NEW_SHOWN = 100.0
"""An offer shown fewer times than about this is new."""
_TREES, _MISSING, _NO_WEIGHT, _KINDS = int(Propensity.LEARNER_TREES), MISSING, NO_WEIGHT, len(TRAITS)
_REWARD_PLACES, _TREE_PLACES = 2, 7
_LOG_LEAST = math.log(recommend.LEAST)


@apart
def foresee(frame: Frame) -> int:
    """Write the propensity and recommendation factors of each candidate, if a model has a part in the decision.

    DecisionFact.learned says whether it has. Then offers shown everywhere become candidates here, as nothing bounds
    their scores before a model is asked. Returns NOTHING or ROOM of Need.
    """
    columns, scratch = frame.columns, frame.scratch
    facts, learned = i8(scratch, ScratchArray.decision), i8(frame.meeting, MeetingArray.fact)[MeetingFact.learned]
    weights = strategies_of(columns)[frame.strategy].weights
    facts[DecisionFact.learned] = facts[DecisionFact.explored] = 0
    if learned == 0 or weights[PROPENSITY] + weights[RECOMMENDATION] == 0:
        return Need.NOTHING
    told = i8(learned, ModelArray.fact)
    related = told[ModelFact.related]
    if related > len(i8(scratch, ScratchArray.recommend_keys)):  # the model came into use after room was made
        facts[DecisionFact.found] = 0
        return Need.ROOM
    if not _call_up_standing(frame):
        return Need.ROOM
    kept = facts[DecisionFact.kept]
    facts[DecisionFact.learned] = 1
    candidates = candidates_of(scratch)
    for index in range(kept):
        one = candidates[index]
        one.log_propensity, one.varied, one.deviation, one.log_recommendation = 0.0, 0.0, 0.0, 0.0
    if weights[PROPENSITY] > 0:
        _write_propensities(frame, learned, kept)
    if weights[RECOMMENDATION] > 0 and related > 0:
        _write_recommendations(columns, learned, scratch, kept)
    return Need.NOTHING


@inner
def _call_up_standing(frame: Frame) -> bool:
    """Make candidates of the offers shown everywhere that the person may be shown. Returns whether there is room."""
    standing, scratch = frame.standing, frame.scratch
    facts, candidates = i8(scratch, ScratchArray.decision), candidates_of(scratch)
    entries = i4(standing, StandingArray.entry)
    coming, last, kept = facts[DecisionFact.standing_begin], facts[DecisionFact.standing_end], facts[DecisionFact.kept]
    most = kept + MOST_WEIGHED
    while coming < last and kept < most:
        if may_be_shown(frame, entries[coming]):
            if kept == len(candidates):
                facts[DecisionFact.found] = kept
                return False
            call_up(standing, scratch, coming, kept)
            kept += 1
        coming += 1
    facts[DecisionFact.standing_begin], facts[DecisionFact.kept] = last, kept
    return True


@inner
def _write_propensities(frame: Frame, learned: Table, kept: int) -> None:
    """Write the logarithm of each candidate's propensity, as the model predicts and exploration varies it."""
    columns, scratch, terms, strategy_number = frame.columns, frame.scratch, frame.terms, frame.strategy
    strategy, facts = strategies_of(columns)[strategy_number], i8(learned, ModelArray.fact)
    reward = np.int64(strategy.reward) - 1
    by_trees = strategy.learner == _TREES and facts[ModelFact.click_trees + reward] != 0
    if not (by_trees or facts[ModelFact.click + reward]):
        return
    size = len(attributes_of(learned))
    request = _request_keys(learned, scratch, strategy.unknown)[:size]
    wanted = i8(learned, ModelArray.column)
    offer_keys = carray(address_of(scratch, ScratchArray.offer_key), (AT_A_TIME, len(wanted)), np.uint64)
    offer_numbers = carray(address_of(scratch, ScratchArray.offer_number), (AT_A_TIME, len(wanted)), np.float64)
    known_keys, known_numbers = u8(columns, Column.offer_key), f8(columns, Column.offer_number)
    candidates, entries, width = candidates_of(scratch), entries_of(columns), facts[ModelFact.width]
    means, variances = f8(scratch, ScratchArray.foreseen)[:AT_A_TIME], f8(scratch, ScratchArray.foreseen)[AT_A_TIME:]
    explores = f8(terms, TermsArray.explore)[Explore.method] != 0
    i8(scratch, ScratchArray.decision)[DecisionFact.explored] = explores
    for first in range(0, kept, AT_A_TIME):
        count = min(kept - first, AT_A_TIME)
        for index in range(count):
            base = np.int64(entries[candidates[first + index].entry].offer) * width
            for attribute in range(len(wanted)):
                column = wanted[attribute]
                if column >= 0:
                    offer_keys[index, attribute] = known_keys[base + column]
                    offer_numbers[index, attribute] = known_numbers[base + column]
                elif column == DISTANCE_COLUMN and not strategy.unknown & WITHOUT_CONTEXT:
                    own = _distance(columns, scratch, first + index)
                    offer_keys[index, attribute], offer_numbers[index, attribute] = own
                else:
                    offer_keys[index, attribute], offer_numbers[index, attribute] = np.uint64(_MISSING), math.nan
        if by_trees:
            _ask_trees(learned, scratch, reward, request, offer_keys[:count], offer_numbers[:count])
            variances[:count], shared = 0.0, 0.0
        else:
            model = PropensityTables(
                interactions_of(learned), groups_of(learned), i4(learned, ModelArray.part),
                weights_of(learned, ModelArray.click_weight + _REWARD_PLACES * reward),
                f8(learned, ModelArray.click_seen + _REWARD_PLACES * reward),
            )  # fmt: skip
            shared = predict(model, request, offer_keys[:count], means[:count], variances[:count])
        for index in range(count):
            one = candidates[first + index]
            spread = math.sqrt(1.0 + math.pi / 8.0 * variances[index])
            chance = max(1.0 / (1.0 + math.exp(-means[index] / spread)), LEAST_PROPENSITY)
            one.log_propensity = math.log(chance)
            if explores:
                one.deviation = (1.0 - chance) * math.sqrt(max(variances[index] - shared, 0.0))
                if not by_trees and _is_new(learned, reward, request, offer_keys[index], chance):
                    one.deviation = -max(one.deviation, LEAST_PROPENSITY)
                key, most = offers_of(columns)[entries[one.entry].offer].key, -one.log_propensity
                one.varied = explored(scratch, terms, strategy.weights[PROPENSITY], one.deviation, most, key)
                one.log_propensity += one.varied


@inner
def _distance(columns: Table, scratch: Table, index: int) -> tuple[int, float]:
    """Return the key of a candidate's distance, and the metres."""
    metres = metres_to(columns, scratch, index)
    if metres == 0:
        return np.uint64(_MISSING), math.nan
    return number_key(np.uint64(DISTANCE_KEY), float(metres)), float(metres)


@inner
def _request_keys(learned: Table, scratch: Table, unknown: int) -> np.ndarray:
    """Return the keys of the request; MISSING where the strategy does not let the model know."""
    keys, asked, attributes = (
        u8(scratch, ScratchArray.request_key),
        u8(scratch, ScratchArray.asked_key),
        attributes_of(learned),
    )
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
    learned: Table, scratch: Table, reward: int, request: np.ndarray, offer_keys: np.ndarray, offer_numbers: np.ndarray
) -> None:  # fmt: skip
    """Write the logits that the trees of a reward predict for some offers. Trees give no variances."""
    first = ModelArray.click_test_first + _TREE_PLACES * reward
    numbers = f8(scratch, ScratchArray.request_number)[: len(request)]
    for number in range(len(request)):
        if request[number] == np.uint64(_MISSING):
            numbers[number] = math.nan
    model = trees.TreeTables(
        i4(learned, first), tests_of(learned, first + 1), i4(learned, first + 2), f8(learned, first + 3),
        i4(learned, first + 4), u8(learned, first + 5), f8(learned, first + 6),
    )  # fmt: skip
    offers = trees.AttributeValues(offer_keys, offer_numbers)
    logits = f8(scratch, ScratchArray.foreseen)[: len(offer_keys)]
    trees.predict(model, trees.AttributeValues(request, numbers), offers, logits)


@inner
def _is_new(learned: Table, reward: int, request: np.ndarray, offer: np.ndarray, chance: float) -> bool:
    """Return whether an offer was shown too seldom for its own weight to be known.

    Each time that it is shown adds chance x (1 - chance) to the evidence of its weight, in units of the prior's
    precision.
    """
    number = i8(learned, ModelArray.fact)[ModelFact.id_interaction]
    if number < 0:
        return False
    one = interactions_of(learned)[number]
    index = weight_index_of(one, i4(learned, ModelArray.part), request, offer)
    if index == _NO_WEIGHT:
        return True
    weight = weights_of(learned, ModelArray.click_weight + _REWARD_PLACES * reward)[index]
    return weight.evidence < NEW_SHOWN * one.variance * chance * (1.0 - chance)


@inner
def _write_recommendations(columns: Table, learned: Table, scratch: Table, kept: int) -> None:
    """Write the logarithm of each candidate's recommendation factor, and mark the person's habits."""
    model, person = recommendation_of(learned), i8(scratch, ScratchArray.person)
    history = visits_of(scratch)[: person[PersonFact.visits]]
    related = len(i8(scratch, ScratchArray.recommend_keys))
    room = recommend.ScoreScratch(
        i8(scratch, ScratchArray.recommend_keys),
        carray(address_of(scratch, ScratchArray.recommend_sums), (related, 2), np.float64),
        i4(scratch, ScratchArray.recommend_used),
        carray(address_of(scratch, ScratchArray.recommend_traits), (_KINDS, 1 << 16), np.float64),
        carray(address_of(scratch, ScratchArray.recommend_per_kind), (_KINDS, 2), np.float64),
        carray(address_of(scratch, ScratchArray.recommend_counts), (MAX_VISITS,), np.float64),
    )
    gathered = recommend.gather(model, history, person[PersonFact.place], person[PersonFact.local_second], room)
    items, known_items = i8(scratch, ScratchArray.item), i8(columns, Column.item)
    traits = carray(address_of(scratch, ScratchArray.trait), (AT_A_TIME, _KINDS), np.uint16)
    known_traits = u2(columns, Column.trait)
    own, background = f8(scratch, ScratchArray.foreseen)[:AT_A_TIME], f8(scratch, ScratchArray.foreseen)[AT_A_TIME:]
    candidates, entries, unknown = candidates_of(scratch), entries_of(columns), model.habit.unknown[0]
    for first in range(0, kept, AT_A_TIME):
        count = min(kept - first, AT_A_TIME)
        for index in range(count):
            offer = np.int64(entries[candidates[first + index].entry].offer)
            items[index] = known_items[offer]
            for kind in range(_KINDS):
                traits[index, kind] = known_traits[offer * _KINDS + kind]
        recommend.judge(model, gathered, items[:count], traits[:count], room, own[:count], background[:count])
        for index in range(count):
            one = candidates[first + index]
            found = (own[index] + unknown * background[index]) / (gathered.own + unknown)
            one.log_recommendation = math.log(min(found, 1.0)) if found > recommend.LEAST else _LOG_LEAST
            if own[index] > 0.0:
                one.flags |= HABIT
    recommend.clean(history, gathered, room)
