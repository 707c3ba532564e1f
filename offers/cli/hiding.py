"""Hides passwords in this process's command line, which everyone on the machine can read."""

import ctypes
import re
import sys
from pathlib import Path

_START, _END = 48, 49
"""Numbers of the fields of /proc/self/stat that say where the command line begins and ends in memory (proc(5))."""
_PASSWORD = re.compile(rb"(?<=://)([^\0/@:]*:)?([^\0]*)(?=@)|(?<=[?&]password=)[^\0&]*")


def hide_passwords() -> None:
    """Overwrite the passwords of URLs in the command line that the system shows. Python's own arguments are copies."""
    if sys.platform != "linux" or not any("://" in argument for argument in sys.argv):
        return
    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[_START - 3]), int(fields[_END - 3])
    except (OSError, ValueError, IndexError):
        return
    if not 0 < start < end:
        return
    for found in _PASSWORD.finditer(ctypes.string_at(start, end - start)):
        first, last = found.span(2) if found[2] is not None else found.span()
        ctypes.memset(start + first, ord("x"), last - first)
