"""HTTP/2 by hand, for clients that no library would let one write: https://www.rfc-editor.org/rfc/rfc9113."""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8
GET_OFFERS, CHECK, WATCH = (
    "/offers.v1.OfferService/GetOffers",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
)
WHOLE = b"\0\0\0\0\0"
"""An empty message, with its prefix of five bytes."""


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(name: str, value: str) -> bytes:
    """Return a field of headers that is neither compressed nor to be remembered."""
    return b"\0" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, length = len(data) - 127, bytearray([127])
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*length, rest]) + data


def headers_of(path: str, **more: str) -> bytes:
    """Return the headers of a call; `more` are further ones, or other values of these."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "test",
        "content-type": "application/grpc",
        "te": "trailers",
        **more,
    }
    return b"".join(field(name, value) for name, value in fields.items())


class Raw:
    """A connection that speaks HTTP/2 as it likes."""

    def __init__(self, target: str, window: int = 65_535, timeout: float = 30) -> None:
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=timeout)
        self._streams = 1
        self.send(PREFACE + frame(SETTINGS, payload=struct.pack(">HI", INITIAL_WINDOW_SIZE, window)))

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def call(self, path: str, data: bytes = b"") -> int:
        """Begin a call, with some bytes of its message but without its end; return the number of its stream."""
        stream = self._streams
        self.send(frame(HEADERS, END_HEADERS, stream, headers_of(path)))
        if data:
            self.send(frame(DATA, stream=stream, payload=data))
        self._streams += 2
        return stream

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield type and payload of each frame that the server sends, until the connection ends or the timeout."""
        with suppress(OSError), self._socket.makefile("rb") as stream:
            while len(head := stream.read(9)) == 9:
                yield head[3], stream.read(int.from_bytes(head[:3]))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
