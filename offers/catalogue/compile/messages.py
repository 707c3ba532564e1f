"""The messages of a snapshot's document, stored beside its arrays and read by id, for explanations.

Messages are stored in blocks, each a compressed Catalog, in a database with one row per block and per id. The first
block has everything but offers, venues and zones.
"""

import sqlite3
import zlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError, Message

from offers.catalogue.definitions import ID_NAMES, Definitions
from offers.catalogue.document import varint
from offers.errors import SnapshotError
from offers.model.keys import key_of, keys_of
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Offer

FILE = "messages.sqlite"
BLOCK = 64
"""Messages of a block: enough to compress well, and few enough to be read for a single message."""
MOST_PACKED = 64
"""Most blocks that wait for the compressing thread."""
_FAULTS = (sqlite3.Error, zlib.error, DecodeError, TypeError)
"""Errors of reading a damaged file; the last is that of a missing row."""
_APART = ("venues", "zones")
_TAGS = {name: varint(Catalog.DESCRIPTOR.fields_by_name[name].number << 3 | 2) for name in ("offers", *_APART)}
"""The tag before each message of a list in an encoded Catalog."""
_ID_NAMES = {"offers": "offer_id", **ID_NAMES}


@contextmanager
def writing(path: Path, checked: Definitions) -> "Iterator[MessageWriter]":
    """Write the file of a document's messages while the context is open. Raises OSError when it cannot be written."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection, ThreadPoolExecutor(1) as packer:
            writer = MessageWriter(connection, packer, checked)
            yield writer
            writer.finish()
    except sqlite3.Error as error:
        message = f"cannot write {path}: {error}"
        raise OSError(message) from error


class MessageWriter:
    """Writes the messages of a document: definitions at once, and offers in any order."""

    def __init__(self, connection: sqlite3.Connection, packer: ThreadPoolExecutor, checked: Definitions) -> None:
        self._connection = connection
        self._packer = packer
        self._packed: deque[Future[bytes]] = deque()
        self._connection.execute("PRAGMA journal_mode = OFF")  # an unfinished file is discarded
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("CREATE TABLE block (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
        self._connection.execute("CREATE TABLE place (key INTEGER PRIMARY KEY, block INTEGER NOT NULL)")
        self._connection.execute("BEGIN")
        self._keys, self._blocks, self._number, self._written = array("q"), array("q"), 0, 0
        self._ids: dict[str, list[str]] = {name: [] for name in ("offers", *_APART)}
        common = Catalog()
        common.CopyFrom(checked.catalog)
        for name in ID_NAMES:
            if name not in _APART:
                getattr(common, name).extend(getattr(checked, name).values())
        self._pending = [common.SerializeToString()]
        self._flush()
        for name in _APART:
            for identity, message in getattr(checked, name).items():
                self._add(name, identity, message)

    def add(self, offer: Offer) -> None:
        """Write an offer."""
        self._add("offers", offer.offer_id, offer)

    def _add(self, name: str, identity: str, message: Message) -> None:
        encoded = message.SerializeToString()
        self._pending += (_TAGS[name], varint(len(encoded)), encoded)
        self._ids[name].append(identity)
        if len(self._pending) == 3 * BLOCK:
            self._flush()

    def finish(self) -> None:
        """Write the pending messages and the index of ids."""
        self._flush()
        self._write(0)
        keys, blocks = np.array(self._keys, np.int64), np.array(self._blocks, np.int64)
        order = np.argsort(keys)
        rows = zip(keys[order].tolist(), blocks[order].tolist(), strict=True)
        self._connection.executemany("INSERT OR REPLACE INTO place VALUES (?, ?)", rows)
        self._connection.execute("COMMIT")

    def _flush(self) -> None:
        self._packed.append(self._packer.submit(zlib.compress, b"".join(self._pending), 1))  # half of the work
        self._write(MOST_PACKED)
        for name, ids in self._ids.items():
            self._keys.extend(keys_of(name, "", ids))
            self._blocks.extend([self._number] * len(ids))
            ids.clear()
        self._pending.clear()
        self._number += 1

    def _write(self, most: int) -> None:
        """Write compressed blocks until at most `most` wait."""
        while len(self._packed) > most:
            packed = self._packed.popleft().result()
            self._connection.execute("INSERT INTO block VALUES (?, ?)", (self._written, packed))
            self._written += 1


def read_messages(snapshot: Path, offer_ids: Iterable[str], venue_ids: Iterable[str] = ()) -> Catalog:
    """Read offers of a snapshot with the definitions they refer to; unknown ids are left out.

    `venue_ids` are further venues to read. Raises SnapshotError when the file cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"file:{snapshot / FILE}?mode=ro&immutable=1", uri=True)) as connection:
            return _Reader(connection).read(offer_ids, venue_ids)
    except _FAULTS as error:
        raise _unreadable(snapshot, error) from error


def read_head(snapshot: Path) -> Catalog:
    """Read everything of a document but offers, venues and zones. Raises SnapshotError."""
    return read_messages(snapshot, ())


def read_offers(snapshot: Path) -> Iterator[Offer]:
    """Yield all offers of a snapshot. Raises SnapshotError."""
    try:
        with closing(sqlite3.connect(f"file:{snapshot / FILE}?mode=ro&immutable=1", uri=True)) as connection:
            for (packed,) in connection.execute("SELECT bytes FROM block WHERE number > 0 ORDER BY number"):
                yield from Catalog.FromString(zlib.decompress(packed)).offers
    except _FAULTS as error:
        raise _unreadable(snapshot, error) from error


def _unreadable(snapshot: Path, error: Exception) -> SnapshotError:
    return SnapshotError(f"{snapshot / FILE} cannot be read ({error}): compile the catalogue again")


class _Reader:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[int, Catalog] = {}

    def read(self, offer_ids: Iterable[str], venue_ids: Iterable[str]) -> Catalog:
        found = Catalog()
        found.CopyFrom(self._block(0))
        self._copy("offers", offer_ids, found)
        zone_ids: list[str] = []
        more_venues = [*venue_ids]
        for offer in found.offers:
            more_venues += offer.target.venue_ids
            zone_ids += [*offer.target.zone_ids, *offer.target.excluded_zone_ids]
        self._copy("venues", more_venues, found)
        seen: set[str] = set()
        while zone_ids:
            before = len(found.zones)
            self._copy("zones", [one for one in zone_ids if one not in seen], found)
            seen.update(zone_ids)
            zone_ids = [one for zone in found.zones[before:] for one in (*zone.zone_ids, *zone.excluded_zone_ids)]
        return found

    def _copy(self, name: str, ids: Iterable[str], target: Catalog) -> None:
        for identity in dict.fromkeys(ids):
            row = self._connection.execute(
                "SELECT block FROM place WHERE key = ?", (key_of(name, "", identity),)
            ).fetchone()
            for message in getattr(self._block(row[0]), name) if row else ():
                if getattr(message, _ID_NAMES[name]) == identity:
                    getattr(target, name).append(message)

    def _block(self, number: int) -> Catalog:
        if number not in self._known:
            (packed,) = self._connection.execute("SELECT bytes FROM block WHERE number = ?", (number,)).fetchone()
            self._known[number] = Catalog.FromString(zlib.decompress(packed))
        return self._known[number]
