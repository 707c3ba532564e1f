"""From a catalogue document to the arrays of a snapshot."""

import math
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterable
from dataclasses import astuple
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.type.money_pb2 import Money
from numpy.typing import NDArray

from offers.catalogue import snapshot
from offers.catalogue.check import check
from offers.catalogue.compile.audiences import ALWAYS, Audiences, Span, Terms, span_of
from offers.catalogue.compile.behaviour import behaviour_columns
from offers.catalogue.compile.extras import NO_RULES, Extra, extra_of, rules_of
from offers.catalogue.compile.layout import Gathered, calendar, lay_out
from offers.catalogue.compile.messages import FILE, writing
from offers.catalogue.compile.places import NO_PIECES, Places
from offers.catalogue.compile.propositions import static_wire, variant_wires
from offers.catalogue.compile.shapes import pack
from offers.catalogue.compile.timetable import Hours, Timetable, name_sun
from offers.catalogue.compile.traits import Traits
from offers.catalogue.definitions import Definitions, definitions
from offers.catalogue.document import files, read
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.snapshot import (
    FACTORS,
    LAST_TURN,
    NO_AUDIENCE,
    NO_CAPS,
    NO_NAME,
    NO_SCHEDULE,
    NO_SHAPE,
    NO_WINDOWS,
)
from offers.errors import CatalogError, Problem
from offers.model.keys import keys_of
from offers.v1.catalog_pb2 import Exploration
from offers.v1.offer_pb2 import Availability, Benefit, Offer, Target
from offers.v1.ranking_pb2 import Decay, Propensity, RankingStrategy

DEFAULT_VALUE: Final = 0.5
DEFAULT_LEVER: Final = 0.5
DEFAULT_NEARNESS: Final = Decay(shape=Decay.SHAPE_GAUSS, scale=1000)
DEFAULT_TIMELINESS: Final = Decay(shape=Decay.SHAPE_EXP, scale=7200, minimum=0.25)
DEFAULT_SHARES: Final = {
    "nearness_without_distance": 0.5, "outside_daypart": 0.5, "missing_location": 0.5, "unreachable": 0.1,
}  # fmt: skip
"""What strategies leave out, in the order of snapshot.STRATEGY."""
DEFAULT_WEIGHTS: Final = dict.fromkeys(FACTORS, 1.0) | dict.fromkeys(FACTORS[-2:], 0.0)
"""Models that nobody asked for change nothing."""
DEFAULT_DECAY: Final = 0.5
DEFAULT_EPSILON, DEFAULT_MAX_LOSS, DEFAULT_NEW_OFFER_SHARE = 0.05, 0.5, 0.05
DEFAULT_MINIMUM: Final = 1e-6

_UNKNOWN: Final = {
    "without_context": snapshot.WITHOUT_CONTEXT, "without_profile": snapshot.WITHOUT_PROFILE,
    "without_person": snapshot.WITHOUT_PERSON,
}  # fmt: skip

CONCURRENT_BYTES: Final = 32 << 20
"""Documents of so many bytes are checked and taken in at once, on two cores; starting a process takes half a second."""


def compile_snapshot(source: Path, path: Path, version: str) -> Definitions:
    """Check the document `source` and write its snapshot to the directory `path`.

    Raises CatalogError with every problem of the document; then nothing is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-messages-") as folder:
        messages = Path(folder, FILE)
        checked, columns, meta = _compiled(source, messages)
        snapshot.write(path, version, columns, meta, messages)
    return checked


def _compiled(source: Path, messages: Path) -> "tuple[Definitions, dict[str, NDArray[Any]], dict[str, Any]]":
    """The definitions, arrays and meta of a document, whose messages are written to a file."""
    checked: Definitions
    if sum(file.stat().st_size for file in files(source, [])) < CONCURRENT_BYTES:
        checked = check(source)
        builder = _built(source, checked, messages)
        columns = builder.columns()
    else:
        checked, builder, columns = _checked_and_built(source, messages)
    return checked, columns, builder.meta(columns)


def _built(source: Path, checked: Definitions, messages: Path) -> "_Builder":
    builder = _Builder(checked)
    problems: list[Problem] = []
    with writing(messages, checked) as writer:
        for fragment in read(source, problems, unknown=False):
            for offer in fragment.catalog.offers:
                builder.add(offer)
                writer.add(offer)
    if problems:  # the document changed after it was checked
        raise CatalogError(problems)
    return builder


def _checked_and_built(source: Path, messages: Path) -> "tuple[Definitions, _Builder, dict[str, NDArray[Any]]]":
    """Check on another core while the offers are taken in and laid out here: each takes about half of the time."""
    with subprocess.Popen([sys.executable, "-P", "-m", "offers.catalogue.check", str(source)]) as checking:  # noqa: S603
        try:
            checked = definitions(source)
            builder = _built(source, checked, messages)
            columns = builder.columns()
        except Exception:
            check(source)  # tells what is wrong with the document, if that is the reason
            raise
    if checking.returncode != 0:
        return check(source), builder, columns
    return checked, builder, columns


class _Builder:
    """Takes offers one by one, in any order, and lays them out by place."""

    def __init__(self, checked: Definitions) -> None:
        catalog = checked.catalog
        self._catalog = catalog
        self._checked = checked
        self._placements = checked.placements
        self._strategies = checked.ranking_strategies
        venues = checked.venues.values()
        self._terms: dict[Terms, int] = {}
        self._timetable = Timetable(checked)
        self._gathered = Gathered(
            latitudes=array("d", [venue.point.latitude for venue in venues]),
            longitudes=array("d", [venue.point.longitude for venue in venues]),
            venue_ids=list(checked.venues),
        )
        self._places = Places(checked, self._gathered)
        self._names: dict[str, int] = {"": NO_NAME}
        self._extras: dict[Extra, int] = {Extra(): 0}
        self._audiences = Audiences(checked, self._timetable, self._terms)
        self._traits = Traits(self._names, {venue_id: number for number, venue_id in enumerate(checked.venues)})

    def add(self, offer: Offer) -> None:
        # A million offers pass here: a field is read once, and what an offer lacks is not looked into.
        gathered, availability = self._gathered, offer.availability
        column = gathered.offer
        redemption = offer.redemption if offer.HasField("redemption") else None
        gathered.ids.append(offer.offer_id)
        gathered.wires.append(static_wire(offer, redemption))
        column["terms"].append(self._terms.setdefault(_terms(offer), len(self._terms)))
        column["value"].append(offer.value if offer.HasField("value") else DEFAULT_VALUE)
        column["lever"].append(offer.lever if offer.HasField("lever") else DEFAULT_LEVER)
        column["fallback"].append(offer.fallback)
        self._traits.add(offer)
        names = self._names
        column["brand"].append(names.setdefault(offer.brand, len(names)))
        column["category"].append(names.setdefault(offer.category, len(names)))
        column["exclusion_group"].append(names.setdefault(offer.exclusion_group, len(names)))
        redeem_start, redeem_end = span_of(redemption.window) if redemption else (0, NEVER)
        column["redeem_start"].append(redeem_start)
        column["redeem_end"].append(redeem_end)
        windows = [span_of(window) for window in availability.windows[:]]
        if len(windows) > 1:
            windows = _merged(windows)
        if redemption and redemption.required_when_shown and (redeem_start, redeem_end) != (0, NEVER):
            windows = _within(windows, (redeem_start, redeem_end))
        audience, caps = NO_AUDIENCE, NO_CAPS
        if self._audiences.concern(offer):
            if (campaign := self._audiences.window(offer)) != ALWAYS:
                windows = _within(windows, campaign)
            span = (windows[0][0], windows[-1][1]) if windows else ALWAYS
            wires = variant_wires(offer, redemption)
            audience, caps = self._audiences.add(len(gathered.ids) - 1, offer, span, wires)
        column["audience"].append(audience)
        column["caps"].append(caps)
        column["window_start"].append(windows[0][0] if windows else 0)
        column["window_end"].append(windows[-1][1] if windows else NEVER)
        column["windows"].append(gathered.add_windows(windows) if len(windows) > 1 else NO_WINDOWS)
        self._add_entries(offer.target, availability, self._timetable.hours(offer, availability, redemption))

    def _add_entries(self, target: Target, availability: Availability, hours: Hours | None) -> None:
        """Add the places of the offer added last."""
        column, number = self._gathered.entry, len(self._gathered.ids) - 1
        rules = rules_of(target, availability)
        is_sunny = hours is not None and name_sun(hours)
        for turn, place in enumerate(self._places.of(target, apart=is_sunny)):
            schedule = redeem_schedule = daypart_schedule = NO_SCHEDULE
            if hours:
                schedule, redeem_schedule, daypart_schedule = self._timetable.at(hours, place)
            extra = 0
            if rules or place.shape != NO_SHAPE or place.cuts != NO_PIECES or daypart_schedule != NO_SCHEDULE:
                one = extra_of(rules or NO_RULES, place, daypart_schedule)
                extra = self._extras.setdefault(one, len(self._extras))
            column["offer"].append(number)
            column["kind"].append(place.kind)
            column["place"].append(place.number)
            column["venue"].append(place.venue)
            column["radius"].append(place.radius_m)
            column["reach"].append(place.reach_m)
            column["schedule"].append(schedule)
            column["redeem_schedule"].append(redeem_schedule)
            column["extra"].append(extra)
            column["turn"].append(min(turn, LAST_TURN))

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays of snapshot.COLUMNS."""
        strategies = [_strategy(RankingStrategy()), *map(_strategy, self._strategies.values())]
        self._gathered.extras = list(self._extras)
        self._gathered.pieces = self._places.pieces
        keys = keys_of("offer", self._catalog.catalog_id, self._gathered.ids)
        self._gathered.offer["key"].extend(keys)
        laid_out = lay_out(self._gathered)
        read = np.argsort(keys)
        order = read[np.searchsorted(np.array(keys)[read], laid_out["offer"]["key"])]
        creative_keys = {number: keys[number] for number in self._audiences.creative_offers()}
        return {
            **laid_out,
            **self._audiences.columns(laid_out, creative_keys),
            **calendar(list(self._timetable.schedules), self._timetable.time_zones()),
            **pack(self._places.shapes),
            **self._traits.columns(self._catalog.catalog_id, self._gathered.ids, self._gathered.offer, order),
            "strategies": np.array(strategies, snapshot.STRATEGY),
            **behaviour_columns(self._checked, self._names, self._gathered.offer["category"]),
        }

    def meta(self, columns: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """What is not columnar: names and the few small tables the engine reads when it opens the snapshot."""
        strategies = {"": 0, **{name: number for number, name in enumerate(self._strategies, 1)}}
        return {
            **self._audiences.meta(),
            "catalog_id": self._catalog.catalog_id,
            "time_zone": self._timetable.time_zone,
            "offer_attributes": self._traits.attributes(),
            "sensitive": sorted(self._catalog.sensitive_attributes),
            "offers": len(self._gathered.ids),
            "entries": len(self._gathered.entry["offer"]),
            "triggers": [
                MessageToDict(one, preserving_proto_field_name=True) for one in self._checked.triggers.values()
            ],
            "chains": int(columns["entry"]["chain"].max(initial=-1)) + 1,
            "terms": list(self._terms),
            "schedules": [[astuple(part) for part in schedule.parts] for schedule in self._timetable.schedules],
            "zones": self._timetable.time_zones(),
            "default_strategy": strategies[self._catalog.default_ranking_strategy_id],
            "placements": {
                name: {
                    "channel": placement.channel,
                    "strategy": strategies[placement.ranking_strategy_id or self._catalog.default_ranking_strategy_id],
                    "max_offers": placement.max_offers if placement.HasField("max_offers") else None,
                    "exploration": _exploration(placement.exploration),
                    "limits": [placement.max_per_venue, placement.max_per_brand, placement.max_per_category],
                }
                for name, placement in self._placements.items()
            },
        }


def _terms(offer: Offer) -> Terms:
    placements, tags, channels = offer.placement_ids[:], offer.language_codes[:], offer.channels[:]
    currencies = offer.currency_codes[:] or _currencies(offer.benefit.SerializeToString())
    return (
        tuple(sorted(set(placements))) if placements else (),
        tuple(sorted({tag.lower() for tag in tags})) if tags else (),
        tuple(sorted(set(currencies))) if currencies else (),
        tuple(sorted(set(channels))) if channels else (),
    )


@lru_cache(maxsize=65_536)  # many offers give the same
def _currencies(benefit: bytes) -> list[str]:
    """The currencies of a benefit's sums, which differ only by mistake."""
    sums = [value for _, value in Benefit.FromString(benefit).ListFields() if isinstance(value, Money)]
    return [money.currency_code for money in sums if money.currency_code]


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _within(windows: list[Span], span: Span) -> list[Span]:
    """What of some windows (none: always) is inside a span."""
    inside = [(max(start, span[0]), min(end, span[1])) for start, end in windows or [ALWAYS]]
    return [window for window in inside if window[0] < window[1]] or [(0, 0)]  # never


def _strategy(strategy: RankingStrategy) -> tuple[Any, ...]:
    weights = strategy.weights
    return (
        [getattr(weights, name) if weights.HasField(name) else DEFAULT_WEIGHTS[name] for name in FACTORS],
        strategy.propensity.reward or Propensity.REWARD_CLICK,
        strategy.propensity.learner or Propensity.LEARNER_ONLINE,
        sum(bit for name, bit in _UNKNOWN.items() if getattr(strategy.propensity, name)),
        *(
            math.log(getattr(strategy, name) if strategy.HasField(name) else default)  # type: ignore[arg-type]
            for name, default in DEFAULT_SHARES.items()
        ),
        *_decay(strategy.nearness if strategy.HasField("nearness") else DEFAULT_NEARNESS),
        *_decay(strategy.timeliness if strategy.HasField("timeliness") else DEFAULT_TIMELINESS),
    )


def _exploration(one: Exploration) -> tuple[int, float, float, float]:
    """The method, the share of answers in which epsilon-greedy explores, by how much scores may change (logarithms, up
    or down: two that change places differ by twice that), and the share of answers for new offers.
    """  # noqa: D205
    return (
        one.method,
        one.epsilon if one.HasField("epsilon") else DEFAULT_EPSILON,
        -math.log(1 - (one.max_loss if one.HasField("max_loss") else DEFAULT_MAX_LOSS)) / 2,
        one.new_offer_share if one.HasField("new_offer_share") else DEFAULT_NEW_OFFER_SHARE,
    )


def _decay(decay: Decay) -> tuple[float, ...]:
    base = decay.decay if decay.HasField("decay") else DEFAULT_DECAY
    minimum = decay.minimum if decay.HasField("minimum") else DEFAULT_MINIMUM
    return (
        decay.shape or Decay.SHAPE_GAUSS, decay.origin, decay.offset, decay.scale, base, math.log(base),
        math.log(minimum),
    )  # fmt: skip
