"""Servers that are killed, paused and restarted, from the view of their clients."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from offers.errors import OffersError, SettingsError, StoreUnavailableError
from offers.settings import Settings
from offers.state.ledger import Demand, Redemption
from offers.state.opening import Stores, open_stores
from tests.server.running import wait_for
from tests.state.contract import backends
from tests.state.contract.backends import RedisProcess
from tests.state.contract.test_events import decision, event

LONG_S = 20.0
"""Longer than any call takes, even on a busy machine."""
ASKED = Redemption("r1", demands=[Demand("b", 0, 1, 0, 10, -1, -1, -1)])


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis for one test to kill."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with backends.redis(folder) as process:
        yield process


@pytest.fixture
def with_redis(mortal: RedisProcess, tmp_path: Path) -> Iterator[Stores]:
    """Open stores in that Redis, with the server's timeout."""
    stores = open_stores(Settings(data_dir=tmp_path / "data", state_url=mortal.url, store_timeout_ms=500))
    stores.state.change([("u:1", lambda _record, _erased: b"kept")])
    with mortal.client() as client:
        client.save()
    yield stores
    stores.close()


def works(call: Callable[[], Any]) -> bool:
    """Return whether a call succeeds."""
    try:
        call()
    except StoreUnavailableError:
        return False
    return True


def failing(stores: Stores, calls: int) -> float:
    """Return the seconds taken by some reads, all of which must fail."""
    begin = time.monotonic()
    for _ in range(calls):
        with pytest.raises(StoreUnavailableError, match=r"^Redis at 127\.0\.0\.1:"):
            stores.state.read("u:1")
    return time.monotonic() - begin


def test_a_killed_redis_is_said_to_be_away_and_found_again(mortal: RedisProcess, with_redis: Stores) -> None:
    """While Redis is down every call fails; after its restart all data is there, and no client restarts."""
    mortal.kill()
    calls: list[Callable[[], object]] = [
        lambda: with_redis.state.read("u:1"),
        lambda: with_redis.state.change([("u:1", lambda _record, _erased: b"new")]),
        lambda: with_redis.state.look(["u:1"]),
        lambda: with_redis.state.erase("u:1", 1, 2),
        lambda: with_redis.ledger.reserve(ASKED, 0, 10),
        with_redis.ledger.usage,
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError):
            call()
    mortal.start()
    wait_for(lambda: works(lambda: with_redis.state.read("u:1")), "Redis is found", LONG_S)

    assert b"kept" == with_redis.state.read("u:1")
    assert with_redis.ledger.reserve(ASKED, 0, 10).done


def test_a_redis_restarted_between_calls_is_not_noticed(mortal: RedisProcess, with_redis: Stores) -> None:
    """One call reconnects after the server closed the connection, and resends the script it lost."""
    mortal.kill()
    mortal.start()

    assert b"kept" == with_redis.state.read("u:1")


def test_a_redis_that_lost_its_data_goes_on_with_the_same_secret(mortal: RedisProcess, with_redis: Stores) -> None:
    """After Redis was emptied, processes restore the secret they know, so that all find the same records."""
    with mortal.client() as client:
        client.flushall()
    mortal.kill()
    (mortal.folder / "dump.rdb").unlink()
    mortal.start()
    other = open_stores(Settings(data_dir=mortal.folder / "other", state_url=mortal.url, store_timeout_ms=5000))

    assert b"" == with_redis.state.read("u:1")
    other.state.change([("u:1", lambda _record, _erased: b"new")])
    assert b"new" == with_redis.state.read("u:1")
    other.close()


def test_a_paused_redis_costs_its_timeout_only_a_few_times(mortal: RedisProcess, with_redis: Stores) -> None:
    """A few calls wait for a paused Redis in vain; then calls fail at once until it answers."""
    mortal.pause()
    try:
        assert failing(with_redis, 3) < LONG_S
        # 2,000 timeouts would be 1,000 s.
        assert failing(with_redis, 2000) < LONG_S
    finally:
        mortal.resume()
    wait_for(lambda: works(lambda: with_redis.state.read("u:1")), "Redis is found", LONG_S)

    assert [b"kept"] * 50 == [with_redis.state.read("u:1") for _ in range(50)]


def test_answers_that_come_too_late_are_nobody_s(mortal: RedisProcess, with_redis: Stores) -> None:
    """After a pause, no call gets the late answer to an earlier one."""
    with_redis.state.change([(f"u:{number}", lambda _record, _erased: b"other") for number in range(2, 5)])
    for _ in range(3):
        mortal.pause()
        with pytest.raises(StoreUnavailableError):
            with_redis.state.read("u:2")
        mortal.resume()
        wait_for(lambda: works(lambda: with_redis.state.read("u:1")), "Redis is found", LONG_S)
        assert b"kept" == with_redis.state.read("u:1")
        assert [(b"other", -1), (b"kept", -1)] == with_redis.state.look(["u:3", "u:1"])


def test_a_redis_that_was_never_there_stops_nobody_from_starting(tmp_path: Path) -> None:
    """Stores open without their server, and report it when they are used."""
    stores = open_stores(Settings(data_dir=tmp_path, state_url="redis://127.0.0.1:1/0"))

    with pytest.raises(StoreUnavailableError, match=r"^Redis at 127\.0\.0\.1:1: "):
        stores.state.read("u:1")
    stores.close()


def test_a_password_is_in_no_message(mortal: RedisProcess, tmp_path: Path) -> None:
    """Error messages do not contain the password."""
    url = mortal.url.replace("not%20secret", "secret")
    stores = open_stores(Settings(data_dir=tmp_path, state_url=url, store_timeout_ms=5000))

    with pytest.raises(StoreUnavailableError) as raised:
        stores.state.read("u:1")
    assert "secret" not in str(raised.value)
    stores.close()


def test_a_lost_connection_to_postgresql_is_made_anew(postgres_url: str, tmp_path: Path) -> None:
    """After the server ended a connection, one call fails, and the next succeeds."""
    backends.empty_postgres(postgres_url)
    stores = open_stores(Settings(data_dir=tmp_path, events_url=postgres_url, store_timeout_ms=5000))
    stores.events.append([event("e1")])
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(StoreUnavailableError, match=r"^PostgreSQL at 127\.0\.0\.1:"):
        stores.events.append([event("e2")])

    assert [True] == stores.events.append([event("e2")])
    assert ["e1", "e2"] == [position.event.event_id for position in stores.events.read(0, 10)]
    stores.close()


def test_a_paused_postgresql_is_given_up(postgres_url: str, tmp_path: Path) -> None:
    """A call that times out fails, and the next one uses a new connection."""
    backends.empty_postgres(postgres_url)
    stores = open_stores(Settings(data_dir=tmp_path, events_url=postgres_url, store_timeout_ms=50))
    wait_for(lambda: works(lambda: stores.events.append([event("e1")])), "PostgreSQL answers", LONG_S)
    with psycopg.connect(postgres_url, autocommit=True) as other:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        pids = [pid for (pid,) in other.execute(query).fetchall()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            begin = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="timeout"):
                stores.events.append([event("e2")])
            assert time.monotonic() - begin < LONG_S
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
    wait_for(lambda: works(lambda: stores.events.append([event("e2")])), "PostgreSQL answers", LONG_S)

    assert ["e1", "e2"] == [position.event.event_id for position in stores.events.read(0, 10)]
    stores.close()


def test_decisions_that_postgresql_cannot_store_are_dropped(postgres_url: str, tmp_path: Path) -> None:
    """An unstorable decision is dropped and logged without personal data; its neighbours are stored.

    A batch of events with an unstorable one is refused for good, and stores nothing.
    """
    backends.empty_postgres(postgres_url)
    stores = open_stores(Settings(data_dir=tmp_path, events_url=postgres_url, store_timeout_ms=5000))
    with capture_logs() as logs:
        stores.events.record([decision("d1"), decision("d2", second=2**70), decision("d3")])
    with pytest.raises(OffersError) as raised:
        stores.events.append([event("e1"), event("e2", second=2**70)])

    assert [("decision_dropped", "error")] == [(one["event"], one["log_level"]) for one in logs]
    assert "u:1" not in str(logs) + str(raised.value)
    assert not isinstance(raised.value, StoreUnavailableError)
    assert ["d1", "d3"] == [one.decision_id for _, one in stores.events.decisions_after(0, 9)]
    assert [] == stores.events.read(0, 9)
    assert [True] == stores.events.append([event("e1")])
    stores.close()


def test_a_postgresql_that_does_not_know_all_letters_is_refused(postgres_url: str, tmp_path: Path) -> None:
    """A database with an encoding other than UTF-8 is refused at once: it could not store all ids."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        url = postgres_url.removesuffix("/postgres") + "/narrow"
        stores = open_stores(Settings(data_dir=tmp_path, events_url=url, store_timeout_ms=5000))
        with pytest.raises(StoreUnavailableError, match="its encoding is LATIN1"):
            stores.events.append([event("e1")])
        stores.close()
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("DROP DATABASE narrow")


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ({"state_url": "mysql://x"}, "state_url: 'mysql://' is not understood"),
        ({"state_url": "postgresql://x/y"}, "state_url: 'postgresql://' is not understood"),
        ({"events_url": "redis://x"}, "events_url: 'redis://' is not understood"),
        ({"state_url": "redis://x:port"}, "state_url: "),
        ({"events_url": "postgresql://x:port/y"}, "events_url: "),
        ({"events_url": "postgresql://x?what=1"}, "events_url: "),
        ({"state_url": "default:secret@cache:6379"}, "state_url: an address needs its scheme"),
        ({"state_url": "cache:6379"}, "state_url: an address needs its scheme"),
        ({"events_url": "owner:secret@db/offers"}, "events_url: an address needs its scheme"),
    ],
)
def test_a_url_that_names_no_store_is_refused(tmp_path: Path, urls: dict[str, str], message: str) -> None:
    """Opening fails for a malformed setting, which the message names without a password; no file is made."""
    with pytest.raises(SettingsError, match=f"^{message}") as caught:
        open_stores(Settings.model_validate({"data_dir": tmp_path, **urls}))
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.rglob("*secret*"))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Opening fails for a file of another format, which stays as it is."""
    (tmp_path / "notes.txt").write_text("notes " * 1000, "utf-8")

    with pytest.raises(StoreUnavailableError, match=r"notes\.txt: file is not a database"):
        open_stores(Settings(data_dir=tmp_path, state_url=f"sqlite://{tmp_path}/notes.txt"))
    assert "notes " * 1000 == (tmp_path / "notes.txt").read_text("utf-8")


def test_stores_are_where_the_settings_say(tmp_path: Path) -> None:
    """A path, a file URL, and no setting at all name the file; both stores may share one."""
    settings = Settings(
        data_dir=tmp_path / "data", state_url=f"sqlite://{tmp_path}/a/state", events_url=f"{tmp_path}/b"
    )
    open_stores(settings).close()
    open_stores(Settings(data_dir=tmp_path / "c")).close()

    assert ["a/state", "b", "c/state.db"] == sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )
