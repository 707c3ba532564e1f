"""Set-up of all tests: Hypothesis profiles, compiled loops and logging.

The Hypothesis profile `ci`, the default, repeats the same examples everywhere. HYPOTHESIS_PROFILE=explore tries more.
"""

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
"""A run of at least this many tests certainly needs all compiled loops."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile the last loops first in the second of two test processes, so that both share the work."""
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw1" and len(session.items) >= MANY:
        from offers.decision.kernels.arrange import arrange
        from offers.decision.kernels.models.foresee import foresee
        from offers.decision.kernels.screen import screen

        last: tuple[Any, ...] = (foresee, screen, arrange)
        for loop in last:
            loop.prepare()


@pytest.fixture(autouse=True)
def reset_logging() -> Iterator[None]:
    """Reset logging after each test: a command run in this process leaves it writing to a closed stream."""
    yield
    structlog.reset_defaults()
