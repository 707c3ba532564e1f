"""A compiled catalogue: a directory of arrays and a manifest, opened read-only by memory map.

Offers and entries are numbered by place, so that what is near on the ground is near in memory. An *entry* is one place
at which one offer may be shown: a circle around a venue, a circle or area of its own or of a zone, or everywhere.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from offers.directories import Kind, drafting, open_array, publish, read_manifest, seal, write_array
from offers.errors import SnapshotError

FORMAT = 13
_KIND = Kind("snapshot", FORMAT, "compile the catalogue again")

EVERYWHERE, IN_ZONE, AROUND_POINT = 0, 1, 2
"""Kinds of entry: shown without a location; inside a zone, at no distance; within reach of a point, at a distance."""

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
"""Of scores, in the order of offers.v1.FactorName."""
PROPENSITY, RECOMMENDATION = FACTORS.index("propensity"), FACTORS.index("recommendation")
STRATEGY = np.dtype(
    [
        ("weights", "f8", (len(FACTORS),)),
        ("reward", "i8"),  # what propensity is of, as in offers.v1.Propensity.Reward: 1 to 3
        ("learner", "i8"),  # which model is asked, as in offers.v1.Propensity.Learner: 1 or 2
        ("unknown", "i8"),  # what propensity takes as not known: WITHOUT_CONTEXT and so on
        ("log_without_distance", "f8"),
        ("log_outside_daypart", "f8"),
        ("log_missing_location", "f8"),
        ("log_unreachable", "f8"),
        *((f"nearness_{name}", kind) for name, kind in DECAY),
        *((f"timeliness_{name}", kind) for name, kind in DECAY),
    ]
)
"""One ranking strategy, every default filled in. Shapes as in offers.v1.Decay.Shape."""

WITHOUT_CONTEXT, WITHOUT_PROFILE, WITHOUT_PERSON = 1, 2, 4

RULE = np.dtype(
    [
        ("log_lift", "f8"),
        ("idle", "i8"),  # seconds for which a basket has not been changed, at least
        ("within", "i8"),  # seconds since a basket was changed or a category looked at, at most; NEVER: no limit
        ("segment", "i4"),  # whose members it is for; NO_NAME: it names none
        ("intent", "i4"),  # place of the intent it is for in intent_segment; NO_NAME: it names none
        ("number", "i4"),  # of the category, brand or campaign; UNKNOWN_NAME: no offer has it
        ("kind", "u1"),  # of its subject: see behaviour.py
    ],
    align=True,
)
"""A behaviour rule."""

CENTRE = np.dtype([("x", "f8"), ("y", "f8"), ("z", "f8"), ("reach", "f8")])
"""A site's centre on WGS 84 in earth-centred metres, and the straight-line metres (through the earth) up to which its
entries reach; that of an area is a circle that holds it. 0 for everywhere."""

GATE = np.dtype([("terms", "u4"), ("window_start", "u4"), ("window_end", "u4"), ("schedule", "i4")])
"""What screening asks of every entry within reach: four to a line of the processor's cache.

`terms` is an index into the catalogue's distinct (placements, languages, currencies, channels), and ODD above it;
`window_start` and `window_end` span the windows; `schedule` is when it may be shown, or NO_SCHEDULE.
"""
ODD = 1 << 31
"""In a GATE's `terms`: its ENTRY has to be asked as well, as it has what few have: an EXTRA, several windows, other
entries of its offer, no distance, or it is a fallback."""

WORTH = np.dtype([("log_value", "f8"), ("log_lever", "f8")])
"""What scoring asks of the entries that may be shown: natural logarithms."""

ENTRY = np.dtype({
    "names": ["offer", "venue", "redeem_schedule", "chain", "order", "windows", "extra", "turn", "kind", "fallback"],
    "formats": ["i4", "i4", "i4", "i4", "u4", "i4", "i4", "u2", "u1", "u1"],
    "offsets": [0, 4, 8, 12, 16, 20, 24, 28, 30, 31],
    "itemsize": 32,
})  # fmt: skip
"""What only the best entries are asked, and those that are ODD.

`venue`, `redeem_schedule` (when it may be used) and `chain` (number among the offers with several entries) may be
NO_...; `order` is the rank of the offer's id among all ids, which breaks ties; `windows` is where the list of windows
begins if there are several, or NO_WINDOWS; `turn` is the entry's among those of its offer, as its target names them
(the same from LAST_TURN on), which decides between places that are as good; `extra` is an index into the distinct
EXTRAs: the first are the default ones.
"""

EXTRA = np.dtype(
    [
        ("min_inside", "f8"),  # the least probability of being inside
        ("depth", "f8"),  # standard deviations inside an edge at which a circle gives that probability for certain
        ("fringe", "f8"),  # standard deviations outside an edge at which nothing can give it any more; 0 or more
        ("rings_inside", "f8"),  # the same for what is measured by points on rings
        ("rings_outside", "f8"),
        ("speed", "f8"),  # metres per second towards the venue, as the crow flies
        ("delay", "f8"),  # seconds before one is on the way
        ("shape", "i4"),  # the area inside which it is shown; NO_SHAPE: the circle around the centre
        ("excluded_first", "i4"),  # what is cut out, in the column piece
        ("excluded_last", "i4"),  # exclusive
        ("joined_first", "i4"),  # the areas it is one with, itself among them, in the same column
        ("joined_last", "i4"),
        ("daypart_schedule", "i4"),  # preferred dayparts; NO_SCHEDULE: none
        ("missing", "u1"),  # as offers.v1.MissingLocation
        ("reachable", "u1"),  # as offers.v1.ReachableBeforeEnd
    ],
    align=True,
)
"""What few entries have: an area, zones cut out, rules for uncertain and missing locations, travel, dayparts."""

PIECE = np.dtype([("x", "f8"), ("y", "f8"), ("z", "f8"), ("reach", "f8"), ("shape", "i4")], align=True)
"""A circle or an area that is cut out, or an area that is one with others; of an area, the circle that holds it."""

OFFER = np.dtype(
    [
        ("value", "f8"),  # (0, 1]
        ("lever", "f8"),  # (0, 1]
        ("wire_first", "i8"),  # where its bytes begin in the column wire
        ("wire_size", "u4"),
        ("redeem_start", "u4"),  # seconds since 1970
        ("redeem_end", "u4"),  # exclusive; NEVER: no limit
        ("brand", "i4"),  # numbers of the distinct names, or NO_NAME
        ("category", "i4"),
        ("group", "i4"),  # exclusion group
        ("audience", "i4"),  # number of the distinct audiences, or NO_AUDIENCE: for everybody, without shared limits
        ("caps", "i4"),  # number of the distinct lists of caps, or NO_CAPS
        ("key", "i8"),  # model.keys.key_of("offer", catalog_id, offer_id)
    ],
    align=True,
)
"""What is asked of the offers that may be shown here and now: one line of the processor's cache."""

AUDIENCE = np.dtype(
    [
        ("any_first", "i4"),  # segments of which the person must be in one, in audience_segment; empty: no matter
        ("all_first", "i4"),  # segments the person must be in; they end the ones before
        ("none_first", "i4"),  # segments the person must not be in
        ("wanted_first", "i4"),  # all segments to be known for it, also for the campaign and for creatives, each once
        ("wanted_last", "i4"),  # exclusive
        ("variant_first", "i4"),  # variants of which the person must have one, in audience_variant; empty: no matter
        ("variant_last", "i4"),
        ("named_first", "i4"),  # experiments that it, its campaign or a creative names, in audience_experiment
        ("named_last", "i4"),
        ("policy_first", "i4"),  # contact policies it is under, in audience_policy
        ("policy_last", "i4"),
        ("campaign", "i4"),  # number, or NO_NAME
        ("category", "i4"),  # number of the category limit, or NO_NAME
        ("budget", "i4"),  # number of the offer's own budget, or NO_BUDGET
    ]
)
"""Who may be shown an offer, and the limits it shares with others."""

CAMPAIGN = np.dtype(
    [
        ("key", "i8"),
        ("holdout", "f8"),  # share of persons
        ("caps", "i4"),  # list of caps, or NO_CAPS
        ("audience", "i4"),  # number of the audience its offers are for as well, or NO_AUDIENCE
        ("budget", "i4"),  # number, or NO_BUDGET
    ],
    align=True,
)
CATEGORY_LIMIT = np.dtype([("key", "i8"), ("caps", "i4")], align=True)
POLICY = np.dtype(
    [
        ("key", "i8"),
        ("caps", "i4"),  # list of caps (a cool-down is one of dismissals), or NO_CAPS
        ("quiet_schedule", "i4"),  # while it is open, nothing is shown; NO_SCHEDULE: never
        ("channels", "i4"),  # number of the terms that say where it holds
    ],
    align=True,
)
VARIANT = np.dtype([("experiment", "i4"), ("variant", "i4")])
CAP = np.dtype(
    [
        ("seconds", "i8"),  # of a rolling window; 0: not rolling
        ("max_count", "i4"),
        ("period", "i4"),  # number of the calendar period (kind and time zone) in meta["periods"], or NO_NAME: ever
        ("kind", "i4"),  # as offers.v1.EventKind
        ("channels", "i4"),  # number of the terms that say where it holds, or NO_NAME: everywhere
    ],
    align=True,
)
"""At most so many events of a kind in a window."""

CREATIVE = np.dtype(
    [
        ("wire_first", "i8"),  # in creative_wire: the fields of the Proposition that every decision repeats, whole
        ("wire_size", "i4"),
        ("terms", "i4"),  # number of the terms that say for whose language and channel
        ("audience", "i4"),  # number, or NO_AUDIENCE
        ("offer", "i4"),
    ],
    align=True,
)
"""Creative variants, by the numbers of their offers, and for each offer in the order they are tried."""

SHAPE = np.dtype(
    [
        ("west", "f8"),  # its bounding box in degrees; longitudes from -180 to 540
        ("south", "f8"),
        ("east", "f8"),
        ("north", "f8"),
        ("vertex_first", "i8"),  # where it begins in shape_vertex
        ("row_first", "i8"),  # in shape_row
        ("cell_first", "i8"),  # in shape_cell
        ("side", "i4"),  # rows, and columns, of its raster
        ("padding", "i4"),  # to a line of the processor's cache
    ]
)
"""A polygon or multipolygon; see areas.py and shapes.py."""

VERTEX = np.dtype([("longitude", "f8"), ("latitude", "f8")])

ROW = np.dtype([("cell_first", "i4"), ("columns", "i4")])
"""Where a row's cells begin, and how many columns it has around the earth."""

CELL = np.dtype([("column", "i4"), ("site_first", "i4")])
"""Where a cell is in its row, and where its sites begin. Empty cells are left out."""

COLUMNS: Mapping[str, str | np.dtype[Any]] = {
    "offer": OFFER,
    "wire": "u1",  # the fields of offers.v1.Proposition that never change, serialised, offer by offer
    "window_start": "u4",  # of offers with several windows: sorted and disjoint, each list ended by (0, 0)
    "window_end": "u4",  # exclusive; NEVER: no limit
    # Sites are the distinct centres and reaches of entries, ordered by level, row and column of the grid.
    "centre": CENTRE,
    "site_entry_first": "i4",  # CSR over the entries in the grid; after them come those shown everywhere
    # Three columns side by side, as few entries are asked for more than the first.
    "gate": GATE,
    "worth": WORTH,
    "entry": ENTRY,
    "extra": EXTRA,
    "piece": PIECE,
    "standing_first": "i4",  # one number: the first of the entries shown everywhere out of which nothing is cut
    "unplaced": "i4",  # entries in the grid that may be shown without a location
    "widest_fringe": "f8",  # one number: the largest fringe of all
    # Venue ids, UTF-8.
    "venue_id_first": "i4",  # CSR over venue_id
    "venue_id": "u1",
    # The grid: per level of cell size, rows of equal height with columns fewer towards the poles.
    "level_size": "f8",  # metres: no entry of the level reaches farther
    "level_reach": "f8",  # the farthest any entry of the level reaches, straight-line metres
    "level_row_first": "i4",  # CSR over rows
    "row": ROW,  # and one more, where the last one's cells end
    "cell": CELL,  # by column within a row; and one more, where the last one's sites end
    # Per schedule.
    "schedule_weekly": "u1",  # 1: its parts say all; 0: it has none here, see decision/kernels/hours.py
    "schedule_part_first": "i4",  # CSR over part_*
    # Per part: a schedule is open when all its parts are.
    "part_zone": "i4",  # index into the time zones; 0: the person's
    "part_margin": "i4",  # seconds before each closing from which it counts as closed
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
    "intent_segment": "i4",  # the intents in the order they are tried, by their numbers among segments
    "category_hash": "i8",  # hashing.text_hash of the categories of offers, rising, where rules look for categories
    "category_number": "i4",
    "offer_by_key": "i4",  # the offers, by their keys
    # What models know offers by, offer by offer.
    "offer_key": "u8",  # keys of the attributes meta["offer_attributes"] names, as hashing.key_of; 0: it has not got it
    "offer_number": "f8",  # the same where it is a number; NaN where it is not
    "item": "i8",  # the key of the venue that is all it is for, else its own: what visits are of
    "trait": "u2",  # as visits.short, one for each of visits.TRAITS; 0: it has none
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
    # Per shape. An edge goes from a vertex to the next; rings are closed, and no edge joins two of them.
    "shape": SHAPE,
    "shape_vertex": VERTEX,  # in degrees, multiples of areas.GRAIN
    # Per shape, from its row_first: where each raster row's edges begin, and where the last one's end, as places from
    # there on; then the edges of each row from south to north, as places from its vertex_first on.
    "shape_row": "i4",
    # Per shape, row by row from the south-west: 0 where the cell has an edge; else 2 x steps to the next cell that has
    # one (as a chess king goes; 127 at most), + 1 inside.
    "shape_cell": "u1",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One published state of a catalogue. Safe to share between threads and processes; never changes."""

    path: Path
    version: str
    """16 hexadecimal digits, the same for the same document."""
    columns: Mapping[str, NDArray[Any]]
    """The arrays named in COLUMNS."""
    meta: Mapping[str, Any]
    """What is not columnar: see `compile.compile_snapshot`."""
    size: int
    """Bytes on disk."""


def write(path: Path, version: str, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], beside: Path) -> None:
    """Write a snapshot to the directory `path`: completely or, whatever happens, not at all.

    `beside` is a file that becomes part of it, and is read by those who ask for it alone.
    """
    with drafting(path.parent, f".{path.name}-") as draft:
        files = {
            f"{name}.npy": write_array(draft / f"{name}.npy", np.ascontiguousarray(columns[name], dtype=kind))
            for name, kind in COLUMNS.items()
        }
        beside.replace(draft / beside.name)
        with (draft / beside.name).open("rb") as file:
            os.fsync(file.fileno())
        seal(draft, _KIND, {"version": version, "meta": meta, "files": files})
        publish(draft, path, open_snapshot)  # another process may have published the same version


def open_snapshot(path: Path) -> Snapshot:
    """Open a snapshot and verify its checksums. Raises SnapshotError saying what is wrong with it."""
    manifest, _, size = read_manifest(path, _KIND)
    columns = {}
    for name, kind in COLUMNS.items():
        file = path / f"{name}.npy"
        array, bytes_of_it = open_array(file, manifest.get("files", {}), _KIND)
        if array.dtype != np.dtype(kind) or array.ndim != 1:
            message = f"{file} holds {array.dtype}, not {np.dtype(kind)}: {_KIND.mend}"
            raise SnapshotError(message)
        columns[name] = array
        size += bytes_of_it
    return Snapshot(path, manifest["version"], columns, manifest["meta"], size)
