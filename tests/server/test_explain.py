"""ExplainOffers over a real server: every reason why an offer is not in an answer, with its values and nearest miss."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from geopy.distance import geodesic

from offers.client import AsyncOffersClient, OffersCallError, OffersClient, context
from offers.errors import BusyError
from offers.server import explain_service
from offers.server.people import PersonReader
from offers.testing import Served, serving
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    User,
)
from offers.v1.offer_service_pb2 import ExplainOffersRequest, GetOffersRequest, OfferExplanation, ReasonCode
from offers.v1.profile_pb2 import Consent
from offers.v1.profile_service_pb2 import UpdateProfileRequest
from tests.explained import HELD_OUT, LATITUDE, LONGITUDE, NOON, NOW, OFFERS, USER, document, serving_the_day


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the catalogue, with the person's day so far reported."""
    with serving_the_day(tmp_path_factory.mktemp("explain")) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[OffersClient]:
    """Return a client of the server."""
    with OffersClient(served.target, timeout_s=20) as made:
        yield made


def request(*, located: bool = True, accuracy_m: float | None = None) -> GetOffersRequest:
    """Return a request of the person from the usual place."""
    where = {"lat": LATITUDE, "lng": LONGITUDE, "accuracy_m": accuracy_m} if located else {}
    moment = context(at=NOON, language="fr", currency="EUR", channel="app", **where)  # type: ignore[arg-type]
    moment.user.CopyFrom(USER)
    return GetOffersRequest(context=moment, placement="home")


def explained(client: OffersClient, *offer_ids: str, asked: GetOffersRequest | None = None) -> list[OfferExplanation]:
    """Return the explanations of some offers."""
    response = client.explain(ExplainOffersRequest(request=asked or request(), offer_ids=offer_ids))
    return list(response.explanations)


def told(one: OfferExplanation) -> list[str]:
    """Return the checks that fail, in short."""
    return [
        f"{ReasonCode.Name(check.reason).removeprefix('REASON_CODE_')}: {check.detail}" for check in one.failed_checks
    ]


@pytest.mark.parametrize(
    ("offer_id", "wanted"),
    [
        ("nothing", "NO_SUCH_OFFER: the catalogue has no such offer"),
        ("elsewhere", "OTHER_PLACEMENT: asked for the placement home, and it is for map"),
        ("german", "OTHER_LANGUAGE: asked for the language fr, and it is for de"),
        ("dollars", "OTHER_CURRENCY: asked for the currency EUR, and it is for USD"),
        ("email", "OTHER_CHANNEL: asked for the channel app, and it is for email"),
        ("soon", "NOT_BEGUN: begins in 12 min, at 12:27"),
        ("later", "NOT_BEGUN: begins in 1 d, at Wed 25 Nov 12:15"),
        ("past", "OVER: over since 12:00"),
        ("closed", "CLOSED: opens in 12 min, at 12:27"),
        ("evening", "CLOSED: its daypart begins in 5 h 45 min, at 18:00"),
        ("unused", "CLOSED: redemption opens in 12 min, at 12:27"),
        ("never", "CLOSED: never opens within 400 days"),
        ("far", "TOO_FAR: 2,413 m outside the circle"),
        ("zoned", "TOO_FAR: 401 m outside zone north"),
        ("cut", "IN_EXCLUDED_ZONE: in zone here, which is cut out"),
        ("rushed", "ENDS_TOO_SOON: ends before one can be there"),
        ("segment", "NOT_IN_SEGMENTS: in none of the segments: pushed"),
        ("left-out", "IN_EXCLUDED_SEGMENT: in segments that are left out: everyone"),
        ("variant", "OTHER_VARIANT: for the variants e/b, has e/a"),
        ("held-out", "HOLDOUT: among the 0.5 of persons held out of campaign tested"),
        ("capped", "CAPPED: cap 3/3 (impression) until 18:05"),
        ("pressed", "PRESSURE: cap 1/1 (impression of policy few) until Wed 25 Nov 00:00"),
        ("quiet", "QUIET_HOURS: quiet hours 12:00-13:00 of policy night by Europe/Paris until 13:00"),
        ("dismissed", "COOLING_DOWN: it was put away 1 h ago, and cools down for 1 d until Wed 25 Nov 11:15"),
        ("used-up", "BUDGET_EXHAUSTED: budget of offer used-up: 10 of 10 used"),
        ("paced", "PACED: budget of offer paced: 13 of 24 used, ahead of plan until 13:00"),
        ("fallback", "FALLBACK_NOT_NEEDED: a fallback, and other offers qualify"),
        ("grouped", "EXCLUSION_GROUP: a better one of its exclusion group is in the answer"),
        ("branded", "LAYOUT: the placement holds no more of its brand"),
    ],
)
def test_reason_is_told(client: OffersClient, offer_id: str, wanted: str) -> None:
    """Each failed check names the values compared and the nearest miss."""
    (one,) = explained(client, offer_id)
    assert ([wanted], offer_id, 0) == (told(one), one.offer_id, one.rank)


def test_every_check_that_fails_is_told_in_order(client: OffersClient) -> None:
    """An offer that fails several checks lists all of them in order, with metres and instants."""
    (one,) = explained(client, "several")
    wanted = [
        "OTHER_LANGUAGE: asked for the language fr, and it is for de",
        "CLOSED: opens in 12 min, at 12:27",
        "TOO_FAR: 401 m outside zone north",
        "CAPPED: cap 1/1 (impression)",
    ]
    assert wanted == told(one)
    assert [0, NOW + 12 * 60, 0, 0] == [check.passes_time.seconds for check in one.failed_checks]
    away = geodesic((LATITUDE, LONGITUDE), (48.88, LONGITUDE)).m - 1000
    assert one.failed_checks[2].missing_m == pytest.approx(away, abs=0.1)
    assert (not one.eligible, one.place) == (True, "north")


def test_location_that_is_missing_or_vague(client: OffersClient) -> None:
    """A missing location is a reason, and so is one that is too uncertain."""
    (one,) = explained(client, "far", asked=request(located=False))
    assert ["NEEDS_LOCATION: there is no location, and it does not allow that"] == told(one)
    (one,) = explained(client, "vague", asked=request(accuracy_m=50))
    assert ["TOO_UNCERTAIN"] == [text.split(":")[0] for text in told(one)]
    assert told(one)[0].startswith("TOO_UNCERTAIN: inside venue bar with probability 0.")
    assert told(one)[0].endswith(", 0.99 needed")
    assert not one.failed_checks[0].HasField("missing_m")


def test_offers_in_the_answer_and_outranked_ones(client: OffersClient) -> None:
    """An offer that qualifies has its rank, score and factors; an outranked one names the score to beat."""
    asked = request()
    answer = client.get_offers(asked)
    best, worst = explained(client, "shown", "outranked", asked=asked)
    assert (1, True, []) == (best.rank, best.eligible, told(best))
    assert best.score == pytest.approx(answer.offers[0].score, rel=1e-9)
    assert (0, True, ["OUTRANKED"]) == (worst.rank, worst.eligible, [text.split(":")[0] for text in told(worst)])
    assert 9 == len(worst.factors)


def test_whole_catalogue_is_told_nearest_first(client: OffersClient) -> None:
    """Without ids all offers are explained: those in the answer first, then by the number of checks they fail."""
    response = client.explain(ExplainOffersRequest(request=request(), max_explanations=1000))
    found = list(response.explanations)
    assert sorted(OFFERS) == sorted(one.offer_id for one in found)
    assert [offer.offer_id for offer in response.response.offers] == [one.offer_id for one in found if one.rank]
    keys = [(one.rank or 1000, not one.eligible, len(one.failed_checks)) for one in found]
    assert sorted(keys) == keys
    assert "several" == found[-1].offer_id


def test_nothing_is_kept(served: Served, client: OffersClient) -> None:
    """An explanation changes neither the person's state nor the log of decisions."""
    served.worker.recorder.flush()
    before = served.stores.state.read(f"u:{HELD_OUT}")
    decisions = served.stores.events.decisions_after(0, 1000)
    explained(client, *OFFERS)
    served.worker.recorder.flush()
    assert before == served.stores.state.read(f"u:{HELD_OUT}")
    assert decisions == served.stores.events.decisions_after(0, 1000)


def test_bad_requests_are_refused(client: OffersClient) -> None:
    """A request beyond the limits is refused by the name of its field."""
    broken = request()
    broken.context.location.point.latitude = 100
    for asked, field in (
        (ExplainOffersRequest(offer_ids=["x"] * 1001), "offer_ids"),
        (ExplainOffersRequest(offer_ids=["x" * 129]), "offer_ids[0]"),
        (ExplainOffersRequest(max_explanations=0), "max_explanations"),
        (ExplainOffersRequest(request=broken), "request.context.location.point.latitude"),
        (ExplainOffersRequest(request=GetOffersRequest(placement="none")), "request.placement"),
    ):
        with pytest.raises(OffersCallError) as caught:
            client.explain(asked)
        assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code
        assert [field] == [violation.field for violation in caught.value.violations]


def test_limits_that_cannot_be_checked(tmp_path: Path) -> None:
    """If the state cannot be read, offers under a policy with caps give that reason, and the answer is degraded."""
    with (
        serving(document(tmp_path), clock=lambda: NOW, state_url="redis://127.0.0.1:1/0") as running,
        OffersClient(running.target, timeout_s=20) as client,
    ):
        response = client.explain(ExplainOffersRequest(request=request(), offer_ids=["pressed"]))
        assert ["DEGRADED: what counts for policy few cannot be read"] == told(response.explanations[0])
        assert ["state", "budgets"] == [one.dependency for one in response.response.degraded]


def test_asyncio_client_asks_the_same(served: Served, client: OffersClient) -> None:
    """The asyncio client gets the same explanation."""
    asked = ExplainOffersRequest(request=request(), offer_ids=["soon"])

    async def ask() -> list[OfferExplanation]:
        async with AsyncOffersClient(served.target) as asking:
            return list((await asking.explain(asked)).explanations)

    assert explained(client, "soon") == asyncio.run(ask())


@pytest.mark.parametrize(
    ("user", "purposes"),
    [
        (User(), []),
        (User(user_id="new"), [1]),
        (User(user_id="new", consent=ConsentGrants()), []),
        (
            User(user_id="new", consent=ConsentGrants(purposes=[CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_CONTEXTUAL])),
            [1, 3],
        ),
        (User(user_id="asked"), [1, 2]),
    ],
)
def test_explanations_tell_the_purposes_that_counted(client: OffersClient, user: User, purposes: list[int]) -> None:
    """Those of the request, otherwise the stored decisions, otherwise the server's default; none for nobody."""
    asked, granted = UpdateProfileRequest(user=User(user_id="asked")), Consent(granted=True)
    granted.purpose = CONSENT_PURPOSE_PROFILING
    asked.profile.consents.append(granted)
    client.update_profile(asked)
    given = request()
    given.context.ClearField("user")
    if user.WhichOneof("identity"):
        given.context.user.CopyFrom(user)

    assert purposes == list(client.explain(ExplainOffersRequest(request=given, offer_ids=["shown"])).purposes)


def test_decisions_run_between_the_steps_of_an_explanation(
    served: Served, client: OffersClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may pause after each offer, when its places are judged, when it is compared, and when it is told."""
    steps = []
    monkeypatch.setattr(explain_service, "Pauses", lambda: lambda: steps.append(1))
    explanations = explained(client)

    assert len(steps) >= 3 * len(explanations) > 3
    assert served.worker.live


def test_only_so_many_requests_are_explained_at_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused at once, so that threads are left for decisions."""
    monkeypatch.setattr(explain_service, "MOST_EXPLAINING", 0)
    service = explain_service.ExplainService(served.worker.live, lambda: NOW, PersonReader(None, frozenset()))
    with pytest.raises(BusyError, match="try again later"):
        service.explain_offers(b"")
