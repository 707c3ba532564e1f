"""Files of the system: regular ones, opened without waiting for a pipe or a device, and memory that can be sealed."""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_NOEXEC_SEAL = 8
"""Linux's flag for memory that never holds programs."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError, also for a pipe, a device or a socket: reading them may never end."""
    _check(path.stat().st_mode, path)  # before it is opened, which has effects on some devices
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(os.fstat(descriptor).st_mode, path)  # another may have taken its place
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def read_regular(path: Path) -> bytes:
    """Return the content of a file. Raises as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def new_memory() -> int | None:
    """Return a descriptor of empty memory that can be sealed; None where the system has no such thing."""
    if not hasattr(os, "memfd_create"):
        return None
    for flags in (_NOEXEC_SEAL, 0):  # some systems demand the first, and Linux < 6.3 does not know it
        with contextlib.suppress(OSError):
            return os.memfd_create("offers", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    return None


def _check(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is neither a file nor a folder", str(path))
