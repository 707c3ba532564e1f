"""The loop of the native front decides which calls are worked on, and in which order."""

import math
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from pygrpc_native import EVENT_CALL, EVENT_CANCEL

from offers.server.admission import MOST_WAITING as MOST_OTHERS
from offers.server.admission import Admission
from offers.server.fronts import loop as loop_module
from offers.server.fronts.loop import CROWDED_OLDEST_S, DECIDED_AT_ONCE, MOST_WAITING, Loop
from offers.server.offer_service import Tell
from offers.server.process.gate import AdmittedThreads
from tests.server.running import wait_for

DECIDE, OTHER = 0, 1
Event = tuple[Any, ...]


class Transport:
    """A transport whose calls the test makes, a batch at a time."""

    def __init__(self) -> None:
        self.batches: queue.SimpleQueue[list[Event] | None] = queue.SimpleQueue()
        self.answers: dict[int, bytes | status_pb2.Status] = {}

    def recv_batch_details(self, _most: int, timeout_ms: int | None) -> list[Event] | None:
        """Return the next batch."""
        try:
            return self.batches.get(timeout=None if timeout_ms is None else timeout_ms / 1000)
        except queue.Empty:
            return []

    def respond(self, number: int, data: bytes) -> None:
        """Keep a response."""
        self.answers[number] = data

    def fail(self, number: int, code: int, message: str, trailing: Sequence[tuple[str, bytes]]) -> None:
        """Keep a status, which is in the trailing metadata."""
        status = status_pb2.Status.FromString(dict(trailing)["grpc-status-details-bin"])
        assert (status.code, status.message) == (code, message)
        self.answers[number] = status


class Methods:
    """A method that decides, and another; both note what they are given."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self.decided: list[list[bytes]] = []
        self.begun: list[bytes] = []
        self.gate: queue.SimpleQueue[None] = queue.SimpleQueue()

    def decide(self, requests: Sequence[bytes], tell: Tell) -> None:
        """Answer each request with itself, after some time."""
        if requests:
            self.decided.append(list(requests))
            time.sleep(self._seconds)
        if b"fault" in requests:
            raise RuntimeError
        for index, data in enumerate(requests):
            tell(index, data)

    def other(self, data: bytes) -> bytes:
        """Answer once the gate lets it."""
        self.begun.append(data)
        self.gate.get(timeout=30)
        return data


def call_of(number: int, method: int = DECIDE, *, data: bytes = b"", left: float | None = None) -> Event:
    """Return the event of a call; its message is its number unless another is given."""
    return EVENT_CALL, number, method, data or b"%d" % number, "peer", ((), "peer", left)


@contextmanager
def looping(methods: Methods) -> Iterator[tuple[Transport, Loop]]:
    """Run a loop."""
    transport, threads = Transport(), AdmittedThreads(2, Admission())
    front: Any = transport
    loop = Loop(front, methods.decide, [methods.other], threads)
    loop.start()
    yield transport, loop
    for _ in range(MOST_OTHERS * 2):
        methods.gate.put(None)
    loop.end()
    for _ in range(3):
        transport.batches.put(None)
    threads.shutdown()


def answered(transport: Transport, count: int) -> dict[int, bytes | status_pb2.Status]:
    """Wait until so many calls have ended; return how."""
    wait_for(lambda: len(transport.answers) >= count, "calls have ended")
    return transport.answers


def codes(answers: dict[int, bytes | status_pb2.Status]) -> dict[int, int]:
    """Return the codes of calls that were refused."""
    return {number: one.code for number, one in answers.items() if isinstance(one, status_pb2.Status)}


def test_calls_are_decided_in_batches_in_their_order() -> None:
    """As many as came together, and each is told its own result."""
    methods = Methods()
    with looping(methods) as (transport, loop):
        transport.batches.put([call_of(number) for number in range(20)])
        assert {number: b"%d" % number for number in range(20)} == answered(transport, 20)
        wait_for(lambda: not loop.under_way, "nothing is under way")
    assert [[b"%d" % number for number in range(20)]] == methods.decided


def test_a_burst_is_answered_in_its_order() -> None:
    """More calls than are decided at once wait for their turn, though longer than in a crowd."""
    methods = Methods(2 * CROWDED_OLDEST_S)
    with looping(methods) as (transport, _):
        transport.batches.put([call_of(number) for number in range(2 * DECIDED_AT_ONCE)])
        assert not codes(answered(transport, 2 * DECIDED_AT_ONCE))
    assert [b"%d" % number for number in range(2 * DECIDED_AT_ONCE)] == [
        data for batch in methods.decided for data in batch
    ]
    assert all(len(batch) <= DECIDED_AT_ONCE for batch in methods.decided)


def test_more_calls_than_may_wait_are_refused() -> None:
    """Those that have waited longest, with the time to try again."""
    with looping(Methods()) as (transport, loop):
        transport.batches.put([call_of(number) for number in range(MOST_WAITING + 7)])
        refused = codes(answered(transport, MOST_WAITING + 7))
        wait_for(lambda: not loop.under_way, "nothing is under way")
    assert dict.fromkeys(range(7), code_pb2.RESOURCE_EXHAUSTED).items() <= refused.items()
    retry, status = error_details_pb2.RetryInfo(), transport.answers[0]
    assert isinstance(status, status_pb2.Status)
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 1


def test_calls_that_have_waited_too_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """While decisions are slow, what is old is refused before any work."""
    monkeypatch.setattr(loop_module, "OLDEST_S", 0.05)
    methods = Methods(0.1)
    with looping(methods) as (transport, _):
        transport.batches.put([call_of(number) for number in range(2 * DECIDED_AT_ONCE)])
        refused = codes(answered(transport, 2 * DECIDED_AT_ONCE))
    assert dict.fromkeys(range(DECIDED_AT_ONCE, 2 * DECIDED_AT_ONCE), code_pb2.RESOURCE_EXHAUSTED) == refused
    assert len(methods.decided) == 1


def test_in_a_crowd_calls_are_refused_sooner() -> None:
    """Once some have waited at any time for a while, those that wait for long are refused; the next ones are not."""
    methods = Methods(2 * CROWDED_OLDEST_S)
    with looping(methods) as (transport, loop):
        transport.batches.put([call_of(number) for number in range(1_000)])
        refused = codes(answered(transport, 1_000))
        assert set(refused.values()) == {code_pb2.RESOURCE_EXHAUSTED}
        assert sum(one.take_counts().refused for one in loop.admissions) == len(refused)
        assert len(methods.decided) < 10
        wait_for(lambda: not loop.under_way, "nothing is under way")
        transport.batches.put([call_of(number) for number in range(2_000, 2_000 + DECIDED_AT_ONCE)])
        assert codes(answered(transport, 1_000 + DECIDED_AT_ONCE)) == refused
    assert not set(refused).intersection(int(data) for batch in methods.decided for data in batch)


def test_calls_whose_deadline_has_passed_or_cannot_be_met_are_not_worked_on() -> None:
    """The first ends as late, the second may be repeated once it is known how long decisions take."""
    methods = Methods(0.05)
    with looping(methods) as (transport, _):
        transport.batches.put([call_of(1), call_of(2, left=-0.1)])
        assert {2: code_pb2.DEADLINE_EXCEEDED} == codes(answered(transport, 2))
        transport.batches.put([call_of(3, left=0.01)])
        assert code_pb2.RESOURCE_EXHAUSTED == codes(answered(transport, 3))[3]
        transport.batches.put([call_of(4, left=math.inf)])
        assert b"4" == answered(transport, 4)[4]
    assert [[b"1"], [b"4"]] == methods.decided


def test_calls_that_were_left_are_not_worked_on() -> None:
    """A client that resets its calls costs no decisions."""
    methods = Methods()
    with looping(methods) as (transport, loop):
        left = (EVENT_CANCEL, 1, 0, None, None, None)
        transport.batches.put([call_of(1), call_of(2), left, (EVENT_CANCEL, 99, 0, None, None, None)])
        assert {2: b"2"} == answered(transport, 1)
        wait_for(lambda: not loop.under_way, "nothing is under way")
    assert [[b"2"]] == methods.decided


def test_other_methods_hold_up_no_decision_and_have_a_limit_of_their_own() -> None:
    """With as many of them waiting as may, more are refused, and decisions are made."""
    methods = Methods()
    with looping(methods) as (transport, _):
        transport.batches.put([call_of(number, OTHER) for number in range(2 * MOST_OTHERS)])
        transport.batches.put([call_of(1_000)])
        assert b"1000" == wait_for(lambda: transport.answers.get(1_000), "it is decided")
        refused = codes(answered(transport, 1))
        for _ in range(2 * MOST_OTHERS):
            methods.gate.put(None)
        answered(transport, 2 * MOST_OTHERS + 1)
    assert set(refused.values()) == {code_pb2.RESOURCE_EXHAUSTED}
    assert MOST_OTHERS - 10 <= len(refused) <= MOST_OTHERS


def test_a_fault_ends_its_calls_alone() -> None:
    """All calls of the batch are told, and the next ones are answered."""
    methods = Methods()
    with looping(methods) as (transport, _):
        transport.batches.put([call_of(1), call_of(2, data=b"fault")])
        assert {1: code_pb2.INTERNAL, 2: code_pb2.INTERNAL} == codes(answered(transport, 2))
        transport.batches.put([call_of(3)])
        assert b"3" == answered(transport, 3)[3]
