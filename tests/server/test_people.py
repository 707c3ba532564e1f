"""Decisions about persons over a real server: limits, sign-in, consent, experiments, and an unreachable store."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.latlng_pb2 import LatLng

from offers.decision.person import Counted, merged
from offers.model.keys import key_of
from offers.testing import Served, serving
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    Context,
    Location,
    Session,
    User,
)
from offers.v1.event_pb2 import EVENT_KIND_IMPRESSION, Dismissal, Event, Impression, Order, RedemptionEvent
from offers.v1.event_service_pb2 import EventResult, ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse, SeenOffer
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_service_pb2 import LinkIdentitiesRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from offers.v1.state_pb2 import UserState
from tests.server.running import wait_for
from tests.state.contract.backends import RedisProcess, redis

NOW = 1_795_345_200
AGREED = ConsentGrants(purposes=[CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING])
HERE = Location(point=LatLng(latitude=48.8, longitude=2.3))
CATALOGUE: dict[str, Any] = {
    "catalog_id": "people",
    "time_zone": "Europe/Paris",
    "segments": [
        {"segment_id": "push", "expression": "session.entry_channel == 'push'"},
        {"segment_id": "ordered", "expression": "profile.order_count > 0"},
    ],
    "campaigns": [{"campaign_id": "week", "frequency_caps": [{"max_count": 2, "rolling": "3600s"}]}],
    "contact_policies": [
        {"contact_policy_id": "calm", "categories": ["calm"], "frequency_caps": [{"max_count": 9}], "cool_down": "60s"}
    ],
    "experiments": [
        {
            "experiment_id": "rank",
            "variants": [{"variant_id": "a"}, {"variant_id": "b", "ranking_strategy_id": "upside-down"}],
        }
    ],
    "ranking_strategies": [{"ranking_strategy_id": "upside-down", "weights": {"value": 0}}],
    "placements": [{"placement_id": "home"}],
    "offers": [
        {"offer_id": "capped", "campaign_id": "week", "value": 0.9},
        {"offer_id": "pushed", "audience": {"any_segment_ids": ["push"]}, "value": 0.8},
        {"offer_id": "once", "frequency_caps": [{"max_count": 1, "rolling": "600s"}], "value": 0.7},
        {"offer_id": "first", "audience": {"none_segment_ids": ["ordered"]}, "value": 0.6},
        {"offer_id": "calm", "category": "calm", "value": 0.5},
        {"offer_id": "scarce", "budget": {"units": 1}, "value": 0.4},
        {
            "offer_id": "near",
            "target": {"circles": [{"center": {"latitude": 48.8, "longitude": 2.3}, "radius_m": 500}]},
            "creative_variants": [{"title": "Tout près", "language_codes": ["fr"], "creative": {"body": "Ici."}}],
        },
    ],
}
EVERYWHERE = ["capped", "pushed", "once", "first", "calm", "scarce"]


def write(folder: Path, catalogue: dict[str, Any] = CATALOGUE) -> Path:
    """Write the catalogue, with some fields set on all its offers."""
    common = {"title": "An offer", "benefit": {"percent_off": 10}, "target": {"everywhere": True}}
    offers = [{**common, **offer} for offer in catalogue["offers"]]
    path = folder / "people.yaml"
    path.write_text(yaml.safe_dump({**catalogue, "offers": offers}), "utf-8")
    return path


class Server:
    """The services of a server, and its clock."""

    def __init__(self) -> None:
        self.now = float(NOW)
        self.served: Served

    def ask(self, user: User | None = None, entry: str = "push", **more: Any) -> GetOffersResponse:  # noqa: ANN401 - fields of the request
        """Request the offers of a person on the first screen."""
        context = Context(user=user, session=Session(entry_channel=entry), **more.pop("context", {}))
        request = GetOffersRequest(context=context, placement="home", **more)
        answer: GetOffersResponse = OfferServiceStub(self.served.channel).GetOffers(request, timeout=20)
        return answer

    def ids(self, user: User | None = None, entry: str = "push", **more: Any) -> set[str]:  # noqa: ANN401 - fields of the request
        """Return the ids of some offers."""
        return {offer.offer_id for offer in self.ask(user, entry, **more).offers}

    def report(self, *events: Event) -> list[EventResult]:
        """Report events that happen now."""
        for number, event in enumerate(events):
            event.event_id = event.event_id or f"{random.getrandbits(64)}-{number}"
            event.event_time.seconds = event.event_time.seconds or int(self.now)
        request = ReportEventsRequest(events=events)
        return list(EventServiceStub(self.served.channel).ReportEvents(request, timeout=20).results)


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server shared by tests with persons of their own."""
    server = Server()
    folder = tmp_path_factory.mktemp("people")
    with serving(write(folder), clock=lambda: server.now, data_dir=folder) as served:
        server.served = served
        yield server


@pytest.fixture
def at(module_server: Server) -> Server:
    """The server, with its clock reset."""
    module_server.now = float(NOW)
    return module_server


def person(name: str) -> User:
    """Return a user who has agreed to profiling."""
    return User(user_id=f"{name}-{random.getrandbits(64)}", consent=AGREED)


def test_caps_count_over_offers_of_a_campaign_and_end_when_they_say(at: Server) -> None:
    """At its cap an offer is gone for that person alone, until the instant of `refresh_after`."""
    user = person("capped")
    assert "capped" in at.ids(user)

    at.report(*[Event(user=user, offer_id="capped", impression=Impression()) for _ in range(2)])

    answer = at.ask(user)
    assert "capped" not in {offer.offer_id for offer in answer.offers}
    assert NOW + 3600 == answer.refresh_after.seconds
    assert "capped" in at.ids(person("another"))
    at.now = NOW + 3600.0
    assert "capped" in at.ids(user)


def test_a_dismissal_cools_down_and_an_order_ends_first_orders(at: Server) -> None:
    """Contact policies and profile segments follow events at once."""
    user = person("dismissing")
    assert {"calm", "first"} <= at.ids(user)

    at.report(Event(user=user, offer_id="calm", dismissal=Dismissal()), Event(user=user, order=Order()))

    assert {"calm", "first"}.isdisjoint(at.ids(user))
    at.now += 61
    assert "calm" in at.ids(user)
    assert "first" not in at.ids(user)


def test_sign_in_keeps_what_the_visitor_met(at: Server) -> None:
    """Caps count across ids and channels, and the variant stays."""
    visitor = User(anonymous_id=f"phone-{random.getrandbits(64)}", consent=AGREED)
    user = person("linked")
    at.report(Event(user=visitor, offer_id="once", impression=Impression()))
    variant = at.ask(visitor).exposures[0].variant_id

    link = LinkIdentitiesRequest(user_id=user.user_id, anonymous_ids=[visitor.anonymous_id], consent=AGREED)
    ProfileServiceStub(at.served.channel).LinkIdentities(link)

    assert "once" not in at.ids(user, context={"channel": "web"})
    assert [variant] == [one.variant_id for one in at.ask(user).exposures]


def test_without_consent_the_callers_own_list_counts(at: Server) -> None:
    """Without consent nothing is kept of a person, and the impressions in the request count for caps."""
    user = User(user_id=f"private-{random.getrandbits(64)}")
    at.report(Event(user=user, offer_id="once", impression=Impression()))
    assert "once" in at.ids(user)

    seen = SeenOffer(offer_id="once", times=[Timestamp(seconds=NOW - 60)])

    assert "once" not in at.ids(user, seen=[seen])
    assert b"" == at.served.stores.state.read(f"u:{user.user_id}")


def test_a_refused_context_is_not_used(at: Server) -> None:
    """Without consent to CONTEXTUAL, location and session are ignored."""
    user = User(user_id="shy", consent=ConsentGrants(purposes=[CONSENT_PURPOSE_PROFILING]))
    assert {"near", "pushed"} <= at.ids(person("open"), context={"location": HERE})

    assert {"near", "pushed"}.isdisjoint(at.ids(user, context={"location": HERE}))


def test_content_follows_the_language(at: Server) -> None:
    """A creative variant is shown to its audience, with its id."""
    french = {"location": HERE, "language_code": "fr"}
    (shown,) = (offer for offer in at.ask(context=french).offers if offer.offer_id == "near")
    assert ("Tout près", "Ici.", "1") == (shown.title, shown.creative.body, shown.creative_id)

    (usual,) = (offer for offer in at.ask(context={"location": HERE}).offers if offer.offer_id == "near")
    assert ("An offer", "", "") == (usual.title, usual.creative.body, usual.creative_id)


def test_a_budget_that_is_used_up_is_shown_to_nobody(tmp_path: Path) -> None:
    """Reserving the last unit removes the offer from all answers within a moment; releasing it restores the offer."""
    server = Server()
    with serving(write(tmp_path), clock=lambda: server.now, data_dir=tmp_path) as served:
        server.served = served
        user = person("eager")
        redemption = RedemptionEvent(phase=RedemptionEvent.PHASE_RESERVE, redemption_id="r")
        (result,) = server.report(Event(user=user, offer_id="scarce", redemption=redemption))
        assert not result.status.code

        wait_for(lambda: "scarce" not in server.ids(person("late")), "the offer is gone")
        redemption.phase = RedemptionEvent.PHASE_RELEASE
        server.report(Event(user=user, offer_id="scarce", redemption=redemption))
        wait_for(lambda: "scarce" in server.ids(person("lucky")), "the offer is back")


def test_variants_are_shared_out_and_stay(tmp_path: Path) -> None:
    """Both variants are drawn, a person keeps hers when weights change, and ranking follows the variant."""
    server = Server()
    users = [person(f"variant-{number}") for number in range(40)]
    with serving(write(tmp_path), clock=lambda: server.now, data_dir=tmp_path) as served:
        server.served = served
        answers = [server.ask(user) for user in users]
        variants = [answer.exposures[0].variant_id for answer in answers]
        assert {"a", "b"} == set(variants)
        for answer, variant in zip(answers, variants, strict=True):
            in_order = [offer.offer_id for offer in answer.offers]
            assert (in_order == EVERYWHERE) == (variant == "a")
        wait_for(lambda: served.stores.state.read(f"u:{users[-1].user_id}"), "the last exposure is kept")

    changed = {**CATALOGUE, "experiments": [{**CATALOGUE["experiments"][0]}]}
    changed["experiments"][0]["variants"] = [
        {"variant_id": "a", "weight": 0.001},
        {"variant_id": "b", "weight": 999, "ranking_strategy_id": "upside-down"},
    ]
    with serving(write(tmp_path, changed), clock=lambda: server.now, data_dir=tmp_path) as served:
        server.served = served
        assert variants == [server.ask(user).exposures[0].variant_id for user in users]
        assert {"b"} == {server.ask(person(f"new-{number}")).exposures[0].variant_id for number in range(10)}


def test_the_usual_way_and_the_long_way_say_the_same(at: Server) -> None:
    """The compiled and the stepwise request path give the same bytes for a person."""
    users = [None, User(user_id="stranger"), *(person(f"way-{number}") for number in range(6))]
    for number, user in enumerate(users[2:]):
        assert user is not None
        events = [Event(user=user, offer_id=offer, impression=Impression()) for offer in EVERYWHERE[: number + 1]]
        at.report(*events, *events[:number])
    for number, user in enumerate(users):
        for entry in ("push", "direct"):
            said = []
            for language in ("", "fr"):  # the second time with what the scan declines: an attribute
                more = {"location": HERE, "language_code": language}
                for odd in (False, False, True):
                    context = {**more, **({"attributes": {"x": 1}} if odd else {})}
                    said.append(at.ask(user, entry, context=context, request_id=f"{number}-{entry}-{language}"))
                assert said[-3] == said[-2] == said[-1]


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis for one test to kill."""
    with redis(tmp_path) as process:
        yield process


def test_a_long_history_is_met_in_full(at: Server) -> None:
    """Caps hold for long histories, on the first request of a surface and on later ones."""
    user, once = User(user_id="long-standing"), key_of("offer", "people", "once")
    keys = sorted([once, *range(-9_000_000, 0, 10_000), *range(0, 9_000_000, 10_000)])
    state = UserState()
    state.profile.consents.add(purpose=CONSENT_PURPOSE_PROFILING, granted=True)
    counted = [Counted(key, EVENT_KIND_IMPRESSION, (NOW - 3, NOW - 2, NOW - 1)) for key in keys]
    state.counters, state.times = merged(b"", b"", counted)
    at.served.stores.state.change([("u:long-standing", lambda _record, _erased: state.SerializeToString())])
    for _ in range(3):
        assert {"once"} == set(EVERYWHERE) - at.ids(user)


@pytest.mark.parametrize("cut", ["times", "counters"])
def test_a_broken_history_counts_for_nobody(at: Server, cut: str) -> None:
    """A truncated record counts nothing it does not have, such as another person's events."""
    counted = [Counted(key_of("offer", "people", "once"), EVENT_KIND_IMPRESSION, (NOW - 3, NOW - 2, NOW - 1))]
    whole, broken = UserState(), UserState()
    whole.counters, whole.times = merged(b"", b"", counted)
    broken.counters, broken.times = (whole.counters, b"") if cut == "times" else (whole.counters[:-1], whole.times)
    for name, state, is_shown in (("whole", whole, False), ("broken", broken, True)):
        user = person(f"{cut}-{name}")
        kept = state.SerializeToString()
        at.served.stores.state.change([(f"u:{user.user_id}", lambda _r, _e, kept=kept: kept)])  # type: ignore[misc]
        for _ in range(2):
            assert is_shown == ("once" in at.ids(user))


def test_purposes_that_nobody_knows_are_passed_over(at: Server) -> None:
    """Unknown purposes in a request are ignored; the known ones count."""
    odd = [-1, 5, 64, 2**31 - 1]
    users = [User(user_id="odd", consent=ConsentGrants(purposes=[*odd, *AGREED.purposes])), User(user_id="odd")]  # type: ignore[list-item]
    for user in users:
        at.ask(user, request_id="odd")
    assert at.ask(users[0], request_id="odd").exposures
    at.report(Event(user=users[0], offer_id="once", impression=Impression()))
    assert "once" not in at.ids(users[0])


def test_the_log_keeps_of_the_moment_what_the_person_lets_models_learn_from(at: Server) -> None:
    """With consent to learning, both paths log attributes, place and time of a decision; without, none."""
    taught = ConsentGrants(purposes=[*AGREED.purposes, CONSENT_PURPOSE_LEARNING])
    zone = {"location": HERE, "time_zone": "Europe/Paris"}
    for number, (consent, more) in enumerate([(AGREED, {}), (taught, {}), (taught, {}), (taught, {"rain": True})]):
        user = User(user_id=f"taught-{number}", consent=consent)
        state = UserState()
        state.profile.attributes.update({"city": "Lyon"})
        at.served.stores.state.change([(f"u:{user.user_id}", lambda _r, _e, state=state: state.SerializeToString())])  # type: ignore[misc]
        answer = at.ask(user, context={**zone, **({"attributes": more} if more else {})})
        assert at.served.worker.recorder is not None
        at.served.worker.recorder.flush()
        told = at.served.stores.events.decisions([answer.decision_id])[0].told()
        assert (NOW, "home", "people") == (told.time, told.placement, told.catalog)
        assert (7, []) == (len(told.offer_ids), list(told.log_scores))  # scores would tell where the person was
        if consent is AGREED:
            assert not told.learn
            assert ("", "", "", {}) == (told.geohash, told.time_zone, told.entry_channel, dict(told.profile_attributes))
        else:
            assert told.learn
            assert ("u09ts7", "Europe/Paris", "push") == (told.geohash, told.time_zone, told.entry_channel)
            assert {"city": "Lyon"} == dict(told.profile_attributes)
            assert more == dict(told.context_attributes)


def test_without_its_state_the_server_answers_and_says_what_it_did(mortal: RedisProcess, tmp_path: Path) -> None:
    """With Redis paused or killed, caps fail open, contact policies closed, `degraded` says so, and it recovers."""
    server = Server()
    user = person("unlucky")
    with serving(write(tmp_path), clock=lambda: server.now, data_dir=tmp_path, state_url=mortal.url) as served:
        server.served = served
        server.report(Event(user=user, offer_id="once", impression=Impression()))
        assert {"once", "calm"} & server.ids(user) == {"calm"}

        mortal.pause()
        answer = server.ask(user)
        assert "state" == answer.degraded[0].dependency
        assert server.now < answer.refresh_after.seconds <= server.now + 1
        assert {"once", "calm"} & {offer.offer_id for offer in answer.offers} == {"once"}
        mortal.resume()
        wait_for(lambda: not server.ask(user).degraded, "the state is back")
        assert {"once", "calm"} & server.ids(user) == {"calm"}

        mortal.kill()
        assert server.ask(user).degraded
        mortal.start()
        wait_for(lambda: not server.ask(user).degraded, "the state is back, empty")
        assert {"once", "calm"} <= server.ids(user)
