"""`make fuzz` in short, and proof that it finds faults: a service that has them is caught."""

import os
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from google.protobuf.message import DecodeError

from offers.server.events.intake import Intake
from offers.testing import Served, serving
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsResponse
from tests.faults.fuzz import frames
from tests.faults.fuzz.campaign import Campaign
from tests.faults.fuzz.methods import Method, methods_of
from tests.faults.fuzz.mutations import case_of, mutated
from tests.faults.fuzz.samples import SAMPLES, sample

SEED, CASES = 1, 600


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server in this process."""
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def methods(served: Served) -> list[Method]:
    """Its methods."""
    return methods_of(served.channel)


class InProcess:
    """A server in this process, as a campaign looks at it."""

    def __init__(self, served: Served) -> None:
        self.target, self.text = served.target, ""

    def workers(self) -> set[int]:
        """Return the process that answers."""
        return {os.getpid()}


def test_mutated_calls_do_no_harm(served: Served) -> None:
    """All calls end with a status that tells their client what is wrong."""
    outcome = Campaign(InProcess(served), SEED).run(CASES, seconds=300)
    assert [] == outcome.faults
    assert CASES == outcome.cases


def test_every_method_is_found(methods: list[Method]) -> None:
    """Those of all our services, and of the standard ones; each has a sample, or needs none."""
    paths = {method.path for method in methods}
    assert set(SAMPLES) <= paths
    assert {"/grpc.health.v1.Health/List"} == paths - set(SAMPLES)


def test_faults_are_found(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that no rule expects, in some call of a method, is told with the number of the case that repeats it."""
    take = Intake.take

    def fail(intake: Intake, events: Sequence[Event]) -> ReportEventsResponse:
        if any(event.HasField("custom") for event in events):
            raise ZeroDivisionError
        return take(intake, events)

    monkeypatch.setattr(Intake, "take", fail)
    outcome = Campaign(InProcess(served), SEED).run(CASES, seconds=300)
    assert any("/ReportEvents ends with StatusCode.INTERNAL" in fault for fault in outcome.faults)


def test_a_case_is_made_again_from_its_number(methods: list[Method]) -> None:
    """The same seed and number give the same call and the same connection, others others."""
    cases = [case_of(SEED, number, methods) for number in range(50)]
    assert cases == [case_of(SEED, number, methods) for number in range(50)]
    assert cases != [case_of(SEED + 1, number, methods) for number in range(50)]
    assert frames.connection_of(SEED, 3) == frames.connection_of(SEED, 3)


def test_mutations_are_as_wild_as_they_claim(methods: list[Method]) -> None:
    """Of each method some mutated requests can be read and some cannot, and all samples can."""
    random = Random(SEED)
    for method in methods:
        assert method.request.FromString(sample(random, method).SerializeToString()) is not None
        read = sum(can_be_read(method, mutated(random, method)) for _ in range(200))
        assert 20 < read < 195 or not method.request.DESCRIPTOR.fields, method.path


def can_be_read(method: Method, data: bytes) -> bool:
    """Return whether bytes are a request of a method."""
    try:
        method.request.FromString(data)
    except DecodeError:
        return False
    return True
