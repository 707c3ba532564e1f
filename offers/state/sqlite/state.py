"""Persons' records in SQLite."""

import sqlite3
import time
from collections.abc import Sequence

from offers.state.records import Owned, ids_of, link, pack, state_of, with_state
from offers.state.sqlite.file import PAGE_SIZE, Database, found, translated
from offers.state.stores import NEVER, NOT_ERASED, Change, Due, DueSecond, Merge, Person

_LEAD = (PAGE_SIZE - 12) * 32 // 255 - 23
"""The least that SQLite stores of a large row inside the tree, where rows move. Personal data begins behind it."""
_BEFORE = bytes(_LEAD)
_OVERFLOW = PAGE_SIZE - 4
"""Bytes of a row in each of its overflow pages. If these are full, the tree holds only the least."""
_READ = "SELECT content FROM record WHERE number = (SELECT record FROM name WHERE hash = ?)"
_READ_EACH = "SELECT hash, content FROM name CROSS JOIN record ON number = record WHERE hash IN"
"""CROSS JOIN: SQLite reads the names first, however many records there are."""
_FIND = "SELECT number, content FROM record WHERE number = (SELECT record FROM name WHERE hash = ?)"
_FIND_WITH_TOMBSTONE = """
    SELECT number, content, (SELECT second FROM tombstone WHERE hash = ?1)
    FROM (SELECT 1) LEFT JOIN record ON number = (SELECT record FROM name WHERE hash = ?1)"""
_SWEPT_AT_ONCE = 500
_WATCHED_AT_ONCE = 500


_Row = tuple[int | None, bytes | None, int | None]
"""Number and content of a record, and second of a tombstone; None where there is none."""


class SqliteState:
    """A StateStore in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looked: tuple[int, dict[Person, _Row]] = (0, {})
        """The transaction of the last `look`, and the rows it found, which `change` need not look up again."""
        self._due: DueSecond | None = None

    def is_in(self, database: Database) -> bool:
        """Return whether the records are in this file."""
        return self._database is database

    def read(self, person: Person) -> bytes:
        """See StateStore."""
        database = self._database
        try:
            row = database.connection().execute(_READ, (database.hash(person),)).fetchone()
        except sqlite3.Error:
            with translated(database.path):
                raise
        return state_of(row[0], _LEAD) if row else b""

    def read_each(self, persons: Sequence[Person]) -> list[bytes]:
        """See StateStore."""
        database = self._database
        hashes = [database.hash(person) for person in persons]
        with translated(database.path):
            rows = dict(found(database.connection(), _READ_EACH, hashes))
        states = {one: state_of(content, _LEAD) for one, content in rows.items()}
        return [states.get(one, b"") for one in hashes]

    def look(self, persons: Sequence[Person]) -> list[tuple[bytes, int]]:
        """See StateStore."""
        with self._database.reading() as connection:
            rows = {person: self._find(connection, person) for person in persons}
        if transaction := self._database.transaction:
            self._looked = transaction, rows
        return [_known(rows[person]) for person in persons]

    def erasures(self, persons: Sequence[Person]) -> list[int]:
        """See StateStore."""
        hashes = [self._database.hash(person) for person in persons]
        with self._database.reading() as connection:
            seconds = dict(found(connection, "SELECT hash, second FROM tombstone WHERE hash IN", hashes))
        return [seconds.get(one, NOT_ERASED) for one in hashes]

    def change(self, changes: Sequence[tuple[Person, Change]], *, is_heard: bool = True) -> None:
        """See StateStore. All of them are one transaction."""
        now = int(time.time()) if is_heard else 0
        changed = set[int | None]()
        with self._database.writing() as connection:
            transaction, looked = self._looked
            self._looked = 0, {}  # changed rows must be looked up again
            if transaction != self._database.transaction:
                looked = {}
            for person, change in changes:
                row = looked.pop(person, None)
                if row is None or row[0] in changed:
                    row = self._find(connection, person)
                number, content, _ = row
                state = change(*_known(row))
                if state is None:
                    continue
                if number is not None and content:
                    _put(connection, number, now, with_state(content, _LEAD, state))
                else:
                    number = _insert(connection, now or int(time.time()), [person], state)
                    _lead(connection, self._database.hash(person), number)
                self._watch(connection, number, state)
                changed.add(number)

    def link(self, user: Person, visitor: Person, merge: Merge) -> None:
        """See StateStore."""
        now = int(time.time())
        name, name_of_visitor = self._database.hash(user), self._database.hash(visitor)
        with self._database.writing() as connection:
            found = connection.execute(_FIND, (name,)).fetchone()
            other = connection.execute(_FIND, (name_of_visitor,)).fetchone()
            if found and other and found[0] == other[0]:
                return
            ours, rest = link(user, _owned(found), visitor, _owned(other), merge)
            if rest.ids:
                _put(connection, other[0], now, pack(*rest))
            elif other:
                connection.execute("DELETE FROM record WHERE number = ?", (other[0],))
            if found:
                number = found[0]
                _put(connection, number, now, pack(*ours))
            else:
                number = _insert(connection, now, *ours)
                _lead(connection, name, number)
            _lead(connection, name_of_visitor, number)
            self._watch(connection, number, ours.state)

    def ids(self, person: Person) -> list[Person]:
        """See StateStore."""
        with translated(self._database.path):
            row = self._database.connection().execute(_READ, (self._database.hash(person),)).fetchone()
        return ids_of(row[0], _LEAD) if row else [person]

    def erase(self, person: Person, second: int, expires: int) -> list[Person]:
        """See StateStore."""
        with self._database.writing() as connection:
            found = connection.execute(_FIND, (self._database.hash(person),)).fetchone()
            ids = ids_of(found[1], _LEAD) if found else [person]
            if found:
                self._remove(connection, found[0], ids)
            self._mark(connection, ids, second, expires)
        self._database.forget()
        return ids

    def mark_erased(self, person: Person, second: int, expires: int) -> list[Person]:
        """See StateStore."""
        with self._database.writing() as connection:
            ids = self.ids(person)
            self._mark(connection, ids, second, expires)
        return ids

    def set_back(self, persons: Sequence[Person], second: int) -> None:
        """See StateStore."""
        query = "UPDATE tombstone SET second = min(second, ?) WHERE hash = ?"
        with self._database.writing() as connection:
            self._looked = 0, {}
            connection.executemany(query, [(second, self._database.hash(person)) for person in persons])

    def sweep(self, now: int, idle_s: int) -> int:
        """See StateStore."""
        swept = 0
        idle = now - idle_s
        while True:  # in batches, so that others can write in between
            with self._database.writing() as connection:
                rows = connection.execute(
                    "SELECT number, content FROM record WHERE changed <= ? LIMIT ?", (idle, _SWEPT_AT_ONCE)
                ).fetchall()
                for number, content in rows:
                    self._remove(connection, number, ids_of(content, _LEAD))
                connection.execute("DELETE FROM tombstone WHERE expires <= ?", (now,))
            swept += len(rows)
            if len(rows) < _SWEPT_AT_ONCE:
                break
        if swept:
            self._database.forget()
        return swept

    def watch(self, due: DueSecond | None) -> None:
        """See StateStore."""
        self._due = due

    def rewatch(self, after: str) -> str:
        """See StateStore."""
        query = "SELECT number, content FROM record WHERE number > ? ORDER BY number LIMIT ?"
        with self._database.writing() as connection:
            rows = connection.execute(query, (int(after or 0), _WATCHED_AT_ONCE)).fetchall()
            for number, content in rows:
                self._watch(connection, number, state_of(content, _LEAD))
        return str(rows[-1][0]) if len(rows) == _WATCHED_AT_ONCE else ""

    def due(self, until: int, limit: int) -> list[Due]:
        """See StateStore."""
        query = (
            "SELECT second, content FROM due JOIN record ON number = due.record WHERE second <= ?"
            " ORDER BY second LIMIT ?"
        )
        with translated(self._database.path):
            rows = self._database.connection().execute(query, (until, limit)).fetchall()
        return [Due(ids_of(content, _LEAD), state_of(content, _LEAD), second) for second, content in rows]

    def lease(self, holder: str, seconds: int) -> bool:
        """See StateStore. A lease that ends later than a new one would is from before the clock was set back."""
        now = int(time.time())
        with self._database.writing() as connection:
            row = connection.execute("SELECT holder, until FROM lease").fetchone()
            if row and row[0] != holder and now < row[1] <= now + seconds:
                return False
            connection.execute("INSERT OR REPLACE INTO lease VALUES (1, ?, ?)", (holder, now + seconds))
            return True

    def release(self, holder: str) -> None:
        """See StateStore."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM lease WHERE holder = ?", (holder,))

    def noted(self, name: str) -> str:
        """See StateStore."""
        with translated(self._database.path):
            row = self._database.connection().execute("SELECT text FROM note WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def note(self, name: str, text: str) -> None:
        """See StateStore."""
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, text))

    def close(self) -> None:
        """See StateStore."""
        self._database.close()

    def _find(self, connection: sqlite3.Connection, person: Person) -> _Row:
        row: _Row = connection.execute(_FIND_WITH_TOMBSTONE, (self._database.hash(person),)).fetchone()
        return row

    def _watch(self, connection: sqlite3.Connection, number: int, state: bytes) -> None:
        """Store when a record is due."""
        second = self._due(state) if self._due else None
        if second == NEVER:
            connection.execute("DELETE FROM due WHERE record = ?", (number,))
        elif second is not None:
            connection.execute("INSERT OR REPLACE INTO due VALUES (?, ?)", (number, second))

    def _mark(self, connection: sqlite3.Connection, ids: Sequence[Person], second: int, expires: int) -> None:
        """Write tombstones."""
        connection.executemany(
            "INSERT INTO tombstone VALUES (?, ?, ?) ON CONFLICT (hash) DO UPDATE"
            " SET second = max(second, excluded.second), expires = max(expires, excluded.expires)",
            [(self._database.hash(one), second, expires) for one in ids],
        )

    def _remove(self, connection: sqlite3.Connection, number: int, ids: Sequence[Person]) -> None:
        connection.execute("DELETE FROM record WHERE number = ?", (number,))
        connection.executemany("DELETE FROM name WHERE hash = ?", [(self._database.hash(one),) for one in ids])


def _known(row: _Row) -> tuple[bytes, int]:
    """Return state and erasure, as a Change receives them."""
    _, content, erased = row
    return state_of(content, _LEAD) if content else b"", NOT_ERASED if erased is None else erased


def _content(record: bytes) -> bytes:
    """Return a row's content: the record behind the lead, padded to whole overflow pages."""
    return b"".join((_BEFORE, record, bytes(-len(record) % _OVERFLOW)))


def _insert(connection: sqlite3.Connection, now: int, ids: Sequence[Person], state: bytes) -> int:
    query = "INSERT INTO record (changed, content) VALUES (?, ?) RETURNING number"
    (number,) = connection.execute(query, (now, _content(pack(ids, state)))).fetchone()
    return int(number)


def _owned(row: tuple[int, bytes] | None) -> Owned:
    """Return the record in a row of _FIND."""
    return Owned(ids_of(row[1], _LEAD), state_of(row[1], _LEAD)) if row else Owned([], b"")


def _put(connection: sqlite3.Connection, number: int, now: int, record: bytes) -> None:
    query = "UPDATE record SET changed = max(changed, ?), content = ? WHERE number = ?"
    connection.execute(query, (now, _content(record), number))


def _lead(connection: sqlite3.Connection, name: bytes, number: int) -> None:
    connection.execute(
        "INSERT INTO name VALUES (?, ?) ON CONFLICT (hash) DO UPDATE SET record = excluded.record", (name, number)
    )
