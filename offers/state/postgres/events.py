"""The log of events and decisions in PostgreSQL. Erased rows leave its files when it vacuums and recycles them."""

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psycopg
import structlog
from psycopg.abc import RV, Buffer, PQGen
from psycopg.pq import TransactionStatus
from psycopg.types.string import StrDumper, TextLoader

from offers.errors import OffersError, SettingsError, StoreUnavailableError, UnusableStoreError
from offers.state.addresses import address_in, malformed
from offers.state.circuit import Circuit
from offers.state.identity import Identity
from offers.state.per_thread import PerThread
from offers.state.stores import EVER, LoggedDecision, LoggedEvent, NumberedEvent, Person, StateStore
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
_SWEPT_AT_ONCE = 1000
_SECRET_BYTES = 32
SETTING, SCHEME = "events_url", "postgresql"
_REFUSING = ("FATAL", "resolve host", "translate host name", "received invalid response", "expected authentication",
             "SSL error", "does not support SSL", "certificate", "no password supplied")  # fmt: skip
"""Words of failures to connect that come from an answer; libpq gives them no codes."""
_PASSING = ("starting up", "shutting down", "recovery", "too many clients", "connection slots", "too many connections",
            "administrator command")  # fmt: skip
"""Words of refusals that end by themselves."""
_CONNECT_S = 2
"""The least that libpq accepts."""

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


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up on a server that does not answer."""

    limit_s = 60.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """See psycopg.Connection."""
        try:
            return super().wait(gen, interval, timeout or self.limit_s)
        except psycopg.OperationalError:
            if (
                self.pgconn.transaction_status == TransactionStatus.ACTIVE
            ):  # a late answer would be taken for that of the next query
                self.close()
            raise


class PostgresEvents:
    """An EventLog in PostgreSQL, with one connection for each thread, replaced when it is lost."""

    def __init__(self, url: str, timeout_s: float, identity: Identity) -> None:
        address = address_in(SETTING, SCHEME, url)
        self.name = f"PostgreSQL at {address.host}:{address.port}"
        try:
            psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            if "query parameter" not in str(error):  # other messages repeat what may be a password
                raise malformed(SETTING, SCHEME) from None
            raise SettingsError(f"{SETTING}: {str(error).strip()}") from None
        self._url = url
        self._identity = identity
        self._timeout_s = timeout_s
        self._circuit = Circuit(self.name)
        self._own = PerThread[_Connection](_Connection.close)

    def check(self) -> list[str]:
        """Use the server once; return what is wrong with its settings.

        Raises UnusableStoreError if it answers and cannot be used, else StoreUnavailableError.
        """
        try:
            self._connect().close()
        except psycopg.Error as error:
            if is_refusal(error):
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
        found = self._events("person <> '' AND person = ANY(%s) ORDER BY second, number", list(persons))
        return [event for _, event in found]

    def erase(self, persons: Sequence[Person], until: int = EVER) -> int:
        """See EventLog."""
        with self._writing() as connection:
            condition = "WHERE person <> '' AND person = ANY(%s) AND second <= %s"
            connection.execute(f"DELETE FROM offers_decision {condition}", [list(persons), until])
            return connection.execute(f"DELETE FROM offers_event {condition}", [list(persons), until]).rowcount

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

    def decisions_of(self, persons: Sequence[Person]) -> list[LoggedDecision]:
        """See EventLog."""
        rows = self._rows(f"{_DECISIONS} person <> '' AND person = ANY(%s) ORDER BY second, number", list(persons))
        return [LoggedDecision(*rest) for _, *rest in rows]

    def close(self) -> None:
        """See EventLog."""
        self._own.close()

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
    def _writing(self) -> Iterator[_Connection]:
        """Run a transaction that excludes other writers."""
        with self._connected() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[_Connection]:
        self._circuit.enter()
        try:
            yield self._connection()
        except psycopg.DataError as error:
            kind = type(error).__qualname__  # its message may contain personal data
            raise _UnstorableError(f"{self.name} cannot keep this, now or later: {kind}") from error
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                self._circuit.failed()
            raise StoreUnavailableError(f"{self.name}: {error}") from error
        self._circuit.succeeded()

    def _connection(self) -> _Connection:
        own = self._own.get()
        if own is None or own.closed:
            own = self._connect()
            self._own.keep(own)
        return own

    def _connect(self) -> _Connection:
        made = _Connection.connect(self._url, autocommit=True, connect_timeout=_CONNECT_S, client_encoding="UTF8")
        if (encoding := made.info.parameter_status("server_encoding")) != "UTF8":
            made.close()
            raise UnusableStoreError(f"{self.name}: its encoding is {encoding}: name a database with UTF8")
        try:
            made.limit_s = self._timeout_s
            made.adapters.register_dumper(str, _Escaped)
            made.adapters.register_loader("text", _Unescaped)
            with made.transaction():
                made.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                self._agree(made)
        except BaseException:
            made.close()
            raise
        return made

    def _agree(self, connection: _Connection) -> None:
        """Create what is missing, unless a log is expected. Raises OtherStoreError for another log than before."""
        (is_there,) = connection.execute("SELECT to_regclass('offers_store') IS NOT NULL").fetchone() or (False,)
        if not is_there:
            self._identity.expect(b"")
        connection.execute(_SCHEMA)
        connection.execute(
            "INSERT INTO offers_store VALUES (1, %s) ON CONFLICT DO NOTHING", [secrets.token_bytes(_SECRET_BYTES)]
        )
        row = connection.execute("SELECT secret FROM offers_store").fetchone()
        assert row is not None  # noqa: S101 - for the type checker
        self._identity.record(bytes(row[0]))


def is_refusal(error: psycopg.Error) -> bool:
    """Return whether a failure to connect says that the URL is wrong, not that nothing answers at the moment."""
    text = str(error)
    if not isinstance(error, psycopg.OperationalError):  # a server without the right to write, such as a replica
        return True
    spoken = any(word in text for word in _REFUSING)
    return spoken and not any(word in text for word in _PASSING)


def _discarded(ids: set[str], event_id: str) -> bool:
    """Remove an id from a set; return whether it was there."""
    if event_id in ids:
        ids.remove(event_id)
        return True
    return False
