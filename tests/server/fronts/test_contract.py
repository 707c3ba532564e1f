"""The contract of fronts: one suite over all of them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from offers.errors import OffersError
from offers.server.limits import MAX_MESSAGE_BYTES
from offers.server.statuses import status_of
from tests.faults.http2 import ACK, DATA, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame
from tests.server.fronts.fronts import ERRORS, FRONTS, SERVICE, Raw, Running, call, message, running
from tests.server.running import wait_for

METHODS = ("Decide", "Answer")
"""Both ways through the native front: the loop, and a thread."""
DECIDE, ANSWER = (f"/{SERVICE}/{name}" for name in METHODS)
HALF_OPEN = (DECIDE, ANSWER, f"/{SERVICE}/Join", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")


@pytest.fixture(params=FRONTS, scope="module")
def kept(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A front of each kind."""
    with running(request.param) as one:
        yield one


@pytest.fixture
def one(kept: Running) -> Running:
    """The front, with nothing worked on yet, and its gate closed."""
    kept.gate.clear()
    kept.begun.clear()
    return kept


@pytest.fixture
def channel(one: Running) -> Iterator[grpc.Channel]:
    """A new connection to it."""
    with one.channel() as opened:
        yield opened


def is_native(one: Running) -> bool:
    """Return whether it is the native front."""
    return one.front.name == "native"


def code_of(caught: "pytest.ExceptionInfo[grpc.RpcError]") -> grpc.StatusCode:
    """Return the code that a call ended with."""
    code = caught.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def assert_answers(one: Running) -> None:
    """All kinds of calls are answered, on a new connection."""
    with one.channel() as channel:
        for method in METHODS:
            assert call(channel, method)(b"hello", timeout=10) == b"hello"
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING


def is_answered(one: Running) -> bool:
    """Return whether some calls in a row are answered."""
    try:
        for _ in range(5):
            assert_answers(one)
    except grpc.RpcError:
        return False
    return True


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0, 1, 70_000, MAX_MESSAGE_BYTES])
def test_messages_arrive_and_return(channel: grpc.Channel, method: str, size: int) -> None:
    """Of any size up to the limit, and empty ones."""
    data = b"x" * size
    assert call(channel, method)(data, timeout=30) == data


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ERRORS)
def test_errors_end_calls_with_their_status(channel: grpc.Channel, method: str, name: bytes) -> None:
    """Code, message and details are those of the error, however long; what is unexpected is not told to callers."""
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method)(name, timeout=10)

    error = ERRORS[name]
    told = status_pb2.Status(code=code_pb2.INTERNAL, message="internal error: the server's log has it")
    if isinstance(error, OffersError):
        told = status_of(error)
    assert told == rpc_status.from_call(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_messages_beyond_the_limit_are_refused(channel: grpc.Channel, method: str) -> None:
    """The status is RESOURCE_EXHAUSTED, and the connection goes on."""
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method)(b"x" * (MAX_MESSAGE_BYTES + 1), timeout=30)
    assert code_of(caught) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(channel, method)(b"y", timeout=10) == b"y"


@pytest.mark.parametrize("method", METHODS)
def test_metadata_beyond_the_limit_is_refused(one: Running, channel: grpc.Channel, method: str) -> None:
    """7,000 bytes are read; what is beyond 16 KiB never reaches a method, and other calls go on."""
    assert call(channel, method)(b"y", metadata=(("x", "y" * 7_000),), timeout=10) == b"y"
    one.begun.clear()
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method)(b"z", metadata=(("x", "y" * 17_000),), timeout=10)
    assert code_of(caught) is not grpc.StatusCode.DEADLINE_EXCEEDED
    assert call(channel, method)(b"y", timeout=10) == b"y"
    assert b"z" not in one.begun


def test_unknown_methods_are_unimplemented(channel: grpc.Channel) -> None:
    """Of a known service, of an unknown one, and of none."""
    for path in (f"/{SERVICE}/Nothing", "/nobody.Nowhere/Decide", "/", "/x"):
        unknown: Any = channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as caught:
            unknown(b"", timeout=10)
        assert code_of(caught) is grpc.StatusCode.UNIMPLEMENTED


def test_streams_are_taken(channel: grpc.Channel) -> None:
    """Methods that take streams have all messages, in their order."""
    join: Any = channel.stream_unary(f"/{SERVICE}/Join")
    assert join(iter([b"a", b"", b"b" * 100_000]), timeout=10) == b"a" + b"b" * 100_000


@pytest.mark.parametrize("method", METHODS)
def test_compressed_requests_are_read(one: Running, method: str) -> None:
    """Gzip, which every client of gRPC can ask for."""
    with one.channel(compression=grpc.Compression.Gzip) as channel:
        assert call(channel, method)(b"x" * 100_000, timeout=10) == b"x" * 100_000


@pytest.mark.parametrize("method", METHODS)
def test_deadlines_end_calls(one: Running, channel: grpc.Channel, method: str) -> None:
    """The caller is told in time, and the front goes on."""
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method)(b"wait", timeout=0.3)
    assert code_of(caught) is grpc.StatusCode.DEADLINE_EXCEEDED
    one.gate.set()
    assert call(channel, method)(b"x", timeout=10) == b"x"


@pytest.mark.parametrize("method", METHODS)
def test_calls_that_are_cancelled_hold_nothing_up(one: Running, channel: grpc.Channel, method: str) -> None:
    """Some are under way, others wait for their turn."""
    waiting = [call(channel, method).future(b"wait%d" % number, timeout=30) for number in range(20)]
    wait_for(lambda: one.begun, "one is under way")
    for future in waiting:
        future.cancel()
    one.gate.set()
    assert call(channel, method)(b"x", timeout=10) == b"x"
    assert all(future.cancelled() for future in waiting)


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_wait_do_not_stop_others(one: Running, channel: grpc.Channel, method: str) -> None:
    """More calls than there are threads wait, as for a store that stalls: others are answered meanwhile."""
    waiting = []
    for number in range(8):
        waiting.append(call(channel, method).future(b"wait%d" % number, timeout=60))
        wait_for(lambda: len(one.begun) > number, "it is under way")  # noqa: B023 - it is called here
    for other in METHODS:
        assert call(channel, other)(b"x", timeout=30) == b"x"
    one.gate.set()
    assert [future.result() for future in waiting] == [b"wait%d" % number for number in range(8)]


def test_a_thousand_calls_on_one_connection_at_once(one: Running) -> None:
    """All are open before the first message is sent, and each has its own answer, or is refused as one too many."""
    with Raw(one.target, window=1 << 20) as connection:
        calls = [(connection.begin(DECIDE), b"%d" % number) for number in range(1_000)]
        for stream, data in calls:
            connection.send(frame(0, END_STREAM, stream, message(data)))
        answered: dict[int, bytes] = {}
        ended = set()
        for kind, flags, stream, payload in connection.frames():
            if kind == DATA:
                answered[stream] = answered.get(stream, b"") + payload
            if kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
                ended.add(stream)
            if len(ended) == len(calls):
                break
    assert answered
    assert answered.items() <= {stream: message(data) for stream, data in calls}.items()


def test_pings_are_answered(one: Running) -> None:
    """With the bytes that the ping has, as keepalive needs."""
    with Raw(one.target) as connection:
        connection.send(frame(SETTINGS, ACK, 0) + frame(PING, 0, 0, b"12345678"))
        answer = next(found for found in connection.frames() if found[0] == PING)
    assert answer == (PING, ACK, 0, b"12345678")


@pytest.mark.parametrize("path", HALF_OPEN)
@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0\x05ab"], ids=["nothing", "byte", "part"])
def test_calls_without_their_message_hold_nobody_up(one: Running, path: str, data: bytes) -> None:
    """Many more calls than threads begin, and send nothing or a part of their message."""
    with Raw(one.target) as connection:
        for _ in range(40):
            connection.begin(path, data)
        assert_answers(one)
    assert_answers(one)


def test_clients_that_take_nothing_hold_nobody_up(one: Running) -> None:
    """Callers whose window is 0 are sent nothing, and others are answered."""
    with Raw(one.target, window=0) as connection:
        for path in (DECIDE, ANSWER, "/grpc.health.v1.Health/Watch"):
            for _ in range(30):
                connection.begin(path, message(b""))
        assert_answers(one)


def test_connections_that_say_nothing_hold_nobody_up(one: Running) -> None:
    """Nothing, a part of the preface, or a byte now and then."""
    connections = [Raw(one.target, preface=PREFACE[: number % 24]) for number in range(48)]
    assert_answers(one)
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        PREFACE + frame(SETTINGS, 0, 0) + frame(1, 4, 1, b"\xff" * 40),
        PREFACE + frame(SETTINGS, 0, 0) + frame(0, 1, 1, b"x"),
        PREFACE + frame(SETTINGS, 0, 1, b"x"),
        PREFACE + frame(SETTINGS, 0, 0) + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(100),
        bytes(200),
    ],
    ids=["http1", "tls", "headers", "data", "settings", "size", "zeros"],
)
def test_what_is_not_http2_ends_its_connection_alone(one: Running, data: bytes) -> None:
    """The server closes it or leaves it alone, and others go on."""
    with Raw(one.target, preface=data) as connection:
        connection.socket.settimeout(2)  # grpcio leaves one of them open
        with suppress(ConnectionResetError, TimeoutError):
            list(islice(connection.frames(), 100))
    assert_answers(one)


@pytest.mark.parametrize("path", [DECIDE, ANSWER])
@pytest.mark.parametrize(
    "data",
    [b"\x07\0\0\0\x01x", message(b"no gzip", compressed=1), message(b"x", length=5), b"\0\0"],
    ids=["flag", "compressed", "short", "head"],
)
def test_what_is_no_message_ends_its_call_alone(one: Running, path: str, data: bytes) -> None:
    """The call fails, and its connection goes on."""
    with Raw(one.target) as connection:
        broken = connection.begin(path, data, END_STREAM)
        sound = connection.begin(path, message(b"ok"), END_STREAM)
        answered = {}
        for kind, flags, stream, payload in connection.frames():
            if kind == 0 and payload:
                answered[stream] = payload
            if stream == sound and flags & END_STREAM:
                break
    assert answered.get(sound) == message(b"ok")
    assert broken not in answered or (data[0] > 1 and not is_native(one))  # grpcio does not read the other bits
    assert_answers(one)


@pytest.mark.parametrize("path", [DECIDE, ANSWER])
def test_resets_in_a_row_leave_nothing_behind(one: Running, path: str) -> None:
    """A client begins thousands of calls and resets each at once; the server may close its connection."""
    with Raw(one.target) as connection:
        try:
            for _ in range(3_000):
                stream = connection.begin(path, message(b"reset"), END_STREAM)
                connection.send(frame(RST_STREAM, 0, stream, bytes(4)))
        except (BrokenPipeError, ConnectionResetError):
            pass
        if is_native(one):
            assert_answers(one)
    if not is_native(one):  # it has given each a thread, and cancels others while these are many
        wait_for(lambda: is_answered(one), "it answers")
    assert_answers(one)


def test_health_is_told_and_watched(channel: grpc.Channel) -> None:
    """Check, an unknown service, and the first message of Watch."""
    stub = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    watch.cancel()


def test_what_is_under_way_ends_when_a_front_stops(one: Running) -> None:
    """Calls of both ways are answered; then the port is closed."""
    with running(one.front.name) as own, own.channel() as channel, ThreadPoolExecutor(1) as other:
        waiting = [call(channel, method).future(b"wait", timeout=30) for method in METHODS]
        wait_for(lambda: len(own.begun) == len(METHODS), "they are under way")
        stopping = other.submit(own.front.stop, 20.0)
        time.sleep(0.3)
        assert not wait([stopping], 0).done
        own.gate.set()
        assert [future.result() for future in waiting] == [b"wait", b"wait"]
        stopping.result(30)
        with pytest.raises(ConnectionRefusedError):
            Raw(own.target)


def test_a_front_stops_after_the_grace(one: Running) -> None:
    """A call that takes too long ends with a status that clients retry, or as cancelled."""
    with running(one.front.name) as own, own.channel() as channel:
        waiting = call(channel, "Answer").future(b"wait", timeout=30)
        wait_for(lambda: own.begun, "it is under way")
        own.front.stop(0.3)
        assert waiting.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_a_port_that_cannot_be_had_is_an_error(one: Running) -> None:
    """An address of another machine."""
    with running(one.front.name) as own, pytest.raises(OffersError, match="cannot listen on 192"):
        own.front.listen("192.0.2.1:1")
