"""Loops compiled apart or into others are what they would be as plain Python, in this process and the next one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from offers.compiled import apart
from tests import loops
from tests.paths import environment

ASK = """
from tests import loops
print(loops.top(b"ab", is_one=True))
print(sum(loops.top.stats.cache_misses.values()), sum(loops.top.stats.cache_hits.values()))
"""
FILL = """
from offers.compiled import _Apart, shares
_Apart.only_declares = True
shares.shorten()
from tests import loops
loops.summed.keep()
loops.parted.keep()
"""
READ = """
from tests import loops
print(loops.summed(4, b"abc"))
print([sum(one._loop.stats.cache_misses.values()) for one in (loops.summed, loops.parted)])
"""


def test_numbers_become_of_the_types_that_annotations_say() -> None:
    """A byte or a truth passed to a loop counts as the int that it asks for."""
    assert loops.top(b"ab", is_one=True) == 2.0 + 98.0  # 4 by 2, and 2 * (97 + 1) by 2
    assert loops.summed(4, b"abc") == 3.0 + 1.0  # 10 by 3
    assert loops.doubled(21) == 42


def test_what_a_loop_raises_reaches_who_called_the_first() -> None:
    """An error passes through loops that are called by their symbol."""
    with pytest.raises(ValueError):  # noqa: PT011 - loops raise without a message
        loops.summed(1, b"")


def test_a_second_process_reads_loops_and_what_they_call_from_the_cache(tmp_path: Path) -> None:
    """What one process compiled, the next one calls at other addresses, without compiling."""
    variables = {**environment(), "XDG_CACHE_HOME": str(tmp_path)}
    variables.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-P", "-c", ASK]

    told = [subprocess.run(command, env=variables, check=True, capture_output=True, text=True) for _ in range(2)]

    assert ["100.0\n1 0\n", "100.0\n0 1\n"] == [one.stdout for one in told]


def test_loops_compiled_without_those_they_call_are_complete_in_the_next_process(tmp_path: Path) -> None:
    """A process that only fills the cache compiles a caller before its callee; the next process runs both from it."""
    variables = {**environment(), "XDG_CACHE_HOME": str(tmp_path)}
    variables.pop("NUMBA_CACHE_DIR", None)

    _, told = [
        subprocess.run([sys.executable, "-P", "-c", code], env=variables, check=True, capture_output=True, text=True)
        for code in (FILL, READ)
    ]

    assert told.stdout == "4.0\n[0, 0]\n"


def test_a_loop_apart_says_what_types_it_takes() -> None:
    """An annotation that stands for no type of a loop is refused where the loop is written."""

    def read(numbers: np.ndarray) -> int:
        return len(numbers)

    with pytest.raises(KeyError):
        apart(read)
