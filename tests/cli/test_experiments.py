"""`offers experiments report` over the log of a real server: what is shown, clicked, bought, and told of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.type.money_pb2 import Money
from typer.testing import CliRunner, Result

from offers.cli import app
from offers.errors import OffersError
from offers.testing import Served, serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL, ConsentGrants, Context, User
from offers.v1.event_pb2 import Click, Event, Order, RedemptionEvent
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import LinkIdentitiesRequest, UpdateProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from tests.server.persons import AGREED
from tests.server.running import wait_for

NOW = 1_795_000_000
DAY_S = 86_400
PEOPLE = 40
CATALOG = """
catalog_id: corner
time_zone: Europe/Paris
experiments:
  - experiment_id: dessert
    variants: [{variant_id: without}, {variant_id: with}]
  - experiment_id: later
    window: {start_time: "2099-01-01T00:00:00Z"}
    variants: [{variant_id: a}, {variant_id: b}]
offers:
  - {offer_id: lunch, title: Lunch, benefit: {percent_off: 20}, target: {everywhere: true}}
  - offer_id: dessert
    title: A dessert
    benefit: {percent_off: 100}
    target: {everywhere: true}
    audience: {variants: [{experiment_id: dessert, variant_id: with}]}
"""


class Trial:
    """People who were asked for, what they were shown, and what they did."""

    def __init__(self, served: Served, folder: Path, clock: list[float], stop: Callable[[], None]) -> None:
        self.served, self.folder, self.clock, self._stop = served, folder, clock, stop
        self.groups: dict[str, list[User]] = {"without": [], "with": []}
        for number in range(PEOPLE):
            user = User(user_id=f"person-{number}", consent=AGREED)
            self.groups[self.variant(self.ask(user))].append(user)

    def ask(self, user: User) -> GetOffersResponse:
        """Return the offers that a person is shown."""
        request = GetOffersRequest(context=Context(user=user))
        answer: GetOffersResponse = OfferServiceStub(self.served.channel).GetOffers(request, timeout=20)
        return answer

    def variant(self, answer: GetOffersResponse) -> str:
        """Which variant an answer is of: by what it says, and by what is in it."""
        (exposure,) = answer.exposures
        assert ("with" == exposure.variant_id) == ("dessert" in {offer.offer_id for offer in answer.offers})
        return exposure.variant_id

    def report(self, users: list[User], **what: Any) -> None:  # noqa: ANN401 - fields of the event
        """Let each of some people do the same."""
        name = "-".join(what)
        events = [Event(event_id=f"{name}-{self.clock[0]}-{number}", **what) for number in range(len(users))]
        for event, user in zip(events, users, strict=True):
            event.user.CopyFrom(user)
            event.event_time.seconds = int(self.clock[0])
        request = ReportEventsRequest(events=events)
        results = EventServiceStub(self.served.channel).ReportEvents(request, timeout=20).results
        assert len(users) == sum(not result.HasField("status") for result in results)

    def logged(self, decisions: int) -> None:
        """Wait until so many decisions are in the log: it is written behind the answers."""
        log = self.served.stores.events
        wait_for(lambda: decisions == len(log.decisions_after(0, 1_000)), "the decisions are logged")

    def run(self, *options: str, document: Path | None = None) -> Result:
        """Report on the experiment, once the server has stopped: its threads may log to this process's stdout."""
        self._stop()
        data = ("--data-dir", str(self.folder / "data"))
        path = str(document or self.folder / "catalog.yaml")
        return CliRunner().invoke(app, ["experiments", "report", path, *data, "--experiment", "dessert", *options])


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """A trial in which everybody was shown something, and nobody has done anything."""
    source = tmp_path / "catalog.yaml"
    source.write_text(CATALOG)
    clock = [float(NOW)]
    with ExitStack() as stack:
        served = stack.enter_context(serving(source, clock=lambda: clock[0], data_dir=tmp_path / "data"))
        yield Trial(served, tmp_path, clock, stack.close)


def test_what_people_did_is_told_by_variant(trial: Trial) -> None:
    """Shares, uplift and order values are those of the people who were served, within the window, and no others."""
    without, with_ = trial.groups.values()
    trial.report(without[:2] + with_[:5], offer_id="lunch", click=Click())
    trial.clock[0] += 1
    trial.report(with_[:1], offer_id="lunch", click=Click())
    reserve, confirm = RedemptionEvent.PHASE_RESERVE, RedemptionEvent.PHASE_CONFIRM
    for users, name, phase in ((with_[:1], "r", reserve), (with_[:1], "r", confirm), (with_[1:2], "s", reserve)):
        trial.clock[0] += 1
        trial.report(users, offer_id="dessert", redemption=RedemptionEvent(phase=phase, redemption_id=name))
    trial.clock[0] = NOW + 2 * DAY_S
    trial.report(without[:1] + with_[:4], order=Order(total=Money(currency_code="EUR", units=10)))
    trial.logged(PEOPLE)

    result = trial.run("--json")

    assert (0, "") == (result.exit_code, result.stderr)
    told = orjson.loads(result.stdout)
    assert ("dessert", 7 * DAY_S, False) == (told["experiment"], told["window_s"], told["mismatch"])
    a, b = told["variants"]
    for variant, group, clicks, orders, redeemed in ((a, without, 2, 1, 0), (b, with_, 5, 4, 1)):
        assert [len(group), 0, len(group), 0] == [variant[n] for n in ("persons", "crossed", "decisions", "nameless")]
        expected = {"clicked": clicks, "ordered": orders, "redeemed": redeemed}
        assert expected == {name: rate["persons"] for name, rate in variant["rates"].items()}
        assert clicks / len(group) == variant["rates"]["clicked"]["share"]["value"]
        assert 10 * orders / len(group) == pytest.approx(variant["order_value"]["EUR"]["value"])
    assert 5 / len(with_) - 2 / len(without) == b["rates"]["clicked"]["uplift"]["value"]
    short = orjson.loads(trial.run("--json", "--days", "1").stdout)
    assert [(2, 0), (5, 0)] == [
        tuple(one["rates"][name]["persons"] for name in ("clicked", "ordered")) for one in short["variants"]
    ]


def test_a_visitor_s_exposure_and_a_user_s_order_are_one_person_s(trial: Trial) -> None:
    """A person exposed before signing in counts once, with purchases after it; decisions of nobody are told apart."""
    visitor, stranger = User(anonymous_id="visitor", consent=AGREED), User(anonymous_id="stranger")
    variant = trial.variant(trial.ask(visitor))
    nobody = trial.variant(trial.ask(stranger))
    wait_for(lambda: trial.served.stores.state.read("a:visitor"), "the visitor's variant is kept")
    link = LinkIdentitiesRequest(user_id="ada", anonymous_ids=["visitor"], consent=AGREED)
    ProfileServiceStub(trial.served.channel).LinkIdentities(link, timeout=20)
    ada = User(user_id="ada", consent=AGREED)
    assert variant == trial.variant(trial.ask(ada))
    trial.report([ada], order=Order())
    trial.logged(PEOPLE + 3)

    told = {one["variant"]: one for one in orjson.loads(trial.run("--json").stdout)["variants"]}

    for name, group in trial.groups.items():
        own = len(group) + (name == variant)
        assert [own, own + (name == variant), name == nobody] == [
            told[name][key] for key in ("persons", "decisions", "nameless")
        ]
        assert (name == variant) == told[name]["rates"]["ordered"]["persons"]


def test_the_table_warns_of_a_mismatch_and_only_then(trial: Trial) -> None:
    """Persons match the weights by which they were split; with other weights, the table warns."""
    trial.report(trial.groups["with"][:3], offer_id="lunch", click=Click())
    trial.logged(PEOPLE)
    other = trial.folder / "other.yaml"
    other.write_text(CATALOG.replace("{variant_id: without}", "{variant_id: without, weight: 7}"))

    matching, off = trial.run(), trial.run(document=other)

    assert (0, 0) == (matching.exit_code, off.exit_code)
    assert "Persons are shared out as the weights say" in matching.stdout
    assert "WARNING" not in matching.stdout
    assert "WARNING: sample ratio mismatch" in off.stdout
    assert "as the weights say" not in off.stdout
    share = 3 / len(trial.groups["with"])
    assert f"{100 * share:.1f} % (" in matching.stdout
    assert f"{100 * share:+.1f} (" in matching.stdout


def test_what_cannot_be_reported_on_is_said(trial: Trial) -> None:
    """An unknown experiment, a catalogue without any, and a folder without a log are told; too few persons, too."""
    bare = trial.folder / "bare.yaml"
    bare.write_text(
        CATALOG[: CATALOG.index("experiments:")] + CATALOG[CATALOG.index("offers:") :].partition("\n  - offer_id: d")[0]
    )
    path = str(trial.folder / "catalog.yaml")
    run = CliRunner().invoke

    unknown = run(app, ["experiments", "report", path, "--experiment", "lunch"])
    none = run(app, ["experiments", "report", str(bare)])
    nowhere = run(app, ["experiments", "report", path, "--data-dir", str(trial.folder / "nowhere")])
    later = run(app, ["experiments", "report", path, "--data-dir", str(trial.folder / "data")])

    assert (2, 1) == (unknown.exit_code, none.exit_code)
    assert "dessert, later" in unknown.stderr
    assert "has no experiments" in none.stderr
    assert isinstance(nowhere.exception, OffersError)
    assert "--data-dir" in str(nowhere.exception)
    assert "Too few persons" in later.stdout.partition("experiment later")[2]


CONCERNED = """
catalog_id: corner
time_zone: Europe/Paris
holdout: 0.3
segments:
  - {segment_id: vip, expression: profile.attributes.vip == true}
  - {segment_id: buyers, expression: profile.order_count > 0}
campaigns: [{campaign_id: spring, holdout: 0.5}, {campaign_id: summer}]
experiments:
  - {experiment_id: trial, variants: [{variant_id: a}, {variant_id: b}]}
  - {experiment_id: club, segment_ids: [vip], variants: [{variant_id: a}, {variant_id: b}]}
offers:
  - {offer_id: base, title: t, benefit: {percent_off: 5}, target: {everywhere: true}, campaign_id: spring}
  - {offer_id: fallback, title: t, benefit: {percent_off: 5}, target: {everywhere: true}, fallback: true}
  - offer_id: b-only
    title: t
    benefit: {percent_off: 5}
    target: {everywhere: true}
    fallback: true
    audience: {all_segment_ids: [vip], variants: [{experiment_id: trial, variant_id: b}]}
  - offer_id: club-only
    title: t
    benefit: {percent_off: 5}
    target: {everywhere: true}
    audience: {variants: [{experiment_id: club, variant_id: b}]}
"""


ALL = ConsentGrants(purposes=[*AGREED.purposes, CONSENT_PURPOSE_CONTEXTUAL])


@pytest.fixture
def concerned(tmp_path: Path) -> tuple[Path, dict[str, GetOffersResponse]]:
    """A log of 60 people who were asked for, 30 of them members, and what they were told; who is shown base buys it."""
    source = tmp_path / "catalog.yaml"
    source.write_text(CONCERNED)
    told = {}
    with serving(source, clock=lambda: float(NOW), data_dir=tmp_path / "data") as served:
        profiles, events = ProfileServiceStub(served.channel), EventServiceStub(served.channel)
        for number in range(60):
            user = User(user_id=f"{'vip' if number % 2 else 'other'}-{number}", consent=ALL)
            profile = Profile()
            profile.attributes["vip"] = number % 2 == 1
            profiles.UpdateProfile(UpdateProfileRequest(user=user, profile=profile), timeout=20)
            request = GetOffersRequest(context=Context(user=user))
            told[user.user_id] = OfferServiceStub(served.channel).GetOffers(request, timeout=20)
            if "base" in {one.offer_id for one in told[user.user_id].offers}:
                order = Order(total=Money(currency_code="EUR", units=10 + number % 3))
                event = Event(event_id=f"o{number}", order=order, user=user)
                events.ReportEvents(ReportEventsRequest(events=[event]), timeout=20)
        wait_for(lambda: 60 == len(served.stores.events.decisions_after(0, 1_000)), "the decisions are logged")
    return source, told


def report_on(source: Path, *options: str) -> list[dict[str, Any]]:
    """Return the reports on a log, line by line."""
    data = ("--data-dir", str(source.parent / "data"))
    result = CliRunner().invoke(app, ["experiments", "report", str(source), *data, "--json", *options])
    assert 0 == result.exit_code, result.output
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def sizes(report: dict[str, Any]) -> dict[str, int]:
    """Return the persons of a report, by variant."""
    return {one["variant"]: one["persons"] for one in report["variants"]}


def test_only_whom_an_experiment_can_concern_is_counted(concerned: tuple[Path, dict[str, GetOffersResponse]]) -> None:
    """Members whom fallbacks are shown are in one experiment, members who are not held out in the other."""
    source, told = concerned
    trial, club, *_ = report_on(source)
    for report, name in ((trial, "trial"), (club, "club")):
        seen = [
            (who, one.variant_id)
            for who, answer in told.items()
            for one in answer.exposures
            if one.experiment_id == name
        ]
        assert all(who.startswith("vip") for who, _ in seen)
        assert {one: sum(variant == one for _, variant in seen) for one in "ab"} == sizes(report)
    held_out = {
        who for who, answer in told.items() if any(one.held_out and not one.campaign_id for one in answer.holdouts)
    }
    assert held_out.isdisjoint(
        who for who, answer in told.items() if "club" in {one.experiment_id for one in answer.exposures}
    )
    assert all(0 < sum(sizes(one).values()) < 30 for one in (trial, club))


def test_a_holdout_is_reported_with_intervals(concerned: tuple[Path, dict[str, GetOffersResponse]]) -> None:
    """Both sides of the catalogue's and the campaign's holdout, and what the offers bring in orders and money."""
    source, told = concerned
    *_, whole, spring = report_on(source)
    assert [("holdout", ""), ("holdout", "spring")] == [(one["kind"], one["experiment"]) for one in (whole, spring)]
    for report, name in ((whole, ""), (spring, "spring")):
        sides = [one.held_out for answer in told.values() for one in answer.holdouts if one.campaign_id == name]
        assert {"held out": sides.count(True), "shown": sides.count(False)} == sizes(report)
        assert all(sizes(report).values())
    held_out, shown = spring["variants"]
    assert (0, len([1 for one in told.values() if "base" in {o.offer_id for o in one.offers}])) == (
        held_out["rates"]["ordered"]["persons"], shown["rates"]["ordered"]["persons"],
    )  # fmt: skip
    for uplift in (shown["rates"]["ordered"]["uplift"], shown["order_value_uplift"]["EUR"]):
        assert 0 < uplift["low"] < uplift["value"] <= uplift["high"]
    assert 1.0 == shown["rates"]["ordered"]["uplift"]["value"]
    assert shown["order_value"]["EUR"]["value"] == shown["order_value_uplift"]["EUR"]["value"]
    tables = (
        CliRunner()
        .invoke(app, ["experiments", "report", str(source), "--data-dir", str(source.parent / "data")])
        .stdout
    )
    assert "holdout of the catalogue" in tables
    assert "holdout of the campaign spring" in tables
    assert "EUR (+" in tables


def test_a_report_may_be_on_one_segment(concerned: tuple[Path, dict[str, GetOffersResponse]]) -> None:
    """Decisions about persons outside of it are left out; a segment that the log does not tell is refused."""
    source, told = concerned
    everybody, members = report_on(source)[2], report_on(source, "--segment", "vip")[2]
    concerned_members = sum(
        who.startswith("vip") and "" in {one.campaign_id for one in answer.holdouts} for who, answer in told.items()
    )
    assert concerned_members == sum(sizes(members).values()) < sum(sizes(everybody).values())
    assert 0 == members["unsaid"]
    data = ("--data-dir", str(source.parent / "data"))
    for name, code, word in (("nobody", 2, "vip, buyers"), ("buyers", 1, "profile.order_count")):
        result = CliRunner().invoke(app, ["experiments", "report", str(source), *data, "--segment", name])
        assert code == result.exit_code
        assert word in result.stderr + str(result.exception)
