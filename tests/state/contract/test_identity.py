"""Redis and PostgreSQL at wrong addresses, emptied and exchanged."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from structlog.testing import capture_logs

from offers.errors import OffersError, OtherStoreError, SettingsError, UnusableStoreError
from offers.settings import Settings
from offers.state import identity
from offers.state.checking import check_stores
from offers.state.opening import open_stores
from tests.state.contract import backends
from tests.state.contract.backends import RedisProcess
from tests.state.contract.test_events import event

SECRET = b"offers:secret"


@pytest.fixture
def emptied(redis_process: RedisProcess) -> Iterator[Redis]:
    """A client of the Redis of all tests, which is emptied before and set back after."""
    with redis_process.client() as client:
        client.flushall()
        yield client
        client.config_set("maxmemory-policy", "noeviction")
        client.replicaof("NO", "ONE")
        client.flushall()


def settings_in(folder: Path, **fields: object) -> Settings:
    """Settings of a server with its data in a folder, which waits for a busy machine."""
    return Settings.model_validate({"data_dir": folder, "store_timeout_ms": 5_000, "sqlite_flush": False, **fields})


def test_an_emptied_redis_has_one_secret(emptied: Redis, redis_process: RedisProcess, tmp_path: Path) -> None:
    """Whoever of the workers calls next puts the old secret back and says so, and all find what any of them writes."""
    settings = settings_in(tmp_path, state_url=redis_process.url)
    check_stores(settings)
    first, second = (open_stores(settings, is_server=True) for _ in range(2))
    assert [b"", b""] == [stores.state.read("u:1") for stores in (first, second)]
    secret = emptied.get(SECRET)
    emptied.flushall()
    with capture_logs() as logs:
        first.state.change([("u:1", lambda _record, _erased: b"new")])
    third = open_stores(settings, is_server=True)

    assert ["store_emptied"] == [line["event"] for line in logs]
    assert secret == emptied.get(SECRET)
    assert [b"new"] * 3 == [stores.state.read("u:1") for stores in (first, second, third)]
    for stores in (first, second, third):
        stores.close()


def test_a_redis_emptied_while_no_server_runs_has_the_same_secret(
    emptied: Redis, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """The data folder keeps the secret, readable by its owner alone."""
    settings = settings_in(tmp_path, state_url=redis_process.url)
    check_stores(settings)
    secret = emptied.get(SECRET)
    emptied.flushall()
    with capture_logs() as logs:
        check_stores(settings)

    assert secret == emptied.get(SECRET)
    assert "store_emptied" in [line["event"] for line in logs]
    assert 0o600 == (tmp_path / identity.FILE).stat().st_mode & 0o777


def test_nothing_is_written_into_another_redis(emptied: Redis, redis_process: RedisProcess, tmp_path: Path) -> None:
    """A worker refuses a Redis that has another secret than before, and a server does not start with it."""
    settings = settings_in(tmp_path, state_url=redis_process.url)
    check_stores(settings)
    with closing(open_stores(settings, is_server=True)) as stores:
        assert stores.state.read("u:1") == b""
        emptied.flushall()
        emptied.set(SECRET, b"of another")
        for _ in range(5):
            with pytest.raises(OtherStoreError, match="now has the data of another store"):
                stores.state.change([("u:1", lambda _record, _erased: b"new")])
        assert [SECRET] == emptied.keys()
        with pytest.raises(OtherStoreError, match="now has the data of another store"):
            check_stores(settings)
    identity.forget(tmp_path, ["state"])
    check_stores(settings)
    assert b"of another" == emptied.get(SECRET)


def test_an_empty_redis_at_another_address_is_left_alone(
    emptied: Redis, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """A server that had its state elsewhere does not begin anew, and leaves no secret there."""
    check_stores(settings_in(tmp_path))
    with pytest.raises(OtherStoreError, match=r"redis://127\.0\.0\.1:\d+/0 is new, and .* has its state in"):
        check_stores(settings_in(tmp_path, state_url=redis_process.url))
    assert [] == emptied.keys()


@contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """A server of another protocol: it answers anything with some bytes, or nothing, and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1_000)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def _wrong_password(url: str) -> str:
    return url.replace("not%20secret", "very-secret")


def _no_password(url: str) -> str:
    return f"redis://{url.partition('@')[2]}"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (_wrong_password, "invalid username-password pair"),
        (_no_password, "it wants a password"),
        (lambda url: url.replace("/0", "/99"), "DB index is out of range"),
        (lambda url: url.replace("127.0.0.1", "nowhere.invalid"), "its name does not resolve"),
    ],
    ids=["password", "no password", "database", "name"],
)
def test_a_wrong_address_of_redis_ends_the_start(
    redis_process: RedisProcess, tmp_path: Path, wrong: Callable[[str], str], reason: str
) -> None:
    """The reason is told without the password, for the state as for the outbox; nothing is recorded."""
    for fields in ({"state_url": wrong(redis_process.url)}, {"outbox_url": wrong(redis_process.url) + "/stream"}):
        with pytest.raises(UnusableStoreError, match=reason) as raised:
            check_stores(settings_in(tmp_path, **fields))
        assert "very-secret" not in str(raised.value)
        assert "state_url" not in fields or not (tmp_path / identity.FILE).exists()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "it closes connections without an answer: this is no Redis"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "another protocol is spoken there"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "another protocol is spoken there"),
    ],
    ids=["postgresql", "http", "ssh"],
)
def test_a_port_of_another_protocol_is_told(tmp_path: Path, answer: bytes, reason: str) -> None:
    """PostgreSQL, for one, takes a command of Redis for a message that is too long, and closes the connection."""
    with listening(answer) as port, pytest.raises(UnusableStoreError, match=reason):
        check_stores(settings_in(tmp_path, state_url=f"redis://127.0.0.1:{port}/0"))


def test_a_redis_that_cannot_be_relied_on_is_told(emptied: Redis, redis_process: RedisProcess, tmp_path: Path) -> None:
    """A Redis that throws data away, or does not keep it, is used with a warning; a replica is refused."""
    settings = settings_in(tmp_path, state_url=redis_process.url)
    emptied.config_set("maxmemory-policy", "allkeys-lru")
    with capture_logs() as logs:
        check_stores(settings)
    reasons = [line["reason"] for line in logs if line["event"] == "store_at_risk"]
    assert ["maxmemory-policy is allkeys-lru", "appendonly is no"] == [reason.partition(",")[0] for reason in reasons]
    emptied.replicaof("127.0.0.1", "1")
    with pytest.raises(UnusableStoreError, match="read only replica"):
        check_stores(settings_in(tmp_path / "other", state_url=redis_process.url))
    with capture_logs() as logs:
        check_stores(settings)  # it worked: a failover may be under way
    assert ["store_unusable"] == [line["event"] for line in logs]


def test_an_outbox_that_is_no_stream_ends_the_start(
    emptied: Redis, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """Appending to another type of key would fail for each message."""
    emptied.set("messages", "a text")
    with pytest.raises(UnusableStoreError, match="'messages' is there, and is no stream"):
        check_stores(settings_in(tmp_path, outbox_url=redis_process.url + "/messages"))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda url: url.removesuffix("/postgres") + "/none", 'database "none" does not exist'),
        (lambda url: f"postgresql://nobody:very-secret@{url.partition('@')[2]}", "authentication failed"),
        (lambda url: f"{url}?options=-c%20default_transaction_read_only%3Don", "read-only transaction"),
        (lambda url: url.replace("127.0.0.1", "nowhere.invalid"), "failed to resolve host"),
    ],
    ids=["database", "user", "replica", "name"],
)
def test_a_wrong_address_of_postgresql_ends_the_start(
    postgres_url: str, tmp_path: Path, wrong: Callable[[str], str], reason: str
) -> None:
    """The reason is told without the password."""
    with pytest.raises(UnusableStoreError, match=reason) as raised:
        check_stores(settings_in(tmp_path, events_url=wrong(postgres_url)))
    password = postgres_url.partition("@")[0].rpartition(":")[2]
    assert not any(secret in str(raised.value) for secret in ("very-secret", password))


def test_an_exchanged_postgresql_is_refused(postgres_url: str, tmp_path: Path) -> None:
    """A database that was made anew, or is another server's, takes the place of none; it stays as it is."""
    backends.empty_postgres(postgres_url)
    settings = settings_in(tmp_path, events_url=postgres_url)
    check_stores(settings)
    with (
        closing(open_stores(settings, is_server=True)) as stores,
        psycopg.connect(postgres_url, autocommit=True) as other,
    ):
        stores.events.append([event("e1")])
        other.execute("DROP TABLE offers_store, offers_event, offers_decision")
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        with pytest.raises(OtherStoreError, match=r"is gone or empty.*offers stores forget events"):
            check_stores(settings)
        for _ in range(2):
            with pytest.raises(OffersError):
                stores.events.append([event("e2")])
        query = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'offers%%'"
        assert (0,) == other.execute(query).fetchone()
        check_stores(settings_in(tmp_path / "other", events_url=postgres_url))
        with pytest.raises(OtherStoreError, match="was exchanged for another store"):
            check_stores(settings)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"state_url": "redis://host:1/0?what=1"}, "a parameter behind the ?"),
        ({"state_url": "redis://host:1/abc"}, "is the number of a database"),
        ({"state_url": "redis://host:1/2/x"}, "is the number of a database"),
        ({"state_url": "redis://:very/secret@host:1/0"}, "this is no address"),
        ({"state_url": "redis://:12#secret@host:1/0"}, "this is no address"),
        ({"events_url": "postgresql://me:secret%zz@host/db"}, "this is no address"),
        ({"events_url": "postgresql://me:very/secret@host/db"}, "this is no address"),
        ({"events_url": "postgresql://me:very@secret@host/db"}, "this is no address"),
        ({"events_url": "postgresql://me:secret@host/db?what=1"}, 'invalid URI query parameter: "what"'),
        ({"outbox_url": "redis://:very/secret@host:1/0/stream"}, ""),
    ],
)
def test_an_address_that_cannot_be_read_is_not_repeated(tmp_path: Path, fields: dict[str, str], reason: str) -> None:
    """A password that is not percent-encoded does not get into the message as a host, a port or a path."""
    (setting,) = fields
    with pytest.raises(SettingsError, match=f"^{setting}: .*{reason.replace('?', '[?]')}") as raised:
        check_stores(settings_in(tmp_path, **fields))
    assert "secret" not in str(raised.value)
    assert "very" not in str(raised.value)
