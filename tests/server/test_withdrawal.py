"""After a withdrawal of consent: an export says what stays of the log, and the log can be erased, in all stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from offers.settings import RETENTION_DAYS
from offers.testing import Served, serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, Context, User
from offers.v1.event_pb2 import EventKind
from offers.v1.event_service_pb2 import EventWarning, ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import Consent, Profile
from offers.v1.profile_service_pb2 import (
    ExportProfileRequest,
    ExportProfileResponse,
    LinkIdentitiesRequest,
    UpdateProfileRequest,
    UpdateProfileResponse,
)
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from tests.server.persons import AGREED, CATALOG, NOW, event, known
from tests.state.contract import backends

DAY_S = 86_400
ALICE, VISITOR = User(user_id="alice"), User(anonymous_id="v1")


class App:
    """An app, and what it asks of the profile service."""

    def __init__(self, served: Served, clock: list[float]) -> None:
        self.served, self.clock = served, clock
        self.profiles, self.events = ProfileServiceStub(served.channel), EventServiceStub(served.channel)

    def withdraw(self, *, erase_log: bool, granted: bool = False) -> UpdateProfileResponse:
        """Withdraw Alice's consent to profiling."""
        consents = [Consent(purpose=CONSENT_PURPOSE_PROFILING, granted=granted)]
        request = UpdateProfileRequest(user=ALICE, profile=Profile(consents=consents), erase_log=erase_log)
        response: UpdateProfileResponse = self.profiles.UpdateProfile(request, timeout=20)
        return response

    def export(self, user: User = ALICE) -> ExportProfileResponse:
        """Return all that is kept of a person."""
        response: ExportProfileResponse = self.profiles.ExportProfile(ExportProfileRequest(user=user), timeout=20)
        return response

    def decide(self, user: User) -> None:
        """Decide about a person, and let it reach the log."""
        request = GetOffersRequest(context=Context(user=user))
        OfferServiceStub(self.served.channel).GetOffers(request, timeout=20)


@contextmanager
def _app(folder: Path, **urls: str) -> Iterator[App]:
    """Serve an app, with Alice's past as a visitor and as a user."""
    source, clock = folder / "catalog.yaml", [float(NOW)]
    source.write_text(CATALOG)
    with serving(
        source, clock=lambda: clock[0], data_dir=folder / "data", store_timeout_ms=5000, **urls
    ) as served:  # fmt: skip
        app = App(served, clock)
        visited = event("e1", "", at=NOW - 9, offer_id="lunch", click={})
        visited.user.CopyFrom(User(anonymous_id="v1", consent=AGREED))
        app.events.ReportEvents(
            ReportEventsRequest(events=[visited, event("e2", at=NOW - 5, offer_id="ride", impression={})]), timeout=20
        )
        app.profiles.LinkIdentities(
            LinkIdentitiesRequest(user_id="alice", anonymous_ids=["v1"], consent=AGREED), timeout=20
        )
        app.decide(known("alice"))
        served.worker.recorder.flush()
        yield app


@pytest.fixture(params=["sqlite", "servers"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[App]:
    """An app over one machine's stores, and over Redis and PostgreSQL."""
    if request.param == "sqlite":
        with _app(tmp_path) as made:
            yield made
        return
    with backends.redis(tmp_path) as process, backends.postgres() as url:
        backends.empty_postgres(url)
        with _app(tmp_path, state_url=process.url, events_url=url) as made:
            yield made


def test_an_export_says_what_stays_of_the_log(app: App) -> None:
    """After the withdrawal it lists each id with what is kept under it, of when, and until when."""
    app.withdraw(erase_log=False)
    told = app.export()
    kept = {(one.user.user_id, one.user.anonymous_id, one.kind): one for one in told.kept_logs}
    click, impression, decision = (
        kept[key]
        for key in (
            ("", "v1", EventKind.EVENT_KIND_CLICK),
            ("alice", "", EventKind.EVENT_KIND_IMPRESSION),
            ("alice", "", EventKind.EVENT_KIND_UNSPECIFIED),
        )
    )
    assert 3 == len(kept) == len(told.kept_logs)
    assert [1, 1, 1] == [one.count for one in (click, impression, decision)]
    assert [NOW - 9, NOW - 5, NOW] == [one.first_time.seconds for one in (click, impression, decision)]
    assert [NOW - 9, NOW - 5, NOW] == [one.last_time.seconds for one in (click, impression, decision)]
    assert [NOW + RETENTION_DAYS[name] * DAY_S for name in ("click", "impression", "decision")] == [
        one.expire_time.seconds for one in (click, impression, decision)
    ]


def test_a_withdrawal_may_erase_the_log(app: App) -> None:
    """No event or decision is left under any id; the withdrawal and the link are."""
    assert 2 == app.withdraw(erase_log=True).erased_event_count
    told = app.export()
    assert [0, 0, 0] == [len(part) for part in (told.events, told.decisions, told.kept_logs)]
    assert ([False], ["v1"]) == ([one.granted for one in told.profile.consents], list(told.profile.anonymous_ids))
    assert told == app.export(VISITOR)
    stores = app.served.stores
    assert not stores.events.of_person(["u:alice", "a:v1"])
    assert not stores.events.decisions_of(["u:alice", "a:v1"])


def test_the_log_may_be_erased_later(app: App) -> None:
    """A person who has withdrawn before may ask for the rest with any later update."""
    app.withdraw(erase_log=False)
    assert (
        2
        == app.profiles.UpdateProfile(UpdateProfileRequest(user=VISITOR, erase_log=True), timeout=20).erased_event_count
    )
    assert 0 == len(app.export().kept_logs)


def test_what_is_on_its_way_is_erased_too(app: App) -> None:
    """A decision that is logged after the erasure, and an event from before that arrives late, leave nothing."""
    app.decide(known("alice"))
    app.withdraw(erase_log=True)
    app.served.worker.recorder.flush()
    late = event("e3", at=NOW - 1, offer_id="ride", impression={})
    (result,) = app.events.ReportEvents(ReportEventsRequest(events=[late]), timeout=20).results
    assert [EventWarning.CODE_ERASED] == [one.code for one in result.warnings]
    assert 0 == len(app.export().kept_logs)


def test_the_log_of_who_agrees_is_not_erased(app: App) -> None:
    """Without a withdrawal the call is refused, and changes nothing."""
    with pytest.raises(grpc.RpcError) as refused:
        app.withdraw(erase_log=True, granted=True)
    assert grpc.StatusCode.FAILED_PRECONDITION == refused.value.code()
    assert 3 == len(app.export().kept_logs)
    assert 0 == len(app.export().profile.consents)


def test_agreeing_again_starts_anew(app: App) -> None:
    """Who agrees again after an erasure is logged from then on."""
    app.withdraw(erase_log=True)
    app.clock[0] += 10
    app.withdraw(erase_log=False, granted=True)
    app.events.ReportEvents(
        ReportEventsRequest(events=[event("e4", at=NOW + 10, offer_id="ride", impression={})]), timeout=20
    )
    assert ["e4"] == [one.event_id for one in app.export().events]
