"""Who a decision is for: what is known of the person, brought into the form the compiled loops read."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from offers.decision.records import COUNTER, PersonFact, Scratchpad
from offers.decision.segments import Facts

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
    """The signed 64-bit number by which variants and holdouts are drawn; 0: nobody in particular."""
    counters: bytes = b""
    """As in offers.v1.UserState."""
    times: bytes = b""
    assigned: Sequence[tuple[str, str]] = ()
    """Experiments and variants the person has been exposed to."""
    facts: Callable[[], Facts] | None = None
    """What segments are asked about; None: nothing is known but the instant."""
    blind: bool = False
    """Whether the state could not be read."""


NOBODY = Person()
_DRAW, _COUNTERS, _BLIND = int(PersonFact.draw), int(PersonFact.counters), int(PersonFact.blind)


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


def seat(pad: Scratchpad, person: Person) -> None:
    """Write what is counted of a person into a scratchpad; the other verdicts are to follow."""
    size, instants = len(person.counters), len(person.times)
    if size > len(pad.counter_bytes) or instants > len(pad.times_bytes):
        pad.fit(counters=size // COUNTER.itemsize, times=instants // 4)
    pad.counter_bytes[:size] = person.counters
    pad.times_bytes[:instants] = person.times
    facts = pad.arrays["person"]
    facts[_DRAW], facts[_COUNTERS], facts[_BLIND] = person.draw, size // COUNTER.itemsize, person.blind
