"""Writes the offers.v1.DecisionRecord of a decision: what the log keeps of it."""

from numba import njit

from offers.decision.encoded import BYTES, double_into, varint, varint_into
from offers.decision.meet import exposures_size, write_exposures
from offers.decision.records import Column, Table, Terms, entries_of, offers_of, u1
from offers.decision.scratch import Scratch, chosen_of
from offers.v1.state_pb2 import DecisionRecord

OFFER_IDS = DecisionRecord.OFFER_IDS_FIELD_NUMBER << 3 | BYTES
LOG_SCORES = DecisionRecord.LOG_SCORES_FIELD_NUMBER << 3 | BYTES
_MOST_ID = 131
"""Bytes of an offer's id, with its tag and length."""


@njit(cache=True, error_model="numpy")
def write_record(columns: Table, terms: Table, people: Table, scratch: Table, count: int) -> int:
    """Write the record of a decision of so many offers into Scratch.logged; its length, or 0 if there is no room."""
    out, stem, wire = u1(scratch, Scratch.logged), u1(terms, Terms.stem), u1(columns, Column.wire)
    chosen, entries, offers = chosen_of(scratch), entries_of(columns), offers_of(columns)
    if len(stem) + count * (_MOST_ID + 8) + 16 + exposures_size(people, scratch) > len(out):
        return 0
    at = 0
    for place in range(len(stem)):
        out[at] = stem[place]
        at += 1
    for place in range(count):
        # An offer's bytes begin with its id.
        first = offers[entries[chosen[place].entry].offer].wire_first + 1
        size, begin = varint(wire, first, first + 3)
        out[at] = OFFER_IDS
        at += 1
        for source in range(first, begin + size):
            out[at] = wire[source]
            at += 1
    if count:
        out[at] = LOG_SCORES
        at = varint_into(out, at + 1, 8 * count)
        for place in range(count):
            at = double_into(out, at, chosen[place].log_score)
    return write_exposures(people, scratch, out, at)
