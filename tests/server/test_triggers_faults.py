"""Triggers lose nothing and send nothing wrongly through crashes, outages, erasures and wrong clocks."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from structlog.testing import capture_logs

from offers.errors import SettingsError, StoreUnavailableError
from offers.server import triggers
from offers.server.offer_service import OfferService
from offers.settings import Settings
from offers.state.outbox import FileOutbox, open_outbox
from offers.state.stores import Person
from offers.v1.context_pb2 import CONSENT_PURPOSE_MESSAGING, User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.profile_service_pb2 import DeleteProfileRequest
from tests.server.running import started, wait_for
from tests.server.triggering import (
    AWAY,
    BASKET,
    DAY,
    EVERYTHING,
    HOUR,
    MINUTE,
    NOON,
    Server,
    catalogue,
    message_of,
    server,
)
from tests.state.contract import backends
from tests.state.contract.backends import RedisProcess

IDLE = 30 * MINUTE
MANY = 250
"""More persons than one check takes."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis for one test to kill."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with backends.redis(folder) as process:
        yield process


def users(lines: list[dict[str, Any]]) -> list[str]:
    """Return the users that lines of the outbox are for."""
    return [message_of(line).user.user_id for line in lines]


def fails_once(monkeypatch: pytest.MonkeyPatch, of: object, method: str, before: Callable[[], object]) -> None:
    """Replace a method for one call, by one that does something else first, and may fail."""
    real = getattr(of, method)

    def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the method takes
        monkeypatch.setattr(of, method, real)
        before()
        return real(*arguments, **named)

    monkeypatch.setattr(of, method, call)


def away() -> None:
    """Fail as an unreachable store does."""
    raise StoreUnavailableError("away")


@pytest.mark.parametrize("method", ["look", "change"])
def test_a_state_store_that_is_away_for_a_moment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """After an outage persons are checked again; repeated messages have the same id."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        fails_once(monkeypatch, running.served.stores.state, method, away)
        with pytest.raises(StoreUnavailableError):
            running.look(NOON + IDLE)
        running.look(NOON + IDLE + 1)
        running.look(NOON + 3 * DAY)
        lines = running.lines()

    assert ["ada"] * (2 if method == "change" else 1) == users(lines)
    assert 1 == len({line["id"] for line in lines})


def test_a_log_that_is_away_for_a_moment_loses_no_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person counts as notified only once the decision is in the log, which has it once."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        fails_once(monkeypatch, running.served.stores.events, "record", away)
        with pytest.raises(StoreUnavailableError):
            running.look(NOON + IDLE)
        assert [NOON + IDLE] == running.due("ada")
        (message,) = running.look(NOON + IDLE + 1)
        logged = running.served.stores.events.decisions_of(["u:ada"])

    assert [message.decision_id] == [one.decision_id for one in logged]


def test_a_log_that_is_away_for_long_sends_nothing_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the log is down nothing is sent, and no other decisions are dropped; then each is sent once."""
    persons = ["ada", "ben", "eve"]
    with server(tmp_path, BASKET) as running:
        for person in persons:
            running.put_into_basket(person, NOON)
        with monkeypatch.context() as patch:
            patch.setattr(running.served.stores.events, "record", lambda _: away())
            for second in range(100):
                with pytest.raises(StoreUnavailableError):
                    running.look(NOON + IDLE + second)
            waiting = list(running.served.worker.recorder._waiting)  # noqa: SLF001 - nobody else may see it
        held_back = running.lines()
        back = [message for second in range(3) for message in running.look(NOON + IDLE + 100 + second)]
        logged = running.served.stores.events.decisions_of([f"u:{one}" for one in persons])

    assert ([], []) == (held_back, waiting)
    assert persons == sorted(one.user.user_id for one in back)
    assert {one.decision_id for one in back} == {one.decision_id for one in logged}
    assert len(persons) == len(logged)


def test_a_person_erased_while_the_log_is_written_is_sent_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent to a person erased while the decision is logged, and the decision is removed."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        fails_once(monkeypatch, running.served.stores.events, "record", lambda: erase(running))
        messages = running.look(NOON + IDLE)
        kept, logged = running.state("ada"), running.served.stores.events.decisions_of(["u:ada"])

    assert ([], 0, []) == (messages, kept.ByteSize(), logged)


def test_an_outbox_that_is_away_leaves_each_decision_once_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retries make the same decision, so the message that arrives is the one in the log."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        with monkeypatch.context() as patch:
            patch.setattr(FileOutbox, "append", lambda *_: away())
            for second in range(10):
                with pytest.raises(StoreUnavailableError):
                    running.look(NOON + IDLE + second)
        (message,) = running.look(NOON + IDLE + MINUTE)
        logged = running.served.stores.events.decisions_of(["u:ada"])

    assert [message.decision_id] == [one.decision_id for one in logged]


def test_the_first_variant_of_an_experiment_is_kept_with_what_was_sent(tmp_path: Path) -> None:
    """An offer sent under an experiment counts as exposure."""
    with server(tmp_path, BASKET, head=_TRIED) as running:
        running.put_into_basket("ada", NOON)
        running.look(NOON + IDLE)
        assignments = running.state("ada").assignments

    assert [("trial", NOON + IDLE)] == [(one.experiment_id, one.exposure_time.seconds) for one in assignments]


def test_an_outbox_that_cannot_be_written_to_keeps_everybody_waiting(tmp_path: Path) -> None:
    """Messages wait for the outbox; the process log reports it without personal data."""
    blocked = tmp_path / "in the way"
    blocked.write_text("in the way")
    with server(tmp_path, BASKET, outbox_url=f"{blocked.as_uri()}/outbox.jsonl") as running:
        running.put_into_basket("ada", NOON)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match=r"^outbox .*/in the way/outbox\.jsonl: "):
                running.look(NOON + IDLE)
        assert [NOON + IDLE] == running.due("ada")
        blocked.unlink()
        running.look(NOON + HOUR)

    assert ["ada"] == users([orjson.loads(line) for line in (blocked / "outbox.jsonl").read_bytes().splitlines()])


def test_a_line_that_a_writer_died_at_stands_alone(tmp_path: Path) -> None:
    """After a torn line, the next message begins a new one."""
    file = tmp_path / "data" / "outbox.jsonl"
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        file.write_bytes(b'{"torn": "li')
        running.clock[0] = NOON + IDLE
        running.served.worker.upkeep.trigger()

    torn, line = file.read_bytes().splitlines()
    assert b'{"torn": "li' == torn
    assert ["ada"] == users([orjson.loads(line)])


def test_a_reader_may_move_the_file_away(tmp_path: Path) -> None:
    """After the file is moved away, messages go to a new one that only its owner can read."""
    file = tmp_path / "data" / "outbox.jsonl"
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        running.look(NOON + IDLE)
        read = file.rename(tmp_path / "read.jsonl")
        running.put_into_basket("ben", NOON + HOUR)
        running.look(NOON + HOUR + IDLE)
        lines = running.lines()

    assert ["ada"] == users([orjson.loads(line) for line in read.read_bytes().splitlines()])
    assert ["ben"] == users(lines)
    assert 0o600 == file.stat().st_mode & 0o777


def erase(running: Server) -> None:
    """Erase the person."""
    running.profiles.DeleteProfile(DeleteProfileRequest(user=User(user_id="ada")), timeout=10)


def withdraw(running: Server) -> None:
    """Withdraw consent."""
    running.consent("ada", granted=False, purposes=(CONSENT_PURPOSE_MESSAGING,))


def order(running: Server) -> None:
    """Buy what is in the basket."""
    running.report("ada", NOON + IDLE, order={"order_id": "1"})


@pytest.mark.parametrize("happens", [erase, withdraw, order])
def test_changes_during_the_decision_stop_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Server], None]
) -> None:
    """A person who is erased, withdraws or orders during the decision is sent nothing; others are."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        running.put_into_basket("ben", NOON)
        fails_once(monkeypatch, running.served.stores.state, "look", lambda: happens(running))
        messages = running.look(NOON + IDLE)
        later = running.look(NOON + IDLE + HOUR)
        kept = running.state("ada")

    assert (["ben"], []) == ([one.user.user_id for one in messages], later)
    assert happens is not erase or not kept.ByteSize()


def test_a_person_erased_after_sending_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a person erased after sending, neither the mark nor the decision is stored."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        fails_once(monkeypatch, running.served.stores.state, "change", lambda: erase(running))
        running.look(NOON + IDLE)
        kept, logged = running.state("ada"), running.served.stores.events.decisions_of(["u:ada"])

    assert (0, []) == (kept.ByteSize(), logged)


def test_a_fault_with_one_person_keeps_nobody_else_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged without personal data; others are served, and that person is retried an hour later."""
    real = OfferService.get_offers

    def faulty(service: OfferService, data: bytes) -> bytes:
        if b"ada" in data:
            raise ValueError("ada")
        return real(service, data)

    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        running.put_into_basket("ben", NOON)
        monkeypatch.setattr(OfferService, "get_offers", faulty)
        with capture_logs() as logs:
            messages = running.look(NOON + IDLE)
        monkeypatch.undo()
        later = running.look(NOON + IDLE + HOUR)

    assert ["ben"] == [one.user.user_id for one in messages]
    assert ["ada"] == [one.user.user_id for one in later]
    assert [("trigger_failed", "ValueError")] == [(one["event"], one.get("error")) for one in logs][:1]
    assert "ada" not in str(logs)


def test_a_clock_that_was_ahead_sends_nothing_and_holds_nothing_up(tmp_path: Path) -> None:
    """A clock ahead finds occasions that have ended; once it is right, later ones are sent."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        assert [] == running.look(NOON + 365 * DAY)
        running.clock[0] = NOON + MINUTE
        running.put_into_basket("ada", NOON + MINUTE)

        assert ["ada"] == [one.user.user_id for one in running.look(NOON + MINUTE + IDLE)]


def test_an_offer_sent_by_a_clock_that_was_ahead_is_sent_once(tmp_path: Path) -> None:
    """Set back an hour, it is not sent again, and the cool-down of other baskets is no longer."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        assert 1 == len(running.look(NOON + IDLE + HOUR))
        running.clock[0] = NOON
        assert [] == [one for minute in range(120) for one in running.look(NOON + minute * MINUTE)]
        running.clock[0] = NOON + MINUTE
        running.put_into_basket("ada", NOON + MINUTE)

        assert 1 == len(running.look(NOON + MINUTE + IDLE))


def test_many_are_looked_at_a_part_at_a_time(tmp_path: Path) -> None:
    """Checks are limited, so that calls need not wait, and nobody is left out."""
    with server(tmp_path, BASKET) as running:
        events = [Event(event_id=f"e{one}", user=User(user_id=f"user-{one}")) for one in range(MANY)]
        for event in events:
            event.add_to_cart.items.add(product_id="ramen")
            event.event_time.seconds = NOON
        running.events.ReportEvents(ReportEventsRequest(events=events), timeout=30)
        parts = [len(running.look(NOON + IDLE)) for _ in range(4)]

        assert [100, 100, 50, 0] == parts
        assert MANY == len(set(users(running.lines())))


def test_one_of_two_servers_sends(tmp_path: Path) -> None:
    """Of two servers over the same stores one checks; when it stops, the other takes over."""
    with server(tmp_path, BASKET) as one, server(tmp_path, BASKET) as other:
        one.put_into_basket("ada", NOON)
        assert 1 == len(one.look(NOON + IDLE))
        other.put_into_basket("ben", NOON)
        assert [] == other.look(NOON + IDLE)
        holder = one.served.worker.upkeep._triggers._holder  # noqa: SLF001 - it asks for the last time
        assert one.served.stores.state.lease(holder, 1)
        wait_for(lambda: other.look(NOON + IDLE), "the other goes on")

        assert ["ada", "ben"] == users(one.lines())


def test_state_and_outbox_may_be_in_redis(tmp_path: Path, redis: RedisProcess) -> None:
    """Redis behaves as files do; during an outage nothing is sent, afterwards everything, once."""
    outbox = redis.url.removesuffix("/0") + "/1/out"
    urls: dict[str, Any] = {"state_url": redis.url, "outbox_url": outbox, "store_timeout_ms": 5000}
    with server(tmp_path, BASKET, **urls) as running, redis.client() as client:
        running.put_into_basket("ada", NOON)
        running.look(NOON + IDLE)
        running.put_into_basket("ben", NOON + HOUR)
        client.save()
        redis.kill()
        with pytest.raises(StoreUnavailableError):
            running.look(NOON + HOUR + IDLE)
        redis.start()
        wait_for(lambda: _looks(running, NOON + HOUR + IDLE), "Redis is found")
        running.look(NOON + 2 * DAY)
        client.select(1)
        entries: Sequence[tuple[bytes, dict[bytes, bytes]]] = client.xrange("out")

        assert ["ada", "ben"] == users([orjson.loads(entry[b"event"]) for _, entry in entries])
        assert [True] == [one.sent for one in running.state("ben").triggers]
        assert [] == running.due("ben")


def _looks(running: Server, second: int) -> bool:
    try:
        running.look(second)
    except StoreUnavailableError:
        return False
    return True


@pytest.mark.parametrize(
    "url",
    ["ftp://there/x", "file://", "file://host/path", "redis://there", "redis://there/x/y", "redis://[there/0/y", "x"],
)
def test_a_url_that_names_no_outbox_is_refused(tmp_path: Path, url: str) -> None:
    """The message says which URLs are accepted."""
    with pytest.raises(SettingsError, match=r"^outbox_url: .*give file:///path, or redis://"):
        open_outbox(Settings(data_dir=tmp_path, outbox_url=url))


def test_due_seconds_of_a_worker_with_older_triggers_are_recomputed(tmp_path: Path) -> None:
    """Due seconds written by a worker with older triggers are recomputed some minutes later."""
    month = 30 * DAY
    with server(tmp_path, BASKET) as behind, server(tmp_path, AWAY) as ahead:
        ahead.look(NOON)
        behind.report("ada", NOON, view={"item": {"category": "ramen"}})
        ahead.look(NOON + triggers.AGAIN_S - 1)
        assert [] == ahead.due("ada")
        ahead.look(NOON + triggers.AGAIN_S)
        assert [NOON + month] == ahead.due("ada")
        assert ["ada"] == [one.user.user_id for one in ahead.look(NOON + month)]


def test_persons_are_asked_of_twice_in_parts_and_then_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recomputing continues from its cursor, also in a worker that starts in between, with any clock."""
    asked = list[str]()

    def rewatch(after: str) -> str:
        asked.append(after)
        return {"": "1", "1": "2", "2": ""}[after]

    for seconds in ([0, 1], [2, 3], [365 * DAY, 1, 1 + triggers.AGAIN_S], [2 + triggers.AGAIN_S] * 5):
        with server(tmp_path, BASKET) as running, monkeypatch.context() as patch:
            patch.setattr(running.served.stores.state, "rewatch", rewatch)
            for second in seconds:
                running.look(NOON + second)

    assert ["", "1", "2"] * 2 == asked


def test_workers_that_are_killed_leave_nobody_out(tmp_path: Path) -> None:
    """Of two workers one sends; when it is killed, the other goes on, and repeated messages have the same id."""
    source = tmp_path / "catalog.yaml"
    source.write_text(catalogue(BASKET, head=_LOUD))
    ago = int(time.time()) - HOUR
    with started(tmp_path, catalogs=(str(source),), default_consent=EVERYTHING, metrics_port=0) as running:
        persons: set[Person] = set()

        def report(first: int) -> None:
            events = [Event(event_id=f"e{one}", user=User(user_id=f"user-{one}")) for one in range(first, first + MANY)]
            persons.update(event.user.user_id for event in events)
            for event in events:
                event.add_to_cart.items.add(product_id="ramen")
                event.event_time.seconds = ago
            with grpc.insecure_channel(running.target) as channel:
                stub = EventServiceStub(channel)
                stub.ReportEvents(ReportEventsRequest(events=events), timeout=30, wait_for_ready=True)

        def lines() -> list[dict[str, Any]]:
            file = tmp_path / "data" / "outbox.jsonl"
            content = file.read_bytes() if file.exists() else b""
            return [orjson.loads(line) for line in content.splitlines() if line.endswith(b"}")]

        report(0)
        wait_for(lambda: len(lines()) >= 100, "the first are written to", 60)
        for pid in running.workers():
            os.kill(pid, signal.SIGKILL)
        report(MANY)
        wait_for(lambda: set(users(lines())) >= persons, "all are written to", 150)
        found = lines()

    ids = Counter(line["id"] for line in found)
    assert 2 * MANY == len(ids) == len({(line["id"], line["subject"]) for line in found})
    assert max(ids.values()) <= 2


_LOUD = """
catalog_id: corner
placements: [{placement_id: push}]
offers:
- {offer_id: delivery, title: Delivery is on us, benefit: {free_delivery: {}}, target: {everywhere: true}}
"""


_TRIED = """
catalog_id: corner
placements: [{placement_id: push}]
experiments: [{experiment_id: trial, variants: [{variant_id: a}, {variant_id: b}]}]
offers:
- offer_id: delivery
  title: Delivery is on us
  benefit: {free_delivery: {}}
  target: {everywhere: true}
  audience: {variants: [{experiment_id: trial, variant_id: a}, {experiment_id: trial, variant_id: b}]}
"""


def test_nothing_is_sent_without_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent where the person's state cannot be read, as caps could not be checked."""
    head = _LOUD.replace("{everywhere: true}", "{everywhere: true}, frequency_caps: [{max_count: 1}]")
    with server(tmp_path, BASKET, head=head) as running:
        running.report("ada", NOON, impression={}, offer_id="delivery")
        running.put_into_basket("ada", NOON)
        running.put_into_basket("ben", NOON)
        fails_once(monkeypatch, running.served.stores.state, "read", away)
        first = running.look(NOON + IDLE)
        later = running.look(NOON + IDLE + HOUR)

    assert (["ben"], []) == ([one.user.user_id for one in first], later)


def test_being_looked_at_keeps_nobody_longer(tmp_path: Path) -> None:
    """A mark does not count as activity of the person for retention."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        reported = int(time.time())
        wait_for(lambda: int(time.time()) > reported, "the next second begins")
        assert 1 == len(running.look(NOON + IDLE))
        far = 2_000_000_000

        assert 1 == running.served.stores.state.sweep(far, far - reported)
