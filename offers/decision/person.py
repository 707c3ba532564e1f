"""Person: what is known of the person that a decision is for, as kernels/person/meet.py reads it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from offers.decision.kernels.memory.scratch import COUNTER
from offers.decision.segments.evaluate import Facts

MOST_COUNTED = 0xFFFF
"""Instants that a counter has room for: its count is 16 bits."""


class Counted(NamedTuple):
    """Instants that caps count under one key and kind of event."""

    key: int
    kind: int
    seconds: tuple[int, ...]
    """Rising."""


class Person(NamedTuple):
    """A person as a decision reads them. The default is nobody in particular."""

    draw: int = 0
    """Signed 64-bit number by which variants and holdouts are drawn, unless the record has another; 0: nobody."""
    record: bytes = b""
    """An offers.v1.UserState."""
    request: bytes = b""
    """The offers.v1.GetOffersRequest whose context segments read."""
    grants: int = -1
    """A bit per offers.v1.ConsentPurpose that the request agrees to; -1: the request says nothing of consent."""
    flags: int = 0
    """NAMED and so on: see meet.py."""
    facts: Callable[[], Facts] | None = None
    """Returns what segments read that are left to CEL; None: only the instant is known."""


NOBODY = Person()


def merged(counters: bytes, times: bytes, more: Sequence[Counted]) -> tuple[bytes, bytes]:
    """Merge more instants into counters. Returns the counters and times of an offers.v1.UserState."""
    known = np.frombuffer(counters, COUNTER)
    seconds = np.frombuffer(times, "<u4")
    instants: dict[tuple[int, int], list[int]] = {}
    for one in known:
        begin = int(one["first"])
        instants[int(one["key"]), int(one["kind"])] = seconds[begin : begin + int(one["count"])].tolist()
    for counted in more:
        instants.setdefault((counted.key, counted.kind), []).extend(counted.seconds)
    rows, all_seconds = [], list[int]()
    for (key, kind), found in sorted(instants.items()):
        last = sorted(found)[-MOST_COUNTED:]
        rows.append((key, kind, 0, len(last), len(all_seconds)))
        all_seconds += last
    return np.array(rows, COUNTER).tobytes(), np.array(all_seconds, "<u4").tobytes()
