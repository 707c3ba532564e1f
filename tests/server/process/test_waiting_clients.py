"""Clients that keep a call waiting, or come and go, do not delay anybody else."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from offers.server.process import handlers
from offers.server.process.threads import MOST_SPARE, CallThreads
from offers.server.process.worker import Worker
from offers.settings import Settings
from offers.state.opening import open_stores
from offers.testing import Served, serving
from offers.v1 import offer_service_pb2 as pb
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import StreamEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.faults.http2 import CHECK, GET_OFFERS, WATCH, WHOLE, Raw
from tests.server.fronts.fronts import FRONTS
from tests.server.process.test_processes import write
from tests.server.running import Server, started, wait_for

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(params=FRONTS, scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The demo catalogue, served by one worker with the default number of threads, behind each front."""
    with serving(front=request.param) as running:
        yield running


@contextmanager
def raw(served: Served, window: int = 65_535) -> Iterator[Raw]:
    """A raw connection to a server."""
    connection = Raw(served.target, window)
    try:
        yield connection
    finally:
        connection.close()


def assert_answers(served: Served) -> None:
    """Decisions and health checks are answered before a client loses patience."""
    for _ in range(3):
        assert OfferServiceStub(served.channel).GetOffers(pb.GetOffersRequest(), timeout=5).catalog_version
        assert (
            SERVING
            == health_pb2_grpc.HealthStub(served.channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status
        )


@pytest.mark.parametrize("path", [GET_OFFERS, CHECK, WATCH, "/offers.v1.EventService/StreamEvents"])
@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0\x05ab"])
def test_calls_without_their_message_hold_nobody_up(served: Served, path: str, data: bytes) -> None:
    """Many more calls than threads begin, and send nothing or a part of their message."""
    with raw(served) as connection:
        for _ in range(40):
            connection.call(path, data)
        assert_answers(served)
    assert_answers(served)


def test_clients_that_take_nothing_hold_nobody_up(served: Served) -> None:
    """Watchers and callers whose window is 0 are sent nothing, and others are answered."""
    with raw(served, window=0) as connection:
        for _ in range(20):
            connection.call(WATCH, WHOLE)
            connection.call(GET_OFFERS, WHOLE)
        assert_answers(served)
        served.worker.health.set("", SERVING)
        assert_answers(served)


def test_watchers_that_come_and_go_stop_nothing(served: Served) -> None:
    """Clients open Watch streams and leave at once, over and over, while the status changes."""
    ends = threading.Event()

    def come_and_go() -> None:
        while not ends.is_set():
            with grpc.insecure_channel(served.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                streams = [health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()) for _ in range(5)]
                with suppress(grpc.RpcError):
                    next(streams[0])

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            served.worker.health.set_all(NOT_SERVING)
            served.worker.health.set_all(SERVING)
            assert_answers(served)
    finally:
        ends.set()
        for thread in threads:
            thread.join()


def test_watchers_are_told_of_each_change(served: Served) -> None:
    """A Watch stream has the present status first, then the changes; of an unknown service, that it is unknown."""
    stub = health_pb2_grpc.HealthStub(served.channel)
    stream = stub.Watch(health_pb2.HealthCheckRequest(service="offers.v1.OfferService"), timeout=30)
    told = [next(stream).status]
    for status in (NOT_SERVING, SERVING):
        served.worker.health.set("offers.v1.OfferService", status)
        told.append(next(stream).status)
    assert [SERVING, NOT_SERVING, SERVING] == told
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"), timeout=30)
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    stream.cancel()
    unknown.cancel()


def test_health_tells_what_is_wrong(served: Served) -> None:
    """An unknown service is NOT_FOUND, a message that is none INVALID_ARGUMENT; List names all services."""
    stub = health_pb2_grpc.HealthStub(served.channel)
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
    check: Any = served.channel.unary_unary(CHECK)
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
        check(b"\xff\xff", timeout=5)
    listed = stub.List(health_pb2.HealthListRequest(), timeout=5).statuses
    assert {"", "offers.v1.OfferService", "offers.v1.EventService", "offers.v1.ProfileService"} == set(listed)


def test_a_worker_that_does_not_answer_is_replaced(tmp_path: Path) -> None:
    """A worker that lives but stands still is killed, and another takes its place."""
    with started(tmp_path, catalogs=(write(tmp_path),), workers=1) as server:
        (pid,) = server.workers()
        wait_for(lambda: has_beaten(server, pid), "it has shown that it answers")
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: server.workers() - {pid} and server.health() == SERVING, "another worker serves", 90)
        (line,) = server.lines("worker_hangs")
        assert line["pid"] == pid


def has_beaten(server: Server, pid: int) -> bool:
    """Whether a worker has had the time for a sign of life."""
    time.sleep(2.5)
    return pid in server.workers()


def idle_stream(channel: grpc.Channel, ends: threading.Event) -> Any:  # noqa: ANN401 - a call of grpcio
    """A stream of events whose client sends one message, and then nothing."""

    def messages() -> Iterator[StreamEventsRequest]:
        yield StreamEventsRequest(events=[Event(event_id="idle")])
        ends.wait(600)

    return EventServiceStub(channel).StreamEvents.future(messages(), timeout=600)


@contextmanager
def idle_streams(channel: grpc.Channel, count: int) -> Iterator[list[Any]]:
    """Streams of events that are open and idle."""
    ends = threading.Event()
    try:
        yield [idle_stream(channel, ends) for _ in range(count)]
    finally:
        ends.set()


def test_idle_streams_end_with_the_server(tmp_path: Path) -> None:
    """A drain does not wait for streams whose clients send nothing, and tells them to go elsewhere."""
    settings = Settings(data_dir=tmp_path, drain_s=0, grace_s=600)
    with closing(open_stores(settings)) as stores:
        worker = Worker(settings, stores)
        with grpc.insecure_channel(f"127.0.0.1:{worker.start(0)}") as channel, idle_streams(channel, 6) as streams:
            reflect: Any = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
            reflecting = reflect(iter(threading.Event().wait, None), timeout=600)
            wait_for(lambda: waiting(worker.threads) == 6 and waiting(worker.apart) == 1, "all streams are idle")
            worker.drain()
            for stream in (*streams, reflecting):
                assert grpc.StatusCode.UNAVAILABLE is stream.code()
                assert "the server stops" in stream.details()


def waiting(threads: CallThreads) -> int:
    """The threads that wait for the next message of a stream."""
    return sum(wait.drain is not None and not wait.is_over for wait in list(threads._waiting))  # noqa: SLF001


def test_a_stream_that_is_idle_for_too_long_is_told_why(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status has a code and says what to do; the threads are free again."""
    monkeypatch.setattr(handlers, "STREAM_S", 0.3)
    with idle_streams(served.channel, 6) as streams:
        for stream in streams:
            assert grpc.StatusCode.DEADLINE_EXCEEDED is stream.code()
            assert "send one within" in stream.details()
        wait_for(lambda: waiting(served.worker.threads) == 0, "no thread waits")
    assert_answers(served)


class Call:
    """A call that can be cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """Cancel it."""
        self.cancelled.set()


def test_threads_that_wait_for_clients_are_replaced_and_their_calls_end() -> None:
    """With every thread waiting for a client, others run; a call whose client takes too long is cancelled."""
    threads, calls = CallThreads(1), [Call() for _ in range(30)]

    def wait(call: Call) -> bool:
        with threads.waiting(call, 0.5):
            return call.cancelled.wait(30)

    waits = [threads.submit(wait, call) for call in calls]
    assert threads.submit(lambda: 42).result(20) == 42
    assert all(each.result(30) for each in waits)
    threads.shutdown()


def test_with_too_many_waiting_clients_the_oldest_give_way() -> None:
    """More clients than there may be spare threads keep a thread waiting: those that wait longest are cancelled."""
    threads, calls = CallThreads(1), [Call() for _ in range(MOST_SPARE + 50)]

    def wait(call: Call) -> bool:
        with threads.waiting(call, 600):
            return call.cancelled.wait(60)

    waits = [threads.submit(wait, call) for call in calls]
    assert threads.submit(lambda: 42).result(60) == 42
    for call in calls:
        call.cancel()
    assert all(each.result(60) for each in waits)
    threads.shutdown()


def test_where_no_more_threads_start_waiting_clients_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit on threads, calls whose clients keep them waiting are cancelled soon, and others run."""
    threads, calls = CallThreads(2), [Call() for _ in range(5)]
    start, refused = threading.Thread.start, threading.Event()

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "call_spare":
            refused.set()
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    def wait(call: Call) -> bool:
        with threads.waiting(call, 600):
            return call.cancelled.wait(30)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    waits = [threads.submit(wait, call) for call in calls]
    assert threads.submit(lambda: 42).result(20) == 42
    assert refused.is_set()
    monkeypatch.undo()
    # The last of them keep no call in the queue waiting, so that they may take their time.
    for call in calls:
        call.cancel()
    assert all(each.result(20) for each in waits)
    threads.shutdown()


def test_calls_that_wait_for_a_store_hold_up_no_others() -> None:
    """With every thread in a call that does not end, and more such calls in the queue, others run."""
    threads, store = CallThreads(2), threading.Event()
    waits = [threads.submit(store.wait, 60) for _ in range(8)]
    assert threads.submit(lambda: 42).result(20) == 42
    assert not any(each.done() for each in waits)
    store.set()
    assert all(each.result(20) for each in waits)
    threads.shutdown()


def test_errors_of_calls_are_in_their_futures() -> None:
    """An exception is handed on, and the thread goes on."""
    threads = CallThreads(1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(20)
    assert threads.submit(lambda: 1).result(20) == 1
    with ExitStack() as stack:
        stack.callback(threads.shutdown)
