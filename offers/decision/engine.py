"""A decision in five stages: resolve, retrieve, screen, score, arrange.

    resolve    names to numbers: placement and strategy, terms, the state of every schedule
    retrieve   which entries are within reach of the location
    screen     which of them may be shown: terms, windows, place, opening hours, reach, fallbacks last
    score      how good they are: those that may be among the best
    arrange    the best that the placement's layout allows, in order, with all an answer says of them

`Engine.decide` resolves, the compiled `decide` below does the rest, and each stage has its file.
Time and seed are arguments: the same snapshot and query give the same decision.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.catalogue.schedules import Part, Schedule
from offers.catalogue.snapshot import Snapshot
from offers.decision.arrange import arrange
from offers.decision.hours import SLICE_S, HoursAt, HoursBook
from offers.decision.records import (
    NO_ROOM,
    Column,
    Outcome,
    Record,
    Scratch,
    Scratchpad,
    StandingFact,
    Table,
    Terms,
    f8,
    reached_of,
)
from offers.decision.retrieve import retrieve
from offers.decision.score import score
from offers.decision.screen import screen
from offers.decision.standing import sorted_record, stand, standing_record
from offers.errors import FieldViolation, InvalidRequestError
from offers.model.decision import Decision
from offers.model.query import MAX_OFFERS, Query, Surface

SURFACES_KEPT = 4096
"""Surfaces that are kept resolved; apps have a few dozen, times their languages and currencies."""
_HALF = 2**63

STANDING_BYTES = 32 << 20
"""Memory for the offers shown everywhere, as worked out for surfaces and minutes; some of them at least."""

LOOK_UP = -1
"""In place of a count: schedules of unknown state must be looked up; then decide again."""


class Placing(NamedTuple):
    """A placement as the engine reads it."""

    channel: str
    strategy: int
    max_offers: int
    limits: tuple[int, int, int]
    """Offers per venue, brand and category; 0: no limit."""


class Resolved(NamedTuple):
    """A surface in the snapshot's numbers."""

    strategy: int
    terms: Record
    """Of Terms."""


class StandingAt(NamedTuple):
    """The offers shown everywhere that may be shown to a surface over a span of time."""

    record: Record
    """Of Standing."""
    begin: int
    """Seconds between which that holds."""
    end: int


@njit(cache=True)
def decide(  # noqa: PLR0913, PLR0917 - what a decision depends on
    columns: Table, hours: Table, standing: Table, scratch: Table, terms: Table, strategy: int,
    latitude: float, longitude: float, sigma: float, growth: float, time: int, seed: int, seeded: int,
) -> int:  # fmt: skip
    """Write the offers of a decision into the scratch; returns how many, or LOOK_UP or NO_ROOM."""
    outcome = f8(scratch, Scratch.outcome)
    widening = sigma * f8(columns, Column.widest_fringe)[0]
    found = retrieve(columns, scratch, terms, latitude, longitude, widening, time)
    outcome[Outcome.found] = found
    if found > len(reached_of(scratch)):
        return NO_ROOM
    kept = screen(columns, hours, standing, scratch, terms, found, latitude, longitude, sigma, growth, time)
    if kept == NO_ROOM:
        return NO_ROOM
    if outcome[Outcome.unknown]:
        return LOOK_UP
    listed = score(columns, scratch, strategy, seed, seeded, kept, time)
    count = arrange(columns, hours, standing, scratch, terms, strategy, seed, seeded, listed, kept, time)
    return LOOK_UP if outcome[Outcome.unknown] else count


class Engine:
    """Decides over one snapshot. Safe to use from several threads."""

    def __init__(self, snapshot: Snapshot) -> None:
        meta = snapshot.meta
        self.snapshot = snapshot
        self.catalog_id: str = meta["catalog_id"]
        version = int(snapshot.version, 16)
        self.version = version if version < _HALF else version - 2 * _HALF
        """The snapshot's version as a signed number."""
        self.columns = Record(Column, snapshot.columns)
        schedules = [
            Schedule(
                tuple(
                    Part(tuple(rules), zone, country, tuple(position), margin)
                    for rules, zone, country, position, margin in parts
                )
            )
            for parts in meta["schedules"]
        ]
        self._hours = HoursBook(self.columns, schedules, meta["zones"], meta["time_zone"])
        self._placements = {
            name: Placing(
                placement["channel"],
                placement["strategy"],
                placement["max_offers"] or MAX_OFFERS,
                tuple(placement["limits"]),
            )
            for name, placement in meta["placements"].items()
        }
        self._default = Placing("", meta["default_strategy"], MAX_OFFERS, (0, 0, 0))
        self._terms = [tuple(frozenset(names) for names in terms) for terms in meta["terms"]]
        self.resolve = lru_cache(SURFACES_KEPT)(self._work_out)
        """A surface in the snapshot's numbers. Raises InvalidRequestError for an unknown placement."""
        self.chains = int(meta["chains"])
        self._everywhere = len(snapshot.columns["entry"]) - int(snapshot.columns["standing_first"][0])
        self._standing: OrderedDict[tuple[int, Record, int, str], StandingAt] = OrderedDict()

    def hours(self, query: Query) -> HoursAt:
        """The states of all schedules at a query's time."""
        return self._hours.at(query.time, query.surface.time_zone)

    def standing(self, query: Query) -> StandingAt:
        """The offers shown everywhere that may be shown at a query's time, to its surface."""
        strategy, terms = self.resolve(query.surface)
        hours, time = self.hours(query), query.time
        key = strategy, terms, hours.begin, hours.time_zone
        known = self._standing.get(key)
        if known is None or not known.begin <= time < known.end:
            known = self._standing[key] = self._stand(query, strategy, terms, hours)
        with contextlib.suppress(KeyError):  # another thread may have let it go
            self._standing.move_to_end(key)
            while len(self._standing) > max(8, STANDING_BYTES // (32 * self._everywhere + 512)):
                self._standing.popitem(last=False)
        return known

    def _stand(self, query: Query, strategy: int, terms: Record, hours: HoursAt) -> StandingAt:
        filled, unknown = standing_record(self._everywhere), np.empty(self._everywhere * 2, np.int32)
        tables = self.columns.table, hours.record.table, terms.table
        while unknowns := stand(*tables, strategy, query.time, hours.end, filled.table, unknown):
            numbers = unknown[:unknowns].tolist()
            self._hours.look_up(hours.record, numbers, query.time, query.surface.time_zone)
        end = int(filled.arrays["facts"][StandingFact.change])
        return StandingAt(sorted_record(self.columns, filled), query.time, min(end, hours.end))

    def roll(self, now: int, seconds: float = SLICE_S) -> bool:
        """Bring what is worked out ahead up to date: see `HoursBook.roll`."""
        return self._hours.roll(now, seconds)

    def decide(self, query: Query, pad: Scratchpad) -> Decision:
        """Decide, and leave the chosen offers in the pad. Raises InvalidRequestError for an unknown placement."""
        surface, time, latitude, longitude, seed, _, sigma, growth = query
        strategy, terms = self.resolve(surface)
        hours, standing = self.hours(query).record, self.standing(query).record
        signed = seed if seed < _HALF else seed - 2 * _HALF
        if pad.chains < self.chains:
            pad.fit(pad.candidates, self.chains)
        while True:
            count = decide(
                self.columns.table, hours.table, standing.table, pad.table, terms.table, strategy,
                latitude, longitude, sigma, growth, time, signed, seed >= 0,
            )  # fmt: skip
            refresh_after, refresh_distance_m, unknown, found, eligible, *_ = pad.arrays["outcome"].tolist()
            if count == NO_ROOM:
                pad.fit(2 * int(found), pad.chains)
            elif count == LOOK_UP:
                numbers = pad.arrays["unknown"][: int(unknown)].tolist()
                self._hours.look_up(hours, numbers, time, surface.time_zone)
            else:
                return Decision(count, int(eligible), int(refresh_after), refresh_distance_m, strategy)

    def _work_out(self, surface: Surface) -> Resolved:
        placing = self._placing(surface)
        channel = surface.channel or placing.channel
        admits = self._admitting(surface.placement, surface.language, surface.currency, channel)
        layout = np.array([min(surface.max_offers, placing.max_offers), *placing.limits, surface.full], np.int32)
        return Resolved(placing.strategy, Record(Terms, {"admits": admits, "layout": layout}))

    def _placing(self, surface: Surface) -> Placing:
        if not surface.placement:
            return self._default
        placing = self._placements.get(surface.placement)
        if placing is None:
            known = _listed(self._placements)
            reason = f"unknown placement '{surface.placement}': the catalogue '{self.catalog_id}' has {known}"
            raise InvalidRequestError([FieldViolation("placement", reason)])
        if placing.channel and surface.channel and placing.channel != surface.channel:
            reason = (
                f"placement '{surface.placement}' belongs to channel '{placing.channel}', not '{surface.channel}': "
                "leave the channel out, or ask for a placement of that channel"
            )
            raise InvalidRequestError([FieldViolation("context.channel", reason)])
        return placing

    def _admitting(self, placement: str, language: str, currency: str, channel: str) -> NDArray[np.uint8]:
        """Per distinct terms, whether they admit a request. What a request leaves out admits all."""
        parts = language.split("-")
        languages = {"-".join(parts[:count]) for count in range(1, len(parts) + 1)}
        return np.array([
            (not placement or not placements or placement in placements)
            and (not language or not tags or not tags.isdisjoint(languages))
            and (not currency or not currencies or currency in currencies)
            and (not channel or not channels or channel in channels)
            for placements, tags, currencies, channels in self._terms
        ], np.uint8)  # fmt: skip


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    if not shown:
        return "none"
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
