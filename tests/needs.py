"""Programs and data that tests need beside Python packages: a test without them is skipped, but fails under CI."""

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip the running test for a reason that says how to get what is missing. Fail it where `CI` is set."""
    if os.environ.get("CI"):
        pytest.fail(f"missing, and this is CI: {reason}")
    pytest.skip(f"missing: {reason}")
