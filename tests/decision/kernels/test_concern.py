"""Experiments and holdouts are told of a decision only where they could have made a difference to the person."""

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from offers.decision.reference.people import KnownPerson
from offers.model.hashing import SPLITMIX_STEP, finished_in_python
from offers.model.keys import key_of
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import Context
from offers.v1.event_pb2 import EVENT_KIND_IMPRESSION
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from tests.decision.kernels.test_kernels_equal_reference import engine_of
from tests.people import Someone, person_of

NOW = 1_795_000_000
VIP = {"segment_id": "vip", "expression": "profile.attributes.vip == 'yes'"}
TRIAL = {"experiment_id": "trial", "variants": [{"variant_id": "a"}, {"variant_id": "b"}]}
ONLY_B = {"variants": [{"experiment_id": "trial", "variant_id": "b"}]}
ANYWHERE = {"everywhere": True}
BASE = {"offer_id": "base", "title": "t", "benefit": {"percent_off": 5}, "target": ANYWHERE}


def offer(offer_id: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of an offer
    """Return an offer for everywhere."""
    return {**BASE, "offer_id": offer_id, **fields}


def share(kind: str, name: str, draw: int) -> float:
    """Return the share of a person and a key, as experiments and holdouts draw it."""
    return (finished_in_python((draw ^ (key_of(kind, "random", name) * SPLITMIX_STEP)) % 2**64) >> 11) / 2**53


def of_both(kind: str, name: str) -> tuple[int, int]:
    """Return a person in the lower half of the shares, and one in the upper half."""
    low = next(draw for draw in range(1, 99) if share(kind, name, draw) < 0.5)
    return low, next(draw for draw in range(1, 99) if share(kind, name, draw) >= 0.5)


A, B = of_both("experiment", "trial")
"""Persons with the variants a and b."""
OUT, INSIDE = of_both("holdout", "")
"""Persons who are held out of the catalogue, and who are not."""
AWAY, NEAR = of_both("campaign", "k")
"""Persons who are held out of the campaign, and who are not."""


def answer(known: KnownPerson, placement: str = "", **fields: Any) -> GetOffersResponse:  # noqa: ANN401 - of a catalogue
    """Return the answer to a person."""
    catalog = ParseDict({"catalog_id": "random", "segments": [VIP], **fields}, Catalog())
    request = GetOffersRequest(context=Context(time=Timestamp(seconds=NOW)), placement=placement)
    with engine_of(catalog) as engine:
        service = OfferService(Live([engine]), lambda: 0.0, Someone(person_of(known, NOW)))
        return GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))


def person(draw: int, *, vip: bool = False, seen: str = "") -> KnownPerson:
    """Return a person, perhaps in the segment, perhaps with an impression of an offer."""
    counted = {("offer", seen, int(EVENT_KIND_IMPRESSION)): (NOW - 60,)} if seen else {}
    return KnownPerson(draw=draw, segments=frozenset({"vip"} if vip else ()), counted=counted)


def exposed(known: KnownPerson, *offers: dict[str, Any], trial: dict[str, Any] = TRIAL, **fields: Any) -> bool:  # noqa: ANN401
    """Return whether a person is exposed to the experiment."""
    return bool(answer(known, offers=list(offers), experiments=[trial], **fields).exposures)


def withheld(known: KnownPerson, *offers: dict[str, Any], **fields: Any) -> list[tuple[str, bool]]:  # noqa: ANN401
    """Return the holdouts that are told to a person."""
    return [(one.campaign_id, one.held_out) for one in answer(known, offers=list(offers), **fields).holdouts]


@pytest.mark.parametrize("draw", [A, B])
@pytest.mark.parametrize("vip", [True, False])
def test_only_those_who_could_be_shown_the_offer_are_exposed(draw: int, vip: bool) -> None:  # noqa: FBT001
    """An offer for members with one variant concerns members, whichever their variant is."""
    for_vip = offer("only", audience={**ONLY_B, "all_segment_ids": ["vip"]})
    assert vip == exposed(person(draw, vip=vip), BASE, for_vip)


@pytest.mark.parametrize("draw", [A, B])
def test_whoever_could_not_be_shown_the_offer_anyway_is_not_exposed(draw: int) -> None:
    """Neither at its cap, nor where a fallback is not needed, nor elsewhere, nor held out of its campaign."""
    capped = offer("only", audience=ONLY_B, frequency_caps=[{"max_count": 1}])
    assert exposed(person(draw), BASE, capped)
    assert not exposed(person(draw, seen="only"), BASE, capped)
    assert not exposed(person(draw), BASE, offer("only", audience=ONLY_B, fallback=True))
    assert exposed(person(draw), offer("only", audience=ONLY_B, fallback=True))
    places = [{"placement_id": "home"}, {"placement_id": "other"}]
    for place in ("home", "other"):
        told = answer(person(draw), place, offers=[BASE, {**capped, "placement_ids": ["other"]}], placements=places,
            experiments=[TRIAL])  # fmt: skip
        assert (place == "other") == bool(told.exposures)
    in_campaign = offer("only", audience=ONLY_B, campaign_id="k")
    is_out = share("campaign", "k", draw) < 0.5
    assert is_out != exposed(person(draw), BASE, in_campaign, campaigns=[{"campaign_id": "k", "holdout": 0.5}])


@pytest.mark.parametrize("draw", [A, B])
def test_an_experiment_runs_in_its_segments(draw: int) -> None:
    """Who is in none of them has no variant, and is not exposed, be it to offers or to rankings."""
    trial = {**TRIAL, "segment_ids": ["vip"]}
    strategies = [{"ranking_strategy_id": "near"}, {"ranking_strategy_id": "far"}]
    ranks = {**trial, "variants": [{"variant_id": "a"}, {"variant_id": "b", "ranking_strategy_id": "far"}]}
    for vip in (True, False):
        known = person(draw, vip=vip)
        assert vip == exposed(known, BASE, offer("only", audience=ONLY_B), trial=trial)
        assert vip == exposed(known, BASE, offer("other"), trial=ranks, ranking_strategies=strategies)
    only_b = answer(person(B), offers=[BASE, offer("only", audience=ONLY_B)], experiments=[trial])
    assert ["base"] == [one.offer_id for one in only_b.offers]


@pytest.mark.parametrize("draw", [A, B])
def test_a_ranking_matters_where_there_is_something_to_rank(draw: int) -> None:
    """One offer is in the same place by any strategy."""
    ranks = {**TRIAL, "variants": [{"variant_id": "a"}, {"variant_id": "b", "ranking_strategy_id": "far"}]}
    strategies = [{"ranking_strategy_id": "far"}]
    assert not exposed(person(draw), BASE, trial=ranks, ranking_strategies=strategies)
    assert exposed(person(draw), BASE, offer("other"), trial=ranks, ranking_strategies=strategies)


@pytest.mark.parametrize("draw", [A, B])
def test_content_matters_where_its_offer_is_shown(draw: int) -> None:
    """Content for members with one variant concerns members, and content that is never reached concerns nobody."""
    body = {"creative": {"body": "b"}, "creative_id": "c"}
    one = {**body, "audience": {**ONLY_B, "all_segment_ids": ["vip"]}}
    for vip in (True, False):
        assert vip == exposed(person(draw, vip=vip), offer("base", creative_variants=[one]))
    first = {**body, "creative_id": "first", "audience": {"none_segment_ids": ["vip"]}}
    assert not exposed(person(draw), offer("base", creative_variants=[first, {**body, "audience": ONLY_B}]))


def test_the_holdout_of_the_catalogue_is_told() -> None:
    """Both sides are told of it where an offer that is no fallback qualifies, and nobody else."""
    fallback = offer("fallback", fallback=True)
    for draw, held_out in ((OUT, True), (INSIDE, False)):
        assert [("", held_out)] == withheld(person(draw), BASE, fallback, holdout=0.5)
        assert [] == withheld(person(draw), fallback, holdout=0.5)
        capped = offer("capped", frequency_caps=[{"max_count": 1}])
        assert [("", held_out)] == withheld(person(draw), capped, fallback, holdout=0.5)
        assert [] == withheld(person(draw, seen="capped"), capped, fallback, holdout=0.5)
    assert [] == withheld(person(0), BASE, fallback, holdout=0.5)
    assert [] == withheld(person(OUT), BASE, fallback)


def test_the_holdout_of_a_campaign_is_told() -> None:
    """Both sides are told of it where an offer of the campaign qualifies otherwise."""
    ours, campaigns = offer("ours", campaign_id="k"), [{"campaign_id": "j"}, {"campaign_id": "k", "holdout": 0.5}]
    for draw, held_out in ((AWAY, True), (NEAR, False)):
        assert [("k", held_out)] == withheld(person(draw), BASE, ours, campaigns=campaigns)
        assert [] == withheld(person(draw), BASE, offer("other", campaign_id="j"), campaigns=campaigns)
        for_vip = {**ours, "audience": {"all_segment_ids": ["vip"]}}
        for vip in (True, False):
            told = withheld(person(draw, vip=vip), BASE, for_vip, campaigns=campaigns)
            assert ([("k", held_out)] if vip else []) == told
        assert [] == withheld(person(draw), BASE, {**ours, "fallback": True}, campaigns=campaigns)
