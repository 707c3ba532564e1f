"""Trains the recommendation model from the log's events, in the order in which they were received."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from offers.learning.log_reading import VisitEntry
from offers.learning.recommend.recommender import RecentVisitors, learn
from offers.learning.recommend.scores import RecommendationModel, ScoreScratch
from offers.learning.recommend.slots import wider
from offers.learning.values import CatalogueFacts
from offers.model.acts import NO_TRAITS, visits_of
from offers.model.events import KINDS, WEIGHTS
from offers.model.keys import key_of
from offers.model.visits import MAX_VISITS, NOTHING, VISIT, place_of
from offers.v1.event_pb2 import Event


class TableSizes(NamedTuple):
    """Capacities of the tables."""

    items: int
    places: int
    pairs: int
    """Pairs of a place and an item."""
    people: int


FIRST, MOST = TableSizes(4_096, 1_024, 8_192, 512), TableSizes(65_536, 16_384, 262_144, 4_096)
"""Capacities at first, and at most.

A table is doubled when it is half full, so that the model, which is published about every second, is as small as the
catalogue allows: 4 MB at first, 36 MB at most, which is little more than the weights of propensity. A full table drops
the entries of least weight. People serve only to learn the weights of habits, for which some thousands are enough; they
are 25 MB of each checkpoint.
"""
PARTNERS = 16
"""Partners of each item: those most often taken with it, 12 bytes each. A decision reads the partners of ten items."""
LEARNED_AT_ONCE = 512
"""Visits after which tables are checked for room: a count, so that pages of the log make no difference."""
_TABLES = (
    ("popularity", "items", "item_keys", ("item_weights", "item_hours")),
    ("popularity", "places", "place_keys", ("place_weights", "place_hours")),
    ("popularity", "pairs", "pair_keys", ("pair_weights",)),
    ("cooccurrence", "items", "source_keys", ("source_weights", "partner_keys", "partner_weights")),
)
_KINDS: dict[int, str] = {KINDS[kind]: kind for kind in WEIGHTS}
_MODEL, _PEOPLE = "recommend.", "people."
_KEPT = 1 << 16


class VisitTraining:
    """The recommendation model and the people it is trained from. The same events always give the same of both."""

    def __init__(self) -> None:
        self.model = RecommendationModel.empty(
            items=FIRST.items, places=FIRST.places, pairs=FIRST.pairs, partners=PARTNERS
        )
        self.people = RecentVisitors.empty(people=FIRST.people, visits=MAX_VISITS)
        self.learned = 0
        """Number of visits so far."""
        self._scratch = ScoreScratch.empty(partners=PARTNERS)
        self._persons: list[int] = []
        self._places: list[int] = []
        self._visits = bytearray()

    def add_event(self, event: VisitEntry, catalogues: CatalogueFacts) -> None:
        """Take in the next event. Events without a person, or without consent to learning, are ignored."""
        kind = _KINDS.get(event.kind)
        if kind is None or not (event.learn and event.person):
            return
        told = Event.FromString(event.body)
        item, traits = catalogues.item(told.catalog, told.offer_id) if told.offer_id else (NOTHING, NO_TRAITS)
        time_zone = catalogues.time_zones.get(told.catalog, "UTC")
        visits = visits_of(told, kind, event.geohash, time_zone, item, traits)
        count = len(visits) // VISIT.itemsize
        self._visits += visits
        self._persons += [_person(event.person)] * count
        self._places += [_place(event.geohash)] * count

    def flush(self) -> None:
        """Learn from all events that were taken in."""
        persons, places = np.array(self._persons, np.int64), np.array(self._places, np.int64)
        visits = np.frombuffer(bytes(self._visits), VISIT)
        self._persons, self._places, self._visits = [], [], bytearray()
        first = 0
        while first < len(visits):
            some = slice(first, first + LEARNED_AT_ONCE - self.learned % LEARNED_AT_ONCE)
            learn(self.model, self.people, persons[some], places[some], visits[some], self._scratch)
            first, count = some.stop, len(visits[some])
            self.learned += count
            if self.learned % LEARNED_AT_ONCE == 0:
                self._make_room()

    def published(self) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        """Return the model's arrays by their published names, and its description."""
        room = self.model.popularity
        description = {
            "items": room.item_keys.size,
            "places": room.place_keys.size,
            "pairs": room.pair_keys.size,
            "partners": PARTNERS,
            "visits": self.learned,
        }
        return {_MODEL + name: array for name, array in self.model.arrays().items()}, description

    def to_save(self) -> dict[str, NDArray[Any]]:
        """Return all arrays that `restored` needs. Flush before."""
        people = {_PEOPLE + name: array for name, array in self.people._asdict().items()}
        return self.published()[0] | people

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], learned: int) -> Self:
        """Return the training as it was when `to_save` returned these arrays, after a number of visits."""
        own = cls()
        own.learned = learned
        own.model = recommendation(arrays, copied=True)
        own.people = RecentVisitors(**{name: arrays[_PEOPLE + name].copy() for name in RecentVisitors._fields})
        return own

    def _make_room(self) -> None:
        for part, kind, keys, rows in _TABLES:
            table = getattr(self.model, part)
            if _is_full(getattr(table, keys), getattr(MOST, kind)):
                moved = wider(getattr(table, keys), *(getattr(table, name) for name in rows))
                table = table._replace(**dict(zip((keys, *rows), moved, strict=True)))
                self.model = self.model._replace(**{part: table})
        if _is_full(self.people.keys, MOST.people):
            keys_, seen, counts, histories = wider(*self.people[:4])
            self.people = self.people._replace(keys=keys_, seen=seen, counts=counts, histories=histories)


def recommendation(arrays: Mapping[str, NDArray[Any]], *, copied: bool = False) -> RecommendationModel:
    """Return the recommendation model among the arrays of a published model, over them or `copied`."""
    own = {name.removeprefix(_MODEL): array for name, array in arrays.items() if name.startswith(_MODEL)}
    return RecommendationModel.of({name: array.copy() for name, array in own.items()} if copied else own)


def _is_full(keys: NDArray[np.int64], most: int) -> bool:
    return keys.size < most and bool(2 * np.count_nonzero(keys) > keys.size)


@lru_cache(_KEPT)
def _person(person: str) -> int:
    """Return the key of a person. Such keys are only in the learner's own files."""
    return key_of("person", "", person)


@lru_cache(_KEPT)
def _place(geohash: str) -> int:
    return place_of(geohash)
