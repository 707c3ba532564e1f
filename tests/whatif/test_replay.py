"""Logged decisions are decided again as they were, from the fields of the log."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.errors import InvalidRequestError
from offers.model.geohash import centre_of, geohash
from offers.testing import Served, serving
from offers.v1.context_pb2 import ConsentGrants, ConsentPurpose, Context, User
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import UpdateProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from offers.v1.state_pb2 import DecisionRecord
from offers.whatif.replay import Replay, UnknownStrategyError, replaying
from tests.server.running import wait_for

AGREED = ConsentGrants(purposes=ConsentPurpose.values()[1:])
NOON = 1_795_000_000
PARIS, LYON = (48.8674, 2.3636), (45.7640, 4.8357)
CATALOG = """
catalog_id: corner
time_zone: Europe/Paris
default_ranking_strategy_id: near
placements:
  - {placement_id: home, max_offers: 5, exploration: {method: METHOD_EPSILON_GREEDY, epsilon: 1}}
  - {placement_id: banner, max_offers: 1, ranking_strategy_id: worth}
ranking_strategies:
  - {ranking_strategy_id: near, weights: {propensity: 1}}
  - {ranking_strategy_id: worth, weights: {nearness: 0, lever: 0}}
  - {ranking_strategy_id: pushed, weights: {nearness: 0, value: 0}}
segments:
  - {segment_id: members, expression: "profile.attributes.member == true"}
  - {segment_id: wet, expression: "context.attributes.weather == 'rain'"}
  - {segment_id: pushed, expression: "session.entry_channel == 'push'"}
experiments:
  - experiment_id: ways
    placement_ids: [banner]
    variants: [{variant_id: a}, {variant_id: b, ranking_strategy_id: near}]
offers:
  - offer_id: paris
    title: In Paris
    benefit: {percent_off: 20}
    target: {circles: [{center: {latitude: 48.8674, longitude: 2.3636}, radius_m: 20000}]}
    value: 0.6
  - offer_id: lyon
    title: In Lyon
    benefit: {percent_off: 20}
    target: {circles: [{center: {latitude: 45.7640, longitude: 4.8357}, radius_m: 20000}]}
    value: 0.3
  - {offer_id: all, title: Everywhere, benefit: {percent_off: 5}, target: {everywhere: true}, value: 0.9, lever: 0.1}
  - offer_id: members
    title: Members
    benefit: {percent_off: 5}
    target: {everywhere: true}
    audience: {any_segment_ids: [members]}
  - offer_id: rain
    title: Umbrellas
    benefit: {percent_off: 5}
    target: {everywhere: true}
    audience: {any_segment_ids: [wet]}
    value: 0.9
  - offer_id: push
    title: Pushed
    benefit: {percent_off: 5}
    target: {everywhere: true}
    audience: {any_segment_ids: [pushed]}
  - {offer_id: deutsch, title: Nur hier, benefit: {percent_off: 5}, target: {everywhere: true}, language_codes: [de]}
  - offer_id: pounds
    title: Pounds
    benefit: {amount_off: {currency_code: GBP, units: 1}}
    target: {everywhere: true}
  - offer_id: web
    title: On the web
    benefit: {percent_off: 5}
    target: {everywhere: true}
    channels: [web]
    value: 0.1
    lever: 0.9
  - offer_id: evening
    title: In the evening
    benefit: {percent_off: 5}
    target: {everywhere: true}
    availability: {opening_hours: "18:00-23:00"}
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Served, list[float]]]:
    """A server of the catalogue, which explores nothing and knows a member, and its clock."""
    source, clock = tmp_path / "served.yaml", [float(NOON)]
    source.write_text(CATALOG.replace(", exploration: {method: METHOD_EPSILON_GREEDY, epsilon: 1}", ""))
    with serving(source, clock=lambda: clock[0], data_dir=tmp_path / "data") as server:
        profile = Profile()
        profile.attributes.update({"member": True})
        member = User(user_id="member", consent=AGREED)
        ProfileServiceStub(server.channel).UpdateProfile(UpdateProfileRequest(user=member, profile=profile), timeout=20)
        yield server, clock


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[Replay]:
    """A replay of the catalogue, which would explore."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    with replaying(tmp_path / "catalog.yaml") as made:
        yield made


def asked() -> Iterator[GetOffersRequest]:
    """Requests that differ in all that the log keeps."""
    ways = product(("home", "banner"), (PARIS, LYON, None), ("member", "ada", "ben"), range(3))
    for number, (placement, place, person, more) in enumerate(ways):
        context = Context(user=User(user_id=person, consent=AGREED), time_zone=("", "Asia/Tokyo")[more % 2])
        context.attributes.update({"weather": ("rain", "sun")[number % 2], "party": number})
        if place:
            context.location.point.latitude, context.location.point.longitude = place
        context.session.entry_channel = ("", "push", "search")[more]
        context.language_code, context.currency_code = ("", "de-AT", "fr")[more], ("", "GBP", "EUR")[number % 3]
        context.channel = ("", "web", "app")[(number + more) % 3]
        yield GetOffersRequest(context=context, placement=placement, max_offers=(3, 5, 10)[number % 3])


def test_decisions_come_out_as_they_were_made(served: tuple[Served, list[float]], replay: Replay) -> None:
    """Place, time, person, attributes, entry channel, language, currency, channel, placement and size are all used."""
    server, clock = served
    requests = list(asked())
    shown = {}
    for number, request in enumerate(requests):
        clock[0] = NOON + 3_600.0 * number
        answer = OfferServiceStub(server.channel).GetOffers(request, timeout=20)
        shown[answer.decision_id] = [one.offer_id for one in answer.offers]
    log = server.stores.events
    wait_for(lambda: len(requests) == len(log.decisions_after(0, 1_000)), "the decisions are logged")

    again = {one.decision_id: replay.answer(one.told(), one.second) for _, one in log.decisions_after(0, 1_000)}

    assert shown == again
    assert {offer for answer in shown.values() for offer in answer} == {
        "paris", "lyon", "all", "members", "rain", "push", "deutsch", "pounds", "web", "evening",
    }  # fmt: skip


def test_a_strategy_takes_the_place_of_all_others(tmp_path: Path) -> None:
    """The default, those of placements and those of variants give way to the strategy; exploration as well."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    answers = {}
    for strategy in ("near", "worth", "pushed"):
        with replaying(tmp_path / "catalog.yaml", strategy) as made:
            answers[strategy] = [
                made.answer(_told(placement, number), NOON) for placement in ("home", "banner") for number in range(20)
            ]
    first = {"near": "paris", "worth": "all", "pushed": "web"}
    for strategy, found in answers.items():
        assert [found[0]] * 20 == found[:20]
        assert [found[0][:1]] * 20 == found[20:]
        assert first[strategy] == found[0][0]


def _told(placement: str, number: int) -> DecisionRecord:
    return DecisionRecord(catalog="corner", placement=placement, geohash=geohash(*PARIS, 6), draw=number + 1, time=NOON)


def test_what_cannot_be_decided_is_refused(tmp_path: Path, replay: Replay) -> None:
    """A placement or a strategy that the catalogue does not have is told."""
    with pytest.raises(InvalidRequestError, match="gone"):
        replay.answer(DecisionRecord(placement="gone"), NOON)
    with pytest.raises(UnknownStrategyError, match="near, worth, pushed"), replaying(tmp_path / "catalog.yaml", "best"):
        pass


@given(st.floats(-90, 90), st.floats(-180, 180), st.integers(1, 12))
def test_the_middle_of_a_cell_is_in_it(latitude: float, longitude: float, length: int) -> None:
    """The middle of a geohash's cell has the same geohash, and is no further from the position than half its width."""
    cell = geohash(latitude, longitude, length)

    middle = centre_of(cell)

    assert cell == geohash(*middle, length)
    assert abs(middle[1] - longitude) <= 180 / 2 ** ((5 * length + 1) // 2) + 1e-9
