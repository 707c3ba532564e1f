"""Per-thread working arrays shared by the stages of a decision, over any catalogues.

Each array is declared once, as a member of ScratchArray: its place in the table, its element type and its size. The
memory of a Scratchpad, and the check that it has room for a catalogue's decisions, follow from that.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from offers.catalogue.geo.geometry import RINGS
from offers.catalogue.rules.behaviour import MAX_RULES
from offers.catalogue.rules.models import MAX_NAMES, RESERVED
from offers.catalogue.snapshot import FACTORS
from offers.compiled import inner
from offers.decision.kernels.memory.records import Record, Table, array_of, i8
from offers.model.query import MAX_OFFERS
from offers.model.visits import MAX_VISITS, TRAITS, VISIT
from offers.state.person.basket import MAX_STEPS

CANDIDATES = 16_384
"""Candidates a thread has room for at first. Most decisions have some hundreds; the room grows when one has more."""
SITES_AT_A_TIME = 256
"""Sites that are sifted before those within reach are followed up."""
LOOKED_UP = 4096
"""Schedules looked up at a time."""
POINTS = RINGS * RINGS
"""Points that stand for an uncertain location: as many to a ring as there are rings."""
MOST_LEVELS = 32
"""Levels of the grid, at most: cells of the 18th are as wide as the earth."""
MOST_ROWS = 8
"""Rows of a level, and therefore spans, that are kept."""
NOT_FOUND = -1
"""Number of spans of a window that has more than MOST_ROWS rows, or crosses the antimeridian: they are not kept."""
AT_A_TIME = 256
"""Candidates whose propensity is predicted at a time."""
MOST_ATTRIBUTES, MOST_OWN = 128, MAX_NAMES + len(RESERVED)
"""Attributes by which a model knows requests, and offers, at most."""
RIVALS = 256
"""Candidates, beside the chosen, that are drawn again to compute selection probabilities."""
MOST_DEPTH = 32
"""Results of segment steps that may wait on the stack."""
LOGGED_ATTRIBUTES = 8192
"""Bytes of the request's attributes, and of the person's, that a decision's record keeps; longer ones are left out."""
_LOGGED, _LOGGED_EACH = 1792 + 2 * LOGGED_ATTRIBUTES, 168
"""Bytes of a decision's record: for surface and attributes together, and for each offer, exposure or holdout."""

CANDIDATE = np.dtype(
    [
        ("squared", "f8"),  # straight-line metres from the location, squared; infinite: there is no distance
        ("chance", "f8"),  # probability that the person is inside the entry's place
        ("log_score", "f8"),
        ("until", "u4"),  # second at which it ends; NEVER: it does not
        ("entry", "u4"),
        ("flags", "u4"),  # UNPLACED and so on
        ("site", "i4"),  # where it is shown, if it has a distance
        ("log_propensity", "f8"),  # with exploration; this and the next three only where DecisionFact.learned is 1
        ("varied", "f8"),  # part of log_propensity that exploration added
        ("deviation", "f8"),  # standard deviation of log_propensity; negative: the offer is new
        ("log_recommendation", "f8"),
    ],
    align=True,
)
"""An entry that may be shown."""
UNPLACED, PENALISED, IN_DAYPART, OUTSIDE_DAYPART, UNREACHABLE, IN_AUDIENCE, LIFTED, HABIT = 1, 2, 4, 8, 16, 32, 64, 128
"""Flags of a candidate, in this order: shown without a location; that lowers its score; inside its preferred dayparts;
outside of them; over before the person can be there; for the person's segments; lifted by behaviour; a habit."""
CHOSEN = np.dtype(
    [
        ("entry", "i8"),
        ("index", "i8"),  # of the candidate
        ("log_score", "f8"),
        ("distance_m", "f8"),  # -1: none
        ("until", "i8"),  # second; NEVER: no end
        ("logs", "f8", (len(FACTORS),)),  # logarithms of its factors
        ("selection", "f8"),  # selection probability; 0: nothing is explored
        ("creative", "i4"),  # index of the creative variant, or NO_NAME
        ("flags", "u1"),
        ("redeemable", "u1"),
    ],
    align=True,
)
"""An offer of the answer."""
REACHED = np.dtype([("squared", "f8"), ("site", "i4"), ("first", "u4"), ("last", "u4")], align=True)
"""A site within reach: straight-line metres to it, squared (infinite: NOWHERE), and its entries, the last exclusive."""
WINDOW = np.dtype([("low", "i8"), ("high", "i8"), ("spread", "f8"), ("spans", "i8"), ("seen", "i8")])
"""The part of a grid level around the location: first and last row, half its width in radians of longitude, the number
of spans of sites in it (or NOT_FOUND), and of sites."""
SPAN = np.dtype([("first", "i8"), ("last", "i8")])
"""Sites that stand side by side; the last exclusive."""
POINT = np.dtype([("latitude", "f8"), ("longitude", "f8")])
"""Degrees."""
COUNTER = np.dtype([("key", "<i8"), ("kind", "u1"), ("spare", "u1"), ("count", "<u2"), ("first", "<u4")])
"""As in offers.v1.UserState: `count` instants of one kind, from `first` in times on."""
MARK = np.dtype([("number", "i8"), ("bits", "i8")])
"""The number of the decision that marked a category last, and a bit per behaviour rule that applies to it."""
STEP = np.dtype([("what", "i8"), ("quantity", "i8"), ("begin", "i8"), ("end", "i8")])
"""A hash of product, venue and category; the quantity in the basket; where the category stands in the record."""
VALUE = np.dtype(
    [
        ("stamp", "i8"),  # PersonFact.number of the decision for which it was read
        ("number", "f8"),
        ("begin", "i8"),  # where a text, list or struct stands
        ("end", "i8"),
        ("kind", "u1"),  # see predicates.py
    ],
    align=True,
)
"""A value that segments read of the person or the request."""
RIVAL = np.dtype(
    [
        ("log_score", "f8"),  # without exploration
        ("deviation", "f8"),  # as of the candidate
        ("most", "f8"),  # the most that may be added to the logarithm of its propensity
        ("own", "u8"),  # number by which its draws are made
        ("drawn", "f8"),  # score in a draw
        ("highest", "f8"),  # upper bound of its score in any draw, falling among those not chosen
        ("turn", "u8"),  # of rivals with equal scores, the least comes first
        ("entry", "i8"),
        ("place", "i8"),  # rank among the chosen; -1: not chosen
    ],
)
"""A candidate that exploration may bring into the answer."""

OUT, IN, UNASKED = 0, 1, 2
"""States of a segment in a decision."""
MET, REFUSED, ADMITTED = 0, 1, 2
"""States of an audience in a decision."""
VERDICT, DEPENDS, NOTED = 3, 4, 8
"""Bits of what is kept of an audience in a decision: its state; whether variants or the campaign's holdout alone may
change that; and, times SURE or IF_FALLBACKS, whether that was noted."""
STAMP_SHIFT = 5
"""Bits by which the number of the decision is shifted beside them."""
SURE, IF_FALLBACKS, IF_RANKED = 1, 2, 4
"""Bits of ScratchArray.exposed and withheld while offers are admitted: the experiment or holdout has a part in the
decision; if only fallbacks qualify; if several offers qualify."""
SHOWN, HELD_OUT = 1, 2
"""Values of ScratchArray.withheld once offers are admitted: offers may be shown to the person, or are withheld."""


class DecisionFact(IntEnum):
    """Indices of the whole numbers that the stages of a decision hand on."""

    refresh_after = 0
    """Second until which the set of qualifying offers stays as it is."""
    unknown = 1
    """Schedules listed in ScratchArray.unknown."""
    found = 2
    """Places within reach; or the number of candidates for which there was no room."""
    eligible = 3
    """Distinct offers that qualify."""
    standing_begin = 4
    """First of the offers shown everywhere that compete for a place in the answer."""
    standing_end = 5
    """Last of them, exclusive."""
    laid_from = 6
    """First of the points around the location that are computed; all that follow are as well."""
    proper = 7
    """Candidates that are no fallbacks."""
    personal = 8
    """1 if the person matters to what is near."""
    wanted = 9
    """Segments listed in ScratchArray.wanted."""
    kept = 10
    """Candidates that may be shown here and now."""
    chosen = 11
    """Offers of the answer."""
    held = 12
    """Behaviour rules listed in ScratchArray.held."""
    learned = 13
    """1 if a model has a part in the decision."""
    explored = 14
    """1 if propensities are varied by exploration."""
    has_proper = 15
    """1 if an offer qualifies that is no fallback."""


class PersonFact(IntEnum):
    """Indices of the whole numbers that are known of the person, beside what is counted."""

    number = 0
    """Number of the decision, rising with each that the scratchpad is used for."""
    draw = 1
    """Number by which holdouts are drawn, and variants unless variant_draw is another; 0: nobody in particular."""
    counters = 2
    """Counters in ScratchArray.counter."""
    held_out = 3
    """1 if only fallbacks are shown."""
    stopped = 4
    """1 if nothing is shown: the placement is at a cap."""
    blind = 5
    """Not 0 if the state could not be read: contact policies with caps are then taken to be at them."""
    profile_begin = 6
    """Offset of the profile in the record; -1: there is none."""
    profile_end = 7
    context_begin = 8
    """Offset of the context in the request; -1: there is none."""
    context_end = 9
    hidden = 10
    """Not 0 if the location and the session must not be used."""
    known = 11
    """1 if data may be kept of the person."""
    strategy = 12
    """Ranking strategy that variants give; NO_NAME: none does."""
    new = 13
    """1 if the person was not exposed before to all experiments that have a part in the decision, or if a holdout has a
    part in it and the number by which it is drawn is not kept yet."""
    left = 14
    """Wanted segments that are left to CEL: they are listed first."""
    learn = 15
    """1 if models may learn from the decision."""
    logged = 16
    """Bytes of ScratchArray.logged; 0: there was no room for the record."""
    subjects = 17
    """A bit per behaviour rule of the strategy whose subject is there."""
    local_second = 18
    """The instant by the wall clock of the catalogue's time zone, as seconds since 1970: visits are kept by it."""
    place = 19
    """Key of where the person is; 0: nowhere."""
    visits = 20
    """Visits in ScratchArray.visit."""
    chance = 21
    """Number by which exploration is drawn."""
    model = 22
    """Version, as a signed number, of the model whose attributes were read from request and person; 0: none."""
    visits_begin = 23
    """Offset of the visits in the record; -1: there are none."""
    visits_end = 24
    assignments_begin = 25
    """Offset of the first assignment of a variant in the record, with its tag; -1: there is none."""
    assignments_end = 26
    pinned = 27
    """1 if the record has the number by which variants and holdouts are drawn."""
    concerned = 28
    """1 if variants or holdouts are drawn for the person."""
    variant_draw = 29
    """Number by which variants are drawn of experiments to which the person was not exposed."""
    unread = 30
    """1 if a budget had a part in the decision whose use could not be read."""


class Capacity(NamedTuple):
    """How many of each kind a scratchpad has room for, or the decisions of an engine need room for."""

    candidates: int = 0
    chains: int = 0
    segments: int = 0
    audiences: int = 0
    experiments: int = 0
    holdouts: int = 0
    periods: int = 0
    values: int = 0
    names: int = 0
    counters: int = 64
    times: int = 1024
    related: int = 0
    """Items that a person's visits bring to mind; 0: recommendation is not asked for."""


Size = int | Callable[[Capacity], int]


class ScratchArray(IntEnum):
    """The working arrays: each with its element type, and its size as a number or as a function of the capacity.

    A member's number is its index in the scratchpad's table.
    """

    def __new__(cls, dtype: DTypeLike, size: Size) -> Self:
        """Number the members as they are declared."""
        index = len(cls.__members__)
        member = int.__new__(cls, index)
        member._value_ = index
        member.dtype, member.size = np.dtype(dtype), size
        return member

    dtype: np.dtype[Any]
    size: Size

    candidate = CANDIDATE, lambda room: room.candidates
    """Entries that may be shown."""
    reached = REACHED, lambda room: room.candidates
    """Sites within reach."""
    heap = "i4", lambda room: room.candidates
    """Indices of candidates, the best first."""
    chain_best = "u4", lambda room: room.chains
    """Per chain: the nearest candidate of its offer, valid only if that candidate is of the chain."""
    chosen = CHOSEN, MAX_OFFERS + 1
    """The offers of the answer, best first."""
    decision = "i8", len(DecisionFact)
    """See DecisionFact."""
    refresh_distance = "f8", 1
    """Metres within which the set of qualifying offers stays as it is."""
    capacity = "i8", len(Capacity._fields)
    """The scratchpad's own Capacity."""
    window = WINDOW, MOST_LEVELS
    """Per level of the grid."""
    unknown = "i4", LOOKED_UP
    """Schedules that must be looked up before the decision can be made, as far as there is room."""
    span = SPAN, MOST_LEVELS * MOST_ROWS
    """MOST_ROWS per level of the grid."""
    point = POINT, POINTS
    """Positions that stand for an uncertain location: see location.py."""
    near = "i4", SITES_AT_A_TIME
    """Indices of sites that may be within reach, among those sifted at a time."""
    segment = "u1", lambda room: room.segments
    """Per segment: OUT, IN or UNASKED."""
    wanted = "i4", lambda room: room.segments
    """Segments that must be known, DecisionFact.wanted of them."""
    asked = "i8", lambda room: room.audiences
    """Per audience: PersonFact.number of the decision that met it last, shifted by STAMP_SHIFT, with bits of VERDICT,
    DEPENDS and NOTED."""
    counter = COUNTER, lambda room: room.counters
    """The person's counters, by key and kind."""
    times = "u4", lambda room: room.times
    """Seconds of the counters."""
    variant = "i4", lambda room: room.experiments
    """Per experiment: the person's variant, or NO_NAME."""
    mentioned = "u1", lambda room: room.experiments
    """Per experiment: 1 if an audience of what is near names its variants."""
    period = "i8", lambda room: 2 * room.periods
    """First and last second (exclusive) of the calendar periods around the instant."""
    person = "i8", len(PersonFact)
    """See PersonFact."""
    stack = "u1", MOST_DEPTH
    """Results of segment steps: see judge.py."""
    exposed = "u1", lambda room: room.experiments
    """Per experiment: 1 if it has a part in the decision."""
    recalled = "u1", lambda room: room.experiments
    """Per experiment: 1 if the person was exposed to it before."""
    withheld = "u1", lambda room: room.holdouts
    """For the catalogue's holdout, then those of campaigns by their number: SHOWN or HELD_OUT if it has a part in the
    decision."""
    layer = "i4", lambda room: room.experiments
    """Per layer, of which there are no more than experiments: the experiment the person stays in, or NO_NAME."""
    value = VALUE, lambda room: room.values
    """Values that segments read."""
    logged = "u1", lambda room: _LOGGED + _LOGGED_EACH * (MAX_OFFERS + 2 * room.experiments + room.holdouts)
    """The offers.v1.DecisionRecord of the decision."""
    lifted = MARK, lambda room: room.names
    """Per name; categories are among the names."""
    turn = "i8", MAX_RULES
    """Per behaviour rule of the strategy: the second at which its subject changes; NEVER: not by time alone."""
    held = "i4", MAX_RULES
    """Behaviour rules that hold, DecisionFact.held of them."""
    step = STEP, MAX_STEPS
    """The basket that events have filled."""
    request_key = "u8", MOST_ATTRIBUTES
    """Keys of the request's values, in the order of the model's attributes."""
    request_number = "f8", MOST_ATTRIBUTES
    """The same values as numbers."""
    asked_key = "u8", MOST_ATTRIBUTES
    """The keys that the strategy allows the model to use."""
    offer_key = "u8", AT_A_TIME * MOST_OWN
    """Keys of the values of AT_A_TIME offers."""
    offer_number = "f8", AT_A_TIME * MOST_OWN
    """The same values as numbers."""
    foreseen = "f8", 4 * AT_A_TIME
    """Means and variances of logits; later, weights of own visits and of the background for recommendation."""
    item = "i8", AT_A_TIME
    """Items of AT_A_TIME offers, for recommendation."""
    trait = "u2", AT_A_TIME * len(TRAITS)
    """Their traits."""
    visit = VISIT, MAX_VISITS
    """The person's visits."""
    # Working arrays of recommendation: see learning.recommend.Scratch.
    recommend_keys = "i8", lambda room: room.related
    recommend_sums = "f8", lambda room: 2 * room.related
    recommend_used = "i4", lambda room: room.related
    recommend_traits = "f8", lambda room: len(TRAITS) << 16 if room.related else 0
    recommend_per_kind = "f8", 2 * len(TRAITS)
    recommend_counts = "f8", MAX_VISITS
    rival = RIVAL, MAX_OFFERS + 1 + RIVALS
    """The chosen, then the candidates that exploration may bring into the answer."""
    highest = "f8", RIVALS
    """Upper bounds of rivals' scores while rivals are searched for: a heap beside ScratchArray.heap."""
    taken = "i8", MAX_OFFERS + 1
    """Entries that are in an answer, or would be by a draw."""
    cell = "f8", 3
    """Middle of the geohash cell in which the person is, in earth-centred metres; NaN: unknown. See cell.py."""


class Scratchpad:
    """Working memory for one thread's decisions, over any catalogues."""

    def __init__(self) -> None:
        self.room = Capacity()
        self.arrays: dict[str, NDArray[Any]] = {}
        self._table = np.zeros(2 * len(ScratchArray), np.int64)
        self.table: Table = self._table.ctypes.data
        """The address of the table; it stays the same when arrays grow."""
        self.fit(Capacity(CANDIDATES))

    def fit(self, room: Capacity) -> None:
        """Grow to at least a capacity. Arrays that need not grow keep their content."""
        self.room = Capacity(*map(max, room, self.room))
        arrays = {}
        for one in ScratchArray:
            size = one.size if isinstance(one.size, int) else one.size(self.room)
            before = self.arrays.get(one.name)
            arrays[one.name] = before if before is not None and len(before) == size else np.zeros(size, one.dtype)
        record = Record(ScratchArray, arrays)
        record.copy_table(self._table)
        self.arrays = record.arrays
        self.arrays[ScratchArray.capacity.name][:] = self.room


@inner
def has_room(scratch: Table, needed: np.ndarray) -> bool:
    """Return whether a scratchpad has at least a capacity, which stands in the order of Capacity."""
    capacity = i8(scratch, ScratchArray.capacity)
    has = True
    for kind in range(len(capacity)):
        has &= needed[kind] <= capacity[kind]
    return has


windows_of = array_of(ScratchArray.window, WINDOW)
spans_of = array_of(ScratchArray.span, SPAN)
candidates_of = array_of(ScratchArray.candidate, CANDIDATE)
reached_of = array_of(ScratchArray.reached, REACHED)
points_of = array_of(ScratchArray.point, POINT)
chosen_of = array_of(ScratchArray.chosen, CHOSEN)
counters_of = array_of(ScratchArray.counter, COUNTER)
values_of = array_of(ScratchArray.value, VALUE)
marks_of = array_of(ScratchArray.lifted, MARK)
steps_of = array_of(ScratchArray.step, STEP)
visits_of = array_of(ScratchArray.visit, VISIT)
rivals_of = array_of(ScratchArray.rival, RIVAL)
