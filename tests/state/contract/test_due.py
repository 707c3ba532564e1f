"""Every store of persons knows who is due, and grants a lease to one holder at a time."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from offers.settings import Settings
from offers.state.opening import FILE, Stores, open_stores
from offers.state.stores import EVER, NEVER, StateStore
from tests.server.running import wait_for
from tests.state.contract.backends import RedisProcess, raw
from tests.state.contract.test_ledger_redemptions import as_format_3
from tests.state.contract.test_state import FAR, adding, joined, to

MANY = 1_200
"""More records than one batch."""


def due_second(record: bytes) -> int | None:
    """Return the due second of a test record: a number, "never", or any other text for unchanged."""
    if record == b"never":
        return NEVER
    return int(record) if record.isdigit() else None


@pytest.fixture
def state(state_stores: Stores) -> StateStore:
    """A store that watches."""
    state_stores.state.watch(due_second)
    return state_stores.state


def due(state: StateStore, until: int = EVER - 1, limit: int = 1_000) -> list[tuple[str, int]]:
    """Return the first ids of the persons who are due, with their seconds."""
    return [(one.ids[0], one.second) for one in state.due(until, limit)]


def test_persons_are_due_from_their_second_on(state: StateStore) -> None:
    """Due persons come with all ids and the record, longest overdue first, up to the limit."""
    state.change([("u:1", to(b"300")), ("u:2", to(b"100")), ("u:3", to(b"200")), ("u:4", to(b"never"))])
    state.link("u:2", "a:2", lambda user, _visitor: user)

    assert [] == due(state, 99)
    assert [("u:2", 100)] == due(state, 100)
    assert [("u:2", 100), ("u:3", 200)] == due(state, limit=2)
    assert [(["u:2", "a:2"], b"100", 100)] == [tuple(one) for one in state.due(199, 10)]


def test_a_person_is_due_by_what_was_written_last(state: StateStore) -> None:
    """Every write may move, remove or keep the second; reading changes nothing."""
    state.change([("u:1", to(b"100")), ("u:2", to(b"100")), ("u:3", to(b"100")), ("u:4", to(b"100"))])
    state.change([("u:1", to(b"200")), ("u:2", to(b"never")), ("u:3", to(b"else")), ("u:4", to(None))])
    state.look(["u:1", "u:4"])

    assert [("u:1", 200), ("u:3", 100), ("u:4", 100)] == sorted(due(state))


def test_changes_of_one_person_in_one_call_leave_the_last_second(state: StateStore) -> None:
    """Several changes of a person in a call leave the second of the last one."""
    state.change(
        [("u:1", to(b"100")), ("u:1", to(b"never")), ("u:2", to(b"never")), ("u:2", adding(b"")), ("u:2", to(b"7"))]
    )

    assert [("u:2", 7)] == due(state)


def test_without_a_watch_nobody_becomes_due_and_nobody_ceases_to_be(state: StateStore) -> None:
    """Without a watch, writes leave all due seconds as they are."""
    state.change([("u:1", to(b"100"))])
    state.watch(None)
    state.change([("u:1", to(b"never")), ("u:2", to(b"100"))])

    assert [("u:1", 100)] == due(state)


def test_a_merged_visitor_is_due_as_the_user(state: StateStore) -> None:
    """The visitor's second is removed with the record; the merged record has its own."""
    state.change([("u:1", to(b"100")), ("a:1", to(b"50")), ("a:2", to(b"60"))])
    state.link("u:1", "a:1", lambda _user, visitor: visitor + b"0")
    state.link("u:new", "a:2", lambda _user, visitor: visitor + b"1")

    assert [("u:1", 500), ("u:new", 601)] == due(state)


def test_a_visitor_who_moves_leaves_the_other_user_due(state: StateStore) -> None:
    """A visitor who is moved to another user leaves the due second of the former one."""
    state.change([("u:1", to(b"100")), ("u:2", to(b"200"))])
    state.link("u:1", "a:1", joined)
    state.link("u:2", "a:1", joined)

    assert [(["u:1"], 100), (["u:2", "a:1"], 200)] == [(one.ids, one.second) for one in state.due(1_000, 10)]


def test_erased_and_swept_persons_are_not_due(state: StateStore) -> None:
    """The due second is removed with the record."""
    state.change([("u:1", to(b"100")), ("u:2", to(b"200")), ("u:3", to(b"300"))])
    state.erase("u:1", 1, FAR)

    assert [("u:2", 200), ("u:3", 300)] == due(state)
    assert 2 == state.sweep(FAR, 0)
    assert [] == due(state)


def test_a_change_of_our_own_does_not_keep_a_person_longer(state: StateStore) -> None:
    """A write without activity of the person does not extend the life of the record."""
    state.change([("u:1", to(b"1")), ("u:2", to(b"1"))])
    begin = int(time.time())
    wait_for(lambda: int(time.time()) > begin, "the next second begins")
    state.change([("u:1", to(b"2"))], is_heard=False)
    state.change([("u:2", to(b"2"))])
    state.change([("u:3", to(b"3"))], is_heard=False)

    assert 1 == state.sweep(FAR, FAR - begin)
    assert [b"", b"2", b"3"] == [state.read(person) for person in ("u:1", "u:2", "u:3")]


def test_all_records_can_be_asked_anew(state: StateStore) -> None:
    """Rewatching in batches finds records that are due, and those that no longer are."""
    state.change([(f"u:{number}", to(b"%d" % (number + 1))) for number in range(MANY)])
    state.link("u:0", "a:0", lambda user, _visitor: user)
    state.watch(lambda record: NEVER if int(record) % 2 else int(record) + 1)
    parts, place = 0, ""
    while place or not parts:
        place, parts = state.rewatch(place), parts + 1

    assert parts > 1
    assert [(f"u:{number}", number + 2) for number in range(1, MANY, 2)] == due(state, limit=MANY)


def test_asking_anew_in_an_empty_store_ends_at_once(state: StateStore) -> None:
    """Rewatching an empty store returns no cursor."""
    assert "" == state.rewatch("")


def test_one_holder_at_a_time_has_the_lease(state_settings: Settings, state: StateStore) -> None:
    """Of many concurrent holders one gets the lease and may renew it; after its end another gets it."""
    others = [open_stores(state_settings) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda number: others[number].state.lease(str(number), 60), range(4)))
    for other in others:
        other.close()
    holder = str(got.index(True))

    assert 1 == got.count(True)
    assert [True, False] == [state.lease(holder, 60), state.lease("another", 60)]
    assert state.lease(holder, 1)
    wait_for(lambda: state.lease("another", 60), "the lease ends")
    assert not state.lease(holder, 60)


def test_a_lease_that_is_given_up_is_another_s_at_once(state: StateStore) -> None:
    """Only its holder can release a lease."""
    assert state.lease("one", 60)
    state.release("another")
    assert not state.lease("another", 60)
    state.release("one")
    assert state.lease("another", 60)


def test_notes_are_read_as_they_were_written(state_settings: Settings, state: StateStore) -> None:
    """The last text of a note counts in every process; a missing note is empty."""
    state.note("one", "first")
    state.note("one", "é last")
    opened = open_stores(state_settings)

    assert ["é last", ""] == [opened.state.noted(name) for name in ("one", "other")]
    opened.close()


def test_a_lease_of_before_the_clock_was_set_back_holds_nobody_up(tmp_path: Path) -> None:
    """SQLite ignores a lease that ends later than any new lease could."""
    stores = open_stores(Settings(data_dir=tmp_path))
    assert stores.state.lease("one", 60)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("UPDATE lease SET until = until + 86400")
        connection.commit()

    assert stores.state.lease("other", 60)
    stores.close()


def test_a_file_of_format_2_is_taken_over(tmp_path: Path) -> None:
    """Opening adds the new tables; the records remain, and are due after a rewatch."""
    stores = open_stores(Settings(data_dir=tmp_path))
    stores.state.change([("u:1", to(b"100"))])
    stores.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        as_format_3(connection)
        for kind, name in (("TRIGGER", "record_gone"), ("TABLE", "due"), ("TABLE", "note"), ("TABLE", "lease")):
            connection.execute(f"DROP {kind} {name}")
        connection.execute("PRAGMA user_version = 2")
    stores = open_stores(Settings(data_dir=tmp_path))
    stores.state.watch(due_second)

    assert b"100" == stores.state.read("u:1")
    assert [] == due(stores.state)
    assert "" == stores.state.rewatch("")
    assert [("u:1", 100)] == due(stores.state)
    stores.state.erase("u:1", 1, FAR)
    assert [] == due(stores.state)
    stores.close()


def test_redis_drops_due_seconds_without_a_record(tmp_path: Path, redis_process: RedisProcess) -> None:
    """A due entry without a record is removed when it is found."""
    with redis_process.client() as client:
        client.flushall()
        stores = open_stores(Settings(data_dir=tmp_path, state_url=redis_process.url, store_timeout_ms=5000))
        stores.state.watch(due_second)
        stores.state.change([("u:1", to(b"100")), ("u:2", to(b"200"))])
        (lost,) = client.zrangebyscore("offers:due", 100, 100)
        client.delete(b"offers:p:" + lost)

        assert [("u:2", 200)] == due(stores.state)
        assert 1 == client.zcard("offers:due")
    stores.close()


def test_nothing_of_the_erased_is_left_of_who_is_due(tmp_path: Path) -> None:
    """Even an unusual due second of an erased person is in no byte of the files."""
    stores = open_stores(Settings(data_dir=tmp_path))
    stores.state.watch(due_second)
    unusual = 0x7A5B_31C9
    stores.state.change([("u:1", to(b"%d" % unusual))])
    assert unusual.to_bytes(4, "big") in raw(tmp_path)
    stores.state.erase("u:1", 1, FAR)

    wait_for(lambda: unusual.to_bytes(4, "big") not in raw(tmp_path), "it is in no file")
    stores.close()
