"""Connections that do harm: thousands that idle, slow ones, and floods of frames. Others are answered meanwhile."""

import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import grpc
import pytest

from tests.faults import http2
from tests.faults.clients import PATIENCE_S, Client, client_of, pass_over, write_catalog
from tests.faults.http2 import END_HEADERS, END_STREAM, GET_OFFERS, PREFACE, WHOLE, Raw, field, frame, headers_of
from tests.faults.process import memory_of, open_files_of
from tests.needs import lacking
from tests.server.running import Server, started, wait_for

IDLE = 2_000
MOST_GROWTH = 100 << 20
"""Bytes by which an attack may let the memory of a worker grow: buffers of connections, which are kept for others."""
MOST_GROWTH_BY_HEADERS = 1 << 30
"""The same of headers that expand, which gRPC's core keeps for each call until it is refused."""
ATTACKERS, CONNECTIONS, FRAMES = 4, 10, 500
"""Threads that attack, connections of each, one after the other, and groups of frames of each connection."""
SPARE_FILES = 20
REFUSALS = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
"""Statuses with which a worker ends calls that are too many."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one worker."""
    folder = tmp_path_factory.mktemp("connections")
    with started(folder, catalogs=(write_catalog(folder),), workers=1) as running:
        with client_of(running.target) as client:
            client.ask()
        yield running
        assert not running.lines("worker_died")


def answered(client: Client) -> None:
    """Ask until there is an answer: a worker with more calls than it can answer refuses some, whoever makes them."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert client.ask().offers
        except grpc.RpcError as error:
            pass_over(error, REFUSALS, deadline)
            time.sleep(0.01)
        else:
            return


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """An ordinary client, whom nothing must hold up; afterwards the worker is as it was."""
    (pid,) = server.workers()
    memory, files = memory_of([pid]), open_files_of(pid)
    with client_of(server.target) as connected:
        yield connected
        answered(connected)
    assert {pid} == server.workers()
    wait_for(lambda: open_files_of(pid) <= files + SPARE_FILES, "connections are closed")
    assert memory_of([pid]) < memory + MOST_GROWTH


def test_two_thousand_idle_connections_hold_nobody_up(server: Server, client: Client) -> None:
    """New connections are answered while many others idle, some of them without having said anything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 500:
        lacking(f"a limit of {IDLE + 500} open files: ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with ExitStack() as stack:
            host, _, port = server.target.rpartition(":")
            for number in range(IDLE):
                connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
                if number % 2:
                    connection.sendall(PREFACE + frame(http2.SETTINGS))
            assert client.ask().offers
            with client_of(server.target) as other:
                assert other.ask().offers
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_clients_that_send_byte_by_byte_hold_nobody_up(server: Server, client: Client) -> None:
    """Many connections send their preface, their headers or their message a byte at a time."""
    call = PREFACE + frame(http2.SETTINGS) + frame(http2.HEADERS, END_HEADERS, 1, headers_of(GET_OFFERS))
    call += frame(http2.DATA, END_STREAM, 1, WHOLE)
    host, _, port = server.target.rpartition(":")
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection((host, int(port)), timeout=30)) for _ in range(100)]
        for number, connection in enumerate(slow):
            connection.sendall(call[: number * len(call) // len(slow)])
        for step in range(3):
            for number, connection in enumerate(slow):
                begin = number * len(call) // len(slow) + step
                connection.sendall(call[begin : begin + 1])
            answered(client)


def rapid_resets(number: int) -> bytes:
    """Begin a call and cancel it at once: https://nvd.nist.gov/vuln/detail/CVE-2023-44487."""
    stream = 2 * number + 1
    cancel = frame(http2.RST_STREAM, stream=stream, payload=struct.pack(">I", http2.CANCEL))
    return frame(http2.HEADERS, END_HEADERS, stream, headers_of(GET_OFFERS)) + cancel


def whole_calls_reset(number: int) -> bytes:
    """Cancel calls whose messages have arrived, so that they are worked on."""
    stream = 2 * number + 1
    cancel = frame(http2.RST_STREAM, stream=stream, payload=struct.pack(">I", http2.CANCEL))
    call = frame(http2.HEADERS, END_HEADERS, stream, headers_of(GET_OFFERS))
    return call + frame(http2.DATA, END_STREAM, stream, WHOLE) + cancel


def goaways(number: int) -> bytes:
    """Say that the connection ends, over and over, and call nevertheless."""
    return frame(http2.GOAWAY, payload=struct.pack(">II", number, 0)) + whole_calls_reset(number)


def settings(_number: int) -> bytes:
    """Change settings, each of which asks for an acknowledgement."""
    return frame(http2.SETTINGS, payload=struct.pack(">HI", http2.INITIAL_WINDOW_SIZE, 65_535)) * 20


def pings(number: int) -> bytes:
    """Ask for signs of life."""
    return frame(http2.PING, payload=number.to_bytes(8)) * 20


def empty_data(number: int) -> bytes:
    """Send frames of a message without any of it."""
    begin = frame(http2.HEADERS, END_HEADERS, 1, headers_of(GET_OFFERS)) if not number else b""
    return begin + frame(http2.DATA, stream=1) * 50


def continuations(number: int) -> bytes:
    """Send headers without an end: https://nvd.nist.gov/vuln/detail/CVE-2024-27316."""
    begin = frame(http2.HEADERS, 0, 1, headers_of(GET_OFFERS)) if not number else b""
    return begin + frame(http2.CONTINUATION, 0, 1, field(f"x-{number}", "y" * 1_000)) * 4


def compressed_bombs(number: int) -> bytes:
    """Store a long header once, and refer to it thousands of times: https://nvd.nist.gov/vuln/detail/CVE-2016-6581."""
    long = b"\x40" + field("x", "y" * 3_000)[1:]
    return frame(http2.HEADERS, END_HEADERS, 2 * number + 1, headers_of(GET_OFFERS) + long + b"\xbe" * 3_000)


def windows(number: int) -> bytes:
    """Begin calls and open their windows by single bytes."""
    stream = 2 * number + 1
    call = frame(http2.HEADERS, END_HEADERS, stream, headers_of(GET_OFFERS)) + frame(
        http2.DATA, END_STREAM, stream, WHOLE
    )
    return call + frame(http2.WINDOW_UPDATE, stream=stream, payload=struct.pack(">I", 1)) * 10


def priorities(number: int) -> bytes:
    """Reorder streams that do not exist."""
    return frame(http2.PRIORITY, stream=2 * number + 1, payload=struct.pack(">IB", 2 * number + 3, 255)) * 20


FLOODS: tuple[Callable[[int], bytes], ...] = (
    rapid_resets,
    whole_calls_reset,
    goaways,
    settings,
    pings,
    empty_data,
    continuations,
    windows,
    priorities,
)


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_of_frames_hold_nobody_up(server: Server, client: Client, flood: Callable[[int], bytes]) -> None:
    """Several attackers send thousands of frames and read nothing; when they are cut off, they come again."""
    flooded(server, client, flood)


def test_headers_that_expand_hold_nobody_up(server: Server) -> None:
    """Headers of 9 MB, compressed to 6 kB, are refused; what they take of memory is bounded, if not small."""
    (pid,) = server.workers()
    memory = memory_of([pid])
    with client_of(server.target) as client:
        flooded(server, client, compressed_bombs, FRAMES // 25)
    assert memory_of([pid]) < memory + MOST_GROWTH_BY_HEADERS
    assert {pid} == server.workers()


def flooded(server: Server, client: Client, flood: Callable[[int], bytes], frames: int = FRAMES) -> None:
    """Flood a server from several threads; a client is answered meanwhile and afterwards."""
    threads = [threading.Thread(target=attack, args=(server.target, flood, frames)) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    answered(client)
    for thread in threads:
        thread.join()
    answered(client)


def attack(target: str, flood: Callable[[int], bytes], frames: int) -> None:
    """Send a flood over several connections, one after the other, each until the server cuts it off."""
    for _ in range(CONNECTIONS):
        with suppress(OSError), Raw(target, timeout=2) as connection:
            for number in range(frames):
                connection.send(flood(number))


def test_connections_that_end_at_once_hold_nobody_up(server: Server, client: Client) -> None:
    """Clients connect, call and vanish, by a reset of the connection, hundreds of times."""
    host, _, port = server.target.rpartition(":")
    call = PREFACE + frame(http2.SETTINGS) + frame(http2.HEADERS, END_HEADERS, 1, headers_of(GET_OFFERS))
    for number in range(300):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(call + frame(http2.DATA, END_STREAM, 1, WHOLE))
        if number % 100 == 0:
            answered(client)
