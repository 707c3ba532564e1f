"""The C library's memory: how many threads share its pools, and how what was freed goes back to the system."""

import ctypes
import gc
from functools import cache

ARENAS = 2
"""Pools of memory of a process. glibc makes one for each of up to 8 threads per core, and each keeps what was freed in
it: a worker whose spare threads had all been at work had 16 of them, with 6 MB each. Threads of Python take turns, so
few pools are enough."""
LARGE_BYTES = 1 << 20
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""Parameters of mallopt, from malloc.h."""


def limit_arenas() -> None:
    """Have the threads of this process share ARENAS pools. Call before there are threads."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_ARENA_MAX, ARENAS)


def return_large_blocks() -> None:
    """Have blocks of LARGE_BYTES go back to the system as soon as they are freed.

    glibc raises the limit to the largest block that was freed, up to 32 MB: arrays then leave holes between others.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGE_BYTES)


def release() -> None:
    """Search for reference cycles, and return free memory to the system.

    glibc keeps freed memory for the next allocations, and a process that once needed much would stay as large for good.
    """
    gc.collect()
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def _function(name: str) -> "ctypes._NamedFuncPointer | None":
    """Return a function of glibc; None where the C library has none of that name."""
    return getattr(ctypes.CDLL(None), name, None)
