"""A SQLite file shared by threads of several processes, in which erased data leaves no trace.

`secure_delete` overwrites deleted rows, but not the copies that SQLite leaves behind when it moves rows between pages
to balance a tree: one row in a hundred can still be found in the file. Rows with personal data are therefore never
moved:

- Rows of logs are only appended, and blanked in place (events.py).
- Records of persons lie in overflow pages, which do not move (state.py).
- Trees with keys in arbitrary order contain only keyed hashes and numbers.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from offers.errors import OtherStoreError, StoreUnavailableError, UnusableStoreError
from offers.state.identity import Identity
from offers.state.per_thread import PerThread
from offers.state.sqlite.checkpoints import Checkpointer
from offers.state.sqlite.flushing import Flusher
from offers.state.sqlite.recognition import FORMATS, WAIT_S, connect, secret_in
from offers.state.sqlite.watching import Watch

PAGE_SIZE = 4096
_FORMAT = FORMATS[-1]
_SECRET_BYTES = 32
_HASHES_KEPT = 4096
_ASKED_AT_ONCE = 500
_CACHED_KIB = 4_096
"""Page cache of each connection, of which each thread has one. Commits of others empty it: a larger one costs more."""
_WHOLE = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_PART = ("SAVEPOINT part", "RELEASE part", ("ROLLBACK TO part", "RELEASE part"))
"""Statements that begin, end and undo a transaction, and a nested one."""
_LOG_PAGES = 4096
"""Pages of the write-ahead log at which it is copied into the file: writers wait for it, with two disk flushes."""
_SCHEMA = """
CREATE TABLE store (one INTEGER PRIMARY KEY CHECK (one = 1), secret BLOB NOT NULL, rewrite INTEGER NOT NULL);

CREATE TABLE name (hash BLOB PRIMARY KEY, record INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE record (number INTEGER PRIMARY KEY AUTOINCREMENT, changed INTEGER NOT NULL, content BLOB NOT NULL);
CREATE TABLE tombstone (hash BLOB PRIMARY KEY, second INTEGER NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE who (
    number INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE, gone INTEGER NOT NULL, name TEXT NOT NULL
);
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE, gone INTEGER NOT NULL,
    applied INTEGER NOT NULL, person INTEGER NOT NULL, second INTEGER NOT NULL, received INTEGER NOT NULL,
    kind INTEGER NOT NULL, learn INTEGER NOT NULL, event_id TEXT NOT NULL, catalog TEXT NOT NULL,
    offer_id TEXT NOT NULL, geohash TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX event_unapplied ON event (number) WHERE applied = 0 AND gone = 0;
CREATE INDEX event_gone ON event (number) WHERE gone = 1;
CREATE INDEX event_person ON event (person) WHERE person > 0 AND gone = 0;
CREATE TABLE decision (
    number INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE, gone INTEGER NOT NULL, person INTEGER NOT NULL,
    second INTEGER NOT NULL, decision_id TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX decision_gone ON decision (number) WHERE gone = 1;
CREATE INDEX decision_person ON decision (person) WHERE person > 0 AND gone = 0;

CREATE TABLE used (
    budget TEXT NOT NULL, period INTEGER NOT NULL, units INTEGER NOT NULL, micros INTEGER NOT NULL,
    PRIMARY KEY (budget, period)
) WITHOUT ROWID;
CREATE TABLE redemption (
    redemption TEXT PRIMARY KEY, phase TEXT NOT NULL, second INTEGER NOT NULL, demands BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX redemption_second ON redemption (phase, second);
"""
_ADDED = """
CREATE TABLE due (record INTEGER PRIMARY KEY, second INTEGER NOT NULL);
CREATE INDEX due_second ON due (second);
CREATE TRIGGER record_gone AFTER DELETE ON record BEGIN DELETE FROM due WHERE record = old.number; END;
CREATE TABLE note (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE lease (one INTEGER PRIMARY KEY CHECK (one = 1), holder TEXT NOT NULL, until INTEGER NOT NULL);
"""
"""Added to files of format 2 when they are opened. `rewatch` computes when their persons are due."""
_ADDED_LAST = """
ALTER TABLE redemption ADD COLUMN event_id TEXT NOT NULL DEFAULT '';
ALTER TABLE redemption ADD COLUMN confirm_event_id TEXT NOT NULL DEFAULT '';
ALTER TABLE redemption ADD COLUMN offer TEXT NOT NULL DEFAULT '';
ALTER TABLE redemption ADD COLUMN person BLOB NOT NULL DEFAULT x'';
ALTER TABLE redemption ADD COLUMN units INTEGER;
ALTER TABLE redemption ADD COLUMN micros INTEGER;
ALTER TABLE redemption ADD COLUMN currency TEXT NOT NULL DEFAULT '';
CREATE TABLE redeemed (
    redemption TEXT NOT NULL, cap INTEGER NOT NULL, person BLOB NOT NULL, second INTEGER NOT NULL,
    matters INTEGER NOT NULL, PRIMARY KEY (redemption, cap)
) WITHOUT ROWID;
CREATE INDEX redeemed_person ON redeemed (person, cap);
CREATE INDEX redeemed_matters ON redeemed (matters);
"""
"""Added to files of format 3 when they are opened."""


class Database:
    """The file. Each thread reads by its own connection; all write by one, so that its cache stays valid.

    All methods raise StoreUnavailableError. So does the constructor, unless it `waits`: then a file that cannot be used
    is opened later, when it can be. `identity` says which file it must be, and None that any will do.
    """

    def __init__(
        self, path: Path, *, is_flushed: bool = True, identity: Identity | None = None, waits: bool = False
    ) -> None:
        self.path = path
        self._identity = identity
        self._own = threading.local()
        self._held = PerThread[sqlite3.Connection](sqlite3.Connection.close)
        self._turn = threading.RLock()
        self._checkpointer = Checkpointer(path, lambda: self._connect(wait_s=0), self._turn)
        self._flusher = Flusher(path, self._checkpointer.empty) if is_flushed else None
        self._writer: sqlite3.Connection | None = None
        self._transactions = 0
        self._watch = Watch(path, self._reopen)
        self._secret = b""
        self.hash = lru_cache(_HASHES_KEPT)(self.hash_once)
        """`hash_once`, cached for texts that recur within a moment."""
        try:
            self._open()
        except StoreUnavailableError as error:
            if not waits:
                self.close()
                raise
            self._watch.lose(error)

    def hash_once(self, text: str) -> bytes:
        """Return a one-way hash of 16 bytes of a text, keyed with a secret of the file."""
        if not self._secret:
            self._watch.check()
        keyed = self._keyed.copy()
        keyed.update(text.encode())
        return keyed.digest()

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection: the writer's during its transaction, else its own in autocommit mode."""
        self._watch.check()
        try:
            own: sqlite3.Connection = self._own.connection
        except AttributeError:
            own = self._own.connection = self._connect()
            self._held.keep(own)
        return own

    @property
    def transaction(self) -> int:
        """Return the number of this thread's write transaction; 0 outside one."""
        return self._transactions if self.connection() is self._writer else 0

    @contextmanager
    def writing(self, *, is_flushed: bool = True) -> Iterator[sqlite3.Connection]:
        """Run a write transaction, or a nested one within this thread's; any exception rolls it back.

        It is on the disk when the block ends, unless a setting or the caller does without.
        """
        with translated(self.path):
            with self._committing() as connection:
                yield connection
            if not self.transaction:
                if self._flusher is not None and is_flushed:
                    self._flusher.wait()
                self._watch.check_now()  # nothing is acknowledged that went into a removed file

    @contextmanager
    def _committing(self) -> Iterator[sqlite3.Connection]:
        # Threads of this process queue here: SQLite makes them sleep and retry, the unlucky ones for seconds.
        with self._turn:
            outer = self.connection()
            connection = self._writer = self._writer or self._connect()
            begin, end, undo = _WHOLE if outer is not connection else _PART
            connection.execute(begin)
            own = self._own
            own.connection = connection
            self._transactions += outer is not connection
            try:
                yield connection
                connection.execute(end)
            except BaseException:
                if connection.in_transaction:
                    for statement in undo:
                        connection.execute(statement)
                raise
            finally:
                own.connection = outer

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Run a read transaction; within this thread's write transaction, reads see what it has written."""
        with translated(self.path):
            connection = self.connection()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def forget(self) -> None:
        """Have all traces of deleted and overwritten data removed from the files, soon, without waiting for it.

        They are gone once no reader is left that began before; see Checkpointer.
        """
        self._checkpointer.ask()

    def close(self) -> None:
        """Close all threads' connections."""
        self._checkpointer.close()
        self._held.close()
        if self._flusher is not None:
            self._flusher.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._own = threading.local()

    def check(self) -> list[str]:
        """Use the file once; return what is wrong with it, beside what ends the call."""
        with self.reading():
            return []

    def _reopen(self) -> None:
        """Open the file that is at the path, unless a write is under way. Threads get new connections."""
        if not self._turn.acquire(blocking=False):
            raise UnusableStoreError(f"{self.path} was replaced while it was in use")
        try:
            if self._writer is not None:
                if getattr(self._own, "connection", None) is self._writer:
                    raise UnusableStoreError(f"{self.path} was replaced while it was in use")
                self._writer.close()
                self._writer = None
            self._own = threading.local()
            self._open()
        finally:
            self._turn.release()

    def _open(self) -> None:
        """Open the file, and create it if there is none and none is expected. Keeps the connection as the writer's."""
        try:
            found = secret_in(self.path)
            if self._secret and found != self._secret:
                raise OtherStoreError(f"{self.path} was replaced by another store: put the old one back")
            if self._identity is not None:
                self._identity.expect(found)
            secret = self._create()
            self._watch.opened()
        except (sqlite3.Error, OSError) as error:
            is_busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
            kind = StoreUnavailableError if is_busy else UnusableStoreError
            raise kind(f"{self.path}: {error}") from error
        if self._identity is not None:
            self._identity.record(secret)
        self._keyed, self._secret = blake2b(key=secret, digest_size=16), secret
        if self._checkpointer.has_old_log:  # of a process that was killed: maybe before it could empty it
            self.forget()

    def _create(self) -> bytes:
        """Create the file, or convert it to the present format, where that is needed. Returns its secret."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Readable by its owner alone. An existing file is not opened: closing it would release this process's locks.
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._writer = connection = self._connect()
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            _run(connection, _SCHEMA)
            connection.execute("INSERT INTO store VALUES (1, ?, 0)", (secrets.token_bytes(_SECRET_BYTES),))
        if version in {0, 2}:
            _run(connection, _ADDED)
        if version in {0, 2, 3}:
            _run(connection, _ADDED_LAST)
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
        (secret,) = connection.execute("SELECT secret FROM store").fetchone()
        connection.execute("COMMIT")
        if self._flusher is not None:
            self._flusher.wait()
        return bytes(secret)

    def _connect(self, *, wait_s: float = WAIT_S) -> sqlite3.Connection:
        connection = connect(self.path, wait_s, check_same_thread=False)
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        _set_journal(connection, self.path)
        connection.execute("PRAGMA synchronous = NORMAL")  # `writing` flushes, once for all that wait
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA mmap_size = 0")  # a mapped file that is cut short ends the process (SIGBUS)
        connection.execute(f"PRAGMA cache_size = -{_CACHED_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        return connection


def _set_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Have a connection use the write-ahead log. Retries, as SQLite itself does not wait here for other processes."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            if connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",):
                return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise StoreUnavailableError(f"{path} is in use: try again")
        time.sleep(0.01)


def _run(connection: sqlite3.Connection, statements: str) -> None:
    """Run statements within a transaction; each must end at the end of a line."""
    for statement in statements.split(";\n"):
        connection.execute(statement)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise errors of the file as StoreUnavailableError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailableError(f"{path}: {error}") from error


def blank(*columns: str) -> str:
    """Return SQL that overwrites columns with zeros of the same length, so that the row does not move."""
    return ", ".join(f"{column} = zeroblob(length(CAST({column} AS BLOB)))" for column in columns)


def found(connection: sqlite3.Connection, query: str, hashes: Sequence[bytes]) -> list[Any]:
    """Return the rows of a query that ends in IN, for any number of hashes.

    One statement for each hash would take several times as long.
    """
    rows = list[Any]()
    for first in range(0, len(hashes), _ASKED_AT_ONCE):
        some = hashes[first : first + _ASKED_AT_ONCE]
        rows += connection.execute(f"{query} ({', '.join('?' * len(some))})", some).fetchall()
    return rows
