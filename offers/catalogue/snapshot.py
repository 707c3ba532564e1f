"""A compiled catalogue: a directory of arrays and a manifest, used as a verified copy in memory.

Offers and entries are numbered by place, so that offers near each other on the ground are near each other in memory.
An *entry* is one place at which one offer may be shown: a circle around a venue, a circle or area of the offer or of a
zone, or everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.hours.public_holidays import data_version
from offers.directories import (
    Content,
    DirectoryKind,
    drafting,
    flush,
    map_memory,
    publish,
    read,
    seal,
    verify,
    write_array,
)
from offers.errors import SnapshotError

FORMAT = 15
_KIND = DirectoryKind("snapshot", FORMAT, "compile the catalogue again")

EVERYWHERE, IN_ZONE, AROUND_POINT = 0, 1, 2
"""Kinds of entry: shown without a location; shown inside a zone, without a distance; shown within reach of a point, at
a distance from it."""

NO_SCHEDULE = -1
NO_VENUE = -1
NO_CHAIN = -1
NO_WINDOWS = -1
NO_SHAPE = -1
NO_NAME = -1
UNKNOWN_NAME = -2
NO_AUDIENCE = -1
NO_CAPS = -1
NO_BUDGET = -1
LAST_TURN = 65_535

DECAY = [
    ("shape", "i8"), ("origin", "f8"), ("offset", "f8"), ("scale", "f8"), ("decay", "f8"), ("log_decay", "f8"),
    ("log_minimum", "f8"),
]  # fmt: skip
FACTORS: Final = ("nearness", "timeliness", "value", "lever", "location", "reachability", "behaviour", "propensity",
                  "recommendation")  # fmt: skip
"""Factors of scores, in the order of offers.v1.FactorName."""
PROPENSITY, RECOMMENDATION = FACTORS.index("propensity"), FACTORS.index("recommendation")
STRATEGY = np.dtype(
    [
        ("weights", "f8", (len(FACTORS),)),
        ("reward", "i8"),  # the reward predicted, as offers.v1.Propensity.Reward: 1 to 3
        ("learner", "i8"),  # the model used, as offers.v1.Propensity.Learner: 1 or 2
        ("unknown", "i8"),  # bits of inputs treated as unknown: WITHOUT_CONTEXT and so on
        ("log_without_distance", "f8"),
        ("log_outside_daypart", "f8"),
        ("log_missing_location", "f8"),
        ("log_unreachable", "f8"),
        *((f"nearness_{name}", kind) for name, kind in DECAY),
        *((f"timeliness_{name}", kind) for name, kind in DECAY),
    ]
)
"""A ranking strategy, every default filled in. Shapes are values of offers.v1.Decay.Shape."""

WITHOUT_CONTEXT, WITHOUT_PROFILE, WITHOUT_PERSON = 1, 2, 4

RULE = np.dtype(
    [
        ("log_lift", "f8"),
        ("idle", "i8"),  # least seconds since the basket changed
        ("within", "i8"),  # most seconds since the basket changed or a category was viewed; NEVER: no limit
        ("segment", "i4"),  # the segment it is for; NO_NAME: any
        ("intent", "i4"),  # index in intent_segment of the intent it is for; NO_NAME: any
        ("number", "i4"),  # of the category, brand or campaign; UNKNOWN_NAME: one that no offer has
        ("kind", "u1"),  # of its subject: see compile/behaviour.py
    ],
    align=True,
)
"""A behaviour rule."""

CENTRE = np.dtype([("x", "f8"), ("y", "f8"), ("z", "f8"), ("reach", "f8")])
"""The centre of a site on WGS 84 in earth-centred metres, and the reach of its entries in straight-line metres (through
the earth). An area has the centre and reach of a circle that contains it. Entries shown everywhere have none."""

GATE = np.dtype([("terms", "u4"), ("window_start", "u4"), ("window_end", "u4"), ("schedule", "i4")])
"""The fields that screening reads of every entry within reach: four records to a cache line.

- `terms`: index into the catalogue's distinct (placements, languages, currencies, channels), with the bit ODD;
- `window_start`, `window_end`: the span from the first window to the last;
- `schedule`: when the entry may be shown, or NO_SCHEDULE.
"""
ODD = 1 << 31
"""Bit of GATE's `terms`: screening must read the ENTRY as well. Such an entry has an EXTRA, several windows, other
entries of its offer, no distance, or a fallback offer."""

WORTH = np.dtype([("log_value", "f8"), ("log_lever", "f8")])
"""The fields that scoring reads of the entries that may be shown: natural logarithms."""

ENTRY = np.dtype({
    "names": ["offer", "venue", "redeem_schedule", "chain", "order", "windows", "extra", "turn", "kind", "fallback"],
    "formats": ["i4", "i4", "i4", "i4", "u4", "i4", "i4", "u2", "u1", "u1"],
    "offsets": [0, 4, 8, 12, 16, 20, 24, 28, 30, 31],
    "itemsize": 32,
})  # fmt: skip
"""The fields that are read only of the best entries, and of those that are ODD.

- `venue`: number of the venue, or NO_VENUE;
- `redeem_schedule`: when the benefit may be used, or NO_SCHEDULE;
- `chain`: number among the offers with several entries, or NO_CHAIN;
- `order`: rank of the offer's id among all ids, which breaks ties;
- `windows`: offset of the list of windows if there are several, or NO_WINDOWS;
- `turn`: position of the entry among those of its offer, as the target names them, at most LAST_TURN. It decides
  between equally good places;
- `extra`: index into the distinct EXTRAs, of which the first has every default.
"""

EXTRA = np.dtype(
    [
        ("min_inside", "f8"),  # least probability of being inside
        ("depth", "f8"),  # standard deviations inside the edge of a circle from which the probability is always reached
        ("fringe", "f8"),  # standard deviations outside an edge beyond which it is never reached; 0 or more
        ("rings_inside", "f8"),  # the same as depth, for areas, which are measured by points on rings
        ("rings_outside", "f8"),  # the same as fringe, for areas
        ("speed", "f8"),  # metres per second towards the venue, as the crow flies
        ("delay", "f8"),  # seconds before one sets out
        ("shape", "i4"),  # area inside which it is shown; NO_SHAPE: the circle around the centre
        ("excluded_first", "i4"),  # excluded pieces, in the column piece
        ("excluded_last", "i4"),  # exclusive
        ("joined_first", "i4"),  # areas it counts as one with, itself included, in the column piece
        ("joined_last", "i4"),
        ("daypart_schedule", "i4"),  # schedule of the preferred dayparts; NO_SCHEDULE: none
        ("missing", "u1"),  # as offers.v1.MissingLocation
        ("reachable", "u1"),  # as offers.v1.ReachableBeforeEnd
    ],
    align=True,
)
"""Fields that few entries need: an area, excluded zones, rules for uncertain and missing locations, travel,
dayparts."""

PIECE = np.dtype([("x", "f8"), ("y", "f8"), ("z", "f8"), ("reach", "f8"), ("shape", "i4")], align=True)
"""A circle or an area that is excluded, or an area that counts as one with others. An area has the centre and reach of
a circle that contains it."""

OFFER = np.dtype(
    [
        ("value", "f8"),  # (0, 1]
        ("lever", "f8"),  # (0, 1]
        ("wire_first", "i8"),  # offset of its bytes in the column wire
        ("wire_size", "u4"),
        ("redeem_start", "u4"),  # seconds since 1970
        ("redeem_end", "u4"),  # exclusive; NEVER: no limit
        ("brand", "i4"),  # number of the name, or NO_NAME
        ("category", "i4"),  # number of the name, or NO_NAME
        ("group", "i4"),  # number of the name of the exclusion group, or NO_NAME
        ("audience", "i4"),  # number of the audience; NO_AUDIENCE: for everybody, without shared limits
        ("caps", "i4"),  # number of the list of caps, or NO_CAPS
        ("key", "i8"),  # model.keys.key_of("offer", catalog_id, offer_id)
    ],
    align=True,
)
"""The fields that are read of the offers that may be shown here and now: one cache line."""

AUDIENCE = np.dtype(
    [
        ("any_first", "i4"),  # offset in audience_segment: the person must be in one of these; empty: no condition
        ("all_first", "i4"),  # of the segments the person must be in; it ends the list before
        ("none_first", "i4"),  # of the segments the person must not be in
        ("wanted_first", "i4"),  # of all segments to evaluate, with those of the campaign and of creatives, each once
        ("wanted_last", "i4"),  # exclusive
        ("variant_first", "i4"),  # offset in audience_variant: the person must have one; empty: no condition
        ("variant_last", "i4"),
        ("named_first", "i4"),  # offset in audience_experiment: experiments that it, its campaign or a creative names
        ("named_last", "i4"),
        ("policy_first", "i4"),  # offset in audience_policy of the contact policies that cover it
        ("policy_last", "i4"),
        ("campaign", "i4"),  # number of the campaign, or NO_NAME
        ("category", "i4"),  # number of the category limit, or NO_NAME
        ("budget", "i4"),  # number of the offer's own budget, or NO_BUDGET
    ]
)
"""The people who may be shown an offer, and the limits it shares with other offers."""

CAMPAIGN = np.dtype(
    [
        ("key", "i8"),
        ("holdout", "f8"),  # share of persons
        ("caps", "i4"),  # list of caps, or NO_CAPS
        ("audience", "i4"),  # number of the audience its offers are for in addition to their own, or NO_AUDIENCE
        ("budget", "i4"),  # number, or NO_BUDGET
    ],
    align=True,
)
CATEGORY_LIMIT = np.dtype([("key", "i8"), ("caps", "i4")], align=True)
POLICY = np.dtype(
    [
        ("key", "i8"),
        ("caps", "i4"),  # list of caps (a cool-down is a cap on dismissals), or NO_CAPS
        ("quiet_schedule", "i4"),  # schedule of the quiet hours; NO_SCHEDULE: none
        ("channels", "i4"),  # number of the terms that name its channels
    ],
    align=True,
)
VARIANT = np.dtype([("experiment", "i4"), ("variant", "i4")])
CAP = np.dtype(
    [
        ("seconds", "i8"),  # length of a rolling window; 0: not rolling
        ("max_count", "i4"),
        ("period", "i4"),  # number of the calendar period (kind and time zone) in meta["periods"], or NO_NAME: ever
        ("kind", "i4"),  # as offers.v1.EventKind
        ("channels", "i4"),  # number of the terms that name its channels; NO_NAME: all channels
    ],
    align=True,
)
"""A frequency cap: the most events of a kind in a window."""

CREATIVE = np.dtype(
    [
        ("wire_first", "i8"),  # offset in creative_wire of the constant fields of the Proposition
        ("wire_size", "i4"),
        ("terms", "i4"),  # number of the terms that name its languages and channels
        ("audience", "i4"),  # number, or NO_AUDIENCE
        ("offer", "i4"),
    ],
    align=True,
)
"""A creative variant. They are ordered by the number of the offer, then in the order they are tried."""

SHAPE = np.dtype(
    [
        ("west", "f8"),  # bounding box in degrees; longitudes from -180 to 540
        ("south", "f8"),
        ("east", "f8"),
        ("north", "f8"),
        ("vertex_first", "i8"),  # offset in shape_vertex
        ("row_first", "i8"),  # offset in shape_row
        ("cell_first", "i8"),  # offset in shape_cell
        ("side", "i4"),  # rows and columns of its raster
        ("padding", "i4"),  # to a cache line
    ]
)
"""A polygon or multipolygon: see geo/areas.py and geo/shapes.py."""

VERTEX = np.dtype([("longitude", "f8"), ("latitude", "f8")])

ROW = np.dtype([("cell_first", "i4"), ("columns", "i4")])
"""A row of the grid: the offset of its cells, and its number of columns around the earth."""
CELL = np.dtype([("column", "i4"), ("site_first", "i4")])
"""A cell of the grid: its column, and the offset of its sites. Empty cells are left out."""

COLUMNS: Mapping[str, str | np.dtype[Any]] = {
    "offer": OFFER,
    "wire": "u1",  # the constant fields of offers.v1.Proposition, serialised, offer by offer
    "window_start": "u4",  # windows of offers with several: sorted and disjoint, each list ended by (0, 0)
    "window_end": "u4",  # exclusive; NEVER: no limit
    # Sites are the distinct centres and reaches of entries, ordered by level, row and column of the grid.
    "centre": CENTRE,
    "site_entry_first": "i4",  # CSR over the entries in the grid; entries shown everywhere follow them
    # Three parallel columns: of most entries only the first is read.
    "gate": GATE,
    "worth": WORTH,
    "entry": ENTRY,
    "extra": EXTRA,
    "piece": PIECE,
    "standing_first": "i4",  # one number: the first entry shown everywhere without exclusions
    "unplaced": "i4",  # entries in the grid that may be shown without a location
    "widest_fringe": "f8",  # one number: the largest fringe
    # Venue ids, UTF-8.
    "venue_id_first": "i4",  # CSR over venue_id
    "venue_id": "u1",
    # The grid: per level of cell size, rows of equal height with fewer columns towards the poles.
    "level_size": "f8",  # metres, more than the reach of every entry of the level
    "level_reach": "f8",  # the farthest reach of an entry of the level, in straight-line metres
    "level_row_first": "i4",  # CSR over rows
    "row": ROW,  # one record more than rows, for the end of the last row's cells
    "cell": CELL,  # by column within a row; one record more than cells, for the end of the last cell's sites
    # Per schedule.
    "schedule_weekly": "u1",  # 1: weekly, with all its parts here; 0: not weekly, see decision/kernels/hours.py
    "schedule_part_first": "i4",  # CSR over part_*
    # Per part: a schedule is open when all its parts are open.
    "part_zone": "i4",  # index into the time zones; 0: the person's
    "part_margin": "i4",  # seconds before each closing from which the part counts as closed
    "part_week_first": "i4",  # CSR over week_*
    "week_start": "i4",  # minutes from Monday 00:00 by the wall clock
    "week_end": "i4",
    # Per time zone; zone 0, the person's, is empty.
    "zone_first": "i4",  # CSR over zone_start, zone_offset
    "zone_start": "i8",  # UTC second from which the offset holds
    "zone_offset": "i4",  # seconds to add to UTC
    "strategies": STRATEGY,
    "rule": RULE,
    "rule_first": "i4",  # CSR over rule, per strategy
    "intent_segment": "i4",  # numbers of the intents among segments, in the order they are tried
    "category_hash": "i8",  # hashing.text_hash of offers' categories, ascending; empty unless rules look up categories
    "category_number": "i4",  # parallel to category_hash
    "offer_by_key": "i4",  # numbers of the offers, sorted by key
    # Features of offers for models, offer by offer.
    "offer_key": "u8",  # hashing.key_of of each attribute of meta["offer_attributes"]; 0: absent
    "offer_number": "f8",  # the value of the same attribute if it is a number, else NaN
    "item": "i8",  # the item of its visits: the key of its only venue, else its own key
    "trait": "u2",  # visits.short of each of visits.TRAITS; 0: absent
    "audience": AUDIENCE,
    "audience_segment": "i4",
    "audience_variant": VARIANT,
    "audience_experiment": "i4",
    "audience_policy": "i4",
    "campaign": CAMPAIGN,
    "category_limit": CATEGORY_LIMIT,
    "policy": POLICY,
    "cap": CAP,
    "cap_list_first": "i4",  # CSR over cap
    "creative": CREATIVE,
    "creative_wire": "u1",
    # Per shape. An edge goes from a vertex to the next. Rings are closed, and no edge joins two of them.
    "shape": SHAPE,
    "shape_vertex": VERTEX,  # in degrees, multiples of areas.GRAIN
    # Per shape, from its row_first: the offset of each raster row's edges and the end of the last row's, relative to
    # row_first; then the edges of each row from south to north, as indices relative to vertex_first.
    "shape_row": "i4",
    # Per shape, row by row from the south-west: 0 if the cell has an edge; else twice the steps of a chess king to the
    # next cell with an edge (at most 127 steps), plus 1 if the cell is inside.
    "shape_cell": "u1",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A published version of a catalogue. It is immutable and safe to share between threads and processes."""

    path: Path
    version: str
    """16 hexadecimal digits, the same for the same document."""
    columns: Mapping[str, NDArray[Any]]
    """The arrays named in COLUMNS."""
    meta: Mapping[str, Any]
    """Names and small tables that are not columnar: see `compile.builder.Builder.meta`."""
    size: int
    """Bytes on disk of the arrays and the manifest."""


def write(path: Path, version: str, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], beside: Path) -> None:
    """Write a snapshot to the directory `path`, completely or not at all.

    `beside` is a file that becomes part of the snapshot. `open_snapshot` does not read it.
    """
    with drafting(path.parent, f".{path.name}-") as draft:
        files = {
            f"{name}.npy": write_array(draft / f"{name}.npy", np.ascontiguousarray(columns[name], dtype=kind))
            for name, kind in COLUMNS.items()
        }
        beside.replace(draft / beside.name)
        files[beside.name] = flush(draft / beside.name)
        seal(draft, _KIND, {"version": version, "meta": meta, "files": files})
        publish(draft, path, verify_snapshot)  # unless another process has published the same version


def verify_snapshot(path: Path) -> Mapping[str, Any]:
    """Verify every file of a snapshot, and return its `meta`. Raises SnapshotError with the fault."""
    meta: Mapping[str, Any] = verify(path, _KIND)["meta"]
    _check_holidays(path, meta)
    return meta


def open_snapshot(path: Path, memory: int | None = None) -> Snapshot:
    """Copy a snapshot's arrays into memory: `memory` of files.new_memory, else memory of this process.

    Raises SnapshotError with the fault: a wrong checksum, or another version of holidays.
    """
    return _snapshot(path, read(path, _KIND, memory))


def map_snapshot(path: Path, memory: int) -> Snapshot:
    """Open a snapshot that another process has copied into `memory`. Raises SnapshotError."""
    return _snapshot(path, map_memory(memory, path, _KIND))


def _snapshot(path: Path, content: Content) -> Snapshot:
    meta = content.manifest["meta"]
    _check_holidays(path, meta)
    for name, kind in COLUMNS.items():
        array = content.arrays.get(name)
        if array is None or array.dtype != np.dtype(kind) or array.ndim != 1:
            message = f"{path / name}.npy holds {array.dtype if array is not None else 'nothing'}: {_KIND.mend}"
            raise SnapshotError(message)
    return Snapshot(path, content.manifest["version"], content.arrays, meta, content.size)


def _check_holidays(path: Path, meta: Mapping[str, Any]) -> None:
    holidays = meta.get("holidays", "")
    if holidays and holidays != data_version():
        message = f"{path} was compiled with holidays {holidays}, and {data_version()} is installed: {_KIND.mend}"
        raise SnapshotError(message)
