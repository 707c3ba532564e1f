"""Numbers of attributes, which are 64-bit floating point."""

from typing import Final

MOST_EXACT: Final = 2**53
"""Whole numbers of this size and more are not exact in 64-bit floating point: neighbours become equal."""


def is_exact(number: float) -> bool:
    """Return whether a number is told from its neighbours in 64-bit floating point, if it is a whole one."""
    return not abs(number) >= MOST_EXACT
