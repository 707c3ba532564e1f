"""What people take up, learned for recommendation from the log's events in the order they were taken in."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from offers.learning.held import LoggedEvent
from offers.learning.recommend.recommender import People, learn
from offers.learning.recommend.scores import Model, Scratch
from offers.learning.recommend.slots import wider
from offers.learning.values import Offers
from offers.model.acts import NO_TRAITS, visits_of
from offers.model.events import KINDS, WEIGHTS
from offers.model.keys import key_of
from offers.model.visits import MAX_VISITS, NOTHING, VISIT, place_of
from offers.v1.event_pb2 import Event


class Room(NamedTuple):
    """For how many of each there is room."""

    items: int
    places: int
    pairs: int
    """Of a place and an item."""
    people: int


FIRST, MOST = Room(4_096, 1_024, 8_192, 512), Room(65_536, 16_384, 262_144, 4_096)
"""At first, and at most. Room is doubled when half of it is taken, so that what is published every second or so is as
small as the catalogue lets it be: 4 MB at first, 36 MB at most, some more than the weights of propensity. What there is
no room for is what weighs least. People are for learning what habits tell, for which some thousands are enough: 25 MB
of each checkpoint."""
PARTNERS = 16
"""Of each item, those most often taken with it: 12 bytes each. A decision reads those of ten items."""
LEARNED_AT_ONCE = 512
"""Visits after which it is looked whether there is room: a count, so that it does not depend on how the log is cut."""
_TABLES = (
    ("popularity", "items", "item_keys", ("item_weights", "item_hours")),
    ("popularity", "places", "place_keys", ("place_weights", "place_hours")),
    ("popularity", "pairs", "pair_keys", ("pair_weights",)),
    ("cooccurrence", "items", "source_keys", ("source_weights", "partner_keys", "partner_weights")),
)
_KINDS: dict[int, str] = {KINDS[kind]: kind for kind in WEIGHTS}
_MODEL, _PEOPLE = "recommend.", "people."
_KEPT = 1 << 16


class LoggedVisit(LoggedEvent, Protocol):
    """An event as the log gives it: see state.stores."""

    @property
    def person(self) -> str: ...  # noqa: D102
    @property
    def geohash(self) -> str: ...  # noqa: D102


class Visited:
    """The model of recommendation and the people it is learned from: the same events leave the same of both."""

    def __init__(self) -> None:
        self.model = Model.empty(items=FIRST.items, places=FIRST.places, pairs=FIRST.pairs, partners=PARTNERS)
        self.people = People.empty(people=FIRST.people, visits=MAX_VISITS)
        self.learned = 0
        """Visits."""
        self._scratch = Scratch.empty(partners=PARTNERS)
        self._persons: list[int] = []
        self._places: list[int] = []
        self._visits = bytearray()

    def happened(self, event: LoggedVisit, offers: Offers) -> None:
        """Take the next event; those of nobody, and those that may not be learned from, say nothing."""
        kind = _KINDS.get(event.kind)
        if kind is None or not (event.learn and event.person):
            return
        told = Event.FromString(event.body)
        item, traits = offers.item(told.catalog, told.offer_id) if told.offer_id else (NOTHING, NO_TRAITS)
        time_zone = offers.time_zones.get(told.catalog, "UTC")
        visits = visits_of(told, kind, event.geohash, time_zone, item, traits)
        count = len(visits) // VISIT.itemsize
        self._visits += visits
        self._persons += [_person(event.person)] * count
        self._places += [_place(event.geohash)] * count

    def flush(self) -> None:
        """Learn from all events that were taken."""
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
        """The arrays of the model, by the names they are published by, and what is said of it."""
        room = self.model.popularity
        said = {
            "items": room.item_keys.size,
            "places": room.place_keys.size,
            "pairs": room.pair_keys.size,
            "partners": PARTNERS,
            "visits": self.learned,
        }
        return {_MODEL + name: array for name, array in self.model.arrays().items()}, said

    def kept(self) -> dict[str, NDArray[Any]]:
        """All that `restored` needs, but for the number of visits. Flush before."""
        people = {_PEOPLE + name: array for name, array in self.people._asdict().items()}
        return self.published()[0] | people

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], learned: int) -> Self:
        """As it was when `kept` gave these arrays."""
        own = cls()
        own.learned = learned
        own.model = recommendation(arrays, copied=True)
        own.people = People(**{name: arrays[_PEOPLE + name].copy() for name in People._fields})
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


def recommendation(arrays: Mapping[str, NDArray[Any]], *, copied: bool = False) -> Model:
    """The model of recommendation among a published model's arrays, over them or `copied`."""
    own = {name.removeprefix(_MODEL): array for name, array in arrays.items() if name.startswith(_MODEL)}
    return Model.of({name: array.copy() for name, array in own.items()} if copied else own)


def _is_full(keys: NDArray[np.int64], most: int) -> bool:
    return keys.size < most and bool(2 * np.count_nonzero(keys) > keys.size)


@lru_cache(_KEPT)
def _person(person: str) -> int:
    """The key of a person, who is in the learner's own files alone."""
    return key_of("person", "", person)


@lru_cache(_KEPT)
def _place(geohash: str) -> int:
    return place_of(geohash)
