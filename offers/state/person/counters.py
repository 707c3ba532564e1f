"""Counters of frequency caps: the latest instants of each kind of event, packed, and updated in place."""

import struct
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache

from offers.model.facts import CounterSpec
from offers.model.instants import DAY_S, HOUR_S

_RECORD = struct.Struct("<qBBHI")
_KEY = struct.Struct("<qB")
_INSTANT = struct.Struct("<I")
_SIZE = _RECORD.size
_MOST = 0xFFFF
_NEVER = 1 << 62
_REACH_S = 2 * DAY_S
"""The unit in which a record says how long its instants matter."""
_SLACK_S = HOUR_S
"""Instants are kept this much longer than their window, as clocks differ and requests may be about some minutes ago.
Expired instants are removed once in this time.
"""


class Counters:
    """The counters of one person: instants, ordered by key, then by kind."""

    def __init__(self, counters: bytes = b"", times: bytes = b"") -> None:
        self._records, self._times = bytearray(counters), bytearray(times)
        self._oldest_added = _NEVER

    def __iter__(self) -> Iterator[tuple[int, int, list[int]]]:
        """Yield key, kind and instants of each counter, in their order; instants are seconds, the oldest first."""
        for key, kind, _, count, first in _RECORD.iter_unpack(self._records):
            yield key, kind, self._instants(first, count)

    def add(self, spec: CounterSpec, second: int) -> None:
        """Count an event; the result does not depend on the order in which events are added."""
        reach = _reach(spec.span_s)
        self._oldest_added = min(self._oldest_added, second)
        offset = find_aligned(self._records, _KEY.pack(spec.key, spec.kind), _SIZE)
        if offset < 0:
            self._insert(spec.key, spec.kind, reach, [second])
            return
        *_, count, first = _RECORD.unpack_from(self._records, offset)
        times = self._instants(first, count)
        in_order = second >= times[-1]
        times.append(second)
        if not in_order:
            times.sort()
        if reach:
            horizon = times[-1] - spec.span_s - _SLACK_S
            while times[0] < horizon:
                del times[0]
        self._replace(offset, reach, times[-spec.keep :])

    def remove(self, spec: CounterSpec, second: int) -> None:
        """Take back an event that was counted; nothing changes where it was not, or is forgotten."""
        offset = find_aligned(self._records, _KEY.pack(spec.key, spec.kind), _SIZE)
        if offset < 0:
            return
        *_, reach, count, first = _RECORD.unpack_from(self._records, offset)
        times = self._instants(first, count)
        if second in times:
            times.remove(second)
            self._replace(offset, reach, times)
            if not times:
                del self._records[offset : offset + _SIZE]

    def merge(self, other: "Counters") -> None:
        """Add another person's events to this one's."""
        for key, kind, reach, count, first in _RECORD.iter_unpack(other._records):  # noqa: SLF001 - an instance of this class
            theirs = other._instants(first, count)  # noqa: SLF001
            offset = find_aligned(self._records, _KEY.pack(key, kind), _SIZE)
            if offset < 0:
                self._insert(key, kind, reach, theirs)
            else:
                *_, known, ours, start = _RECORD.unpack_from(self._records, offset)
                times = sorted(self._instants(start, ours) + theirs)[-_MOST:]
                self._replace(offset, max(known, reach) if known and reach else 0, times)

    def packed(self, last_second: int, before: int = -1) -> tuple[bytes, bytes]:
        """Return UserState.counters and UserState.times, without the instants that no window reaches any more.

        Windows end with the hour of the person's last event, at `last_second`. `before` is its value at the last call;
        a call is needed whenever the hour changes.
        """
        hour = hour_of(last_second)
        kept = self
        if hour > before or self._oldest_added < hour - _REACH_S:
            kept = Counters()
            for key, kind, reach, count, first in _RECORD.iter_unpack(self._records):
                times = self._times[4 * first : 4 * (first + count)]
                while reach and times and _INSTANT.unpack_from(times)[0] < hour - reach * _REACH_S - _SLACK_S:
                    del times[:4]
                if times:
                    kept._records += _RECORD.pack(key, kind, reach, len(times) // 4, len(kept._times) // 4)
                    kept._times += times
        return bytes(kept._records), bytes(kept._times)

    def _instants(self, first: int, count: int) -> list[int]:
        return list(struct.unpack_from(f"<{count}I", self._times, 4 * first))

    def _insert(self, key: int, kind: int, reach: int, times: list[int]) -> None:
        starts = range(0, len(self._records), _SIZE)
        index = bisect_left(starts, (key, kind), key=lambda offset: _KEY.unpack_from(self._records, offset))
        first = len(self._times) // 4
        if index < len(starts):
            first = _RECORD.unpack_from(self._records, starts[index])[-1]
        offset = index * _SIZE
        self._records[offset:offset] = _RECORD.pack(key, kind, reach, 0, first)
        self._replace(offset, reach, times)

    def _replace(self, offset: int, reach: int, times: list[int]) -> None:
        """Replace the instants of the counter whose record begins at an offset, and shift those behind it."""
        key, kind, _, count, first = _RECORD.unpack_from(self._records, offset)
        self._times[4 * first : 4 * (first + count)] = struct.pack(f"<{len(times)}I", *times)
        _RECORD.pack_into(self._records, offset, key, kind, reach, len(times), first)
        behind = self._records[offset + _SIZE :]
        if len(times) != count and behind:  # added to all records at once, as one large number
            moved = int.from_bytes(behind, "little") + (len(times) - count) * _one_each(len(behind) // _SIZE)
            self._records[offset + _SIZE :] = moved.to_bytes(len(behind), "little")


@lru_cache
def _one_each(records: int) -> int:
    """Return the number that adds 1 to `first` of each record, when the records are read as one number."""
    return int.from_bytes(_RECORD.pack(0, 0, 0, 0, 1) * records, "little")


def hour_of(second: int) -> int:
    """Return the second at which the hour of a second begins."""
    return second - second % _SLACK_S


def find_aligned(content: bytes | bytearray, wanted: bytes, size: int) -> int:
    """Return the offset of the first record of `size` bytes that begins with `wanted`; -1, as bytes.find, for none."""
    offset = content.find(wanted)
    while offset % size > 0:  # a match across two records; -1 (not found) has a remainder too
        if offset < 0:
            return -1
        offset = content.find(wanted, offset + 1)
    return offset


def _reach(span_s: int) -> int:
    units = -(-span_s // _REACH_S)
    return units if units <= 0xFF else 0
