"""The engine: decides over one snapshot, in stages.

    resolve    names to numbers: placement and strategy, terms, the state of every schedule
    retrieve   find the entries within reach of the location
    screen     keep those that may be shown here and now: terms, windows, place, opening hours, reach
    meet       bring in the person, if the person matters to what was found: segments, variants, counters
    sense      read the attributes by which models know the request and the person
    admit      keep those that may be shown to this person: segments, variants, caps, policies, budgets;
               fallbacks only if nothing else qualifies
    foresee    predict how probable it is that the person takes each up, and explore around that
    score      sum the factors of each
    arrange    choose the best that the placement's layout allows, with all that an answer says of them

`Engine.decide` resolves. The other stages are compiled. kernels/decide.py has their sequence, and returns a Need where
it cannot go on; `decide` provides what is needed. Time and seed are arguments: the same snapshot and query give the
same decision.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from offers.catalogue.hours.schedules import Schedule, SchedulePart
from offers.catalogue.snapshot import NO_NAME, Snapshot
from offers.decision.budgets import BudgetBook
from offers.decision.directory import Directory
from offers.decision.hours import SLICE_S, HoursAt, HoursBook
from offers.decision.kernels.decide import begin, go_on
from offers.decision.kernels.memory.frame import Frame, Location, PersonInput
from offers.decision.kernels.memory.records import Column, Record, StandingFact
from offers.decision.kernels.memory.scratch import Capacity, DecisionFact, PersonFact, Scratchpad
from offers.decision.kernels.models.learned import ModelFact, learned_record
from offers.decision.kernels.need import Need
from offers.decision.kernels.person.meet import MeetingFact
from offers.decision.kernels.standing import sorted_record, stand, standing_record
from offers.decision.meeting import Meeting
from offers.decision.person import NOBODY, Person
from offers.decision.surfaces import SurfaceResolver
from offers.learning.model import Model
from offers.model.decision import Decision
from offers.model.query import Query

SURFACES_KEPT = 4096
"""Surfaces kept resolved; apps have a few dozen, times their languages and currencies."""
_HALF = 2**63
_BEGIN_AGAIN, _IS_MET = frozenset({Need.LOOK_UP, Need.ROOM}), frozenset({Need.SEGMENTS, Need.STANDING})
STANDING_BYTES = 32 << 20
"""Memory for the lists of offers shown everywhere, per surface and minute. At least eight lists are kept."""
LIST_BYTES = 14 << 10
"""Memory of such a list beside its offers, with the surface that it is of."""


class StandingAt(NamedTuple):
    """The offers shown everywhere that a surface may show over a span of time."""

    record: Record
    """A record of StandingArray."""
    begin: int
    """Second from which it holds."""
    end: int
    """Second until which it holds, exclusive."""


class Engine:
    """Decides over one snapshot. Safe to use from several threads."""

    def __init__(self, snapshot: Snapshot) -> None:
        meta = snapshot.meta
        self.snapshot = snapshot
        self.catalog_id: str = meta["catalog_id"]
        version = int(snapshot.version, 16)
        self.columns = Record(Column, snapshot.columns)
        self._hours = HoursBook(self.columns, _schedules_of(meta), meta["zones"], meta["time_zone"])
        shares = snapshot.columns["campaign"]["holdout"].tolist()
        self.meeting = Meeting(self.catalog_id, version if version < _HALF else version - 2 * _HALF, meta, shares)
        self.budgets = BudgetBook(self.catalog_id, meta["budgets"])
        self.directory = Directory(self.catalog_id, snapshot.columns, meta)
        """Answers what events ask about the offers."""
        surfaces = SurfaceResolver(snapshot, self.meeting.experiments, self._hours.clock)
        self.resolve = lru_cache(SURFACES_KEPT)(surfaces.resolve)
        """Resolve a surface. Raises InvalidRequestError for an unknown placement."""
        self.room = _capacity_of(snapshot, self.meeting)
        """The capacity that a scratchpad needs for decisions of this engine."""
        self._learned: tuple[Model | None, Record | None] = (None, None)
        self._everywhere = len(snapshot.columns["entry"]) - int(snapshot.columns["standing_first"][0])
        self._standing: OrderedDict[tuple[int, Record, int, str], StandingAt] = OrderedDict()

    def hours(self, query: Query) -> HoursAt:
        """Return the states of all schedules at a query's time."""
        return self._hours.at(query.time, query.surface.time_zone)

    def standing(self, query: Query, strategy: int = NO_NAME) -> StandingAt:
        """Return the offers shown everywhere that a query's surface may show at its time.

        They are in the order of a strategy; NO_NAME is the surface's own.
        """
        usual, terms = self.resolve(query.surface)
        strategy = usual if strategy == NO_NAME else strategy
        hours, time = self.hours(query), query.time
        key = strategy, terms, hours.begin, hours.time_zone
        known = self._standing.get(key)
        if known is None or not known.begin <= time < known.end:
            known = self._standing[key] = self._stand(query, strategy, terms, hours)
        with contextlib.suppress(KeyError):  # another thread may have evicted it
            self._standing.move_to_end(key)
            while len(self._standing) > max(8, STANDING_BYTES // (32 * self._everywhere + LIST_BYTES)):
                self._standing.popitem(last=False)
        return known

    def _stand(self, query: Query, strategy: int, terms: Record, hours: HoursAt) -> StandingAt:
        """List the offers shown everywhere, in the order of a strategy."""
        filled, unknown = standing_record(self._everywhere), np.empty(self._everywhere * 2, np.int32)
        tables = self.columns.table, hours.record.table, terms.table
        while unknowns := stand(*tables, strategy, query.time, hours.end, filled.table, unknown):
            numbers = unknown[:unknowns].tolist()
            self._hours.look_up(hours.record, numbers, query.time, query.surface.time_zone)
        end = int(filled.arrays["facts"][StandingFact.change])
        return StandingAt(sorted_record(self.columns, filled), query.time, min(end, hours.end))

    def roll(self, now: int, seconds: float = SLICE_S) -> bool:
        """Bring the horizon of opening hours up to date: see `HoursBook.roll`."""
        return self._hours.roll(now, seconds)

    @property
    def model(self) -> Model | None:
        """Return the model that decisions ask; None if models are disabled."""
        return self._learned[0]

    def use(self, model: Model | None) -> None:
        """Set the model; None disables models. Raises ValueError for a model that does not fit the snapshot."""
        meta, facts = self.snapshot.meta, self.meeting.record.arrays["fact"]
        record = learned_record(model, meta["offer_attributes"], meta["sensitive"]) if model else None
        related = int(record.arrays["fact"][ModelFact.related]) if record else 0
        before = self._learned
        self._learned = model, record
        self.room = self.room._replace(related=related)
        facts[MeetingFact.learned] = record.table if record else 0
        del before  # kept alive until the facts no longer point to it

    def decide(
        self, query: Query, pad: Scratchpad, person: Person = NOBODY, geohash_length: int = 0, chance: int = 0
    ) -> Decision:
        """Decide, and leave the chosen offers in the pad; for a person, also the decision's record.

        Models and the record are given `geohash_length` characters of the location's geohash. Exploration is drawn by
        `chance` where there is neither a seed nor a person. Raises InvalidRequestError for an unknown placement.
        """
        location = Location(query.latitude, query.longitude, query.sigma_m, query.growth_mps)
        asked = PersonInput(person.draw, person.grants, person.flags, geohash_length, chance)
        self.make_room(pad)
        resolved = self.resolve(query.surface)  # kept alive: the frame has no more than addresses
        hours, standing, budgets = self.hours(query).record, self.standing(query).record, self.budgets.at(query.time)
        frame = self.frame(query, pad)._replace(hours=hours.table, standing=standing.table, budgets=budgets.table)
        need = begin(frame, location)
        while need:
            if need in _BEGIN_AGAIN:
                self._provide(need, query, pad, hours)
                standing = self.standing(query).record
                frame = frame._replace(strategy=resolved.strategy, standing=standing.table)
                need = begin(frame, location)
                continue
            if need == Need.STANDING:
                strategy = int(pad.arrays["person"][PersonFact.strategy])
                standing = self.standing(query, strategy).record
                frame = frame._replace(strategy=strategy, standing=standing.table)
            else:
                self.meeting.provide(need, pad, person, query.time)
            need = go_on(frame, location, person.record, person.request, asked, int(need in _IS_MET))
        facts = pad.arrays["decision"].tolist()
        return Decision(
            facts[DecisionFact.chosen],
            facts[DecisionFact.eligible],
            facts[DecisionFact.refresh_after],
            float(pad.arrays["refresh_distance"][0]),
            frame.strategy,
            tuple(self.meeting.exposures(pad)),
            bool(facts[DecisionFact.personal]),
            tuple((one.campaign_id, one.held_out) for one in self.meeting.withheld(pad)),
        )

    def frame(self, query: Query, pad: Scratchpad, strategy: int = NO_NAME) -> Frame:
        """Return the frame of a decision for a query, without the tables that depend on its time.

        `strategy` is NO_NAME for the surface's own.
        """
        usual, terms = self.resolve(query.surface)
        seed = query.seed if query.seed < _HALF else query.seed - 2 * _HALF
        return Frame(
            self.columns.table, self.meeting.record.table, 0, self.budgets.record.table, 0, pad.table, terms.table,
            usual if strategy == NO_NAME else strategy, query.time, seed, int(query.seed >= 0),
        )  # fmt: skip

    def make_room(self, pad: Scratchpad) -> None:
        """Grow a pad to the capacity that decisions of this engine need."""
        if any(map(int.__gt__, self.room, pad.room)):
            pad.fit(self.room)

    def _provide(self, need: int, query: Query, pad: Scratchpad, hours: Record) -> None:
        """Provide what a decision needs to begin again: LOOK_UP or ROOM of Need."""
        facts = pad.arrays["decision"].tolist()
        if need == Need.LOOK_UP:
            numbers = pad.arrays["unknown"][: facts[DecisionFact.unknown]].tolist()
            self._hours.look_up(hours, numbers, query.time, query.surface.time_zone)
        else:
            pad.fit(Capacity(candidates=2 * facts[DecisionFact.found]))
            self.make_room(pad)


def _schedules_of(meta: Mapping[str, Any]) -> list[Schedule]:
    """Return the schedules of a snapshot."""
    return [
        Schedule(
            tuple(
                SchedulePart(tuple(rules), zone, country, tuple(position), margin)
                for rules, zone, country, position, margin in parts
            )
        )
        for parts in meta["schedules"]
    ]


def _capacity_of(snapshot: Snapshot, meeting: Meeting) -> Capacity:
    """Return the capacity that decisions over a snapshot need, without candidates and models."""
    meta, columns = snapshot.meta, snapshot.columns
    return Capacity(
        chains=int(meta["chains"]),
        segments=len(meta["segments"]),
        audiences=len(columns["audience"]),
        experiments=len(meta["experiments"]),
        holdouts=len(meeting.holdouts),
        periods=len(meta["periods"]),
        values=meeting.segments.values,
        names=int(columns["category_number"].max(initial=-1)) + 1,
    )
