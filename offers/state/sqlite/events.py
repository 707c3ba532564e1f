"""The log of events and decisions in SQLite. Erased rows are blanked in place, never moved; see file.py."""

import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from offers.model.proposition_ids import DECISION_ID_DIGITS
from offers.state.identity import identity_of
from offers.state.sqlite.file import Database, blank, found, translated
from offers.state.sqlite.state import SqliteState
from offers.state.stores import EVER, PAGE, LoggedDecision, LoggedEvent, NumberedEvent, Person, StateStore
from offers.v1.event_pb2 import EventKind

_EVENTS = """
    SELECT event.number, event_id, coalesce(name, ''), second, received, kind, catalog, offer_id, geohash, learn, body
    FROM event LEFT JOIN who ON who.number = person WHERE event.gone = 0 AND"""
_DECISIONS = """
    SELECT decision.number, decision_id, coalesce(name, ''), second, body
    FROM decision LEFT JOIN who ON who.number = person WHERE decision.gone = 0 AND"""
_NO_EVENT = "UPDATE event SET gone = 1, " + blank("event_id", "catalog", "offer_id", "geohash", "body") + " WHERE"
_NO_DECISION = "UPDATE decision SET gone = 1, " + blank("decision_id", "body") + " WHERE"
_NOBODY = "UPDATE who SET gone = 1, hash = randomblob(16), " + blank("name") + " WHERE"
_UNSEEN = """
    gone = 0 AND NOT EXISTS (SELECT 1 FROM event WHERE person > 0 AND person = who.number AND event.gone = 0)
    AND NOT EXISTS (SELECT 1 FROM decision WHERE person > 0 AND person = who.number AND decision.gone = 0)"""
_UUID_DIGITS, _VERSION = DECISION_ID_DIGITS, 12
"""Length of a UUID in hexadecimal digits, and index of its version; in version 7, 48 bits of time precede it."""
_RECORD = "INSERT INTO decision (hash, gone, person, second, decision_id, body) VALUES {} ON CONFLICT (hash) DO NOTHING"
_ROW = "(?, 0, ?, ?, ?, ?)"
_RECORDED_AT_ONCE = 32
"""Rows of an INSERT: sqlite3 releases the interpreter lock for each statement, and other threads contend for it."""
_SWEPT_AT_ONCE = 1000
_WORTH_REWRITING = 1000


class SqliteEvents:
    """An EventLog in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def together(self, state: StateStore) -> Iterator[bool]:
        """See EventLog."""
        if isinstance(state, SqliteState) and state.is_in(self._database):
            with self._database.writing():
                yield True
        else:
            yield False

    def append(self, events: Sequence[LoggedEvent], *, applied: bool = False) -> list[bool]:
        """See EventLog."""
        with self._database.writing() as connection:
            numbers = self._numbers(connection, {event.person for event in events})
            return [self._insert(connection, event, numbers[event.person], applied) for event in events]

    def known(self, event_ids: Sequence[str]) -> set[str]:
        """See EventLog."""
        return self._having(event_ids, "")

    def find(self, event_id: str) -> LoggedEvent | None:
        """See EventLog."""
        found = self._events("event.hash = ?", (self._database.hash(event_id),))
        return found[0].event if found else None

    def unapplied(self, limit: int) -> list[LoggedEvent]:
        """See EventLog."""
        return [event for _, event in self._events("applied = 0 ORDER BY event.number LIMIT ?", (limit,))]

    def pending(self, event_ids: Sequence[str]) -> set[str]:
        """See EventLog."""
        return self._having(event_ids, "AND applied = 0 AND gone = 0")

    def applied(self, event_ids: Sequence[str]) -> None:
        """See EventLog."""
        hashes = [(self._database.hash(one),) for one in event_ids]
        with self._database.writing() as connection:
            connection.executemany("UPDATE event SET applied = 1 WHERE hash = ?", hashes)

    def read(self, after: int, limit: int) -> list[NumberedEvent]:
        """See EventLog."""
        return self._events("event.number > ? ORDER BY event.number LIMIT ?", (after, limit))

    def of_person(self, persons: Sequence[Person]) -> list[LoggedEvent]:
        """See EventLog."""
        return list(chain.from_iterable(self.pages_of(persons)))

    def pages_of(self, persons: Sequence[Person]) -> Iterator[list[LoggedEvent]]:
        """See EventLog."""
        for numbers in self._pages("event", persons):
            condition = f"event.number IN ({numbers}) ORDER BY second, event.number"
            yield [event for _, event in self._events(condition, ())]

    def erase(self, persons: Sequence[Person], until: int = EVER) -> int:
        """See EventLog."""
        erased, left = 0, [*persons]
        while left:  # a transaction for PAGE rows, so that others can write between them
            with self._database.writing() as connection:
                room = PAGE
                while left and room:
                    events, decisions = self._erase_some(connection, left[-1], until, room)
                    erased += events
                    room -= events + decisions
                    if room:
                        left.pop()
        self._database.forget()
        return erased

    def _erase_some(self, connection: sqlite3.Connection, person: Person, until: int, most: int) -> tuple[int, int]:
        """Erase at most so many rows of a person, and the name with the last; return the numbers by table."""
        row = connection.execute("SELECT number FROM who WHERE hash = ?", (self._database.hash(person),)).fetchone()
        if row is None:
            return 0, 0
        theirs = "person > 0 AND person = ? AND gone = 0 AND second <= ? LIMIT ?"
        events = connection.execute(
            f"{_NO_EVENT} number IN (SELECT number FROM event WHERE {theirs})", (*row, until, most)
        ).rowcount
        decisions = connection.execute(
            f"{_NO_DECISION} number IN (SELECT number FROM decision WHERE {theirs})", (*row, until, most - events)
        ).rowcount
        if events + decisions < most:
            connection.execute(f"{_NOBODY} number = ? AND {_UNSEEN}", row)
        return events, decisions

    def sweep(self, received_before: dict[EventKind.ValueType, int], decisions_before: int) -> int:
        """See EventLog."""
        old = " OR ".join(f"kind = {int(kind)} AND received < {second}" for kind, second in received_before.items())
        swept = self._sweep("event", _NO_EVENT, old or "0")
        decisions = self._sweep("decision", _NO_DECISION, f"second < {decisions_before}")
        persons = self._sweep("who", _NOBODY, _UNSEEN)
        if self._remove_blanks() or swept or decisions or persons:
            self._database.forget()
        return swept

    def record(self, decisions: Sequence[LoggedDecision]) -> None:
        """See EventLog."""
        with self._database.writing(is_flushed=False) as connection:  # decisions are logged, not promised
            numbers = self._numbers(connection, {decision.person for decision in decisions})
            rows = [
                (self._key(decision_id), numbers[person], second, decision_id, record)
                for decision_id, person, second, record in decisions
            ]
            last = len(rows) - len(rows) % _RECORDED_AT_ONCE
            for first in range(0, last, _RECORDED_AT_ONCE):
                some = rows[first : first + _RECORDED_AT_ONCE]
                connection.execute(_RECORD.format(", ".join([_ROW] * len(some))), list(chain.from_iterable(some)))
            connection.executemany(_RECORD.format(_ROW), rows[last:])

    def decisions(self, decision_ids: Sequence[str]) -> list[LoggedDecision]:
        """See EventLog."""
        found = [self._decisions("decision.hash = ?", (self._key(one),)) for one in decision_ids]
        return [decision for rows in found for _, decision in rows]

    def decisions_after(self, number: int, limit: int) -> list[tuple[int, LoggedDecision]]:
        """See EventLog."""
        return self._decisions("decision.number > ? ORDER BY decision.number LIMIT ?", (number, limit))

    def end(self) -> tuple[str, int, int]:
        """See EventLog."""
        with self._database.reading() as connection:
            (secret,) = connection.execute("SELECT secret FROM store").fetchone()
            given = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        return identity_of(secret), given.get("event", 0), given.get("decision", 0)

    def decisions_of(self, persons: Sequence[Person]) -> list[LoggedDecision]:
        """See EventLog."""
        return list(chain.from_iterable(self.decision_pages_of(persons)))

    def decision_pages_of(self, persons: Sequence[Person]) -> Iterator[list[LoggedDecision]]:
        """See EventLog."""
        for numbers in self._pages("decision", persons):
            condition = f"decision.number IN ({numbers}) ORDER BY second, decision.number"
            yield [decision for _, decision in self._decisions(condition, ())]

    def close(self) -> None:
        """See EventLog."""
        self._database.close()

    def _having(self, event_ids: Sequence[str], condition: str) -> set[str]:
        """Return the ids of events that are in the log and meet a condition."""
        query = f"SELECT 1 FROM event WHERE hash = ? {condition}"
        with self._database.reading() as connection:
            return {one for one in event_ids if connection.execute(query, (self._database.hash(one),)).fetchone()}

    def _key(self, decision_id: str) -> bytes:
        """Return the hash a decision is found by; for ids that begin with the time, the hash does so, too.

        Rows that are appended together are then neighbours in the index; otherwise each would touch its own page.
        """
        key = self._database.hash_once(decision_id)
        if len(decision_id) == _UUID_DIGITS and decision_id[_VERSION] == "7":
            try:  # noqa: SIM105 - runs for every decision, and suppress() is slow
                key = bytes.fromhex(decision_id[:_VERSION]) + key[: -_VERSION // 2]
            except ValueError:  # not hexadecimal: no UUID
                pass
        return key

    def _numbers(self, connection: sqlite3.Connection, persons: Iterable[Person]) -> dict[Person, int]:
        """Return the numbers of persons, inserting those who have none; 0 for nobody."""
        names = {self._database.hash(person): person for person in persons if person}
        rows = found(connection, "SELECT hash, number FROM who WHERE hash IN", list(names))
        numbers = {"": 0} | {names[name]: number for name, number in rows}
        for name, person in names.items():
            if person not in numbers:
                query = "INSERT INTO who (hash, gone, name) VALUES (?, 0, ?) RETURNING number"
                (numbers[person],) = connection.execute(query, (name, person)).fetchone()
        return numbers

    def _insert(self, connection: sqlite3.Connection, event: LoggedEvent, person: int, applied: bool) -> bool:  # noqa: FBT001 - private
        event_id, _, second, received, kind, catalog, offer_id, geohash, learn, body = event
        cursor = connection.execute(
            "INSERT INTO event (hash, gone, applied, person, second, received, kind, learn, event_id, catalog,"
            " offer_id, geohash, body) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING",
            (
                self._database.hash(event_id), int(applied), person, second, received, int(kind), int(learn), event_id,
                catalog, offer_id, geohash, body,
            ),
        )  # fmt: skip
        return cursor.rowcount == 1

    def _pages(self, table: str, persons: Sequence[Person]) -> Iterator[str]:
        """Yield the numbers of rows of a person's ids, by time, joined by commas, PAGE at a time.

        The numbers of all rows are read first, and no transaction stays open while pages are taken.
        """
        hashes = [self._database.hash(one) for one in persons]
        theirs = f"SELECT number FROM who WHERE hash IN ({', '.join('?' * len(hashes))})"
        query = f"SELECT number FROM {table} WHERE gone = 0 AND person > 0 AND person IN ({theirs})"
        with translated(self._database.path):
            rows = self._database.connection().execute(f"{query} ORDER BY second, number", hashes)
            numbers = array("q", chain.from_iterable(rows))
        for first in range(0, len(numbers), PAGE):
            yield ", ".join(map(str, numbers[first : first + PAGE]))

    def _events(self, condition: str, parameters: tuple[Any, ...]) -> list[NumberedEvent]:
        with translated(self._database.path):
            rows = self._database.connection().execute(f"{_EVENTS} {condition}", parameters).fetchall()
        return [NumberedEvent(row[0], LoggedEvent._make((*row[1:9], bool(row[9]), row[10]))) for row in rows]

    def _decisions(self, condition: str, parameters: tuple[Any, ...]) -> list[tuple[int, LoggedDecision]]:
        with translated(self._database.path):
            rows = self._database.connection().execute(f"{_DECISIONS} {condition}", parameters).fetchall()
        return [(number, LoggedDecision(*rest)) for number, *rest in rows]

    def _sweep(self, table: str, change: str, condition: str) -> int:
        swept = last = 0
        while True:  # in batches, so that others can write in between
            with self._database.writing() as connection:
                query = f"SELECT number FROM {table} WHERE number > ? AND gone = 0 AND ({condition}) LIMIT ?"
                rows = connection.execute(query, (last, _SWEPT_AT_ONCE)).fetchall()
                connection.executemany(f"{change} number = ?", rows)
            swept += len(rows)
            if len(rows) < _SWEPT_AT_ONCE:
                return swept
            last = rows[-1][0]

    def _remove_blanks(self) -> bool:
        """Remove blanked rows from logs that mostly consist of them; return whether any were removed.

        Only this moves rows, so the file must be rewritten afterwards.
        """
        full = []
        with self._database.reading() as connection:
            for table in ("event", "decision"):
                (blanks,) = connection.execute(f"SELECT count(*) FROM {table} WHERE gone = 1").fetchone()
                if blanks >= _WORTH_REWRITING:
                    (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
                    if 2 * blanks > rows:
                        full.append(table)
        if full:
            with self._database.writing() as connection:
                connection.execute("UPDATE store SET rewrite = 1")  # survives a crash before the rewrite
                for table in (*full, "who"):
                    connection.execute(f"DELETE FROM {table} WHERE gone = 1")
        return bool(full)
