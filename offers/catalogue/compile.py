"""From a catalogue document to the arrays of a snapshot."""

import math
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.interval_pb2 import Interval
from google.type.latlng_pb2 import LatLng
from numpy.typing import NDArray
from tzfpy import get_tz

from offers.catalogue import geometry, snapshot
from offers.catalogue.check import Checked, check
from offers.catalogue.document import read
from offers.catalogue.schedules import NEVER, Schedule, zone_clock
from offers.catalogue.snapshot import AROUND_POINT, EVERYWHERE, IN_ZONE, NO_CHAIN, NO_SCHEDULE, NO_VENUE
from offers.errors import CatalogError, Problem
from offers.v1.offer_pb2 import Benefit, Offer, Redemption, Target
from offers.v1.offer_service_pb2 import Proposition
from offers.v1.ranking_pb2 import Decay, RankingStrategy

DEFAULT_VALUE: Final = 0.5
DEFAULT_LEVER: Final = 0.5
DEFAULT_TIME_ZONE: Final = "UTC"
DEFAULT_NEARNESS: Final = Decay(shape=Decay.SHAPE_GAUSS, scale=1000)
DEFAULT_TIMELINESS: Final = Decay(shape=Decay.SHAPE_EXP, scale=7200, minimum=0.25)
DEFAULT_NEARNESS_WITHOUT_DISTANCE: Final = 0.5
DEFAULT_DECAY: Final = 0.5
DEFAULT_MINIMUM: Final = 1e-6

Terms = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Placements, languages (lower case), currencies and channels of an offer, sorted; empty means any."""


def compile_snapshot(source: Path, path: Path, version: str) -> Checked:
    """Check the document `source` and write its snapshot to the directory `path`.

    Raises CatalogError with every problem of the document; then nothing is written.
    """
    checked = check(source)
    builder = _Builder(checked)
    problems: list[Problem] = []
    for fragment in read(source, problems):
        for offer in fragment.catalog.offers:
            builder.add(offer)
    if problems:  # the document changed after it was checked
        raise CatalogError(problems)
    snapshot.write(path, version, builder.columns(), builder.meta())
    return checked


class _Builder:
    """Takes offers one by one, in any order, and lays them out by place."""

    def __init__(self, checked: Checked) -> None:
        catalog = checked.catalog
        self._catalog = catalog
        self._time_zone = catalog.time_zone or DEFAULT_TIME_ZONE
        self._placements = checked.placements
        self._strategies = checked.ranking_strategies
        self._venues = {venue_id: number for number, venue_id in enumerate(checked.venues)}
        venues = checked.venues.values()
        self._venue_reach = [venue.radius_m for venue in venues]
        self._latitudes = array("d", [venue.point.latitude for venue in venues])
        self._longitudes = array("d", [venue.point.longitude for venue in venues])
        # A place's time zone is looked up when hours need it: most catalogues have far more venues than hours.
        self._venue_zones = [venue.time_zone for venue in venues]
        self._venue_countries = [venue.country_code or catalog.country_code for venue in venues]
        self._zones = checked.zones
        self._ids: list[str] = []
        self._wires: list[bytes] = []
        self._terms: dict[Terms, int] = {}
        self._schedules: dict[Schedule, int] = {}
        self._schedule_numbers: dict[_Hours, tuple[int, int]] = {}
        self._offer: dict[str, array[Any]] = {name: array(code) for name, code in _OFFER_CODES.items()}
        self._entry: dict[str, array[Any]] = {name: array(code) for name, code in _ENTRY_CODES.items()}
        self._window_counts = array("I")
        self._window_starts = array("q")
        self._window_ends = array("q")

    def add(self, offer: Offer) -> None:
        # A million offers pass here: a field is read once, and what an offer lacks is not looked into.
        column, availability = self._offer, offer.availability
        redemption = offer.redemption if offer.HasField("redemption") else None
        self._ids.append(offer.offer_id)
        self._wires.append(_static_wire(offer, redemption))
        column["terms"].append(self._terms.setdefault(_terms(offer), len(self._terms)))
        column["value"].append(offer.value if offer.HasField("value") else DEFAULT_VALUE)
        column["lever"].append(offer.lever if offer.HasField("lever") else DEFAULT_LEVER)
        column["fallback"].append(offer.fallback)
        redeem_start, redeem_end = _span(redemption.window) if redemption else (0, NEVER)
        column["redeem_start"].append(redeem_start)
        column["redeem_end"].append(redeem_end)
        windows = [_span(window) for window in availability.windows[:]]
        if len(windows) > 1:
            windows = _merged(windows)
        if redemption and redemption.required_when_shown and (redeem_start, redeem_end) != (0, NEVER):
            windows = [
                (max(start, redeem_start), min(end, redeem_end))
                for start, end in windows or [(0, NEVER)]
                if max(start, redeem_start) < min(end, redeem_end)
            ] or [(0, 0)]  # never
        self._window_counts.append(len(windows))
        for start, end in windows:
            self._window_starts.append(start)
            self._window_ends.append(end)
        shown = availability.opening_hours
        used = redemption.opening_hours if redemption else ""
        required = redemption.required_when_shown if redemption else False
        hours = None
        if shown or used:
            hours = _Hours(shown, used, required, availability.time_zone, availability.country_code)
        self._add_entries(offer.target, hours)

    def _add_entries(self, target: Target, hours: "_Hours | None") -> None:
        if target.everywhere:
            self._add_entry(hours, EVERYWHERE, -1, NO_VENUE, 0.0, "", self._catalog.country_code)
            return
        radius = target.radius_m if target.HasField("radius_m") else None
        for venue_id in target.venue_ids[:]:
            number = self._venues[venue_id]
            reach = self._venue_reach[number] if radius is None else radius
            country = self._venue_countries[number]
            self._add_entry(hours, AROUND_POINT, number, number, reach, self._venue_zones[number], country)
        for circle in target.circles[:]:
            place = self._add_place(circle.center)
            self._add_entry(hours, AROUND_POINT, place, NO_VENUE, circle.radius_m, "", self._catalog.country_code)
        for zone_id in target.zone_ids[:]:
            zone = self._zones[zone_id]
            center = zone.circles[0].center
            time_zone = zone.time_zone or _zone_at(center.longitude, center.latitude)
            for circle in zone.circles:
                place = self._add_place(circle.center)
                country = zone.country_code or self._catalog.country_code
                self._add_entry(hours, IN_ZONE, place, NO_VENUE, circle.radius_m, time_zone, country)

    def _add_place(self, point: LatLng) -> int:
        self._latitudes.append(point.latitude)
        self._longitudes.append(point.longitude)
        return len(self._latitudes) - 1

    def _add_entry(
        self, hours: "_Hours | None", kind: int, place: int, venue: int, reach: float, time_zone: str, country: str
    ) -> None:
        """Add a place of the offer added last; `time_zone` and `country` are those of the place."""
        schedule = redeem_schedule = NO_SCHEDULE
        if hours:
            zone = hours.time_zone or time_zone
            if not zone and place >= 0:
                zone = _zone_at(self._longitudes[place], self._latitudes[place]) or self._time_zone
            here = _Hours(hours.shown, hours.used, hours.required, zone, hours.country_code or country)
            numbers = self._schedule_numbers.get(here)
            if numbers is None:
                numbers = self._schedule_numbers[here] = self._add_schedules(here)
            schedule, redeem_schedule = numbers
        column = self._entry
        column["offer"].append(len(self._ids) - 1)
        column["kind"].append(kind)
        column["place"].append(place)
        column["venue"].append(venue)
        column["radius"].append(reach)
        column["schedule"].append(schedule)
        column["redeem_schedule"].append(redeem_schedule)

    def _add_schedules(self, here: "_Hours") -> tuple[int, int]:
        """The numbers of the schedules that say when an offer may be shown at a place, and when it may be used."""
        redeem_schedule = self._add_schedule({here.used}, here)
        return self._add_schedule({here.shown, here.used} if here.required else {here.shown}, here), redeem_schedule

    def _add_schedule(self, expressions: set[str], here: "_Hours") -> int:
        given = tuple(sorted(expressions - {""}))
        if not given:
            return NO_SCHEDULE
        country = here.country_code if any("PH" in expression for expression in given) else ""
        schedule = Schedule(given, here.time_zone, country)
        return self._schedules.setdefault(schedule, len(self._schedules))

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays of snapshot.COLUMNS."""
        entry = {name: np.frombuffer(values, dtype=values.typecode) for name, values in self._entry.items()}
        offer = {name: np.frombuffer(values, dtype=values.typecode) for name, values in self._offer.items()}
        offer_order = np.empty(len(self._ids), np.int64)
        offer_order[sorted(range(len(self._ids)), key=self._ids.__getitem__)] = np.arange(len(self._ids))
        grid, entries = self._grid(entry, offer_order)
        entry = {name: values[entries] for name, values in entry.items()}

        # Offers take the order in which the sorted entries first name them.
        _, first = np.unique(entry["offer"], return_index=True)
        offers = np.argsort(first)
        renumbered = np.empty_like(offers)
        renumbered[offers] = np.arange(len(offers))
        entries_of = np.bincount(entry["offer"], minlength=len(offers))[offers]
        chain = np.where(entries_of > 1, np.cumsum(entries_of > 1) - 1, NO_CHAIN)
        counts = np.frombuffer(self._window_counts, np.uint32)
        window_of = _csr_take(_csr(counts), offers)
        wires = [self._wires[number] for number in offers.tolist()]
        venue_ids = [venue_id.encode() for venue_id in self._venues]
        return {
            "offer_terms": offer["terms"][offers],
            "offer_value": offer["value"][offers],
            "offer_lever": offer["lever"][offers],
            "offer_log_value": np.log(offer["value"][offers]),
            "offer_log_lever": np.log(offer["lever"][offers]),
            "offer_order": offer_order[offers],
            "offer_chain": chain,
            "offer_fallback": offer["fallback"][offers],
            "offer_window_first": _csr(counts[offers]),
            "offer_redeem_start": offer["redeem_start"][offers],
            "offer_redeem_end": offer["redeem_end"][offers],
            "offer_wire_first": _csr([len(wire) for wire in wires]),
            "window_start": np.frombuffer(self._window_starts, np.int64)[window_of],
            "window_end": np.frombuffer(self._window_ends, np.int64)[window_of],
            "wire": np.frombuffer(b"".join(wires), np.uint8),
            "entry_offer": renumbered[entry["offer"]],
            "entry_venue": entry["venue"],
            "entry_schedule": entry["schedule"],
            "entry_redeem_schedule": entry["redeem_schedule"],
            "entry_kind": entry["kind"],
            "venue_id_first": _csr([len(venue_id) for venue_id in venue_ids]),
            "venue_id": np.frombuffer(b"".join(venue_ids), np.uint8),
            **self._centres(entry),
            **grid,
            **self._calendar(),
            "strategies": np.array(
                [_strategy(RankingStrategy()), *map(_strategy, self._strategies.values())], snapshot.STRATEGY
            ),
        }

    def _centres(self, entry: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        placed = entry["kind"] != EVERYWHERE
        latitude = np.frombuffer(self._latitudes or array("d", [0.0]), np.float64)[entry["place"]]
        longitude = np.frombuffer(self._longitudes or array("d", [0.0]), np.float64)[entry["place"]]
        x, y, z = (np.where(placed, axis, 0.0) for axis in geometry.earth_centred(latitude, longitude))
        return {"entry_x": x, "entry_y": y, "entry_z": z, "entry_reach": geometry.straight_line(entry["radius"])}

    def _grid(
        self, entry: dict[str, NDArray[Any]], offer_order: NDArray[np.int64]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """The grid's arrays, and the order of the entries in it (those shown everywhere last)."""
        placed = np.flatnonzero(entry["kind"] != EVERYWHERE)
        everywhere = np.flatnonzero(entry["kind"] == EVERYWHERE)
        latitude = np.frombuffer(self._latitudes or array("d", [0.0]), np.float64)[entry["place"][placed]]
        longitude = np.frombuffer(self._longitudes or array("d", [0.0]), np.float64)[entry["place"][placed]]
        level = geometry.level_of(entry["radius"][placed])
        used = np.unique(level)
        row = np.zeros(len(placed), np.int64)
        column = np.zeros(len(placed), np.int64)
        sizes = [geometry.SMALLEST_CELL_M * 2.0**number for number in used.tolist()]
        columns = [geometry.columns_of_rows(size) for size in sizes]
        row_first = _csr([len(counts) for counts in columns])
        reach = []
        for number, size in enumerate(sizes):
            here = level == used[number]
            row_here = geometry.row_of(latitude[here], size)
            column[here] = geometry.column_of(longitude[here], columns[number][row_here])
            row[here] = row_here + row_first[number]
            reach.append(geometry.straight_line(entry["radius"][placed][here]).max())
        order = np.lexsort((offer_order[entry["offer"][placed]], column, row))
        row, column = row[order], column[order]
        new = np.flatnonzero(np.diff(row, prepend=-1) | np.diff(column, prepend=-1))
        rows = int(row_first[-1])
        return {
            "level_size": np.array(sizes),
            "level_reach": np.array(reach),
            "level_row_first": row_first,
            "row_columns": np.concatenate([np.empty(0, np.uint32), *columns]),
            "row_cell_first": _csr(np.bincount(row[new], minlength=rows)),
            "cell_column": column[new],
            "cell_entry_first": np.append(new, len(placed)),
        }, np.concatenate([placed[order], everywhere[np.argsort(offer_order[entry["offer"][everywhere]])]])

    def _zone_names(self) -> list[str]:
        return ["", *sorted({schedule.time_zone for schedule in self._schedules} - {""})]

    def _calendar(self) -> dict[str, NDArray[Any]]:
        names = self._zone_names()
        clocks = [zone_clock(name) for name in names[1:]]
        weeks = [schedule.weekly() for schedule in self._schedules]
        spans = [span for week in weeks for span in week or ()]
        return {
            "schedule_weekly": np.array([week is not None for week in weeks]),
            "schedule_zone": np.array([names.index(schedule.time_zone) for schedule in self._schedules]),
            "schedule_week_first": _csr([len(week or ()) for week in weeks]),
            "week_start": np.array([start for start, _ in spans]),
            "week_end": np.array([end for _, end in spans]),
            "zone_first": _csr([0, *(len(clock.starts) for clock in clocks)]),
            "zone_start": np.array([start for clock in clocks for start in clock.starts]),
            "zone_offset": np.array([offset for clock in clocks for offset in clock.offsets]),
        }

    def meta(self) -> dict[str, Any]:
        """What is not columnar: names and the few small tables the engine reads when it opens the snapshot."""
        strategies = {"": 0, **{name: number for number, name in enumerate(self._strategies, 1)}}
        return {
            "catalog_id": self._catalog.catalog_id,
            "time_zone": self._time_zone,
            "offers": len(self._ids),
            "entries": len(self._entry["offer"]),
            "terms": list(self._terms),
            "schedules": [
                [schedule.expressions, schedule.time_zone, schedule.country_code] for schedule in self._schedules
            ],
            "zones": self._zone_names(),
            "default_strategy": strategies[self._catalog.default_ranking_strategy_id],
            "placements": {
                name: {
                    "channel": placement.channel,
                    "strategy": strategies[placement.ranking_strategy_id or self._catalog.default_ranking_strategy_id],
                    "max_offers": placement.max_offers if placement.HasField("max_offers") else None,
                }
                for name, placement in self._placements.items()
            },
        }


_OFFER_CODES = {"terms": "q", "value": "d", "lever": "d", "fallback": "B", "redeem_start": "q", "redeem_end": "q"}
_ENTRY_CODES = {
    "offer": "q", "kind": "B", "place": "q", "venue": "q", "radius": "d", "schedule": "q", "redeem_schedule": "q",
}  # fmt: skip


class _Hours(NamedTuple):
    """What an offer says of its opening hours; at a place, with what the place adds to it."""

    shown: str
    used: str
    required: bool
    """Whether it is shown only while it may be used."""
    time_zone: str
    """"" for that of the place."""
    country_code: str


def _static_wire(offer: Offer, redemption: Redemption | None) -> bytes:
    """The fields of the Proposition that every decision repeats."""
    static = Proposition(
        offer_id=offer.offer_id,
        title=offer.title,
        benefit=offer.benefit,
        category=offer.category,
        brand=offer.brand,
        creative=offer.creative if offer.HasField("creative") else None,
        redemption=redemption,
    )
    return static.SerializeToString()


def _terms(offer: Offer) -> Terms:
    placements, tags, channels = offer.placement_ids[:], offer.language_codes[:], offer.channels[:]
    currencies = offer.currency_codes[:] or _currencies(offer.benefit)
    return (
        tuple(sorted(set(placements))) if placements else (),
        tuple(sorted({tag.lower() for tag in tags})) if tags else (),
        tuple(sorted(set(currencies))) if currencies else (),
        tuple(sorted(set(channels))) if channels else (),
    )


def _currencies(benefit: Benefit) -> list[str]:
    """The currencies of a benefit's sums, which differ only by mistake."""
    kind = benefit.WhichOneof("kind")
    codes = []
    if kind == "amount_off":
        codes.append(benefit.amount_off.currency_code)
    elif kind == "fixed_price":
        codes.append(benefit.fixed_price.currency_code)
    if benefit.HasField("minimum_order"):
        codes.append(benefit.minimum_order.currency_code)
    if benefit.HasField("maximum_discount"):
        codes.append(benefit.maximum_discount.currency_code)
    return [code for code in codes if code]


def _span(window: Interval) -> tuple[int, int]:
    start: Timestamp = window.start_time
    end: Timestamp = window.end_time
    return start.seconds, end.seconds if window.HasField("end_time") else NEVER


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


@lru_cache(maxsize=1 << 20)
def _zone_at(longitude: float, latitude: float) -> str:
    """The IANA zone of a position; "" where this machine's zone data lacks it."""
    name = get_tz(longitude, latitude)
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ""
    return name


def _strategy(strategy: RankingStrategy) -> tuple[float, ...]:
    weights = strategy.weights
    return (
        *(
            getattr(weights, name) if weights.HasField(name) else 1.0
            for name in ("nearness", "timeliness", "value", "lever")
        ),
        math.log(
            strategy.nearness_without_distance
            if strategy.HasField("nearness_without_distance")
            else DEFAULT_NEARNESS_WITHOUT_DISTANCE
        ),
        *_decay(strategy.nearness if strategy.HasField("nearness") else DEFAULT_NEARNESS),
        *_decay(strategy.timeliness if strategy.HasField("timeliness") else DEFAULT_TIMELINESS),
    )


def _decay(decay: Decay) -> tuple[float, ...]:
    base = decay.decay if decay.HasField("decay") else DEFAULT_DECAY
    minimum = decay.minimum if decay.HasField("minimum") else DEFAULT_MINIMUM
    return (
        decay.shape or Decay.SHAPE_GAUSS, decay.offset, decay.scale, base, math.log(base), math.log(minimum),
    )  # fmt: skip


def _csr(counts: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    """Where each run begins, and where the last ends."""
    return np.fromiter(accumulate(counts, initial=0), np.int64, len(counts) + 1)


def _csr_take(first: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the elements when the runs are put in another order."""
    counts = np.diff(first)[order]
    ends = np.cumsum(counts)
    positions: NDArray[np.int64] = np.repeat(first[:-1][order] - (ends - counts), counts) + np.arange(counts.sum())
    return positions
