"""Variants and holdouts survive sign-in, however soon it comes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from offers.server import profile_service
from offers.server.people import assign
from offers.server.recorder import Recorder
from offers.state.person.ids import draw_of
from offers.testing import Served, serving
from offers.v1.context_pb2 import Context, User
from offers.v1.offer_service_pb2 import Exposure, GetOffersRequest, GetOffersResponse
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import DeleteProfileRequest, LinkIdentitiesRequest, UpdateProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from offers.v1.state_pb2 import DecisionRecord, UserState
from tests.server.persons import AGREED
from tests.server.running import started
from tests.state.contract import backends

NOW = 1_795_000_000
PEOPLE = 30
CATALOG = """
catalog_id: corner
time_zone: Europe/Paris
holdout: 0.5
experiments:
  - {experiment_id: other, variants: [{variant_id: a}, {variant_id: b}], placement_ids: [elsewhere]}
  - {experiment_id: dessert, variants: [{variant_id: a}, {variant_id: b}, {variant_id: c}]}
placements: [{placement_id: elsewhere}]
offers:
  - {offer_id: lunch, title: Lunch, benefit: {percent_off: 20}, target: {everywhere: true}, fallback: true}
  - {offer_id: dinner, title: Dinner, benefit: {percent_off: 20}, target: {everywhere: true}}
  - offer_id: dessert
    title: A dessert
    benefit: {percent_off: 100}
    target: {everywhere: true}
    fallback: true
    audience: {variants: [{experiment_id: dessert, variant_id: a}]}
  - offer_id: cake
    title: A cake
    benefit: {percent_off: 100}
    target: {everywhere: true}
    audience: {variants: [{experiment_id: dessert, variant_id: b}, {experiment_id: other, variant_id: a}]}
"""
Side = tuple[tuple[tuple[str, str], ...], tuple[bool, ...]]
"""Variants, and whether the person is held out."""


class App:
    """An app that asks under any id, and signs people in."""

    def __init__(self, served: Served, clock: list[float]) -> None:
        self.served, self.clock = served, clock
        self._offers, self.profiles = OfferServiceStub(served.channel), ProfileServiceStub(served.channel)

    def ask(self, placement: str = "", **who: str) -> Side:
        """Return what a person is shown of experiments and holdouts."""
        request = GetOffersRequest(context=Context(user=User(consent=AGREED, **who)), placement=placement)
        answer: GetOffersResponse = self._offers.GetOffers(request, timeout=20)
        variants = tuple((one.experiment_id, one.variant_id) for one in answer.exposures)
        return variants, tuple(one.held_out for one in answer.holdouts)

    def link(self, user_id: str, *visitors: str) -> None:
        """Sign a user in."""
        request = LinkIdentitiesRequest(user_id=user_id, anonymous_ids=visitors, consent=AGREED)
        self.profiles.LinkIdentities(request, timeout=20)

    def logged(self) -> None:
        """Let what was decided reach the stores."""
        self.served.worker.recorder.flush()


@contextmanager
def _app(folder: Path, state_url: str = "") -> Iterator[App]:
    source, clock = folder / "catalog.yaml", [float(NOW)]
    source.write_text(CATALOG)
    with serving(
        source, clock=lambda: clock[0], data_dir=folder / "data", state_url=state_url, store_timeout_ms=5000
    ) as served:
        yield App(served, clock)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links in this process wait for no other one."""
    monkeypatch.setattr(profile_service, "OTHERS_S", 0.0)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An app and its server."""
    with _app(tmp_path) as made:
        yield made


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """The same where decisions have not reached the stores yet, as those of another worker may not have."""
    monkeypatch.setattr(Recorder, "flush", lambda _: None)
    with _app(tmp_path) as made:
        yield made


@pytest.fixture
def in_redis(tmp_path: Path) -> Iterator[App]:
    """The same with persons in Redis."""
    with backends.redis(tmp_path) as process, _app(tmp_path, process.url) as made:
        yield made


def test_people_differ(app: App) -> None:
    """Among 30 visitors there is every variant, and both sides of the holdout."""
    sides = [app.ask(anonymous_id=f"v{number}") for number in range(PEOPLE)]
    assert {"a", "b", "c"} == {variant for variants, _ in sides for _, variant in variants}
    assert {(True,), (False,)} == {held_out for _, held_out in sides}


@pytest.mark.parametrize("fixture", ["app", "late", "in_redis"])
def test_a_visitor_who_signs_in_at_once_keeps_the_variant(fixture: str, request: pytest.FixtureRequest) -> None:
    """The user is shown what the visitor was, and so is the visitor from then on."""
    app: App = request.getfixturevalue(fixture)
    for number in range(PEOPLE):
        before = app.ask(anonymous_id=f"v{number}")
        app.link(f"u{number}", f"v{number}")
        assert before == app.ask(user_id=f"u{number}") == app.ask(anonymous_id=f"v{number}")


def test_a_user_with_attributes_alone_takes_over_the_variant(late: App) -> None:
    """A profile that was imported, of a person to whom nothing was shown yet, does not count as being known."""
    for number in range(PEOPLE):
        profile = Profile()
        profile.attributes["city"] = "Lyon"
        user = User(user_id=f"u{number}", consent=AGREED)
        late.profiles.UpdateProfile(UpdateProfileRequest(user=user, profile=profile), timeout=20)
        before = late.ask(anonymous_id=f"v{number}")
        late.link(f"u{number}", f"v{number}")
        assert before == late.ask(user_id=f"u{number}")


def test_a_known_user_keeps_the_variant(app: App) -> None:
    """Who was shown something as a user before stays so when a visitor signs in, on all devices."""
    for number in range(PEOPLE):
        before = app.ask(user_id=f"u{number}")
        app.logged()
        app.clock[0] += 1
        app.ask(anonymous_id=f"v{number}")
        app.link(f"u{number}", f"v{number}")
        assert before == app.ask(user_id=f"u{number}") == app.ask(anonymous_id=f"v{number}")


@pytest.mark.parametrize("fixture", ["app", "late", "in_redis"])
def test_a_known_user_takes_over_what_is_new(fixture: str, request: pytest.FixtureRequest) -> None:
    """Who was known long before, but not in an experiment, stays in the variant that the visitor was just shown."""
    app: App = request.getfixturevalue(fixture)
    kept = 0
    for number in range(PEOPLE):
        seen = UserState()
        seen.profile.first_seen_time.seconds = NOW - 10_000
        app.served.stores.state.change([(f"u:u{number}", lambda _, __, seen=seen: seen.SerializeToString())])  # type: ignore[misc]
        before = dict(app.ask("elsewhere", anonymous_id=f"v{number}")[0])
        app.link(f"u{number}", f"v{number}")
        app.link(f"u{number}", f"w{number}")
        for who in ({"user_id": f"u{number}"}, {"anonymous_id": f"v{number}"}, {"anonymous_id": f"w{number}"}):
            after = dict(app.ask("elsewhere", **who)[0])
            assert all(after.get(name, variant) == variant for name, variant in before.items())
            kept += len(before.keys() & after.keys())
    assert kept > PEOPLE


@pytest.mark.parametrize("fixture", ["app", "late", "in_redis"])
def test_the_first_of_several_devices_decides(fixture: str, request: pytest.FixtureRequest) -> None:
    """A second device that signs in, at once or with others, changes nothing."""
    app: App = request.getfixturevalue(fixture)
    for number in range(PEOPLE):
        before = app.ask(anonymous_id=f"v{number}")
        app.link(f"u{number}", f"v{number}")
        app.ask(anonymous_id=f"w{number}")
        app.link(f"u{number}", f"w{number}", f"x{number}", f"v{number}")
        for who in ({"user_id": f"u{number}"}, *({"anonymous_id": f"{one}{number}"} for one in "vwx")):
            assert before == app.ask(**who)


@pytest.mark.parametrize("fixture", ["app", "in_redis"])
def test_a_device_to_which_nothing_was_shown_decides_nothing(fixture: str, request: pytest.FixtureRequest) -> None:
    """Linked before the visitor, or in the same call, it leaves the visitor's variants alone."""
    app: App = request.getfixturevalue(fixture)
    for number in range(PEOPLE):
        app.link(f"u{number}", f"unseen{number}")
        before = app.ask(anonymous_id=f"v{number}")
        app.link(f"u{number}", f"v{number}")
        for who in ({"user_id": f"u{number}"}, *({"anonymous_id": f"{one}{number}"} for one in ("unseen", "v"))):
            assert before == app.ask(**who)
        before = app.ask(anonymous_id=f"w{number}")
        app.link(f"x{number}", f"new{number}", f"w{number}")
        assert before == app.ask(user_id=f"x{number}") == app.ask(anonymous_id=f"new{number}")


def test_experiments_that_begin_later_are_drawn_alike_for_all_ids(app: App) -> None:
    """An experiment that a person meets for the first time long after the link gives every id the same variant."""
    for number in range(PEOPLE):
        app.ask(user_id=f"u{number}")
        app.logged()
        app.clock[0] += 1
        app.link(f"u{number}", f"v{number}")
        app.link(f"other{number}", f"v{number}")  # another person takes the device over
        later = app.ask("elsewhere", anonymous_id=f"v{number}")
        assert later == app.ask("elsewhere", user_id=f"other{number}")


def test_an_exposure_that_arrives_late_counts_if_it_was_first() -> None:
    """Decisions are kept by when they were made, in whichever order they arrive."""
    state = UserState()

    def keep(variant: str, second: int) -> bool:
        told = DecisionRecord(exposures=[Exposure(experiment_id="dessert", variant_id=variant)])
        return assign(state, "u:alice", told, second)

    assert [True, True, False] == [keep("b", NOW + 20), keep("a", NOW + 10), keep("c", NOW + 15)]
    assert [("a", NOW + 10)] == [(one.variant_id, one.exposure_time.seconds) for one in state.assignments]
    assert (draw_of("u:alice"), NOW + 10) == (state.draw, state.drawn_second)


def test_nothing_is_left_after_an_erasure(app: App) -> None:
    """An erased person is drawn by the id in the request again, as one of whom nothing was ever known."""
    fresh = [app.ask(user_id=f"u{number}") for number in range(PEOPLE)]
    for number in range(PEOPLE):
        app.profiles.DeleteProfile(DeleteProfileRequest(user=User(user_id=f"u{number}")), timeout=20)
        app.clock[0] += 1
        app.ask(anonymous_id=f"v{number}")
        app.link(f"u{number}", f"v{number}")
        app.profiles.DeleteProfile(DeleteProfileRequest(user=User(user_id=f"u{number}")), timeout=20)
        app.clock[0] += 1
        assert 0 == len(app.served.stores.state.read(f"u:u{number}"))
    assert fresh == [app.ask(user_id=f"u{number}") for number in range(PEOPLE)]


def test_without_consent_nothing_is_linked(app: App) -> None:
    """The link is refused."""
    with pytest.raises(grpc.RpcError) as refused:
        app.profiles.LinkIdentities(LinkIdentitiesRequest(user_id="u", anonymous_ids=["v"]), timeout=20)
    assert grpc.StatusCode.FAILED_PRECONDITION == refused.value.code()


@pytest.mark.parametrize("state", ["sqlite", "redis"])
def test_variants_survive_a_sign_in_over_several_workers(state: str, tmp_path: Path) -> None:
    """Asked, linked and asked again over connections to two workers, 30 of 30 keep what they were shown.

    Half of them have another device, to which nothing was shown.
    """
    source = tmp_path / "catalog.yaml"
    source.write_text(CATALOG)
    with ExitStack() as stack:
        url = stack.enter_context(backends.redis(tmp_path)).url if state == "redis" else ""
        server = stack.enter_context(
            started(tmp_path, catalogs=(str(source),), workers=2, state_url=url, store_timeout_ms=5000)
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            stack.enter_context(grpc.insecure_channel(server.target, options=options)) for _ in range(5)
        ]  # fmt: skip

        def ask(number: int, **who: str) -> list[tuple[str, str]]:
            request = GetOffersRequest(context=Context(user=User(consent=AGREED, **who)))
            answer = OfferServiceStub(channels[number % 5]).GetOffers(request, timeout=20)
            return [(one.experiment_id, one.variant_id) for one in answer.exposures]

        for number in range(PEOPLE):
            before = ask(number, anonymous_id=f"v{number}")
            visitors = [f"v{number}"] if number % 2 else [f"unseen{number}", f"v{number}"]
            for linked in [visitors] if number % 4 else [[visitor] for visitor in visitors]:
                link = LinkIdentitiesRequest(user_id=f"u{number}", anonymous_ids=linked, consent=AGREED)
                ProfileServiceStub(channels[(number + 1) % 5]).LinkIdentities(link, timeout=20)
            assert [before] * 5 == [ask(other, user_id=f"u{number}") for other in range(5)]
