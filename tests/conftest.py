"""Hypothesis profiles: `ci`, the default, repeats the same examples everywhere; `explore` looks for more. Also logs,
and loops."""  # noqa: D205, D209

import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

MANY = 500
"""Tests among which some need the loops for certain."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Of two processes that need all loops, the second compiles first what the first one comes to last."""
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw1" and len(session.items) >= MANY:
        from offers.decision.kernels.arrange import arrange
        from offers.decision.kernels.models.foresee import foresee
        from offers.decision.kernels.screen import screen

        last: tuple[Any, ...] = (foresee, screen, arrange)
        for loop in last:
            loop.prepare()


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands that run in this process write the log to a stream that is closed after them: forget that."""
    yield
    structlog.reset_defaults()
