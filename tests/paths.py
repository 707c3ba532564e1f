"""Paths that tests share."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout."""
DATA = ROOT.parent / "shared" / "data"
"""Real data beside the checkout; may be absent."""
