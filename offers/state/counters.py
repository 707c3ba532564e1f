"""What caps count of a person: the last instants of each kind of event, packed."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from offers.model.facts import CounterSpec

_RECORD = struct.Struct("<qBBHI")
_REACH_S = 2 * 86_400
"""The unit of how long a counter's times matter."""
_SLACK_S = 3_600
"""Times are kept this much longer: clocks may be 5 minutes ahead, and a question be about some minutes ago."""


class _Counter(NamedTuple):
    times: list[int]
    """Seconds since 1970, the oldest first."""
    reach: int
    """How long they matter, in units of two days; 0: for ever."""


class Counters:
    """The counters of one person, unpacked: instants by key and kind."""

    def __init__(self, counters: bytes = b"", times: bytes = b"") -> None:
        instants = struct.unpack(f"<{len(times) // 4}I", times)
        self._counters = {
            (key, kind): _Counter(list(instants[first : first + count]), reach)
            for key, kind, reach, count, first in _RECORD.iter_unpack(counters)
        }

    def __iter__(self) -> Iterator[tuple[int, int, list[int]]]:
        """Key, kind and instants of each, in their order."""
        return ((key, kind, self._counters[key, kind].times) for key, kind in sorted(self._counters))

    def add(self, spec: CounterSpec, second: int) -> None:
        """Count an event, in whatever order they come. The result is that of all events ever added with this spec."""
        reach = _reach(spec.span_s)
        known = self._counters.get((spec.key, spec.kind))
        if known is None:
            self._counters[spec.key, spec.kind] = _Counter([second], reach)
            return
        times = known.times
        in_order = second >= times[-1]
        times.append(second)
        if not in_order:
            times.sort()
        if reach:
            horizon = times[-1] - spec.span_s - _SLACK_S
            while times[0] < horizon:
                del times[0]
        del times[: -spec.keep]
        if reach != known.reach:
            self._counters[spec.key, spec.kind] = _Counter(times, reach)

    def merge(self, other: "Counters") -> None:
        """Count another person's events as this one's."""
        for place, theirs in other._counters.items():  # noqa: SLF001 - one of its own
            ours = self._counters.get(place, _Counter([], theirs.reach))
            times = sorted(ours.times + theirs.times)[-0xFFFF:]
            reach = max(ours.reach, theirs.reach) if ours.reach and theirs.reach else 0
            self._counters[place] = _Counter(times, reach)

    def packed(self, last_second: int) -> tuple[bytes, bytes]:
        """UserState.counters and UserState.times, without what no window reaches from the person's last event."""
        records = bytearray()
        instants: list[int] = []
        for place in sorted(self._counters):
            times, reach = self._counters[place]
            if reach and times[-1] < last_second - reach * _REACH_S - _SLACK_S:
                continue
            records += _RECORD.pack(*place, reach, len(times), len(instants))
            instants += times
        return bytes(records), struct.pack(f"<{len(instants)}I", *instants)


def _reach(span_s: int) -> int:
    units = -(-span_s // _REACH_S)
    return units if units <= 0xFF else 0
