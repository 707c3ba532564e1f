"""Who a decision is for: what is known of the person, as meet.py brings it into a decision."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from offers.decision.kernels.memory.scratch import COUNTER
from offers.decision.segments.evaluate import Facts

MOST_COUNTED = 0xFFFF
"""Instants that a counter has room for."""


class Counted(NamedTuple):
    """Instants of one kind that caps count."""

    key: int
    kind: int
    seconds: tuple[int, ...]
    """Rising."""


class Person(NamedTuple):
    """What a decision asks of the person. The default is nobody in particular."""

    draw: int = 0
    """The signed 64-bit number by which variants and holdouts are drawn, unless the record has another; 0: nobody."""
    record: bytes = b""
    """An offers.v1.UserState."""
    request: bytes = b""
    """The offers.v1.GetOffersRequest whose context segments are asked about."""
    grants: int = -1
    """A bit per offers.v1.ConsentPurpose that the request agrees to; -1: it does not say."""
    flags: int = 0
    """NAMED and so on: see meet.py."""
    facts: Callable[[], Facts] | None = None
    """What segments are asked about that are left to CEL; None: nothing is known but the instant."""


NOBODY = Person()


def merged(counters: bytes, times: bytes, more: Sequence[Counted]) -> tuple[bytes, bytes]:
    """Counters with more instants among them."""
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
