"""Both ways to an answer, in compiled calls and step by step, say and keep the same."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import Struct

from offers.decision.person import Counted, merged
from offers.model.keys import key_of
from offers.testing import serving
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_MESSAGING,
    CONSENT_PURPOSE_PROFILING,
)
from offers.v1.event_pb2 import EVENT_KIND_DISMISSAL, EVENT_KIND_IMPRESSION
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.state_pb2 import Leaning, UserState
from tests.server.test_people import CATALOGUE, NOW, write

PURPOSES = (
    CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_MESSAGING,
)  # fmt: skip
OF_PROFILES = (
    "profile.affinities.categories.sushi > 0.1",
    "profile.attributes.city.startsWith('L')",
    "profile.attributes.city == 'Lyon' || profile.order_count > 1",
    "profile.life_cycle == LifeCycle.LIFE_CYCLE_ACTIVE",
)
OF_USERS = (*OF_PROFILES, "user.user_id.endsWith('1')", "profile.user.anonymous_id != ''", "user.user_id < 'p2'")
OF_ALL = (
    *OF_USERS, "session.entry_channel == ''", "context.time_zone.size() > 0", "session.session_id > 'a'",
    "context.location.point.latitude > 48.0", "has(context.location)", "now > timestamp('2026-11-22T12:00:00Z')",
)  # fmt: skip
IDS = re.compile(rb"(id-[0-9]+)-[0-9A-Za-z_~]{22}")
"""Ids of propositions behind that of the decision: they say the offer in bits that depend on it."""
UNKNOWN_FIELD = b"\xa0\x06\x01"
"""The scan declines what it does not know, and messages pass it over."""


def kept(pick: random.Random) -> UserState:
    """Draw what may be kept of somebody."""
    state = UserState(draw=pick.choice([0, pick.getrandbits(62)]))
    profile, attributes = state.profile, Struct()
    attributes.update({"city": pick.choice(["Lyon", "Liège", "", 3.0, ["Lyon"], None])})
    if pick.random() < 0.8:
        profile.attributes.CopyFrom(attributes)
    for purpose in pick.choices(PURPOSES, k=pick.randint(0, 3)):
        profile.consents.add(purpose=purpose, granted=pick.random() < 0.7)
    profile.order_count = pick.choice([0, 1, 2])
    profile.first_seen_time.seconds = profile.last_seen_time.seconds = NOW - pick.choice([1, 10**7])
    for name, weight in (("", 9.0), ("sushi", pick.choice([0.0, 9.0]))):
        state.leanings.add(dimension=Leaning.DIMENSION_CATEGORY, name=name, weight=weight, second=NOW)
    if pick.random() < 0.3:
        state.assignments.add(experiment_id="rank", variant_id=pick.choice(["a", "b", "gone"]))
    counted = [
        Counted(key_of(what, "people", name), kind, tuple(sorted(pick.choices(range(NOW - 700, NOW + 9), k=3))))
        for what, name in (("offer", "once"), ("campaign", "week"), ("contact_policy", "calm"))
        for kind in (EVENT_KIND_IMPRESSION, EVENT_KIND_DISMISSAL)
        if pick.random() < 0.4
    ]
    state.counters, state.times = merged(b"", b"", counted)
    return state


def asked(pick: random.Random, name: str) -> GetOffersRequest:
    """Draw a request for somebody, at any time that is logged."""
    request = GetOffersRequest(placement=pick.choice(["home", ""]), max_offers=50)
    context = request.context
    who = pick.choice(["user_id", "user_id", "anonymous_id", ""])
    if who:
        setattr(context.user, who, name)
        if pick.random() < 0.6:
            context.user.consent.purposes.extend(one for one in PURPOSES if pick.random() < 0.8)
            context.user.consent.SetInParent()
    if pick.random() < 0.7:
        context.location.point.latitude, context.location.point.longitude = 48.8, pick.choice([2.3, 2.4])
    if pick.random() < 0.6:
        context.session.entry_channel, context.session.session_id = pick.choice(["", "push"]), pick.choice(["", "b"])
    if pick.random() < 0.3:
        context.time.seconds = NOW + pick.choice([-299, 299, 86_400])
    context.time_zone = pick.choice(["", "Europe/Paris", "Asia/Tokyo"])
    context.language_code = pick.choice(["", "fr"])
    return request


@pytest.mark.parametrize("expressions", [OF_PROFILES, OF_USERS, OF_ALL])
def test_both_ways_say_and_keep_the_same(expressions: tuple[str, ...], tmp_path: Path) -> None:
    """For random persons and requests, answers are the same bytes but for ids, and the log keeps the same."""
    pick = random.Random(len(expressions))
    segments = [{"segment_id": f"s{number}", "expression": one} for number, one in enumerate(expressions)]
    offers = [{"offer_id": one["segment_id"], "audience": {"any_segment_ids": [one["segment_id"]]}} for one in segments]
    catalogue = {**CATALOGUE, "segments": [*CATALOGUE["segments"], *segments],
                 "offers": [*CATALOGUE["offers"], *offers]}  # fmt: skip
    if expressions is OF_PROFILES:  # then nothing asks for the request
        catalogue["segments"] = [one for one in catalogue["segments"] if one["segment_id"] != "push"]
        catalogue["offers"] = [one for one in catalogue["offers"] if one["offer_id"] != "pushed"]
    with serving(write(tmp_path, catalogue), clock=lambda: NOW, data_dir=tmp_path) as served:
        ask: Callable[..., bytes] = served.channel.unary_unary("/offers.v1.OfferService/GetOffers")
        assert served.worker.recorder is not None
        for number in range(80):
            name, state = f"p{number}", kept(pick).SerializeToString()
            served.stores.state.change([(f"{kind}:{name}", lambda _r, _e, state=state: state) for kind in "ua"])  # type: ignore[misc]
            request = asked(pick, name).SerializeToString()
            ask(request, timeout=60)  # from then on the surface is known, for its time
            answers = [ask(request + more, timeout=20) for more in (b"", UNKNOWN_FIELD)]
            ids = [GetOffersResponse.FromString(answer).decision_id for answer in answers]
            usual, long = (
                IDS.sub(rb"\1", answer.replace(one.encode(), b"id")) for answer, one in zip(answers, ids, strict=True)
            )
            assert usual == long

            served.worker.recorder.flush()
            first, second = (served.stores.events.decisions([one]) for one in ids)
            assert [(one.person, one.told()) for one in first] == [(one.person, one.told()) for one in second]
