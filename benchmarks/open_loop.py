"""A client that makes calls at a given rate, whether or not earlier ones were answered, over plain HTTP/2 frames.

Libraries for gRPC spend as much on a call as the server does, so with them a client core overloads no server. Here the
headers of all calls are the same bytes, and an answer is looked at only as far as it tells how its call ended.
"""

import contextlib
import re
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_TABLE_SIZE, _MOST_STREAMS, _INITIAL_WINDOW = 1, 3, 4
_LONGEST_WINDOW = 2**31 - 1
_CANCEL = struct.pack(">I", 8)
_FRAME = struct.Struct(">HBBBI")
_STATUS = re.compile(rb"grpc-status.(\d+)", re.DOTALL)
_TURN_S = 0.001
"""Seconds between two looks at the clock."""
LOST = -1
"""Status of a call that was neither answered nor refused by its deadline."""


@dataclass(slots=True)
class Outcome:
    """The ends of many calls."""

    seconds: float = 0.0
    sent: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    """Number of calls by status of gRPC, or LOST; 0: answered within the deadline."""
    latencies: list[float] = field(default_factory=list)
    """Seconds from the instant that a call was due until its answer, of those answered."""
    last_failure: float = float("-inf")
    """The latest instant at which a call was due that was not answered in time."""

    def add(self, status: int, due: float, now: float) -> None:
        """Count a call."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 0:
            self.latencies.append(now - due)
        else:
            self.last_failure = max(self.last_failure, due)

    @property
    def answered_per_second(self) -> float:
        """The goodput."""
        return self.statuses.get(0, 0) / self.seconds


class Connection:
    """A connection on which calls of one method are made."""

    def __init__(self, port: int, path: str, deadline_s: float, outcome: Outcome) -> None:
        self.outcome = outcome
        self._deadline_s = deadline_s
        self._headers = _headers_of(path, deadline_s)
        self._waiting: deque[tuple[float, bytes]] = deque()
        """Calls that the server's limits do not let through yet: the instant they were due, and the message."""
        self._open: dict[int, float] = {}
        self._by_age: deque[tuple[float, int]] = deque()
        self._answering: set[int] = set()
        self._stream, self._window, self._most = 1, 65_535, _LONGEST_WINDOW
        self._in, self._taken = b"", 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HIHI", _TABLE_SIZE, 0, _INITIAL_WINDOW, _LONGEST_WINDOW)
        self._out = bytearray(_PREFACE + _frame(_SETTINGS, 0, 0, settings))
        self._out += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _LONGEST_WINDOW - 65_535))
        self.socket.settimeout(0)

    @property
    def under_way(self) -> int:
        """Calls that have not ended."""
        return len(self._open) + len(self._waiting)

    def call(self, due: float, message: bytes) -> None:
        """Make a call that was due at an instant."""
        self._waiting.append((due, message))
        self.outcome.sent += 1

    def turn(self, now: float) -> None:
        """Read what has come, give up calls beyond their deadline, and send what the server lets through."""
        self._receive(now)
        late = now - self._deadline_s
        while self._by_age and self._by_age[0][0] <= late:
            due, stream = self._by_age.popleft()
            if self._open.pop(stream, None) is not None:
                self._out += _frame(_RESET, 0, stream, _CANCEL)
                self._answering.discard(stream)
                self.outcome.add(LOST, due, now)
        while self._waiting and self._waiting[0][0] <= late:
            due, _ = self._waiting.popleft()
            self.outcome.add(LOST, due, now)
        while self._waiting and len(self._open) < self._most and self._window >= len(self._waiting[0][1]):
            due, message = self._waiting.popleft()
            self._out += _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
            self._out += _frame(_DATA, _END_STREAM, self._stream, message)
            self._window -= len(message)
            self._open[self._stream] = due
            self._by_age.append((due, self._stream))
            self._stream += 2
        with contextlib.suppress(BlockingIOError):
            if self._out:
                del self._out[: self.socket.send(self._out)]

    def _receive(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            while part := self.socket.recv(1 << 20):
                self._in += part
        at, end = 0, len(self._in)
        while end - at >= 9:
            high, low, kind, flags, stream = _FRAME.unpack_from(self._in, at)
            length = high << 8 | low
            if end - at - 9 < length:
                break
            if kind == _DATA:
                self._answering.add(stream)
                self._taken += length
            else:
                self._take(now, kind, flags, stream, self._in[at + 9 : at + 9 + length])
            at += 9 + length
        self._in = self._in[at:]
        if self._taken > 1 << 29:
            self._out += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken))
            self._taken = 0

    def _take(self, now: float, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Deal with a frame that is no data."""
        if kind == _HEADERS and flags & _END_STREAM:
            found = _STATUS.search(payload)
            self._end(now, stream, int(found[1]) if found else LOST)
        elif kind == _RESET:
            self._end(now, stream, LOST)
        elif kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                self._most = value if name == _MOST_STREAMS else self._most
            self._out += _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._out += _frame(_PING, _ACK, 0, payload)
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += struct.unpack(">I", payload)[0]
        elif kind == _GOAWAY:
            message = f"the server ends the connection: {payload[8:]!r}"
            raise ConnectionError(message)

    def _end(self, now: float, stream: int, status: int) -> None:
        answered = stream in self._answering
        self._answering.discard(stream)
        if (due := self._open.pop(stream, None)) is not None:
            self.outcome.add(LOST if status == 0 and not answered else status, due, now)

    def close(self) -> None:
        """Close it."""
        self.socket.close()


def at_rate(
    connections: Sequence[Connection], messages: Iterator[bytes], per_second: float, seconds: float, beside: Connection
) -> Outcome:
    """Make calls at a rate, spread over the connections, and return how they ended.

    `beside` makes 20 calls a second meanwhile, with empty messages.
    """
    outcome, begin, made, asked = Outcome(seconds), time.monotonic(), 0, 0
    for one in connections:
        one.outcome = outcome
    while (now := time.monotonic()) < begin + seconds or any(one.under_way for one in connections):
        due = int((min(now - begin, seconds)) * per_second)
        for number in range(made, due):
            connections[number % len(connections)].call(begin + number / per_second, next(messages))
        made = due
        if int((now - begin) * 20) > asked:
            asked += 1
            beside.call(now, b"\0\0\0\0\0")
        _turn((*connections, beside))
    return outcome


def as_fast_as_answered(
    connections: Sequence[Connection], messages: Iterator[bytes], each: int, seconds: float
) -> Outcome:
    """Keep some calls under way on each connection, and return how they ended."""
    outcome, begin = Outcome(seconds), time.monotonic()
    for one in connections:
        one.outcome = outcome
    while (now := time.monotonic()) < begin + seconds:
        for one in connections:
            for _ in range(each - one.under_way):
                one.call(now, next(messages))
        _turn(connections)
    answered = Outcome(seconds, outcome.sent, dict(outcome.statuses), list(outcome.latencies))
    while any(one.under_way for one in connections):
        _turn(connections)
    return answered


def _turn(connections: Sequence[Connection]) -> None:
    now = time.monotonic()
    for one in connections:
        one.turn(now)
    select.select([one.socket for one in connections], [], [], _TURN_S)


def message_of(data: bytes) -> bytes:
    """Return an encoded message as it is sent."""
    return b"\0" + struct.pack(">I", len(data)) + data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def _headers_of(path: str, deadline_s: float) -> bytes:
    """Return the headers of a call, uncompressed."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "benchmark",
        "content-type": "application/grpc",
        "te": "trailers",
        "grpc-timeout": f"{round(deadline_s * 1000)}m",
    }
    return b"".join(
        b"\0" + bytes([len(one)]) + one.encode() + bytes([len(other)]) + other.encode() for one, other in fields.items()
    )
