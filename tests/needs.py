"""What tests need that is no Python package: without it they are skipped, but in continuous integration they fail."""

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip the test that needs something, with the way to get it; fail it where the environment has `CI`."""
    if os.environ.get("CI"):
        pytest.fail(f"missing, and this is CI: {reason}")
    pytest.skip(f"missing: {reason}")
