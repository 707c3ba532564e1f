"""`offers profile`: what is stored about a person, read, changed, linked, exported and erased on a real server."""

import json
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict, Parse

from offers.client import OffersClient, person
from offers.testing import Served
from offers.v1.context_pb2 import CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_PROFILING
from offers.v1.event_pb2 import CustomEvent, Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import ExportProfileResponse
from tests.cli.running import Outcome, Run, row


@pytest.fixture
def profile(offers: Run, served: Served) -> Run:
    """Run a command of `offers profile` against the server."""
    return lambda command, *arguments: offers("profile", command, "--target", served.target, *arguments)


def read(shown: Outcome) -> Profile:
    """Read the profile that a command printed with --json."""
    assert 0 == shown.status, shown.err
    return Parse(shown.out, Profile())


def test_a_profile_is_changed_and_read(profile: Run) -> None:
    """Attributes and decisions are recorded; a table shows a row per value, --json the message."""
    changed = profile(
        "update", "--user", "ada", "--grant", "profiling,learning", "--attribute", "city=Lyon", "--attribute", "age=36",
        "--attribute", 'values=["eco"]', "--json",
    )  # fmt: skip
    read_again = profile("get", "--user", "ada")

    made = read(changed)
    assert {"city": "Lyon", "age": 36.0, "values": ["eco"]} == MessageToDict(made.attributes)
    assert [CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_LEARNING] == [one.purpose for one in made.consents]
    assert ["attributes.city", "Lyon"] == row(read_again, "attributes.city")
    assert ["consents[0].granted", "true"] == row(read_again, "consents[0].granted")


def test_attributes_are_removed_one_by_one(profile: Run) -> None:
    """What is not named stays."""
    profile("update", "--user", "bea", "--grant", "profiling", "--attribute", "city=Lyon", "--attribute", "age=36")
    left = read(profile("update", "--user", "bea", "--remove", "city", "--json"))

    assert {"age": 36.0} == dict(left.attributes)
    assert 1 == len(left.consents)


def test_withdrawn_consent_leaves_the_decisions(profile: Run) -> None:
    """--withdraw profiling removes everything but the decisions."""
    profile("update", "--user", "cem", "--grant", "profiling", "--attribute", "city=Lyon")
    left = read(profile("update", "--user", "cem", "--withdraw", "profiling", "--json"))

    assert not left.attributes
    assert [False] == [one.granted for one in left.consents]


def test_a_withdrawal_may_erase_the_log(profile: Run, served: Served) -> None:
    """--erase-log erases the events of a person who refuses profiling, and is refused for others."""
    user = person(user_id="hal", consent=[CONSENT_PURPOSE_PROFILING])
    event = Event(event_id="hal-1", user=user, custom=CustomEvent(name="looked"))
    event.event_time.GetCurrentTime()
    with OffersClient(served.target) as client:
        client.report_events(ReportEventsRequest(events=[event]))
    kept = profile("update", "--user", "hal", "--grant", "profiling", "--erase-log")
    erased = profile("update", "--user", "hal", "--withdraw", "profiling", "--erase-log", "--json")

    assert 1 == kept.status
    assert "FAILED_PRECONDITION" in kept.err
    assert [False] == [one.granted for one in read(erased).consents]
    assert "1 events erased from the log\n" == erased.err


def test_visitors_are_linked(profile: Run) -> None:
    """Every id of the person names the same profile from then on."""
    profile("update", "--user", "dan", "--grant", "profiling", "--attribute", "city=Lyon")
    linked = read(profile("link", "--user", "dan", "--anonymous", "phone", "--anonymous", "laptop", "--json"))

    assert ["laptop", "phone"] == sorted(linked.anonymous_ids)
    assert linked == read(profile("get", "--anonymous", "phone", "--json"))


def test_everything_is_exported_and_erased(profile: Run, tmp_path: Path) -> None:
    """An export is the message as JSON, on stdout or in a file; after an erasure there is nothing: exit status 1."""
    profile("update", "--user", "eve", "--grant", "profiling", "--attribute", "city=Lyon")
    shown, written = profile("export", "--user", "eve"), profile("export", "--user", "eve", "-o", tmp_path / "eve.json")
    erased, gone = profile("delete", "--user", "eve", "--yes"), profile("export", "--user", "eve")

    assert "Lyon" == Parse(shown.out, ExportProfileResponse()).profile.attributes["city"]
    assert (0, "") == (written.status, written.out)
    assert json.loads(shown.out) == json.loads((tmp_path / "eve.json").read_bytes())
    assert erased.out.startswith("eve is erased, with 0 events; events from before are dropped until 20")
    assert 1 == gone.status
    assert "NOT_FOUND" in gone.err


def test_attributes_of_a_person_without_consent_are_refused(profile: Run) -> None:
    """FAILED_PRECONDITION is told as the server words it; --consent says for one call what was agreed to."""
    refused = profile("update", "--user", "fay", "--attribute", "city=Lyon")
    taken = profile("update", "--user", "fay", "--attribute", "city=Lyon", "--consent", "profiling")

    assert 1 == refused.status
    assert "FAILED_PRECONDITION: the person has not agreed to profiling" in refused.err
    assert 0 == taken.status


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("get",), "known by --user or by --anonymous: give one"),
        (("get", "--user", "u", "--anonymous", "v"), "known by --user or by --anonymous: give one"),
        (("update", "--user", "u"), "there is nothing to change"),
        (("update", "--user", "u", "--attribute", "city"), "give a name and a value"),
        (("update", "--user", "u", "--attribute", "a=1", "--remove", "a"), "to be set and to be removed: give one"),
        (("update", "--user", "u", "--grant", "everything"), "--grant 'everything': 'everything' is not one of"),
        (
            ("update", "--user", "u", "--attribute", "id=9007199254740993"),
            "write it as text: --attribute 'id=\"9007199254740993\"'",
        ),
        (("update", "--user", "u", "--attribute", 'a={"b":[-9007199254740993]}'), "write it as text"),
        (("delete", "--user", "u"), "give --yes"),
        (("link", "--user", "u"), "--anonymous"),
    ],
)
def test_what_cannot_be_meant_is_told_before_asking(offers: Run, command: tuple[str, ...], told: str) -> None:
    """Options that make no request are explained without a server; the exit status is 2."""
    shown = offers("profile", command[0], *command[1:])

    assert 2 == shown.status
    assert told in " ".join(shown.err.replace("│", " ").split())


@pytest.mark.parametrize("command", ["get", "update", "delete", "export", "link"])
def test_without_a_server_it_tells_how_to_start_one(offers: Run, command: str) -> None:
    """Nothing listening is exit status 3."""
    options = {"update": ["--grant", "learning"], "delete": ["--yes"], "link": ["--anonymous", "a"]}
    shown = offers("profile", command, "--user", "u", *options.get(command, []), "--target", "127.0.0.1:1")

    assert 3 == shown.status
    assert "no server at 127.0.0.1:1" in shown.err


def test_an_export_that_cannot_be_written_is_told(profile: Run, tmp_path: Path) -> None:
    """A missing folder is named as the reason."""
    profile("update", "--user", "gil", "--grant", "profiling")
    shown = profile("export", "--user", "gil", "-o", tmp_path / "none" / "gil.json")

    assert 1 == shown.status
    assert "cannot write" in shown.err
