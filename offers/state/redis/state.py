"""Persons' records in Redis. Erasures reach its files (RDB, AOF) when it rewrites them."""

import random
import secrets
import time
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from offers.errors import StoreUnavailableError
from offers.state.records import Owned, ids_of, link, pack, state_of
from offers.state.redis.server import RedisServer, Script
from offers.state.stores import NEVER, NOT_ERASED, Change, Due, DueSecond, Merge, Person

_HEAD = Struct("<c8sI")
"""Head of a record: "=", a random version, and the second of the last change.

Under the other ids of a person stands ">" and the hash of the id that has the record."""
_PERSON = b"offers:p:"
_TRIES = 1000
_SCANNED_AT_ONCE = 500

_FIND = """
local name = ARGV[1]
local value = redis.call('GET', 'offers:p:' .. name)
if value and string.sub(value, 1, 1) == '>' then
  name = string.sub(value, 2)
  value = redis.call('GET', 'offers:p:' .. name)
end
"""
_READ = Script(_FIND + "return value")
_LOAD = Script(_FIND + "return {name, value, redis.call('GET', 'offers:t:' .. ARGV[1])}")
_CHECK = """
local function version(name)
  return string.sub(redis.call('GETRANGE', 'offers:p:' .. name, 0, 8), 2)
end
"""
# A sorted set holds the names of the records of persons who are due. As a second, "" means unchanged, "-" not due.
_WATCH = """
local function watch(name, second)
  if second == '-' then
    redis.call('ZREM', 'offers:due', name)
  elseif second ~= '' then
    redis.call('ZADD', 'offers:due', second, name)
  end
end
"""
# Arguments: the number of records; for each its name, the version it must have, the new content ("" to delete) and when
# it is due; then pairs of a name and the name it shall lead to. A repeated call succeeds without further effect.
_SAVE = Script(
    _CHECK
    + _WATCH
    + """
local count = tonumber(ARGV[1])
for i = 2, 4 * count, 4 do
  local found = version(ARGV[i])
  if found ~= ARGV[i + 1] and (found == '' or found ~= string.sub(ARGV[i + 2], 2, 9)) then return 0 end
end
for i = 2, 4 * count, 4 do
  if ARGV[i + 2] == '' then
    redis.call('DEL', 'offers:p:' .. ARGV[i])
  else
    redis.call('SET', 'offers:p:' .. ARGV[i], ARGV[i + 2])
  end
  watch(ARGV[i], ARGV[i + 3])
end
for i = 4 * count + 2, #ARGV, 2 do redis.call('SET', 'offers:p:' .. ARGV[i], '>' .. ARGV[i + 1]) end
return 1
"""
)
_MARK = """
local function mark(name, erased, expires)
  local before = redis.call('GET', 'offers:t:' .. name)
  local second = math.max(tonumber(before or erased), tonumber(erased))
  redis.call('SET', 'offers:t:' .. name, string.format('%.0f', second), 'EXAT', expires)
end
"""
# Arguments: the record's name, the version it must have, second and expiry of tombstones ("": none), and all names.
_REMOVE = Script(
    _CHECK
    + _MARK
    + """
if version(ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('ZREM', 'offers:due', ARGV[1])
for i = 5, #ARGV do
  redis.call('DEL', 'offers:p:' .. ARGV[i])
  if ARGV[3] ~= '' then mark(ARGV[i], ARGV[3], ARGV[4]) end
end
return 1
"""
)
# Arguments: as those of _REMOVE.
_MARK_ERASED = Script(
    _CHECK
    + _MARK
    + """
if version(ARGV[1]) ~= ARGV[2] then return 0 end
for i = 5, #ARGV do mark(ARGV[i], ARGV[3], ARGV[4]) end
return 1
"""
)
# Arguments: a name, and the second beyond which its tombstone must not reach.
_SET_BACK = Script("""
local erased = redis.call('GET', 'offers:t:' .. ARGV[1])
if erased and tonumber(erased) > tonumber(ARGV[2]) then
  redis.call('SET', 'offers:t:' .. ARGV[1], ARGV[2], 'KEEPTTL')
end
""")
# Arguments: a record's name, the version it must have, and when it is due.
_REWATCH = Script(
    _CHECK
    + _WATCH
    + """
if version(ARGV[1]) == ARGV[2] then watch(ARGV[1], ARGV[3]) end
"""
)
# Arguments: the last second, and the limit. Due records that do not exist are left from before Redis lost data.
_DUE = Script("""
local found = {}
local due = redis.call('ZRANGEBYSCORE', 'offers:due', '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #due, 2 do
  local value = redis.call('GET', 'offers:p:' .. due[i])
  if value and string.sub(value, 1, 1) == '=' then
    found[#found + 1] = {due[i + 1], value}
  else
    redis.call('ZREM', 'offers:due', due[i])
  end
end
return found
""")
# Arguments: the holder, and the seconds.
_LEASE = Script("""
local holder = redis.call('GET', 'offers:lease')
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', 'offers:lease', ARGV[1], 'EX', ARGV[2])
return 1
""")
_RELEASE = Script("if redis.call('GET', 'offers:lease') == ARGV[1] then redis.call('DEL', 'offers:lease') end")


class _Loaded(NamedTuple):
    """A record as it was found, or the absence of one."""

    name: bytes
    """The hash the record stands under; the person's own where there is none."""
    version: bytes
    """Empty: there is no record."""
    ids: list[Person]
    state: bytes
    changed: int
    """Second of the last change; 0 without a record."""
    erased: int
    """The second up to which the person was erased, or NOT_ERASED."""


class RedisState:
    """A StateStore in Redis."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._due: DueSecond | None = None

    def read(self, person: Person) -> bytes:
        """See StateStore."""
        content = self._server.run(_READ, self._server.hash(person))
        return state_of(content, _HEAD.size) if content else b""

    def read_each(self, persons: Sequence[Person]) -> list[bytes]:
        """See StateStore."""
        if not persons:
            return []
        contents = self._server.run_each(_READ, [[self._server.hash(person)] for person in persons])
        return [state_of(content, _HEAD.size) if content else b"" for content in contents]

    def look(self, persons: Sequence[Person]) -> list[tuple[bytes, int]]:
        """See StateStore."""
        return [(found.state, found.erased) for found in self._load(persons)]

    def erasures(self, persons: Sequence[Person]) -> list[int]:
        """See StateStore."""
        return [found.erased for found in self._load(persons)]

    def change(self, changes: Sequence[tuple[Person, Change]], *, is_heard: bool = True) -> None:
        """See StateStore. Two round trips, and two more for records that another writer changed meanwhile."""
        for _ in _tries(self._server.name):
            lost = self._change(changes, is_heard=is_heard)
            if not lost:
                return
            changes = lost

    def link(self, user: Person, visitor: Person, merge: Merge) -> None:
        """See StateStore."""
        for _ in _tries(self._server.name):
            one, other = self._load([user, visitor])
            if one.name == other.name:
                return
            ours, rest = link(user, Owned(one.ids, one.state), visitor, Owned(other.ids, other.state), merge)
            records: list[bytes | str] = []
            if other.version:
                content, due = (_content(*rest), "") if rest.ids else (b"", "-")
                records = [other.name, other.version, content, due]
            records += [one.name, one.version, _content(*ours), self._watched(ours.state)]
            led = [self._server.hash(visitor), one.name]
            if self._server.run(_SAVE, len(records) // 4, *records, *led):
                return

    def ids(self, person: Person) -> list[Person]:
        """See StateStore."""
        return self._load([person])[0].ids or [person]

    def erase(self, person: Person, second: int, expires: int) -> list[Person]:
        """See StateStore."""
        return self._bury(_REMOVE, person, second, expires)

    def mark_erased(self, person: Person, second: int, expires: int) -> list[Person]:
        """See StateStore."""
        return self._bury(_MARK_ERASED, person, second, expires)

    def _bury(self, script: Script, person: Person, second: int, expires: int) -> list[Person]:
        """Run a script over all names of a person until no other writer intervenes; return the ids."""
        for _ in _tries(self._server.name):
            found = self._load([person])[0]
            ids = found.ids or [person]
            if self._server.run(script, found.name, found.version, second, expires, *map(self._server.hash, ids)):
                return ids
        raise AssertionError

    def set_back(self, persons: Sequence[Person], second: int) -> None:
        """See StateStore."""
        self._server.run_each(_SET_BACK, [(self._server.hash(person), second) for person in persons])

    def sweep(self, now: int, idle_s: int) -> int:
        """See StateStore. Redis itself removes tombstones, by its own clock."""
        swept, cursor = 0, b"0"
        while True:
            scan = ("SCAN", cursor, "MATCH", _PERSON + b"*", "COUNT", _SCANNED_AT_ONCE)
            cursor, keys = self._server.ask([scan])[0]
            heads = self._server.ask([("GETRANGE", key, 0, _HEAD.size - 1) for key in keys]) if keys else []
            idle = [key for key, head in zip(keys, heads, strict=True) if _changed(head) <= now - idle_s]
            contents = self._server.ask([("GET", key) for key in idle]) if idle else []
            for key, content in zip(idle, contents, strict=True):
                if content and _changed(content[: _HEAD.size]) <= now - idle_s:
                    names = map(self._server.hash, ids_of(content, _HEAD.size))
                    swept += self._server.run(_REMOVE, key.removeprefix(_PERSON), content[1:9], "", "", *names)
            if cursor == b"0":
                return swept

    def watch(self, due: DueSecond | None) -> None:
        """See StateStore."""
        self._due = due

    def rewatch(self, after: str) -> str:
        """See StateStore."""
        scan = ("SCAN", after or "0", "MATCH", _PERSON + b"*", "COUNT", _SCANNED_AT_ONCE)
        cursor, keys = self._server.ask([scan])[0]
        contents = self._server.ask([("GET", key) for key in keys]) if keys else []
        asked = [
            (key.removeprefix(_PERSON), content[1:9], self._watched(state_of(content, _HEAD.size)))
            for key, content in zip(keys, contents, strict=True)
            if content and content[:1] == b"="
        ]
        if asked:
            self._server.run_each(_REWATCH, asked)
        return "" if cursor == b"0" else str(cursor, "ascii")

    def due(self, until: int, limit: int) -> list[Due]:
        """See StateStore."""
        rows = self._server.run(_DUE, until, limit)
        return [Due(ids_of(row, _HEAD.size), state_of(row, _HEAD.size), int(float(second))) for second, row in rows]

    def lease(self, holder: str, seconds: int) -> bool:
        """See StateStore. By Redis's clock."""
        return bool(self._server.run(_LEASE, holder, seconds))

    def release(self, holder: str) -> None:
        """See StateStore."""
        self._server.run(_RELEASE, holder)

    def noted(self, name: str) -> str:
        """See StateStore."""
        return str(self._server.ask([("GET", f"offers:note:{name}")])[0] or b"", "utf-8")

    def note(self, name: str, text: str) -> None:
        """See StateStore."""
        self._server.ask([("SET", f"offers:note:{name}", text)])

    def close(self) -> None:
        """See StateStore."""
        self._server.close()

    def _watched(self, state: bytes) -> str:
        """Return when a record is due, as scripts take it."""
        second = self._due(state) if self._due else None
        if second is None:
            return ""
        return "-" if second == NEVER else str(second)

    def _change(self, changes: Sequence[tuple[Person, Change]], *, is_heard: bool) -> list[tuple[Person, Change]]:
        """Try all changes; return those whose record another writer changed meanwhile."""
        loaded = self._load([person for person, _ in changes])
        records: dict[bytes, tuple[_Loaded, bytes, bool]] = {}
        for found, (person, change) in zip(loaded, changes, strict=True):
            first, state, changed = records.get(
                found.name, (found._replace(ids=found.ids or [person]), found.state, False)
            )
            new = change(state, found.erased)
            records[found.name] = (first, state, changed) if new is None else (first, new, True)
        saved = {
            name: (
                1,
                name,
                found.version,
                _content(found.ids, state, 0 if is_heard else found.changed),
                self._watched(state),
            )
            for name, (found, state, changed) in records.items()
            if changed
        }
        if not saved:
            return []
        done = dict(zip(saved, self._server.run_each(_SAVE, list(saved.values())), strict=True))
        return [one for one, found in zip(changes, loaded, strict=True) if not done.get(found.name, 1)]

    def _load(self, persons: Sequence[Person]) -> list[_Loaded]:
        if not persons:
            return []
        found = self._server.run_each(_LOAD, [[self._server.hash(person)] for person in persons])
        return [
            _Loaded(
                name,
                content[1:9] if content else b"",
                ids_of(content, _HEAD.size) if content else [],
                state_of(content, _HEAD.size) if content else b"",
                _HEAD.unpack_from(content)[2] if content else 0,
                NOT_ERASED if erased is None else int(erased),
            )
            for name, content, erased in found
        ]


def _content(ids: Sequence[Person], state: bytes, changed: int = 0) -> bytes:
    """Return the content of a record that was last changed at a second; 0: now."""
    return _HEAD.pack(b"=", secrets.token_bytes(8), changed or int(time.time())) + pack(ids, state)


def _changed(head: bytes) -> float:
    """Return the second of a record's last change; infinity for a value that is no record."""
    return _HEAD.unpack(head)[2] if head[:1] == b"=" else float("inf")


def _tries(name: str) -> Iterator[int]:
    """Yield the tries of a write, with random back-off. Raises StoreUnavailableError after _TRIES."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(random.uniform(0, 0.001 * min(attempt, 20)))  # noqa: S311 - no secret
        yield attempt
    raise StoreUnavailableError(f"{name}: too many others change the same person: try again")
