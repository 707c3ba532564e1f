"""Mutated connections: frames of HTTP/2 that are wrong, in a wrong order, or cut."""

import socket
import struct
from contextlib import suppress
from random import Random

from tests.faults import http2
from tests.faults.fuzz.wire import change_bytes
from tests.faults.http2 import END_HEADERS, END_STREAM, frame, headers_of

FIELDS = (
    {":method": "GET"},
    {":path": ""},
    {":path": "/"},
    {":path": "/no/such/method"},
    {":scheme": "\x00"},
    {"content-type": "text/plain"},
    {"te": "x"},
    {"grpc-timeout": "99999999H"},
    {"grpc-timeout": "-1S"},
    {"grpc-timeout": "x"},
    {"grpc-timeout": "1n"},
    {"grpc-encoding": "gzip"},
    {"grpc-encoding": "no-such"},
    {"grpc-accept-encoding": "," * 99},
    {"X-Upper": "1"},
    {"connection": "close"},
    {"content-length": "5"},
    {"x-bin": "not base64!"},
)
"""Headers with which a call is wrong."""
MESSAGES = (
    b"",
    b"\0",
    b"\0\0\0\0\x05ab",
    b"\0\0\0\0\0",
    b"\1\0\0\0\2ab",
    b"\2\0\0\0\0",
    b"\0\xff\xff\xff\xff",
    b"\0\0\0\0\2\x08",
)
"""Bytes of messages: without their end, compressed, too long."""
PATIENCE_S = 0.02
"""Seconds given to the server to answer; it need not."""


def connection_of(seed: int, number: int) -> bytes:
    """Return what a client sends over a connection; the same seed and number give the same bytes."""
    random = Random(seed << 40 | number)
    parts = [http2.PREFACE, frame(http2.SETTINGS)]
    for stream in range(1, 2 * random.randint(2, 10), 2):
        path = random.choice((http2.GET_OFFERS, http2.CHECK, http2.WATCH, "/offers.v1.EventService/StreamEvents"))
        fields = headers_of(path, **(random.choice(FIELDS) if random.random() < 0.5 else {}))
        parts.append(frame(http2.HEADERS, END_HEADERS, stream, fields))
        if random.random() < 0.8:
            flags = END_STREAM if random.random() < 0.7 else 0
            parts.append(frame(http2.DATA, flags, stream, random.choice(MESSAGES)))
        if random.random() < 0.5:
            parts.append(_any_frame(random, stream))
    if random.random() < 0.3:
        random.shuffle(parts)
    data = b"".join(parts)
    if random.random() < 0.5:
        keep = random.choice((0, len(http2.PREFACE)))
        data = data[:keep] + change_bytes(random, data[keep:], data)
    return data


def _any_frame(random: Random, stream: int) -> bytes:
    kind = random.choice((*range(10), 11, 255))
    payload = random.choice((b"", struct.pack(">I", random.choice((0, 1, 2**31 - 1, 2**32 - 1))), random.randbytes(9)))
    flags = random.choice((0, 1, 4, 5, 8, 0x20, 255))
    return frame(kind, flags, random.choice((0, stream, stream + 1, 2**31 - 1)), payload)


def send(target: str, data: bytes) -> bool:
    """Send bytes over a new connection, look whether something comes back, and close it. Returns whether it came."""
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection, suppress(OSError):
        connection.sendall(data)
        connection.settimeout(PATIENCE_S)
        return bool(connection.recv(65_536))
    return False
