"""The compiled part of a decision: `find` what may be shown here and now, then `choose` of it for the person."""

from offers.compiled import apart
from offers.decision.kernels.admit import admit, survey
from offers.decision.kernels.arrange import arrange
from offers.decision.kernels.memory.records import Column, Table, f8
from offers.decision.kernels.memory.scratch import NO_ROOM, Outcome, Scratch, reached_of
from offers.decision.kernels.models.foresee import foresee
from offers.decision.kernels.models.select import tell_selection
from offers.decision.kernels.person.behave import weigh
from offers.decision.kernels.retrieve import retrieve
from offers.decision.kernels.score import score
from offers.decision.kernels.screen import screen

LOOK_UP = -1
"""In place of a count: schedules of unknown state must be looked up; then decide again."""


@apart
def find(
    columns: Table, hours: Table, standing: Table, scratch: Table, terms: Table,
    latitude: float, longitude: float, sigma: float, growth: float, time: int,
) -> int:  # fmt: skip
    """Find the offers that may be shown here and now; returns how many near ones, or LOOK_UP or NO_ROOM.

    Outcome.personal says whether the person matters to them, and Outcome.wanted how many segments must be known.
    """
    outcome = f8(scratch, Scratch.outcome)
    widening = sigma * f8(columns, Column.widest_fringe)[0]
    found = retrieve(columns, scratch, terms, latitude, longitude, widening, time)
    outcome[Outcome.found] = found
    if found > len(reached_of(scratch)):
        return NO_ROOM
    kept = screen(columns, hours, scratch, terms, found, latitude, longitude, sigma, growth, time)
    if kept == NO_ROOM:
        return NO_ROOM
    outcome[Outcome.kept] = kept
    if outcome[Outcome.unknown] == 0:
        outcome[Outcome.personal] = survey(columns, hours, standing, scratch, terms, kept)
    return LOOK_UP if outcome[Outcome.unknown] else kept


@apart
def choose(
    columns: Table, people: Table, hours: Table, budgets: Table, standing: Table, scratch: Table, terms: Table,
    strategy: int, time: int, seed: int, seeded: int,
) -> int:  # fmt: skip
    """Write the offers of a decision into the scratch, of what was found; returns how many, or LOOK_UP or NO_ROOM."""
    outcome = f8(scratch, Scratch.outcome)
    kept = admit(columns, hours, budgets, standing, scratch, terms, int(outcome[Outcome.kept]), time)
    kept = foresee(columns, people, hours, budgets, standing, scratch, terms, strategy, kept, time)
    if kept == NO_ROOM:
        return NO_ROOM
    held = weigh(columns, terms, scratch) if outcome[Outcome.personal] != 0 else 0
    outcome[Outcome.held] = held
    listed = score(columns, terms, scratch, strategy, seed, seeded, kept, time)
    count = arrange(columns, hours, budgets, standing, scratch, terms, strategy, seed, seeded, listed, kept, time)
    outcome[Outcome.chosen] = count
    if count > 0:
        tell_selection(columns, scratch, terms, strategy, seed, seeded, kept, count)
    return LOOK_UP if outcome[Outcome.unknown] else count
