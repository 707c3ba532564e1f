"""The contract of stores of persons."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from offers.state.redis import server as redis_server
from offers.state.redis.state import RedisState
from offers.state.sqlite.state import SqliteState
from offers.state.stores import Change, StateStore
from tests.state.contract.backends import actor

FAR = 2_000_000_000


def to(new: bytes | None) -> Change:
    """Return a change to a given record."""
    return lambda _record, _erased: new


def adding(text: bytes) -> Change:
    """Return a change that appends to the record."""
    return lambda record, _erased: record + text


def joined(one: bytes, other: bytes) -> bytes:
    """Concatenate both records."""
    return b"(" + one + b"|" + other + b")"


def _counting(exchange: Callable[..., Any], asked: list[object]) -> Callable[..., Any]:
    """Return a function that notes each of its calls."""

    def counted(*arguments: object) -> Any:  # noqa: ANN401 - the replies
        asked.append(arguments)
        return exchange(*arguments)

    return counted


def erased_second(state: StateStore, person: str) -> int:
    """Return the erasure of a person, as a change receives it, and as `look` and `erasures` return it."""
    told: list[int] = []

    def ask(_record: bytes, second: int) -> None:
        told.append(second)

    state.change([(person, ask)])
    assert [(state.read(person), told[0])] == state.look([person])
    return told[0]


def test_nothing_is_known_of_a_stranger(state_stores: Stores) -> None:
    """A person who was never written has no record, no other ids and no erasure."""
    assert b"" == state_stores.state.read("u:1")
    assert ["u:1"] == state_stores.state.ids("u:1")
    assert -1 == erased_second(state_stores.state, "u:1")


def test_several_persons_are_looked_up_at_once(state_stores: Stores) -> None:
    """A look returns record and erasure of each person in order, known or not."""
    state = state_stores.state
    state.change([("u:1", to(b"one")), ("u:2", to(b"two"))])
    state.erase("u:2", 7, FAR)
    state.link("u:1", "a:1", joined)

    assert [(b"", 7), (b"one", -1), (b"", -1), (b"one", -1)] == state.look(["u:2", "u:1", "u:3", "a:1"])
    assert [] == state.look([])


def test_several_persons_are_read_in_one_round_trip(state_stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records come in the order asked for, by any id and as often as asked, and the store is asked once."""
    state = state_stores.state
    state.change([(f"u:{number}", to(b"%d" % number)) for number in range(20)])
    state.link("u:1", "a:1", joined)
    state.erase("u:2", 7, FAR)
    assert b"0" == state.read("u:0")  # Redis is sent the script by this
    asked: list[object] = []
    if isinstance(state, SqliteState):
        state._database.connection().set_trace_callback(asked.append)  # noqa: SLF001 - to see what it asks
    else:
        assert isinstance(state, RedisState)
        monkeypatch.setattr(redis_server, "_exchange", _counting(redis_server._exchange, asked))  # noqa: SLF001 - as above

    persons = [f"u:{number}" for number in (3, 2, 19, 3)]

    assert [b"3", b"", b"19", b"3", b"1", b""] == state.read_each([*persons, "a:1", "u:nobody"])
    assert len(asked) == 1
    assert [] == state.read_each([])


@pytest.mark.parametrize("size", [1, 100, 4_000, 4_100, 100_000])
def test_a_record_is_read_as_it_was_written(state_stores: Stores, size: int) -> None:
    """Any bytes of any size are read back, with trailing zeros, after growing and shrinking."""
    record = bytes(range(256)) * (size // 256) + bytes(size % 256)
    state_stores.state.change([("u:1", to(b"first")), ("u:1", to(record)), ("u:1", to(b"x")), ("u:1", to(record))])

    assert record == state_stores.state.read("u:1")


def test_changes_happen_in_their_order(state_stores: Stores) -> None:
    """Each change sees the result of the one before, within a call and across calls; None keeps the record."""
    state_stores.state.change([("u:1", adding(b"a")), ("u:2", adding(b"x")), ("u:1", adding(b"b")), ("u:1", to(None))])
    state_stores.state.change([("u:1", adding(b"c")), ("a:1", to(None))])

    assert [b"abc", b"x", b""] == [state_stores.state.read(person) for person in ("u:1", "u:2", "a:1")]


def test_many_are_looked_at_at_once(state_stores: Stores) -> None:
    """Many persons are looked up in the order of the call, with their erasures."""
    state = state_stores.state
    state.change([("u:1", to(b"one")), ("u:2", to(b"two")), ("a:1", to(b"visitor"))])
    state.link("u:1", "a:1", joined)
    state.erase("u:2", 1000, FAR)

    expected = [(b"(one|visitor)", -1), (b"", 1000), (b"", -1), (b"(one|visitor)", -1)]
    assert expected == state.look(["a:1", "u:2", "u:3", "u:1"])
    assert [] == state.look([])


@pytest.mark.parametrize("person", ["a:\0", "a:" + "é" * 256, "a:a b\n'\"", "a:>"])
def test_any_text_is_an_id(state_stores: Stores, person: str) -> None:
    """Ids may be any text."""
    state_stores.state.change([(person, to(b"mine"))])
    state_stores.state.link("u:other", person, joined)

    assert b"(|mine)" == state_stores.state.read(person)
    assert ["u:other", person] == state_stores.state.ids(person)


def test_no_change_is_lost_among_processes(state_settings: Settings, state_stores: Stores) -> None:
    """The changes of eight processes to the same persons add up."""
    children = [actor("count", state_settings, 50) for _ in range(8)]

    assert [0] * 8 == [child.wait(120) for child in children]
    assert [b"400"] * 3 == [state_stores.state.read(person) for person in ("u:1", "u:2", "a:1")]


def test_a_visitor_s_record_goes_to_the_user(state_stores: Stores) -> None:
    """Linked ids lead to the merged record, and a change by either is seen by both."""
    state = state_stores.state
    state.change([("u:1", to(b"user")), ("a:1", to(b"visitor"))])
    state.link("u:1", "a:1", joined)
    state.change([("a:1", adding(b"+"))])

    assert [b"(user|visitor)+"] * 2 == [state.read(person) for person in ("u:1", "a:1")]
    assert [["u:1", "a:1"]] * 2 == [state.ids(person) for person in ("u:1", "a:1")]


def test_linking_again_changes_nothing(state_stores: Stores) -> None:
    """Repeating a link merges nothing."""
    state = state_stores.state
    state.change([("u:1", to(b"user")), ("a:1", to(b"visitor"))])
    for _ in range(3):
        state.link("u:1", "a:1", joined)

    assert b"(user|visitor)" == state.read("u:1")
    assert ["u:1", "a:1"] == state.ids("u:1")


def test_links_may_come_before_records(state_stores: Stores) -> None:
    """Ids linked before there is a record lead to one record, whichever is written first."""
    state = state_stores.state
    state.link("u:1", "a:1", joined)
    state.change([("a:1", adding(b"1")), ("u:1", adding(b"2"))])
    state.change([("a:2", to(b"3"))])
    state.link("u:1", "a:2", joined)
    state.link("u:2", "a:3", joined)

    assert [b"(12|3)"] * 3 == [state.read(person) for person in ("u:1", "a:1", "a:2")]
    assert ["u:1", "a:1", "a:2"] == state.ids("a:2")
    assert [b""] * 2 == [state.read(person) for person in ("u:2", "a:3")]


def test_a_visitor_who_led_to_another_user_only_moves(state_stores: Stores) -> None:
    """Merged data stays with the former user; the visitor leads to the new one."""
    state = state_stores.state
    state.change([("a:1", to(b"visitor")), ("u:2", to(b"two"))])
    state.link("u:1", "a:1", joined)
    state.link("u:2", "a:1", joined)
    state.change([("a:1", adding(b"+"))])

    assert [b"(|visitor)", b"two+", b"two+"] == [state.read(person) for person in ("u:1", "u:2", "a:1")]
    assert [["u:1"], ["u:2", "a:1"]] == [state.ids(person) for person in ("u:1", "u:2")]


def test_links_at_the_same_time_merge_each_visitor_once(state_stores: Stores) -> None:
    """Eight threads that link the same twenty visitors, and write, lose and double nothing."""
    state = state_stores.state
    visitors = [f"a:{number}" for number in range(20)]

    def merged(one: bytes, other: bytes) -> bytes:
        return orjson.dumps(orjson.loads(one or b"[]") + orjson.loads(other or b"[]"))

    def added(person: str, what: str) -> None:
        state.change([(person, lambda record, _: orjson.dumps([*orjson.loads(record or b"[]"), what]))])

    def work(number: int) -> None:
        for visitor in visitors[number:] + visitors[:number]:
            added(visitor, f"{visitor} {number} before")
            state.link("u:1", visitor, merged)
            added(visitor, f"{visitor} {number} after")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    expected = sorted(
        f"{visitor} {number} {when}" for visitor in visitors for number in range(8) for when in ("after", "before")
    )
    assert expected == sorted(orjson.loads(state.read("u:1")))
    assert {"u:1", *visitors} == set(state.ids("a:7"))


def test_an_erased_person_is_unknown_by_every_id(state_stores: Stores) -> None:
    """Erasing one id erases the record under all, returns them, and leaves others alone."""
    state = state_stores.state
    state.change([("u:1", to(b"user")), ("a:1", to(b"visitor")), ("u:2", to(b"two"))])
    state.link("u:1", "a:1", joined)

    assert ["u:1", "a:1"] == state.erase("a:1", 1000, FAR)
    assert [b"", b"", b"two"] == [state.read(person) for person in ("u:1", "a:1", "u:2")]
    assert [["u:1"], ["a:1"]] == [state.ids(person) for person in ("u:1", "a:1")]


def test_erasures_are_remembered_without_the_id(state_stores: Stores) -> None:
    """A change receives the latest erasure, by every id, also of persons without a record."""
    state = state_stores.state
    state.link("u:1", "a:1", joined)
    state.erase("u:1", 1000, FAR)
    state.erase("u:1", 900, FAR)
    state.erase("u:stranger", 2000, FAR)
    state.change([("u:1", to(b"new"))])

    assert [1000, 1000, 2000, -1] == [erased_second(state, one) for one in ("u:1", "a:1", "u:stranger", "u:2")]
    assert b"new" == state.read("u:1")


def test_erasures_are_set_back_where_they_reach_too_far(state_stores: Stores) -> None:
    """Those up to an earlier second stay, and who was never erased is not now; it holds within a transaction, too."""
    state = state_stores.state
    state.erase("u:ahead", 5000, FAR)
    state.erase("u:before", 900, FAR)

    with state_stores.events.together(state):
        assert [(b"", 5000), (b"", 900), (b"", -1)] == state.look(["u:ahead", "u:before", "u:never"])
        state.set_back(["u:ahead", "u:before", "u:never"], 1000)
        assert [1000, 900, -1] == [erased_second(state, person) for person in ("u:ahead", "u:before", "u:never")]
    assert [1000, 900, -1] == state.erasures(["u:ahead", "u:before", "u:never"])


def test_an_erasure_may_leave_the_record(state_stores: Stores) -> None:
    """Marking a person as erased keeps record and ids, and the erasure under every id, the latest of several."""
    state = state_stores.state
    state.change([("u:1", to(b"user"))])
    state.link("u:1", "a:1", lambda mine, _: mine)

    assert ["u:1", "a:1"] == state.mark_erased("a:1", 1000, FAR) == state.mark_erased("u:1", 900, FAR)
    assert ["u:stranger"] == state.mark_erased("u:stranger", 2000, FAR)
    assert [b"user", b"user", b""] == [state.read(one) for one in ("u:1", "a:1", "u:stranger")]
    assert ["u:1", "a:1"] == state.ids("a:1")
    assert [1000, 1000, 2000, -1] == [erased_second(state, one) for one in ("u:1", "a:1", "u:stranger", "u:2")]


def test_tombstones_expire(state_stores: Stores) -> None:
    """A sweep removes expired tombstones."""
    now = int(time.time())
    state_stores.state.erase("u:1", 1000, now - 1)
    state_stores.state.erase("u:2", 1000, now + 1000)
    state_stores.state.sweep(now, 1000)

    assert [-1, 1000] == [erased_second(state_stores.state, person) for person in ("u:1", "u:2")]


def test_persons_who_are_idle_are_swept(state_stores: Stores) -> None:
    """A record with all its ids is swept when it is unchanged for long enough, and not before."""
    state = state_stores.state
    state.change([(f"u:{number}", to(b"user")) for number in range(1200)])
    state.link("u:1", "a:1", joined)
    now = int(time.time())

    assert 0 == state.sweep(now, 60)
    assert b"user" == state.read("a:1")
    assert 1200 == state.sweep(now + 100, 60)
    assert [b""] * 3 == [state.read(person) for person in ("u:1", "a:1", "u:1199")]
    assert ["a:1"] == state.ids("a:1")


def test_stores_opened_anew_have_what_was_kept(state_settings: Settings, state_stores: Stores) -> None:
    """Records and tombstones are there when the stores are opened again."""
    state_stores.state.change([("u:1", to(b"user"))])
    state_stores.state.erase("u:2", 1000, FAR)
    again = open_stores(state_settings)

    assert b"user" == again.state.read("u:1")
    assert 1000 == erased_second(again.state, "u:2")
    again.close()


def test_the_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Other users of the machine cannot read the file."""
    open_stores(Settings(data_dir=tmp_path / "data")).close()

    assert [0o600] == [path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()]
