"""ExplainOffers says of every offer what GetOffers does with it, and lists offers in the order it documents."""

import math
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.decision.reference.explain import explain
from offers.server.convert import query_of
from offers.server.explain_service import ExplainService, _known
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import PersonReader
from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING
from offers.v1.offer_service_pb2 import (
    REASON_CODE_BEHAVIOUR,
    REASON_CODE_OUTRANKED,
    REASON_CODE_TIED,
    ExplainOffersRequest,
    ExplainOffersResponse,
    GetOffersRequest,
    GetOffersResponse,
    OfferExplanation,
    Proposition,
)
from tests.decision.kernels.test_kernels_equal_reference import engine_of, undecided
from tests.moments import DAY, MomentMaker
from tests.server.test_promises import SEEDS, keep


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """Open empty stores."""
    opened = open_stores(Settings(data_dir=tmp_path_factory.mktemp("explained")))
    yield opened
    opened.close()


def check_shown(offer: Proposition, told: OfferExplanation) -> None:
    """Hold the explanation of an offer in the answer against it."""
    assert (offer.rank, True, []) == (told.rank, told.eligible, list(told.failed_checks))
    assert math.isclose(offer.score, told.score, rel_tol=1e-6)
    assert (REASON_CODE_BEHAVIOUR in offer.reasons) == bool(told.behaviour_rule_ids)
    for ours, theirs in zip(offer.factors, told.factors, strict=True):
        assert (ours.name, ours.weight) == (theirs.name, theirs.weight)
        assert math.isclose(ours.value, theirs.value, rel_tol=1e-6)


def check_withheld(told: OfferExplanation, last: float) -> None:
    """Hold that an offer that qualifies, and is not in the answer, has one reason that can be true."""
    assert told.failed_checks
    reasons = {one.reason for one in told.failed_checks}
    if REASON_CODE_OUTRANKED in reasons:
        assert told.score < last
    if REASON_CODE_TIED in reasons:
        assert math.isclose(told.score, last, rel_tol=1e-8)


def check_order(explanations: list[OfferExplanation]) -> None:
    """Hold the order that ExplainOffersRequest describes."""
    ranked = [one.rank for one in explanations if one.rank]
    assert list(range(1, len(ranked) + 1)) == ranked == [one.rank for one in explanations[: len(ranked)]]
    rest = explanations[len(ranked) :]
    eligible = [one.score for one in rest if one.eligible]
    assert sorted(eligible, reverse=True) == [one.score for one in rest[: len(eligible)]]
    others = rest[len(eligible) :]
    keys = [(len(one.failed_checks), sum(check.missing_m for check in one.failed_checks)) for one in others]
    assert sorted(keys) == keys
    assert not any(one.eligible for one in others)


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 25))
def test_explanations_agree_with_answers(stores: Stores, seed: int, size: int) -> None:
    """For random catalogues, persons, consent, caps, budgets and instants, both say the same, both ways round."""
    maker = MomentMaker(seed)
    catalog = maker.catalog(size)
    with engine_of(catalog) as engine:
        live, people = Live([engine]), PersonReader(stores.state, frozenset([CONSENT_PURPOSE_PROFILING]))
        for number in range(4):
            user_id = f"{seed}-{number}"
            request = maker.asked(catalog, user_id)
            time = request.context.time.seconds
            keep(stores, user_id, maker.record(catalog, time))
            clock = maker.random.choice([time, max(time - DAY, 0), max(time - 3_600, 0), maker.instant()])
            engine.budgets.update(maker.usages(catalog, time, clock), clock)
            if maker.chance(0.3):
                request.context.ClearField("time")
            now = time if not request.context.HasField("time") else clock
            if undecided(catalog, query_of(request, now)):
                continue
            answering = OfferService(live, partial(float, now), people)
            explaining = ExplainService(live, partial(float, now), people)
            answer = GetOffersResponse.FromString(answering.get_offers(request.SerializeToString()))
            check(catalog, request, answer, explaining)
            check_reference(explaining, catalog, request, answer, now)


def check(
    catalog: Catalog, request: GetOffersRequest, answer: GetOffersResponse, explaining: ExplainService
) -> None:  # fmt: skip
    """Hold the explanations of all offers against the answer to a request."""
    asked = ExplainOffersRequest(request=request, max_explanations=1000)
    told = ExplainOffersResponse.FromString(explaining.explain_offers(asked.SerializeToString()))
    answer.decision_id = told.response.decision_id
    assert [(one.offer_id, one.rank, one.score) for one in answer.offers] == [
        (one.offer_id, one.rank, one.score) for one in told.response.offers
    ]
    assert answer.refresh_after == told.response.refresh_after
    explanations = {one.offer_id: one for one in told.explanations}
    assert {one.offer_id for one in catalog.offers} == explanations.keys()
    answered = {one.offer_id: one for one in answer.offers}
    assert answered.keys() == {name for name, one in explanations.items() if not one.failed_checks}
    assert answer.eligible_count == sum(one.eligible for one in told.explanations)
    for offer_id, one in explanations.items():
        if offer_id in answered:
            check_shown(answered[offer_id], one)
        else:
            check_withheld(one, min((offer.score for offer in answer.offers), default=0.0))
    check_order(list(told.explanations))


def check_reference(
    explaining: ExplainService, catalog: Catalog, request: GetOffersRequest, answer: GetOffersResponse, now: int
) -> None:
    """Hold that explanations show the same offers where they are not told which are in the answer."""
    answered = explaining._answer(request, now)  # noqa: SLF001 - the person as explanations know them
    verdicts = explain(catalog, query_of(request, now), _known(answered, catalog))
    by_rank = {one.rank: one.placed.offer.offer_id for one in verdicts if one.rank}
    scores = {one.placed.offer.offer_id: one.ranked.log_score for one in verdicts if one.ranked}
    assert len(by_rank) == len(answer.offers)
    for got in answer.offers:
        if by_rank[got.rank] != got.offer_id:  # rounding decides
            assert math.isclose(scores[by_rank[got.rank]], math.log(got.score), abs_tol=1e-6)
