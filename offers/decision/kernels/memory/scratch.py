"""What the stages of one decision write and hand on: the memory of one thread, over any catalogues."""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.compile.geometry import RINGS
from offers.catalogue.rules.behaviour import MAX_RULES
from offers.catalogue.rules.models import MAX_NAMES, RESERVED
from offers.catalogue.snapshot import FACTORS
from offers.decision.kernels.memory.records import Record, array_of
from offers.model.query import MAX_OFFERS
from offers.model.visits import MAX_VISITS, TRAITS, VISIT
from offers.state.person.basket import MAX_STEPS

CANDIDATES = 16_384
"""Candidates a thread has room for at first; grown to need. Most decisions have some hundreds."""
SITES_AT_A_TIME = 256
"""Sites looked at before those within reach are followed up."""
LOOKED_UP = 4096
"""Schedules looked up at a time."""


class Scratch(IntEnum):
    """Places of the arrays one thread works in."""

    candidate = 0
    """CANDIDATE: entries that may be shown."""
    reached = 1
    """REACHED: where there are entries within reach."""
    heap = 2
    """i4: numbers of candidates, the best first."""
    chain_best = 3
    """u4 per chain: the nearest candidate of the offer in this decision, if that one is of the chain."""
    chosen = 4
    """CHOSEN: the offers of the decision, best first."""
    outcome = 5
    """f8: see Outcome."""
    window = 6
    """WINDOW per level of the grid."""
    unknown = 7
    """i4: schedules whose state must be looked up before the decision can be made, as far as there is room."""
    span = 8
    """SPAN: MOST_ROWS per level of the grid."""
    point = 9
    """POINT: the positions that stand for an uncertain location; see location.py."""
    near = 10
    """i4: sites that may be within reach, of those looked at at a time."""
    segment = 11
    """u1 per segment: OUT, IN or UNASKED."""
    wanted = 12
    """i4: segments that must be known, as many as Outcome.wanted says."""
    asked = 13
    """i8 per audience: four times the number of the decision that met it last, and what became of it: MET and so on."""
    counter = 14
    """COUNTER: what is counted of the person, by key and kind."""
    times = 15
    """u4: seconds of the counters."""
    variant = 16
    """i4 per experiment: the person's variant, or NO_NAME."""
    mentioned = 17
    """u1 per experiment: 1 if what is near names its variants."""
    period = 18
    """i8: first and last second (exclusive) of the calendar periods around the instant."""
    person = 19
    """i8: see PersonFact."""
    stack = 20
    """u1: what steps of segments have come to; see judge.py."""
    exposed = 21
    """u1 per experiment: 1 if it has a part in the decision."""
    layer = 22
    """i4 per layer, of which there are no more than experiments: the experiment the person stays in, or NO_NAME."""
    value = 23
    """VALUE per value that segments read."""
    logged = 24
    """u1: the offers.v1.DecisionRecord of the decision."""
    lifted = 25
    """MARK per name, of which categories are some."""
    turn = 26
    """i8 per behaviour rule of the strategy: the second at which its subject changes; NEVER: with time alone it does
    not."""
    held = 27
    """i4: the behaviour rules that hold, as many as Outcome.held says."""
    step = 28
    """STEP: what events have put into the basket."""
    request_key = 29
    """u8: keys of what models know the request by, in the order of their attributes."""
    request_number = 30
    """f8: the same where it is a number."""
    asked_key = 31
    """u8: those that the strategy uses."""
    offer_key = 32
    """u8: AT_A_TIME times what models know an offer by."""
    offer_number = 33
    """f8: the same where it is a number."""
    foreseen = 34
    """f8: means and variances of logits, then what own visits count for and the background of recommendation."""
    item = 35
    """i8: AT_A_TIME."""
    trait = 36
    """u2: AT_A_TIME times as many as there are kinds."""
    visit = 37
    """VISIT: what the person took up."""
    # What recommendation works in: see learning.recommend.Scratch.
    recommend_keys = 38
    recommend_sums = 39
    recommend_used = 40
    recommend_traits = 41
    recommend_per_kind = 42
    recommend_counts = 43
    rival = 44
    """RIVAL: the candidates that exploration may bring into the answer."""
    highest = 45
    """f8: of rivals while they are looked for, the highest score that each has in any draw."""
    taken = 46
    """i8: entries that are in an answer, or would be by a draw."""
    cell = 47
    """f8: the middle of the cell in which the person is, in earth-centred metres; NaN: it is not known. See cell.py."""


COUNTER = np.dtype([("key", "<i8"), ("kind", "u1"), ("spare", "u1"), ("count", "<u2"), ("first", "<u4")])
"""As in offers.v1.UserState: instants of one kind, from `first` in times on."""
MARK = np.dtype([("number", "i8"), ("bits", "i8")])
"""The number of the decision that marked a category last, and a bit per behaviour rule that applies to it."""
RIVAL = np.dtype(
    [
        ("log_score", "f8"),  # without exploration
        ("deviation", "f8"),  # as of the candidate
        ("most", "f8"),  # the most that may be added to the logarithm of its propensity
        ("own", "u8"),  # what draws go by
        ("drawn", "f8"),  # the score in a draw
        ("highest", "f8"),  # of those not chosen: the highest score that it has in any draw, or some more; they fall
        ("turn", "u8"),  # what comes first of what scores alike: the least of these
        ("entry", "i8"),
        ("place", "i8"),  # among the chosen; -1: it is none of them
    ],
)
STEP = np.dtype([("what", "i8"), ("quantity", "i8"), ("begin", "i8"), ("end", "i8")])
"""A product of a venue and a category, by a hash; how many there are in the basket; where its category stands."""
OUT, IN, UNASKED = 0, 1, 2
MET, REFUSED, ADMITTED = 0, 1, 2
"""What became of an audience in a decision."""


class PersonFact(IntEnum):
    """Places of what is known of the person, beside what is counted."""

    number = 0
    """Of the decision, rising with every one of the scratchpad's."""
    draw = 1
    """The number by which variants and holdouts are drawn; 0: nobody in particular."""
    counters = 2
    """How many there are."""
    held_out = 3
    """Whether fallbacks alone are shown."""
    stopped = 4
    """Whether nothing is shown: the placement is at a cap."""
    blind = 5
    """Whether the state could not be read: contact policies with caps are taken to be at them."""
    profile_begin = 6
    """Where the profile stands in the record; -1: there is none."""
    profile_end = 7
    context_begin = 8
    """Where the context stands in the request; -1: there is none."""
    context_end = 9
    hidden = 10
    """Whether the location and the session are not to be used."""
    known = 11
    """Whether something may be kept of the person."""
    strategy = 12
    """The ranking strategy that variants give; NO_NAME: none does."""
    new = 13
    """Whether the person was not exposed before to all that the decision exposes them to."""
    left = 14
    """How many of the wanted segments are left to CEL: they are listed first."""
    learn = 15
    """Whether models may learn from the decision."""
    logged = 16
    """Bytes of Scratch.logged; 0: there was no room for it."""
    subjects = 17
    """A bit per behaviour rule of the strategy whose subject is there."""

    local_second = 18
    """The instant by the wall clock of the catalogue's time zone, as visits have it, as seconds since 1970."""
    place = 19
    """The key of where the person is; 0: nowhere."""
    visits = 20
    """How many visits of the person are known."""
    chance = 21
    """The number that exploration hangs on."""
    model = 22
    """The version of the model that was told of the request and the person, as a signed number; 0: none was."""
    visits_begin = 23
    """Where the visits stand in the record; -1: there are none."""
    visits_end = 24
    assignments_begin = 25
    """Where the first of the assignments of variants stands in the record, with its tag; -1: there is none."""
    assignments_end = 26


CANDIDATE = np.dtype(
    [
        ("squared", "f8"),  # straight-line metres, squared, from the location; infinite: it has no distance
        ("chance", "f8"),  # how likely one is inside its place
        ("log_score", "f8"),
        ("until", "u4"),  # second at which it ends; NEVER: it does not
        ("entry", "u4"),
        ("flags", "u4"),  # what is to be told of it: UNPLACED and so on
        ("site", "i4"),  # where it is shown, if it has a distance
        ("log_propensity", "f8"),  # as explored; these four only where Outcome.learned says so
        ("varied", "f8"),  # how much of it is exploration
        ("deviation", "f8"),  # standard deviation of what is explored of it; below 0: of a new offer
        ("log_recommendation", "f8"),
    ],
    align=True,
)
VALUE = np.dtype(
    [
        ("stamp", "i8"),  # PersonFact.number of the decision it was read for
        ("number", "f8"),
        ("begin", "i8"),  # where a text, list or struct stands
        ("end", "i8"),
        ("kind", "u1"),  # see predicates.py
    ],
    align=True,
)
WINDOW = np.dtype([("low", "i8"), ("high", "i8"), ("spread", "f8"), ("spans", "i8"), ("seen", "i8")])
"""The first and last row of a level around the location, how far to either side, in radians of longitude, how many
spans of sites are there, or NOT_FOUND, and how many sites."""
SPAN = np.dtype([("first", "i8"), ("last", "i8")])
"""Sites that stand side by side; the last exclusive."""
REACHED = np.dtype([("squared", "f8"), ("site", "i4"), ("first", "u4"), ("last", "u4")], align=True)
"""Straight-line metres, squared, from the location to a site, or infinity; the site, or region.NOWHERE; and its
entries, the last exclusive."""
POINT = np.dtype([("latitude", "f8"), ("longitude", "f8")])
"""Degrees."""
POINTS = RINGS * RINGS
"""Points that stand for a distribution: as many to a ring as there are rings."""
MOST_ROWS = 8
"""Rows of a level, and so spans, that are kept."""
LOGGED_ATTRIBUTES = 8192
"""Bytes of attributes that the record of a decision has of the request, and of the person; of more it has none."""
_LOGGED, _LOGGED_EACH = 1792 + 2 * LOGGED_ATTRIBUTES, 168
"""Bytes of the record of a decision: of a surface and attributes, and of an offer, or an experiment and its variant."""
AT_A_TIME = 256
"""Candidates of which is foreseen at a time how likely they are taken up."""
MOST_ATTRIBUTES, MOST_OWN = 128, MAX_NAMES + len(RESERVED)
"""What models know requests and offers by, at most."""
RIVALS = 256
"""Candidates that are drawn again to find out how probable the answer was."""
MOST_DEPTH = 32
"""Results of steps that wait for each other."""
NOT_FOUND = -1
MOST_LEVELS = 32
"""Levels of the grid, at most: cells of the 18th are as wide as the earth."""


class Outcome(IntEnum):
    """Places of what the stages find out beside the offers."""

    refresh_after = 0
    """Second until which the set of offers that qualify stays as it is."""
    refresh_distance = 1
    """Metres within which it does."""
    unknown = 2
    """Schedules that must be looked up."""
    found = 3
    """Places within reach, or more candidates than there was room for."""
    eligible = 4
    """Distinct offers that qualify."""
    standing_begin = 5
    """Which of the offers shown everywhere are among them."""
    standing_end = 6
    laid_from = 7
    """The first of the points that are worked out; all that follow are."""
    proper = 8
    """Candidates that are no fallbacks."""
    personal = 9
    """Whether the person matters to what is near."""
    wanted = 10
    """Segments that must be known."""
    kept = 11
    """Candidates that may be shown here and now."""
    chosen = 12
    """Offers of the decision."""
    held = 13
    """Behaviour rules that hold."""
    learned = 14
    """Whether a model has a part in it."""
    explored = 15
    """Whether propensities are varied."""


CHOSEN = np.dtype(
    [
        ("entry", "i8"),
        ("index", "i8"),  # of the candidate
        ("log_score", "f8"),
        ("distance_m", "f8"),  # -1: none
        ("until", "i8"),  # second; NEVER: no end
        ("logs", "f8", (len(FACTORS),)),  # of its factors
        ("selection", "f8"),  # how probable it was that it is chosen; 0: nothing is explored
        ("creative", "i4"),  # number of the creative variant, or NO_NAME
        ("flags", "u1"),
        ("redeemable", "u1"),
    ],
    align=True,
)

SCRATCH = {
    "candidate": CANDIDATE, "reached": REACHED, "heap": "i4", "chain_best": "u4", "chosen": CHOSEN, "outcome": "f8",
    "window": WINDOW, "unknown": "i4", "span": SPAN, "point": POINT, "near": "i4", "segment": "u1", "wanted": "i4",
    "asked": "i8", "counter": COUNTER, "times": "u4", "variant": "i4", "mentioned": "u1", "period": "i8",
    "person": "i8", "stack": "u1", "exposed": "u1", "layer": "i4", "value": VALUE, "logged": "u1",
    "lifted": MARK, "turn": "i8", "held": "i4", "step": STEP, "request_key": "u8", "request_number": "f8",
    "asked_key": "u8", "offer_key": "u8", "offer_number": "f8", "foreseen": "f8", "item": "i8", "trait": "u2",
    "visit": VISIT, "recommend_keys": "i8", "recommend_sums": "f8", "recommend_used": "i4", "recommend_traits": "f8",
    "recommend_per_kind": "f8", "recommend_counts": "f8", "rival": RIVAL, "highest": "f8", "taken": "i8",
    "cell": "f8",
}  # fmt: skip
"""The types of the arrays of Scratch."""

NO_ROOM = -2
"""In place of a count: more candidates than the scratch has room for."""

UNPLACED, PENALISED, IN_DAYPART, OUTSIDE_DAYPART, UNREACHABLE, IN_AUDIENCE, LIFTED, HABIT = 1, 2, 4, 8, 16, 32, 64, 128
"""What screening tells of a candidate: shown without a location, and with less score for it; inside, or outside, its
preferred dayparts; over before one can be there; for the person's segments; lifted by what the person does; a habit."""


class Room(NamedTuple):
    """How many a scratchpad has room for."""

    candidates: int = 0
    chains: int = 0
    segments: int = 0
    audiences: int = 0
    experiments: int = 0
    periods: int = 0
    values: int = 0
    names: int = 0
    counters: int = 64
    times: int = 1024
    related: int = 0
    """Items that a person's visits bring to mind; 0: recommendation is not asked for."""


class Scratchpad:
    """Memory for one thread's decisions, over any catalogues."""

    def __init__(self) -> None:
        self.room = Room()
        self.arrays: dict[str, NDArray[Any]] = {}
        self.fit(Room(CANDIDATES))

    def fit(self, room: Room) -> None:
        """Have room for as many at least, and for no less than before. What need not grow stays as it is."""
        self.room = Room(*map(max, room, self.room))
        candidates, chains, segments, audiences, experiments, periods, values, names, counters, times, related = (
            self.room
        )
        sizes = {
            "candidate": candidates, "reached": candidates, "heap": candidates, "near": SITES_AT_A_TIME,
            "chain_best": chains, "chosen": MAX_OFFERS + 1, "outcome": len(Outcome), "window": MOST_LEVELS,
            "unknown": LOOKED_UP, "span": MOST_LEVELS * MOST_ROWS, "point": POINTS, "segment": segments,
            "wanted": segments, "asked": audiences, "counter": counters, "times": times, "variant": experiments,
            "mentioned": experiments, "period": 2 * periods, "person": len(PersonFact),
            "stack": MOST_DEPTH, "exposed": experiments, "layer": experiments, "value": values,
            "lifted": names, "turn": MAX_RULES, "held": MAX_RULES, "step": MAX_STEPS,
            "request_key": MOST_ATTRIBUTES, "request_number": MOST_ATTRIBUTES, "asked_key": MOST_ATTRIBUTES,
            "offer_key": AT_A_TIME * MOST_OWN, "offer_number": AT_A_TIME * MOST_OWN, "foreseen": 4 * AT_A_TIME,
            "item": AT_A_TIME, "trait": AT_A_TIME * len(TRAITS), "visit": MAX_VISITS,
            "recommend_keys": related, "recommend_sums": 2 * related, "recommend_used": related,
            "recommend_traits": len(TRAITS) << 16 if related else 0, "recommend_per_kind": 2 * len(TRAITS),
            "recommend_counts": MAX_VISITS, "rival": MAX_OFFERS + 1 + RIVALS, "highest": RIVALS,
            "taken": MAX_OFFERS + 1, "cell": 3,
            "logged": _LOGGED + _LOGGED_EACH * (MAX_OFFERS + 2 * experiments),
        }  # fmt: skip
        before = self.arrays
        kept = {name: array for name, array in before.items() if len(array) == sizes[name]}
        made = {name: np.zeros(size, SCRATCH[name]) for name, size in sizes.items() if name not in kept}
        self.record = Record(Scratch, kept | made)
        self.table = self.record.table
        self.arrays = self.record.arrays


windows_of = array_of(Scratch.window, WINDOW)
spans_of = array_of(Scratch.span, SPAN)
candidates_of = array_of(Scratch.candidate, CANDIDATE)
reached_of = array_of(Scratch.reached, REACHED)
points_of = array_of(Scratch.point, POINT)
chosen_of = array_of(Scratch.chosen, CHOSEN)
counters_of = array_of(Scratch.counter, COUNTER)
values_of = array_of(Scratch.value, VALUE)
marks_of = array_of(Scratch.lifted, MARK)
steps_of = array_of(Scratch.step, STEP)
visits_of = array_of(Scratch.visit, VISIT)
rivals_of = array_of(Scratch.rival, RIVAL)
