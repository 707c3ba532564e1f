"""The measurements of a run: calls in alternating slices, and the memory of two workers."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from benchmarks import synthetic
from benchmarks.load import CLIENT_CORE, WORKER_CORE, Slice, Target, on_core
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.files import new_memory
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.v1.offer_service_pb2 import BatchGetOffersRequest, GetOffersRequest, GetOffersResponse

REQUESTS = 4_096
"""Requests at different places, taken in turn."""
BATCH = 100
SLICE_CALLS = 400
"""Calls of a slice: some tenths of a second, so that other load on the machine affects all methods alike."""
BATCH_CALLS = 16
LEAST_ROUNDS = 3
"""Fewest rounds for a useful median."""
_BATCHES = 32
_WARM_CALLS = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests for a catalogue of one size, and the typical response."""

    snapshot: Path
    requests: list[bytes]
    batches: list[bytes]
    response_bytes: int
    """Length of the median response, and of the no-op's."""
    eligible: float
    """Eligible offers of the median request."""


@dataclass(slots=True)
class Series:
    """The slices of one size, by round."""

    noop: list[Slice] = field(default_factory=list)
    get_offers: list[Slice] = field(default_factory=list)
    batch: list[Slice] = field(default_factory=list)

    def ratio(self, methods: Sequence[Slice], figure: Callable[[Slice], float]) -> float:
        """Return the median over the rounds of a method's figure divided by the no-op's."""
        return statistics.median(figure(one) / figure(noop) for one, noop in zip(methods, self.noop, strict=True))


def plan(offers: int, snapshot: Path) -> Plan:
    """Draw the requests for a size, and answer some in this process to learn the length of responses."""
    requests = synthetic.requests(offers, REQUESTS)
    service = OfferService(Live([Engine(open_snapshot(snapshot))]), lambda: synthetic.NOW)
    answers = [service.get_offers(request) for request in requests[:500]]
    messages = [GetOffersRequest.FromString(request) for request in requests[: BATCH * _BATCHES]]
    return Plan(
        snapshot,
        requests,
        [
            BatchGetOffersRequest(requests=messages[start : start + BATCH]).SerializeToString()
            for start in range(0, len(messages), BATCH)
        ],
        round(statistics.median(map(len, answers))),
        statistics.median(GetOffersResponse.FromString(answer).eligible_count for answer in answers),
    )


def calls(plans: dict[int, Plan], rounds: int, deadline: float) -> dict[int, Series]:
    """Measure a no-op and the methods at every size, with a slice of each in every round.

    All workers stand on one core, where only one has work at a time, and the client on the other. Past the deadline,
    by time.monotonic, no more than LEAST_ROUNDS are made.
    """
    with ExitStack() as stack:
        targets = {
            size: stack.enter_context(Target(one.snapshot, WORKER_CORE, one.response_bytes))
            for size, one in plans.items()
        }
        stack.enter_context(on_core(CLIENT_CORE))
        requests = {size: cycle(one.requests) for size, one in plans.items()}
        batches = {size: cycle(one.batches) for size, one in plans.items()}
        for size, target in targets.items():
            target.connect()
            for call in (target.noop, target.get_offers):
                target.slice(call, requests[size], _WARM_CALLS)
            target.slice(target.batch_get_offers, batches[size], BATCH_CALLS)
        measured = {size: Series() for size in plans}
        for number in range(rounds):
            if number >= LEAST_ROUNDS and time.monotonic() > deadline:
                break
            for size, target in targets.items():
                series = measured[size]
                pair = [(target.noop, series.noop), (target.get_offers, series.get_offers)]
                for call, slices in pair if number % 2 else reversed(pair):
                    slices.append(target.slice(call, requests[size], SLICE_CALLS))
                series.batch.append(target.slice(target.batch_get_offers, batches[size], BATCH_CALLS))
        return measured


def memory(one: Plan, count: int) -> list[tuple[int, int]]:
    """Return the private and shared bytes of two workers over one snapshot, after the same number of calls each."""
    with ExitStack() as stack:
        sealed = new_memory()
        if sealed is not None:
            stack.callback(os.close, sealed)
            open_snapshot(one.snapshot, sealed)
        cores = WORKER_CORE, CLIENT_CORE
        both = [Target(one.snapshot, core, one.response_bytes, memory=sealed) for core in cores]
        targets = [stack.enter_context(target) for target in both]
        for target in targets:
            target.connect()
        for target in targets:
            target.slice(target.get_offers, islice(cycle(one.requests), count), count)
        time.sleep(0.2)  # memory of the calls is released by now
        return [target.memory() for target in targets]
