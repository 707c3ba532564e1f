"""Surfaces: resolve the names that all requests of one screen have in common to a snapshot's numbers."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.hours.schedules import ZoneClock
from offers.catalogue.snapshot import NO_CAPS, NO_NAME, PROPENSITY, Snapshot
from offers.decision.experiments import Experiments
from offers.decision.kernels.memory.records import Explore, Record, TermsArray
from offers.errors import FieldViolation, InvalidRequestError
from offers.model.hashing import key_of
from offers.model.query import MAX_OFFERS, Surface
from offers.v1.state_pb2 import DecisionRecord


class Placing(NamedTuple):
    """A placement as the engine reads it."""

    channel: str
    strategy: int
    max_offers: int
    limits: tuple[int, int, int]
    """Most offers per venue, brand and category; 0: no limit."""
    exploration: tuple[float, ...]
    """In the order of records.Explore."""


class Resolved(NamedTuple):
    """A surface, with the snapshot's numbers in place of names."""

    strategy: int
    terms: Record
    """A record of TermsArray."""


class SurfaceResolver:
    """Resolves the surfaces of one snapshot."""

    def __init__(self, snapshot: Snapshot, experiments: Experiments, clock: Callable[[str], ZoneClock]) -> None:
        """Take a snapshot, its experiments, and what returns the clock of a time zone ("": the catalogue's)."""
        meta = snapshot.meta
        self._snapshot, self._experiments, self._clock = snapshot, experiments, clock
        self._catalog_id: str = meta["catalog_id"]
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
        self._placement_caps = {
            name: (meta["placement_keys"][name], caps) for name, caps in meta["placement_caps"].items()
        }

    def resolve(self, surface: Surface) -> Resolved:
        """Resolve a surface. Raises InvalidRequestError for an unknown placement, or one of another channel."""
        placing = self._placing(surface)
        channel = surface.channel or placing.channel
        asked = self._experiments.asked(surface.placement)
        strategies = [placing.strategy, *self._experiments.strategies(asked)]
        behaves, conditions = self._conditions(strategies, self._experiments.conditions(asked))
        clock, home = self._clock(surface.time_zone), self._clock("")
        terms: dict[str, NDArray[Any]] = {
            "admits": self._admitting(surface.placement, surface.language, surface.currency, channel),
            "layout": self._layout(surface, placing, strategies, behaves=behaves),
            "creative": self._creative_terms(surface.language, channel),
            "asked": asked,
            "conditions": conditions,
            "caps": np.array(self._placement_caps.get(surface.placement, (0, NO_CAPS)), np.int64),
            "stem": self._stem(surface),
            "explore": np.array(placing.exploration),
            "moment_key": np.array(
                [key_of("channel", surface.channel), key_of("placement", surface.placement)], np.uint64
            ),
            "zone_start": np.array(clock.starts, np.int64),
            "zone_offset": np.array(clock.offsets, np.int64),
            "home_start": np.array(home.starts, np.int64),
            "home_offset": np.array(home.offsets, np.int64),
        }
        return Resolved(placing.strategy, Record(TermsArray, terms))

    def _layout(
        self, surface: Surface, placing: Placing, strategies: Iterable[int], *, behaves: bool
    ) -> NDArray[np.int32]:
        """Return the numbers of Layout, in its order."""
        learns = any(self._asks_models(one) for one in strategies)
        personal = (
            self._snapshot.meta["holdout"] > 0
            or len(self._experiments) > 0
            or surface.placement in self._placement_caps
            or behaves
            or learns
        )
        most = min(surface.max_offers, placing.max_offers)
        return np.array([most, *placing.limits, surface.full, personal, placing.strategy, behaves, learns], np.int32)

    def _stem(self, surface: Surface) -> NDArray[np.uint8]:
        """Return the bytes with which the records of all decisions for a surface begin."""
        record = DecisionRecord(
            catalog=self._catalog_id, catalog_version=self._snapshot.version,
            placement=surface.placement, channel=surface.channel, language_code=surface.language,
            currency_code=surface.currency, max_offers=surface.max_offers,
        )  # fmt: skip
        return np.frombuffer(record.SerializeToString(), np.uint8)

    def _conditions(self, strategies: Iterable[int], others: set[int]) -> tuple[bool, NDArray[np.int32]]:
        """Return whether any of some strategies has behaviour rules, and the segments that these read, and `others`."""
        columns = self._snapshot.columns
        firsts = columns["rule_first"]
        numbers = {index for one in strategies for index in range(firsts[one], firsts[one + 1])}
        rules = columns["rule"][sorted(numbers)]
        intents = columns["intent_segment"][: int(rules["intent"].max(initial=NO_NAME)) + 1]
        segments = {*rules["segment"].tolist(), *intents.tolist(), *others} - {NO_NAME}
        return len(rules) > 0, np.array(sorted(segments), np.int32)

    def _asks_models(self, strategy: int) -> bool:
        """Return whether a strategy asks models, even if there is none yet: models learn from its decisions."""
        return bool(self._snapshot.columns["strategies"]["weights"][strategy, PROPENSITY:].any())

    def _placing(self, surface: Surface) -> Placing:
        """Return the placement of a surface. Raises InvalidRequestError if it is unknown, or of another channel."""
        if not surface.placement:
            return self._default
        placing = self._placements.get(surface.placement)
        if placing is None:
            known = _listed(self._placements)
            reason = f"unknown placement '{surface.placement}': the catalogue '{self._catalog_id}' has {known}"
            raise InvalidRequestError([FieldViolation("placement", reason)])
        if placing.channel and surface.channel and placing.channel != surface.channel:
            reason = (
                f"placement '{surface.placement}' belongs to channel '{placing.channel}', not '{surface.channel}': "
                "leave the channel out, or ask for a placement of that channel"
            )
            raise InvalidRequestError([FieldViolation("context.channel", reason)])
        return placing

    def _creative_terms(self, language: str, channel: str) -> NDArray[np.uint8]:
        """Return, per distinct terms of creatives, whether they admit a request.

        Terms that name a language or channel do not admit a request that names none.
        """
        languages = _prefixes(language)
        return np.array([
            (not tags or not tags.isdisjoint(languages)) and (not channels or channel in channels)
            for tags, channels in self._creatives
        ], np.uint8)  # fmt: skip

    def _admitting(self, placement: str, language: str, currency: str, channel: str) -> NDArray[np.uint8]:
        """Return, per distinct terms, whether they admit a request. A value that the request leaves out admits all."""
        languages = _prefixes(language)
        return np.array([
            (not placement or not placements or placement in placements)
            and (not language or not tags or not tags.isdisjoint(languages))
            and (not currency or not currencies or currency in currencies)
            and (not channel or not channels or channel in channels)
            for placements, tags, currencies, channels in self._terms
        ], np.uint8)  # fmt: skip


def _prefixes(language: str) -> set[str]:
    """Return the tags that fit a language: "pt" and "pt-br" for "pt-br"."""
    parts = language.split("-")
    return {"-".join(parts[:count]) for count in range(1, len(parts) + 1)}


def _listed(names: Iterable[str]) -> str:
    """Return up to ten names as text."""
    shown = sorted(names)
    if not shown:
        return "none"
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
