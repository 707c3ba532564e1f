"""A client that costs little: frames of HTTP/2, prepared in advance, over one connection.

grpcio's client takes longer for a call than the native front does. This one writes the bytes of a call as they are and
reads no more of an answer than where it ends and whether it has a message, which calls that fail do not have.
"""

import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
"""Types of frames: https://www.rfc-editor.org/rfc/rfc9113#section-6"""
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_LARGEST: Final = 2**31 - 1
_CREDIT: Final = 1 << 24
"""Bytes received after which the server may send as many more."""
_AT_ONCE: Final = 1 << 18


MOST_REFUSED: Final = 0.05
"""Share of calls that may be refused, as on a machine with more to do; with more, a measurement fails."""


class FailedCallError(Exception):
    """The connection ended, or too many calls ended without a message."""


class RawClient:
    """One connection, on which one method is called."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream, self._received, self._refused = -1, 0, 0
        self._buffer = b""
        # The first call puts its headers into the table of the connection, later ones name their places: RFC 7541.
        self._first = (
            b"\x83\x86" + _literal(b"\x44", path) + _literal(b"\x41", "localhost")
            + _literal(b"\x5f", "application/grpc") + _literal(b"\x40\x02te", "trailers")
            + _literal(b"\x40\x0cgrpc-timeout", "60S")
        )  # fmt: skip
        self._later = bytes([0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62])
        window = struct.pack(">HI", 4, _LARGEST)
        credit = struct.pack(">I", _LARGEST - 65_535)
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, window) + _frame(_WINDOW_UPDATE, 0, 0, credit))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def call(self, payloads: Iterator[bytes], calls: int, outstanding: int) -> list[float]:
        """Make calls, so many at a time; return the seconds of each. Raises FailedCallError."""
        begun: dict[int, float] = {}
        latencies: list[float] = []
        sent = self._refused = 0
        while len(latencies) < calls:
            count = min(outstanding - len(begun), calls - sent)
            if count:
                parts = [self._request(next(payloads)) for _ in range(count)]
                now = time.perf_counter()
                begun.update((self._stream - 2 * index, now) for index in range(count))
                self._socket.sendall(b"".join(parts))
                sent += count
            self._read(begun, latencies)
            if self._refused > MOST_REFUSED * calls:
                message = f"{self._refused} calls of {len(latencies)} had no answer"
                raise FailedCallError(message)
        return latencies

    def _request(self, payload: bytes) -> bytes:
        """Return the frames of the next call."""
        self._stream += 2
        block = self._later if self._stream > 1 else self._first
        head = _frame(_HEADERS, _END_HEADERS, self._stream, block)
        message = struct.pack(">BI", 0, len(payload)) + payload
        return head + _frame(_DATA, _END_STREAM, self._stream, message)

    def _read(self, begun: dict[int, float], latencies: list[float]) -> None:
        """Read what has come, and move the calls that have ended."""
        data = self._socket.recv(_AT_ONCE)
        if not data:
            raise FailedCallError("the server closed the connection")
        data = self._buffer + data
        at, end, now = 0, len(data), time.perf_counter()
        while end - at >= 9:
            size, kind, flags = int.from_bytes(data[at : at + 3]), data[at + 3], data[at + 4]
            if end - at - 9 < size:
                break
            at += 9 + size
            stream = int.from_bytes(data[at - size - 4 : at - size])
            if kind == _DATA:
                self._received += size
                if size:
                    begun[stream] = -abs(begun[stream])  # it has a message
            elif kind == _HEADERS and flags & _END_STREAM:
                since = begun.pop(stream)
                self._refused += since > 0
                latencies.append(now - abs(since))
            elif kind != _HEADERS and not flags & _ACK:
                self._control(kind, data[at - size : at])
        self._buffer = data[at:]
        if self._received >= _CREDIT:
            self._socket.sendall(_frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received)))
            self._received = 0

    def _control(self, kind: int, payload: bytes) -> None:
        """Answer what a server says of the connection."""
        if kind in {_RST_STREAM, _GOAWAY}:
            raise FailedCallError("the server ended a call or the connection")
        if kind in {_SETTINGS, _PING}:
            self._socket.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: str) -> bytes:
    """Return a header that enters the table, without compression of its own."""
    return name + bytes([len(value)]) + value.encode()
