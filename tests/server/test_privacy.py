"""Personal data is where it should be and nowhere else, by the raw bytes of files, logs and metrics."""

import socket
import struct
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from structlog.testing import capture_logs

from offers.server.fronts.handlers import raw_handlers
from offers.server.fronts.threads import CallThreads
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL, Context, Location, Session, User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import EventWarning, ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import (
    DeleteProfileRequest,
    ExportProfileRequest,
    GetProfileRequest,
    LinkIdentitiesRequest,
    UpdateProfileRequest,
)
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from tests.server.persons import AGREED, CATALOG, NOW, event, known, server
from tests.server.running import started, wait_for

USER, VISITOR, SESSION = "user-f3a9c1", "visitor-77b2e0", "session-5d4e8f"
CITY, MOOD = "Ouagadougou-91", "melancholy-42"
LATITUDE, LONGITUDE, GEOHASH = 12.3714277, -1.5196603, "efnymk"
PLACE = [struct.pack("<d", degrees) for degrees in (LATITUDE, LONGITUDE)]
PERSONAL = [text.encode() for text in (USER, VISITOR, SESSION, CITY, MOOD)]


def files(folder: Path) -> dict[str, bytes]:
    """Return all bytes of a folder's files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def found(folder: Path, needles: list[bytes]) -> list[tuple[str, bytes]]:
    """Return which of some byte strings are in which files."""
    return [(name, needle) for name, content in files(folder).items() for needle in needles if needle in content]


def told(event_id: str, user: User, at: int = NOW) -> Event:
    """Return an event with all the personal data it can have."""
    made = event(event_id, "", at=at, offer_id="lunch", session_id=SESSION, impression={})
    made.user.CopyFrom(user)
    made.location.latitude, made.location.longitude = LATITUDE, LONGITUDE
    return made


def survey(event_id: str, user: User) -> Event:
    """Return an event with attributes."""
    made = event(event_id, "", custom={"name": "survey"})
    made.user.CopyFrom(user)
    made.custom.attributes["mood"] = MOOD
    return made


def attributes(user: User) -> UpdateProfileRequest:
    """Change a person's attributes."""
    request = UpdateProfileRequest(user=user, profile=Profile())
    request.profile.attributes["city"] = CITY
    return request


def test_erasure_leaves_no_byte_in_any_file(tmp_path: Path) -> None:
    """After DeleteProfile no id, attribute, visit or place is in any file, nor after late events."""
    visitor = User(anonymous_id=VISITOR, consent=AGREED)
    with server(tmp_path) as at:
        at.report(
            told("e1", visitor), told("e2", known(USER)), survey("e3", known(USER)), event("o", "other", order={})
        )
        at.profiles.UpdateProfile(attributes(known(USER)), timeout=10)
        at.profiles.LinkIdentities(
            LinkIdentitiesRequest(user_id=USER, anonymous_ids=[VISITOR], consent=AGREED), timeout=10
        )
        at.report(*[told(f"more-{number}", visitor, NOW - number) for number in range(300)])
        kept = {needle for _, needle in found(at.folder, [*PERSONAL, GEOHASH.encode()])}
        assert {*PERSONAL, GEOHASH.encode()} == kept
        response = at.profiles.DeleteProfile(DeleteProfileRequest(user=User(anonymous_id=VISITOR)), timeout=10)
        assert 303 == response.event_count
        results = at.report(told("e1", visitor), told("late", known(USER), NOW - 1), survey("late too", visitor))
        assert [EventWarning.CODE_ERASED] * 3 == [result.warnings[0].code for result in results]
        wait_for(lambda: not found(at.folder, [*PERSONAL, GEOHASH.encode(), *PLACE]), "no file has a byte of theirs")
        assert 1 == at.state("u:other").profile.order_count
    assert [] == found(at.folder, [*PERSONAL, GEOHASH.encode(), *PLACE])


def test_erasure_takes_what_decisions_were_kept_with(tmp_path: Path) -> None:
    """Erasure removes the context logged with decisions for learning, on both request paths."""
    with server(tmp_path) as at:
        at.profiles.UpdateProfile(attributes(known(USER)), timeout=10)
        user = User(user_id=USER, consent=known(USER).consent)
        user.consent.purposes.append(CONSENT_PURPOSE_CONTEXTUAL)
        context = Context(user=user, session=Session(entry_channel=SESSION))
        context.location.point.latitude, context.location.point.longitude = LATITUDE, LONGITUDE
        usual, told_more = GetOffersRequest(context=context), GetOffersRequest(context=context)
        told_more.context.attributes["mood"] = MOOD
        ask = OfferServiceStub(at.served.channel).GetOffers
        answers = [ask(request, timeout=60) for request in (usual, usual, told_more)]
        assert at.served.worker.recorder is not None
        at.served.worker.recorder.flush()
        ids = [answer.decision_id.encode() for answer in answers]
        needles = [USER.encode(), CITY.encode(), SESSION.encode(), MOOD.encode(), GEOHASH.encode(), *ids]
        assert set(needles) == {needle for _, needle in found(at.folder, needles)}
        at.profiles.DeleteProfile(DeleteProfileRequest(user=user), timeout=10)
        wait_for(lambda: not found(at.folder, [*needles, *PLACE]), "no file has a byte of theirs")
    assert [] == found(at.folder, [*needles, *PLACE])


def test_without_consent_no_byte_of_a_person_is_kept(tmp_path: Path) -> None:
    """A person who has not agreed, or refuses in the request, leaves no id and no visit in any file."""
    refused = User(user_id=USER)
    refused.consent.SetInParent()
    with server(tmp_path) as at:
        results = at.report(told("e1", User(anonymous_id=VISITOR)), told("e2", refused), told("e3", User(user_id=USER)))
        assert [EventWarning.CODE_NO_CONSENT] * 3 == [result.warnings[0].code for result in results]
        for call, request in (
            (at.profiles.UpdateProfile, attributes(User(user_id=USER))),
            (at.profiles.LinkIdentities, LinkIdentitiesRequest(user_id=USER, anonymous_ids=[VISITOR])),
        ):
            with pytest.raises(grpc.RpcError, match="FAILED_PRECONDITION"):
                call(request, timeout=10)
        events = [event for _, event in at.served.stores.events.read(0, 9)]
        assert [("", False)] * 3 == [(event.person, event.learn) for event in events]
        assert [] == found(at.folder, [*PERSONAL, *PLACE])


@pytest.mark.parametrize(("length", "kept"), [(6, b"efnymk"), (4, b"efny"), (0, b"")])
def test_a_place_is_kept_as_coarse_as_is_set(tmp_path: Path, length: int, kept: bytes) -> None:
    """A location is stored as a geohash of the configured length, never as coordinates; with 0 not at all."""
    with server(tmp_path, geohash_length=length) as at:
        at.report(told("e1", known(USER)))
        ((_, logged),) = at.served.stores.events.read(0, 9)
        assert kept.decode() == logged.geohash
        finer = b"efnymkj"[: max(5, length + 1)]
        assert [] == found(at.folder, [*PLACE, finer])


def test_an_export_gives_all_that_erasure_takes(tmp_path: Path) -> None:
    """All personal data in the files is in the export."""
    with server(tmp_path) as at:
        at.report(told("e1", known(USER)), survey("e2", known(USER)))
        at.profiles.UpdateProfile(attributes(known(USER)), timeout=10)
        exported = at.profiles.ExportProfile(ExportProfileRequest(user=User(user_id=USER)), timeout=10)
        text = exported.SerializeToString()
        needles = [needle for needle in [*PERSONAL, GEOHASH.encode()] if needle != VISITOR.encode()]
        assert [True] * len(needles) == [needle in text for needle in needles]


def test_no_word_of_a_person_in_logs_or_metrics(tmp_path: Path) -> None:
    """With all logging on, neither requests nor faults leave personal data in logs or metrics."""
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with started(tmp_path, workers=1, log_level="debug", metrics_port=port, catalogs=(catalog,)) as running:
        running.wait_until_ready()
        with grpc.insecure_channel(running.target) as channel:
            _use(channel)
            bad = told("bad", known(USER))
            bad.location.latitude = LATITUDE * 10
            report: Any = EventServiceStub(channel).ReportEvents
            results = report(ReportEventsRequest(events=[bad, told("e9", known(USER))]), timeout=10).results
            assert [3, 0] == [result.status.code for result in results]
            with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
                report(ReportEventsRequest(events=[bad] * 1001), timeout=10)
        # A fault of ours: the file is not what it was.
        (tmp_path / "data" / "state.db").write_bytes(b"no database" * 10_000)
        with grpc.insecure_channel(running.target) as channel, pytest.raises(grpc.RpcError):
            ProfileServiceStub(channel).GetProfile(GetProfileRequest(user=User(user_id=USER)), timeout=10)
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            metrics = response.read()
    written = running.text.encode() + metrics
    assert b"worker_serving" in written
    degrees = [str(LATITUDE)[:6].encode(), str(LONGITUDE)[:6].encode(), b"123.714"]
    assert [] == [needle for needle in [*PERSONAL, *degrees, GEOHASH.encode()] if needle in written]


def test_a_fault_is_logged_without_its_message() -> None:
    """An internal fault ends a call with INTERNAL; its place is logged, but not its message."""
    threads = CallThreads(1)
    server = grpc.server(threads)
    handlers = raw_handlers(threads, {"Fail": lambda data: bytes(int(data))})
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Service", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, capture_logs() as logs:
            call: Any = channel.unary_unary("/test.Service/Fail")
            with pytest.raises(grpc.RpcError, match="INTERNAL") as caught:
                call(USER.encode(), timeout=10)
    finally:
        server.stop(None).wait()
    failed: Any = caught.value
    assert USER not in failed.details()
    assert [("call_failed", "ValueError")] == [(line["event"], line["error"]) for line in logs]
    assert any("test_privacy.py" in frame for frame in logs[0]["frames"])
    assert USER not in str(logs)


def _use(channel: grpc.Channel) -> None:
    """Call everything once that carries personal data."""
    user = known(USER)
    events, profiles = EventServiceStub(channel), ProfileServiceStub(channel)
    events.ReportEvents(ReportEventsRequest(events=[told("e1", user), survey("e2", user)]), timeout=10)
    profiles.UpdateProfile(attributes(user), timeout=10)
    profiles.LinkIdentities(LinkIdentitiesRequest(user_id=USER, anonymous_ids=[VISITOR], consent=AGREED), timeout=10)
    profiles.ExportProfile(ExportProfileRequest(user=user), timeout=10)
    location = Location()
    location.point.latitude, location.point.longitude = LATITUDE, LONGITUDE
    request = GetOffersRequest(context=Context(user=user, location=location))
    request.context.session.session_id = SESSION
    request.context.attributes["mood"] = MOOD
    assert OfferServiceStub(channel).GetOffers(request, timeout=10).offers
    profiles.DeleteProfile(DeleteProfileRequest(user=user), timeout=10)
