"""`offers query`: what it asks for, and how it shows the answer."""

import json
import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.json_format import Parse

from offers.cli.query.options import Moving
from offers.cli.words import distance_words
from offers.v1.offer_service_pb2 import GetOffersResponse
from offers.v1.venue_pb2 import TravelMode
from tests.cli.running import PARIS_NOON, Outcome, Run, row


def test_query_shows_ranked_offers_in_words(ask: Run) -> None:
    """A row per offer with benefit, distance, reasons and end; below, how many there are and how long that holds."""
    shown = ask(*PARIS_NOON)

    assert (0, "") == (shown.status, shown.err)
    assert shown.out.startswith("48.87, 2.3636 · Tue 24 Nov 2026 12:15 Europe/Paris")
    near = row(shown, "Lunch [of the day]")
    assert ["−20 %", "289 m", "nearby · open now · ends soon", "13:00"] == near[2:6]  # noqa: RUF001 - a minus sign
    assert ["free delivery, from €15", "", "in zone", "Tue 1 Dec 01:00"] == row(shown, "Free delivery")[2:6]
    assert ["€5 off", "", "everywhere", "no end"] == row(shown, "Welcome")[2:6]
    assert "Always something" not in shown.out
    assert "3 eligible · catalogue version " in shown.out
    distance = json.loads(ask(*PARIS_NOON, "--json").out)["refresh_distance_m"]
    assert f"holds until 13:00:00 and within {distance_words(math.floor(distance))}\n" in shown.out


def test_an_answer_that_holds_until_another_day_names_it(ask: Run) -> None:
    """What nothing changes for a day holds until the same time of tomorrow, and says so."""
    shown = ask("--lat", "-89", "--lng", "0", "--at", "2026-11-24 12:15", "--time-zone", "Europe/Paris")

    assert "holds until Wed 25 Nov 12:15:00" in shown.out


@pytest.mark.parametrize(
    "instant", ["2026-11-24T12:15:00+01:00", "2026-11-24T11:15:00Z", "2026-11-24 12:15", "2026-11-24 12:15:00"]
)
def test_an_instant_is_read_with_its_offset_or_by_the_clock_of_the_zone(ask: Run, instant: str) -> None:
    """RFC 3339 stands for itself; without an offset the time zone's clock counts."""
    shown = ask(*PARIS_NOON[:4], "--time-zone", "Europe/Paris", "--at", instant)

    assert "Tue 24 Nov 2026 12:15 Europe/Paris" in shown.out


def test_a_time_of_day_means_today(ask: Run) -> None:
    """`--at 12:15` is today's quarter past twelve in the zone."""
    zone = ZoneInfo("Pacific/Auckland")
    before = datetime.now(zone)

    shown = ask("--at", "12:15", "--time-zone", "Pacific/Auckland")

    days = {f"{day:%a} {day.day} {day:%b %Y} 12:15" for day in (before, datetime.now(zone))}
    assert any(day in shown.out for day in days)


def test_query_full_shows_the_arithmetic(ask: Run) -> None:
    """`--full` shows each factor with its weight and contribution, and their sum."""
    shown = ask(*PARIS_NOON, "--full", "--max-offers", "1")

    contributions = [float(row(shown, name)[2]) for name in ("nearness", "timeliness", "value", "lever")]
    (footer,) = (line for line in shown.out.splitlines() if " score 0" in line)
    assert pytest.approx(sum(contributions), abs=2e-4) == float(footer.strip("│").split("│")[2])


def test_query_json_is_the_response(ask: Run) -> None:
    """`--json` prints the message with the names of its proto."""
    shown = ask(*PARIS_NOON, "--json", "--max-offers", "2")

    response = Parse(shown.out, GetOffersResponse())
    assert 2 == len(response.offers)
    assert 3 == json.loads(shown.out)["eligible_count"]
    assert not response.offers[0].factors


def test_query_explains_why_and_why_not(ask: Run) -> None:
    """--explain tells of each offer named: its score, or every check that fails."""
    session = ("--session", "s", "--session-start", "12:00", "--session-entry", "push")
    shown = ask(*PARIS_NOON, *session, "--explain", "lunch", "--explain", "last", "--explain", "nothing")

    assert 0 == shown.status
    assert "lunch: number 1 of the answer at circle\n  score 0." in shown.out
    assert "last: does not qualify: 1 check failed\n  - fallback not needed: a fallback, and other" in shown.out
    assert (
        "nothing: does not qualify: 1 check failed\n  - no such offer: the catalogue has no such offer\n" in shown.out
    )
    told = json.loads(ask(*PARIS_NOON, "--json", "--explain", "lunch").out)
    assert [("lunch", 1)] == [(one["offer_id"], one["rank"]) for one in told["explanations"]]
    assert 2 == ask("--session-start", "noon").status


def test_query_carries_every_part_of_the_context(ask: Run) -> None:
    """Who, what and how many are said by options; the server understands them all."""
    who = ("--user", "u", "--language", "fr", "--currency", "EUR", "--seed", "7")
    shown = ask(
        *PARIS_NOON, *who, "--channel", "app", "--placement", "home", "--catalog-id", "test", "--max-offers", "1"
    )

    assert 0 == shown.status
    assert "3 eligible" in shown.out
    assert 0 == ask("--anonymous", "a").status


def test_query_carries_how_old_a_position_is_and_how_the_person_moves(ask: Run) -> None:
    """An older position is less certain, and the more the faster one moves: the factor of the location falls."""

    def location(*arguments: str) -> float:
        (offer,) = json.loads(ask(*PARIS_NOON, "--json", "--full", "--max-offers", "1", *arguments).out)["offers"]
        assert "lunch" == offer["offer_id"]
        (factor,) = (one for one in offer["factors"] if one["name"] == "FACTOR_NAME_LOCATION")
        return float(factor["value"])

    fresh = location("--accuracy", "300")
    walking = location("--accuracy", "300", "--observed-at", "12:10")
    cycling = location("--accuracy", "300", "--observed-at", "2026-11-24T11:10:00Z", "--moving", "cycling")

    assert walking == location("--accuracy", "300", "--observed-at", "2026-11-24 12:10", "--moving", "walking")
    assert fresh > walking > cycling > 0.5


def test_ways_of_moving_are_those_of_the_schema() -> None:
    """Every TravelMode can be given by its name."""
    assert [f"TRAVEL_MODE_{one.name}" for one in Moving] == TravelMode.keys()[1:]
    assert [one.name.lower() for one in Moving] == list(Moving)


def test_query_without_a_place_asks_for_what_is_everywhere(ask: Run) -> None:
    """Latitude and longitude may be left out together."""
    shown = ask()

    assert "Welcome" in shown.out
    assert "1 eligible" in shown.out
    assert "within" not in shown.out


def test_a_refused_request_is_explained_field_by_field(ask: Run) -> None:
    """Each field the server refuses is a line on stderr; the exit status is 2."""
    shown = ask("--lat", "91", "--lng", "2", "--placement", "x" * 200)

    assert (2, "") == (shown.status, shown.out)
    assert [
        "offers: the server refuses the request:",
        "  context.location.point.latitude: 91.0 is out of range: send degrees from -90 to 90",
        "  placement: 200 characters: send at most 128",
    ] == shown.err.splitlines()


def test_without_a_server_it_tells_how_to_start_one(offers: Run) -> None:
    """Nothing listening is one clear line and exit status 3."""
    shown = offers("query", "--target", "127.0.0.1:1")

    message = "offers: no server at 127.0.0.1:1: start one with 'offers serve', or name another with --target\n"
    assert Outcome(3, "", message) == shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--lat", "48"), "give both or neither"),
        (("--user", "u", "--anonymous", "a"), "give one"),
        (("--at", "25:00"), "is no instant"),
        (("--at", "soon"), "is no instant"),
        (("--at", "12"), "is no instant"),
        (("--at", "20261124T121500Z"), "is no instant"),
        (("--at", "2026-1-4 12:15"), "is no instant"),
        (("--at", "2026-11-24T12:15:00+99:99"), "is no instant"),
        (("--lat", "48", "--lng", "2", "--observed-at", "soon"), "--observed-at 'soon' is no instant"),
        (("--observed-at", "2026-01-24 12:15"), "give them too"),
        ((*PARIS_NOON, "--observed-at", "12:16"), "is after the instant asked for, 2026-11-24 12:15"),
        ((*PARIS_NOON, "--moving", "driving"), "give --observed-at too"),
        ((*PARIS_NOON, "--observed-at", "12:10", "--moving", "flying"), "'flying' is not one of 'walking', 'cycling'"),
        (("--time-zone", "Mars/Olympus"), "unknown time zone 'Mars/Olympus'"),
        (("--time-zone", "../zone"), "unknown time zone '../zone'"),
        (("--max-offers", "0"), "--max-offers"),
        (("--seed", "-1"), "out of range"),
    ],
)
def test_what_cannot_be_asked_is_told_before_asking(offers: Run, arguments: tuple[str, ...], told: str) -> None:
    """Options that make no request are explained without a server; the exit status is 2."""
    shown = offers("query", "--target", "127.0.0.1:1", *arguments)

    assert 2 == shown.status
    assert told in shown.err
