"""Erased and swept data is in none of the stores' bytes."""

import random
import re
import time
from pathlib import Path

import psycopg
import pytest

from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from offers.state.stores import Change, LoggedDecision, LoggedEvent
from offers.state.sweeping import sweep
from offers.v1.event_pb2 import EVENT_KIND_IMPRESSION, EVENT_KIND_ORDER
from tests.server.running import wait_for
from tests.state.contract.backends import RedisProcess, raw

PERSONS = 1500
FAR = 2_000_000_000


def mark(number: int, what: str) -> str:
    """Return a text that occurs nowhere else."""
    return f"<{what}-of-{number:05}>"


def fill(stores: Stores, received: int) -> None:
    """Write persons in any order, linked, with records that grow and shrink, so that rows would move."""
    choose = random.Random(3)

    def change(number: int) -> Change:
        state = mark(number, "attribute").encode() * choose.randint(1, 40)
        return lambda _record, _erased: state

    people = list(range(PERSONS))
    for _ in range(6):
        choose.shuffle(people)
        for begin in range(0, PERSONS, 50):
            some = people[begin : begin + 50]
            stores.state.change([(f"u:{mark(one, 'user')}", change(one)) for one in some])
            for one in some[:10]:
                stores.state.link(f"u:{mark(one, 'user')}", f"a:{mark(one, 'visitor')}", lambda mine, _: mine)
            stores.events.append([event(one, choose.randrange(10**9), received, choose) for one in some])
            stores.events.record([decision(one, choose.randrange(10**9)) for one in some])


def event(number: int, repeat: int, received: int, choose: random.Random) -> LoggedEvent:
    """Return an event that contains personal data."""
    person = f"u:{mark(number, 'user')}"
    kind = choose.choice([EVENT_KIND_IMPRESSION, EVENT_KIND_ORDER])
    body = mark(number, "body").encode() * choose.randint(1, 10)
    event_id, offer, geohash = (mark(number, what) for what in ("event", "offer", "hash"))
    return LoggedEvent(f"{event_id}{repeat}", person, 1, received, kind, "c", offer, geohash, learn=True, body=body)


def decision(number: int, repeat: int) -> LoggedDecision:
    """Return a decision that contains personal data."""
    person, shown = f"u:{mark(number, 'user')}", mark(number, "shown")
    decision_id = f"{mark(number, 'decision')}{repeat}"
    return LoggedDecision(decision_id, person, int(time.time()), shown.encode())


def found(content: bytes, what: str = "[a-z]+") -> set[int]:
    """Return the persons whose data, or one kind of it, is in some bytes."""
    return set(map(int, re.findall(rf"<(?:{what})-of-(\d{{5}})".encode(), content)))


def assert_left(kept: set[int], folder: Path) -> None:
    """Check whose data is in the files of a folder, once what was erased has left them."""
    wait_for(lambda: kept == found(raw(folder)), "the erased are in no file")


def test_nothing_of_the_erased_is_in_any_file(tmp_path: Path) -> None:
    """Half of all persons are erased: no byte of theirs is in any file, those of the others are."""
    settings = Settings(data_dir=tmp_path / "data")
    stores, others = open_stores(settings), open_stores(settings)
    fill(stores, int(time.time()))
    others.state.read("u:1")
    gone = set(random.Random(4).sample(range(PERSONS), PERSONS // 2))
    kept = set(range(PERSONS)) - gone
    before = raw(settings.data_dir)
    for number in gone:
        stores.events.erase(stores.state.erase(f"u:{mark(number, 'user')}", 1, FAR))
    assert_left(kept, settings.data_dir)
    content = raw(settings.data_dir)

    for what in ("user", "attribute", "event", "offer", "hash", "body", "decision", "shown"):
        assert gone <= found(before, what)
        assert kept == found(content, what)
    assert all(6 == len(stores.events.of_person([f"u:{mark(number, 'user')}"])) for number in kept)
    stores.close()
    others.close()


@pytest.mark.parametrize("days", [100, 1000])
def test_nothing_of_what_was_kept_for_long_is_in_any_file(tmp_path: Path, days: int) -> None:
    """Swept events, decisions and persons are in no file, nor after the file is rewritten."""
    settings = Settings(data_dir=tmp_path / "data")
    stores = open_stores(settings)
    now = int(time.time())
    fill(stores, now)
    total = len(stores.events.read(0, 10 * PERSONS))
    orders = [one.event for one in stores.events.read(0, 10 * PERSONS) if one.event.kind == EVENT_KIND_ORDER]
    swept = sweep(stores, settings, now + days * 86_400)

    wait_for(lambda: b"<decision-of-" not in raw(settings.data_dir), "the decisions are in no file")
    if days == 100:  # impressions and decisions are kept for 90 days, orders and people for 730
        assert (0, total - len(orders)) == (swept.persons, swept.events)
        assert orders == [one.event for one in stores.events.read(0, 10 * PERSONS)]
    else:
        assert (PERSONS, total) == (swept.persons, swept.events)
        assert_left(set(), settings.data_dir)
    stores.close()


def test_people_erased_after_the_file_was_written_anew_are_gone(tmp_path: Path) -> None:
    """A sweep that removes most of the log leaves no copies that a later erasure would miss."""
    settings = Settings(data_dir=tmp_path / "data")
    stores = open_stores(settings)
    now = int(time.time())
    fill(stores, now - 100 * 86_400)
    sweep(stores, settings, now)
    fill(stores, now)
    gone = set(range(0, PERSONS, 5))
    for number in gone:
        stores.events.erase(stores.state.erase(f"u:{mark(number, 'user')}", 1, FAR))

    assert_left(set(range(PERSONS)) - gone, settings.data_dir)
    stores.close()


def test_nothing_of_the_erased_is_in_redis(tmp_path: Path, redis_process: RedisProcess) -> None:
    """Data of erased persons is in no key or value, nor in the next file; that of others is."""
    settings = Settings(data_dir=tmp_path / "data", state_url=redis_process.url, store_timeout_ms=5000)
    stores = open_stores(settings)
    with redis_process.client() as client:
        client.flushall()
        fill(stores, 1)
        gone = set(range(0, PERSONS, 5))

        def everything() -> bytes:
            client.save()
            values = b"".join(key + (client.dump(key) or b"") for key in client.scan_iter(count=1000))
            return values + (redis_process.folder / "dump.rdb").read_bytes()

        before = everything()
        for number in gone:
            stores.state.erase(f"u:{mark(number, 'user')}", 1, FAR)
        after = everything()

    assert set(range(PERSONS)) == found(before, "attribute") == found(before, "user")
    assert set(range(PERSONS)) - gone == found(after, "attribute") == found(after)
    stores.close()


def test_nothing_of_the_erased_is_in_a_row_of_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """Data of erased persons is in no row of any table; that of others is."""
    settings = Settings(data_dir=tmp_path / "data", events_url=postgres_url, store_timeout_ms=5000)
    stores = open_stores(settings)
    fill(stores, 1)
    gone = set(range(0, PERSONS, 5))

    def everything() -> bytes:
        with psycopg.connect(postgres_url) as connection:
            names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            tables = [connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names]  # noqa: S608
        return b"".join(
            value if isinstance(value, bytes) else str(value).encode()
            for rows in tables
            for row in rows
            for value in row
        )

    before = everything()
    stores.events.erase([f"u:{mark(number, 'user')}" for number in gone])
    after = everything()

    assert set(range(PERSONS)) == found(before, "body") == found(before, "user")
    assert set(range(PERSONS)) - gone == found(after, "body") == found(after)
    stores.close()
