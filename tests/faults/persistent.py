"""Clients that repeat a call until it is answered, whoever is killed meanwhile, and know what they were told."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
from google.rpc import code_pb2

from offers.v1.event_pb2 import Event, RedemptionEvent
from offers.v1.event_service_pb2 import EventResult
from tests.faults.clients import client_of, order, pass_over, redemption

PERSONS = 7
RETRY_S = 0.05
GIVEN_UP_S = 120.0
"""Seconds without an answer after which a client fails its test."""
CALL_S = 5.0
RESERVE, CONFIRM = RedemptionEvent.PHASE_RESERVE, RedemptionEvent.PHASE_CONFIRM
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
"""Statuses with which a call may end while processes are killed."""


class Clients:
    """Threads that report orders and redeem an offer with a budget, until they are told to stop.

    `target` returns where the server listens; it may change.
    """

    def __init__(self, target: Callable[[], str]) -> None:
        self.orders: Counter[str] = Counter()
        """Orders that were acknowledged, by person."""
        self.confirmed: list[str] = []
        """Redemptions that were confirmed, as acknowledged."""
        self.exhausted = 0
        """Redemptions that were refused because the budget is used up."""
        self._target = target
        self._numbers = itertools.count()
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._faults: list[BaseException] = []

    @contextmanager
    def running(self, reporters: int = 0, redeemers: int = 0) -> Iterator[None]:
        """Run some clients while the block runs; each then finishes what it is about."""
        work = [self._report] * reporters + [self._redeem] * redeemers
        threads = [threading.Thread(target=self._run, args=(each, f"{number}")) for number, each in enumerate(work)]
        self._ends.clear()
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ends.set()
            for thread in threads:
                thread.join()
        assert not self._faults, self._faults[0]

    def wait_until_exhausted(self, redeemers: int) -> None:
        """Wait until each of some redeemers has been refused."""
        deadline = time.monotonic() + GIVEN_UP_S
        while self.exhausted < redeemers and not self._faults:
            assert time.monotonic() < deadline, "the budget is never used up"
            time.sleep(0.05)

    def send(self, *events: Event) -> list[EventResult]:
        """Report events, again and again until it is acknowledged."""
        deadline = time.monotonic() + GIVEN_UP_S
        while True:
            try:
                with client_of(self._target()) as client:
                    return client.report(*events, timeout=CALL_S)
            except grpc.RpcError as error:
                pass_over(error, PASSING, deadline)
                time.sleep(RETRY_S)

    def _run(self, work: Callable[[str], None], name: str) -> None:
        try:
            while not self._ends.is_set():
                work(f"{name}-{next(self._numbers)}")
        except BaseException as error:  # noqa: BLE001 - raised where the clients are stopped
            self._faults.append(error)

    def _report(self, name: str) -> None:
        events = [order(f"{name}-{number}", f"person-{number % PERSONS}") for number in range(50)]
        results = self.send(*events)
        assert not any(result.status.code for result in results)
        with self._lock:
            self.orders.update(event.user.user_id for event in events)

    def _redeem(self, name: str) -> None:
        (reserved,) = self.send(redemption(f"r-{name}", name, RESERVE))
        if reserved.status.code == code_pb2.RESOURCE_EXHAUSTED:
            with self._lock:
                self.exhausted += 1
            time.sleep(RETRY_S)
            return
        assert not reserved.status.code, reserved
        (confirmed,) = self.send(redemption(f"c-{name}", name, CONFIRM))
        assert not confirmed.status.code, confirmed
        with self._lock:
            self.confirmed.append(name)
