"""Fronts over a few methods of our own, and connections that speak HTTP/2 as they like."""

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import grpc

from offers.errors import ConflictError, FieldViolation, InvalidRequestError, NotFoundError, StoreUnavailableError
from offers.server.admission import Admission
from offers.server.fronts.choice import fronts_of
from offers.server.fronts.contract import Front, Methods, Offered
from offers.server.fronts.gate import AdmittedThreads
from offers.server.fronts.health import SERVICE as HEALTH_SERVICE
from offers.server.fronts.health import Health
from offers.server.fronts.threads import CallThreads
from offers.server.offer_service import Tell
from offers.settings import Settings
from tests.faults.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    SETTINGS,
    frame,
    headers_of,
)

FRONTS = ("grpcio", "native")
SERVICE = "test.Fronts"
ERRORS: dict[bytes, Exception] = {
    b"invalid": InvalidRequestError([FieldViolation("a.b[3]", "is wrong: send another, ünïcode, 100 %")]),
    b"many": InvalidRequestError([FieldViolation(f"offers[{number}]", "x" * 300) for number in range(50)]),
    b"missing": NotFoundError("there is no such thing"),
    b"conflict": ConflictError("not in this state"),
    b"store": StoreUnavailableError("the store does not answer"),
    b"fault": RuntimeError("a secret of somebody"),
}


@dataclass
class Running:
    """A front that takes calls, and its methods: Decide for decisions, Answer for all others."""

    front: Front
    target: str
    gate: threading.Event = field(default_factory=threading.Event)
    """Calls whose message is "wait" end once it is set."""
    begun: list[bytes] = field(default_factory=list)
    """The messages of the calls that were worked on."""

    def answer(self, data: bytes) -> bytes:
        """Return the message, raise the error that it names, or wait for the gate."""
        self.begun.append(data)
        if data in ERRORS:
            raise ERRORS[data]
        if data.startswith(b"wait"):
            self.gate.wait(30)
        return data

    def decide(self, requests: Sequence[bytes], tell: Tell) -> None:
        """Answer each of several calls."""
        for index, data in enumerate(requests):
            try:
                tell(index, self.answer(data))
            except Exception as error:  # noqa: BLE001 - whoever called is told
                tell(index, error)

    def channel(self, **options: Any) -> grpc.Channel:  # noqa: ANN401 - of the channel
        """Return a new connection."""
        named = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        return grpc.insecure_channel(self.target, options=named, **options)


@contextmanager
def running(name: str, **settings: Any) -> Iterator[Running]:  # noqa: ANN401 - the fields of Settings
    """Run a front on a free port until the block ends."""
    threads, apart = AdmittedThreads(4, Admission()), CallThreads(4)
    health = Health(apart, ("",))
    health.set("", 1)
    one = Running(None, "")  # type: ignore[arg-type] # it follows
    services = (Methods(SERVICE, {"Decide": one.answer, "Answer": one.answer}, {"Join": b"".join}),)
    given = Settings(front=name, **settings)
    offered = Offered(services, {HEALTH_SERVICE: health.handlers()})
    _, one.front = fronts_of(given, threads, apart, offered, (f"/{SERVICE}/Decide", one.decide))
    one.target = f"127.0.0.1:{one.front.listen('127.0.0.1:0')}"
    one.front.start()
    try:
        yield one
    finally:
        one.gate.set()
        one.front.stop(None)
        threads.shutdown()
        apart.shutdown()


def call(channel: grpc.Channel, method: str) -> Any:  # noqa: ANN401 - it can be called, and has `future`
    """Return a method that takes and returns bytes."""
    return channel.unary_unary(f"/{SERVICE}/{method}")


def message(data: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """Return a message as gRPC frames it."""
    return struct.pack(">BI", compressed, len(data) if length is None else length) + data


def headers(path: str, **more: str) -> bytes:
    """Return the headers of a call, without compression."""
    return headers_of(path, **{name.replace("_", "-"): value for name, value in more.items()})


class Raw:
    """A connection that speaks HTTP/2 as it likes."""

    def __init__(self, target: str, *, window: int = 65_535, preface: bytes | None = None) -> None:
        host, _, port = target.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self._received = self.socket.makefile("rb")
        self.stream = -1
        settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))
        self.send(PREFACE + settings if preface is None else preface)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._received.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def begin(self, path: str, data: bytes = b"", flags: int = 0, **more: str) -> int:
        """Begin a call, with some bytes; return the number of its stream."""
        self.stream += 2
        ends = END_STREAM if flags & END_STREAM and not data else 0
        parts = frame(HEADERS, END_HEADERS | ends, self.stream, headers(path, **more))
        self.send(parts + (frame(DATA, flags, self.stream, data) if data else b""))
        return self.stream

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield kind, flags, stream and payload of each frame, until the server closes the connection."""
        while len(head := self._received.read(9)) == 9:
            yield head[3], head[4], int.from_bytes(head[5:9]), self._received.read(int.from_bytes(head[:3]))
