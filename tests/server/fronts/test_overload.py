"""More calls than a worker can answer: those beyond a number are refused at once, and the others hear nothing of it."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from structlog.testing import capture_logs

from offers.errors import ExpiredError, OverloadedError
from offers.server import admission
from offers.server.admission import MOST_WAITING, Admission, Pace
from offers.server.fronts.gate import AdmittedThreads, Gate
from offers.server.fronts.threads import MOST_SPARE
from offers.settings import Settings
from offers.testing import Served, serving
from offers.v1 import offer_service_pb2 as pb
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.server.running import wait_for

SERVING = health_pb2.HealthCheckResponse.SERVING
MOST_ACCEPTED = Settings().worker_threads + MOST_SPARE + MOST_WAITING
"""Calls that are worked on, or may wait for it, once all spare threads run."""
CALL_S = 120
QUEUED_S = 6
"""Seconds until callers give up; long enough for their calls to be in the queue by then."""


class Stopped:
    """A clock that stands in the way of decisions until it is let go, and counts them."""

    def __init__(self) -> None:
        self.asked = 0
        self._free = threading.Event()
        self._free.set()
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time, sooner or later."""
        if threading.current_thread().name.startswith("call_"):
            with self._lock:
                self.asked += 1
            self._free.wait(CALL_S)
        return time.time()

    def stop(self) -> None:
        """Let no decision end."""
        self._free.clear()

    def let_go(self) -> None:
        """Let all decisions end."""
        self._free.set()


@pytest.fixture(scope="module")
def clock() -> Stopped:
    """The clock of the server."""
    return Stopped()


@pytest.fixture(scope="module")
def served(clock: Stopped) -> Iterator[Served]:
    """The demo catalogue, served by one worker."""
    with serving(clock=clock, front="grpcio") as running:
        running.worker.admission._oldest_s = CALL_S  # noqa: SLF001 - none is too old, however busy the machine
        yield running


@pytest.fixture
def stopped(clock: Stopped, served: Served) -> Iterator[Stopped]:
    """The clock, stopped, with nothing under way."""
    del served
    clock.stop()
    yield clock
    clock.let_go()


def call(served: Served, timeout: float = CALL_S) -> Any:  # noqa: ANN401 - a call of grpcio
    """Begin a decision."""
    return OfferServiceStub(served.channel).GetOffers.future(pb.GetOffersRequest(), timeout=timeout)


def retry_delay_of(error: grpc.RpcError) -> int:
    """Return the seconds after which a refused call may be repeated."""
    status = rpc_status.from_call(error)
    assert status is not None
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    return int(retry.retry_delay.seconds)


def test_calls_beyond_a_number_are_refused_and_health_answers(stopped: Stopped, served: Served) -> None:
    """While no decision ends: as many wait as may, the others are told to come again, probes and reflection answer."""
    calls = [call(served) for _ in range(MOST_ACCEPTED + 60)]
    health = health_pb2_grpc.HealthStub(served.channel)
    assert SERVING == health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S).status
    wait_for(lambda: sum(one.done() for one in calls) >= 60, "the others are refused", CALL_S)
    assert SERVING == health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S).status
    reflect = served.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    assert next(reflect(iter([asked]), timeout=CALL_S)).list_services_response.service
    refused = [one for one in calls if one.done()]
    assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == {one.code() for one in refused}
    assert {1} == {retry_delay_of(one) for one in refused}
    stopped.let_go()
    ends = Counter(one.code() for one in calls)
    assert {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED} == set(ends)
    assert 60 <= ends[grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert Settings().worker_threads + MOST_WAITING <= ends[grpc.StatusCode.OK] <= MOST_ACCEPTED


def test_a_flood_is_bounded_and_over_at_once(stopped: Stopped, served: Served) -> None:
    """Of thousands of calls no more than the bounds allow are kept, and afterwards the next one is answered."""
    calls = [call(served) for _ in range(3_000)]
    wait_for(lambda: sum(one.done() for one in calls) >= 3_000 - MOST_ACCEPTED, "all others have ended", CALL_S)
    stopped.let_go()
    ends = Counter(one.code() for one in calls)
    told = {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
    assert set(ends) <= told
    assert ends[grpc.StatusCode.RESOURCE_EXHAUSTED] >= 100
    assert ends[grpc.StatusCode.OK] <= MOST_ACCEPTED
    assert call(served).result().catalog_version


def test_calls_whose_deadline_has_passed_are_not_worked_on(clock: Stopped, served: Served) -> None:
    """Those still in the queue when their callers gave up are dropped, and counted."""
    before = clock.asked
    assert call(served).result().catalog_version
    each = clock.asked - before
    clock.stop()
    try:
        before = clock.asked
        most, working = Settings().worker_threads + MOST_SPARE, list[Any]()

        def are_all_busy() -> bool:
            if sum(not one.done() for one in working) < most:  # some may be refused until all spare threads run
                working.append(call(served))
            return clock.asked - before >= most

        wait_for(are_all_busy, "every thread is in a decision", CALL_S)
        expired = served.worker.admission.expired
        queued, calls = [call(served, timeout=QUEUED_S) for _ in range(10)], served.worker.threads._calls  # noqa: SLF001
        # One that comes when its caller has given up is another matter: it may be dropped before it is queued.
        wait_for(lambda: len(calls) == len(queued), "all of them wait", QUEUED_S)
        waiting = [arrived for arrived, _ in calls]
        assert {grpc.StatusCode.DEADLINE_EXCEEDED} == {one.code() for one in queued}
        # The server counts the time from the arrival.
        wait_for(lambda: time.monotonic() > max(waiting) + QUEUED_S, "their deadlines have passed for the server, too")
        assert served.worker.admission.expired == expired
    finally:
        clock.let_go()
    answered = sum(one.code() is grpc.StatusCode.OK for one in working)
    assert answered == most
    assert call(served).result().catalog_version
    wait_for(lambda: not calls, "the queue is empty", CALL_S)
    # gRPC may have ended some before their turn.
    assert 1 <= served.worker.admission.expired - expired <= len(waiting)
    assert clock.asked - before == each * (answered + 1)


def test_refused_calls_are_in_the_log(served: Served) -> None:
    """How many there were since the last line; without any, there is none."""
    with capture_logs() as logs:
        served.worker.report_refusals()
        served.worker.admission.refuse_number()
        served.worker.report_refusals()
        served.worker.report_refusals()
    told = [line for line in logs if line["event"] == "calls_refused"]
    assert {"event": "calls_refused", "log_level": "warning", "refused": 1, "expired": 0} == told[-1]


def test_the_gate_is_in_place(served: Served) -> None:
    """This release of grpcio has what the gate needs, so that floods are held off before they cost anything."""
    assert isinstance(served.worker.front._server._state.server, Gate)  # type: ignore[attr-defined] # noqa: SLF001


class Core:
    """The server of grpcio's core: notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_shut_down = False

    def request_registered_call(self, _queue: object, _other: object, method: str, _tag: object) -> None:
        """Note a method."""
        self.asked.append(method)

    def shutdown(self, _queue: object, _tag: object) -> None:
        """Note the end."""
        self.is_shut_down = True


def test_a_gate_holds_back_the_methods_it_guards() -> None:
    """Others are asked for always; those held back come in their order, and all before the server shuts down."""
    core, room = Core(), [0]

    def may_come() -> bool:
        room[0] -= 1
        return room[0] >= 0

    gate = Gate(core, {"a", "b"}, may_come)
    for method in ("a", "health", "b"):
        gate.request_registered_call(None, None, method, method)
    assert ["health"] == core.asked
    room[0] = 1
    gate.let_in()
    assert ["health", "a"] == core.asked
    gate.shutdown(None, None)
    gate.request_registered_call(None, None, "a", "a")
    assert core.is_shut_down
    assert ["health", "a", "b", "a"] == core.asked


class Endless:
    """A call without a deadline."""

    def time_remaining(self) -> float:
        """Return a long time."""
        return 1e18

    def is_active(self) -> bool:
        """Return that the caller waits."""
        return True


class GivenUp(Endless):
    """A call whose caller has ended it."""

    def is_active(self) -> bool:
        """Return that nobody waits."""
        return False


def test_a_core_that_shuts_down_is_asked_for_nothing_more() -> None:
    """A thread that asks for calls while another shuts the core down has asked before, or does not ask."""
    core, asks, goes_on = Core(), threading.Event(), threading.Event()
    may = [False, True]

    def request(_queue: object, _other: object, method: str, _tag: object) -> None:
        asks.set()
        goes_on.wait(0.5)  # the other thread has the time to shut down
        assert not core.is_shut_down
        core.asked.append(method)

    core.request_registered_call = request  # type: ignore[method-assign]
    gate = Gate(core, {"a"}, lambda: may.pop(0))
    gate.request_registered_call(None, None, "a", "a")
    looks = threading.Thread(target=gate.let_in)
    looks.start()
    assert asks.wait(CALL_S)
    gate.shutdown(None, None)
    looks.join()
    assert core.is_shut_down
    assert ["a"] == core.asked


def test_a_full_queue_refuses_on_the_thread_that_submits() -> None:
    """The handler is called at once, and learns from `admit` that its call is one too many."""
    rules = Admission(most_waiting=2)
    threads, busy, begun = AdmittedThreads(1, rules), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        busy.wait(CALL_S)

    def handle() -> int:
        threads.admit(Endless(), Pace())
        return threading.get_ident()

    threads.submit(work)
    assert begun.wait(CALL_S)
    waits = [threads.submit(handle) for _ in range(2)]
    with pytest.raises(OverloadedError):
        threads.submit(handle)
    busy.set()
    assert all(one.result(CALL_S) != threading.get_ident() for one in waits)
    assert rules.refused == 1
    threads.shutdown()


def test_calls_of_callers_who_gave_up_in_the_queue_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that the server ends itself, nor those who leave at once."""
    rules = Admission()
    threads = AdmittedThreads(1, rules)
    assert threads.submit(threads.admit, GivenUp(), Pace()).result(CALL_S) is None
    monkeypatch.setattr(admission, "CROWDED_S", -1.0)  # whoever waits, waits in a crowd
    assert threads.submit(threads.admit, Endless(), Pace()).result(CALL_S) is None
    with pytest.raises(ExpiredError):
        threads.submit(threads.admit, GivenUp(), Pace()).result(CALL_S)
    assert (0, 1) == rules.take_counts()
    threads.shutdown()


def test_in_a_crowd_the_newest_call_is_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the oldest has waited for a moment while calls are refused, calls are taken from the other end."""
    monkeypatch.setattr(admission, "CROWDED_S", -1.0)  # the moment is over at once
    monkeypatch.setattr(admission, "FULL_S", CALL_S)
    rules = Admission(most_waiting=3)
    threads, busy, begun, order = AdmittedThreads(1, rules), threading.Event(), threading.Event(), list[int]()

    def work() -> None:
        begun.set()
        busy.wait(CALL_S)

    threads.submit(work)
    assert begun.wait(CALL_S)
    waits = [threads.submit(order.append, number) for number in range(3)]
    assert rules.is_full(3)
    busy.set()
    for one in waits:
        one.result(CALL_S)
    assert [2, 1, 0] == order
    threads.shutdown()
