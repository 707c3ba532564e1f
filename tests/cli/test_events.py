"""`offers events` over a real server: files in, the log out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from offers.cli import app
from offers.model.events import KINDS
from offers.state.cloudevents import exported, imported
from offers.state.stores import LoggedEvent
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import CustomEvent, Event
from offers.v1.event_service_pb2 import ReportEventsResponse
from offers.v1.profile_service_pb2 import GetProfileRequest
from tests.server.persons import NOW, Server, server

FILES = Path(__file__).parent / "events"


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Server]:
    """A server with empty stores, on the day after the events of the files.

    Its logs are redirected, as they would appear in the output of commands, which share its stdout.
    """
    with capture_logs(), server(tmp_path) as running:
        running.clock[0] = 1_795_100_000.0
        yield running


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, ["events", *arguments])


def bring(at: Server, name: str, *options: str) -> Result:
    """Import a file of this folder, of persons who have agreed to everything."""
    return run("import", str(FILES / name), "--target", at.served.target, *options)


AGREED = ("--consent", "profiling,learning")


def test_cloudevents_are_imported_once(at: Server) -> None:
    """Every line becomes an event of its person at its time; a second import changes nothing."""
    first, again = (bring(at, "cloudevents.jsonl", *AGREED) for _ in range(2))
    assert (0, 0) == (first.exit_code, again.exit_code)
    assert "3 new" in first.stderr
    assert "3 known before" in again.stderr
    events = [event for _, event in at.served.stores.events.read(0, 99)]
    assert [("ce-1", "u:alice", "lunch"), ("ce-2", "a:visitor-1", "lunch"), ("ce-3", "u:alice", "")] == [
        (event.event_id, event.person, event.offer_id) for event in events
    ]
    assert [0, 0, 300] == [event.second - events[0].second for event in events]
    told = at.profiles.GetProfile(GetProfileRequest(user=User(user_id="alice")), timeout=10).profile
    assert (1, {"EUR": 9.0}) == (told.order_count, dict(told.spent))


def test_segment_calls_are_imported(at: Server) -> None:
    """Track calls become events, traits attributes, and identify and alias link visitor and user."""
    result = bring(at, "segment.jsonl", *AGREED)
    assert (0, "") == (result.exit_code, result.stdout)
    assert "6 new" in result.stderr
    assert "2 links" in result.stderr
    kinds = [
        imported(orjson.loads(exported(event))).WhichOneof("kind") for _, event in at.served.stores.events.read(0, 99)
    ]
    assert ["impression", "view", "add_to_cart", "checkout_started", "order", "custom"] == kinds
    told = at.profiles.GetProfile(GetProfileRequest(user=User(anonymous_id="visitor-2")), timeout=10).profile
    assert ("alice", ["visitor-1", "visitor-2"]) == (told.user.user_id, list(told.anonymous_ids))
    assert ({"city": "Lyon", "age": 40.0}, {"EUR": 9.1}) == (dict(told.attributes), dict(told.spent))
    assert "food" in told.affinities.categories


def test_bad_lines_are_told_by_their_numbers(at: Server) -> None:
    """Each invalid line is printed with its number and fault; the others are imported."""
    result = bring(at, "bad.jsonl")
    assert 1 == result.exit_code
    told = {int(line.split(":")[1]): line.split(": ", 1)[1] for line in result.stdout.splitlines()}
    assert list(range(2, 15)) == sorted(told)
    for number, word in (
        (2, "offers.v1.nap"),
        (3, "'source'"),
        (4, "'alice' is no person"),
        (5, "yesterday"),
        (6, "order"),
        (7, "order.items[0].quantity"),
        (8, '"offer"'),
        (10, "no object"),
        (11, "shout"),
        (12, "userId"),
        (13, "much"),
        (14, "profiling"),
    ):
        assert word in told[number]
    assert ["ce-1"] == [event.event_id for _, event in at.served.stores.events.read(0, 9)]


def written(folder: Path, *lines: object) -> str:
    """Write a file of JSON lines and return its path."""
    file = folder / "lines.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return str(file)


def custom(event_id: str, text: str = "") -> dict[str, object]:
    """Return a CloudEvent with a text of any length."""
    data = {"custom": {"name": "opened", "attributes": {"text": text}}}
    return {"specversion": "1.0", "id": event_id, "source": "/app", "type": "offers.v1.custom", "data": data}


def call(event_id: str, **fields: object) -> dict[str, object]:
    """Return a track call of alice."""
    return {"type": "track", "event": "Opened", "messageId": event_id, "userId": "alice", **fields}


def test_calls_about_other_things_are_counted_apart(at: Server, tmp_path: Path) -> None:
    """Page, screen and group calls refuse nothing: the exit status is 0."""
    kinds = ("page", "screen", "group", "page")
    file = written(tmp_path, call("a"), *({"type": kind, "userId": "alice"} for kind in kinds))

    result = run("import", file, "--target", at.served.target)

    assert (0, "") == (result.exit_code, result.stdout)
    assert "1 new" in result.stderr
    assert "2 passed over (page), 1 passed over (screen), 1 passed over (group)" in result.stderr
    assert "refused" not in result.stderr


def test_a_batch_has_the_number_of_its_line_and_the_index_of_each_part(at: Server, tmp_path: Path) -> None:
    """Faults found here and faults told by the server are in the order of the file."""
    click = {**custom("c"), "type": "offers.v1.click", "data": {}}
    batch = {"batch": [call("b-1"), call("b-2", properties=[]), call("b-3"), call("", userId=None)]}
    file = written(tmp_path, custom("a"), click, batch, [custom("d"), click, {**click, "id": "c-2"}], None)

    result = run("import", file, "--target", at.served.target)

    assert 1 == result.exit_code
    begins = (
        "2: offer_id",
        "3: batch[1]: properties",
        "3: batch[3]: 'messageId' is missing",
        "4: [1]: offer_id",
        "4: [2]: offer_id",
        "5: is no object",
    )
    for line, begin in zip(result.stdout.splitlines(), begins, strict=True):
        assert line.startswith(f"{file}:{begin}")
    assert ["a", "b-1", "b-3", "d"] == [event.event_id for _, event in at.served.stores.events.read(0, 9)]


def test_batches_are_bounded_by_bytes(at: Server, tmp_path: Path) -> None:
    """600 events of 9 kB are more than a request may hold, and all are taken in."""
    file = written(tmp_path, *(custom(f"e-{number}", "x" * 9_000) for number in range(600)))

    result = run("import", file, "--target", at.served.target)

    assert (0, True) == (result.exit_code, "600 new" in result.stderr)
    assert 600 == len(at.served.stores.events.read(0, 999))


def test_an_event_that_is_too_large_is_refused_by_its_line(at: Server, tmp_path: Path) -> None:
    """Events and traits beyond the limits of a message lose no other line."""
    traits = {"type": "identify", "userId": "alice", "traits": {"text": "x" * (9 << 20)}}
    file = written(tmp_path, custom("a"), custom("b", "x" * (5 << 20)), traits, custom("c"))

    result = run("import", file, "--target", at.served.target)

    assert 1 == result.exit_code
    assert ["2", "3"] == [line.split(":")[1] for line in result.stdout.splitlines()]
    assert "write at most 65,536 an event" in result.stdout
    assert "RESOURCE_EXHAUSTED" in result.stdout
    assert ["a", "c"] == [event.event_id for _, event in at.served.stores.events.read(0, 9)]


def test_an_event_that_a_server_cannot_take_in_is_found_in_its_batch(
    at: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server fails on a whole batch, only the lines that it fails on are refused."""
    taken = at.served.worker.intake.take

    def fails(events: Sequence[Event]) -> ReportEventsResponse:
        if any(event.event_id in {"e-3", "e-17"} for event in events):
            message = "about alice"
            raise RuntimeError(message)
        return taken(events)

    monkeypatch.setattr(at.served.worker.intake, "take", fails)
    file = written(tmp_path, *(custom(f"e-{number}") for number in range(20)))

    result = run("import", file, "--target", at.served.target)

    assert 1 == result.exit_code
    told = "INTERNAL: internal error: the server's log has it"
    assert [f"{file}:{line}: {told}" for line in (4, 18)] == result.stdout.splitlines()
    assert "18 new" in result.stderr
    assert "alice" not in result.output


def test_a_null_trait_removes_an_attribute(at: Server, tmp_path: Path) -> None:
    """A trait of null takes away the attribute that an earlier call has set."""
    calls = ({"city": "Lyon", "age": 40}, {"age": None, "name": "Al"})
    file = written(tmp_path, *({"type": "identify", "userId": "alice", "traits": traits} for traits in calls))

    result = run("import", file, "--target", at.served.target, *AGREED)

    assert 0 == result.exit_code
    told = at.profiles.GetProfile(GetProfileRequest(user=User(user_id="alice")), timeout=10).profile
    assert {"city": "Lyon", "name": "Al"} == dict(told.attributes)


def test_only_the_first_faults_are_printed(at: Server, tmp_path: Path) -> None:
    """Twenty lines are shown, and the others are counted."""
    result = run("import", written(tmp_path, *[None] * 25), "--target", at.served.target)

    assert (1, 20) == (result.exit_code, len(result.stdout.splitlines()))
    assert "5 more were refused" in result.stderr
    assert "25 refused" in result.stderr


def test_a_fault_is_one_line_that_no_terminal_obeys(tmp_path: Path) -> None:
    """Control characters of the file are quoted with their escapes."""
    file = written(tmp_path, call("a", timestamp="\x1b[31mred\nnext"))

    result = run("import", file, "--target", "127.0.0.1:1")

    (line,) = result.stdout.splitlines()
    assert "'\\x1b[31mred\\nnext' is no instant" in line


def test_faults_are_told_also_where_no_server_is(tmp_path: Path) -> None:
    """Status 3 comes with the faults that were found until then."""
    result = run("import", written(tmp_path, None, custom("a")), "--target", "127.0.0.1:1")

    assert 3 == result.exit_code
    assert "1: is no object: null" in result.stdout


def test_the_help_tells_the_exit_statuses() -> None:
    """`--help` says what 0, 1 and 3 mean."""
    text = " ".join(run("import", "--help").stdout.replace("│", " ").split())

    for status in ("0: nothing was refused", "1: something was refused", "3: the server cannot be reached"):
        assert status in text


def test_exports_can_be_imported(at: Server, tmp_path: Path) -> None:
    """An export has a line for every event; importing it makes the same log, except for places."""
    bring(at, "cloudevents.jsonl", *AGREED)
    result = run("export", "--data-dir", str(at.folder))
    lines = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert ("ce-2", "offers.v1.click", "a:visitor-1", "u09wjb", True) == tuple(
        lines[1][name] for name in ("id", "type", "subject", "geohash", "learn")
    )
    assert "the log ends at 3" in result.stderr
    later = run("export", "--data-dir", str(at.folder), "--after", "2")
    assert ["ce-3"] == [orjson.loads(line)["id"] for line in later.stdout.splitlines()]
    (tmp_path / "other").mkdir()
    file = tmp_path / "export.jsonl"
    file.write_text(result.stdout)
    with server(tmp_path / "other") as other:
        other.clock[0] = at.clock[0]
        brought = run("import", str(file), "--target", other.served.target, *AGREED)
        assert 0 == brought.exit_code
        logs = [[event for _, event in one.served.stores.events.read(0, 99)] for one in (at, other)]
        assert [[event._replace(received=0, geohash="") for event in log] for log in logs[:1]] == [
            [event._replace(received=0) for event in log] for log in logs[1:]
        ]


def log(at: Server, *events: Event) -> None:
    """Write events into the log that a server refuses, and that an earlier version of it may have taken in."""
    kinds = [KINDS[event.WhichOneof("kind") or ""] for event in events]
    at.served.stores.events.append(
        [
            LoggedEvent(
                one.event_id, "", NOW, NOW, kind, "", one.offer_id, "", learn=True, body=one.SerializeToString()
            )
            for one, kind in zip(events, kinds, strict=True)
        ],
        applied=True,
    )


def test_numbers_that_json_does_not_have_are_exported_as_texts(at: Server) -> None:
    """One event with such a number keeps none from being exported."""
    event = Event(event_id="n")
    event.custom.name = "measured"
    event.custom.attributes.update({"a": float("nan"), "b": [float("-inf")], "c": {"d": float("inf"), "e": 1.5}})
    log(at, event, Event(event_id="m", custom=CustomEvent(name="x")))

    lines = run("export", "--data-dir", str(at.folder)).stdout.splitlines()

    attributes = orjson.loads(lines[0])["data"]["custom"]["attributes"]
    assert {"a": "nan", "b": ["-inf"], "c": {"d": "inf", "e": 1.5}} == attributes
    assert "m" == imported(orjson.loads(lines[1])).event_id


def test_an_event_that_json_cannot_hold_keeps_none_from_being_exported(at: Server) -> None:
    """It is named with its number in the log; the exit status is 1."""
    shown = Event(event_id="n", offer_id="lunch")
    shown.impression.in_view.seconds = 2**60
    log(at, shown, Event(event_id="m", custom=CustomEvent(name="x")))

    result = run("export", "--data-dir", str(at.folder))

    assert (1, ["m"]) == (result.exit_code, [orjson.loads(line)["id"] for line in result.stdout.splitlines()])
    assert "event 1 of the log is left out: " in result.stderr
    assert "the log ends at 2" in result.stderr


def test_the_last_events_are_shown(at: Server) -> None:
    """`tail` prints the last events, oldest first, also where some between were erased."""
    bring(at, "cloudevents.jsonl", *AGREED)
    bring(at, "segment.jsonl", *AGREED)
    at.served.stores.events.erase(["a:visitor-1"])
    shown = run("tail", "-n", "3", "--data-dir", str(at.folder))
    assert ["order", "custom"] == [line.split()[3] for line in shown.stdout.splitlines()][1:]
    everything = run("tail", "-n", "99", "--data-dir", str(at.folder)).stdout.splitlines()
    assert 6 == len(everything)
    assert "2026-11-18 10:00:00Z  impression  corner  lunch  u:alice" in everything[0]


def test_nothing_is_made_where_there_is_no_log(tmp_path: Path) -> None:
    """A folder without a log is named, and stays empty."""
    result = run("export", "--data-dir", str(tmp_path))
    assert "no state.db" in str(result.exception)
    assert [] == list(tmp_path.iterdir())


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Without a server the import ends with status 3, and says that it can be repeated."""
    result = run("import", str(FILES / "cloudevents.jsonl"), "--target", "127.0.0.1:1")
    assert 3 == result.exit_code
    assert "import the file again" in result.stderr
    missing = run("import", str(tmp_path / "none.jsonl"))
    assert (1, True) == (missing.exit_code, "cannot read" in missing.stderr)
