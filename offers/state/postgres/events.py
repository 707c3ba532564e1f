"""The log of events and decisions in PostgreSQL. Erased rows leave its files when it vacuums and recycles them."""

import re
import secrets
from array import array
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import psycopg
import structlog
from psycopg.abc import Buffer
from psycopg.types.string import StrDumper, TextLoader

from offers.errors import OffersError, SettingsError, StoreUnavailableError, UnusableStoreError
from offers.state.addresses import address_in, malformed
from offers.state.circuit import Circuit
from offers.state.identity import Identity, identity_of
from offers.state.postgres.connections import Connection, Connections
from offers.state.stores import EVER, PAGE, LoggedDecision, LoggedEvent, NumberedEvent, Person, StateStore
from offers.v1.event_pb2 import EventKind

_LOCK = 7_163_354_087_201_526_401
"""Advisory lock of all writers, so that numbers become visible in their order. The value is arbitrary."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS offers_event (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id text NOT NULL UNIQUE, person text NOT NULL,
    second bigint NOT NULL, received bigint NOT NULL, kind int NOT NULL, catalog text NOT NULL, offer_id text NOT NULL,
    geohash text NOT NULL, learn bool NOT NULL, body bytea NOT NULL, applied bool NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS offers_event_unapplied ON offers_event (number) WHERE NOT applied;
CREATE INDEX IF NOT EXISTS offers_event_person ON offers_event (person) WHERE person <> '';
CREATE INDEX IF NOT EXISTS offers_event_received ON offers_event (kind, received);
CREATE TABLE IF NOT EXISTS offers_decision (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, decision_id text NOT NULL UNIQUE, person text NOT NULL,
    second bigint NOT NULL, body bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS offers_decision_person ON offers_decision (person) WHERE person <> '';
CREATE INDEX IF NOT EXISTS offers_decision_second ON offers_decision (second);
CREATE TABLE IF NOT EXISTS offers_store (one int PRIMARY KEY CHECK (one = 1), secret bytea NOT NULL);
"""
_EVENTS = """
    SELECT number, event_id, person, second, received, kind, catalog, offer_id, geohash, learn, body
    FROM offers_event WHERE"""
_DECISIONS = "SELECT number, decision_id, person, second, body FROM offers_decision WHERE"
_LAST = "coalesce(pg_sequence_last_value(pg_get_serial_sequence(%s, 'number')::regclass), 0)"
_TABLES = ("offers_event", "offers_decision")
_SWEPT_AT_ONCE = 1000
_SECRET_BYTES = 32
SETTING, SCHEME = "events_url", "postgresql"
_REFUSING = ("FATAL", "resolve host", "translate host name", "received invalid response", "expected authentication",
             "SSL error", "does not support SSL", "certificate", "no password supplied")  # fmt: skip
"""Words of failures to connect that come from an answer; libpq gives them no codes."""
_PASSING = ("starting up", "shutting down", "recovery", "too many clients", "connection slots", "too many connections",
            "administrator command", "statement timeout", "lock timeout")  # fmt: skip
"""Words of refusals that end by themselves."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _UnstorableError(OffersError):
    """A value that no column can store, now or later."""


class _Escaped(StrDumper):
    """Escapes text, as PostgreSQL cannot store NUL characters."""

    def dump(self, obj: str) -> Buffer | None:
        """See psycopg.adapt.Dumper."""
        return super().dump(obj.replace("\\", "\\\\").replace("\0", "\\0"))


class _Unescaped(TextLoader):
    """Reverts _Escaped."""

    def load(self, data: Buffer) -> bytes | str:
        """See psycopg.adapt.Loader."""
        text = bytes(data).decode()
        return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else "\\", text) if "\\" in text else text


class PostgresEvents:
    """An EventLog in PostgreSQL."""

    def __init__(self, url: str, timeout_s: float, connections: int, identity: Identity) -> None:
        """Open no connection yet, and `connections` at most; a call takes `timeout_s` at most, or two to connect.

        `identity` says which store it must be.
        """
        address = address_in(SETTING, SCHEME, url)
        self.name = f"PostgreSQL at {address.host}:{address.port}"
        self._identity = identity
        try:
            self._connections = Connections(
                url, self.name, timeout_s=timeout_s, most=connections, prepare=self._prepare
            )
        except psycopg.ProgrammingError as error:
            if "query parameter" not in str(error):  # other messages repeat what may be a password
                raise malformed(SETTING, SCHEME) from None
            raise SettingsError(f"{SETTING}: {str(error).strip()}") from None
        self._circuit = Circuit(self.name)
        self._has_tables = False

    def check(self) -> list[str]:
        """Use the server once; return what is wrong with its settings.

        Raises UnusableStoreError if it answers and cannot be used, else StoreUnavailableError.
        """
        try:
            with self._connections.borrowed() as connection:
                self._make_tables(connection)
        except psycopg.Error as error:
            if _is_refusal(error):
                raise UnusableStoreError(f"{self.name}: {error}") from error
            raise StoreUnavailableError(f"{self.name}: {error}") from error
        return []

    def together(self, state: StateStore) -> AbstractContextManager[bool]:  # noqa: ARG002 - no state store is in PostgreSQL
        """See EventLog."""
        return nullcontext(enter_result=False)

    def append(self, events: Sequence[LoggedEvent], *, applied: bool = False) -> list[bool]:
        """See EventLog."""
        with self._writing() as connection:
            rows = connection.execute(
                "INSERT INTO offers_event"
                " (applied, event_id, person, second, received, kind, catalog, offer_id, geohash, learn, body)"
                " SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::int[], %s::text[],"
                " %s::text[], %s::text[], %s::bool[], %s::bytea[]) ON CONFLICT DO NOTHING RETURNING event_id",
                [applied, *([list(column) for column in zip(*events, strict=True)] or [[]] * len(LoggedEvent._fields))],
            ).fetchall()
        new = {event_id for (event_id,) in rows}
        return [_discarded(new, event.event_id) for event in events]

    def known(self, event_ids: Sequence[str]) -> set[str]:
        """See EventLog."""
        query = "SELECT event_id FROM offers_event WHERE event_id = ANY(%s)"
        return {event_id for (event_id,) in self._rows(query, list(event_ids))}

    def find(self, event_id: str) -> LoggedEvent | None:
        """See EventLog."""
        found = self._events("event_id = %s", event_id)
        return found[0].event if found else None

    def unapplied(self, limit: int) -> list[LoggedEvent]:
        """See EventLog."""
        return [event for _, event in self._events("NOT applied ORDER BY number LIMIT %s", limit)]

    def pending(self, event_ids: Sequence[str]) -> set[str]:
        """See EventLog."""
        query = "SELECT event_id FROM offers_event WHERE event_id = ANY(%s) AND NOT applied"
        return {event_id for (event_id,) in self._rows(query, list(event_ids))}

    def applied(self, event_ids: Sequence[str]) -> None:
        """See EventLog."""
        # Rows are locked in order, so that two callers cannot deadlock.
        query = (
            "UPDATE offers_event SET applied = true FROM (SELECT number AS one FROM offers_event"
            " WHERE event_id = ANY(%s) AND NOT applied ORDER BY number FOR UPDATE) AS locked"
            " WHERE number = one RETURNING 1"
        )
        self._rows(query, list(event_ids))

    def read(self, after: int, limit: int) -> list[NumberedEvent]:
        """See EventLog."""
        return self._events("number > %s ORDER BY number LIMIT %s", after, limit)

    def of_person(self, persons: Sequence[Person]) -> list[LoggedEvent]:
        """See EventLog."""
        return list(chain.from_iterable(self.pages_of(persons)))

    def pages_of(self, persons: Sequence[Person]) -> Iterator[list[LoggedEvent]]:
        """See EventLog."""
        for numbers in self._pages("offers_event", persons):
            yield [event for _, event in self._events("number = ANY(%s) ORDER BY second, number", numbers)]

    def erase(self, persons: Sequence[Person], until: int = EVER) -> int:
        """See EventLog."""
        erased, found = 0, [PAGE]
        while max(found) == PAGE:  # a transaction for PAGE rows, so that others can write between them
            with self._writing() as connection:
                found = [
                    connection.execute(
                        f"DELETE FROM {table} WHERE number = ANY(ARRAY(SELECT number FROM {table} "
                        "WHERE person <> '' AND person = ANY(%s) AND second <= %s LIMIT %s))",
                        [list(persons), until, PAGE],
                    ).rowcount
                    for table in ("offers_decision", "offers_event")
                ]
            erased += found[1]
        return erased

    def sweep(self, received_before: dict[EventKind.ValueType, int], decisions_before: int) -> int:
        """See EventLog."""
        swept = 0
        for kind, second in received_before.items():
            swept += self._sweep("offers_event", "kind = %s AND received < %s", int(kind), second)
        self._sweep("offers_decision", "second < %s", decisions_before)
        return swept

    def record(self, decisions: Sequence[LoggedDecision]) -> None:
        """See EventLog. A decision that can never be stored is dropped, with a message in the process log."""
        try:
            self._record(decisions)
        except _UnstorableError as error:
            if len(decisions) == 1:
                log.error("decision_dropped", error=str(error))  # noqa: TRY400 - a trace may contain personal data
                return
            for one in decisions:
                self.record([one])

    def _record(self, decisions: Sequence[LoggedDecision]) -> None:
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO offers_decision (decision_id, person, second, body)"
                " SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bytea[]) ON CONFLICT DO NOTHING",
                [
                    [one.decision_id for one in decisions],
                    [one.person for one in decisions],
                    [one.second for one in decisions],
                    [one.record for one in decisions],
                ],
            )

    def decisions(self, decision_ids: Sequence[str]) -> list[LoggedDecision]:
        """See EventLog."""
        rows = self._rows(f"{_DECISIONS} decision_id = ANY(%s) ORDER BY number", list(decision_ids))
        return [LoggedDecision(*rest) for _, *rest in rows]

    def decisions_after(self, number: int, limit: int) -> list[tuple[int, LoggedDecision]]:
        """See EventLog."""
        rows = self._rows(f"{_DECISIONS} number > %s ORDER BY number LIMIT %s", number, limit)
        return [(found, LoggedDecision(*rest)) for found, *rest in rows]

    def end(self) -> tuple[str, int, int]:
        """See EventLog."""
        ((secret, event, decision),) = self._rows(f"SELECT secret, {_LAST}, {_LAST} FROM offers_store", *_TABLES)
        return identity_of(bytes(secret)), event, decision

    def decisions_of(self, persons: Sequence[Person]) -> list[LoggedDecision]:
        """See EventLog."""
        return list(chain.from_iterable(self.decision_pages_of(persons)))

    def decision_pages_of(self, persons: Sequence[Person]) -> Iterator[list[LoggedDecision]]:
        """See EventLog."""
        for numbers in self._pages("offers_decision", persons):
            rows = self._rows(f"{_DECISIONS} number = ANY(%s) ORDER BY second, number", numbers)
            yield [LoggedDecision(*rest) for _, *rest in rows]

    def close(self) -> None:
        """See EventLog."""
        self._connections.close()

    def _pages(self, table: str, persons: Sequence[Person]) -> Iterator[list[int]]:
        """Yield the numbers of rows of a person's ids, by time, PAGE at a time."""
        query = f"SELECT number FROM {table} WHERE person <> '' AND person = ANY(%s) ORDER BY second, number"
        numbers = array("q", chain.from_iterable(self._rows(query, list(persons))))
        for first in range(0, len(numbers), PAGE):
            yield numbers[first : first + PAGE].tolist()

    def _events(self, condition: str, *parameters: object) -> list[NumberedEvent]:
        return [
            NumberedEvent(number, LoggedEvent._make(rest))
            for number, *rest in self._rows(f"{_EVENTS} {condition}", *parameters)
        ]

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._connected() as connection:
            return connection.execute(query, parameters).fetchall()

    def _sweep(self, table: str, condition: str, *parameters: object) -> int:
        swept = 0
        while True:  # in batches, so that none takes long
            old = f"SELECT number FROM {table} WHERE {condition} LIMIT {_SWEPT_AT_ONCE}"
            rows = self._rows(f"DELETE FROM {table} WHERE number = ANY(ARRAY({old})) RETURNING 1", *parameters)
            swept += len(rows)
            if len(rows) < _SWEPT_AT_ONCE:
                return swept

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Run a transaction that excludes other writers."""
        with self._connected() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        self._circuit.enter()
        try:
            with self._connections.borrowed() as connection:
                if not self._has_tables:
                    self._make_tables(connection)
                yield connection
        except psycopg.DataError as error:
            kind = type(error).__qualname__  # its message may contain personal data
            raise _UnstorableError(f"{self.name} cannot keep this, now or later: {kind}") from error
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                self._circuit.failed()
            elif isinstance(error, psycopg.errors.UndefinedTable):
                self._has_tables = False
            raise StoreUnavailableError(f"{self.name}: {error}") from error
        self._circuit.succeeded()

    def _prepare(self, connection: Connection) -> None:
        """Check and set up a new connection."""
        if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
            raise UnusableStoreError(f"{self.name}: its encoding is {encoding}: name a database with UTF8")
        connection.adapters.register_dumper(str, _Escaped)
        connection.adapters.register_loader("text", _Unescaped)
        self._identity.expect(_secret_in(connection))

    def _make_tables(self, connection: Connection) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            connection.execute(_SCHEMA)
            own = [secrets.token_bytes(_SECRET_BYTES)]
            connection.execute("INSERT INTO offers_store VALUES (1, %s) ON CONFLICT DO NOTHING", own)
            self._identity.record(_secret_in(connection))
        self._has_tables = True


def _secret_in(connection: Connection) -> bytes:
    """Return the secret of a store; b"" where there is none."""
    try:
        row = connection.execute("SELECT secret FROM offers_store").fetchone()
    except psycopg.errors.UndefinedTable:
        return b""
    return bytes(row[0]) if row else b""


def _is_refusal(error: psycopg.Error) -> bool:
    """Return whether a failure to connect says that the URL is wrong, not that nothing answers at the moment."""
    text = str(error)
    if any(word in text for word in _PASSING):
        return False
    if not isinstance(error, psycopg.OperationalError):  # a server without the right to write, such as a replica
        return True
    return any(word in text for word in _REFUSING)


def _discarded(ids: set[str], event_id: str) -> bool:
    """Remove an id from a set; return whether it was there."""
    if event_id in ids:
        ids.remove(event_id)
        return True
    return False
