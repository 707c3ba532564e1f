"""`offers simulate`: what another catalogue or strategy would have shown, over a real server's log and a made one."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from google.type.money_pb2 import Money
from typer.testing import CliRunner, Result

from offers.cli import app
from offers.errors import CatalogError, OffersError
from offers.testing import serving
from offers.v1.context_pb2 import ConsentGrants, ConsentPurpose, Context, User
from offers.v1.event_pb2 import Click, Event, RedemptionEvent
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.whatif.off_policy import EvaluationError
from tests.server.running import wait_for
from tests.whatif import worlds

NOW = 1_795_000_000
PEOPLE = 30
AGREED = ConsentGrants(purposes=ConsentPurpose.values()[1:])
WITHOUT_LUNCH = "\n".join(line for line in worlds.CATALOG.splitlines() if "offer_id: lunch" not in line)


def run(folder: Path, *options: str, catalog: str = "catalog.yaml") -> Result:
    """Simulate a catalogue beside the data folder."""
    named = ("--catalog", str(folder / catalog), "--data-dir", str(folder / "data"))
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["simulate", *named, *options])


def told(folder: Path, *options: str, catalog: str = "catalog.yaml") -> dict[str, Any]:
    """The same, as a program reads it."""
    result = run(folder, "--json", *options, catalog=catalog)
    assert (0, None) == (result.exit_code, result.exception)
    found: dict[str, Any] = orjson.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a server kept of people, a third of them in rain: all clicked lunch, and redeemed a ride."""
    folder = tmp_path_factory.mktemp("served")
    source = folder / "catalog.yaml"
    source.write_text(worlds.CATALOG)
    (folder / "without.yaml").write_text(WITHOUT_LUNCH)
    clock = [float(NOW)]
    with serving(source, clock=lambda: clock[0], data_dir=folder / "data") as server:
        for number in range(PEOPLE):
            clock[0] += 60
            user = User(user_id=f"person-{number}", consent=AGREED)
            context = Context(user=user)
            context.attributes["weather"] = "sun" if number % 3 else "rain"
            answer = OfferServiceStub(server.channel).GetOffers(GetOffersRequest(context=context, placement="home"))
            assert ["lunch", "ride"] == [one.offer_id for one in answer.offers]
            lunch, ride = (one.proposition_id for one in answer.offers)
            confirmed = RedemptionEvent(
                phase=RedemptionEvent.PHASE_CONFIRM,
                redemption_id=f"r{number}",
                amount=Money(currency_code="EUR", units=4),
            )
            events = [Event(event_id=f"c{number}", proposition_id=lunch, click=Click(), user=user)]
            events.append(Event(event_id=f"r{number}", proposition_id=ride, redemption=confirmed, user=user))
            results = EventServiceStub(server.channel).ReportEvents(ReportEventsRequest(events=events)).results
            assert not any(result.HasField("status") for result in results)
        log = server.stores.events
        wait_for(lambda: PEOPLE == len(log.decisions_after(0, 1_000)), "the decisions are logged")
    return folder


def test_an_offer_that_is_gone_is_shown_no_more(served: Path) -> None:
    """Without lunch, the ride is shown as before, and coffee in its place, of which the log knows nothing."""
    found = told(served, "--by", "context.weather", catalog="without.yaml")

    changes = {one["offer"]: (one["before"], one["after"]) for one in found["offers"]}
    assert {"coffee": (0, PEOPLE), "lunch": (PEOPLE, 0), "ride": (PEOPLE, PEOPLE)} == changes
    assert "ride" == found["offers"][-1]["offer"]
    assert (PEOPLE, 0, ["coffee"]) == (found["decisions"], found["unchanged"], found["unmet"])
    assert found["reward_before"] > 0.8
    assert found["reward_after"] < found["reward_before"] - 0.1
    segments = {one["segment"]: one for one in found["segments"]["context.weather"]}
    assert {"rain": 10, "sun": 20} == {name: one["decisions"] for name, one in segments.items()}
    for name, share in (("rain", 1 / 3), ("sun", 2 / 3)):
        one = segments[name]
        assert [share] * 3 == pytest.approx([one[of] for of in ("decision_share", "exposure_before", "exposure_after")])
        assert one["reward_after"] < one["reward_before"] - 0.05
        assert "lunch" == one["top_offer_before"]
    total = sum(one["decisions"] * one["reward_after"] for one in segments.values())
    assert total / PEOPLE == pytest.approx(found["reward_after"])


def test_budgets_are_used_as_redemptions_cost(served: Path) -> None:
    """The same offers use the same budgets: the cost of a redemption times the expected number."""
    found = told(served, "--reward", "redemption")

    assert (PEOPLE, []) == (found["unchanged"], found["unmet"])
    autumn, ride = found["budgets"]
    if autumn["budget"] != "campaign:autumn":
        autumn, ride = ride, autumn
    assert ("500.00 EUR", "40 redemptions", "EUR", "") == (
        autumn["limit"],
        ride["limit"],
        autumn["currency"],
        ride["currency"],
    )
    for one in (autumn, ride):
        assert 0.75 * PEOPLE < one["redemptions_before"] <= PEOPLE
        assert one["redemptions_before"] == one["redemptions_after"]
    assert 4 * autumn["redemptions_after"] == pytest.approx(autumn["amount_after"])
    assert 0 == ride["amount_before"]
    assert autumn["redemptions_before"] <= PEOPLE * found["reward_before"]


def test_another_strategy_is_held_against_the_same_moments(tmp_path: Path) -> None:
    """Exposure moves as the strategy says, by what the log keeps of each moment; who gains by it is told by segment."""
    decisions, events = worlds.happened(1_000, explored=False)
    worlds.made(tmp_path, decisions, events)
    wet = sum(one.told().context_attributes["weather"] == "rain" for one in decisions)

    found = told(tmp_path, "--strategy", "by-weather", "--by", "context.weather", "--by", "profile.city")

    changes = {one["offer"]: one["after"] - one["before"] for one in found["offers"]}
    assert {"coffee": wet, "ride": -wet, "lunch": 0} == changes
    assert 1_000 - wet == found["unchanged"]
    rain, sun = sorted(found["segments"]["context.weather"], key=lambda one: str(one["segment"]))
    assert (wet, "coffee") == (rain["decisions"], rain["top_offer_after"])
    assert rain["reward_before"] != rain["reward_after"]
    assert sun["reward_before"] == sun["reward_after"]
    assert {"Lyon", "Paris"} == {one["segment"] for one in found["segments"]["profile.city"]}
    losses = [one["reward_after"] - one["reward_before"] for one in found["segments"]["context.weather"]]
    assert sorted(losses) == losses


def test_order_values_are_expected_in_the_new_document_s_scale(tmp_path: Path) -> None:
    """On half the scale, which no order exceeds, shares are twice as large; they are told in the currency as well."""
    decisions, events = worlds.happened(1_000)
    worlds.made(tmp_path, decisions, worlds.ordered(decisions, events), worlds.MEASURED)
    text = worlds.MEASURED.replace("units: 50}", "units: 200}")
    (tmp_path / "without.yaml").write_text(worlds.CATALOG)
    (tmp_path / "wider.yaml").write_text(text)
    (tmp_path / "widest.yaml").write_text(text.replace("units: 200}", "units: 400}"))
    asked = ("--strategy", "by-weather", "--reward", "order_value", "--before", str(tmp_path / "catalog.yaml"))

    wider, widest = (told(tmp_path, *asked, catalog=f"{name}.yaml") for name in ("wider", "widest"))
    shown = run(tmp_path, *asked, "--by", "context.weather", catalog="widest.yaml")
    refused = run(tmp_path, *asked, catalog="without.yaml")

    assert [("EUR", 200.0), ("EUR", 400.0)] == [tuple(one["scale"].values()) for one in (wider, widest)]
    for name in ("reward_before", "reward_after"):
        assert wider[name] == pytest.approx(2 * widest[name], rel=0.1)
    money = [f"{400 * widest[name]:.2f} EUR" for name in ("reward_before", "reward_after")]
    assert f"That is {money[0]} before, {money[1]} after. An order counts as 400.00 EUR at most." in shown.stdout
    assert "order value (1 is 400.00 EUR) expected per decision" in shown.stdout
    assert "no order_value_scale" in str(refused.exception)


def test_two_documents_are_decided_again_alike(tmp_path: Path) -> None:
    """Given a document to compare with, it is that, and not what was explored, that stands beside the new one."""
    worlds.made(tmp_path, *worlds.happened(60))
    (tmp_path / "other.yaml").write_text(WITHOUT_LUNCH)
    path = str(tmp_path / "catalog.yaml")

    logged, same, other = (
        told(tmp_path),
        told(tmp_path, "--before", path),
        told(tmp_path, "--before", path, catalog="other.yaml"),
    )

    assert logged["unchanged"] < 60
    assert (60, 60) == (same["unchanged"], same["decisions"])
    assert {"lunch": (60, 0), "ride": (60, 60), "coffee": (0, 60)} == {
        one["offer"]: (one["before"], one["after"]) for one in other["offers"]
    }


def test_answers_that_were_empty_count_as_such(tmp_path: Path) -> None:
    """Where nothing was shown before, every offer gains; where nothing is ever shown, there is no share."""
    decisions, events = worlds.happened(30)
    bare = []
    for one in decisions:
        empty = one.told()
        for name in ("offer_ids", "log_scores", "selection_probabilities"):
            empty.ClearField(name)
        bare.append(one._replace(record=empty.SerializeToString()))
    worlds.made(tmp_path, [bare[0], *decisions[1:]], events)
    (tmp_path / "bare").mkdir()
    worlds.made(tmp_path / "bare", bare, [])

    some, none = told(tmp_path), told(tmp_path / "bare")

    assert [30, 30] == [one["decisions"] for one in (some, none)]
    assert (58, 60) == tuple(sum(one[of] for one in some["offers"]) for of in ("before", "after"))
    assert {"lunch": (0, 30), "ride": (0, 30)} == {
        one["offer"]: (one["before"], one["after"]) for one in none["offers"]
    }
    assert 0 == none["reward_before"] < none["reward_after"]
    assert 0 == run(tmp_path / "bare").exit_code


def test_decisions_that_do_not_say_are_a_segment_of_their_own(tmp_path: Path) -> None:
    """An attribute that some decisions lack has a row for these; one that none has is refused, as are persons."""
    decisions, events = worlds.happened(40)
    silent = decisions[0].told()
    silent.profile_attributes.Clear()
    worlds.made(tmp_path, [decisions[0]._replace(record=silent.SerializeToString()), *decisions[1:]], events)

    found = told(tmp_path, "--by", "profile.city")

    unsaid = next(one for one in found["segments"]["profile.city"] if one["segment"] == "(not said)")
    assert 1 == unsaid["decisions"]
    for name in ("profile.age", "person"):
        refused = run(tmp_path, "--by", name)
        assert isinstance(refused.exception, EvaluationError)
        assert "context.weather" in str(refused.exception)
        assert "profile.city" in str(refused.exception)


def test_the_tables_tell_of_offers_budgets_and_segments(served: Path) -> None:
    """People are told exposure, budgets, and who gains and loses, with what is expected in all and not known."""
    shown = run(served, "--by", "context.weather", catalog="without.yaml")

    assert (0, "") == (shown.exit_code, shown.stderr)
    for text in ("exposure", "coffee", "+30", "campaign:autumn", "by context.weather; who loses most stands first"):
        assert text in shown.stdout
    assert f"Over {PEOPLE} decisions, 0 of them with the same answer as before: clicks expected" in shown.stdout
    assert (
        "Never shown in the log, so that what is expected of them is little more than a guess: coffee." in shown.stdout
    )


def test_what_cannot_be_simulated_is_said(served: Path, tmp_path: Path) -> None:
    """An unknown strategy, a missing log, and faulty catalogues on either side are told."""
    (served / "bad.yaml").write_text("catalog_id: corner\noffers: [{offer_id: o1, price: 2}]")

    unknown = run(served, "--strategy", "best")
    nowhere = run(served, "--data-dir", str(tmp_path))
    faulty = [run(served, catalog="bad.yaml"), run(served, "--before", str(served / "bad.yaml"))]

    assert 2 == unknown.exit_code
    assert "by-weather" in unknown.stderr
    assert isinstance(nowhere.exception, OffersError)
    for result in faulty:
        assert isinstance(result.exception, CatalogError)
