"""A decision in five stages: resolve, retrieve, screen, score, arrange.

    resolve    names to numbers: placement and strategy, terms, the state of every schedule
    retrieve   which entries are within reach of the location
    screen     which of them may be shown: terms, windows, opening hours, fallbacks last
    score      how good each is
    arrange    the best, in order, with all an answer says of them

The loops stand in kernels.py. Time and seed are arguments: the same snapshot and query give the same decision.
"""

import threading
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from offers.catalogue.schedules import Schedule
from offers.catalogue.snapshot import Snapshot
from offers.decision import kernels
from offers.decision.hours import HoursBook
from offers.decision.records import Column, Outcome, Record, Scratchpad, Terms
from offers.errors import FieldViolation, InvalidRequestError
from offers.model.decision import Decision
from offers.model.query import MAX_OFFERS, Query

CANDIDATES = 16_384
"""Candidates a thread has room for at first; grown to need. Most decisions have some hundreds."""
TERMS_KEPT = 4096
"""Combinations of placement, language, currency and channel whose terms are kept; apps use a few dozen."""


class Placing(NamedTuple):
    """A placement as the engine reads it."""

    channel: str
    strategy: int
    max_offers: int


_NO_SEED = np.uint64(0)
_UNKNOWN = int(Outcome.unknown)  # indexing by an enum's member takes a while


class _Room(threading.local):
    """Each thread's scratch memory."""

    pad: Scratchpad | None = None


class Engine:
    """Decides over one snapshot. Safe to use from several threads."""

    def __init__(self, snapshot: Snapshot) -> None:
        meta = snapshot.meta
        self.snapshot = snapshot
        self.catalog_id: str = meta["catalog_id"]
        self.version = snapshot.version.encode()
        self.columns = Record(Column, snapshot.columns)
        schedules = [Schedule(tuple(rules), zone, country) for rules, zone, country in meta["schedules"]]
        self._hours = HoursBook(self.columns, schedules, meta["zones"], meta["time_zone"])
        self._placements = {
            name: Placing(placement["channel"], placement["strategy"], placement["max_offers"] or MAX_OFFERS)
            for name, placement in meta["placements"].items()
        }
        self._default = Placing("", meta["default_strategy"], MAX_OFFERS)
        self._terms = [tuple(frozenset(names) for names in terms) for terms in meta["terms"]]
        self._allowed = lru_cache(TERMS_KEPT)(self._work_out_terms)
        self._chains = int(meta["chains"])
        self._schedules = len(schedules)
        self._room = _Room()

    def decide(self, query: Query) -> tuple[Decision, Scratchpad]:
        """Decide, and return with the decision the thread's scratch, in which the chosen offers stand.

        The scratch is overwritten by the thread's next decision. Raises InvalidRequestError for an unknown placement.
        """
        # Resolve.
        placing = self._placing(query)
        terms = self._allowed(query.placement, query.language, query.currency, query.channel or placing.channel)
        hours = self._hours.at(query.time, query.time_zone)
        room = self._room.pad or self._grown(CANDIDATES)
        columns, table = self.columns.table, room.table
        most = min(query.max_offers, placing.max_offers)
        seed = np.uint64(query.seed) if query.seed >= 0 else _NO_SEED
        while True:
            # Retrieve.
            found = kernels.retrieve(columns, table, terms.table, query.latitude, query.longitude, query.time)
            if found > room.capacity:
                room = self._grown(2 * found)
                table = room.table
                continue
            # Screen.
            kept = kernels.screen(columns, hours.table, table, terms.table, found, query.time)
            outcome = room.outcome.tolist()
            if outcome[_UNKNOWN]:
                self._look_up(hours, room, query)
                continue
            # Score.
            kernels.score(columns, table, placing.strategy, kept, query.time)
            # Arrange.
            count = kernels.arrange(
                columns, hours.table, table, placing.strategy, seed, query.seed >= 0, most, kept, query.time
            )
            if room.outcome[_UNKNOWN]:
                self._look_up(hours, room, query)
                continue
            refresh_after, refresh_distance_m, _ = outcome
            return Decision(count, kept, int(refresh_after), refresh_distance_m, placing.strategy), room

    def _placing(self, query: Query) -> Placing:
        if not query.placement:
            return self._default
        placing = self._placements.get(query.placement)
        if placing is None:
            known = _listed(self._placements)
            reason = f"unknown placement '{query.placement}': the catalogue '{self.catalog_id}' has {known}"
            raise InvalidRequestError([FieldViolation("placement", reason)])
        if placing.channel and query.channel and placing.channel != query.channel:
            reason = (
                f"placement '{query.placement}' belongs to channel '{placing.channel}', not '{query.channel}': "
                "leave the channel out, or ask for a placement of that channel"
            )
            raise InvalidRequestError([FieldViolation("context.channel", reason)])
        return placing

    def _work_out_terms(self, placement: str, language: str, currency: str, channel: str) -> Record:
        """Per distinct terms, whether they admit a request. What a request leaves out admits all."""
        parts = language.split("-")
        languages = {"-".join(parts[:count]) for count in range(1, len(parts) + 1)}
        admits = np.array([
            (not placement or not placements or placement in placements)
            and (not language or not tags or not tags.isdisjoint(languages))
            and (not currency or not currencies or currency in currencies)
            and (not channel or not channels or channel in channels)
            for placements, tags, currencies, channels in self._terms
        ], np.uint8)  # fmt: skip
        return Record(Terms, {"admits": admits})

    def _grown(self, candidates: int) -> Scratchpad:
        pad = self._room.pad = Scratchpad(candidates, self._chains, self._schedules)
        return pad

    def _look_up(self, hours: Record, room: Scratchpad, query: Query) -> None:
        """Look up the schedules that the last stage found unknown."""
        unknown = room.arrays["unknown"][: int(room.outcome[_UNKNOWN])].tolist()
        self._hours.look_up(hours, unknown, query.time, query.time_zone)


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    if not shown:
        return "none"
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
