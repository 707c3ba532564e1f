"""Breaks the disk under every Python process that has this folder on PYTHONPATH, as far as DISK_FAULT says.

The environment variable names a file, which is read before each write; it may change at any time:

- "full", "read-only", "broken": writes of SQLite fail with ENOSPC, EROFS or EIO, flushes with EIO.
- "kill 7": the process kills itself in the 7th write from its start. It writes half of what SQLite asked for.

Writes are SQLite's, by the system calls that its VFS lets one replace (https://www.sqlite.org/c3ref/vfs.html), and
Python's own: files opened for writing, renamed or removed. No file, or an empty one: the disk works.
"""

import _sqlite3
import ctypes
import errno
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO}
_SIGNATURE = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
_PWRITE = ctypes.CFUNCTYPE(ctypes.c_ssize_t, *_SIGNATURE, use_errno=True)
_FTRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int64, use_errno=True)
_SET_SYSTEM_CALL = 18
"""Index of `xSetSystemCall` in a sqlite3_vfs, counted in pointers of 64 bits."""
_kept: list[Any] = []
"""Functions that SQLite calls: Python must not free them."""


class Disk:
    """Decides what becomes of each write of this process."""

    def __init__(self, fault: Path) -> None:
        self._fault = fault
        self.writes = 0

    def fails(self, half: Callable[[], object] | None = None) -> int:
        """Count a write; return the error with which it fails, or 0. Kills the process where that is due."""
        self.writes += 1
        try:
            fault = self._fault.read_bytes().decode()
        except OSError:
            return 0
        kind, _, number = fault.partition(" ")
        if kind == "kill" and self.writes == int(number):
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)
        return ERRORS.get(kind, 0)


def break_sqlite(disk: Disk) -> None:
    """Let SQLite write through the disk. Raises AttributeError where its library cannot be found."""
    own = ctypes.CDLL(_sqlite3.__file__)
    library = own if hasattr(own, "sqlite3_vfs_find") else ctypes.CDLL("libsqlite3.so.0")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.pwrite.argtypes, libc.pwrite.restype = _SIGNATURE, ctypes.c_ssize_t
    libc.ftruncate.argtypes = ctypes.c_int, ctypes.c_int64

    def pwrite(file: int, data: int, size: int, offset: int) -> int:
        if error := disk.fails(lambda: libc.pwrite(file, data, size // 2, offset)):
            ctypes.set_errno(error)
            return -1
        return int(libc.pwrite(file, data, size, offset))

    def ftruncate(file: int, size: int) -> int:
        if error := disk.fails():
            ctypes.set_errno(error)
            return -1
        return int(libc.ftruncate(file, size))

    library.sqlite3_vfs_find.restype = ctypes.POINTER(ctypes.c_void_p)
    vfs = library.sqlite3_vfs_find(None)
    set_call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(vfs[_SET_SYSTEM_CALL])
    replaced = {"pwrite": _PWRITE(pwrite), "pwrite64": _PWRITE(pwrite), "ftruncate": _FTRUNCATE(ftruncate)}
    for name, function in replaced.items():
        _kept.append(function)
        set_call(ctypes.cast(vfs, ctypes.c_void_p), name.encode(), ctypes.cast(function, ctypes.c_void_p))


def break_python(disk: Disk) -> None:
    """Let Python's own changes of files count as writes, and flushes fail."""
    flush = os.fdatasync

    def fdatasync(file: Any) -> None:  # noqa: ANN401 - whatever has a descriptor
        if error := disk.fails():
            raise OSError(error, os.strerror(error))
        flush(file)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            _, mode, flags = arguments
            is_written = bool(flags & (os.O_WRONLY | os.O_RDWR)) if isinstance(flags, int) else "w" in (mode or "")
        else:
            is_written = event in {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
        if is_written:
            disk.fails()

    os.fdatasync = fdatasync  # type: ignore[assignment] # the names of arguments differ
    sys.addaudithook(hear)


if "FAKETIME" in os.environ:  # `make tomorrow`: of two modules of this name Python imports the first
    runpy.run_path(str(Path(__file__).parents[2] / "later" / "sitecustomize.py"))
if "DISK_FAULT" in os.environ:
    the_disk = Disk(Path(os.environ["DISK_FAULT"]))
    break_sqlite(the_disk)
    break_python(the_disk)
