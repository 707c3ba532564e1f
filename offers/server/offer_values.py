"""Reads the attributes of offers, as models see them, from the snapshots that are served."""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import structlog

from offers.catalogue.compile.messages import read_head, read_offers
from offers.catalogue.compile.timetable import DEFAULT_TIME_ZONE
from offers.catalogue.publish import publish
from offers.catalogue.published import stamp
from offers.catalogue.rules.models import MAX_NAMES
from offers.catalogue.snapshot import Snapshot, open_snapshot
from offers.decision.directory import Directory
from offers.errors import OffersError
from offers.learning.propensity.rows import offer_values
from offers.learning.values import CatalogueFacts, no_item, sum_of
from offers.model.keys import key_of

ITEMS_KEPT = 16_384
"""Offers whose item and traits are cached."""
_OWN = ("category", "brand", "campaign")
"""Attributes of all offers, by the names models use; the others are catalogue attributes."""
OpenSnapshot = Callable[[Path], Snapshot]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class CatalogueReader:
    """Reads snapshots, and reads again when they change."""

    def __init__(self, paths: Callable[[], Sequence[Path]], open_it: OpenSnapshot = open_snapshot) -> None:
        """Make a reader; `paths` returns the current snapshots, which `open_it` opens."""
        self._paths, self._open = paths, open_it
        self._seen: Sequence[Path] = ()
        self._trouble = ""

    def read(self) -> CatalogueFacts:
        """Read the current snapshots. Raises OffersError or OSError where one cannot be read."""
        paths = self._paths()
        told = offers_of(paths, self._open)
        self._seen = paths  # only now, so that a failed read is tried again
        self._trouble = ""
        return told

    def look(self) -> CatalogueFacts | None:
        """Read the snapshots if they have changed, else return None; failures are logged, and also None."""
        try:
            return self.read() if self._paths() != self._seen else None
        except (OffersError, OSError) as error:
            if str(error) != self._trouble:  # logged once for each cause
                log.warning("catalogue_not_taken_up", error=str(error))
            self._trouble = str(error)
            return None


class Documents:
    """Publishes documents whenever they change."""

    def __init__(self, sources: Sequence[Path], data_dir: Path) -> None:
        self._sources, self._data_dir = sources, data_dir
        self._stamps: dict[Path, object] = {}
        self._published: dict[Path, Path] = {}

    def __call__(self) -> list[Path]:
        """Return their snapshots. Raises CatalogError or OSError, once for each change, for an unusable document."""
        for source in self._sources:
            now = stamp(source)
            if self._stamps.get(source) != now:
                self._stamps[source] = now
                self._published[source] = publish(source, self._data_dir).path
        return list(self._published.values())


def offers_of(snapshots: Sequence[Path], open_it: OpenSnapshot = open_snapshot) -> CatalogueFacts:
    """Return the offers of some snapshots, one of each catalogue. Raises SnapshotError for an unreadable one."""
    heads = [read_head(path) for path in snapshots]
    tables = {head.catalog_id: _OfferAttributes(path) for head, path in zip(heads, snapshots, strict=True)}
    met = Counter(name for table in tables.values() for name in table.names if name not in _OWN)
    names = sorted(met, key=lambda name: (-met[name], name))
    if left_out := names[MAX_NAMES:]:
        log.warning("attributes_left_out", most=MAX_NAMES, left_out=left_out)

    directories = {}
    for path in snapshots:
        snapshot = open_it(path)
        name = snapshot.meta["catalog_id"]
        directories[name] = Directory(name, snapshot.columns, snapshot.meta)

    def values(catalog: str, offer: str) -> Mapping[str, object]:
        return tables[catalog].values(offer) if catalog in tables else {}

    @lru_cache(ITEMS_KEPT)
    def item(catalog: str, offer: str) -> tuple[int, Sequence[int]]:
        number = directories[catalog].number_of(offer) if catalog in directories else None
        return directories[catalog].item(number) if number is not None else no_item(catalog, offer)

    return CatalogueFacts(
        ("campaign", *sorted(names[:MAX_NAMES])),
        values,
        {head.catalog_id: head.time_zone or DEFAULT_TIME_ZONE for head in heads},
        frozenset(name for head in heads for name in head.sensitive_attributes),
        item,
        tuple(dict.fromkeys(tuple(one.attributes) for head in heads for one in head.interactions)),
        {head.catalog_id: sum_of(head.order_value_scale) for head in heads if head.HasField("order_value_scale")},
    )


class _OfferAttributes:
    """The attributes of a catalogue's offers in arrays: a few bytes for each of perhaps a million offers."""

    def __init__(self, snapshot: Path) -> None:
        keys = array("q")
        columns = {name: array("i") for name in _OWN}
        numbers: dict[object, int] = {"": 0}
        for offer in read_offers(snapshot):
            values = offer_values(offer)
            for name in values.keys() - columns.keys():
                columns[name] = array("i", bytes(4 * len(keys)))
            for name, column in columns.items():
                column.append(numbers.setdefault(values.get(name, ""), len(numbers)))
            keys.append(_key(offer.offer_id))
        order = np.argsort(np.array(keys, np.int64))
        self.names = tuple(columns)
        self._keys = np.array(keys, np.int64)[order]
        self._numbers = np.array(list(columns.values()), np.int32).T[order]
        self._values = list(numbers)

    def values(self, offer: str) -> dict[str, object]:
        """Return the attributes of an offer by name; empty for an unknown offer."""
        key = _key(offer)
        index = int(np.searchsorted(self._keys, key))
        if index == len(self._keys) or self._keys[index] != key:
            return {}
        return {
            name: self._values[number]
            for name, number in zip(self.names, self._numbers[index].tolist(), strict=True)
            if number
        }


def _key(offer: str) -> int:
    return key_of("offer", "", offer)
