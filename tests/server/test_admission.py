"""Calls are refused by number, age and deadline before any work is done for them."""

import math

import pytest
from google.rpc import code_pb2, error_details_pb2

from offers.errors import ExpiredError, OffersError, OverloadedError
from offers.server.admission import FULL_S, PACE_S, Admission, Pace
from offers.server.statuses import status_of


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the instant."""
        return self.now


def test_the_number_of_waiting_calls_is_bounded() -> None:
    """One call more than may wait is refused, and counted."""
    admission = Admission(most_waiting=3)
    assert not admission.is_full(2)
    assert admission.is_full(3)
    assert isinstance(admission.refuse_number(), OverloadedError)
    assert admission.refused == 1
    assert [(1, 0), (0, 0)] == [admission.take_counts(), admission.take_counts()]


def test_the_newest_come_first_while_calls_are_refused() -> None:
    """In a crowd the newest can still be answered in time; one that has waited too long is refused before them."""
    admission = Admission(most_waiting=3, oldest_s=2, clock=Clock())
    assert admission.is_full(3)
    assert [admission.is_newest_first(oldest_s) for oldest_s in (0, 0.019, 0.021, 2, 2.1)] == [
        False, False, True, True, False,
    ]  # fmt: skip


def test_callers_for_whom_there_is_room_do_not_starve() -> None:
    """While none is refused, as in a load test with a fixed number of callers, and soon after, all come in order."""
    clock = Clock()
    admission = Admission(most_waiting=3, clock=clock)
    assert not admission.is_full(2)
    assert not admission.is_newest_first(1.0)
    assert admission.is_full(3)
    clock.now += FULL_S
    assert not admission.is_newest_first(1.0)


def test_a_call_that_has_waited_too_long_is_refused() -> None:
    """Age alone suffices, without a deadline."""
    admission = Admission(oldest_s=2)
    admission.check(2.0, math.inf, Pace())
    with pytest.raises(OverloadedError, match="waited more than 2 s"):
        admission.check(2.01, math.inf, Pace())
    assert (admission.refused, admission.expired) == (1, 0)


@pytest.mark.parametrize("left_s", [0.0, -1.0])
def test_a_call_whose_deadline_has_passed_is_not_worked_on(left_s: float) -> None:
    """It is told so, and counted apart from those that may be repeated."""
    admission = Admission()
    with pytest.raises(ExpiredError):
        admission.check(0.0, left_s, Pace())
    assert (admission.refused, admission.expired) == (0, 1)


def test_a_deadline_that_no_call_has_met_lately_is_refused() -> None:
    """Less time is left than the fastest call of the method took; once that is long ago, it is tried again."""
    clock, pace = Clock(), Pace()
    admission = Admission(clock=clock)
    admission.check(0.0, 0.001, pace)
    pace.note(0.05, clock.now)
    pace.note(0.02, clock.now)
    pace.note(0.03, clock.now)
    admission.check(0.0, 0.021, pace)
    with pytest.raises(OverloadedError, match="19 ms are left, and no such call takes less than 20"):
        admission.check(0.0, 0.019, pace)
    clock.now += PACE_S
    with pytest.raises(OverloadedError):
        admission.check(0.0, 0.019, pace)
    clock.now += PACE_S
    admission.check(0.0, 0.019, pace)


def test_durations_of_long_ago_are_forgotten_at_once() -> None:
    """After a pause, nothing is known of how long calls take."""
    pace = Pace()
    pace.note(1.0, 100.0)
    assert pace.shortest(100.0) == 1.0
    assert pace.shortest(100.0 + 3 * PACE_S) == 0.0


@pytest.mark.parametrize(
    ("error", "code", "retry_s"),
    [
        (OverloadedError("too many"), code_pb2.RESOURCE_EXHAUSTED, 1),
        (ExpiredError("too late"), code_pb2.DEADLINE_EXCEEDED, None),
    ],
)
def test_callers_are_told_when_to_try_again(error: OffersError, code: int, retry_s: int | None) -> None:
    """A call that was refused may be repeated; one whose deadline has passed has nobody waiting."""
    status = status_of(error)
    assert status.code == code
    delays = []
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        assert detail.Unpack(retry)
        delays.append(retry.retry_delay.seconds)
    assert delays == ([] if retry_s is None else [retry_s])
