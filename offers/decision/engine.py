"""A decision in seven stages: resolve, retrieve, screen, admit, foresee, score, arrange.

    resolve    names to numbers: placement and strategy, terms, the state of every schedule
    retrieve   which entries are within reach of the location
    screen     which of them may be shown here and now: terms, windows, place, opening hours, reach
    admit      which of those may be shown to this person: segments, variants, caps, policies, budgets; fallbacks last
    foresee    how likely the person takes each up, by what was learned; what is explored of it
    score      how good they are: those that may be among the best
    arrange    the best that the placement's layout allows, in order, with all an answer says of them

`Engine.decide` resolves, the compiled `find` (retrieve and screen) and `choose` (the rest) decide, and each stage has
its file. Between the two, what is known of the person is brought in, where it matters to what was found.
Time and seed are arguments: the same snapshot and query give the same decision.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.hours.schedules import Schedule, SchedulePart
from offers.catalogue.snapshot import NO_CAPS, NO_NAME, PROPENSITY, Snapshot
from offers.decision.budgets import BudgetBook
from offers.decision.directory import Directory
from offers.decision.hours import SLICE_S, HoursAt, HoursBook
from offers.decision.kernels.decide import LOOK_UP, choose, find
from offers.decision.kernels.memory.records import Column, Explore, Record, StandingFact, Terms
from offers.decision.kernels.memory.scratch import NO_ROOM, Outcome, PersonFact, Room, Scratchpad
from offers.decision.kernels.models.learned import Told, learned_record
from offers.decision.kernels.models.sense import sense
from offers.decision.kernels.person.meet import Fact
from offers.decision.kernels.standing import sorted_record, stand, standing_record
from offers.decision.meeting import Meeting
from offers.decision.person import NOBODY, Person
from offers.errors import FieldViolation, InvalidRequestError
from offers.learning.model import Model
from offers.model.decision import Decision
from offers.model.hashing import key_of
from offers.model.query import MAX_OFFERS, Query, Surface
from offers.v1.state_pb2 import DecisionRecord

SURFACES_KEPT = 4096
"""Surfaces that are kept resolved; apps have a few dozen, times their languages and currencies."""
_HALF = 2**63
STANDING_BYTES = 32 << 20
"""Memory for the offers shown everywhere, as worked out for surfaces and minutes; some of them at least."""


class Placing(NamedTuple):
    """A placement as the engine reads it."""

    channel: str
    strategy: int
    max_offers: int
    limits: tuple[int, int, int]
    """Offers per venue, brand and category; 0: no limit."""
    exploration: tuple[float, ...]
    """In the order of records.Explore."""


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
                    SchedulePart(tuple(rules), zone, country, tuple(position), margin)
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
                tuple(placement["exploration"]),
            )
            for name, placement in meta["placements"].items()
        }
        self._default = Placing("", meta["default_strategy"], MAX_OFFERS, (0, 0, 0), (0.0,) * len(Explore))
        self._terms = [tuple(frozenset(names) for names in terms) for terms in meta["terms"]]
        self._creatives = [tuple(frozenset(names) for names in terms) for terms in meta["creative_terms"]]
        self.resolve = lru_cache(SURFACES_KEPT)(self._work_out)
        """A surface in the snapshot's numbers. Raises InvalidRequestError for an unknown placement."""
        self.meeting = Meeting(self.catalog_id, meta)
        self.budgets = BudgetBook(self.catalog_id, meta["budgets"])
        self.directory = Directory(self.catalog_id, snapshot.columns, meta)
        """What events ask about its offers."""
        self._placement_caps = {
            name: (meta["placement_keys"][name], caps) for name, caps in meta["placement_caps"].items()
        }
        self.room = Room(
            chains=int(meta["chains"]),
            segments=len(meta["segments"]),
            audiences=len(snapshot.columns["audience"]),
            experiments=len(meta["experiments"]),
            periods=len(meta["periods"]),
            values=self.meeting.segments.values,
            names=int(snapshot.columns["category_number"].max(initial=-1)) + 1,
        )
        """What a pad needs for its decisions."""
        self._learned: tuple[Model | None, Record | None] = (None, None)
        self._everywhere = len(snapshot.columns["entry"]) - int(snapshot.columns["standing_first"][0])
        self._standing: OrderedDict[tuple[int, Record, int, str], StandingAt] = OrderedDict()

    def hours(self, query: Query) -> HoursAt:
        """The states of all schedules at a query's time."""
        return self._hours.at(query.time, query.surface.time_zone)

    def standing(self, query: Query, strategy: int = NO_NAME) -> StandingAt:
        """The offers shown everywhere that may be shown at a query's time, to its surface.

        In the order of a strategy; NO_NAME: the surface's.
        """
        usual, terms = self.resolve(query.surface)
        strategy = usual if strategy == NO_NAME else strategy
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

    @property
    def model(self) -> Model | None:
        """The model that decisions ask; None: none."""
        return self._learned[0]

    def use(self, model: Model | None) -> None:
        """Let decisions ask a model from now on; None: none. Raises ValueError for one that does not fit."""
        meta, facts = self.snapshot.meta, self.meeting.record.arrays["fact"]
        record = learned_record(model, meta["offer_attributes"], meta["sensitive"]) if model else None
        related = int(record.arrays["fact"][Told.related]) if record else 0
        before = self._learned
        self._learned = model, record
        self.room = self.room._replace(related=related)
        facts[Fact.learned] = record.table if record else 0
        del before  # only now may it go

    def decide(
        self, query: Query, pad: Scratchpad, person: Person = NOBODY, geohash_length: int = 0, chance: int = 0
    ) -> Decision:
        """Decide, and leave the chosen offers in the pad. Raises InvalidRequestError for an unknown placement.

        Models are told so many characters of the location's geohash; exploration hangs on `chance` where there is
        neither a seed nor a person.
        """
        surface, time, latitude, longitude, seed, _, sigma, growth = query
        usual, terms = self.resolve(surface)
        hours = self.hours(query).record
        signed = seed if seed < _HALF else seed - 2 * _HALF
        self.make_room(pad)
        while True:
            strategy, standing = usual, self.standing(query).record
            found = count = find(
                self.columns.table, hours.table, standing.table, pad.table, terms.table,
                latitude, longitude, sigma, growth, time,
            )  # fmt: skip
            outcome = pad.arrays["outcome"]
            if found >= 0:
                if outcome[Outcome.personal]:
                    self.meeting.meet(self.columns.table, terms.table, pad, person, time)
                    drawn = int(pad.arrays["person"][PersonFact.strategy])
                    strategy = usual if drawn == NO_NAME else drawn
                    sense(
                        self.meeting.record.table, terms.table, pad.table, person.record, person.request, latitude,
                        longitude, geohash_length, signed, seed >= 0, chance, time,
                    )  # fmt: skip
                    standing = self.standing(query, strategy).record if strategy != usual else standing
                count = choose(
                    self.columns.table, self.meeting.record.table, hours.table, self.budgets.record.table,
                    standing.table, pad.table, terms.table, strategy, time, signed, seed >= 0,
                )  # fmt: skip
            refresh_after, refresh_distance_m, unknown, found, eligible = pad.arrays["outcome"].tolist()[:5]
            if count == NO_ROOM:
                pad.fit(Room(candidates=2 * int(found)))
                self.make_room(pad)
            elif count == LOOK_UP:
                numbers = pad.arrays["unknown"][: int(unknown)].tolist()
                self._hours.look_up(hours, numbers, time, surface.time_zone)
            else:
                held = int(refresh_after), refresh_distance_m
                personal = bool(pad.arrays["outcome"][Outcome.personal])
                exposures = tuple(self.meeting.exposures(pad))
                return Decision(count, int(eligible), *held, strategy, exposures, personal)

    def make_room(self, pad: Scratchpad) -> None:
        """Let a pad have room for decisions of this engine."""
        if any(map(int.__gt__, self.room, pad.room)):
            pad.fit(self.room)

    def _work_out(self, surface: Surface) -> Resolved:
        placing = self._placing(surface)
        channel = surface.channel or placing.channel
        admits = self._admitting(surface.placement, surface.language, surface.currency, channel)
        asked = self.meeting.experiments.asked(surface.placement)
        strategies = [placing.strategy, *self.meeting.experiments.strategies(asked)]
        behaves, conditions = self._conditions(strategies)
        learns = any(self._asks_models(one) for one in strategies)
        clock, home = self._hours.clock(surface.time_zone), self._hours.clock("")
        personal = (
            self.snapshot.meta["holdout"] > 0
            or len(self.meeting.experiments) > 0
            or surface.placement in self._placement_caps
            or behaves
            or learns
        )
        most = min(surface.max_offers, placing.max_offers)
        layout = np.array([most, *placing.limits, surface.full, personal, placing.strategy, behaves, learns], np.int32)
        stem = DecisionRecord(
            catalog=self.catalog_id, catalog_version=self.snapshot.version,
            placement=surface.placement, channel=surface.channel, language_code=surface.language,
            currency_code=surface.currency, max_offers=surface.max_offers,
        )  # fmt: skip
        terms: dict[str, NDArray[Any]] = {
            "admits": admits,
            "layout": layout,
            "creative": self._creative_terms(surface.language, channel),
            "asked": asked,
            "conditions": conditions,
            "caps": np.array(self._placement_caps.get(surface.placement, (0, NO_CAPS)), np.int64),
            "stem": np.frombuffer(stem.SerializeToString(), np.uint8),
            "explore": np.array(placing.exploration),
            "moment_key": np.array(
                [key_of("channel", surface.channel), key_of("placement", surface.placement)], np.uint64
            ),
            "zone_start": np.array(clock.starts, np.int64),
            "zone_offset": np.array(clock.offsets, np.int64),
            "home_start": np.array(home.starts, np.int64),
            "home_offset": np.array(home.offsets, np.int64),
        }
        return Resolved(placing.strategy, Record(Terms, terms))

    def _conditions(self, strategies: Iterable[int]) -> tuple[bool, NDArray[np.int32]]:
        """Whether any of some strategies has behaviour rules, and the segments that must be known for these."""
        columns = self.snapshot.columns
        firsts = columns["rule_first"]
        numbers = {place for one in strategies for place in range(firsts[one], firsts[one + 1])}
        rules = columns["rule"][sorted(numbers)]
        intents = columns["intent_segment"][: int(rules["intent"].max(initial=NO_NAME)) + 1]
        segments = {*rules["segment"].tolist(), *intents.tolist()} - {NO_NAME}
        return len(rules) > 0, np.array(sorted(segments), np.int32)

    def _asks_models(self, strategy: int) -> bool:
        """Whether a strategy asks models, whatever model there is: its decisions are what they learn from."""
        return bool(self.snapshot.columns["strategies"]["weights"][strategy, PROPENSITY:].any())

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

    def _creative_terms(self, language: str, channel: str) -> NDArray[np.uint8]:
        """Per distinct terms of creatives, whether they are for a request; those that name what it does not are not."""
        languages = _prefixes(language)
        return np.array([
            (not tags or not tags.isdisjoint(languages)) and (not channels or channel in channels)
            for tags, channels in self._creatives
        ], np.uint8)  # fmt: skip

    def _admitting(self, placement: str, language: str, currency: str, channel: str) -> NDArray[np.uint8]:
        """Per distinct terms, whether they admit a request. What a request leaves out admits all."""
        languages = _prefixes(language)
        return np.array([
            (not placement or not placements or placement in placements)
            and (not language or not tags or not tags.isdisjoint(languages))
            and (not currency or not currencies or currency in currencies)
            and (not channel or not channels or channel in channels)
            for placements, tags, currencies, channels in self._terms
        ], np.uint8)  # fmt: skip


def _prefixes(language: str) -> set[str]:
    """The tags that fit a language: "pt" and "pt-br" of "pt-br"; of "", none that a tag could be."""
    parts = language.split("-")
    return {"-".join(parts[:count]) for count in range(1, len(parts) + 1)}


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    if not shown:
        return "none"
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
