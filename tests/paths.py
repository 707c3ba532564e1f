"""Paths that tests share."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout."""
DATA = ROOT.parent / "shared" / "data"
"""Real data beside the checkout; may be absent."""


def environment() -> dict[str, str]:
    """Return an environment for child processes that import from the checkout, beside what the own one adds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
